//! The durable state: one SQLite file in a locked folder.
//!
//! The file opens with any SQLite tool; `endpoints` and `deployments` are views for people.
//!
//! Threads: everything blocks. [`StoreThread`] owns the store and writes in the order asked for; a [`JournalReader`] reads beside
//! it, for a write-ahead log has room for both. Only this folder names `rusqlite`.

mod answers;
mod database;
mod error;
mod folder;
mod guard;
mod journal;
mod json;
mod loss;
mod mark;
mod opening;
mod rollouts;
mod schema;
mod snapshot;
mod thread;

pub(super) use answers::{AnswerStore, Heard, KeptAnswer, answers_file, forget_answers, remove};
pub(super) use database::{Loaded, Store};
pub use error::StoreError;
pub(super) use folder::DataFolder;
pub use journal::JournalEntry;
pub(super) use journal::{JournalReader, NewEntry};
pub use loss::OnLoss;
pub(super) use loss::folder_aside;
pub(super) use rollouts::{Happened, Record, StoredRollout};
pub(super) use snapshot::{Snapshot, snapshot};
pub(super) use thread::StoreThread;

/// The files that a state is stored in, the database last: without it there is none.
pub(super) const STATE_FILES: [&str; 2] = [mark::MARK_FILE, schema::FILE];
