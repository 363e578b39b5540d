//! The reasons why ONNX Runtime is not there.

use std::path::PathBuf;

/// The reason why ONNX Runtime is not there.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum LibraryError {
    /// No folder to unpack to.
    #[error(
        "no folder to unpack ONNX Runtime to: neither SERIN_CACHE, XDG_CACHE_HOME nor HOME is set; set SERIN_CACHE to a folder"
    )]
    NoCacheFolder,
    /// The library could not be written.
    #[error(
        "cannot unpack ONNX Runtime to {folder}: {reason}; set SERIN_CACHE to a folder that can be written and has {megabytes} MB free"
    )]
    Unpack {
        /// Where it should have gone.
        folder: String,
        /// The system's reason.
        reason: String,
        /// Room that it takes.
        megabytes: u64,
    },
    /// The copy inside the binary is damaged.
    #[error(
        "the ONNX Runtime inside this binary is damaged (checksum {found}, expected {expected}); copy the binary again"
    )]
    Damaged {
        /// Of what was unpacked.
        found: String,
        /// Of what was built in.
        expected: String,
    },
    /// None is anywhere.
    #[error(
        "there is no ONNX Runtime: {tried}. Install the package onnxruntime of your system, put libonnxruntime.so beside the executable, \
         set SERIN_ONNXRUNTIME_LIB to its path, or give the path to the builder"
    )]
    NotFound {
        /// Where it was looked for, and what was there.
        tried: String,
    },
    /// The file that was named is none, or is for another machine.
    #[error(
        "expected an ONNX Runtime library for this machine (libonnxruntime.so) at {}, which {named_by}, found {found}", path.display()
    )]
    Unfit {
        /// As given.
        path: PathBuf,
        /// Who gave it.
        named_by: &'static str,
        /// In words.
        found: String,
    },
    /// A process has one ONNX Runtime.
    #[error(
        "this process has its ONNX Runtime from {}, and has only one: give the same path everywhere, not {}", first.display(), second.display()
    )]
    Second {
        /// The library in use, or the one that is to be.
        first: PathBuf,
        /// The other one.
        second: PathBuf,
    },
    /// Another part of the program was faster.
    #[error(
        "another part of this program has made the one environment that `ort` allows in a process, and has not given it to serin: build serin \
         with the feature `ort` and give it a clone before the first endpoint starts (`Builder::environment`), or let serin be first and take \
         its environment"
    )]
    ForeignEnvironment,
    /// Sessions run in the one that is there.
    #[error(
        "serin runs in an environment of its own already: give yours before the first endpoint starts, or take serin's instead of making one"
    )]
    EnvironmentInUse,
    /// The system or the library refused.
    #[error("cannot load ONNX Runtime: {0}")]
    Load(String),
}
