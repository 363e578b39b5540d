//! Scripts and habits of `az ml`: parts of results, Azure's fields, its flags, and the name itself.

use std::fs;
use std::process::{Command, Output};

use insta::assert_snapshot;
use serde_json::Value;

use crate::server::with_blue;
use crate::support::{Place, repository};

fn json(place: &Place, line: &str) -> Value {
    serde_json::from_str(&place.ok(line)).expect("JSON is printed")
}

/// What a line says on standard error when it succeeds.
fn said(place: &Place, line: &str) -> String {
    let text = place.run(line);
    assert!(text.starts_with("code: 0\n"), "serin {line}\n{text}");
    let (_, said) = text.split_once("--- stderr\n").expect("both streams");
    said.to_owned()
}

/// Runs a script that ends at the first command that fails, where `az` is serin.
fn script(place: &Place, text: &str) -> Output {
    place.ok("az install bin");
    let path = std::env::var("PATH").expect("PATH is set");
    let folder = place.path("bin");
    let place = place.command();
    let mut shell = Command::new("bash");
    shell
        .args(["-euo", "pipefail", "-c", text])
        .env_clear()
        .envs(
            place
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .env("PATH", format!("{}:{path}", folder.display()))
        .env("MODEL", repository("models/digits/1"))
        .env("SAMPLE", repository("models/digits/1/sample-request.json"))
        .stdin(std::process::Stdio::null())
        .current_dir(place.get_current_dir().expect("the working folder"));
    shell.output().expect("a shell")
}

/// The same where it must come to its end; what it printed, and what it said.
#[track_caller]
pub(crate) fn played(place: &Place, text: &str) -> (String, String) {
    let output = script(place, text);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{printed}\n{said}");
    (printed, said)
}

#[test]
fn the_queries_of_scripts_print_the_bare_value() {
    let place = Place::new();
    let _server = place.serve();
    with_blue(&place);
    for (line, printed) in [
        (
            "endpoint show -n iris --query provisioning_state -o tsv",
            "Succeeded\n",
        ),
        (
            "endpoint show -n iris --query \"deployments[?name=='blue'].provisioning_state\" -o tsv",
            "Succeeded\n",
        ),
        (
            "endpoint show -n iris --query deployments[0].provisioning_state -o tsv",
            "Succeeded\n",
        ),
        ("online-endpoint show -n iris --query deployments", ""),
        (
            "online-endpoint show -n iris --query traffic -o tsv",
            "100\n",
        ),
        ("online-endpoint show -n iris --query tags", "{}\n"),
        (
            "online-deployment show -n blue -e iris --query [name,instance_count] -o tsv",
            "blue\n1\n",
        ),
        (
            "online-deployment show -n blue -e iris --query instance_count -o YAML",
            "1\n",
        ),
        (
            "online-endpoint list --query [].name -o json",
            "[\n  \"iris\"\n]\n",
        ),
        (
            "online-endpoint list --query \"[].{n: name, m: auth_mode}\" -o tsv",
            "iris\tkey\n",
        ),
        ("online-endpoint show -n iris --query name -o none", ""),
        ("model list --query [0].version -o tsv", "1\n"),
        ("sku show Standard_F2s_v2 --query vcpus -o tsv", "2\n"),
        ("status --query ready -o tsv", "true\n"),
        ("journal --query length(@)>`0`", "true\n"),
    ] {
        assert_eq!(place.ok(line), printed, "serin {line}");
    }
    let key = place.ok("online-endpoint get-credentials -n iris --query primaryKey -o tsv");
    assert!(key.len() > 20 && !key.contains('"'), "{key}");
    assert_eq!(
        place.ok("endpoint list-keys -n iris --query primaryKey -o tsv"),
        key
    );
    let sample = repository("models/digits/1/sample-request.json");
    let first = format!(
        "endpoint invoke iris -r {} --query keys(@)[0] -o tsv",
        sample.display()
    );
    assert!(!place.ok(&first).trim().is_empty());
}

#[test]
fn what_is_no_query_is_refused_before_anything_is_done() {
    let place = Place::new();
    assert_snapshot!(place.run("endpoint delete --name iris --yes --query 'a['"), @"
    code: 2
    --- stdout
    --- stderr
    error: invalid value 'a[' for '--query <JMESPATH>': expected a JMESPath expression: Expected number, ':', or '*' -- found Eof

    For more information, try '--help'.
    ");
    let _server = place.serve();
    assert_snapshot!(place.run("status --query length(pid)"), @"
    code: 3
    --- stdout
    --- stderr
    error: --query length(pid): Argument 0 expects type array|object|string, given number
    ");
}

/// The words of a mapping, in order.
fn keys(value: &Value) -> String {
    let keys = value.as_object().expect("a mapping").keys();
    keys.cloned().collect::<Vec<_>>().join(" ")
}

#[test]
fn what_is_shown_has_the_fields_of_azure_and_no_others() {
    let place = Place::new();
    let _server = place.serve();
    with_blue(&place);
    let iris = json(&place, "online-endpoint show --name iris -g g -w w");
    assert_snapshot!(keys(&iris), @"auth_mode id identity kind location mirror_traffic name openapi_uri properties provisioning_state public_network_access scoring_uri tags traffic");
    let id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w/onlineEndpoints/iris";
    assert_eq!(iris["id"], id);
    assert_eq!(iris["properties"]["azureml.onlineendpointid"], id);
    let blue = json(&place, "online-deployment show --name blue -e iris");
    assert_snapshot!(keys(&blue), @"app_insights_enabled creation_context egress_public_network_access endpoint_name environment_variables id instance_count instance_type liveness_probe model name properties provisioning_state readiness_probe request_settings scale_settings tags type");
    assert_eq!(blue["request_settings"]["request_timeout_ms"], 5000);
    let old = json(&place, "endpoint show --name iris");
    assert_eq!(old["deployments"][0]["name"], "blue");
    let detail = json(&place, "endpoint show --name iris --detail");
    assert_eq!(detail["deployments"]["blue"]["instances_ready"], 1);
    let lines = place
        .ok("online-endpoint update -n iris --traffic blue=0")
        .lines()
        .count();
    assert!(lines < 40, "{lines}");
}

#[test]
fn what_is_shown_makes_the_same_deployment_again() {
    let place = Place::new();
    let _server = place.serve();
    with_blue(&place);
    let shown = place.ok("online-deployment show -n blue -e iris -o yaml");
    place.write("shown.yml", &shown);
    let told = said(&place, "online-deployment update --file shown.yml");
    assert!(
        told.ends_with("nothing has changed: it was like this already\n"),
        "{told}"
    );
}

#[test]
fn a_table_of_an_endpoint_lists_its_deployments() {
    let place = Place::new();
    let _server = place.serve();
    with_blue(&place);
    let table = place.ok("endpoint show iris -o table");
    let (_, deployments) = table.split_once("\n\n").expect("two tables");
    assert_snapshot!(deployments, @"
    deployment  state      traffic  ready  instances  instance_type    model
    ----------  ---------  -------  -----  ---------  ---------------  ----------------
    blue        Succeeded  100      1      1          Standard_F2s_v2  azureml:digits:1
    ");
}

#[test]
fn a_change_says_what_it_has_changed() {
    let place = Place::new();
    let _server = place.serve();
    with_blue(&place);
    let update = "deployment update -n blue -e iris --set instance_count=2";
    assert_snapshot!(place.run(&format!("{update} -o none")), @"
    code: 0
    --- stdout
    --- stderr
    update deployment iris/blue, instance_count=2: Succeeded in [time]
      instance_count: 1 -> 2
    ");
    assert_snapshot!(place.run(&format!("{update} -o none")), @"
    code: 0
    --- stdout
    --- stderr
    update deployment iris/blue, instance_count=2: Succeeded in [time]
    nothing has changed: it was like this already
    ");
    assert_snapshot!(place.run("endpoint update -n iris --traffic blue=0 --set tags.team=vision -o none"), @"
    code: 0
    --- stdout
    --- stderr
    update endpoint iris, traffic blue:0, tags.team: Succeeded in [time]
      tags.team: none -> vision
      traffic.blue: 100 -> 0
    ");
    assert_eq!(
        said(&place, &format!("{update} -o none --only-show-errors")),
        ""
    );
}

#[test]
fn entries_are_added_and_taken_away() {
    let place = Place::new();
    let _server = place.serve();
    with_blue(&place);
    let tags = |line: &str| {
        json(
            &place,
            &format!("online-endpoint update -n iris {line} --query tags"),
        )
    };
    assert_eq!(
        tags("--set tags.a=1.10 --add tags b=2 c=x"),
        serde_json::json!({"a": "1.10", "b": "2", "c": "x"})
    );
    assert_eq!(
        tags("--remove tags.a"),
        serde_json::json!({"b": "2", "c": "x"})
    );
    place.ok("online-endpoint update -n iris --set description=flowers");
    assert_eq!(
        json(&place, "online-endpoint show iris --query description"),
        "flowers"
    );
    place.ok("online-endpoint update -n iris --remove description");
    assert_eq!(
        place.ok("online-endpoint show iris --query description"),
        ""
    );
    place.ok("online-deployment update -n blue -e iris --add tags a=b");
    assert_eq!(
        place.ok("online-deployment show -n blue -e iris --query tags.a -o tsv"),
        "b\n"
    );
    assert_snapshot!(place.run("online-endpoint update -n iris --remove tags.none"), @"
    code: 3
    --- stdout
    --- stderr
    error: --remove tags.none: nothing is there; `show` prints what is
    ");
    assert_snapshot!(place.run("online-endpoint update -n iris --remove name"), @"
    code: 3
    --- stdout
    --- stderr
    error: cannot update endpoint iris, name
    caused by: name: expected a name, found nothing
    ");
}

#[test]
fn mirrored_traffic_is_read_checked_and_shown() {
    let place = Place::new();
    let _server = place.serve();
    with_blue(&place);
    place.ok("online-deployment create -f blue.yml -n green");
    let mirror = |line: &str| {
        json(
            &place,
            &format!("online-endpoint update -n iris {line} --query mirror_traffic"),
        )
    };
    assert_eq!(
        mirror("--mirror-traffic green=10"),
        serde_json::json!({"green": 10})
    );
    assert_eq!(
        mirror("--traffic blue=100"),
        serde_json::json!({"green": 10})
    );
    assert_eq!(
        mirror("--mirror-traffic ' green = 20% '"),
        serde_json::json!({"green": 20})
    );
    for wrong in [
        "''",
        "green=51",
        "green=-1",
        "green=2.5",
        "red=10",
        "'blue=10 green=10'",
        "green",
    ] {
        let refused = place.run(&format!(
            "online-endpoint update -n iris --mirror-traffic {wrong}"
        ));
        assert!(refused.starts_with("code: 3\n"), "{wrong}: {refused}");
    }
    assert_snapshot!(place.run("online-endpoint update -n iris --mirror-traffic red=10"), @r#"
    code: 3
    --- stdout
    --- stderr
    error: cannot update endpoint iris, mirror_traffic
    caused by: mirror_traffic names "red", which is not a deployment of endpoint iris
    "#);
    place.ok("online-deployment delete -n green -e iris --yes");
    assert_eq!(
        json(&place, "online-endpoint show iris --query mirror_traffic"),
        serde_json::json!({})
    );
    place.ok("online-endpoint update -n iris --set tags.a=b");
}

#[test]
fn shares_may_have_spaces_and_signs() {
    let place = Place::new();
    let _server = place.serve();
    with_blue(&place);
    for split in ["' blue = 100 '", "blue=100%", "'blue : 100'", "blue = 100"] {
        let shown = json(
            &place,
            &format!("endpoint update -n iris --traffic {split} --query traffic"),
        );
        assert_eq!(shown, serde_json::json!({"blue": 100}), "{split}");
    }
    place.ok("endpoint regenerate-keys -n iris --key-type Primary");
    place.ok("online-endpoint create -n keyed --auth-mode Key");
    place.ok("online-endpoint create -n tokened --auth-mode AMLToken");
}

#[test]
fn flags_that_ask_for_what_is_not_here_are_refused_in_words() {
    let place = Place::new();
    assert_snapshot!(place.run("online-endpoint show iris --web"), @"
    code: 2
    --- stdout
    --- stderr
    error: --web: serin has no page in a browser; `show --detail` prints all that is known
    ");
    assert_snapshot!(place.run("online-deployment create -f blue.yml --vscode-debug"), @"
    code: 2
    --- stdout
    --- stderr
    error: --vscode-debug: serin starts no container to debug in; `serin score-script check` runs a script where it lies
    ");
}

#[test]
fn a_local_call_knows_no_rules_of_traffic() {
    let place = Place::new();
    let _server = place.serve();
    let sample = repository("models/digits/1/sample-request.json");
    let invoke = format!("endpoint invoke --local -n iris -r {}", sample.display());
    place.ok("endpoint create --name iris");
    assert_snapshot!(place.run(&invoke), @"
    code: 3
    --- stdout
    --- stderr
    error: This local endpoint does not have any deployments, so it cannot be invoked. Please use `serin deployment create` before invoking.
    ");
    place.ok("endpoint delete --name iris --yes");
    with_blue(&place);
    place.ok("endpoint update --name iris --traffic blue=0");
    let by_split = place.run(&invoke.replace("--local ", ""));
    assert!(by_split.starts_with("code: 7\n"), "{by_split}");
    assert_eq!(
        place.ok(&invoke),
        place.ok(&format!("{invoke} --deployment blue"))
    );
    place.ok("online-deployment create -f blue.yml -n green");
    assert_snapshot!(place.run(&invoke), @"
    code: 3
    --- stdout
    --- stderr
    error: Multiple deployments found for local endpoint (iris), please specify deployment name.
    ");
    place.ok(&format!("{invoke} --deployment green"));
}

/// The rollout of today's documents, imperative, with the queries that its scripts ask.
#[test]
fn a_rollout_of_today_runs_to_its_end_under_the_name_az() {
    let place = Place::new();
    let _server = place.serve();
    place.write(
        "endpoint.yml",
        "$schema: x\nname: my-endpoint\nauth_mode: key\n",
    );
    let deployment = |name: &str| {
        format!(
            "name: {name}\nendpoint_name: my-endpoint\nmodel: azureml:digits:1\ninstance_type: Standard_F2s_v2\ninstance_count: 1\n"
        )
    };
    place.write("blue.yml", deployment("blue"));
    place.write("green.yml", deployment("green"));
    let (printed, said) = played(
        &place,
        r#"
az account set -s something
az configure --defaults group=my-group workspace=my-workspace
az extension add -n ml -y
az ml model create --name digits --version 1 --path $MODEL
export ENDPOINT_NAME=my-endpoint
az ml online-endpoint create --name $ENDPOINT_NAME -f endpoint.yml
endpoint_status=`az ml online-endpoint show --name $ENDPOINT_NAME --query "provisioning_state" -o tsv`
[[ $endpoint_status == "Succeeded" ]]
az ml online-deployment create --name blue --endpoint $ENDPOINT_NAME -f blue.yml --all-traffic
deploy_status=`az ml online-deployment show --name blue --endpoint $ENDPOINT_NAME --query "provisioning_state" -o tsv`
[[ $deploy_status == "Succeeded" ]]
az ml online-endpoint invoke --name $ENDPOINT_NAME --request-file $SAMPLE
az ml online-deployment update --name blue --endpoint $ENDPOINT_NAME --set instance_count=2
az ml online-deployment create --name green --endpoint-name $ENDPOINT_NAME -f green.yml
az ml online-endpoint invoke --name $ENDPOINT_NAME --deployment green --request-file $SAMPLE
ENDPOINT_KEY=$(az ml online-endpoint get-credentials -n $ENDPOINT_NAME -o tsv --query primaryKey)
SCORING_URI=$(az ml online-endpoint show -n $ENDPOINT_NAME -o tsv --query scoring_uri)
[[ $SCORING_URI == http*/my-endpoint/score && -n $ENDPOINT_KEY ]]
az ml online-endpoint update --name $ENDPOINT_NAME --mirror-traffic "green=10"
az ml online-endpoint update --name $ENDPOINT_NAME --mirror-traffic "green=0"
az ml online-endpoint update --name $ENDPOINT_NAME --traffic "blue=90 green=10"
az ml online-endpoint update --name $ENDPOINT_NAME --traffic "blue=0 green=100"
az ml online-deployment delete --name blue --endpoint $ENDPOINT_NAME --yes --no-wait
ID=$(az ml workspace show --query id -o tsv)
az role assignment create --assignee-object-id x --role r --scope $ID
[[ $(az config get --query "defaults[?name == 'workspace'].value" -o tsv) == my-workspace ]]
[[ $(az group show --query name -o tsv) == my-group ]]
[[ $(az ml online-endpoint show -n $ENDPOINT_NAME --query id -o tsv) == $ID/onlineEndpoints/my-endpoint ]]
az ml online-endpoint delete --name $ENDPOINT_NAME --yes --no-wait
"#,
    );
    assert!(
        said.contains("note: `az role assignment create` does nothing here"),
        "{said}"
    );
    assert!(printed.contains("\"kind\": \"Managed\""), "{printed}");
}

/// The rollout of 2021, in which deployments are part of the endpoint and nothing asks before it deletes.
#[test]
fn a_rollout_of_2021_runs_to_its_end_under_the_name_az() {
    let place = Place::new();
    let _server = place.serve();
    let deployment = "
    model: azureml:digits:1
    instance_type: Standard_F2s_v2
    scale_settings: {scale_type: manual, instance_count: 1, min_instances: 1, max_instances: 2}\n";
    place.write(
        "endpoint.yml",
        format!("name: my-endpoint\ntype: online\nauth_mode: key\ntraffic: {{blue: 100}}\ndeployments:\n  - name: blue{deployment}"),
    );
    place.write(
        "green.yml",
        format!("name: green{}", deployment.replace("\n    ", "\n")),
    );
    let (_, said) = played(
        &place,
        r#"
az ml model create --name digits --version 1 --path $MODEL
az ml endpoint create -n my-endpoint -f endpoint.yml
[[ $(az ml endpoint show -n my-endpoint --query "deployments[?name=='blue'].provisioning_state" -o tsv) == Succeeded ]]
az ml endpoint invoke -n my-endpoint --request-file $SAMPLE
az ml endpoint update -n my-endpoint --deployment green --deployment-file green.yml
az ml endpoint update -n my-endpoint --traffic "blue:90,green:10"
az ml endpoint update -n my-endpoint --traffic "blue:0,green:100"
az ml endpoint delete -n my-endpoint --deployment blue
az ml endpoint delete -n my-endpoint
az ml model delete -n digits --version 1
"#,
    );
    assert!(
        said.contains("under the name `az` this never asked"),
        "{said}"
    );
}

#[test]
fn only_old_verbs_under_the_name_az_delete_without_asking() {
    let place = Place::new();
    let _server = place.serve();
    place.ok("endpoint create --name iris");
    let refused = script(&place, "az ml online-endpoint delete -n iris");
    assert_eq!(refused.status.code(), Some(3));
    let refused = place.run("endpoint delete -n iris");
    assert!(refused.starts_with("code: 3\n"), "{refused}");
    place.ok("endpoint show iris");
}

#[test]
fn commands_of_az_that_serin_does_not_know_are_refused_and_no_program_is_overwritten() {
    let place = Place::new();
    let refused = script(&place, "az vm delete -n mine");
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("found \"vm delete\""), "{said}");
    place.ok("az install bin");
    place.write("other/az", "a program");
    let refused = place.run("az install other");
    assert!(refused.starts_with("code: 3\n"), "{refused}");
    assert_eq!(place.read("other/az"), "a program");
}

#[test]
fn what_is_said_of_a_model_is_kept_shown_and_changed() {
    let place = Place::new();
    let _server = place.serve();
    let model = repository("models/digits/1");
    place.ok(&format!(
        "model create --name digits --version 1 --path {} --description 'Reads digits' --tags team=vision --stage Staging --set tags.step=1.10",
        model.display()
    ));
    let show = |query: &str| json(&place, &format!("model show digits --query {query}"));
    assert_eq!(
        show("[description,stage,tags.team,tags.step,type]"),
        serde_json::json!(["Reads digits", "Staging", "vision", "1.10", "custom_model"])
    );
    assert_snapshot!(place.run("model update -n digits -v 1 --stage Production --remove tags.team --query stage"), @r#"
    code: 0
    --- stdout
    "Production"
    --- stderr
      stage: Staging -> Production
      tags.team: vision -> none
    "#);
    assert_snapshot!(place.run("model update -n digits --set version=2"), @"
    code: 3
    --- stdout
    --- stderr
    error: a version of a model has a description, a stage, tags and properties that may change: unknown field `version`, expected one of `description`, `tags`, `properties`, `stage`, `is_archived`
    ");
    place.ok("model archive -n digits --version 1");
    assert_eq!(json(&place, "model list"), serde_json::json!([]));
    assert_eq!(
        place.ok("model list --include-archived --query [].name -o tsv"),
        "digits\n"
    );
    place.ok("endpoint create --name iris");
    place.write("blue.yml", "name: blue\nendpoint_name: iris\nmodel: azureml:digits:1\ninstance_type: Standard_F2s_v2\n");
    place.ok("deployment create --file blue.yml");
    place.ok("model restore -n digits");
    assert_eq!(place.ok("model list --query length(@)"), "1\n");
    assert_snapshot!(place.run("model archive -n digits --version 7"), @"
    code: 4
    --- stdout
    --- stderr
    error: model digits has no version 7; it has 1
    ");
    let journal = place.ok("journal -o table");
    assert!(journal.contains("describe model digits:1"), "{journal}");
}

#[test]
fn the_files_of_a_model_come_out_as_they_went_in_and_overwrite_nothing() {
    let place = Place::new();
    let _server = place.serve();
    let model = repository("models/digits/1");
    place.ok(&format!(
        "model create --name digits --version 1 --path {}",
        model.display()
    ));
    place.ok("model download -n digits --version 1 --download-path out");
    let bytes = |path: std::path::PathBuf| fs::read(path).expect("a file");
    assert_eq!(
        bytes(place.path("out/digits/model.onnx")),
        bytes(model.join("model.onnx"))
    );
    let again = place.run("model download -n digits --version 1 --download-path out");
    assert!(again.starts_with("code: 3\n"), "{again}");
}

#[test]
fn what_was_noted_of_a_deployment_is_told_and_survives_a_restart() {
    let place = Place::new();
    let server = place.serve();
    with_blue(&place);
    place.write("bad.onnx", "no model");
    place.write(
        "bad.yml",
        "name: bad\nendpoint_name: iris\nmodel: bad.onnx\ninstance_type: Standard_F2s_v2\n",
    );
    let failed = place.run("deployment create -f bad.yml");
    assert!(failed.starts_with("code: 1\n"), "{failed}");
    let bad = "online-deployment get-logs --endpoint iris -n bad";
    let told = place.ok(bad);
    assert!(told.contains("ann: create deployment iris/bad"), "{told}");
    assert!(
        told.contains("Failed") && told.contains("is not an ONNX model"),
        "{told}"
    );
    assert!(!told.contains("iris/blue"), "{told}");
    assert_eq!(
        place
            .ok(&format!("{bad} -l 1 --container storage-initializer"))
            .lines()
            .count(),
        1
    );
    drop(server);
    let _server = place.serve();
    assert!(place.ok(bad).contains("is not an ONNX model"));
    assert!(
        place
            .ok("endpoint get-logs -n iris --deployment blue")
            .contains("iris/blue")
    );
    assert!(
        place
            .run("endpoint get-logs -n iris -d none")
            .starts_with("code: 4\n")
    );
}

#[test]
fn an_environment_is_kept_under_its_name_and_stands_in_its_place() {
    let place = Place::new();
    let _server = place.serve();
    place.write("env/conda.yml", "name: e\ndependencies: [python=3.11]\n");
    place.write(
        "env/env.yml",
        "name: my-env\nimage: example/base:1\nconda_file: ./conda.yml\n",
    );
    place.ok("environment create -f env/env.yml --version 3");
    assert_eq!(
        place.ok("environment show -n my-env --query version -o tsv"),
        "3\n"
    );
    assert_eq!(
        place.ok("environment create -f env/env.yml --query version -o tsv"),
        "4\n"
    );
    let other = place.run("environment create -n my-env -v 3 --image other");
    assert!(other.starts_with("code: 3\n"), "{other}");
    with_blue(&place);
    place.write("blue.yml", "name: blue\nendpoint_name: iris\nmodel: azureml:digits:1\nenvironment: azureml:my-env:3\ninstance_type: Standard_F2s_v2\n");
    let environment = json(&place, "deployment update -f blue.yml --query environment");
    assert_eq!(environment["image"], "example/base:1");
    let conda = environment["conda_file"].as_str().expect("a path");
    assert!(
        conda.ends_with("env/./conda.yml") || conda.ends_with("env/conda.yml"),
        "{conda}"
    );
    place.ok("environment archive -n my-env --version 4");
    assert_eq!(
        place.ok("environment list --query [].version -o tsv"),
        "3\n"
    );
    assert!(
        place
            .run("environment show -n none")
            .starts_with("code: 4\n")
    );
}

#[test]
fn what_a_flag_says_beats_the_file() {
    let place = Place::new();
    let _server = place.serve();
    let digits = repository("models/digits/1/model.onnx");
    let deployment = |name: &str| {
        format!(
            "name: {name}\nendpoint_name: <ENDPOINT_NAME>\nmodel: <MODEL>\ninstance_type: Standard_F2s_v2\n"
        )
    };
    place.write("blue.yml", deployment("blue"));
    place.ok("endpoint create --name iris");
    let refused = place.run("online-deployment create -f blue.yml");
    assert!(
        refused.contains("blue.yml:2:1: endpoint_name: found \"<ENDPOINT_NAME>\"")
            && refused.contains("blue.yml:3:1: model: found \"<MODEL>\""),
        "{refused}"
    );
    let model = format!("--set model={}", digits.display());
    place.ok(&format!(
        "online-deployment create -e iris -f blue.yml {model}"
    ));
    place.write("green.yml", deployment("green"));
    let both = format!("-f green.yml {model} endpoint_name=iris");
    place.ok(&format!("online-deployment create {both}"));
    place.ok(&format!("online-deployment update {both} instance_count=2"));
    place.ok(&format!(
        "online-deployment update -e iris -f blue.yml {model}"
    ));
    let green = json(&place, "online-deployment show -e iris -n green");
    assert_eq!(
        (&green["instance_count"], &green["endpoint_name"]),
        (&2.into(), &"iris".into())
    );
}

#[test]
fn a_position_counts_in_the_order_of_the_file() {
    let place = Place::new();
    let _server = place.serve();
    let digits = repository("models/digits/1/model.onnx");
    let body = format!(
        "model: {}, instance_type: Standard_F2s_v2",
        digits.display()
    );
    place.write(
        "endpoint.yml",
        format!("name: iris\ndeployments:\n- {{name: red, {body}}}\n- {{name: blue, {body}}}\n"),
    );
    let counts = || {
        let shown = json(&place, "endpoint show -n iris");
        let deployments = shown["deployments"].as_array().expect("a list").iter();
        deployments
            .map(|one| format!("{}{}", one["name"], one["instance_count"]))
            .collect::<String>()
    };
    place.ok("endpoint create -f endpoint.yml --set deployments[0].instance_count=2");
    assert_eq!(counts(), "\"blue\"1\"red\"2");
    place.ok("endpoint update -f endpoint.yml --set deployments[0].instance_count=3");
    assert_eq!(counts(), "\"blue\"1\"red\"3");
}

/// What of Azure's files trips a loader: each runs, with a note where something has no effect.
#[test]
fn files_that_were_written_for_azure_run() {
    let place = Place::new();
    let _server = place.serve();
    let digits = fs::read(repository("models/digits/1/model.onnx")).expect("a model");
    for copy in [
        "models/digits/1/model.onnx",
        "plain/model.onnx",
        "mlflow/model.onnx",
    ] {
        place.write(copy, &digits);
    }
    place.write("mlflow/MLmodel", "flavors: {onnx: {data: model.onnx}}\n");
    let check = |name: &str, lines: &str, note: &str| {
        let file = format!("{name}.yml");
        place.write(&file, format!("name: {name}\nendpoint_name: iris\n{lines}"));
        let said = place.run(&format!("online-deployment create -f {file}"));
        assert!(
            said.starts_with("code: 0\n") && said.contains(note),
            "{said}"
        );
    };
    let aad = "name: iris\nauth_mode: aad_token\ncompute: azureml:k8s\n";
    place.write("endpoint.yml", aad);
    place.ok("online-endpoint create -f endpoint.yml");
    let said = place.run("online-endpoint show -n iris");
    assert!(
        said.contains("auth_mode aad_token is taken as key"),
        "{said}"
    );
    let size = "instance_type: Standard_F2s_v2\n";
    check(
        "triton",
        &format!("model: {{path: models, type: triton_model}}\n{size}"),
        "",
    );
    check(
        "mlflow",
        &format!("model: {{path: mlflow, type: mlflow_model}}\n{size}"),
        "",
    );
    check(
        "cluster",
        "type: kubernetes\nmodel: ~/cli/plain/model.onnx\nscale_settings: {type: target_utilization, min_instances: '1', max_instances: 2.0}\n",
        "note: ~/cli/plain/model.onnx is taken as [folder]/cli/plain/model.onnx",
    );
    let cluster = place.run("online-deployment show -e iris -n cluster");
    for note in [
        "it is taken as Standard_D2a_v4",
        "nothing scales by itself here",
    ] {
        assert!(cluster.contains(note), "{cluster}");
    }
}

#[test]
fn a_model_with_a_name_a_version_and_a_path_is_registered() {
    let place = Place::new();
    let _server = place.serve();
    let digits = fs::read(repository("models/digits/1/model.onnx")).expect("a model");
    place.write("plain/model.onnx", &digits);
    place.ok("online-endpoint create -n iris");
    let size = "instance_type: Standard_F2s_v2\n";
    let file = |name: &str, model: &str| {
        let text = format!("name: {name}\nendpoint_name: iris\nmodel: {model}\n{size}");
        place.write(&format!("{name}.yml"), text);
    };
    file("inline", "{name: letters, version: 7, path: plain}");
    let said = place.run("online-deployment create -f inline.yml");
    assert!(said.contains("register model letters:7: done"), "{said}");

    assert_eq!(
        json(&place, "model show -n letters --version 7")["version"],
        "7"
    );
    assert_eq!(
        json(&place, "online-deployment show -e iris -n inline")["model"],
        "azureml:letters:7"
    );
    // Once more is no other content, and another content is no such version.
    place.ok("online-deployment update -f inline.yml");
    place.write("plain/notes.txt", "other");
    let refused = place.run("online-deployment update -f inline.yml");
    assert!(refused.contains("a version never changes"), "{refused}");
    let long = "azureml://registries/R/models/letters/versions/7";
    file("long", long);
    place.ok("online-deployment create -f long.yml");
    file("gone", &format!("{long}1"));
    let refused = place.run("online-deployment create -f gone.yml");
    assert!(
        refused.contains("model letters has no version \"71\""),
        "{refused}"
    );
    // A whole endpoint in one file does the same.
    let whole =
        "name: wine\ndeployments:\n- {name: blue, model: {name: wine, version: 1, path: plain}, ";
    place.write("whole.yml", format!("{whole}{}}}\n", size.trim_end()));
    for verb in ["create", "update"] {
        let said = place.run(&format!("endpoint {verb} -f whole.yml"));
        assert!(said.contains("register model wine:1: done"), "{said}");
    }
}
