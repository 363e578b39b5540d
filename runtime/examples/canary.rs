//! A canary release inside a program: two versions of a model, a split, a direct test, the switch. No server, no HTTP.
//!
//! `cargo run --release --example canary`

#![expect(clippy::print_stdout, reason = "an example talks to people")]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use serin::{Deployment, Endpoint, Request, Serin, TensorView};

/// How many of `count` requests each deployment answers.
async fn answers(
    endpoint: &Endpoint,
    image: &TensorView<'_>,
    count: usize,
) -> Result<BTreeMap<String, usize>, Box<dyn Error>> {
    let mut answers = BTreeMap::new();
    for _ in 0..count {
        let answer = endpoint.run(Request::tensors([image.clone()])).await?;
        *answers.entry(answer.deployment().to_owned()).or_default() += 1;
    }
    Ok(answers)
}

async fn canary(models: &Path) -> Result<(), Box<dyn Error>> {
    let pixels = [0.5_f32; 64];
    let image = TensorView::new([1, 64], &pixels)?;

    // Blue has two instances, green one; each loads the model on its own core and warms up before it takes traffic.
    let serin = Serin::new()?;
    let digits = serin
        .endpoint("digits")
        .deployment(
            "blue",
            Deployment::new(models.join("1/model.onnx")).instances(2),
        )
        .deployment("green", models.join("2/model.onnx"))
        .traffic("blue=100 green=0")
        .start()
        .await?;

    // Green takes no traffic yet, and can be asked all the same.
    let answer = digits
        .run(Request::tensors([image.clone()]).to("green"))
        .await?;
    println!("green says {:?}", answer.tensor("label"));

    // One request in ten, exactly.
    digits.set_traffic("blue=90 green=10").await?;
    let split = answers(&digits, &image, 200).await?;
    println!("90/10 of 200 requests: {split:?}");
    assert_eq!((split["blue"], split["green"]), (180, 20));

    digits.set_traffic("blue=0 green=100").await?;
    digits.remove("blue").await?;
    let switched = answers(&digits, &image, 100).await?;
    println!("after the switch: {switched:?}");
    assert_eq!(switched["green"], 100);

    // Done when the last request has ended and every thread has gone.
    digits.close().await?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/digits");
    tokio::runtime::Runtime::new()?.block_on(canary(&models))
}

#[test]
fn the_example_runs() {
    main().unwrap();
}
