//! Use of the cores by others while something was measured, as the kernel counts it.
//!
//! Not here: what to do about it.

use std::fs;

/// Processor time since the machine started, in the kernel's ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CpuTimes {
    /// All of it, idle time included.
    all: u64,
    /// Time that is neither idle nor stolen.
    busy: u64,
    /// Time taken by the machine that this one is a guest of.
    stolen: u64,
    /// Time of this process.
    own: u64,
}

/// The use that was not ours, as shares of the time of all cores.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Others {
    /// Other processes.
    pub busy: f64,
    /// Other guests of the same host.
    pub stolen: f64,
}

impl CpuTimes {
    /// The times now; none where the kernel does not tell.
    #[must_use]
    pub fn read() -> Option<Self> {
        Self::parse(
            &fs::read_to_string("/proc/stat").ok()?,
            &fs::read_to_string("/proc/self/stat").ok()?,
        )
    }

    fn parse(system: &str, process: &str) -> Option<Self> {
        let line = system.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let ticks: Vec<u64> = line
            .split_whitespace()
            .map_while(|number| number.parse().ok())
            .collect();
        // user, nice, system, idle, iowait, irq, softirq, steal; what guests use stands in user already.
        let [user, nice, system, idle, iowait, irq, softirq, stolen, ..] = ticks[..] else {
            return None;
        };
        let busy = user + nice + system + irq + softirq;
        // The name in brackets may hold spaces and brackets. After it: state is field 3, user and system time 14 and 15.
        let (_, fields) = process.rsplit_once(") ")?;
        let mut fields = fields.split(' ').skip(11);
        let own = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
        Some(Self {
            all: busy + idle + iowait + stolen,
            busy,
            stolen,
            own,
        })
    }

    /// The use by others between `earlier` and this.
    #[must_use]
    pub fn others_since(&self, earlier: &Self) -> Others {
        let all = self.all.saturating_sub(earlier.all);
        if all == 0 {
            return Others::default();
        }
        let own = self.own.saturating_sub(earlier.own);
        let busy = self.busy.saturating_sub(earlier.busy).saturating_sub(own);
        let stolen = self.stolen.saturating_sub(earlier.stolen);
        let share = |ticks: u64| ticks as f64 / all as f64;
        Others {
            busy: share(busy),
            stolen: share(stolen),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_others_is_what_is_neither_idle_nor_ours() {
        let process = |own| format!("7 (a) b) R 1 1 1 0 -1 0 0 0 0 0 {own} 5 0 0 20 0");
        let before =
            CpuTimes::parse("cpu  100 0 0 900 0 0 0 0 0 0\ncpu0 1\n", &process(10)).unwrap();
        let after =
            CpuTimes::parse("cpu  150 5 5 950 30 0 0 10 0 0\ncpu0 1\n", &process(40)).unwrap();
        // 150 ticks in all: 60 busy, of which 30 are ours, and 10 stolen.
        let others = after.others_since(&before);
        assert!((others.busy - 0.2).abs() < 1e-9, "{others:?}");
        assert!((others.stolen - 10.0 / 150.0).abs() < 1e-9, "{others:?}");
    }

    #[test]
    fn a_clock_that_stands_still_blames_nobody() {
        let times = CpuTimes::read().unwrap();
        assert_eq!(times.others_since(&times), Others::default());
    }

    #[test]
    fn a_kernel_that_tells_less_is_not_guessed_about() {
        assert_eq!(CpuTimes::parse("cpu  1 2 3\n", "1 (a) R 1"), None);
        assert_eq!(CpuTimes::parse("", ""), None);
    }
}
