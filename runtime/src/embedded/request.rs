//! A request: tensors or JSON, and where it is to go.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serin_scorers::TensorView;

use crate::router::{Marks, RequestInputs, ScoreRequest};

/// One request. Many rows are one request: a model takes them together.
///
/// Tensors are views over the caller's memory. They are copied only where another thread computes.
#[derive(Debug, Clone)]
#[must_use = "a request does nothing until it is run"]
pub struct Request<'a> {
    inputs: RequestInputs<'a>,
    deployment: Option<Cow<'a, str>>,
    timeout: Option<Duration>,
}

impl<'a> Request<'a> {
    /// One tensor for each input of the model, in its order ([`Endpoint::signature`](crate::Endpoint::signature)). The answer has tensors.
    pub fn tensors(inputs: impl IntoIterator<Item = TensorView<'a>>) -> Self {
        Self::of(RequestInputs::Tensors {
            tensors: inputs.into_iter().collect(),
            names: None,
        })
    }

    /// One tensor for each input of the model, by name. The answer has tensors.
    pub fn named<N: Into<Cow<'a, str>>>(
        inputs: impl IntoIterator<Item = (N, TensorView<'a>)>,
    ) -> Self {
        let named = inputs
            .into_iter()
            .map(|(name, tensor)| (name.into(), tensor));
        let (names, tensors) = named.unzip();
        Self::of(RequestInputs::Tensors {
            tensors,
            names: Some(names),
        })
    }

    /// A body as the server takes it: `{"data": [[..], ..]}`. The answer is JSON.
    pub fn json(body: impl Into<Bytes>) -> Self {
        Self::of(RequestInputs::Body(body.into()))
    }

    fn of(inputs: RequestInputs<'a>) -> Self {
        Self {
            inputs,
            deployment: None,
            timeout: None,
        }
    }

    /// Goes to this deployment, whatever the split; also to one without traffic.
    pub fn to(self, deployment: impl Into<Cow<'a, str>>) -> Self {
        let deployment = Some(deployment.into());
        Self { deployment, ..self }
    }

    /// Longest that it may take, waiting included; the deployment's timeout holds as well.
    pub fn timeout(self, timeout: Duration) -> Self {
        let timeout = Some(timeout);
        Self { timeout, ..self }
    }

    /// As the router takes it. Its caller `waits` on the thread that polls.
    pub(super) fn routed(self, received: Instant, waits: bool) -> ScoreRequest<'a> {
        ScoreRequest {
            deployment: self.deployment,
            inputs: self.inputs,
            head: None,
            is_for_scripts: false,
            received,
            timeout: self.timeout,
            waits,
            marks: Marks::default(),
        }
    }
}
