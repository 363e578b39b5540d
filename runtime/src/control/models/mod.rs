//! Registered models: names and versions over content-addressed files.
//!
//! A file or folder is copied once to `<data>/models/sha256/<digest>/` and never changes there, so a version means the same bytes
//! for ever, and what a deployment runs does not depend on the place that the model came from. [`ModelFiles`] is the folder,
//! [`Models`] the names; the names are stored by `store`. `source` says which files a model has
//! where it lies now, `folder` what a folder holds. Code of scoring scripts lies there too, and [`ScriptFolders`] is where it runs.
//!
//! Threads: everything of [`ModelFiles`] and [`FoundModel`] blocks. Not here: whether a model loads (`engine::probe`).

mod digest;
mod error;
mod files;
mod folder;
#[cfg(feature = "server")]
mod found;
mod mount;
mod registry;
mod script_folders;
mod source;
mod verified;

pub use digest::ModelDigest;
pub use error::ModelStoreError;
pub(super) use files::{Ingested, ModelFiles};
#[cfg(feature = "server")]
pub use found::FoundModel;
pub(super) use mount::Mount;
pub use registry::ModelRecord;
pub(super) use registry::Models;
pub(super) use script_folders::{Layout, ScriptFolder, ScriptFolders};
