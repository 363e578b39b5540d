//! Models of several files, and what becomes of their copies.

use std::fs;

use crate::mlp::Mlp;
use crate::scoring::deploy;
use crate::support::{Server, folder};

#[test]
fn a_file_with_external_weights_is_served_after_its_folder_has_gone() {
    let (data, source) = (folder(), folder());
    let mlp = Mlp {
        external: true,
        ..Mlp::of_megabytes(1)
    };
    mlp.write(source.path());
    let model = source.path().join("big.onnx");
    fs::rename(source.path().join("model.onnx"), &model).expect("renamed");
    let server = Server::start(data.path());
    deploy(&server, model.to_str().expect("UTF-8"), "");
    let key = server.key("iris");
    let before = server.score("iris", &key, None, &mlp.request());
    assert_eq!(before.status, 200, "{}", before.body);
    assert_eq!(server.terminate(), Some(0));
    drop(source);
    let server = Server::start(data.path());
    let after = server.score("iris", &key, None, &mlp.request());
    assert_eq!((after.status, after.json()), (200, before.json()));
}
