//! Jobs on their way from an edge thread to the instances, handed over once a tick of the thread's event loop.
//!
//! A thread that serves connections installs [`deliver`] beside them. Requests that arrive together then reach an instance
//! together: one wake-up for all of them, one run where the model allows it, and no thread at all where the work is small
//! enough to be executed inline. A request that finds no slot first hands over what has the slots ([`take_of`]): else a thousand
//! requests of one tick would meet the two that are admitted first. Jobs for a process wait a moment for company. On other threads,
//! which are those of a program that embeds serin, each job is executed inline or handed over by itself, at once.
//!
//! Threads: each has its own queue; nothing is shared. Not here: which instance (`deployment`), who computes (`engine`).

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::RecvError;
use tokio::task::yield_now;

use crate::config::{EDGE_COMPUTE_MAX, GATHER_MAX};
use crate::deadline::Deadline;
use crate::engine::{InstanceHandle, Reply, ReservedJob};
use crate::router::turn;

thread_local! {
    static QUEUE: RefCell<SubmissionQueue> = const { RefCell::new(SubmissionQueue::new()) };
}

/// The jobs that one thread has not handed over yet.
struct SubmissionQueue {
    /// By instance; the requests of one moment rarely go to more than a few.
    batches: Vec<Batch>,
    /// Wakes [`deliver`]; none where it does not run.
    deliver: Option<Waker>,
}

/// Jobs for one instance, in order of arrival, and who waits for them. Dropped, it queues the jobs that nobody has taken, and wakes
/// who waits, whose wakers stand nowhere else: also when what took the jobs has panicked.
struct Batch {
    instance: InstanceHandle,
    /// It computes in processes.
    is_far: bool,
    jobs: Vec<ReservedJob>,
    waiting: Vec<Waker>,
}

impl Batch {
    /// Answers the jobs inline, or queues them. A panic of what computes loses the jobs that it had, whose clients are told so, and
    /// nobody else's.
    fn run_inline_or_queue(mut self) {
        let jobs = std::mem::take(&mut self.jobs);
        let instance = &self.instance;
        let ran = catch_unwind(AssertUnwindSafe(|| instance.run_inline_or_queue(jobs)));
        if ran.is_err() {
            tracing::error!(
                requests = self.waiting.len(),
                "an I/O thread panicked as it answered requests; those that were not answered yet get 500"
            );
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.instance.queue(std::mem::take(&mut self.jobs));
        self.waiting.drain(..).for_each(Waker::wake);
    }
}

impl SubmissionQueue {
    const fn new() -> Self {
        Self {
            batches: Vec::new(),
            deliver: None,
        }
    }

    /// The jobs for these instances.
    fn take_of(&mut self, instances: &[InstanceHandle]) -> Batches {
        let is_of = |batch: &mut Batch| {
            let mut ids = instances.iter().map(InstanceHandle::id);
            ids.any(|id| id == batch.instance.id())
        };
        Batches(self.batches.extract_if(.., is_of).collect())
    }

