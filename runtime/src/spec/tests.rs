//! Files as people write them, from the text to the specs and back.

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;
use serin_scorers::NonFinite;

use super::*;

const SEED_ENDPOINT: &str = include_str!("testdata/managed-1-create-OnlineEndpoint.yaml");
const SEED_BLUE: &str = include_str!("testdata/managed-2-blue-OnlineDeployment.yaml");
const SEED_GREEN: &str = include_str!("testdata/managed-3-green-OnlineDeployment.yaml");

const GREEN: &str = "\
name: green
endpoint_name: iris
model: azureml:digits:2
instance_type: Standard_DS3_v2
instance_count: 2
";

fn endpoint(text: &str) -> EndpointSpec {
    read_endpoint(text, "e.yml", &[]).expect("an endpoint").spec
}

fn deployment(text: &str) -> DeploymentSpec {
    read_deployment(text, "d.yml", &[]).expect("a deployment")
}

fn assignments(texts: &[&str]) -> Vec<Assignment> {
    texts
        .iter()
        .map(|text| text.parse().expect("an assignment"))
        .collect()
}

#[track_caller]
fn check_endpoint_refused(text: &str, message: &str) {
    let error = read_endpoint(text, "e.yml", &[]).expect_err("refused");
    assert_eq!(error.to_string(), message);
}

/// Checks what is said about `lines` after those that every deployment has.
#[track_caller]
fn check_deployment_refused(lines: &str, message: &str) {
    let text = format!("name: blue\nmodel: m.onnx\ninstance_type: Standard_DS3_v2\n{lines}");
    let error = read_deployment(&text, "d.yml", &[]).expect_err("refused");
    assert_eq!(error.to_string(), message);
}

#[test]
fn the_endpoint_of_the_seed_reads_as_it_stands() {
    let mut expected = EndpointSpec::new("myEndpoint".parse().expect("a name"));
    expected.set_auth_mode(AuthMode::AmlToken);
    let file = read_endpoint(SEED_ENDPOINT, "e.yml", &[]).expect("an endpoint");
    assert_eq!((file.spec, file.deployments), (expected, None));
}

#[track_caller]
fn check_seed_deployment(text: &str, expected: serde_json::Value) {
    assert_eq!(
        serde_json::to_value(deployment(text)).expect("JSON"),
        expected
    );
}

#[test]
fn the_deployments_of_the_seed_read_as_they_stand() {
    check_seed_deployment(
        SEED_BLUE,
        json!({
            "name": "blue",
            "model": "azureml:my-model-m1:1",
            "instance_type": "Standard_FS4_v2",
            "instance_count": 3,
            "scale_settings": {"min_instances": 1, "max_instances": 5, "type": "default"},
            "request_settings": {"request_timeout_ms": 3000, "max_concurrent_requests_per_instance": 1},
            "code_configuration": {"code": "./src/onlinescoring/", "scoring_script": "m1/score.py"},
            "environment": "./src/onlinescoring/env_m1.yaml",
        }),
    );
    check_seed_deployment(
        SEED_GREEN,
        json!({
            "name": "green",
            "model": "azureml:my-model-m2:1",
            "instance_type": "Standard_FS4_v2",
            "instance_count": 5,
            "scale_settings": {"min_instances": 1, "max_instances": 5, "type": "default"},
            "request_settings": {"request_timeout_ms": 3000, "max_concurrent_requests_per_instance": 1},
            "code_configuration": {
                "code": "./src/onlinescoring/m2/",
                "scoring_script": "./src/onlinescoring/m2/score.py",
            },
            "environment": "./src/onlinescoring/env_m2.yaml",
        }),
    );
}

#[test]
fn the_notes_say_what_is_kept_without_effect() {
    assert_eq!(
        deployment(SEED_BLUE).notes(),
        [
            "min_instances and max_instances are kept without effect: instance_count says how many run"
        ]
    );
    assert_eq!(
        deployment(&format!("{SEED_BLUE}\nscoring: native\n")).notes(),
        [
            "code_configuration is kept but not run: the model is scored natively",
            "min_instances and max_instances are kept without effect: instance_count says how many run",
            "environment is kept without effect",
        ]
    );
    assert_eq!(deployment(GREEN).notes(), [""; 0]);
}

#[test]
fn the_current_form_reads_with_all_that_it_may_hold() {
    let spec = deployment(
        "\
$schema: https://azuremlschemas.azureedge.net/latest/managedOnlineDeployment.schema.json
id: /subscriptions/s
provisioning_state: Succeeded
name: green
endpoint_name: iris
type: managed
description: the network
tags: {team: vision, since: 2021}
model:
  name: digits
  version: 2
  path: ./models/digits/2
  type: custom_model
code_configuration: {code: ../src, scoring_script: score.py}
environment:
  image: mcr.microsoft.com/base
  conda_file: file:env/conda.yml
environment_variables: {A: 1}
instance_type: Standard_DS3_v2
instance_count: 2
app_insights_enabled: false
scale_settings: {type: default}
request_settings: {request_timeout_ms: 180000, max_concurrent_requests_per_instance: 4, max_queue_wait_ms: 500}
liveness_probe: {initial_delay: 10, period: 10}
data_collector: {collections: {model_inputs: {enabled: 'True'}}}
egress_public_network_access: disabled
",
    );
    assert_eq!(spec.instance_count(), 2);
    assert_eq!(
        spec.request_settings().request_timeout(),
        Duration::from_secs(180)
    );
    assert_eq!(
        spec.request_settings()
            .max_concurrent_requests_per_instance(),
        4
    );
    assert_eq!(spec.tags["since"], "2021");
    assert_eq!(spec.model, ModelRef::Path("./models/digits/2".into()));
    assert_eq!(spec.kept["environment_variables"], json!({"A": 1}));
    assert_eq!(
        spec.notes(),
        [
            "max_queue_wait_ms is kept without effect: request_timeout_ms covers the wait",
            "data_collector is kept without effect",
            "egress_public_network_access is kept without effect",
            "liveness_probe is kept without effect",
        ]
    );
}

#[test]
fn what_is_not_written_has_the_defaults_of_azure() {
    let spec = deployment("name: blue\nmodel: m.onnx\ninstance_type: Standard_DS3_v2\n");
    assert_eq!(spec.instance_count(), 1);
    assert_eq!(
        spec.request_settings().request_timeout(),
        Duration::from_secs(5)
    );
    assert_eq!(
        spec.request_settings()
            .max_concurrent_requests_per_instance(),
        1
    );
    assert_eq!(endpoint("name: iris").auth_mode(), AuthMode::Key);
}

#[test]
fn paths_are_seen_from_the_folder_of_the_file() {
    let mut blue = deployment(SEED_BLUE);
    blue.resolve_paths(Path::new("/configs"));
    let code = blue.code_configuration.expect("code");
    assert_eq!(
        code.code.as_deref(),
        Some(Path::new("/configs/src/onlinescoring"))
    );
    assert_eq!(
        code.scoring_script.as_deref(),
        Some(Path::new("m1/score.py"))
    );
    assert_eq!(
        blue.kept["environment"],
        "/configs/src/onlinescoring/env_m1.yaml"
    );
    let mut spec = deployment(
        "name: blue\nmodel: ./m.onnx\ninstance_type: S\nenvironment: {conda_file: file:c.yml, build: {path: /b}}\n",
    );
    spec.resolve_paths(Path::new("/configs"));
    assert_eq!(spec.model, ModelRef::Path("/configs/m.onnx".into()));
    assert_eq!(
        spec.kept["environment"],
        json!({"conda_file": "/configs/c.yml", "build": {"path": "/b"}})
    );
}

