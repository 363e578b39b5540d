//! The binary: settings that must precede every thread, then the command line.

use std::process::ExitCode;

#[expect(
    unsafe_code,
    reason = "the environment is the process's, and so is main"
)]
fn main() -> ExitCode {
    // SAFETY: nothing has run before, so this is the only thread.
    unsafe { serin::engine::prepare_process() };
    serin::cli::run()
}
