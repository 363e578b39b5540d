//! serin: Azure ML style online endpoints for ONNX models on one machine.

pub mod spec;

pub mod config;
pub mod deadline;

pub mod load;
pub mod observe;

pub mod engine;

pub mod router;

pub mod control;
pub mod serve;

pub mod admin;

pub mod app;

pub mod cli;

pub use app::Embedded;
