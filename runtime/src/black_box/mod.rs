//! The black box: what each lane runs, written where it outlives the process, so that the next start can say what killed the
//! server.
//!
//! A file in the data folder is mapped and shared: what is stored there survives the end of the process by any signal, for the
//! kernel keeps it. Each lane has a [`Slot`] with its name, and says there when it begins and ends ([`Slot::busy`]), which costs
//! two stores each. A fatal signal is noted with the slot of the thread that got it ([`BlackBox::install`]); a kill without one
//! leaves the slots that were busy. The next start reads it as the [`LastDeath`], which says who is to blame.
//!
//! Threads: opened, installed and closed once in the life of a server; slots are made where instances start, and used by whoever
//! runs a lane: its own thread, an I/O thread, one that loads. A signal handler writes from whatever thread dies.
//! Not here: what is done about it (`control`), and the lanes (`engine`). A process of somebody else's that embeds the library
//! never installs one; then slots do nothing.

#[cfg(feature = "server")]
mod death;
#[cfg(feature = "server")]
mod file;
mod page;
#[cfg(feature = "server")]
mod signals;
mod slot;

#[cfg(feature = "server")]
pub use death::{Cause, LastDeath, Trace};
#[cfg(feature = "server")]
pub use file::{BlackBox, close, leave, slot};
pub use slot::{Busy, Doing, Slot};

/// A slot that does nothing: a program that embeds the library has no black box.
#[cfg(not(feature = "server"))]
#[must_use]
pub fn slot(_label: &str, _number: &str, _digest: &str) -> Slot {
    Slot::none()
}