#[test]
fn deployments_stand_in_the_endpoint_file_as_a_mapping_or_a_list() {
    let body =
        "model: m.onnx, sku: Standard_DS3_v2, scale: {scale_type: Manual, instance_count: 3}";
    let map = format!("name: iris\ntraffic: {{blue: 100}}\ndeployments:\n  blue: {{{body}}}\n");
    let list =
        format!("name: iris\ntraffic: {{blue: 100}}\ndeployments:\n  - {{name: blue, {body}}}\n");
    let map = read_endpoint(&map, "e.yml", &[]).expect("an endpoint");
    let list = read_endpoint(&list, "e.yml", &[]).expect("an endpoint");
    assert_eq!(map, list);
    assert_eq!(map.deployments.expect("deployments")[0].instance_count(), 3);
}

#[test]
fn old_spellings_mean_the_current_keys() {
    let old = "\
name: blue
sku: Standard_DS3_v2
model: {local_path: m.onnx, model_format: custom}
code_reference: {directory: ./src, scoring_script: score.py}
scale_settings: {scale_type: manual, instance_count: 2}
liveness_probe: {period_seconds: 3}
";
    let new = "\
name: blue
instance_type: Standard_DS3_v2
model: {path: m.onnx, type: custom_model}
code_configuration: {code: ./src, scoring_script: score.py}
instance_count: 2
liveness_probe: {period: 3}
";
    assert_eq!(deployment(old), deployment(new));
    let nested = old.replace("directory: ./src", "code: {local_path: ./src}");
    assert_eq!(deployment(&nested), deployment(new));
    let within = "code: {local_path: ./src, scoring_script: score.py}";
    let within = old.replace("directory: ./src, scoring_script: score.py", within);
    assert_eq!(deployment(&within), deployment(new));
}

#[test]
fn two_spellings_of_one_thing_are_refused() {
    check_deployment_refused(
        "sku: Standard_F4s_v2\n",
        "d.yml:4:1: sku: expected `instance_type` or `sku`, which mean the same, found both",
    );
    check_deployment_refused(
        "instance_count: 1\nscale:\n  instance_count: 2\n",
        "d.yml:6:3: scale.instance_count: expected `instance_count` or `scale.instance_count`, which mean the same, found both",
    );
}

#[test]
fn unknown_keys_are_refused_with_a_suggestion_where_one_is_near() {
    check_deployment_refused(
        "instance_cuont: 2\n",
        "d.yml:4:1: instance_cuont: unknown key; did you mean `instance_count`?",
    );
    check_deployment_refused("colour: red\n", "d.yml:4:1: colour: unknown key");
    check_deployment_refused(
        "scale:\n  instance_cont: 2\n",
        "d.yml:5:3: scale.instance_cont: unknown key; did you mean `instance_count`?",
    );
    check_endpoint_refused(
        "name: iris\ntrafic: {blue: 100}\n",
        "e.yml:2:1: trafic: unknown key; did you mean `traffic`?",
    );
}

#[test]
fn duplicate_keys_are_refused() {
    check_endpoint_refused(
        "name: iris\nname: iris\n",
        "e.yml:2:1: name: expected each key once, found it on line 1 already",
    );
}

#[test]
fn numbers_out_of_range_are_refused() {
    check_deployment_refused(
        "scale:\n  scale_type: manual\n  instance_count: 0\n",
        "d.yml:6:3: scale.instance_count: expected 1 to 50, found 0",
    );
    check_deployment_refused(
        "instance_count: 51\n",
        "d.yml:4:1: instance_count: expected 1 to 50, found 51",
    );
    check_deployment_refused(
        "instance_count: -3\n",
        "d.yml:4:1: instance_count: expected 1 to 50, found -3",
    );
    check_deployment_refused(
        "request:\n  request_timeout_ms: 180001\n  max_concurrent_requests_per_instance: 1025\n",
        "d.yml:5:3: request.request_timeout_ms: expected 1 to 180000, found 180001\n\
         d.yml:6:3: request.max_concurrent_requests_per_instance: expected 1 to 1024, found 1025",
    );
    check_deployment_refused(
        "scale: {min_instances: 3, max_instances: 2}\n",
        "d.yml:4:1: scale: expected min_instances of at most max_instances, found 3 and 2",
    );
}

#[test]
fn how_an_instance_computes_is_read_in_every_generation_and_kept_in_the_canonical_form() {
    let settings = "{lanes: 2, max_concurrent_requests_per_instance: 8, max_batch_size: 4, max_batch_delay_us: 250, spin: true}";
    for section in ["request", "request_settings"] {
        let spec = deployment(&format!(
            "name: blue\nmodel: m.onnx\ninstance_type: Standard_DS3_v2\n{section}: {settings}\n"
        ));
        let requests = spec.request_settings();
        assert_eq!(
            (
                requests.lanes(),
                requests.max_batch_size(),
                requests.max_batch_delay(),
                requests.spin()
            ),
            (Some(2), Some(4), Duration::from_micros(250), true)
        );
        let canonical = serde_json::to_value(&spec).expect("JSON");
        assert_eq!(
            canonical["request_settings"],
            json!({"max_concurrent_requests_per_instance": 8, "lanes": 2, "max_batch_size": 4, "max_batch_delay_us": 250, "spin": true})
        );
        let again: DeploymentSpec = serde_json::from_value(canonical).expect("its own form");
        assert_eq!(again, spec);
    }
    let silent = deployment("name: blue\nmodel: m.onnx\ninstance_type: Standard_DS3_v2\n");
    let requests = silent.request_settings();
    assert_eq!(
        (
            requests.lanes(),
            requests.max_batch_size(),
            requests.max_batch_delay(),
            requests.spin()
        ),
        (None, None, Duration::ZERO, false)
    );
}

#[test]
fn the_length_of_the_queue_is_a_key_beside_azure_s() {
    let mut spec = deployment(GREEN);
    assert_eq!(spec.request_settings().queueing(), Queueing::PerSlot);
    let none = assignments(&["request_settings.max_waiting_requests_per_instance=0"]);
    spec.set(&none).expect("set");
    assert_eq!(spec.request_settings().queueing(), Queueing::Waiting(0));
    let mut merged = spec.clone();
    merged.merge(deployment(GREEN));
    assert_eq!(merged.request_settings().queueing(), Queueing::Waiting(0));
    let json = serde_json::to_value(&spec).expect("JSON");
    let again: DeploymentSpec = serde_json::from_value(json).expect("its own form");
    assert_eq!(again, spec);
    let beyond = ["65537", "4294967295", "-1", "1.5", "many"];
    for number in beyond {
        let assignment = format!("request_settings.max_waiting_requests_per_instance={number}");
        let refused = spec.set(&assignments(&[&assignment])).expect_err(number);
        let refused = refused.to_string();
        assert!(refused.contains("0 to 65536"), "{refused}");
    }
}

#[test]
fn how_an_instance_computes_is_set_merged_and_taken_back() {
    let mut spec = deployment(GREEN);
    let set = |spec: &mut DeploymentSpec, text: &str| spec.set(&assignments(&[text])).expect("set");
    set(&mut spec, "request.lanes=2");
    set(&mut spec, "request_settings.max_batch_size=16");
    set(&mut spec, "request_settings.spin=true");
    spec.merge(deployment(
        "name: green\nmodel: m.onnx\ninstance_type: Standard_DS3_v2\nrequest_settings: {max_batch_delay_us: 7}\n",
    ));
    let requests = *spec.request_settings();
    assert_eq!(
        (
            requests.lanes(),
            requests.max_batch_size(),
            requests.max_batch_delay(),
            requests.spin()
        ),
        (Some(2), Some(16), Duration::from_micros(7), true)
    );
    set(&mut spec, "request_settings.lanes=null");
    assert_eq!(spec.request_settings().lanes(), None);
    set(&mut spec, "request_settings.spin=false");
    assert!(!spec.request_settings().spin());
}

