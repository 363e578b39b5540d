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

#[test]
fn the_document_of_a_script_says_what_its_decorators_declare() {
    let place = Place::new();
    let _server = place.serve();
    place.ok("endpoint create --name iris");
    // What Azure's package has of it is compared with the real one in the tests of the harness.
    let package = "src/inference_schema";
    place
        .write("model.pkl", "weights")
        .write(&format!("{package}/__init__.py"), "")
        .write(
            &format!("{package}/schema_util.py"),
            "def is_schema_decorated(run):\n    return True\n\n\n\
             def get_input_schema(run):\n    return {'type': 'object', 'properties': {'flower': {'type': 'string'}}}\n\n\n\
             def get_output_schema(run):\n    return {'type': 'integer', 'example': 1}\n",
        )
        .write(
            "src/score.py",
            "import inference_schema.schema_util\n\n\ndef init():\n    pass\n\n\ndef run(flower):\n    return len(flower)\n",
        )
        .write(
            "blue.yml",
            "name: blue\nendpoint_name: iris\nmodel: {path: model.pkl}\ninstance_type: Standard_F2s_v2\n\
             code_configuration: {code: src, scoring_script: score.py}\n",
        );
    place.ok("deployment create --file blue.yml --all-traffic");
    let (address, key) = address_and_key(&place);
    let (status, body) = get(&address, &bearer(&key));
    let document: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(status, 200, "{body}");
    let schemas = &document["components"]["schemas"];
    assert_eq!(
        schemas["ServiceInput"]["properties"]["flower"]["type"],
        "string"
    );
    assert_eq!(schemas["ServiceOutput"]["example"], 1);
    // Another deployment says nothing of itself, and its document lets everything through.
    let silent = "def init():\n    pass\n\n\ndef run(data):\n    return 1\n";
    let green = place.read("blue.yml").replace("blue", "green");
    place
        .write("src/score.py", silent)
        .write("green.yml", green);
    place.ok("deployment create --file green.yml");
    let named = format!("{}azureml-model-deployment: green\r\n", bearer(&key));
    let (_, body) = get(&address, &named);
    let document: Value = serde_json::from_str(&body).expect("JSON");
    let request = &document["components"]["schemas"]["ServiceInput"];
    assert_eq!(*request, serde_json::json!({}), "{body}");
}
