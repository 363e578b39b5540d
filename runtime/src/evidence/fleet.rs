//! The evidence of several machines as one. Pure.
//!
//! A row is one start of one machine, of one revision of one deployment; its newest report counts. Where each machine draws by itself and the
//! canary does no harm on any of them, the product of the e-values is one: machines add up their evidence. Where one thing can make all
//! of them look bad together, and nothing was drawn apart, only their mean is. "Any machine says so" is neither: with four of them at 5 %
//! it is wrong in 13 of a hundred.
//!
//! An e-value that is the mean of gamblers' capitals, each of whom believes in one effect, is merged gambler by gambler: the product of the
//! capitals of those who believe alike is fair, and so is the mean of these products. The product of the means is fair too and less, for
//! it pays on each machine anew for not knowing the effect.
//!
//! A report has the e-values of now, never the highest so far: a product of those is no e-value.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::evidence::event_label::log_mean_exp;
use crate::evidence::latency_counts::LatencyCounts;

/// What a machine says about one metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// The name of the metric.
    pub metric: String,
    /// Bad events and requests of the stable version.
    pub stable: (u64, u64),
    /// Those of the canary.
    pub canary: (u64, u64),
    /// The logarithm of the e-value against "it does no harm", as it is now.
    pub log_e_harm: f64,
    /// That against "it is not safe".
    pub log_e_safe: f64,
    /// The logarithms of the capitals whose mean is the first of both, in the order of what the gamblers believe; none where it is no
    /// such mean, and of machines that do not tell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capitals_harm: Vec<f64>,
}

/// What a machine says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The start of the machine: another after each restart.
    pub start: String,
    /// The revision that was in force.
    pub revision: u64,
    /// The deployment that is tried.
    pub deployment: String,
    /// Rises with each report of a row.
    pub number: u64,
    /// One for each metric.
    pub tallies: Vec<Tally>,
    /// Total times of the stable version and of the canary.
    pub latency: [LatencyCounts; 2],
}

/// How the evidence of machines hangs together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dependence {
    /// Each draws by itself: e-values multiply.
    None,
    /// In any way: their mean is taken.
    Any,
}

/// The reports of a fleet.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Fleet {
    rows: BTreeMap<(String, u64, String), Report>,
}

impl Fleet {
    /// Takes in a report in place of an earlier one of its row. False where it is not newer, or has a logarithm that is no number.
    pub fn take(&mut self, report: Report) -> bool {
        let logs = report.tallies.iter();
        let usable = logs.map(|tally| {
            tally.log_e_harm + tally.log_e_safe + tally.capitals_harm.iter().sum::<f64>()
        });
        let key = (
            report.start.clone(),
            report.revision,
            report.deployment.clone(),
        );
        let known = self.rows.get(&key).map(|row| row.number);
        let is_taken = usable.into_iter().all(f64::is_finite)
            && known.is_none_or(|number| number < report.number);
        if is_taken {
            self.rows.insert(key, report);
        }
        is_taken
    }

    /// The rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether nobody has reported.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// All machines as one: for each metric that any of them names, by name.
    #[must_use]
    pub fn merged(&self, dependence: Dependence) -> Vec<Tally> {
        let mut by_metric: BTreeMap<&str, Vec<&Tally>> = BTreeMap::new();
        for tally in self.rows.values().flat_map(|row| &row.tallies) {
            by_metric.entry(&tally.metric).or_default().push(tally);
        }
        by_metric
            .into_iter()
            .map(|(metric, tallies)| merged(metric, &tallies, dependence))
            .collect()
    }

    /// The total times of the stable version and of the canary, over all machines.
    #[must_use]
    pub fn latency(&self) -> [LatencyCounts; 2] {
        let mut all = [LatencyCounts::default(), LatencyCounts::default()];
        for row in self.rows.values() {
            all.iter_mut()
                .zip(&row.latency)
                .for_each(|(all, own)| all.merge(own));
        }
        all
    }
}

