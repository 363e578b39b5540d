//! Use of the machine by one process, as the kernel counts it.

use std::fs;
use std::time::Duration;

/// A process, by its id. What cannot be read, because it has ended or is another user's, is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process(pub u32);

impl Process {
    /// This one.
    #[must_use]
    pub fn own() -> Self {
        Self(std::process::id())
    }

    /// Processor time of its threads that live, to the nanosecond.
    #[must_use]
    pub fn cpu(self) -> Option<Duration> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.0)).ok()?;
        let times = tasks.flatten().filter_map(|task| {
            // A thread that has ended meanwhile has no file any more.
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        });
        Some(Duration::from_nanos(times.sum()))
    }

    /// How many files it has open, sockets included, and how many of them are sockets.
    #[must_use]
    pub fn open_files(self) -> Option<(usize, usize)> {
        let (mut files, mut sockets) = (0, 0);
        for file in fs::read_dir(format!("/proc/{}/fd", self.0)).ok()?.flatten() {
            // One that was closed meanwhile leads nowhere.
            let Ok(target) = fs::read_link(file.path()) else {
                continue;
            };
            files += 1;
            sockets += usize::from(
                target
                    .as_os_str()
                    .as_encoded_bytes()
                    .starts_with(b"socket:"),
            );
        }
        Some((files, sockets))
    }

    /// Begins to count [`peak_rss_mb`](Self::peak_rss_mb) anew; whether the kernel lets us.
    #[must_use]
    pub fn reset_peak(self) -> bool {
        fs::write(format!("/proc/{}/clear_refs", self.0), "5").is_ok()
    }

    /// Most memory that it had resident, in MB of a million bytes.
    #[must_use]
    pub fn peak_rss_mb(self) -> Option<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kb: f64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
        Some(kb * 1024.0 / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_socket_is_an_open_file() {
        let _socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let (files, sockets) = Process::own().open_files().unwrap();
        assert!(sockets >= 1 && files >= sockets, "{files} {sockets}");
    }

    #[test]
    fn a_process_that_works_uses_time_and_memory() {
        let own = Process::own();
        let before = own.cpu().unwrap();
        let mut spent = 0_u64;
        while own.cpu().unwrap() < before + Duration::from_millis(2) {
            spent = std::hint::black_box(spent + 1);
        }
        assert!(own.peak_rss_mb().unwrap() > 1.0);
    }

    #[test]
    fn a_process_that_is_not_there_is_not_guessed_about() {
        let nobody = Process(u32::MAX);
        assert_eq!(nobody.cpu(), None);
        assert_eq!(nobody.peak_rss_mb(), None);
        assert!(!nobody.reset_peak());
    }
}
