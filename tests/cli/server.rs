//! What a server refuses, and how starting one can fail.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::Stdio;

use insta::assert_snapshot;

use crate::support::{Place, repository};

/// An endpoint `iris` whose deployment `blue` has all traffic.
pub(crate) fn with_blue(place: &Place) {
    let model = repository("models/digits/1");
    place.ok(&format!(
        "model create --name digits --version 1 --path {}",
        model.display()
    ));
    place.ok("endpoint create --name iris");
    place.write(
        "blue.yml",
        "name: blue\nendpoint_name: iris\nmodel: azureml:digits:1\ninstance_type: Standard_F2s_v2\n",
    );
    place.ok("deployment create --file blue.yml --all-traffic");
}

#[test]
fn what_does_not_exist_is_named() {
    let place = Place::new();
    let _server = place.serve();
    assert_snapshot!(place.run("endpoint show --name iris"), @r#"
    code: 4
    --- stdout
    --- stderr
    error: endpoint "iris" does not exist
    "#);
    assert_snapshot!(place.run("endpoint update --name iris --traffic blue:100"), @r#"
    code: 4
    --- stdout
    --- stderr
    error: cannot update endpoint iris, traffic blue:100
    caused by: no endpoint "iris"; none exists yet
    "#);
    assert_snapshot!(place.run("endpoint delete --name iris"), @r#"
    code: 4
    --- stdout
    --- stderr
    error: endpoint "iris" does not exist
    "#);
    assert_snapshot!(place.run("endpoint delete --deployment blue --yes"), @r#"
    code: 4
    --- stdout
    --- stderr
    error: cannot delete deployment blue
    caused by: no endpoint has a deployment "blue"
    "#);
    assert_snapshot!(place.run("model show --name iris"), @r#"
    code: 4
    --- stdout
    --- stderr
    error: model "iris" does not exist
    "#);
}

#[test]
fn a_present_state_that_does_not_fit_is_a_conflict() {
    let place = Place::new();
    let _server = place.serve();
    with_blue(&place);
    assert_snapshot!(place.run("endpoint create --name iris"), @"
    code: 5
    --- stdout
    --- stderr
    error: cannot create endpoint iris
    caused by: endpoint iris exists: update or replace it, or choose another name
    ");
    assert_snapshot!(place.run("deployment create --file blue.yml"), @"
    code: 5
    --- stdout
    --- stderr
    error: cannot create deployment iris/blue
    caused by: deployment iris/blue exists: update or replace it, or choose another name
    ");
    assert_snapshot!(place.run("endpoint delete --deployment blue --yes"), @"
    code: 5
    --- stdout
    --- stderr
    error: cannot delete deployment blue
    caused by: the deployment blue has live traffic (100 %) and can't be deleted: scale down its traffic to 0 first, with `serin endpoint update --name iris --traffic 'blue:0'`
    ");
    assert_snapshot!(place.run("model delete --name digits --version 1 --yes"), @"
    code: 5
    --- stdout
    --- stderr
    error: cannot delete model digits:1
    caused by: model digits:1 is in use by iris/blue: update or delete them first
    ");
    assert_snapshot!(place.run("endpoint update --name iris --traffic green:100"), @r#"
    code: 3
    --- stdout
    --- stderr
    error: cannot update endpoint iris, traffic green:100
    caused by: traffic names "green", which is not a deployment of endpoint iris; it has blue
    "#);
}

#[test]
fn a_deployment_that_takes_the_place_of_one_that_failed_says_so() {
    let place = Place::new();
    let _server = place.serve();
    with_blue(&place);
    place.write("bad.onnx", "no model");
    place.ok("model create --name bad --version 1 --path bad.onnx");
    let green = |model: &str| {
        let rest = "endpoint_name: iris\ninstance_type: Standard_F2s_v2\n";
        place.write("green.yml", format!("name: green\nmodel: {model}\n{rest}"));
    };
    green("azureml:bad:1");
    let failed = place.run("deployment create --file green.yml");
    assert!(failed.starts_with("code: 1\n"), "{failed}");
    green("azureml:digits:1");
    assert_snapshot!(place.run("deployment create --file green.yml --output none"), @"
    code: 0
    --- stdout
    --- stderr
    note: deployment green takes the place of one that failed and never was ready
    create deployment iris/green: Succeeded in [time]
    ");
}

#[test]
fn a_split_is_shown_with_the_names_of_the_deployments_however_it_was_typed() {
    let place = Place::new();
    let _server = place.serve();
    with_blue(&place);
    let shown = place.ok("endpoint update --name iris --traffic BLUE:100 --output table");
    assert!(shown.contains(" blue=100 "), "{shown}");
}

#[test]
fn a_split_of_nothing_is_refused() {
    let place = Place::new();
    let _server = place.serve();
    with_blue(&place);
    assert_snapshot!(place.run("endpoint update --name iris --traffic ''"), @r#"
    code: 3
    --- stdout
    --- stderr
    error: --traffic: expected entries such as blue:90,green:10 or blue=90 green=10, found none; to take all traffic away, write it out: blue=0
    "#);
    let shown = place.ok("endpoint show --name iris --output table");
    assert!(shown.contains(" blue=100 "), "{shown}");
}

#[test]
fn a_missing_model_is_refused_before_anything_starts() {
    let place = Place::new();
    let _server = place.serve();
    place.ok("endpoint create --name iris");
    place.write(
        "blue.yml",
        "name: blue\nmodel: azureml:iris:1\ninstance_type: Standard_F2s_v2\n",
    );
    assert_snapshot!(place.run("deployment create --file blue.yml --endpoint iris"), @r#"
    code: 3
    --- stdout
    --- stderr
    note: no model iris:1 is registered; this registers one:
      serin model create --name iris --version 1 --path <PATH OF THE .onnx FILE OR ITS FOLDER>
    error: cannot create deployment iris/blue
    caused by: deployment blue: model: no model "iris": none is registered; `serin model create` registers one
    "#);
}

#[test]
fn a_request_that_does_not_fit_the_model_fails_with_what_the_model_wants() {
    let place = Place::new();
    let _server = place.serve();
    with_blue(&place);
    place.write("wrong.json", r#"{"data": [[1, 2, 3]]}"#);
    assert_snapshot!(place.run("endpoint invoke --name iris --request-file wrong.json"), @r#"
    code: 7
    --- stdout
    --- stderr
    error: cannot invoke endpoint iris
    caused by: the endpoint answered with status 424: input "data": expected FP32 numbers of shape [-1, 64], row 1 has 3 numbers
    "#);
}

#[test]
fn a_file_that_cannot_be_served_is_named_and_nothing_else() {
    let place = Place::new();
    assert_snapshot!(place.run("up nowhere.onnx --port 0"), @"
    code: 3
    --- stdout
    --- stderr
    error: deployment nowhere: cannot read model nowhere.onnx: No such file or directory (os error 2)
    ");
    assert_snapshot!(place.run("up nowhere.onnx --port 0 --traffic nowhere:90"), @"
    code: 3
    --- stdout
    --- stderr
    error: --traffic: expected a sum of 0 or 100, found 90 (nowhere 90)
    ");
}

#[test]
fn a_busy_port_is_named_with_the_flag_that_changes_it() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("an address").port();
    let said = Place::new().run(&format!("serve --port {port}"));
    assert_snapshot!(said.replace(&port.to_string(), "[port]"), @"
    code: 8
    --- stdout
    --- stderr
    error: cannot listen on 127.0.0.1:[port]: Address already in use (os error 98); choose another address with --port
    ");
}

#[test]
fn a_data_folder_in_use_is_refused() {
    let place = Place::new();
    let _server = place.serve();
    assert_snapshot!(place.run("serve --port 0"), @r#"
    code: 8
    --- stdout
    --- stderr
    error: data folder "[folder]/data" is in use by another server (pid [pid]); stop it, or choose another folder with --data
    "#);
}

#[test]
fn what_is_to_be_changed_must_exist() {
    let place = Place::new();
    let _server = place.serve();
    with_blue(&place);
    assert_snapshot!(place.run("endpoint update --name iri --set description=flowers"), @r#"
    code: 4
    --- stdout
    --- stderr
    error: cannot update endpoint iri, description
    caused by: no endpoint "iri"; there are iris
    "#);
    assert_snapshot!(place.run("deployment update --name green --endpoint iris --set instance_count=2"), @r#"
    code: 4
    --- stdout
    --- stderr
    error: cannot update deployment iris/green, instance_count=2
    caused by: endpoint iris has no deployment "green"; it has blue
    "#);
    assert_snapshot!(place.run("endpoint update --name iris --deployment green --instance-count 2"), @r#"
    code: 4
    --- stdout
    --- stderr
    error: cannot update endpoint iris, deployment green, instance_count=2
    caused by: endpoint iris has no deployment "green"; it has blue
    "#);
    assert_snapshot!(place.run("deployment delete blu --endpoint iris"), @r#"
    code: 4
    --- stdout
    --- stderr
    error: deployment "blu" does not exist
    "#);
    assert_snapshot!(place.run("deployment show green --endpoint iris"), @r#"
    code: 4
    --- stdout
    --- stderr
    error: deployment "green" does not exist
    "#);
    assert_snapshot!(place.run("model delete digits --version 2 --yes"), @r#"
    code: 4
    --- stdout
    --- stderr
    error: cannot delete model digits:2
    caused by: model digits has no version "2"; it has 1
    "#);
    assert_snapshot!(place.run("model delete iris --version 1"), @r#"
    code: 4
    --- stdout
    --- stderr
    error: model "iris" does not exist
    "#);
}

#[test]
fn a_change_out_of_bounds_is_refused_by_the_server_too() {
    let place = Place::new();
    let _server = place.serve();
    with_blue(&place);
    assert_snapshot!(place.run("endpoint update --name iris --set deployments.blue.instance_count=0"), @"
    code: 3
    --- stdout
    --- stderr
    error: cannot update endpoint iris, deployments.blue.instance_count=0
    caused by: deployments.blue.instance_count: expected 1 to 50, found 0
    ");
    assert_snapshot!(place.run("endpoint update --name iris --set traffic.blue=60 traffic.green=30"), @"
    code: 3
    --- stdout
    --- stderr
    error: cannot update endpoint iris, traffic.blue=60, traffic.green=30
    caused by: traffic: expected a sum of 0 or 100, found 90 (blue 60, green 30)
    ");
    assert_snapshot!(place.run("deployment update --name blue --endpoint iris --set instance_cout=2"), @"
    code: 3
    --- stdout
    --- stderr
    error: cannot update deployment iris/blue, instance_cout=2
    caused by: deployment blue: instance_cout: unknown key; did you mean `instance_count`?
    ");
    assert_snapshot!(place.run("deployment update --name blue --endpoint iris --set instance_type=Standard_F4_v2"), @r#"
    code: 3
    --- stdout
    --- stderr
    error: cannot update deployment iris/blue, instance_type
    caused by: deployment blue: instance_type: expected an instance type of `serin sku list`, found "Standard_F4_v2"; did you mean `Standard_F4s_v2`?
    "#);
    assert_snapshot!(place.run("deployment update --name blue --endpoint iris --set model=azureml:digits:2"), @r#"
    code: 3
    --- stdout
    --- stderr
    error: cannot update deployment iris/blue, model
    caused by: deployment blue: model: model digits has no version "2"; it has 1
    "#);
    assert_snapshot!(place.run("deployment update --name blue --endpoint iris --set model=./nowhere.onnx"), @"
    code: 3
    --- stdout
    --- stderr
    error: cannot update deployment iris/blue, model
    caused by: model: no model at [folder]/cli/nowhere.onnx: expected an ONNX file, or a folder with one
    ");
}

#[test]
fn a_file_that_is_no_model_is_refused() {
    let place = Place::new();
    let _server = place.serve();
    place.write("empty.onnx", "");
    place.write("folder/.hidden", "no model");
    assert_snapshot!(place.run("model create --name iris --path empty.onnx"), @"
    code: 3
    --- stdout
    --- stderr
    error: cannot register model iris from empty.onnx
    caused by: [folder]/cli/empty.onnx is empty: expected an ONNX model
    ");
    assert_snapshot!(place.run("model create --name iris --path folder"), @"
    code: 3
    --- stdout
    --- stderr
    error: cannot register model iris from folder
    caused by: [folder]/cli/folder holds no model: expected `model.onnx` or exactly one `.onnx` file at its top
    ");
    assert_snapshot!(place.run("model create --name iris --path missing.onnx"), @r#"
    code: 3
    --- stdout
    --- stderr
    error: cannot read "missing.onnx"
    caused by: No such file or directory (os error 2)
    "#);
    let model = std::fs::read(repository("models/digits/2/model.onnx")).expect("a model");
    place.write("text.onnx", "hello");
    place.write("truncated.onnx", &model[..model.len() / 2]);
    place.ok("endpoint create --name iris");
    for name in ["text", "truncated"] {
        place.write(
            &format!("{name}.yml"),
            format!("name: {name}\nendpoint_name: iris\nmodel: {name}.onnx\ninstance_type: Standard_F2s_v2\n"),
        );
    }
    assert_snapshot!(place.run("deployment create --file text.yml"), @"
    code: 1
    --- stdout
    --- stderr
    error: cannot create deployment iris/text
    caused by: deployment text: model.onnx is not an ONNX model, or only a part of one (ONNX Runtime: Load model from [folder]/data/models/sha256/10c1cdacc4d22711e73bc5684057dc370a65a60baf9f154c69fe9c164dfa4ba6/model.onnx failed:Protobuf parsing failed.)
    ");
    assert_snapshot!(place.run("deployment create --file truncated.yml"), @"
    code: 1
    --- stdout
    --- stderr
    error: cannot create deployment iris/truncated
    caused by: deployment truncated: model.onnx is not an ONNX model, or only a part of one (ONNX Runtime: Load model from [folder]/data/models/sha256/592d5a835944c6a1049348c52b06cd9744412e9906e8959b88d6d87c4219cd9a/model.onnx failed:Protobuf parsing failed.)
    ");
}

#[test]
fn a_version_of_a_model_never_changes() {
    let place = Place::new();
    let _server = place.serve();
    for version in ["1", "2"] {
        let folder = repository("models/digits").join(version);
        for file in ["model.onnx", "model.yml"] {
            let bytes = std::fs::read(folder.join(file)).expect("a sample model");
            place.write(&format!("digits/{version}/{file}"), bytes);
        }
    }
    place.ok("model create --file digits/1/model.yml");
    place.ok("model create --file digits/1/model.yml");
    place.ok("model create --file digits/1/model.yml --version 2");
    assert_snapshot!(place.run("model create --file digits/2/model.yml"), @"
    code: 5
    --- stdout
    --- stderr
    error: cannot register model digits from digits/2/model.onnx
    caused by: model digits:2 is registered with other content (sha256:23c57481a3cc6ddac7bc1c559be34f9de60b67d11779cd7dcdf33995e2b42ffa, not sha256:a243e2ad58d2e7949734d6e04e92b438bdea2593d3e2ca96ca25b4681cde66ee); a version never changes: choose another version
    ");
    place.ok("model create --file digits/1/model.yml --name letters --path digits/2/model.onnx");
    assert_eq!(place.ok("model list -o tsv").lines().count(), 3);
}

#[test]
fn a_request_that_is_no_json_is_refused() {
    let place = Place::new();
    let _server = place.serve();
    with_blue(&place);
    place.write("text.json", "hello");
    place.write("inputs.json", r#"{"inputs": []}"#);
    assert_snapshot!(place.run("endpoint invoke iris --request-file text.json"), @r#"
    code: 7
    --- stdout
    --- stderr
    error: cannot invoke endpoint iris
    caused by: the endpoint answered with status 424: expected {"data": ..} with FP32 [-1, 64], found text that is not JSON (line 1, column 1: expected a value)
    "#);
    assert_snapshot!(place.run("endpoint invoke iris --request-file inputs.json"), @r#"
    code: 7
    --- stdout
    --- stderr
    error: cannot invoke endpoint iris
    caused by: the endpoint answered with status 424: expected {"data": ..} with FP32 [-1, 64], found the key "inputs"
    "#);
    assert_snapshot!(place.run("endpoint invoke iris --request-file missing.json"), @r#"
    code: 3
    --- stdout
    --- stderr
    error: cannot read "missing.json"
    caused by: No such file or directory (os error 2)
    "#);
    assert_snapshot!(place.run("endpoint invoke iris --deployment green --request-file text.json"), @r#"
    code: 7
    --- stdout
    --- stderr
    error: cannot invoke endpoint iris
    caused by: the endpoint answered with status 404: endpoint "iris" has no deployment "green"; it has blue
    "#);
}

#[test]
fn tables_fit_a_terminal() {
    let place = Place::new();
    let _server = place.serve();
    with_blue(&place);
    assert_snapshot!(place.run("deployment list --endpoint iris -o table"), @"
    code: 0
    --- stdout
    name  state      ready  instances  instance_type    model
    ----  ---------  -----  ---------  ---------------  ----------------
    blue  Succeeded  1      1          Standard_F2s_v2  azureml:digits:1
    --- stderr
    ");
    for line in [
        "endpoint list",
        "deployment show blue -e iris",
        "model list",
        "status",
        "sku list",
    ] {
        let table = place.ok(&format!("{line} --output table"));
        assert!(table.lines().count() > 2, "{table}");
        assert!(table.lines().all(|row| row.len() <= 100), "{table}");
    }
}

#[test]
fn a_data_folder_that_cannot_be_one_is_refused() {
    let place = Place::new();
    place.write("file", "");
    assert_snapshot!(place.run("serve --port 0 --data file/data"), @r#"
    code: 8
    --- stdout
    --- stderr
    error: cannot use data folder "file/data": Not a directory (os error 20); choose another with --data
    "#);
}

/// `| head -1` closes the pipe after the first line.
#[test]
fn a_reader_that_goes_early_is_no_error() {
    let mut child = Place::new()
        .command()
        .args(["sku", "list"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the serin binary runs");
    drop(child.stdout.take());
    let ended = child.wait_with_output().expect("it ends");
    assert_eq!(ended.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "");
}

#[test]
fn a_server_that_accepts_and_says_nothing_is_spoken_of_while_a_command_waits() {
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    place.write(
        "data/server.json",
        format!(
            r#"{{"pid": 1, "scoring_address": "{address}", "admin_address": "{address}", "token": "t", "started": "2026-01-01T00:00:00Z"}}"#
        ),
    );
    let mut command = place.command();
    command.env("SERIN_DATA", place.path("data")).arg("status");
    let mut child = command.stderr(Stdio::piped()).spawn().expect("a command");
    let mut said = BufReader::new(child.stderr.take().expect("its standard error"));
    let mut line = String::new();
    said.read_line(&mut line).expect("a line");
    assert_eq!(
        line,
        format!("waiting for the server at {address}: the state of the server\n")
    );
    // The connection is refused from here on, and the one that waits is reset.
    drop(listener);
    assert_eq!(child.wait().expect("its end").code(), Some(9));
}
