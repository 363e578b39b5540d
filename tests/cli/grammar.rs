//! What may be typed.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use insta::assert_snapshot;

use crate::support::Place;

#[test]
fn the_help_names_every_command() {
    assert_snapshot!(Place::new().run("--help"), @"
    code: 0
    --- stdout
    Azure ML style online endpoints for ONNX models on one machine

    Usage: serin [OPTIONS] <COMMAND>

    Commands that matter first:
      demo                 Play a canary release on sample models, under live traffic
      serve                Run the server in the foreground
      model create         Register a model file or folder under a name and version, for good
      endpoint create      Create an endpoint from a file, with the deployments that the file has
      deployment create    Create a deployment from a file
      endpoint invoke      Send a request and print the answer
      endpoint update      Change an endpoint: its file, traffic, one deployment, or any attribute
      deployment get-logs  Print what was noted of a deployment
      bench                Compare two versions under load, with a verdict that holds, or measure one
      rollback             Bring back what was in force as of an earlier revision

    All commands:
      demo          Play a canary release on sample models, under live traffic
      serve         Run the server in the foreground
      up            Serve bare model files in the foreground, with nothing stored
      endpoint      Endpoints: what clients call, and how traffic is split [alias: online-endpoint]
      deployment    Deployments: a model on instances, behind an endpoint [alias: online-deployment]
      model         Models by name and version
      score-script  Scoring scripts: try one outside any server
      sku           Instance types: cores and memory of one instance
      tune          Measure which lanes and batches serve a model best on this machine
      bench         Compare two versions under load, with a verdict that holds, or measure one
      az            The name `az`, under which scripts of `az ml` run: `serin az install DIR` makes it
      environment   Environments of scripts by name and version, as this user keeps them
      completions   What a shell completes behind `serin`
      man           Manual pages, one for each command
      rollout       Move traffic to a new version as far as the evidence goes, and back where it does harm
      feedback      Tell the rollout of an endpoint which answers turned out to be right
      verdict       What two deployments say of each other: 0 safe, 1 harm, 2 undecided
      status        What the server does now, deployment by deployment
      apply         Make files so on one server or several: nothing is done where all is like them already
      convert       Print a file of any generation in the form of today
      history       Changes of what should run: who, when, what, from what to what, and how each ended
      rollback      Bring back what was in force as of an earlier revision
      journal       Journal of changes: who made them, and how they ended
      backup        Copy the whole state of a server, running or not, to a new folder
      restore       Bring a backup into the data folder of a stopped server

    Options:
          --data <FOLDER>     Folder of the server's data; commands find the server by it [default:
                              SERIN_DATA, else ~/.local/share/serin]
      -o, --output <FORMAT>   Form of the result: json, jsonc, yaml, yamlc, table, tsv or none [default:
                              json]
          --query <JMESPATH>  Part of the result, in the language of JMESPath: `provisioning_state`
          --only-show-errors  No progress, only errors
      -h, --help              Print help
      -V, --version           Print version

    Start with `serin demo`, or with `serin serve` in one terminal and `serin endpoint create --file
    endpoint.yml` in another.
    --- stderr
    ");
}

