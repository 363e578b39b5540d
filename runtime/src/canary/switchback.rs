//! Whether the canary slows the stable version: its share is taken away and given again, slot by slot, by chance. Pure.
//!
//! Two slots are a pair, one with the canary's share and one without, in the order of a coin. What else happens to the machine meets either
//! slot with the same chance, and so what the stable version's times differ by is the canary's doing (switchback experiments; Bojinov,
//! Simchi-Levi, Zhao, *Design and analysis of switchback experiments*, 2023). They are the times of runs, without the queue: without the
//! canary the stable version has more requests, and they wait longer for that alone. The bounds are those of `typical`, which rest on
//! the coins and on nothing else, and they are looked at once, when all pairs are measured.
//!
//! Not here: who moves the traffic (`rollout`).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::canary::duration::Duration;
use crate::canary::observation::{Arm, Ending, Observation};
use crate::evidence::{SplitMix64, typical};
use crate::spec::Percent;

/// Of the interval: a canary that changes nothing is found to slow in one of 200 at most.
const CONFIDENCE: f64 = 0.99;
/// The beginning of a slot that is left out, as a part of it: what was given out before is still under way.
const LEFT_OUT: i64 = 10;

/// How a switchback is done.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SwitchbackPlan {
    /// Pairs of slots.
    pub pairs: u64,
    /// The length of a slot.
    pub slot_seconds: u64,
    /// The stable version may be slower by this part: 0.05 is 5 %.
    pub increase_max: f64,
}

impl Default for SwitchbackPlan {
    fn default() -> Self {
        Self {
            pairs: 10,
            slot_seconds: 20,
            increase_max: 0.05,
        }
    }
}

/// What a switchback has found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SwitchedBack {
    /// The canary's share in one slot of each pair.
    pub share: Percent,
    /// Pairs in which the stable version had requests both times.
    pub pairs: usize,
    /// The length of a slot.
    pub slot_seconds: u64,
    /// The stable version's runs with the canary by those without (the ratio of geometric means) between its bounds; none where there were
    /// fewer than 8 pairs.
    pub ratio: Option<(f64, f64, f64)>,
    /// What it may be without harm, at most: 1.05.
    pub ratio_max: f64,
}

/// What there is to say of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slows {
    /// Proven.
    Yes,
    /// Proven not to, but for what it may.
    No,
    /// Neither.
    Unknown,
}

impl SwitchedBack {
    pub(super) fn slows(&self) -> Slows {
        match self.ratio {
            Some((low, _, _)) if low > self.ratio_max => Slows::Yes,
            Some((_, _, high)) if high < self.ratio_max => Slows::No,
            _ => Slows::Unknown,
        }
    }
}

impl fmt::Display for SwitchedBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (share, pairs, slot) = (self.share, self.pairs, Duration(self.slot_seconds));
        let Some((low, ratio, high)) = self.ratio else {
            return write!(
                f,
                "whether the canary slows the stable version is not known: requests came in {pairs} pairs of slots only"
            );
        };
        let words = match self.slows() {
            Slows::Yes => "the canary slows the stable version",
            Slows::No => "the canary does not slow the stable version",
            Slows::Unknown => "whether the canary slows the stable version is not known",
        };
        write!(
            f,
            "{words}: with {share} % at the canary its runs take {ratio:.3} [{low:.3}, {high:.3}] times as long as with none ({pairs} pairs of \
             slots of {slot})"
        )
    }
}

/// The runs of the stable version in a slot. Their geometric mean is what counts: in a plain one a machine that stands still once outweighs
/// the whole slot.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct Runs {
    /// The sum of the logarithms of their times in microseconds.
    log_sum: f64,
    count: u32,
}

/// A switchback under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Switchback {
    /// What the canary had before, has in one slot of each pair, and gets back.
    share: Percent,
    /// Of the coins.
    seed: u64,
    /// In the order in which they were measured.
    slots: Vec<Runs>,
    /// The slot under way, since its share is in force.
    slot: Option<Slot>,
}

/// A slot under way.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Slot {
    began_ms: i64,
    /// What the canary has in it.
    share: Percent,
    runs: Runs,
}

impl Switchback {
    pub(super) fn new(share: Percent, seed: u64) -> Self {
        Self {
            share,
            seed,
            slots: Vec::new(),
            slot: None,
        }
    }

    /// What the canary gets back.
    pub(super) fn share(&self) -> Percent {
        self.share
    }

    /// Slots that are measured.
    pub(super) fn measured(&self) -> usize {
        self.slots.len()
    }