    fn add(&mut self, instance: &InstanceHandle, job: ReservedJob, waiting: Waker) {
        let known = self.batches.iter_mut();
        let mut known = known.filter(|known| known.instance.id() == instance.id());
        match known.next() {
            Some(batch) => {
                batch.jobs.push(job);
                batch.waiting.push(waiting);
            }
            None => self.batches.push(Batch {
                is_far: instance.is_in_processes(),
                instance: instance.clone(),
                jobs: vec![job],
                waiting: vec![waiting],
            }),
        }
    }
}

/// Jobs that were taken out of the queue to be handed over.
pub(super) struct Batches(Vec<Batch>);

impl Batches {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Answers them inline, or queues them. The queue is not lent out while something is computed: what runs may send again, or be
    /// cancelled and drop what it sent.
    pub(super) fn hand_over(self) {
        let began = Instant::now();
        for batch in self.0 {
            // The small work of many deployments is not small; what is too much is queued as it is dropped.
            if began.elapsed() < EDGE_COMPUTE_MAX {
                batch.run_inline_or_queue();
            }
        }
    }
}

/// The jobs of this thread for these instances that were not handed over yet.
pub(super) fn take_of(instances: &[InstanceHandle]) -> Batches {
    QUEUE.with_borrow_mut(|queue| queue.take_of(instances))
}

/// A job on its way.
pub(super) struct Sent {
    pub(super) job: ReservedJob,
    pub(super) deadline: Deadline,
    /// It has the last slot of its deployment: nobody joins it.
    pub(super) is_last: bool,
}

/// Sends the job and waits for its answer, never past the deadline; `None` when that has passed.
pub(super) async fn send_and_wait(
    instance: &InstanceHandle,
    sent: Sent,
    mut answer: oneshot::Receiver<Reply>,
) -> Option<Result<Reply, RecvError>> {
    let Sent {
        job,
        deadline,
        is_last,
    } = sent;
    let mut job = Some(job);
    // Small work is answered at the end of this tick; a timer for it would cost as much as the hand-over.
    let answered = poll_fn(|context| {
        if let Some(job) = job.take()
            && send(instance, job, is_last, context)
        {
            return Poll::Pending;
        }
        Poll::Ready(match pin!(&mut answer).poll(context) {
            Poll::Ready(answered) => Some(answered),
            Poll::Pending => None,
        })
    })
    .await;
    match answered {
        Some(answered) => Some(answered),
        None => deadline.bound(answer).await,
    }
}

/// Hands the job over at the end of this tick, and wakes the task then; at once, and false, on a thread without [`deliver`].
fn send(instance: &InstanceHandle, job: ReservedJob, is_last: bool, context: &Context<'_>) -> bool {
    // A lane that is to compute it has nothing to do until then, and the tick has nobody to join it.
    let is_awaited = is_last && !instance.is_small(&job);
    match enqueue(instance, job, context) {
        Ok(()) => {
            if is_awaited {
                take_of(std::slice::from_ref(instance)).hand_over();
            }
            true
        }
        Err(job) => {
            instance.run_inline_or_queue(vec![job]);
            false
        }
    }
}

/// Keeps the job until the end of this tick; gives it back on a thread without [`deliver`].
fn enqueue(
    instance: &InstanceHandle,
    job: ReservedJob,
    context: &Context<'_>,
) -> Result<(), ReservedJob> {
    QUEUE.with_borrow_mut(|queue| {
        let Some(deliver) = &queue.deliver else {
            return Err(job);
        };
        // It comes after all tasks that are ready now, for the queue of tasks is first in, first out. To wake a task only queues it:
        // nothing runs, and asks for this queue, while it is lent out here.
        if queue.batches.is_empty() {
            deliver.wake_by_ref();
        }
        queue.add(instance, job, context.waker().clone());
        Ok(())
    })
}

/// Hands over the jobs of this thread's tasks, tick after tick. Belongs on a runtime of one thread, beside its tasks;
/// never ends. Dropped, it leaves the thread as it was.
pub async fn deliver() -> Infallible {
    let _installed = Installed;
    loop {
        end_of_tick().await;
        take(Reach::Near).hand_over();
        turn::next();
        gather().await;
        take(Reach::Any).hand_over();
    }
}

/// Waits while more jobs for processes arrive: the way there and back costs as much as several small requests.
async fn gather() {
    let began = Instant::now();
    let mut jobs = waiting_jobs();
    while jobs > 0 && began.elapsed() < GATHER_MAX {
        // The thread looks at its connections meanwhile.
        yield_now().await;
        take(Reach::Near).hand_over();
        let before = std::mem::replace(&mut jobs, waiting_jobs());
        if jobs == before {
            break;
        }
    }
}

/// Waits until the tasks that are ready have been polled, once there are jobs to hand over or a turn to end.
async fn end_of_tick() {
    let mut is_later = false;
    poll_fn(|context| {
        let is_wanted = has_jobs(context.waker()) | turn::is_under_way(context.waker());
        if is_wanted && is_later {
            return Poll::Ready(());
        }
        if is_wanted {
            // Behind all tasks that are ready now.
            context.waker().wake_by_ref();
        }
        is_later = true;
        Poll::Pending
    })
    .await;
}

/// Whether there are jobs; from now on they wait for who is woken by `deliver`.
fn has_jobs(deliver: &Waker) -> bool {
    QUEUE.with_borrow_mut(|queue| {
        let known = queue.deliver.as_ref();
        if !known.is_some_and(|known| known.will_wake(deliver)) {
            queue.deliver = Some(deliver.clone());
        }
        !queue.batches.is_empty()
    })
}

fn waiting_jobs() -> usize {
    QUEUE.with_borrow(|queue| queue.batches.iter().map(|batch| batch.jobs.len()).sum())
}

/// Jobs that were not handed over yet.
fn take(reach: Reach) -> Batches {
    let taken = QUEUE.with_borrow_mut(|queue| match reach {
        Reach::Near if queue.batches.iter().any(|batch| batch.is_far) => queue
            .batches
            .extract_if(.., |batch| !batch.is_far)
            .collect(),
        Reach::Near | Reach::Any => std::mem::take(&mut queue.batches),
    });
    Batches(taken)
}

/// Which jobs are taken.
#[derive(Clone, Copy)]
enum Reach {
    /// Those that are computed in this process.
    Near,
    /// All.
    Any,
}

/// While it lives, jobs wait for [`deliver`].
struct Installed;

impl Drop for Installed {
    fn drop(&mut self) {
        // What was sent is handed over and not dropped: to its tasks the end of this one is no reason to go without an answer.
        let left = QUEUE.with_borrow_mut(|queue| {
            queue.deliver = None;
            std::mem::take(&mut queue.batches)
        });
        drop(left);
        turn::stop();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::engine::{
        Capacity, CoreMap, Instance, InstanceSpec, Job, ModelProfile, Permit, SlotOwner, Topology,
    };
    use crate::observe::Timings;
    use crate::spec::Isolation;

    fn instance(isolation: Isolation) -> Instance {
        let mut cores = CoreMap::new(Topology::read(), Capacity::Overcommit);
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        Instance::start(InstanceSpec {
            concurrency: 4,
            profile: Some(Arc::new(ModelProfile::instant(1))),
            isolation,
            // This binary: a test of it is the process of a lane.
            exe: Some(std::env::current_exe().unwrap()),
            ..InstanceSpec::new(
                "test/blue".to_owned(),
                root.join("models/digits/1/model.onnx"),
                cores.grant(1).unwrap(),
            )
        })
        .unwrap()
    }

    /// Gives slots back, or panics over it.
    struct Slots {
        panics: bool,
    }

    impl SlotOwner for Slots {
        fn give_back(&self) {
            assert!(
                !self.panics,
                "the test wants a panic where jobs are answered"
            );
        }
    }

    async fn score(instance: &InstanceHandle, panics: bool) -> Option<Result<Reply, RecvError>> {
        let (reply, answer) = oneshot::channel();
        let now = Instant::now();
        let deadline = Deadline::after(now, Duration::from_secs(60));
        let job = Job {
            id: Job::next_id(),
            payload: bytes::Bytes::from(format!("{{\"data\": [{:?}]}}", [0; 64])).into(),
            head: None,
            deadline,
            timings: Timings::start(now),
            permit: Permit::new(Arc::new(Slots { panics })),
            reply,
        };
        let sent = Sent {
            job: instance.reserve().unwrap().give_to(job),
            deadline,
            is_last: false,
        };
        send_and_wait(instance, sent, answer).await
    }

    /// Does the work on a thread that hands jobs over once a tick.
    fn on_the_edge(work: impl Future<Output = ()>) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().build().unwrap();
        runtime.spawn(deliver());
        runtime.block_on(work);
    }