fn merged(metric: &str, tallies: &[&Tally], dependence: Dependence) -> Tally {
    let sum = |of: &dyn Fn(&Tally) -> (u64, u64)| {
        let counts = tallies.iter().map(|tally| of(tally));
        counts.fold((0, 0), |(events, all), one| (events + one.0, all + one.1))
    };
    let evidence = |of: &dyn Fn(&Tally) -> f64| {
        let logs: Vec<_> = tallies.iter().map(|tally| of(tally)).collect();
        match dependence {
            Dependence::None => logs.iter().sum(),
            Dependence::Any => log_mean_exp(&logs),
        }
    };
    let capitals_harm = match dependence {
        Dependence::None => products(tallies),
        Dependence::Any => Vec::new(),
    };
    Tally {
        metric: metric.to_owned(),
        stable: sum(&|tally| tally.stable),
        canary: sum(&|tally| tally.canary),
        log_e_harm: match capitals_harm.is_empty() {
            true => evidence(&|tally| tally.log_e_harm),
            false => log_mean_exp(&capitals_harm),
        },
        log_e_safe: evidence(&|tally| tally.log_e_safe),
        capitals_harm,
    }
}

/// The logarithms of the products of the capitals of those who believe alike; none where not all machines have them.
fn products(tallies: &[&Tally]) -> Vec<f64> {
    let count = tallies.first().map_or(0, |first| first.capitals_harm.len());
    let mut products = vec![0.0; count];
    for tally in tallies {
        if tally.capitals_harm.len() != count {
            return Vec::new();
        }
        let both = products.iter_mut().zip(&tally.capitals_harm);
        both.for_each(|(product, capital)| *product += capital);
    }
    products
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(start: &str, number: u64, log_e: f64) -> Report {
        Report {
            start: start.to_owned(),
            revision: 3,
            deployment: "green".to_owned(),
            number,
            tallies: vec![Tally {
                metric: "errors".to_owned(),
                stable: (1, 90),
                canary: (2, 10),
                log_e_harm: log_e,
                log_e_safe: -log_e,
                capitals_harm: Vec::new(),
            }],
            latency: Default::default(),
        }
    }

    #[test]
    fn the_newest_report_of_a_row_counts_and_a_restart_is_another_row() {
        let mut fleet = Fleet::default();
        assert!(fleet.take(report("one", 1, 0.5)));
        assert!(fleet.take(report("one", 2, 1.0)));
        assert!(!fleet.take(report("one", 2, 9.0)) && !fleet.take(report("one", 1, 9.0)));
        assert!(fleet.take(report("two", 1, 2.0)));
        let all = &fleet.merged(Dependence::None)[0];
        assert_eq!(
            (all.stable, all.canary, fleet.len()),
            ((2, 180), (4, 20), 2)
        );
        assert!((all.log_e_harm - 3.0).abs() < 1e-12);
        let mean = &fleet.merged(Dependence::Any)[0];
        let expected = ((1_f64.exp() + 2_f64.exp()) / 2.0).ln();
        assert!((mean.log_e_harm - expected).abs() < 1e-12);
    }

    #[test]
    fn gamblers_who_believe_alike_are_merged_and_those_of_a_machine_that_does_not_tell_by_their_mean()
     {
        let with = |start: &str, capitals: &[f64]| {
            let mut report = report(start, 1, log_mean_exp(capitals));
            report.tallies[0].capitals_harm = capitals.to_vec();
            report
        };
        let mut fleet = Fleet::default();
        assert!(fleet.take(with("one", &[3.0, -2.0])) && fleet.take(with("two", &[2.0, -1.0])));
        let both = fleet.merged(Dependence::None)[0].log_e_harm;
        assert!((both - log_mean_exp(&[5.0, -3.0])).abs() < 1e-12);
        assert!(fleet.take(report("three", 1, 0.5)));
        let product = fleet.merged(Dependence::None)[0].log_e_harm;
        let expected = log_mean_exp(&[3.0, -2.0]) + log_mean_exp(&[2.0, -1.0]) + 0.5;
        assert!((product - expected).abs() < 1e-12);
        assert!(!fleet.take(with("four", &[0.0, f64::NAN])));
    }

    #[test]
    fn a_report_whose_evidence_is_no_number_is_not_taken() {
        let mut fleet = Fleet::default();
        for log_e in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(!fleet.take(report("one", 1, log_e)));
        }
        assert!(fleet.is_empty() && fleet.merged(Dependence::None).is_empty());
    }
}
