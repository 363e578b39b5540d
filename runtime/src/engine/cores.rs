//! The machine's cores and who has each.
//!
//! [`Topology::read`] looks at the machine once; [`CoreMap`] is pure from there on, unless it was told that there are others
//! ([`CoreMap::beside_others`]): then all maps of this process share one book of who has which core, and servers of one user know
//! of each other by locks. An instance gets as many distinct
//! cores as its instance type has vCPUs: those of no other server first, of them those with the fewest other instances, and
//! physical cores before their siblings. A machine that is too small gives what it has, evenly; [`Capacity::Strict`] refuses instead.
//!
//! Threads keep to their cores where those are theirs. Where another server has some of them, or processor time is bounded by a
//! quota, the kernel moves the threads among all cores that the process may use: pinned, they would wait for a core that is busy
//! beside one that is idle.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::engine::core_locks::{CoreLocks, Holder};
use crate::engine::lock::lock;
use crate::observe::cpu_quota;

/// A core as the kernel numbers it.
pub type CoreId = usize;

/// Longest name of a thread that Linux keeps, in bytes.
const THREAD_NAME_BYTES_MAX: usize = 15;

/// The core that this thread runs on, at this moment.
pub(super) fn current() -> CoreId {
    rustix::thread::sched_getcpu()
}

/// The cores that this process may use, best first: one thread of each physical core, then their siblings.
#[derive(Debug, Clone, PartialEq)]
pub struct Topology {
    cores: Vec<CoreId>,
    /// All that the kernel lets its threads run on, in order; more than there are to give where a quota is the bound.
    allowed: Vec<CoreId>,
    /// Processor time that its control groups allow, in cores, where that is less than the cores are.
    quota: Option<f64>,
    /// Whether the machine has more cores than these: then somebody has chosen them for this process.
    is_part: bool,
    /// Whether it is that of the machine, which all of this process share, and not one on paper.
    is_real: bool,
}

impl Topology {
    /// Reads the machine: the affinity mask (cpusets show there too), siblings from `/sys`, and the quota of control groups.
    #[must_use]
    pub fn read() -> Self {
        let allowed = allowed_cores(rustix::thread::gettid().as_raw_nonzero().get())
            .unwrap_or_else(|| {
                let count = std::thread::available_parallelism().map_or(1, usize::from);
                (0..count).collect()
            });
        let siblings = |core: CoreId| {
            let list = fs::read_to_string(format!(
                "/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list"
            ));
            list.ok()
                .and_then(|text| parse_cores(&text))
                .unwrap_or_else(|| vec![core])
        };
        let online = fs::read_to_string("/sys/devices/system/cpu/online").ok();
        let online = online.and_then(|text| parse_cores(&text));
        Self {
            is_part: online.is_some_and(|online| online.len() > allowed.len()),
            is_real: true,
            ..Self::new(&allowed, siblings, cpu_quota())
        }
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
        let mut allowed = cores.clone();
        allowed.sort_unstable();
        let number = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        let quota = quota.filter(|quota| *quota < number(allowed.len()));
        if let Some(quota) = quota {
            // A quota of 1.5 cores keeps two cores busy by turns.
            let usable = (1..cores.len()).find(|count| number(*count) >= quota);
            cores.truncate(usable.unwrap_or(cores.len()));
        }
        Self {
            cores,
            allowed,
            quota,
            is_part: false,
            is_real: false,
        }
    }

    /// The number of cores that there are to give.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cores.len()
    }

    fn total_and_free(&self, book: &Book) -> (usize, usize) {
        let free = self.cores.iter().filter(|core| book.users(**core) == 0);
        (self.cores.len(), free.count())
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

/// Whether threads keep to the cores that their instance was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pinning {
    /// Where no other server of the user has them, and no quota bounds the processor time.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never: the kernel moves them among all cores that the process may use.
    Off,
}

