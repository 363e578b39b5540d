//! A metric of what an arm's queue brings about: timeouts, sheds, slow requests, percentiles. Pure.
//!
//! Requests in one queue share their fate, so that it is slots of time that are judged (`SlotShares`). A slot ends with the first request
//! that ends when it has lasted long enough ([`Pace`]) and has enough requests of both arms; what is under way counts in the slot in which it
//! ends. A slot in which the weight changes is thrown away: its shares would be of different times. Where the canary has more than a half and
//! what is counted is in the queue, nothing is judged: with as many instances it would have the longer queue for that alone.
//!
//! Safety is a ratio of shares, or hardly any bad request of the canary at all; both as bets on slots, whose e-values are averaged.

use serde::{Deserialize, Serialize};

use crate::canary::guard_plan::{Metric, MetricPlan, Time};
use crate::canary::labels::rounded;
use crate::evidence::{LatencyCounts, Slot, SlotShares, log_mean_exp};

/// The least length of a slot, in microseconds: three stalls of 300 ms.
const SLOT_US_MIN: u64 = 1_000_000;
/// The greatest.
const SLOT_US_MAX: u64 = 60_000_000;
/// A slot is so many times as long as the p99 of the stable version's total time, `T`. A queue at a load `r` of runs of `S` remembers for some
/// `4 S / (1 - r)^2`, and `T` is some `4.6 S / (1 - r)`: at 0.9 that is nine times `T`. With slots of two of those, one run of five finds
/// harm where there is none, with ten fewer than one of twenty. Nearer to saturation a slot is longer yet: `T^2 / S`, five memories.
const SLOT_TAILS: u64 = 10;
/// Requests of the stable version of which a p99 says something.
const TAIL_REQUESTS_MIN: u64 = 100;
/// The p99 is looked up after so many more requests.
const TAIL_EVERY: u64 = 1024;
/// The greatest share of the canary with which queues are compared.
const FAIR_WEIGHT_MAX: f64 = 0.5;

/// A share of bad requests counts up to so many times what is usual. Rare ones in few requests are cut now and then at any reach, which makes
/// the arm with fewer requests look better by some parts in ten thousand: too little to be taken for safety.
const REACH: f64 = 5.0;
/// The same against harm, where a shorter reach finds it sooner and errs on the canary's side, as long as it has the fewer requests.
const REACH_HARM: f64 = 2.5;
/// What is usual at least, where hardly anything is bad.
const USUAL_MIN: f64 = 0.01;
/// Requests of an arm in a slot: at least and at most, however rare bad ones are.
const REQUESTS_BETWEEN: (f64, f64) = (20.0, 1000.0);
/// A bet on hardly any reaches so many times as far as what is negligible.
const NEGLIGIBLE_REACH: f64 = 10.0;
/// A share as a count of so many.
const FINE: f64 = 1e9;

/// How long a slot is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Pace {
    slot_us: u64,
    next: u64,
    /// The sum of the stable version's runs, and how many there were.
    run_us: u64,
    runs: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            slot_us: SLOT_US_MIN,
            next: TAIL_REQUESTS_MIN,
            run_us: 0,
            runs: 0,
        }
    }
}

impl Pace {
    /// Takes in a run of the stable version.
    pub(super) fn run(&mut self, run_us: u64) {
        self.run_us = self.run_us.saturating_add(run_us);
        self.runs += 1;
    }

    /// Looks at the stable version's total times, now and then.
    pub(super) fn follow(&mut self, total: &LatencyCounts) {
        if total.count() < self.next {
            return;
        }
        self.next = total.count() + TAIL_EVERY.min(total.count());
        let tail = total.quantile_us(0.99).unwrap_or(SLOT_US_MAX);
        let run = (self.run_us / self.runs.max(1)).max(1);
        let memory = tail.saturating_mul(tail) / run;
        self.slot_us = tail
            .saturating_mul(SLOT_TAILS)
            .max(memory)
            .clamp(SLOT_US_MIN, SLOT_US_MAX);
    }
}

/// The state of such a metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Slots {
    negligible: f64,
    /// The share that is usual; none where it follows from what was seen.
    fixed: Option<f64>,
    /// Whether what is counted is in the queue.
    of_queue: bool,
    edge: f64,
    slot: Slot,
    began_us: u64,
    weight: f64,
    harm: SlotShares,
    safe: SlotShares,
    hardly_any: SlotShares,
    safe_highest: f64,
    /// Of all slots that were judged: how many, and the sum of their counts.
    judged: u64,
    sum: Slot,
}

impl Slots {
    pub(super) fn new(plan: &MetricPlan) -> Self {
        let (usual, of_queue) = match plan.metric {
            Metric::Quantile { quantile, time, .. } => (Some(1.0 - quantile), time == Time::Total),
            _ => (None, true),
        };
        Self {
            negligible: plan.negligible,
            fixed: usual,
            of_queue,
            edge: plan.promote_below,
            slot: Slot::default(),
            began_us: 0,
            weight: 0.0,
            harm: SlotShares::harm(plan.ratio_max),
            safe: SlotShares::safe(plan.promote_below),
            hardly_any: SlotShares::safe(1.0),
            safe_highest: 0.0,
            judged: 0,
            sum: Slot::default(),
        }
    }

