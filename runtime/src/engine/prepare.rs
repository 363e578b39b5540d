//! Before an instance loads a model: it was tried once, and the cache has its prepared form where that pays.
//!
//! The child process that tries a model prepares it too, for that takes seconds of computing and twice the memory of the model;
//! where no child is wanted, as in a program that has no serin binary, this process does it, one model after another. The prepared form is used only where it gives the same answer as the model, byte for byte. Whatever stands in the way of
//! preparing (no room, no rights, ONNX Runtime's reasons), the model itself is served, and the log and a note say why.
//!
//! Threads: everything blocks. Not here: the files of the cache (`model_cache`), how a child is asked (`probe`), how a model
//! is prepared (`probe_child`).

use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::config::PREPARE_BYTES_MIN;
use crate::engine::lock::lock;
use crate::engine::model_cache::Made;
use crate::engine::private_copy::Stamp;
use crate::engine::probe::{NotPrepared, Trial};
use crate::engine::probe_child;
use crate::engine::probe_words::Order;
use crate::engine::{
    CacheEntry, CacheKey, ModelCache, PrivateCopy, ProbeError, Prober, Stage, content,
    give_back_memory, run_in_background_if,
};

/// Both the weights as they are and the packed ones are written, and packing may make them larger.
const ROOM_PER_MODEL_BYTE: u64 = 3;

/// Held by who prepares a model in this process: two at once would take the memory of both.
static PREPARING: Mutex<()> = Mutex::new(());

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
    /// What ONNX Runtime warned of when it was prepared; of one that is served as it is, instances hear that themselves.
    pub warnings: Vec<String>,
    /// Its files, where those that it was made of may change.
    pub copy: Option<Arc<PrivateCopy>>,
    /// Stands for its content, where nobody else has a name for that: what is measured of it is kept under this name.
    pub digest: Option<String>,
}

impl ReadyModel {
    /// A model that nobody tries: a copy of its files, which may change, or its prepared form where it is large. A file that is
    /// not there is told of by whoever loads it. Blocks.
    ///
    /// # Errors
    ///
    /// What stands in the way of copying, in words.
    pub fn of_untried_file(
        path: &Path,
        sample_request: Option<&[u8]>,
        background: bool,
    ) -> Result<Self, String> {
        if !path.is_file() {
            return Ok(Self::default());
        }
        let before = Stamp::of(path);
        let copy = PrivateCopy::of(path)?;
        if Stamp::of(path) != before {
            return Err(ProbeError::Changed(path.to_owned()).to_string());
        }
        Ok(Self::of_copy(copy, sample_request, background))
    }

    /// A model that a program has in memory, and that nobody tries; `name` is for people. Blocks.
    ///
    /// # Errors
    ///
    /// What stands in the way of writing it to a file, or the file that it keeps data in, in words.
    pub fn of_bytes(
        (name, content): (&str, &[u8]),
        sample_request: Option<&[u8]>,
        background: bool,
    ) -> Result<Self, String> {
        let copy = PrivateCopy::of_bytes(name, content)?;
        Ok(Self::of_copy(copy, sample_request, background))
    }

    /// Whether instances load its prepared form.
    fn is_prepared(&self) -> bool {
        let cached = self.cached.as_ref();
        cached.is_some_and(|one| one.model().is_some())
    }

    /// The copy, and beside it the prepared form where that pays.
    fn of_copy(copy: PrivateCopy, sample_request: Option<&[u8]>, background: bool) -> Self {
        // Whoever loads it says what is wrong with a file that cannot be read.
        let Ok(content) = content::of(copy.model()) else {
            return Self {
                copy: Some(Arc::new(copy)),
                ..Self::default()
            };
        };
        let model = ModelFile {
            path: copy.model(),
            digest: &content.digest,
            bytes: content.bytes,
            sample_request,
        };
        let ready = Self::prepared_here(&model, background);
        Self {
            digest: Some(content.digest),
            copy: Some(Arc::new(copy)),
            ..ready
        }
    }

    /// A model that nobody tries and whose files nobody changes: prepared in this process unless the cache has it or it is too
    /// small; in the `background` where others serve. Whatever stands in the way, the model is served as it is. Blocks.
    #[must_use]
    pub fn prepared_here(model: &ModelFile<'_>, background: bool) -> Self {
        prepare_here(&Destination::of(model), model, background)
    }
}

