//! `openapi_uri`: what a request to an endpoint looks like, told to who may send one.

use serde_json::Value;

use crate::server::with_blue;
use crate::support::{Place, get, repository};

/// The address and the key of the endpoint.
fn address_and_key(place: &Place) -> (String, String) {
    let address = place.ok("online-endpoint show -n iris --query openapi_uri -o tsv");
    let key = place.ok("online-endpoint get-credentials -n iris --query primaryKey -o tsv");
    (address.trim().to_owned(), key.trim().to_owned())
}

fn bearer(key: &str) -> String {
    format!("authorization: Bearer {key}\r\n")
}

#[test]
fn the_document_says_what_the_model_takes_and_gives() {
    let place = Place::new();
    let _server = place.serve();
    with_blue(&place);
    let (address, key) = address_and_key(&place);
    let (status, body) = get(&address, &bearer(&key));
    assert_eq!(status, 200, "{body}");
    let document: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(document["openapi"], "3.0.3");
    assert_eq!(document["info"]["title"], "iris");
    assert_eq!(document["info"]["version"], "blue");
    let score = &document["paths"]["/endpoints/iris/score"]["post"];
    assert_eq!(score["operationId"], "RunMLService");
    let schemas = &document["components"]["schemas"];
    let rows = &schemas["ServiceInput"]["properties"]["data"];
    assert_eq!(rows["items"]["items"]["type"], "number", "{rows}");
    let sample = std::fs::read_to_string(repository("models/digits/1/sample-request.json"));
    let sample: Value = serde_json::from_str(&sample.expect("a file")).expect("JSON");
    let width = sample["data"][0].as_array().map(Vec::len);
    assert_eq!(
        rows["items"]["minItems"].as_u64(),
        width.and_then(|width| u64::try_from(width).ok()),
        "{rows}"
    );
    let outputs = schemas["ServiceOutput"]["required"].as_array();
    assert!(outputs.is_some_and(|names| !names.is_empty()));
    let (status, body) = get(&format!("{address}?version=2"), &bearer(&key));
    assert_eq!(status, 404);
    assert!(body.contains("Swagger version [2] is not valid"), "{body}");
}

#[test]
fn the_document_is_for_who_may_score_and_of_the_deployment_that_is_asked_for() {
    let place = Place::new();
    let _server = place.serve();
    with_blue(&place);
    let (address, key) = address_and_key(&place);
    assert_eq!(get(&address, "").0, 401);
    assert_eq!(get(&address, &bearer("wrong")).0, 401);
    let nowhere = address.replace("iris", "none");
    assert_eq!(get(&nowhere, "").0, 401, "who has no key learns nothing");
    assert_eq!(get(&nowhere, &bearer(&key)).0, 404);
    let blue = place.read("blue.yml");
    place.write("green.yml", blue.replace("blue", "green"));
    place.ok("online-deployment create -f green.yml");
    let version = |more: &str| {
        let (status, body) = get(&address, &format!("{}{more}", bearer(&key)));
        let document: Value = serde_json::from_str(&body).expect("JSON");
        (status, document["info"]["version"].clone())
    };
    assert_eq!(version(""), (200, "blue".into()));
    assert_eq!(
        version("azureml-model-deployment: green\r\n"),
        (200, "green".into())
    );
    assert_eq!(
        version("azureml-model-deployment: red\r\n"),
        (404, Value::Null)
    );
    place.ok("online-endpoint update -n iris --traffic blue=10 green=90");
    assert_eq!(version(""), (200, "green".into()));
    let only = address.replace("/endpoints/iris", "");
    let (status, body) = get(&only, &bearer(&key));
    assert!(status == 200 && body.contains("\"/score\""), "{body}");
}