#[test]
fn every_problem_of_how_an_instance_computes_is_told_at_once() {
    check_deployment_refused(
        "request_settings:\n  lanes: 0\n  max_batch_size: 1025\n  max_batch_delay_us: 1000001\n  spin: 1\n  max_batch: 3\n",
        "d.yml:5:3: request_settings.lanes: expected 1 to 1024, found 0\n\
         d.yml:6:3: request_settings.max_batch_size: expected 1 to 1024, found 1025\n\
         d.yml:7:3: request_settings.max_batch_delay_us: expected 0 to 1000000, found 1000001\n\
         d.yml:8:3: request_settings.spin: expected true or false, found 1\n\
         d.yml:9:3: request_settings.max_batch: unknown key; did you mean `max_batch_size`?",
    );
}

#[test]
fn the_form_of_what_is_not_finite_is_read_kept_set_merged_and_taken_back() {
    let head = "name: blue\nmodel: m.onnx\ninstance_type: Standard_DS3_v2\n";
    let form = |text: &str| deployment(&format!("{head}{text}"));
    assert_eq!(form("").request_settings().non_finite(), NonFinite::Nulls);
    for (word, value) in [("nulls", NonFinite::Nulls), ("tokens", NonFinite::Tokens)] {
        let spec = form(&format!("request_settings: {{non_finite: {word}}}\n"));
        assert_eq!(spec.request_settings().non_finite(), value);
        let canonical = serde_json::to_value(&spec).expect("JSON");
        assert_eq!(canonical["request_settings"], json!({"non_finite": word}));
        let again: DeploymentSpec = serde_json::from_value(canonical).expect("its own form");
        assert_eq!(again, spec);
    }
    let mut spec = form("request_settings: {non_finite: tokens}\n");
    spec.merge(form("request_settings: {lanes: 1}\n"));
    assert_eq!(spec.request_settings().non_finite(), NonFinite::Tokens);
    let set = |spec: &mut DeploymentSpec, text: &str| spec.set(&assignments(&[text])).expect("set");
    set(&mut spec, "request_settings.non_finite=nulls");
    assert_eq!(spec.request_settings().non_finite(), NonFinite::Nulls);
    check_deployment_refused(
        "request_settings:\n  non_finite: NaN\n",
        "d.yml:5:3: request_settings.non_finite: expected nulls or tokens, found \"NaN\"",
    );
}

#[test]
fn an_instance_type_with_gpus_says_that_the_cpu_scores() {
    let notes = |name: &str| {
        let text = format!("name: blue\nmodel: m.onnx\ninstance_type: {name}\n");
        deployment(&text).notes()
    };
    for (name, note) in [
        ("Standard_NC6s_v3", "Standard_NC6s_v3 has a GPU in Azure"),
        (
            "standard_nd40rs_v2",
            "Standard_ND40rs_v2 has 8 GPUs in Azure",
        ),
        (
            "Standard_NV6ads_A10_v5",
            "Standard_NV6ads_A10_v5 has 1/6 of a GPU in Azure",
        ),
    ] {
        let words = format!("{note}: here the model is scored on the CPU");
        assert_eq!(notes(name), [words]);
    }
    for family in include_str!("skus.csv").lines().skip(1) {
        let name = family.split(',').next().expect("a name");
        let has_gpu = ["_NC", "_ND", "_NV"].iter().any(|gpu| name.contains(gpu));
        assert_eq!(notes(name).len(), usize::from(has_gpu), "{name}");
    }
    assert!(notes("my-own-size").is_empty());
}

#[test]
fn wrong_types_are_refused() {
    check_deployment_refused(
        "instance_count: three\n",
        "d.yml:4:1: instance_count: expected a whole number from 1 to 50, found \"three\"",
    );
    check_deployment_refused(
        "instance_count: 2.5\n",
        "d.yml:4:1: instance_count: expected a whole number from 1 to 50, found 2.5",
    );
    check_deployment_refused(
        "request: [1]\n",
        "d.yml:4:1: request: expected a mapping, found a list",
    );
    check_deployment_refused(
        "app_insights_enabled: 7\n",
        "d.yml:4:1: app_insights_enabled: expected true or false, found 7",
    );
    check_deployment_refused(
        "tags: {a: [1]}\n",
        "d.yml:4:8: tags.a: expected text, found a list",
    );
    check_endpoint_refused(
        "name: iris\ntraffic: 100\n",
        "e.yml:2:1: traffic: expected a mapping from deployments to percents, found 100",
    );
}

#[test]
fn names_out_of_bounds_are_refused() {
    for name in [
        "1bad",
        "ab",
        "a123456789012345678901234567890123456789",
        "blue-",
        "b_lue",
    ] {
        check_endpoint_refused(
            &format!("name: {name}\n"),
            &format!(
                "e.yml:1:1: name: expected 3 to 32 letters, digits and dashes, from a letter to a letter or digit, found {name:?}"
            ),
        );
    }
}

#[test]
fn traffic_that_is_no_split_is_refused() {
    check_endpoint_refused(
        "name: iris\ntraffic: {blue: 60, green: 30}\n",
        "e.yml:2:1: traffic: expected a sum of 0 or 100, found 90 (blue 60, green 30)",
    );
    check_endpoint_refused(
        "name: iris\ntraffic:\n  blue: -10\n  green: 110\n",
        "e.yml:3:3: traffic.blue: expected a percent from 0 to 100 with at most two decimals, found -10\n\
         e.yml:4:3: traffic.green: expected a percent from 0 to 100 with at most two decimals, found 110",
    );
    check_endpoint_refused(
        "name: iris\ntraffic: {blue: 90%}\n",
        "e.yml:2:11: traffic.blue: expected a percent from 0 to 100 with at most two decimals, found 90%",
    );
    check_endpoint_refused(
        "name: iris\ntraffic: {blue: 50, BLUE: 50}\n",
        "e.yml:2:1: traffic: expected each deployment once, found `BLUE` twice",
    );
}

#[test]
fn fine_percents_are_exact() {
    let split = endpoint("name: iris\ntraffic: {blue: 99.99, green: 0.01}\n").traffic;
    assert_eq!(split.to_string(), "blue:99.99,green:0.01");
}

#[test]
fn a_percent_reads_as_it_is_written() {
    for hundredths in [0, 1, 10, 50, 100, 1250, 9999, 10_000] {
        let percent = Percent::from_hundredths(hundredths).unwrap();
        let text = serde_json::to_string(&percent).unwrap();
        assert_eq!(serde_json::from_str::<Percent>(&text).unwrap(), percent);
    }
    for text in ["-1", "100.5", "0.001", "\"1\""] {
        assert!(serde_json::from_str::<Percent>(text).is_err(), "{text}");
    }
}

