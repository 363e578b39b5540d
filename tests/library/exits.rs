//! The end of a process that embeds serin, at any moment.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serin::Serin;

/// Says to this binary that it is the process that ends, and after how many microseconds.
const ENDS_AFTER: &str = "SERIN_TEST_ENDS_AFTER_US";
/// Ends of processes that are tried, and the time from one to the next: over all that a start takes.
const ENDS: u64 = 40;
const STEP_US: u64 = 1500;

/// Begins to start a model, which loads ONNX Runtime too, and ends the process in the middle of it.
#[expect(clippy::exit, reason = "the end of the process is what is tried")]
fn start_and_end(micros: u64) -> ! {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/digits/1/model.onnx");
    let serin = Serin::new().expect("there are threads");
    let endpoint = serin.endpoint("digits").deployment("blue", model);
    std::thread::spawn(move || endpoint.start_blocking().map(drop));
    std::thread::sleep(Duration::from_micros(micros));
    std::process::exit(0)
}

/// It died of SIGSEGV in one of six: ONNX Runtime cleaned up what another thread was making.
#[test]
fn a_process_may_end_while_a_model_starts() {
    if let Some(micros) = std::env::var(ENDS_AFTER)
        .ok()
        .and_then(|micros| micros.parse().ok())
    {
        start_and_end(micros);
    }
    let own = std::env::current_exe().unwrap();
    for end in 0..ENDS {
        let micros = end * STEP_US;
        let ended = Command::new(&own)
            .args(["--exact", "exits::a_process_may_end_while_a_model_starts"])
            .env(ENDS_AFTER, micros.to_string())
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert_eq!(ended.code(), Some(0), "after {micros} us: {ended}");
    }
}
