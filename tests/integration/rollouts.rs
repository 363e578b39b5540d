//! Rollouts of the real server: promoted by evidence, rolled back by it, and never moved by anything that is not on disk.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::hygiene::{try_a_model_that_hangs, wait_until};
use crate::support::{DELETE_GREEN, Server, agent, deployment, folder, model, repository, serin};
use crate::traffic::Traffic;

/// A canary that fails each request: its model takes other inputs.
const WRONG: &str = "models/test/picky.onnx";
const GOOD: &str = "models/digits/2/model.onnx";
const ONE_STEP: &str = "strategy: {canary: {steps: [{setWeight: 10}, {pause: {}}]}}\n";

/// `iris` with all traffic at blue, and green beside it.
fn server(data: &Path, green: &str) -> Server {
    with_both(Server::start(data), green)
}

fn with_both(server: Server, green: &str) -> Server {
    server.create_endpoint("iris");
    let more = "request_settings: {max_concurrent_requests_per_instance: 8}\n";
    server
        .create_deployment("blue", &model("models/digits/1/model.onnx"), more)
        .ok();
    server
        .run_with(
            &["online-deployment", "create", "--skip-script-validation"],
            &deployment("green", &model(green), more),
        )
        .ok();
    server.update("iris", &["--traffic", "blue=100 green=0"]);
    server
}

fn start(server: &Server, plan: &str) -> Value {
    let start = ["rollout", "start", "-e", "iris"];
    server.run_with(&start, plan).ok()
}

/// The same, and the traffic of its first step is in force.
fn start_and_wait(server: &Server, plan: &str) {
    start(server, plan);
    wait_until("the first step", || {
        let now = look(server);
        now["steps"][0]["state"] == "done" && now["is_moving"] == json!(false)
    });
}

/// Waits until each request of blue is copied to green: no change of the traffic tells of it.
fn wait_for_copies(server: &Server) {
    wait_until("copies of each request", || {
        let shown = server.ok(&["endpoint", "show", "--name", "iris", "--detail"]);
        shown["shadow_traffic"] == json!({"green": 100})
    });
}

fn status(server: &Server) -> Value {
    server.ok(&["rollout", "status"])
}

/// The status as it is asked for over the wire, which is quicker.
fn look(server: &Server) -> Value {
    let mut answer = agent()
        .get(format!("{}/v1/endpoints/iris/rollout", server.admin))
        .header("authorization", format!("Bearer {}", server.token))
        .call()
        .expect("an answer");
    answer.body_mut().read_json().expect("JSON")
}

fn wait_for_phase(server: &Server, phase: &str) {
    wait_until(&format!("the phase {phase}"), || {
        look(server)["phase"] == phase
    });
}

fn traffic(server: &Server) -> Value {
    server.ok(&["endpoint", "show", "--name", "iris"])["traffic"].clone()
}

fn sample() -> String {
    std::fs::read_to_string(model("models/digits/1/sample-request.json")).expect("a sample")
}

/// Sends so many requests, one after another; how many have failed.
fn send(server: &Server, key: &str, count: usize) -> usize {
    let sample = sample();
    let statuses = (0..count).map(|_| server.score("iris", key, None, &sample).status);
    statuses.filter(|status| *status != 200).count()
}

fn explained(server: &Server) -> String {
    let told = server.run(&["rollout", "explain", "-e", "iris"]);
    assert_eq!(told.code, 0, "{}", told.stderr);
    told.stdout
}

