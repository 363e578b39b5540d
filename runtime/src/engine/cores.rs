//! The machine's cores and who has each. Pure: the topology is an argument.

/// Core as the kernel numbers it.
pub type CoreId = usize;

/// What this process may use: allowed cores (cpuset, affinity), siblings, cgroup quota.
#[derive(Debug, Clone)]
pub struct Topology {}

impl Topology {
    /// Reads the machine.
    pub fn read() -> Self {
        todo!()
    }
}

/// What to do when instances ask for more vCPUs than there are cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Capacity {
    /// Share the cores evenly and say so.
    #[default]
    Overcommit,
    /// Refuse, with numbers, as a quota would.
    Strict,
}

/// Refusal of [`Capacity::Strict`].
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "not enough cores: {asked} vCPUs asked for, {free} of {total} free; lower instance_count, choose a smaller instance_type, or serve with --capacity overcommit"
)]
pub struct NotEnoughCores {
    pub asked: usize,
    pub free: usize,
    pub total: usize,
}

/// Cores of one instance and the thread counts that follow (design section 3).
#[derive(Debug, Clone)]
pub struct CoreGrant {
    /// vCPUs of the SKU.
    pub vcpus: usize,
    /// Distinct cores given, at most `vcpus`.
    pub cores: Vec<CoreId>,
    /// Whether another instance has some of these cores too.
    pub shared: bool,
    pub(crate) ticket: u64,
}

/// Who has which core.
#[derive(Debug)]
pub struct CoreMap {}

impl CoreMap {
    pub fn new(_topology: Topology, _capacity: Capacity) -> Self {
        todo!()
    }
    pub fn grant(&mut self, _vcpus: usize) -> Result<CoreGrant, NotEnoughCores> {
        todo!()
    }
    pub fn release(&mut self, _grant: CoreGrant) {
        todo!()
    }
    /// Cores in all, and cores that no instance has.
    pub fn total_and_free(&self) -> (usize, usize) {
        todo!()
    }
}

/// Asked for and given, per thread, as the kernel sees it (`/proc/self/task/*/status`).
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Placement {
    pub vcpus_asked: usize,
    pub cores_given: Vec<CoreId>,
    pub lanes: usize,
    pub intra_op_threads: usize,
    pub shared: bool,
    /// Every thread's kernel mask is within the cores given.
    pub verified: bool,
    pub threads: Vec<ThreadPlacement>,
}

/// One thread of an instance.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct ThreadPlacement {
    pub name: String,
    pub tid: i32,
    pub cores_asked: Vec<CoreId>,
    pub cores_allowed: Vec<CoreId>,
}
