//! Notes on one deployment, which whoever asks for its log reads: what its model, its instances and its requests met with.
//!
//! Who makes a note does not wait, and need not know whether anybody keeps it: a server does (`deployment_log`), a program that embeds
//! the library does not.
//!
//! Threads: any.

use std::fmt::{Debug, Display};
use std::sync::Arc;

use arc_swap::ArcSwapOption;

/// The part of a deployment that a note is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoteOn {
    /// The way of its model to a form that instances may load, or that of its environment.
    Preparation,
    /// The start and the end of its instances.
    Instance,
    /// What ONNX Runtime warns of.
    OnnxRuntime,
    /// What its script prints.
    Script,
    /// A request that failed by its fault.
    Request,
}

impl NoteOn {
    /// Every part, in the order of their numbers.
    pub const ALL: [Self; 5] = [
        Self::Preparation,
        Self::Instance,
        Self::OnnxRuntime,
        Self::Script,
        Self::Request,
    ];

    /// The word that begins its lines.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Preparation => "preparation",
            Self::Instance => "instance",
            Self::OnnxRuntime => "onnxruntime",
            Self::Script => "script",
            Self::Request => "request",
        }
    }
}

/// Somebody who keeps notes. Takes them on any thread, and must not wait.
pub trait NoteKeeper: Debug + Send + Sync {
    /// Keeps a note on `ENDPOINT/DEPLOYMENT`.
    fn keep(&self, deployment: &str, on: NoteOn, words: &dyn Display);
}

/// The one who keeps the notes of this process.
static KEEPER: ArcSwapOption<Kept> = ArcSwapOption::const_empty();

#[derive(Debug)]
struct Kept(Arc<dyn NoteKeeper>);

/// Gives all further notes of the process to this keeper, or to nobody.
pub fn give_notes_to(keeper: Option<Arc<dyn NoteKeeper>>) {
    KEEPER.store(keeper.map(|keeper| Arc::new(Kept(keeper))));
}

/// Notes something on `ENDPOINT/DEPLOYMENT`.
pub fn note(deployment: &str, on: NoteOn, words: &dyn Display) {
    if let Some(kept) = &*KEEPER.load() {
        kept.0.keep(deployment, on, words);
    }
}
