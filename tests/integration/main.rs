//! The real binary, real models, real signals: what serin promises as a whole.

mod bad_input;
mod bytes_in_flight;
mod canary_flow;
mod deaths;
mod durability;
mod faults;
mod hygiene;
mod isolation;
mod memory;
mod mlp;
mod models;
mod readme;
mod restarts;
mod rules;
mod scoring;
mod supervisor;
mod support;
mod traffic;
