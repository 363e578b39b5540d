//! Room for more memory on this machine: of the kernel's own figures and of the control groups that this process is in.
//!
//! A control group that is over its limit gets no refusal: the kernel kills a process of it. So who is about to take much
//! memory asks here first, and touches all of it before the next one may ask.
//!
//! Threads: any; a question reads some small files. Not here: what a run may take (`run_memory`).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use crate::engine::lock::lock;

/// Room that is left to what cannot be refused: stacks, sockets, the tensors that a body is decoded to.
const SPARED_BYTES_MAX: u64 = 64 << 20;
/// The same as a part of a small limit: one in so many.
const SPARED_PART: u64 = 32;
/// Figures from here on are no limit: the first hierarchy of control groups writes "none" as the largest number of pages.
const NO_LIMIT: u64 = 1 << 60;

/// A control group with its files, in the words of its hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    folder: PathBuf,
    limit: &'static str,
    usage: &'static str,
    /// Lines of `memory.stat` that count what the kernel takes back before it kills: pages of files.
    of_files: [&'static str; 2],
}

impl Group {
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

    /// Bytes that may still be taken; nothing where there is no limit.
    fn room(&self) -> Option<u64> {
        let number = |file: &str| -> Option<u64> {
            let text = fs::read_to_string(self.folder.join(file)).ok()?;
            text.trim().parse().ok()
        };
        let limit = number(self.limit).filter(|limit| *limit < NO_LIMIT)?;
        let stat = fs::read_to_string(self.folder.join("memory.stat")).unwrap_or_default();
        let files: u64 = self.of_files.iter().map(|key| line(&stat, key)).sum();
        let used = number(self.usage)?.saturating_sub(files);
        Some(spare(limit).saturating_sub(used))
    }
}

/// The limit without what is spared for the rest of the process.
fn spare(limit: u64) -> u64 {
    limit - (limit / SPARED_PART).min(SPARED_BYTES_MAX)
}

/// The number behind a key of `memory.stat`; 0 where there is none.
fn line(text: &str, key: &str) -> u64 {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    let found = lines.find(|(name, _)| *name == key);
    found.map_or(0, |(_, number)| number.trim().parse().unwrap_or(0))
}

/// The groups of a process by its `/proc/self/cgroup`, from its own up to the root, below where they are mounted. In a container
/// its own group may be all that is mounted: then the paths lead nowhere, and the root says it.
fn groups(of_process: &str, mounted: &Path) -> Vec<Group> {
    let mut groups = Vec::new();
    for line in of_process.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let first = controllers.split(',').any(|name| name == "memory");
        if !controllers.is_empty() && !first {
            continue;
        }
        let root = if first {
            mounted.join("memory")
        } else {
            mounted.to_owned()
        };
        let own = root.join(path.trim_start_matches('/'));
        let up = own
            .ancestors()
            .take_while(|folder| folder.starts_with(&root));
        let made = |folder: &Path| {
            let folder = folder.to_owned();
            if first {
                Group::first(folder)
            } else {
                Group::second(folder)
            }
        };
        let known = up.map(made);
        groups.extend(known.filter(|group| group.folder.join(group.usage).is_file()));
    }
    groups
}

/// Bytes that this process may still take, by every limit on it; nothing where the kernel does not tell.
fn room() -> Option<u64> {
    static GROUPS: OnceLock<Vec<Group>> = OnceLock::new();
    let groups = GROUPS.get_or_init(|| {
        let of_process = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        groups(&of_process, Path::new("/sys/fs/cgroup"))
    });
    let machine = fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.and_then(|text| available(&text)).map(spare);
    groups.iter().filter_map(Group::room).chain(machine).min()
}

/// The figure of `/proc/meminfo` that says what can be taken without swapping.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Bytes that were granted and are not all touched yet: the kernel does not count them.
static GRANTED: Mutex<u64> = Mutex::new(0);

