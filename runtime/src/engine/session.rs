//! One loaded model: the only file that names `ort`.
//!
//! A session is used by one thread at a time, whoever has the lock of its lane: the lane's own thread, or an I/O thread that
//! executes small work inline. Its intra-op threads are made by [`PinnedThreads`], named and pinned within the cores of
//! the instance, and joined when the session is dropped.
//!
//! All sessions allocate through one allocator of ours, which counts and bounds what each of them takes (`run_memory`).
//!
//! [`prepare`] writes an optimised model whose weights lie in a file of their own, packed as the kernels read them. ONNX Runtime
//! maps that file, so all sessions of the model, in all processes, have one copy of its weights.

use std::ffi::{CStr, CString, c_void};
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread::JoinHandle;

use ort::AsPointer as _;
#[cfg(feature = "ort")]
pub use ort::environment::Environment;
#[cfg(not(feature = "ort"))]
use ort::environment::Environment;
use ort::environment::ThreadManager;
use ort::logging::LogLevel;
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{IoBinding, RunOptions, SessionInputValue, SessionOutputs};
use ort::sys::{OrtAllocator, OrtMemoryInfo};
use ort::value::{
    DynTensor, DynValue, DynValueTypeMarker, TensorElementType, TensorRef, ValueType,
};
use serin_scorers::{
    Element, ElementType, JsonScorer, OutputKind, OutputSpec, OutputView, Signature, Tensor,
    TensorSpec, TensorView,
};
use smallvec::SmallVec;

use crate::engine::background::Caller;
use crate::engine::cores::{CoreId, ThreadPlacement};
use crate::engine::external_data::ORT_FORMAT;
use crate::engine::job::AnswerForm;
use crate::engine::lock::lock;
use crate::engine::run_memory::{self, MemoryShare, RunMemory, Throw};
use crate::engine::{CacheEntry, LibraryError, cores, is_ort_format, library, memory, model_cache};
use crate::observe::{NoteOn, note};
use crate::plain_file;

/// Settings by which ONNX Runtime writes a prepared model: where its weights go, from which size on, and that they are packed.
const PREPARE_SETTINGS: [(&str, &str); 3] = [
    (
        "session.optimized_model_external_initializers_file_name",
        model_cache::WEIGHTS_FILE,
    ),
    (
        "session.optimized_model_external_initializers_min_size_in_bytes",
        "1024",
    ),
    ("session.save_external_prepacked_constant_initializers", "1"),
];

/// Setting of a session that takes its memory from the allocator of the environment.
const ALLOCATOR_SETTING: (&str, &str) = ("session.use_env_allocators", "1");

/// The reason why a model did not load; the message names the file.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LoadError {
    /// ONNX Runtime is not there.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// The file cannot be served.
    #[error("{0}")]
    Model(String),
}

/// Threads of one session: how many, where, and their names.
#[derive(Debug, Clone)]
pub(super) struct SessionThreads {
    /// Start of the threads' names, cut where there is no room for it.
    pub(super) label: String,
    /// The part that follows in the threads' names, before the number of each.
    pub(super) number: String,
    /// One core for each thread that takes part in a run; the first is the calling thread's own.
    pub(super) cores: Vec<CoreId>,
    /// All cores that they may run on, where they keep to none.
    pub(super) floats_over: Option<Vec<CoreId>>,
    /// Intra-op threads that were made, in order.
    pub(super) made: Arc<Mutex<Vec<ThreadPlacement>>>,
    /// Makes them: its priority is what theirs shall be.
    pub(super) maker: Caller,
    /// They spin while they wait for work, within a run and for a while after it.
    pub(super) spin: bool,
    /// The memory that the runs of the instance may take; nothing where the process has a limit of its own.
    pub(super) memory: Option<Arc<MemoryShare>>,
}

impl SessionThreads {
    /// The calling thread alone, in a process that has a limit of its own.
    pub(super) fn one(label: &str) -> Self {
        Self {
            label: label.to_owned(),
            number: String::new(),
            cores: vec![0],
            floats_over: None,
            made: Arc::default(),
            maker: Caller::itself(),
            spin: false,
            memory: None,
        }
    }

    /// Where an earlier attempt to load came to nothing, so did the threads that it made.
    fn forget_made(&self) {
        lock(&self.made).clear();
    }
}

/// One loaded model, ready to run on the thread that has it now.
pub(super) struct Session {
    session: ort::session::Session,
    signature: Arc<Signature>,
    terminator: Terminator,
    bound_io: BoundIo,
    /// The entry from which the weights are mapped; it stays in the cache for as long as this lives.
    _cached: Option<Arc<CacheEntry>>,
    memory: Option<Arc<RunMemory>>,
}

/// Ends the run of its session from another thread.
#[derive(Clone)]
pub(super) struct Terminator(Arc<RunOptions>);

impl fmt::Debug for Terminator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Terminator")
    }
}

impl Terminator {
    /// Ends the run under way, between two nodes of the graph; and every later one, until [`Terminator::clear`].
    pub(super) fn terminate(&self) {
        if let Err(error) = self.0.terminate() {
            tracing::error!(%error, "cannot terminate a run");
        }
    }

    /// Lets the session run again.
    pub(super) fn clear(&self) {
        if let Err(error) = self.0.unterminate() {
            tracing::error!(%error, "cannot clear the termination of a run");
        }
    }
}

