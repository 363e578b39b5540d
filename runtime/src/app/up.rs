//! `serin up`: bare model files in the foreground, nothing stored.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::app::AppError;

/// What `serin up` serves, and where.
#[derive(Clone, Debug)]
pub struct UpConfig {
    /// Where requests are scored. Port 0: any free one.
    pub address: SocketAddr,
    /// One deployment for each file.
    pub models: Vec<PathBuf>,
    /// Percent per deployment, as in `--traffic`; without it the first has all.
    pub traffic: Option<String>,
    /// Instances of each deployment.
    pub instance_count: u32,
    /// Longest that requests in flight may take to end at exit.
    pub grace: Duration,
}

/// One deployment that `serin up` made of a file.
#[derive(Clone, Debug)]
pub struct UpDeployment {
    /// Its name, made of the file's.
    pub name: String,
    /// The file.
    pub model: PathBuf,
}

/// Serves the files until `shutdown` ends. Blocks the calling thread. `ready` is told the address and the deployments.
///
/// # Errors
///
/// A busy port, a file that is no model, a traffic split that names what is not there.
pub fn up(
    _config: UpConfig,
    _ready: impl FnOnce(SocketAddr, &[UpDeployment]),
    _shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), AppError> {
    todo!()
}