/// The judge has a look after each failure, and the third is the last; also while a model hangs in its trial.
#[test]
fn a_canary_that_always_fails_is_rolled_back_by_its_third_failure_also_while_another_starts() {
    let data = folder();
    let server = server(data.path(), WRONG);
    let key = server.key("iris");
    // The first requests of an instance say nothing of its latency, and the third failure may come soon.
    assert_eq!(send(&server, &key, 20), 0);
    try_a_model_that_hangs(&server);
    start_and_wait(&server, ONE_STEP);
    let (mut failed, mut sent) = (0, 0);
    while look(&server)["phase"] == "running" {
        failed += send(&server, &key, 1);
        sent += 1;
        assert!(sent < 200, "never rolled back");
        if failed > 0 {
            let told = format!("{sent} requests are told of");
            wait_until(&told, || {
                look(&server)["requests"] == json!(sent) || look(&server)["phase"] != "running"
            });
        }
    }
    assert_eq!(failed, 3);
    wait_for_phase(&server, "rolled-back");
    assert_eq!(traffic(&server), json!({"blue": 100, "green": 0}));
    let told = explained(&server);
    assert!(
        told.contains("errors: HARM (canary 3 of 3, stable 0 of"),
        "{told}"
    );
    assert_eq!(send(&server, &key, 50), 0);
    let page = data.path().join("page.html");
    server.ok(&[
        "rollout",
        "report",
        "-e",
        "iris",
        "--html",
        page.to_str().unwrap(),
    ]);
    let page = std::fs::read_to_string(page).expect("a page");
    for part in [
        "green was rolled back: errors: HARM",
        "<h3>The ramp</h3>",
        "<h3>Evidence of harm</h3>",
        "</html>",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    // Where all that was judged went to the canary there is no latency to draw.
    let of_stable = look(&server)["findings"][0]["stable"]["of"].as_u64();
    assert_eq!(
        page.contains("<h3>Latency</h3>"),
        of_stable > Some(0),
        "{page}"
    );
    assert!(!page.contains("http") && !page.contains("src="));
    let (_, refused) = server.fails(&[
        "rollout",
        "report",
        "-e",
        "iris",
        "--html",
        "/no/such/folder/page.html",
    ]);
    assert!(refused.contains("--html: cannot write"), "{refused}");
}

/// Also where another process runs it.
#[test]
fn a_canary_whose_answers_are_no_numbers_is_rolled_back_by_its_bad_outputs() {
    for isolation in ["thread", "process"] {
        let data = folder();
        let server = server(data.path(), "models/test/nan.onnx");
        let key = server.key("iris");
        let isolated = format!("request_settings.isolation={isolation}");
        server.ok(&[
            "online-deployment",
            "update",
            "-n",
            "green",
            "-e",
            "iris",
            "--set",
            &isolated,
        ]);
        start_and_wait(&server, ONE_STEP);
        let mut sent = 0;
        while look(&server)["phase"] == "running" {
            assert_eq!(send(&server, &key, 10), 0);
            sent += 10;
            assert!(sent < 1000, "never rolled back: {}", explained(&server));
        }
        wait_for_phase(&server, "rolled-back");
        let told = explained(&server);
        let of_canary = told.split("bad-outputs: HARM (canary ").nth(1);
        let (bad, of) = of_canary
            .and_then(|told| told.split_once(','))
            .and_then(|(count, _)| count.split_once(" of "))
            .unwrap_or_else(|| panic!("{told}"));
        assert_eq!(bad, of, "{told}");
        assert!(told.contains("stable 0 of"), "{told}");
    }
}

#[test]
fn a_canary_that_is_as_good_gets_all_traffic_and_loses_it_by_undo() {
    let data = folder();
    let server = server(data.path(), GOOD);
    let key = server.key("iris");
    let begun = start(
        &server,
        "strategy: {canary: {steps: [{setWeight: 50}, {analysis: {}}]}}
guard: {metrics: [{name: errors, negligible: 0.05}]}
",
    );
    assert_eq!(begun["steps"][0]["step"], "weight 50 %");
    let mut sent = 0;
    while look(&server)["phase"] == "running" {
        assert_eq!(send(&server, &key, 10), 0);
        sent += 10;
        assert!(sent < 5000, "never promoted: {}", explained(&server));
    }
    assert_eq!(look(&server)["phase"], "promoted");
    assert!(sent >= 50, "promoted after {sent} requests");
    assert_eq!(traffic(&server), json!({"blue": 0, "green": 100}));
    let (code, words) = server.fails(&["rollout", "pause"]);
    assert!(code != 0 && words.contains("it was promoted"), "{words}");
    server.ok(&["rollout", "undo"]);
    wait_for_phase(&server, "aborted");
    assert_eq!(traffic(&server), json!({"blue": 100, "green": 0}));
}

#[test]
fn who_changes_the_traffic_by_hand_pauses_the_rollout_and_resume_takes_it_back() {
    let data = folder();
    let server = server(data.path(), GOOD);
    start_and_wait(&server, ONE_STEP);
    server.update("iris", &["--traffic", "blue=70 green=30"]);
    wait_for_phase(&server, "paused");
    let why = look(&server)["why"].as_str().unwrap().to_owned();
    assert!(
        why.contains("somebody else has changed the traffic to blue:70,green:30"),
        "{why}"
    );
    assert_eq!(traffic(&server), json!({"blue": 70, "green": 30}));
    server.ok(&["rollout", "resume"]);
    wait_until("the traffic is back", || {
        traffic(&server) == json!({"blue": 90, "green": 10})
    });
    server.ok(&["rollout", "abort"]);
    wait_for_phase(&server, "aborted");
    assert_eq!(traffic(&server), json!({"blue": 100, "green": 0}));
}

#[test]
fn other_users_meet_the_next_canary_first_and_the_same_ones_a_canary_that_is_tried_again() {
    let data = folder();
    let server = server(data.path(), GOOD);
    let (key, sample) = (server.key("iris"), sample());
    let users_of_canary = || {
        start_and_wait(
            &server,
            "strategy: {canary: {steps: [{setWeight: 50}, {pause: {}}]}}\nsplit: sticky\nsticky: {header: x-user}\n",
        );
        let users = (0..60).filter(|user: &u32| {
            let headers = [("x-user", &*user.to_string())];
            let answer = server.score_with("iris", &key, &headers, &sample);
            answer.header("azureml-model-deployment") == Some("green")
        });
        let users: Vec<_> = users.collect();
        server.ok(&["rollout", "abort"]);
        wait_for_phase(&server, "aborted");
        users
    };
    let first = users_of_canary();
    assert!((10..50).contains(&first.len()), "{first:?}");
    assert_eq!(users_of_canary(), first);
    server
        .run_with(
            &["online-deployment", "update"],
            &deployment("green", &model("models/digits/1/model.onnx"), ""),
        )
        .ok();
    assert_ne!(users_of_canary(), first);
}

#[test]
fn a_server_that_is_killed_in_the_middle_of_a_step_goes_on_with_its_evidence() {
    let data = folder();
    let server = server(data.path(), GOOD);
    let key = server.key("iris");
    start_and_wait(&server, ONE_STEP);
    assert_eq!(send(&server, &key, 100), 0);
    wait_until("all is told of", || look(&server)["requests"] == json!(100));
    // On disk, and not only in memory: a line of the journal is written with what came before.
    server.ok(&["rollout", "pause"]);
    server.kill();

    let server = Server::start(data.path());
    assert_eq!(status(&server)["requests"], json!(100));
    assert_eq!(look(&server)["phase"], "paused");
    assert_eq!(traffic(&server), json!({"blue": 90, "green": 10}));
    server.ok(&["rollout", "resume"]);
    assert_eq!(send(&server, &key, 100), 0);
    wait_until("all is told of", || look(&server)["requests"] == json!(200));
    let findings = look(&server)["findings"][0].clone();
    assert_eq!(
        (&findings["canary"]["of"], &findings["stable"]["of"]),
        (&json!(20), &json!(180))
    );
    let replay = server.ok(&["rollout", "replay"]);
    assert_eq!(
        (&replay["is_equal"], &replay["phase"]["phase"]),
        (&json!(true), &json!("running"))
    );
    server.ok(&["rollout", "promote", "--full"]);
    wait_for_phase(&server, "promoted");
    server.kill();

    let server = Server::start(data.path());
    assert_eq!(status(&server)["phase"], "promoted");
    assert_eq!(server.ok(&["rollout", "replay"])["is_equal"], json!(true));
}

#[test]
fn what_cannot_be_a_rollout_is_refused_in_words() {
    let data = folder();
    let server = server(data.path(), GOOD);
    let refused = |arguments: &[&str]| server.fails(&[&["rollout", "start"], arguments].concat()).1;
    for (arguments, words) in [
        (
            &["--to", "red"][..],
            "no deployment red; it has blue, green",
        ),
        (
            &["--from", "blue", "--to", "blue"],
            "to: expected another deployment",
        ),
        (
            &["--from", "green", "--to", "blue"],
            "expected green to have all traffic",
        ),
        (&["-e", "rose", "--from", "blue", "--to", "green"], "rose"),
    ] {
        let told = refused(arguments);
        assert!(told.contains(words), "{arguments:?}: {told}");
    }
    let falls = server
        .run_with(&["rollout", "start"], "guard: {alpha: 2}\ncolour: red\n")
        .error();
    assert!(falls.contains("colour: unknown key"), "{falls}");
    start_and_wait(&server, ONE_STEP);
    let second = refused(&[]);
    assert!(
        second.contains("all traffic") || second.contains("is on its way"),
        "{second}"
    );
    let second = refused(&["--from", "blue", "--to", "green"]);
    assert!(
        second.contains("rollout 1 of endpoint iris is on its way: abort it first"),
        "{second}"
    );
    // With traffic it cannot go; once it has none it may, and the rollout ends.
    let (_, live) = server.fails(DELETE_GREEN);
    assert!(live.contains("traffic"), "{live}");
    server.update("iris", &["--traffic", "blue=100 green=0"]);
    server.ok(DELETE_GREEN);
    wait_for_phase(&server, "aborted");
    assert!(
        look(&server)["why"]
            .as_str()
            .unwrap()
            .contains("green is there no more")
    );
}

#[test]
fn a_dry_run_says_what_it_would_take_and_begins_nothing() {
    let data = folder();
    let server = server(data.path(), GOOD);
    let key = server.key("iris");
    assert_eq!(send(&server, &key, 20), 0);
    let said = server.ok(&["rollout", "start", "--dry-run", "-o", "json"]);
    let forecast = &said["forecast"];
    assert_eq!(
        (&forecast["stable_requests"], &forecast["stable_failures"]),
        (&json!(20), &json!(0))
    );
    assert!(forecast["requests_per_s"].as_f64().unwrap() > 0.0);
    let weights = forecast["weights"].as_array().unwrap();
    let shares: Vec<_> = weights.iter().map(|one| one["weight"].clone()).collect();
    assert_eq!(shares, [json!(1), json!(10), json!(50)]);
    for one in weights {
        for need in ["find_2x", "find_5x", "prove_safe"] {
            assert!(one[need]["requests"].as_u64() > Some(100), "{one}");
            assert!(one[need]["seconds"].as_f64() > Some(0.0), "{one}");
        }
    }
    let told = server.run(&["rollout", "start", "--dry-run"]).stdout;
    for words in [
        "iris: blue -> green, at most 1 % false alarms",
        "2. weight 1 %",
        "failed 0 of 20; errors are reckoned with 0.1 %",
        "At 10 %: twice as many errors are found in about",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert_eq!(server.ok(&["rollout", "list"]), json!([]));
    assert_eq!(traffic(&server), json!({"blue": 100, "green": 0}));
}

#[test]
fn a_verdict_is_there_at_any_time_and_its_exit_code_says_it() {
    let data = folder();
    let server = server(data.path(), WRONG);
    let key = server.key("iris");
    let verdict = |server: &Server| server.run(&["verdict", "--from", "blue", "--to", "green"]);
    server.update("iris", &["--traffic", "blue=90 green=10"]);
    let undecided = verdict(&server);
    assert_eq!(undecided.code, 2, "{}", undecided.stderr);
    assert_eq!(send(&server, &key, 100), 10);
    wait_until("harm is found", || verdict(&server).code == 1);
    let harm = verdict(&server);
    assert!(
        harm.stderr
            .contains("errors: HARM (canary 10 of 10, stable 0 of 90"),
        "{}",
        harm.stderr
    );
    let mut answer = agent()
        .get(format!(
            "{}/v1/endpoints/iris/verdict?from=blue&to=green",
            server.admin
        ))
        .header("authorization", format!("Bearer {}", server.token))
        .config()
        .http_status_as_error(false)
        .build()
        .call()
        .expect("an answer");
    assert_eq!(answer.status().as_u16(), 412);
    let view: Value = answer.body_mut().read_json().expect("JSON");
    assert_eq!(view["verdict"], "HARM");
}

/// Two failures of the canary are no proof; two on each of two machines are.
#[test]
fn machines_that_prove_nothing_alone_prove_harm_together_and_one_named_twice_counts_once() {
    let data = [folder(), folder()];
    let servers = data.each_ref().map(|data| server(data.path(), WRONG));
    for server in &servers {
        let key = server.key("iris");
        server.update("iris", &["--traffic", "blue=90 green=10"]);
        let (mut failed, mut sent) = (0, 0);
        while failed < 2 {
            failed += send(server, &key, 1);
            sent += 1;
        }
        wait_until("all is told of", || {
            let told = server.run(&["verdict", "--from", "blue", "--to", "green"]);
            assert_eq!(told.code, 2, "{}", told.stderr);
            let told: Value = serde_json::from_str(&told.stdout).expect("JSON");
            told["requests"] == json!(sent)
        });
    }
    let [one, other] = data.each_ref().map(|data| data.path().to_str().unwrap());
    let ask = |folders: &[&str]| {
        let mut words = vec!["verdict", "--from", "blue", "--to", "green"];
        words.extend(folders.iter().flat_map(|folder| ["--server", folder]));
        servers[0].run(&words)
    };
    let twice = ask(&[one, one]);
    assert_eq!(twice.code, 2, "{}", twice.stderr);
    assert!(twice.stderr.contains("counts once"), "{}", twice.stderr);
    let both = ask(&[one, other]);
    assert_eq!(both.code, 1, "{}", both.stderr);
    assert!(
        both.stderr.contains("errors: HARM (canary 4 of 4"),
        "{}",
        both.stderr
    );
    let said: Value = serde_json::from_str(&both.stdout).expect("JSON");
    assert_eq!(said["machines"].as_array().unwrap().len(), 2);
    assert_eq!(said["machines"][0]["verdict"], "UNDECIDED");
    let missing = ask(&[one, "/no/such/folder"]);
    assert!(missing.code > 2, "{}", missing.code);
    assert!(
        missing.stderr.contains("/no/such/folder"),
        "{}",
        missing.stderr
    );
}

/// One who listens for hooks, over https where there are a certificate and a key: each gets `200` and is told as its body.
fn hooks(secured: Option<Arc<ServerConfig>>) -> (String, Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let scheme = if secured.is_some() { "https" } else { "http" };
    let address = listener.local_addr().expect("an address");
    let (told, hears) = std::sync::mpsc::channel();
    let listens = move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let body = match &secured {
                None => take(&mut stream),
                Some(config) => {
                    let session = ServerConnection::new(Arc::clone(config)).expect("a session");
                    take(&mut StreamOwned::new(session, stream))
                }
            };
            // Whoever does not know the certificate says nothing.
            if body.is_some_and(|body| told.send(body).is_err()) {
                return;
            }
        }
    };
    let named = std::thread::Builder::new().name("hooks".to_owned());
    named.spawn(listens).expect("a thread");
    (format!("{scheme}://{address}/a-secret"), hears)
}

