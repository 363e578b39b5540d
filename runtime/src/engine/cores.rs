//! The machine's cores and who has each.
//!
//! [`Topology::read`] looks at the machine once; [`CoreMap`] is pure from there on. An instance gets as many distinct cores as
//! its instance type has vCPUs, physical cores before their siblings, those with the fewest other instances first. A machine
//! that is too small gives what it has, evenly; [`Capacity::Strict`] refuses instead.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A core as the kernel numbers it.
pub type CoreId = usize;

/// Longest name of a thread that Linux keeps, in bytes.
const THREAD_NAME_BYTES_MAX: usize = 15;

/// The core that this thread runs on, at this moment.
pub(super) fn current() -> CoreId {
    rustix::thread::sched_getcpu()
}

/// The cores that this process may use, best first: one thread of each physical core, then their siblings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    cores: Vec<CoreId>,
}

impl Topology {
    /// Reads the machine: the affinity mask (cpusets show there too), siblings from `/sys`, and the cgroup's CPU quota.
    #[must_use]
    pub fn read() -> Self {
        let allowed = allowed_cores(rustix::thread::gettid().as_raw_nonzero().get())
            .unwrap_or_else(|| {
                core_affinity::get_core_ids()
                    .unwrap_or_default()
                    .into_iter()
                    .map(|core| core.id)
                    .collect()
            });
        let siblings = |core: CoreId| {
            let list = fs::read_to_string(format!(
                "/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list"
            ));
            list.ok()
                .and_then(|text| parse_cores(&text))
                .unwrap_or_else(|| vec![core])
        };
        Self::new(&allowed, siblings, cgroup_quota())
    }

    /// The topology of `allowed` cores, where `siblings` lists the hardware threads of a core's physical core (itself included)
    /// and `quota` is the CPU time that the process may use, in cores.
    #[must_use]
    pub fn new(
        allowed: &[CoreId],
        siblings: impl Fn(CoreId) -> Vec<CoreId>,
        quota: Option<f64>,
    ) -> Self {
        // Rank 0: the first allowed thread of its physical core; rank 1: the second; and so on.
        let mut ranked: Vec<(usize, CoreId)> = allowed
            .iter()
            .map(|core| {
                (
                    siblings(*core)
                        .iter()
                        .filter(|other| *other < core && allowed.contains(other))
                        .count(),
                    *core,
                )
            })
            .collect();
        ranked.sort_unstable();
        let mut cores: Vec<CoreId> = ranked.into_iter().map(|(_, core)| core).collect();
        if cores.is_empty() {
            cores.push(0);
        }
        if let Some(quota) = quota {
            // A quota of 1.5 cores keeps two cores busy by turns.
            let usable = (1..cores.len())
                .find(|count| f64::from(u32::try_from(*count).unwrap_or(u32::MAX)) >= quota);
            cores.truncate(usable.unwrap_or(cores.len()));
        }
        Self { cores }
    }

    /// The number of cores that there are to give.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cores.len()
    }

    /// Never true: there is always one core.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cores.is_empty()
    }
}

/// The rule for instances that ask for more vCPUs than there are cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Capacity {
    /// Share the cores evenly and say so.
    #[default]
    Overcommit,
    /// Refuse, with numbers, as a quota would.
    Strict,
}

/// Refusal of [`Capacity::Strict`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not enough cores: {asked} vCPUs asked for, {free} of {total} cores free; lower instance_count, choose a smaller instance_type, or serve with --capacity overcommit"
)]
pub struct NotEnoughCores {
    /// vCPUs asked for.
    pub asked: usize,
    /// Cores that no instance has.
    pub free: usize,
    /// Cores in all.
    pub total: usize,
}

/// Cores of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoreGrant {
    /// vCPUs of the instance type.
    pub vcpus: usize,
    /// Distinct cores given, at most `vcpus`, best first.
    pub cores: Vec<CoreId>,
    /// Whether another instance had some of these cores when they were given; who knows which instances leave takes those out.
    pub shared: bool,
}

impl CoreGrant {
    /// Whether both have some core.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.cores.iter().any(|core| other.cores.contains(core))
    }

    /// The cores of each lane: as many lanes as `wanted`, or one for each request at once, which share the cores evenly.
    ///
    /// Never more than requests at once, vCPUs or cores: such a lane would have no work, or no core of its own.
    #[must_use]
    pub fn lanes(&self, concurrency: u32, wanted: Option<u32>) -> Vec<Vec<CoreId>> {
        let wanted = wanted.unwrap_or(concurrency).min(concurrency);
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        let lanes = wanted.min(self.vcpus).min(self.cores.len()).max(1);
        let mut split = vec![Vec::new(); lanes];
        // 8 cores over 3 lanes: 3, 3 and 2.
        for (index, core) in self.cores.iter().enumerate() {
            split[index % lanes].push(*core);
        }
        split
    }
}

