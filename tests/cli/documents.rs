//! Each line of the pages that is typed into a shell runs as it stands. The blocks of `console` are played elsewhere, in their order; those
//! of `sh` show what can be typed at all, so each has a server of its own with two deployments, and what it presupposes besides.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use crate::support::{Place, repository};

/// What no test can type, and why.
const NOT_PLAYED: [(&str, &str); 4] = [
    ("systemctl", "needs systemd and root"),
    ("podman", "needs containers"),
    ("serin demo", "the demo has tests of its own"),
    ("serin demo --keep", "the demo has tests of its own"),
];

/// Lines that are typed before one that begins so; the first that fits counts.
const BEFORE: [(&str, &str); 21] = [
    ("serin endpoint create", "serin endpoint delete iris --yes"),
    (
        "serin endpoint delete --deployment blue",
        "serin endpoint update -n iris --traffic blue=0 green=100",
    ),
    (
        "serin deployment delete blue",
        "serin endpoint update -n iris --traffic blue=0 green=100",
    ),
    (
        "serin deployment create",
        "serin endpoint update -n iris --traffic blue=0 green=100; serin deployment delete blue -e iris --yes",
    ),
    (
        "serin model restore",
        "serin model archive digits --version 1",
    ),
    (
        "serin environment restore",
        "serin environment create -f environment.yml; serin environment archive my-env --version 1",
    ),
    ("serin environment create", ""),
    (
        "serin environment",
        "serin environment create -f environment.yml",
    ),
    (
        "serin apply -f endpoint.yml --server",
        "for one in a b; do SERIN_DATA=$HOME/srv/$one serin serve --port 0 > $one & ready $one; done",
    ),
    ("serin rollout start", ""),
    ("serin rollout list", ""),
    ("serin rollout resume", "rollout; serin rollout pause"),
    (
        "serin rollout undo",
        "rollout; serin rollout promote --full; until_is phase promoted",
    ),
    ("serin rollout status --watch", "rollout"),
    ("serin rollout", "rollout"),
    ("serin feedback", "rollout"),
    ("serin restore", "serin backup $HOME/backups/today"),
    (
        "serin bench compare before.json",
        "serin bench v1.onnx v2.onnx --budget 2 --save before.json; cp before.json after.json",
    ),
    (
        "serin bench",
        "serin bench v1.onnx v2.onnx --budget 2 --save lastweek.json",
    ),
    ("serin backup /var", "mkdir -p $HOME/backups"),
    (
        "serin completions",
        "mkdir -p ~/.local/share/bash-completion/completions ~/.zfunc ~/.config/fish/completions",
    ),
];

/// What the lines share: a rollout that waits, and what is waited for.
const WORDS: &str = r#"
until_is() { until [ "$(serin rollout status --query "$1" -o tsv)" = "$2" ]; do :; done; }
rollout() { serin rollout start --file rollout.yml; until_is is_moving false; }
judged() { "$@" > judged 2>&1 || [ $? -le 3 ]; grep -qE '"verdict"|no decision' judged; }
watched() { timeout 2 "$@" || [ $? -eq 124 ]; }
ready() { until grep -q ready: "$1"; do kill -0 $!; sleep 0.02; done; }
served() { SERIN_DATA=$HOME/served "$@" > served & ready served; }
replaced() { "$@" > replaced & ready replaced; }
trap '{ set +x; kill $(jobs -p) && wait; } 2> /dev/null || :' EXIT
"#;

/// Blocks of `sh` in the pages: those of the page of commands line by line, for they are alternatives.
fn scripts() -> Vec<(String, String)> {
    let folder = fs::read_dir(repository("docs")).expect("a folder");
    let pages = folder.map(|entry| entry.expect("an entry").path());
    let mut pages: Vec<_> = pages
        .filter(|path| path.extension().is_some_and(|end| end == "md"))
        .collect();
    pages.push(repository("README.md"));
    pages.sort();
    let mut scripts = Vec::new();
    for page in pages {
        let name = page
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let text = fs::read_to_string(&page).expect("a page");
        for block in text.split("\n```sh\n").skip(1) {
            let block = block.split("```").next().unwrap_or_default();
            let block = block.replace("\\\n", " ");
            match name == "cli.md" {
                true => {
                    let lines = block.lines().map(|line| (name.clone(), line.to_owned()));
                    scripts.extend(lines);
                }
                false => scripts.push((name.clone(), block)),
            }
        }
    }
    scripts
}

/// A line as it is typed here: no port and no folder that others have too, short runs, and whatever would not end ends.
fn typed(line: &str, free_port: u16) -> String {
    let line = line.split("  #").next().unwrap_or_default().trim_end();
    let line = line
        .replace("/var/backups/", "$HOME/backups/")
        .replace(" /backups/", " $HOME/backups/")
        .replace("/srv/", "$HOME/srv/")
        .replace("myEndpoint", "iris")
        .replace("9090", &free_port.to_string());
    let budget = |line: &str, seconds: u32| match line.split_once(" --budget ") {
        Some((before, after)) => {
            let rest = after.split_once(' ').map_or("", |(_, rest)| rest);
            format!("{before} {rest} --budget {seconds}")
        }
        None => format!("{line} --budget {seconds}"),
    };
    match () {
        () if line.starts_with("serin bench compare") => line,
        () if line.starts_with("serin bench") => format!("judged {}", budget(&line, 2)),
        () if line.starts_with("serin tune") => budget(&line, 8),
        () if line.starts_with("serin verdict") => format!("judged {line}"),
        () if line.starts_with("serin serve --replace") => format!("replaced {line} --port 0"),
        () if line.starts_with("serin serve --port 0") => format!("served {line}"),
        () if line.starts_with("serin serve") || line.starts_with("serin up") => {
            format!("served {line} --port 0")
        }
        () if line.contains("--watch") => format!("watched {line}"),
        () if line.starts_with("serin restore") => format!("SERIN_DATA=$HOME/restored {line}"),
        () => line,
    }
}

