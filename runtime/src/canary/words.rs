//! Metrics and findings in words.

use std::fmt;

use crate::canary::guard::{Finding, Verdict};
use crate::canary::guard_plan::{Metric, Time};

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errors => f.write_str("errors"),
            Self::Timeouts => f.write_str("timeouts"),
            Self::Sheds => f.write_str("sheds"),
            Self::Slow { limit_us } => {
                write!(f, "requests over {} ms", *limit_us as f64 / 1000.0)
            }
            Self::BadOutputs => f.write_str("bad outputs"),
            Self::Quantile { quantile, time, .. } => {
                let time = match time {
                    Time::Service => " of the service time",
                    Time::Total => "",
                };
                write!(f, "p{}{time}", quantile * 100.0)
            }
            Self::Agreement { .. } => f.write_str("answers that differ"),
            Self::Accuracy => f.write_str("wrong answers"),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.plan.metric;
        let (stable, canary) = (self.stable, self.canary);
        match self.verdict {
            Verdict::Harm => write!(f, "{name}: HARM")?,
            Verdict::Safe => write!(f, "{name}: SAFE")?,
            Verdict::Undecided => write!(f, "{name}: UNDECIDED")?,
        }
        write!(
            f,
            " (canary {} of {}, stable {} of {}; evidence of harm {:.2} of {:.2}, of safety {:.2} of {:.2})",
            canary.events,
            canary.of,
            stable.events,
            stable.of,
            self.log_e_harm,
            self.threshold_harm,
            self.log_e_safe,
            self.threshold_safe,
        )
    }
}