fn prepare_here(destination: &Destination, model: &ModelFile<'_>, background: bool) -> ReadyModel {
    if matches!(destination, Destination::None) {
        return ReadyModel::default();
    }
    if let Some(cached) = destination.look(background) {
        return destination.ready(Some(cached), Ok(()));
    }
    let _alone = lock(&PREPARING);
    // Whoever came first may have prepared the same content.
    let cached = destination.look(background);
    let order = match &cached {
        Some(_) => Ok(None),
        None => destination.order(model),
    };
    let prepared = match order {
        Ok(None) => Ok(()),
        Err(reason) => Err(reason),
        Ok(Some(order)) => {
            let (path, sample) = (
                model.path.to_owned(),
                model.sample_request.map(<[u8]>::to_vec),
            );
            let work = move || probe_child::prepare_here(&order, &path, sample.as_deref());
            let prepared = run_in_background_if(background, work);
            give_back_memory();
            prepared
        }
    };
    let cached = cached.or_else(|| destination.look(background));
    destination.ready(cached, prepared)
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
        let copy = if ready.is_prepared() {
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
            digest: (!content.digest.is_empty()).then_some(content.digest),
            ..ready
        })
    }

    /// [`Prober::make_ready`] for a model that a program has in memory; `name` is for people. Blocks.
    ///
    /// # Errors
    ///
    /// [`ProbeError`] with the reason, when the model must not be served.
    pub fn make_bytes_ready(
        &self,
        (name, content): (&str, &[u8]),
        sample_request: Option<&[u8]>,
        background: bool,
    ) -> Result<ReadyModel, ProbeError> {
        let copy = PrivateCopy::of_bytes(name, content).map_err(ProbeError::Model)?;
        let content = content::of(copy.model()).unwrap_or_default();
        let model = ModelFile {
            path: copy.model(),
            digest: &content.digest,
            bytes: content.bytes,
            sample_request,
        };
        let ready = self.make_ready(model, false, background)?;
        Ok(ReadyModel {
            copy: Some(Arc::new(copy)),
            digest: (!content.digest.is_empty()).then_some(content.digest),
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
        let mut warnings = Vec::new();
        let prepared = match self.try_and_prepare(trial, order) {
            Ok((report, prepared)) => {
                warnings = report.warnings;
                prepared
            }
            Err(ProbeError::Canceled) => return Err(ProbeError::Canceled),
            // It was good before: what is wrong now is the machine.
            Err(error) if tried => Err(NotPrepared::Said(error.to_string())),
            Err(error) => return Err(error),
        };
        let prepared = prepared.map_err(|why| destination.note(why));
        let cached = cached.or_else(|| destination.look(background));
        let ready = destination.ready(cached, refused.and(prepared));
        let is_prepared = ready.is_prepared();
        Ok(ReadyModel {
            warnings: if is_prepared { warnings } else { Vec::new() },
            ..ready
        })
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
            ..ReadyModel::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::session::{Session, SessionThreads};

    fn digits() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/digits/2/model.onnx")
    }

    /// As if it were large.
    fn model<'a>(path: &'a Path, digest: &'a str) -> ModelFile<'a> {
        ModelFile {
            path,
            digest,
            bytes: PREPARE_BYTES_MIN,
            sample_request: None,
        }
    }

    fn place(cache: &Path, digest: &str) -> Destination {
        let cache = ModelCache::open_in(cache).unwrap();
        Destination::Entry(cache, CacheKey::of_model(digest))
    }

    #[test]
    fn a_large_model_is_prepared_in_this_process_and_all_sessions_map_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = digits();
        let prepare = |background| {
            let place = place(folder.path(), "digits");
            prepare_here(&place, &model(&path, "digits"), background)
        };
        let ready = prepare(false);
        assert_eq!(ready.note, None);
        let cached = ready.cached.expect("it was prepared");
        // In the background, and with what is there already.
        assert!(
            prepare(true)
                .cached
                .is_some_and(|one| one.model().is_some())
        );
        let load = || Session::load(&path, Some(&cached), &SessionThreads::one("test")).unwrap();
        let weights = cached.folder().join("weights.bin");
        let mapped = || {
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
            let of_file = maps
                .lines()
                .filter(|line| line.ends_with(weights.to_str().unwrap()));
            of_file.count()
        };
        let _one = load();
        let tensors = mapped();
        assert!(tensors > 0);
        let _other = load();
        assert_eq!(mapped(), 2 * tensors);
    }

    #[test]
    fn models_of_one_content_that_are_prepared_at_once_are_prepared_and_well() {
        let folder = tempfile::tempdir().unwrap();
        let path = digits();
        let prepare = || {
            let place = place(folder.path(), "at once");
            prepare_here(&place, &model(&path, "at once"), true)
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(prepare)).collect();
            for ready in threads.into_iter().map(|one| one.join().unwrap()) {
                assert_eq!(ready.note, None);
                assert!(ready.cached.is_some_and(|one| one.model().is_some()));
            }
        });
    }

    #[test]
    fn what_cannot_be_prepared_here_is_served_as_it_is_with_a_note() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("none.onnx");
        std::fs::write(&path, "no model").unwrap();
        let ready = prepare_here(&place(folder.path(), "none"), &model(&path, "none"), false);
        assert!(ready.cached.is_none_or(|one| one.model().is_none()));
        let note = ready.note.expect("a note");
        assert!(note.contains("not an ONNX model"), "{note}");
        let digits = digits();
        let no_cache = Destination::NoCache("no rights".to_owned());
        let ready = prepare_here(&no_cache, &model(&digits, "d"), false);
        assert!(ready.note.expect("a note").contains("(no rights)"));
        let small = prepare_here(&Destination::None, &model(&digits, "d"), false);
        assert!(small.cached.is_none() && small.note.is_none());
    }

    #[test]
    fn a_model_from_memory_is_a_file_that_goes_with_it() {
        let content = std::fs::read(digits()).unwrap();
        let ready = ReadyModel::of_bytes(("digits.onnx", &content), None, false).unwrap();
        let copy = ready.copy.as_ref().expect("a copy").model().to_owned();
        assert_eq!(std::fs::read(&copy).unwrap(), content);
        assert_eq!(copy.file_name(), Some("digits.onnx".as_ref()));
        let of_file = ReadyModel::of_untried_file(&digits(), None, false).unwrap();
        assert!(ready.digest.is_some() && ready.digest == of_file.digest);
        drop(ready);
        assert!(!copy.exists());
    }

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
