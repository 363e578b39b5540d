//! The answers that a rollout remembers, so that labels which come later find them: in memory, or in a file of the data folder that a
//! restart finds again.
//!
//! A request counts once: its id is known with its first answer, and where the same id comes again, or has had a label, nothing more is said
//! of it. What is older than it is to be kept is forgotten, and the oldest where there is no more room. A label is used up before the rollout
//! is told of it, so that a crash in between loses it and no label counts twice.
//!
//! Threads: one of its own for each book, because lookups take a while; it ends with the book.
//! Not here: which requests are of the rollout (`evidence`), what an answer is worth (`canary::marking`).

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use bytes::Bytes;
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, Transaction, params};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::canary::{Arm, FeedbackPlan, Misfit, Routing, Truth, Worth, mark, marked_part};
use crate::config::{
    ANSWER_BYTES_MAX, FEEDBACK_DISK_BYTES_MAX, FEEDBACK_HEAPS_MAX, FEEDBACK_MEMORY_BYTES_MAX,
};
use crate::control::rollouts::desk::{KnownTruth, Label, Learned};
use crate::observe::answers_dropped;
use crate::spec::hash64;

/// The folder of such files, in the data folder.
const FOLDER: &str = "feedback";
/// When there is no more room, this part of what there is is forgotten.
const FORGOTTEN_PART: u64 = 8;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS answers (
    id INTEGER PRIMARY KEY,        -- a hash of the request's id
    at_ms INTEGER NOT NULL,        -- when it was heard of first
    state INTEGER NOT NULL,        -- 0: its answer is known before the request; 1: a label may come; 2: none any more
    routing TEXT,                  -- how it came to its arm
    arm TEXT,
    stable TEXT,                   -- the part of each answer that labels are compared with
    canary TEXT
);
CREATE INDEX IF NOT EXISTS answers_by_time ON answers (at_ms);
";

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
        let file = plan.on_disk.then(|| file_of(data, rollout));
        let pages = match &file {
            Some(file) => Pages::on_disk(file, plan)?,
            None => Pages::in_memory(plan).map_err(io::Error::other)?,
        };
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

    /// Remembers what is heard. What finds no room is counted and lost.
    pub(super) fn keep(&self, news: Vec<News>, now_ms: i64) {
        let (many, bytes) = (news.len() as u64, bytes_of(&news));
        // Relaxed: a sum and nothing else; the thread takes off what it is given here.
        let before = self.waiting.fetch_add(bytes, Ordering::Relaxed);
        let has_room = before.saturating_add(bytes) <= ANSWER_BYTES_MAX;
        if !has_room || self.jobs.try_send(Job::Keep(news, now_ms)).is_err() {
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
            answers_dropped().inc_by(many);
        }
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

/// Removes what was on disk of all rollouts but these.
pub(super) fn forget_all_but(data: &Path, kept: impl Fn(u64) -> bool) {
    let Ok(files) = fs::read_dir(data.join(FOLDER)) else {
        return;
    };
    for file in files.flatten() {
        let name = file.file_name();
        let number = name.to_str().and_then(|name| name.split('.').next());
        let number = number.and_then(|number| number.parse().ok());
        if number.is_some_and(|number| !kept(number)) {
            remove(&file.path());
        }
    }
}

/// Removes a file, with those that SQLite has beside it.
fn remove(file: &Path) {
    for ending in ["db", "db-wal", "db-shm"] {
        match fs::remove_file(file.with_extension(ending)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, path = ?file, "cannot remove answers that no label will find");
            }
            _ => {}
        }
    }
}

