//! The rest of a request's body that nobody needs: whether it is short enough, and soon enough there, to be read and thrown away.
//!
//! Threads: the one that serves the connection.

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tokio::time::timeout;

use crate::config::{REST_READ_MAX, SMALL_BYTES};

/// A body that has not come to its end.
#[derive(Debug)]
pub(super) struct Rest {
    pub(super) incoming: Incoming,
    /// The client sends it when it is told to go on, and to ask for a part of it tells so.
    pub(super) is_held_back: bool,
}

impl Rest {
    /// Whether it is short, and has come soon.
    pub(super) async fn ends_soon(mut self) -> bool {
        let small = u64::try_from(SMALL_BYTES).unwrap_or(u64::MAX);
        if self.is_held_back || self.incoming.size_hint().lower() > small {
            return false;
        }
        let read = timeout(REST_READ_MAX, self.read(SMALL_BYTES)).await;
        read.unwrap_or(false)
    }

    /// Reads it and throws it away; whether it came to its end within so many bytes.
    async fn read(&mut self, bytes_max: usize) -> bool {
        let mut bytes = 0;
        while let Some(frame) = self.incoming.frame().await {
            let Ok(frame) = frame else {
                return false;
            };
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > bytes_max {
                return false;
            }
        }
        true
    }
}
