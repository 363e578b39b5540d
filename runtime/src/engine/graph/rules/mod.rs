//! The rules of operators: what comes out of a node whose inputs are made of rows, or why that is not known.
//!
//! A rule that gives `Ok` with a value made of rows promises: for any two batches, the output for both together is the outputs
//! for each, one after the other along the axis that it says. That holds where an operator works entry by entry along that axis,
//! or keeps its entries in order.

pub(super) mod broadcast;
pub(super) mod contrib;
pub(super) mod gather;
pub(super) mod layout;
pub(super) mod learning;
pub(super) mod matrix;
pub(super) mod recurrent;
pub(super) mod reduce;
pub(super) mod shapes;
pub(super) mod window;
