//! Many, slow and hostile clients: whoever comes with a request or a command is heard.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::{PATIENCE, Server, agent, folder, model, repository};

/// More than there are places, in every test.
const STRANGERS: usize = 1000;

/// A server that may have as many file descriptors and no more.
fn server_with_descriptors(data: &Path, descriptors: usize) -> Server {
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            &format!("ulimit -n {descriptors} && exec \"$0\" \"$@\""),
        ])
        .arg(env!("CARGO_BIN_EXE_serin"))
        .env("SERIN_DATA", data)
        .env("NO_COLOR", "1");
    Server::start_command(command, data)
}

/// Connections that say nothing.
fn strangers(address: &str, count: usize) -> Vec<TcpStream> {
    let address = address.trim_start_matches("http://");
    // They are this process's descriptors too.
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised).expect("a soft limit may be raised");
    (0..count)
        .map(|_| TcpStream::connect(address).expect("a listening server"))
        .collect()
}

fn status(url: &str) -> u16 {
    let answer = agent().get(url).call().expect("an HTTP answer");
    answer.status().as_u16()
}

/// With a thousand strangers at both doors and few descriptors: health, commands, changes and scoring.
fn serves_among_strangers(descriptors: usize) {
    let data = folder();
    let server = server_with_descriptors(data.path(), descriptors);
    let _at_scoring = strangers(&server.scoring, STRANGERS);
    let _at_admin = strangers(&server.admin, STRANGERS);
    assert_eq!(status(&format!("{}/health/live", server.scoring)), 200);
    assert_eq!(status(&format!("{}/health", server.admin)), 200);
    server.create_endpoint("iris");
    server
        .create_deployment("blue", &model("models/digits/1/model.onnx"), "")
        .ok();
    server.update("iris", &["--traffic", "blue=100"]);
    let sample = std::fs::read_to_string(repository("models/digits/1/sample-request.json"));
    let key = server.key("iris");
    let answer = server.score("iris", &key, None, &sample.expect("a sample request"));
    assert_eq!(answer.status, 200, "{}", answer.body);
    // And again, when others have taken all the places that are free.
    let _more = strangers(&server.scoring, STRANGERS);
    assert_eq!(status(&format!("{}/health/live", server.scoring)), 200);
}

#[test]
fn a_server_with_64_descriptors_serves_and_changes_among_a_thousand_strangers() {
    serves_among_strangers(64);
}

#[test]
fn a_server_with_1024_descriptors_serves_and_changes_among_a_thousand_strangers() {
    serves_among_strangers(1024);
}

#[test]
fn a_client_that_ends_its_side_gets_its_score() {
    let data = folder();
    let server = Server::start(data.path());
    server.create_endpoint("iris");
    server
        .create_deployment("blue", &model("models/digits/1/model.onnx"), "")
        .ok();
    server.update("iris", &["--traffic", "blue=100"]);
    let key = server.key("iris");
    let sample = std::fs::read_to_string(repository("models/digits/1/sample-request.json"));
    let sample = sample.expect("a sample request");
    let head = format!(
        "POST /endpoints/iris/score HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-length: {}\r\n\r\n",
        sample.len()
    );
    for _ in 0..20 {
        let address = server.scoring.trim_start_matches("http://");
        let mut client = TcpStream::connect(address).expect("a listening server");
        client
            .set_read_timeout(Some(PATIENCE))
            .expect("a time limit");
        client
            .write_all((head.clone() + &sample).as_bytes())
            .expect("a client writes");
        client.shutdown(Shutdown::Write).expect("an end of its own");
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
}

/// Posts bodies of 1 MB over connections that are used again, and says how many ended without the answer that was expected.
const POSTS: &str = r"
import http.client, sys, collections
address, path, key, expected, count = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4].split(','), int(sys.argv[5])
client = http.client.HTTPConnection(address, timeout=60)
seen = collections.Counter()
for _ in range(count):
    try:
        client.request('POST', path, b'x' * 1000000, {'Authorization': key} if key else {})
        answer = client.getresponse()
        answer.read()
        seen['as expected' if str(answer.status) in expected else str(answer.status)] += 1
    except OSError as error:
        seen[repr(error)] += 1
        client.close()
print(dict(seen))
";

/// Requests of 1 MB, by two clients that send first and read later, none of which reaches a model.
#[test]
fn a_client_that_keeps_its_connection_meets_every_answer_that_comes_before_its_body() {
    let data = folder();
    let server = Server::start_with(data.path(), &["--body-bytes-max", "900000"]);
    server.create_endpoint("iris");
    let key = format!("Bearer {}", server.key("iris"));
    let address = server.scoring.trim_start_matches("http://");
    let wrong = "Bearer wrong";
    let body = data.path().join("body");
    std::fs::write(&body, vec![b'x'; 1_000_000]).expect("a file");
    let posts = |path: &str, key: &str, expected: &str, count: usize| {
        let mut python = Command::new("python3");
        python.args([
            "-c",
            POSTS,
            address,
            path,
            key,
            expected,
            &count.to_string(),
        ]);
        let output = python.output().expect("a python3");
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert_eq!(
            said,
            format!("{{'as expected': {count}}}"),
            "{path} {expected}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    posts("/endpoints/iris/score", "", "401", 300);
    posts("/endpoints/nobody/score", &key, "404", 100);
    posts("/nowhere", "", "404", 100);
    posts("/endpoints/iris/score", &key, "413", 100);
    // One client's wrong keys wait for their answers, so many ask at once, of which some are told to slow down.
    std::thread::scope(|clients| {
        for _ in 0..30 {
            clients.spawn(|| posts("/endpoints/iris/score", wrong, "401,429", 10));
        }
    });
    let url = format!("{}/endpoints/iris/score", server.scoring);
    let mut curl = Command::new("curl");
    curl.args(["-s", "-w", "%{http_code}\n", "-H", "Expect:"]);
    curl.arg("--data-binary")
        .arg(format!("@{}", body.display()));
    curl.args(std::iter::repeat_n(["-o", "/dev/null", &url], 300).flatten());
    let output = curl.output().expect("a curl");
    let text = String::from_utf8_lossy(&output.stdout);
    let answered = text.lines().filter(|line| *line == "401").count();
    assert_eq!((answered, output.status.success()), (300, true), "{text}");
}
