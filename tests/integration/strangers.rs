//! Who has no key, or the wrong one, and who sits in a browser: what they learn, and what they can do.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use crate::hygiene::wait_until;
use crate::scoring::{deploy, sample};
use crate::support::{Answer, PATIENCE, Server, agent, folder, model, serin};

/// The status and the body of a request that is written by hand.
fn send(server: &str, request: &str) -> (u16, String) {
    let address = server.strip_prefix("http://").unwrap_or(server);
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let status = answer.split(' ').nth(1).expect("a status");
    let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
    (status.parse().expect("a number"), body.to_owned())
}

fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\n{headers}connection: close\r\n\r\n")
}

#[test]
fn administration_and_metrics_answer_to_no_name_that_a_page_could_give_itself() {
    let data = folder();
    let server = Server::start(data.path());
    let own = server.admin.strip_prefix("http://").expect("an address");
    let port = own.rsplit(':').next().expect("a port");
    let token = format!("authorization: Bearer {}\r\n", server.token);
    for path in ["/metrics", "/health", "/v1/status", "/v1/nowhere"] {
        for host in ["evil.example", &format!("evil.example:{port}"), "0.0.0.0"] {
            let request = get(path, &format!("host: {host}\r\n{token}"));
            let (status, body) = send(&server.admin, &request);
            assert_eq!(status, 421, "{path} {host}: {body}");
            assert!(body.contains(host), "{body}");
        }
        for page in [
            "origin: http://evil.example\r\n",
            "origin: null\r\n",
            "sec-fetch-site: cross-site\r\n",
        ] {
            let request = get(path, &format!("host: {own}\r\n{page}{token}"));
            let (status, body) = send(&server.admin, &request);
            assert_eq!(status, 403, "{path} {page}: {body}");
        }
    }
    for host in [
        own.to_owned(),
        format!("localhost:{port}"),
        "localhost:9".to_owned(),
    ] {
        let request = get("/v1/status", &format!("host: {host}\r\n{token}"));
        assert_eq!(send(&server.admin, &request).0, 200, "{host}");
    }
}

#[test]
fn a_form_that_a_foreign_page_posts_scores_nothing_on_an_open_endpoint() {
    let data = folder();
    let mut child = serin(data.path())
        .args(["up", "--port", "0", &model("models/digits/1/model.onnx")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the serin binary starts");
    let mut ready = String::new();
    let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    stdout.read_line(&mut ready).expect("a line");
    let rest = ready.split("http://").nth(1).expect("an address");
    let address = rest.split('/').next().expect("an address");
    let post = |headers: &str| {
        let body = sample();
        let head = format!(
            "POST /score HTTP/1.1\r\nhost: {address}\r\n{headers}connection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        send(address, &format!("{head}{body}"))
    };
    let form = "content-type: text/plain\r\n";
    assert_eq!(post(form).0, 200);
    let foreign = format!("{form}origin: https://evil.example\r\nsec-fetch-site: cross-site\r\n");
    let (status, body) = post(&foreign);
    assert_eq!(status, 403, "{body}");
    assert!(body.contains("https://evil.example"), "{body}");
    let own = format!("origin: http://{address}\r\nsec-fetch-site: same-origin\r\n");
    assert_eq!(post(&own).0, 200);
    // Where all is open, names help.
    let (status, body) = send(address, &get("/health/ready", "host: x\r\n"));
    assert_eq!((status, body.as_str()), (200, r#"{"ready":true}"#));
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
    assert_eq!(child.wait().expect("it ended").code(), Some(0));
}

#[test]
fn wrong_keys_are_counted_in_the_log_which_never_holds_one_and_the_right_one_is_answered() {
    const TRIES: u64 = 40;
    let data = folder();
    let log = data.path().join("serin.log");
    let server = Server::start_with(data.path(), &["--log-file", log.to_str().expect("UTF-8")]);
    let key = deploy(&server, "models/digits/1/model.onnx", "");
    std::thread::scope(|clients| {
        for number in 0..TRIES {
            let server = &server;
            clients.spawn(move || {
                let wrong = server.score("iris", &format!("wrong-key-{number}"), None, "{}");
                assert!([401, 429].contains(&wrong.status), "{}", wrong.status);
                if wrong.status == 429 {
                    assert_eq!(wrong.header("retry-after"), Some("1"));
                }
            });
        }
        // Meanwhile, from the same address.
        for _ in 0..10 {
            let right = server.score("iris", &key, None, &sample());
            assert_eq!(right.status, 200, "{}", right.body);
        }
    });
    let tries = || -> u64 {
        let text = fs::read_to_string(&log).expect("a log");
        let lines = text
            .lines()
            .filter(|line| line.contains("keys that open nothing"));
        let counts = lines.map(|line| {
            let count = line.split("tries=").nth(1).expect("a number");
            let count = count.split(' ').next().expect("a number");
            count.parse::<u64>().expect("a number")
        });
        counts.sum()
    };
    wait_until("a count of all tries", || tries() == TRIES);
    let text = fs::read_to_string(&log).expect("a log");
    assert!(text.contains("127.0.0.1"), "{text}");
    assert!(!text.contains("wrong-key"), "{text}");
}

#[test]
fn wrong_tokens_of_administration_are_slowed_down_and_commands_are_not() {
    let data = folder();
    let server = Server::start(data.path());
    let ask = || {
        let request = agent()
            .get(format!("{}/v1/status", server.admin))
            .header("authorization", "Bearer wrong");
        Answer::read(request.call().expect("an answer")).status
    };
    let statuses: Vec<_> = std::thread::scope(|clients| {
        let asking: Vec<_> = (0..40).map(|_| clients.spawn(ask)).collect();
        let command = server.ok(&["status"]);
        assert_eq!(command["ready"], true);
        let ends = asking.into_iter().map(|one| one.join().expect("a status"));
        ends.collect()
    });
    assert!(
        statuses.iter().all(|status| [401, 429].contains(status)),
        "{statuses:?}"
    );
    assert!(statuses.contains(&401), "{statuses:?}");
}