/// Refusal of [`Capacity::Strict`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not enough cores: {asked} vCPUs asked for, {free} of {total} cores free; lower instance_count, choose a smaller instance_type, or let instances share cores (capacity `overcommit`)"
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
    /// Those of them that are locked for it, so that no other server takes them.
    pub locked: Vec<CoreId>,
    /// Whether another instance had some of these cores when they were given; who knows which instances leave takes those out.
    pub shared: bool,
    /// All cores that the process may use, where its threads keep to none of those given.
    pub floats_over: Option<Vec<CoreId>>,
    /// Where its threads run, and why, in words.
    pub pinning: String,
}

impl CoreGrant {
    /// Whether both have some core.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.cores.iter().any(|core| other.cores.contains(core))
    }

    /// The cores of each lane, which share them evenly.
    #[must_use]
    pub fn lanes(&self, concurrency: u32, wanted: Option<u32>) -> Vec<Vec<CoreId>> {
        let lanes = lane_count(concurrency, wanted, self.vcpus.min(self.cores.len()));
        let mut split = vec![Vec::new(); lanes];
        // 8 cores over 3 lanes: 3, 3 and 2.
        for (index, core) in self.cores.iter().enumerate() {
            split[index % lanes].push(*core);
        }
        split
    }
}

/// The number of lanes: as many as `wanted`, or one for each request at once.
///
/// Never more than requests at once, vCPUs or cores: such a lane would have no work, or no core of its own.
#[must_use]
pub fn lane_count(concurrency: u32, wanted: Option<u32>, cores: usize) -> usize {
    let wanted = wanted.unwrap_or(concurrency).min(concurrency);
    let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
    wanted.min(cores).max(1)
}

/// The cores, and the instances on each. Dropped, it gives back what was not released.
#[derive(Debug)]
pub struct CoreMap {
    topology: Topology,
    capacity: Capacity,
    book: Arc<Mutex<Book>>,
    /// What of the book is this map's.
    own: Book,
    pinning: Pinning,
    others: Others,
}

/// Who has which core. A choice of cores is made and written down under one lock, so that two maps never give one core away twice.
#[derive(Debug, Default)]
struct Book {
    /// Instances per core.
    users: BTreeMap<CoreId, usize>,
    /// Instances per core for which it is locked.
    claims: BTreeMap<CoreId, usize>,
    locks: Option<CoreLocks>,
}

/// The book of all maps of this process whose cores are those of the machine.
static PROCESS: LazyLock<Arc<Mutex<Book>>> = LazyLock::new(Arc::default);

impl Book {
    fn users(&self, core: CoreId) -> usize {
        self.users.get(&core).copied().unwrap_or(0)
    }

    fn note(&mut self, grant: &CoreGrant) {
        for core in &grant.cores {
            *self.users.entry(*core).or_default() += 1;
        }
        for core in &grant.locked {
            *self.claims.entry(*core).or_default() += 1;
        }
    }

    fn take_back(&mut self, cores: &[CoreId], locked: &[CoreId]) {
        let less = |counts: &mut BTreeMap<CoreId, usize>, core: &CoreId| {
            if let Some(count) = counts.get_mut(core) {
                *count = count.saturating_sub(1);
            }
        };
        cores.iter().for_each(|core| less(&mut self.users, core));
        locked.iter().for_each(|core| less(&mut self.claims, core));
        self.unlock(locked);
    }

    fn unlock(&mut self, cores: &[CoreId]) {
        if let Some(locks) = &mut self.locks {
            cores.iter().for_each(|core| locks.release(*core));
        }
    }
}

/// What is known of other servers.
#[derive(Debug)]
enum Others {
    /// Nobody asks.
    NotAsked,
    /// Each core is asked for, by the locks of the book.
    Locks,
    /// It cannot be known; the reason.
    Unknown(String),
}

/// The cores of one instance, as they were chosen.
struct Choice {
    cores: Vec<CoreId>,
    locked: Vec<CoreId>,
    /// What another server has of them.
    taken: Vec<(CoreId, Holder)>,
    /// The reason why it is not known who has them.
    unknown: Option<String>,
}

impl CoreMap {
    /// All cores free; threads keep to theirs, whatever others do.
    #[must_use]
    pub fn new(topology: Topology, capacity: Capacity) -> Self {
        Self {
            topology,
            capacity,
            book: Arc::default(),
            own: Book::default(),
            pinning: Pinning::On,
            others: Others::NotAsked,
        }
    }