    /// Takes in a request. True when a slot has just ended.
    pub(super) fn request(
        &mut self,
        of_canary: bool,
        is_bad: bool,
        (weight, at_us): (f64, u64),
        pace: Pace,
    ) -> bool {
        if weight.to_bits() != self.weight.to_bits() {
            self.begin(weight, at_us);
        }
        if self.of_queue && weight > FAIR_WEIGHT_MAX {
            return false;
        }
        let ends = self.is_over(at_us, pace);
        if ends {
            self.judge();
            self.begin(weight, at_us);
        }
        let (bad, all) = match of_canary {
            true => (&mut self.slot.canary_bad, &mut self.slot.canary),
            false => (&mut self.slot.stable_bad, &mut self.slot.stable),
        };
        *all += 1;
        *bad += u64::from(is_bad);
        ends
    }

    fn begin(&mut self, weight: f64, at_us: u64) {
        (self.weight, self.began_us) = (weight, at_us);
        self.slot = Slot::default();
    }

    fn is_over(&self, at_us: u64, pace: Pace) -> bool {
        if at_us.saturating_sub(self.began_us) < pace.slot_us {
            return false;
        }
        let (least, most) = REQUESTS_BETWEEN;
        let enough = (1.0 / self.usual()).clamp(least, most);
        self.slot.canary.min(self.slot.stable) as f64 >= enough
    }

    /// The share of bad requests that is usual, as it was known before the slot.
    fn usual(&self) -> f64 {
        self.fixed.unwrap_or_else(|| {
            let (bad, all) = (
                self.sum.canary_bad + self.sum.stable_bad,
                self.sum.canary + self.sum.stable,
            );
            (bad as f64 / (all as f64).max(1.0)).max(USUAL_MIN)
        })
    }

    fn judge(&mut self) {
        let reach = |times: f64| (times * self.usual()).min(1.0);
        let (of_harm, of_safety) = match self.weight <= FAIR_WEIGHT_MAX {
            true => (reach(REACH_HARM), reach(REACH)),
            false => (reach(REACH), reach(REACH)),
        };
        self.harm.slot(self.slot, of_harm);
        self.safe.slot(self.slot, of_safety);
        if self.negligible > 0.0 {
            let bar = Slot {
                stable_bad: rounded(self.negligible * FINE),
                stable: rounded(FINE),
                ..self.slot
            };
            self.hardly_any.slot(bar, self.negligible_reach());
        }
        self.safe_highest = self.safe_highest.max(self.log_e_safe());
        self.judged += 1;
        self.sum.canary_bad += self.slot.canary_bad;
        self.sum.canary += self.slot.canary;
        self.sum.stable_bad += self.slot.stable_bad;
        self.sum.stable += self.slot.stable;
    }

    fn negligible_reach(&self) -> f64 {
        (NEGLIGIBLE_REACH * self.negligible).min(1.0)
    }

    /// The logarithms of the e-values of harm, now and at its highest.
    pub(super) fn harm(&self) -> (f64, f64) {
        (self.harm.log_e(), self.harm.highest())
    }

    /// The logarithms of the capitals whose mean is the evidence of harm.
    pub(super) fn capitals_harm(&self) -> &[f64] {
        self.harm.capitals()
    }

    /// Those of safety.
    pub(super) fn safe(&self) -> (f64, f64) {
        (self.log_e_safe(), self.safe_highest)
    }

    fn log_e_safe(&self) -> f64 {
        match self.negligible > 0.0 {
            true => log_mean_exp(&[self.safe.log_e(), self.hardly_any.log_e()]),
            false => self.safe.log_e(),
        }
    }

    /// The requests of both arms that safety will still take, if shares stay as they were and slots as large.
    pub(super) fn forecast(&self, threshold: f64) -> Option<u64> {
        let (now, highest) = self.safe();
        if highest >= threshold {
            return Some(0);
        }
        let share = |bad: u64, of: u64| bad as f64 / (of as f64).max(1.0);
        let canary = share(self.sum.canary_bad, self.sum.canary);
        let stable = share(self.sum.stable_bad, self.sum.stable);
        let slots = self.judged as f64;
        // The best bet gains half of the squared mean by the variance, that of counts that are drawn; at most what the largest bet gains.
        let gain = |difference: f64, reach: f64| {
            let of = |all: u64| all as f64 / slots;
            let variance =
                canary / of(self.sum.canary) + self.edge.powi(2) * stable / of(self.sum.stable);
            let most = (0.9 * difference / reach).ln_1p();
            (difference.powi(2) / (2.0 * variance)).min(most)
        };
        let by_ratio = gain(self.edge * stable - canary, REACH * self.usual());
        let hardly_any = match self.negligible > canary {
            true => gain(self.negligible - canary, self.negligible_reach()),
            false => 0.0,
        };
        let best = if self.edge * stable > canary {
            by_ratio.max(hardly_any)
        } else {
            hardly_any
        };
        let needed = (threshold + 2_f64.ln() - now.max(0.0)) / best;
        let per_slot = (self.sum.canary + self.sum.stable) as f64 / slots;
        (best > 0.0 && slots > 0.0).then(|| rounded(needed * per_slot))
    }
}
