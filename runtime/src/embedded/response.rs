//! The answer to a request.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serin_scorers::{Signature, TensorView, Value};

use crate::engine::ScoredBody;
use crate::observe::Timings;
use crate::router::Answer;
use crate::spec::DeploymentName;

/// The answer to a request, who gave it, and what it took.
#[derive(Debug)]
pub struct Response {
    body: ScoredBody,
    signature: Option<Arc<Signature>>,
    deployment: DeploymentName,
    timings: Timings,
}

impl From<Answer> for Response {
    fn from(answer: Answer) -> Self {
        Self {
            body: answer.body,
            signature: answer.signature,
            deployment: answer.deployment,
            timings: answer.timings,
        }
    }
}

impl Response {
    /// The deployment that answered.
    #[must_use]
    pub fn deployment(&self) -> &str {
        self.deployment.as_str()
    }

    /// The outputs in the model's order; none where the request was JSON.
    #[must_use]
    pub fn values(&self) -> &[Value] {
        match &self.body {
            ScoredBody::Values(values) => values,
            ScoredBody::Json(_) => &[],
        }
    }

    /// The same, to keep.
    #[must_use]
    pub fn into_values(self) -> Vec<Value> {
        match self.body {
            ScoredBody::Values(values) => values,
            ScoredBody::Json(_) => Vec::new(),
        }
    }

    /// An output by its name; none where the model has no such output, or the request was JSON.
    #[must_use]
    pub fn value(&self, output: &str) -> Option<&Value> {
        let outputs = &self.signature.as_ref()?.outputs;
        let index = outputs.iter().position(|known| known.name == output)?;
        self.values().get(index)
    }

    /// An output by its name, where that is a tensor.
    #[must_use]
    pub fn tensor(&self, output: &str) -> Option<TensorView<'_>> {
        Some(self.value(output)?.as_tensor()?.view())
    }

    /// The answer as JSON, where the request was; else nothing.
    #[must_use]
    pub fn json(&self) -> Option<&Bytes> {
        match &self.body {
            ScoredBody::Json(body) => Some(body),
            ScoredBody::Values(_) => None,
        }
    }

    /// Time until its run began: the wait for a slot, for others, and the way there.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.timings
            .run_began
            .map_or(Duration::ZERO, |began| began - self.timings.received)
    }

    /// Time of the run of the model itself, with all requests that shared it.
    #[must_use]
    pub fn ran(&self) -> Duration {
        self.timings.run().unwrap_or_default()
    }

    /// Requests that shared the run, this one included.
    #[must_use]
    pub fn joined(&self) -> u32 {
        self.timings.joined
    }
}
