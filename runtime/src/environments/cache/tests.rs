//! Tests of the cache, with a Python that tests make up, and some with the one of this machine and the Python index.

use std::cell::RefCell;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;

use super::super::testing::write_program;
use super::*;

/// The role of this test's second process, and its folder.
const ROLE: &str = "SERIN_TEST_SECOND_BUILDER";

/// A pip that installs at once.
const GOOD_PIP: &str = "echo 'Collecting six (from -r x)'";

/// A machine with one Python, which writes down what it is asked to do.
struct Machine {
    folder: TempDir,
    environments: Environments,
}

impl Machine {
    /// One whose pip runs this script.
    fn new(pip: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let bin = folder.path().join("bin");
        fs::create_dir(&bin).expect("a folder");
        let (root, python) = (folder.path().display(), bin.join("python3"));
        let itself = python.display();
        // What a shell finds may be a script that starts the interpreter, and is no parent of what that becomes.
        let real = Places::of_machine().of_the_path().expect("a Python").path;
        let real = real.display();
        write_program(
            &python,
            &format!(
                "case \"$1 $2\" in\n\
                 '-c '*serin:*) echo 'serin:3.11.7|cpython|1|{itself}|{itself}' ;;\n\
                 '-c '*) exec {real} \"$@\" ;;\n\
                 *) echo \"$@\" >> {root}/calls; for last; do :; done; mkdir -p \"$last/bin\"; cp {root}/pip \"$last/bin/python\" ;;\n\
                 esac"
            ),
        );
        let machine = Self {
            environments: environments_of(folder.path()),
            folder,
        };
        machine.set_pip(pip);
        machine
    }

