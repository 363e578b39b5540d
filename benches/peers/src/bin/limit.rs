//! The limit: `session.run` in a loop, which no server with this model on these cores can beat.
//!
//! One pinned thread with a session of its own for each core, the input in memory. It prints the model's answer, then for each
//! line on standard input, a number of seconds, runs that long and prints what it measured. It ends with its input.

#![expect(clippy::print_stdout, reason = "its output is its interface")]

use std::error::Error;
use std::io::stdin;
use std::path::PathBuf;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use core_affinity::CoreId;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use serin_peers::{Answer, Model, environment};

/// A failure of a thread can be passed on.
type Failure = Box<dyn Error + Send + Sync>;

/// Runs one model as fast as the cores can.
#[derive(Debug, Parser)]
struct Typed {
    /// ONNX Runtime: the shared library.
    library: PathBuf,
    /// The ONNX file.
    model: PathBuf,
    /// A JSON file: `{"data": [[..]]}`.
    request: PathBuf,
    /// Cores to run on, one thread each.
    #[arg(long, value_delimiter = ',', default_value = "0")]
    cores: Vec<usize>,
}

/// The input of every run.
#[derive(Debug, Default)]
struct Input {
    shape: Vec<usize>,
    numbers: Vec<f32>,
}

fn main() -> Result<(), Failure> {
    let typed = Typed::parse();
    let environment = environment(&typed.library)?;
    let mut models = Vec::new();
    for core in typed.cores {
        models.push((core, Model::load(&environment, &typed.model)?));
    }
    let request: Value = serde_json::from_slice(&std::fs::read(&typed.request)?)?;
    let input = Input::read(&request["data"])?;
    if let Some((_, model)) = models.first_mut() {
        let outputs = model.run(&input.shape, &input.numbers)?;
        println!("{}", serde_json::to_string(&Answer(outputs))?);
    }
    for line in stdin().lines() {
        let duration = Duration::try_from_secs_f64(line?.trim().parse()?)?;
        println!("{}", window(&mut models, &input, duration)?);
    }
    Ok(())
}

/// Runs all models at once for as long as asked; what was measured, in JSON.
fn window(
    models: &mut [(usize, Model)],
    input: &Input,
    duration: Duration,
) -> Result<Value, Failure> {
    let mut seen = Histogram::<u64>::new(3)?;
    let start = Barrier::new(models.len());
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for (core, model) in models {
            let (core, start) = (*core, &start);
            let thread = thread::Builder::new().name(format!("limit-{core}"));
            threads.push(thread.spawn_scoped(scope, move || {
                let pinned = core_affinity::set_for_current(CoreId { id: core });
                start.wait();
                if pinned {
                    runs(model, input, duration)
                } else {
                    Err(format!("cannot run on core {core}").into())
                }
            })?);
        }
        for thread in threads {
            seen.add(thread.join().map_err(|_| "a thread panicked")??)?;
        }
        Ok::<_, Failure>(())
    })?;
    Ok(json!({
        "requests": seen.len(),
        "seconds": duration.as_secs_f64(),
        "p50_us": microseconds(&seen, 0.5),
        "p99_us": microseconds(&seen, 0.99),
    }))
}

/// Durations of runs one after another, in nanoseconds. The end of one is the beginning of the next.
fn runs(model: &mut Model, input: &Input, duration: Duration) -> Result<Histogram<u64>, Failure> {
    let mut seen = Histogram::new(3)?;
    let begun = Instant::now();
    let mut last = begun;
    while last - begun < duration {
        let outputs = model.run(&input.shape, &input.numbers)?;
        std::hint::black_box(&outputs);
        drop(outputs);
        let now = Instant::now();
        seen.record(u64::try_from((now - last).as_nanos())?)?;
        last = now;
    }
    Ok(seen)
}

fn microseconds(seen: &Histogram<u64>, quantile: f64) -> f64 {
    Duration::from_nanos(seen.value_at_quantile(quantile)).as_secs_f64() * 1e6
}

impl Input {
    /// Lists of lists of numbers, as deep as they are.
    fn read(data: &Value) -> Result<Self, Failure> {
        let mut input = Self::default();
        let mut level = data;
        while let Some(inner) = level.as_array() {
            input.shape.push(inner.len());
            level = inner.first().ok_or("the request has an empty list")?;
        }
        input.append(data)?;
        Ok(input)
    }

    fn append(&mut self, value: &Value) -> Result<(), Failure> {
        if let Some(inner) = value.as_array() {
            return inner.iter().try_for_each(|value| self.append(value));
        }
        // From the text: a double on the way would round twice.
        self.numbers.push(value.to_string().parse()?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_becomes_a_shape_and_numbers_in_order() {
        let input = Input::read(&json!([[[1, 2.5]], [[-3, 4]]])).unwrap();
        assert_eq!(input.shape, [2, 1, 2]);
        assert_eq!(input.numbers, [1.0, 2.5, -3.0, 4.0]);
    }

    #[test]
    fn a_word_among_the_numbers_is_refused() {
        assert!(Input::read(&json!([[1, "two"]])).is_err());
    }
}
