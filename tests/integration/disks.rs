//! Disks and files that lose what they were given: everything that was accepted is served, or it is said what is missing.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::hygiene::wait_until;
use crate::support::{Server, folder, model, repository, run, serin};

/// The request that both deployments answer.
fn sample() -> String {
    fs::read_to_string(repository("models/digits/1/sample-request.json"))
        .expect("the sample request")
}

/// An endpoint with two deployments, one of a registered model; the key.
fn accepted(server: &Server) -> String {
    server.create_endpoint("iris");
    server.register("digits", "2", "models/digits/2").ok();
    let green = model("models/digits/1/model.onnx");
    for (name, model) in [("blue", "azureml:digits:2"), ("green", &green)] {
        server
            .create_deployment(name, model, "request_settings: {isolation: thread}\n")
            .ok();
    }
    server.update("iris", &["--traffic", "blue=60 green=40"]);
    server.key("iris")
}

/// What was accepted of the endpoint, as a person sees it.
fn shown(server: &Server) -> Value {
    let shown = server.ok(&["endpoint", "show", "--detail", "--name", "iris"]);
    let deployments = ["blue", "green"].map(|name| {
        let one = &shown["deployments"][name];
        let fields = ["model", "model_digest", "instance_type", "instance_count"];
        let mut known: Vec<_> = fields.map(|field| one[field].clone()).into();
        known.push(one["request_settings"].clone());
        known
    });
    let journal = server.ok(&["journal", "--last", "4"]);
    let models = server.ok(&["model", "list"]);
    assert!(journal.as_array().is_some_and(|lines| !lines.is_empty()));
    json!([
        shown["name"],
        shown["auth_mode"],
        shown["traffic"],
        deployments,
        models
    ])
}

fn statuses(server: &Server, key: &str) -> [u16; 2] {
    ["blue", "green"].map(|name| server.score("iris", key, Some(name), &sample()).status)
}

/// All files below a folder, by their names from there.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.is_file() {
            // The socket of a server that was killed is none.
            found.push(path);
        }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).expect("below it"));
        fs::create_dir_all(target.parent().expect("a folder")).expect("made");
        fs::copy(&file, &target).expect("copied");
    }
}

/// Damages a file in one way.
fn damage(file: &Path, how: &str) {
    let mut bytes = fs::read(file).expect("a file");
    match how {
        "removed" => return fs::remove_file(file).expect("removed"),
        "emptied" => bytes.clear(),
        "cut" => bytes.truncate(bytes.len() / 2),
        _ => {
            let middle = bytes.len() / 2;
            if let Some(byte) = bytes.get_mut(middle) {
                *byte ^= 1;
            }
        }
    }
    fs::write(file, bytes).expect("written");
}

/// Each file of the data folder of a server that was killed, and of one that ended in good order.
#[test]
fn no_damage_of_a_file_is_silently_less_than_was_accepted() {
    let (killed, ended) = (folder(), folder());
    let server = Server::start(killed.path());
    let key = accepted(&server);
    let before = shown(&server);
    server.kill();
    copy(killed.path(), ended.path());
    assert_eq!(Server::start(ended.path()).terminate(), Some(0));
    for state in [killed.path(), ended.path()] {
        for file in files(state) {
            let name = file.strip_prefix(state).expect("below it");
            for how in ["removed", "emptied", "cut", "flipped"] {
                let data = folder();
                copy(state, data.path());
                damage(&data.path().join(name), how);
                let what = format!("{} {how}", name.display());
                check(data.path(), name, (&key, &before), &what);
            }
        }
    }
}

fn check(data: &Path, name: &Path, (key, before): (&str, &Value), what: &str) {
    let name = name.to_str().expect("UTF-8");
    match Server::start_unless_refused(data, &[]) {
        Ok(server) if name.starts_with("models/") => {
            let mut both = statuses(&server, key);
            both.sort_unstable();
            assert_eq!(both, [200, 503], "{what}: one is damaged, the other serves");
            let raw = server
                .ok(&["endpoint", "show", "--detail", "--name", "iris"])
                .to_string();
            assert!(raw.contains("are damaged or others"), "{what}: {raw}");
        }
        Ok(server) => {
            assert_ne!(name, "secret", "{what}: passed");
            assert_eq!(shown(&server), *before, "{what}");
            assert_eq!(statuses(&server, key), [200, 200], "{what}");
        }
        Err(words) => {
            assert!(["secret", "serin.db"].contains(&name), "{what}: {words}");
            assert!(words.contains("--accept-loss"), "{what}: {words}");
            assert!(words.contains("serin restore"), "{what}: {words}");
        }
    }
}

#[test]
fn a_backup_of_a_running_server_restores_it_whole_with_its_keys() {
    let (data, place) = (folder(), folder());
    let server = Server::start(data.path());
    let key = accepted(&server);
    let before = shown(&server);
    let backup = place.path().join("backup");
    let to = backup.to_str().expect("UTF-8");
    let made = server.ok(&["backup", to]);
    assert_eq!(
        (&made["endpoints"], &made["models"]),
        (&json!(1), &json!(2))
    );
    let mode = fs::metadata(&backup).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "the secret is in it");
    let (code, words) = server.fails(&["backup", to]);
    assert!(code == 5 && words.contains("is there already"), "{words}");
    // What comes after it is not in it.
    server.update("iris", &["--traffic", "blue=100 green=0"]);
    let (code, words) = server.fails(&["restore", to, "--force"]);
    assert!(code == 8 && words.contains("is in use by"), "{words}");
    let after = shown(&server);
    assert_eq!(server.terminate(), Some(0));

    let other = folder();
    run(other.path(), &["restore", to]).ok();
    let server = Server::start(other.path());
    assert_eq!(shown(&server), before);
    assert_eq!(statuses(&server, &key), [200, 200]);
    drop(server);

    let refused = run(data.path(), &["restore", to]);
    assert_eq!(refused.code, 5);
    let restored = run(data.path(), &["restore", to, "--force"]).ok();
    let server = Server::start(data.path());
    assert_eq!(shown(&server), before);
    assert_eq!(statuses(&server, &key), [200, 200]);
    drop(server);
    let kept = restored["kept_in"].as_str().expect("a path");
    let server = Server::start(Path::new(kept));
    assert_eq!(shown(&server), after, "what was there is whole too");
}