    fn set_pip(&self, script: &str) {
        let calls = self.folder.path().join("calls");
        let script = format!("echo \"$@\" >> {}\n{script}", calls.display());
        write_program(&self.folder.path().join("pip"), &script);
    }

    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.folder.path().join("calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }

    /// How often an environment was begun.
    fn builds(&self) -> usize {
        self.calls()
            .iter()
            .filter(|call| call.starts_with("-m venv"))
            .count()
    }

    fn ready(&self, recipe: &Recipe) -> Result<Environment, EnvironmentError> {
        ready(&self.environments, recipe)
    }

    fn place(&self, recipe: &Recipe) -> Place {
        self.environments.place(&recipe.hash("3.11.7"))
    }
}

fn environments_of(folder: &Path) -> Environments {
    let mut environments = Environments::at(&folder.join("environments")).expect("a folder");
    environments.places = Places {
        path: vec![folder.join("bin")],
        versions: Vec::new(),
        installations: Vec::new(),
    };
    environments.uv = None;
    environments
}

fn ready(environments: &Environments, recipe: &Recipe) -> Result<Environment, EnvironmentError> {
    let settings = BuildSettings {
        tell: &|_| {},
        cancel: &|| false,
    };
    environments.ready(recipe, &settings)
}

fn recipe(text: &str) -> Recipe {
    let include = |_: &Path| Ok(String::new());
    Recipe::read(Path::new("/d/env.txt"), text, &include).expect("a recipe")
}

#[test]
fn an_environment_is_built_once_and_used_again() {
    let machine = Machine::new(GOOD_PIP);
    let told = RefCell::new(Vec::new());
    let settings = BuildSettings {
        tell: &|words| told.borrow_mut().push(words.to_owned()),
        cancel: &|| false,
    };
    let first = machine
        .environments
        .ready(&recipe("six"), &settings)
        .expect("built");
    assert_eq!(
        told.into_inner(),
        [
            "building an environment with Python 3.11.7 for /d/env.txt",
            "collecting six"
        ]
    );
    assert_eq!(first.version(), "3.11.7");
    assert!(first.python().is_file());
    assert!(
        first
            .description()
            .starts_with("Python 3.11.7 with what /d/env.txt asks for (")
    );
    let second = machine.ready(&recipe("six # again")).expect("there");
    assert_eq!(first.python(), second.python());
    assert_eq!(machine.builds(), 1);
    let other = machine.ready(&recipe("six==1.0")).expect("built");
    assert_ne!(first.python(), other.python());
}

#[test]
fn what_is_asked_for_stands_in_files_that_pip_is_given() {
    let machine = Machine::new("cat \"$5\" \"$7\"");
    let text = "--pre\nsix\n-c c.txt\n";
    let recipe = Recipe::read(Path::new("/d/env.txt"), text, &|_| Ok("six<2".to_owned()));
    let recipe = recipe.expect("a recipe");
    machine.ready(&recipe).expect("built");
    let log = fs::read_to_string(machine.place(&recipe).log()).expect("a log");
    assert!(log.ends_with("--pre\nsix\nsix<2\n"), "{log}");
}

#[test]
fn a_recipe_without_packages_needs_no_pip() {
    let machine = Machine::new("exit 1");
    machine.ready(&recipe("# nothing\n")).expect("built");
    let calls = machine.calls();
    assert!(
        calls.len() == 1 && calls[0].starts_with("-m venv --without-pip "),
        "{calls:?}"
    );
}

#[test]
fn a_build_that_fails_says_why_and_leaves_its_log_alone() {
    let machine = Machine::new(
        "echo 'ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device'; exit 1",
    );
    let recipe = recipe("six");
    let place = machine.place(&recipe);
    let told = machine.ready(&recipe).expect_err("failed").to_string();
    let log = place.log();
    assert_eq!(
        told,
        format!(
            "cannot build the environment of /d/env.txt: No space left on device; all of the output is in {}",
            log.display()
        )
    );
    assert!(
        fs::read_to_string(&log)
            .expect("a log")
            .contains("[Errno 28]")
    );
    assert!(!place.folder.exists());
    machine.set_pip(GOOD_PIP);
    machine.ready(&recipe).expect("built");
}

#[test]
fn a_build_that_nobody_wants_ends_and_leaves_nothing() {
    let machine = Machine::new("echo 'Collecting six'; exec sleep 1000");
    let is_begun = RefCell::new(false);
    let settings = BuildSettings {
        tell: &|words| *is_begun.borrow_mut() |= words.starts_with("collecting"),
        cancel: &|| *is_begun.borrow(),
    };
    let recipe = recipe("six");
    let told = machine.environments.ready(&recipe, &settings);
    assert!(matches!(told, Err(EnvironmentError::Canceled)));
    assert!(!machine.place(&recipe).folder.exists());
    machine.set_pip(GOOD_PIP);
    machine.ready(&recipe).expect("built");
}

#[test]
fn what_a_killed_process_has_left_is_cleared_and_built_again() {
    let machine = Machine::new(GOOD_PIP);
    let recipe = recipe("six");
    let left = machine.place(&recipe).folder.join("lib/half");
    fs::create_dir_all(&left).expect("a folder");
    machine.ready(&recipe).expect("built");
    assert!(!left.exists());
}

#[test]
fn an_environment_whose_interpreter_has_gone_is_built_again() {
    let machine = Machine::new(GOOD_PIP);
    let built = machine.ready(&recipe("six")).expect("built");
    let python = built.python().to_owned();
    drop(built);
    fs::remove_file(&python).expect("it was there");
    std::os::unix::fs::symlink("/none", &python).expect("a link");
    machine.ready(&recipe("six")).expect("built");
    assert_eq!(machine.builds(), 2);
}

#[test]
fn an_environment_that_is_there_needs_no_interpreter_to_be_looked_for() {
    let machine = Machine::new(GOOD_PIP);
    let conda = |text: &str| {
        Recipe::read(Path::new("env.yml"), text, &|_| Ok(String::new())).expect("a recipe")
    };
    let first = conda("dependencies: [python=3.11, six]\n");
    machine.ready(&first).expect("built");
    fs::remove_file(machine.folder.path().join("bin/python3")).expect("it was there");
    machine.ready(&first).expect("there");
    // Another wish may mean another Python.
    let other = machine.ready(&conda("dependencies: [python=3.10, six]\n"));
    assert!(matches!(other, Err(EnvironmentError::NoPython(_))));
    assert_eq!(machine.builds(), 1);
}

#[test]
fn a_python_that_is_only_near_is_said_to_be() {
    let machine = Machine::new(GOOD_PIP);
    let text = "dependencies: [python=3.10, six]\n";
    let recipe = Recipe::read(Path::new("env.yml"), text, &|_| Ok(String::new()));
    let recipe = recipe.expect("a recipe").with_any_python(true);
    let built = machine.ready(&recipe).expect("built");
    let words = "Python 3.11.7, the nearest to 3.10, with what env.yml asks for (";
    assert!(
        built.description().starts_with(words),
        "{}",
        built.description()
    );
    let again = machine.ready(&recipe).expect("there");
    assert_eq!(again.description(), built.description());
}

#[test]
fn many_threads_that_want_the_same_build_it_once() {
    let machine = Machine::new(GOOD_PIP);
    let recipe = recipe("six");
    let pythons: Vec<PathBuf> = thread::scope(|scope| {
        let wait = (0..8).map(|number| {
            let builder = thread::Builder::new().name(format!("builder {number}"));
            let ready = || machine.ready(&recipe).expect("built").python().to_owned();
            builder.spawn_scoped(scope, ready).expect("a thread")
        });
        let wait: Vec<_> = wait.collect();
        wait.into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .collect()
    });
    assert!(pythons.windows(2).all(|two| two[0] == two[1]));
    assert_eq!(machine.builds(), 1);
}

/// Starts this test once more, in a process that builds in the folder.
fn second_process(test: &str, folder: &Path) -> Child {
    Command::new(std::env::current_exe().expect("a test"))
        .args(["--exact", &format!("environments::cache::tests::{test}")])
        .env(ROLE, folder)
        .stdout(Stdio::null())
        .spawn()
        .expect("a process")
}

/// Builds and ends with it, when this is the second process.
fn is_second_process() -> bool {
    let Some(folder) = std::env::var_os(ROLE) else {
        return false;
    };
    ready(&environments_of(Path::new(&folder)), &recipe("six")).expect("built");
    true
}

#[test]
fn two_processes_that_want_the_same_build_it_once() {
    if is_second_process() {
        return;
    }
    let machine = Machine::new(GOOD_PIP);
    let mut others: Vec<Child> = (0..2)
        .map(|_| {
            second_process(
                "two_processes_that_want_the_same_build_it_once",
                machine.folder.path(),
            )
        })
        .collect();
    machine.ready(&recipe("six")).expect("built");
    for other in &mut others {
        assert!(other.wait().expect("it ends").success());
    }
    assert_eq!(machine.builds(), 1);
}

/// A process that was killed took its lock along but left pip running, which wrote into what the next one built.
#[test]
fn a_process_that_is_killed_while_it_builds_takes_its_build_along_and_the_next_one_builds() {
    if is_second_process() {
        return;
    }
    let machine = Machine::new("echo $$ > $0.pid.new; mv $0.pid.new $0.pid; exec sleep 1000");
    let recipe = recipe("six");
    let mut other = second_process(
        "a_process_that_is_killed_while_it_builds_takes_its_build_along_and_the_next_one_builds",
        machine.folder.path(),
    );
    let folder = machine.place(&recipe).folder;
    let pid = folder.join("bin/python.pid");
    while !pid.exists() {
        assert!(other.try_wait().expect("a child").is_none(), "it has ended");
        thread::yield_now();
    }
    let pid = fs::read_to_string(pid).expect("a number");
    other.kill().expect("a child");
    other.wait().expect("it ends");
    machine.set_pip(GOOD_PIP);
    machine.ready(&recipe).expect("built");
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    assert!(
        stat.is_empty() || stat.contains(") Z "),
        "pip still runs: {stat}"
    );
    assert_eq!(machine.builds(), 2);
}

/// Environments of one MB each, in this order of their last use.
fn with_last_uses(machine: &Machine, recipes: &[Recipe]) {
    for (age, recipe) in recipes.iter().rev().enumerate() {
        let place = machine.place(recipe);
        let mut mark = place.mark().expect("an environment");
        mark.bytes = 1_000_000;
        fs::write(
            place.folder.join(MARK_FILE),
            serde_json::to_vec(&mark).expect("JSON"),
        )
        .expect("a file");
        let age = std::time::Duration::from_secs(60 * (1 + age as u64));
        let lock = File::open(place.lock_file()).expect("a lock");
        lock.set_modified(SystemTime::now() - age).expect("a time");
    }
}

#[test]
fn the_least_recently_used_go_first_and_what_is_in_use_stays() {
    let mut machine = Machine::new(GOOD_PIP);
    let recipes: Vec<Recipe> = ["a", "b", "c", "d"].map(recipe).into();
    let in_use = machine.ready(&recipes[0]).expect("built");
    for one in &recipes[1..] {
        machine.ready(one).expect("built");
    }
    with_last_uses(&machine, &recipes);
    machine.environments.bytes_max = 2_500_000;
    let newest = machine.ready(&recipe("e")).expect("built");
    let stays: Vec<bool> = recipes
        .iter()
        .map(|one| machine.place(one).mark().is_some())
        .collect();
    // The new one is small; of four too many, the oldest is in use.
    assert_eq!(stays, [true, false, false, true]);
    assert!(in_use.python().is_file() && newest.python().is_file());
    assert!(
        !machine.place(&recipes[1]).lock_file().exists()
            && !machine.place(&recipes[1]).log().exists()
    );
    // One that has gone comes again.
    machine.ready(&recipes[1]).expect("built");
}

#[test]
fn what_killed_builds_have_left_goes_with_the_next_build() {
    let machine = Machine::new(GOOD_PIP);
    let left = machine.place(&recipe("gone"));
    fs::create_dir_all(left.folder.join("bin")).expect("a folder");
    let building = machine.place(&recipe("building"));
    fs::create_dir_all(building.folder.join("bin")).expect("a folder");
    let _lock = building
        .lock_alone()
        .expect("a lock")
        .expect("nobody has it");
    machine.ready(&recipe("six")).expect("built");
    assert!(!left.folder.exists());
    assert!(building.folder.exists());
}

#[test]
fn only_so_many_logs_of_failed_builds_stay() {
    let machine = Machine::new(GOOD_PIP);
    for number in 0..ENVIRONMENT_LOGS_MAX + 5 {
        fs::write(machine.environments.root.join(format!("{number}.log")), "x").expect("a file");
    }
    machine.ready(&recipe("six")).expect("built");
    let logs = machine.environments.entries();
    let logs = logs
        .iter()
        .filter(|path| path.extension().is_some_and(|ending| ending == "log"));
    assert_eq!(logs.count(), ENVIRONMENT_LOGS_MAX + 1);
}

#[test]
fn who_waits_for_another_build_is_told_once_and_may_give_up() {
    let machine = Machine::new(GOOD_PIP);
    let recipe = recipe("six");
    let _lock = machine
        .place(&recipe)
        .lock_alone()
        .expect("a lock")
        .expect("nobody has it");
    let (told, looks) = (RefCell::new(Vec::new()), AtomicUsize::new(0));
    let settings = BuildSettings {
        tell: &|words| told.borrow_mut().push(words.to_owned()),
        cancel: &|| looks.fetch_add(1, Ordering::Relaxed) > 2,
    };
    let ended = machine.environments.ready(&recipe, &settings);
    assert!(matches!(ended, Err(EnvironmentError::Canceled)));
    assert_eq!(
        told.into_inner(),
        ["waiting for another build of the same environment"]
    );
}

#[test]
fn uv_builds_where_it_is_there() {
    let mut machine = Machine::new("exit 1");
    let (root, uv) = (machine.folder.path(), machine.folder.path().join("bin/uv"));
    let script = format!(
        "[ \"$1\" != --version ] || exit 0; echo \"uv $@\" >> {}/calls; for last; do :; done; [ \"$1\" != venv ] || {{ mkdir -p $last/bin; echo > $last/bin/python; }}",
        root.display()
    );
    write_program(&uv, &script);
    machine.environments.uv = Some(uv);
    let recipe = recipe("six\n--pre\n");
    let built = machine.ready(&recipe).expect("built");
    let folder = machine.place(&recipe).folder;
    let folder = folder.display();
    assert_eq!(
        machine.calls(),
        [
            format!(
                "uv venv --no-project --python {}/bin/python3 {folder}",
                root.display()
            ),
            format!(
                "uv pip install --python {} --index-strategy unsafe-best-match --prerelease allow -r {folder}/requirements.txt setuptools",
                built.python().display()
            ),
        ]
    );
    assert_eq!(
        fs::read_to_string(format!("{folder}/requirements.txt")).expect("a file"),
        "six\n"
    );
}

#[test]
fn where_uv_is_only_a_name_pip_builds() {
    let mut machine = Machine::new(GOOD_PIP);
    let uv = machine.folder.path().join("bin/uv");
    write_program(&uv, "echo 'pyenv: uv: command not found' >&2; exit 127");
    machine.environments.uv = Some(uv);
    machine.ready(&recipe("six")).expect("built");
    assert!(
        machine
            .calls()
            .iter()
            .any(|call| call.starts_with("-m pip install"))
    );
}

#[test]
fn a_folder_that_others_write_to_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).expect("a mode");
    let told = Environments::at(folder.path())
        .expect_err("refused")
        .to_string();
    assert!(
        told.starts_with("expected a folder that only this user writes to, found "),
        "{told}"
    );
}

