//! The real binary, real models, real signals: what serin promises as a whole.

mod bad_input;
mod bytes_in_flight;
mod canary_flow;
mod cohorts;
mod connections;
mod containers;
mod deaths;
mod disks;
mod durability;
mod faults;
mod hygiene;
mod isolation;
mod logs;
mod memory;
mod mlp;
mod models;
mod neighbours;
mod readme;
mod restarts;
mod rules;
mod scoring;
mod scripts;
mod strangers;
mod supervisor;
mod support;
mod traffic;
