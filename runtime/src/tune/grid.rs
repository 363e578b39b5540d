//! The settings that are worth measuring: lanes that share the cores evenly, and batches that double for as long as that pays. Pure.
//!
//! Not here: how a setting is measured (`measure`), which one is best (`choice`), which ones are tried with spinning threads too
//! when all were looked at (`run`).

use std::collections::{BTreeMap, VecDeque};

use crate::config::{BATCH_SIZE_DEFAULT_MAX, CONCURRENCY_MAX};

/// Throughput after a doubling (of the batch size, of the load), in that before, from which the next doubling is measured too.
const PAYING_GAIN: f64 = 1.05;

/// The way in which an instance computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Setting {
    /// Score threads.
    pub lanes: u32,
    /// Most rows of one run; none leaves it to the engine.
    pub batch_size: Option<u32>,
    /// The threads of a lane spin while they wait.
    pub spin: bool,
}

impl Setting {
    /// Threads that take part in one run on so many cores, of the widest lane.
    #[must_use]
    pub fn threads(self, cores: u32) -> u32 {
        cores.div_ceil(self.lanes.max(1))
    }

    /// In words, on so many cores: `2 lanes x 1 thread, batches of at most 4`.
    #[must_use]
    pub fn words(self, cores: u32) -> String {
        let batches = match self.batch_size {
            None => "batches as by default".to_owned(),
            Some(1) => "no batches".to_owned(),
            Some(size) => format!("batches of at most {size}"),
        };
        let thread = match self.spin {
            true => "spinning thread",
            false => "thread",
        };
        format!(
            "{} x {}, {batches}",
            counted(self.lanes, "lane"),
            counted(self.threads(cores), thread)
        )
    }
}

/// A number of things.
pub(super) fn counted(count: u32, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// A setting under so many requests at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Point {
    /// The way in which the instance computes.
    pub setting: Setting,
    /// Requests at once: `max_concurrent_requests_per_instance`.
    pub clients: u32,
}

/// The numbers of lanes that share so many cores evenly.
#[must_use]
pub fn divisors(cores: u32) -> Vec<u32> {
    let cores = cores.max(1);
    (1..=cores)
        .filter(|lanes| cores.is_multiple_of(*lanes))
        .collect()
}

/// The requests at once under which a setting is measured at least, rising: half of what fills every lane's batch, all of it, and
/// twice that, so that the next requests wait when a run ends. Not so few that there is never a batch.
#[must_use]
pub fn clients(setting: Setting) -> Vec<u32> {
    let size = setting.batch_size.unwrap_or(1);
    let full = setting.lanes.saturating_mul(size);
    let mut clients = vec![full, full.saturating_mul(2)];
    if size > 2 {
        clients.insert(0, full / 2);
    }
    clients.retain(|clients| (1..=CONCURRENCY_MAX).contains(clients));
    clients
}

/// The next load of a setting after `clients`, whose throughput is `now`: twice as many, as long as the last doubling paid.
#[must_use]
pub fn more_clients(clients: u32, before: f64, now: f64) -> Option<u32> {
    let twice = clients.saturating_mul(2);
    (pays(before, now) && twice <= CONCURRENCY_MAX).then_some(twice)
}

fn pays(before: f64, now: f64) -> bool {
    now > 0.0 && now >= before * PAYING_GAIN
}

/// The way through the settings: batches of 1 for every number of lanes, then of 2 for those for which it may pay, and so on.
#[derive(Debug)]
pub struct Scan {
    waiting: VecDeque<Setting>,
    /// Best throughput of the last batch size, by lanes.
    best: BTreeMap<u32, f64>,
}

impl Scan {
    /// The way for an instance of so many cores.
    #[must_use]
    pub fn new(cores: u32) -> Self {
        let waiting = divisors(cores).into_iter().map(|lanes| Setting {
            lanes,
            batch_size: Some(1),
            spin: false,
        });
        Self {
            waiting: waiting.collect(),
            best: BTreeMap::new(),
        }
    }

