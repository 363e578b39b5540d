//! The load generator: when requests arrive (`arrivals`), one connection (`connection`, `link`, `wire`), the run (`driver`,
//! `timer`), latencies (`summary`).

mod arrivals;
mod connection;
mod driver;
mod link;
mod summary;
mod timer;
mod wire;

pub use arrivals::Arrivals;
pub use connection::{LoadError, Reply, Target, TargetError};
pub use driver::{Load, Pace, RunningLoad, Sample};
pub use summary::{Percentile, Summary};

pub use crate::trust::{Trust, TrustError};
