//! Deployments of scoring scripts, with an engine of paper that reads the script and runs none.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::control::{ModelDigest, back_up};

const SCRIPT: &str = "def init(): pass";

/// A world with a pickle and a script beside its models.
fn with_script() -> World {
    let world = World::start();
    for (file, content) in [
        ("src/m1/score.py", SCRIPT),
        ("model.pkl", "pickle"),
        ("one.txt", "six\n"),
        ("broken.txt", "broken\n"),
    ] {
        let file = world.data.path().join(file);
        fs::create_dir_all(file.parent().expect("a parent")).expect("made");
        fs::write(file, content).expect("written");
    }
    world
}

/// A deployment of the script, as its file stands there.
fn spec(world: &World, name: &str, more: &str) -> DeploymentSpec {
    let text = format!(
        "name: {name}\nmodel: model.pkl\ninstance_type: Standard_F2s_v2\n\
         code_configuration: {{code: src, scoring_script: src/m1/score.py}}\n{more}"
    );
    let mut spec = read_deployment(&text, "test.yml", &[]).expect("a deployment");
    spec.resolve_paths(world.data.path());
    spec
}

/// Folders of instances.
fn folders(world: &World) -> Vec<PathBuf> {
    let folders = fs::read_dir(world.data.path().join("data/scripts")).expect("a folder");
    folders.map(|one| one.expect("an entry").path()).collect()
}

#[tokio::test]
async fn a_script_runs_with_its_environment_in_a_folder_of_its_own_until_it_stops() {
    let world = with_script();
    world.succeed(create()).await;
    world
        .succeed(add(spec(
            &world,
            "blue",
            "environment: one.txt\ninstance_count: 2\n",
        )))
        .await;
    let blue = world.deployment("blue");
    let script = blue.script.expect("a script");
    assert_eq!(script.entry_script, "src/m1/score.py");
    assert_eq!(script.environment.as_deref(), Some("a paper environment"));
    assert_eq!(script.python, Some("/usr/bin/python3".into()));
    let shown = serde_json::to_value(&blue.spec).expect("JSON");
    assert_eq!(shown["scoring"], "script");
    assert_eq!(
        shown["code_configuration"]["scoring_script"],
        "src/m1/score.py"
    );
    assert_eq!(shown["code_configuration"].get("relative_to"), None);
    let folders_of_two = folders(&world);
    assert_eq!(folders_of_two.len(), 2, "one for each instance");
    for folder in folders_of_two {
        let model = fs::read_to_string(folder.join("azureml-models/model/1/model.pkl"));
        assert_eq!(model.expect("a model"), "pickle");
        let code = fs::read_to_string(folder.join("azureml-app/src/m1/score.py"));
        assert_eq!(code.expect("code"), SCRIPT);
    }
    assert_eq!(world.paper.environments.lock().expect("whole").len(), 1);
    world.succeed(count("blue", 1)).await;
    world.eventually(|world| folders(world).len() == 1).await;
}

#[tokio::test]
async fn a_restart_runs_what_was_accepted_also_when_the_files_have_gone() {
    let world = with_script();
    world.succeed(create()).await;
    world
        .succeed(add(spec(&world, "blue", "environment: one.txt\n")))
        .await;
    for file in ["src", "model.pkl", "one.txt"] {
        let moved = world.data.path().join(format!("gone-{file}"));
        fs::rename(world.data.path().join(file), moved).expect("moved");
    }
    let world = world.restart().await;
    assert_eq!(world.ready("blue"), 1);
    assert_eq!(folders(&world).len(), 1);
    // Neither is the copy of the code swept away with the models that nothing refers to.
    world.succeed(count("blue", 2)).await;
    assert_eq!(world.ready("blue"), 2);
}

#[tokio::test]
async fn a_build_that_fails_fails_its_deployment_and_nothing_else_and_the_next_change_tries_again()
{
    let world = with_script();
    world.succeed(create()).await;
    let good = spec(&world, "blue", "environment: one.txt\n");
    world.succeed(add(good)).await;
    world.succeed(traffic("blue:100")).await;
    let broken = DeploymentUpdate {
        file: Some(spec(&world, "blue", "environment: broken.txt\n")),
        ..DeploymentUpdate::default()
    };
    for _ in 0..2 {
        let operation = world.run(edit("blue", broken.clone())).await;
        assert_eq!(operation.provisioning_state, ProvisioningState::Failed);
        let reason = operation.reason.expect("a reason");
        assert_eq!(reason, "deployment blue: no distribution found for broken");
        assert_eq!(world.ready("blue"), 1, "what was good serves on");
    }
    assert_eq!(world.paper.environments.lock().expect("whole").len(), 3);
}

