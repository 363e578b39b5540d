//! A metric of events that a version has by itself, request by request: errors, bad outputs, wrong answers. Pure.
//!
//! Harm is a matter of whose the events are (`EventLabel`). Safety is that too, or that the canary has hardly any (`RateTest`): where neither
//! version ever fails there is no ratio to prove. The e-values of both are averaged, so that they share one error.
//!
//! Under a sticky split it is users that are drawn and not requests: a user's first event counts, and users' first requests are the rate.
//!
//! Of answers that somebody looked at later it is not all requests that are judged but those with a label. Each label takes its place in its
//! block, or its user, before its worth is looked at, so that what is compared is how much is wrong and not how often something is; and
//! evidence counts only as far as it exceeds that of labels which come for one version more often (`label_skew`).

use serde::{Deserialize, Serialize};

use crate::canary::guard_plan::MetricPlan;
use crate::canary::label_skew::LabelSkew;
use crate::canary::observation::Routing;
use crate::evidence::{
    BlockChance, EventLabel, KeySample, RateTest, log_mean_exp, requests_to_rule_out,
};

/// Users with an event that are remembered.
const USERS_MAX: usize = 2048;

/// The rate of the canary is judged after each event and so many requests.
const RATE_EVERY: u64 = 64;

/// The ratios of wrong answers that are believed in: a few in a hundred more make a version useless.
const WRONG_BETWEEN: (f64, f64) = (1.05, 10.0);
const WRONG_RATIOS: usize = 16;

/// The state of such a metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Labels {
    negligible: f64,
    edge: f64,
    chance: BlockChance,
    users: KeySample,
    harm: EventLabel,
    safe: EventLabel,
    /// Requests of the canary, or users, that the rate is of; and those with an event.
    rate_of: u64,
    rate_events: f64,
    safe_highest: f64,
    /// Where labels are judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    skew: Option<LabelSkew>,
}

/// How a request came to be one version's and not the other's.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Draw {
    /// With its user, who has been counted.
    Again,
    /// By a chance that is not known any more.
    Unknown,
    /// The canary had this chance.
    Known(f64),
}

impl Labels {
    pub(super) fn new(plan: &MetricPlan) -> Self {
        Self {
            negligible: plan.negligible,
            edge: plan.promote_below,
            chance: BlockChance::default(),
            users: KeySample::new(USERS_MAX),
            harm: EventLabel::harm(plan.ratio_max),
            safe: EventLabel::safe(plan.promote_below),
            rate_of: 0,
            rate_events: 0.0,
            safe_highest: 0.0,
            skew: None,
        }
    }

    /// For answers that turned out wrong.
    pub(super) fn of_wrong_answers(plan: &MetricPlan) -> Self {
        let (least, greatest) = WRONG_BETWEEN;
        let between = (least * plan.ratio_max, greatest * plan.ratio_max);
        Self {
            harm: EventLabel::between(plan.ratio_max, between, WRONG_RATIOS),
            skew: Some(LabelSkew::new(WRONG_BETWEEN, WRONG_RATIOS)),
            ..Self::new(plan)
        }
    }

    /// Takes in a request; `is_first` says that its user has not been seen before, where users are drawn. Whether it was an event that
    /// counts.
    pub(super) fn request(
        &mut self,
        of_canary: bool,
        routing: Routing,
        is_event: bool,
        is_first: bool,
    ) -> bool {
        if of_canary && is_first {
            self.count(f64::from(u8::from(is_event)));
        }
        let counts = is_event && self.event(of_canary, routing);
        if of_canary && is_first && self.rate_of.is_multiple_of(RATE_EVERY) {
            self.judge_safety();
        }
        counts
    }

    fn event(&mut self, of_canary: bool, routing: Routing) -> bool {
        let draw = self.draw(of_canary, routing);
        if let Draw::Known(chance) = draw {
            self.bet(of_canary, chance, 1.0);
        }
        draw != Draw::Again
    }

    /// Takes in a label, and how much its answer was wrong, 0 to 1. Whether it counts.
    pub(super) fn label(&mut self, of_canary: bool, routing: Routing, wrong: f64) -> bool {
        let chance = match self.draw(of_canary, routing) {
            Draw::Again => return false,
            Draw::Unknown => None,
            Draw::Known(chance) => Some(chance),
        };
        if of_canary {
            self.count(wrong);
        }
        if let Some(skew) = &mut self.skew {
            skew.label(of_canary, (routing.weight(), chance));
        }
        if let Some(chance) = chance {
            self.bet(of_canary, chance, wrong);
        }
        true
    }

