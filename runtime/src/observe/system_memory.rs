//! Memory as the kernel counts it: the machine's, and that of the control groups that a process is in.
//!
//! Threads: any; a question reads some small files. Not here: what is spared, and who may take the rest.

use std::fs;
use std::path::{Path, PathBuf};

use crate::observe::control_groups::{Hierarchy, MOUNTED, OF_THIS_PROCESS, folders};

/// Figures from here on are no limit: the first hierarchy of control groups writes "none" as the largest number of pages.
const NO_LIMIT: u64 = 1 << 60;

/// Bytes that this process may use in all: the machine's, or less where a control group says so. None where the kernel does not
/// tell.
#[must_use]
pub fn memory_limit() -> Option<u64> {
    let groups = ControlGroup::of_this_process();
    let limits = groups.iter().filter_map(ControlGroup::limit);
    limits.chain(of_machine("MemTotal:")).min()
}

/// Bytes that the machine has without swapping; none where the kernel does not tell.
#[must_use]
pub fn memory_available() -> Option<u64> {
    of_machine("MemAvailable:")
}

fn of_machine(key: &str) -> Option<u64> {
    figure(&fs::read_to_string("/proc/meminfo").ok()?, key)
}

/// A figure of `/proc/meminfo`, in bytes.
fn figure(meminfo: &str, key: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// A control group with its files, in the words of its hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlGroup {
    folder: PathBuf,
    limit: &'static str,
    usage: &'static str,
    /// Lines of `memory.stat` that count what the kernel takes back before it kills: pages of files.
    of_files: [&'static str; 2],
}

impl ControlGroup {
    /// The groups that this process is in, from its own up to the root of each hierarchy.
    #[must_use]
    pub fn of_this_process() -> Vec<Self> {
        let of_process = fs::read_to_string(OF_THIS_PROCESS).unwrap_or_default();
        groups(&of_process, Path::new(MOUNTED))
    }

    fn second(folder: PathBuf) -> Self {
        Self {
            folder,
            limit: "memory.max",
            usage: "memory.current",
            of_files: ["inactive_file", "active_file"],
        }
    }

    fn first(folder: PathBuf) -> Self {
        Self {
            folder,
            limit: "memory.limit_in_bytes",
            usage: "memory.usage_in_bytes",
            of_files: ["total_inactive_file", "total_active_file"],
        }
    }

    /// Bytes that its processes may use together; none where there is no limit.
    #[must_use]
    pub fn limit(&self) -> Option<u64> {
        // "max" is no number.
        self.number(self.limit).filter(|limit| *limit < NO_LIMIT)
    }

    /// Bytes that its processes use and the kernel cannot take back; none where it does not tell.
    #[must_use]
    pub fn used(&self) -> Option<u64> {
        let stat = fs::read_to_string(self.folder.join("memory.stat")).unwrap_or_default();
        let files: u64 = self.of_files.iter().map(|key| line(&stat, key)).sum();
        Some(self.number(self.usage)?.saturating_sub(files))
    }

    fn number(&self, file: &str) -> Option<u64> {
        let text = fs::read_to_string(self.folder.join(file)).ok()?;
        text.trim().parse().ok()
    }
}

/// The number behind a key of `memory.stat`; 0 where there is none.
fn line(text: &str, key: &str) -> u64 {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    let found = lines.find(|(name, _)| *name == key);
    found.map_or(0, |(_, number)| number.trim().parse().unwrap_or(0))
}

/// The groups of a process that say something of memory, from its own up to the root.
fn groups(of_process: &str, mounted: &Path) -> Vec<ControlGroup> {
    let groups = folders(of_process, mounted, "memory").into_iter();
    let groups = groups.map(|(hierarchy, folder)| match hierarchy {
        Hierarchy::First => ControlGroup::first(folder),
        Hierarchy::Second => ControlGroup::second(folder),
    });
    let groups = groups.filter(|group| group.folder.join(group.limit).is_file());
    groups.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(file: &Path, text: &str) {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    #[test]
    fn every_group_up_to_the_root_has_a_say_in_both_hierarchies() {
        let mounted = tempfile::tempdir().unwrap();
        let mounted = mounted.path();
        for (file, limit) in [
            ("a/b/memory.max", "max\n"),
            ("a/memory.max", "1000\n"),
            ("memory/x/memory.limit_in_bytes", "500\n"),
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ] {
            write(&mounted.join(file), limit);
        }
        let limits = |of_process: &str| -> Vec<_> {
            let found = groups(of_process, mounted).into_iter();
            let found = found.map(|group| {
                let folder = group.folder.strip_prefix(mounted).unwrap();
                (folder.display().to_string(), group.limit())
            });
            found.collect()
        };
        let group = |folder: &str, limit| (folder.to_owned(), limit);
        let second = [group("a/b", None), group("a", Some(1000))];
        let first = [group("memory/x", Some(500)), group("memory", None)];
        assert_eq!(limits("0::/a/b\n"), second);
        assert_eq!(limits("4:cpu,memory:/x\n3:cpu:/a\n"), first);
        assert_eq!(
            limits("4:memory:/x\n0::/a/b\n"),
            [first.as_slice(), &second].concat()
        );
        // As in a container, whose own group is the root of what is mounted.
        assert_eq!(limits("4:memory:/docker/1234\n"), [group("memory", None)]);
        assert!(limits("0::/\n").is_empty());
        assert!(limits("nonsense\n:\n").is_empty());
    }

    #[test]
    fn pages_of_files_are_not_used_for_the_kernel_takes_them_back() {
        let folder = tempfile::tempdir().unwrap();
        let group = ControlGroup::second(folder.path().to_owned());
        assert_eq!(group.used(), None);
        write(&folder.path().join("memory.current"), "500000\n");
        assert_eq!(group.used(), Some(500_000));
        let stat = "anon 1\ninactive_file 100000\nactive_file 50000\nfile 7\n";
        write(&folder.path().join("memory.stat"), stat);
        assert_eq!(group.used(), Some(350_000));
    }

    #[test]
    fn the_kernel_s_own_figures_are_read() {
        let text = "MemTotal:       24 kB\nMemAvailable:   10 kB\n";
        assert_eq!(figure(text, "MemTotal:"), Some(24 * 1024));
        assert_eq!(figure(text, "MemAvailable:"), Some(10 * 1024));
        assert_eq!(figure("MemTotal: 1 kB\n", "MemAvailable:"), None);
        assert!(memory_limit().is_some());
        assert!(memory_available().is_some(), "Linux has told it since 3.14");
    }
}