#[test]
fn a_damaged_backup_is_not_restored() {
    let (data, place) = (folder(), folder());
    let server = Server::start(data.path());
    accepted(&server);
    let backup = place.path().join("backup");
    server.ok(&["backup", backup.to_str().expect("UTF-8")]);
    for file in files(&backup) {
        let name = file.strip_prefix(&backup).expect("below it");
        if name == Path::new("serin.mark") {
            continue;
        }
        for how in ["removed", "emptied", "cut", "flipped"] {
            let (damaged, empty) = (folder(), folder());
            copy(&backup, damaged.path());
            damage(&damaged.path().join(name), how);
            let refused = run(
                empty.path(),
                &["restore", damaged.path().to_str().expect("UTF-8")],
            );
            let seal_holds = how == "flipped" && name == Path::new("serin.db");
            assert!(
                refused.code == 3 || seal_holds,
                "{name:?} {how}: {}",
                refused.stderr
            );
            if refused.code == 3 {
                let left: Vec<_> = files(empty.path());
                assert_eq!(left, [empty.path().join("lock")], "{name:?} {how}");
            }
        }
    }
}

#[test]
fn a_key_of_a_lost_database_opens_no_endpoint_of_the_next_one() {
    let data = folder();
    let server = Server::start(data.path());
    let key = accepted(&server);
    server.kill();
    for name in ["serin.db", "serin.db-wal", "serin.db-shm"] {
        fs::remove_file(data.path().join(name)).expect("there");
    }
    let server = Server::start_with(data.path(), &["--accept-loss"]);
    let journal = server.ok(&["journal"]);
    assert_eq!(journal[0]["change"]["kind"], "accept_loss");
    assert_ne!(accepted(&server), key);
    assert_eq!(statuses(&server, &key), [401, 401]);
    assert_eq!(statuses(&server, &server.key("iris")), [200, 200]);
}

#[test]
fn a_damaged_model_is_mended_by_registering_it_again() {
    let data = folder();
    let server = Server::start(data.path());
    let key = accepted(&server);
    server.kill();
    let models = data.path().join("models/sha256");
    for file in files(&models) {
        damage(&file, "flipped");
    }
    let server = Server::start(data.path());
    assert_eq!(statuses(&server, &key), [503, 503]);
    server.register("digits", "2", "models/digits/2").ok();
    drop(server);
    let server = Server::start(data.path());
    assert_eq!(statuses(&server, &key), [200, 503]);
}

/// No file may grow beyond a byte: as on a disk without room.
#[test]
fn a_full_disk_does_not_stop_a_restart() {
    let data = folder();
    let server = Server::start(data.path());
    let key = accepted(&server);
    let before = shown(&server);
    server.kill();
    let mut command = Command::new("prlimit");
    command
        .args(["--fsize=1:", env!("CARGO_BIN_EXE_serin")])
        .envs(environment(data.path()));
    let server = Server::start_unannounced(command, data.path());
    assert_eq!(statuses(&server, &key), [200, 200]);
    let announced = data.path().join("server.json");
    assert!(!announced.exists(), "no command finds the server before it");
    let lifted = Command::new("prlimit")
        .args(["--pid", &server.pid().to_string(), "--fsize=unlimited:"])
        .status()
        .expect("prlimit of util-linux");
    assert!(lifted.success());
    wait_until("the server file", || announced.exists());
    assert_eq!(shown(&server), before);
    server.update("iris", &["--traffic", "blue=50 green=50"]);
    assert_eq!(server.terminate(), Some(0));
    let server = Server::start(data.path());
    let traffic = &server.ok(&["endpoint", "show", "--detail", "--name", "iris"])["traffic"];
    assert_eq!(*traffic, json!({"blue": 50, "green": 50}));
}

/// The environment of a command of serin, for one that is started through another program.
fn environment(data: &Path) -> Vec<(OsString, OsString)> {
    let command = serin(data);
    let set = command
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
    set.collect()
}

#[test]
fn a_hard_limit_of_addresses_is_taken_as_it_is() {
    let data = folder();
    let mut command = Command::new("prlimit");
    // As `LimitAS=` of systemd: less than a model may have otherwise.
    command
        .args(["--as=4000000000", env!("CARGO_BIN_EXE_serin")])
        .envs(environment(data.path()));
    let server = Server::start_command(command, data.path());
    let key = accepted(&server);
    assert_eq!(statuses(&server, &key), [200, 200]);
    let hungry = model("models/test/hungry.onnx");
    let refused = server.create_deployment("red", &hungry, "").error();
    assert!(
        refused.contains("more memory than the 4000 MB of address space"),
        "{refused}"
    );
}