    /// Their wakers were lost with the panic, and they waited for ever.
    #[test]
    fn a_panic_where_jobs_are_answered_wakes_who_waits_and_the_thread_goes_on() {
        let (one, other) = (instance(Isolation::Thread), instance(Isolation::Thread));
        let (first, second) = (one.handle(), other.handle());
        on_the_edge(async {
            // The thread has begun to hand over when this is over. No request is sent before: the lane might answer it, and still have
            // its lock when the next ones come.
            yield_now().await;
            let (answered, with_it, behind_it, elsewhere) = tokio::join!(
                score(&first, false),
                score(&first, true),
                score(&first, false),
                score(&second, false),
            );
            answered.unwrap().unwrap().outcome.unwrap();
            assert!(with_it.unwrap().is_err(), "its answer is lost");
            assert!(behind_it.unwrap().is_err(), "so is one behind it");
            elsewhere.unwrap().unwrap().outcome.unwrap();
            assert_eq!(first.load(), 0, "the instance has room for others again");
            score(&first, false)
                .await
                .unwrap()
                .unwrap()
                .outcome
                .unwrap();
        });
        one.stop();
        other.stop();
    }

    /// Jobs for a process wait for company: nobody is left behind there, and those for a thread do not wait with them.
    #[test]
    fn jobs_for_a_process_and_for_a_thread_are_all_answered_however_they_come() {
        let (near, far) = (instance(Isolation::Thread), instance(Isolation::Process));
        let (thread, process) = (near.handle(), far.handle());
        assert!(process.is_in_processes() && !thread.is_in_processes());
        on_the_edge(async {
            for yields in 0..4 {
                let late = async || {
                    for _ in 0..yields {
                        yield_now().await;
                    }
                    score(&process, false).await
                };
                let answers = tokio::join!(
                    score(&process, false),
                    score(&thread, false),
                    late(),
                    score(&process, false)
                );
                for answer in [answers.0, answers.1, answers.2, answers.3] {
                    answer.unwrap().unwrap().outcome.unwrap();
                }
            }
            assert_eq!((thread.load(), process.load()), (0, 0));
        });
        near.stop();
        far.stop();
    }

    /// Whoever comes next hands over what others have sent, within the tick.
    #[test]
    fn a_panic_where_a_request_hands_over_what_others_sent_harms_neither_it_nor_them() {
        let (one, other) = (instance(Isolation::Thread), instance(Isolation::Thread));
        let (first, second) = (one.handle(), other.handle());
        on_the_edge(async {
            // The thread has begun to hand over when this is over.
            yield_now().await;
            let comes_next = async {
                let unsent = take_of(std::slice::from_ref(&first));
                assert_eq!(unsent.0.len(), 1, "those of the other instance stay");
                unsent.hand_over();
                assert!(take_of(std::slice::from_ref(&first)).is_empty());
                score(&first, false).await
            };
            let (answered, with_it, elsewhere, next) = tokio::join!(
                score(&first, false),
                score(&first, true),
                score(&second, false),
                comes_next,
            );
            answered.unwrap().unwrap().outcome.unwrap();
            assert!(with_it.unwrap().is_err(), "its answer is lost");
            for other in [elsewhere, next] {
                other.unwrap().unwrap().outcome.unwrap();
            }
        });
        one.stop();
        other.stop();
    }
}
