//! The control groups that a process is in, as folders: of both hierarchies, from its own group up to the root of what is mounted.
//!
//! Threads: any; pure. Not here: what the files of a group say (`system_memory`, `system_cpu`).

use std::path::{Path, PathBuf};

/// The place where groups are mounted.
pub(super) const MOUNTED: &str = "/sys/fs/cgroup";

/// The kernel's list of the groups of this process.
pub(super) const OF_THIS_PROCESS: &str = "/proc/self/cgroup";

/// The files of a hierarchy have names of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hierarchy {
    /// One for each controller, below a folder of its name.
    First,
    /// One for all.
    Second,
}

/// The folders of the groups that may bound what a controller counts, by the `/proc/self/cgroup` of a process and the place
/// where groups are mounted. In a container its own group may be all that is mounted: then the paths lead nowhere, and the root
/// says it.
pub(super) fn folders(
    of_process: &str,
    mounted: &Path,
    controller: &str,
) -> Vec<(Hierarchy, PathBuf)> {
    let mut folders = Vec::new();
    for line in of_process.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let is_first = controllers.split(',').any(|name| name == controller);
        let (hierarchy, root) = match (is_first, controllers.is_empty()) {
            (true, _) => (Hierarchy::First, mounted.join(controller)),
            (false, true) => (Hierarchy::Second, mounted.to_owned()),
            (false, false) => continue,
        };
        let own = root.join(path.trim_start_matches('/'));
        let up = own
            .ancestors()
            .take_while(|folder| folder.starts_with(&root));
        folders.extend(up.map(|folder| (hierarchy, folder.to_owned())));
    }
    folders
}
