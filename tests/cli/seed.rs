//! The seven steps of the canary flow that serin was made for, verbatim but for the name of the tool.

use crate::support::{Place, repository};

/// Every command of the flow, in order.
const COMMANDS: [&str; 11] = [
    "endpoint create --file ../configs/online-endpoint/mir/standard/managed-1-create-OnlineEndpoint.yaml",
    "endpoint update --name myEndpoint --deployment blue --deployment-file ../configs/online-endpoint/mir/standard/managed-2-blue-OnlineDeployment.yaml",
    "endpoint update --name myEndpoint --traffic 'blue:100'",
    "endpoint update --name myEndpoint --deployment blue --instance-count 5",
    "endpoint update --name myEndpoint --set deployments.blue.scale.instance_count=5",
    "endpoint update --name myEndpoint --deployment green --deployment-file ../configs/online-endpoint/mir/standard/managed-3-green-OnlineDeployment.yaml",
    "endpoint invoke --name myEndpoint --deployment green --request-file ../configs/online-endpoint/sample-request.json",
    "endpoint update --name myEndpoint --traffic 'blue:90,green:10'",
    "endpoint update --name myEndpoint --traffic 'blue:0,green:100'",
    "endpoint delete --deployment blue",
    "endpoint delete --name myEndpoint",
];

/// What the flow's deployments name beside their models. It asks for no package, so none is fetched.
const ENVIRONMENT: &str = "name: none\ndependencies:\n  - python>=3.8\n";

/// The script of both versions: says which files the model has.
const SCRIPT: &str = "\
import os

def init():
    global files
    folder = os.environ['AZUREML_MODEL_DIR']
    files = sorted(name for _, _, names in os.walk(folder, followlinks=True) for name in names)

def run(data):
    return {'files': files, 'bytes': len(data)}
";

#[test]
fn the_seed_plays_from_end_to_end() {
    let place = Place::new();
    let _server = place.serve();
    for file in [
        "managed-1-create-OnlineEndpoint.yaml",
        "managed-2-blue-OnlineDeployment.yaml",
        "managed-3-green-OnlineDeployment.yaml",
    ] {
        let text = std::fs::read(repository("tests/fixtures/seed").join(file)).expect("a fixture");
        let path = format!("../configs/online-endpoint/mir/standard/{file}");
        place.write(&path, text);
    }
    let sample = repository("models/digits/2/sample-request.json");
    let request = std::fs::read(sample).expect("a sample");
    place.write("../configs/online-endpoint/sample-request.json", request);
    for version in ["1", "2"] {
        let src = "../configs/online-endpoint/mir/standard/src/onlinescoring";
        place.write(&format!("{src}/m{version}/score.py"), SCRIPT);
        place.write(&format!("{src}/env_m{version}.yaml"), ENVIRONMENT);
        let path = repository("models/digits").join(version);
        place.ok(&format!(
            "model create --name my-model-m{version} --version 1 --path {}",
            path.display()
        ));
    }
    let said: Vec<String> = COMMANDS
        .iter()
        .map(|command| place.ok_with(command, "y\n"))
        .collect();
    let endpoint = |step: usize| -> serde_json::Value {
        serde_json::from_str(&said[step]).expect("an endpoint is printed as JSON")
    };
    let blue = |step: usize| endpoint(step)["deployments"][0].clone();
    assert_eq!(endpoint(0)["auth_mode"], "aml_token");
    assert_eq!(blue(1)["instance_count"], 3);
    assert_eq!(blue(1)["provisioning_state"], "Succeeded");
    assert_eq!(blue(1)["name"], "blue");
    assert_eq!(blue(3)["instance_count"], 5);
    assert_eq!(blue(4)["instance_count"], 5);
    assert_eq!(endpoint(5)["traffic"]["green"], 0);
    assert!(said[6].contains("model.onnx"), "{}", said[6]);
    assert_eq!(endpoint(7)["traffic"]["blue"], 90);
    assert_eq!(endpoint(8)["traffic"]["green"], 100);
    assert_eq!(place.ok("endpoint list").trim(), "[]");
}
