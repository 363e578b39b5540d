//! The library beside a plain loop over `ort`, as a program would write it: `cargo bench --bench library`.
//!
//! Prints a Markdown table: rows a second of the digits model by two threads, a thousand rows a call and one row a call; and the time of
//! one row from one caller, who waits or awaits. All take turns within one run. Nothing here passes or fails by time.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ort::session::Session;
use ort::value::TensorRef;
use serin::engine::environment_in_use;
use serin::{Deployment, Endpoint, Request, Serin, TensorView};

const PIXELS: usize = 64;
/// Rows of one round.
const ROWS: usize = 1_000_000;
/// Rows of one round where each is a call of its own.
const SINGLE_ROWS: usize = 100_000;
const THREADS: usize = 2;
/// Rounds, of which medians are told.
const ROUNDS: usize = 7;
/// Calls whose times are told.
const CALLS: usize = 50_000;

type Anything<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/digits/1/model.onnx")
}

fn plain() -> Anything<Session> {
    let made = Session::builder(&environment_in_use()?)
        .and_then(|builder| Ok(builder.with_intra_threads(1)?))
        .and_then(|builder| Ok(builder.with_inter_threads(1)?))
        .and_then(|mut builder| builder.commit_from_file(model()));
    // Its errors hold what no other thread may have.
    made.map_err(|error| error.to_string().into())
}

/// What a program reads of the outputs, so that nothing is left out.
fn sum_of_labels(labels: &[i64]) -> i64 {
    labels.iter().sum()
}

fn by_ort(session: &mut Session, rows: &[f32]) -> Anything<i64> {
    let shape = [rows.len() / PIXELS, PIXELS];
    let input = TensorRef::from_array_view((shape, rows))?;
    let outputs = session.run(ort::inputs![input])?;
    let (_, labels) = outputs[0].try_extract_tensor::<i64>()?;
    Ok(sum_of_labels(labels))
}

fn view(rows: &[f32]) -> Anything<TensorView<'_>> {
    Ok(TensorView::new([rows.len() / PIXELS, PIXELS], rows)?)
}

fn by_serin(endpoint: &Endpoint, rows: &[f32]) -> Anything<i64> {
    let answer = endpoint.run_blocking(Request::tensors([view(rows)?]))?;
    let labels = answer.tensor("label").ok_or("the model gives labels")?;
    Ok(sum_of_labels(
        labels.elements().ok_or("labels are whole numbers")?,
    ))
}

/// Rows a second of two threads, each of which scores its half in calls of so many rows.
fn throughput(
    images: &[f32],
    rows_per_call: usize,
    work: impl Fn(usize, &[f32]) -> Anything<i64> + Sync,
) -> Anything<f64> {
    let work = &work;
    let began = Instant::now();
    let halves = images.chunks(images.len() / THREADS);
    std::thread::scope(|threads| {
        let halves: Vec<_> = halves
            .enumerate()
            .map(|(number, half)| {
                threads.spawn(move || {
                    let mut calls = half.chunks(rows_per_call * PIXELS);
                    calls.try_fold(0, |sum, rows| {
                        Ok::<_, Box<dyn Error + Send + Sync>>(sum + work(number, rows)?)
                    })
                })
            })
            .collect();
        for half in halves {
            half.join().map_err(|_| "a thread panicked")??;
        }
        Ok::<_, Box<dyn Error + Send + Sync>>(())
    })?;
    let rows = u32::try_from(images.len() / PIXELS)?;
    Ok(f64::from(rows) / began.elapsed().as_secs_f64())
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

fn quantile(times: &mut [Duration], percent: usize) -> f64 {
    times.sort_unstable();
    times[times.len() * percent / 100].as_secs_f64() * 1e6
}

fn rates(endpoint: &Endpoint, images: &[f32], rows_per_call: usize) -> Anything<()> {
    let sessions = [plain()?, plain()?].map(std::sync::Mutex::new);
    let bare = |number: usize, rows: &[f32]| {
        let mut session = sessions[number % THREADS].lock().map_err(|_| "a panic")?;
        by_ort(&mut session, rows)
    };
    let ours = |_: usize, rows: &[f32]| by_serin(endpoint, rows);
    let (mut of_ort, mut of_serin, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let one = throughput(images, rows_per_call, bare)?;
        let other = throughput(images, rows_per_call, ours)?;
        of_ort.push(one);
        of_serin.push(other);
        ratios.push(other / one);
    }
    println!(
        "| {rows_per_call} rows a call, {THREADS} threads | {:.2} M rows/s | {:.2} M rows/s | {:.3} x |",
        median(of_ort) / 1e6,
        median(of_serin) / 1e6,
        median(ratios)
    );
    Ok(())
}

/// Times of calls, each kind in turns with the others.
fn times(endpoint: &Endpoint, image: &[f32]) -> Anything<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let mut session = plain()?;
    let (mut bare, mut blocking, mut awaited) = (Vec::new(), Vec::new(), Vec::new());
    let timed = |times: &mut Vec<Duration>, work: &mut dyn FnMut() -> Anything<i64>| {
        let began = Instant::now();
        work()?;
        times.push(began.elapsed());
        Ok::<_, Box<dyn Error + Send + Sync>>(())
    };
    for _ in 0..CALLS {
        timed(&mut bare, &mut || by_ort(&mut session, image))?;
        timed(&mut blocking, &mut || by_serin(endpoint, image))?;
        timed(&mut awaited, &mut || {
            runtime.block_on(async {
                let answer = endpoint.run(Request::tensors([view(image)?])).await?;
                Ok(i64::try_from(answer.values().len())?)
            })
        })?;
    }
    for (name, times) in [
        ("`session.run`", &mut bare),
        ("`run_blocking`", &mut blocking),
        ("`run().await`", &mut awaited),
    ] {
        println!(
            "| one row, {name} | p50 {:.2} us | p99 {:.2} us | |",
            quantile(times, 50),
            quantile(times, 99)
        );
    }
    Ok(())
}

fn main() -> Anything<()> {
    let deployment = Deployment::new(model()).vcpus(THREADS).concurrency(THREADS);
    let serin = Serin::new()?;
    let endpoint = serin
        .endpoint("digits")
        .deployment("current", deployment)
        .start_blocking()?;
    let images: Vec<f32> = (0_u8..17)
        .cycle()
        .map(f32::from)
        .take(ROWS * PIXELS)
        .collect();
    println!("| what | `ort` in a loop | serin | |\n|---|---|---|---|");
    rates(&endpoint, &images, 1000)?;
    rates(&endpoint, &images[..SINGLE_ROWS * PIXELS], 1)?;
    times(&endpoint, &images[..PIXELS])?;
    endpoint.close().wait()?;
    Ok(())
}
