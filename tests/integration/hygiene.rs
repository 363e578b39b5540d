//! What a server leaves behind, and what it holds while it runs: processes, threads, sockets, files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::scoring::{deploy, held, sample, send_only, slow_body};
use crate::support::{PATIENCE, Server, deployment, folder, repository};

/// Far shorter than what the model in hand takes, far longer than a busy machine delays an end.
const SOON: Duration = Duration::from_secs(30);

fn proc(server: &Server, path: &str) -> PathBuf {
    Path::new("/proc").join(server.pid().to_string()).join(path)
}

/// What the entries of a folder of `/proc` hold; those that vanish meanwhile are left out.
fn each<T>(folder: &Path, read: impl Fn(PathBuf) -> Option<T>) -> Vec<T> {
    fs::read_dir(folder)
        .expect("the server runs")
        .filter_map(|entry| read(entry.ok()?.path()))
        .collect()
}

fn thread_names(server: &Server) -> Vec<String> {
    each(&proc(server, "task"), |task| {
        Some(
            fs::read_to_string(task.join("comm"))
                .ok()?
                .trim()
                .to_owned(),
        )
    })
}

/// Threads without those that come and go by themselves, and without the one that comes with the first run and stays. For a moment a
/// new one still has the name of who made it, so the number can be too high, never too low.
fn lasting_threads(server: &Server) -> usize {
    let apart = [
        "serin-task",
        "serin-library",
        "serin-memory",
        "serin-watchdog",
    ];
    let names = thread_names(server);
    names
        .iter()
        .filter(|name| !apart.contains(&name.as_str()))
        .count()
}

/// What the server's file descriptors stand for.
fn open_files(server: &Server) -> Vec<String> {
    each(&proc(server, "fd"), |fd| {
        Some(fs::read_link(fd).ok()?.to_string_lossy().into_owned())
    })
}

/// Processes that the server has started and not yet seen end.
pub(crate) fn children(server: &Server) -> Vec<u32> {
    let lists = each(&proc(server, "task"), |task| {
        fs::read_to_string(task.join("children")).ok()
    });
    lists
        .concat()
        .split_whitespace()
        .map(|pid| pid.parse().expect("a process id"))
        .collect()
}

pub(crate) fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what} never came true");
        std::thread::yield_now();
    }
}

/// Begins to deploy a model whose sample request runs for ever; returns when the child that tries it runs. Its process id.
pub(crate) fn try_a_model_that_hangs(server: &Server) -> u32 {
    let model = folder();
    fs::copy(
        repository("models/test/slow.onnx"),
        model.path().join("model.onnx"),
    )
    .expect("a copy");
    fs::write(model.path().join("sample-request.json"), slow_body()).expect("a file");
    server.create_endpoint("hangs");
    let path = model.path().to_str().expect("UTF-8");
    let text = deployment("blue", path, "").replace("iris", "hangs");
    server
        .run_with(&["online-deployment", "create", "--no-wait"], &text)
        .ok();
    wait_until("a child that tries the model", || {
        !children(server).is_empty()
    });
    children(server)[0]
}

fn is_over(pid: u32) -> bool {
    // An orphan that nobody has waited for yet is a zombie (state Z).
    fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

#[test]
fn a_model_on_trial_does_not_outlive_a_killed_server() {
    let data = folder();
    let server = Server::start(data.path());
    let child = try_a_model_that_hangs(&server);
    server.kill();
    wait_until("the end of the child", || is_over(child));
}

#[test]
fn the_end_waits_neither_for_a_model_on_trial_nor_for_a_run_that_nobody_reads() {
    let data = folder();
    let server = Server::start_with(data.path(), &["--grace", "1"]);
    let settings = "request_settings: {request_timeout_ms: 180000}\n";
    let key = deploy(&server, "models/test/slow.onnx", settings);
    let _client = send_only(&server, &key, &slow_body());
    wait_until("a request in hand", || held(&server) >= 1.0);
    let child = try_a_model_that_hangs(&server);
    let begun = Instant::now();
    assert_eq!(server.terminate(), Some(0));
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    wait_until("the end of the child", || is_over(child));
    assert!(!data.path().join("server.json").exists());
}

/// The local addresses of the sockets in one table of the kernel that the server holds.
fn addresses(server: &Server, table: &str, inodes: &BTreeSet<String>) -> Vec<String> {
    fs::read_to_string(proc(server, &format!("net/{table}")))
        .unwrap_or_default()
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            inodes
                .contains(*fields.get(9)?)
                .then(|| fields[1].to_owned())
        })
        .collect()
}