#[test]
fn mirrored_traffic_is_one_deployment_with_at_most_half_and_is_kept() {
    let mirrored = |shares: &str| endpoint(&format!("name: iris\nmirror_traffic: {shares}\n"));
    let kept = mirrored("{green: 50}");
    assert_eq!(kept.mirrored(), Some("green".parse().unwrap()));
    assert_eq!(kept.notes(), [""; 0]);
    let half = Percent::from_hundredths(5000).unwrap();
    let green = || "green".parse().unwrap();
    assert_eq!(kept.shadows().collect::<Vec<_>>(), [(green(), half)]);
    for nothing in ["{}", "{green: 0}"] {
        assert_eq!(mirrored(nothing), endpoint("name: iris\n"), "{nothing}");
    }
    check_endpoint_refused(
        "name: iris\nmirror_traffic: {green: 51}\n",
        "e.yml:2:18: mirror_traffic.green: expected one deployment with a whole percent from 0 to 50, as in `green: 10`, found 51",
    );
    check_endpoint_refused(
        "name: iris\nmirror_traffic: {green: 10, red: 10}\n",
        "e.yml:2:1: mirror_traffic: expected one deployment with a whole percent from 0 to 50, as in `green: 10`, found a mapping",
    );
}

#[test]
fn clients_are_known_by_one_thing_that_a_request_can_have() {
    let sticky = |rule: &str| endpoint(&format!("name: iris\nsticky: {rule}\n"));
    for (rule, expected) in [
        (
            "{header: X-User-Id}",
            Sticky::Header("x-user-id".to_owned()),
        ),
        ("{cookie: Sid}", Sticky::Cookie("Sid".to_owned())),
        (
            "{json_path: /user/a~1b}",
            Sticky::JsonPath("/user/a~1b".to_owned()),
        ),
        ("{client_ip: true}", Sticky::ClientIp(true)),
    ] {
        let read = sticky(rule);
        assert_eq!(read.sticky, Some(expected), "{rule}");
        let stored = serde_json::to_string(&read).unwrap();
        assert_eq!(serde_json::from_str::<EndpointSpec>(&stored).unwrap(), read);
    }
    assert_eq!(
        sticky("{client_ip: true}").notes(),
        [
            "sticky client_ip: all clients behind one proxy are one, and so are those of one network of IPv6"
        ]
    );
    for nothing in ["", "{}", "null"] {
        assert_eq!(sticky(nothing), endpoint("name: iris\n"), "{nothing}");
    }
    // A file that does not speak of it leaves it.
    let mut merged = sticky("{cookie: sid}");
    merged.merge(endpoint("name: iris\n"));
    assert_eq!(merged, sticky("{cookie: sid}"));
    for (rule, message) in [
        (
            "{header: a, cookie: b}",
            "e.yml:2:1: sticky: expected one of header, cookie, json_path and client_ip, found several",
        ),
        (
            "{header: a b}",
            "e.yml:2:10: sticky.header: expected the name of a header, such as x-user-id, of at most 256 characters, found \"a b\"",
        ),
        (
            "{json_path: user}",
            "e.yml:2:10: sticky.json_path: expected a JSON pointer such as /user/id, of at most 16 steps and 256 characters, found \"user\"",
        ),
        (
            "{json_path: /a~2}",
            "e.yml:2:10: sticky.json_path: expected a JSON pointer such as /user/id, of at most 16 steps and 256 characters, found \"/a~2\"",
        ),
        (
            "{client_ip: false}",
            "e.yml:2:10: sticky.client_ip: expected true; without it there is no sticky, found false",
        ),
        (
            "{headers: a}",
            "e.yml:2:10: sticky.headers: unknown key; did you mean `header`?",
        ),
        (
            "x-user-id",
            "e.yml:2:1: sticky: expected a mapping, found \"x-user-id\"",
        ),
    ] {
        check_endpoint_refused(&format!("name: iris\nsticky: {rule}\n"), message);
    }
}

#[test]
fn what_serin_does_not_do_is_refused_in_plain_words() {
    check_deployment_refused(
        "scale_settings: {type: by_hand, polling_interval: 10}\n",
        "d.yml:4:18: scale_settings.type: expected default, manual or target_utilization, found \"by_hand\"",
    );
    assert_eq!(
        read_deployment(
            "name: blue\nmodel: {path: m, type: openai_model}\ninstance_type: S\n",
            "d.yml",
            &[]
        )
        .expect_err("refused")
        .to_string(),
        "d.yml:2:18: model.type: expected custom_model or custom or mlflow_model or mlflow or triton_model or triton, found \"openai_model\"; serin scores ONNX files"
    );
}

#[test]
fn what_is_missing_is_named() {
    assert_eq!(
        read_deployment("description: nothing\n", "d.yml", &[])
            .expect_err("refused")
            .to_string(),
        "d.yml: name: expected a name, found nothing\n\
         d.yml: model: expected a model such as azureml:NAME:VERSION, or a path, found nothing\n\
         d.yml: instance_type: expected an instance type such as Standard_DS3_v2, found nothing"
    );
}

#[test]
fn all_problems_of_a_file_are_told_at_once_in_its_order() {
    check_endpoint_refused(
        "\
name: 1bad
auth_mode: none
traffic: {blue: 60, green: 50}
foo: 1
deployments:
  blue:
    model: m.onnx
    scale: {instance_count: 99}
",
        "e.yml:1:1: name: expected 3 to 32 letters, digits and dashes, from a letter to a letter or digit, found \"1bad\"\n\
         e.yml:2:1: auth_mode: expected key or aml_token, found \"none\"\n\
         e.yml:3:1: traffic: expected a sum of 0 or 100, found 110 (blue 60, green 50)\n\
         e.yml:4:1: foo: unknown key\n\
         e.yml:6:3: deployments.blue.instance_type: expected an instance type such as Standard_DS3_v2, found nothing\n\
         e.yml:8:13: deployments.blue.scale.instance_count: expected 1 to 50, found 99",
    );
}

#[test]
fn the_command_line_beats_the_file_before_anything_is_checked() {
    let overrides = assignments(&["name=red", "scale.instance_count=7", "sku=Standard_F4s_v2"]);
    let spec = read_deployment("name: x\nmodel: m.onnx\nsku: S\n", "d.yml", &overrides)
        .expect("a deployment");
    assert_eq!(
        (
            spec.name.as_str(),
            spec.instance_count(),
            spec.instance_type.as_str()
        ),
        ("red", 7, "Standard_F4s_v2")
    );
    let overrides = assignments(&["deployments.blue.instance_count=4", "auth_mode=key"]);
    let text = "name: iris\nauth_mode: aml_token\ndeployments: {blue: {model: m.onnx, sku: S, scale: {instance_count: 1}}}\n";
    let file = read_endpoint(text, "e.yml", &overrides).expect("an endpoint");
    assert_eq!(file.spec.auth_mode(), AuthMode::Key);
    assert_eq!(
        file.deployments.expect("deployments")[0].instance_count(),
        4
    );
}

#[track_caller]
fn check_set(texts: &[&str]) -> (EndpointSpec, Vec<DeploymentSpec>) {
    let mut endpoint = endpoint("name: iris\ntraffic: {blue: 100}\ntags: {a: b}\n");
    let mut deployments = vec![deployment(SEED_BLUE), deployment(GREEN)];
    apply(&assignments(texts), &mut endpoint, &mut deployments).expect("set");
    (endpoint, deployments)
}

#[track_caller]
fn check_set_refused(texts: &[&str], message: &str) {
    let mut endpoint = endpoint("name: iris\ntraffic: {blue: 100}\n");
    let mut deployments = vec![deployment(SEED_BLUE), deployment(GREEN)];
    let before = (endpoint.clone(), deployments.clone());
    let error = apply(&assignments(texts), &mut endpoint, &mut deployments).expect_err("refused");
    assert_eq!(error.to_string(), message);
    assert_eq!((endpoint, deployments), before);
}

