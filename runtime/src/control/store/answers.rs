//! Answers that labels may come for, by the hash of the request's id, in a file beside the state.
//!
//! They are no part of the state: losing them loses labels that would have found them, and nothing else. So a file that is damaged is
//! begun anew, a crash of the process loses nothing, and one of the machine the last ones. That a label was used up is on disk before
//! anybody is told of it.
//!
//! Not here: what an answer is worth, and for how long they are kept; those in memory (`rollouts::answer_table`).

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OptionalExtension as _, Transaction, params};

use crate::canary::{Arm, Routing};
use crate::control::store::error::StoreError;

/// The folder of such files, in the data folder.
const FOLDER: &str = "feedback";
/// When there is no more room, so many are forgotten with each heap that comes, or twice as many as came.
const FORGOTTEN_MIN: usize = 1024;
/// The most that is kept of the log when it has been read back, in bytes.
const LOG_BYTES_KEPT: u64 = 16 << 20;

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

/// What is heard of a request at once.
#[derive(Debug, Default)]
pub(in crate::control) struct Heard {
    pub(in crate::control) id_hash: u64,
    /// It was answered, so many times: an id that comes twice is nobody's.
    pub(in crate::control) times: u32,
    /// How it came to its version.
    pub(in crate::control) came: Option<(Arm, Routing)>,
    /// The part of each version's answer that labels are compared with, as JSON.
    pub(in crate::control) stable: Option<String>,
    pub(in crate::control) canary: Option<String>,
}

#[cfg(test)]
impl Heard {
    /// A request that the stable version has answered once.
    pub(in crate::control) fn request(id_hash: u64) -> Self {
        Self {
            id_hash,
            times: 1,
            came: Some((Arm::Stable, Routing::Random { weight: 0.5 })),
            ..Self::default()
        }
    }
}

/// A request that a label may be of, with what both versions answered.
#[derive(Debug)]
pub(in crate::control) struct KeptAnswer {
    pub(in crate::control) arm: Arm,
    pub(in crate::control) routing: Routing,
    pub(in crate::control) stable: Option<String>,
    pub(in crate::control) canary: Option<String>,
}

/// The answers of one rollout.
#[derive(Debug)]
pub(in crate::control) struct AnswerStore {
    db: Connection,
    file: PathBuf,
    bytes_max: u64,
}

impl AnswerStore {
    /// The file of a rollout, which may be there; at most so many bytes.
    pub(in crate::control) fn open(path: &Path, bytes_max: u64) -> Result<Self, StoreError> {
        if let Some(folder) = path.parent() {
            let mut builder = fs::DirBuilder::new();
            let made = builder.recursive(true).mode(0o700).create(folder);
            made.map_err(|source| StoreError::Folder {
                path: folder.to_owned(),
                source,
            })?;
        }
        let opened = opened(path).or_else(|error| match is_damage(&error) {
            true => {
                tracing::warn!(%error, ?path, "the answers that were remembered cannot be read, and are begun anew");
                remove(path);
                opened(path)
            }
            false => Err(error),
        });
        Ok(Self {
            db: opened?,
            file: path.to_owned(),
            bytes_max,
        })
    }

    /// Remembers what is heard now, and forgets what was heard before `oldest_ms`, and the oldest where there is no more room.
    pub(in crate::control) fn keep(
        &mut self,
        heard: &[Heard],
        now_ms: i64,
        oldest_ms: i64,
    ) -> Result<(), StoreError> {
        let kept = self.put(heard, now_ms, oldest_ms);
        self.mended(kept)
    }

    /// Gives each request to `judge`, with its place in the list; none where nothing is known of it that was heard since `oldest_ms`. Where
    /// it says so, nothing more is said of that request.
    pub(in crate::control) fn use_up(
        &mut self,
        ids: &[u64],
        oldest_ms: i64,
        judge: impl FnMut(usize, Option<KeptAnswer>) -> bool,
    ) -> Result<(), StoreError> {
        let used = self.used_up(ids, oldest_ms, judge);
        self.mended(used)
    }

