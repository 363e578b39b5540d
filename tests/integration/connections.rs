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
