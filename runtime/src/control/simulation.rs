//! Random lives of a server, against the promises of the control plane.
//!
//! Goal: no order of changes, late or failed or hanging starts, deaths, full disks, crashes and restarts breaks a promise. Method:
//! a script of acts is drawn from a seed and played in virtual time against the real desired state and reconciler; engine,
//! disk and table are of paper. Each act says *which* of what is there it means by a number, so that a script stays playable when
//! acts are left out: a script that fails is shortened act by act, and printed with its seed.
//!
//! `SERIN_SIMULATION_SCRIPTS=1000000` plays so many, `SERIN_SIMULATION_SEED=7` begins with that one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::control::books::{Books, DeploymentBook, Phase, waiting_max};
use crate::control::build::{Build, InstanceNo, Need};
use crate::control::change::{Change, DeploymentUpdate, EndpointUpdate, KeyType};
use crate::control::desired::{Desired, DesiredEndpoint, Generation, Settlement, SplitOutcome};
use crate::control::event::{Command, Event, Facts, Key, NeedNotes, NewInstance, Outcome, Shown};
use crate::control::gathering::{Gathered, GatheredScript};
use crate::control::models::Models;
use crate::control::models::{ModelDigest, ModelRecord};
use crate::control::needs::ScriptSource;
use crate::control::operation::replaced_by;
use crate::control::operation::{Operation, OperationId, ProvisioningState};
use crate::control::reconcile::on;
use crate::control::refusal::NotApplied;
use crate::control::revision::Revision;
use crate::control::script::StoredRecipe;
use crate::control::validator::{Context, Past};
use crate::control::view::view;
use crate::engine::{Capacity, CoreGrant, CoreMap, Topology};
use crate::environments::Recipe;
use crate::evidence::SplitMix64;
use crate::spec::{
    Assignment, CodeConfiguration, DeploymentName, DeploymentSpec, EndpointName, EndpointSpec,
    EnvironmentSource, ModelRef, Percent, SkuTable, TrafficSplit, VersionRef,
};

/// Scripts of every run of the tests.
const SCRIPTS: u64 = 2_000;
const ACTS_MAX: usize = 60;
const MODELS: [&str; 4] = ["1", "2", "3", "4"];
/// Files of environments.
const ENVIRONMENTS: [&str; 2] = ["/one.txt", "/two.txt"];
const DEPLOYMENTS: [&str; 3] = ["blue", "green", "red"];
const ENDPOINTS: [&str; 2] = ["iris", "wine"];
/// vCPUs: 2 and 4.
const SKUS: [&str; 2] = ["Standard_F2s_v2", "Standard_F4s_v2"];

/// One thing that happens. Numbers choose among what is there.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// Somebody asks for a change.
    Change { kind: usize, a: usize, b: usize },
    /// Something that is under way ends, well or not.
    End { which: usize, well: bool },
    /// Something that is under way will not end before the next crash, if ever.
    Hang { which: usize },
    /// A ready instance dies.
    Kill { which: usize },
    /// Time passes.
    Wait { ms: u64 },
    /// The disk is full from now on, or has room again.
    Disk { full: bool },
    /// The process is killed and starts again.
    Crash,
    /// The process is killed when it has carried out so many more commands, and starts again.
    Fuse { commands: usize },
    /// The process is killed and starts again on a machine with another number of cores.
    Move { cores: usize },
    /// The server ends as it should, but for what hangs, and starts again.
    Shutdown,
}

fn draw(random: &mut SplitMix64) -> Act {
    let (a, b) = (random.below(1 << 16), random.below(1 << 16));
    match random.below(100) {
        0..32 => Act::Change {
            kind: random.below(100),
            a,
            b,
        },
        32..72 => Act::End {
            which: a,
            well: random.below(5) > 0,
        },
        72..76 => Act::Hang { which: a },
        76..82 => Act::Kill { which: a },
        82..92 => Act::Wait {
            ms: [10, 600, 5_000, 130_000][random.below(4)],
        },
        92..95 => Act::Disk {
            full: random.below(3) == 0,
        },
        95 => Act::Shutdown,
        96 => Act::Move {
            cores: [4, 6, 12][random.below(3)],
        },
        97..99 => Act::Fuse {
            commands: random.below(12),
        },
        _ => Act::Crash,
    }
}

/// The names and numbers that a change is made of.
struct Words {
    endpoint: EndpointName,
    name: DeploymentName,
    a: usize,
    b: usize,
}

impl Words {
    fn new(a: usize, b: usize) -> Self {
        let endpoint = ENDPOINTS[usize::from(a.is_multiple_of(8))];
        Self {
            endpoint: endpoint.parse().expect("a name"),
            name: DEPLOYMENTS[b % 3].parse().expect("a name"),
            a,
            b,
        }
    }

    fn file(&self) -> DeploymentSpec {
        let version = MODELS[(self.a / 8) % MODELS.len()];
        let model = ModelRef::Registered {
            name: "digits".parse().expect("a name"),
            version: VersionRef::Exact(version.parse().expect("a version")),
        };
        let sku = SKUS[(self.b / 3) % 2];
        let mut spec = DeploymentSpec::new(self.name.clone(), model, sku);
        spec.set(&[set("instance_count", 1 + (self.b / 6) % 3)])
            .expect("a count");
        if (self.a / 32).is_multiple_of(4) {
            run_script(&mut spec, ENVIRONMENTS[(self.a / 128) % 2]);
        }
        spec
    }

    /// `blue:90,green:10` and the like.
    fn split(&self) -> TrafficSplit {
        let percent = [0, 10, 50, 90, 100][(self.a / 3) % 5];
        let other = DEPLOYMENTS[(self.b + 1) % 3];
        let split = format!("{}:{percent},{other}:{}", self.name, 100 - percent);
        split.parse().expect("a split")
    }

    fn update(&self, update: DeploymentUpdate) -> Change {
        Change::UpdateDeployment {
            endpoint: self.endpoint.clone(),
            name: self.name.clone(),
            update,
        }
    }

    fn set(&self, path: &str, value: usize) -> Change {
        self.update(DeploymentUpdate {
            set: vec![set(path, value)],
            ..DeploymentUpdate::default()
        })
    }

    fn by_file(&self, upsert: bool) -> DeploymentUpdate {
        DeploymentUpdate {
            file: Some(self.file()),
            upsert,
            ..DeploymentUpdate::default()
        }
    }

    fn update_endpoint(&self, update: EndpointUpdate) -> Change {
        Change::UpdateEndpoint {
            name: self.endpoint.clone(),
            update,
        }
    }

