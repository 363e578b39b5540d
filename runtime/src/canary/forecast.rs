//! The traffic that a rollout will take until something is proven, told before it begins. Pure.
//!
//! It is about errors, which any plan judges that wants to know whether a version works. All other metrics have a forecast of their own once
//! there is evidence (`Finding::forecast`).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::canary::duration::Duration;
use crate::canary::guard::{Finding, Guard};
use crate::canary::guard_plan::Metric;
use crate::canary::labels::rounded;
use crate::canary::plan::{RolloutPlan, Step};
use crate::evidence::{RateTest, requests_to_prove_beyond, requests_to_rule_out};
use crate::spec::Percent;

/// What is known of an endpoint before a rollout begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// Requests of the stable version.
    pub requests: u64,
    /// Those that it failed.
    pub failures: u64,
    /// Requests a second of the endpoint.
    pub requests_per_s: f64,
    /// The rate is that of now; else the mean since the server was started.
    pub is_of_now: bool,
}

/// What a rollout will take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// Requests a second of the endpoint.
    pub requests_per_s: f64,
    /// That rate is the present one; else the mean since the server was started.
    pub is_of_now: bool,
    /// Requests of the stable version so far.
    pub stable_requests: u64,
    /// Those that it failed.
    pub stable_failures: u64,
    /// The share of errors that is reckoned with; absent where none was seen and none is negligible.
    pub error_rate: Option<f64>,
    /// It is the rate that the plan calls negligible, for no request has failed.
    pub is_assumed: bool,
    /// One for each weight at which both versions serve.
    pub weights: Vec<WeightForecast>,
}

/// What it takes at one weight. What will never be proven is absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WeightForecast {
    /// The canary's share.
    pub weight: Percent,
    /// To find a canary that fails twice as often.
    pub find_2x: Option<Need>,
    /// To find one that fails five times as often.
    pub find_5x: Option<Need>,
    /// To prove one safe that fails as often.
    pub prove_safe: Option<Need>,
}

/// So much traffic.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Need {
    /// Requests of both versions.
    pub requests: u64,
    /// The time in which they come; absent where nothing comes.
    pub seconds: Option<f64>,
}

impl Forecast {
    /// The forecast of a plan; none where it does not judge errors, or is no plan.
    #[must_use]
    pub fn of(plan: &RolloutPlan, seen: Seen) -> Option<Self> {
        let guard = Guard::new(plan.guard.clone()).ok()?;
        let mut findings = guard.findings().into_iter();
        let errors = findings.find(|finding| finding.plan.metric == Metric::Errors)?;
        let rate = seen.failures as f64 / seen.requests as f64;
        let negligible = errors.plan.negligible;
        let error_rate = match seen.failures {
            0 => (negligible > 0.0).then_some(negligible),
            _ => Some(rate),
        };
        let at = |weight| at_weight(&errors, error_rate, weight, seen);
        Some(Self {
            requests_per_s: seen.requests_per_s,
            is_of_now: seen.is_of_now,
            stable_requests: seen.requests,
            stable_failures: seen.failures,
            error_rate,
            is_assumed: seen.failures == 0 && error_rate.is_some(),
            weights: weights(plan).map(at).collect(),
        })
    }
}

/// The weights at which both serve.
fn weights(plan: &RolloutPlan) -> impl Iterator<Item = Percent> {
    plan.steps.iter().filter_map(|step| match step {
        Step::SetWeight { percent } if *percent < Percent::HUNDRED => Some(*percent),
        _ => None,
    })
}

fn at_weight(
    errors: &Finding,
    error_rate: Option<f64>,
    weight: Percent,
    seen: Seen,
) -> WeightForecast {
    let share = f64::from(weight.hundredths()) / f64::from(Percent::HUNDRED.hundredths());
    let need = |requests: u64| {
        let seconds = requests as f64 / seen.requests_per_s;
        let seconds = Some(seconds).filter(|seconds| seconds.is_finite());
        Need { requests, seconds }
    };
    let find = |times: f64| {
        // No version fails more than all.
        let rate = error_rate.filter(|rate| rate * times <= 1.0)?;
        let ratios = (times, errors.plan.ratio_max);
        requests_to_prove_beyond(errors.threshold_harm, rate, ratios, share).map(need)
    };
    let rate = match seen.failures {
        0 => 0.0,
        failures => failures as f64 / seen.requests as f64,
    };
    WeightForecast {
        weight,
        find_2x: find(2.0),
        find_5x: find(5.0),
        prove_safe: prove_safe(errors, rate, share).map(need),
    }
}

