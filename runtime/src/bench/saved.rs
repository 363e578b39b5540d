//! The file of a run with its raw samples, so that a later run can be compared with it.
//!
//! Bounded: of a long run neighbouring rounds are put together until [`ROUNDS_MAX`] are left, and a latency is kept to three digits.
//!
//! Not here: what two files say (`unpaired`), where files are (`cli`).

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::bench::report::Report;
use crate::bench::samples::{SavedBlock, batches};

/// Version of the form of the file.
pub(super) const FORM: u32 = 1;
/// Rounds of a run that are kept, over all its loads.
const ROUNDS_MAX: usize = 400;

/// A run with its raw samples.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Saved {
    /// Version of this form.
    pub saved: u32,
    /// The report of the run, in the form that its own `schema` says.
    pub report: Value,
    /// The samples under each load.
    pub levels: Vec<SavedLevel>,
}

/// The samples under one load.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SavedLevel {
    /// In words, as in the report.
    pub name: String,
    /// Of each version, in their order.
    pub versions: Vec<SavedVersion>,
}

/// The samples of one version.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SavedVersion {
    /// As in the report.
    pub label: String,
    /// SHA-256 of the model, where it is known.
    pub model_sha256: Option<String>,
    /// Its blocks that count, in order of time; those of one place in all versions are of one round.
    pub blocks: Vec<SavedBlock>,
}

/// The reason why a file is not a run.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// It is something else.
    #[error("expected a run that was written by --save: {0}")]
    NotSaved(#[from] serde_json::Error),
    /// Somebody wrote in it.
    #[error("expected a run as --save writes it: {0}")]
    Broken(&'static str),
    /// It is of another release.
    #[error("expected form {FORM} of a run, found {0}: write it anew with this version of serin")]
    OtherForm(u32),
}

/// What every form says of itself.
#[derive(Debug, Deserialize)]
struct Form {
    saved: u32,
}

impl Saved {
    /// Of a run that has ended.
    #[must_use]
    pub fn of(report: &Report) -> Self {
        let rounds = ROUNDS_MAX / report.levels.len().max(1);
        let levels = report.levels.iter().map(|level| SavedLevel {
            name: level.name.clone(),
            versions: report
                .versions
                .iter()
                .zip(level.samples.iter())
                .map(|(version, blocks)| SavedVersion {
                    label: version.label.clone(),
                    model_sha256: version.model_sha256.clone(),
                    blocks: batches(blocks, rounds.max(2)),
                })
                .collect(),
        });
        Self {
            saved: FORM,
            report: serde_json::to_value(report).expect("reports have a JSON form"),
            levels: levels.collect(),
        }
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    ///
    /// [`SavedError`].
    pub fn parse(text: &[u8]) -> Result<Self, SavedError> {
        // The form first: what else is missing follows from it.
        let form: Form = serde_json::from_slice(text)?;
        match form.saved {
            FORM => {
                let saved: Self = serde_json::from_slice(text)?;
                saved
                    .check()
                    .map_or(Ok(saved), |what| Err(SavedError::Broken(what)))
            }
            other => Err(SavedError::OtherForm(other)),
        }
    }

    /// What cannot be in a run: all that follows takes it for granted that it is not.
    fn check(&self) -> Option<&'static str> {
        let count = |level: &SavedLevel| level.versions.len();
        let versions = self.levels.first().map(count);
        if self
            .levels
            .iter()
            .map(count)
            .any(|count| Some(count) != versions)
        {
            return Some("its loads have different numbers of versions");
        }
        let versions = self.levels.iter().flat_map(|level| &level.versions);
        let mut problems = versions.flat_map(|version| &version.blocks);
        problems.find_map(SavedBlock::problem)
    }
}

/// SHA-256 of all requests, each after its length, in hexadecimal digits.
pub(super) fn inputs_sha256(inputs: &[Bytes]) -> String {
    let mut hash = Sha256::new();
    for input in inputs {
        hash.update((input.len() as u64).to_le_bytes());
        hash.update(input);
    }
    let digits = hash.finalize();
    digits.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::sample;

    #[test]
    fn a_file_is_read_as_it_was_written() {
        let saved = Saved::of(&sample::three());
        let text = serde_json::to_vec(&saved).unwrap();
        let read = Saved::parse(&text).unwrap();
        assert_eq!(serde_json::to_vec(&read).unwrap(), text);
        assert_eq!(read.levels[0].versions[0].blocks.len(), 10);
        assert_eq!(read.report["schema"], crate::bench::report::SCHEMA);
    }

    #[test]
    fn what_is_no_run_is_refused_and_one_of_another_release_is_named() {
        let refused = |text: &str| Saved::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(refused("{}").starts_with("expected a run that was written by --save: "));
        assert!(refused("not JSON").starts_with("expected a run"));
        assert_eq!(
            refused("{\"saved\": 7, \"other\": 1}"),
            "expected form 1 of a run, found 7: write it anew with this version of serin"
        );
        assert!(refused("{\"saved\": 1}").starts_with("expected a run"));
    }

    #[test]
    fn what_cannot_be_in_a_run_is_refused_and_not_computed_with() {
        let broken = |change: fn(&mut Saved)| {
            let mut saved = Saved::of(&sample::sweep());
            change(&mut saved);
            let text = serde_json::to_vec(&saved).unwrap();
            Saved::parse(&text).unwrap_err().to_string()
        };
        let block = |saved: &mut Saved| saved.levels[1].versions[0].blocks[2].clone();
        for change in [
            (|saved| drop(saved.levels[2].versions.pop())) as fn(&mut Saved),
            |saved| saved.levels[1].versions[0].blocks[2].failures = 1 << 40,
            |saved| saved.levels[1].versions[0].blocks[2].sent = u64::MAX,
            |saved| saved.levels[1].versions[0].blocks[2].endless = u64::MAX,
            |saved| saved.levels[1].versions[0].blocks[2].latencies_ns[3].1 = u64::MAX,
            |saved| saved.levels[1].versions[0].blocks[2].latencies_ns.reverse(),
        ] {
            let words = broken(change);
            assert!(
                words.starts_with("expected a run as --save writes it: "),
                "{words}"
            );
        }
        assert_eq!(
            SavedBlock::problem(&block(&mut Saved::of(&sample::sweep()))),
            None
        );
    }

    #[test]
    fn requests_that_are_cut_elsewhere_are_others() {
        let of = |inputs: &[&'static str]| {
            let inputs = inputs
                .iter()
                .map(|text| Bytes::from_static(text.as_bytes()));
            inputs_sha256(&inputs.collect::<Vec<_>>())
        };
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_ne!(of(&["a", "b"]), of(&["b", "a"]));
        assert_eq!(of(&[]).len(), 64);
    }
}