/// The JSON of a request, which is answered.
fn take(stream: &mut (impl Read + Write)) -> Option<Value> {
    let (mut text, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut part).ok().filter(|read| *read > 0)?;
        text.extend_from_slice(&part[..read]);
        let all = String::from_utf8_lossy(&text).into_owned();
        let body = all
            .split_once("\r\n\r\n")
            .and_then(|(_, body)| serde_json::from_str(body).ok());
        if body.is_some() {
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            stream.write_all(answer).expect("an answer");
            stream.flush().expect("an answer");
            return body;
        }
    }
}

#[test]
fn gates_are_asked_and_hooks_are_told_of_each_event() {
    let data = folder();
    let server = server(data.path(), GOOD);
    let (address, hears) = hooks(None);
    start(
        &server,
        &format!(
            "strategy: {{canary: {{steps: [{{gate: {{command: 'true'}}}}, {{gate: {{url: '{address}'}}}}, {{setWeight: 100}}]}}}}
notify: [{{url: '{address}'}}, {{command: /no/such/program}}]
"
        ),
    );
    wait_for_phase(&server, "promoted");
    let mut told = Vec::new();
    // One question, and a line for each of: begun, two answers, moved, promoted.
    while told.len() < 6 {
        let event = hears
            .recv_timeout(crate::support::PATIENCE)
            .expect("an event");
        assert_eq!(event["endpoint"], "iris");
        told.push(
            event["entry"]["event"]
                .as_str()
                .unwrap_or("question")
                .to_owned(),
        );
    }
    told.sort();
    assert_eq!(
        told,
        [
            "answered", "answered", "moved", "promoted", "question", "started"
        ]
    );
}

