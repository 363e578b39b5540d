//! Work at background priority, which nobody feels: the scheduler's idle class, which runs where no other thread wants the core.
//!
//! A thread may lower itself but, without privileges, never raise itself again, and threads that it makes begin as low as it is.
//! So background work has a thread of its own, and asks who waits for it, whose class is the usual one, to make threads that are to
//! last ([`Caller`]). A core that is never idle would hold the work up for ever: it is done once more, at the usual priority, when it has
//! waited for a core for [`BACKGROUND_WAIT_MAX`] in all.
//!
//! A kernel that preempts lazily looks at a core whose thread shall give way only at its next interrupt, by default up to 4 ms
//! later. So background work keeps to one core, and a [`Heartbeat`] interrupts that core often.
//!
//! Threads: two short-lived ones for each piece of background work; who asked for it waits.
//! Not here: what the work is (`worker`, `probe`).

use std::fmt;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::config::{BACKGROUND_LOOK_PERIOD, BACKGROUND_WAIT_MAX};
use crate::engine::cores::{self, CoreId};

/// The name of the threads; they are gone when the work is done.
const THREAD_NAME: &str = "serin-task";

/// Nice value of a thread where the system does not allow the idle class.
const NICE_MAX: i32 = 19;

/// Pause between two interrupts of the core on which background work runs: about what others may feel of it.
const HEARTBEAT_PERIOD: Duration = Duration::from_micros(50);

/// Something that the waiting thread does for the work.
type CallerTask = Box<dyn FnOnce() + Send>;

/// The thread that waits for a piece of work, at the usual priority.
#[derive(Clone)]
pub(super) struct Caller(Arc<dyn Fn(CallerTask) + Send + Sync>);

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Caller")
    }
}

impl Caller {
    /// For work that runs on the caller's own thread.
    pub(super) fn itself() -> Self {
        Self(Arc::new(|task| task()))
    }

    fn at_the_end_of<T: Send + 'static>(messages: mpsc::Sender<Progress<T>>) -> Self {
        // Who has stopped waiting drops the task.
        Self(Arc::new(move |task| {
            drop(messages.send(Progress::Task(task)));
        }))
    }

    /// Has the waiting thread do this; `None` when it waits no more.
    pub(super) fn call<T: Send + 'static>(
        &self,
        task: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (done, result) = mpsc::sync_channel(1);
        // The receiver waits below; it cannot be gone.
        (self.0)(Box::new(move || drop(done.send(task()))));
        result.recv().ok()
    }
}

/// The messages of background work to who waits for it.
enum Progress<T> {
    Task(CallerTask),
    Done(std::thread::Result<T>),
}

/// Does the work on a thread of its own on this core at the lowest class, and gives its result.
///
/// Where it cannot, or has to wait too long, the work is begun once more here, and what comes of the first is dropped.
pub(super) fn run<T, W>(core: CoreId, work: W) -> T
where
    T: Send + 'static,
    W: Fn(&Caller) -> T + Send + Sync + 'static,
{
    let work = Arc::new(work);
    try_in_background(core, &work, BACKGROUND_WAIT_MAX).unwrap_or_else(|| work(&Caller::itself()))
}

/// Does work that makes no threads: in the background, or here and now.
///
/// Background work that had to wait too long is begun once more, so its first beginning may end later than this call.
pub fn run_in_background_if<T, W>(background: bool, work: W) -> T
where
    T: Send + 'static,
    W: Fn() -> T + Send + Sync + 'static,
{
    if background {
        run(cores::last(), move |_| work())
    } else {
        work()
    }
}

