//! Smaller habits of `az ml` and of who types it: flags that come twice, old spellings, files that say a part, hints, help.

use serde_json::Value;

use crate::server::with_blue;
use crate::support::{Place, repository};

fn json(place: &Place, line: &str) -> Value {
    serde_json::from_str(&place.ok(line)).expect("JSON is printed")
}

/// What is said where a line is refused as a wrong command line.
#[track_caller]
fn refused(place: &Place, line: &str) -> String {
    let text = place.run(line);
    assert!(text.starts_with("code: 2\n"), "serin {line}\n{text}");
    text
}

#[test]
fn of_a_flag_that_is_given_twice_the_last_counts() {
    let place = Place::new();
    let _server = place.serve();
    with_blue(&place);
    assert_eq!(
        place.ok(
            "online-endpoint show -n nobody --name iris --query id --query name -o json -o tsv"
        ),
        "iris\n"
    );
    let both = "online-deployment update -n red -n blue -e iris --set tags.a=1 --set tags.b=2 --no-wait --no-wait";
    place.ok(both);
    let tags = json(
        &place,
        "online-deployment show -n blue -e iris --query tags",
    );
    assert_eq!(tags, serde_json::json!({"a": "1", "b": "2"}));
}

#[test]
fn what_batch_endpoints_have_and_the_short_form_of_web_is_refused_in_words() {
    let place = Place::new();
    for (line, words) in [
        (
            "online-endpoint create -n iris -e",
            "-e (--web): serin has no page in a browser",
        ),
        (
            "online-endpoint show -n iris -e",
            "-e (--web): serin has no page",
        ),
        (
            "online-deployment show -n a1b -e iris --web",
            "--web: serin has no page",
        ),
        (
            "endpoint invoke -n iris --input-path azureml:x",
            "--input-path: batch endpoints are not served here",
        ),
        (
            "endpoint invoke -n iris -i data -c 5",
            "batch endpoints are not served here",
        ),
        (
            "endpoint invoke -n iris -r a.json --set a=1",
            "--set: batch endpoints",
        ),
        ("endpoint list-jobs -n iris", "list-jobs: batch endpoints"),
        (
            "endpoint show -n iris -t batch",
            "--type batch: batch endpoints",
        ),
        (
            "online-deployment create -f a.yml --package-model",
            "--package-model: serin packs no images",
        ),
    ] {
        let told = refused(&place, line);
        assert!(told.contains(words), "{line}\n{told}");
    }
}

#[test]
fn spellings_of_before_are_understood() {
    let place = Place::new();
    let _server = place.serve();
    with_blue(&place);
    let model = repository("models/digits/2/model.onnx");
    place.ok(&format!(
        "endpoint update -n iris --deployment blue --model {}",
        model.display()
    ));
    let now = place.ok("deployment show blue -e iris --query model -o tsv");
    assert!(now.contains("digits/2/model.onnx"), "{now}");
    let log =
        place.ok("endpoint log --name iris --deployment blue --tail 2 --container storage-init");
    assert_eq!(log.lines().count(), 2, "{log}");
    place.ok("endpoint create --name other --wait");
}

#[test]
fn who_made_something_and_when_is_shown_and_stays_through_a_restart() {
    let place = Place::new();
    let server = place.serve();
    with_blue(&place);
    let properties = json(&place, "online-endpoint show -n iris --query properties");
    assert_eq!(properties["createdBy"], "ann");
    let created = properties["createdAt"].clone();
    assert!(
        created.as_str().is_some_and(|at| at.ends_with('Z')),
        "{properties:#}"
    );
    let mut command = place.command();
    command
        .env("USER", "bob")
        .args(["endpoint", "update", "-n", "iris", "--set", "description=x"]);
    assert!(command.output().expect("it runs").status.success());
    drop(server);
    let _server = place.serve();
    let properties = json(&place, "online-endpoint show -n iris --query properties");
    assert_eq!(
        (&properties["createdBy"], &properties["createdAt"]),
        (&"ann".into(), &created)
    );
    assert!(
        properties["lastModifiedAt"].as_str() > created.as_str(),
        "{properties:#}"
    );
    let context = json(
        &place,
        "online-deployment show -n blue -e iris --query creation_context",
    );
    assert_eq!(context["created_by"], "ann");
    assert_eq!(context["created_by_type"], "User");
}

#[test]
fn notes_are_told_when_something_is_made() {
    let place = Place::new();
    let _server = place.serve();
    place.write("iris.yml", "name: iris\nauth_mode: aad_token\n");
    let told = place.run("online-endpoint create -f iris.yml");
    assert!(
        told.contains("note: auth_mode aad_token is taken as key"),
        "{told}"
    );
    let model = repository("models/digits/1/model.onnx");
    place.write(
        "blue.yml",
        format!(
            "name: blue\nendpoint_name: iris\nmodel: {}\ninstance_type: Standard_F2s_v2\nenvironment: {{image: x}}\n",
            model.display()
        ),
    );
    let told = place.run("online-deployment create -f blue.yml");
    assert!(
        told.starts_with("code: 0\n") && told.contains("note: environment"),
        "{told}"
    );
}