    /// The same, with regard to others in this process, and to other servers of the user. One of these that serves the same data
    /// is taken for the one whose place this process takes.
    #[must_use]
    pub fn beside_others(mut self, pinning: Pinning, data: Option<&Path>) -> Self {
        self.pinning = pinning;
        if self.topology.is_real {
            self.book = Arc::clone(&PROCESS);
        }
        let never_pins = match pinning {
            Pinning::Auto => self.topology.quota.is_some(),
            Pinning::On => false,
            Pinning::Off => true,
        };
        if !never_pins {
            self.others = self.ask_for_locks(data);
        }
        self
    }

    fn ask_for_locks(&self, data: Option<&Path>) -> Others {
        let mut book = lock(&self.book);
        if let Some(locks) = &mut book.locks {
            locks.serve(data);
            return Others::Locks;
        }
        match CoreLocks::of_this_user(data) {
            Ok(locks) => {
                book.locks = Some(locks);
                Others::Locks
            }
            Err(error) => Others::Unknown(error.to_string()),
        }
    }

    /// Another map of the same cores in the same process; for tests, whose cores are on paper.
    #[cfg(test)]
    pub(crate) fn twin(&self) -> Self {
        let mut twin = Self::new(self.topology.clone(), self.capacity);
        twin.book = Arc::clone(&self.book);
        twin
    }

    /// Gives cores to one instance.
    ///
    /// # Errors
    ///
    /// [`NotEnoughCores`] with [`Capacity::Strict`], when fewer than `vcpus` cores are free.
    pub fn grant(&mut self, vcpus: usize) -> Result<CoreGrant, NotEnoughCores> {
        let shared_book = Arc::clone(&self.book);
        let mut book = lock(&shared_book);
        let (total, free) = self.topology.total_and_free(&book);
        if self.capacity == Capacity::Strict && free < vcpus {
            return Err(NotEnoughCores {
                asked: vcpus,
                free,
                total,
            });
        }
        let mut choice = self.choose(&mut book, vcpus.clamp(1, self.topology.len()));
        let reason = self.reason_to_float(&choice);
        if reason.is_some() {
            book.unlock(&choice.locked);
            choice.locked.clear();
        }
        let grant = CoreGrant {
            vcpus,
            shared: choice.cores.iter().any(|core| book.users(*core) > 0),
            pinning: words_of_pinning(&choice, reason.as_deref()),
            floats_over: reason.map(|_| self.topology.allowed.clone()),
            cores: choice.cores,
            locked: choice.locked,
        };
        book.note(&grant);
        self.own.note(&grant);
        Ok(grant)
    }

    /// The cores with the fewest instances; what another server has only where nothing else is left.
    fn choose(&self, book: &mut Book, count: usize) -> Choice {
        let mut order = self.topology.cores.clone();
        // Stable: among cores with as many users, the topology's order decides.
        order.sort_by_key(|core| book.users(*core));
        let (mut cores, mut locked, mut taken, mut unknown) =
            (Vec::new(), Vec::new(), Vec::new(), None);
        for core in order {
            if cores.len() == count {
                break;
            }
            match self.claim(book, core) {
                Ok(Claim::Locked) => {
                    cores.push(core);
                    locked.push(core);
                }
                Ok(Claim::NotAsked) => cores.push(core),
                Ok(Claim::Taken(holder)) => taken.push((core, holder)),
                Err(why) => {
                    cores.push(core);
                    unknown = Some(why);
                }
            }
        }
        taken.truncate(count - cores.len());
        cores.extend(taken.iter().map(|(core, _)| *core));
        Choice {
            cores,
            locked,
            taken,
            unknown,
        }
    }

    /// Takes a core, unless another server has it, or it cannot be known whether one has.
    fn claim(&self, book: &mut Book, core: CoreId) -> Result<Claim, String> {
        match (&self.others, &mut book.locks) {
            (Others::Unknown(why), _) => Err(why.clone()),
            (Others::Locks, Some(locks)) => match locks.claim(core) {
                Ok(None) => Ok(Claim::Locked),
                Ok(Some(holder)) => Ok(Claim::Taken(holder)),
                Err(error) => Err(format!("core {core} cannot be locked: {error}")),
            },
            (Others::NotAsked, _) | (Others::Locks, None) => Ok(Claim::NotAsked),
        }
    }