    /// Whether the slot of this number has the canary's share.
    fn has_share(&self, slot: usize) -> bool {
        let pair = slot as u64 / 2;
        let mut coins = SplitMix64::new(self.seed);
        for _ in 0..pair {
            _ = coins.next_u64();
        }
        let first_has = coins.next_u64().is_multiple_of(2);
        first_has == slot.is_multiple_of(2)
    }

    /// The canary's share in the slot that is next, or under way; none when all are measured.
    pub(super) fn wanted(&self, plan: &SwitchbackPlan) -> Option<Percent> {
        let slot = self.slots.len();
        (slot as u64 / 2 < plan.pairs).then(|| match self.has_share(slot) {
            true => self.share,
            false => Percent::ZERO,
        })
    }

    /// When the slot under way is over, in milliseconds.
    pub(super) fn ends_ms(&self, plan: &SwitchbackPlan) -> Option<i64> {
        Some(self.slot?.began_ms.saturating_add(length_ms(plan)))
    }

    /// Goes on where the canary has the share that is wanted; whether a slot has ended.
    pub(super) fn go_on(&mut self, plan: &SwitchbackPlan, share: Percent, now_ms: i64) -> bool {
        let slot = *self.slot.get_or_insert(Slot {
            began_ms: now_ms,
            share,
            runs: Runs::default(),
        });
        let has_ended = now_ms >= slot.began_ms.saturating_add(length_ms(plan));
        if has_ended {
            self.slots.push(slot.runs);
            self.slot = None;
        }
        has_ended
    }

    /// Begins the slot under way anew: in it the traffic was not what it was to be.
    pub(super) fn begin_anew(&mut self) {
        self.slot = None;
    }

    /// Takes in a request. Those that were given out under another share do not count.
    pub(super) fn observe(&mut self, request: &Observation, plan: &SwitchbackPlan, now_ms: i64) {
        let Some(slot) = &mut self.slot else {
            return;
        };
        let share = f64::from(slot.share.hundredths()) / f64::from(Percent::HUNDRED.hundredths());
        let is_of_slot = (request.routing.weight() - share).abs() < 1e-9
            && now_ms >= slot.began_ms.saturating_add(length_ms(plan) / LEFT_OUT);
        let has_run = matches!(request.ending, Ending::Answered | Ending::BadOutput);
        if request.arm == Arm::Stable && !request.cold && has_run && is_of_slot {
            slot.runs.log_sum += (request.run_us.max(1) as f64).ln();
            slot.runs.count = slot.runs.count.saturating_add(1);
        }
    }

    /// What all pairs say.
    pub(super) fn found(&self, plan: &SwitchbackPlan) -> SwitchedBack {
        let mean = |runs: &Runs| (runs.count > 0).then(|| runs.log_sum / f64::from(runs.count));
        let pairs = self.slots.chunks_exact(2).enumerate();
        let pairs = pairs.filter_map(|(pair, slots)| {
            let (first, second) = (mean(&slots[0])?, mean(&slots[1])?);
            let difference = first - second;
            Some(match self.has_share(2 * pair) {
                true => difference,
                false => -difference,
            })
        });
        let pairs: Vec<f64> = pairs.collect();
        let ratio = typical(&pairs, CONFIDENCE);
        SwitchedBack {
            share: self.share,
            pairs: pairs.len(),
            slot_seconds: plan.slot_seconds,
            ratio: ratio.map(|(low, middle, high)| (low.exp(), middle.exp(), high.exp())),
            ratio_max: 1.0 + plan.increase_max,
        }
    }
}

