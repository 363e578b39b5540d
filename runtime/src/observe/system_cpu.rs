//! Processor time that the control groups of a process allow, as the kernel counts it.
//!
//! Threads: any; a question reads some small files. Not here: which cores a process may use (`engine::Topology`).

use std::fs;
use std::path::Path;

use crate::observe::control_groups::{Hierarchy, MOUNTED, OF_THIS_PROCESS, folders};

/// Processor time that this process may use, in cores: the least of what its control group and all groups around that allow.
/// None where none of them has a bound.
#[must_use]
pub fn cpu_quota() -> Option<f64> {
    let of_process = fs::read_to_string(OF_THIS_PROCESS).unwrap_or_default();
    least_quota(&of_process, Path::new(MOUNTED))
}

fn least_quota(of_process: &str, mounted: &Path) -> Option<f64> {
    let groups = folders(of_process, mounted, "cpu").into_iter();
    let quotas = groups.filter_map(|(hierarchy, folder)| quota(hierarchy, &folder));
    quotas.min_by(f64::total_cmp)
}

fn quota(hierarchy: Hierarchy, group: &Path) -> Option<f64> {
    let read = |name: &str| fs::read_to_string(group.join(name)).ok();
    match hierarchy {
        Hierarchy::First => parse_quota(&format!(
            "{} {}",
            read("cpu.cfs_quota_us")?.trim(),
            read("cpu.cfs_period_us")?.trim()
        )),
        Hierarchy::Second => parse_quota(&read("cpu.max")?),
    }
}

/// Parses `quota period`, both in microseconds; `max` or a negative quota is none.
fn parse_quota(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.trim().parse().ok()?);
    (quota > 0.0 && period > 0.0).then_some(quota / period)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(file: &Path, text: &str) {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    #[test]
    fn the_least_quota_of_all_groups_around_a_process_counts_in_both_hierarchies() {
        let mounted = tempfile::tempdir().unwrap();
        let mounted = mounted.path();
        let quota = |of_process: &str| least_quota(of_process, mounted);
        write(&mounted.join("a/b/cpu.max"), "max 100000\n");
        assert_eq!(quota("0::/a/b\n"), None);
        write(&mounted.join("a/b/cpu.max"), "400000 100000\n");
        assert_eq!(quota("0::/a/b\n"), Some(4.0));
        write(&mounted.join("a/cpu.max"), "150000 100000\n");
        assert_eq!(quota("0::/a/b\n"), Some(1.5));
        assert_eq!(quota("0::/\n"), None, "its own group is the root");
        let first = |group: &str, quota: &str| {
            let folder = mounted.join("cpu").join(group);
            write(&folder.join("cpu.cfs_quota_us"), quota);
            write(&folder.join("cpu.cfs_period_us"), "50000\n");
        };
        first("", "-1\n");
        first("x", "100000\n");
        first("x/y", "25000\n");
        assert_eq!(quota("3:cpu,cpuacct:/x/y\n2:memory:/\n"), Some(0.5));
        assert_eq!(quota("3:cpu:/x\n0::/\n"), Some(2.0));
        assert_eq!(quota("3:cpu:/x/y\n0::/a/b\n"), Some(0.5));
        // The path of the host, seen from within a container whose own group is the root of what is mounted.
        first("", "75000\n");
        assert_eq!(quota("3:cpu:/docker/1234\n"), Some(1.5));
        write(&mounted.join("cpu.max"), "120000 100000\n");
        assert_eq!(quota("0::/../../elsewhere\n"), Some(1.2));
    }

    #[test]
    fn words_that_are_no_quota_are_none() {
        for text in [
            "max 100000\n",
            "-1 100000",
            "0 100000",
            "1",
            "",
            "x y",
            "1 0",
        ] {
            assert_eq!(parse_quota(text), None, "{text:?}");
        }
        assert_eq!(parse_quota("150000 100000\n"), Some(1.5));
    }
}