#[test]
fn without_an_environment_the_python_of_the_path_is_taken_and_said_so() {
    let machine = Machine::new(GOOD_PIP);
    let python = machine.environments.python_of_the_path().expect("a Python");
    let path = machine.folder.path().join("bin/python3");
    assert_eq!(python.python(), path);
    assert_eq!(
        python.description(),
        format!(
            "Python 3.11.7 of the path ({}), because no environment is named",
            path.display()
        )
    );
}

/// Environments of the Pythons of this machine, built by pip from the Python index.
fn real() -> (TempDir, Environments) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut environments = Environments::at(&folder.path().join("environments")).expect("a folder");
    environments.uv = None;
    (folder, environments)
}

#[test]
fn a_package_of_the_index_can_be_imported() {
    let (_folder, environments) = real();
    let built = ready(&environments, &recipe("six==1.16.0\n")).expect("built");
    let told = Command::new(built.python())
        .args(["-c", "import six, sys; print(six.__version__, sys.prefix)"])
        .output()
        .expect("it runs");
    let prefix = built
        .python()
        .parent()
        .and_then(Path::parent)
        .expect("a folder");
    assert_eq!(
        String::from_utf8_lossy(&told.stdout),
        format!("1.16.0 {}\n", prefix.display())
    );
}

#[test]
fn what_the_index_has_not_and_what_excludes_itself_is_told_in_the_words_of_pip() {
    let (_folder, environments) = real();
    for (text, words) in [
        (
            "serin-has-no-such-package\n",
            "cannot build the environment of /d/env.txt: No matching distribution found for serin-has-no-such-package;",
        ),
        (
            "six==1.16.0\nsix==1.15.0\n",
            "conflicting dependencies: The user requested six==1.16.0; The user requested six==1.15.0;",
        ),
    ] {
        let told = ready(&environments, &recipe(text))
            .expect_err("failed")
            .to_string();
        assert!(told.contains(words), "{told}");
    }
}
