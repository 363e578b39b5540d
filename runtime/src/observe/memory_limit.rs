//! The memory that this process may use: the machine's, or less where a control group says so.
//!
//! Not here: how much of it is free.

use std::fs;
use std::path::Path;

/// Bytes that this process may use in all; none where the kernel does not tell.
#[must_use]
pub fn memory_limit() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.and_then(|text| total(&text));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    machine
        .into_iter()
        .chain(least_of_groups(Path::new("/sys/fs/cgroup"), &groups))
        .min()
}

fn total(meminfo: &str) -> Option<u64> {
    let mut lines = meminfo.lines();
    let line = lines.find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The least limit of the groups of a process and of those around them, in both versions of control groups. In a container the own
/// group may be mounted as the root, and its path leads nowhere.
fn least_of_groups(mounted: &Path, groups: &str) -> Option<u64> {
    let limits = groups.lines().filter_map(|line| {
        let (controllers, own) = line.split_once(':')?.1.split_once(':')?;
        match controllers {
            "" => least_upward(mounted, own, "memory.max"),
            "memory" => least_upward(&mounted.join("memory"), own, "memory.limit_in_bytes"),
            _ => None,
        }
    });
    limits.min()
}

fn least_upward(root: &Path, own: &str, file: &str) -> Option<u64> {
    let own = root.join(own.trim_start_matches('/'));
    own.ancestors()
        .take_while(|group| group.starts_with(root))
        // "max", which is no number, is no limit; nor is the largest number, which the machine's memory is below.
        .filter_map(|group| {
            fs::read_to_string(group.join(file))
                .ok()?
                .trim()
                .parse()
                .ok()
        })
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_of_the_groups_around_a_process_counts() {
        let mounted = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = mounted.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("a/memory.max", "1000\n");
        write("a/b/memory.max", "max\n");
        write("memory/memory.limit_in_bytes", "500\n");
        let least = |groups: &str| least_of_groups(mounted.path(), groups);
        assert_eq!(least("0::/a/b\n"), Some(1000));
        assert_eq!(
            least("3:cpu:/a\n4:memory:/gone/elsewhere\n0::/a\n"),
            Some(500)
        );
        assert_eq!(least("0::/\n"), None);
        assert_eq!(least("nonsense"), None);
    }

    #[test]
    fn the_machine_tells_its_memory() {
        assert_eq!(
            total("MemTotal:       24 kB\nMemFree: 1 kB\n"),
            Some(24 * 1024)
        );
        assert!(memory_limit().is_some());
    }
}
