//! The desk: where people ask about rollouts, and for them.

use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::canary::{Command, Entry, RolloutPlan};
use crate::control::refusal::ChangeError;
use crate::control::rollouts::board::{RolloutView, VerdictView};
use crate::spec::{DeploymentName, EndpointName};

/// A rollout that somebody wants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StartRollout {
    /// As it is planned.
    pub plan: RolloutPlan,
    /// Nothing is begun: the answer says what would be.
    #[serde(default)]
    pub dry_run: bool,
}

/// What turned out about an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// The id of the request, as the answer had it in `x-request-id`.
    pub id: String,
    /// Whether the answer was right.
    pub right: bool,
}

/// What became of labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Learned {
    /// Labels of requests that the rollout on its way has seen, each counted once.
    pub joined: u64,
    /// The others: of requests that are forgotten or were never seen, or that have a label already. Nothing is guessed about them.
    pub unknown: u64,
}

/// The record of a rollout, played again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Replay {
    /// The rollout as its record makes it.
    pub rollout: RolloutView,
    /// The journal as it was written.
    pub entries: Vec<Entry>,
    /// Whether the record makes the same lines, to the byte.
    pub is_equal: bool,
    /// Lines that were made again; those before are of a record that was put together.
    pub replayed: usize,
}

/// Something that the judge is asked.
#[derive(Debug)]
pub(super) enum Order {
    Start {
        start: StartRollout,
        by: String,
        reply: Reply<RolloutView>,
    },
    Tell {
        endpoint: EndpointName,
        command: Command,
        by: String,
        reply: Reply<RolloutView>,
    },
    Verdict {
        endpoint: EndpointName,
        arms: (DeploymentName, DeploymentName),
        reply: Reply<VerdictView>,
    },
    Replay {
        id: u64,
        reply: Reply<Replay>,
    },
    Learn {
        endpoint: EndpointName,
        labels: Vec<Label>,
        reply: Reply<Learned>,
    },
}

pub(super) type Reply<T> = oneshot::Sender<Result<T, ChangeError>>;

/// The way to the judge; cheap to clone.
#[derive(Debug, Clone)]
pub struct Rollouts {
    orders: mpsc::Sender<Order>,
    board: Arc<ArcSwap<Vec<RolloutView>>>,
}

impl Rollouts {
    pub(super) fn new(orders: mpsc::Sender<Order>, board: Arc<ArcSwap<Vec<RolloutView>>>) -> Self {
        Self { orders, board }
    }

    /// All rollouts that are remembered, newest first.
    #[must_use]
    pub fn all(&self) -> Arc<Vec<RolloutView>> {
        self.board.load_full()
    }

    /// The newest rollout of an endpoint.
    #[must_use]
    pub fn of_endpoint(&self, endpoint: &EndpointName) -> Option<RolloutView> {
        let all = self.all();
        all.iter().find(|one| one.endpoint == *endpoint).cloned()
    }

    /// Begins a rollout; it is on disk when this returns.
    ///
    /// # Errors
    ///
    /// [`ChangeError`]; then nothing has begun.
    pub async fn start(&self, start: StartRollout, by: String) -> Result<RolloutView, ChangeError> {
        self.ask(|reply| Order::Start { start, by, reply }).await
    }

    /// Tells the newest rollout of an endpoint something.
    ///
    /// # Errors
    ///
    /// [`ChangeError`] where there is none, or where it does not fit.
    pub async fn tell(
        &self,
        endpoint: EndpointName,
        command: Command,
        by: String,
    ) -> Result<RolloutView, ChangeError> {
        self.ask(|reply| Order::Tell {
            endpoint,
            command,
            by,
            reply,
        })
        .await
    }

    /// What two deployments say of each other: by a rollout of the two that is on its way, else by the last requests.
    ///
    /// # Errors
    ///
    /// [`ChangeError`] where one of them is not there.
    pub async fn verdict(
        &self,
        endpoint: EndpointName,
        arms: (DeploymentName, DeploymentName),
    ) -> Result<VerdictView, ChangeError> {
        self.ask(|reply| Order::Verdict {
            endpoint,
            arms,
            reply,
        })
        .await
    }

    /// Plays the record of a rollout again.
    ///
    /// # Errors
    ///
    /// [`ChangeError`] where there is no such rollout.
    pub async fn replay(&self, id: u64) -> Result<Replay, ChangeError> {
        self.ask(|reply| Order::Replay { id, reply }).await
    }

    /// Tells the rollout of an endpoint what turned out about answers.
    ///
    /// # Errors
    ///
    /// [`ChangeError`] where none is on its way.
    pub async fn learn(
        &self,
        endpoint: EndpointName,
        labels: Vec<Label>,
    ) -> Result<Learned, ChangeError> {
        self.ask(|reply| Order::Learn {
            endpoint,
            labels,
            reply,
        })
        .await
    }

    async fn ask<T>(&self, order: impl FnOnce(Reply<T>) -> Order) -> Result<T, ChangeError> {
        let (reply, answer) = oneshot::channel();
        let sent = self.orders.send(order(reply)).await;
        sent.map_err(|_| ChangeError::Stopped)?;
        answer.await.unwrap_or(Err(ChangeError::Stopped))
    }
}