    fn change(&self, kind: usize) -> Change {
        let (endpoint, name) = (self.endpoint.clone(), self.name.clone());
        match kind {
            0..10 => Change::CreateEndpoint {
                endpoint: EndpointSpec::new(endpoint),
                deployments: (0..usize::from(self.b.is_multiple_of(4)))
                    .map(|_| self.file())
                    .collect(),
            },
            10..12 => Change::DeleteEndpoint { name: endpoint },
            12..34 => Change::CreateDeployment {
                endpoint,
                deployment: self.file(),
                all_traffic: self.a.is_multiple_of(3),
            },
            34..46 => self.update(self.by_file(self.a.is_multiple_of(2))),
            46..52 => self.set("instance_count", 1 + self.a % 4),
            52..55 => self.set("request_settings.request_timeout_ms", 100 + self.a % 9),
            55..58 => self.set(
                "request_settings.max_waiting_requests_per_instance",
                self.a % 9,
            ),
            58..80 => self.update_endpoint(EndpointUpdate {
                traffic: Some(self.split()),
                ..EndpointUpdate::default()
            }),
            80..90 => self.update_endpoint(EndpointUpdate {
                deployment: Some((name, self.by_file(true))),
                traffic: Some(self.split()),
                ..EndpointUpdate::default()
            }),
            90..92 => Change::RollBack {
                endpoint,
                to: Revision(1 + u64::try_from(self.b % 40).expect("a small number")),
            },
            92..94 => Change::DeleteDeployment {
                endpoint: Some(endpoint),
                name,
            },
            94..97 => Change::RegenerateKey {
                endpoint,
                key: KeyType::Primary,
            },
            _ => self.update_endpoint(EndpointUpdate {
                traffic: Some(TrafficSplit::all_to(name)),
                deployments: Some(vec![self.file()]),
                ..EndpointUpdate::default()
            }),
        }
    }
}

/// Has a deployment run a scoring script in this environment.
fn run_script(spec: &mut DeploymentSpec, environment: &str) {
    spec.code_configuration = Some(CodeConfiguration {
        code: Some("/code".into()),
        scoring_script: Some("score.py".into()),
        relative_to: None,
    });
    spec.kept
        .insert("environment".to_owned(), environment.into());
}

/// The files of all scoring scripts.
fn gathered() -> Gathered {
    let script = |file: &&str| {
        let file = PathBuf::from(*file);
        let recipe = Recipe::read(&file, &format!("six # {}", file.display()), &|_| {
            Ok(String::new())
        });
        let source = ScriptSource {
            code: "/code".into(),
            environment: Some(EnvironmentSource::File(file)),
            any_python: false,
        };
        let script = GatheredScript {
            code: ModelDigest::for_test("code"),
            folder: "code".to_owned(),
            files: BTreeSet::from(["score.py".to_owned()]),
            recipe: Some(StoredRecipe::of(&recipe.expect("a recipe"))),
        };
        (source, Ok(script))
    };
    Gathered {
        models: BTreeMap::new(),
        scripts: ENVIRONMENTS.iter().map(script).collect(),
    }
}

/// A script: the seed gives the machine and the acts.
fn script(seed: u64) -> (Option<usize>, Vec<Act>) {
    let mut random = SplitMix64::new(seed);
    let cores = [None, None, Some(6), Some(12)][random.below(4)];
    let count = 10 + random.below(ACTS_MAX - 10);
    (cores, (0..count).map(|_| draw(&mut random)).collect())
}

/// Something that is under way and ends with an event.
#[derive(Debug, Clone)]
enum UnderWay {
    Try(Need),
    Start(InstanceNo),
    Retire(Vec<InstanceNo>),
}

/// An instance of paper.
#[derive(Debug)]
struct Sheet {
    key: Key,
    build: Build,
    cores: CoreGrant,
    /// Its start has been told to have gone well.
    ready: bool,
    /// Requests see it, or have seen it.
    shown: bool,
    retiring: bool,
    dead: bool,
    /// It was started as one that is not to run within the server.
    isolated: bool,
}

/// An accepted change as the oracle sees it.
#[derive(Debug)]
struct Asked {
    endpoint: EndpointName,
    /// The split that it asked for and that was not in force at once.
    split: Option<TrafficSplit>,
    /// Deployments whose instances had to start.
    parts: Vec<DeploymentName>,
}

/// The world around the books.
struct World {
    cores: Option<usize>,
    now: Instant,
    // On disk.
    revision: Revision,
    desired: Arc<Desired>,
    /// The states as the store keeps them.
    past: BTreeMap<Revision, Arc<Desired>>,
    operations: BTreeMap<OperationId, Operation>,
    disk_full: bool,
    /// Ends of operations that are not on disk: the disk was full.
    unwritten: BTreeSet<OperationId>,
    /// Operations whose end a full disk has lost for good: a restart finds out what it can.
    forgotten: BTreeSet<OperationId>,
    /// Operations of which it is on disk that they failed, told or not.
    failed: BTreeSet<OperationId>,
    /// Whether nothing has failed, hung or died so far, but for the process.
    fair: bool,
    // Of this process.
    books: Books,
    under_way: Vec<UnderWay>,
    hanging: Vec<UnderWay>,
    sheets: BTreeMap<InstanceNo, Sheet>,
    table: BTreeMap<EndpointName, Shown>,
    /// Commands until the process is killed.
    fuse: Option<usize>,
    /// Ends of operations that are not on disk yet: told with the event that is being carried out.
    unsynced: Vec<OperationId>,
    stopping: bool,
    /// Operations that an earlier process left open.
    reopened: BTreeSet<OperationId>,
    /// Deployments of which a death was seen.
    bereaved: BTreeSet<Key>,
    // What should hold.
    asked: BTreeMap<OperationId, Asked>,
    /// The split that each endpoint should have in force.
    in_force: BTreeMap<EndpointName, TrafficSplit>,
    skus: SkuTable,
    models: Models,
    /// Acts, events and commands, one a line, where somebody reads them.
    trace: Option<Vec<String>>,
    /// Of the situations that the scripts are to bring about, those that this one has.
    met: BTreeSet<&'static str>,
}

/// Situations that some script must bring about, or the scripts prove less than they seem to.
const SITUATIONS: [&str; 17] = [
    "a trial was ended that nobody waited for",
    "a build was ended that nobody waited for",
    "an environment was built for two deployments at once",
    "an environment could not be built",
    "an operation succeeded",
    "an operation failed",
    "an operation was canceled",
    "a split came in force with its instances",
    "a split was dropped",
    "a settlement could not be stored",
    "an instance died that requests saw",
    "a good instance came back after a death",
    "a roll went one by one",
    "room was made before a successor was ready",
    "a start that nobody waited for ended well",
    "an operation went on after a crash",
    "an earlier revision came back",
];

fn record(version: &str) -> ModelRecord {
    ModelRecord {
        name: "digits".parse().expect("a name"),
        version: version.parse().expect("a version"),
        digest: ModelDigest::for_test(version),
        size_bytes: 1,
        path: "/m".into(),
        created_at: jiff::Timestamp::UNIX_EPOCH,
        created_by: "me".to_owned(),
        without_onnx: None,
        is_folder: None,
        about: crate::spec::ModelAbout::default(),
    }
}