impl Session {
    /// Loads an ONNX file, with its external data beside it; in the form that the cache holds of it, where that is given.
    ///
    /// # Errors
    ///
    /// [`LoadError`] when ONNX Runtime is not there, or the file is no model that can be served; its message names the file.
    pub(super) fn load(
        model: &Path,
        cached: Option<&Arc<CacheEntry>>,
        threads: &SessionThreads,
    ) -> Result<Self, LoadError> {
        if let Some(entry) = cached
            && let Some(prepared) = entry.model()
        {
            match Self::load_prepared(&prepared, threads) {
                Ok(session) => {
                    return Ok(Self {
                        _cached: Some(Arc::clone(entry)),
                        ..session
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, ?prepared, "a prepared model does not load: the model is served as it is");
                }
            }
        }
        check_file(model)?;
        threads.forget_made();
        Self::commit(model, Preparation::of(threads)?, Ok)
    }

    /// Loads what [`prepare`] wrote: everything is optimised already.
    pub(super) fn load_prepared(model: &Path, threads: &SessionThreads) -> Result<Self, LoadError> {
        Self::commit(model, Preparation::of(threads)?, |builder| {
            Ok(builder.with_optimization_level(GraphOptimizationLevel::Disable)?)
        })
    }

    fn commit(
        model: &Path,
        preparation: Preparation,
        settings: impl FnOnce(SessionBuilder) -> ort::Result<SessionBuilder>,
    ) -> Result<Self, LoadError> {
        let name = name_of(model);
        let Preparation { builder, memory } = preparation;
        let load = || {
            let session = builder
                .and_then(settings)
                .and_then(|mut builder| builder.commit_from_file(model));
            session.map_err(|error| short(&error))
        };
        let session = match &memory {
            Some(memory) => memory.load(load),
            None => load(),
        };
        let session = session.map_err(|words| LoadError::Model(load_problem(&name, &words)))?;
        memory::forget_code();
        let signature = Arc::new(
            signature(&session)
                .map_err(|problem| LoadError::Model(format!("{name}: {problem}")))?,
        );
        let options = RunOptions::new().map_err(|error| LoadError::Model(short(&error)))?;
        Ok(Self {
            session,
            signature,
            terminator: Terminator(Arc::new(options)),
            bound_io: BoundIo::default(),
            _cached: None,
            memory,
        })
    }

    /// Inputs and outputs of the model.
    pub(super) fn signature(&self) -> &Arc<Signature> {
        &self.signature
    }

    /// Ends this session's runs from another thread.
    pub(super) fn terminator(&self) -> Terminator {
        self.terminator.clone()
    }

    /// Runs the model once, and gives back what only larger runs before it have needed.
    ///
    /// # Errors
    ///
    /// ONNX Runtime's own message.
    pub(super) fn run_and_shrink(&mut self, inputs: &[TensorView<'_>]) -> Result<(), String> {
        if let Some(memory) = &self.memory {
            memory.forget_usual();
        }
        self.run(inputs, AnswerForm::Values, |_| ())
    }

    /// Runs the model once on inputs that fit its signature, where they lie, and lends its outputs, in the order of the signature, to
    /// `read`, which makes an answer of this form of them.
    ///
    /// # Errors
    ///
    /// ONNX Runtime's own message, or the numbers where the run asked for more memory than it may have.
    pub(super) fn run<T>(
        &mut self,
        inputs: &[TensorView<'_>],
        form: AnswerForm,
        read: impl FnMut(&[OutputView<'_>]) -> T,
    ) -> Result<T, String> {
        match self.memory.clone() {
            Some(memory) => memory.run(|| self.run_within(inputs, form, read)),
            None => self.run_within(inputs, form, read),
        }
    }

    fn run_within<T>(
        &mut self,
        inputs: &[TensorView<'_>],
        form: AnswerForm,
        mut read: impl FnMut(&[OutputView<'_>]) -> T,
    ) -> Result<T, String> {
        let texts = inputs
            .iter()
            .filter_map(|input| Some(input.elements::<String>()?.iter().map(String::len)));
        let _room_for_texts = run_memory::room_for_texts(texts.flatten())?;
        let memory = self.memory.clone();
        let mut read = |views: &[OutputView<'_>]| {
            let bytes = views.iter().map(OutputView::bytes).sum();
            let room = memory
                .as_ref()
                .map(|memory| memory.room_for_answer(bytes, form));
            let _room = room.transpose()?;
            Ok(read(views))
        };
        let bound = self.bound_io.take_for(inputs);
        if let Some(tensors) = &bound {
            let outputs = self
                .session
                .run_binding_with_options(&tensors.binding, &self.terminator.0)
                .ok();
            let result = outputs.map(|outputs| lend(&outputs, &self.signature, &mut read));
            if let Some(result) = result {
                self.bound_io.bound = bound;
                return result?;
            }
            // Outputs of another size do not fit into what is bound, or the model fails: a run without bound I/O tells.
        }
        let values: Vec<SessionInputValue<'_>> = inputs
            .iter()
            .map(input)
            .collect::<ort::Result<_>>()
            .map_err(|error| short(&error))?;
        let outputs = match self
            .session
            .run_with_options(values.as_slice(), &self.terminator.0)
        {
            Ok(outputs) => outputs,
            Err(error) => {
                // The fault of this request, or its end: the next one may fit again.
                self.bound_io.bound = bound;
                return Err(short(&error));
            }
        };
        self.bound_io.given_up |= bound.is_some();
        let (bindable, result) = lend(&outputs, &self.signature, |views| {
            let bytes: usize = views.iter().map(OutputView::bytes).sum();
            let bindable = bytes <= BOUND_BYTES_MAX && views.iter().all(OutputView::is_plain);
            (bindable, read(views))
        })?;
        drop(outputs);
        if self.bound_io.ran(inputs, bindable) {
            self.bound_io.bind(&self.session, &self.signature, inputs);
        }
        result
    }
}

/// Views of tensors.
pub(super) fn views(tensors: &[Tensor]) -> Vec<TensorView<'_>> {
    tensors.iter().map(Tensor::view).collect()
}

/// Lends the outputs, in the order of the signature.
fn lend<T>(
    outputs: &SessionOutputs<'_>,
    signature: &Signature,
    read: impl FnOnce(&[OutputView<'_>]) -> T,
) -> Result<T, String> {
    let mut views = Vec::with_capacity(signature.outputs.len());
    for (index, spec) in signature.outputs.iter().enumerate() {
        views.push(
            view(&outputs[index])
                .map_err(|problem| format!("output {:?}: {problem}", spec.name))?,
        );
    }
    Ok(read(&views))
}

/// Runs of the same shapes in a row before inputs and outputs are bound.
const BIND_AFTER_RUNS: u32 = 8;
/// Most bytes of inputs, and of outputs, that are bound: a copy of more costs what binding saves, and is memory kept.
const BOUND_BYTES_MAX: usize = 4096;

/// Bound I/O (ONNX Runtime's `IoBinding`): tensors of small inputs and outputs that stay from one run to the next while the
/// shapes do. ONNX Runtime then looks up names and makes room once, which is a third of what the run of a tiny model takes.
#[derive(Default)]
struct BoundIo {
    /// Shapes of the inputs of the last run, and how many runs in a row had them.
    shapes: Vec<Vec<usize>>,
    in_a_row: u32,
    bound: Option<BoundTensors>,
    /// Bound I/O did not do for this model.
    given_up: bool,
}

struct BoundTensors {
    binding: IoBinding,
    /// In the order of the signature; the binding has the same memory.
    inputs: Vec<DynTensor>,
}

impl BoundIo {
    /// The bound tensors, with these inputs copied in; nothing where they do not fit.
    fn take_for(&mut self, inputs: &[TensorView<'_>]) -> Option<BoundTensors> {
        let mut bound = self.bound.take()?;
        let shapes = self.shapes.iter();
        if !shapes.eq(inputs.iter().map(TensorView::shape)) {
            return None;
        }
        for (tensor, input) in bound.inputs.iter_mut().zip(inputs) {
            write(tensor, input)?;
        }
        Some(bound)
    }

    /// A run without bound I/O has ended; whether it is time to bind.
    fn ran(&mut self, inputs: &[TensorView<'_>], small_outputs: bool) -> bool {
        if self.shapes.iter().eq(inputs.iter().map(TensorView::shape)) {
            self.in_a_row += 1;
        } else {
            self.shapes = inputs.iter().map(|input| input.shape().to_vec()).collect();
            self.in_a_row = 1;
        }
        let bytes: usize = inputs.iter().map(TensorView::bytes).sum();
        small_outputs
            && !self.given_up
            && self.in_a_row >= BIND_AFTER_RUNS
            && bytes <= BOUND_BYTES_MAX
    }

    fn bind(
        &mut self,
        session: &ort::session::Session,
        signature: &Signature,
        inputs: &[TensorView<'_>],
    ) {
        match bound(session, signature, inputs) {
            Ok(bound) => self.bound = Some(bound),
            Err(error) => {
                tracing::debug!(%error, "inputs and outputs are not bound");
                self.given_up = true;
            }
        }
    }
}

fn bound(
    session: &ort::session::Session,
    signature: &Signature,
    inputs: &[TensorView<'_>],
) -> ort::Result<BoundTensors> {
    let mut binding = session.create_binding()?;
    let mut bound = Vec::with_capacity(inputs.len());
    for (spec, input) in signature.inputs.iter().zip(inputs) {
        let ty =
            tensor_type(spec.datatype).ok_or_else(|| ort::Error::new("strings are not bound"))?;
        let sizes = input.shape().iter().map(|size| i64::try_from(*size));
        let shape: Vec<i64> = sizes
            .collect::<Result<_, _>>()
            .map_err(|_| ort::Error::new("no memory holds such a shape"))?;
        let tensor = DynTensor::new(session.allocator(), ty, shape)?;
        binding.bind_input(spec.name.as_str(), &tensor)?;
        bound.push(tensor);
    }
    for spec in &signature.outputs {
        binding.bind_output_to_device(spec.name.as_str(), session.allocator().memory_info())?;
    }
    Ok(BoundTensors {
        binding,
        inputs: bound,
    })
}

/// Does the same for the elements of a tensor, which are of the Rust type of its element type, but for strings.
macro_rules! with_numbers {
    ($input:expr, $elements:ident => $same:expr, strings => $strings:expr) => {
        with_numbers!(@each $input, $elements, $same, $strings;
            Bool bool, Uint8 u8, Uint16 u16, Uint32 u32, Uint64 u64, Int8 i8, Int16 i16, Int32 i32, Int64 i64,
            Fp16 half::f16, Bf16 half::bf16, Fp32 f32, Fp64 f64)
    };
    (@each $input:expr, $elements:ident, $same:expr, $strings:expr; $($kind:ident $type:ty),*) => {
        match $input.element_type() {
            $(ElementType::$kind => {
                let $elements = elements_of::<$type>($input);
                $same
            })*
            ElementType::Bytes => $strings,
        }
    };
}

/// The elements of a tensor of this type.
fn elements_of<'a, T: Element>(input: &TensorView<'a>) -> &'a [T] {
    input.elements().unwrap_or_default()
}

/// Copies an input to the tensor that is bound for it.
fn write(bound: &mut DynTensor, input: &TensorView<'_>) -> Option<()> {
    fn copy<T: ort::value::PrimitiveTensorElementType + Copy>(
        bound: &mut DynTensor,
        elements: &[T],
    ) -> Option<()> {
        let (_, values) = bound.try_extract_tensor_mut::<T>().ok()?;
        (values.len() == elements.len()).then(|| values.copy_from_slice(elements))
    }
    with_numbers!(input, elements => copy(bound, elements), strings => None)
}

/// Writes the model, prepared, into an empty folder.
///
/// # Errors
///
/// [`LoadError`] with ONNX Runtime's reason; the folder may hold anything then.
pub(super) fn prepare(
    model: &Path,
    folder: &Path,
    threads: &SessionThreads,
) -> Result<PathBuf, LoadError> {
    let path = folder.join(model_cache::MODEL_FILE);
    let session = Session::commit(model, Preparation::of(threads)?, |builder| {
        let mut builder = builder.with_optimized_model_path(&path)?;
        for (name, value) in PREPARE_SETTINGS {
            builder = builder.with_config_entry(name, value)?;
        }
        Ok(builder)
    });
    drop(session?);
    Ok(path)
}

fn check_file(model: &Path) -> Result<(), LoadError> {
    let name = name_of(model);
    if is_ort_format(model).unwrap_or(false) {
        return Err(LoadError::Model(format!("{name} {ORT_FORMAT}")));
    }
    match plain_file::open(model).and_then(|file| file.metadata()) {
        Ok(metadata) if metadata.len() > 0 => Ok(()),
        Ok(_) => Err(LoadError::Model(format!(
            "{name} is empty; expected an ONNX model"
        ))),
        Err(error) => Err(LoadError::Model(format!(
            "cannot read model {name}: {error}"
        ))),
    }
}

fn name_of(model: &Path) -> String {
    let name = model.file_name();
    name.map_or_else(
        || model.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// ONNX Runtime on its way into the process. Dropping it waits for the end of that: a process must not exit while its library
/// initialises, or the library's own cleaning-up meets half-made state.
#[derive(Debug)]
#[must_use = "dropped at once, it waits for what was to happen meanwhile"]
pub struct LibraryLoading(Option<JoinHandle<()>>);

/// Begins to load ONNX Runtime on a thread of its own, for a process that is about to load models: the tens of milliseconds that
/// it takes pass while sockets are bound and the store is opened. Whoever loads the first model waits for it, and meets its error.
pub fn begin_to_load_library() -> LibraryLoading {
    let load = || drop(environment());
    let thread = std::thread::Builder::new().name("serin-library".to_owned());
    let started = thread.spawn(load).inspect_err(|error| {
        tracing::debug!(%error, "cannot start a thread: the first model loads the library");
    });
    LibraryLoading(started.ok())
}

impl Drop for LibraryLoading {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that loads ONNX Runtime panicked");
        }
    }
}

/// ONNX Runtime, and whether sessions can take their memory from our allocator.
struct Runtime {
    environment: Environment,
    has_allocator: bool,
    /// Whether it was made here, so that its log is ours.
    is_ours: bool,
}

/// The process's ONNX Runtime, once it is there.
static RUNTIME: OnceLock<Runtime> = OnceLock::new();
/// Held while it is brought in. What fails is not kept, so that the next one may try again.
static BRINGING_IN: Mutex<()> = Mutex::new(());

/// Start of `ort`'s words where it has an environment already.
const ANOTHER_ENVIRONMENT: &str = "only one environment is allowed";

/// The process's ONNX Runtime, loaded on first use.
fn environment() -> Result<&'static Runtime, LibraryError> {
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let _one_at_a_time = lock(&BRINGING_IN);
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    library::warn_of_telemetry();
    let path = library::find()?;
    let environment = environment_from(&path).inspect_err(|_| library::has_failed())?;
    Ok(bring_in(environment, true))
}

fn environment_from(path: &Path) -> Result<Environment, LibraryError> {
    check_api(path).map_err(LibraryError::Load)?;
    let builder = ort::init_from(path).map_err(|error| LibraryError::Load(error.to_string()))?;
    let builder = builder.with_name("serin").with_telemetry(false);
    builder.with_logger(Arc::new(log)).build().map_err(|error| {
        let words = error.to_string();
        if words.contains(ANOTHER_ENVIRONMENT) {
            LibraryError::ForeignEnvironment
        } else {
            LibraryError::Load(words)
        }
    })
}

/// Loads the library and asks it for the interface that `ort` uses: `ort` itself panics where there is none, and keeps the library.
#[expect(unsafe_code, reason = "the interface of ONNX Runtime is one of C")]
fn check_api(path: &Path) -> Result<(), String> {
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
    // SAFETY: the name ends with a zero. A library of this name that has the function has it with this signature, or is no ONNX Runtime
    // and lies. It stays loaded when it is good; a version is read before it is closed.
    unsafe {
        let library = libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
        if library.is_null() {
            let words = CStr::from_ptr(libc::dlerror()).to_string_lossy();
            return Err(words.into_owned());
        }
        let function = libc::dlsym(library, c"OrtGetApiBase".as_ptr());
        let found = match function.is_null() {
            true => Some("no function OrtGetApiBase".to_owned()),
            false => missing_api(std::mem::transmute::<*mut c_void, ApiBase>(function)),
        };
        let Some(found) = found else {
            return Ok(());
        };
        libc::dlclose(library);
        Err(format!(
            "expected ONNX Runtime 1.{} or later at {}, found {found}",
            ort::MINOR_VERSION,
            path.display()
        ))
    }
}

type ApiBase = unsafe extern "C" fn() -> *const ort::sys::OrtApiBase;

/// The words for a library that does not have the interface of this version.
#[expect(unsafe_code, reason = "the interface of ONNX Runtime is one of C")]
unsafe fn missing_api(base: ApiBase) -> Option<String> {
    // SAFETY: the caller got the function from a library that is loaded.
    unsafe {
        let base = base().as_ref();
        let Some(base) = base else {
            return Some("a library that gives no interface".to_owned());
        };
        if !(base.GetApi)(ort::sys::ORT_API_VERSION).is_null() {
            return None;
        }
        let version = (base.GetVersionString)();
        let version = (!version.is_null()).then(|| CStr::from_ptr(version).to_string_lossy());
        Some(format!("version {}", version.unwrap_or_default()))
    }
}

/// Makes the environment the one of all sessions here. It never goes.
fn bring_in(environment: Environment, is_ours: bool) -> &'static Runtime {
    let function = ort::api().CreateStatus as *const c_void;
    if let Some(path) = library::file_at(function) {
        library::is_loaded(&path);
        memory::forget_code();
    }
    let registered = register_allocator(&environment).inspect_err(|problem| {
        tracing::warn!(problem, "the memory of runs is not bounded");
    });
    RUNTIME.get_or_init(|| Runtime {
        environment,
        has_allocator: registered.is_ok(),
        is_ours,
    })
}

/// Has all sessions here run in an environment that another part of this process has made. It stays for as long as the process.
///
/// Its log, its telemetry and its execution providers are those that whoever made it chose. The memory of runs is bounded unless an
/// allocator for the processor is registered there already. Sessions have threads of their own, also where it has a pool of threads.
///
/// # Errors
///
/// [`LibraryError::EnvironmentInUse`] when another one is in use.
#[cfg(feature = "ort")]
pub fn set_environment(environment: Environment) -> Result<(), LibraryError> {
    let _one_at_a_time = lock(&BRINGING_IN);
    match RUNTIME.get() {
        Some(runtime) if runtime.environment.ptr() == environment.ptr() => Ok(()),
        Some(_) => Err(LibraryError::EnvironmentInUse),
        None => {
            bring_in(environment, false);
            Ok(())
        }
    }
}

/// The environment that sessions here run in, for another user of `ort` in this process. Loads ONNX Runtime where it is not there yet.
///
/// # Errors
///
/// [`LibraryError`] when it cannot be had.
#[cfg(any(feature = "ort", feature = "unstable"))]
pub fn environment_in_use() -> Result<Environment, LibraryError> {
    Ok(environment()?.environment.clone())
}

/// Passes ONNX Runtime's own log on. What it calls an error also comes back to whoever asked, as the reason of a refusal or of a
/// failed request, so it is no news here; what it warns of is noted of the deployment whose session has this id.
fn log(level: LogLevel, _category: &str, id: &str, place: &str, message: &str) {
    if matches!(level, LogLevel::Fatal | LogLevel::Warning) {
        note(id, NoteOn::OnnxRuntime, &message);
    }
    match level {
        LogLevel::Fatal => tracing::error!(place, "onnxruntime: {message}"),
        LogLevel::Error | LogLevel::Warning => tracing::debug!(place, "onnxruntime: {message}"),
        LogLevel::Info | LogLevel::Verbose => tracing::trace!(place, "onnxruntime: {message}"),
    }
}

/// Our allocator as ONNX Runtime calls it.
#[repr(C)]
struct EnvironmentAllocator {
    interface: OrtAllocator,
    info: *const OrtMemoryInfo,
    /// Throws: by ONNX Runtime's own rules an allocator gives memory or throws, and many kernels do not look at what they got.
    throw: Throw,
}

type Allocate = unsafe extern "system" fn(*mut OrtAllocator, usize) -> *mut c_void;

/// Has ONNX Runtime ask us for the memory of sessions. The allocator is never gone, for the process's ONNX Runtime never is.
fn register_allocator(environment: &Environment) -> Result<(), String> {
    let words = |error: ort::Error| short(&error);
    let throw = run_memory::throw().ok_or("the C++ library does not say how to throw")?;
    let info = MemoryInfo::new(
        AllocationDevice::CPU,
        0,
        AllocatorType::Device,
        MemoryType::Default,
    );
    let info = Box::leak(Box::new(info.map_err(words)?)).ptr();
    type Throwing = unsafe extern "C-unwind" fn(*mut OrtAllocator, usize) -> *mut c_void;
    #[expect(unsafe_code, reason = "the interface of ONNX Runtime is one of C")]
    // SAFETY: the two types differ in that the first may unwind, which the C++ that calls it is made for. The allocator is complete
    // where ONNX Runtime sees it, and neither it nor the environment ever goes.
    unsafe {
        let mut interface = OrtAllocator::default();
        interface.Alloc = Some(std::mem::transmute::<Throwing, Allocate>(allocate));
        interface.Free = Some(free);
        interface.Info = Some(info_of);
        let allocator = Box::leak(Box::new(EnvironmentAllocator {
            interface,
            info,
            throw,
        }));
        let register = ort::api().RegisterAllocator;
        let status = register(
            environment.ptr().cast_mut(),
            ptr::from_mut(allocator).cast(),
        );
        ort::Error::result_from_status(status).map_err(words)
    }
}

#[expect(unsafe_code, reason = "called by ONNX Runtime")]
unsafe extern "C-unwind" fn allocate(this: *mut OrtAllocator, bytes: usize) -> *mut c_void {
    if bytes == 0 {
        return ptr::null_mut();
    }
    match run_memory::allocate(bytes) {
        Some(memory) => memory.as_ptr().cast(),
        // SAFETY: `this` is what was registered, and lives for ever. Nothing of this frame is left to be dropped.
        None => unsafe { ((*this.cast::<EnvironmentAllocator>()).throw)() },
    }
}

#[expect(unsafe_code, reason = "called by ONNX Runtime")]
unsafe extern "system" fn free(_this: *mut OrtAllocator, memory: *mut c_void) {
    if let Some(memory) = NonNull::new(memory) {
        // SAFETY: ONNX Runtime gives back, once, what it got of this allocator.
        unsafe { run_memory::free(memory.cast()) }
    }
}

#[expect(unsafe_code, reason = "called by ONNX Runtime")]
unsafe extern "system" fn info_of(this: *const OrtAllocator) -> *const OrtMemoryInfo {
    // SAFETY: `this` is what was registered, and lives for ever.
    unsafe { (*this.cast::<EnvironmentAllocator>()).info }
}

/// A session that is about to be made.
struct Preparation {
    builder: ort::Result<SessionBuilder>,
    memory: Option<Arc<RunMemory>>,
}

impl Preparation {
    fn of(threads: &SessionThreads) -> Result<Self, LibraryError> {
        let runtime = environment()?;
        let share = threads.memory.as_ref().filter(|_| runtime.has_allocator);
        let memory = share.map(RunMemory::new);
        let builder = builder(&runtime.environment, threads, memory.as_ref());
        let builder = builder.and_then(|builder| match runtime.is_ours {
            true => warning(builder, &threads.label),
            false => Ok(builder),
        });
        Ok(Self { builder, memory })
    }
}

/// Settings of a session: threads of our own making, which spin only where that is asked for (it burns the cores of others), and
/// memory that is counted where that is bounded.
fn builder(
    environment: &Environment,
    threads: &SessionThreads,
    memory: Option<&Arc<RunMemory>>,
) -> ort::Result<SessionBuilder> {
    let mut builder = ort::session::Session::builder(environment)?
        // The environment may be another's, with a pool for all.
        .with_independent_thread_pool()?
        .with_intra_threads(threads.cores.len())?
        .with_inter_threads(1)?
        .with_intra_op_spinning(threads.spin)?
        // Weights stay out of the arena, so that an unload gives them back.
        .with_device_allocated_initializers()?;
    if memory.is_some() {
        builder = builder.with_config_entry(ALLOCATOR_SETTING.0, ALLOCATOR_SETTING.1)?;
    }
    if threads.cores.len() > 1 {
        builder = builder.with_thread_manager(PinnedThreads {
            threads: threads.clone(),
            memory: memory.cloned(),
        })?;
    }
    Ok(builder)
}

/// Has ONNX Runtime warn of what it sees in this model, under the name of who serves it.
fn warning(builder: SessionBuilder, label: &str) -> ort::Result<SessionBuilder> {
    let builder = builder.with_log_id(label)?;
    Ok(builder.with_log_level(LogLevel::Warning)?)
}

/// Makes the intra-op threads of a session: named, and each pinned to one core of the instance, if it has cores of its own.
struct PinnedThreads {
    threads: SessionThreads,
    /// Of the session that they work for.
    memory: Option<Arc<RunMemory>>,
}

impl ThreadManager for PinnedThreads {
    type Thread = JoinHandle<()>;

    fn create(&self, work: impl FnOnce() + Send + 'static) -> ort::Result<Self::Thread> {
        let mut made = lock(&self.threads.made);
        // The calling thread has the first core.
        let number = made.len() + 1;
        let core = self.threads.cores[number % self.threads.cores.len()];
        let name = cores::thread_name(
            &self.threads.label,
            &format!("{}.{number}", self.threads.number),
        );
        let floats_over = self.threads.floats_over.clone();
        let (placed, is_placed) = mpsc::sync_channel(1);
        let builder = std::thread::Builder::new().name(name.clone());
        let memory = self.memory.clone();
        let body = move || {
            let cores_asked = cores::place(core, floats_over.as_deref());
            // The receiver waits below; it cannot be gone.
            let _sent = placed.send((cores::thread_id(), cores_asked));
            match memory {
                Some(memory) => memory.within(work),
                None => work(),
            }
        };
        let thread = self
            .threads
            .maker
            .call(move || builder.spawn(body))
            .ok_or_else(|| ort::Error::new("nobody waits for the session any more"))?
            .map_err(|error| ort::Error::new(format!("cannot start a thread: {error}")))?;
        if let Ok((tid, cores_asked)) = is_placed.recv() {
            made.push(ThreadPlacement {
                name,
                tid,
                cores_asked,
                cores_allowed: Vec::new(),
            });
        }
        Ok(thread)
    }

    fn join(thread: Self::Thread) -> ort::Result<()> {
        thread
            .join()
            .map_err(|_| ort::Error::new("an intra-op thread panicked"))
    }
}

/// Start of ONNX Runtime's words for a locale that is not there, which the normaliser of strings needs.
const NO_LOCALE: &str = "Failed to construct locale with name";
/// The way out of that.
const INSTALL_LOCALE: &str = "Install it, for scikit-learn's text models en_US.UTF-8 (on Debian: the package `locales`, then \
     `localedef -i en_US -f UTF-8 en_US.UTF-8`), and try again";

/// The fault of a file, in words that help.
fn load_problem(name: &str, words: &str) -> String {
    // ONNX Runtime's words for bytes that are not a model, or only half of one.
    let not_a_model = [
        "Protobuf parsing failed",
        "ModelProto does not have a graph",
        "INVALID_PROTOBUF",
        "Missing opset",
        "Unknown model file format",
    ];
    if not_a_model.iter().any(|mark| words.contains(mark)) {
        format!("{name} is not an ONNX model, or only a part of one (ONNX Runtime: {words})")
    } else if words.contains(NO_LOCALE) {
        format!(
            "cannot load {name}: it changes the case of text by a locale that this machine lacks. {INSTALL_LOCALE} (ONNX Runtime: {words})"
        )
    } else {
        format!("cannot load {name}: {words}")
    }
}

/// The first line of ONNX Runtime's message, without the wrapper's preamble.
fn short(error: &ort::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    [
        "Failed to run inference on model: ",
        "Failed to create session: ",
    ]
    .iter()
    .fold(line, |line, preamble| {
        line.strip_prefix(preamble).unwrap_or(line)
    })
    .to_owned()
}

/// What the model takes and gives.
///
/// # Errors
///
/// Where a request or an answer could not hold it: nobody could ever score the model.
fn signature(session: &ort::session::Session) -> Result<Signature, String> {
    let inputs = session.inputs().iter().enumerate().map(|(index, input)| {
        let refused = |found: String| {
            let name = input.name();
            format!("input {name:?} is {found}, which no request can hold; export the model with tensor inputs")
        };
        let shape_of = declared(session, Side::Input, index);
        match input.dtype() {
            ValueType::Tensor { ty, shape, .. } if shape_of != Declared::Sparse => Ok(TensorSpec {
                name: input.name().to_owned(),
                datatype: element_type(*ty)
                    .ok_or_else(|| refused(words_of(input.dtype())))?,
                shape: shape.to_vec(),
                any_rank: shape_of == Declared::NoShape,
            }),
            ValueType::Tensor { .. } => Err(refused("a sparse tensor".to_owned())),
            other => Err(refused(words_of(other))),
        }
    });
    let outputs = session
        .outputs()
        .iter()
        .enumerate()
        .map(|(index, output)| OutputSpec {
            name: output.name().to_owned(),
            kind: match declared(session, Side::Output, index) {
                Declared::Sparse => OutputKind::Other {
                    description: "a sparse tensor".to_owned(),
                },
                Declared::Shape | Declared::NoShape => output_kind(output.dtype()),
            },
        });
    let signature = Signature {
        inputs: inputs.collect::<Result<_, _>>()?,
        outputs: outputs.collect(),
    };
    JsonScorer::check(&signature).map_err(|error| error.to_string())?;
    Ok(signature)
}

/// One side of a model.
#[derive(Clone, Copy)]
enum Side {
    Input,
    Output,
}

/// The part of a declaration that [`ValueType`] does not tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Declared {
    /// A shape, maybe that of a single value; or no tensor.
    Shape,
    /// A tensor of any rank. Its list of sizes is empty, as that of a single value.
    NoShape,
    Sparse,
}

#[expect(
    unsafe_code,
    reason = "ort does not pass on whether a shape is declared, nor that a tensor is sparse"
)]
fn declared(session: &ort::session::Session, side: Side, index: usize) -> Declared {
    let api = ort::api();
    let get = match side {
        Side::Input => api.SessionGetInputTypeInfo,
        Side::Output => api.SessionGetOutputTypeInfo,
    };
    let mut info = ptr::null_mut();
    // SAFETY: the session lives, and a status tells of an index that it does not have. The type is released below, and what is
    // taken from it is not used after that. A status that is given belongs to the caller, which releases it.
    unsafe {
        let failed = |status: ort::sys::OrtStatusPtr| {
            let failed = !status.0.is_null();
            if failed {
                (api.ReleaseStatus)(status.0);
            }
            failed
        };
        if failed(get(session.ptr(), index, &raw mut info)) {
            return Declared::Shape;
        }
        let mut kind = ort::sys::ONNXType::ONNX_TYPE_UNKNOWN;
        let mut tensor = ptr::null();
        let unknown = failed((api.GetOnnxTypeFromTypeInfo)(info, &raw mut kind))
            || failed((api.CastTypeInfoToTensorInfo)(info, &raw mut tensor));
        let declared = match kind {
            ort::sys::ONNXType::ONNX_TYPE_SPARSETENSOR => Declared::Sparse,
            _ if unknown || tensor.is_null() => Declared::Shape,
            _ if (api.TensorTypeAndShape_HasShape)(tensor) => Declared::Shape,
            _ => Declared::NoShape,
        };
        (api.ReleaseTypeInfo)(info);
        declared
    }
}

fn output_kind(dtype: &ValueType) -> OutputKind {
    let kind = match dtype {
        ValueType::Tensor { ty, shape, .. } => {
            element_type(*ty).map(|datatype| OutputKind::Tensor {
                datatype,
                shape: shape.to_vec(),
            })
        }
        ValueType::Map { key, value } => is_readable_map(*key, *value).then_some(OutputKind::Map),
        ValueType::Sequence(element) => match output_kind(element) {
            OutputKind::Tensor { datatype, .. } => Some(OutputKind::Sequence { datatype }),
            OutputKind::Map => Some(OutputKind::SequenceOfMaps),
            _ => None,
        },
        // ort has no way to say that it has no value: the run would end in a panic.
        ValueType::Optional(_) => None,
    };
    kind.unwrap_or_else(|| other(words_of(dtype)))
}

fn other(description: String) -> OutputKind {
    OutputKind::Other { description }
}

fn words_of(dtype: &ValueType) -> String {
    match dtype {
        ValueType::Tensor { ty, .. } => format!("a tensor of elements of type {ty}"),
        ValueType::Map { key, value } => format!("a map from {key} to {value}"),
        ValueType::Sequence(element) => format!("a sequence, each element {}", words_of(element)),
        ValueType::Optional(_) => "an optional value".to_owned(),
    }
}

/// Whether a map has keys and values of the types that ONNX's operators put in maps.
fn is_readable_map(key: TensorElementType, value: TensorElementType) -> bool {
    matches!(key, TensorElementType::Int64 | TensorElementType::String)
        && value == TensorElementType::Float32
}

fn element_type(ty: TensorElementType) -> Option<ElementType> {
    Some(match ty {
        TensorElementType::Bool => ElementType::Bool,
        TensorElementType::Uint8 => ElementType::Uint8,
        TensorElementType::Uint16 => ElementType::Uint16,
        TensorElementType::Uint32 => ElementType::Uint32,
        TensorElementType::Uint64 => ElementType::Uint64,
        TensorElementType::Int8 => ElementType::Int8,
        TensorElementType::Int16 => ElementType::Int16,
        TensorElementType::Int32 => ElementType::Int32,
        TensorElementType::Int64 => ElementType::Int64,
        TensorElementType::Float16 => ElementType::Fp16,
        TensorElementType::Bfloat16 => ElementType::Bf16,
        TensorElementType::Float32 => ElementType::Fp32,
        TensorElementType::Float64 => ElementType::Fp64,
        TensorElementType::String => ElementType::Bytes,
        _ => return None,
    })
}

fn tensor_type(datatype: ElementType) -> Option<TensorElementType> {
    Some(match datatype {
        ElementType::Bool => TensorElementType::Bool,
        ElementType::Uint8 => TensorElementType::Uint8,
        ElementType::Uint16 => TensorElementType::Uint16,
        ElementType::Uint32 => TensorElementType::Uint32,
        ElementType::Uint64 => TensorElementType::Uint64,
        ElementType::Int8 => TensorElementType::Int8,
        ElementType::Int16 => TensorElementType::Int16,
        ElementType::Int32 => TensorElementType::Int32,
        ElementType::Int64 => TensorElementType::Int64,
        ElementType::Fp16 => TensorElementType::Float16,
        ElementType::Bf16 => TensorElementType::Bfloat16,
        ElementType::Fp32 => TensorElementType::Float32,
        ElementType::Fp64 => TensorElementType::Float64,
        ElementType::Bytes => return None,
    })
}

/// A tensor as ONNX Runtime takes it: borrowed, but for strings, which it copies.
fn input<'a>(tensor: &'a TensorView<'_>) -> ort::Result<SessionInputValue<'a>> {
    fn borrowed<'a, T: ort::value::PrimitiveTensorElementType + Clone + fmt::Debug + 'static>(
        shape: &'a [usize],
        elements: &'a [T],
    ) -> ort::Result<SessionInputValue<'a>> {
        TensorRef::from_array_view((shape, elements)).map(Into::into)
    }
    with_numbers!(tensor, elements => borrowed(tensor.shape(), elements), strings => strings(tensor).map(Into::into))
}

/// Strings as ONNX Runtime holds them: copied with their lengths, for U+0000 is a character like any other.
#[expect(
    unsafe_code,
    reason = "ort fills in texts that end at their first zero"
)]
fn strings(array: &TensorView<'_>) -> ort::Result<DynTensor> {
    let shape = array.shape();
    let mut tensor = DynTensor::new(&Allocator::default(), TensorElementType::String, shape)?;
    for (index, text) in elements_of::<String>(array).iter().enumerate() {
        let mut room = ptr::null_mut();
        // SAFETY: the tensor was made with as many strings as the array has. The room for one of them is as long as was asked for,
        // lies in no other memory, and stays until the string is resized or the tensor dropped. A status belongs to the caller.
        unsafe {
            let api = ort::api();
            let resized = api.GetResizedStringTensorElementBuffer;
            let status = resized(tensor.ptr_mut(), index, text.len(), &raw mut room);
            if !status.0.is_null() {
                (api.ReleaseStatus)(status.0);
                return Err(ort::Error::new("there is no room for a string"));
            }
            ptr::copy_nonoverlapping(text.as_ptr(), room.cast(), text.len());
        }
    }
    Ok(tensor)
}

/// An output, lent as it lies in ONNX Runtime's memory.
fn view(value: &DynValue) -> Result<OutputView<'_>, String> {
    match value.dtype() {
        ValueType::Tensor { ty, .. } => tensor_view(value, *ty),
        ValueType::Map { .. } => pairs(value).map(OutputView::Map),
        ValueType::Sequence(element) if element.is_map() => {
            elements(value, pairs).map(OutputView::Maps)
        }
        ValueType::Sequence(_) => elements(value, owned).map(OutputView::Sequence),
        other @ ValueType::Optional(_) => {
            Err(format!("{other} is nothing that an answer can hold"))
        }
    }
}

fn tensor_view(value: &DynValue, ty: TensorElementType) -> Result<OutputView<'_>, String> {
    match ty {
        TensorElementType::Bool => lent::<bool>(value),
        TensorElementType::Uint8 => lent::<u8>(value),
        TensorElementType::Uint16 => lent::<u16>(value),
        TensorElementType::Uint32 => lent::<u32>(value),
        TensorElementType::Uint64 => lent::<u64>(value),
        TensorElementType::Int8 => lent::<i8>(value),
        TensorElementType::Int16 => lent::<i16>(value),
        TensorElementType::Int32 => lent::<i32>(value),
        TensorElementType::Int64 => lent::<i64>(value),
        TensorElementType::Float16 => lent::<half::f16>(value),
        TensorElementType::Bfloat16 => lent::<half::bf16>(value),
        TensorElementType::Float32 => lent::<f32>(value),
        TensorElementType::Float64 => lent::<f64>(value),
        TensorElementType::String => {
            let found = value.try_extract_strings();
            let (shape, texts) = found.map_err(|error| short(&error))?;
            let tensor = Tensor::new(sizes(shape), texts).map_err(|error| error.to_string())?;
            Ok(OutputView::Strings(tensor))
        }
        other => Err(format!(
            "elements of type {other} are nothing that an answer can hold"
        )),
    }
}

/// A tensor of numbers, as it lies in ONNX Runtime's memory.
fn lent<T: Element + ort::value::PrimitiveTensorElementType>(
    value: &DynValue,
) -> Result<OutputView<'_>, String> {
    let found = value.try_extract_tensor::<T>();
    let (shape, elements) = found.map_err(|error| short(&error))?;
    let view = TensorView::new(sizes(shape), elements).map_err(|error| error.to_string())?;
    Ok(OutputView::Tensor(view))
}

