//! The answers that a rollout remembers, so that labels which come later find them: in memory, or in a file of the data folder that a
//! restart finds again.
//!
//! A request counts once: its id is known with its first answer, and where the same id comes again, or has had a label, nothing more is said
//! of it. What is older than it is to be kept is forgotten, and the oldest where there is no more room. A label is used up before the rollout
//! is told of it, so that a crash in between loses it and no label counts twice.
//!
//! Threads: one of its own for each book, because lookups take a while; it ends with the book.
//! Not here: which requests are of the rollout (`evidence`), what an answer is worth (`canary::marking`).

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::oneshot;

use crate::canary::{Arm, FeedbackPlan, Misfit, Routing, Truth, Worth, mark, marked_part};
use crate::config::{
    ANSWER_BYTES_MAX, FEEDBACK_DISK_BYTES_MAX, FEEDBACK_HEAPS_MAX, FEEDBACK_MEMORY_BYTES_MAX,
    FEEDBACK_NEWS_MAX,
};
use crate::control::rollouts::answer_table::AnswerTable;
use crate::control::rollouts::desk::{KnownTruth, Label, Learned};
use crate::control::store::{AnswerStore, Heard, KeptAnswer, StoreError, answers_file, remove};
use crate::observe::answers_dropped;
use crate::spec::hash64;

/// What is heard of a request.
#[derive(Debug)]
pub(super) enum News {
    /// It was answered.
    Request {
        id_hash: u64,
        arm: Arm,
        routing: Routing,
    },
    /// The answer of one version, to the client or to nobody.
    Answer { id_hash: u64, arm: Arm, body: Bytes },
}

/// What labels say, and what became of them.
pub(super) type Joined = (Vec<Truth>, Learned);

#[derive(Debug)]
enum Job {
    Keep(Vec<News>, i64),
    Join(Vec<Label>, i64, oneshot::Sender<Joined>),
}

/// The book of one rollout.
#[derive(Debug)]
pub(super) struct AnswerBook {
    jobs: SyncSender<Job>,
    /// Bytes of answers that the thread has still to write.
    waiting: Arc<AtomicUsize>,
    /// No label will be asked about: with the thread goes the file.
    is_over: Arc<AtomicBool>,
}

impl AnswerBook {
    /// Opens the book of a rollout, which may be there already. `data` is the data folder.
    pub(super) fn open(data: &Path, rollout: u64, plan: FeedbackPlan) -> io::Result<Self> {
        let file = plan.on_disk.then(|| answers_file(data, rollout));
        let shelf = Shelf::open(file.as_deref()).map_err(io::Error::other)?;
        let pages = Pages { shelf, plan };
        let (jobs, to_do) = sync_channel(FEEDBACK_HEAPS_MAX);
        let waiting = Arc::new(AtomicUsize::new(0));
        let is_over = Arc::new(AtomicBool::new(false));
        let (waiting_there, is_over_there) = (Arc::clone(&waiting), Arc::clone(&is_over));
        thread::Builder::new()
            .name("serin-feedback".to_owned())
            .spawn(move || {
                work(pages, &to_do, &waiting_there);
                // Relaxed: written before the sender was dropped, which ended the loop.
                if let Some(file) = file.filter(|_| is_over_there.load(Ordering::Relaxed)) {
                    remove(&file);
                }
            })?;
        Ok(Self {
            jobs,
            waiting,
            is_over,
        })
    }

