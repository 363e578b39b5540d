//! The last words of the server before, from the black box: a line of the journal, and the models that are isolated from then on.
//!
//! What is blamed is a model, by its content: another version of it is another model, and a deployment that comes back with the
//! same content is isolated again.
//! Not here: how a death is read, and who is a suspect (`black_box`).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::black_box::{BlackBox, Cause, LastDeath, Trace};
use crate::control::desired::Desired;
use crate::control::models::ModelDigest;
use crate::control::store::{DataFolder, Loaded, NewEntry, Store, StoreError};

/// Reads how the server before has died, if it did, makes that durable, and takes the black box over for this process.
///
/// Without a black box, as where the disk is full, a server serves all the same.
pub(super) fn take_over(
    folder: &DataFolder,
    store: &mut Store,
    loaded: &mut Loaded,
) -> Result<(), StoreError> {
    let (black_box, death) = match BlackBox::open(folder.path()) {
        Ok(opened) => opened,
        Err(error) => {
            tracing::warn!(%error, "there is no black box: were this server to die, the next one would not know of what");
            return Ok(());
        }
    };
    if let Some(death) = death {
        let sentence = sentence(&death, &loaded.desired);
        let isolated = isolated(&death, &sentence);
        tracing::error!(
            pid = death.pid,
            death = sentence,
            "the server before did not end in good order"
        );
        // Before the black box is begun anew: a death is told twice rather than never.
        let noted = store.insert_death(&isolated, &entry(&death, sentence));
        loaded.isolated.extend(isolated);
        match noted {
            Err(error @ (StoreError::Full | StoreError::Disk(_))) => {
                tracing::warn!(%error, "the death is not in the journal; the next start notes it, and until then there is no black box");
                return Ok(());
            }
            noted => noted?,
        }
    }
    black_box.start();
    black_box.install();
    Ok(())
}

/// The suspects, each with the death that it is a suspect of.
fn isolated(death: &LastDeath, sentence: &str) -> BTreeMap<ModelDigest, String> {
    let digests = death.suspects.iter().filter_map(digest);
    digests
        .map(|digest| (digest, sentence.to_owned()))
        .collect()
}

fn digest(trace: &Trace) -> Option<ModelDigest> {
    // As `Display` writes it; what is not one stands for no content.
    ModelDigest::of_name(trace.digest.strip_prefix("sha256:")?)
}

fn entry(death: &LastDeath, sentence: String) -> NewEntry {
    let labels = |traces: &[Trace]| -> BTreeSet<String> {
        traces.iter().map(|one| one.label.clone()).collect()
    };
    let signal = match death.cause {
        Cause::Signal { signal, .. } => Some(signal),
        Cause::Silence | Cause::MachineDown => None,
    };
    NewEntry {
        revision: None,
        by: "serin".to_owned(),
        change: json!({
            "kind": "server_died", "pid": death.pid, "started": death.started, "signal": signal,
            "deployments": labels(&death.ran), "isolated": labels(&death.suspects),
        }),
        why: Some(sentence),
    }
}

/// The death in a sentence without a full stop.
fn sentence(death: &LastDeath, desired: &Desired) -> String {
    let blamed = !death.suspects.is_empty();
    let whom = if blamed { &death.suspects } else { &death.ran };
    let ran = doings(whom, desired);
    let how = match &death.cause {
        Cause::Signal {
            signal,
            sender: Some(pid),
            ..
        } => format!("ended by {signal} from process {pid}"),
        Cause::Signal { signal, thread, .. } if !blamed => {
            format!("killed by {signal} in thread {thread:?}, which computes for no model")
        }
        Cause::Signal { signal, .. } => format!("killed by {signal}"),
        Cause::Silence => "ended without a word (SIGKILL, as when memory runs out)".to_owned(),
        Cause::MachineDown => "ended with the machine (a power cut or a reset)".to_owned(),
    };
    let several = death.suspects.len() > 1;
    match ran {
        None => format!("{how}; no model ran"),
        Some(ran) if several => format!("{how} while {ran}; one of them did it"),
        Some(ran) => format!("{how} while {ran}"),
    }
}

/// `deployment iris/blue ran model digits:1 and ..`; nothing where nobody did anything.
fn doings(traces: &[Trace], desired: &Desired) -> Option<String> {
    let words = traces.iter().map(|trace| {
        let doing = if trace.loading { "loaded" } else { "ran" };
        let model = model(trace, desired);
        format!("deployment {} {doing} {model}", trace.label)
    });
    // Lanes of one deployment say the same.
    let words: BTreeSet<_> = words.collect();
    let words: Vec<_> = words.into_iter().collect();
    (!words.is_empty()).then(|| words.join(" and "))
}

