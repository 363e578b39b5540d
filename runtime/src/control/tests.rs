//! The controller with an engine of paper, and once with the real one.
//!
//! The paper engine starts instances at once, fails where it is told to, and can be held back; so order and outcome of steps show
//! without threads, models or time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::control::starter::{Candidate, ReadyEnvironment, Started, Starter};
use crate::control::store::{DataFolder, OnLoss};
use crate::control::{
    Change, ChangeError, Controller, ControllerConfig, ControllerHandle, DeploymentUpdate,
    DeploymentView, EndpointUpdate, ErrorKind, KeyType, Local, LocalModel, LocalSource, Operation,
    ProvisioningState,
};
use crate::engine::{
    BackendKind, Cancel, Capacity, CoreMap, InstanceHandle, InstanceSpec, Pinning, Placement,
    ReadyModel, ScriptSpec, Stage, Topology,
};
use crate::environments::Recipe;
use crate::observe::Metrics;
use crate::router::Router;
use crate::spec::{Assignment, DeploymentSpec, EndpointSpec, SkuTable, read_deployment};

mod scripts;

/// The behaviour of the paper engine, set by a test while it runs.
#[derive(Debug, Default)]
struct Paper {
    running: Arc<AtomicUsize>,
    started: AtomicUsize,
    /// Models (by their content) that do not start.
    bad: Mutex<BTreeSet<String>>,
    /// While true, starts wait.
    held: Mutex<bool>,
    /// Starts of this model wait.
    held_model: Mutex<String>,
    released: Condvar,
    /// Environments that were asked for, by their recipe.
    environments: Mutex<Vec<String>>,
    /// Of those the number that came to an end.
    builds_ended: AtomicUsize,
    /// Instances born under this flag can be killed by it.
    dead: Mutex<Arc<AtomicBool>>,
}

impl Paper {
    fn hold(&self, held: bool) {
        *self.held.lock().expect("whole") = held;
        self.released.notify_all();
    }

    fn hold_model(&self, model: &str) {
        model.clone_into(&mut self.held_model.lock().expect("whole"));
        self.released.notify_all();
    }

    fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }
}

impl Starter for Paper {
    fn make_ready(&self, candidate: &Candidate<'_>) -> Result<ReadyModel, String> {
        let content = std::fs::read_to_string(candidate.file.path).expect("a model");
        match content.as_str() {
            "large" => {
                let mut held = self.held.lock().expect("whole");
                candidate.tell.say(candidate.file.path, Stage::Preparing);
                while *self.held_model.lock().expect("whole") == content {
                    held = self.released.wait(held).expect("whole");
                }
                Ok(ReadyModel::default())
            }
            "crash" => Err("the model crashed".to_owned()),
            _ => Ok(ReadyModel::default()),
        }
    }

    fn environment(
        &self,
        recipe: Option<&Recipe>,
        tell: &dyn Fn(&str),
        cancel: &Cancel,
    ) -> Result<ReadyEnvironment, String> {
        let text = serde_json::to_string(&recipe).expect("JSON");
        self.environments.lock().expect("whole").push(text.clone());
        tell("downloading six");
        let mut held = self.held.lock().expect("whole");
        while *self.held_model.lock().expect("whole") == "environment" && !cancel.is_canceled() {
            let look = Duration::from_millis(10);
            held = self.released.wait_timeout(held, look).expect("whole").0;
        }
        self.builds_ended.fetch_add(1, Ordering::SeqCst);
        match text.contains("broken") || cancel.is_canceled() {
            true => Err("no distribution found for broken".to_owned()),
            false => Ok(ReadyEnvironment {
                python: "/usr/bin/python3".into(),
                version: "3.11.7".to_owned(),
                description: "a paper environment".to_owned(),
                keep: None,
            }),
        }
    }

    fn start(&self, spec: InstanceSpec) -> Result<Box<dyn Started>, String> {
        let script = spec.script.as_ref();
        let file = script.map_or(&spec.model, |script| &script.entry_script);
        let content = std::fs::read_to_string(file).expect("a model");
        let mut held = self.held.lock().expect("whole");
        while *held || *self.held_model.lock().expect("whole") == content {
            held = self.released.wait(held).expect("whole");
        }
        drop(held);
        if self.bad.lock().expect("whole").contains(&content) {
            return Err(format!("{content} does not load"));
        }
        self.started.fetch_add(1, Ordering::SeqCst);
        self.running.fetch_add(1, Ordering::SeqCst);
        let dead = Arc::clone(&self.dead.lock().expect("whole"));
        Ok(Box::new(Sheet {
            running: Arc::clone(&self.running),
            dead,
            _script: spec.script,
            placement: Placement {
                vcpus_asked: spec.cores.vcpus,
                intra_op_threads: spec.cores.cores.len(),
                cores_given: spec.cores.cores.clone(),
                lanes: 1,
                shared: spec.cores.shared,
                pinned: spec.cores.floats_over.is_none(),
                pinning: spec.cores.pinning.clone(),
                spin_asked: spec.spin,
                spinning: spec.spin && !spec.cores.shared,
                isolation: BackendKind::Thread,
                isolation_reason: String::new(),
                verified: true,
                threads: Vec::new(),
            },
        }))
    }
}