#[test]
fn a_hook_of_https_is_told_where_its_authority_is_known_and_else_hears_nothing() {
    let tls = |name: &str| repository("tests/tls").join(name);
    let chain = CertificateDer::pem_file_iter(tls("server.pem")).expect("certificates");
    let chain = chain.collect::<Result<_, _>>().expect("certificates");
    let key = PrivateKeyDer::from_pem_file(tls("server.key")).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a certificate");
    let (address, hears) = hooks(Some(Arc::new(config)));
    let plan = format!(
        "strategy: {{canary: {{steps: [{{gate: {{url: '{address}'}}}}, {{setWeight: 100}}]}}}}\n"
    );

    let data = folder();
    let mut command = serin(data.path());
    command.env("SSL_CERT_FILE", tls("authority.pem"));
    let known = with_both(Server::start_command(command, data.path()), GOOD);
    start(&known, &plan);
    wait_for_phase(&known, "promoted");
    let asked = hears.recv().expect("a question");
    assert_eq!(asked["endpoint"], "iris");
    assert!(explained(&known).contains("the gate agrees: ok"));

    // Authorities that are of no file are those of somebody else, or none.
    let data = folder();
    let mut command = serin(data.path());
    command.env("SSL_CERT_FILE", "/dev/null");
    command.env("SSL_CERT_DIR", data.path());
    let unknown = with_both(Server::start_command(command, data.path()), GOOD);
    start(&unknown, &plan);
    wait_until("the gate does not agree", || {
        explained(&unknown).contains("the gate does not agree: the system has no certificates")
    });
    assert!(hears.try_recv().is_err());
}