/// The cores, and the instances on each.
#[derive(Debug)]
pub struct CoreMap {
    topology: Topology,
    capacity: Capacity,
    /// Instances per core.
    users: BTreeMap<CoreId, usize>,
}

impl CoreMap {
    /// All cores free.
    #[must_use]
    pub fn new(topology: Topology, capacity: Capacity) -> Self {
        let users = topology.cores.iter().map(|core| (*core, 0)).collect();
        Self {
            topology,
            capacity,
            users,
        }
    }

    /// Gives cores to one instance.
    ///
    /// # Errors
    ///
    /// [`NotEnoughCores`] with [`Capacity::Strict`], when fewer than `vcpus` cores are free.
    pub fn grant(&mut self, vcpus: usize) -> Result<CoreGrant, NotEnoughCores> {
        let (total, free) = self.total_and_free();
        if self.capacity == Capacity::Strict && free < vcpus {
            return Err(NotEnoughCores {
                asked: vcpus,
                free,
                total,
            });
        }
        let mut cores = self.topology.cores.clone();
        // Stable: among cores with as many users, the topology's order decides.
        cores.sort_by_key(|core| self.users[core]);
        cores.truncate(vcpus.max(1));
        let shared = cores.iter().any(|core| self.users[core] > 0);
        for core in &cores {
            *self.users.entry(*core).or_default() += 1;
        }
        Ok(CoreGrant {
            vcpus,
            cores,
            shared,
        })
    }

    /// Takes the cores of an instance back.
    pub fn release(&mut self, grant: &CoreGrant) {
        for core in &grant.cores {
            if let Some(users) = self.users.get_mut(core) {
                *users = users.saturating_sub(1);
            }
        }
    }

    /// Cores in all, and cores that no instance has.
    #[must_use]
    pub fn total_and_free(&self) -> (usize, usize) {
        (
            self.users.len(),
            self.users.values().filter(|users| **users == 0).count(),
        )
    }

    /// The rule for when the cores do not suffice.
    #[must_use]
    pub fn capacity(&self) -> Capacity {
        self.capacity
    }
}

/// Where a lane computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendKind {
    /// On its own thread.
    Thread,
    /// In a process of its own.
    Process,
}

/// Asked for and given, per thread, as the kernel sees it (`/proc/self/task/*/status`).
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Placement {
    /// vCPUs of the instance type.
    pub vcpus_asked: usize,
    /// Cores that the instance has.
    pub cores_given: Vec<CoreId>,
    /// Score threads, each with a session of its own.
    pub lanes: usize,
    /// Threads that take part in one run, the score thread included; of the widest lane.
    pub intra_op_threads: usize,
    /// Whether another instance had some of these cores when this one started; not one that it replaced.
    pub shared: bool,
    /// Whether the threads of a lane were to spin while they wait.
    pub spin_asked: bool,
    /// Whether they do: not where a lane has one thread, nor where the cores are shared.
    pub spinning: bool,
    /// Where the lanes compute.
    pub isolation: BackendKind,
    /// The reason why they compute there, in words.
    pub isolation_reason: String,
    /// Whether the kernel lets every thread run on the cores asked for, and on no other.
    pub verified: bool,
    /// Each thread of the instance.
    pub threads: Vec<ThreadPlacement>,
}

/// One thread of an instance.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ThreadPlacement {
    /// As `ps -L` shows it.
    pub name: String,
    /// The kernel's number of the thread.
    pub tid: i32,
    /// Where it was to be pinned.
    pub cores_asked: Vec<CoreId>,
    /// Where the kernel lets it run.
    pub cores_allowed: Vec<CoreId>,
}

impl ThreadPlacement {
    /// The calling thread, by its name, which was asked to keep to this core.
    pub(super) fn of_this_thread(name: String, core: CoreId) -> Self {
        Self {
            name,
            tid: thread_id(),
            cores_asked: vec![core],
            cores_allowed: Vec::new(),
        }
    }

