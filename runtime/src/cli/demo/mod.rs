//! `serin demo`: the canary release of the README, played for real: a server of its own, commands as a person would type
//! them, and requests that never stop. The second act lets rollouts judge themselves.

mod follow;
mod play;
mod screen;
mod script;
mod script_canary;
mod stage;
mod traffic;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use self::play::Play;
use self::screen::Screen;
use self::script::{MIGRATION, NATIVE, Script};
use self::script_canary::CANARY;
use self::stage::Stage;
use super::args::Demo;
use super::exit::CliError;
use super::signals;

/// Plays the demo. Whatever happens, the server and the folder are gone afterwards, unless `--keep` says otherwise.
pub(super) fn run(typed: &Demo) -> Result<(), CliError> {
    let interrupted = interruption()?;
    let screen = Screen::new();
    let stage = Stage::set(typed.keep)?;
    let acts = acts(typed);
    let last = acts.len() - 1;
    let outcome = acts
        .iter()
        .enumerate()
        .try_for_each(|(at, (script, rate))| {
            screen.act(at, script.title, script.subtitle);
            let per_s = NonZeroU32::new(typed.rate.unwrap_or(*rate))
                .expect("the grammar wants one at least");
            let play = Play::new(&stage, &screen, Arc::clone(&interrupted), per_s);
            play.run(script, typed.keep && at == last)
        });
    if screen.reader_has_gone() {
        return Ok(());
    }
    // A command that Ctrl-C ended has failed too; the reason is the interruption.
    if interrupted.load(Ordering::Relaxed) {
        screen.end_line();
        return Err(CliError::Interrupted);
    }
    outcome?;
    if typed.keep {
        screen.how_to_go_on(&stage.leave_up());
    }
    Ok(())
}

/// The requests a second where nobody says more.
const RATE: u32 = 300;
/// The same where rollouts are judged by them.
const RATE_OF_EVIDENCE: u32 = 400;

/// The acts that were asked for, each with its rate.
fn acts(typed: &Demo) -> Vec<(Script, u32)> {
    match (typed.script, typed.canary) {
        (true, _) => vec![(MIGRATION, RATE)],
        (false, true) => vec![(CANARY, RATE_OF_EVIDENCE)],
        (false, false) => vec![(NATIVE, RATE), (CANARY, RATE_OF_EVIDENCE)],
    }
}

/// Becomes true with the first Ctrl-C; the second ends the process.
fn interruption() -> Result<Arc<AtomicBool>, CliError> {
    let asked = signals::shutdown(false)?;
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&interrupted);
    thread::Builder::new()
        .name("interruption".to_owned())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            if let Ok(runtime) = runtime {
                runtime.block_on(asked);
                flag.store(true, Ordering::Relaxed);
            }
        })
        .map_err(CliError::Start)?;
    Ok(interrupted)
}