/// The result of the work, or nothing when it has to wait too long or there is no thread for it.
fn try_in_background<T, W>(core: CoreId, work: &Arc<W>, wait_max: Duration) -> Option<T>
where
    T: Send + 'static,
    W: Fn(&Caller) -> T + Send + Sync + 'static,
{
    let (messages, inbox) = mpsc::channel();
    let waited = CoreWait::new(0);
    let thread = begin(core, Arc::clone(work), messages, waited.clone())?;
    loop {
        match inbox.recv_timeout(BACKGROUND_LOOK_PERIOD) {
            Ok(Progress::Task(task)) => task(),
            Ok(Progress::Done(outcome)) => {
                // It has caught what could make this fail.
                drop(thread.join());
                return Some(outcome.unwrap_or_else(|panic| resume_unwind(panic)));
            }
            Err(RecvTimeoutError::Timeout) if waited.so_far() < wait_max => {}
            Err(_) => {
                tracing::info!(
                    after = ?waited.so_far(),
                    "the cores are too busy for background work: it goes on at the usual priority"
                );
                return None;
            }
        }
    }
}

fn begin<T, W>(
    core: CoreId,
    work: Arc<W>,
    messages: mpsc::Sender<Progress<T>>,
    waited: CoreWait,
) -> Option<JoinHandle<()>>
where
    T: Send + 'static,
    W: Fn(&Caller) -> T + Send + Sync + 'static,
{
    let caller = Caller::at_the_end_of(messages.clone());
    let thread = move || {
        // Relaxed: the number is all that is said. Until it is seen, the time since the beginning counts.
        waited.tid.store(cores::thread_id(), Ordering::Relaxed);
        let _heartbeat = enter_background(core);
        let outcome = catch_unwind(AssertUnwindSafe(|| work(&caller)));
        // Dropped where nobody waits any more.
        drop(messages.send(Progress::Done(outcome)));
    };
    std::thread::Builder::new()
        .name(THREAD_NAME.to_owned())
        .spawn(thread)
        .inspect_err(|error| tracing::warn!(%error, "cannot start a thread for background work"))
        .ok()
}

/// The time that a thread has waited for a core, as the kernel counts it.
#[derive(Debug, Clone)]
pub(super) struct CoreWait {
    /// 0 until the thread runs.
    tid: Arc<AtomicI32>,
    since: Instant,
}

impl CoreWait {
    fn new(tid: i32) -> Self {
        Self {
            tid: Arc::new(AtomicI32::new(tid)),
            since: Instant::now(),
        }
    }

    /// Of the first thread of a process.
    pub(super) fn of_process(pid: u32) -> Self {
        Self::new(i32::try_from(pid).unwrap_or(0))
    }

    /// Where the kernel does not count, all the time since the beginning.
    pub(super) fn so_far(&self) -> Duration {
        let tid = self.tid.load(Ordering::Relaxed);
        // The folder of the processes has the threads too, though it does not list them.
        let counted = fs::read_to_string(format!("/proc/{tid}/schedstat")).ok();
        let counted = counted.as_deref().and_then(parse_schedstat);
        counted.unwrap_or_else(|| self.since.elapsed())
    }
}

/// The second of three numbers: nanoseconds in which the thread could have run and did not.
fn parse_schedstat(text: &str) -> Option<Duration> {
    let waited = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(Duration::from_nanos(waited))
}

/// Puts the calling thread on this core and into the lowest class, and with it all threads that it makes. There is no way back.
pub(super) fn enter_background(core: CoreId) -> Heartbeat {
    cores::pin_to(core);
    let parameters = libc::sched_param { sched_priority: 0 };
    #[expect(unsafe_code, reason = "no safe form sets the scheduling class")]
    // SAFETY: 0 is the calling thread; the pointer is to a live value that the call only reads.
    let set = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) };
    if set != 0
        && let Err(error) = rustix::process::setpriority_process(None, NICE_MAX)
    {
        tracing::debug!(%error, "cannot lower the priority of a thread");
    }
    Heartbeat::start()
}

