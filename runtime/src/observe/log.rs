//! The structured log: to stderr, text or JSON.

/// Shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// Starts the log. Level from `SERIN_LOG` (`info` by default).
pub fn start_log(_format: LogFormat) {
    todo!()
}
