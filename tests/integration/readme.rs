//! The README's commands do what it says, and files that pages show are read.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{Server, folder, repository};

fn readme() -> String {
    std::fs::read_to_string(repository("README.md")).expect("the README")
}

/// The commands of one program in the README's console blocks, in order.
fn commands(program: &str) -> Vec<String> {
    let prefix = format!("$ {program} ");
    readme()
        .lines()
        .filter_map(|line| line.strip_prefix(&prefix))
        .map(str::to_owned)
        .collect()
}

/// The lines of the quick start that a person types, in order, but for those that serve until they are interrupted.
fn quick_start() -> Vec<String> {
    let text = readme();
    let part = text
        .split("\n## ")
        .find(|part| part.starts_with("Quick start\n"));
    part.expect("a quick start")
        .lines()
        .filter_map(|line| line.strip_prefix("$ "))
        .filter(|line| !line.starts_with("serin serve") && !line.starts_with("serin up "))
        .map(str::to_owned)
        .collect()
}

/// Pages of `docs/` and their texts, with the README.
fn pages() -> Vec<(String, String)> {
    let folder = std::fs::read_dir(repository("docs")).expect("a folder");
    let files = folder.map(|entry| entry.expect("an entry").file_name());
    let names = files.filter_map(|name| name.into_string().ok());
    let pages = names.filter(|name| Path::new(name).extension().is_some_and(|end| end == "md"));
    let pages = pages.map(|name| format!("docs/{name}"));
    pages
        .chain(["README.md".to_owned()])
        .map(|path| {
            let text = std::fs::read_to_string(repository(&path)).expect("a page");
            (path, text)
        })
        .collect()
}

/// The lines that a person types in the console blocks of a page; a build is no test's.
fn typed(page: &str) -> Vec<&str> {
    let blocks = page.split("```console\n").skip(1);
    let lines = blocks.flat_map(|rest| rest.split("```").next().unwrap_or_default().lines());
    lines
        .filter_map(|line| line.strip_prefix("$ "))
        .filter(|line| !line.starts_with("cargo "))
        .collect()
}

/// The name by which a link finds a heading.
fn anchor(heading: &str) -> String {
    let lower = heading.trim_start_matches(['#', ' ']).to_lowercase();
    let kept = lower
        .chars()
        .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// A shell at the root of the repository that finds serin, and ends with the first line that fails.
fn shell(script: &str) -> Command {
    let binary = Path::new(env!("CARGO_BIN_EXE_serin"))
        .parent()
        .expect("a folder");
    let path = std::env::var("PATH").expect("PATH is set");
    let mut shell = Command::new("sh");
    shell
        .args(["-exc", script])
        .current_dir(repository("."))
        .env("PATH", format!("{}:{path}", binary.display()));
    shell
}

/// Plays the lines of a page beside the server of this folder, in one shell: what one line keeps the next one uses.
fn play(path: &str, script: &str, data: &Path) {
    let output = shell(script)
        .env("SERIN_DATA", data)
        .output()
        .expect("a shell");
    assert!(
        output.status.success(),
        "{path}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn the_quick_start_plays_as_written() {
    let data = folder();
    let server = Server::start(data.path());
    let lines = quick_start();
    assert!(lines.len() > 15, "{lines:?}");
    play("README.md", &lines.join("\n"), data.path());
    let endpoints = server.ok(&["endpoint", "list"]);
    assert_eq!(endpoints, serde_json::json!([]));
}

#[test]
fn the_console_blocks_of_the_pages_play_as_written() {
    let mut played = 0;
    for (path, text) in pages().iter().filter(|(path, _)| path != "README.md") {
        let lines = typed(text);
        if lines.is_empty() {
            continue;
        }
        played += 1;
        let data = folder();
        let _server = Server::start(data.path());
        play(path, &lines.join("\n"), data.path());
    }
    assert!(played >= 3, "{played} pages have commands");
}

#[test]
fn every_link_of_a_page_leads_to_a_file_and_a_heading_that_are_there() {
    let pages = pages();
    assert!(pages.len() > 10, "{pages:?}");
    let mut wrong = Vec::new();
    for (path, text) in &pages {
        let within = Path::new(path).parent().expect("a folder");
        let links = text.split("](").skip(1);
        let links = links.filter_map(|rest| rest.split([')', ' ']).next());
        for link in links.filter(|link| !link.contains("://")) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => repository(path),
                file => repository(".").join(within).join(file),
            };
            let text = std::fs::read_to_string(&target).unwrap_or_default();
            let mut headings = text.lines().filter(|line| line.starts_with('#'));
            let is_there = heading.is_empty() || headings.any(|line| anchor(line) == heading);
            if !target.exists() || !is_there {
                wrong.push(format!("{path}: {link}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_bare_files_of_the_quick_start_are_served() {
    let up = commands("serin up");
    let [up] = &up[..] else {
        panic!("expected one `serin up`, found {up:?}");
    };
    // On a free port, for other tests may have the one of the page.
    let script = format!("exec serin up {up}").replace("--port 5002", "--port 0");
    let data = folder();
    let mut server = shell(&script)
        .env("SERIN_DATA", data.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a shell");
    let mut told = String::new();
    BufReader::new(server.stdout.take().expect("piped"))
        .read_line(&mut told)
        .expect("a line");
    server.kill().expect("it runs");
    server.wait().expect("it ends");
    assert!(told.starts_with("ready: "), "{told:?}");
}

#[test]
fn the_file_that_the_page_of_rollouts_shows_is_read() {
    let page = std::fs::read_to_string(repository("docs/canary.md")).expect("the page");
    let (_, file) = page.split_once("```yaml\n").expect("a file");
    let (file, _) = file.split_once("```").expect("its end");
    let data = folder();
    let server = Server::start(data.path());
    let refused = server.run_with(&["rollout", "start", "--dry-run"], file);
    // A file with problems ends with 3; this one names an endpoint that is not there.
    assert_eq!(refused.code, 4, "{}", refused.stderr);
    let wrong = server.run_with(
        &["rollout", "start", "--dry-run"],
        &file.replace("alpha", "alhpa"),
    );
    assert_eq!(wrong.code, 3, "{}", wrong.stderr);
}

#[test]
fn the_gate_runs_the_two_commands_on_top() {
    let gate = std::fs::read_to_string(repository(".ci/run")).expect("the gate");
    for command in &commands("cargo")[..2] {
        assert!(gate.contains(&format!("cargo {command}")), "{command}");
    }
}