#[test]
fn a_placeholder_in_the_file_of_an_update_may_be_filled_in_on_the_command_line() {
    let place = Place::new();
    let _server = place.serve();
    with_blue(&place);
    place.write(
        "iris.yml",
        "name: <ENDPOINT_NAME>\nauth_mode: '{{MODE}}'\ntags: {team: ml}\n",
    );
    let told = place.run("endpoint update -f iris.yml -n iris");
    assert!(told.contains("found \"{{MODE}}\""), "{told}");
    place.ok("endpoint update -f iris.yml -n iris --set auth_mode=key description=flowers");
    let iris = json(&place, "endpoint show iris");
    assert_eq!(
        (&iris["description"], &iris["tags"]["team"]),
        (&"flowers".into(), &"ml".into())
    );
}

#[test]
fn a_home_folder_in_the_file_of_a_model_is_expanded() {
    let place = Place::new();
    let _server = place.serve();
    let digits = std::fs::read(repository("models/digits/1/model.onnx")).expect("a model");
    place.write("models/model.onnx", digits);
    place.write(
        "sub/model.yml",
        "name: digits\nversion: 1\npath: ~/cli/models/model.onnx\n",
    );
    let told = place.run("model create -f sub/model.yml");
    assert!(
        told.starts_with("code: 0\n")
            && told.contains(
                "note: ~/cli/models/model.onnx is taken as [folder]/cli/models/model.onnx"
            ),
        "{told}"
    );
}

#[test]
fn an_environment_is_found_by_the_id_that_is_printed_of_it() {
    let place = Place::new();
    let _server = place.serve();
    with_blue(&place);
    place.write("conda.yml", "name: e\ndependencies: [python=3.11]\n");
    place.write(
        "env.yml",
        "name: my-env\nversion: 3\nimage: example/base:1\nconda_file: conda.yml\n",
    );
    place.ok("environment create -f env.yml");
    let id = place.ok("environment show -n my-env --query id -o tsv");
    for reference in [id.trim().to_owned(), format!("azureml:{}", id.trim())] {
        place.write("blue.yml", format!("name: blue\nendpoint_name: iris\nmodel: azureml:digits:1\nenvironment: {reference}\ninstance_type: Standard_F2s_v2\n"));
        let environment = json(&place, "deployment update -f blue.yml --query environment");
        assert_eq!(environment["image"], "example/base:1", "{reference}");
    }
}

#[test]
fn a_file_that_says_a_part_changes_that_part() {
    let place = Place::new();
    let _server = place.serve();
    place.write("first.yml", "");
    with_blue(&place);
    place.ok("deployment update -n blue -e iris --set tags.team=ml request_settings.request_timeout_ms=3000 description=first");
    let before = json(&place, "deployment show blue -e iris --detail");
    place.write(
        "part.yml",
        "name: blue\nendpoint_name: iris\ninstance_count: 2\ntags: {stage: test}\nproperties: {}\ndescription: ''\nrequest_settings: {max_concurrent_requests_per_instance: 2}\n",
    );
    place.ok("deployment update -f part.yml");
    let after = json(&place, "deployment show blue -e iris --detail");
    assert_eq!(after["instance_count"], 2);
    assert_eq!(
        after["tags"],
        serde_json::json!({"stage": "test", "team": "ml"})
    );
    assert_eq!(after["request_settings"]["request_timeout_ms"], 3000);
    assert_eq!(
        after["request_settings"]["max_concurrent_requests_per_instance"],
        2
    );
    for same in ["model", "model_digest", "instance_type", "description"] {
        assert_eq!(after[same], before[same], "{same}");
    }
    // What is typed beats it, and what is wrong in it is refused by its place.
    place.ok("deployment update -f part.yml --set instance_count=1");
    assert_eq!(
        json(&place, "deployment show blue -e iris")["instance_count"],
        1
    );
    place.write(
        "part.yml",
        "name: blue\nendpoint_name: iris\ninstance_cuont: 2\n",
    );
    let told = place.run("deployment update -f part.yml");
    assert!(
        told.starts_with("code: 3\n") && told.contains("part.yml:3:1: instance_cuont"),
        "{told}"
    );
    assert!(!told.contains("stand-in"), "{told}");
    // A new deployment has nothing that could stay.
    let told = place.run("deployment create -f part.yml");
    assert!(told.contains("model"), "{told}");
}

#[test]
fn who_misses_a_model_is_told_the_command_that_registers_it() {
    let place = Place::new();
    let _server = place.serve();
    place.ok("endpoint create --name iris");
    place.write("blue.yml", "name: blue\nendpoint_name: iris\nmodel: azureml:digits:7\ninstance_type: Standard_F2s_v2\n");
    let told = place.run("online-deployment create -f blue.yml");
    assert!(told.starts_with("code: "), "{told}");
    assert!(
        told.contains("serin model create --name digits --version 7 --path <PATH OF THE .onnx FILE OR ITS FOLDER>"),
        "{told}"
    );
    let digits = std::fs::read(repository("models/digits/1/model.onnx")).expect("a model");
    place.write("letters.onnx", digits);
    let told = place.run("online-deployment create -f blue.yml");
    let line = told
        .lines()
        .find_map(|line| line.trim().strip_prefix("serin model create "));
    let command = line.expect("the whole command");
    place.ok(&format!("model create {command}"));
    let made = place.run("online-deployment create -f blue.yml");
    assert!(
        made.starts_with("code: 0\n") && !made.contains("model create"),
        "{made}"
    );
}

