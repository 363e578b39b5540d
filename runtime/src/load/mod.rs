//! The load generator: when requests arrive (`arrivals`), one connection (`connection`), the run (`driver`), latencies
//! (`summary`).

mod arrivals;
mod connection;
mod driver;
mod summary;

pub use arrivals::Arrivals;
pub use connection::{LoadError, Reply, Target, TargetError};
pub use driver::{Load, Pace, RunningLoad, Sample};
pub use summary::{Percentile, Summary};