    /// The rollout has ended.
    pub(super) fn end(self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Remembers what is heard. Gives it back where the thread is behind; what it could not hold then is counted and lost.
    pub(super) fn keep(&self, mut news: Vec<News>, now_ms: i64) -> Vec<News> {
        let bytes = bytes_of(&news);
        // Relaxed: a sum and nothing else; the thread takes off what it is given here.
        let before = self.waiting.fetch_add(bytes, Ordering::Relaxed);
        let has_room = before.saturating_add(bytes) <= ANSWER_BYTES_MAX;
        if has_room {
            news = match self.jobs.try_send(Job::Keep(news, now_ms)) {
                Ok(()) => return Vec::new(),
                // A thread that has ended takes nothing any more: that is counted like one that is far behind.
                Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => match job {
                    Job::Keep(news, _) => news,
                    Job::Join(..) => Vec::new(),
                },
            };
        }
        self.waiting.fetch_sub(bytes, Ordering::Relaxed);
        if news.len() > FEEDBACK_NEWS_MAX || bytes > ANSWER_BYTES_MAX {
            answers_dropped().inc_by(news.len() as u64);
            news.clear();
        }
        news
    }

    /// Joins labels with what was kept before. None where the thread has too much to do, or has ended.
    pub(super) fn join(
        &self,
        labels: Vec<Label>,
        now_ms: i64,
    ) -> Option<oneshot::Receiver<Joined>> {
        let (reply, answer) = oneshot::channel();
        let sent = self.jobs.try_send(Job::Join(labels, now_ms, reply));
        sent.ok().map(|()| answer)
    }
}

fn bytes_of(news: &[News]) -> usize {
    let bytes = news.iter().map(|one| match one {
        News::Request { .. } => 0,
        News::Answer { body, .. } => body.len(),
    });
    bytes.sum()
}

/// The loop of the thread.
fn work(mut pages: Pages, jobs: &Receiver<Job>, waiting: &AtomicUsize) {
    let mut is_failing = false;
    while let Ok(job) = jobs.recv() {
        match job {
            Job::Keep(news, now_ms) => {
                let kept = pages.keep(&news, now_ms);
                waiting.fetch_sub(bytes_of(&news), Ordering::Relaxed);
                if let Err(error) = &kept {
                    answers_dropped().inc_by(news.len() as u64);
                    if !is_failing {
                        tracing::warn!(%error, "answers cannot be remembered, and labels will not find them");
                    }
                }
                is_failing = kept.is_err();
            }
            Job::Join(labels, now_ms, reply) => {
                let joined = pages.join(&labels, now_ms).unwrap_or_else(|error| {
                    tracing::warn!(%error, "labels cannot be joined with answers");
                    let unknown = labels.len() as u64;
                    let learned = Learned {
                        unknown,
                        ..Learned::default()
                    };
                    (Vec::new(), learned)
                });
                // Nobody may be waiting any more.
                drop(reply.send(joined));
            }
        }
    }
}

/// Where answers are.
#[derive(Debug)]
enum Shelf {
    Memory(AnswerTable),
    Disk(AnswerStore),
}

impl Shelf {
    /// In memory where no file is named.
    fn open(file: Option<&Path>) -> Result<Self, StoreError> {
        Ok(match file {
            Some(file) => Self::Disk(AnswerStore::open(file, FEEDBACK_DISK_BYTES_MAX)?),
            None => Self::Memory(AnswerTable::new(FEEDBACK_MEMORY_BYTES_MAX)),
        })
    }

    fn keep(&mut self, heard: Vec<Heard>, now_ms: i64, oldest_ms: i64) -> Result<(), StoreError> {
        match self {
            Self::Memory(table) => table.keep(heard, now_ms, oldest_ms),
            Self::Disk(store) => store.keep(&heard, now_ms, oldest_ms)?,
        }
        Ok(())
    }

    fn use_up(
        &mut self,
        ids: &[u64],
        oldest_ms: i64,
        judge: impl FnMut(usize, Option<KeptAnswer>) -> bool,
    ) -> Result<(), StoreError> {
        match self {
            Self::Memory(table) => table.use_up(ids, oldest_ms, judge),
            Self::Disk(store) => store.use_up(ids, oldest_ms, judge)?,
        }
        Ok(())
    }
}

/// The answers, and what is to be made of them.
#[derive(Debug)]
struct Pages {
    shelf: Shelf,
    plan: FeedbackPlan,
}

impl Pages {
    fn keep(&mut self, news: &[News], now_ms: i64) -> Result<(), StoreError> {
        let pointer = self.plan.answer.as_deref();
        let heard = together(news, pointer);
        let oldest_ms = oldest_ms(&self.plan, now_ms);
        self.shelf.keep(heard, now_ms, oldest_ms)
    }

