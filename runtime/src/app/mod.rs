//! Wiring: settings become a running server, or a foreground server of bare files. Knows every part; no part knows it.

#[cfg(feature = "cli")]
mod child;
mod config;
mod descriptors;
mod edge;
mod error;
mod handover;
mod model_folder;
mod script_check;
mod server;
mod sockets;
mod status;
mod supervisor;
mod systemd;
mod up;
mod way_down;

#[cfg(feature = "cli")]
pub use child::{ChildError, ChildServer};
pub use config::{Config, MetricsAt};
pub use descriptors::raise_descriptor_limit;
pub use error::AppError;
pub use model_folder::ModelFolderError;
pub use script_check::{CheckError, Checked, ScriptAnswer, check_script};
pub use server::App;
pub use sockets::{HandedOver, Sockets};
pub use supervisor::{Supervised, serve_supervised, supervise};
pub(crate) use up::described;
pub use up::{UpConfig, UpDeployment, UpReady, up};
