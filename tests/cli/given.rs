//! What is given to commands and is not what it seems: pipes, devices, links, paths that are no text, words that speak to the terminal.

use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use insta::assert_snapshot;
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::server::with_blue;
use crate::support::{Place, repository};

/// Every place of a command line where a path may stand; `PATH` is that place.
const PATHS_READ: [&str; 16] = [
    "endpoint create -f PATH",
    "endpoint update -f PATH",
    "endpoint update -n iris -d blue -e PATH",
    "endpoint invoke iris -r PATH",
    "deployment create -f PATH",
    "deployment update -f PATH",
    "model create -f PATH",
    "model create -n digits -p PATH",
    "model show -p PATH",
    "sku list --skus PATH",
    "serve -p 0 --skus PATH",
    "up -p 0 PATH",
    "tune PATH",
    "bench PATH",
    "bench digits.onnx -i PATH",
    "bench compare PATH PATH",
];

/// Those that have no file of their own to begin with.
const PATHS_BESIDE: [&str; 5] = [
    "score-script check code -r PATH",
    "score-script check code -e PATH",
    "tune digits.onnx -r PATH",
    "tune digits.onnx --instance-type half --skus PATH",
    "bench digits.onnx --instance-type half --skus PATH",
];

fn pipe(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).expect("a pipe");
}

/// A script in which `serin` is the binary.
fn shell(place: &Place, script: &str) -> Command {
    let serin = place.command();
    let environment = serin.get_envs();
    let environment = environment.filter_map(|(name, value)| Some((name, value?)));
    let mut bash = Command::new("bash");
    bash.env_clear()
        .envs(environment)
        .current_dir(place.path("."))
        .args(["-c", &script.replace("serin", env!("CARGO_BIN_EXE_serin"))]);
    bash
}

/// A place with a model `digits.onnx`, and a scoring script in `code`.
fn place_with_model() -> Place {
    let place = Place::new();
    let model = fs::read(repository("models/digits/1/model.onnx")).expect("a model");
    place.write("digits.onnx", model);
    place.write("code/score.py", "def init(): pass\ndef run(data): pass\n");
    place
}

#[test]
fn a_pipe_that_nobody_writes_to_is_refused_by_every_command_and_never_waited_for() {
    let place = place_with_model();
    let _server = place.serve();
    place.ok("endpoint create -n iris");
    // The ending says that it is a request.
    for name in ["pipe.json", "pipe.onnx"] {
        pipe(&place.path(name));
    }
    for line in PATHS_READ.iter().chain(&PATHS_BESIDE) {
        let name = match line.contains("-i PATH") {
            true => "pipe.json",
            false => "pipe.onnx",
        };
        let said = place.run(&line.replace("PATH", name));
        assert!(said.starts_with("code: 3\n"), "{line}: {said}");
        assert!(said.contains("found a named pipe"), "{line}: {said}");
    }
}

#[test]
fn a_device_without_end_is_refused_by_every_command() {
    let place = place_with_model();
    let _server = place.serve();
    place.ok("endpoint create -n iris");
    symlink("/dev/zero", place.path("zero.json")).expect("a link");
    for line in PATHS_READ.iter().chain(&PATHS_BESIDE) {
        let said = place.run(&line.replace("PATH", "zero.json"));
        assert!(said.starts_with("code: 3\n"), "{line}: {said}");
        assert!(said.contains("found a device"), "{line}: {said}");
    }
}

#[test]
fn a_path_that_is_no_text_is_an_answer_of_every_command_and_no_panic() {
    let place = place_with_model();
    let _server = place.serve();
    with_blue(&place);
    let name = OsStr::from_bytes(b"mod\xe8le.json");
    fs::write(place.path("x").with_file_name(name), "{}").expect("a file");
    let written = [
        "tune nowhere.onnx --plot PATH",
        "bench nowhere.onnx --html PATH",
        "bench nowhere.onnx --save PATH",
        "status --data PATH",
        "serve -p 0 --data PATH",
    ];
    for line in PATHS_READ.iter().chain(&PATHS_BESIDE).chain(&written) {
        let words = line.split(' ').map(|word| match word {
            "PATH" => name.to_owned(),
            word => OsString::from(word),
        });
        let output = place.command().args(words).output().expect("it runs");
        let code = output.status.code().expect("it was not killed");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!([2, 3, 6, 7, 9].contains(&code), "{line}: {code} {said}");
        assert!(!said.contains("panicked"), "{line}: {said}");
    }
}

