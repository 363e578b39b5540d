//! What loading and unloading costs: weights that are shared, memory that comes back, loads that nobody feels.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::hygiene::{children, try_a_model_that_hangs, wait_until};
use crate::mlp::Mlp;
use crate::scoring::deploy;
use crate::support::{Server, folder, serin};

/// Bytes of the weights of [`large`].
const LARGE_BYTES: u64 = 30_000_000;
/// The lowest scheduling class of Linux, and the usual one, as `/proc` gives them.
const IDLE: &str = "5";
const USUAL: &str = "0";

/// A model that is worth preparing.
fn large() -> (TempDir, Mlp) {
    written(Mlp::of_megabytes(30))
}

fn written(mlp: Mlp) -> (TempDir, Mlp) {
    let folder = folder();
    mlp.write(folder.path());
    (folder, mlp)
}

/// A server with a cache folder of its own.
fn server(data: &Path, cache: &Path) -> Server {
    let mut command: Command = serin(data);
    command.env("SERIN_CACHE", cache);
    Server::start_command(command, data)
}

/// Deploys the model of a folder; the answer to its request.
fn deploy_and_ask(server: &Server, model: &Path, mlp: &Mlp, more: &str) -> Value {
    let path = model.to_str().expect("UTF-8");
    deploy(server, path, more);
    ask(server, mlp)
}

