//! The control plane over HTTP: routes for the server, a client for the command line, and the file by which they meet.

mod server_file;

pub use server_file::{ServerFile, ServerFileError};
