//! The metrics of the real binary, as Prometheus's own readers read them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::hygiene::wait_until;
use crate::support::{Answer, DELETE_GREEN, Server, agent, folder, model};

/// The reader of both formats that others use.
const READER: &str = "prometheus_client==0.26.0";

/// Reads what both formats say, and prints what is in the one and not in the other.
const READ_BOTH: &str = r##"
import re, sys
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client import parser as text

def samples(path, read):
    with open(path) as file:
        families = list(read(file))
    names = [family.name for family in families]
    assert len(names) == len(set(names)), "a family comes twice"
    for family in families:
        assert family.type in ("counter", "gauge", "histogram", "info"), family
        assert family.documentation, family
        assert family.samples, family
    return {(sample.name, tuple(sorted(sample.labels.items()))) for family in families for sample in family.samples}

one = samples(sys.argv[1], openmetrics.text_fd_to_metric_families)
two = samples(sys.argv[2], text.text_fd_to_metric_families)
assert len(one) > 300, len(one)
print(sorted(one ^ two))

# What the readers let pass: the lines above the samples name them, in the text format with the end of a counter's name.
seen = set()
for line in open(sys.argv[2]):
    head = re.fullmatch(r"# (HELP|TYPE) ([a-z_]+) (.+)\n", line)
    if head:
        what, name, rest = head.groups()
        assert (what, name) not in seen, line
        seen.add((what, name))
        if what == "TYPE":
            assert ("HELP", name) in seen, line
            assert rest in ("counter", "gauge", "histogram"), line
            assert (rest == "counter") == name.endswith("_total"), line
            of = name
        continue
    sample = re.fullmatch(r'([a-z_]+)(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? [0-9.e+-]+\n', line)
    assert sample, line
    assert re.sub("_(bucket|sum|count)$", "", sample.group(1)) == of or sample.group(1) == of, line
"##;

/// A Python with the reader.
fn reader() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("metrics-reader");
    let python = folder.join("bin/python");
    let marker = folder.join("packages");
    if std::fs::read_to_string(&marker).is_ok_and(|made_of| made_of == READER) {
        return python;
    }
    let mut make = Command::new("python3");
    succeed(make.args(["-m", "venv", "--clear"]).arg(&folder));
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "--quiet", "--disable-pip-version-check"]);
    succeed(install.args(["install", READER]));
    std::fs::write(&marker, READER).expect("the build folder takes files");
    python
}

