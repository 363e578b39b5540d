//! Before an instance loads a model: it was tried once, and the cache has its prepared form where that pays.
//!
//! The child process that tries a model prepares it too, for that takes seconds of computing and twice the memory of the model.
//! The prepared form is used only where it gives the same answer as the model, byte for byte. Whatever stands in the way of
//! preparing (no room, no rights, ONNX Runtime's reasons), the model itself is served, and the log and a note say why.
//!
//! Threads: everything blocks. Not here: the files of the cache (`model_cache`), the child (`probe`).

use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serin_scorers::{JsonScorer, Signature};

use crate::config::PREPARE_BYTES_MIN;
use crate::engine::model_cache::{self, Made};
use crate::engine::probe::{self, Trial};
use crate::engine::session::{self, Session};
use crate::engine::{
    CacheEntry, CacheError, CacheKey, ModelCache, ProbeError, Prober, content, run_quietly_if,
    worker,
};

/// What a model answered, or said instead.
pub(super) type Answer = Result<Bytes, String>;

/// Both the weights as they are and the packed ones are written, and packing may make them larger.
const ROOM_PER_MODEL_BYTE: u64 = 3;

/// A model that is to be served.
#[derive(Debug, Clone, Copy)]
pub struct ModelFile<'a> {
    /// The ONNX file.
    pub path: &'a Path,
    /// Stands for the content of all its files.
    pub digest: &'a str,
    /// Bytes of all its files.
    pub bytes: u64,
    /// The request that tries it.
    pub sample_request: Option<&'a [u8]>,
}

/// A model that instances may load.
#[derive(Debug, Clone, Default)]
pub struct ReadyModel {
    /// What the cache holds of it, kept there for as long as this lives.
    pub cached: Option<Arc<CacheEntry>>,
    /// Why it is served as it is, where it was to be prepared.
    pub note: Option<String>,
}

/// Where the child puts the prepared form of a model.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    cache: ModelCache,
    key: CacheKey,
}

/// Why there is no prepared form.
#[derive(Debug)]
pub(super) enum NotPrepared {
    /// The child's words.
    Said(String),
    /// The child ended, or had to be ended; how.
    Died(String),
}

impl Prober {
    /// [`Prober::make_ready`] for a file whose content nobody has looked at: it is read first. It is tried each time. Blocks.
    ///
    /// # Errors
    ///
    /// [`ProbeError`] with the reason, when the model must not be served.
    pub fn make_file_ready(
        &self,
        path: &Path,
        sample_request: Option<&[u8]>,
        quiet: bool,
    ) -> Result<ReadyModel, ProbeError> {
        // The child says what is wrong with a file that cannot be read.
        let content = content::of(path).unwrap_or_default();
        let model = ModelFile {
            path,
            digest: &content.digest,
            bytes: content.bytes,
            sample_request,
        };
        self.make_ready(model, false, quiet)
    }

    /// Has a child try the model unless it was `tried` before, and prepare it unless the cache has it or it is too small; the
    /// child is `quiet` where others serve. Blocks.
    ///
    /// # Errors
    ///
    /// [`ProbeError`] with the reason, when the model must not be served.
    pub fn make_ready(
        &self,
        model: ModelFile<'_>,
        tried: bool,
        quiet: bool,
    ) -> Result<ReadyModel, ProbeError> {
        if tried && model.bytes < PREPARE_BYTES_MIN {
            return Ok(ReadyModel::default());
        }
        let place = Place::of(&model);
        let cached = place.look(quiet);
        let order = match &cached {
            Some(_) => Ok(None),
            None => place.order(&model),
        };
        if tried && !matches!(order, Ok(Some(_))) {
            return Ok(place.ready(cached, order.map(drop)));
        }
        let (order, refused) = match order {
            Ok(order) => (order, Ok(())),
            Err(reason) => (None, Err(reason)),
        };
        let trial = Trial {
            model: model.path,
            sample_request: model.sample_request,
            quiet,
        };
        let prepared = match self.try_and_prepare(trial, order) {
            Ok((_, prepared)) => prepared,
            // It was good before: what is wrong now is the machine.
            Err(error) if tried => Err(NotPrepared::Said(error.to_string())),
            Err(error) => return Err(error),
        };
        let prepared = prepared.map_err(|why| place.note(why));
        let cached = cached.or_else(|| place.look(quiet));
        Ok(place.ready(cached, refused.and(prepared)))
    }
}

/// Where the prepared form of a model belongs.
enum Place {
    /// It is too small for one.
    None,
    /// There is no cache.
    NoCache(String),
    Entry(ModelCache, CacheKey),
}