/// Leave to take memory; to be kept until all of it was touched.
#[derive(Debug)]
pub(super) struct Grant(u64);

impl Drop for Grant {
    fn drop(&mut self) {
        *lock(&GRANTED) -= self.0;
    }
}

/// Asks for leave to take so many bytes.
///
/// # Errors
///
/// The bytes that there are, when these are fewer.
pub(super) fn grant(bytes: u64) -> Result<Grant, u64> {
    grant_within(bytes, room)
}

fn grant_within(bytes: u64, room: impl FnOnce() -> Option<u64>) -> Result<Grant, u64> {
    let mut granted = lock(&GRANTED);
    // Under the lock: what others were granted is in the figures that are read now, or still counted here.
    let left = room().map(|room| room.saturating_sub(*granted));
    match left {
        Some(left) if left < bytes => Err(left),
        _ => {
            *granted += bytes;
            Ok(Grant(bytes))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_up_to_the_root_has_a_say_in_both_hierarchies() {
        let mounted = tempfile::tempdir().unwrap();
        let mounted = mounted.path();
        for (folder, file) in [
            ("a/b", "memory.current"),
            ("a", "memory.current"),
            ("memory/x", "memory.usage_in_bytes"),
            ("memory", "memory.usage_in_bytes"),
        ] {
            fs::create_dir_all(mounted.join(folder)).unwrap();
            fs::write(mounted.join(folder).join(file), "1").unwrap();
        }
        let folders = |of_process: &str| -> Vec<String> {
            let found = groups(of_process, mounted).into_iter();
            let found = found.map(|group| group.folder.strip_prefix(mounted).unwrap().to_owned());
            found
                .map(|folder| folder.to_string_lossy().into_owned())
                .collect()
        };
        assert_eq!(folders("0::/a/b\n"), ["a/b", "a"]);
        assert_eq!(
            folders("4:cpu,memory:/x\n3:cpu:/a\n"),
            ["memory/x", "memory"]
        );
        // As in a container, whose own group is the root of what is mounted.
        assert_eq!(folders("4:memory:/docker/1234\n"), ["memory"]);
        assert!(folders("nonsense\n:\n").is_empty());
    }

    #[test]
    fn the_room_of_a_group_is_its_limit_less_what_the_kernel_cannot_take_back() {
        let folder = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| fs::write(folder.path().join(file), text).unwrap();
        let group = Group::second(folder.path().to_owned());
        write("memory.current", "500000\n");
        write("memory.max", "max\n");
        assert_eq!(group.room(), None);
        write("memory.max", "1000000\n");
        assert_eq!(group.room(), Some(1_000_000 - 31_250 - 500_000));
        write(
            "memory.stat",
            "anon 1\ninactive_file 100000\nactive_file 50000\nfile 7\n",
        );
        assert_eq!(group.room(), Some(1_000_000 - 31_250 - 350_000));
        write("memory.current", "2000000");
        assert_eq!(group.room(), Some(0));
    }

    #[test]
    fn what_is_granted_and_not_yet_touched_is_not_granted_again() {
        // The figures of other tests in this process are in the sum too, so all room but for a little is asked for.
        const ROOM: u64 = 1 << 50;
        let room = || Some(ROOM);
        let first = grant_within(ROOM / 2, room).unwrap();
        let left = grant_within(ROOM / 4 * 3, room).unwrap_err();
        assert!(left <= ROOM / 2, "{left}");
        drop(first);
        drop(grant_within(ROOM / 4 * 3, room).unwrap());
        drop(grant_within(u64::MAX / 4, || None).unwrap());
    }

    #[test]
    fn the_kernel_s_own_figure_is_read() {
        let text = "MemTotal:       24 kB\nMemAvailable:   10 kB\n";
        assert_eq!(available(text), Some(10 * 1024));
        assert_eq!(available("MemTotal: 1 kB\n"), None);
        assert!(room().is_some(), "Linux has told it since 3.14");
    }
}
