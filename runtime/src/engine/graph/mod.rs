//! What the graph of an ONNX model proves about it, before it runs.
//!
//! [`GraphFacts`] says whether the rows of a request are independent, whether the work for a request follows from its shapes, and
//! whether no value can end the process. What is not proven is no claim: whoever acts on a fact takes the careful way without it.
//!
//! Threads: everything blocks on reading the file, and is pure after that.
//! Not here: ONNX Runtime, measuring, and what follows from a fact.

#[cfg(test)]
mod adversaries;
mod call;
mod facts;
mod follow;
mod obstacle;
mod proto;
mod rules;
mod size;
mod skeleton;
mod summary;
mod table;
#[cfg(test)]
mod trials;
mod value;

pub use facts::{Fact, GraphFacts};
pub use obstacle::Obstacle;
pub use summary::{ModelSummary, TensorSummary};