#[test]
fn answers_are_compared_before_the_canary_gets_any_traffic() {
    let data = folder();
    let server = server(data.path(), GOOD);
    let key = server.key("iris");
    start(
        &server,
        "strategy: {canary: {steps: [{mirror: {percent: 100, pairs: 50}}, {setWeight: 10}, {pause: {}}]}}
sticky: {header: x-user}
split: sticky
",
    );
    wait_for_copies(&server);
    let shown = server.ok(&["endpoint", "show", "--name", "iris", "--detail"]);
    assert_eq!(shown["sticky"], json!({"header": "x-user"}), "{shown}");
    assert_eq!(traffic(&server), json!({"blue": 100, "green": 0}));
    let mut sent = 0;
    while look(&server)["steps"][0]["state"] != "done" {
        assert_eq!(send(&server, &key, 10), 0);
        sent += 10;
        assert!(sent < 2000, "never enough pairs: {}", look(&server));
    }
    wait_until("the first traffic", || {
        traffic(&server) == json!({"blue": 90, "green": 10})
    });
    let now = look(&server);
    assert!(now["pairs"].as_u64().unwrap() >= 50, "{now}");
    // The second model is another one: its probabilities differ, and the request is kept beside them.
    let worst = &now["worst_pairs"][0];
    assert!(
        worst["request"].as_str().unwrap().starts_with("{\"data\""),
        "{now}"
    );
    assert!(worst["difference"].as_f64().unwrap() != 0.0, "{worst}");
    let shown = server.ok(&["endpoint", "show", "--name", "iris", "--detail"]);
    assert!(
        shown["shadow_traffic"]
            .as_object()
            .is_none_or(|shadows| shadows.is_empty()),
        "{shown}"
    );
    assert_eq!(
        server.ok(&["rollout", "replay", "-e", "iris"])["is_equal"],
        json!(true)
    );
}