#[test]
fn who_types_nothing_or_asks_for_help_reads_what_matters_first() {
    let place = Place::new();
    for line in ["--help", "-h"] {
        let told = place.ok(line);
        let first = told.find("Commands that matter first:").expect("a heading");
        assert!(
            first < told.find("All commands:").expect("a heading"),
            "{told}"
        );
    }
    let told = refused(&place, "");
    assert!(
        told.contains("unrecognized subcommand"),
        "an empty word is none\n{told}"
    );
    let mut bare = place.command();
    let bare = bare.env_remove("SERIN_DATA").output().expect("it runs");
    let told = String::from_utf8_lossy(&bare.stderr).into_owned();
    assert!(told.contains("Commands that matter first:"), "{told}");
}

#[test]
fn shells_and_manual_pages_know_every_command() {
    let place = Place::new();
    for (shell, mark) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef serin"),
        ("fish", "complete -c serin"),
    ] {
        let script = place.ok(&format!("completions {shell}"));
        assert!(script.contains(mark), "{shell}");
        for word in ["rollback", "get-logs", "--request-file", "online-endpoint"] {
            assert!(
                script.contains(word) || shell == "fish" && word.starts_with("--"),
                "{shell}: {word}"
            );
        }
        assert!(!script.contains("__probe"), "{shell}");
    }
    place.ok("man pages");
    for page in ["serin.1", "serin-endpoint-update.1", "serin-rollback.1"] {
        let text = place.read(&format!("pages/{page}"));
        assert!(text.contains(".TH"), "{page}");
    }
    assert!(
        place
            .read("pages/serin-endpoint-update.1")
            .contains("blue=90")
    );
}

/// The flags that the pages of Azure list, by verb: those of 2021, and those of today.
const FLAGS: &[(&str, &str)] = &[
    (
        "endpoint create",
        "file name type set no-wait local vscode-debug",
    ),
    (
        "endpoint update",
        "name file deployment deployment-file instance-count traffic set add remove force-string no-wait local type vscode-debug",
    ),
    ("endpoint delete", "name deployment yes no-wait local type"),
    ("endpoint show", "name local type"),
    ("endpoint list", "local type"),
    (
        "endpoint invoke",
        "name deployment request-file local set type input-data input-datastore input-local-path input-path instance-count \
         mini-batch-size output-datastore output-path",
    ),
    (
        "endpoint get-logs",
        "name deployment container lines local type",
    ),
    ("endpoint get-credentials", "name type"),
    ("endpoint regenerate-keys", "name key-type type"),
    (
        "online-endpoint create",
        "file name auth-mode set local no-wait web",
    ),
    (
        "online-endpoint update",
        "name file traffic mirror-traffic set add remove force-string local no-wait web",
    ),
    ("online-endpoint show", "name local web"),
    ("online-endpoint list", "local"),
    ("online-endpoint delete", "name yes no-wait local"),
    (
        "online-endpoint invoke",
        "name request-file deployment-name local",
    ),
    ("online-endpoint get-credentials", "name"),
    ("online-endpoint regenerate-keys", "name key-type no-wait"),
    (
        "online-deployment create",
        "file endpoint-name name all-traffic set local local-enable-gpu no-wait package-model skip-script-validation vscode-debug web",
    ),
    (
        "online-deployment update",
        "file endpoint-name name set add remove force-string local no-wait skip-script-validation vscode-debug web",
    ),
    ("online-deployment show", "name endpoint-name"),
    ("online-deployment list", "endpoint-name"),
    (
        "online-deployment delete",
        "name endpoint-name yes no-wait local",
    ),
    (
        "online-deployment get-logs",
        "name endpoint-name container lines local",
    ),
];

#[test]
fn the_page_of_verbs_and_flags_is_what_the_grammar_says_and_has_all_of_azure() {
    let place = Place::new();
    let page = place.ok("az flags");
    let kept = std::fs::read_to_string(repository("docs/az-ml.md")).expect("the page");
    assert_eq!(page, kept, "make it anew: serin az flags > docs/az-ml.md");
    let every = page.split("\n## ").nth(1).expect("flags of every command");
    for (verb, flags) in FLAGS {
        let heading = format!("`az ml {verb}`");
        let section = page.split("\n## ").find(|part| part.starts_with(&heading));
        let section = section.unwrap_or_else(|| panic!("{verb} is not there"));
        for flag in flags.split_whitespace() {
            let is_there = |part: &str| {
                part.lines().any(|line| {
                    let cell = line.split('|').nth(1).unwrap_or_default();
                    let mut words = cell.trim_matches([' ', '`']).split(' ');
                    words.any(|word| word == format!("--{flag}"))
                })
            };
            assert!(is_there(section) || is_there(every), "{verb} --{flag}");
        }
    }
}