#[test]
fn standard_input_and_what_a_shell_hands_over_are_read_up_to_a_bound() {
    let place = Place::new();
    let _server = place.serve();
    for (name, path) in [("one", "-"), ("two", "/dev/stdin"), ("three", "/dev/fd/0")] {
        let line = format!("endpoint create -f {path} -n {name}");
        place.ok_with(&line, "description: from a pipe\n");
    }
    let endless = place.run_with("endpoint create -f - -n four", &"# x\n".repeat(300_000));
    assert!(endless.starts_with("code: 3\n"), "{endless}");
    assert!(
        endless.contains("expected at most 1048576 bytes, found more"),
        "{endless}"
    );
    // As of `<(..)`.
    let shell = |script: &str| {
        let output = shell(&place, script).output().expect("bash runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().expect("it was not killed"), said)
    };
    let (code, said) = shell("serin endpoint create -n five -f <(echo 'description: x')");
    assert_eq!(code, 0, "{said}");
    let (code, said) = shell("serin endpoint create -n six -f <(yes '# x')");
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("found more"), "{said}");
    let (code, said) = shell("yes | serin endpoint delete five");
    assert_eq!(code, 0, "{said}");
}

#[test]
fn a_folder_that_is_no_model_is_refused_with_numbers_before_it_is_copied() {
    let place = Place::new();
    let _server = place.serve();
    place.ok("endpoint create -n iris");
    for path in ["/", "/proc", "/sys", "/usr"] {
        for line in [
            format!("model create -n all -p {path}"),
            format!("model show -p {path}"),
        ] {
            let said = place.run(&line);
            assert!(said.starts_with("code: 3\n"), "{line}: {said}");
        }
        let yaml = format!(
            "name: blue\nendpoint_name: iris\nmodel: {path}\ninstance_type: Standard_F2s_v2\n"
        );
        place.write("blue.yml", yaml);
        let said = place.run("deployment create -f blue.yml");
        assert!(said.starts_with("code: 3\n"), "{path}: {said}");
    }
    place.write("mine/secret", "s").write("m/model.onnx", "m");
    symlink("../mine/secret", place.path("m/notes")).expect("a link");
    assert_snapshot!(place.run("model create -n digits -p m"), @"
    code: 3
    --- stdout
    --- stderr
    error: cannot register model digits from m
    caused by: [folder]/cli/m/notes is a link to [folder]/cli/mine/secret, out of [folder]/cli/m: put the file itself there, as `cp -rL` does
    ");
    let home = place.run("model create -n home -p ..");
    assert!(
        home.contains("holds the data folder of this server"),
        "{home}"
    );
    assert_eq!(place.ok("model list").trim(), "[]");
}

#[test]
fn nothing_in_the_data_folder_is_for_others_whatever_the_umask() {
    let place = place_with_model();
    let data = place.path("../data");
    let server = shell(
        &place,
        "umask 0; exec serin serve -p 0 --until-stdin-closes",
    );
    let server = Place::until_ready(server);
    with_blue(&place);
    let found = everything_in(&data);
    // `secret`, `server.json`, the store, the model and its folders.
    assert!(found.len() > 8, "{found:?}");
    for path in found {
        // What SQLite keeps beside its file comes and goes.
        let Ok(kind) = fs::symlink_metadata(&path) else {
            continue;
        };
        let mode = kind.permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}: {mode:o}", path.display());
    }
    drop(server);
}

/// A folder and all that is below it.
fn everything_in(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => found.extend(everything_in(&path)),
            false => found.push(path),
        }
    }
    found
}

#[test]
fn a_data_folder_that_others_may_write_to_is_refused_with_the_command_that_mends_it() {
    let place = Place::new();
    let data = place.path("../data");
    fs::create_dir(&data).expect("a folder");
    fs::set_permissions(&data, Permissions::from_mode(0o777)).expect("its mode");
    let said = place.run("serve -p 0");
    assert!(said.starts_with("code: 8\n"), "{said}");
    let words = "others may write to it (its mode is 0777): `chmod go-w [folder]/data`";
    assert!(said.contains(words), "{said}");
    // Nothing was put there, and what it says works.
    assert_eq!(fs::read_dir(&data).expect("a folder").count(), 0);
    fs::set_permissions(&data, Permissions::from_mode(0o755)).expect("its mode");
    drop(place.serve());
}

/// All that a terminal or a reader may take for something else.
const HOSTILE: &str = "a\u{1b}]0;x\u{7}\u{1b}[2J\r\u{9b}31m\u{202e}b";

