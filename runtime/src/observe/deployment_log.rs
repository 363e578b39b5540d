//! The log of each deployment: a file of the data folder and the one before it, which survive restarts and go with the deployment.
//!
//! Notes wait in memory, and one thread writes them: it is not that of the server's log, which a paused terminal may hold up. A flood
//! of like notes is a few of them and a number; what finds no room is dropped and counted.
//!
//! Two processes may write at once while one takes the place of the other, so every batch is written under a lock of the folder.
//!
//! Threads: notes come from any; `serin-notes` writes; who reads blocks. Not here: what is worth a note (`deployment_notes`).

use std::collections::{HashMap, HashSet};
use std::fmt::{Display, Write as _};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::deployment_notes::{NoteKeeper, NoteOn, give_notes_to};
use super::log_sampling::Window;
use crate::config::{
    DEPLOYMENT_LOG_BYTES_MAX, DEPLOYMENT_LOG_LINE_BYTES_MAX, LOG_BYTES_MAX, LOG_FLUSH_MAX,
    LOG_LINES_PER_WINDOW, LOG_WINDOW, SCRIPT_LINES_PER_WINDOW,
};
use jiff::Timestamp;

/// The folder below the data folder.
const FOLDER: &str = "logs";
/// The end of the name of a log.
const ENDING: &str = ".log";
/// The end of the name of the one before.
const BEFORE: &str = ".log.1";
/// The name of the file whose lock is that of the folder.
const LOCK: &str = "lock";

/// The logs of all deployments of a data folder; all clones are the same.
#[derive(Debug, Clone)]
pub struct DeploymentLogs(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    state: Mutex<State>,
    /// Something changed for the writing thread.
    work: Condvar,
    /// What waited has been written.
    written: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// By `endpoint/deployment` in lower case; what is not here is not noted.
    notes: HashMap<String, Notes>,
    /// Logs that shall go. A deployment of the same name may be there again.
    gone: Vec<String>,
    /// Whether the folder may have logs of deployments that nobody knows.
    sweep: bool,
    waiting_bytes: usize,
    is_writing: bool,
    is_over: bool,
}

/// What waits to be written of one deployment.
#[derive(Debug, Default)]
struct Notes {
    text: String,
    windows: [Option<Window>; NoteOn::ALL.len()],
    dropped: u64,
}

/// The work of the thread, taken out of the state.
struct Work {
    gone: Vec<String>,
    /// All names that are known, where the folder is to be swept.
    sweep: Option<HashSet<String>>,
    texts: Vec<(String, String)>,
}

