//! Files that are wrong: every problem at once, each where it stands.

use std::fmt::Write as _;

use insta::assert_snapshot;

use crate::support::Place;

const BLUE: &str =
    "name: blue\nendpoint_name: iris\nmodel: azureml:iris:1\ninstance_type: Standard_F4s_v2\n";

fn endpoint(text: &str) -> String {
    let place = Place::new();
    place.write("endpoint.yml", text);
    place.run("endpoint create --file endpoint.yml")
}

fn deployment(text: &str) -> String {
    let place = Place::new();
    place.write("blue.yml", text);
    place.run("deployment create --file blue.yml")
}

#[test]
fn a_missing_file_is_named() {
    assert_snapshot!(Place::new().run("endpoint create --file endpoint.yml"), @r#"
    code: 3
    --- stdout
    --- stderr
    error: cannot read "endpoint.yml"
    caused by: No such file or directory (os error 2)
    "#);
}

#[test]
fn all_problems_of_an_endpoint_are_told_at_once() {
    assert_snapshot!(endpoint("nam: iris\nauth_mode: none\ntraffic: {blue: 60, green: 30}\n"), @r#"
    code: 3
    --- stdout
    --- stderr
    error: endpoint.yml cannot be used as it stands:
    endpoint.yml:1:1: nam: unknown key; did you mean `name`?
    endpoint.yml:2:1: auth_mode: expected key or aml_token, found "none"
    endpoint.yml:3:1: traffic: expected a sum of 0 or 100, found 90 (blue 60, green 30)
    endpoint.yml: name: expected a name, found nothing
    "#);
}

#[test]
fn all_problems_of_a_deployment_are_told_at_once() {
    assert_snapshot!(deployment(&format!("{BLUE}instance_count: 0\nrequest_settings:\n  request_timeout: 3000\n")), @"
    code: 3
    --- stdout
    --- stderr
    error: blue.yml cannot be used as it stands:
    blue.yml:5:1: instance_count: expected 1 to 50, found 0
    blue.yml:7:3: request_settings.request_timeout: unknown key; did you mean `request_timeout_ms`?
    ");
}

#[test]
fn a_duplicate_key_is_refused() {
    assert_snapshot!(endpoint("name: iris\nname: digits\n"), @"
    code: 3
    --- stdout
    --- stderr
    error: endpoint.yml cannot be used as it stands:
    endpoint.yml:2:1: name: expected each key once, found it on line 1 already
    ");
}

#[test]
fn text_that_is_no_yaml_is_refused() {
    assert_snapshot!(endpoint("name: [iris\n"), @"
    code: 3
    --- stdout
    --- stderr
    error: endpoint.yml cannot be used as it stands:
    endpoint.yml:1:7: expected YAML: unclosed bracket '['
    ");
}

#[test]
fn an_empty_file_is_refused() {
    assert_snapshot!(endpoint(""), @"
    code: 3
    --- stdout
    --- stderr
    error: endpoint.yml cannot be used as it stands:
    endpoint.yml: expected a mapping of keys to values, found nothing
    ");
}

#[test]
fn an_alias_bomb_is_refused() {
    let mut bomb = "name: iris\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let inner = vec![format!("*a{}", level - 1); 10].join(", ");
        writeln!(bomb, "a{level}: &a{level} [{inner}]").expect("text takes any text");
    }
    let said = endpoint(&bomb);
    assert!(said.starts_with("code: 3\n"), "{said}");
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let place = Place::new();
    place.write("endpoint.yml", b"name: \xff\xfe\n");
    assert_snapshot!(place.run("endpoint create --file endpoint.yml"), @"
    code: 3
    --- stdout
    --- stderr
    error: endpoint.yml: expected UTF-8 text, found another byte at offset 6
    ");
}
