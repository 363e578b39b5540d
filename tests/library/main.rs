//! The library as a program sees it: its public surface alone.

mod executor;
mod exits;
mod promises;
mod wrong_uses;
