//! Steps on the way to a model that instances may load, told to whoever wants to know while they take their time.
//!
//! Threads: told on the thread that does the work, which does not wait for who is told.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// A step that takes seconds for a large model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Its files are read for their checksums.
    Reading,
    /// A child process loads it and runs it once.
    Trying,
    /// The child makes the form that instances share.
    Preparing,
    /// Its files are copied.
    Copying,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reading => "reading the model",
            Self::Trying => "trying the model",
            Self::Preparing => "preparing the model",
            Self::Copying => "copying the model",
        })
    }
}

type Listener = dyn Fn(&Path, Stage) + Send + Sync;

/// Those who are told of the steps, with the file of the model.
#[derive(Clone, Default)]
pub struct Tell(Vec<Arc<Listener>>);

impl fmt::Debug for Tell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tell({})", self.0.len())
    }
}

impl Tell {
    /// Tells one listener, who must not wait.
    pub fn new(listener: impl Fn(&Path, Stage) + Send + Sync + 'static) -> Self {
        Self(vec![Arc::new(listener)])
    }

    /// Tells the listeners of both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self(self.0.iter().chain(&other.0).cloned().collect())
    }

    /// Tells a step of the model in this file.
    pub fn say(&self, model: &Path, stage: Stage) {
        self.0.iter().for_each(|listener| listener(model, stage));
    }
}
