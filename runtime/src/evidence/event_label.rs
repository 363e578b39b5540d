//! A test of whose the bad events are, which may be looked at after each of them. Pure.
//!
//! A bad event has just happened: was its request the canary's? Where the canary fails `phi` times as often as the stable version,
//! and the request went to it with the chance `w`, it was with `theta = w phi / (w phi + 1 - w)`. Gamblers who believe in other ratios
//! than the hypothesis bet on each label; their mean capital is an *e-process*: while the hypothesis holds it ever becomes `1 / alpha`
//! with a chance of `alpha` at most (Ville), however often one looks, whenever one stops, whatever the rate of events does meanwhile,
//! and however the weight changes. After Lindon and Malek (2022), with a grid of ratios instead of a conjugate prior, so that the weight
//! may be another for each event.
//!
//! What it rests on is the draw of the arm alone, and that the chance handed in is the chance of *this* label given the labels before
//! (`block_chance` knows it for labels of one block). So events may be dependent in any way, in bursts or with a client's period, as long
//! as being sent to the one arm or the other changes neither that they happen nor when they are told.
//!
//! Not here: failures that an arm brings on itself for a while, as its own queue does (`slot_shares`); which events there are.

use serde::{Deserialize, Serialize};

/// Gamblers against "the canary fails no more".
const HARM_RATIOS: usize = 16;
/// The least and the greatest ratio that they believe in, in parts of the hypothesis' own.
const HARM_BETWEEN: (f64, f64) = (1.2, 100.0);

/// Gamblers against "the canary fails more".
const SAFE_RATIOS: usize = 12;
/// The least ratio that they believe in, where that is below the hypothesis' own by enough.
const SAFE_LEAST: f64 = 0.25;
/// The distance of the greatest one from the hypothesis' own.
const SAFE_DISTANCE: f64 = 1.2;
/// The least ratio is below the hypothesis' own by this at least.
const SAFE_SPAN_MIN: f64 = 4.8;

/// The state of one test: a few numbers, whatever was seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventLabel {
    /// The ratio at the edge of the hypothesis.
    edge: f64,
    /// The ratios that the gamblers believe in, all on the other side of the edge.
    ratios: Vec<f64>,
    /// Logarithms of their capitals.
    capitals: Vec<f64>,
    /// The highest logarithm of the mean capital so far, at least 0.
    highest: f64,
}

impl EventLabel {
    /// The test of "the canary has bad events at most `edge` times as often as the stable version". Evidence is of harm.
    #[must_use]
    pub fn harm(edge: f64) -> Self {
        let (least, greatest) = HARM_BETWEEN;
        Self::between(edge, (least * edge, greatest * edge), HARM_RATIOS)
    }

    /// The test of "the canary has bad events at least `edge` times as often". Evidence is of safety.
    #[must_use]
    pub fn safe(edge: f64) -> Self {
        let least = SAFE_LEAST.min(edge / SAFE_SPAN_MIN);
        Self::between(edge, (least, edge / SAFE_DISTANCE), SAFE_RATIOS)
    }

    /// The test of the hypothesis with that edge against `count` (two or more) ratios that are geometric between two on one side of it.
    #[must_use]
    pub fn between(edge: f64, (least, greatest): (f64, f64), count: usize) -> Self {
        let step = (greatest / least).powf(1.0 / (count as f64 - 1.0));
        Self {
            edge,
            ratios: (0..count).map(|at| least * step.powf(at as f64)).collect(),
            capitals: vec![0.0; count],
            highest: 0.0,
        }
    }

    /// Takes in a bad event that was the canary's, or not, where it was so with a chance. A chance of 0 or 1 says nothing.
    pub fn event(&mut self, of_canary: bool, chance: f64) {
        self.part_of_event(of_canary, chance, 1.0);
    }

    /// Takes in a part of a bad event, 0 to 1: an answer worth 0.9 is a tenth of a wrong one. It stands for an event that happens with that
    /// chance, whoever has it, and the factor is the mean over whether it does: `1 - part + part * factor`. So it is fair wherever that of
    /// the whole event is, and varies less.
    pub fn part_of_event(&mut self, of_canary: bool, chance: f64, part: f64) {
        if !(chance > 0.0 && chance < 1.0 && part > 0.0) {
            return;
        }
        let expected = log_chance(self.edge, chance, of_canary);
        for (capital, ratio) in self.capitals.iter_mut().zip(&self.ratios) {
            let log_factor = log_chance(*ratio, chance, of_canary) - expected;
            *capital += match part < 1.0 {
                true => (part * log_factor.exp_m1()).ln_1p(),
                false => log_factor,
            };
        }
        self.highest = self.highest.max(self.log_e());
    }

    /// The logarithm of the e-value now.
    #[must_use]
    pub fn log_e(&self) -> f64 {
        log_mean_exp(&self.capitals)
    }

    /// The logarithms of the capitals whose mean is the e-value.
    #[must_use]
    pub fn capitals(&self) -> &[f64] {
        &self.capitals
    }

    /// The highest logarithm of the e-value so far; proof is `ln(1 / alpha)`.
    #[must_use]
    pub fn highest(&self) -> f64 {
        self.highest
    }

    /// The p-value that holds at any time.
    #[must_use]
    pub fn p(&self) -> f64 {
        (-self.highest).exp()
    }
}