#[test]
fn the_version_names_that_of_onnx_runtime() {
    assert_snapshot!(Place::new().run("--version"), @"
    code: 0
    --- stdout
    serin 0.1.0
    ONNX Runtime 1.32.0
    --- stderr
    ");
}

#[test]
fn the_help_of_an_update_names_every_flag() {
    assert_snapshot!(Place::new().run("endpoint update --help"), @r#"
    code: 0
    --- stdout
    Change an endpoint: its file, traffic, one deployment, or any attribute

    Usage: serin endpoint update --name <NAME> <CHANGES>...

    Options:
      -n, --name <NAME>
              Name of the endpoint; beats the file's
      -f, --file <FILE>
              YAML file of the endpoint; a file with deployments is the whole truth: those that it
              leaves out are deleted
      -d, --deployment <DEPLOYMENT>
              Deployment to change, or to make from `--deployment-file`
      -e, --deployment-file <DEPLOYMENT_FILE>
              YAML file of the deployment
      -i, --instance-count <N>
              Instances of the deployment
          --model <MODEL>
              Model of the deployment: azureml:NAME:VERSION, or a path
      -r, --traffic <SPLIT>...
              Percent per deployment: 'blue:90,green:10' or "blue=90 green=10"
          --mirror-traffic <SHARE>...
              Percent of the requests that a deployment gets a copy of: green=10
          --set <PATH=VALUE>...
              Any attribute, by its path: `instance_count=5`, `deployments.blue.scale.instance_count=5`
          --add <PATH KEY=VALUE>...
              Entry for a list or a mapping: `tags team=vision`
          --remove <PATH>...
              Attribute to take away, or the number of an entry behind the path of its list: `tags.team`
          --force-string
              Take each value as text, whatever it looks like
          --no-wait
              Return when the change is accepted, not when it is in force
      -h, --help
              Print help

    Options of every command:
          --data <FOLDER>     Folder of the server's data; commands find the server by it [default:
                              SERIN_DATA, else ~/.local/share/serin]
      -o, --output <FORMAT>   Form of the result: json, jsonc, yaml, yamlc, table, tsv or none [default:
                              json]
          --query <JMESPATH>  Part of the result, in the language of JMESPath: `provisioning_state`
          --only-show-errors  No progress, only errors

    Examples:
      serin endpoint update -n iris --traffic blue=90 green=10
      serin endpoint update -n iris --deployment blue --instance-count 5
      serin endpoint update -f endpoint.yml

    Kept for scripts of `az ml`, without effect: --type -t, --local, --skip-script-validation, --wait,
    --debug, --verbose, --resource-group -g, --workspace-name -w, --subscription

    Refused, with the reason: --web, --vscode-debug, --local-enable-gpu, --package-model
    --- stderr
    "#);
}

#[test]
fn a_misspelt_command_is_corrected() {
    assert_snapshot!(Place::new().run("endpoint upgrade"), @"
    code: 2
    --- stdout
    --- stderr
    error: unrecognized subcommand 'upgrade'

      tip: a similar subcommand exists: 'update'

    Usage: serin endpoint [OPTIONS] <COMMAND>

    For more information, try '--help'.
    ");
}

#[test]
fn an_update_of_nothing_is_refused() {
    assert_snapshot!(Place::new().run("endpoint update --name iris"), @"
    code: 2
    --- stdout
    --- stderr
    error: the following required arguments were not provided:
      <--file <FILE>|--deployment-file <DEPLOYMENT_FILE>|--instance-count <N>|--model <MODEL>|--traffic <SPLIT>...|--mirror-traffic <SHARE>...|--set <PATH=VALUE>...|--add <PATH KEY=VALUE>...|--remove <PATH>...>

    Usage: serin endpoint update --name <NAME> <CHANGES>...

    For more information, try '--help'.
    ");
}

#[test]
fn a_name_out_of_bounds_is_refused() {
    assert_snapshot!(Place::new().run("endpoint show --name 1st"), @r#"
    code: 2
    --- stdout
    --- stderr
    error: invalid value '1st' for '--name <NAME>': expected 3 to 32 letters, digits and dashes, from a letter to a letter or digit, found "1st"

    For more information, try '--help'.
    "#);
}

#[test]
fn a_split_that_sums_to_90_is_refused() {
    assert_snapshot!(Place::new().run("endpoint update --name iris --traffic blue:60,green:30"), @"
    code: 3
    --- stdout
    --- stderr
    error: --traffic: expected a sum of 0 or 100, found 90 (blue 60, green 30)
    ");
}

#[test]
fn a_share_above_100_is_refused() {
    assert_snapshot!(Place::new().run("endpoint update -n iris --traffic blue:101"), @"
    code: 3
    --- stdout
    --- stderr
    error: --traffic: expected a percent from 0 to 100 with at most two decimals, found 101
    ");
}

#[test]
fn a_deployment_named_twice_in_a_split_is_refused() {
    assert_snapshot!(Place::new().run("endpoint update -n iris --traffic 'blue=50 BLUE=50'"), @"
    code: 3
    --- stdout
    --- stderr
    error: --traffic: expected each deployment once, found `BLUE` twice
    ");
}

#[test]
fn a_negative_share_is_refused() {
    assert_snapshot!(Place::new().run("online-endpoint update -n iris --traffic 'green=-10 blue=110'"), @"
    code: 3
    --- stdout
    --- stderr
    error: --traffic: expected a percent from 0 to 100 with at most two decimals, found -10
    ");
}

#[test]
fn an_assignment_without_a_value_is_refused() {
    assert_snapshot!(Place::new().run("deployment update -n blue -e iris --set instance_count"), @r#"
    code: 2
    --- stdout
    --- stderr
    error: invalid value 'instance_count' for '--set <PATH=VALUE>...': expected an assignment such as instance_count=5, found "instance_count"

    For more information, try '--help'.
    "#);
}

#[test]
fn an_instance_type_is_found_in_any_case() {
    assert_snapshot!(Place::new().run("sku show --name standard_fs4_V2 -o table"), @"
    code: 0
    --- stdout
    name             vcpus  memory_mib  gpus
    ---------------  -----  ----------  ----
    Standard_FS4_v2  4      8192        0
    --- stderr
    ");
}

#[test]
fn a_misspelt_instance_type_is_corrected() {
    assert_snapshot!(Place::new().run("sku show --name Standard_F4_v2"), @r#"
    code: 3
    --- stdout
    --- stderr
    error: expected an instance type of `serin sku list`, found "Standard_F4_v2"; did you mean `Standard_F4s_v2`?
    "#);
}

#[test]
fn without_a_server_a_command_says_how_to_start_one() {
    assert_snapshot!(Place::new().run("endpoint list"), @r#"
    code: 6
    --- stdout
    --- stderr
    error: no server runs on "[folder]/data"; start one with `serin serve`, or name another folder with --data
    "#);
}

/// Scripts of `az` shorten flags and name the workspace with every command.
#[test]
fn shortened_flags_and_those_of_the_cloud_are_taken() {
    let place = Place::new();
    assert_snapshot!(place.run("online-deployment show --name blue --endpoint iris -g group -w workspace --local"), @r#"
    code: 6
    --- stdout
    --- stderr
    error: no server runs on "[folder]/data"; start one with `serin serve`, or name another folder with --data
    "#);
}

#[test]
fn a_command_without_its_name_says_what_to_type() {
    assert_snapshot!(Place::new().run("endpoint show"), @"
    code: 2
    --- stdout
    --- stderr
    error: the following required arguments were not provided:
      <NAME|--name <NAME>>

    Usage: serin endpoint show <NAME|--name <NAME>>

    For more information, try '--help'.
    ");
    assert_snapshot!(Place::new().run("sku show Standard_F4s_v2 --name Standard_F2s_v2"), @"
    code: 2
    --- stdout
    --- stderr
    error: the argument '[NAME]' cannot be used with '--name <NAME>'

    Usage: serin sku show <NAME|--name <NAME>>

    For more information, try '--help'.
    ");
    assert_snapshot!(Place::new().run("endpoint delete"), @"
    code: 2
    --- stdout
    --- stderr
    error: the following required arguments were not provided:
      <NAME|--name <NAME>|--deployment <DEPLOYMENT>>

    Usage: serin endpoint delete <NAME|--name <NAME>|--deployment <DEPLOYMENT>>

    For more information, try '--help'.
    ");
    assert_snapshot!(Place::new().run("model create --version 1"), @"
    code: 2
    --- stdout
    --- stderr
    error: the following required arguments were not provided:
      --name <NAME>
      --path <PATH>

    Usage: serin model create --version <VERSION> --name <NAME> --path <PATH>

    For more information, try '--help'.
    ");
}

#[test]
fn a_name_needs_no_flag() {
    let place = Place::new();
    assert_eq!(
        place.ok("sku show standard_fs4_v2"),
        place.ok("sku show --name standard_fs4_v2")
    );
}

#[test]
fn an_argument_that_is_not_text_ends_with_a_sentence() {
    let not_text = OsStr::from_bytes(b"mod\xe8le.onnx");
    for (before, after, code) in [
        (&["up"][..], &[][..], 2),
        (&["model", "create", "--name", "digits", "--path"], &[], 2),
        (&["endpoint", "show", "--name"], &[], 2),
        (&["bench"], &["--fail-if", "agreement<0.99"], 3),
    ] {
        let place = Place::new();
        let mut command = place.command();
        let output = command.args(before).arg(not_text).args(after).output();
        let output = output.expect("the serin binary runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{before:?}: {said}");
        assert!(
            said.starts_with("error: ") && said.contains("UTF-8"),
            "{said}"
        );
    }
}

#[test]
fn a_variable_for_the_data_folder_is_in_no_usage_line_and_an_empty_one_is_as_none() {
    let place = Place::new();
    let asked = place.run("endpoint show");
    assert!(
        asked.contains("serin endpoint show <NAME|--name <NAME>>"),
        "{asked}"
    );
    assert!(!asked.contains("--data"), "{asked}");
    let mut status = place.command();
    let ended = status.env("SERIN_DATA", "").arg("status").output();
    let told = String::from_utf8(ended.expect("it runs").stderr).expect("text");
    assert!(told.contains(".local/share/serin"), "{told}");
    // A flag is what somebody typed: an empty one is a mistake, such as that of an unset variable.
    let refused = place.run("status --data=");
    assert!(refused.contains("a value is required"), "{refused}");
}

#[test]
fn a_server_whose_log_has_no_such_level_does_not_start_and_says_which_there_are() {
    let place = Place::new();
    for command in [
        &["serve", "--port", "0"][..],
        &["up", "model.onnx", "--port", "0"],
    ] {
        let mut server = place.command();
        let ended = server.env("SERIN_LOG", "verbose").args(command).output();
        let ended = ended.expect("it runs");
        let told = String::from_utf8(ended.stderr).expect("text");
        assert_eq!(ended.status.code(), Some(3), "{told}");
        assert!(
            told.contains("which is off, error, warn, info, debug or trace"),
            "{told}"
        );
        assert!(told.contains("\"verbose\""), "{told}");
    }
}

#[test]
fn who_asks_is_the_other_variable_where_the_first_is_empty() {
    let place = Place::new();
    let _server = place.serve();
    let mut create = place.command();
    create.env("USER", "").env("LOGNAME", "bob");
    let created = create
        .args(["endpoint", "create", "--name", "iris"])
        .output();
    assert!(created.expect("it runs").status.success());
    let journal = place.ok("journal");
    assert!(journal.contains("\"bob\""), "{journal}");
}