/// Labels come after the answers; what cannot be joined is counted, and nothing twice.
#[test]
fn labels_that_come_later_are_joined_once_and_a_canary_with_wrong_answers_is_found() {
    let data = folder();
    let server = server(data.path(), GOOD);
    let key = server.key("iris");
    start_and_wait(
        &server,
        "strategy: {canary: {steps: [{setWeight: 50}, {pause: {}}]}}
guard: {alpha: 0.05, metrics: [{name: accuracy}]}
",
    );
    let sample = sample();
    let mut labels = String::new();
    for _ in 0..200 {
        let answer = server.score("iris", &key, None, &sample);
        let id = answer.header("x-ms-request-id").expect("an id").to_owned();
        let right = answer.header("azureml-model-deployment") == Some("blue");
        labels.push_str(&json!({"id": id, "right": right}).to_string());
        labels.push('\n');
    }
    labels.push_str("{\"id\": \"never seen\", \"right\": true}\n");
    let feedback = || server.run_with(&["feedback", "-e", "iris"], &labels).ok();
    assert_eq!(
        feedback(),
        json!({"joined": 200, "unknown": 1, "misfits": 0})
    );
    wait_for_phase(&server, "rolled-back");
    let told = explained(&server);
    assert!(
        told.contains("accuracy: HARM (canary 100 of 100, stable 0 of 100"),
        "{told}"
    );
    let none = server
        .run_with(&["feedback", "-e", "iris"], &labels)
        .error();
    assert!(
        none.contains("no rollout of endpoint iris is on its way"),
        "{none}"
    );
    let wrong = server
        .run_with(&["feedback", "-e", "iris"], "{\"id\": 3}\n")
        .error();
    assert!(wrong.contains("line 1: "), "{wrong}");
}