    /// The reason why the threads of an instance are not to keep to these cores.
    fn reason_to_float(&self, choice: &Choice) -> Option<String> {
        match (self.pinning, self.topology.quota, &choice.unknown) {
            (Pinning::On, ..) => None,
            (Pinning::Off, ..) => Some("as asked (pin off)".to_owned()),
            (Pinning::Auto, Some(quota), _) => Some(format!(
                "this group may use {} CPU of {} cores, so threads are made for {}: more would be throttled",
                // Two digits are all that anybody writes.
                (quota * 100.0).round() / 100.0,
                self.topology.allowed.len(),
                cores_in_words(&self.topology.cores).0,
            )),
            (Pinning::Auto, None, Some(why)) => {
                (!self.topology.is_part).then(|| format!("other servers cannot be known: {why}"))
            }
            (Pinning::Auto, None, None) => words_of_taken(&choice.taken),
        }
    }

    /// Takes the cores of an instance back.
    pub fn release(&mut self, grant: &CoreGrant) {
        lock(&self.book).take_back(&grant.cores, &grant.locked);
        self.own.take_back(&grant.cores, &grant.locked);
    }

    /// Cores in all, and cores that no instance of this process has.
    #[must_use]
    pub fn total_and_free(&self) -> (usize, usize) {
        self.topology.total_and_free(&lock(&self.book))
    }

    /// Whether instances of another map of this process have some of these cores now.
    #[must_use]
    pub fn others_have_some_of(&self, grant: &CoreGrant) -> bool {
        let book = lock(&self.book);
        let mut cores = grant.cores.iter();
        cores.any(|core| book.users(*core) > self.own.users(*core))
    }

    /// The rule for when the cores do not suffice.
    #[must_use]
    pub fn capacity(&self) -> Capacity {
        self.capacity
    }
}

impl Drop for CoreMap {
    fn drop(&mut self) {
        let mut book = lock(&self.book);
        let all = |counts: &BTreeMap<CoreId, usize>| -> Vec<CoreId> {
            let each = counts.iter();
            each.flat_map(|(core, count)| std::iter::repeat_n(*core, *count))
                .collect()
        };
        book.take_back(&all(&self.own.users), &all(&self.own.claims));
    }
}

/// The answer of a core that is asked for.
enum Claim {
    /// It is locked for one more instance.
    Locked,
    /// Another server has it.
    Taken(Holder),
    /// Nobody is asked.
    NotAsked,
}

/// How many cores, and which, as `core 0` or `cores 0-2,5`.
fn cores_in_words(cores: &[CoreId]) -> (String, String) {
    let mut sorted = cores.to_vec();
    sorted.sort_unstable();
    let mut ranges: Vec<(CoreId, CoreId)> = Vec::new();
    for core in sorted {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == core => *last = core,
            _ => ranges.push((core, core)),
        }
    }
    let ranges = ranges.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    let list = ranges.collect::<Vec<_>>().join(",");
    match cores.len() {
        1 => ("one".to_owned(), format!("core {list}")),
        count => (count.to_string(), format!("cores {list}")),
    }
}

/// Who has the first of these cores, and which of them it has.
fn words_of_taken(taken: &[(CoreId, Holder)]) -> Option<String> {
    let (_, holder) = taken.first()?;
    let same = taken.iter().filter(|(_, other)| other == holder);
    let cores: Vec<_> = same.map(|(core, _)| *core).collect();
    let are = if cores.len() == 1 { "is" } else { "are" };
    Some(format!("{} {are} {holder}", cores_in_words(&cores).1))
}

