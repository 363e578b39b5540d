//! The child process that tries a model and prepares it: its own side.
//!
//! Threads: the child's first thread, which the hidden subcommand gives to [`probe_child`].
//! Not here: the parent, which judges how the child ended (`probe`), and the files of the cache (`model_cache`).

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use rustix::process::{Resource, Signal, getppid, set_parent_process_death_signal};
use serde::Serialize;
use serin_scorers::{JsonScorer, Signature};

use crate::engine::background;
use crate::engine::child_limits::limit;
use crate::engine::child_notes::tell_parent;
use crate::engine::cores;
use crate::engine::loading::{self, WarmUpProblem};
use crate::engine::model_cache::{self, Made};
use crate::engine::probe_words::{Order, ProbeRequest, is_about_memory};
use crate::engine::session::{self, Session, SessionThreads};
use crate::engine::{CacheError, LoadError, ProbeReport};

/// Begins the names of the child's threads.
const LABEL: &str = "probe";
/// The same where the process is no child.
const HERE_LABEL: &str = "prepare";

/// The answer of a model, or its words instead.
type ModelAnswer = Result<Bytes, String>;

/// The life of the child, called by the hidden subcommand: reads a request from stdin, writes a report to stdout, and then what came
/// of preparing the model, where that is asked for.
///
/// Returns the exit code: 0 when the model can be served.
#[must_use]
pub fn probe_child() -> u8 {
    tell_parent();
    let asked = receive();
    let in_background = asked.as_ref().is_ok_and(|request| request.background);
    let _heartbeat = in_background.then(|| background::enter_background(cores::last()));
    let tried = asked.and_then(|request| Ok((try_model(&request)?, request)));
    let report = tried.as_ref().map(|((report, _), _)| report);
    let mut written = say(&report);
    if let Ok(((_, answer), request)) = &tried
        && let Some(order) = &request.prepare
    {
        let sample = request.sample_request.as_deref().map(str::as_bytes);
        let prepared = carry_out(order, &request.model, sample, answer);
        written &= say(&prepared.map_err(|error| error.to_string()));
    }
    u8::from(tried.is_err() || !written)
}

/// Writes one line; whether the server can read it.
fn say(words: &impl Serialize) -> bool {
    let Ok(mut line) = serde_json::to_vec(words) else {
        return false;
    };
    line.push(b'\n');
    io::stdout()
        .write_all(&line)
        .and_then(|()| io::stdout().flush())
        .is_ok()
}

/// Reads what is asked. From then on a server that is killed takes the child along: nobody else would end a model that hangs.
fn receive() -> Result<ProbeRequest, String> {
    let words = |error: io::Error| error.to_string();
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| words(error.into()))?;
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).map_err(words)?;
    let request: ProbeRequest = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    // Killed before the signal was asked for: the parent is another process by now.
    let parent = getppid().map(|parent| parent.as_raw_nonzero().get().unsigned_abs());
    if parent == Some(request.parent) {
        Ok(request)
    } else {
        Err("the server has ended".to_owned())
    }
}

/// Loads the model and runs it once: the report, and the answer of the model.
fn try_model(request: &ProbeRequest) -> Result<(ProbeReport, ModelAnswer), String> {
    limit(Resource::As, request.memory_bytes)
        .map_err(|error| format!("cannot limit the memory: {error}"))?;
    // A crash is an answer; nobody wants its core file.
    limit(Resource::Core, 0).map_err(|error| format!("cannot switch core files off: {error}"))?;
    let begun = Instant::now();
    let mut session = Session::load(&request.model, None, &SessionThreads::one(LABEL))
        .map_err(|error| error.to_string())?;
    let loaded = Instant::now();
    let scorer = JsonScorer::new(Signature::clone(session.signature()));
    let sample = request.sample_request.as_deref().map(str::as_bytes);
    let answer = match loading::warm_up(&mut session, &scorer, sample) {
        Err(WarmUpProblem {
            problem,
            made_up: false,
        }) => {
            return Err(format!(
                "the model does not run on its sample request: {problem}"
            ));
        }
        // Inputs that nobody asked for may be refused, but no server should have to find that much memory for them.
        Err(WarmUpProblem {
            problem,
            made_up: true,
        }) if is_about_memory(&problem) => return Err(problem),
        answer => answer.map_err(|failed| failed.problem),
    };
    let report = ProbeReport {
        signature: Signature::clone(session.signature()),
        load_ms: loaded.duration_since(begun).as_secs_f64() * 1e3,
        run_ms: loaded.elapsed().as_secs_f64() * 1e3,
        warnings: Vec::new(),
    };
    Ok((report, answer))
}

/// Runs the model once in this process and prepares it, for a program in which no child does; the reason where that fails.
pub(super) fn prepare_here(
    order: &Order,
    model: &Path,
    sample_request: Option<&[u8]>,
) -> Result<(), String> {
    let words = |error: LoadError| error.to_string();
    let answer = {
        let mut session =
            Session::load(model, None, &SessionThreads::one(HERE_LABEL)).map_err(words)?;
        let scorer = JsonScorer::new(Signature::clone(session.signature()));
        let answer = loading::warm_up(&mut session, &scorer, sample_request);
        answer.map_err(|failed| failed.problem)
    };
    carry_out(order, model, sample_request, &answer).map_err(|error| error.to_string())
}