    fn used_up(
        &mut self,
        ids: &[u64],
        oldest_ms: i64,
        judge: impl FnMut(usize, Option<KeptAnswer>) -> bool,
    ) -> rusqlite::Result<()> {
        self.db.pragma_update(None, "synchronous", "FULL")?;
        let used = self.find(ids, oldest_ms, judge);
        self.db.pragma_update(None, "synchronous", "OFF")?;
        used
    }

    fn put(&mut self, heard: &[Heard], now_ms: i64, oldest_ms: i64) -> rusqlite::Result<()> {
        let transaction = self.db.transaction()?;
        put(&transaction, heard, now_ms)?;
        transaction.execute("DELETE FROM answers WHERE at_ms < ?1", [oldest_ms])?;
        if bytes(&transaction)? > self.bytes_max {
            transaction.execute(
                "DELETE FROM answers WHERE id IN (SELECT id FROM answers ORDER BY at_ms LIMIT ?1)",
                [FORGOTTEN_MIN.max(2 * heard.len())],
            )?;
        }
        transaction.commit()
    }

    fn find(
        &mut self,
        ids: &[u64],
        oldest_ms: i64,
        mut judge: impl FnMut(usize, Option<KeptAnswer>) -> bool,
    ) -> rusqlite::Result<()> {
        let transaction = self.db.transaction()?;
        let mut find = transaction.prepare(
            "SELECT arm, routing, stable, canary FROM answers WHERE id = ?1 AND state = 1 AND at_ms >= ?2",
        )?;
        let mut use_up = transaction.prepare("UPDATE answers SET state = 2 WHERE id = ?1")?;
        for (place, id_hash) in ids.iter().enumerate() {
            let key = key(*id_hash);
            let row = find.query_row(params![key, oldest_ms], |row| {
                let text = |at| row.get::<_, Option<String>>(at);
                Ok([text(0)?, text(1)?, text(2)?, text(3)?])
            });
            if judge(place, row.optional()?.and_then(kept)) {
                use_up.execute([key])?;
            }
        }
        drop((find, use_up));
        transaction.commit()
    }

    /// Begins a file anew that turns out to be damaged.
    fn mended<T>(&mut self, done: rusqlite::Result<T>) -> Result<T, StoreError> {
        let error = match done {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        if is_damage(&error) {
            // Closed first: that removes what stands beside the file, by its name.
            self.db = Connection::open_in_memory()?;
            remove(&self.file);
            self.db = opened(&self.file)?;
        }
        Err(error.into())
    }

    /// Requests that are remembered, and their bytes.
    #[cfg(test)]
    pub(in crate::control) fn size(&self) -> (u64, u64) {
        let count = "SELECT count(*) FROM answers";
        let count = self.db.query_row(count, [], |row| row.get(0)).unwrap();
        (count, bytes(&self.db).unwrap())
    }
}

fn opened(path: &Path) -> rusqlite::Result<Connection> {
    let db = Connection::open(path)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "OFF")?;
    db.pragma_update(None, "journal_size_limit", LOG_BYTES_KEPT)?;
    db.execute_batch(TABLES)?;
    Ok(db)
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}

/// The file of a rollout.
pub(in crate::control) fn answers_file(data: &Path, rollout: u64) -> PathBuf {
    data.join(FOLDER).join(format!("{rollout}.db"))
}

/// Removes the files of all rollouts but these.
pub(in crate::control) fn forget_answers(data: &Path, is_kept: impl Fn(u64) -> bool) {
    let Ok(files) = fs::read_dir(data.join(FOLDER)) else {
        return;
    };
    for file in files.flatten() {
        let name = file.file_name();
        let number = name.to_str().and_then(|name| name.split('.').next());
        let number = number.and_then(|number| number.parse().ok());
        if number.is_some_and(|number| !is_kept(number)) {
            remove(&file.path());
        }
    }
}

/// Removes a file, with those that SQLite has beside it.
pub(in crate::control) fn remove(file: &Path) {
    for ending in ["db", "db-wal", "db-shm"] {
        match fs::remove_file(file.with_extension(ending)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, path = ?file, "cannot remove answers that no label will find");
            }
            _ => {}
        }
    }
}