fn file_of(data: &Path, rollout: u64) -> PathBuf {
    data.join(FOLDER).join(format!("{rollout}.db"))
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
                    pages.mend(error);
                }
                is_failing = kept.is_err();
            }
            Job::Join(labels, now_ms, reply) => {
                let joined = pages.join(&labels, now_ms).unwrap_or_else(|error| {
                    tracing::warn!(%error, "labels cannot be joined with answers");
                    pages.mend(&error);
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

/// The tables.
#[derive(Debug)]
struct Pages {
    db: Connection,
    /// None in memory.
    file: Option<PathBuf>,
    plan: FeedbackPlan,
    bytes_max: u64,
}

impl Pages {
    fn in_memory(plan: FeedbackPlan) -> rusqlite::Result<Self> {
        Self::of(
            Connection::open_in_memory()?,
            plan,
            FEEDBACK_MEMORY_BYTES_MAX,
        )
    }

    /// A file that cannot be read is begun anew: its answers are lost, and nothing else.
    fn on_disk(path: &Path, plan: FeedbackPlan) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)?;
        }
        let open = |plan| {
            let db = Connection::open(path)?;
            Self::of(db, plan, FEEDBACK_DISK_BYTES_MAX)
        };
        let opened = open(plan.clone()).or_else(|error| {
            tracing::warn!(%error, ?path, "the answers that were remembered cannot be read, and are begun anew");
            remove(path);
            open(plan)
        });
        let file = Some(path.to_owned());
        let opened = opened.map(|pages| Self { file, ..pages });
        opened.map_err(io::Error::other)
    }

    /// Begins a file anew that turned out to be damaged: a machine that lost its power may leave one.
    fn mend(&mut self, error: &rusqlite::Error) {
        let is_damaged = matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        );
        if let Some(file) = self.file.clone().filter(|_| is_damaged) {
            remove(&file);
            match Self::on_disk(&file, self.plan.clone()) {
                Ok(anew) => *self = anew,
                Err(error) => tracing::warn!(%error, path = ?file, "answers cannot be begun anew"),
            }
        }
    }

    fn of(db: Connection, plan: FeedbackPlan, bytes_max: u64) -> rusqlite::Result<Self> {
        // A crash of the process loses nothing, one of the machine the last answers.
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "OFF")?;
        db.execute_batch(TABLES)?;
        Ok(Self {
            db,
            file: None,
            plan,
            bytes_max,
        })
    }

    fn keep(&mut self, news: &[News], now_ms: i64) -> rusqlite::Result<()> {
        let transaction = self.db.transaction()?;
        put(&transaction, news, now_ms, self.plan.answer.as_deref())?;
        let oldest_ms = oldest_ms(&self.plan, now_ms);
        transaction.execute("DELETE FROM answers WHERE at_ms < ?1", [oldest_ms])?;
        if bytes(&transaction)? > self.bytes_max {
            let all = "SELECT count(*) FROM answers";
            let all: u64 = transaction.query_row(all, [], |row| row.get(0))?;
            transaction.execute(
                "DELETE FROM answers WHERE id IN (SELECT id FROM answers ORDER BY at_ms LIMIT ?1)",
                [all / FORGOTTEN_PART + 1],
            )?;
        }
        transaction.commit()
    }

    fn join(&mut self, labels: &[Label], now_ms: i64) -> rusqlite::Result<Joined> {
        let oldest_ms = oldest_ms(&self.plan, now_ms);
        let transaction = self.db.transaction()?;
        let (mut truths, mut learned) = (Vec::new(), Learned::default());
        let mut find = transaction.prepare(
            "SELECT arm, routing, stable, canary FROM answers WHERE id = ?1 AND state = 1 AND at_ms >= ?2",
        )?;
        let mut use_up = transaction.prepare("UPDATE answers SET state = 2 WHERE id = ?1")?;
        for label in labels {
            let key = key(hash64(&[label.id.as_bytes()]));
            let row = find.query_row(params![key, oldest_ms], |row| {
                let text = |at| row.get::<_, Option<String>>(at);
                Ok([text(0)?, text(1)?, text(2)?, text(3)?])
            });
            let Some(kept) = row.optional()?.and_then(|columns| kept(&columns)) else {
                learned.unknown += 1;
                continue;
            };
            match truth_of(&kept, &label.truth, &self.plan) {
                Ok(truth) => {
                    truths.push(truth);
                    learned.joined += 1;
                    use_up.execute([key])?;
                }
                Err(misfit) => {
                    learned.misfits += 1;
                    let words = || format!("request {}: {misfit}", label.id);
                    learned.misfit.get_or_insert_with(words);
                }
            }
        }
        drop((find, use_up));
        transaction.commit()?;
        Ok((truths, learned))
    }
}

fn oldest_ms(plan: &FeedbackPlan, now_ms: i64) -> i64 {
    let keep_ms = i64::try_from(plan.keep_seconds.saturating_mul(1000)).unwrap_or(i64::MAX);
    now_ms.saturating_sub(keep_ms)
}

fn bytes(db: &Connection) -> rusqlite::Result<u64> {
    let of = |pragma: &str| db.pragma_query_value(None, pragma, |row| row.get::<_, u64>(0));
    Ok((of("page_count")? - of("freelist_count")?) * of("page_size")?)
}

/// The key of a request: SQLite has signed numbers.
fn key(id_hash: u64) -> i64 {
    id_hash.cast_signed()
}

fn put(
    db: &Transaction<'_>,
    news: &[News],
    now_ms: i64,
    pointer: Option<&str>,
) -> rusqlite::Result<()> {
    let mut request = db.prepare(
        "INSERT INTO answers (id, at_ms, state, arm, routing) VALUES (?1, ?2, 1, ?3, ?4)
        ON CONFLICT (id) DO UPDATE SET arm = excluded.arm, routing = excluded.routing,
            state = CASE state WHEN 0 THEN 1 ELSE 2 END",
    )?;
    let answer = |column| {
        db.prepare(&format!(
            "INSERT INTO answers (id, at_ms, state, {column}) VALUES (?1, ?2, 0, ?3)
            ON CONFLICT (id) DO UPDATE SET {column} = excluded.{column}"
        ))
    };
    let (mut stable, mut canary) = (answer("stable")?, answer("canary")?);
    for one in news {
        match one {
            News::Request {
                id_hash,
                arm,
                routing,
            } => request.execute(params![key(*id_hash), now_ms, json(arm), json(routing)])?,
            News::Answer { id_hash, arm, body } => {
                let of_arm = match arm {
                    Arm::Stable => &mut stable,
                    Arm::Canary => &mut canary,
                };
                let part = marked_part(body, pointer);
                of_arm.execute(params![key(*id_hash), now_ms, part])?
            }
        };
    }
    Ok(())
}

