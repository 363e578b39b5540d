//! Fatal signals: noted in the page by the thread that gets one, which then dies as it would have died.
//!
//! What a handler does here may be done in one: words of memory, three system calls, no lock, no memory from the heap.
//! Core dumps and Rust's own words about a stack that overflowed stay as they are, for a fault goes on to the handler that was there
//! before.

use std::ffi::c_void;
use std::hint;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicU8, Ordering};

use libc::{c_char, c_int, siginfo_t};

use crate::black_box::page::{Page, THREAD_BYTES};
use crate::black_box::slot;

/// Signals that a fault of a thread or `abort` raises, and their names.
const FATAL: [(c_int, &str); 6] = [
    (libc::SIGFPE, "SIGFPE"),
    (libc::SIGSEGV, "SIGSEGV"),
    (libc::SIGABRT, "SIGABRT"),
    (libc::SIGBUS, "SIGBUS"),
    (libc::SIGILL, "SIGILL"),
    (libc::SIGTRAP, "SIGTRAP"),
];

/// Turns that a thread waits for the one that came first to have written all: far more than that takes.
const TURNS_MAX: u32 = 1_000_000;

/// The page that the handler writes to.
static PAGE: AtomicPtr<Page> = AtomicPtr::new(ptr::null_mut());

/// The handlers that were there before, in the order of [`FATAL`].
static BEFORE: [OnceLock<libc::sigaction>; FATAL.len()] = [const { OnceLock::new() }; FATAL.len()];

/// The name of a fatal signal.
pub(super) fn name_of(signal: c_int) -> Option<&'static str> {
    let one = FATAL.iter().find(|(number, _)| *number == signal);
    one.map(|(_, name)| *name)
}

/// Has fatal signals noted in this page from now on.
pub(super) fn install(page: &'static Page) {
    // Never written through: the page is made of words that may be shared.
    PAGE.store(ptr::from_ref(page).cast_mut(), Ordering::Release);
    for ((signal, name), before) in FATAL.iter().zip(&BEFORE) {
        if let Err(error) = watch(*signal, before) {
            tracing::warn!(%error, signal = name, "a death by this signal will not be told");
        }
    }
}

/// Puts the handler in front of what is there. Who ignores a signal goes on ignoring it.
fn watch(signal: c_int, before: &OnceLock<libc::sigaction>) -> std::io::Result<()> {
    let mut found = MaybeUninit::<libc::sigaction>::zeroed();
    let read = |ok: c_int| match ok {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    };
    #[expect(unsafe_code, reason = "signal actions have no safe form")]
    // SAFETY: both pointers are to live values; a null one asks for no change. All bits of the structure are zero or what the
    // kernel has written, and either is valid.
    let found = unsafe {
        read(libc::sigaction(signal, ptr::null(), found.as_mut_ptr()))?;
        found.assume_init()
    };
    if found.sa_sigaction == libc::SIG_IGN || before.set(found).is_err() {
        return Ok(());
    }
    let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = note;
    let mut action = found;
    action.sa_sigaction = handler as libc::sighandler_t;
    // On the stack for signals that threads of Rust have: their own may be what has overflowed.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    #[expect(unsafe_code, reason = "signal actions have no safe form")]
    // SAFETY: the handler has the form that `SA_SIGINFO` asks for, and does only what may be done in a handler.
    read(unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) })
}

/// The handler.
extern "C" fn note(signal: c_int, info: *mut siginfo_t, _: *mut c_void) {
    #[expect(unsafe_code, reason = "a signal handler is given raw pointers")]
    // SAFETY: the kernel gives a handler with `SA_SIGINFO` a valid one; the sender stands in it where the signal was sent, the
    // address where it is a fault, and neither is looked at otherwise. The page is null, or is mapped for the life of the process.
    let (sender, address, page) = unsafe {
        let sender = ((*info).si_code <= 0).then(|| (*info).si_pid());
        let address = sender.is_none().then(|| (*info).si_addr().addr());
        (sender, address, PAGE.load(Ordering::Acquire).as_ref())
    };
    if signal == libc::SIGBUS
        && let (Some(page), Some(address)) = (page, address)
        && do_without_file(page, address)
    {
        return;
    }
    let own = std::process::id();
    let sender_pid = sender.map_or(0, i32::unsigned_abs);
    // A child that was forked and has not begun its own program has the same handlers, and the same page.
    if let Some(page) = page.filter(|page| page.head.pid.load(Ordering::Relaxed) == own) {
        write(page, signal, if sender_pid == own { 0 } else { sender_pid });
    }
    die(signal, sender.is_some());
}

