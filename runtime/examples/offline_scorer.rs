//! An offline scorer: many rows, two threads, a thousand rows a call. Each thread computes itself, over memory of its own.
//!
//! `cargo run --release --example offline_scorer -- 1000000`

#![expect(clippy::print_stdout, reason = "an example talks to people")]

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use serin::{Deployment, Endpoint, Request, Serin, TensorView};

/// Pixels of an image.
const PIXELS: usize = 64;
/// Rows of one call: enough that the call itself costs nothing beside the model.
const ROWS_PER_CALL: usize = 1000;
const THREADS: usize = 2;

/// How many of these images show each digit.
fn score(digits: &Endpoint, images: &[f32]) -> Result<[usize; 10], Box<dyn Error + Send + Sync>> {
    let mut found = [0; 10];
    for rows in images.chunks(ROWS_PER_CALL * PIXELS) {
        let rows = TensorView::new([rows.len() / PIXELS, PIXELS], rows)?;
        let answer = digits.run_blocking(Request::tensors([rows]))?;
        let labels = answer.tensor("label").ok_or("the model gives labels")?;
        for label in labels.elements::<i64>().ok_or("labels are whole numbers")? {
            found[usize::try_from(*label)?] += 1;
        }
    }
    Ok(found)
}

fn offline(model: &Path, rows: usize) -> Result<[usize; 10], Box<dyn Error + Send + Sync>> {
    // One instance with a lane for each thread, on a core of its own.
    let deployment = Deployment::new(model).vcpus(THREADS).concurrency(THREADS);
    let serin = Serin::new()?;
    let digits = serin
        .endpoint("digits")
        .deployment("current", deployment)
        .start_blocking()?;

    let images: Vec<f32> = (0_u8..17)
        .cycle()
        .map(f32::from)
        .take(rows * PIXELS)
        .collect();
    let began = Instant::now();
    let parts = images.chunks((rows.div_ceil(THREADS)) * PIXELS);
    let found = std::thread::scope(|threads| {
        let digits = &digits;
        let parts: Vec<_> = parts
            .map(|part| threads.spawn(move || score(digits, part)))
            .collect();
        let mut found = [0; 10];
        for part in parts {
            let part = part.join().map_err(|_| "a thread panicked")??;
            found
                .iter_mut()
                .zip(part)
                .for_each(|(sum, more)| *sum += more);
        }
        Ok::<_, Box<dyn Error + Send + Sync>>(found)
    })?;
    println!("{rows} rows in {:.2?}: {found:?}", began.elapsed());
    digits.close().wait()?;
    Ok(found)
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let rows = std::env::args()
        .nth(1)
        .map_or(Ok(100_000), |rows| rows.parse())?;
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/digits/1/model.onnx");
    offline(&model, rows).map(drop)
}

#[test]
fn every_row_is_scored_once() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/digits/1/model.onnx");
    let found = offline(&model, 10_500).unwrap();
    assert_eq!(found.iter().sum::<usize>(), 10_500);
}