fn books(desired: &Arc<Desired>, cores: Option<usize>) -> Books {
    let capacity = cores.map_or(Capacity::Overcommit, |_| Capacity::Strict);
    let all: Vec<_> = (0..cores.unwrap_or(4)).collect();
    let topology = Topology::new(&all, |core| vec![core], None);
    Books::new(Arc::clone(desired), CoreMap::new(topology, capacity), [])
}

fn nth<T>(all: &[T], which: usize) -> Option<&T> {
    (!all.is_empty()).then(|| &all[which % all.len()])
}

impl World {
    fn new(cores: Option<usize>) -> Self {
        let desired = Arc::new(Desired::default());
        Self {
            books: books(&desired, cores),
            cores,
            now: Instant::now(),
            revision: Revision(0),
            desired,
            past: BTreeMap::new(),
            operations: BTreeMap::new(),
            disk_full: false,
            unwritten: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            failed: BTreeSet::new(),
            fair: true,
            fuse: None,
            unsynced: Vec::new(),
            stopping: false,
            under_way: Vec::new(),
            hanging: Vec::new(),
            sheets: BTreeMap::new(),
            table: BTreeMap::new(),
            reopened: BTreeSet::new(),
            bereaved: BTreeSet::new(),
            asked: BTreeMap::new(),
            in_force: BTreeMap::new(),
            skus: SkuTable::builtin(),
            models: Models::new(MODELS.iter().map(|version| record(version)).collect()),
            trace: None,
            met: BTreeSet::new(),
        }
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(line());
        }
    }

    fn act(&mut self, act: Act) {
        self.note(|| format!("{act:?}"));
        match act {
            Act::Change { kind, a, b } => {
                self.submit(&Words::new(a, b).change(kind));
            }
            Act::End { which, well } => self.end(which, well),
            Act::Hang { which } => {
                if !self.under_way.is_empty() {
                    self.fair = false;
                    let at = which % self.under_way.len();
                    self.hanging.push(self.under_way.remove(at));
                }
            }
            Act::Kill { which } => self.kill(which),
            Act::Wait { ms } => {
                // A start that is made to wait so long is overdue.
                self.fair &= ms < 100_000;
                self.now += Duration::from_millis(ms);
                self.feed(Event::Tick);
            }
            Act::Disk { full } => {
                self.disk_full = full;
                self.fair &= !full;
            }
            Act::Crash => self.crash(),
            Act::Fuse { commands } => self.fuse = Some(commands),
            Act::Move { cores } => {
                self.cores = self.cores.map(|_| cores);
                self.crash();
            }
            Act::Shutdown => self.shutdown(),
        }
    }

    /// The state that a change asks to have back.
    fn past_of(&self, change: &Change) -> Option<Past> {
        let Change::RollBack { to, .. } = change else {
            return None;
        };
        self.past.get(to).map(|desired| Past {
            desired: Desired::clone(desired),
            gone: BTreeSet::new(),
        })
    }

    /// Accepts a change as the controller does.
    fn submit(&mut self, change: &Change) {
        let revision = self.revision.next();
        let past = self.past_of(change);
        let context = Context {
            past: past.as_ref(),
            stamp: None,
            skus: &self.skus,
            models: &self.models,
            gathered: &gathered(),
            cores_max: self.cores,
            unready: &self.books.unready(),
            revision,
            generation: Generation(revision.0),
        };
        let applied = match self.desired.apply(change, &context) {
            Ok(applied) => applied,
            Err(NotApplied::Refused(_)) => return,
            Err(NotApplied::Needs(paths)) => panic!("no path was named: {paths:?}"),
        };
        if self.disk_full {
            return;
        }
        if matches!(change, Change::RollBack { .. }) {
            self.met.insert("an earlier revision came back");
        }
        let id = OperationId(revision.0);
        for older in self.books.overtaken(&applied.desired, &applied.endpoint) {
            let older = self.operations.get_mut(&older).expect("a known operation");
            older.reason = Some(replaced_by(id));
        }
        let operation = Operation {
            id,
            endpoint: applied.endpoint.clone(),
            deployments: applied.deployments,
            change: change.to_string(),
            revision,
            provisioning_state: ProvisioningState::Updating,
            note: None,
            reason: None,
            started: jiff::Timestamp::UNIX_EPOCH,
            ended: None,
        };
        self.note(|| format!("    {id}: {change}"));
        self.revision = revision;
        self.check_split(&applied.endpoint, &applied.desired);
        self.desired = Arc::new(applied.desired);
        self.past.insert(revision, Arc::clone(&self.desired));
        self.operations.insert(id, operation);
        self.expect_of(id, &applied.endpoint);
        self.feed(Event::Accepted {
            operation: id,
            endpoint: applied.endpoint,
            desired: Arc::clone(&self.desired),
        });
        self.check_rules();
        let begins_nothing = match change {
            Change::RegenerateKey { .. } => true,
            Change::UpdateEndpoint { update, .. } => {
                update.deployment.is_none() && update.deployments.is_none()
            }
            _ => false,
        };
        assert!(
            !begins_nothing || self.operations[&id].provisioning_state.has_ended(),
            "operation {id} moves rules alone, and has not ended with them"
        );
    }

    /// A split that comes in force at once gives no more weight to a deployment that requests find without an instance.
    fn check_split(&self, name: &EndpointName, next: &Desired) {
        let Some(next) = next.endpoints.get(name) else {
            return;
        };
        let before = self.desired.endpoints.get(name);
        for (deployment, percent) in next.spec.traffic.entries() {
            let had = before.map(|before| before.spec.traffic.percent_of(deployment));
            let key = Key {
                endpoint: name.clone(),
                deployment: deployment.clone(),
            };
            let serves = self
                .shown()
                .any(|(shown, all)| shown == key && !all.is_empty());
            assert!(
                serves || *percent <= had.unwrap_or(Percent::ZERO),
                "{key:?} gets traffic and has no instance"
            );
        }
    }

    /// The expectations of the oracle after an acceptance: by the words of the change, not by the books.
    fn expect_of(&mut self, id: OperationId, endpoint: &EndpointName) {
        let revision = Revision(id.0);
        let Some(wanted) = self.desired.endpoints.get(endpoint) else {
            self.in_force.remove(endpoint);
            return;
        };
        let parts = wanted.deployments.values();
        let parts = parts.filter(|one| one.target.touched == revision && !one.is_good());
        let parts: Vec<_> = parts.map(|one| one.target.spec.name.clone()).collect();
        let pending = wanted.pending.as_ref();
        let split = pending
            .filter(|pending| pending.revision == revision)
            .map(|pending| pending.split.clone());
        assert!(
            split.is_none() || !parts.is_empty(),
            "a split waits for nothing"
        );
        if split.is_none() && parts.is_empty() {
            // It begins nothing: what it says is in force at once.
            let split = wanted.spec.traffic.clone();
            self.in_force.insert(endpoint.clone(), split);
        }
        self.in_force.entry(endpoint.clone()).or_default();
        self.asked.insert(
            id,
            Asked {
                endpoint: endpoint.clone(),
                split,
                parts,
            },
        );
    }

    fn feed(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            self.note(|| format!("  {}", short(&event)));
            for command in on(&mut self.books, event, self.now) {
                if self.burns_down() {
                    self.crash();
                    return;
                }
                self.note(|| format!("    -> {}", short(&command)));
                if let Some(event) = self.carry_out(command) {
                    events.push_back(event);
                }
            }
        }
        if !self.disk_full {
            self.unsynced.clear();
        }
        self.unwritten.extend(self.unsynced.drain(..));
        self.check();
    }

    /// Whether the process is killed before it carries out the next command.
    fn burns_down(&mut self) -> bool {
        let Some(left) = self.fuse.as_mut() else {
            return false;
        };
        match left.checked_sub(1) {
            Some(fewer) => *left = fewer,
            None => self.fuse = None,
        }
        self.fuse.is_none()
    }

    fn carry_out(&mut self, command: Command) -> Option<Event> {
        match command {
            Command::MakeReady { need, .. } => {
                let twice = self.tries().any(|other| *other == need);
                assert!(
                    !twice,
                    "a model is tried, or an environment built, twice at once"
                );
                self.under_way.push(UnderWay::Try(need));
            }
            Command::EndTrial(need) => {
                let under_way = self.tries().any(|tried| *tried == need);
                assert!(under_way, "a trial is ended that is not under way");
                self.met.insert(match need {
                    Need::Model(_) => "a trial was ended that nobody waited for",
                    Need::Environment(_) => "a build was ended that nobody waited for",
                });
            }
            Command::Forget(need) => {
                let used = self.sheets.values().any(|sheet| sheet.build.need() == need);
                assert!(
                    !used,
                    "a model or environment is forgotten that an instance has"
                );
            }
            Command::Start(new) => self.start(new),
            Command::Publish { endpoint, shown } => self.publish(endpoint, shown),
            Command::Retire {
                key,
                instances,
                drain,
            } => self.retire(&key, instances, drain),
            Command::Settle {
                settlement,
                failure,
            } => {
                if settlement.split == SplitOutcome::Dropped && !self.disk_full {
                    let id = OperationId(settlement.revision.0);
                    self.unwritten.remove(&id);
                    self.failed.extend(failure.map(|_| id));
                }
                return Some(self.settle(settlement));
            }
            Command::Conclude { id, outcome } => self.conclude(id, outcome),
        }
        None
    }

    fn tries(&self) -> impl Iterator<Item = &Need> {
        let all = self.under_way.iter().chain(&self.hanging);
        all.filter_map(|one| match one {
            UnderWay::Try(model) => Some(model),
            _ => None,
        })
    }

    fn start(&mut self, new: NewInstance) {
        let NewInstance {
            no,
            key,
            build,
            cores,
            isolated,
            ..
        } = new;
        if self.cores.is_some() {
            let taken = self
                .sheets
                .values()
                .any(|sheet| sheet.cores.overlaps(&cores));
            assert!(!taken, "a core is given twice");
        }
        let sheet = Sheet {
            key,
            build,
            cores,
            ready: false,
            shown: false,
            retiring: false,
            dead: false,
            isolated: isolated.is_some(),
        };
        assert!(
            self.sheets.insert(no, sheet).is_none(),
            "a number is used twice"
        );
        self.under_way.push(UnderWay::Start(no));
    }

    fn publish(&mut self, endpoint: EndpointName, shown: Option<Shown>) {
        if let Some(shown) = &shown {
            for one in &shown.deployments {
                let mut slots = 0;
                for no in &one.instances {
                    let sheet = self.sheets.get_mut(no).expect("a shown instance is there");
                    sheet.shown = true;
                    assert!(
                        sheet.ready && !sheet.retiring,
                        "an instance is shown that does not take requests"
                    );
                    slots += usize::try_from(sheet.build.concurrency).expect("a small number");
                }
                assert_eq!(slots, one.slots, "slots are not those of the instances");
            }
            for (name, percent) in shown.spec.traffic.entries() {
                let known = shown.deployments.iter().any(|one| one.name == *name);
                assert!(
                    known || percent.hundredths() == 0,
                    "a split names {name}, which is not shown"
                );
            }
        }
        match shown {
            Some(shown) => self.table.insert(endpoint, shown),
            None => self.table.remove(&endpoint),
        };
    }

    fn shown(&self) -> impl Iterator<Item = (Key, &[InstanceNo])> {
        self.table.iter().flat_map(|(endpoint, shown)| {
            shown.deployments.iter().map(move |one| {
                let key = Key {
                    endpoint: endpoint.clone(),
                    deployment: one.name.clone(),
                };
                (key, one.instances.as_slice())
            })
        })
    }

    fn retire(&mut self, key: &Key, instances: Vec<InstanceNo>, drain: bool) {
        let is_shown = |no: &InstanceNo| self.shown().any(|(_, shown)| shown.contains(no));
        assert!(
            !instances.iter().any(is_shown),
            "an instance is retired while requests see it"
        );
        for no in &instances {
            let sheet = self.sheets.get_mut(no).expect("it is there");
            assert_eq!(sheet.key, *key);
            assert!(sheet.ready, "an instance is retired before it is ready");
            assert!(!sheet.retiring, "two tasks on one instance");
            sheet.retiring = true;
            assert!(drain || sheet.dead || !sheet.shown, "work is cut off");
        }
        self.check_that_some_stay(key, &instances);
        self.check_that_traffic_is_served(key, &instances);
        let attempt = self
            .books
            .deployments
            .get(key)
            .and_then(|book| book.attempt.as_ref());
        if attempt.is_some_and(|attempt| attempt.one_by_one && !attempt.settling) {
            self.met
                .insert("room was made before a successor was ready");
        }
        self.under_way.push(UnderWay::Retire(instances));
    }

    /// Where cores are never short, good instances are retired only when others stay.
    fn check_that_some_stay(&self, key: &Key, retired: &[InstanceNo]) {
        let wanted = self.desired.deployment(&key.endpoint, &key.deployment);
        let good = wanted.and_then(|wanted| wanted.last_good.as_ref());
        let Some(good) = good.map(|good| good.aim().build) else {
            return;
        };
        let was_good = |no: &InstanceNo| {
            let sheet = &self.sheets[no];
            sheet.shown && !sheet.dead && sheet.build == good
        };
        let stays =
            |sheet: &Sheet| sheet.key == *key && sheet.ready && !sheet.retiring && !sheet.dead;
        assert!(
            self.cores.is_some()
                || self.stopping
                || !retired.iter().any(was_good)
                || self.sheets.values().any(stays),
            "the last good instance of {key:?} is retired"
        );
    }

    /// What has traffic and never was good is not taken away again, however short cores are: it was accepted as ready.
    fn check_that_traffic_is_served(&self, key: &Key, retired: &[InstanceNo]) {
        let wanted = self.desired.endpoints.get(&key.endpoint);
        let has_traffic = wanted.is_some_and(|wanted| {
            wanted.spec.traffic.percent_of(&key.deployment) > Percent::ZERO
                && wanted.deployments[&key.deployment].last_good.is_none()
        });
        let served = |no: &InstanceNo| self.sheets[no].shown && !self.sheets[no].dead;
        assert!(
            self.stopping || !has_traffic || !retired.iter().any(served),
            "{key:?} has traffic and loses its instances"
        );
    }

    fn settle(&mut self, settlement: Settlement) -> Event {
        let outcome = if self.disk_full {
            self.met.insert("a settlement could not be stored");
            Err("the disk is full".to_owned())
        } else {
            match settlement.split {
                SplitOutcome::InForce => {
                    self.met.insert("a split came in force with its instances");
                }
                SplitOutcome::Dropped => {
                    self.met.insert("a split was dropped");
                }
                SplitOutcome::Waits => {}
            }
            self.desired = Arc::new(self.desired.settled(&settlement));
            self.past.insert(self.revision, Arc::clone(&self.desired));
            Ok(Arc::clone(&self.desired))
        };
        Event::Settled {
            settlement,
            outcome,
        }
    }

    fn conclude(&mut self, id: OperationId, outcome: Outcome) {
        let operation = self.operations.get_mut(&id).expect("a known operation");
        assert!(
            !operation.provisioning_state.has_ended(),
            "operation {id} ends twice"
        );
        assert!(!self.stopping, "operation {id} ends with the server");
        self.unsynced.push(id);
        let told = match &outcome {
            Outcome::Succeeded => None,
            Outcome::Failed(reason) | Outcome::Canceled(reason) => Some(reason.clone()),
        };
        let (state, situation) = match outcome {
            Outcome::Succeeded => (ProvisioningState::Succeeded, "an operation succeeded"),
            Outcome::Failed(_) => (ProvisioningState::Failed, "an operation failed"),
            Outcome::Canceled(_) => (ProvisioningState::Canceled, "an operation was canceled"),
        };
        operation.provisioning_state = state;
        assert!(
            state != ProvisioningState::Failed || !self.fair || self.cores.is_some(),
            "operation {id} failed, and nothing was wrong: {told:?}"
        );
        if state == ProvisioningState::Canceled {
            let by = told.as_deref().unwrap_or_default().split(' ').nth(1);
            let by: Option<OperationId> = by.and_then(|number| number.parse().ok());
            assert!(
                by.is_some_and(|by| by > id && self.operations.contains_key(&by)),
                "operation {id} was canceled by nobody: {told:?}"
            );
        }
        if state == ProvisioningState::Succeeded
            && let Some(asked) = self.asked.get(&id)
            && let Some(endpoint) = self.desired.endpoints.get(&asked.endpoint)
        {
            let is_known = |name| {
                let one = endpoint.deployments.get(name);
                one.is_none_or(|one| one.target.touched != Revision(id.0) || one.is_good())
            };
            assert!(
                asked.parts.iter().all(is_known),
                "operation {id} succeeded, and a restart would not know what it made"
            );
            let in_force = &endpoint.spec.traffic;
            let split = asked.split.as_ref();
            assert!(
                self.forgotten.contains(&id)
                    || split.is_none_or(|split| weights(split).eq(weights(in_force))),
                "operation {id} succeeded, and its split never was in force"
            );
        }
        self.met.insert(situation);
        if self.reopened.contains(&id) && state == ProvisioningState::Succeeded {
            self.met.insert("an operation went on after a crash");
        }
    }

    fn end(&mut self, which: usize, well: bool) {
        if self.under_way.is_empty() {
            return;
        }
        let at = which % self.under_way.len();
        let ended = self.under_way.remove(at);
        self.fair &= well;
        self.tell(ended, well);
    }

    fn note_end_of_build(&mut self, need: &Need, well: bool) {
        let targets = self.desired.deployments().map(|(_, one)| &one.target);
        let waiting = targets.filter(|target| target.aim().build.need() == *need);
        match need {
            Need::Model(_) => {}
            Need::Environment(_) if !well => {
                self.met.insert("an environment could not be built");
            }
            Need::Environment(_) if waiting.count() > 1 => {
                self.met
                    .insert("an environment was built for two deployments at once");
            }
            Need::Environment(_) => {}
        }
    }

    fn tell(&mut self, ended: UnderWay, well: bool) {
        let fails = || "it is broken".to_owned();
        let event = match ended {
            UnderWay::Try(need) => {
                self.note_end_of_build(&need, well);
                Event::NeedReady {
                    need,
                    outcome: well.then(NeedNotes::default).ok_or_else(fails),
                }
            }
            UnderWay::Start(no) => {
                let phase = self.books.instances.get(&no).map(|one| one.phase);
                if well && phase == Some(Phase::Abandoned) {
                    self.met.insert("a start that nobody waited for ended well");
                }
                if well {
                    let sheet = self.sheets.get_mut(&no).expect("it is there");
                    sheet.ready = true;
                    if self.bereaved.remove(&sheet.key) {
                        self.met.insert("a good instance came back after a death");
                    }
                } else {
                    self.sheets.remove(&no);
                }
                Event::Started {
                    no,
                    outcome: well.then(Facts::default).ok_or_else(fails),
                }
            }
            UnderWay::Retire(instances) => {
                for no in &instances {
                    self.sheets.remove(no);
                }
                Event::Retired(instances)
            }
        };
        self.feed(event);
    }

    fn kill(&mut self, which: usize) {
        let alive: Vec<_> = self
            .sheets
            .iter()
            .filter(|(_, sheet)| sheet.ready && !sheet.retiring && !sheet.dead)
            .map(|(no, _)| *no)
            .collect();
        if let Some(no) = nth(&alive, which).copied() {
            self.fair = false;
            let sheet = self.sheets.get_mut(&no).expect("it is there");
            sheet.dead = true;
            if sheet.shown {
                self.met.insert("an instance died that requests saw");
                self.bereaved.insert(sheet.key.clone());
            }
            self.feed(Event::Died(no));
        }
    }

    /// The process is gone with all that it ran; what is on disk comes back through the stored form.
    fn crash(&mut self) {
        let text = serde_json::to_string(&*self.desired).expect("JSON");
        self.desired = Arc::new(serde_json::from_str(&text).expect("a state"));
        self.books = books(&self.desired, self.cores);
        (self.fuse, self.stopping) = (None, false);
        self.forgotten.extend(self.unwritten.iter());
        self.unwritten.extend(self.unsynced.drain(..));
        for id in std::mem::take(&mut self.unwritten) {
            let operation = self.operations.get_mut(&id).expect("a known operation");
            operation.provisioning_state = ProvisioningState::Updating;
        }
        for id in &self.failed {
            let operation = self.operations.get_mut(id).expect("a known operation");
            operation.provisioning_state = ProvisioningState::Failed;
        }
        self.under_way.clear();
        self.hanging.clear();
        self.sheets.clear();
        self.table.clear();
        let unfinished = self.operations.values();
        let unfinished = unfinished.filter(|one| !one.provisioning_state.has_ended());
        let unfinished: Vec<_> = unfinished.cloned().collect();
        self.reopened.extend(unfinished.iter().map(|one| one.id));
        self.feed(Event::Recover { unfinished });
        self.check_rules();
        // Whatever hangs later: all that was good is begun with the first event, side by side.
        let good = self.desired.deployments();
        let good = good.filter_map(|(_, one)| Some(one.last_good.as_ref()?.aim().build.need()));
        for need in good.collect::<Vec<_>>() {
            let begun = self.tries().any(|tried| *tried == need);
            assert!(begun, "a last good state waits for something else");
        }
    }

    /// The server ends in order. What hangs is cut off in the end.
    fn shutdown(&mut self) {
        self.fuse = None;
        self.stopping = true;
        self.feed(Event::Shutdown);
        assert!(self.table.is_empty(), "a server that ends takes requests");
        while let Some(one) = self.under_way.pop() {
            self.tell(one, true);
        }
        let hanging = self.hanging.iter();
        let hanging = hanging.filter(|one| !matches!(one, UnderWay::Try(_)));
        assert!(
            self.sheets.is_empty() || hanging.count() > 0,
            "a server that ends leaves instances behind"
        );
        self.crash();
    }

    // The promises.

    /// Everything accepted is in force with the event of its acceptance.
    fn check_rules(&self) {
        for (name, wanted) in &self.desired.endpoints {
            let shown = self.table.get(name).expect("an endpoint is shown at once");
            assert_eq!(shown.spec, wanted.spec, "the split is not in force");
            assert_eq!(
                shown.generations, wanted.generations,
                "the credentials are not in force"
            );
            for one in &shown.deployments {
                let wanted = &wanted.deployments[&one.name];
                let rules = wanted.last_good.as_deref().unwrap_or(&wanted.target);
                let timeout = rules.spec.request_settings().request_timeout();
                assert_eq!(one.request_timeout, timeout, "the timeout is not in force");
                let queueing = rules.spec.request_settings().queueing();
                let waiting = waiting_max(queueing, one.slots, one.instances.len());
                assert_eq!(one.waiting_max, waiting, "the queue is not in force");
            }
        }
        for name in self.table.keys() {
            assert!(
                self.desired.endpoints.contains_key(name),
                "an endpoint is shown that is deleted"
            );
        }
    }

    fn check(&mut self) {
        let attempts = self.books.deployments.values();
        if attempts
            .filter_map(|book| book.attempt.as_ref())
            .any(|attempt| attempt.one_by_one)
        {
            self.met.insert("a roll went one by one");
        }
        self.check_splits();
        self.check_serving();
        // It must not panic in any state.
        let _view = view(&self.books, self.revision);
    }

    /// A split is in force by the change that brought it alone: at once when that begins nothing, else with its last instance.
    fn check_splits(&mut self) {
        for (name, shown) in &self.table {
            let expected = self.in_force.entry(name.clone()).or_default();
            if weights(&shown.spec.traffic).eq(weights(expected)) {
                continue;
            }
            let is_in_force =
                |split: &TrafficSplit| weights(&shown.spec.traffic).eq(weights(split));
            let bringer = self.asked.iter().find(|(id, asked)| {
                asked.endpoint == *name
                    && asked.split.as_ref().is_some_and(is_in_force)
                    && is_good(&self.desired.endpoints[name], asked, Revision(id.0))
                    && !matches!(
                        self.operations[id].provisioning_state,
                        ProvisioningState::Failed | ProvisioningState::Canceled
                    )
            });
            let Some((id, _)) = bringer else {
                panic!(
                    "split {} of {name} is in force by accident; {expected} should be",
                    shown.spec.traffic
                );
            };
            let id = *id;
            expected.clone_from(&shown.spec.traffic);
            self.asked.get_mut(&id).expect("it is there").split = None;
        }
    }

    /// The last good target serves, and goes on as long as an instance of it lives.
    fn check_serving(&self) {
        for (key, instances) in self.shown() {
            let wanted = self.desired.deployment(&key.endpoint, &key.deployment);
            let wanted = wanted.expect("a shown deployment is desired");
            let Some(good) = &wanted.last_good else {
                continue;
            };
            let good = good.aim();
            if self.cores.is_none() {
                for no in instances {
                    assert_eq!(
                        self.sheets[no].build, good.build,
                        "{key:?} serves with what is not known to be good"
                    );
                }
            }
            let alive = self.sheets.values().filter(|sheet| {
                sheet.key == key
                    && sheet.build == good.build
                    && sheet.ready
                    && !sheet.dead
                    && !sheet.retiring
            });
            let alive = alive.count();
            let seen = if self.cores.is_none() {
                instances.len() >= alive.min(good.count)
            } else {
                !instances.is_empty() || alive == 0
            };
            assert!(
                seen,
                "{key:?} has a good instance, and requests do not see it"
            );
        }
    }

    /// The disk has room, what is under way ends well, and time passes: then everything comes to rest as it should.
    fn calm_down(&mut self) {
        (self.disk_full, self.fuse) = (false, None);
        for _ in 0..400 {
            while let Some(one) = self.under_way.pop() {
                self.tell(one, true);
            }
            self.now += Duration::from_millis(61_000);
            self.feed(Event::Tick);
            // What hangs comes back in the end, when nobody waits for it any more.
            if let Some(late) = self.hanging.pop() {
                self.tell(late, true);
            }
            let rests = self.under_way.is_empty() && self.hanging.is_empty();
            let ended = self.books.operations.is_empty() && self.books.has_recovered();
            if rests && ended && self.is_met() {
                break;
            }
        }
        for operation in self.operations.values() {
            assert!(
                operation.provisioning_state.has_ended(),
                "operation {} ({}) never ends",
                operation.id,
                operation.change
            );
        }
        assert!(self.is_met(), "the last good state does not come back");
        let unmet = |(key, book): (&Key, &DeploymentBook)| {
            assert!(book.attempt.is_none(), "the way of {key:?} never ends");
            assert!(!book.recovering, "{key:?} recovers for ever");
        };
        self.books.deployments.iter().for_each(unmet);
        assert!(self.books.has_recovered(), "recovery never ends");
        self.check_rules();
        for endpoint in self.desired.endpoints.values() {
            assert!(endpoint.pending.is_none(), "a split waits for ever");
        }
        assert!(self.books.leaving.is_empty(), "a deleted endpoint stays");
        let granted = self.sheets.values().map(|sheet| sheet.build.vcpus);
        let (total, free) = self.books.cores.total_and_free();
        if self.cores.is_some() {
            assert_eq!(granted.sum::<usize>() + free, total, "cores are lost");
        }
    }

    /// Whether every deployment that was good once serves with what was good last, as far as there are cores.
    fn is_met(&self) -> bool {
        let aims = self.desired.deployments().filter_map(|(endpoint, one)| {
            let key = Key {
                endpoint: endpoint.spec.name.clone(),
                deployment: one.target.spec.name.clone(),
            };
            Some((key, one.last_good.as_ref()?.aim()))
        });
        let aims: Vec<_> = aims.collect();
        let asked: usize = aims
            .iter()
            .map(|(_, aim)| aim.build.vcpus * aim.count)
            .sum();
        if self.cores.is_some_and(|cores| asked > cores) {
            // States that were good one after the other need not fit side by side.
            return true;
        }
        let serves = |key: &Key| {
            let mut shown = self.shown();
            shown
                .find(|(shown, _)| shown == key)
                .map(|(_, all)| all.to_vec())
        };
        aims.iter().all(|(key, aim)| {
            let serves = serves(key).unwrap_or_default();
            serves.len() == aim.count && serves.iter().all(|no| self.sheets[no].build == aim.build)
        })
    }
}

