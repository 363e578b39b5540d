//! What should be, over time and on several servers: `history`, `rollback`, `endpoint diff`, `apply`, `convert`.

use insta::assert_snapshot;
use serde_json::Value;

use crate::server::with_blue;
use crate::support::{Place, repository};

fn json(place: &Place, line: &str) -> Value {
    serde_json::from_str(&place.ok(line)).expect("JSON is printed")
}

/// The deployment's model as the server runs it.
fn digest(place: &Place, deployment: &str) -> Value {
    let line = format!("deployment show {deployment} -e iris --detail --query model_digest");
    json(place, &line)
}

#[test]
fn each_change_is_told_with_who_when_what_from_and_to_and_how_it_ended() {
    let place = Place::new();
    let server = place.serve();
    with_blue(&place);
    place.ok("online-deployment update -n blue -e iris --set instance_count=2 tags.team=ml");
    place.write("bad.onnx", "no model");
    place.write(
        "bad.yml",
        "name: bad\nendpoint_name: iris\nmodel: bad.onnx\ninstance_type: Standard_F2s_v2\n",
    );
    place.run("deployment create -f bad.yml");
    place.ok("endpoint regenerate-keys iris");
    drop(server);
    let _server = place.serve();
    let all = json(&place, "history");
    let entries = all.as_array().expect("a list");
    let of = |what: &str| {
        let found = entries.iter().find(|one| {
            one["what"]
                .as_str()
                .is_some_and(|text| text.starts_with(what))
        });
        found.unwrap_or_else(|| panic!("{what} in {all:#}"))
    };
    let update = of("update deployment iris/blue");
    assert_eq!(update["by"], "ann");
    assert_eq!(update["provisioning_state"], "Succeeded");
    assert_eq!(update["endpoint"], "iris");
    assert!(update["at"].as_str().is_some_and(|at| at.ends_with('Z')));
    let changed = update["changed"].as_array().expect("a list");
    let values = |path: &str| {
        let one = changed
            .iter()
            .find(|one| one["path"] == path)
            .expect("it changed");
        (one["from"].clone(), one["to"].clone())
    };
    assert_eq!(
        values("deployments.blue.instance_count"),
        (1.into(), 2.into())
    );
    assert_eq!(
        values("deployments.blue.tags.team"),
        (Value::Null, "ml".into())
    );
    assert_eq!(changed.len(), 2, "{update:#}");
    let bad = of("create deployment iris/bad");
    assert_eq!(bad["provisioning_state"], "Failed");
    assert!(
        bad["why"]
            .as_str()
            .is_some_and(|why| why.contains("is not an ONNX model"))
    );
    assert_eq!(bad["changed"][0]["path"], "deployments.bad");
    assert_eq!(
        of("regenerate primary key")["changed"][0]["path"],
        "primary_key"
    );
    assert_eq!(of("register model digits:1")["changed"], Value::Null);
    let table = place.ok("history iris -o table --last 3");
    assert!(
        table.contains("deployments.blue.instance_count: 1 -> 2; "),
        "{table}"
    );
    assert_eq!(json(&place, "history --last 2 --query length(@)"), 2);
    assert_eq!(json(&place, "history nobody"), Value::Array(Vec::new()));
}

#[test]
fn a_revision_that_comes_back_has_its_split_its_deployments_and_the_content_of_their_models() {
    let place = Place::new();
    let server = place.serve();
    with_blue(&place);
    let first = digest(&place, "blue");
    let good = json(&place, "status --query revision");
    let key = place.ok("endpoint get-credentials iris --query primaryKey -o tsv");
    place.ok("endpoint regenerate-keys iris");
    place.write(
        "blue2.yml",
        place
            .read("blue.yml")
            .replace("azureml:digits:1", &other_model()),
    );
    place.ok("deployment update -f blue2.yml");
    assert_ne!(digest(&place, "blue"), first);
    place.write(
        "green.yml",
        place.read("blue2.yml").replace("name: blue", "name: green"),
    );
    place.ok("deployment create -f green.yml");
    place.ok("endpoint update -n iris --traffic blue=40 green=60 --set description=later");
    drop(server);
    let _server = place.serve();
    let told = place.run(&format!("rollback --to {good}"));
    assert!(told.starts_with("code: 0\n"), "{told}");
    for part in [
        "iris: deployments.green: {\"instance_count\":",
        "iris: description: later -> none",
        "iris: traffic.blue: 40 -> 100",
        "note: endpoint iris is as of revision",
    ] {
        assert!(told.contains(part), "{part:?} in\n{told}");
    }
    let iris = json(&place, "endpoint show iris");
    assert_eq!(iris["traffic"], serde_json::json!({"blue": 100}));
    assert_eq!(iris["deployments"].as_array().map(Vec::len), Some(1));
    assert!(iris["description"].is_null(), "{iris:#}");
    assert_eq!(digest(&place, "blue"), first);
    let now = place.ok("endpoint get-credentials iris --query primaryKey -o tsv");
    assert_ne!(now, key, "a key that was given up opens nothing again");
    let sample = repository("models/digits/1/sample-request.json");
    place.ok(&format!("endpoint invoke iris -r {}", sample.display()));
    let again = place.run(&format!("rollback iris --to {good}"));
    assert!(
        again.contains("nothing to do: all of it is as of revision"),
        "{again}"
    );
    let last = json(&place, "history --last 1");
    assert_eq!(
        last[0]["what"],
        format!("roll back endpoint iris to revision {good}")
    );
}