/// Puts memory without a file in the place of the page, where the fault is that the file does not hold it any more: somebody has cut
/// it short, or the disk is full. A black box must not be what ends the server.
fn do_without_file(page: &Page, address: usize) -> bool {
    let begin = ptr::from_ref(page).addr();
    if !(begin..begin + Page::BYTES).contains(&address) {
        return false;
    }
    let (rights, kind) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
    );
    let at = ptr::from_ref(page).cast_mut().cast();
    #[expect(unsafe_code, reason = "mapping memory has no safe form")]
    // SAFETY: it replaces the mapping of the page by another one of the same size, and of zeros, which are a valid page: who has a
    // reference finds words of memory there, as before.
    let mapped = unsafe { libc::mmap(at, Page::BYTES, rights, kind, -1, 0) };
    mapped == at
}

/// Writes the last words, unless another thread has.
fn write(page: &Page, signal: c_int, sender: u32) {
    let head = &page.head;
    let claimed = head
        .claimed
        .compare_exchange(0, 1, Ordering::AcqRel, Ordering::Acquire);
    if claimed.is_err() {
        // It must not end the process before the other has said why.
        for _ in 0..TURNS_MAX {
            if head.signal.load(Ordering::Acquire) != 0 {
                break;
            }
            hint::spin_loop();
        }
        return;
    }
    head.slot.store(slot::busy_for(), Ordering::Relaxed);
    head.sender.store(sender, Ordering::Relaxed);
    put_thread_name(&head.thread);
    // Last, so that who reads it reads the rest too.
    head.signal.store(signal.unsigned_abs(), Ordering::Release);
}

/// Writes the name of the calling thread.
fn put_thread_name(room: &[AtomicU8; THREAD_BYTES]) {
    let mut name: [c_char; THREAD_BYTES] = [0; THREAD_BYTES];
    #[expect(unsafe_code, reason = "prctl has no safe form that needs no heap")]
    // SAFETY: the call writes at most 16 bytes, the zero at the end among them, and there is room for those.
    let failed = unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) } != 0;
    if !failed {
        for (place, byte) in room.iter().zip(name) {
            place.store(byte.to_ne_bytes()[0], Ordering::Relaxed);
        }
    }
}