    /// Takes in how much more one of both answers to the same request was wrong, 0 to 1.
    pub(super) fn paired_label(&mut self, of_canary: bool, wrong: f64) {
        self.bet(of_canary, 0.5, wrong);
    }

    fn count(&mut self, event: f64) {
        self.rate_of += 1;
        self.rate_events += event;
    }

    /// The draw of its version, given those before, of which it is one from then on.
    fn draw(&mut self, of_canary: bool, routing: Routing) -> Draw {
        match routing {
            Routing::Exact(block) => {
                let chance = self.chance.event(block, of_canary);
                chance.map_or(Draw::Unknown, Draw::Known)
            }
            Routing::Random { weight } => Draw::Known(weight),
            Routing::Sticky { key, .. } if !self.users.is_new(key) => Draw::Again,
            Routing::Sticky { weight, .. } => Draw::Known(weight),
        }
    }

    fn bet(&mut self, of_canary: bool, chance: f64, event: f64) {
        self.harm.part_of_event(of_canary, chance, event);
        self.safe.part_of_event(of_canary, chance, event);
        if let Some(skew) = &mut self.skew {
            skew.keep(self.harm.log_e());
        }
        self.judge_safety();
    }

    fn judge_safety(&mut self) {
        self.safe_highest = self.safe_highest.max(self.log_e_safe());
    }

    /// Whether it is proven that labels come for one version more often, so that they prove nothing.
    pub(super) fn come_unevenly(&self) -> bool {
        self.skew.as_ref().is_some_and(LabelSkew::is_proven)
    }

    /// The logarithms of the e-values of harm, now and at its highest.
    pub(super) fn harm(&self) -> (f64, f64) {
        match &self.skew {
            Some(skew) => skew.harm(self.harm.log_e()),
            None => (self.harm.log_e(), self.harm.highest()),
        }
    }

    /// The logarithms of the capitals whose mean is the evidence of harm; none where it is less than that mean.
    pub(super) fn capitals_harm(&self) -> &[f64] {
        match &self.skew {
            Some(_) => &[],
            None => self.harm.capitals(),
        }
    }

    /// Those of safety.
    pub(super) fn safe(&self) -> (f64, f64) {
        (self.log_e_safe(), self.safe_highest)
    }

    fn log_e_safe(&self) -> f64 {
        let by_ratio = self.safe.log_e();
        let skew = self.skew.as_ref();
        let by_ratio = skew.map_or(by_ratio, |skew| skew.safe(by_ratio));
        if self.negligible <= 0.0 {
            return by_ratio;
        }
        let of = self.rate_of as f64;
        // Of more events than that nothing is won; to count it as nothing is less than there is, and spares the logarithms.
        let by_rate = match self.rate_events > self.negligible * of {
            true => f64::NEG_INFINITY,
            false => {
                RateTest::new(self.negligible).log_e_below(self.rate_events, of - self.rate_events)
            }
        };
        log_mean_exp(&[by_ratio, by_rate])
    }

    /// The requests of both arms that safety will still take: by the events, of which `rate` is the share, or without any.
    pub(super) fn forecast(&self, threshold: f64, rate: f64, weight: f64) -> Option<u64> {
        let (now, highest) = self.safe();
        if highest >= threshold {
            return Some(0);
        }
        let by_events = requests_to_rule_out(threshold - now.max(0.0), rate, self.edge, weight);
        // The mean of two e-values is half of the one that grows.
        let log_e = threshold + 2_f64.ln();
        let by_rate =
            (self.rate_events <= 0.0 && self.negligible > 0.0 && weight > 0.0).then(|| {
                let needed = RateTest::new(self.negligible).requests_to_certify(log_e);
                rounded(needed.saturating_sub(self.rate_of) as f64 / weight)
            });
        [by_events, by_rate].into_iter().flatten().min()
    }
}

/// A count of requests to come.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "not negative, and a cast ends at the greatest number"
)]
pub(super) fn rounded(count: f64) -> u64 {
    count.ceil() as u64
}