/// The requests until a canary of that rate is proven safe: by whose the errors are, or because it has hardly any.
fn prove_safe(errors: &Finding, rate: f64, share: f64) -> Option<u64> {
    let (threshold, bar) = (errors.threshold_safe, errors.plan.negligible);
    // Each is half of the mean of two e-values, and the one that grows has to bring it all.
    let log_e = match bar > 0.0 {
        true => threshold + 2_f64.ln(),
        false => threshold,
    };
    let by_ratio = requests_to_rule_out(log_e, rate, errors.plan.promote_below, share);
    let by_rate = (rate < bar && share > 0.0).then(|| {
        let needed = RateTest::new(bar).requests_to_certify(log_e) as f64;
        // A request says so much less as the rate is nearer to the bar (Kullback and Leibler).
        let slower = -(1.0 - bar).ln() / divergence(rate, bar);
        rounded(needed * slower / share)
    });
    [by_ratio, by_rate].into_iter().flatten().min()
}

/// The divergence of a rate from a greater one.
fn divergence(rate: f64, bar: f64) -> f64 {
    let events = match rate > 0.0 {
        true => rate * (rate / bar).ln(),
        false => 0.0,
    };
    events + (1.0 - rate) * ((1.0 - rate) / (1.0 - bar)).ln()
}

impl fmt::Display for Forecast {
    /// Sentences, a line for each weight.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = self.requests_per_s;
        let of = match self.is_of_now {
            true => "at present",
            false => "in the mean since the server was started, for none comes now",
        };
        writeln!(f, "{rate:.1} requests a second {of}.")?;
        let (failures, requests) = (self.stable_failures, self.stable_requests);
        write!(f, "The stable version failed {failures} of {requests}")?;
        match self.error_rate {
            None => writeln!(
                f,
                ", and no rate of errors is negligible: nothing can be said."
            )?,
            Some(rate) if self.is_assumed => writeln!(
                f,
                "; errors are reckoned with {} %, which is negligible.",
                percent(rate)
            )?,
            Some(rate) => writeln!(f, ", {} %.", percent(rate))?,
        }
        for one in &self.weights {
            writeln!(f, "{one}")?;
        }
        write!(
            f,
            "This is for errors; other metrics, percentiles above all, may take longer."
        )
    }
}

impl fmt::Display for WeightForecast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words =
            |need: Option<Need>| need.map_or_else(|| "never".to_owned(), |need| need.to_string());
        write!(
            f,
            "At {} %: twice as many errors are found in {}, five times as many in {}; a canary that is as good is proven safe in {}.",
            self.weight,
            words(self.find_2x),
            words(self.find_5x),
            words(self.prove_safe)
        )
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "about {} requests", about(self.requests))?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not negative, and a cast ends at the greatest number"
        )]
        let whole = |seconds: f64| seconds.ceil() as u64;
        match self.seconds {
            Some(seconds) => write!(f, " ({})", Duration(whole(seconds))),
            None => Ok(()),
        }
    }
}

/// A number as far as a forecast knows it: three digits, in groups.
fn about(count: u64) -> String {
    let unit = 10_u64.pow(count.checked_ilog10().unwrap_or(0).saturating_sub(2));
    let digits = (count / unit + u64::from(count % unit >= unit.div_ceil(2).max(1))) * unit;
    let digits = digits.to_string();
    let first = digits.len() % 3;
    let groups = digits.as_bytes()[first..].chunks(3);
    let groups = std::iter::once(&digits.as_bytes()[..first]).chain(groups);
    let groups = groups.filter(|group| !group.is_empty());
    let words: Vec<_> = groups.map(String::from_utf8_lossy).collect();
    words.join(",")
}

