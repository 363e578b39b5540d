//! Metrics and findings in words.

use std::fmt;

use crate::canary::guard::{Finding, Verdict};
use crate::canary::guard_plan::Metric;

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
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
        )?;
        match self.labels_uneven {
            true => f.write_str("; labels come for one version more often, and so prove nothing"),
            false => Ok(()),
        }
    }
}
