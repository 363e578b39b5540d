//! The binary: settings that must precede every thread, then the command line.

use std::process::ExitCode;

/// The edge allocates and frees for each request; glibc's allocator would be a fifth of its work.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    serin::engine::prepare_process();
    serin::cli::run()
}