/// A share in percent.
fn percent(share: f64) -> String {
    let text = format!("{:.4}", share * 100.0);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canary::guard_plan::{GuardPlan, MetricPlan};

    fn plan(errors: MetricPlan, alpha: f64) -> RolloutPlan {
        let (endpoint, from, to) = ("iris", "blue", "green");
        RolloutPlan {
            guard: GuardPlan {
                alpha,
                metrics: vec![errors],
            },
            ..RolloutPlan::usual(
                endpoint.parse().unwrap(),
                from.parse().unwrap(),
                to.parse().unwrap(),
            )
        }
    }

    fn seen(failures: u64) -> Seen {
        Seen {
            requests: 10_000,
            failures,
            requests_per_s: 120.0,
            is_of_now: true,
        }
    }

    fn errors() -> MetricPlan {
        MetricPlan::new(Metric::Errors)
    }

    #[test]
    fn at_120_a_second_and_a_thousandth_of_errors_a_tenth_finds_five_times_as_many_in_two_minutes()
    {
        let forecast = Forecast::of(&plan(errors(), 0.05), seen(10)).unwrap();
        let weights: Vec<_> = forecast
            .weights
            .iter()
            .map(|one| one.weight.to_string())
            .collect();
        assert_eq!(weights, ["1", "10", "50"]);
        let need = forecast.weights[1].find_5x.unwrap();
        assert!((12_900..13_300).contains(&need.requests), "{need}");
        assert!((107.0..111.0).contains(&need.seconds.unwrap()), "{need}");
        let told = forecast.to_string();
        assert!(
            told.contains("The stable version failed 10 of 10000, 0.1 %."),
            "{told}"
        );
        assert!(
            told.contains("in about 13,100 requests (1 m 50 s)"),
            "{told}"
        );
    }

    #[test]
    fn more_weight_needs_less_traffic_and_greater_harm_less_than_small() {
        let forecast = Forecast::of(&plan(errors(), 0.01), seen(10)).unwrap();
        let of = |one: &WeightForecast| {
            [one.find_2x, one.find_5x, one.prove_safe].map(|need| need.unwrap().requests)
        };
        for pair in forecast.weights.windows(2) {
            let both = of(&pair[0]).into_iter().zip(of(&pair[1]));
            assert!(both.into_iter().all(|(less, more)| less > more), "{pair:?}");
        }
        assert!(forecast.weights.iter().all(|one| of(one)[0] > of(one)[1]));
    }

    #[test]
    fn without_a_failure_safety_is_a_matter_of_what_is_negligible() {
        let forecast = Forecast::of(&plan(errors(), 0.01), seen(0)).unwrap();
        assert_eq!(
            (forecast.error_rate, forecast.is_assumed),
            (Some(0.001), true)
        );
        let safe = forecast.weights[1].prove_safe.unwrap().requests;
        // Some 5,300 of the canary's at 1 %, and it has a tenth.
        assert!((50_000..70_000).contains(&safe), "{safe}");
        let strict = MetricPlan {
            negligible: 0.0,
            ..errors()
        };
        let strict = Forecast::of(&plan(strict, 0.01), seen(0)).unwrap();
        assert_eq!(strict.error_rate, None);
        for one in &strict.weights {
            assert_eq!([one.find_2x, one.find_5x, one.prove_safe], [None; 3]);
        }
        assert!(strict.to_string().contains("nothing can be said"));
    }

    #[test]
    fn a_version_that_hardly_ever_fails_is_safe_by_its_rate_and_one_that_fails_often_is_not() {
        let safe = |failures| {
            let forecast = Forecast::of(&plan(errors(), 0.01), seen(failures)).unwrap();
            forecast.weights[1].prove_safe.unwrap().requests
        };
        assert!(
            safe(0) < safe(1) && safe(1) < 2 * safe(0),
            "{} {}",
            safe(0),
            safe(1)
        );
        let by_ratio = requests_to_rule_out(100_f64.ln() + 2_f64.ln(), 0.01, 2.0, 0.1);
        assert_eq!(Some(safe(100)), by_ratio);
    }

    #[test]
    fn what_a_version_may_do_is_never_found() {
        let lenient = MetricPlan {
            ratio_max: 3.0,
            promote_below: 4.0,
            ..errors()
        };
        let forecast = Forecast::of(&plan(lenient, 0.01), seen(10)).unwrap();
        assert!(
            forecast
                .weights
                .iter()
                .all(|one| one.find_2x.is_none() && one.find_5x.is_some())
        );
    }

    #[test]
    fn odd_traffic_makes_no_odd_numbers() {
        for (requests, failures, requests_per_s) in [
            (0, 0, 0.0),
            (5, 5, 3.0),
            (10, 4, 1.0),
            (0, 0, f64::NAN),
            (1, 0, 1e300),
        ] {
            let seen = Seen {
                requests,
                failures,
                requests_per_s,
                is_of_now: false,
            };
            let forecast = Forecast::of(&plan(errors(), 0.01), seen).unwrap();
            let needs = forecast
                .weights
                .iter()
                .flat_map(|one| [one.find_2x, one.find_5x, one.prove_safe]);
            for need in needs.flatten() {
                assert!(need.seconds.is_none_or(f64::is_finite), "{need:?}");
            }
            if failures == requests && failures > 0 {
                assert_eq!(
                    forecast.weights[0].find_2x, None,
                    "none fails more than all"
                );
            }
            assert!(!forecast.to_string().contains("NaN s"));
        }
    }

    #[test]
    fn numbers_have_three_digits_in_groups() {
        let told = [0, 7, 999, 1005, 13_149, 99_960, 1_149_201].map(about);
        assert_eq!(
            told,
            ["0", "7", "999", "1,010", "13,100", "100,000", "1,150,000"]
        );
    }

    #[test]
    fn a_plan_without_errors_has_no_forecast() {
        assert_eq!(
            Forecast::of(&plan(MetricPlan::new(Metric::Sheds), 0.01), seen(1)),
            None
        );
    }
}
