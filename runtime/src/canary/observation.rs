//! What is known of a request that has ended, as far as a canary is judged by it. Pure.
//!
//! Not here: requests that named their deployment and copies of mirrored ones; neither was drawn, and so neither is observed.

use serde::{Deserialize, Serialize};

use crate::evidence::Block;
use crate::observe::Outcome;

/// The version that a request was assigned to, whoever answered it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arm {
    /// The version that is there.
    Stable,
    /// The version that is tried.
    Canary,
}

/// How a request came to its arm.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Routing {
    /// By its place in a block of the exact split.
    Exact(Block),
    /// By a draw of its own.
    Random {
        /// The canary's share of what goes to either arm, 0 to 1.
        weight: f64,
    },
    /// By its key: all requests of a key go to one arm as long as the weight stays.
    Sticky {
        /// The canary's share of the keys, 0 to 1.
        weight: f64,
        /// A hash of the key. Arms are not drawn by this one but by one with a salt.
        key: u64,
    },
}

/// The end of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// An answer.
    Answered,
    /// An answer with a NaN or an infinity.
    BadOutput,
    /// The model failed, died or refused, or no instance was ready.
    Failed,
    /// The time was over.
    TimedOut,
    /// Turned away because too many came.
    Shed,
    /// Wrong for every model.
    Malformed,
    /// The client left: nobody's failure, and nothing is known of its latency.
    Abandoned,
}

/// A request that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// The version that it was assigned to.
    pub arm: Arm,
    /// How it came there.
    pub routing: Routing,
    /// How it ended.
    pub ending: Ending,
    /// When it ended, in microseconds since the rollout began; never less than that of the observation before but for the odd one that
    /// another thread handed over late.
    pub at_us: u64,
    /// In line for a run.
    pub queue_us: u64,
    /// In the run.
    pub run_us: u64,
    /// From arrival to answer.
    pub total_us: u64,
    /// Among the first of an instance: its latency says nothing.
    pub cold: bool,
}

/// What an answer turned out to be worth: 1 where it was right, 0 where it was wrong, and anything between.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(from = "WrittenWorth")]
pub struct Worth(f64);

/// A worth as it is written down: also as whether the answer was right, which was all there was to say once.
#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenWorth {
    Right(bool),
    Score(f64),
}

impl From<WrittenWorth> for Worth {
    fn from(written: WrittenWorth) -> Self {
        match written {
            WrittenWorth::Right(right) => Self::of(right),
            WrittenWorth::Score(score) => Self::new(score).unwrap_or(Self(0.0)),
        }
    }
}

impl Worth {
    /// A score from 0 to 1; none where it is another number.
    #[must_use]
    pub fn new(score: f64) -> Option<Self> {
        (0.0..=1.0).contains(&score).then_some(Self(score))
    }

    /// That of an answer which is right, or wrong.
    #[must_use]
    pub fn of(right: bool) -> Self {
        Self(f64::from(u8::from(right)))
    }

    /// What it lacks of a right answer, 0 to 1.
    #[must_use]
    pub fn missing(self) -> f64 {
        1.0 - self.0
    }
}

/// What turned out about an answer later.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Truth {
    /// The answer of one arm is worth so much.
    Single {
        /// The version that answered.
        arm: Arm,
        /// How the request came there.
        routing: Routing,
        /// What the answer is worth.
        #[serde(alias = "right")]
        worth: Worth,
    },
    /// Both versions answered the same request, one of them a copy of it.
    Paired {
        /// What the stable version's answer is worth.
        #[serde(alias = "stable_right")]
        stable: Worth,
        /// What the canary's is.
        #[serde(alias = "canary_right")]
        canary: Worth,
    },
}

impl Routing {
    /// The canary's share of what went to either arm.
    pub(super) fn weight(self) -> f64 {
        match self {
            Self::Exact(block) => f64::from(block.canary) / f64::from(block.both.max(1)),
            Self::Random { weight } | Self::Sticky { weight, .. } => weight,
        }
    }
}

impl Observation {
    /// Whether it counts at all.
    #[must_use]
    pub fn counts(&self) -> bool {
        !matches!(self.ending, Ending::Abandoned | Ending::Malformed)
    }
}

impl From<Outcome> for Ending {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Ok => Self::Answered,
            Outcome::Malformed => Self::Malformed,
            Outcome::RejectedByModel
            | Outcome::ModelError
            | Outcome::Died
            | Outcome::NotReady
            | Outcome::Internal => Self::Failed,
            Outcome::ExpiredWaiting | Outcome::ExpiredRunning => Self::TimedOut,
            Outcome::Abandoned => Self::Abandoned,
            Outcome::Shed => Self::Shed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_down_as_right_or_wrong_is_read_as_its_worth() {
        let old = r#"{"paired":{"stable_right":true,"canary_right":false}}"#;
        let (stable, canary) = (Worth::of(true), Worth::of(false));
        let truth = Truth::Paired { stable, canary };
        assert_eq!(serde_json::from_str::<Truth>(old).unwrap(), truth);
        let text = serde_json::to_string(&truth).unwrap();
        assert_eq!(text, r#"{"paired":{"stable":1.0,"canary":0.0}}"#);
        assert_eq!(serde_json::from_str::<Truth>(&text).unwrap(), truth);
    }

    #[test]
    fn a_worth_is_from_0_to_1() {
        assert!(
            [-0.1, 1.1, f64::NAN]
                .iter()
                .all(|one| Worth::new(*one).is_none())
        );
        assert_eq!(Worth::new(0.25).map(Worth::missing), Some(0.75));
    }
}
