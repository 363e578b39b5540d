//! The judgement of a canary: from observations of single requests to a verdict. Pure.
//!
//! `observation` is what is known of a request that has ended, `guard_plan` what is to be judged and by which budget, `guard` judges: it has
//! a `gauge` for each metric, whose events are those of single requests (`labels`) or of slots of time (`slots`, with `percentile`).
//! `marking` says what an answer is worth by a label that comes later. `stable_watch` looks at the stable version alone, `switchback` at what the canary's share does to it.
//!
//! Threads: called from whichever drains the observations; a `Guard` belongs to one.
//! Not here: clocks, threads, I/O; how a verdict moves traffic.

mod argo;
mod command;
mod course;
mod draft;
mod duration;
mod entry;
mod feedback_file;
mod feedback_plan;
mod flagger;
mod fleet_verdict;
mod forecast;
mod gauge;
mod guard;
mod guard_file;
mod guard_plan;
mod label_skew;
mod labels;
mod marking;
mod observation;
mod percentile;
mod plan;
mod plan_file;
mod rollout;
mod slots;
mod stable_watch;
mod switchback;
mod words;

pub use command::Command;
pub use course::{Course, Point};
pub use entry::{Entry, Event};
pub use feedback_plan::FeedbackPlan;
pub use fleet_verdict::{Machine, Merged, merge};
pub use forecast::{Forecast, Need, Seen, WeightForecast};
pub use gauge::Counts;
pub use guard::{Finding, Guard, Verdict, report_of};
pub use guard_plan::{GuardPlan, Metric, MetricPlan, PlanError, Time};
pub use marking::{Misfit, mark, marked_part};
pub use observation::{Arm, Ending, Observation, Routing, Truth, Worth};
pub use plan::{Hook, OnSlowed, OnUndecided, RolloutPlan, Step, StickyKey};
pub use plan_file::{Names, read_plan};
pub use rollout::{Input, Phase, Rollout, Took, Wish, WorstPair};
pub use stable_watch::{Slowed, Usual};
pub use switchback::{SwitchbackPlan, SwitchedBack};