fn length_ms(plan: &SwitchbackPlan) -> i64 {
    i64::try_from(plan.slot_seconds.saturating_mul(1000)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canary::observation::Routing;

    /// A switchback on a machine whose runs take so long at a time (in seconds), with the canary's share or without.
    fn played(seed: u64, run_us: impl Fn(f64, bool) -> f64) -> SwitchedBack {
        let plan = SwitchbackPlan::default();
        let share: Percent = "10".parse().unwrap();
        let mut switchback = Switchback::new(share, seed);
        let (mut now_ms, mut random) = (0, SplitMix64::new(seed));
        while let Some(wanted) = switchback.wanted(&plan) {
            let weight = f64::from(wanted.hundredths()) / 10_000.0;
            while !switchback.go_on(&plan, wanted, now_ms) {
                let mean = run_us(now_ms as f64 / 1000.0, wanted != Percent::ZERO);
                let run = mean * (0.5 + random.unit());
                switchback.observe(&request(weight, run), &plan, now_ms);
                now_ms += 50;
            }
        }
        switchback.found(&plan)
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a time, of which the fraction goes"
    )]
    fn request(weight: f64, run_us: f64) -> Observation {
        Observation {
            arm: Arm::Stable,
            routing: Routing::Random { weight },
            ending: Ending::Answered,
            at_us: 0,
            queue_us: 0,
            run_us: run_us as u64,
            total_us: run_us as u64,
            cold: false,
        }
    }

    #[test]
    fn a_canary_that_slows_the_stable_version_is_found_and_one_that_does_not_is_cleared() {
        for seed in 0..20 {
            let slows = played(seed, |_, is_on| if is_on { 2400.0 } else { 2000.0 });
            assert_eq!(slows.slows(), Slows::Yes, "{slows}");
            let (low, _, high) = slows.ratio.unwrap();
            assert!(low < 1.21 && high > 1.19, "{slows}");
        }
        let cleared = (0..20).filter(|seed| played(*seed, |_, _| 2000.0).slows() == Slows::No);
        assert!(cleared.count() >= 15);
    }

    #[test]
    fn a_machine_that_becomes_slower_by_itself_is_not_the_canarys_doing() {
        let drifts: [fn(f64) -> f64; 3] = [
            |at_s| 2000.0 * (1.0 + at_s / 400.0),
            // As slowly as slots go, and with them.
            |at_s| 2000.0 * (1.0 + 0.3 * (at_s * std::f64::consts::TAU / 40.0).sin()),
            |at_s| {
                if at_s % 60.0 < 20.0 { 4000.0 } else { 2000.0 }
            },
        ];
        for drift in drifts {
            let found = (0..200).map(|seed| played(seed, |at_s, _| drift(at_s)));
            let wrong = found.filter(|found| found.slows() == Slows::Yes).count();
            // One is what is allowed; with five there would be a chance of one in 300.
            assert!(wrong <= 4, "{wrong} of 200");
        }
    }

    #[test]
    fn requests_of_another_share_of_the_canary_and_of_the_beginning_of_a_slot_do_not_count() {
        let plan = SwitchbackPlan::default();
        let mut switchback = Switchback::new("10".parse().unwrap(), 1);
        let wanted = switchback.wanted(&plan).unwrap();
        let (own, other) = match wanted == Percent::ZERO {
            true => (0.0, 0.1),
            false => (0.1, 0.0),
        };
        let slot = |runs| Slot {
            began_ms: 0,
            share: wanted,
            runs,
        };
        switchback.observe(&request(own, 1.0), &plan, 0);
        assert!(!switchback.go_on(&plan, wanted, 0));
        switchback.observe(&request(own, 1.0), &plan, 1999);
        switchback.observe(&request(other, 1.0), &plan, 2000);
        let canary = Observation {
            arm: Arm::Canary,
            ..request(own, 1.0)
        };
        switchback.observe(&canary, &plan, 2000);
        let cold = Observation {
            cold: true,
            ..request(own, 1.0)
        };
        switchback.observe(&cold, &plan, 2000);
        assert_eq!(switchback.slot, Some(slot(Runs::default())));
        switchback.observe(&request(own, 7.0), &plan, 2000);
        let one = Runs {
            log_sum: 7_f64.ln(),
            count: 1,
        };
        assert_eq!(switchback.slot, Some(slot(one)));
        assert!(!switchback.go_on(&plan, wanted, 19_999));
        assert!(switchback.go_on(&plan, wanted, 20_000));
        assert_eq!(switchback.slots, [one]);
    }

    #[test]
    fn each_pair_has_both_slots_and_a_coin_says_which_comes_first() {
        let plan = SwitchbackPlan {
            pairs: 200,
            ..SwitchbackPlan::default()
        };
        let mut switchback = Switchback::new(Percent::HUNDRED, 7);
        let mut shares = Vec::new();
        while let Some(share) = switchback.wanted(&plan) {
            shares.push(share != Percent::ZERO);
            switchback.slots.push(Runs::default());
        }
        assert_eq!(shares.len(), 400);
        assert!(shares.chunks(2).all(|pair| pair[0] != pair[1]));
        let first = shares.chunks(2).filter(|pair| pair[0]).count();
        assert!((70..=130).contains(&first), "{first}");
    }

    #[test]
    fn without_requests_nothing_is_known() {
        let plan = SwitchbackPlan::default();
        let mut switchback = Switchback::new(Percent::HUNDRED, 7);
        let mut now_ms = 0;
        while let Some(wanted) = switchback.wanted(&plan) {
            switchback.go_on(&plan, wanted, now_ms);
            now_ms += 1000;
        }
        let found = switchback.found(&plan);
        assert_eq!((found.slows(), found.pairs), (Slows::Unknown, 0));
        assert_eq!(
            found.to_string(),
            "whether the canary slows the stable version is not known: requests came in 0 pairs of slots only"
        );
    }
}
