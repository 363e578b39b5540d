//! The README's commands do what it says.

use std::path::Path;
use std::process::Command;

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

#[test]
fn the_quick_start_plays_as_written() {
    let data = folder();
    let server = Server::start(data.path());
    let binary = Path::new(env!("CARGO_BIN_EXE_serin"))
        .parent()
        .expect("a folder");
    let path = format!(
        "{}:{}",
        binary.display(),
        std::env::var("PATH").expect("PATH is set")
    );
    let played: Vec<String> = commands("serin")
        .into_iter()
        .filter(|command| !command.starts_with("serve") && !command.starts_with("up "))
        .collect();
    assert!(played.len() > 10, "{played:?}");
    for command in played {
        let output = Command::new("sh")
            .args(["-c", &format!("serin {command}")])
            .current_dir(repository("."))
            .env("PATH", &path)
            .env("SERIN_DATA", data.path())
            .output()
            .expect("a shell");
        assert!(
            output.status.success(),
            "serin {command}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let endpoints = server.ok(&["endpoint", "list"]);
    assert_eq!(endpoints, serde_json::json!([]));
}

#[test]
fn the_gate_runs_the_two_commands_on_top() {
    let gate = std::fs::read_to_string(repository(".ci/run")).expect("the gate");
    for command in &commands("cargo")[..2] {
        assert!(gate.contains(&format!("cargo {command}")), "{command}");
    }
}