#[test]
fn set_reaches_every_attribute_in_every_spelling() {
    let (endpoint, deployments) = check_set(&[
        "deployments.blue.scale.instance_count=5",
        "deployments[1].instance_count=4",
        "deployments.green.environment_variables.X=a=b",
        "deployments.green.request.request_timeout_ms=700",
        "deployments.green.model=azureml:digits:3",
        "traffic.blue=90",
        "traffic.green=10",
        "tags.owner=me",
    ]);
    assert_eq!(endpoint.traffic.to_string(), "blue:90,green:10");
    assert_eq!(
        (endpoint.tags["a"].as_str(), endpoint.tags["owner"].as_str()),
        ("b", "me")
    );
    assert_eq!(
        (
            deployments[0].instance_count(),
            deployments[1].instance_count()
        ),
        (5, 4)
    );
    assert_eq!(
        deployments[1].kept["environment_variables"],
        json!({"X": "a=b"})
    );
    assert_eq!(
        deployments[1].request_settings().request_timeout(),
        Duration::from_millis(700)
    );
    assert_eq!(deployments[1].model.to_string(), "azureml:digits:3");
}

#[test]
fn set_replaces_a_mapping_whole() {
    let (endpoint, _) = check_set(&["traffic={\"green\": 100}"]);
    assert_eq!(endpoint.traffic.to_string(), "green:100");
    let (_, deployments) = check_set(&["deployments.blue.request={\"request_timeout_ms\": 9}"]);
    let requests = deployments[0].request_settings();
    assert_eq!(requests.request_timeout(), Duration::from_millis(9));
}

#[test]
fn a_mapping_in_an_old_spelling_can_be_set() {
    let overrides = assignments(&["scale={\"scale_type\": \"manual\", \"instance_count\": 4}"]);
    let text = "name: blue\nmodel: m.onnx\nsku: S\n";
    let spec = read_deployment(text, "d.yml", &overrides).expect("a deployment");
    assert_eq!(spec.instance_count(), 4);
}

#[test]
fn set_refuses_what_a_file_would_be_refused_for_and_changes_nothing() {
    check_set_refused(
        &[
            "deployments.blue.scale.instance_count=99",
            "deployments.green.colour=red",
        ],
        "--set: deployments.blue.scale.instance_count: expected 1 to 50, found 99\n\
         --set: deployments.green.colour: unknown key",
    );
    check_set_refused(
        &["traffic.green=10"],
        "--set: traffic: expected a sum of 0 or 100, found 110 (blue 100, green 10)",
    );
    check_set_refused(
        &["deployments.red.instance_count=1"],
        "--set: deployments.red.instance_count: expected one of the deployments (blue, green), found red",
    );
    check_set_refused(
        &["deployments.blue=1"],
        "--set: deployments.blue: expected a path such as deployments.NAME.instance_count, found deployments.blue",
    );
    check_set_refused(
        &["deployments.blue.name=red"],
        "--set: name: expected the name to stay blue, found red",
    );
    check_set_refused(
        &["deployments.green.endpoint_name=wine"],
        "--set: endpoint_name: expected the endpoint_name to stay iris, found wine",
    );
}

#[test]
fn set_on_one_deployment_needs_no_prefix() {
    let mut spec = deployment(GREEN);
    spec.set(&assignments(&["scale.instance_count=9"]))
        .expect("set");
    assert_eq!(spec.instance_count(), 9);
}

#[test]
fn a_text_without_a_path_is_no_assignment() {
    for text in ["a", "=5", "a..b=5", ".a=5"] {
        assert_eq!(
            Assignment::parse(text).expect_err("refused").to_string(),
            format!("expected an assignment such as instance_count=5, found {text:?}")
        );
    }
}

#[test]
fn a_merge_takes_what_is_written_and_keeps_the_rest() {
    let mut blue = deployment(SEED_BLUE);
    blue.merge(deployment(
        "name: blue\nmodel: azureml:my-model-m1:2\nsku: Standard_DS3_v2\ntags: {a: b}\n",
    ));
    assert_eq!(blue.model.to_string(), "azureml:my-model-m1:2");
    assert_eq!(blue.instance_count(), 3);
    assert_eq!(
        blue.request_settings().request_timeout(),
        Duration::from_secs(3)
    );
    let mut iris =
        endpoint("name: iris\nauth_mode: aml_token\ntraffic: {blue: 100}\ntags: {a: b}\n");
    iris.merge(endpoint("name: iris\ntags: {c: d}\n"));
    assert_eq!(iris.auth_mode(), AuthMode::AmlToken);
    assert_eq!(
        (iris.traffic.to_string().as_str(), iris.tags.len()),
        ("blue:100", 2)
    );
    iris.merge(endpoint("name: iris\ntraffic: {green: 100}\n"));
    assert_eq!(iris.traffic.to_string(), "green:100");
}

#[test]
fn skus_are_found_in_any_case() {
    let table = SkuTable::builtin();
    assert_eq!(table.iter().count(), 86);
    let sku = table.find("standard_ds3_v2").expect("a SKU");
    assert_eq!(
        (sku.name.as_str(), sku.vcpus, sku.memory_mib),
        ("Standard_DS3_v2", 4, 14 * 1024)
    );
    assert_eq!(
        table.find("Standard_DS1_v2").expect("a SKU").memory_mib,
        3584
    );
    let alias = table
        .find("Standard_FS4_v2")
        .expect("the alias of the seed");
    let real = table.find("STANDARD_F4S_V2").expect("a SKU");
    assert_eq!(
        (alias.vcpus, alias.memory_mib),
        (real.vcpus, real.memory_mib)
    );
}

#[test]
fn an_unknown_sku_is_refused_with_the_nearest() {
    let table = SkuTable::builtin();
    assert_eq!(
        table
            .find("Standard_DS3v2")
            .expect_err("refused")
            .to_string(),
        "expected an instance type of `serin sku list`, found \"Standard_DS3v2\"; did you mean `Standard_DS3_v2`?"
    );
    assert_eq!(
        table.find("t2.micro").expect_err("refused").to_string(),
        "expected an instance type of `serin sku list`, found \"t2.micro\""
    );
}

#[test]
fn own_profiles_join_the_table_all_or_none() {
    let mut table = SkuTable::builtin();
    table
        .extend_from_yaml("skus:\n  Half-Core: {vcpus: 1, memory_gib: 0.5}\n", "s.yml")
        .expect("profiles");
    assert_eq!(table.find("half-core").expect("a SKU").memory_mib, 512);
    let before = table.clone();
    let error = table
        .extend_from_yaml(
            "skus:\n  standard_ds3_v2: {vcpus: 1, memory_gib: 1}\n  a: {vcpus: 0, memory: 1}\n  b: {vcpus: 1, memory_gib: 1}\n",
            "s.yml",
        )
        .expect_err("refused");
    assert_eq!(
        error.to_string(),
        "s.yml:2:3: skus.standard_ds3_v2: expected a name of its own, found one that is taken\n\
         s.yml:3:3: skus.a.memory_gib: expected memory in GiB, found nothing\n\
         s.yml:3:7: skus.a.vcpus: expected 1 to 4096, found 0\n\
         s.yml:3:17: skus.a.memory: unknown key; did you mean `memory_gib`?"
    );
    assert_eq!(table, before);
}

