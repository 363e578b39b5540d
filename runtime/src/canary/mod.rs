//! The judgement of a canary: from observations of single requests to a verdict. Pure.
//!
//! `observation` is what is known of a request that has ended, `plan` what is to be judged and by which budget, `guard` judges.
//!
//! Threads: called from whichever drains the observations; a `Guard` belongs to one.
//! Not here: clocks, threads, I/O; how a verdict moves traffic.

mod guard;
mod guard_plan;
mod observation;

pub use guard::{Counts, Finding, Guard, Verdict};
pub use guard_plan::{GuardPlan, Metric, MetricPlan, PlanError, Time};
pub use observation::{Arm, Ending, Observation, Routing, Truth};
