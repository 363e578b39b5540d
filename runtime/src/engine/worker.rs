//! A score thread.