    /// Reads the kernel's view; whether it is what was asked for.
    pub(super) fn verify(&mut self) -> bool {
        self.cores_allowed = allowed_cores(self.tid).unwrap_or_default();
        self.cores_allowed == self.cores_asked
    }
}

/// Pins the calling thread to one core; a refusal shows in the placement.
pub(super) fn pin_to(core: CoreId) {
    if !core_affinity::set_for_current(core_affinity::CoreId { id: core }) {
        tracing::warn!(core, "cannot pin a thread");
    }
}

/// The core that instances are given last.
pub(super) fn last() -> CoreId {
    Topology::read().cores.last().copied().unwrap_or(0)
}

/// The kernel's number of the calling thread.
pub(super) fn thread_id() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

/// `label` cut so that the name with its `suffix` fits what Linux keeps.
pub(super) fn thread_name(label: &str, suffix: &str) -> String {
    let mut end = label
        .len()
        .min(THREAD_NAME_BYTES_MAX.saturating_sub(suffix.len()));
    while !label.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}", &label[..end])
}

/// Cores on which the kernel lets a thread run, of this process or another.
fn allowed_cores(tid: i32) -> Option<Vec<CoreId>> {
    let status = fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    parse_cores(
        status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?,
    )
}

/// Parses the kernel's lists: `0-3,8,10-11`.
fn parse_cores(text: &str) -> Option<Vec<CoreId>> {
    let mut cores = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        cores.extend(first.trim().parse::<CoreId>().ok()?..=last.trim().parse().ok()?);
    }
    Some(cores)
}

/// CPU time that the cgroup may use, in cores: version 2, else version 1.
fn cgroup_quota() -> Option<f64> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"));
    if let Some(quota) = least_quota(Path::new("/sys/fs/cgroup"), own.unwrap_or_default()) {
        return Some(quota);
    }
    let read = |name: &str| fs::read_to_string(format!("/sys/fs/cgroup/cpu/{name}")).ok();
    parse_quota(&format!(
        "{} {}",
        read("cpu.cfs_quota_us")?.trim(),
        read("cpu.cfs_period_us")?.trim()
    ))
}

/// The least quota of group `own` and of the groups around it below `root` (cgroup version 2): each bounds all within it.
fn least_quota(root: &Path, own: &str) -> Option<f64> {
    root.join(own.trim_start_matches('/'))
        .ancestors()
        .take_while(|group| group.starts_with(root))
        .filter_map(|group| parse_quota(&fs::read_to_string(group.join("cpu.max")).ok()?))
        .min_by(f64::total_cmp)
}