/// Sends so many requests with ids of their own: the digits that blue says, by id.
fn digits(server: &Server, key: &str, ids: std::ops::Range<u32>) -> Vec<(String, Value)> {
    let sample = sample();
    let blue = &[("azureml-model-deployment", "blue")][..];
    let digits = server.score_with("iris", key, blue, &sample).json()["label"].clone();
    let ids = ids.map(|at| format!("request-{at}"));
    ids.map(|id| {
        let answer = server.score_with("iris", key, &[("x-request-id", &id)], &sample);
        assert_eq!(answer.status, 200);
        (id, digits.clone())
    })
    .collect()
}

fn lines(labels: &[(String, Value)]) -> String {
    let line = |(id, label): &(String, Value)| json!({"id": id, "label": label}).to_string();
    labels.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_label_is_held_against_the_answers_of_both_versions_where_both_have_answered() {
    let data = folder();
    let server = server(data.path(), GOOD);
    let key = server.key("iris");
    start(
        &server,
        "strategy: {canary: {steps: [{mirror: {percent: 100, pairs: 10000}}, {setWeight: 10}]}}
guard: {metrics: [{name: accuracy}]}
feedback: {answer: /label}
",
    );
    wait_for_copies(&server);
    let labels = digits(&server, &key, 0..60);
    let finding = |which: &str| look(&server)["findings"][0][which].clone();
    let mut learned = Value::Null;
    // A copy may be dropped, or answered later than its request.
    wait_until("the copies are answered", || {
        look(&server)["pairs"].as_u64() > Some(30)
    });
    for (id, _) in &labels {
        // The first row is right, and the second wrong.
        let half = json!({"id": id, "label": [0, 7]}).to_string();
        learned = server.run_with(&["feedback", "-e", "iris"], &half).ok();
        assert_eq!(learned["joined"], json!(1), "{learned}");
        if id == "request-7" {
            break;
        }
    }
    wait_until("the rollout is told", || {
        finding("stable")["of"] == json!(8) && finding("canary")["of"].as_u64() > Some(3)
    });
    let (stable, canary) = (finding("stable"), finding("canary"));
    assert!(
        stable["of"].as_u64() >= canary["of"].as_u64(),
        "{stable} {canary}"
    );
    assert_eq!(
        stable["events"].as_u64(),
        stable["of"].as_u64().map(|of| of / 2),
        "{learned}"
    );
    let none = server
        .run_with(
            &["feedback", "-e", "iris"],
            "{\"id\": \"request-59\", \"label\": \"nine\"}",
        )
        .ok();
    assert_eq!(none["misfits"], json!(1), "{none}");
    let said = none["misfit"].as_str().unwrap();
    assert!(
        said.contains("label \"nine\" fits no answer of the form [0,9]"),
        "{said}"
    );
    assert_eq!(server.ok(&["rollout", "replay"])["is_equal"], json!(true));
}

#[test]
fn labels_find_the_answers_of_before_a_restart_where_these_are_on_disk_and_not_when_it_is_over() {
    let data = folder();
    let kept = data.path().join("feedback/1.db");
    let server = server(data.path(), GOOD);
    let key = server.key("iris");
    start_and_wait(
        &server,
        "strategy: {canary: {steps: [{setWeight: 50}, {pause: {}}]}}
guard: {metrics: [{name: accuracy}]}
feedback: {answer: /label, onDisk: true, keep: 2h}
",
    );
    let labels = digits(&server, &key, 0..40);
    wait_until("all is told of", || look(&server)["requests"] == json!(40));
    // What stands behind it in the same line is there when this is answered.
    let first = server
        .run_with(&["feedback", "-e", "iris"], &lines(&labels[..10]))
        .ok();
    assert_eq!(first["joined"], json!(10), "{first}");
    assert!(kept.exists());
    server.ok(&["rollout", "pause"]);
    server.kill();

    let server = Server::start(data.path());
    wait_until("it is read", || look(&server)["phase"] == "paused");
    let learned = server
        .run_with(&["feedback", "-e", "iris"], &lines(&labels))
        .ok();
    assert_eq!(learned, json!({"joined": 30, "unknown": 10, "misfits": 0}));
    assert_eq!(server.ok(&["rollout", "replay"])["is_equal"], json!(true));
    server.ok(&["rollout", "abort"]);
    wait_for_phase(&server, "aborted");
    wait_until("the answers are gone", || !kept.exists());
}

#[test]
fn labels_for_a_rollout_that_no_label_judges_are_refused() {
    let data = folder();
    let server = server(data.path(), GOOD);
    start_and_wait(&server, ONE_STEP);
    let none = server
        .run_with(
            &["feedback", "-e", "iris"],
            "{\"id\": \"a\", \"right\": true}",
        )
        .error();
    assert!(
        none.contains("start one with {name: accuracy} among guard.metrics"),
        "{none}"
    );
    let both = "{\"id\": \"a\", \"right\": true, \"score\": 0.5}\n{\"id\": \"a\", \"score\": 7}\n";
    let wrong = server.run_with(&["feedback", "-e", "iris"], both).error();
    for words in [
        "line 1: label of \"a\": expected exactly one of `right`",
        "line 2: score of \"a\": expected a number from 0 (wrong) to 1 (right), found 7",
    ] {
        assert!(wrong.contains(words), "{wrong}");
    }
}

#[test]
fn who_may_send_requests_to_an_endpoint_may_say_what_turned_out_about_its_answers() {
    let data = folder();
    let server = server(data.path(), GOOD);
    let key = server.key("iris");
    let say = |key: &str, body: &str| {
        let request = agent()
            .post(format!("{}/endpoints/iris/feedback", server.scoring))
            .header("authorization", format!("Bearer {key}"));
        let mut answer = request.send(body).expect("an HTTP answer");
        let said: Value = answer.body_mut().read_json().expect("JSON");
        (answer.status().as_u16(), said)
    };
    let one = "{\"id\": \"request-0\", \"right\": true}";
    let (status, said) = say(&key, one);
    assert_eq!(status, 404, "{said}");
    assert!(
        said["message"]
            .as_str()
            .unwrap()
            .contains("no rollout of endpoint iris")
    );
    start_and_wait(
        &server,
        "strategy: {canary: {steps: [{setWeight: 50}, {pause: {}}]}}
guard: {metrics: [{name: accuracy}]}
",
    );
    digits(&server, &key, 0..3);
    assert_eq!(say(&key, one).1["joined"], json!(1));
    let several =
        "[{\"id\": \"request-1\", \"score\": 0.5}, {\"id\": \"request-9\", \"score\": 0.5}]";
    let (status, said) = say(&key, several);
    assert_eq!(
        (status, &said["joined"], &said["unknown"]),
        (200, &json!(1), &json!(1))
    );
    let (status, said) = say(&key, "{\"id\": \"request-2\"}");
    assert_eq!(status, 400);
    assert!(
        said["message"]
            .as_str()
            .unwrap()
            .contains("expected exactly one of `right`"),
        "{said}"
    );
    assert_eq!(say("wrong", one).0, 401);
}

#[test]
fn requests_are_judged_while_copies_are_compared_without_a_pause() {
    let data = folder();
    let server = server(data.path(), GOOD);
    start(
        &server,
        "strategy: {canary: {steps: [{mirror: {percent: 100, pairs: 1000000}}, {setWeight: 10}]}}\n",
    );
    let traffic = Traffic::start(&server, "iris", &sample(), 2);
    wait_until("requests are told of", || {
        let now = look(&server);
        now["requests"].as_u64() > Some(0) && now["pairs"].as_u64() > Some(0)
    });
    traffic.stop();
}