fn succeed(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("it runs");
    assert!(
        output.status.success(),
        "{command:?} failed; the package index is needed once:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

const OPENMETRICS: &str =
    "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

fn asked(url: &str, accept: &str) -> Answer {
    let answer = agent().get(url).header("accept", accept).call();
    Answer::read(answer.expect("an HTTP answer"))
}

/// The samples of a page.
fn samples(url: &str) -> BTreeMap<String, f64> {
    let page = asked(url, "*/*").body;
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').expect("a value");
        (name.to_owned(), value.parse().expect("a number"))
    };
    lines.map(sample).collect()
}

/// A server with metrics beside scoring, and the place of them.
fn server(data: &Path) -> (Server, String) {
    let server = Server::start_with(data, &["--metrics", "scoring"]);
    let metrics = format!("{}/metrics", server.scoring);
    (server, metrics)
}

/// `iris` with nine tenths of its traffic at blue and one at green; its key.
fn split(server: &Server) -> String {
    server.create_endpoint("iris");
    let path = model("models/digits/1/model.onnx");
    for name in ["blue", "green"] {
        server.create_deployment(name, &path, "").ok();
    }
    server.update("iris", &["--traffic", "blue=90 green=10"]);
    server.key("iris")
}

fn sample() -> String {
    std::fs::read_to_string(model("models/digits/1/sample-request.json")).expect("a sample")
}

#[test]
fn both_formats_are_what_prometheus_reads_and_say_the_same() {
    let data = folder();
    let (server, url) = server(data.path());
    let key = split(&server);
    assert_eq!(server.score("iris", &key, None, &sample()).status, 200);
    assert_eq!(server.score("iris", "wrong", None, "{}").status, 401);
    let (one, two) = (asked(&url, OPENMETRICS), asked(&url, "*/*"));
    assert_eq!(
        (one.header("content-type"), two.header("content-type")),
        (
            Some("application/openmetrics-text; version=1.0.0; charset=utf-8"),
            Some("text/plain; version=0.0.4; charset=utf-8")
        )
    );
    assert!(one.body.ends_with("# EOF\n") && !two.body.contains("# EOF"));
    let paths = ["openmetrics", "text"].map(|name| data.path().join(name));
    for (path, page) in paths.iter().zip([&one, &two]) {
        std::fs::write(path, &page.body).expect("a file");
    }
    let mut read = Command::new(reader());
    let differ = succeed(read.args(["-c", READ_BOTH]).args(paths));
    assert_eq!(differ.trim(), "[]");
}

#[test]
fn what_a_deployment_was_asked_and_given_is_counted_and_goes_away_with_it() {
    const REQUESTS: u32 = 200;
    let data = folder();
    let (server, url) = server(data.path());
    let key = split(&server);
    for _ in 0..REQUESTS {
        assert_eq!(server.score("iris", &key, None, &sample()).status, 200);
    }
    let named = server.score("iris", &key, Some("green"), &sample());
    assert_eq!(named.status, 200);
    server.score("iris", "wrong", None, "{}");
    server.score("nobody", "wrong", None, "{}");
    let seen = samples(&url);
    let of = |name: &str, deployment: &str| {
        seen[&format!("{name}{{endpoint=\"iris\",deployment=\"{deployment}\"}}")]
    };
    for (deployment, share, given, ran) in [("blue", 0.9, 180.0, 180.0), ("green", 0.1, 20.0, 21.0)]
    {
        let of = |name| of(name, deployment);
        assert!((of("serin_traffic_share_ratio") - share).abs() < 1e-9);
        // Whole blocks of the split: exactly so many.
        assert_eq!(
            of("serin_requests_assigned_total").to_bits(),
            f64::to_bits(given)
        );
        // One client, so that each request has a run of its own.
        assert_eq!(of("serin_run_rows_count").to_bits(), f64::to_bits(ran));
        assert!(of("serin_run_rows_sum") >= ran);
        assert!(of("serin_instance_load_seconds") > 0.0);
        let none = [
            "serin_requests_waiting",
            "serin_instances_died_total",
            "serin_lanes_lost_total",
        ];
        assert!(none.into_iter().all(|name| of(name) < 0.5));
    }
    let refused = |endpoint: &str, status: u16| {
        format!("serin_requests_refused_total{{endpoint=\"{endpoint}\",status=\"{status}\"}}")
    };
    // Who may not know what is there is refused alike, and counted apart.
    assert!(seen.contains_key(&refused("iris", 401)) && seen.contains_key(&refused("", 401)));
    assert!(!seen.keys().any(|name| name.contains("nobody")));
    assert!(seen["process_open_fds"] > 3.0 && seen["process_resident_memory_bytes"] > 1e6);
    let build = seen
        .keys()
        .find(|name| name.starts_with("serin_build_info"));
    let build = build.expect("a version");
    assert!(build.contains("onnxruntime=\"1."), "{build}");

    server.update("iris", &["--traffic", "blue=100 green=0"]);
    server.ok(DELETE_GREEN);
    let names_green = |name: &String| name.contains("green");
    assert!(!samples(&url).keys().any(names_green));
    server.ok(&["online-endpoint", "delete", "-n", "iris", "--yes"]);
    assert!(!samples(&url).keys().any(|name| name.contains("iris")));
}

#[test]
fn a_lane_whose_process_a_model_ends_is_counted() {
    let data = folder();
    let (server, url) = server(data.path());
    server.create_endpoint("iris");
    let path = model("models/test/divide.onnx");
    server.create_deployment("red", &path, "").ok();
    server.update("iris", &["--traffic", "red=100"]);
    let key = server.key("iris");
    let fatal = "{\"data\": {\"a\": [-9223372036854775808], \"b\": [-1]}}";
    for _ in 0..3 {
        assert_eq!(server.score("iris", &key, None, fatal).status, 424);
    }
    let lost = "serin_lanes_lost_total{endpoint=\"iris\",deployment=\"red\"}";
    wait_until("the count of lanes", || samples(&url)[lost] > 2.5);
    assert!((samples(&url)[lost] - 3.0).abs() < 0.5);
}