/// Whether all that a change started has become good and nothing newer has come over it.
fn is_good(endpoint: &DesiredEndpoint, asked: &Asked, revision: Revision) -> bool {
    asked.parts.iter().all(|name| {
        let one = endpoint.deployments.get(name);
        one.is_some_and(|one| one.target.touched == revision && one.is_good())
    })
}

/// Entries of a split with weight: one without may go with its deployment while the split waits.
fn weights(split: &TrafficSplit) -> impl Iterator<Item = &(DeploymentName, Percent)> {
    let entries = split.entries().iter();
    entries.filter(|(_, percent)| *percent > Percent::ZERO)
}

fn set(path: &str, value: usize) -> Assignment {
    Assignment::new(path, Value::from(value)).expect("a path")
}

/// The beginning of what a value is, without the state that it may carry.
fn short(value: &dyn std::fmt::Debug) -> String {
    let text = format!("{value:?}");
    let end = text.find("desired: ").unwrap_or(text.len());
    text.chars().take(end.min(400)).collect()
}

fn play(world: &mut World, acts: &[Act]) {
    for act in acts {
        world.act(*act);
    }
    world.calm_down();
}

/// The promise that a script breaks, if any.
fn broken(cores: Option<usize>, acts: &[Act]) -> Option<String> {
    broken_in(&mut World::new(cores), acts)
}

