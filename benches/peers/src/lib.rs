//! What the limit and the naive server share: a model, and numbers between JSON and tensors.
//!
//! Nothing here takes care of anything: no bounds, no deadlines, no second input. It is what is left of a server when every
//! promise is taken away, and so the bar for one that keeps them.

mod answer;
mod model;
mod nested;

pub use answer::Answer;
pub use model::{Model, environment};
pub use nested::{Nested, Request};
