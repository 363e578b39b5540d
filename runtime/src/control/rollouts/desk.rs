//! The desk: where people ask about rollouts, and for them.

use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use crate::canary::{Command, Entry, RolloutPlan, Worth};
use crate::config::LABELS_MAX;
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

/// What turned out about an answer. Exactly one of its three parts is there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "WrittenLabel")]
pub struct Label {
    /// The id of the request, as the answer had it in `x-request-id`.
    pub id: String,
    /// What is known.
    #[serde(flatten)]
    pub truth: KnownTruth,
}

/// What is known of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KnownTruth {
    /// Whether it was right.
    Right(bool),
    /// What it is worth, from 0 (wrong) to 1 (right).
    Score(Worth),
    /// What the right answer is: it is compared with the one that was given, and with the other version's where both were asked.
    Label(Value),
}

/// A label as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenLabel {
    id: String,
    right: Option<bool>,
    score: Option<f64>,
    label: Option<Value>,
}

impl TryFrom<WrittenLabel> for Label {
    type Error = String;

    fn try_from(written: WrittenLabel) -> Result<Self, String> {
        let WrittenLabel {
            id,
            right,
            score,
            label,
        } = written;
        let truth = match (right, score, label) {
            (Some(right), None, None) => KnownTruth::Right(right),
            (None, Some(score), None) => KnownTruth::Score(Worth::new(score).ok_or_else(|| {
                format!(
                    "score of {id:?}: expected a number from 0 (wrong) to 1 (right), found {score}"
                )
            })?),
            (None, None, Some(label)) => KnownTruth::Label(label),
            _ => {
                return Err(format!(
                    "label of {id:?}: expected exactly one of `right` (true or false), `score` (0 to 1) and `label` (the right answer)"
                ));
            }
        };
        Ok(Self { id, truth })
    }
}

/// What became of labels.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Learned {
    /// Labels of requests that the rollout on its way has seen, each counted once.
    pub joined: u64,
    /// Labels of requests that are forgotten or were never seen, that have a label already, or whose id came twice. Nothing is guessed
    /// about them.
    pub unknown: u64,
    /// Labels that could not be compared with the answer.
    #[serde(default)]
    pub misfits: u64,
    /// The reason for the first of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub misfit: Option<String>,
}

impl Learned {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            joined: self.joined + other.joined,
            unknown: self.unknown + other.unknown,
            misfits: self.misfits + other.misfits,
            misfit: self.misfit.or(other.misfit),
        }
    }
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
        start: Box<StartRollout>,
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

/// The same, which keeps no judge from ending.
#[derive(Debug, Clone)]
pub struct WeakRollouts {
    orders: mpsc::WeakSender<Order>,
    board: Arc<ArcSwap<Vec<RolloutView>>>,
}

impl WeakRollouts {
    /// The way to the judge, where it has not ended.
    #[must_use]
    pub fn upgrade(&self) -> Option<Rollouts> {
        Some(Rollouts {
            orders: self.orders.upgrade()?,
            board: Arc::clone(&self.board),
        })
    }
}

impl Rollouts {
    /// A way that does not keep the judge from ending.
    #[must_use]
    pub fn downgrade(&self) -> WeakRollouts {
        WeakRollouts {
            orders: self.orders.downgrade(),
            board: Arc::clone(&self.board),
        }
    }

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
        let start = Box::new(start);
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
    /// [`ChangeError`] where none is on its way, or none that is judged by accuracy.
    pub async fn learn(
        &self,
        endpoint: EndpointName,
        labels: Vec<Label>,
    ) -> Result<Learned, ChangeError> {
        if labels.len() > LABELS_MAX {
            return Err(ChangeError::Invalid(vec![format!(
                "expected at most {LABELS_MAX} labels at once, found {}: send them in several heaps",
                labels.len()
            )]));
        }
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