fn broken_in(world: &mut World, acts: &[Act]) -> Option<String> {
    let played = catch_unwind(AssertUnwindSafe(|| play(world, acts)));
    let panic = played.err()?;
    let text = panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    Some(text.unwrap_or_default())
}

/// The shortest script that leaving acts out one by one leads to, and that still breaks something.
fn shrink(cores: Option<usize>, mut acts: Vec<Act>) -> Vec<Act> {
    let mut at = 0;
    while at < acts.len() {
        let mut shorter = acts.clone();
        shorter.remove(at);
        if broken(cores, &shorter).is_some() {
            acts = shorter;
        } else {
            at += 1;
        }
    }
    acts
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn no_life_of_a_server_breaks_a_promise() {
    let first = number("SERIN_SIMULATION_SEED").unwrap_or(1);
    let count = number("SERIN_SIMULATION_SCRIPTS").unwrap_or(SCRIPTS);
    let threads =
        u64::try_from(std::thread::available_parallelism().map_or(1, usize::from)).unwrap_or(1);
    let (failed, met) = (AtomicBool::new(false), Mutex::new(BTreeSet::new()));
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (failed, met) = (&failed, &met);
            scope.spawn(move || {
                let mut met_here = BTreeSet::new();
                let step = usize::try_from(threads).expect("a small number");
                for seed in (first + thread..first + count).step_by(step) {
                    let (cores, acts) = script(seed);
                    if failed.load(Ordering::Relaxed) {
                        return;
                    }
                    let mut world = World::new(cores);
                    if broken_in(&mut world, &acts).is_some() {
                        // Relaxed: it only ends the others early; the scope's end orders it before the look below.
                        failed.store(true, Ordering::Relaxed);
                        tell(seed, cores, acts);
                    }
                    met_here.extend(world.met);
                }
                met.lock().expect("whole").extend(met_here);
            });
        }
    });
    assert!(!failed.into_inner(), "a script breaks a promise: see above");
    let met = met.into_inner().expect("whole");
    let missed: Vec<_> = SITUATIONS
        .iter()
        .filter(|one| !met.contains(*one))
        .collect();
    assert!(count < SCRIPTS || missed.is_empty(), "never: {missed:?}");
}

