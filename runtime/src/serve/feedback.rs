//! The desk where clients say what turned out about answers: who may send requests to an endpoint may say so too.
//!
//! Threads: edge; what is said goes to whoever opened the desk. Not here: what a label is, and what it proves (`control`).

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use axum::http::StatusCode;
use bytes::Bytes;
use serde_json::Value;

use crate::spec::EndpointName;

/// The answer to what was said.
#[derive(Debug)]
pub struct Told {
    /// Its status.
    pub status: StatusCode,
    /// Its body.
    pub body: Value,
}

/// The wait for it; none where nobody is there any more.
pub type Telling = Pin<Box<dyn Future<Output = Option<Told>> + Send>>;

type Tell = Box<dyn Fn(EndpointName, Bytes) -> Telling + Send + Sync>;

/// The desk. Cheap to clone; closed until somebody opens it.
#[derive(Clone, Default)]
pub struct FeedbackDesk(Arc<OnceLock<Tell>>);

impl FeedbackDesk {
    /// Has what is said of an endpoint heard by this, once for all clones.
    pub fn open(&self, tell: impl Fn(EndpointName, Bytes) -> Telling + Send + Sync + 'static) {
        // A second one hears nothing.
        drop(self.0.set(Box::new(tell)));
    }

    /// The answer to what was said; none where nobody hears.
    pub(super) async fn tell(&self, endpoint: EndpointName, body: Bytes) -> Option<Told> {
        let tell = self.0.get()?;
        tell(endpoint, body).await
    }
}

impl fmt::Debug for FeedbackDesk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FeedbackDesk")
            .field(&self.0.get().is_some())
            .finish()
    }
}