/// Parses `quota period`, both in microseconds; `max` or a negative quota is none.
fn parse_quota(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.trim().parse().ok()?);
    (quota > 0.0 && period > 0.0).then_some(quota / period)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `count` cores, where core `n` and core `n + count / 2` are siblings, as on most machines.
    fn paired(count: usize) -> Topology {
        let allowed: Vec<CoreId> = (0..count).collect();
        Topology::new(
            &allowed,
            |core| vec![core % (count / 2), core % (count / 2) + count / 2],
            None,
        )
    }

    #[test]
    fn physical_cores_come_before_their_siblings() {
        let mut map = CoreMap::new(paired(8), Capacity::Overcommit);
        assert_eq!(map.grant(4).unwrap().cores, [0, 1, 2, 3]);
        assert_eq!(map.grant(4).unwrap().cores, [4, 5, 6, 7]);
    }

    #[test]
    fn neighbouring_siblings_are_known_from_the_kernel_too() {
        let topology = Topology::new(&[0, 1, 2, 3], |core| vec![core & !1, core | 1], None);
        assert_eq!(topology.cores, [0, 2, 1, 3]);
    }

    #[test]
    fn a_cpuset_and_a_quota_bound_what_there_is() {
        assert_eq!(
            Topology::new(&[4, 6], |core| vec![core], None).cores,
            [4, 6]
        );
        assert_eq!(
            Topology::new(&[0, 1, 2, 3], |core| vec![core], Some(1.5)).cores,
            [0, 1]
        );
        assert_eq!(
            Topology::new(&[0, 1], |core| vec![core], Some(0.2)).cores,
            [0]
        );
        assert_eq!(
            Topology::new(&[0, 1], |core| vec![core], Some(64.0)).len(),
            2
        );
    }

    #[test]
    fn kernel_lists_and_quotas_are_read() {
        assert_eq!(
            parse_cores("\t0-3,8,10-11\n").unwrap(),
            [0, 1, 2, 3, 8, 10, 11]
        );
        assert_eq!(parse_cores("nonsense"), None);
        assert_eq!(parse_quota("max 100000\n"), None);
        assert_eq!(parse_quota("150000 100000\n"), Some(1.5));
        assert_eq!(parse_quota("-1 100000"), None);
    }

    #[test]
    fn the_least_quota_of_the_groups_around_us_counts() {
        let root = tempfile::tempdir().unwrap();
        let service = root.path().join("system.slice/serin.service");
        fs::create_dir_all(&service).unwrap();
        let own = "/system.slice/serin.service";
        assert_eq!(least_quota(root.path(), own), None);
        fs::write(service.join("cpu.max"), "400000 100000\n").unwrap();
        assert_eq!(least_quota(root.path(), own), Some(4.0));
        fs::write(root.path().join("system.slice/cpu.max"), "150000 100000\n").unwrap();
        assert_eq!(least_quota(root.path(), own), Some(1.5));
        assert_eq!(least_quota(root.path(), "/"), None, "the root has no bound");
    }

    #[test]
    fn strict_capacity_refuses_with_numbers() {
        let mut map = CoreMap::new(paired(8), Capacity::Strict);
        map.grant(6).unwrap();
        assert_eq!(
            map.grant(4).unwrap_err(),
            NotEnoughCores {
                asked: 4,
                free: 2,
                total: 8
            }
        );
    }

    #[test]
    fn lanes_share_the_cores_of_an_instance() {
        let mut map = CoreMap::new(paired(8), Capacity::Overcommit);
        let grant = map.grant(4).unwrap();
        let widths = |concurrency| {
            grant
                .lanes(concurrency, None)
                .iter()
                .map(Vec::len)
                .collect::<Vec<_>>()
        };
        assert_eq!(widths(1), [4]);
        assert_eq!(widths(2), [2, 2]);
        assert_eq!(widths(3), [2, 1, 1]);
        assert_eq!(widths(100), [1, 1, 1, 1]);
    }

    #[test]
    fn lanes_that_are_asked_for_run_up_to_requests_vcpus_and_cores() {
        let grant = CoreMap::new(paired(8), Capacity::Overcommit)
            .grant(4)
            .unwrap();
        let widths = |concurrency, wanted| {
            let lanes = grant.lanes(concurrency, Some(wanted));
            lanes.iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(widths(16, 1), [4]);
        assert_eq!(widths(16, 2), [2, 2]);
        assert_eq!(widths(2, 4), [2, 2], "a third would never have a request");
        assert_eq!(widths(16, 16), [1, 1, 1, 1]);
        assert_eq!(widths(16, 0), [4], "one lane there always is");
        let small = CoreMap::new(paired(2), Capacity::Overcommit)
            .grant(4)
            .unwrap();
        assert_eq!(small.lanes(16, Some(4)).len(), 2);
    }

    #[test]
    fn a_small_machine_gives_what_it_has() {
        let mut map = CoreMap::new(paired(2), Capacity::Overcommit);
        let grants: Vec<CoreGrant> = (0..10).map(|_| map.grant(4).unwrap()).collect();
        assert!(grants.iter().all(|grant| grant.cores.len() == 2));
        assert!(!grants[0].shared && grants[1].shared);
    }

    #[test]
    fn thread_names_fit_what_linux_keeps() {
        assert_eq!(thread_name("myEndpoint/blue", "#12.3"), "myEndpoint#12.3");
        assert_eq!(
            thread_name("é".repeat(20).as_str(), "#1"),
            format!("{}#1", "é".repeat(6))
        );
    }

    proptest! {
        #[test]
        fn cores_are_distinct_and_evenly_shared_and_come_back(
            size in 1_usize..=64,
            asked in proptest::collection::vec(1_usize..=16, 1..40),
        ) {
            let mut map = CoreMap::new(paired(2 * size), Capacity::Overcommit);
            let mut grants = Vec::new();
            for vcpus in asked {
                let grant = map.grant(vcpus).unwrap();
                let distinct: std::collections::BTreeSet<_> = grant.cores.iter().collect();
                prop_assert_eq!(distinct.len(), vcpus.min(2 * size));
                grants.push(grant);
                let (least, most) = (map.users.values().min().unwrap(), map.users.values().max().unwrap());
                prop_assert!(most - least <= 1, "{:?}", map.users);
            }
            for grant in grants {
                map.release(&grant);
            }
            prop_assert_eq!(map.total_and_free(), (2 * size, 2 * size));
        }
    }
}
