//! Every bound of the process, each with a sentence, and the relations between them.

use std::time::Duration;

/// Longest name of an endpoint or deployment, in characters (Azure: 3 to 32).
pub const NAME_LEN_MAX: usize = 32;
/// Shortest name of an endpoint or deployment, in characters.
pub const NAME_LEN_MIN: usize = 3;
/// Most instances of one deployment (Azure's limit).
pub const INSTANCE_COUNT_MAX: u32 = 50;
/// Longest `request_timeout_ms` (Azure: 180 s for managed endpoints).
pub const REQUEST_TIMEOUT_MAX: Duration = Duration::from_secs(180);
/// `request_timeout_ms` where none is written.
pub const REQUEST_TIMEOUT_DEFAULT: Duration = Duration::from_millis(5000);
/// Most requests that one instance may run at once.
pub const CONCURRENCY_MAX: u32 = 1024;
/// Largest body of a scoring request, in bytes, unless the server is told otherwise.
pub const BODY_BYTES_DEFAULT: usize = 64 * 1024 * 1024;