#[tokio::test]
async fn a_build_says_how_it_goes_on_and_ends_when_nobody_waits_for_it() {
    let world = with_script();
    world.succeed(create()).await;
    world.paper.hold_model("environment");
    let accepted = world
        .submit(add(spec(&world, "blue", "environment: one.txt\n")))
        .await;
    accepted.expect("accepted");
    let says = |world: &World| world.deployment("blue").progress;
    let step = "building the environment: downloading six";
    world
        .eventually(|world| says(world).as_deref() == Some(step))
        .await;
    let gone = Change::DeleteDeployment {
        endpoint: None,
        name: "blue".parse().expect("a name"),
    };
    world.succeed(gone).await;
    // Held still: it ends because it is told to.
    let ended = |world: &World| world.paper.builds_ended.load(Ordering::SeqCst);
    world.eventually(|world| ended(world) == 1).await;
}

#[tokio::test]
async fn a_damaged_copy_of_the_code_is_not_run() {
    let world = with_script();
    world.succeed(create()).await;
    world.succeed(add(spec(&world, "blue", ""))).await;
    let digest = world
        .deployment("blue")
        .script
        .expect("a script")
        .code_digest;
    let copy = world
        .data
        .path()
        .join("data/models/sha256")
        .join(digest.as_str());
    fs::write(copy.join("m1/score.py"), "def init(): evil()").expect("written");
    let operation = world.run(count("blue", 2)).await;
    let reason = operation.reason.expect("a reason");
    assert!(reason.contains("are damaged or others"), "{reason}");
}

#[tokio::test]
async fn a_server_that_takes_over_leaves_the_folders_of_the_one_that_still_serves() {
    let world = with_script();
    world.succeed(create()).await;
    world.succeed(add(spec(&world, "blue", ""))).await;
    let before = folders(&world);
    world.handle.lend().await.expect("nothing is under way");
    let paper: Arc<dyn Starter> = Arc::new(Paper::default());
    let other = Controller::start_with(
        config(world.data.path(), Capacity::Overcommit),
        (Router::new(), Metrics::new()),
        (paper, CoreMap::new(Topology::read(), Capacity::Overcommit)),
    )
    .expect("the folder is free");
    other.settled().await;
    let after = folders(&world);
    assert!(before.iter().all(|folder| after.contains(folder)));
    assert_eq!(after.len(), 2, "each has its own");
    other.shutdown().await;
    assert_eq!(folders(&world), before);
}

#[tokio::test]
async fn a_backup_has_the_code_and_the_model_of_a_script() {
    let world = with_script();
    world.succeed(create()).await;
    world.succeed(add(spec(&world, "blue", ""))).await;
    let to = world.data.path().join("backup");
    let copied = back_up(&world.data.path().join("data"), &to).expect("copied");
    assert_eq!(copied.models, 2);
    let blue = world.deployment("blue");
    let stored = |digest: &ModelDigest| to.join("models/sha256").join(digest.as_str());
    let code = stored(&blue.script.expect("a script").code_digest);
    assert!(code.join("m1/score.py").is_file());
    assert!(stored(&blue.model_digest).join("model.pkl").is_file());
}

#[tokio::test]
async fn a_registered_model_is_seen_under_its_name_and_version_and_not_deleted_while_a_script_runs_it()
 {
    let world = with_script();
    let (name, version) = (
        "digits".parse().expect("a name"),
        "7".parse().expect("a version"),
    );
    let registered = world.handle.register_model(
        world.data.path().join("model.pkl"),
        name,
        Some(version),
        "me".to_owned(),
    );
    let record = registered.await.expect("registered");
    assert_eq!(record.is_folder, Some(false));
    world.succeed(create()).await;
    let text = "name: blue\nmodel: azureml:digits:7\ninstance_type: Standard_F2s_v2\n\
                code_configuration: {code: src/m1, scoring_script: score.py}\n";
    let mut spec = read_deployment(text, "test.yml", &[]).expect("a deployment");
    spec.resolve_paths(world.data.path());
    world.succeed(add(spec)).await;
    let folder = folders(&world).remove(0);
    let model = fs::read_to_string(folder.join("azureml-models/digits/7/model.pkl"));
    assert_eq!(model.expect("a model"), "pickle");
    let deleted = world
        .handle
        .delete_model(record.name, record.version, "me".to_owned());
    let refused = deleted.await.expect_err("refused");
    assert!(
        refused.to_string().contains("is in use by iris/blue"),
        "{refused}"
    );
}
