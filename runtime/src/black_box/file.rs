//! The file of the black box: opened by a start, which reads how the process before has died, and then taken for this one.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::OnceLock;

use jiff::Timestamp;

use crate::black_box::death::LastDeath;
use crate::black_box::page::Page;
use crate::black_box::signals;
use crate::black_box::slot::Slot;

/// The name of the file in a data folder.
const FILE: &str = "black-box";

/// The black box of this process.
static INSTALLED: OnceLock<BlackBox> = OnceLock::new();

/// A black box, mapped. Copies are of the same one.
#[derive(Debug, Clone, Copy)]
pub struct BlackBox {
    page: &'static Page,
}

impl BlackBox {
    /// Opens the black box of a data folder, or makes it, and reads how the process before has died, if it did not end in good
    /// order. Nothing is changed until [`BlackBox::start`], so that a start that fails leaves it for the next one.
    ///
    /// The folder must be this process's own.
    ///
    /// # Errors
    ///
    /// The system's reason: no permission, no space.
    pub fn open(folder: &Path) -> io::Result<(Self, Option<LastDeath>)> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(folder.join(FILE))?;
        if file.metadata()?.len() != Page::BYTES as u64 {
            fill(&file)?;
        }
        let page = Page::map(&file)?;
        let death = page.is_open().then(|| LastDeath::read(page, boot()));
        Ok((Self { page }, death))
    }

    /// Forgets what was read, and begins to tell of this process.
    pub fn start(self) {
        let now = u64::try_from(Timestamp::now().as_second()).unwrap_or(0);
        self.page.reopen(now, boot());
    }

    /// Makes it the one of this process: [`slot`] gives its slots from now on, and fatal signals are noted in it.
    ///
    /// For the process of a server alone: signal handlers are the process's.
    pub fn install(self) {
        let installed = INSTALLED.get_or_init(|| self);
        signals::install(installed.page);
    }

    /// A slot for a lane: of which deployment (`endpoint/deployment`), with which number (the end of the names of its threads,
    /// `#3.0`), and of which model, by its digest. What is too long is cut.
    #[must_use]
    pub fn slot(self, label: &str, number: &str, digest: &str) -> Slot {
        Slot::take(self.page, &format!("{label}\n{number}\n{digest}"))
    }

    /// The process ends in good order: nothing that happens from now on is worth a word to the next one.
    pub fn close(self) {
        self.page.close();
    }
}

/// A slot of this process's black box; one that does nothing where none is installed. See [`BlackBox::slot`].
#[must_use]
pub fn slot(label: &str, number: &str, digest: &str) -> Slot {
    let installed = INSTALLED.get();
    installed.map_or_else(Slot::none, |one| one.slot(label, number, digest))
}

/// Closes this process's black box, where one is installed.
pub fn close() {
    if let Some(installed) = INSTALLED.get() {
        installed.close();
    }
}

/// Closes this process's black box and leaves its place in the folder to that of another process, which takes over while this one
/// still runs.
pub fn leave(folder: &Path) {
    close();
    // What cannot be removed is taken over by the next one, closed as it is.
    let _gone = fs::remove_file(folder.join(FILE)).is_ok();
}

/// Gives the file its size. Written and not left as a hole: a store into a hole of a full disk would end the process.
fn fill(mut file: &File) -> io::Result<()> {
    file.set_len(0)?;
    let filled = file.write_all(&vec![0; Page::BYTES]);
    // Part of it would be taken for damage; none is begun anew.
    filled.inspect_err(|_| drop(file.set_len(0)))
}

/// The boot of the machine, as the kernel names it; 0 where it does not.
fn boot() -> u128 {
    let name = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    u128::from_str_radix(&name.trim().replace('-', ""), 16).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::black_box::{Cause, Doing};

    #[test]
    fn a_new_black_box_and_one_that_was_closed_tell_of_no_death() {
        let folder = tempfile::tempdir().unwrap();
        let (first, death) = BlackBox::open(folder.path()).unwrap();
        assert_eq!(death, None);
        first.start();
        let slot = first.slot("iris/blue", "#1.0", "abc");
        let busy = slot.busy(Doing::Running);
        first.close();
        let (_, death) = BlackBox::open(folder.path()).unwrap();
        assert_eq!(death, None);
        drop(busy);
    }

    #[test]
    fn one_that_was_not_closed_tells_what_ran_until_it_is_started_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (first, _) = BlackBox::open(folder.path()).unwrap();
        first.start();
        let slots = ["#1.0", "#1.1"].map(|number| first.slot("iris/blue", number, "abc"));
        let busy = slots[1].busy(Doing::Running);
        for _ in 0..2 {
            let (_, death) = BlackBox::open(folder.path()).unwrap();
            let death = death.unwrap();
            assert_eq!(death.cause, Cause::Silence);
            let ran: Vec<_> = death.ran.iter().map(|one| one.lane.as_str()).collect();
            assert_eq!(ran, ["#1.1"]);
        }
        drop(busy);
        let (second, _) = BlackBox::open(folder.path()).unwrap();
        second.start();
        let (_, death) = BlackBox::open(folder.path()).unwrap();
        assert_eq!(death.map(|death| death.ran), Some(Vec::new()));
    }

    #[test]
    fn a_damaged_file_is_begun_anew_or_read_without_harm() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        for damage in [Vec::new(), vec![0xff; 100], vec![0xff; Page::BYTES + 1]] {
            fs::write(&path, damage).unwrap();
            assert_eq!(BlackBox::open(folder.path()).unwrap().1, None);
        }
        // All right but for what matters: every word is nonsense.
        let mut bytes = vec![0xff; Page::BYTES];
        bytes[..8].copy_from_slice(b"serinbb1");
        bytes[8..12].copy_from_slice(&1_u32.to_le_bytes());
        fs::write(&path, &bytes).unwrap();
        let (_, death) = BlackBox::open(folder.path()).unwrap();
        let death = death.unwrap();
        assert_eq!((death.ran, death.suspects), (Vec::new(), Vec::new()));
    }

    #[test]
    fn a_link_in_its_place_is_refused_and_what_it_points_at_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let other = folder.path().join("other");
        fs::write(&other, "precious").unwrap();
        std::os::unix::fs::symlink(&other, folder.path().join(FILE)).unwrap();
        assert!(BlackBox::open(folder.path()).is_err());
        assert_eq!(fs::read_to_string(&other).unwrap(), "precious");
    }

    #[test]
    fn a_process_without_a_black_box_has_slots_that_do_nothing() {
        let slot = slot("iris/blue", "#1.0", "abc");
        drop(slot.busy(Doing::Running));
        close();
    }
}