/// Prints what a script breaks, in its shortest form.
fn tell(seed: u64, cores: Option<usize>, acts: Vec<Act>) {
    let acts = shrink(cores, acts);
    let mut world = World::new(cores);
    world.trace = Some(Vec::new());
    let why = broken_in(&mut world, &acts).unwrap_or_default();
    let trace = world.trace.unwrap_or_default().join("\n");
    println!("seed {seed}, cores {cores:?}: {why}\n{trace}\nseed {seed}, cores {cores:?}: {why}");
}

/// A change of each kind that a scene needs.
fn scene(cores: Option<usize>) -> World {
    let mut world = World::new(cores);
    world.submit(&Change::CreateEndpoint {
        endpoint: EndpointSpec::new("iris".parse().expect("a name")),
        deployments: Vec::new(),
    });
    world
}

fn deployment(name: &str, version: &str, sku: &str, count: usize) -> DeploymentSpec {
    let model = ModelRef::Registered {
        name: "digits".parse().expect("a name"),
        version: VersionRef::Exact(version.parse().expect("a version")),
    };
    let mut spec = DeploymentSpec::new(name.parse().expect("a name"), model, sku);
    spec.set(&[set("instance_count", count)]).expect("a count");
    spec
}

fn add(deployment: DeploymentSpec) -> Change {
    Change::CreateDeployment {
        endpoint: "iris".parse().expect("a name"),
        deployment,
        all_traffic: false,
    }
}

