//! Whether labels come for both versions as often as their requests do. Pure.
//!
//! "The canary's answers are wrong more often" is read off the labels that came. Where they come for one version more often, by who sends
//! them or because answers of one version are none that a label fits, wrong answers do so too, and nothing of it is the version's doing. So all
//! labels, right and wrong, are bet on as wrong ones are, and evidence of either verdict counts only as far as it exceeds the highest that was
//! ever won by the number of labels alone. What is taken off is never negative, and so the rest is evidence as good as before. Once it is
//! proven that they come for one version more often, there is none any more.

use serde::{Deserialize, Serialize};

use crate::evidence::{EventLabel, SampleRatio};

/// The logarithm that proves it: 1 in 1000.
const PROVEN: f64 = 6.907_755_278_982_137;

/// The state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct LabelSkew {
    /// More labels of the canary.
    more: EventLabel,
    /// Fewer.
    fewer: EventLabel,
    /// Another number of them than was drawn.
    other: SampleRatio,
    other_highest: f64,
    /// The highest evidence of harm that was left.
    harm_highest: f64,
}

impl LabelSkew {
    /// With the beliefs of those who bet on harm.
    pub(super) fn new(between: (f64, f64), ratios: usize) -> Self {
        Self {
            more: EventLabel::between(1.0, between, ratios),
            fewer: EventLabel::safe(1.0),
            other: SampleRatio::default(),
            other_highest: 0.0,
            harm_highest: 0.0,
        }
    }

    /// Takes in a label of a version, with the canary's share of requests, and the chance that this one was its, where that is known.
    pub(super) fn label(&mut self, of_canary: bool, (weight, chance): (f64, Option<f64>)) {
        if let Some(chance) = chance {
            self.more.event(of_canary, chance);
            self.fewer.event(of_canary, chance);
        }
        self.other.request(of_canary, weight);
        self.other_highest = self.other_highest.max(self.other.log_e());
    }

    /// Keeps the evidence of harm that is left now.
    pub(super) fn keep(&mut self, log_e: f64) {
        self.harm_highest = self.harm_highest.max(self.left(log_e, &self.more));
    }

    /// What is left of the evidence of harm now, and at its highest.
    pub(super) fn harm(&self, log_e: f64) -> (f64, f64) {
        (self.left(log_e, &self.more), self.harm_highest)
    }

    /// What is left of the evidence of safety now.
    pub(super) fn safe(&self, log_e: f64) -> f64 {
        self.left(log_e, &self.fewer)
    }

    /// Whether it is proven that labels come for one version more often.
    pub(super) fn is_proven(&self) -> bool {
        let sides = self.more.highest().max(self.fewer.highest());
        sides.max(self.other_highest) >= PROVEN
    }

    fn left(&self, log_e: f64, side: &EventLabel) -> f64 {
        match self.is_proven() {
            true => log_e.min(0.0),
            false => log_e - side.highest().max(self.other_highest),
        }
    }
}