fn json<T: serde::Serialize>(one: &T) -> String {
    serde_json::to_string(one).expect("has a JSON form")
}

/// A request that a label may be of.
struct Kept {
    arm: Arm,
    routing: Routing,
    stable: Option<Value>,
    canary: Option<Value>,
}

fn kept([arm, routing, stable, canary]: &[Option<String>; 4]) -> Option<Kept> {
    let answer = |text: &Option<String>| serde_json::from_str(text.as_deref()?).ok();
    Some(Kept {
        arm: serde_json::from_str(arm.as_deref()?).ok()?,
        routing: serde_json::from_str(routing.as_deref()?).ok()?,
        stable: answer(stable),
        canary: answer(canary),
    })
}

/// The truth about both answers where the label is one that both can be compared with, else about that which the client got.
fn truth_of(kept: &Kept, known: &KnownTruth, plan: &FeedbackPlan) -> Result<Truth, Misfit> {
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
    let worth = |answer: &Option<Value>| {
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
        Pages::in_memory(FeedbackPlan::default()).unwrap()
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
        let mut pages = Pages::in_memory(FeedbackPlan {
            answer: Some("/outputs/0/data".to_owned()),
            ..FeedbackPlan::default()
        })
        .unwrap();
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

    #[test]
    fn what_is_older_than_it_is_to_be_kept_is_forgotten() {
        let mut pages = Pages::in_memory(FeedbackPlan {
            keep_seconds: 10,
            ..FeedbackPlan::default()
        })
        .unwrap();
        pages.keep(&[request("a", Arm::Stable)], 1_000).unwrap();
        pages.keep(&[request("b", Arm::Stable)], 9_000).unwrap();
        let labels = ["a", "b"].map(|id| label(id, KnownTruth::Right(true)));
        assert_eq!(counts(&pages.join(&labels, 11_001).unwrap().1), [1, 1, 0]);
        pages.keep(&[], 30_000).unwrap();
        let left = "SELECT count(*) FROM answers";
        let left: u64 = pages.db.query_row(left, [], |row| row.get(0)).unwrap();
        assert_eq!(left, 0);
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_are_forgotten_first() {
        let mut pages = pages();
        pages.bytes_max = 1 << 20;
        for heap in 0..200_u32 {
            let ids: Vec<_> = (0..100).map(|at| format!("{heap} {at}")).collect();
            let news: Vec<_> = ids.iter().map(|id| request(id, Arm::Stable)).collect();
            pages.keep(&news, i64::from(heap)).unwrap();
        }
        assert!(bytes(&pages.db).unwrap() <= (1 << 20) + (1 << 16));
        let labels = ["0 0", "199 99"].map(|id| label(id, KnownTruth::Right(true)));
        assert_eq!(counts(&pages.join(&labels, 200).unwrap().1), [1, 1, 0]);
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
        book.keep(vec![large], 0);
        assert!(answers_dropped().get() > before);
        assert_eq!(book.waiting.load(Ordering::Relaxed), 0);
        book.keep(vec![request("a", Arm::Stable)], 0);
        let labels = vec![label("a", KnownTruth::Right(true))];
        let joined = book.join(labels, 0).unwrap().blocking_recv().unwrap();
        assert_eq!(counts(&joined.1), [1, 0, 0]);
        let file = file_of(data.path(), 3);
        assert!(file.exists());
        book.end();
        // The thread ends when it has nothing more to do.
        while file.exists() {
            thread::yield_now();
        }
    }

    #[test]
    fn a_file_is_found_again_and_a_damaged_one_is_begun_anew() {
        let data = tempfile::tempdir().unwrap();
        let plan = FeedbackPlan {
            on_disk: true,
            ..FeedbackPlan::default()
        };
        let path = file_of(data.path(), 7);
        let mut pages = Pages::on_disk(&path, plan.clone()).unwrap();
        pages.keep(&[request("a", Arm::Stable)], 0).unwrap();
        drop(pages);
        let labels = [label("a", KnownTruth::Right(true))];
        let mut again = Pages::on_disk(&path, plan.clone()).unwrap();
        assert_eq!(counts(&again.join(&labels, 0).unwrap().1), [1, 0, 0]);
        drop(again);
        fs::write(
            &path,
            "no database, and long enough to be taken for one".repeat(40),
        )
        .unwrap();
        let mut anew = Pages::on_disk(&path, plan).unwrap();
        assert_eq!(counts(&anew.join(&labels, 0).unwrap().1), [0, 1, 0]);
        forget_all_but(data.path(), |number| number == 7);
        assert!(path.exists());
        drop(anew);
        forget_all_but(data.path(), |number| number == 8);
        let left = fs::read_dir(data.path().join(FOLDER)).unwrap().count();
        assert_eq!(left, 0);
    }
}