/// Lowers a thread of this process that nobody needs any more. Not into the idle class: it may hold a lock that others want.
pub(super) fn lower(tid: i32) {
    let lowered =
        rustix::process::setpriority_process(rustix::process::Pid::from_raw(tid), NICE_MAX);
    if let Err(error) = lowered {
        tracing::debug!(%error, "cannot lower the priority of a thread");
    }
}

/// Interrupts the core of who started it, until it is dropped: a thread of the same class that sleeps again and again. The
/// timer that would wake it gives the kernel the occasion to let a waiting thread have the core.
#[derive(Debug)]
#[must_use = "dropped at once, it stops"]
pub(super) struct Heartbeat(Arc<AtomicBool>);

impl Heartbeat {
    fn start() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&over);
        let beat = move || {
            // Relaxed: it is enough that the thread ends some time.
            while !ends.load(Ordering::Relaxed) {
                std::thread::sleep(HEARTBEAT_PERIOD);
            }
        };
        let thread = std::thread::Builder::new().name(THREAD_NAME.to_owned());
        if let Err(error) = thread.spawn(beat) {
            tracing::debug!(%error, "background work has no heartbeat");
        }
        Self(over)
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        // Not joined: on a core that is never idle the thread may wait long until it sees this.
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Whether a thread of this process is in the lowest class.
#[cfg(test)]
pub(super) fn is_in_background(tid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/self/task/{tid}/stat")).expect("a thread");
    // The name may hold spaces; the fields after it do not. The policy is the 41st field of all, and the third is the first here.
    let fields = stat.rsplit_once(')').expect("a name").1;
    let policy = fields.split_ascii_whitespace().nth(41 - 3);
    policy == Some(&libc::SCHED_IDLE.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn background_work_runs_in_the_lowest_class_and_its_caller_does_not() {
        let in_background = run(cores::last(), |caller| {
            let asked = caller.call(|| is_in_background(cores::thread_id()));
            (is_in_background(cores::thread_id()), asked)
        });
        assert_eq!(in_background, (true, Some(false)));
        assert!(!is_in_background(cores::thread_id()));
    }

    #[test]
    fn a_panic_of_background_work_is_the_caller_s() {
        let ran = catch_unwind(|| run(cores::last(), |_| panic!("planned")));
        let panic = ran.unwrap_err();
        assert_eq!(panic.downcast_ref(), Some(&"planned"));
    }

    #[test]
    fn threads_that_the_caller_makes_are_not_in_the_background() {
        let in_background = run(cores::last(), |caller| {
            let make = || {
                std::thread::scope(|scope| {
                    let thread = scope.spawn(|| is_in_background(cores::thread_id()));
                    thread.join().unwrap()
                })
            };
            (make(), caller.call(make))
        });
        assert_eq!(in_background, (true, Some(false)));
    }

    #[test]
    fn background_work_that_gets_no_core_is_given_up() {
        let core = cores::last();
        cores::pin_to(core);
        let over = Arc::new(AtomicBool::new(false));
        let spins = Arc::clone(&over);
        // Inherits the one core, and never leaves it to the background work.
        let spinner = std::thread::Builder::new()
            .spawn(move || {
                while !spins.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
            .unwrap();
        let ends = Arc::clone(&over);
        let work = Arc::new(move |_: &Caller| {
            while !ends.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        assert_eq!(
            try_in_background(core, &work, Duration::from_millis(50)),
            None
        );
        over.store(true, Ordering::Relaxed);
        spinner.join().unwrap();
    }

    #[test]
    fn the_wait_for_a_core_is_the_second_number() {
        assert_eq!(
            parse_schedstat("5 7000000000 3\n"),
            Some(Duration::from_secs(7))
        );
        for text in ["", "1", "1 x 2"] {
            assert_eq!(parse_schedstat(text), None, "{text:?}");
        }
        // As the kernel writes it.
        let own = fs::read_to_string(format!("/proc/{}/schedstat", cores::thread_id()));
        assert!(own.is_ok_and(|text| parse_schedstat(&text).is_some()));
    }
}
