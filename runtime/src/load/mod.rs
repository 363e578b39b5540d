//! The load generator: when requests arrive (`arrivals`), one connection (`connection`), the run (`driver`), latencies
//! (`summary`), random numbers (`random`).

mod arrivals;
mod connection;
mod driver;
mod random;
mod summary;

pub use arrivals::Arrivals;
pub use connection::{LoadError, Reply, Target, TargetError};
pub use driver::{Load, Pace, RunningLoad, Sample};
pub use random::SplitMix64;
pub use summary::Summary;