    /// Settings that are known to be worth measuring and were not given yet.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Takes in the best throughput of a setting that this scan gave; zero for one that failed.
    pub fn learn(&mut self, setting: Setting, throughput: f64) {
        let Some(size) = setting.batch_size else {
            return;
        };
        let before = self.best.insert(setting.lanes, throughput);
        let pays = before.map_or(throughput > 0.0, |before| pays(before, throughput));
        let twice = Setting {
            batch_size: Some(size.saturating_mul(2)),
            ..setting
        };
        let fits = size < BATCH_SIZE_DEFAULT_MAX
            && setting.lanes.saturating_mul(size).saturating_mul(2) <= CONCURRENCY_MAX;
        if pays && fits {
            self.waiting.push_back(twice);
        }
    }
}

impl Iterator for Scan {
    type Item = Setting;

    fn next(&mut self) -> Option<Setting> {
        self.waiting.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn setting(lanes: u32, size: u32) -> Setting {
        Setting {
            lanes,
            batch_size: Some(size),
            spin: false,
        }
    }

    /// Every setting that a scan gives when the settings have these throughputs.
    fn scanned(cores: u32, throughput: impl Fn(Setting) -> f64) -> Vec<Setting> {
        let mut scan = Scan::new(cores);
        let mut given = Vec::new();
        while let Some(setting) = scan.next() {
            scan.learn(setting, throughput(setting));
            given.push(setting);
        }
        given
    }

    #[test]
    fn lanes_share_the_cores_evenly() {
        assert_eq!(divisors(12), [1, 2, 3, 4, 6, 12]);
        assert_eq!(divisors(2), [1, 2]);
        assert_eq!(divisors(0), [1], "there is always one core");
    }

    #[test]
    fn load_rises_from_half_full_to_a_second_batch_that_waits() {
        assert_eq!(clients(setting(2, 1)), [2, 4]);
        assert_eq!(clients(setting(2, 8)), [8, 16, 32]);
        assert_eq!(clients(setting(2, 2)), [4, 8], "2 would never be a batch");
        assert_eq!(
            clients(setting(512, 1)),
            [512, 1024],
            "2048 is out of bounds"
        );
        let automatic = Setting {
            lanes: 3,
            batch_size: None,
            spin: false,
        };
        assert_eq!(clients(automatic), [3, 6]);
    }

    #[test]
    fn load_doubles_on_for_as_long_as_that_pays() {
        assert_eq!(more_clients(8, 100.0, 150.0), Some(16));
        assert_eq!(more_clients(8, 100.0, 104.0), None);
        assert_eq!(more_clients(8, 0.0, 0.0), None, "nothing was answered");
        assert_eq!(more_clients(1024, 100.0, 150.0), None, "out of bounds");
    }

    #[test]
    fn batches_double_until_that_does_not_pay_and_each_number_of_lanes_stops_by_itself() {
        // One lane gains up to 8; two lanes gain nothing.
        let throughput = |one: Setting| match (one.lanes, one.batch_size.unwrap_or(1)) {
            (1, size) => f64::from(size.min(8)),
            _ => 10.0,
        };
        assert_eq!(
            scanned(2, throughput),
            [
                setting(1, 1),
                setting(2, 1),
                setting(1, 2),
                setting(2, 2),
                setting(1, 4),
                setting(1, 8),
                setting(1, 16),
            ]
        );
    }

    #[test]
    fn a_setting_that_fails_has_no_larger_one_after_it() {
        assert_eq!(scanned(1, |_| 0.0), [setting(1, 1)]);
    }

    proptest! {
        #[test]
        fn any_scan_ends_and_gives_only_settings_that_a_deployment_may_have(
            cores in 1_u32..=256,
            throughputs in proptest::collection::vec(0.0_f64..1e6, 1..50),
        ) {
            let mut turn = throughputs.iter().cycle();
            let mut scan = Scan::new(cores);
            let mut given = BTreeSet::new();
            while let Some(setting) = scan.next() {
                prop_assert!(given.insert(setting), "given twice: {setting:?}");
                prop_assert_eq!(cores % setting.lanes, 0);
                prop_assert!(setting.batch_size.is_some_and(|size| size <= BATCH_SIZE_DEFAULT_MAX));
                let clients = clients(setting);
                prop_assert!(!clients.is_empty());
                prop_assert!(clients.is_sorted());
                prop_assert!(clients.iter().all(|clients| (1..=CONCURRENCY_MAX).contains(clients)));
                scan.learn(setting, *turn.next().unwrap());
            }
            prop_assert!(given.len() >= divisors(cores).len());
        }
    }
}
