//! A canary release inside a program: two versions of a model, a split, a direct test, the switch. No server, no HTTP.
//!
//! `cargo run --release --example embedded`

#![expect(clippy::print_stdout, reason = "an example talks to people")]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use serin::{DeploymentSettings, Embedded, EmbeddedEndpoint};

/// How many of `count` requests each deployment answers.
async fn answers(
    endpoint: &EmbeddedEndpoint,
    request: &str,
    count: usize,
) -> Result<BTreeMap<String, usize>, Box<dyn Error>> {
    let mut answers = BTreeMap::new();
    for _ in 0..count {
        let answer = endpoint.score(request.to_owned()).await?;
        *answers.entry(answer.deployment.to_string()).or_default() += 1;
    }
    Ok(answers)
}

async fn canary(models: &Path) -> Result<(), Box<dyn Error>> {
    let request = std::fs::read_to_string(models.join("1/sample-request.json"))?;

    // Blue has two instances, green one; each loads the model on its own core and warms up before it takes traffic.
    let serin = Embedded::builder().build()?;
    let two_instances = DeploymentSettings {
        instance_count: 2,
        ..DeploymentSettings::default()
    };
    let digits = serin
        .endpoint("digits")
        .deployment_with("blue", models.join("1/model.onnx"), two_instances)
        .deployment("green", models.join("2/model.onnx"))
        .traffic("blue=100 green=0")
        .start()?;

    // Green takes no traffic yet, and can be asked all the same.
    let answer = digits.score_with("green", request.clone()).await?;
    println!("{}: {}", answer.deployment, answer.body.escape_ascii());

    // One request in ten, exactly.
    digits.set_traffic("blue=90 green=10")?;
    let split = answers(&digits, &request, 200).await?;
    println!("90/10 of 200 requests: {split:?}");
    assert_eq!((split["blue"], split["green"]), (180, 20));

    digits.set_traffic("blue=0 green=100")?;
    let switched = answers(&digits, &request, 100).await?;
    println!("after the switch: {switched:?}");
    assert_eq!(switched["green"], 100);
    Ok(())
    // Dropping the endpoint lets its last requests end and stops its threads.
}

fn main() -> Result<(), Box<dyn Error>> {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/digits");
    tokio::runtime::Runtime::new()?.block_on(canary(&models))
}

#[test]
fn the_example_runs() {
    main().unwrap();
}