/// The sizes of an output, none of which is negative.
fn sizes(shape: &[i64]) -> SmallVec<[usize; 6]> {
    let sizes = shape.iter().map(|size| usize::try_from(*size).unwrap_or(0));
    sizes.collect()
}

/// The elements of a sequence, each as `read` reads it.
fn elements<T>(
    value: &DynValue,
    read: impl Fn(&DynValue) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    let sequence = value.try_extract_sequence::<DynValueTypeMarker>();
    let sequence = sequence.map_err(|error| short(&error))?;
    sequence.iter().map(read).collect()
}

/// A tensor of a sequence, copied: ONNX Runtime lends the sequence, not what is in it.
fn owned(value: &DynValue) -> Result<Tensor, String> {
    view(value)?
        .to_tensor()
        .ok_or_else(|| format!("expected tensors in the sequence, found {}", value.dtype()))
}

/// A map, as scikit-learn's ZipMap gives one for each row: keys as text, values as numbers.
fn pairs(value: &DynValue) -> Result<Vec<(String, f32)>, String> {
    let words = |error: ort::Error| short(&error);
    match value.dtype() {
        ValueType::Map {
            key: TensorElementType::Int64,
            ..
        } => {
            let pairs = value.try_extract_key_values::<i64, f32>().map_err(words)?;
            Ok(pairs
                .into_iter()
                .map(|(key, value)| (key.to_string(), value))
                .collect())
        }
        _ => value.try_extract_key_values().map_err(words),
    }
}

#[cfg(test)]
mod tests;
