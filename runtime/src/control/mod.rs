//! What should be, what is, how to get there.

mod change;
mod controller;
mod credentials;
mod desired;
mod models;
mod operation;
mod plan;
mod store;
