//! The relay of `packaging/verdict/`: each asker gets the verdict in the words that it understands, and nothing else.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::hygiene::wait_until;
use crate::support::{Answer, Server, agent, deployment, folder, model, repository};

/// The relay as a process, which ends with this.
struct Relay {
    child: Child,
    address: String,
}

impl Relay {
    fn start(data: &Path) -> Self {
        let mut child = Command::new("python3")
            .arg(repository("packaging/verdict/relay.py"))
            .args(["--port", "0", "--data"])
            .arg(data)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("python3 starts");
        let mut address = String::new();
        BufReader::new(child.stdout.take().expect("piped"))
            .read_line(&mut address)
            .expect("a line with its address");
        let address = address.trim().to_owned();
        Self { child, address }
    }

    fn get(&self, path: &str) -> Answer {
        let url = format!("{}{path}", self.address);
        Answer::read(agent().get(url).call().expect("an answer"))
    }

    fn post(&self, path: &str) -> u16 {
        let url = format!("{}{path}", self.address);
        let answer = agent().post(url).send("{\"name\":\"canary\"}");
        answer.expect("an answer").status().as_u16()
    }

    /// What Argo, a gate of Flagger and its rollback are told of blue and green.
    fn statuses(&self) -> [u16; 3] {
        [
            self.get("/argo/iris/blue/green").status,
            self.post("/confirm/iris/blue/green"),
            self.post("/rollback/iris/blue/green"),
        ]
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }
}

/// `iris` with 90 % at blue and 10 % at a green that fails each request.
fn server(data: &Path) -> Server {
    let server = Server::start(data);
    server.create_endpoint("iris");
    server
        .create_deployment("blue", &model("models/digits/1/model.onnx"), "")
        .ok();
    server
        .run_with(
            &["online-deployment", "create", "--skip-script-validation"],
            &deployment("green", &model("models/test/picky.onnx"), ""),
        )
        .ok();
    server.update("iris", &["--traffic", "blue=90 green=10"]);
    server
}

#[test]
fn the_relay_tells_each_asker_the_verdict_and_nothing_else() {
    let data = folder();
    let server = server(data.path());
    let relay = Relay::start(data.path());
    assert_eq!(relay.statuses(), [200, 409, 409], "nothing is decided yet");
    let told = relay.get("/argo/iris/blue/green").json();
    assert_eq!(told["verdict"], "UNDECIDED");
    for path in [
        "/",
        "/v1/endpoints",
        "/argo/iris/blue",
        "/argo/iris/blue/green/../../../v1/endpoints",
        "/argo/iris/blue/green?to=blue",
        "/confirm/iris/blue/green",
        "/argo/nothing/blue/green",
    ] {
        assert_eq!(relay.get(path).status, 404, "{path}");
    }
    assert_eq!(relay.post("/argo/iris/blue/green"), 404);

    let key = server.key("iris");
    let body = std::fs::read_to_string(repository("models/digits/1/sample-request.json"))
        .expect("a sample");
    // Ten of them are green's, by the split.
    for _ in 0..100 {
        server.score("iris", &key, None, &body);
    }
    wait_until("harm", || relay.post("/confirm/iris/blue/green") == 412);
    assert_eq!(relay.statuses(), [200, 412, 200]);
    let told = relay.get("/argo/iris/blue/green").json();
    assert_eq!(told["verdict"], "HARM");
}

#[test]
fn the_relay_lets_nothing_pass_without_a_server_and_finds_the_next_one() {
    let data = folder();
    let relay = Relay::start(data.path());
    assert_eq!(relay.statuses(), [503; 3], "there is no server yet");
    let first = server(data.path());
    assert_eq!(relay.statuses(), [200, 409, 409]);
    first.kill();
    assert_eq!(relay.statuses(), [503; 3], "it was killed");
    // It has another token, and another port.
    let _second = Server::start(data.path());
    assert_eq!(relay.statuses(), [200, 409, 409]);
}
