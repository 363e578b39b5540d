//! What a server refuses, and how starting one can fail.

use std::net::TcpListener;

use insta::assert_snapshot;

use crate::support::{Place, repository};

/// An endpoint `iris` whose deployment `blue` has all traffic.
fn with_blue(place: &Place) {
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
    assert_snapshot!(place.run("endpoint delete --deployment blue"), @r#"
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
    caused by: endpoint iris exists: update it, or choose another name
    ");
    assert_snapshot!(place.run("deployment create --file blue.yml"), @"
    code: 5
    --- stdout
    --- stderr
    error: cannot create deployment iris/blue
    caused by: deployment iris/blue exists: update it, or choose another name
    ");
    assert_snapshot!(place.run("endpoint delete --deployment blue"), @"
    code: 5
    --- stdout
    --- stderr
    error: cannot delete deployment blue
    caused by: the deployment blue has live traffic (100 %) and can't be deleted: scale down its traffic to 0 first, with `serin endpoint update --name iris --traffic 'blue:0'`
    ");
    assert_snapshot!(place.run("model delete --name digits --version 1"), @"
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
