//! Environments of scoring scripts: from a conda file or a `requirements.txt` to a virtual environment on this machine.
//!
//! A [`Recipe`] is what a file asks for, in a normal form (`conda` and `requirements` read it, `wish` is the Python in it).

mod conda;
mod recipe;
mod requirements;
mod wish;

pub use recipe::Recipe;
