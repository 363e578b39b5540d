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
    assert_snapshot!(endpoint(&bomb), @"
    code: 3
    --- stdout
    --- stderr
    error: endpoint.yml cannot be used as it stands:
    endpoint.yml:5:45: expected aliases that stand for at most 10000 values, found more
    ");
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

#[test]
fn names_out_of_bounds_are_refused_where_they_stand() {
    let long = "a".repeat(33);
    assert_snapshot!(endpoint(&format!("name: {long}\n")), @r#"
    code: 3
    --- stdout
    --- stderr
    error: endpoint.yml cannot be used as it stands:
    endpoint.yml:1:1: name: expected 3 to 32 letters, digits and dashes, from a letter to a letter or digit, found "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    "#);
    assert_snapshot!(deployment("name: my_blue\nendpoint_name: it\nmodel: azureml:-iris:1\ninstance_type: 4\n"), @r#"
    code: 3
    --- stdout
    --- stderr
    error: blue.yml cannot be used as it stands:
    blue.yml:1:1: name: expected 3 to 32 letters, digits and dashes, from a letter to a letter or digit, found "my_blue"
    blue.yml:2:1: endpoint_name: expected 3 to 32 letters, digits and dashes, from a letter to a letter or digit, found "it"
    blue.yml:3:1: model: name of the model: expected 1 to 255 letters, digits, dots, dashes and underscores, from a letter or digit, found "-iris"
    "#);
}

#[test]
fn shares_out_of_bounds_are_refused_where_they_stand() {
    assert_snapshot!(endpoint("name: iris\ntraffic:\n  blue: 110\n  green: -10\n"), @"
    code: 3
    --- stdout
    --- stderr
    error: endpoint.yml cannot be used as it stands:
    endpoint.yml:3:3: traffic.blue: expected a percent from 0 to 100 with at most two decimals, found 110
    endpoint.yml:4:3: traffic.green: expected a percent from 0 to 100 with at most two decimals, found -10
    ");
    assert_snapshot!(endpoint("name: iris\ntraffic: {blue: 99.999, green: 0.001}\n"), @"
    code: 3
    --- stdout
    --- stderr
    error: endpoint.yml cannot be used as it stands:
    endpoint.yml:2:11: traffic.blue: expected a percent from 0 to 100 with at most two decimals, found 99.999
    endpoint.yml:2:25: traffic.green: expected a percent from 0 to 100 with at most two decimals, found 0.001
    ");
}

#[test]
fn all_problems_of_a_model_file_are_told_at_once() {
    let place = Place::new();
    place.write(
        "model.yml",
        "nam: digits\nversion: 1\npath: model.onnx\ntype: openai_model\n",
    );
    assert_snapshot!(place.run("model create --file model.yml"), @r#"
    code: 3
    --- stdout
    --- stderr
    error: model.yml cannot be used as it stands:
    model.yml:1:1: nam: unknown key; did you mean `name`?
    model.yml:4:1: type: expected custom_model or custom or mlflow_model or mlflow or triton_model or triton, found "openai_model"; serin scores ONNX files
    model.yml: name: expected a name, found nothing
    "#);
}

#[test]
fn a_model_file_that_names_no_model_is_refused() {
    let place = Place::new();
    place.write(
        "models/model.yml",
        "name: digits\nversion: 1\npath: model.onnx\n",
    );
    assert_snapshot!(place.run("model create --file models/model.yml"), @r#"
    code: 3
    --- stdout
    --- stderr
    error: cannot read "models/model.onnx"
    caused by: No such file or directory (os error 2)
    "#);
}

#[test]
fn own_instance_types_stand_beside_the_built_in_ones() {
    let place = Place::new();
    place.write(
        "skus.yml",
        "skus:\n  half-core: {vcpus: 1, memory_gib: 0.5}\n",
    );
    assert_snapshot!(place.run("sku show HALF-core --skus skus.yml -o table"), @"
    code: 0
    --- stdout
    name       vcpus  memory_mib  gpus
    ---------  -----  ----------  ----
    half-core  1      512         0
    --- stderr
    ");
    let listed = place.ok("sku list --skus skus.yml -o tsv");
    assert!(
        listed.contains("half-core\t1\t512\t0\tTrue\tNone\n"),
        "{listed}"
    );
    assert!(listed.contains("Standard_FS4_v2\t"), "{listed}");
    place.write(
        "skus.yml",
        "skus:\n  standard_f4S_v2: {vcpus: 0, memory: 1}\n",
    );
    assert_snapshot!(place.run("sku list --skus skus.yml"), @"
    code: 3
    --- stdout
    --- stderr
    error: skus.yml cannot be used as it stands:
    skus.yml:2:3: skus.standard_f4S_v2: expected a name of its own, found one that is taken
    skus.yml:2:3: skus.standard_f4S_v2.memory_gib: expected memory in GiB, found nothing
    skus.yml:2:21: skus.standard_f4S_v2.vcpus: expected 1 to 4096, found 0
    skus.yml:2:31: skus.standard_f4S_v2.memory: unknown key; did you mean `memory_gib`?
    ");
}
