//! The library as a program sees it: its public surface alone.

mod executor;
mod promises;
mod wrong_uses;