prop_compose! {
    fn any_deployment()(
        name in "[a-z][a-z0-9]{2,8}",
        model in "(azureml:[a-z]{1,5}:[0-9]|azureml:[a-z]{1,5}@latest|\\./[a-z]{1,5})",
        instance_count in prop::option::of(1..=50_u32),
        timeout in prop::option::of(1..=180_000_u32),
        bounds in prop::option::of((1..=5_u32, 5..=50_u32)),
        code in prop::option::of("[a-z/]{1,9}"),
        tags in prop::collection::btree_map("[a-z.]{1,5}", "\\PC{0,9}", 0..3),
        variables in prop::option::of(prop::collection::btree_map("[A-Z]{1,5}", "\\PC{0,9}", 0..3)),
    ) -> serde_json::Value {
        let mut spec = json!({"name": name, "model": model, "sku": "Standard_DS3_v2", "tags": tags});
        let entries = spec.as_object_mut().expect("an object");
        entries.extend(instance_count.map(|count| ("instance_count".to_owned(), json!(count))));
        entries.extend(timeout.map(|ms| ("request".to_owned(), json!({"request_timeout_ms": ms}))));
        entries.extend(bounds.map(|(min, max)| {
            ("scale".to_owned(), json!({"min_instances": min, "max_instances": max}))
        }));
        entries.extend(code.map(|code| ("code_reference".to_owned(), json!({"code": code}))));
        entries.extend(variables.map(|map| ("environment_variables".to_owned(), json!(map))));
        spec
    }
}

proptest! {
    #[test]
    fn every_deployment_survives_its_canonical_form(value in any_deployment()) {
        let spec: DeploymentSpec = serde_json::from_value(value).expect("a deployment");
        let text = serde_json::to_string(&spec).expect("JSON");
        prop_assert_eq!(&serde_json::from_str::<DeploymentSpec>(&text).expect("a deployment"), &spec);
        // JSON is YAML: the canonical form is a file, too.
        prop_assert_eq!(read_deployment(&text, "d.yml", &[]).expect("a deployment"), spec);
    }

    #[test]
    fn every_endpoint_survives_its_canonical_form(
        name in "[a-z][a-z0-9]{2,8}",
        auth_mode in prop::option::of("(key|aml_token|Key|AMLToken)"),
        blue in prop::option::of(0..=10_000_u16),
    ) {
        let mut spec = EndpointSpec::new(name.parse().expect("a name"));
        if let Some(mode) = auth_mode {
            spec.set_auth_mode(match mode.eq_ignore_ascii_case("key") {
                true => AuthMode::Key,
                false => AuthMode::AmlToken,
            });
        }
        if let Some(blue) = blue {
            let percent = |hundredths| Percent::from_hundredths(hundredths).expect("a percent");
            spec.traffic = TrafficSplit::new(vec![
                ("blue".parse().expect("a name"), percent(blue)),
                ("green".parse().expect("a name"), percent(10_000 - blue)),
            ]).expect("a split");
        }
        let text = serde_json::to_string(&spec).expect("JSON");
        prop_assert_eq!(serde_json::from_str::<EndpointSpec>(&text).expect("an endpoint"), spec);
    }

    #[test]
    fn no_text_panics(
        text in "((name|model|sku|scale|traffic|deployments|instance_count|request|code|blue)(: | |\n|\\[|\\{|,|- |\n  )[a-z0-9:{}\\[\\]~.&*-]{0,6}\n? {0,2}){0,8}"
    ) {
        drop(read_endpoint(&text, "e.yml", &[]));
        if let Ok(spec) = read_deployment(&text, "d.yml", &[]) {
            let json = serde_json::to_string(&spec).expect("JSON");
            prop_assert_eq!(serde_json::from_str::<DeploymentSpec>(&json).expect("a deployment"), spec);
        }
        drop(SkuTable::builtin().extend_from_yaml(&text, "s.yml"));
    }

    #[test]
    fn no_assignment_panics(path in "(deployments|scale|name|traffic|\\.|\\[0\\]|blue|green|instance_count|sku){1,6}", value in "\\PC{0,8}") {
        if let Ok(assignment) = Assignment::parse(&format!("{path}={value}")) {
            let mut endpoint = endpoint("name: iris\n");
            let mut deployments = vec![deployment(GREEN)];
            drop(apply(std::slice::from_ref(&assignment), &mut endpoint, &mut deployments));
            drop(read_deployment(GREEN, "d.yml", &[assignment]));
        }
    }
}

/// A deployment of three lines, and more.
fn with_script(more: &str) -> DeploymentSpec {
    deployment(&format!(
        "name: blue\nmodel: model.pkl\ninstance_type: Standard_F2s_v2\n{more}"
    ))
}

const CODE: &str = "code_configuration: {code: src, scoring_script: score.py}\n";

#[test]
fn a_file_that_names_a_script_runs_it_in_every_generation_unless_scoring_is_native() {
    let runs = |spec: &DeploymentSpec| matches!(spec.scoring(), Scoring::Script(_));
    assert!(runs(&deployment(SEED_BLUE)) && runs(&deployment(SEED_GREEN)));
    assert!(runs(&with_script(CODE)));
    assert!(runs(&with_script(
        "code_reference: {directory: src, scoring_script: s.py}\n"
    )));
    for native in [
        "",
        "code_configuration: {code: src}\n",
        "code_configuration: {}\n",
    ] {
        assert!(!runs(&with_script(native)), "{native:?}");
    }
    let mut spec = with_script(CODE);
    spec.set(&assignments(&["scoring=native"])).expect("set");
    assert!(!runs(&spec));
    let canonical = serde_json::to_value(&spec).expect("JSON");
    assert_eq!(canonical["scoring"], "native");
    let again: DeploymentSpec = serde_json::from_value(canonical).expect("its own form");
    assert_eq!(again, spec);
    // What a newer file does not say stays.
    spec.merge(with_script(CODE));
    assert!(!runs(&spec));
    spec.merge(with_script("scoring: SCRIPT\n"));
    assert!(runs(&spec));
    check_deployment_refused(
        "scoring: python\n",
        "d.yml:4:1: scoring: expected native or script, found \"python\"",
    );
    check_deployment_refused(
        "environment_python: 3.8\n",
        "d.yml:4:1: environment_python: expected any or exact, found 3.8",
    );
}

#[test]
fn what_keeps_a_script_from_running_is_told_all_at_once_and_of_native_scoring_nothing() {
    let problems = |more: &str| with_script(more).problems_of_scoring();
    let wrong = "environment: azureml:env:1\nenvironment_variables: {A: [1], 'B=C': 1}\n";
    let scriptless = "scoring: script needs a script: write code_configuration with code (its folder) and scoring_script, or scoring: native";
    assert_eq!(problems("scoring: script\n"), [scriptless]);
    assert_eq!(
        problems(&format!(
            "scoring: script\ncode_configuration: {{code: src}}\n{wrong}"
        )),
        [
            scriptless,
            "environment: expected a conda file or a requirements.txt, found \"azureml:env:1\": environments are not registered here, give the file",
            "environment_variables.A: expected text, a number, or true or false, found a list",
            "environment_variables: expected names without `=`, found \"B=C\"",
        ]
    );
    assert_eq!(
        problems("code_configuration: {scoring_script: score.py}\n"),
        ["code_configuration.code: expected the folder that holds score.py, found nothing"]
    );
    assert_eq!(
        problems("code_configuration: {code: azureml:code:1, scoring_script: score.py}\n"),
        [
            "code_configuration.code: expected a folder on this machine, found \"azureml:code:1\": code is not registered here, give its folder"
        ]
    );
    assert_eq!(
        problems("code_configuration: {code: /src, scoring_script: ../score.py}\n"),
        [
            "code_configuration.scoring_script: expected a script within /src, found ../score.py, which is outside: name a folder that holds it as code"
        ]
    );
    assert_eq!(
        problems(&format!("{CODE}environment: {{build: {{path: .}}}}\n")),
        [
            "environment.build: no images are built here: list the packages in a conda_file or a requirements.txt"
        ]
    );
    assert_eq!(problems(wrong), [""; 0]);
    assert_eq!(
        problems(&format!("{CODE}scoring: native\n{wrong}")),
        [""; 0]
    );
}

