//! One model, run by `ort` and by serin in one process: `beside-ort host-first`, `beside-ort serin-first`, `beside-ort given-late`.

use std::error::Error;
use std::path::{Path, PathBuf};

use ort::environment::Environment;
use ort::session::Session;
use ort::value::Tensor;
use serin::{Builder, Request, Serin};

type Anything = Result<(), Box<dyn Error>>;

fn model(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../models/test")
        .join(name)
}

fn library() -> Result<PathBuf, Box<dyn Error>> {
    let path = std::env::var_os("SERIN_ONNXRUNTIME_LIB");
    Ok(path
        .ok_or("set SERIN_ONNXRUNTIME_LIB to the path of libonnxruntime.so")?
        .into())
}

/// The environment of a program that has never heard of serin.
fn environment_of_the_host() -> Result<Environment, Box<dyn Error>> {
    let environment = ort::init_from(library()?)?.with_name("host");
    Ok(environment.with_telemetry(false).build()?)
}

/// A row and a row, added by `ort` alone.
fn run_by_ort(environment: &Environment) -> Anything {
    let mut session = Session::builder(environment)?.commit_from_file(model("add.onnx"))?;
    let names: Vec<String> = session
        .inputs()
        .iter()
        .map(|input| input.name().to_owned())
        .collect();
    let row = |row: [f32; 2]| Tensor::from_array(([1_usize, 2], row.to_vec()));
    let inputs =
        ort::inputs![names[0].as_str() => row([1.0, 2.0])?, names[1].as_str() => row([3.0, 4.0])?];
    let outputs = session.run(inputs)?;
    let (_, sum) = outputs[0].try_extract_tensor::<f32>()?;
    assert_eq!(sum, [4.0, 6.0]);
    Ok(())
}

/// An endpoint of serin, asked once, and gone.
fn run_by_serin(builder: Builder) -> Anything {
    let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../models/digits/1");
    let serin = builder.build()?;
    let endpoint = serin
        .endpoint("digits")
        .deployment("blue", digits.join("model.onnx"))
        .start_blocking()?;
    let request = std::fs::read_to_string(digits.join("sample-request.json"))?;
    let answer = endpoint.run_blocking(Request::json(request))?;
    assert!(answer.json().is_some_and(|body| body.starts_with(b"{")));
    Ok(())
}

/// The host gives its environment to serin.
fn host_first() -> Anything {
    let environment = environment_of_the_host()?;
    run_by_ort(&environment)?;
    run_by_serin(Serin::builder().environment(environment.clone()))?;
    run_by_ort(&environment)
}

/// The host takes the environment of serin.
fn serin_first() -> Anything {
    let right = library()?;
    let no_library = Serin::builder().onnxruntime(file!()).build();
    no_library.expect_err("a source file is no library");
    run_by_serin(Serin::builder().onnxruntime(&right))?;
    let other = right.with_file_name("another.so");
    let refused = Serin::builder().onnxruntime(other).build();
    let refused = refused.expect_err("one is loaded").to_string();
    assert!(
        refused.contains(&*right.canonicalize()?.to_string_lossy()),
        "{refused}"
    );
    run_by_ort(&serin::environment()?)?;
    run_by_serin(Serin::builder().onnxruntime(right))
}

/// The host does not give its environment, is told to, and does so then.
fn given_late() -> Anything {
    let environment = environment_of_the_host()?;
    let refused = run_by_serin(Serin::builder())
        .expect_err("the host has the one environment")
        .to_string();
    assert!(refused.contains("feature `ort`"), "{refused}");
    run_by_serin(Serin::builder().environment(environment.clone()))?;
    run_by_ort(&environment)
}

fn main() -> Anything {
    match std::env::args().nth(1).as_deref() {
        Some("host-first") => host_first(),
        Some("serin-first") => serin_first(),
        Some("given-late") => given_late(),
        _ => Err("expected host-first, serin-first or given-late".into()),
    }
}