fn update(deployment: DeploymentSpec, traffic: Option<&str>) -> Change {
    let file = DeploymentUpdate {
        file: Some(deployment.clone()),
        upsert: true,
        ..DeploymentUpdate::default()
    };
    Change::UpdateEndpoint {
        name: "iris".parse().expect("a name"),
        update: EndpointUpdate {
            deployment: Some((deployment.name, file)),
            traffic: traffic.map(|split| split.parse().expect("a split")),
            ..EndpointUpdate::default()
        },
    }
}

impl World {
    /// All that is under way ends well.
    fn settle_down(&mut self) {
        while let Some(one) = self.under_way.pop() {
            self.tell(one, true);
        }
    }

    /// All that is under way for a model ends well.
    fn settle_only(&mut self, model: &ModelDigest) {
        let is_of = |world: &Self, one: &UnderWay| match one {
            UnderWay::Try(tried) => *tried == Need::Model(model.clone()),
            UnderWay::Start(no) => world.sheets[no].build.model == *model,
            UnderWay::Retire(_) => false,
        };
        while let Some(at) = (0..self.under_way.len()).find(|at| is_of(self, &self.under_way[*at]))
        {
            let one = self.under_way.remove(at);
            self.tell(one, true);
        }
    }

    fn state_of(&self, operation: u64) -> ProvisioningState {
        self.operations[&OperationId(operation)].provisioning_state
    }