#[test]
fn a_server_that_has_served_talks_to_its_own_loopback_alone_and_names_its_threads() {
    let data = folder();
    let server = Server::start(data.path());
    let key = deploy(&server, "models/digits/1/model.onnx", "instance_count: 2\n");
    for _ in 0..20 {
        assert_eq!(server.score("iris", &key, None, &sample()).status, 200);
    }

    let inodes = open_files(&server)
        .iter()
        .filter_map(|file| Some(file.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    for table in ["tcp6", "udp", "udp6", "raw", "raw6"] {
        assert_eq!(addresses(&server, table, &inodes), [""; 0], "{table}");
    }
    let tcp = addresses(&server, "tcp", &inodes);
    assert!(tcp.len() >= 2, "{tcp:?}");
    // 127.0.0.1 as the kernel writes it.
    let elsewhere: Vec<_> = tcp
        .iter()
        .filter(|local| !local.starts_with("0100007F:"))
        .collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");

    // ONNX Runtime's telemetry, where it is on, keeps this open; its thread has the name of the one that made it.
    let telemetry: Vec<_> = open_files(&server)
        .into_iter()
        .filter(|file| file.ends_with("onnxruntime.db"))
        .collect();
    assert!(telemetry.is_empty(), "{telemetry:?}");

    let ours = ["serin", "signals", "iris/blue#"];
    let strangers: Vec<_> = thread_names(&server)
        .into_iter()
        .filter(|name| !ours.iter().any(|prefix| name.starts_with(prefix)))
        .collect();
    assert!(strangers.is_empty(), "{strangers:?}");
}

#[test]
fn fifty_instances_share_the_cores_that_there_are_and_leave_nothing() {
    let data = folder();
    let server = Server::start(data.path());
    let before = lasting_threads(&server);
    let key = deploy(
        &server,
        "models/digits/1/model.onnx",
        "instance_count: 50\n",
    );
    let show = [
        "online-deployment",
        "show",
        "--detail",
        "--name",
        "blue",
        "--endpoint-name",
        "iris",
    ];
    let shown = server.ok(&show);
    assert_eq!(shown["instances_ready"], 50);
    let placements = shown["placements"].as_array().expect("a list");
    assert!(
        placements.iter().all(|one| one["verified"] == true),
        "{placements:?}"
    );
    for _ in 0..100 {
        assert_eq!(server.score("iris", &key, None, &sample()).status, 200);
    }
    server.ok(&["endpoint", "delete", "--name", "iris", "--yes"]);
    wait_until("no more threads than before", || {
        lasting_threads(&server) <= before
    });
}

#[test]
fn a_hundred_updates_leave_no_thread_and_no_open_file() {
    let data = folder();
    let server = Server::start(data.path());
    let key = deploy(&server, "models/digits/1/model.onnx", "");
    let update = |version: usize| {
        let model = repository(&format!("models/digits/{version}/model.onnx"));
        let set = format!("model={}", model.display());
        let name = ["--name", "blue", "--endpoint-name", "iris", "--set"];
        let arguments = [["online-deployment", "update"].as_slice(), &name, &[&set]].concat();
        server.ok(&arguments);
    };
    let (threads, files) = (lasting_threads(&server), open_files(&server).len());
    for turn in 0..100 {
        update(2 - turn % 2);
    }
    assert_eq!(server.score("iris", &key, None, &sample()).status, 200);
    wait_until("no more threads than before", || {
        lasting_threads(&server) <= threads
    });
    wait_until("no more files than before", || {
        open_files(&server).len() <= files
    });
}