/// A folder with the files that the pages speak of.
fn place() -> Place {
    let place = Place::new();
    let model = fs::read(repository("models/test/quantised.onnx")).expect("a model");
    for name in [
        "model.onnx",
        "v1.onnx",
        "v2.onnx",
        "iris-v1.onnx",
        "iris-v2.onnx",
        "model/model.onnx",
    ] {
        place.write(name, &model);
    }
    for name in ["blue", "green"] {
        place.write(
            &format!("{name}.yml"),
            format!(
                "name: {name}\nendpoint_name: iris\nmodel: {{path: ./model.onnx}}\ninstance_type: Standard_F2s_v2\ninstance_count: 1\n"
            ),
        );
    }
    place
        .write("endpoint.yml", "name: iris\nauth_mode: key\n")
        .write("request.json", "{\"data\": [[1, 2]]}")
        .write("labels.jsonl", "{\"id\": \"a\", \"right\": true}\n{\"id\": \"b\", \"score\": 0.5}\n")
        .write(
            "rollout.yml",
            "strategy: {canary: {steps: [{setWeight: 10}, {pause: {}}]}}\nguard: {metrics: [{name: errors}, {name: accuracy}]}\n",
        )
        .write("model.pkl", "a model")
        .write(
            "onlinescoring/score.py",
            "def init():\n    pass\n\n\ndef run(data):\n    return data\n",
        )
        .write("conda.yml", "name: my-env\nchannels: [conda-forge]\ndependencies:\n  - python>=3.8\n")
        .write(
            "environment.yml",
            "name: my-env\nversion: 1\nimage: mcr.microsoft.com/azureml/minimal-ubuntu20.04-py38-cpu-inference\nconda_file: conda.yml\n",
        )
        .write("old.yml", "name: iris\ntype: online\nauth_mode: key\ntraffic:\n  blue: 100\n");
    place
}

/// A server with an endpoint of two versions, eight revisions and a model.
const SETTING: &str = "\
serin endpoint create -f endpoint.yml
serin deployment create -f blue.yml
serin deployment create -f green.yml
for share in 90 80 70 100; do serin endpoint update -n iris --traffic blue=$share green=$((100 - share)); done
serin endpoint invoke -n iris --request-file request.json
serin endpoint invoke -n iris --deployment green --request-file request.json
serin model create --name digits --path model.onnx
serin model create --name digits --path model
";

fn shell(place: &Place, script: &str) -> Command {
    let binary = Path::new(env!("CARGO_BIN_EXE_serin"));
    let folder = binary.parent().expect("a folder");
    let path = std::env::var("PATH").expect("PATH is set");
    let mut shell = place.command_of("bash");
    shell
        .args(["-ec", script])
        .env("PATH", format!("{}:{path}", folder.display()));
    shell
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// Plays a script of a page; what went wrong.
fn play(script: &str) -> Result<(), String> {
    let place = place();
    let _server = place.serve();
    let port = free_port();
    let first = script.lines().next().unwrap_or_default();
    let before = BEFORE.iter().find(|(start, _)| first.starts_with(start));
    let before = before.map_or("", |(_, lines)| lines);
    let server_json = "$SERIN_DATA/server.json";
    let of =
        |key: &str| format!("$(sed -n 's/.*\"{key}\": \"\\(.*\\)\".*/\\1/p' \"{server_json}\")");
    let lines: Vec<_> = script.lines().map(|line| typed(line, port)).collect();
    let whole = format!(
        "{WORDS}exec 3>&1 > setting\n{SETTING}{before}\nADMIN={} TOKEN={}\nexec 1>&3\nset -x\n{}\n",
        of("admin_address"),
        of("token"),
        lines.join("\n")
    );
    let output = shell(&place, &whole).output().expect("a shell");
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "{}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}

#[test]
fn every_line_of_the_pages_that_is_typed_runs_as_it_stands() {
    let scripts = scripts();
    assert!(scripts.len() > 100, "{}", scripts.len());
    let is_played = |script: &str| {
        let fits = |(words, _): &(&str, &str)| match words.starts_with("serin") {
            true => script.trim_end() == *words,
            false => script.contains(words),
        };
        !NOT_PLAYED.iter().any(fits)
    };
    let left = Mutex::new(scripts.into_iter().filter(|(_, script)| is_played(script)));
    let wrong = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let next = left.lock().expect("nobody panics").next();
                    let Some((page, script)) = next else { break };
                    if let Err(error) = play(&script) {
                        let told = format!("{page}: {script}\n{error}");
                        wrong.lock().expect("nobody panics").push(told);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().expect("nobody panics");
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