#[test]
fn variables_of_a_script_are_text_as_python_would_write_it() {
    let spec = with_script("environment_variables: {A: 1, B: 1.10, C: true, D: '007', E: }\n");
    let read: Vec<_> = spec.variables().into_iter().collect();
    let expected = [
        ("A", "1"),
        ("B", "1.1"),
        ("C", "True"),
        ("D", "007"),
        ("E", ""),
    ];
    assert_eq!(
        read,
        expected.map(|(name, text)| (name.to_owned(), text.to_owned()))
    );
}

#[test]
fn settings_that_mean_something_for_models_alone_are_said_to_have_no_effect_on_a_script() {
    let settings = "request_settings: {max_batch_size: 4, max_batch_delay_us: 1, spin: true, isolation: thread, non_finite: nulls, lanes: 1}\n";
    let notes = with_script(&format!("{CODE}{settings}")).notes();
    let keys = [
        "max_batch_size",
        "max_batch_delay_us",
        "spin",
        "isolation",
        "non_finite",
    ];
    let expected = keys.map(|key| format!("request_settings.{key} is kept without effect: a script runs one request after another in a process of its own"));
    assert_eq!(notes, expected);
    assert_eq!(with_script(settings).notes(), [""; 0]);
    let python = with_script("environment_python: any\n").notes();
    assert_eq!(python, ["environment_python is kept without effect"]);
}

#[test]
fn a_deployment_that_was_to_scale_by_itself_runs_its_fewest_instances_and_says_so() {
    let head = "name: blue\nmodel: m.onnx\ninstance_type: Standard_DS3_v2\n";
    let note = "scale_settings are kept without effect: nothing scales by itself here, and instance_count, or else min_instances, says how many run";
    for scale in [
        "scale_settings: {type: target_utilization, min_instances: 2, max_instances: 4, polling_interval: 10, target_utilization_percentage: 70}",
        "scale_settings: {scale_type: Auto, minimum: 2, maximum: 4, polling_interval: '10', target_utilization_percentage: 70}",
        "scale: {type: TargetUtilization, min_instances: 2, max_instances: 4, polling_interval: 10.0, target_utilization_percentage: 70}",
    ] {
        let spec = deployment(&format!("{head}{scale}\n"));
        assert_eq!(spec.instance_count(), 2, "{scale}");
        assert_eq!(spec.notes(), [note], "{scale}");
        let canonical = serde_json::to_value(&spec).expect("JSON");
        assert_eq!(
            canonical["scale_settings"],
            json!({"type": "target_utilization", "min_instances": 2, "max_instances": 4, "polling_interval": 10, "target_utilization_percentage": 70})
        );
        let again: DeploymentSpec = serde_json::from_value(canonical).expect("its own form");
        assert_eq!(again, spec);
        let counted = deployment(&format!("{head}instance_count: 3\n{scale}\n"));
        assert_eq!(counted.instance_count(), 3);
    }
    let bare = deployment(&format!("{head}scale_settings: {{type: auto}}\n"));
    assert_eq!((bare.instance_count(), bare.notes().len()), (1, 1));
    check_deployment_refused(
        "scale_settings:\n  type: auto\n  minimum: 0\n  target_utilization_percentage: 101\n",
        "d.yml:6:3: scale_settings.minimum: expected 1 to 50, found 0\n\
         d.yml:7:3: scale_settings.target_utilization_percentage: expected 1 to 100, found 101",
    );
    check_deployment_refused(
        "scale_settings: {type: default, polling_interval: 1}\n",
        "d.yml:4:33: scale_settings.polling_interval: unknown key",
    );
}

#[test]
fn a_deployment_for_a_cluster_needs_no_instance_type_and_says_which_it_got() {
    let notes = |text: &str| {
        let spec = deployment(text);
        assert_eq!(spec.instance_type, "defaultinstancetype", "{text}");
        spec.notes().join("\n")
    };
    for sign in [
        "type: Kubernetes\n",
        "resources: {requests: {cpu: '0.1'}}\n",
        "resource_requirements: {cpu: 1}\n",
        "type: managed\ninstance_type: defaultinstancetype\n",
    ] {
        let said = notes(&format!("name: blue\nmodel: m.onnx\n{sign}"));
        assert!(said.contains("it is taken as Standard_D2a_v4"), "{said}");
    }
    let mut table = SkuTable::builtin();
    let size = |table: &SkuTable| table.find("DefaultInstanceType").expect("a size").vcpus;
    assert_eq!(size(&table), 2);
    let own = "skus: {defaultinstancetype: {vcpus: 3, memory_gib: 1}}\n";
    table
        .extend_from_yaml(own, "s.yml")
        .expect("a size of one's own");
    assert_eq!(size(&table), 3);
    let whole = |compute: &str| {
        let text =
            format!("name: iris\n{compute}\ndeployments:\n- {{name: blue, model: m.onnx}}\n");
        read_endpoint(&text, "e.yml", &[])
    };
    for compute in [
        "target: azureml:aks",
        "compute: azureml:k8s",
        "infrastructure: azureml:aks",
    ] {
        let read = whole(compute).expect("an endpoint");
        let read = &read.deployments.expect("deployments")[0];
        assert_eq!(read.instance_type, "defaultinstancetype", "{compute}");
    }
    for compute in ["infrastructure: managed", ""] {
        let refused = whole(compute).expect_err(compute).to_string();
        assert!(refused.contains("instance_type: expected"), "{refused}");
    }
}

#[test]
fn numbers_may_be_text_and_have_zeros_behind_a_point() {
    let head = "name: blue\nmodel: m.onnx\ninstance_type: Standard_DS3_v2\n";
    let spec = deployment(&format!(
        "{head}instance_count: '2'\nrequest_settings: {{request_timeout_ms: 3000.0, max_concurrent_requests_per_instance: ' 4 ', spin: 'True'}}\n"
    ));
    let requests = spec.request_settings();
    assert_eq!(spec.instance_count(), 2);
    assert_eq!(requests.request_timeout(), Duration::from_secs(3));
    assert_eq!(requests.max_concurrent_requests_per_instance(), 4);
    assert!(requests.spin());
    for (written, found) in [
        ("'2.5'", "\"2.5\""),
        ("''", "\"\""),
        ("'.0'", "\".0\""),
        ("'+2'", "\"+2\""),
        ("'2e0'", "\"2e0\""),
        ("'\u{662}'", "\"\u{662}\""),
        ("true", "true"),
        ("[2]", "a list"),
    ] {
        check_deployment_refused(
            &format!("instance_count: {written}\n"),
            &format!(
                "d.yml:4:1: instance_count: expected a whole number from 1 to 50, found {found}"
            ),
        );
    }
    for beyond in ["'51'", "'0'", "'-1'", "'99999999999999999999'"] {
        let found = beyond.replace('\'', "\"");
        check_deployment_refused(
            &format!("instance_count: {beyond}\n"),
            &format!("d.yml:4:1: instance_count: expected 1 to 50, found {found}"),
        );
    }
}

