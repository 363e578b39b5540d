//! The Python side of scoring scripts: what its own tests, in `tests/harness`, say under the Pythons of this machine.
//!
//! They run here so that one command runs all tests. The environment with Azure's inference server comes from the package index, once
//! for each build folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What scripts are compared with, and what they import.
const PACKAGES: &[&str] = &[
    "azureml-inference-server-http==1.5.1",
    "inference-schema[numpy-support]==1.8",
];
/// Minor versions of Python 3 that Azure's server is installed under, the best first.
const REFERENCE_MINORS: &[u32] = &[11, 12, 10];
/// The oldest minor version by which the tests themselves run: it makes memory that has no file.
const DRIVER_MINOR_MIN: u32 = 8;
/// Minor versions that are tested beside the oldest and the newest.
const OFTEN_USED_MINORS: &[u32] = &[8, 12];

fn tests_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/harness")
}

/// Folders in which a Python may be: those of the path, and those of pyenv.
fn folders() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".pyenv"));
    let root = std::env::var_os("PYENV_ROOT").map(PathBuf::from).or(home);
    let versions = root.and_then(|root| fs::read_dir(root.join("versions")).ok());
    let installed = versions.into_iter().flatten().flatten();
    folders.extend(installed.map(|version| version.path().join("bin")));
    folders
}

/// The minor version of a Python 3; none where it is no such, as where a stand-in of pyenv leads nowhere.
fn minor_version(python: &Path) -> Option<u32> {
    let program = "import sys; print(sys.version_info[0], sys.version_info[1])";
    let output = Command::new(python).args(["-c", program]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.trim().strip_prefix("3 ")?.parse().ok()
}

/// A Python of each minor version from 3.6 on that is found.
fn pythons() -> BTreeMap<u32, PathBuf> {
    let mut found = BTreeMap::new();
    for folder in folders() {
        let numbered = (6..=20).map(|minor| format!("python3.{minor}"));
        for name in numbered.chain(["python3".to_owned()]) {
            let python = folder.join(name);
            if !python.is_file() {
                continue;
            }
            if let Some(minor) = minor_version(&python).filter(|minor| *minor >= 6) {
                found.entry(minor).or_insert(python);
            }
        }
    }
    found
}

/// Starts a file of tests.
fn start(driver: &Path, tests: &str, harness_python: &Path) -> Child {
    Command::new(driver)
        .args(["-B", "-m", "unittest", tests])
        .current_dir(tests_folder())
        .env("HARNESS_PYTHON", harness_python)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a Python that has just said its version")
}

/// Waits for tests, prints what they say, and whether they have passed.
fn passed(tests: Child) -> bool {
    let output = tests.wait_with_output().expect("the end of the tests");
    for text in [&output.stdout, &output.stderr] {
        say(&String::from_utf8_lossy(text));
    }
    output.status.success()
}

#[expect(clippy::print_stdout, reason = "the output of a test")]
fn say(text: &str) {
    println!("{text}");
}

/// A Python with Azure's inference server.
fn reference() -> PathBuf {
    let found = pythons();
    let python = REFERENCE_MINORS
        .iter()
        .find_map(|minor| found.get(minor))
        .unwrap_or_else(|| {
            panic!("expected a Python 3.10 to 3.12, found {found:?}: install one of them")
        });
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("script-contract");
    let (marker, key) = (folder.join("packages"), PACKAGES.join("\n"));
    let environment_python = folder.join("bin/python");
    if fs::read_to_string(&marker).is_ok_and(|made_of| made_of == key) {
        return environment_python;
    }
    let mut make = Command::new(python);
    succeed(make.args(["-m", "venv", "--clear"]).arg(&folder));
    let mut install = Command::new(&environment_python);
    install.args(["-m", "pip", "--quiet", "--disable-pip-version-check"]);
    succeed(install.arg("install").args(PACKAGES));
    fs::write(&marker, key).expect("the build folder takes files");
    environment_python
}

fn succeed(command: &mut Command) {
    let output = command.output().expect("a Python that has just run");
    assert!(
        output.status.success(),
        "{command:?} failed; the package index is needed once:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn scripts_are_answered_as_azures_own_server_answers_them() {
    let python = reference();
    say(&format!("with {}", python.display()));
    assert!(passed(start(&python, "test_contract", &python)));
}

#[test]
fn the_harness_keeps_its_promises_under_old_and_new_pythons() {
    let found = pythons();
    say(&format!("found {found:?}"));
    let (newest, driver) = found.last_key_value().expect("a Python 3 on the path");
    assert!(
        *newest >= DRIVER_MINOR_MIN,
        "expected a Python 3.{DRIVER_MINOR_MIN} or newer to run the tests by, found {found:?}"
    );
    let oldest = found.keys().next();
    let tested =
        |minor: &u32| minor == newest || Some(minor) == oldest || OFTEN_USED_MINORS.contains(minor);
    let tests: Vec<(u32, Child)> = found
        .iter()
        .filter(|(minor, _)| tested(minor))
        .map(|(minor, python)| (*minor, start(driver, "test_harness", python)))
        .collect();
    // All are waited for: what one says is of use beside the others.
    let results: Vec<(u32, bool)> = tests
        .into_iter()
        .map(|(minor, tests)| (minor, passed(tests)))
        .collect();
    let failed: Vec<&(u32, bool)> = results.iter().filter(|(_, passed)| !passed).collect();
    assert!(failed.is_empty(), "failed under Python 3.x: {failed:?}");
}