/// Prepares a model that gave this `answer`.
fn carry_out(
    order: &Order,
    model: &Path,
    sample_request: Option<&[u8]>,
    answer: &ModelAnswer,
) -> Result<(), CacheError> {
    order.cache.make(&order.key, |folder| {
        let prepared = session::prepare(model, folder, &SessionThreads::one(LABEL))
            .and_then(|prepared| Session::load_prepared(&prepared, &SessionThreads::one(LABEL)));
        let made = match prepared {
            Ok(mut session) => compare(&mut session, sample_request, answer),
            Err(error) => match error.to_string() {
                reason if is_about_memory(&reason) => Made::NotNow(reason),
                reason => Made::Nothing(reason),
            },
        };
        if made != Made::Model {
            for name in [model_cache::MODEL_FILE, model_cache::WEIGHTS_FILE] {
                // Not there where ONNX Runtime did not come so far.
                drop(fs::remove_file(folder.join(name)));
            }
        }
        Ok(made)
    })
}

/// Whether the prepared model answers as the model itself did.
fn compare(session: &mut Session, sample_request: Option<&[u8]>, answer: &ModelAnswer) -> Made {
    let scorer = JsonScorer::new(Signature::clone(session.signature()));
    let own = loading::warm_up(session, &scorer, sample_request).map_err(|failed| failed.problem);
    if own == *answer {
        Made::Model
    } else {
        Made::Nothing("its prepared form gives another answer".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::process::Command;
    use std::sync::Arc;

    use super::*;
    use crate::engine::{CacheEntry, CacheKey, ModelCache};

    /// Room for ONNX Runtime, not for the 64 GiB that the model asks for.
    const MEMORY_BYTES_MAX: u64 = 8 << 30;

    /// Set in the process that plays the child.
    const CHILD: &str = "SERIN_TEST_PROBE_CHILD";

    /// In a process of its own, for the limits are the process's.
    #[test]
    fn a_model_that_takes_all_memory_is_refused_without_a_sample_request_too() {
        if std::env::var_os(CHILD).is_some() {
            let outcome = try_model(&ProbeRequest {
                parent: 0,
                model: Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/test/hungry.onnx"),
                sample_request: None,
                memory_bytes: MEMORY_BYTES_MAX,
                background: false,
                prepare: None,
            });
            let problem = outcome.unwrap_err();
            assert!(is_about_memory(&problem), "{problem}");
            return;
        }
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "--test-threads=1"])
            .arg("engine::probe_child::tests::a_model_that_takes_all_memory_is_refused_without_a_sample_request_too")
            .env(CHILD, "1")
            .output()
            .unwrap();
        let words = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && words.contains("1 passed"),
            "{words}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn digits(version: u32) -> PathBuf {
        let path = format!("../models/digits/{version}/model.onnx");
        Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
    }

    fn order(cache: &Path) -> Order {
        Order {
            cache: ModelCache::open_in(cache).unwrap(),
            key: CacheKey::of_model("test"),
        }
    }

    fn answer(model: &Path, cached: Option<&Arc<CacheEntry>>) -> ModelAnswer {
        let mut session = Session::load(model, cached, &SessionThreads::one(LABEL)).unwrap();
        let scorer = JsonScorer::new(Signature::clone(session.signature()));
        loading::warm_up(&mut session, &scorer, None).map_err(|failed| failed.problem)
    }

    #[test]
    fn a_prepared_model_gives_the_same_answer() {
        for version in [1, 2] {
            let folder = tempfile::tempdir().unwrap();
            let (model, order) = (digits(version), order(folder.path()));
            let own = answer(&model, None);
            assert!(own.is_ok(), "{own:?}");
            carry_out(&order, &model, None, &own).unwrap();
            let entry = Arc::new(order.cache.entry(&order.key).unwrap());
            assert!(entry.model().is_some(), "{:?}", entry.reason());
            // Not read where the prepared form is loaded.
            let elsewhere = Path::new("/nowhere/model.onnx");
            assert_eq!(answer(elsewhere, Some(&entry)), own);
        }
    }

    #[test]
    fn a_form_with_another_answer_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (model, order) = (digits(1), order(folder.path()));
        let other = Ok(Bytes::from_static(b"{}"));
        carry_out(&order, &model, None, &other).unwrap();
        let entry = order.cache.entry(&order.key).unwrap();
        assert_eq!(entry.model(), None);
        assert!(entry.reason().unwrap().contains("another answer"));
        assert!(!entry.folder().join(model_cache::MODEL_FILE).exists());
    }

    #[test]
    fn what_onnx_runtime_cannot_prepare_is_noted_with_its_reason() {
        let folder = tempfile::tempdir().unwrap();
        let order = order(folder.path());
        let model = folder.path().join("model.onnx");
        fs::write(&model, "no model").unwrap();
        carry_out(&order, &model, None, &Err(String::new())).unwrap();
        let entry = order.cache.entry(&order.key).unwrap();
        let reason = entry.reason().unwrap();
        assert!(reason.contains("not an ONNX model"), "{reason}");
    }
}