/// Lets the thread die as without this handler: the fault comes again and meets what was there before; a signal that was sent does
/// not come again by itself, so it is sent once more.
fn die(signal: c_int, was_sent: bool) {
    let at = FATAL.iter().position(|(number, _)| *number == signal);
    let before = at.and_then(|at| BEFORE[at].get());
    #[expect(unsafe_code, reason = "signal actions have no safe form")]
    // SAFETY: the pointers are to live values, and zeros are the default action. Raising sends a signal to the calling thread,
    // where it waits until the handler has returned.
    unsafe {
        let by_default = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
        // Rust's handler takes a fault that nobody sees again for one that it has dealt with, and lives on.
        let action = before.filter(|_| !was_sent).unwrap_or(&by_default);
        libc::sigaction(signal, action, ptr::null_mut());
        if was_sent {
            libc::raise(signal);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Command, Output, Stdio};

    use super::*;
    use crate::black_box::{BlackBox, Cause, Doing, LastDeath};

    /// Set in the process that dies: how.
    const HOW: &str = "SERIN_TEST_DEATH";
    /// Set in the process that dies: the folder of its black box.
    const FOLDER: &str = "SERIN_TEST_FOLDER";

    /// The process that dies, if this is it: on a thread of this name, with one lane at work on it and another one elsewhere. Whether
    /// it was to die, and lives.
    fn die_if_asked() -> bool {
        let Ok(how) = std::env::var(HOW) else {
            return false;
        };
        let folder = std::env::var(FOLDER).unwrap();
        let (black_box, _) = BlackBox::open(folder.as_ref()).unwrap();
        black_box.start();
        black_box.install();
        let elsewhere = black_box.slot("iris/blue", "#1.0", "abc");
        let here = black_box.slot("iris/green", "#2.0", "def");
        let _busy = elsewhere.busy(Doing::Running);
        let dying = std::thread::Builder::new().name("iris/green#2.0".to_owned());
        let dying = dying.spawn(move || {
            let _busy = here.busy(Doing::Running);
            die_by(&how);
        });
        dying.unwrap().join().unwrap();
        drop(elsewhere.busy(Doing::Running));
        println!("went on");
        true
    }

    fn die_by(how: &str) {
        let raise = |signal| {
            #[expect(unsafe_code, reason = "what dies here is a process of its own")]
            // SAFETY: a call without pointers.
            unsafe {
                libc::raise(signal)
            }
        };
        match how {
            "raise" => _ = raise(libc::SIGFPE),
            "abort" => std::process::abort(),
            "null" => {
                #[expect(unsafe_code, reason = "what dies here is a process of its own")]
                // SAFETY: none, which is the point: the kernel ends the process at the first bytes of the address space.
                unsafe {
                    hint::black_box(ptr::without_provenance::<u64>(8)).read_volatile();
                }
            }
            "overflow" => _ = deeper(0),
            "kill" => _ = raise(libc::SIGKILL),
            "cut" => {
                let file = std::path::Path::new(&std::env::var(FOLDER).unwrap()).join("black-box");
                std::fs::OpenOptions::new()
                    .write(true)
                    .open(file)
                    .unwrap()
                    .set_len(0)
                    .unwrap();
            }
            "sent" => {
                println!("ready");
                loop {
                    std::thread::park();
                }
            }
            other => panic!("no way to die is called {other}"),
        }
    }

    /// Recursion without an end, through a frame that no compiler can do without.
    fn deeper(depth: u64) -> u64 {
        let frame = hint::black_box([depth; 512]);
        if depth == u64::MAX {
            return 0;
        }
        deeper(depth + 1) + frame[usize::try_from(depth % 512).unwrap_or(0)]
    }

    fn dying(test: &str, how: &str, folder: &std::path::Path) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "--nocapture", "--test-threads=1"])
            .arg(format!("black_box::signals::tests::{test}"))
            .env(HOW, how)
            .env(FOLDER, folder);
        command
    }

    /// Has a process die; how it ended, and what the black box tells.
    fn death(test: &str, how: &str) -> (Output, LastDeath) {
        let folder = tempfile::tempdir().unwrap();
        let output = dying(test, how, folder.path()).output().unwrap();
        let (_, death) = BlackBox::open(folder.path()).unwrap();
        (output, death.unwrap())
    }

    #[track_caller]
    fn check_fault(test: &str, how: &str, names: &str, number: c_int) -> String {
        let (output, death) = death(test, how);
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.signal(), Some(number), "{how}: {words}");
        let Cause::Signal {
            signal,
            sender,
            thread,
        } = &death.cause
        else {
            panic!("{how}: {death:?}")
        };
        assert_eq!((*signal, *sender), (names, None), "{how}");
        assert_eq!(thread, "iris/green#2.0", "{how}");
        let suspects: Vec<_> = death.suspects.iter().map(|one| &*one.label).collect();
        assert_eq!(suspects, ["iris/green"], "{how}");
        assert_eq!(death.ran.len(), 2, "{how}");
        words
    }

    #[test]
    fn a_fault_blames_the_lane_of_its_thread_and_ends_the_process_as_without_a_black_box() {
        if die_if_asked() {
            return;
        }
        let test =
            "a_fault_blames_the_lane_of_its_thread_and_ends_the_process_as_without_a_black_box";
        check_fault(test, "raise", "SIGFPE", libc::SIGFPE);
        check_fault(test, "abort", "SIGABRT", libc::SIGABRT);
        check_fault(test, "null", "SIGSEGV", libc::SIGSEGV);
        // Rust's handler says what it is, and aborts.
        let words = check_fault(test, "overflow", "SIGSEGV", libc::SIGABRT);
        assert!(words.contains("has overflowed its stack"), "{words}");
    }

    #[test]
    fn a_file_that_is_cut_short_under_the_server_does_not_end_it() {
        if die_if_asked() {
            return;
        }
        let test = "a_file_that_is_cut_short_under_the_server_does_not_end_it";
        let folder = tempfile::tempdir().unwrap();
        // The guards of both lanes write to what is gone.
        let output = dying(test, "cut", folder.path()).output().unwrap();
        let words = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && words.contains("went on"),
            "{output:?}"
        );
    }

    #[test]
    fn a_kill_that_nobody_can_note_leaves_what_ran_and_blames_nobody() {
        if die_if_asked() {
            return;
        }
        let test = "a_kill_that_nobody_can_note_leaves_what_ran_and_blames_nobody";
        let (output, death) = death(test, "kill");
        assert_eq!(output.status.signal(), Some(libc::SIGKILL));
        assert_eq!(death.cause, Cause::Silence);
        assert_eq!((death.ran.len(), death.suspects.len()), (2, 0));
    }

    #[test]
    fn a_fatal_signal_from_outside_ends_the_process_and_blames_nobody() {
        if die_if_asked() {
            return;
        }
        let test = "a_fatal_signal_from_outside_ends_the_process_and_blames_nobody";
        for (signal, number, name) in [
            (rustix::process::Signal::FPE, libc::SIGFPE, "SIGFPE"),
            // Rust's own handler would let the process live on.
            (rustix::process::Signal::SEGV, libc::SIGSEGV, "SIGSEGV"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let mut child = dying(test, "sent", folder.path())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let stdout = std::io::BufReader::new(child.stdout.take().unwrap());
            let mut lines = std::io::BufRead::lines(stdout).map_while(Result::ok);
            assert!(lines.any(|line| line.ends_with("ready")));
            let pid = rustix::process::Pid::from_child(&child);
            rustix::process::kill_process(pid, signal).unwrap();
            assert_eq!(child.wait().unwrap().signal(), Some(number));
            let (_, death) = BlackBox::open(folder.path()).unwrap();
            let death = death.unwrap();
            let sender = Some(std::process::id());
            assert!(
                matches!(&death.cause, Cause::Signal { signal, sender: by, .. } if *signal == name && *by == sender),
                "{death:?}"
            );
            assert_eq!((death.ran.len(), death.suspects.len()), (2, 0));
        }
    }
}
