//! The binary: settings that must precede every thread, then the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    serin::engine::prepare_process();
    serin::cli::run()
}
