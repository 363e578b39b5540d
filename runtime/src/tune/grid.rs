//! The settings that are worth a try beside what runs now. Pure.
//!
//! Not here: how they are measured (`run`), which one is best (`choice`).

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

    /// How far from `now` it is: settings that differ, then how it compares by itself. Of equals the nearer one is recommended.
    pub(super) fn distance(self, now: Self) -> (u32, bool, u32, Option<u32>) {
        let differs = [
            self.lanes != now.lanes,
            self.batch_size != now.batch_size,
            self.spin != now.spin,
        ];
        let differs = differs.map(u32::from).iter().sum();
        (differs, self.spin, self.lanes, self.batch_size)
    }
}

/// A number of things.
pub(super) fn counted(count: u32, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// The bounds of what may be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Cores that an instance gets.
    pub cores: u32,
    /// Requests at once.
    pub connections: u32,
    /// Requests may share a run: the rows of the model are proven independent. Else a batch could change answers.
    pub may_batch: bool,
    /// An instance has its cores to itself, so that its threads may spin.
    pub may_spin: bool,
    /// Settings, at most.
    pub most: usize,
}

/// The settings beside `now`, those that are likely to differ most first: one lane, a lane for each core and the number between them;
/// then without batches, with batches of half of what comes at once, and with threads that spin.
#[must_use]
pub fn candidates(now: Setting, space: &Space) -> Vec<Setting> {
    let lanes = lanes(space);
    let with = |batch_size: fn(u32, u32) -> Option<u32>| {
        lanes.iter().filter_map(move |lanes| {
            Some(Setting {
                lanes: *lanes,
                batch_size: Some(batch_size(*lanes, space.connections)?),
                spin: false,
            })
        })
    };
    let plain = |lanes: &u32| Setting {
        lanes: *lanes,
        batch_size: None,
        spin: false,
    };
    let mut all: Vec<Setting> = lanes.iter().map(plain).collect();
    if space.may_batch {
        all.extend(with(|_, _| Some(1)));
        all.extend(with(half_of_what_comes));
    }
    if space.may_spin {
        let spinning = lanes.iter().map(plain);
        let several = spinning.filter(|one| one.threads(space.cores) > 1);
        all.extend(several.map(|one| Setting { spin: true, ..one }));
    }
    all.retain(|one| *one != now);
    all.truncate(space.most);
    all
}

/// Half of what a lane gets when requests are shared evenly; none where that is one, or all.
fn half_of_what_comes(lanes: u32, connections: u32) -> Option<u32> {
    let half = connections.div_ceil(lanes) / 2;
    (half > 1).then_some(half)
}

/// One lane, a lane for each core, and the divisor of the cores that is nearest to the middle of both; never more than requests at once.
fn lanes(space: &Space) -> Vec<u32> {
    let cores = space.cores.max(1);
    let middle = f64::from(cores).sqrt();
    let between = (2..cores).filter(|lanes| cores.is_multiple_of(*lanes));
    let off = |lanes: &u32| (f64::from(*lanes) / middle).ln().abs();
    let between = between.min_by(|one, two| off(one).total_cmp(&off(two)));
    let mut lanes: Vec<u32> = [1, cores].into_iter().chain(between).collect();
    lanes.sort_unstable();
    lanes.dedup();
    lanes.retain(|lanes| *lanes <= space.connections.max(1));
    lanes
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const NOW: Setting = Setting {
        lanes: 2,
        batch_size: None,
        spin: false,
    };

    fn space(cores: u32, connections: u32) -> Space {
        Space {
            cores,
            connections,
            may_batch: true,
            may_spin: false,
            most: 7,
        }
    }

    fn words(space: &Space) -> Vec<String> {
        let all = candidates(NOW, space).into_iter();
        all.map(|one| one.words(space.cores)).collect()
    }

    #[test]
    fn lanes_and_batches_that_a_load_can_use_are_tried() {
        assert_eq!(
            words(&space(2, 8)),
            [
                "1 lane x 2 threads, batches as by default",
                "1 lane x 2 threads, no batches",
                "2 lanes x 1 thread, no batches",
                "1 lane x 2 threads, batches of at most 4",
                "2 lanes x 1 thread, batches of at most 2",
            ]
        );
        // One at a time has nobody to share a run with, and a second lane nothing to do.
        assert_eq!(
            words(&space(2, 1)),
            [
                "1 lane x 2 threads, batches as by default",
                "1 lane x 2 threads, no batches"
            ]
        );
    }

    #[test]
    fn requests_are_not_joined_where_an_answer_might_depend_on_the_others() {
        let found = candidates(
            NOW,
            &Space {
                may_batch: false,
                ..space(4, 8)
            },
        );
        assert!(
            found.iter().all(|one| one.batch_size.is_none()),
            "{found:?}"
        );
        let lanes: Vec<_> = found.iter().map(|one| one.lanes).collect();
        assert_eq!(lanes, [1, 4], "two lanes run now");
    }

    #[test]
    fn only_lanes_of_several_threads_are_tried_spinning() {
        let spinning: Vec<_> = candidates(
            NOW,
            &Space {
                may_spin: true,
                most: 20,
                ..space(4, 8)
            },
        )
        .into_iter()
        .filter(|one| one.spin)
        .collect();
        let lanes: Vec<_> = spinning.iter().map(|one| one.lanes).collect();
        assert_eq!(lanes, [1, 2]);
    }

    #[test]
    fn of_equals_the_one_that_changes_least_is_nearest() {
        let setting = |lanes, batch_size| Setting {
            lanes,
            batch_size,
            spin: false,
        };
        let mut all = [
            setting(1, Some(4)),
            setting(4, None),
            setting(2, Some(1)),
            setting(1, None),
        ];
        all.sort_by_key(|one| one.distance(NOW));
        assert_eq!(
            all,
            [
                setting(1, None),
                setting(2, Some(1)),
                setting(4, None),
                setting(1, Some(4))
            ]
        );
    }

    proptest! {
        #[test]
        fn candidates_are_few_different_and_never_what_runs_now(
            cores in 1_u32..=128,
            connections in 1_u32..=1024,
            may_batch: bool,
            may_spin: bool,
            most in 0_usize..10,
            lanes in 1_u32..=128,
        ) {
            let now = Setting { lanes, ..NOW };
            let space = Space { cores, connections, may_batch, may_spin, most };
            let found = candidates(now, &space);
            prop_assert!(found.len() <= most);
            prop_assert!(!found.contains(&now));
            prop_assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), found.len());
            for one in found {
                prop_assert!(one.lanes <= cores.min(connections) && cores.is_multiple_of(one.lanes));
                prop_assert!(one.batch_size.is_none_or(|size| size >= 1 && size <= connections));
                prop_assert!(!one.spin || one.threads(cores) > 1);
            }
        }
    }
}
