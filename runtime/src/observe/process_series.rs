//! The series about the process, under the names that every client of Prometheus gives them. Read when somebody asks.
//!
//! Threads: any. Not here: processes that models run in, and programs that embed the library, which have such series of their own.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use rustix::process::{Resource, getrlimit};

use super::histogram::to_f64;

/// Writes the series of this process; what the kernel does not tell is left out.
#[derive(Debug)]
struct ProcessSeries;

/// The series of this process and no others.
pub(super) fn process_registry() -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(ProcessSeries));
    registry
}

impl Collector for ProcessSeries {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        if let Some(stat) = Stat::read() {
            stat.encode(&mut encoder)?;
        }
        let mut gauge = |name, help, value: Option<f64>| {
            let Some(value) = value else {
                return Ok(());
            };
            one(&mut encoder, (name, help, None), &ConstGauge::new(value))
        };
        let (open, max) = (open_fds(), getrlimit(Resource::Nofile).current);
        gauge(
            "process_open_fds",
            "Files that are open, sockets included.",
            open,
        )?;
        let max = max.map(to_f64);
        gauge(
            "process_max_fds",
            "Most files that may be open at once.",
            max,
        )
    }
}

/// A family of one sample.
fn one(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help, unit): (&str, &str, Option<Unit>),
    metric: &impl EncodeMetric,
) -> Result<(), fmt::Error> {
    let encoder = encoder.encode_descriptor(name, help, unit.as_ref(), metric.metric_type())?;
    metric.encode(encoder)
}

/// Files that are open but for the folder that is read for it.
fn open_fds() -> Option<f64> {
    let open = fs::read_dir("/proc/self/fd").ok()?.count();
    Some(to_f64(u64::try_from(open).ok()?.saturating_sub(1)))
}

/// The numbers of `/proc/self/stat`, in units that people know.
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    threads: f64,
    start_time_seconds: Option<f64>,
    virtual_bytes: f64,
    resident_bytes: f64,
}

impl Stat {
    fn read() -> Option<Self> {
        let boot = fs::read_to_string("/proc/stat").ok();
        let boot = boot.as_deref().and_then(boot_time);
        let text = fs::read_to_string("/proc/self/stat").ok()?;
        let (ticks, page) = (
            rustix::param::clock_ticks_per_second(),
            u64::try_from(rustix::param::page_size()).ok()?,
        );
        Self::of(&text, (to_f64(ticks), to_f64(page)), boot)
    }

    /// Reads the line of the kernel, where a second has as many ticks and a page as many bytes.
    fn of(text: &str, (ticks, page): (f64, f64), boot: Option<u64>) -> Option<Self> {
        // The name in parentheses may be anything, more of them included.
        let (_, fields) = text.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        // `man proc_pid_stat` counts from 1, and the two before are the id and the name.
        let field = |number: usize| fields.get(number - 3)?.parse().ok().map(to_f64);
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / ticks,
            threads: field(20)?,
            start_time_seconds: boot
                .map(to_f64)
                .zip(field(22))
                .map(|(b, at)| b + at / ticks),
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * page,
        })
    }

    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        one(
            encoder,
            (
                "process_cpu",
                "Processor time that the process has used, in its own code and in the kernel.",
                Some(Unit::Seconds),
            ),
            &ConstCounter::new(self.cpu_seconds),
        )?;
        let gauges = [
            (
                "process_resident_memory",
                "Memory of the process that is in RAM.",
                Some(Unit::Bytes),
                Some(self.resident_bytes),
            ),
            (
                "process_virtual_memory",
                "Address space of the process.",
                Some(Unit::Bytes),
                Some(self.virtual_bytes),
            ),
            (
                "process_start_time",
                "Moment at which the process began, since 1970.",
                Some(Unit::Seconds),
                self.start_time_seconds,
            ),
            (
                "process_threads",
                "Threads of the process.",
                None,
                Some(self.threads),
            ),
        ];
        for (name, help, unit, value) in gauges {
            if let Some(value) = value {
                one(encoder, (name, help, unit), &ConstGauge::new(value))?;
            }
        }
        Ok(())
    }
}

/// The second since 1970 at which the kernel began.
fn boot_time(stat: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_kernel_is_read_whatever_the_name() {
        let line = "7 (a b) c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 12 0 300 4096000 1000 18446744073709551615";
        let stat = Stat::of(line, (100.0, 4096.0), Some(1_000_000));
        let expected = Stat {
            cpu_seconds: 3.0,
            threads: 12.0,
            start_time_seconds: Some(1_000_003.0),
            virtual_bytes: 4_096_000.0,
            resident_bytes: 4_096_000.0,
        };
        assert_eq!(stat, Some(expected));
        for end in 0..line.len() - 21 {
            let cut = Stat::of(&line[..end], (100.0, 4096.0), None);
            assert!(cut.is_none_or(|cut| cut.start_time_seconds.is_none()));
        }
    }

    #[test]
    fn the_processor_time_of_threads_that_have_ended_stays_counted() {
        let before = Stat::read().unwrap().cpu_seconds;
        let work = || {
            let mut spent = 0_u64;
            while Stat::read().unwrap().cpu_seconds < before + 0.05 {
                spent = std::hint::black_box(spent + 1);
            }
        };
        std::thread::scope(|scope| drop(scope.spawn(work).join()));
        let now = Stat::read().unwrap();
        assert!(now.cpu_seconds >= before + 0.05);
        assert!(now.start_time_seconds.unwrap() > 1_600_000_000.0);
        assert!(now.resident_bytes > 0.0 && now.virtual_bytes >= now.resident_bytes);
    }
}
