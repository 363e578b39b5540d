//! The client's questions about rollouts.

use axum::http::Method;

use crate::admin::client::{Client, ClientError};
use crate::admin::wire::{ErrorBody, RolloutCommand, RolloutRecord, RolloutRequest, VerdictAnswer};
use crate::control::{Label, Learned, RolloutView};
use crate::spec::{DeploymentName, EndpointName};

impl Client {
    /// Begins a rollout, or asks what it would be.
    ///
    /// # Errors
    ///
    /// [`ClientError`], as all calls here.
    pub fn start_rollout(&self, request: &RolloutRequest) -> Result<RolloutView, ClientError> {
        self.post("/v1/rollouts", request, "the rollout to begin")
    }

    /// Tells the newest rollout of an endpoint something.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub fn tell_rollout(
        &self,
        endpoint: &EndpointName,
        command: &RolloutCommand,
    ) -> Result<RolloutView, ClientError> {
        let path = format!("/v1/endpoints/{endpoint}/rollout");
        self.post(&path, command, "the rollout to hear")
    }

    /// All rollouts, newest first.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub fn rollouts(&self) -> Result<Vec<RolloutView>, ClientError> {
        self.get("/v1/rollouts", "the list of rollouts")
    }

    /// The newest rollout of an endpoint.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub fn rollout(&self, endpoint: &EndpointName) -> Result<RolloutView, ClientError> {
        self.get(&format!("/v1/endpoints/{endpoint}/rollout"), "a rollout")
    }

    /// The journal of a rollout, whether its record makes the same again, and the course of its evidence.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub fn replay(&self, id: u64) -> Result<RolloutRecord, ClientError> {
        self.get(
            &format!("/v1/rollouts/{id}/replay"),
            "the record of a rollout",
        )
    }

    /// Tells the rollout of an endpoint what turned out about answers.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub fn feedback(
        &self,
        endpoint: &EndpointName,
        labels: &[Label],
    ) -> Result<Learned, ClientError> {
        let path = format!("/v1/endpoints/{endpoint}/feedback");
        self.post(&path, &labels, "labels to be joined")
    }

    /// What two deployments say of each other.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub fn verdict(
        &self,
        endpoint: &EndpointName,
        (from, to): (&DeploymentName, &DeploymentName),
    ) -> Result<VerdictAnswer, ClientError> {
        let path = format!("/v1/endpoints/{endpoint}/verdict?from={from}&to={to}");
        let answer = self.exchange(self.ask(Method::GET, &path, &[], "a verdict"))?;
        if matches!(answer.status, 200 | 409 | 412)
            && let Ok(view) = self.parse(&answer.body)
        {
            return Ok(view);
        }
        #[derive(serde::Deserialize)]
        struct Refusal {
            error: ErrorBody,
        }
        let refusal: Refusal = self.parse(&answer.body)?;
        Err(ClientError::Refused(refusal.error))
    }
}
