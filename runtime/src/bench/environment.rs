//! The machine that a benchmark ran on, and who else used it.

use std::fs;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::bench::report::Environment;
use crate::engine::Topology;
use crate::observe::CpuTimes;

/// The state of the machine before the first request.
#[derive(Debug)]
pub(super) struct Before {
    started: Timestamp,
    at: Instant,
    load: Option<f64>,
    times: Option<CpuTimes>,
}

impl Before {
    pub(super) fn read() -> Self {
        Self {
            started: Timestamp::now(),
            at: Instant::now(),
            load: load_average(),
            times: CpuTimes::read(),
        }
    }

    /// After the last one; `servers` is the processor time of what was measured, in other processes than this.
    pub(super) fn finish(self, servers: Duration, onnxruntime: Option<String>) -> Environment {
        let cores = Topology::read().len();
        let since = CpuTimes::read().zip(self.times);
        let others = since
            .map(|(after, before)| after.others_since(&before))
            .unwrap_or_default();
        let all = self.at.elapsed().as_secs_f64() * cores as f64;
        Environment {
            started: self.started.to_string(),
            serin: env!("CARGO_PKG_VERSION").to_owned(),
            system: format!(
                "Linux {}",
                line("/proc/sys/kernel/osrelease").unwrap_or_default()
            ),
            processor: processor().unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores,
            governor: line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            load_before: self.load,
            load_after: load_average(),
            stolen: others.stolen,
            others: (others.busy - servers.as_secs_f64() / all).max(0.0),
            onnxruntime,
        }
    }
}

fn line(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.lines().next()?.trim().to_owned())
}

fn load_average() -> Option<f64> {
    line("/proc/loadavg")?.split(' ').next()?.parse().ok()
}

fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(": ")?.1.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_told_and_what_was_measured_is_nobody_else_s() {
        let before = Before::read();
        let environment = before.finish(Duration::from_secs(3600), None);
        assert!(environment.cores > 0);
        assert!(environment.system.starts_with("Linux "), "{environment:?}");
        assert!(!environment.processor.is_empty());
        assert!(environment.others.abs() < 1e-9, "{environment:?}");
    }
}