    fn split(&self) -> String {
        let (_, shown) = self.table.iter().next().expect("an endpoint");
        shown.spec.traffic.to_string()
    }
}

#[test]
fn a_split_waits_for_a_deployment_that_has_not_come_back_since_the_start() {
    let mut world = scene(None);
    world.submit(&add(deployment("red", "1", SKUS[0], 1)));
    world.settle_down();
    world.submit(&update(
        deployment("green", "2", SKUS[0], 1),
        Some("red:50,green:50"),
    ));
    world.crash();
    // Tries and starts of the younger come first: green is ready, and red still starts.
    world.settle_only(&ModelDigest::for_test("2"));
    assert_eq!(world.state_of(3), ProvisioningState::Updating);
    world.settle_down();
    assert_eq!(world.split(), "red:50,green:50");
    assert_eq!(world.state_of(3), ProvisioningState::Succeeded);
}

#[test]
fn a_model_that_killed_a_server_is_started_isolated_also_after_a_crash_and_its_neighbour_is_not() {
    let mut world = scene(None);
    let culprit = ModelDigest::for_test("2");
    let isolated = BTreeMap::from([(culprit.clone(), "killed by SIGFPE".to_owned())]);
    world.books.isolated.clone_from(&isolated);
    world.submit(&add(deployment("red", "1", SKUS[0], 1)));
    world.submit(&add(deployment("green", "2", SKUS[0], 1)));
    world.settle_down();
    world.crash();
    // As the store has it.
    world.books.isolated = isolated;
    world.settle_down();
    assert_eq!(world.sheets.len(), 2);
    for sheet in world.sheets.values() {
        assert_eq!(sheet.isolated, sheet.build.model == culprit);
    }
    let shown = view(&world.books, world.revision);
    for (name, one) in &shown.endpoints[0].deployments {
        let notes = one.notes.join("; ");
        let is_told = notes.contains("isolated, in processes of its own: killed by SIGFPE");
        assert_eq!(is_told, name.as_str() == "green", "{name}: {notes}");
    }
}

#[test]
fn a_model_that_killed_a_server_isolates_no_script_that_runs_it() {
    let mut world = scene(None);
    let isolated = BTreeMap::from([(ModelDigest::for_test("2"), "killed".to_owned())]);
    world.books.isolated = isolated;
    let mut spec = deployment("red", "2", SKUS[0], 1);
    run_script(&mut spec, ENVIRONMENTS[0]);
    world.submit(&add(spec));
    world.settle_down();
    assert!(world.sheets.values().all(|sheet| !sheet.isolated));
    let shown = view(&world.books, world.revision);
    let red = shown.endpoints[0].deployments.values().next();
    assert_eq!(red.expect("it is there").notes, [""; 0]);
}

#[test]
fn deployments_of_one_environment_wait_for_one_build_and_fail_with_it_alone() {
    let mut world = scene(None);
    for name in ["red", "green"] {
        let mut spec = deployment(name, "1", SKUS[0], 1);
        run_script(&mut spec, ENVIRONMENTS[0]);
        world.submit(&add(spec));
    }
    world.submit(&add(deployment("blue", "1", SKUS[0], 1)));
    let builds = world
        .tries()
        .filter(|need| matches!(need, Need::Environment(_)));
    assert_eq!(builds.count(), 1);
    let at = world.under_way.iter();
    let mut at = at.map(|one| matches!(one, UnderWay::Try(Need::Environment(_))));
    let at = at.position(|is_build| is_build).expect("a build");
    let build = world.under_way.remove(at);
    world.fair = false;
    world.tell(build, false);
    world.settle_down();
    assert_eq!(world.state_of(2), ProvisioningState::Failed);
    assert_eq!(world.state_of(3), ProvisioningState::Failed);
    assert_eq!(world.state_of(4), ProvisioningState::Succeeded);
    // The next change that speaks of one tries again, and no other does.
    let red = "red".parse().expect("a name");
    world.submit(&Change::UpdateDeployment {
        endpoint: "iris".parse().expect("a name"),
        name: red,
        update: DeploymentUpdate {
            set: vec![set("instance_count", 2)],
            ..DeploymentUpdate::default()
        },
    });
    world.settle_down();
    assert_eq!(world.state_of(5), ProvisioningState::Succeeded);
    assert_eq!(world.state_of(3), ProvisioningState::Failed);
}

fn traffic(split: &str) -> Change {
    Change::UpdateEndpoint {
        name: "iris".parse().expect("a name"),
        update: EndpointUpdate {
            traffic: Some(split.parse().expect("a split")),
            ..EndpointUpdate::default()
        },
    }
}

#[test]
fn what_never_was_good_gets_no_traffic_before_all_of_it_is_ready() {
    let mut world = scene(Some(4));
    world.submit(&add(deployment("red", "1", SKUS[0], 1)));
    world.settle_down();
    world.submit(&Change::DeleteDeployment {
        endpoint: None,
        name: "red".parse().expect("a name"),
    });
    // Red drains, so there is room for one of the two.
    world.submit(&add(deployment("green", "2", SKUS[0], 2)));
    world.settle_only(&ModelDigest::for_test("2"));
    world.submit(&traffic("green:100"));
    assert_eq!(world.split(), "");
    world.settle_down();
    world.submit(&traffic("green:100"));
    assert_eq!(world.split(), "green:100");
}

#[test]
fn an_operation_whose_split_a_newer_one_replaced_is_canceled_over_a_restart_too() {
    let mut world = scene(None);
    world.submit(&add(deployment("red", "1", SKUS[0], 1)));
    world.settle_down();
    world.submit(&update(
        deployment("green", "2", SKUS[0], 1),
        Some("green:100"),
    ));
    world.submit(&traffic("red:100"));
    world.crash();
    world.settle_down();
    assert_eq!(world.split(), "red:100");
    assert_eq!(world.state_of(3), ProvisioningState::Canceled);
}

#[test]
fn an_operation_whose_deployment_was_deleted_is_canceled_over_a_restart_too() {
    let mut world = scene(None);
    world.submit(&add(deployment("red", "1", SKUS[0], 1)));
    // The process is killed when the deletion is on disk and nothing more.
    world.fuse = Some(0);
    world.submit(&Change::DeleteDeployment {
        endpoint: None,
        name: "red".parse().expect("a name"),
    });
    assert_eq!(world.state_of(2), ProvisioningState::Canceled);
    assert_eq!(world.state_of(3), ProvisioningState::Succeeded);
}

/// A full disk took the end of an operation and the drop of its split; the split was dropped later, and a restart tried the
/// operation again, without it.
#[test]
fn an_operation_that_failed_on_a_full_disk_is_not_tried_again_without_its_split() {
    let (cores, acts) = script(10_367_858);
    assert_eq!(broken(cores, &acts), None);
}
