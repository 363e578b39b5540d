//! What `serin model create` takes along, what it keeps as it is, and what it refuses.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;

use insta::assert_snapshot;
use serde_json::Value;

use crate::support::{Place, repository};

/// A field of ONNX's protobuf that holds less than 128 bytes.
fn field(number: u8, value: &[u8]) -> Vec<u8> {
    let length = u8::try_from(value.len()).expect("less than 128 bytes");
    [&[number << 3 | 2, length], value].concat()
}

/// A model whose tensor `w` is the first 8 bytes of a file. It can be registered, not run.
fn with_data_in(location: &str) -> Vec<u8> {
    let entry = |key: &str, value: &str| {
        field(
            13,
            &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat(),
        )
    };
    // The last field says that the bytes are external.
    let tensor = [
        field(8, b"w"),
        entry("location", location),
        entry("length", "8"),
        vec![14 << 3, 1],
    ];
    // The first field is the version of the format.
    [vec![1 << 3, 8], field(7, &field(5, &tensor.concat()))].concat()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn a_model_comes_with_its_data_as_a_file_and_as_a_folder() {
    let place = Place::new();
    let _server = place.serve();
    place.write("m/model.onnx", with_data_in("model.onnx_data"));
    place.write("m/model.onnx_data", "12345678");
    let shown = json(&place.ok("model create --name file --path m/model.onnx -o json"));
    let both = with_data_in("model.onnx_data").len() + 8;
    assert_eq!(shown["size_bytes"], both);
    // The same content: the version is known already.
    place.ok("model create --name file --version 1 --path m");
    // The data lie beside the link, not beside what it leads to.
    place.write("blobs/0001", with_data_in("link.onnx_data"));
    symlink(place.path("blobs/0001"), place.path("link.onnx")).expect("a link");
    place.write("link.onnx_data", "12345678");
    place.ok("model create --name link --path link.onnx");
}

#[test]
fn a_model_whose_data_are_not_there_is_refused() {
    let place = Place::new();
    let _server = place.serve();
    place.write("x.onnx", with_data_in("x.onnx_data"));
    assert_snapshot!(place.run("model create --name x --path x.onnx"), @r#"
    code: 3
    --- stdout
    --- stderr
    error: cannot register model x from x.onnx
    caused by: [folder]/cli/x.onnx keeps its tensor "w" in "x.onnx_data", which is not beside it: put that file into [folder]/cli, or export the model with its data inside
    "#);
    place.write("x.onnx_data", "1234");
    assert_snapshot!(place.run("model create --name x --path x.onnx"), @r#"
    code: 3
    --- stdout
    --- stderr
    error: cannot register model x from x.onnx
    caused by: [folder]/cli/x.onnx_data has 4 bytes, and [folder]/cli/x.onnx keeps its tensor "w" in bytes 0 to 8 of it: copy it again, or export the model anew
    "#);
    place.write("w.bin", "12345678");
    place.write("m/x.onnx", with_data_in("../w.bin"));
    assert_snapshot!(place.run("model create --name x --path m"), @r#"
    code: 3
    --- stdout
    --- stderr
    error: cannot register model x from m
    caused by: [folder]/cli/m/x.onnx keeps its tensor "w" in "../w.bin", which leads out of [folder]/cli/m: put the data itself there, and name it in the model by its path from there
    "#);
    place.write("l/x.onnx", with_data_in("w.bin"));
    symlink(place.path("w.bin"), place.path("l/w.bin")).expect("a link");
    assert_snapshot!(place.run("model create --name x --path l/x.onnx"), @r#"
    code: 3
    --- stdout
    --- stderr
    error: cannot register model x from l/x.onnx
    caused by: [folder]/cli/l/x.onnx keeps its tensor "w" in "w.bin", which leads out of [folder]/cli/l: put the data itself there, and name it in the model by its path from there
    "#);
    place.ok("endpoint create --name iris");
    place.write(
        "blue.yml",
        "name: blue\nendpoint_name: iris\nmodel: m\ninstance_type: Standard_F2s_v2\n",
    );
    assert_snapshot!(place.run("deployment create --file blue.yml"), @r#"
    code: 3
    --- stdout
    --- stderr
    error: cannot create deployment iris/blue
    caused by: model: [folder]/cli/m/x.onnx keeps its tensor "w" in "../w.bin", which leads out of [folder]/cli/m: put the data itself there, and name it in the model by its path from there
    "#);
    assert_eq!(place.ok("model list -o tsv"), "");
}

#[test]
fn what_is_in_a_model_is_shown_without_a_server_and_with_one() {
    let place = Place::new();
    let model = repository("models/test/quantised.onnx");
    place.write("model.onnx", fs::read(model).expect("a test model"));
    place.write("no.onnx", "no model");
    assert_snapshot!(place.run("model show --path model.onnx -o table"), @"
    code: 0
    --- stdout
    path
    ----------
    model.onnx

            name    type     shape
    ------  ------  -------  ------
    input   data    float32  [?, 2]
    output  scaled  float32  [?, 2]

    ir_version  8
    opsets      ai.onnx 17, ai.onnx.ml 3
    parameters  4
    file_bytes  283
    operators   Cast 1, DynamicQuantizeLinear 1, MatMulInteger 1, Mul 1

    rows: not proven independent: DynamicQuantizeLinear takes its scale from all rows together (node 0)
    work: follows from the shapes of a request
    values: none is known or suspected to end the process
    --- stderr
    ");
    assert_snapshot!(place.run("model show --path no.onnx"), @"
    code: 3
    --- stdout
    --- stderr
    error: cannot read the model in no.onnx: the file is not an ONNX model, or only a part of one
    ");
    let alone = json(&place.ok("model show --path model.onnx"));
    let _server = place.serve();
    place.ok("model create --name q --path model.onnx");
    let shown = json(&place.ok("model show --name q"));
    assert_eq!(shown["graph"], alone["graph"]);
    assert_eq!(shown["graph"]["inputs"][0]["shape"][1], "2");
    assert_eq!(shown["version"], "1");
    let training = repository("models/test/training.onnx");
    let shown = place.ok(&format!(
        "model show --path {} -o table",
        training.display()
    ));
    let said = shown.lines().last();
    assert_eq!(
        said,
        Some("training: BatchNormalization is in training mode (node 0)")
    );
}

#[test]
fn a_model_that_is_no_onnx_is_registered_and_not_run_natively() {
    let place = Place::new();
    let _server = place.serve();
    place.write("model.pkl", "a pickle");
    place.write("folder/a.json", "{}");
    place.ok("model create --name pickle --path model.pkl");
    let shown = json(&place.ok("model show --name pickle -o json"));
    assert_eq!(shown["without_onnx"][0], "model.pkl");
    place.ok("model create --name folder --path folder");
    place.ok("endpoint create --name iris");
    place.write(
        "blue.yml",
        "name: blue\nendpoint_name: iris\nmodel: azureml:pickle:1\ninstance_type: Standard_F2s_v2\n",
    );
    assert_snapshot!(place.run("deployment create --file blue.yml"), @"
    code: 3
    --- stdout
    --- stderr
    error: cannot create deployment iris/blue
    caused by: deployment blue: model: model pickle:1 holds no ONNX file (it has model.pkl): a native deployment needs `model.onnx`, or exactly one `.onnx` file, at its top
    ");
}

#[test]
fn a_name_that_is_not_utf8_is_told() {
    let place = Place::new();
    let _server = place.serve();
    place.write("m/model.onnx", "m");
    let name = OsStr::from_bytes(b"w\xff.bin");
    fs::write(place.path("m").join(name), "w").expect("a file");
    assert_snapshot!(place.run("model create --name m --path m"), @r#"
    code: 3
    --- stdout
    --- stderr
    error: cannot register model m from m
    caused by: the name of "[folder]/cli/m/w\xFF.bin" is not UTF-8: rename it
    "#);
    let model = OsStr::from_bytes(b"\xff.onnx");
    fs::write(place.path("m").join(model), "m").expect("a file");
    let create = ["model", "create", "--name", "m", "--path"];
    let refused = place
        .command()
        .args(create)
        .arg(place.path("m").join(model))
        .output();
    let refused = refused.expect("the serin binary runs");
    // What is typed is refused before any file is looked at.
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        said.contains("expected a path of UTF-8 text, found "),
        "{said}"
    );
}