#[derive(Debug)]
struct Sheet {
    running: Arc<AtomicUsize>,
    dead: Arc<AtomicBool>,
    _script: Option<ScriptSpec>,
    placement: Placement,
}

impl Started for Sheet {
    fn handle(&self) -> Option<InstanceHandle> {
        None
    }
    fn placement(&self) -> Option<Placement> {
        Some(self.placement.clone())
    }
    fn close(&self) {}
    fn wait_idle(&self, _deadline: Instant) -> bool {
        true
    }
    fn has_failed(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }
    fn stop(self: Box<Self>) {
        self.running.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A server without HTTP in a folder of its own.
struct World {
    data: tempfile::TempDir,
    paper: Arc<Paper>,
    router: Arc<Router>,
    handle: ControllerHandle,
}

fn config(data: &Path, capacity: Capacity) -> ControllerConfig {
    ControllerConfig {
        data: data.join("data"),
        capacity,
        pinning: Pinning::On,
        skus: SkuTable::builtin(),
        prober: None,
        token_life: Duration::from_secs(60),
        black_box: false,
        on_loss: OnLoss::Refuse,
    }
}

impl World {
    fn start() -> Self {
        Self::with_cores(Capacity::Overcommit, Topology::read())
    }

    fn with_cores(capacity: Capacity, topology: Topology) -> Self {
        let data = tempfile::tempdir().expect("a folder");
        for (file, content) in [
            ("m1.onnx", "m1"),
            ("m2.onnx", "m2"),
            ("crash.onnx", "crash"),
            ("large.onnx", "large"),
        ] {
            std::fs::write(data.path().join(file), content).expect("written");
        }
        let (paper, router) = (Arc::new(Paper::default()), Router::new());
        let cores = CoreMap::new(topology, capacity);
        let config = config(data.path(), capacity);
        let starter: Arc<dyn Starter> = Arc::clone(&paper) as Arc<dyn Starter>;
        let handle = Controller::start_with(
            config,
            (Arc::clone(&router), Metrics::new()),
            (starter, cores),
        )
        .expect("starts");
        Self {
            data,
            paper,
            router,
            handle,
        }
    }

    /// Ends the controller and starts another on the same folder; returns when it has settled.
    async fn restart(self) -> Self {
        let world = self.restart_with(|_| {}).await;
        world.handle.settled().await;
        world
    }

    /// Ends the controller and starts another on the same folder.
    async fn restart_with(self, prepare: impl FnOnce(&Paper)) -> Self {
        self.handle.shutdown().await;
        assert_eq!(self.paper.running(), 0, "everything was stopped");
        let (paper, router) = (Arc::new(Paper::default()), Router::new());
        prepare(&paper);
        let cores = CoreMap::new(Topology::read(), Capacity::Overcommit);
        let config = config(self.data.path(), Capacity::Overcommit);
        let starter: Arc<dyn Starter> = Arc::clone(&paper) as Arc<dyn Starter>;
        let handle = Controller::start_with(
            config,
            (Arc::clone(&router), Metrics::new()),
            (starter, cores),
        )
        .expect("starts");
        Self {
            data: self.data,
            paper,
            router,
            handle,
        }
    }

    fn spec(&self, name: &str, model: &str, count: u32) -> DeploymentSpec {
        let model = self.data.path().join(model);
        let text = format!(
            "name: {name}\nmodel: {}\ninstance_type: Standard_F2s_v2\ninstance_count: {count}\n",
            model.display()
        );
        read_deployment(&text, "test.yml", &[]).expect("a deployment")
    }

    async fn submit(&self, change: Change) -> Result<Operation, ChangeError> {
        self.handle.submit(change, "me".to_owned(), None).await
    }

    /// Accepted and ended.
    async fn run(&self, change: Change) -> Operation {
        let operation = self.submit(change).await.expect("accepted");
        self.handle.finished(operation.id).await.expect("known")
    }

    async fn succeed(&self, change: Change) {
        let operation = self.run(change).await;
        assert_eq!(
            operation.provisioning_state,
            ProvisioningState::Succeeded,
            "{operation:?}"
        );
    }

    /// An endpoint with `blue` on m1.
    async fn with_blue(count: u32) -> Self {
        let world = Self::start();
        world.succeed(create()).await;
        world
            .succeed(add(world.spec("blue", "m1.onnx", count)))
            .await;
        world.succeed(traffic("blue:100")).await;
        world
    }

    fn deployment(&self, name: &str) -> DeploymentView {
        let view = self.handle.view();
        view.endpoints[0].deployments[&name.parse().expect("a name")].clone()
    }

    fn ready(&self, deployment: &str) -> usize {
        self.deployment(deployment).instances_ready
    }

    fn split(&self) -> String {
        self.router
            .table()
            .endpoint("iris")
            .expect("published")
            .split()
            .to_string()
    }

    async fn eventually(&self, what: impl Fn(&Self) -> bool) {
        let mut changed = tokio::time::interval(Duration::from_millis(10));
        let waited = tokio::time::timeout(Duration::from_secs(20), async {
            while !what(self) {
                changed.tick().await;
            }
        });
        waited.await.expect("it comes to pass");
    }
}

fn create() -> Change {
    Change::CreateEndpoint {
        endpoint: EndpointSpec::new("iris".parse().expect("a name")),
        deployments: Vec::new(),
    }
}

fn add(deployment: DeploymentSpec) -> Change {
    Change::CreateDeployment {
        endpoint: "iris".parse().expect("a name"),
        deployment,
        all_traffic: false,
    }
}

fn edit(name: &str, update: DeploymentUpdate) -> Change {
    Change::UpdateDeployment {
        endpoint: "iris".parse().expect("a name"),
        name: name.parse().expect("a name"),
        update,
    }
}

fn count(name: &str, count: u32) -> Change {
    edit(
        name,
        DeploymentUpdate {
            set: vec![
                format!("instance_count={count}")
                    .parse()
                    .expect("an assignment"),
            ],
            ..DeploymentUpdate::default()
        },
    )
}

fn traffic(split: &str) -> Change {
    let traffic = Some(split.parse().expect("a split"));
    Change::UpdateEndpoint {
        name: "iris".parse().expect("a name"),
        update: EndpointUpdate {
            traffic,
            ..EndpointUpdate::default()
        },
    }
}

/// The folder as another process has it.
fn hold(world: &World) -> DataFolder {
    DataFolder::open(&world.data.path().join("data")).expect("it is free")
}

#[tokio::test]
async fn a_lent_folder_is_free_for_another_and_no_change_is_accepted_until_it_is_back() {
    let world = World::with_blue(1).await;
    world.handle.lend().await.expect("nothing is under way");
    let other = hold(&world);
    for change in [traffic("blue:100"), create()] {
        let refused = world.submit(change).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Busy);
        assert!(
            refused.to_string().contains("is being replaced"),
            "{refused}"
        );
    }
    let again = world.handle.lend().await.unwrap_err();
    assert!(again.to_string().contains("is being replaced"), "{again}");
    // What it serves it goes on to serve, and what dies comes back.
    assert_eq!(world.ready("blue"), 1);
    // It is wanted back before it is free, as when the other process is about to end.
    let handle = world.handle.clone();
    let mut back = std::pin::pin!(handle.take_back());
    assert!(
        tokio::time::timeout(Duration::ZERO, &mut back)
            .await
            .is_err()
    );
    drop(other);
    back.await;
    world.succeed(traffic("blue:100")).await;
    let world = world.restart().await;
    assert_eq!(world.ready("blue"), 1);
}

#[tokio::test]
async fn a_folder_that_another_has_changed_is_not_taken_back() {
    let world = World::with_blue(1).await;
    world.handle.lend().await.expect("nothing is under way");
    let paper: Arc<dyn Starter> = Arc::new(Paper::default());
    let other = Controller::start_with(
        config(world.data.path(), Capacity::Overcommit),
        (Router::new(), Metrics::new()),
        (paper, CoreMap::new(Topology::read(), Capacity::Overcommit)),
    )
    .expect("the folder is free");
    let change = other.submit(traffic("blue:100"), "me".to_owned(), None);
    let operation = change.await.expect("accepted");
    other.finished(operation.id).await.expect("known");
    other.shutdown().await;
    world.handle.take_back().await;
    let refused = world.submit(traffic("blue:100")).await.unwrap_err();
    let words = "this server serves on and takes no changes: the data folder has revision";
    assert!(refused.to_string().contains(words), "{refused}");
    assert_eq!(world.ready("blue"), 1);
    // It can still be replaced.
    world.handle.lend().await.expect("nothing is under way");
    drop(hold(&world));
}

#[tokio::test]
async fn nothing_is_lent_while_something_is_under_way() {
    let world = World::start();
    world.succeed(create()).await;
    world.paper.hold(true);
    let begun = world.submit(add(world.spec("blue", "m1.onnx", 1))).await;
    let refused = world.handle.lend().await.unwrap_err();
    assert!(refused.to_string().contains("is under way"), "{refused}");
    world.paper.hold(false);
    world.handle.finished(begun.expect("accepted").id).await;
    world.handle.lend().await.expect("nothing is under way");
}

#[tokio::test]
async fn a_deployment_says_which_step_it_is_at_until_it_is_ready() {
    let world = World::start();
    world.succeed(create()).await;
    world.paper.hold_model("large");
    let spec = world.spec("blue", "large.onnx", 2);
    let accepted = world.submit(add(spec)).await.expect("accepted");
    let says = |step: &str| {
        let step = step.to_owned();
        move |world: &World| world.deployment("blue").progress.as_ref() == Some(&step)
    };
    world.eventually(says("preparing the model")).await;
    world.paper.hold(true);
    world.paper.hold_model("");
    // Under the lock of who waits, so that it hears of it.
    world.paper.hold(true);
    world.eventually(says("starting instance 1 of 2")).await;
    world.paper.hold(false);
    let ended = world.handle.finished(accepted.id).await.expect("known");
    assert_eq!(ended.provisioning_state, ProvisioningState::Succeeded);
    assert_eq!(world.deployment("blue").progress, None);
}

#[tokio::test]
async fn the_canary_flow_runs_from_create_to_delete() {
    let world = World::with_blue(3).await;
    assert_eq!((world.ready("blue"), world.paper.running()), (3, 3));
    let set = vec![
        "deployments.blue.scale.instance_count=5"
            .parse::<Assignment>()
            .expect("an assignment"),
    ];
    let name = "iris".parse().expect("a name");
    world
        .succeed(Change::UpdateEndpoint {
            name,
            update: EndpointUpdate {
                set,
                ..EndpointUpdate::default()
            },
        })
        .await;
    assert_eq!(world.ready("blue"), 5);
    world.succeed(add(world.spec("green", "m2.onnx", 2))).await;
    world.succeed(traffic("blue:90,green:10")).await;
    assert_eq!(world.split(), "blue:90,green:10");
    world.succeed(traffic("blue:0,green:100")).await;
    world
        .succeed(Change::DeleteDeployment {
            endpoint: None,
            name: "blue".parse().expect("a name"),
        })
        .await;
    assert_eq!(world.paper.running(), 2);
    world
        .succeed(Change::DeleteEndpoint {
            name: "iris".parse().expect("a name"),
        })
        .await;
    assert_eq!(world.paper.running(), 0);
    assert!(world.router.table().endpoint("iris").is_none());
    assert!(world.handle.view().endpoints.is_empty());
}

#[tokio::test]
async fn a_traffic_change_starts_nothing_and_is_in_force_when_it_is_reported() {
    let world = World::with_blue(2).await;
    world.succeed(add(world.spec("green", "m2.onnx", 1))).await;
    let before = world.paper.started.load(Ordering::SeqCst);
    world.succeed(traffic("blue:50,green:50")).await;
    assert_eq!(world.split(), "blue:50,green:50");
    assert_eq!(world.paper.started.load(Ordering::SeqCst), before);
}

#[tokio::test]
async fn a_split_that_is_asked_for_later_comes_about_later_whoever_is_waited_for_first() {
    let world = World::with_blue(1).await;
    world.succeed(add(world.spec("green", "m2.onnx", 1))).await;
    let begin = |split| {
        let begun = world.handle.begin(traffic(split), "me".to_owned(), None);
        async { begun.await.expect("accepted") }
    };
    let (to_canary, back) = (begin("blue:50,green:50"), begin("blue:100,green:0"));
    let back = back.await;
    assert!(to_canary.await.id < back.id);
    world.handle.finished(back.id).await.expect("known");
    assert_eq!(world.split(), "blue:100,green:0");
}

#[tokio::test]
async fn a_failed_update_leaves_the_old_instances_serving_and_a_later_one_works() {
    let world = World::with_blue(2).await;
    world
        .paper
        .bad
        .lock()
        .expect("whole")
        .insert("m2".to_owned());
    let file = world.spec("blue", "m2.onnx", 3);
    let update = DeploymentUpdate {
        file: Some(file),
        ..DeploymentUpdate::default()
    };
    let operation = world.run(edit("blue", update.clone())).await;
    assert_eq!(operation.provisioning_state, ProvisioningState::Failed);
    assert_eq!(
        operation.reason.as_deref(),
        Some("deployment blue: m2 does not load")
    );
    assert_eq!((world.ready("blue"), world.paper.running()), (2, 2));
    let view = world.handle.view();
    assert_eq!(
        view.endpoints[0].provisioning_state,
        ProvisioningState::Failed
    );

    // A change of something else neither retries nor fails.
    world.succeed(traffic("blue:100")).await;
    assert_eq!(world.paper.running(), 2);

    world.paper.bad.lock().expect("whole").clear();
    world.succeed(edit("blue", update)).await;
    assert_eq!((world.ready("blue"), world.paper.running()), (3, 3));
    assert_eq!(
        world.handle.view().endpoints[0].provisioning_state,
        ProvisioningState::Succeeded
    );
}

#[tokio::test]
async fn a_model_that_crashes_its_probe_is_never_started() {
    let world = World::with_blue(1).await;
    let operation = world.run(add(world.spec("green", "crash.onnx", 1))).await;
    assert_eq!(
        operation.reason.as_deref(),
        Some("deployment green: the model crashed")
    );
    assert_eq!(world.paper.started.load(Ordering::SeqCst), 1);
    let refused = world
        .submit(traffic("green:100"))
        .await
        .expect_err("it has no instance");
    assert_eq!(
        refused.to_string(),
        "traffic names green, which has no ready instance: deployment green: the model crashed"
    );
}

#[tokio::test]
async fn a_newer_change_takes_the_place_of_one_that_still_starts() {
    let world = World::with_blue(1).await;
    world.paper.hold(true);
    let first = world.submit(count("blue", 3)).await.expect("accepted");
    let second = world.submit(count("blue", 2)).await.expect("accepted");
    let first = world.handle.finished(first.id).await.expect("known");
    assert_eq!(
        (first.provisioning_state, first.reason.as_deref()),
        (
            ProvisioningState::Canceled,
            Some("operation 5 took its place")
        )
    );
    assert_eq!(world.ready("blue"), 1);
    world.paper.hold(false);
    let second = world.handle.finished(second.id).await.expect("known");
    assert_eq!(second.provisioning_state, ProvisioningState::Succeeded);
    world.eventually(|world| world.paper.running() == 2).await;
    assert_eq!(world.ready("blue"), 2);
}

#[tokio::test]
async fn rules_are_in_force_when_they_are_accepted_whatever_else_starts() {
    let world = World::with_blue(1).await;
    world.succeed(add(world.spec("green", "m2.onnx", 1))).await;
    world.succeed(traffic("blue:90,green:10")).await;
    world.paper.hold(true);
    let red = world.submit(add(world.spec("red", "m1.onnx", 1))).await;
    let roll = world
        .submit(edit("green", file(world.spec("green", "m1.onnx", 1))))
        .await;
    let (red, roll) = (red.expect("accepted").id, roll.expect("accepted").id);

    // A rollback, beside a deployment that starts and one that rolls.
    world.succeed(traffic("blue:100,green:0")).await;
    assert_eq!(world.split(), "blue:100,green:0");
    let name = "iris".parse().expect("a name");
    let credentials = world.handle.credentials(&name).await.expect("known");
    let opens = |key: &str| {
        let table = world.router.table();
        let endpoint = table.endpoint("iris").expect("shown");
        endpoint.auth().check(Some(key), 0).is_ok()
    };
    assert!(opens(credentials.bearer()));
    let renew = Change::RegenerateKey {
        endpoint: name,
        key: KeyType::Primary,
    };
    world.succeed(renew).await;
    assert!(!opens(credentials.bearer()));
    world
        .succeed(set("blue", "request_settings.request_timeout_ms=77"))
        .await;
    let timeout = world
        .router
        .table()
        .endpoint("iris")
        .expect("shown")
        .deployment("blue")
        .expect("shown")
        .request_timeout;
    assert_eq!(timeout, Duration::from_millis(77));

    for id in [red, roll] {
        let operation = world.handle.operation(id).expect("known");
        assert!(!operation.provisioning_state.has_ended(), "{operation:?}");
    }
    world.paper.hold(false);
    for id in [red, roll] {
        let operation = world.handle.finished(id).await.expect("known");
        assert_eq!(operation.provisioning_state, ProvisioningState::Succeeded);
    }
    assert_eq!(world.split(), "blue:100,green:0");
}

fn file(spec: DeploymentSpec) -> DeploymentUpdate {
    DeploymentUpdate {
        file: Some(spec),
        upsert: true,
        ..DeploymentUpdate::default()
    }
}

fn combined(spec: DeploymentSpec, split: &str) -> Change {
    Change::UpdateEndpoint {
        name: "iris".parse().expect("a name"),
        update: EndpointUpdate {
            deployment: Some((spec.name.clone(), file(spec))),
            traffic: Some(split.parse().expect("a split")),
            ..EndpointUpdate::default()
        },
    }
}

#[tokio::test]
async fn a_split_whose_new_version_fails_is_never_in_force_not_even_after_a_restart() {
    let world = World::with_blue(1).await;
    world.succeed(add(world.spec("green", "m2.onnx", 1))).await;
    let operation = world
        .run(combined(
            world.spec("green", "crash.onnx", 1),
            "blue:0,green:100",
        ))
        .await;
    assert_eq!(operation.provisioning_state, ProvisioningState::Failed);
    assert_eq!(world.split(), "blue:100");
    world.succeed(count("blue", 2)).await;
    assert_eq!(world.split(), "blue:100");
    let world = world.restart().await;
    assert_eq!(world.split(), "blue:100");
    assert_eq!((world.ready("blue"), world.ready("green")), (2, 1));
    // The other way, it is in force with the instances.
    world
        .succeed(combined(
            world.spec("green", "m1.onnx", 1),
            "blue:0,green:100",
        ))
        .await;
    assert_eq!(world.split(), "blue:0,green:100");
}

#[tokio::test]
async fn traffic_for_a_deployment_that_still_starts_is_refused_with_the_operation() {
    let world = World::with_blue(1).await;
    world.paper.hold(true);
    let green = world.submit(add(world.spec("green", "m2.onnx", 1))).await;
    let green = green.expect("accepted");
    let refused = world.submit(traffic("blue:90,green:10")).await;
    assert_eq!(
        refused.expect_err("not ready").to_string(),
        "traffic names green, which has no ready instance: operation 4 still starts it: wait for its end"
    );
    world.paper.hold(false);
    world.handle.finished(green.id).await.expect("known");
    world.succeed(traffic("blue:90,green:10")).await;
}

#[tokio::test]
async fn a_corrected_create_replaces_one_that_failed() {
    let world = World::with_blue(1).await;
    let failed = world.run(add(world.spec("green", "crash.onnx", 1))).await;
    assert_eq!(failed.provisioning_state, ProvisioningState::Failed);
    let corrected = world.run(add(world.spec("green", "m2.onnx", 1))).await;
    assert_eq!(corrected.provisioning_state, ProvisioningState::Succeeded);
    assert_eq!(
        corrected.note.as_deref(),
        Some("deployment green takes the place of one that failed and never was ready")
    );
    assert_eq!(world.ready("green"), 1);
}

#[tokio::test]
async fn a_model_that_hangs_while_it_loads_delays_nobody_else_s_return() {
    let world = World::with_blue(2).await;
    world.succeed(add(world.spec("green", "m2.onnx", 1))).await;
    world.succeed(traffic("blue:90,green:10")).await;
    let world = world.restart_with(|paper| paper.hold_model("m2")).await;
    world.eventually(|world| world.ready("blue") == 2).await;
    assert_eq!(world.ready("green"), 0);
    assert_eq!(world.split(), "blue:90,green:10");
    // And a rollback is possible meanwhile.
    world.succeed(traffic("blue:100,green:0")).await;
    assert_eq!(world.split(), "blue:100,green:0");
    world.paper.hold_model("");
    world.eventually(|world| world.ready("green") == 1).await;
}

#[tokio::test]
async fn an_endpoint_has_not_succeeded_while_a_restart_tries_again_what_failed() {
    let world = World::with_blue(1).await;
    world.paper.bad.lock().expect("whole").insert("m2".into());
    let failed = world.run(add(world.spec("green", "m2.onnx", 1))).await;
    assert_eq!(failed.provisioning_state, ProvisioningState::Failed);
    let world = world.restart_with(|paper| paper.hold_model("m2")).await;
    let endpoint = || world.handle.view().endpoints[0].provisioning_state;
    world.eventually(|world| world.ready("blue") == 1).await;
    assert_eq!(endpoint(), ProvisioningState::Updating);
    world.paper.hold_model("");
    world.eventually(|world| world.ready("green") == 1).await;
    assert_eq!(endpoint(), ProvisioningState::Succeeded);
}

#[tokio::test]
async fn a_restart_serves_what_was_accepted() {
    let world = World::with_blue(2).await;
    world.succeed(add(world.spec("green", "m2.onnx", 1))).await;
    world.succeed(traffic("blue:90,green:10")).await;
    let revision = world.handle.view().revision;
    let world = world.restart().await;
    assert_eq!((world.ready("blue"), world.ready("green")), (2, 1));
    assert_eq!(world.split(), "blue:90,green:10");
    assert_eq!(world.handle.view().revision, revision);
}

#[tokio::test]
async fn a_restart_after_a_failed_update_serves_what_ran_before() {
    let world = World::with_blue(2).await;
    let update = |file| DeploymentUpdate {
        file: Some(file),
        ..DeploymentUpdate::default()
    };
    let bad = update(world.spec("blue", "crash.onnx", 3));
    let operation = world.run(edit("blue", bad)).await;
    assert_eq!(operation.provisioning_state, ProvisioningState::Failed);
    // A deployment that never ran has nothing to fall back to, and does not hold the other up.
    world.run(add(world.spec("green", "crash.onnx", 1))).await;

    let world = world.restart().await;
    assert_eq!((world.ready("blue"), world.ready("green")), (2, 0));
    // What failed is tried again after that, and fails again.
    world
        .eventually(|world| {
            let state = world.handle.view().endpoints[0].provisioning_state;
            state == ProvisioningState::Failed
        })
        .await;
    assert_eq!(world.paper.running(), 2);

    let good = update(world.spec("blue", "m2.onnx", 3));
    world.succeed(edit("blue", good)).await;
    assert_eq!(world.ready("blue"), 3);
    let world = world.restart().await;
    assert_eq!(world.ready("blue"), 3);
}

#[tokio::test]
async fn an_instance_that_dies_is_replaced() {
    let world = World::with_blue(2).await;
    let dead = std::mem::take(&mut *world.paper.dead.lock().expect("whole"));
    dead.store(true, Ordering::SeqCst);
    world
        .eventually(|world| {
            world.paper.started.load(Ordering::SeqCst) == 4 && world.ready("blue") == 2
        })
        .await;
    world.eventually(|world| world.paper.running() == 2).await;
}

#[tokio::test]
async fn an_outdated_change_is_a_conflict() {
    let world = World::with_blue(1).await;
    let seen = world.handle.view().revision;
    world.succeed(count("blue", 2)).await;
    let refused = world
        .handle
        .submit(count("blue", 1), "me".to_owned(), Some(seen))
        .await
        .expect_err("outdated");
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert_eq!(
        refused.to_string(),
        "revision 3 was expected, the current one is 4: look again, then decide"
    );
}

#[tokio::test]
async fn a_model_in_use_is_not_deleted() {
    let world = World::start();
    let (name, path) = (
        "digits".parse().expect("a name"),
        world.data.path().join("m1.onnx"),
    );
    let record = world
        .handle
        .register_model(path.clone(), name, None, "me".to_owned())
        .await
        .expect("registered");
    assert_eq!(record.reference(), "digits:1");
    let again = world
        .handle
        .register_model(
            path,
            record.name.clone(),
            Some(record.version.clone()),
            "you".to_owned(),
        )
        .await;
    assert_eq!(again.expect("the same content"), record);
    world.succeed(create()).await;
    let text = "name: blue\nmodel: azureml:digits:1\ninstance_type: Standard_F2s_v2\n";
    world
        .succeed(add(
            read_deployment(text, "test.yml", &[]).expect("a deployment")
        ))
        .await;
    let refused = world
        .handle
        .delete_model(record.name.clone(), record.version.clone(), "me".to_owned())
        .await;
    assert_eq!(
        refused.expect_err("in use").to_string(),
        "model digits:1 is in use by iris/blue: update or delete them first"
    );
    world
        .succeed(Change::DeleteEndpoint {
            name: "iris".parse().expect("a name"),
        })
        .await;
    world
        .handle
        .delete_model(record.name, record.version, "me".to_owned())
        .await
        .expect("deleted");
    assert!(world.handle.models().is_empty());
}

#[tokio::test]
async fn the_journal_tells_who_asked_for_what_and_how_it_ended() {
    let world = World::with_blue(1).await;
    let name = "iris".parse().expect("a name");
    world
        .succeed(Change::RegenerateKey {
            endpoint: name,
            key: KeyType::Primary,
        })
        .await;
    let world = world.restart().await;
    let journal = world.handle.journal(100).await.expect("read");
    let kinds: Vec<_> = journal
        .iter()
        .map(|line| {
            (
                line.by.as_str(),
                line.change["kind"].as_str().expect("a kind"),
            )
        })
        .collect();
    assert!(
        kinds.contains(&("me", "regenerate_key")) && kinds.contains(&("serin", "outcome")),
        "{kinds:?}"
    );
    assert!(journal.iter().is_sorted_by_key(|line| line.seq));
}

#[tokio::test]
async fn a_stopped_controller_says_so() {
    let world = World::with_blue(1).await;
    world.handle.clone().shutdown().await;
    assert_eq!(world.paper.running(), 0);
    assert_eq!(
        world.submit(count("blue", 2)).await,
        Err(ChangeError::Stopped)
    );
}

fn set(name: &str, assignment: &str) -> Change {
    edit(
        name,
        DeploymentUpdate {
            set: vec![assignment.parse().expect("an assignment")],
            ..DeploymentUpdate::default()
        },
    )
}

#[tokio::test]
async fn an_instance_spins_unless_another_one_that_stays_has_its_cores() {
    let two_cores = Topology::new(&[0, 1], |core| vec![core], None);
    let world = World::with_cores(Capacity::Overcommit, two_cores);
    let spinning = |name: &str| -> Vec<bool> {
        let placements = world.deployment(name).placements;
        placements.iter().map(|one| one.spinning).collect()
    };
    let notes_of_spinning = |name: &str| -> Vec<String> {
        let notes = world.deployment(name).notes.into_iter();
        notes.filter(|note| note.starts_with("spin")).collect()
    };
    world.succeed(create()).await;
    world.succeed(add(world.spec("blue", "m1.onnx", 1))).await;
    assert_eq!(spinning("blue"), [false], "nobody asked for it");
    // While it starts, what it replaces has the same cores.
    world
        .succeed(set("blue", "request_settings.spin=true"))
        .await;
    assert_eq!(spinning("blue"), [true]);
    assert!(notes_of_spinning("blue").is_empty());

    world.succeed(add(world.spec("green", "m2.onnx", 2))).await;
    world
        .succeed(set("green", "request_settings.spin=true"))
        .await;
    assert_eq!(spinning("green"), [false, false]);
    assert_eq!(
        notes_of_spinning("green"),
        ["spin has no effect: another instance had some of the same cores at the start"]
    );
    assert_eq!(spinning("blue"), [true], "it goes on as it started");
    assert_eq!(
        notes_of_spinning("blue"),
        [
            "spin: another instance has come to the same cores since, and both are slower until this deployment starts anew or \
             spin is turned off"
        ]
    );

    let delete = Change::DeleteDeployment {
        endpoint: None,
        name: "blue".parse().expect("a name"),
    };
    world.succeed(delete).await;
    world
        .succeed(set("green", "request_settings.lanes=1"))
        .await;
    assert_eq!(
        spinning("green"),
        [false, false],
        "they share with each other"
    );
}

#[test]
fn two_control_planes_of_a_process_never_have_a_core_twice_and_one_gets_what_the_other_gives_back()
{
    let two_cores = Topology::new(&[0, 1], |core| vec![core], None);
    let first = CoreMap::new(two_cores, Capacity::Strict);
    let second = first.twin();
    let start = |cores| {
        let starter: Arc<dyn Starter> = Arc::new(Paper::default());
        Local::start_with((starter, cores), (Router::new(), Metrics::new())).expect("starts")
    };
    let (one, other) = (start(first), start(second));
    let data = tempfile::tempdir().expect("a folder");
    let path = data.path().join("m1.onnx");
    std::fs::write(&path, "m1").expect("written");
    let create = |local: &Local| {
        let model = path.display();
        let text = format!("name: blue\nmodel: {model}\ninstance_type: Standard_F2s_v2\n");
        let change = Change::CreateEndpoint {
            endpoint: EndpointSpec::new("iris".parse().expect("a name")),
            deployments: vec![read_deployment(&text, "test.yml", &[]).expect("a deployment")],
        };
        let model = LocalModel {
            source: LocalSource::File(path.clone()),
            sample_request: None,
        };
        let models = BTreeMap::from([(path.clone(), model)]);
        local.carry_out(change, models, SkuTable::builtin())
    };
    create(&one).expect("there is room");
    let refused = create(&other).expect_err("no core is left").to_string();
    assert!(refused.contains("0 of 2 are free"), "{refused}");
    let delete = |local: &Local| {
        let name = "iris".parse().expect("a name");
        let delete = Change::DeleteEndpoint { name };
        local.carry_out(delete, BTreeMap::new(), SkuTable::builtin())
    };
    delete(&one).expect("it ends");
    delete(&other).expect("nothing of it runs");
    create(&other).expect("the cores are back");
}

#[test]
fn without_a_store_an_instance_that_dies_is_replaced_too() {
    let data = tempfile::tempdir().expect("a folder");
    let path = data.path().join("m1.onnx");
    std::fs::write(&path, "m1").expect("written");
    let (paper, router) = (Arc::new(Paper::default()), Router::new());
    let cores = CoreMap::new(Topology::read(), Capacity::Overcommit);
    let starter: Arc<dyn Starter> = Arc::clone(&paper) as Arc<dyn Starter>;
    let metrics = Metrics::new();
    let shown = (Arc::clone(&router), Arc::clone(&metrics));
    let local = Local::start_with((starter, cores), shown);
    let local = local.expect("starts");
    let text = format!(
        "name: blue\nmodel: {}\ninstance_type: Standard_F2s_v2\ninstance_count: 2\n",
        path.display()
    );
    let change = Change::CreateEndpoint {
        endpoint: EndpointSpec::new("iris".parse().expect("a name")),
        deployments: vec![read_deployment(&text, "test.yml", &[]).expect("a deployment")],
    };
    let model = LocalModel {
        source: LocalSource::File(path.clone()),
        sample_request: None,
    };
    let models = BTreeMap::from([(path, model)]);
    local
        .carry_out(change, models, SkuTable::builtin())
        .expect("it starts");
    assert_eq!(paper.started.load(Ordering::SeqCst), 2);
    let dead = std::mem::take(&mut *paper.dead.lock().expect("whole"));
    dead.store(true, Ordering::SeqCst);
    let late = Instant::now() + Duration::from_secs(20);
    let died = "serin_instances_died_total{endpoint=\"iris\",deployment=\"blue\"} 2\n";
    while paper.started.load(Ordering::SeqCst) < 4 || !metrics.render().contains(died) {
        assert!(Instant::now() < late, "it comes to pass");
        std::thread::sleep(Duration::from_millis(10));
    }
}