fn words_of_pinning(choice: &Choice, reason_to_float: Option<&str>) -> String {
    let pinned = format!("pinned to {}", cores_in_words(&choice.cores).1);
    match (reason_to_float, words_of_taken(&choice.taken)) {
        (Some(reason), _) => format!("not pinned: {reason}"),
        (None, Some(taken)) => format!("{pinned}, although {taken}"),
        (None, None) => pinned,
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
    /// Whether its threads keep to these cores.
    pub pinned: bool,
    /// The same in words, with the reason.
    pub pinning: String,
    /// Whether the threads of a lane were to spin while they wait.
    pub spin_asked: bool,
    /// Whether they do: not where a lane has one thread, nor where the cores are shared or not its own.
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
    /// Where it was to run: on one core, or among all that the process may use.
    pub cores_asked: Vec<CoreId>,
    /// Where the kernel lets it run.
    pub cores_allowed: Vec<CoreId>,
}

impl ThreadPlacement {
    /// The calling thread, by its name, which was asked to run there.
    pub(super) fn of_this_thread(name: String, cores_asked: Vec<CoreId>) -> Self {
        Self {
            name,
            tid: thread_id(),
            cores_asked,
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
    let mut cores = CpuSet::new();
    // A set has a bound, and panics beyond it.
    let pinned = core < CpuSet::MAX_CPU && {
        cores.set(core);
        sched_setaffinity(None, &cores).is_ok()
    };
    if !pinned {
        tracing::warn!(core, "cannot pin a thread");
    }
}

/// Has the calling thread keep to this core, unless it is to float; the cores on which it may run then.
pub(super) fn place(core: CoreId, floats_over: Option<&[CoreId]>) -> Vec<CoreId> {
    if let Some(all) = floats_over {
        return all.to_vec();
    }
    pin_to(core);
    vec![core]
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::core_locks;

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
    fn kernel_lists_are_read() {
        assert_eq!(
            parse_cores("\t0-3,8,10-11\n").unwrap(),
            [0, 1, 2, 3, 8, 10, 11]
        );
        assert_eq!(parse_cores("nonsense"), None);
    }

    /// A server on these cores that asks for locks in a folder.
    fn server(topology: Topology, pinning: Pinning, folder: &Path) -> CoreMap {
        let mut map = CoreMap::new(topology, Capacity::Overcommit);
        lock(&map.book).locks = Some(core_locks::in_folder(folder, "").unwrap());
        (map.pinning, map.others) = (pinning, Others::Locks);
        map
    }

    /// Another map of the same process, with the same locks.
    fn second(map: &CoreMap) -> CoreMap {
        let mut twin = map.twin();
        (twin.pinning, twin.others) = (map.pinning, Others::Locks);
        twin
    }

    #[test]
    fn two_in_one_process_take_cores_of_their_own_as_long_as_there_are_some() {
        let mut one = CoreMap::new(paired(4), Capacity::Overcommit);
        let mut other = one.twin();
        assert_eq!(one.grant(2).unwrap().cores, [0, 1]);
        let theirs = other.grant(2).unwrap();
        assert_eq!(
            (theirs.cores.as_slice(), theirs.shared),
            (&[2, 3][..], false)
        );
        assert_eq!(
            (one.total_and_free(), other.total_and_free()),
            ((4, 0), (4, 0))
        );
        let crowded = one.grant(1).unwrap();
        assert!(crowded.shared, "it has a core of one of the four");
        assert!(!one.others_have_some_of(&crowded), "but of its own");
        assert!(other.grant(4).unwrap().shared);
        assert!(one.others_have_some_of(&crowded));
    }

    #[test]
    fn what_one_of_a_process_gives_back_the_other_can_have() {
        let mut one = CoreMap::new(paired(4), Capacity::Strict);
        let mut other = one.twin();
        let all = one.grant(4).unwrap();
        let refused = NotEnoughCores {
            asked: 1,
            free: 0,
            total: 4,
        };
        assert_eq!(other.grant(1), Err(refused));
        one.release(&all);
        other.grant(3).unwrap();
        drop(other);
        assert_eq!(one.total_and_free(), (4, 4), "also when it ends");
    }

    #[test]
    fn strict_capacity_holds_across_all_of_a_process_that_ask_at_once() {
        let one = CoreMap::new(paired(8), Capacity::Strict);
        let barrier = std::sync::Barrier::new(8);
        let (given, kept) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                let (mut map, given, barrier) = (one.twin(), given.clone(), &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    let grants: Vec<_> = (0..8).filter_map(|_| map.grant(1).ok()).collect();
                    given.send((map, grants)).unwrap();
                });
            }
        });
        drop(given);
        let kept: Vec<_> = kept.iter().collect();
        let cores = kept.iter().flat_map(|(_, grants)| grants);
        let mut cores: Vec<_> = cores.flat_map(|grant| grant.cores.clone()).collect();
        cores.sort_unstable();
        assert_eq!(cores, (0..8).collect::<Vec<_>>());
    }

    #[test]
    fn two_in_one_process_share_a_lock_and_it_goes_with_the_last_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let mut one = server(plain(&[0], None), Pinning::Auto, folder.path());
        let mut other = second(&one);
        let mut stranger = server(plain(&[0], None), Pinning::Auto, folder.path());
        let first = one.grant(1).unwrap();
        let theirs = other.grant(1).unwrap();
        assert_eq!((theirs.floats_over.as_ref(), theirs.shared), (None, true));
        one.release(&first);
        let floating = stranger.grant(1).unwrap();
        assert!(floating.floats_over.is_some(), "{}", floating.pinning);
        stranger.release(&floating);
        drop(other);
        assert_eq!(stranger.grant(1).unwrap().pinning, "pinned to core 0");
    }

    #[test]
    fn who_was_given_a_core_of_another_server_gives_no_lock_back_but_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let start = |pinning| server(plain(&[0], None), pinning, folder.path());
        let (mut before, mut one, mut third) = (
            start(Pinning::Auto),
            start(Pinning::On),
            start(Pinning::Auto),
        );
        let held = before.grant(1).unwrap();
        let beside = one.grant(1).unwrap();
        assert!(beside.locked.is_empty());
        before.release(&held);
        let _own = one.grant(1).unwrap();
        one.release(&beside);
        assert!(
            third.grant(1).unwrap().floats_over.is_some(),
            "the lock is held"
        );
    }

    #[test]
    fn maps_of_the_machine_that_are_to_know_of_others_have_one_book() {
        let read = || CoreMap::new(Topology::read(), Capacity::Overcommit);
        let one = read().beside_others(Pinning::Off, None);
        let other = read().beside_others(Pinning::Off, None);
        assert!(Arc::ptr_eq(&one.book, &other.book));
        assert!(
            !Arc::ptr_eq(&one.book, &read().book),
            "who was not told so has its own"
        );
        let paper = CoreMap::new(paired(2), Capacity::Overcommit);
        let paper = paper.beside_others(Pinning::Off, None);
        assert!(!Arc::ptr_eq(&one.book, &paper.book));
    }

    /// Cores without siblings.
    fn plain(allowed: &[CoreId], quota: Option<f64>) -> Topology {
        Topology::new(allowed, |core| vec![core], quota)
    }

    #[test]
    fn servers_beside_each_other_take_cores_of_their_own_as_long_as_there_are_some() {
        let folder = tempfile::tempdir().unwrap();
        let start = || server(paired(4), Pinning::Auto, folder.path());
        let (mut one, mut other, mut third) = (start(), start(), start());
        let first = one.grant(1).unwrap();
        assert_eq!(
            (first.cores.as_slice(), first.floats_over),
            (&[0][..], None)
        );
        assert_eq!(first.pinning, "pinned to core 0");
        let second = other.grant(2).unwrap();
        assert_eq!(second.cores, [1, 2]);
        assert_eq!(second.pinning, "pinned to cores 1-2");
        // A new version beside the old one: rather on its own core than on another server's.
        let newer = one.grant(2).unwrap();
        assert_eq!((newer.cores.as_slice(), newer.shared), (&[3, 0][..], true));
        assert_eq!(newer.pinning, "pinned to cores 0,3");
        let crowded = third.grant(2).unwrap();
        let here = std::process::id();
        assert_eq!(crowded.floats_over, Some(vec![0, 1, 2, 3]));
        assert_eq!(
            crowded.pinning,
            format!("not pinned: cores 0-1 are held by serin with pid {here}")
        );
        other.release(&second);
        assert_eq!(third.grant(2).unwrap().pinning, "pinned to cores 1-2");
    }

    #[test]
    fn an_instance_that_shares_some_cores_with_another_server_leaves_the_free_ones_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let start = || server(plain(&[0, 1], None), Pinning::Auto, folder.path());
        let (mut one, mut wide, mut third) = (start(), start(), start());
        one.grant(1).unwrap();
        let floating = wide.grant(4).unwrap();
        assert_eq!(floating.floats_over, Some(vec![0, 1]));
        assert_eq!(
            floating.lanes(2, None).len(),
            2,
            "the kernel finds them room"
        );
        assert_eq!(third.grant(1).unwrap().cores, [1]);
        // It has no lock to give back.
        wide.release(&floating);
        assert!(wide.grant(1).unwrap().floats_over.is_some());
    }

    #[test]
    fn who_asks_for_it_is_pinned_beside_another_server_and_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let start = |pinning| server(plain(&[0, 1], None), pinning, folder.path());
        let (mut one, mut other) = (start(Pinning::Auto), start(Pinning::On));
        one.grant(1).unwrap();
        let grant = other.grant(2).unwrap();
        assert_eq!(grant.floats_over, None);
        let here = std::process::id();
        assert_eq!(
            grant.pinning,
            format!("pinned to cores 0-1, although core 0 is held by serin with pid {here}")
        );
        assert_eq!(
            start(Pinning::Off).grant(1).unwrap().pinning,
            "not pinned: as asked (pin off)"
        );
    }

    #[test]
    fn a_quota_bounds_the_threads_and_nothing_is_pinned() {
        let granted = |quota, vcpus| {
            let map = CoreMap::new(plain(&[0, 1, 2, 3], Some(quota)), Capacity::Overcommit);
            map.beside_others(Pinning::Auto, None).grant(vcpus).unwrap()
        };
        let half = granted(0.5, 4);
        assert_eq!(half.lanes(4, None).len(), 1);
        assert_eq!(half.floats_over, Some(vec![0, 1, 2, 3]));
        assert_eq!(
            half.pinning,
            "not pinned: this group may use 0.5 CPU of 4 cores, so threads are made for one: more would be throttled"
        );
        assert_eq!(granted(2.25, 4).lanes(4, None).len(), 3);
        let on = CoreMap::new(plain(&[0, 1], Some(0.5)), Capacity::Overcommit);
        let on = on.beside_others(Pinning::On, None).grant(2).unwrap();
        assert_eq!((on.cores.as_slice(), on.floats_over), (&[0][..], None));
        let whole = plain(&[0, 1], Some(2.0));
        assert_eq!(whole.quota, None, "it is no bound");
    }

    #[test]
    fn where_other_servers_cannot_be_known_only_cores_that_were_chosen_for_it_are_pinned() {
        let granted = |is_part| {
            let topology = Topology {
                is_part,
                ..plain(&[4, 6], None)
            };
            let mut map = CoreMap::new(topology, Capacity::Overcommit);
            map.pinning = Pinning::Auto;
            map.others = Others::Unknown("no folder".to_owned());
            map.grant(2).unwrap()
        };
        assert_eq!(granted(true).pinning, "pinned to cores 4,6");
        assert_eq!(
            granted(false).pinning,
            "not pinned: other servers cannot be known: no folder"
        );
    }

    #[test]
    fn a_machine_without_locks_goes_on_without_them() {
        let folder = tempfile::tempdir().unwrap();
        let mut map = server(plain(&[0, 1], None), Pinning::Auto, folder.path());
        fs::create_dir(folder.path().join("core-1")).unwrap();
        assert_eq!(map.grant(1).unwrap().cores, [0]);
        let words = map.grant(1).unwrap().pinning;
        assert!(
            words.starts_with("not pinned: other servers cannot be known: core 1 cannot be locked"),
            "{words}"
        );
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
                let users = &lock(&map.book).users;
                let of = |core| users.get(&core).copied().unwrap_or(0);
                let (least, most) = ((0..2 * size).map(of).min().unwrap(), (0..2 * size).map(of).max().unwrap());
                prop_assert!(most - least <= 1, "{users:?}");
            }
            for grant in grants {
                map.release(&grant);
            }
            prop_assert_eq!(map.total_and_free(), (2 * size, 2 * size));
        }
    }
}