/// A registered form of another model would do as well; a path is copied.
fn other_model() -> String {
    repository("models/digits/2/model.onnx")
        .display()
        .to_string()
}

#[test]
fn what_cannot_come_back_is_refused_in_words() {
    let place = Place::new();
    let _server = place.serve();
    with_blue(&place);
    assert_snapshot!(place.run("rollback --to 99"), @r#"
    code: 4
    --- stdout
    --- stderr
    error: revision "99" does not exist
    "#);
    place.ok("endpoint create --name later");
    let good = json(&place, "status --query revision")
        .as_u64()
        .expect("a number")
        - 1;
    let told = place.run(&format!("rollback --to {good}"));
    assert!(
        told.contains("note: endpoint later was made since, and stays"),
        "{told}"
    );
    let told = place.run(&format!("rollback later --to {good}"));
    assert!(told.starts_with("code: 4\n"), "{told}");
    // A model given by its path, whose content is gone and whose file is another by now.
    let first = std::fs::read(other_model()).expect("a model");
    let second = std::fs::read(repository("models/digits/1/model.onnx")).expect("a model");
    place.write("m.onnx", &first);
    place.write(
        "red.yml",
        "name: red\nendpoint_name: iris\nmodel: m.onnx\ninstance_type: Standard_F2s_v2\n",
    );
    place.ok("deployment create -f red.yml");
    let with_first = json(&place, "status --query revision");
    let gone = digest(&place, "red");
    let gone = gone
        .as_str()
        .expect("a digest")
        .trim_start_matches("sha256:")
        .to_owned();
    assert!(place.path("../data/models/sha256").join(&gone).exists());
    place.write("m.onnx", &second);
    place.ok("deployment update -f red.yml");
    let models = place.path("../data/models/sha256");
    crate::support::until("the first content is gone", || {
        // What nothing refers to goes with the next change.
        place.ok("endpoint update -n iris --set description=another");
        (!models.join(&gone).exists()).then_some(())
    });
    let refused = place.run(&format!("rollback iris --to {with_first}"));
    assert!(refused.starts_with("code: 3\n"), "{refused}");
    assert!(
        refused.contains("the files of its model as of revision"),
        "{refused}"
    );
    place.write("m.onnx", &first);
    place.ok(&format!("rollback iris --to {with_first}"));
}

#[test]
fn a_file_says_what_it_would_change_and_changes_nothing() {
    let place = Place::new();
    let _server = place.serve();
    with_blue(&place);
    let revision = place.ok("status --query revision");
    assert_eq!(
        place.ok("endpoint diff -f blue.yml"),
        "nothing would change\n"
    );
    place.write(
        "blue.yml",
        place.read("blue.yml") + "instance_count: 3\ntags: {team: ml}\n",
    );
    assert_snapshot!(place.run("endpoint diff -f blue.yml"), @"
    code: 0
    --- stdout
    what                             from  to
    -------------------------------  ----  --
    deployments.blue.instance_count  1     3
    deployments.blue.tags.team             ml
    --- stderr
    ");
    place.write("iris.yml", "name: iris\ntraffic: {blue: 50, green: 50}\n");
    let refused = place.run("endpoint diff -f iris.yml");
    assert!(
        refused.starts_with("code: 3\n") && refused.contains("green"),
        "{refused}"
    );
    place.write("new.yml", "name: new\ndescription: another\n");
    let told = json(&place, "endpoint diff -f new.yml -o json");
    assert_eq!(told[0]["endpoint"], "new");
    assert_eq!(told[0]["changed"][0]["path"], "endpoint");
    assert_eq!(place.ok("status --query revision"), revision);
    assert!(place.run("endpoint show new").starts_with("code: 4\n"));
}

#[test]
fn files_are_made_so_on_several_servers_and_what_is_so_already_is_left_alone() {
    let (one, other) = (Place::new(), Place::new());
    let (_first, _second) = (one.serve(), other.serve());
    let model = repository("models/digits/1/model.onnx");
    one.write(
        "iris.yml",
        "name: iris\ndescription: flowers\ntraffic: {blue: 100}\n",
    );
    one.write(
        "blue.yml",
        format!(
            "name: blue\nendpoint_name: iris\nmodel: {}\ninstance_type: Standard_F2s_v2\n",
            model.display()
        ),
    );
    let folders = [one.path("../data"), other.path("../data")];
    let servers: Vec<_> = folders
        .iter()
        .map(|folder| format!("--server {}", folder.display()))
        .collect();
    let apply = format!("apply -f iris.yml -f blue.yml {}", servers.join(" "));
    let told = json(&one, &apply);
    assert_eq!(told.as_array().map(Vec::len), Some(2), "{told:#}");
    for outcome in told.as_array().expect("a list") {
        assert_eq!(
            (&outcome["result"], &outcome["revision"]),
            (&"Succeeded".into(), &1.into())
        );
    }
    for place in [&one, &other] {
        assert_eq!(json(place, "endpoint show iris")["traffic"]["blue"], 100);
    }
    let again = json(&one, &apply);
    for outcome in again.as_array().expect("a list") {
        assert_eq!(
            (&outcome["result"], &outcome["revision"]),
            (&"unchanged".into(), &1.into())
        );
    }
    // One of them went its own way, and is brought back.
    other.ok("endpoint update -n iris --set description=other");
    let back = json(&one, &apply);
    let of_other = back
        .as_array()
        .expect("a list")
        .iter()
        .find(|one| one["result"] == "Succeeded");
    assert_eq!(
        of_other.expect("one has changed")["revision"],
        3,
        "{back:#}"
    );
    // With a new deployment and its traffic in two files.
    one.write(
        "green.yml",
        one.read("blue.yml").replace("name: blue", "name: green"),
    );
    one.write(
        "iris.yml",
        one.read("iris.yml")
            .replace("blue: 100", "blue: 90, green: 10"),
    );
    one.ok(&format!("{apply} -f green.yml"));
    assert_eq!(json(&other, "endpoint show iris")["traffic"]["green"], 10);
    // Where one refuses nothing is done to any.
    let before = one.ok("status --query revision");
    other.ok("endpoint create -n only-here");
    one.write("bad.yml", "name: bad\nendpoint_name: only-here\nmodel: azureml:none:1\ninstance_type: Standard_F2s_v2\n");
    let refused = one.run(&format!("apply -f bad.yml {}", servers.join(" ")));
    assert!(!refused.starts_with("code: 0\n"), "{refused}");
    assert_eq!(one.ok("status --query revision"), before);
}

#[test]
fn a_file_of_any_generation_is_printed_in_the_form_of_today_and_means_the_same() {
    let place = Place::new();
    let _server = place.serve();
    place.write(
        "m.onnx",
        std::fs::read(repository("models/digits/1/model.onnx")).expect("a model"),
    );
    place.write(
        "old.yml",
        "$schema: http://azureml/sdk-2-0/OnlineEndpoint.json\nname: myEndpoint\ntype: OnlineEndpoint\nauth_mode: aml_token\n\
         traffic: {blue: 100}\ndeployments:\n  blue:\n    model: ./m.onnx\n    sku: Standard_FS4_v2\n    scale: {scale_type: manual, instance_count: 2, min_instances: 1, max_instances: 5}\n    request: {request_timeout_ms: 3000, max_concurrent_requests_per_instance: 1}\n",
    );
    let printed = place.ok("convert old.yml");
    assert_snapshot!(printed, @r#"
    "$schema": https://azuremlschemas.azureedge.net/latest/managedOnlineEndpoint.schema.json
    name: myEndpoint
    auth_mode: aml_token
    traffic:
      blue: 100
    ---
    "$schema": https://azuremlschemas.azureedge.net/latest/managedOnlineDeployment.schema.json
    name: blue
    endpoint_name: myEndpoint
    model:
      path: "./m.onnx"
    instance_type: Standard_F4s_v2
    instance_count: 2
    request_settings:
      request_timeout_ms: 3000
      max_concurrent_requests_per_instance: 1
    properties:
      min_instances: "1"
      max_instances: "5"
    "#);
    place.ok("convert old.yml --folder new");
    let files = ["-f new/endpoint.yml", "-f new/blue-deployment.yml"];
    // The paths of the new files are seen from their folder.
    place.write(
        "new/m.onnx",
        std::fs::read(place.path("m.onnx")).expect("a model"),
    );
    place.ok(&format!("apply {}", files.join(" ")));
    let blue = json(&place, "online-deployment show -n blue -e myendpoint");
    assert_eq!(blue["instance_count"], 2);
    assert_eq!(blue["request_settings"]["request_timeout_ms"], 3000);
    let told = place.run("convert old.yml --folder new");
    assert!(told.starts_with("code: 3\n"), "{told}");
}

#[test]
fn an_edit_of_what_has_changed_meanwhile_is_refused_and_who_has_no_name_is_the_user_of_the_machine()
{
    let place = Place::new();
    let _server = place.serve();
    with_blue(&place);
    let mut command = place.command();
    command
        .env_remove("USER")
        .args(["endpoint", "update", "-n", "iris", "--add", "tags", "a=b"]);
    assert!(command.output().expect("it runs").status.success());
    let by = place.ok("history --last 1 --query [0].by -o tsv");
    assert!(
        !by.trim().is_empty() && by.trim() != "admin" && by.trim() != "ann",
        "{by}"
    );
}
