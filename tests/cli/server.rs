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
    assert_snapshot!(place.run("endpoint show --name iris"), @"");
    assert_snapshot!(place.run("endpoint update --name iris --traffic blue:100"), @"");
    assert_snapshot!(place.run("endpoint delete --name iris"), @"");
    assert_snapshot!(place.run("endpoint delete --deployment blue"), @"");
    assert_snapshot!(place.run("model show --name iris"), @"");
}

#[test]
fn a_present_state_that_does_not_fit_is_a_conflict() {
    let place = Place::new();
    let _server = place.serve();
    with_blue(&place);
    assert_snapshot!(place.run("endpoint create --name iris"), @"");
    assert_snapshot!(place.run("deployment create --file blue.yml"), @"");
    assert_snapshot!(place.run("endpoint delete --deployment blue"), @"");
    assert_snapshot!(place.run("model delete --name digits --version 1"), @"");
    assert_snapshot!(place.run("endpoint update --name iris --traffic green:100"), @"");
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
    assert_snapshot!(place.run("deployment create --file blue.yml --endpoint iris"), @"");
}

#[test]
fn a_request_that_does_not_fit_the_model_fails_with_what_the_model_wants() {
    let place = Place::new();
    let _server = place.serve();
    with_blue(&place);
    place.write("wrong.json", r#"{"data": [[1, 2, 3]]}"#);
    assert_snapshot!(place.run("endpoint invoke --name iris --request-file wrong.json"), @"");
}

#[test]
fn a_busy_port_is_named_with_the_flag_that_changes_it() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("an address").port();
    let said = Place::new().run(&format!("serve --port {port}"));
    assert_snapshot!(said.replace(&port.to_string(), "[port]"), @"");
}

#[test]
fn a_data_folder_in_use_is_refused() {
    let place = Place::new();
    let _server = place.serve();
    assert_snapshot!(place.run("serve --port 0"), @"");
}