impl DeploymentLogs {
    /// Opens the logs of a data folder, and takes all notes of the process from now on.
    ///
    /// # Errors
    ///
    /// When the folder cannot be made, or there is no thread.
    pub fn open(data: &Path) -> io::Result<Self> {
        let folder = data.join(FOLDER);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)?;
        let shared = Arc::new(Shared {
            folder,
            state: Mutex::default(),
            work: Condvar::new(),
            written: Condvar::new(),
        });
        let writing = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("serin-notes".to_owned())
            .spawn(move || writing.write_to_the_end())?;
        Ok(Self(shared))
    }

    /// Takes all notes of the process from now on.
    pub fn take_notes(&self) {
        give_notes_to(Some(Arc::clone(&self.0) as Arc<dyn NoteKeeper>));
    }

    /// Keeps the logs of these deployments (`ENDPOINT/DEPLOYMENT`) from now on, and deletes all others.
    pub fn keep_only(&self, deployments: impl IntoIterator<Item = String>) {
        let wanted: HashSet<String> = deployments
            .into_iter()
            .map(|name| name.to_ascii_lowercase())
            .collect();
        let mut state = self.0.lock();
        let state = &mut *state;
        // At first nobody knows which logs are there.
        state.sweep |= state.notes.is_empty();
        let (waiting, gone) = (&mut state.waiting_bytes, &mut state.gone);
        state.notes.retain(|name, notes| {
            let stays = wanted.contains(name);
            if !stays {
                *waiting -= notes.text.len();
                gone.push(name.clone());
            }
            stays
        });
        for name in wanted {
            state.notes.entry(name).or_default();
        }
        self.0.work.notify_one();
    }

    /// Reads the last lines of a deployment, oldest first; none where nothing was noted. Blocks.
    ///
    /// # Errors
    ///
    /// When the files cannot be read.
    pub fn read(&self, deployment: &str, lines: usize) -> io::Result<Vec<String>> {
        self.flush_within(LOG_FLUSH_MAX);
        let name = deployment.to_ascii_lowercase();
        let lock = self.0.lock_file()?;
        lock.lock_shared()?;
        let mut text = Vec::new();
        for ending in [BEFORE, ENDING] {
            match fs::read(self.0.path(&name, ending)) {
                Ok(bytes) => text.extend_from_slice(&bytes),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let text = String::from_utf8_lossy(&text);
        let all: Vec<_> = text.lines().collect();
        let first = all.len().saturating_sub(lines);
        Ok(all[first..].iter().map(|line| (*line).to_owned()).collect())
    }

    /// Waits until all that was noted is written, and at most so long.
    fn flush_within(&self, at_most: Duration) {
        let state = self.0.lock();
        let waits = |state: &mut State| state.has_work() || state.is_writing;
        let waited = self.0.written.wait_timeout_while(state, at_most, waits);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Writes what was noted, for as long as the end of a process may wait for it, and takes no more.
    pub fn close(&self) {
        give_notes_to(None);
        let mut state = self.0.lock();
        state.tell_left_out(Instant::now() + LOG_WINDOW);
        state.is_over = true;
        drop(state);
        self.0.work.notify_one();
        self.flush_within(LOG_FLUSH_MAX);
    }
}

impl NoteKeeper for Shared {
    fn keep(&self, deployment: &str, on: NoteOn, words: &dyn Display) {
        let name = deployment.to_ascii_lowercase();
        if !self.admits(&name, on) {
            return;
        }
        let line = line(on, words);
        let mut state = self.lock();
        let has_room = state.waiting_bytes + line.len() <= LOG_BYTES_MAX;
        let Some(notes) = state.notes.get_mut(&name) else {
            return;
        };
        if !has_room {
            notes.dropped += 1;
            return;
        }
        notes.text.push_str(&line);
        state.waiting_bytes += line.len();
        drop(state);
        self.work.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a note of this kind is written, or counted only.
    fn admits(&self, name: &str, on: NoteOn) -> bool {
        let now = Instant::now();
        let mut state = self.lock();
        let Some(notes) = state.notes.get_mut(name) else {
            return false;
        };
        let window = notes.windows[on as usize].get_or_insert_with(|| Window::new(now));
        let is_admitted = window.admit(now, lines_per_window(on));
        let is_first = window.left_out() == 1;
        drop(state);
        if !is_admitted && is_first {
            self.work.notify_one();
        }
        is_admitted
    }

    fn path(&self, name: &str, ending: &str) -> PathBuf {
        self.folder.join(file_name(name, ending))
    }

    /// The file whose lock is that of the folder, for as long as it is open.
    fn lock_file(&self) -> io::Result<File> {
        File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.folder.join(LOCK))
    }

    fn write_to_the_end(&self) {
        while let Some(work) = self.next() {
            let written = self.write(&work);
            let mut state = self.lock();
            state.is_writing = false;
            if let Err(error) = written {
                for (name, text) in &work.texts {
                    if let Some(notes) = state.notes.get_mut(name) {
                        notes.dropped += count(text.lines().count());
                    }
                }
                drop(state);
                tracing::warn!(%error, folder = ?self.folder, "cannot write the logs of deployments");
            }
            self.written.notify_all();
        }
        self.written.notify_all();
    }

    /// Waits for work; nothing when there will be no more.
    fn next(&self) -> Option<Work> {
        let mut state = self.lock();
        loop {
            if state.has_work() {
                return Some(state.take());
            }
            if state.is_over {
                return None;
            }
            if state.has_left_out() {
                let waited = self.work.wait_timeout(state, LOG_WINDOW);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
                state.tell_left_out(Instant::now());
            } else {
                let waited = self.work.wait(state);
                state = waited.unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    fn write(&self, work: &Work) -> io::Result<()> {
        let lock = self.lock_file()?;
        lock.lock()?;
        for name in &work.gone {
            for ending in [ENDING, BEFORE] {
                remove(&self.path(name, ending))?;
            }
        }
        if let Some(known) = &work.sweep {
            self.sweep(known)?;
        }
        for (name, text) in &work.texts {
            self.append(name, text.as_bytes())?;
        }
        Ok(())
    }

    /// Deletes logs of deployments that nobody knows, as a process leaves them that was killed before it came to that.
    fn sweep(&self, known: &HashSet<String>) -> io::Result<()> {
        let endings = |name: &String| [ENDING, BEFORE].map(|ending| file_name(name, ending));
        let known: HashSet<String> = known.iter().flat_map(endings).collect();
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            let name = name.to_string_lossy();
            let is_log = name.ends_with(ENDING) || name.ends_with(BEFORE);
            if is_log && !known.contains(&*name) {
                remove(&self.folder.join(&*name))?;
            }
        }
        Ok(())
    }

    /// Appends to a log; one that is full is set aside first, in place of the one before.
    fn append(&self, name: &str, text: &[u8]) -> io::Result<()> {
        let path = self.path(name, ENDING);
        let bytes = fs::metadata(&path).map_or(0, |file| file.len());
        if bytes > 0 && bytes.saturating_add(count(text.len())) > DEPLOYMENT_LOG_BYTES_MAX {
            fs::rename(&path, self.path(name, BEFORE))?;
        }
        let mut file = File::options()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)?;
        file.write_all(text)
    }
}

impl State {
    fn has_work(&self) -> bool {
        self.waiting_bytes > 0 || !self.gone.is_empty() || self.sweep
    }

    fn has_left_out(&self) -> bool {
        let notes = self.notes.values();
        notes
            .flat_map(|notes| notes.windows.iter().flatten())
            .any(|window| window.left_out() > 0)
    }

    fn take(&mut self) -> Work {
        self.is_writing = true;
        self.waiting_bytes = 0;
        let sweep = std::mem::take(&mut self.sweep).then(|| self.notes.keys().cloned().collect());
        let notes = self.notes.iter_mut();
        let texts = notes.filter_map(|(name, notes)| {
            let mut text = std::mem::take(&mut notes.text);
            if text.is_empty() {
                return None;
            }
            let dropped = std::mem::take(&mut notes.dropped);
            if dropped > 0 {
                _ = writeln!(
                    text,
                    "{:.3} {dropped} lines were dropped: they could not be written in time",
                    Timestamp::now()
                );
            }
            Some((name.clone(), text))
        });
        let texts = texts.collect();
        Work {
            gone: std::mem::take(&mut self.gone),
            sweep,
            texts,
        }
    }

    /// Notes how many lines were left out in windows that are over.
    fn tell_left_out(&mut self, now: Instant) {
        let told = Timestamp::now();
        for notes in self.notes.values_mut() {
            for (window, on) in notes.windows.iter_mut().zip(NoteOn::ALL) {
                let Some(left_out) = window.as_mut().and_then(|one| one.take_when_over(now)) else {
                    continue;
                };
                let begun = notes.text.len();
                let word = on.word();
                _ = writeln!(
                    notes.text,
                    "{told:.3} {word}: {left_out} more like these were left out"
                );
                self.waiting_bytes += notes.text.len() - begun;
            }
        }
    }
}

fn lines_per_window(on: NoteOn) -> u32 {
    match on {
        NoteOn::Script => SCRIPT_LINES_PER_WINDOW,
        _ => LOG_LINES_PER_WINDOW,
    }
}

/// A note as a line: its words have no control characters, and are cut where they are long.
fn line(on: NoteOn, words: &dyn Display) -> String {
    let mut line = format!("{:.3} {}: ", Timestamp::now(), on.word());
    let begun = line.len();
    let words = words.to_string();
    line.extend(words.trim_end().chars().map(|one| match one {
        one if one.is_control() => ' ',
        one => one,
    }));
    if line.len() - begun > DEPLOYMENT_LOG_LINE_BYTES_MAX {
        line.truncate(line.floor_char_boundary(begun + DEPLOYMENT_LOG_LINE_BYTES_MAX));
        line.push_str(" ..");
    }
    line.push('\n');
    line
}

/// No name has a slash, and those of one endpoint begin alike.
fn file_name(name: &str, ending: &str) -> String {
    format!("{}{ending}", name.replace('/', "."))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: usize = usize::MAX;

    fn logs(data: &Path, names: &[&str]) -> DeploymentLogs {
        let logs = DeploymentLogs::open(data).unwrap();
        logs.keep_only(names.iter().map(|name| (*name).to_owned()));
        logs
    }

    fn note(logs: &DeploymentLogs, name: &str, on: NoteOn, words: &str) {
        logs.0.keep(name, on, &words);
    }

    #[test]
    fn notes_of_a_deployment_are_its_own_and_survive_who_wrote_them() {
        let data = tempfile::tempdir().unwrap();
        let first = logs(data.path(), &["Iris/blue", "iris/green"]);
        note(&first, "iris/BLUE", NoteOn::Instance, "one\nof two\n");
        note(&first, "iris/green", NoteOn::Script, "another's");
        note(&first, "iris/none", NoteOn::Script, "nobody's");
        first.close();
        let second = logs(data.path(), &["iris/blue", "iris/green"]);
        note(&second, "iris/blue", NoteOn::Request, "two");
        let lines = second.read("iris/Blue", ALL).unwrap();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].ends_with("Z instance: one of two"), "{lines:?}");
        assert!(lines[1].ends_with("Z request: two"), "{lines:?}");
        assert_eq!(second.read("iris/blue", 1).unwrap(), lines[1..]);
        let names = fs::read_dir(data.path().join(FOLDER)).unwrap().count();
        assert_eq!(names, 3, "two logs and the lock");
    }

    #[test]
    fn a_log_goes_with_its_deployment_and_one_of_the_same_name_begins_anew() {
        let data = tempfile::tempdir().unwrap();
        let logs = logs(data.path(), &["iris/blue", "iris/green"]);
        note(&logs, "iris/blue", NoteOn::Script, "old");
        logs.read("iris/blue", ALL).unwrap();
        note(&logs, "iris/blue", NoteOn::Script, "on its way");
        logs.keep_only(["iris/green".to_owned()]);
        note(&logs, "iris/blue", NoteOn::Script, "late");
        assert!(logs.read("iris/blue", ALL).unwrap().is_empty());
        note(&logs, "iris/green", NoteOn::Script, "stays");
        logs.keep_only(["iris/blue".to_owned(), "iris/green".to_owned()]);
        note(&logs, "iris/blue", NoteOn::Script, "new");
        let lines = logs.read("iris/blue", ALL).unwrap();
        assert!(
            lines.len() == 1 && lines[0].ends_with("script: new"),
            "{lines:?}"
        );
        assert_eq!(logs.read("iris/green", ALL).unwrap().len(), 1);
    }

    #[test]
    fn what_a_killed_process_left_of_a_deployment_that_is_gone_is_swept() {
        let data = tempfile::tempdir().unwrap();
        let folder = data.path().join(FOLDER);
        fs::create_dir(&folder).unwrap();
        for name in ["iris.gone.log", "iris.gone.log.1", "notes of a person"] {
            fs::write(folder.join(name), "old\n").unwrap();
        }
        let logs = logs(data.path(), &[]);
        assert!(logs.read("iris/gone", ALL).unwrap().is_empty());
        assert!(!folder.join("iris.gone.log.1").exists());
        assert!(folder.join("notes of a person").exists());
    }

    #[test]
    fn a_log_takes_twice_its_bound_at_most_and_keeps_the_newest_lines() {
        let data = tempfile::tempdir().unwrap();
        let logs = logs(data.path(), &["iris/blue"]);
        let text = "x".repeat(100_000);
        let shared = &logs.0;
        logs.read("iris/blue", ALL).unwrap();
        for number in 0..50 {
            let line = format!("{number} {text}\n");
            shared.append("iris/blue", line.as_bytes()).unwrap();
        }
        for ending in [ENDING, BEFORE] {
            let bytes = fs::metadata(shared.path("iris/blue", ending))
                .unwrap()
                .len();
            assert!(bytes <= DEPLOYMENT_LOG_BYTES_MAX, "{bytes}");
        }
        let lines = logs.read("iris/blue", ALL).unwrap();
        assert!(lines.len() > 10, "{}", lines.len());
        assert!(lines.last().is_some_and(|line| line.starts_with("49 ")));
    }

    #[test]
    fn of_a_flood_some_lines_are_written_and_the_rest_is_a_number() {
        let data = tempfile::tempdir().unwrap();
        let logs = logs(data.path(), &["iris/blue"]);
        let sent = 10 * u64::from(LOG_LINES_PER_WINDOW);
        for number in 0..sent {
            note(&logs, "iris/blue", NoteOn::Request, &number.to_string());
        }
        note(&logs, "iris/blue", NoteOn::Script, "a line of another kind");
        logs.0.lock().tell_left_out(Instant::now() + LOG_WINDOW);
        logs.0.work.notify_one();
        let lines = logs.read("iris/blue", ALL).unwrap();
        let written = lines.iter().filter(|line| line.contains("request: "));
        let is_count = |line: &&String| line.contains("left out");
        let (counts, written): (Vec<_>, Vec<_>) = written.partition(is_count);
        let counted: u64 = counts
            .iter()
            .map(|line| {
                let words = line.split("request: ").nth(1).unwrap();
                words.split(' ').next().unwrap().parse::<u64>().unwrap()
            })
            .sum();
        assert!(counted > 0, "{lines:?}");
        assert_eq!(count(written.len()) + counted, sent);
        assert!(lines.iter().any(|line| line.ends_with("of another kind")));
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_counted_and_a_long_line_is_cut() {
        let data = tempfile::tempdir().unwrap();
        let logs = logs(data.path(), &["iris/blue"]);
        logs.read("iris/blue", ALL).unwrap();
        let held = logs.0.lock_file().unwrap();
        held.lock().unwrap();
        let long = "ä".repeat(DEPLOYMENT_LOG_LINE_BYTES_MAX);
        let sent = 4 * LOG_BYTES_MAX / DEPLOYMENT_LOG_LINE_BYTES_MAX;
        for _ in 0..sent {
            // As in as many seconds.
            let mut state = logs.0.lock();
            state.notes.get_mut("iris/blue").unwrap().windows = Default::default();
            drop(state);
            note(&logs, "iris/blue", NoteOn::Script, &long);
        }
        assert!(logs.0.lock().waiting_bytes <= LOG_BYTES_MAX);
        drop(held);
        let lines = logs.read("iris/blue", ALL).unwrap();
        let told = lines.iter().find(|line| line.contains("were dropped"));
        let told = told.expect("the number of lines that were lost");
        let dropped: usize = told.split(' ').nth(1).unwrap().parse().unwrap();
        assert!(dropped > 0);
        let whole = lines.iter().filter(|line| line.ends_with(" .."));
        assert!(whole.count() > 0);
        assert!(
            lines
                .iter()
                .all(|line| line.len() < DEPLOYMENT_LOG_LINE_BYTES_MAX + 100)
        );
    }
}