fn speaks_to_the_terminal(text: &str) -> bool {
    text.chars()
        .any(|c| (c.is_control() && !matches!(c, '\n' | '\t')) || c == '\u{202e}')
}

/// What somebody of that name hears of a command on standard output; nothing of it speaks to the terminal.
fn said_to(place: &Place, arguments: &[&str]) -> String {
    let mut command = place.command();
    let output = command.env("USER", HOSTILE).args(arguments).output();
    let output = output.expect("it runs");
    for stream in [&output.stdout, &output.stderr] {
        let text = String::from_utf8(stream.clone()).expect("text");
        assert!(!speaks_to_the_terminal(&text), "{arguments:?}: {text:?}");
    }
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn no_word_of_anybody_speaks_to_the_terminal() {
    let place = place_with_model();
    let _server = place.serve();
    with_blue(&place);
    let name = format!("m{HOSTILE}.onnx");
    fs::copy(
        place.path("digits.onnx"),
        place.path("x").with_file_name(&name),
    )
    .expect("a copy");
    let run = |arguments: &[&str]| said_to(&place, arguments);
    let description = format!("description={HOSTILE}");
    let tag = format!("tags.t={HOSTILE}");
    let missing = format!("{HOSTILE}.yml");
    let model = format!("model={name}");
    place.write("hostile.json", format!("{{\"data\": \"{HOSTILE}\"}}"));
    place.write("hostile.yml", format!("\"{HOSTILE}\": 1\n"));
    run(&[
        "endpoint",
        "update",
        "-n",
        "iris",
        "--set",
        &description,
        &tag,
    ]);
    run(&["model", "create", "-n", "hostile", "-p", &name]);
    run(&["model", "show", "-p", &name, "-o", "table"]);
    run(&["model", "show", "hostile", "-o", "table"]);
    run(&[
        "deployment",
        "update",
        "-n",
        "blue",
        "-e",
        "iris",
        "--set",
        &model,
    ]);
    for format in ["json", "table", "tsv"] {
        run(&["endpoint", "list", "-o", format]);
        run(&["deployment", "list", "-e", "iris", "-o", format]);
        run(&["model", "list", "-o", format]);
        let journal = run(&["journal", "-o", format]);
        let shown = match format {
            "json" => r"a\u001b]0;x\u0007\u001b[2J\r\u009b31m\u202eb",
            _ => r"a\x1b]0;x\x07\x1b[2J\r\u{9b}31m\u{202e}b",
        };
        assert!(journal.contains(shown), "{journal}");
        if format == "json" {
            let lines: serde_json::Value = serde_json::from_str(&journal).expect("JSON");
            let by: Vec<_> = lines
                .as_array()
                .expect("lines")
                .iter()
                .map(|line| &line["by"])
                .collect();
            assert!(by.contains(&&serde_json::Value::from(HOSTILE)), "{by:?}");
        }
    }
    run(&["endpoint", "create", "-f", &missing]);
    run(&["endpoint", "create", "-f", "hostile.yml"]);
    run(&["endpoint", "invoke", "iris", "-r", "hostile.json"]);
    run(&["endpoint", "show", HOSTILE]);
    run(&["endpoint", "update", "-n", "iris", "--traffic", HOSTILE]);
    run(&[HOSTILE]);
    run(&["status", "--data", HOSTILE]);
    run(&["up", "-p", "0", &missing]);
    run(&["bench", &missing]);
    run(&["sku", "show", HOSTILE]);
}

#[test]
fn what_is_said_to_people_has_a_bound() {
    let place = Place::new();
    let _server = place.serve();
    let long = "x".repeat(4097);
    let said = place.run(&format!("endpoint create -n iris --set description={long}"));
    assert!(said.starts_with("code: 3\n"), "{said}");
    assert!(
        said.contains("description: expected at most 4096 bytes, found 4097"),
        "{said}"
    );
    place.ok("endpoint create -n iris");
    let said = place.run(&format!("endpoint update -n iris --set tags.a={long}"));
    assert!(
        said.contains("tags.a: expected at most 1024 bytes, found 4097"),
        "{said}"
    );
    let mut command = place.command();
    let user = command.env("USER", "u".repeat(100_000));
    let output = user
        .args(["endpoint", "delete", "iris", "--yes"])
        .output()
        .expect("it runs");
    assert!(output.status.success());
    let journal = place.ok("journal");
    assert!(journal.contains(&"u".repeat(256)) && !journal.contains(&"u".repeat(257)));
}