    fn join(&mut self, labels: &[Label], now_ms: i64) -> Result<Joined, StoreError> {
        let ids = labels.iter().map(|label| hash64(&[label.id.as_bytes()]));
        let ids: Vec<_> = ids.collect();
        let (mut truths, mut learned) = (Vec::new(), Learned::default());
        let plan = &self.plan;
        let judge = |place: usize, kept: Option<KeptAnswer>| {
            let (Some(label), Some(kept)) = (labels.get(place), kept) else {
                learned.unknown += 1;
                return false;
            };
            match truth_of(&kept, &label.truth, plan) {
                Ok(truth) => {
                    truths.push(truth);
                    learned.joined += 1;
                    true
                }
                Err(misfit) => {
                    learned.misfits += 1;
                    let words = || format!("request {}: {misfit}", label.id);
                    learned.misfit.get_or_insert_with(words);
                    false
                }
            }
        };
        self.shelf.use_up(&ids, oldest_ms(plan, now_ms), judge)?;
        // Blocks that are long past may have left the evidence for newer ones: those of one heap come in their order.
        truths.sort_by_key(number_of);
        Ok((truths, learned))
    }
}

/// What is heard of each request, in one row: a request and its answer mostly come together.
fn together(news: &[News], pointer: Option<&str>) -> Vec<Heard> {
    let mut heard: Vec<Heard> = Vec::with_capacity(news.len());
    let mut places = HashMap::with_capacity(news.len());
    for one in news {
        let (News::Request { id_hash, .. } | News::Answer { id_hash, .. }) = one;
        let place = *places.entry(*id_hash).or_insert_with(|| {
            heard.push(Heard {
                id_hash: *id_hash,
                ..Heard::default()
            });
            heard.len() - 1
        });
        let row = &mut heard[place];
        match one {
            News::Request { arm, routing, .. } => {
                row.times += 1;
                row.came = Some((*arm, *routing));
            }
            News::Answer { arm, body, .. } => {
                let part = marked_part(body, pointer);
                match arm {
                    Arm::Stable => row.stable = part,
                    Arm::Canary => row.canary = part,
                }
            }
        }
    }
    heard
}

/// The number of the block of its request; those without one keep their order.
fn number_of(truth: &Truth) -> u64 {
    match truth {
        Truth::Single {
            routing: Routing::Exact(block),
            ..
        } => block.number,
        _ => 0,
    }
}

fn oldest_ms(plan: &FeedbackPlan, now_ms: i64) -> i64 {
    let keep_ms = i64::try_from(plan.keep_seconds.saturating_mul(1000)).unwrap_or(i64::MAX);
    now_ms.saturating_sub(keep_ms)
}

/// The truth about both answers where the label is one that both can be compared with, else about that which the client got.
fn truth_of(kept: &KeptAnswer, known: &KnownTruth, plan: &FeedbackPlan) -> Result<Truth, Misfit> {
    let single = |worth| Truth::Single {
        arm: kept.arm,
        routing: kept.routing,
        worth,
    };
    let label = match known {
        KnownTruth::Right(right) => return Ok(single(Worth::of(*right))),
        KnownTruth::Score(worth) => return Ok(single(*worth)),
        KnownTruth::Label(label) => label,
    };
    let worth = |answer: &Option<String>| {
        let answer: Option<Value> = answer
            .as_deref()
            .and_then(|text| serde_json::from_str(text).ok());
        let none = || Misfit::NoAnswer {
            pointer: plan.answer.clone(),
        };
        mark(answer.as_ref().ok_or_else(none)?, label)
    };
    match (worth(&kept.stable), worth(&kept.canary), kept.arm) {
        (Ok(stable), Ok(canary), _) => Ok(Truth::Paired { stable, canary }),
        (stable, _, Arm::Stable) => stable.map(single),
        (_, canary, Arm::Canary) => canary.map(single),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const ROUTING: Routing = Routing::Random { weight: 0.5 };

    fn request(id: &str, arm: Arm) -> News {
        News::Request {
            id_hash: hash64(&[id.as_bytes()]),
            arm,
            routing: ROUTING,
        }
    }

    fn answer(id: &str, arm: Arm, answer: &Value) -> News {
        News::Answer {
            id_hash: hash64(&[id.as_bytes()]),
            arm,
            body: answer.to_string().into(),
        }
    }

    fn label(id: &str, truth: KnownTruth) -> Label {
        let id = id.to_owned();
        Label { id, truth }
    }

    fn pages() -> Pages {
        pages_of(FeedbackPlan::default())
    }

    fn pages_of(plan: FeedbackPlan) -> Pages {
        let shelf = Shelf::open(None).unwrap();
        Pages { shelf, plan }
    }

    fn single(arm: Arm, score: f64) -> Truth {
        Truth::Single {
            arm,
            routing: ROUTING,
            worth: Worth::new(score).unwrap(),
        }
    }

    fn counts(learned: &Learned) -> [u64; 3] {
        [learned.joined, learned.unknown, learned.misfits]
    }

    #[test]
    fn a_label_finds_its_answer_whatever_came_first() {
        let mut pages = pages();
        let news = [
            answer("a", Arm::Stable, &json!([3])),
            request("a", Arm::Stable),
            request("b", Arm::Canary),
            answer("b", Arm::Canary, &json!([3])),
        ];
        pages.keep(&news, 0).unwrap();
        let labels = [
            label("a", KnownTruth::Label(json!(3))),
            label("b", KnownTruth::Label(json!(4))),
        ];
        let (truths, learned) = pages.join(&labels, 1).unwrap();
        assert_eq!(truths, [single(Arm::Stable, 1.0), single(Arm::Canary, 0.0)]);
        assert_eq!(counts(&learned), [2, 0, 0]);
    }

    #[test]
    fn what_comes_in_one_heap_is_known_as_what_comes_in_several() {
        let news = || {
            vec![
                request("a", Arm::Stable),
                answer("a", Arm::Stable, &json!(1)),
                answer("a", Arm::Canary, &json!(2)),
                answer("b", Arm::Canary, &json!(2)),
                request("b", Arm::Canary),
                request("c", Arm::Stable),
                request("c", Arm::Stable),
            ]
        };
        let labels = ["a", "b", "c"].map(|id| label(id, KnownTruth::Label(json!(2))));
        let (mut at_once, mut one_by_one) = (pages(), pages());
        at_once.keep(&news(), 0).unwrap();
        for one in news() {
            one_by_one.keep(&[one], 0).unwrap();
        }
        let found = at_once.join(&labels, 0).unwrap();
        assert_eq!(found, one_by_one.join(&labels, 0).unwrap());
        assert_eq!((found.0.len(), counts(&found.1)), (2, [2, 1, 0]));
        // An id that comes again in a later heap is nobody's either.
        at_once.keep(&[request("d", Arm::Stable)], 0).unwrap();
        at_once.keep(&[request("d", Arm::Stable)], 0).unwrap();
        let again = at_once
            .join(&[label("d", KnownTruth::Right(true))], 0)
            .unwrap();
        assert_eq!(counts(&again.1), [0, 1, 0]);
    }

    #[test]
    fn right_wrong_and_scores_need_no_answer() {
        let mut pages = pages();
        pages
            .keep(&[request("a", Arm::Stable), request("b", Arm::Canary)], 0)
            .unwrap();
        let labels = [
            label("a", KnownTruth::Right(false)),
            label("b", KnownTruth::Score(Worth::new(0.25).unwrap())),
        ];
        let (truths, _) = pages.join(&labels, 0).unwrap();
        assert_eq!(
            truths,
            [single(Arm::Stable, 0.0), single(Arm::Canary, 0.25)]
        );
    }

    #[test]
    fn where_both_versions_answered_a_label_says_something_of_both() {
        let mut pages = pages();
        let news = [
            request("a", Arm::Stable),
            answer("a", Arm::Stable, &json!([0.1, 0.9])),
            answer("a", Arm::Canary, &json!([0.8, 0.2])),
            request("b", Arm::Stable),
            answer("b", Arm::Stable, &json!([0.1, 0.9])),
            answer("b", Arm::Canary, &json!("no class")),
        ];
        pages.keep(&news, 0).unwrap();
        let labels = ["a", "b"].map(|id| label(id, KnownTruth::Label(json!(1))));
        let (truths, learned) = pages.join(&labels, 0).unwrap();
        let (stable, canary) = (Worth::of(true), Worth::of(false));
        let both = Truth::Paired { stable, canary };
        assert_eq!(truths, [both, single(Arm::Stable, 1.0)]);
        assert_eq!(counts(&learned), [2, 0, 0]);
        // Of what was only said to be right or wrong nobody knows what the other would be.
        pages
            .keep(
                &[
                    request("c", Arm::Stable),
                    answer("c", Arm::Canary, &json!(1)),
                ],
                0,
            )
            .unwrap();
        let (truths, _) = pages
            .join(&[label("c", KnownTruth::Right(true))], 0)
            .unwrap();
        assert_eq!(truths, [single(Arm::Stable, 1.0)]);
    }

    #[test]
    fn a_request_is_labelled_once_and_one_whose_id_came_twice_never() {
        let mut pages = pages();
        let news = ["a", "b", "b", "c"].map(|id| request(id, Arm::Stable));
        pages.keep(&news, 0).unwrap();
        let labels = ["a", "a", "b", "never seen"].map(|id| label(id, KnownTruth::Right(true)));
        let (truths, learned) = pages.join(&labels, 0).unwrap();
        assert_eq!((truths.len(), counts(&learned)), (1, [1, 3, 0]));
        // Nor is one whose id comes again after its label.
        pages.keep(&[request("a", Arm::Canary)], 0).unwrap();
        let (truths, learned) = pages.join(&labels, 0).unwrap();
        assert_eq!((truths.len(), counts(&learned)), (0, [0, 4, 0]));
    }

    #[test]
    fn a_label_that_fits_no_answer_is_told_and_a_better_one_may_come() {
        let mut pages = pages();
        let news = [
            request("a", Arm::Stable),
            answer("a", Arm::Stable, &json!([1, 2])),
            request("b", Arm::Stable),
        ];
        pages.keep(&news, 0).unwrap();
        let wrong = ["a", "b"].map(|id| label(id, KnownTruth::Label(json!("cat"))));
        let (truths, learned) = pages.join(&wrong, 0).unwrap();
        assert_eq!((truths.len(), counts(&learned)), (0, [0, 0, 2]));
        let expected = "request a: label \"cat\" fits no answer of the form [1,2]";
        assert_eq!(learned.misfit.as_deref(), Some(expected));
        let right = [label("a", KnownTruth::Label(json!([1, 3])))];
        assert_eq!(pages.join(&right, 0).unwrap().0, [single(Arm::Stable, 0.5)]);
    }

    #[test]
    fn the_part_of_the_answer_that_counts_is_where_the_plan_says() {
        let mut pages = pages_of(FeedbackPlan {
            answer: Some("/outputs/0/data".to_owned()),
            ..FeedbackPlan::default()
        });
        let body = json!({"model_name": "m", "outputs": [{"name": "label", "data": [7]}]});
        let news = [
            request("a", Arm::Canary),
            answer("a", Arm::Canary, &body),
            request("b", Arm::Canary),
            answer("b", Arm::Canary, &json!({"outputs": []})),
        ];
        pages.keep(&news, 0).unwrap();
        let labels = ["a", "b"].map(|id| label(id, KnownTruth::Label(json!(7))));
        let (truths, learned) = pages.join(&labels, 0).unwrap();
        assert_eq!(truths, [single(Arm::Canary, 1.0)]);
        let expected = "request b: expected an answer in JSON of at most 4096 bytes at /outputs/0/data, found none";
        assert_eq!(learned.misfit.as_deref(), Some(expected));
    }

    /// What a run of the world does to a book.
    #[derive(Debug, Clone)]
    enum Deed {
        Keep(Vec<(u8, u8)>),
        Join(Vec<(u8, u8)>),
    }

    /// Requests by number, each with what is heard or said of it.
    fn any_deed() -> impl Strategy<Value = Deed> {
        let some = || prop::collection::vec((0..6_u8, 0..5_u8), 0..5);
        prop_oneof![some().prop_map(Deed::Keep), some().prop_map(Deed::Join)]
    }

    fn news_of((request, what): (u8, u8)) -> News {
        let id_hash = hash64(&[request.to_string().as_bytes()]);
        let arm = [Arm::Stable, Arm::Canary][usize::from(what % 2)];
        let body = Bytes::from(if what < 4 { "3" } else { "no JSON" });
        match what {
            0 | 1 => News::Request {
                id_hash,
                arm,
                routing: ROUTING,
            },
            _ => News::Answer { id_hash, arm, body },
        }
    }

    fn label_of((request, what): (u8, u8)) -> Label {
        let truth = match what {
            0 => KnownTruth::Right(true),
            1 => KnownTruth::Label(json!("cat")),
            digit => KnownTruth::Label(json!(digit)),
        };
        label(&request.to_string(), truth)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn memory_and_disk_answer_alike(deeds in prop::collection::vec((any_deed(), 0..1500_i64), 0..12)) {
            let data = tempfile::tempdir().unwrap();
            let file = answers_file(data.path(), 1);
            let plan = FeedbackPlan { keep_seconds: 2, ..FeedbackPlan::default() };
            let mut memory = pages_of(plan.clone());
            let mut disk = Pages { shelf: Shelf::open(Some(&file)).unwrap(), plan };
            let mut now_ms = 10_000;
            for (deed, ms) in deeds {
                now_ms += ms;
                match deed {
                    Deed::Keep(news) => for pages in [&mut memory, &mut disk] {
                        let news: Vec<_> = news.iter().copied().map(news_of).collect();
                        pages.keep(&news, now_ms).unwrap();
                    },
                    Deed::Join(labels) => {
                        let labels: Vec<_> = labels.into_iter().map(label_of).collect();
                        let [one, other] = [&mut memory, &mut disk].map(|pages| pages.join(&labels, now_ms).unwrap());
                        prop_assert_eq!(one, other);
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_older_than_it_is_to_be_kept_is_forgotten() {
        let mut pages = pages_of(FeedbackPlan {
            keep_seconds: 10,
            ..FeedbackPlan::default()
        });
        pages.keep(&[request("a", Arm::Stable)], 1_000).unwrap();
        pages.keep(&[request("b", Arm::Stable)], 9_000).unwrap();
        let labels = ["a", "b"].map(|id| label(id, KnownTruth::Right(true)));
        assert_eq!(counts(&pages.join(&labels, 11_001).unwrap().1), [1, 1, 0]);
        pages.keep(&[], 30_000).unwrap();
        let Shelf::Memory(table) = &pages.shelf else {
            unreachable!("it was opened without a file")
        };
        assert_eq!(table.size(), (0, 0));
    }

    #[test]
    fn a_book_that_cannot_keep_up_drops_and_counts_and_its_file_goes_with_the_rollout() {
        let data = tempfile::tempdir().unwrap();
        let plan = FeedbackPlan {
            on_disk: true,
            ..FeedbackPlan::default()
        };
        let book = AnswerBook::open(data.path(), 3, plan).unwrap();
        let before = answers_dropped().get();
        let large = News::Answer {
            id_hash: 1,
            arm: Arm::Stable,
            body: vec![b'1'; ANSWER_BYTES_MAX + 1].into(),
        };
        assert_eq!(book.keep(vec![large], 0).len(), 0);
        assert!(answers_dropped().get() > before);
        assert_eq!(book.waiting.load(Ordering::Relaxed), 0);
        assert_eq!(book.keep(vec![request("a", Arm::Stable)], 0).len(), 0);
        let labels = vec![label("a", KnownTruth::Right(true))];
        let joined = book.join(labels, 0).unwrap().blocking_recv().unwrap();
        assert_eq!(counts(&joined.1), [1, 0, 0]);
        let file = answers_file(data.path(), 3);
        assert!(file.exists());
        book.end();
        // The thread ends when it has nothing more to do.
        while file.exists() {
            thread::yield_now();
        }
    }
}
