//! The canary flow under live traffic: nothing that an operator does loses a request.

use std::collections::BTreeMap;

use serde_json::json;

use crate::support::{Server, folder, repository};
use crate::traffic::Traffic;

/// A server with the two digits models registered. The files of the flow name scoring scripts; here the models are scored without.
fn server(data: &std::path::Path) -> Server {
    let server = Server::start(data);
    for version in ["1", "2"] {
        let name = format!("my-model-m{version}");
        let path = format!("models/digits/{version}");
        server.register(&name, "1", &path).ok();
    }
    server
}

fn fixture(name: &str) -> String {
    repository(&format!("tests/fixtures/seed/{name}"))
        .to_str()
        .expect("the repository's path is UTF-8")
        .to_owned()
}

/// Endpoint `myEndpoint` with blue serving all traffic, as after step 1 of the flow.
fn with_blue(data: &std::path::Path) -> Server {
    let server = server(data);
    server.ok(&[
        "endpoint",
        "create",
        "--file",
        &fixture("managed-1-create-OnlineEndpoint.yaml"),
    ]);
    let blue = fixture("managed-2-blue-OnlineDeployment.yaml");
    server.update(
        "myEndpoint",
        &[
            "--deployment",
            "blue",
            "--deployment-file",
            &blue,
            "--set",
            "deployments.blue.scoring=native",
        ],
    );
    server.update("myEndpoint", &["--traffic", "blue:100"]);
    server
}

fn deploy_green(server: &Server) {
    let green = fixture("managed-3-green-OnlineDeployment.yaml");
    server.update(
        "myEndpoint",
        &[
            "--deployment",
            "green",
            "--deployment-file",
            &green,
            "--set",
            "deployments.green.scoring=native",
        ],
    );
}

/// As many as the three instances of blue hold, running and waiting: one more would be refused, and rightly.
const CLIENTS: usize = 6;

fn sample() -> String {
    std::fs::read_to_string(repository("models/digits/1/sample-request.json"))
        .expect("the sample request")
}

#[test]
fn no_step_of_the_flow_loses_a_request() {
    let data = folder();
    let server = with_blue(data.path());
    let traffic = Traffic::start(&server, "myEndpoint", &sample(), CLIENTS);

    server.update(
        "myEndpoint",
        &["--deployment", "blue", "--instance-count", "5"],
    );
    server.update(
        "myEndpoint",
        &["--set", "deployments.blue.scale.instance_count=3"],
    );
    deploy_green(&server);
    traffic.passes(200);
    assert_eq!(traffic.answered_by("green"), 0, "green has no share yet");
    server.update("myEndpoint", &["--traffic", "blue:90,green:10"]);
    traffic.passes(500);
    assert!(
        traffic.answered_by("green") > 0,
        "green has a share of 10 %"
    );
    server.update("myEndpoint", &["--traffic", "blue:0,green:100"]);
    server.ok(&["endpoint", "delete", "--deployment", "blue", "--yes"]);
    traffic.passes(200);

    let (answered, failed) = traffic.stop();
    assert_eq!(failed, Vec::<String>::new(), "of {answered} requests");
}

#[test]
fn a_new_model_version_in_place_loses_no_request() {
    let data = folder();
    let server = with_blue(data.path());
    let traffic = Traffic::start(&server, "myEndpoint", &sample(), CLIENTS);
    for model in ["azureml:my-model-m2:1", "azureml:my-model-m1:1"] {
        server.update(
            "myEndpoint",
            &["--set", &format!("deployments.blue.model={model}")],
        );
        traffic.passes(100);
    }
    let (answered, failed) = traffic.stop();
    assert_eq!(failed, Vec::<String>::new(), "of {answered} requests");
}

#[test]
fn a_switch_is_in_force_for_requests_that_arrive_after_the_command_returned() {
    let data = folder();
    let server = with_blue(data.path());
    deploy_green(&server);
    let key = server.key("myEndpoint");
    for (traffic, expected) in [
        ("blue:0,green:100", "green"),
        ("blue:100,green:0", "blue"),
        ("green=100", "green"),
    ] {
        server.update("myEndpoint", &["--traffic", traffic]);
        let answer = server.score("myEndpoint", &key, None, &sample());
        assert_eq!(
            answer.header("azureml-model-deployment"),
            Some(expected),
            "after --traffic {traffic}"
        );
    }
}

#[test]
fn every_aligned_hundred_of_a_90_10_split_is_exact_with_16_clients_in_parallel() {
    let data = folder();
    let server = with_blue(data.path());
    deploy_green(&server);
    for instances in [
        "deployments.blue.instance_count=16",
        "deployments.green.instance_count=16",
    ] {
        server.update("myEndpoint", &["--set", instances]);
    }
    server.update("myEndpoint", &["--traffic", "blue:90,green:10"]);
    let key = server.key("myEndpoint");
    let (server, key, body) = (&server, key.as_str(), sample());
    for hundred in 0..5 {
        let counts: Vec<BTreeMap<String, u32>> = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..16_usize)
                .map(|client| {
                    let body = body.as_str();
                    // 100 requests over 16 clients: four of them send one more.
                    let requests = 100 / 16 + usize::from(client < 100 % 16);
                    scope.spawn(move || {
                        let mut counts = BTreeMap::new();
                        for _ in 0..requests {
                            let answer = server.score("myEndpoint", key, None, body);
                            assert_eq!(answer.status, 200, "{}", answer.body);
                            *counts
                                .entry(
                                    answer
                                        .header("azureml-model-deployment")
                                        .expect("the deployment")
                                        .to_owned(),
                                )
                                .or_insert(0) += 1;
                        }
                        counts
                    })
                })
                .collect();
            clients
                .into_iter()
                .map(|client| client.join().expect("a client"))
                .collect()
        });
        let of = |name: &str| {
            counts
                .iter()
                .filter_map(|counts| counts.get(name))
                .sum::<u32>()
        };
        assert_eq!((of("blue"), of("green")), (90, 10), "in hundred {hundred}");
    }
}

#[test]
fn a_deployment_answers_by_header_at_zero_percent() {
    let data = folder();
    let server = with_blue(data.path());
    deploy_green(&server);
    let key = server.key("myEndpoint");
    for name in ["green", "blue", "GREEN"] {
        let answer = server.score("myEndpoint", &key, Some(name), &sample());
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(
            answer.header("azureml-model-deployment"),
            Some(name.to_lowercase().as_str())
        );
    }
}

#[test]
fn a_deployment_with_traffic_is_not_deleted() {
    let data = folder();
    let server = with_blue(data.path());
    let (code, error) = server.fails(&["endpoint", "delete", "--deployment", "blue", "--yes"]);
    assert!(
        error.contains("the deployment blue has live traffic"),
        "exit {code}: {error}"
    );
    let shown = server.ok(&["endpoint", "show", "--name", "myEndpoint"]);
    assert_eq!(shown["traffic"], json!({"blue": 100}));
}

#[test]
fn show_says_what_was_asked_for_and_what_was_given() {
    let data = folder();
    let server = with_blue(data.path());
    let shown = server.ok(&[
        "online-deployment",
        "show",
        "--detail",
        "--name",
        "blue",
        "--endpoint-name",
        "myEndpoint",
    ]);
    assert_eq!(shown["provisioning_state"], "Succeeded");
    assert_eq!(shown["instance_count"], 3);
    let placements = shown["placements"]
        .as_array()
        .expect("a placement per instance");
    assert_eq!(placements.len(), 3);
    for placement in placements {
        assert_eq!(placement["vcpus_asked"], 4);
        assert_eq!(placement["verified"], true, "{placement}");
    }
}