fn bytes(db: &Connection) -> rusqlite::Result<u64> {
    let of = |pragma: &str| db.pragma_query_value(None, pragma, |row| row.get::<_, u64>(0));
    Ok((of("page_count")? - of("freelist_count")?) * of("page_size")?)
}

/// The key of a request: SQLite has signed numbers.
fn key(id_hash: u64) -> i64 {
    id_hash.cast_signed()
}

fn put(db: &Transaction<'_>, heard: &[Heard], now_ms: i64) -> rusqlite::Result<()> {
    let mut put = db.prepare(
        "INSERT INTO answers (id, at_ms, state, arm, routing, stable, canary) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
        ON CONFLICT (id) DO UPDATE SET
            arm = coalesce(excluded.arm, arm), routing = coalesce(excluded.routing, routing),
            stable = coalesce(excluded.stable, stable), canary = coalesce(excluded.canary, canary),
            state = min(state + excluded.state, 2)",
    )?;
    for one in heard {
        let (arm, routing) = match &one.came {
            Some((arm, routing)) => (Some(json(arm)), Some(json(routing))),
            None => (None, None),
        };
        let (key, state) = (key(one.id_hash), one.times.min(2));
        put.execute(params![
            key, now_ms, state, arm, routing, one.stable, one.canary
        ])?;
    }
    Ok(())
}

fn json<T: serde::Serialize>(one: &T) -> String {
    serde_json::to_string(one).expect("has a JSON form")
}

fn kept([arm, routing, stable, canary]: [Option<String>; 4]) -> Option<KeptAnswer> {
    Some(KeptAnswer {
        arm: serde_json::from_str(arm.as_deref()?).ok()?,
        routing: serde_json::from_str(routing.as_deref()?).ok()?,
        stable,
        canary,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the request is known, and then used up.
    fn is_known(store: &mut AnswerStore, id_hash: u64) -> bool {
        let mut is_known = false;
        let judge = |_, kept: Option<KeptAnswer>| {
            is_known = kept.is_some();
            true
        };
        store.use_up(&[id_hash], 0, judge).unwrap();
        is_known
    }

    #[test]
    fn the_file_is_bounded_and_the_oldest_are_forgotten_first() {
        let data = tempfile::tempdir().unwrap();
        let mut store = AnswerStore::open(&answers_file(data.path(), 1), 1 << 20).unwrap();
        for heap in 0..200_u64 {
            let heard: Vec<_> = (1..=100)
                .map(|at| Heard::request(heap * 1000 + at))
                .collect();
            store.keep(&heard, heap.try_into().unwrap(), 0).unwrap();
        }
        assert!(store.size().1 <= (1 << 20) + (1 << 16));
        assert!(!is_known(&mut store, 1) && is_known(&mut store, 199_100));
    }

    #[test]
    fn a_file_is_found_again_and_a_damaged_one_is_begun_anew() {
        let data = tempfile::tempdir().unwrap();
        let path = answers_file(data.path(), 7);
        let open = || AnswerStore::open(&path, 1 << 20).unwrap();
        open().keep(&[Heard::request(1)], 0, 0).unwrap();
        assert!(is_known(&mut open(), 1));
        // Damaged before it is opened, and while it is open.
        fs::write(
            &path,
            "no database, and long enough to be taken for one".repeat(40),
        )
        .unwrap();
        let mut anew = open();
        assert!(!is_known(&mut anew, 1));
        drop(fs::remove_file(path.with_extension("db-wal")));
        let bytes = fs::metadata(&path).unwrap().len();
        fs::write(&path, vec![7; usize::try_from(bytes).unwrap()]).unwrap();
        if anew.keep(&[Heard::request(2)], 0, 0).is_err() {
            anew.keep(&[Heard::request(2)], 0, 0).unwrap();
        }
        assert!(is_known(&mut anew, 2));
        drop(anew);
        forget_answers(data.path(), |number| number == 7);
        assert!(path.exists());
        forget_answers(data.path(), |number| number == 8);
        assert_eq!(fs::read_dir(data.path().join(FOLDER)).unwrap().count(), 0);
    }
}