/// The logarithm of the chance that a bad event has its label, where the canary's rate is so many times the other's.
fn log_chance(ratio: f64, chance: f64, of_canary: bool) -> f64 {
    let odds = ratio * chance;
    let share = if of_canary { odds } else { 1.0 - chance };
    (share / (odds + 1.0 - chance)).ln()
}

/// The logarithm of the mean of what has these logarithms: the mean of e-values is one, however they depend on each other.
#[must_use]
pub fn log_mean_exp(logs: &[f64]) -> f64 {
    let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logs.iter().map(|log| (log - most).exp()).sum();
    most + (sum / logs.len() as f64).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(labels: &str, chance: f64) -> Vec<f64> {
        let mut test = EventLabel::harm(1.0);
        let told = labels.chars().map(|label| {
            test.event(label == 'C', chance);
            test.log_e()
        });
        told.collect()
    }

    #[track_caller]
    fn check(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() <= 1e-6, "{found} {expected}");
        }
    }

    #[test]
    fn the_ratios_of_harm_are_sixteen_from_1_2_to_100() {
        let expected = [
            1.2, 1.6115, 2.1642, 2.9063, 3.9030, 5.2415, 7.0390, 9.4529, 12.6946, 17.0480, 22.8943,
            30.7455, 41.2892, 55.4486, 74.4638, 100.0,
        ];
        let found = EventLabel::harm(1.0).ratios;
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 5.1e-5, "{found} {expected}");
        }
    }

    #[test]
    fn the_evidence_of_a_few_labels_is_the_published_one() {
        check(&path("CCC", 0.1), &[1.676_060, 3.582_199, 5.595_995]);
        check(
            &path("CSCSC", 0.1),
            &[1.676_060, 0.664_521, 2.304_580, 1.427_691, 3.049_813],
        );
        let late = path("SSSSSSSSSC", 0.1);
        check(&late[8..], &[-2.000_714, -1.477_965]);
    }

    #[test]
    fn a_canary_that_always_fails_is_proof_after_two_events_at_5_percent_and_three_at_1_percent() {
        let found = path("CCC", 0.1);
        assert!(found[0] < 20_f64.ln() && found[1] >= 20_f64.ln());
        assert!(found[1] < 100_f64.ln() && found[2] >= 100_f64.ln());
    }

    #[test]
    fn an_event_that_only_one_arm_can_have_says_nothing() {
        let mut test = EventLabel::harm(1.0);
        let fresh = test.clone();
        for chance in [0.0, 1.0, f64::NAN, -0.1, 1.1] {
            test.event(true, chance);
            test.event(false, chance);
        }
        assert_eq!(test, fresh);
    }

    #[test]
    fn every_gambler_plays_fairly_at_the_edge_and_loses_beyond_it() {
        for (edge, test) in [
            (1.0, EventLabel::harm(1.0)),
            (1.2, EventLabel::harm(1.2)),
            (2.0, EventLabel::safe(2.0)),
            (0.2, EventLabel::safe(0.2)),
        ] {
            for chance in [0.01, 0.1, 0.5, 0.9] {
                for ratio in &test.ratios {
                    let factor = |canary: bool| {
                        (log_chance(*ratio, chance, canary) - log_chance(edge, chance, canary))
                            .exp()
                    };
                    let mean = |truth: f64| {
                        let own = log_chance(truth, chance, true).exp();
                        own * factor(true) + (1.0 - own) * factor(false)
                    };
                    assert!((mean(edge) - 1.0).abs() < 1e-12, "{edge} {ratio}");
                    // Deeper in the hypothesis: fewer events for harm, more for safety.
                    let deeper = if *ratio > edge {
                        edge / 2.0
                    } else {
                        edge * 2.0
                    };
                    assert!(mean(deeper) < 1.0, "{edge} {ratio}");
                }
            }
        }
    }

    #[test]
    fn a_part_of_an_event_is_the_mean_over_whether_it_happens() {
        for (part, chance) in [(0.25, 0.1), (0.9, 0.5), (1e-9, 0.01)] {
            for of_canary in [true, false] {
                let (mut test, mut whole) = (EventLabel::harm(1.1), EventLabel::harm(1.1));
                test.part_of_event(of_canary, chance, part);
                whole.event(of_canary, chance);
                let mean = |whole: &f64| (1.0 - part + part * whole.exp()).ln();
                check(
                    &test.capitals,
                    &whole.capitals.iter().map(mean).collect::<Vec<_>>(),
                );
            }
        }
        let mut nothing = EventLabel::harm(1.0);
        nothing.part_of_event(true, 0.1, 0.0);
        nothing.part_of_event(true, 0.1, f64::NAN);
        assert_eq!(nothing, EventLabel::harm(1.0));
    }

    #[test]
    fn a_test_that_was_written_down_goes_on_to_the_same_bits() {
        let mut test = EventLabel::harm(1.0);
        let mut kept = test.clone();
        for step in 0..500_u32 {
            let (canary, chance) = (step % 7 == 0, f64::from(step % 50 + 1) / 101.0);
            test.event(canary, chance);
            kept.event(canary, chance);
            let text = serde_json::to_string(&kept).unwrap();
            kept = serde_json::from_str(&text).unwrap();
            assert_eq!(text, serde_json::to_string(&test).unwrap());
        }
    }
}
