//! Before an instance loads a model: it was tried once, and the cache has its prepared form where that pays.
//!
//! The child process that tries a model prepares it too, for that takes seconds of computing and twice the memory of the model.
//! The prepared form is used only where it gives the same answer as the model, byte for byte. Whatever stands in the way of
//! preparing (no room, no rights, ONNX Runtime's reasons), the model itself is served, and the log and a note say why.
//!
//! Threads: everything blocks. Not here: the files of the cache (`model_cache`), how a child is asked (`probe`), how a model
//! is prepared (`probe_child`).

use std::path::Path;
use std::sync::Arc;

use crate::config::PREPARE_BYTES_MIN;
use crate::engine::model_cache::Made;
use crate::engine::private_copy::Stamp;
use crate::engine::probe::{NotPrepared, Trial};
use crate::engine::probe_words::Order;
use crate::engine::{
    CacheEntry, CacheKey, ModelCache, PrivateCopy, ProbeError, Prober, Stage, content,
    run_in_background_if,
};

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
    /// The cache's entry of it, kept there for as long as this lives.
    pub cached: Option<Arc<CacheEntry>>,
    /// The reason why it is served as it is, where it was to be prepared.
    pub note: Option<String>,
    /// Its files, where those that it was made of may change.
    pub copy: Option<Arc<PrivateCopy>>,
}

impl ReadyModel {
    /// A model that nobody tries: a copy of its files, which may change. A file that is not there is told of by whoever loads it.
    ///
    /// # Errors
    ///
    /// What stands in the way of copying, in words.
    pub fn of_untried_file(path: &Path) -> Result<Self, String> {
        if !path.is_file() {
            return Ok(Self::default());
        }
        let before = Stamp::of(path);
        let copy = PrivateCopy::of(path)?;
        if Stamp::of(path) != before {
            return Err(ProbeError::Changed(path.to_owned()).to_string());
        }
        Ok(Self {
            copy: Some(Arc::new(copy)),
            ..Self::default()
        })
    }
}

impl Prober {
    /// [`Prober::make_ready`] for a file whose content nobody has looked at, and which may be rewritten at any time: it is read
    /// first, and what instances load is its prepared form or a copy. It is tried each time. Blocks.
    ///
    /// # Errors
    ///
    /// [`ProbeError`] with the reason, when the model must not be served.
    pub fn make_file_ready(
        &self,
        path: &Path,
        sample_request: Option<&[u8]>,
        background: bool,
    ) -> Result<ReadyModel, ProbeError> {
        self.tell.say(path, Stage::Reading);
        let before = Stamp::of(path);
        // The child says what is wrong with a file that cannot be read.
        let content = content::of(path).unwrap_or_default();
        let model = ModelFile {
            path,
            digest: &content.digest,
            bytes: content.bytes,
            sample_request,
        };
        let ready = self.make_ready(model, false, background)?;
        let is_prepared = ready
            .cached
            .as_ref()
            .is_some_and(|one| one.model().is_some());
        let copy = if is_prepared {
            None
        } else {
            self.tell.say(path, Stage::Copying);
            Some(PrivateCopy::of(path).map_err(ProbeError::Model)?)
        };
        // What was tried, and is in the cache under its digest, is what was there all the time.
        if Stamp::of(path) != before {
            return Err(ProbeError::Changed(path.to_owned()));
        }
        Ok(ReadyModel {
            copy: copy.map(Arc::new),
            ..ready
        })
    }

    /// Has a child try the model unless it was `tried` before, and prepare it unless the cache has it or it is too small; the
    /// child runs in the `background` where others serve. Blocks.
    ///
    /// # Errors
    ///
    /// [`ProbeError`] with the reason, when the model must not be served.
    pub fn make_ready(
        &self,
        model: ModelFile<'_>,
        tried: bool,
        background: bool,
    ) -> Result<ReadyModel, ProbeError> {
        if tried && model.bytes < PREPARE_BYTES_MIN {
            return Ok(ReadyModel::default());
        }
        let destination = Destination::of(&model);
        self.tell.say(model.path, Stage::Reading);
        let cached = destination.look(background);
        let order = match &cached {
            Some(_) => Ok(None),
            None => destination.order(&model),
        };
        if tried && !matches!(order, Ok(Some(_))) {
            return Ok(destination.ready(cached, order.map(drop)));
        }
        let (order, refused) = match order {
            Ok(order) => (order, Ok(())),
            Err(reason) => (None, Err(reason)),
        };
        let trial = Trial {
            model: model.path,
            sample_request: model.sample_request,
            background,
        };
        let prepared = match self.try_and_prepare(trial, order) {
            Ok((_, prepared)) => prepared,
            Err(ProbeError::Canceled) => return Err(ProbeError::Canceled),
            // It was good before: what is wrong now is the machine.
            Err(error) if tried => Err(NotPrepared::Said(error.to_string())),
            Err(error) => return Err(error),
        };
        let prepared = prepared.map_err(|why| destination.note(why));
        let cached = cached.or_else(|| destination.look(background));
        Ok(destination.ready(cached, refused.and(prepared)))
    }
}

/// The place in the cache where the prepared form of a model belongs.
enum Destination {
    /// It is too small for one.
    None,
    /// There is no cache.
    NoCache(String),
    Entry(ModelCache, CacheKey),
}

impl Destination {
    fn of(model: &ModelFile<'_>) -> Self {
        if model.bytes < PREPARE_BYTES_MIN {
            return Self::None;
        }
        match ModelCache::open() {
            Ok(cache) => Self::Entry(cache, CacheKey::of_model(model.digest)),
            Err(error) => Self::NoCache(error.to_string()),
        }
    }

    /// The entry that is there. Reading all of it for its checksum takes a while.
    fn look(&self, background: bool) -> Option<Arc<CacheEntry>> {
        let Self::Entry(cache, key) = self else {
            return None;
        };
        let (cache, key) = (cache.clone(), key.clone());
        run_in_background_if(background, move || cache.entry(&key)).map(Arc::new)
    }

    /// The order for the child; the reason where that is pointless.
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

    /// The reason in words. A model that ends the process which prepares it would do so after every start: it is noted, and for a
    /// while that of one that was ended from outside is.
    fn note(&self, why: NotPrepared) -> String {
        let (reason, made): (_, fn(String) -> Made) = match why {
            NotPrepared::Said(reason) => return reason,
            NotPrepared::Died(reason) => (reason, Made::Nothing),
            NotPrepared::Killed(reason) => (reason, Made::NotNow),
        };
        if let Self::Entry(cache, key) = self
            && let Err(error) = cache.make(key, |_| Ok(made(reason.clone())))
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
        ReadyModel {
            cached,
            note,
            copy: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_whose_preparation_kills_the_child_is_not_prepared_again() {
        let folder = tempfile::tempdir().unwrap();
        let cache = ModelCache::open_in(folder.path()).unwrap();
        let destination = Destination::Entry(cache, CacheKey::of_model("test"));
        destination.note(NotPrepared::Said("no room".to_owned()));
        assert!(destination.look(false).is_none());
        let reason = destination.note(NotPrepared::Died("SIGSEGV".to_owned()));
        let entry = destination.look(false);
        assert_eq!(
            entry.as_ref().and_then(|entry| entry.reason()),
            Some("SIGSEGV")
        );
        let ready = destination.ready(entry, Err(reason));
        assert!(ready.note.unwrap().contains("(SIGSEGV)"));
    }
}