/// The model by its name and version, where a deployment says them, else by the beginning of its digest.
fn model(trace: &Trace, desired: &Desired) -> String {
    let digest = digest(trace);
    let targets = desired.deployments().flat_map(|(_, one)| {
        let good = one.last_good.as_deref();
        std::iter::once(&one.target).chain(good)
    });
    let mut models = targets.map(|target| &target.model);
    let named = models.find_map(|model| {
        let is_meant = Some(&model.digest) == digest.as_ref();
        model.registered.as_ref().filter(|_| is_meant)
    });
    match named {
        Some((name, version)) => format!("model {name}:{version}"),
        // As many digits as tell models apart for people.
        None => format!(
            "model {}",
            trace.digest.get(..19).unwrap_or("of unknown content")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(label: &str, lane: &str, digit: &str) -> Trace {
        Trace {
            label: label.to_owned(),
            lane: lane.to_owned(),
            digest: format!("sha256:{}", digit.repeat(64)),
            loading: false,
        }
    }

    fn death(cause: Cause, ran: &[Trace], suspects: &[Trace]) -> LastDeath {
        LastDeath {
            pid: 7,
            started: jiff::Timestamp::UNIX_EPOCH,
            cause,
            ran: ran.to_vec(),
            suspects: suspects.to_vec(),
        }
    }

    fn fault(thread: &str) -> Cause {
        Cause::Signal {
            signal: "SIGFPE",
            sender: None,
            thread: thread.to_owned(),
        }
    }

    #[track_caller]
    fn check(death: &LastDeath, words: &str, isolated_digits: &[&str]) {
        let sentence = sentence(death, &Desired::default());
        assert_eq!(sentence, words);
        let isolated = isolated(death, &sentence);
        let digits: Vec<_> = isolated
            .keys()
            .map(|digest| &digest.as_str()[..1])
            .collect();
        assert_eq!(digits, isolated_digits);
        assert!(isolated.values().all(|reason| *reason == sentence));
    }

    #[test]
    fn a_fault_within_a_run_isolates_its_model_and_no_other() {
        let (blue, green) = (
            trace("iris/blue", "#1.0", "a"),
            trace("iris/green", "#2.0", "b"),
        );
        check(
            &death(fault("iris/blue#1.0"), &[blue.clone(), green], &[blue]),
            "killed by SIGFPE while deployment iris/blue ran model sha256:aaaaaaaaaaaa",
            &["a"],
        );
    }

    #[test]
    fn with_several_suspects_all_are_isolated_and_it_is_said_that_one_did_it() {
        let all = [
            trace("iris/blue", "#1.0", "a"),
            trace("iris/blue", "#1.1", "a"),
            trace("iris/green", "#2.0", "b"),
        ];
        check(
            &death(fault("pool"), &all, &all),
            "killed by SIGFPE while deployment iris/blue ran model sha256:aaaaaaaaaaaa and deployment iris/green ran model \
             sha256:bbbbbbbbbbbb; one of them did it",
            &["a", "b"],
        );
    }

    #[test]
    fn what_is_not_the_fault_of_a_model_isolates_none() {
        let ran = [trace("iris/blue", "#1.0", "a")];
        check(
            &death(Cause::Silence, &ran, &[]),
            "ended without a word (SIGKILL, as when memory runs out) while deployment iris/blue ran model sha256:aaaaaaaaaaaa",
            &[],
        );
        check(
            &death(Cause::MachineDown, &[], &[]),
            "ended with the machine (a power cut or a reset); no model ran",
            &[],
        );
        let sent = Cause::Signal {
            signal: "SIGSEGV",
            sender: Some(12),
            thread: "serin".to_owned(),
        };
        check(
            &death(sent, &ran, &[]),
            "ended by SIGSEGV from process 12 while deployment iris/blue ran model sha256:aaaaaaaaaaaa",
            &[],
        );
        check(
            &death(fault("serin-edge-0"), &[], &[]),
            "killed by SIGFPE in thread \"serin-edge-0\", which computes for no model; no model ran",
            &[],
        );
    }

    #[test]
    fn nonsense_in_a_damaged_black_box_is_told_and_isolates_nothing() {
        let odd = Trace {
            digest: "é".repeat(30),
            loading: true,
            ..trace("?", "?", "a")
        };
        check(
            &death(
                fault("?"),
                std::slice::from_ref(&odd),
                std::slice::from_ref(&odd),
            ),
            "killed by SIGFPE while deployment ? loaded model of unknown content",
            &[],
        );
    }
}