impl Place {
    fn of(model: &ModelFile<'_>) -> Self {
        if model.bytes < PREPARE_BYTES_MIN {
            return Self::None;
        }
        match ModelCache::open() {
            Ok(cache) => Self::Entry(cache, CacheKey::of_model(model.digest)),
            Err(error) => Self::NoCache(error.to_string()),
        }
    }

    /// What is there. Reading all of it for its checksum takes a while.
    fn look(&self, quiet: bool) -> Option<Arc<CacheEntry>> {
        let Self::Entry(cache, key) = self else {
            return None;
        };
        let (cache, key) = (cache.clone(), key.clone());
        run_quietly_if(quiet, move || cache.entry(&key)).map(Arc::new)
    }

    /// What the child is to do; the reason where that is pointless.
    fn order(&self, model: &ModelFile<'_>) -> Result<Option<Order>, String> {
        let Self::Entry(cache, key) = self else {
            return Ok(None);
        };
        let bytes = model.bytes.saturating_mul(ROOM_PER_MODEL_BYTE);
        cache
            .require_room(bytes)
            .map_err(|error| error.to_string())?;
        Ok(Some(Order {
            cache: cache.clone(),
            key: key.clone(),
        }))
    }

    /// The reason in words. A model that ends the process which prepares it would do so after every start: it is noted.
    fn note(&self, why: NotPrepared) -> String {
        let reason = match why {
            NotPrepared::Said(reason) => return reason,
            NotPrepared::Died(reason) => reason,
        };
        if let Self::Entry(cache, key) = self
            && let Err(error) = cache.make(key, |_| Ok(Made::Nothing(reason.clone())))
        {
            tracing::debug!(%error, "the model will be prepared again after a restart");
        }
        reason
    }

    /// The outcome, in words where the model is served as it is.
    fn ready(&self, cached: Option<Arc<CacheEntry>>, prepared: Result<(), String>) -> ReadyModel {
        let reason = match (self, &cached) {
            (Self::None, _) => None,
            (Self::NoCache(reason), _) => Some(reason.clone()),
            (Self::Entry(..), Some(entry)) => entry.reason().map(str::to_owned),
            (Self::Entry(..), None) => Some(
                prepared
                    .err()
                    .unwrap_or_else(|| "what was prepared has gone from the cache".to_owned()),
            ),
        };
        let note = reason.map(|reason| {
            format!("the model is served as it is, each instance with its own copy of the weights: it was not prepared ({reason})")
        });
        if let Some(note) = &note {
            tracing::warn!("{note}");
        }
        ReadyModel { cached, note }
    }
}

/// The child's part: prepares a model that gave this `answer`.
pub(super) fn carry_out(
    order: &Order,
    model: &Path,
    sample_request: Option<&[u8]>,
    answer: &Answer,
) -> Result<(), CacheError> {
    order.cache.make(&order.key, |folder| {
        let prepared = session::prepare(model, folder, &probe::one_thread())
            .and_then(|prepared| Session::load_prepared(&prepared, &probe::one_thread()));
        let made = match prepared {
            Ok(mut session) => compare(&mut session, sample_request, answer),
            Err(error) => Made::Nothing(error.to_string()),
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
fn compare(session: &mut Session, sample_request: Option<&[u8]>, answer: &Answer) -> Made {
    let scorer = JsonScorer::new(Signature::clone(session.signature()));
    let own = worker::warm_up(session, &scorer, sample_request).map_err(|failed| failed.problem);
    if own == *answer {
        Made::Model
    } else {
        Made::Nothing("its prepared form gives another answer".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

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

    fn answer(model: &Path, cached: Option<&Arc<CacheEntry>>) -> Answer {
        let mut session = Session::load(model, cached, &probe::one_thread()).unwrap();
        let scorer = JsonScorer::new(Signature::clone(session.signature()));
        worker::warm_up(&mut session, &scorer, None).map_err(|failed| failed.problem)
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

    #[test]
    fn a_model_whose_preparation_kills_the_child_is_not_prepared_again() {
        let folder = tempfile::tempdir().unwrap();
        let Order { cache, key } = order(folder.path());
        let place = Place::Entry(cache, key);
        place.note(NotPrepared::Said("no room".to_owned()));
        assert!(place.look(false).is_none());
        let reason = place.note(NotPrepared::Died("SIGSEGV".to_owned()));
        let entry = place.look(false);
        assert_eq!(
            entry.as_ref().and_then(|entry| entry.reason()),
            Some("SIGSEGV")
        );
        let ready = place.ready(entry, Err(reason));
        assert!(ready.note.unwrap().contains("(SIGSEGV)"));
    }
}