fn ask(server: &Server, mlp: &Mlp) -> Value {
    let answer = server.score("iris", &server.key("iris"), None, &mlp.request());
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

fn notes(server: &Server) -> String {
    let name = ["--name", "blue", "--endpoint-name", "iris"];
    let shown = server.ok(&[["online-deployment", "show", "--detail"].as_slice(), &name].concat());
    shown["notes"].to_string()
}

/// The entries of the cache, whole or not.
fn entries(cache: &Path) -> Vec<PathBuf> {
    let found = fs::read_dir(cache.join("models")).expect("a folder of entries");
    found.map(|entry| entry.expect("an entry").path()).collect()
}

/// The server's memory without the code of programs and libraries, which it shares with whoever else runs them; in bytes.
fn memory(server: &Server) -> u64 {
    let path = format!("/proc/{}/smaps", server.pid());
    let text = fs::read_to_string(path).expect("the server runs");
    let (mut counts, mut kilobytes) = (true, 0);
    for line in text.lines() {
        let first = line.split_whitespace().next().unwrap_or_default();
        if !first.ends_with(':') {
            counts = !line.contains(".so") && !line.ends_with("/serin");
        } else if counts && first == "Pss:" {
            let number = line.split_whitespace().nth(1).expect("a number");
            kilobytes += number.parse::<u64>().expect("a number");
        }
    }
    kilobytes * 1024
}

#[test]
fn a_model_is_prepared_once_and_then_found_in_the_cache() {
    let (data, cache, (model, mlp)) = (folder(), folder(), large());
    let first = server(data.path(), cache.path());
    let answer = deploy_and_ask(&first, model.path(), &mlp, "");
    assert!(!notes(&first).contains("prepared"), "{}", notes(&first));
    let made = entries(cache.path());
    assert_eq!(made.len(), 1, "{made:?}");
    let inode = fs::metadata(&made[0]).expect("an entry").ino();
    first.terminate();

    let second = server(data.path(), cache.path());
    assert_eq!(ask(&second, &mlp), answer);
    assert_eq!(entries(cache.path()), made);
    assert_eq!(fs::metadata(&made[0]).expect("an entry").ino(), inode);
}

#[test]
fn without_a_cache_the_model_itself_is_served_with_the_same_answer_and_a_note() {
    let (model, mlp) = large();
    let (data, cache) = (folder(), folder());
    let prepared = server(data.path(), cache.path());
    let answer = deploy_and_ask(&prepared, model.path(), &mlp, "");

    let (data, cache) = (folder(), folder());
    // No folder can be made where a file is.
    fs::write(cache.path().join("models"), "").expect("a file");
    let plain = server(data.path(), cache.path());
    assert_eq!(deploy_and_ask(&plain, model.path(), &mlp, ""), answer);
    assert!(
        notes(&plain).contains("it was not prepared"),
        "{}",
        notes(&plain)
    );
}

#[test]
fn a_small_model_is_served_as_it_is() {
    let (data, cache) = (folder(), folder());
    let server = server(data.path(), cache.path());
    deploy(&server, "models/digits/1/model.onnx", "");
    assert!(!notes(&server).contains("prepared"), "{}", notes(&server));
    let folder = cache.path().join("models");
    let weights = fs::read_dir(&folder).into_iter().flatten();
    let mut weights = weights.filter(|entry| {
        let entry = entry.as_ref().expect("an entry");
        entry.path().join("weights.bin").exists()
    });
    assert!(weights.next().is_none());
}

#[test]
fn two_servers_that_prepare_the_same_model_at_once_make_one_entry() {
    let (cache, (model, mlp)) = (folder(), large());
    let begin = || {
        let data = folder();
        let server = server(data.path(), cache.path());
        let answer = deploy_and_ask(&server, model.path(), &mlp, "");
        (answer, notes(&server))
    };
    let (one, other) = std::thread::scope(|scope| {
        let one = scope.spawn(begin);
        let other = scope.spawn(begin);
        (one.join().expect("whole"), other.join().expect("whole"))
    });
    assert_eq!(one, other);
    assert!(!one.1.contains("prepared"), "{}", one.1);
    let made = entries(cache.path());
    assert_eq!(made.len(), 1, "{made:?}");
}

#[test]
fn a_damaged_entry_is_made_anew_and_never_served() {
    let (data, cache, (model, mlp)) = (folder(), folder(), large());
    let first = server(data.path(), cache.path());
    let answer = deploy_and_ask(&first, model.path(), &mlp, "");
    first.terminate();
    let entry = entries(cache.path()).remove(0);
    let weights = entry.join("weights.bin");
    let sound = fs::read(&weights).expect("weights");
    for damage in ["a changed byte", "a cut"] {
        let mut bytes = sound.clone();
        match damage {
            "a cut" => bytes.truncate(1000),
            _ => bytes[1_000_000] ^= 0x40,
        }
        fs::set_permissions(&weights, fs::Permissions::from_mode(0o600)).expect("our file");
        fs::write(&weights, &bytes).expect("written");
        let again = server(data.path(), cache.path());
        assert_eq!(ask(&again, &mlp), answer, "{damage}");
        assert!(
            fs::read(&weights).expect("weights") == sound,
            "{damage} is mended"
        );
        assert!(!notes(&again).contains("prepared"), "{}", notes(&again));
        again.terminate();
    }
}

#[test]
fn a_prepared_model_needs_nothing_of_the_files_that_it_was_made_from() {
    let (data, cache) = (folder(), folder());
    let (model, mlp) = written(Mlp {
        external: true,
        ..Mlp::of_megabytes(4)
    });
    let first = server(data.path(), cache.path());
    let answer = deploy_and_ask(&first, model.path(), &mlp, "");
    first.terminate();
    let second = server(data.path(), cache.path());
    assert_eq!(ask(&second, &mlp), answer);
    // They are read once, to see that they are what was registered, and none of them is held.
    let maps = fs::read_to_string(format!("/proc/{}/maps", second.pid())).expect("it runs");
    let mapped = |folder: &Path| maps.contains(folder.to_str().expect("UTF-8"));
    assert!(mapped(&cache.path().join("models")), "{maps}");
    assert!(!mapped(&data.path().join("models")), "{maps}");
}

#[test]
fn instances_share_the_weights_and_an_unload_gives_the_memory_back() {
    let (data, cache, (model, mlp)) = (folder(), folder(), large());
    let server = server(data.path(), cache.path());
    let delete = ["endpoint", "delete", "--name", "iris", "--yes"];
    // What is done once in the life of a server is done.
    deploy_and_ask(&server, model.path(), &mlp, "");
    server.ok(&delete);
    let before = memory(&server);
    deploy_and_ask(&server, model.path(), &mlp, "instance_count: 3\n");
    let loaded = memory(&server);
    let lock = fs::File::open(entries(cache.path())[0].join("lock")).expect("a lock");
    assert!(lock.try_lock().is_err(), "the entry is in use");
    assert!(
        loaded - before < LARGE_BYTES * 3 / 2,
        "three instances take {} bytes more than none",
        loaded - before
    );
    assert!(
        loaded - before > LARGE_BYTES / 2,
        "the weights are in memory"
    );
    server.ok(&delete);
    lock.try_lock().expect("nobody uses the entry");
    let after = memory(&server);
    assert!(
        after < before + LARGE_BYTES / 10,
        "{before} bytes before, {after} after"
    );
}

/// Scheduling class of a thread, from `/proc/PID/stat`: the 41st field, counted from the third, which follows the name.
fn class(task: &Path) -> String {
    let stat = fs::read_to_string(task.join("stat")).expect("it runs");
    let fields = stat.rsplit_once(')').expect("a name").1;
    let class = fields.split_whitespace().nth(41 - 3);
    class.expect("a class").to_owned()
}

#[test]
fn a_model_that_is_loaded_beside_another_runs_at_the_usual_priority() {
    let (data, cache, (model, mlp)) = (folder(), folder(), large());
    let server = server(data.path(), cache.path());
    deploy_and_ask(&server, model.path(), &mlp, "");
    server
        .create_deployment("green", model.path().to_str().expect("UTF-8"), "")
        .ok();
    let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).expect("the server runs");
    let mut lanes = 0;
    for task in tasks.map(|task| task.expect("a thread").path()) {
        let name = fs::read_to_string(task.join("comm")).unwrap_or_default();
        if name.starts_with("iris/") {
            assert_eq!(class(&task), USUAL, "{name}");
            lanes += 1;
        }
    }
    assert!(lanes >= 2, "{lanes} threads");
}

#[test]
fn a_model_is_tried_at_the_lowest_priority_where_others_serve_and_else_at_the_usual_one() {
    for (serves, expected) in [(false, USUAL), (true, IDLE)] {
        let data = folder();
        let server = Server::start(data.path());
        if serves {
            deploy(&server, "models/digits/1/model.onnx", "");
        }
        let child = try_a_model_that_hangs(&server);
        let task = PathBuf::from(format!("/proc/{child}"));
        // The child lowers itself after it has read what is asked of it: then it opens the model.
        wait_until("the library in the child", || {
            let maps = fs::read_to_string(task.join("maps")).unwrap_or_default();
            maps.contains("libonnxruntime") || children(&server).is_empty()
        });
        assert_eq!(class(&task), expected, "serves: {serves}");
    }
}