#[test]
fn a_token_of_a_directory_is_taken_as_a_key_and_says_so() {
    for word in ["aad_token", "AADToken"] {
        let spec = endpoint(&format!("name: iris\nauth_mode: {word}\n"));
        assert_eq!(spec.auth_mode(), AuthMode::Key);
        assert_eq!(
            spec.notes(),
            ["auth_mode aad_token is taken as key: there is no directory of users here"]
        );
        let canonical = serde_json::to_value(&spec).expect("JSON");
        assert_eq!(canonical["auth_mode"], "aad_token");
        let mut again: EndpointSpec = serde_json::from_value(canonical).expect("its own form");
        assert_eq!(again, spec);
        again.merge(endpoint("name: iris\nauth_mode: key\n"));
        assert_eq!(again.notes(), [""; 0]);
    }
}

#[test]
fn a_model_in_a_mapping_is_a_path_or_what_is_registered_under_its_name() {
    let model = |model: &str| {
        let text = format!("name: blue\nmodel: {model}\ninstance_type: Standard_DS3_v2\n");
        deployment(&text).model.to_string()
    };
    for (written, read) in [
        ("{path: m, type: mlflow_model}", "m"),
        (
            "{local_path: file:m, model_format: Triton, flavors: {}}",
            "m",
        ),
        ("{name: iris, version: 3}", "azureml:iris:3"),
        ("{name: iris, version: '3', path: m.onnx}", "m.onnx"),
        (
            "{path: 'azureml://registries/R/models/n/versions/1'}",
            "azureml:n:1",
        ),
    ] {
        assert_eq!(model(written), read, "{written}");
    }
    let refused = |model: &str| {
        let text = format!("name: blue\nmodel: {model}\ninstance_type: Standard_DS3_v2\n");
        read_deployment(&text, "d.yml", &[])
            .expect_err(model)
            .to_string()
    };
    assert_eq!(
        refused("{name: iris}"),
        "d.yml:2:1: model.path: expected the path of a file or folder, found nothing"
    );
    assert_eq!(
        refused("{name: iris, version: 1, datastore: azureml:d, path: m}"),
        "d.yml:2:33: model.datastore: files in the cloud are not read here: download them, and give their path without a datastore"
    );
}

#[test]
fn code_that_was_registered_in_its_file_is_a_folder() {
    let code = |code: &str| {
        let text = format!(
            "name: blue\nmodel: m\ninstance_type: S\ncode_configuration: {{code: {code}, scoring_script: s.py}}\n"
        );
        read_deployment(&text, "d.yml", &[]).map(|spec| spec.code_configuration)
    };
    let plain = code("src");
    assert!(plain.is_ok());
    assert_eq!(code("file:src"), plain);
    assert_eq!(
        code("{name: c, version: 1, local_path: src, tags: {a: b}}"),
        plain
    );
    let refused = code("{local_path: src, colour: red}").expect_err("refused");
    assert!(refused.to_string().contains("code_configuration.code"));
}

#[test]
fn a_batch_deployment_or_endpoint_is_refused_in_one_sentence() {
    let sentence = "batch endpoints are not served here: make an online endpoint of it, and send the rows of a file with `serin endpoint invoke --request-file`";
    for batch in [
        "mini_batch_size: 10",
        "output_action: append_row",
        "type: batch",
        "type: model\nsettings: {mini_batch_size: 1}",
        "retry_settings: {}",
    ] {
        check_deployment_refused(
            &format!("{batch}\ncompute: azureml:cpu\nresources: {{instance_count: 1}}\n"),
            &format!("d.yml: {sentence}"),
        );
    }
    for batch in ["type: Batch", "defaults: {deployment_name: blue}"] {
        check_endpoint_refused(
            &format!("name: iris\n{batch}\n"),
            &format!("e.yml: {sentence}"),
        );
    }
}

#[test]
fn a_home_folder_in_a_path_is_expanded_and_told() {
    let expand = |path: &str| {
        let text = format!(
            "name: blue\nmodel: {{path: '{path}/m.onnx'}}\ninstance_type: S\ncode_configuration: {{code: '{path}/src'}}\nenvironment: {{conda_file: 'file:{path}/c.yml'}}\n"
        );
        let mut spec = deployment(&text);
        let notes = spec.expand_home(Path::new("/home/ann"));
        spec.resolve_paths(Path::new("/work"));
        let code = spec.code_configuration.and_then(|code| code.code);
        let conda = spec.kept["environment"]["conda_file"].clone();
        let paths = [
            spec.model.to_string(),
            code.expect("code").display().to_string(),
        ];
        (paths.join(" "), conda, notes)
    };
    for home in ["~", "$HOME", "${HOME}"] {
        let (paths, conda, notes) = expand(home);
        assert_eq!(paths, "/home/ann/m.onnx /home/ann/src");
        assert_eq!(conda, "/home/ann/c.yml");
        assert_eq!(
            notes[0],
            format!("{home}/m.onnx is taken as /home/ann/m.onnx")
        );
        assert_eq!(notes.len(), 3);
    }
    for other in ["~bob", "$HOMES", "a/~", "$OTHER"] {
        let (paths, _, notes) = expand(other);
        assert_eq!(paths, format!("/work/{other}/m.onnx /work/{other}/src"));
        assert_eq!(notes, [""; 0]);
    }
}

#[test]
fn a_model_with_a_name_a_version_and_a_path_is_to_be_registered() {
    let read = |model: &str| {
        deployment(&format!(
            "name: blue\nmodel: {model}\ninstance_type: Standard_DS3_v2\n"
        ))
    };
    let mut spec = read("{name: iris, version: 3, path: m.onnx, type: custom_model}");
    let (path, name, version) = spec.model_to_register().expect("a model");
    assert_eq!(
        (path, name.as_str(), version.as_str()),
        (Path::new("m.onnx"), "iris", "3")
    );
    let (name, version) = (name.clone(), version.clone());
    spec.use_registered(name, version);
    assert_eq!(spec, read("azureml:iris:3"));
    for other in [
        "{path: m.onnx}",
        "{name: iris, path: m.onnx}",
        "{name: iris, version: 3}",
        "m.onnx",
    ] {
        assert_eq!(read(other).model_to_register(), None, "{other}");
    }
    let over = assignments(&["model=azureml:other:1"]);
    let text = "name: blue\nmodel: {name: iris, version: 3, path: m.onnx}\ninstance_type: S\n";
    let over = read_deployment(text, "d.yml", &over).expect("a deployment");
    assert_eq!(
        (over.model_to_register(), over.model.to_string().as_str()),
        (None, "azureml:other:1")
    );
}

#[test]
fn an_entry_of_a_list_is_set_by_its_number() {
    let set = |texts: &[&str]| {
        let text = "name: iris\nidentity: {type: user_assigned, user_assigned_identities: [{resource_id: place_holder}]}\n";
        let read = read_endpoint(text, "e.yml", &assignments(texts)).expect("an endpoint");
        read.spec.kept["identity"]["user_assigned_identities"].clone()
    };
    let first = "identity.user_assigned_identities[0].resource_id=/subscriptions/s";
    assert_eq!(set(&[first]), json!([{"resource_id": "/subscriptions/s"}]));
    for second in ["[1]", "[18446744073709551615]"] {
        let second = format!("identity.user_assigned_identities{second}.resource_id=b");
        assert_eq!(
            set(&[first, &second]),
            json!([{"resource_id": "/subscriptions/s"}, {"resource_id": "b"}])
        );
    }
    let mut spec = deployment(GREEN);
    let made = assignments(&["environment_variables.A[0]=b", "tags[x]=1"]);
    let refused = spec.set(&made).expect_err("no such key").to_string();
    assert_eq!(refused, "--set: tags[x]: unknown key");
}
