//! Wiring: `Config` to `App`. Knows every part; no part knows it.

mod config;
mod up;

pub use config::Config;
pub use up::{UpConfig, UpDeployment, up};

use std::net::SocketAddr;

/// A server whose sockets are bound and whose parts are not yet running.
#[derive(Debug)]
pub struct App {}

/// Why a server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A socket could not be bound.
    #[error("cannot listen on {address} ({source}); choose another address with {flag}")]
    Bind {
        /// Where it should have listened.
        address: SocketAddr,
        /// The flag that changes it.
        flag: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
}

impl App {
    /// Binds both sockets, so that a busy port is known before anything starts.
    ///
    /// # Errors
    ///
    /// [`AppError::Bind`] names the address and the flag that changes it.
    pub fn bind(_config: Config) -> Result<Self, AppError> {
        todo!()
    }

    /// Where requests will be scored.
    #[must_use]
    pub fn scoring_address(&self) -> SocketAddr {
        todo!()
    }

    /// Where the server will be administered.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        todo!()
    }

    /// Called once, from the control thread, when all that was deployed before serves again.
    #[must_use]
    pub fn on_ready(self, _ready: impl FnOnce() + Send + 'static) -> Self {
        todo!()
    }

    /// Serves until `shutdown` ends, then finishes what is in flight. Blocks the calling thread.
    ///
    /// # Errors
    ///
    /// When a part does not start: the data folder is in use or cannot be written, no threads.
    pub fn run(self, _shutdown: impl Future<Output = ()> + Send + 'static) -> Result<(), AppError> {
        todo!()
    }
}
