//! The guard: whether the data folder has all that was accepted.
//!
//! Every durable transaction adds one to a number in the database and seals what is served: a checksum of the newest state, the
//! models, those that are isolated, and the operations. A start compares the number with the mark beside the database, and the
//! seal with what it finds. SQLite has no checksums of its own: a bit that flips inside of a text would be read as it stands.
//!
//! Not in the seal: older states and lines of the journal, which nothing is served by.
//!
//! Threads: that of the store. Not here: what a person may decide then (`loss`).

use std::fs;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, params};
use sha2::{Digest as _, Sha256};

use crate::control::store::error::StoreError;
use crate::control::store::mark::{FoundMark, Mark, hex};
use crate::control::store::schema::FILE;

/// The tables that are served by, each in an order that is always the same.
const SEALED: [&str; 4] = [
    "SELECT revision || ' ' || desired FROM revisions ORDER BY revision DESC LIMIT 1",
    "SELECT name || ' ' || version || ' ' || record FROM models ORDER BY name, version",
    "SELECT digest || ' ' || reason FROM isolated ORDER BY digest",
    "SELECT id || ' ' || operation FROM operations ORDER BY id",
];

/// Counts a transaction, seals what it leaves, and says what the mark will be when it is committed.
pub(super) fn advance(db: &Connection) -> Result<Mark, StoreError> {
    db.execute(
        "UPDATE guard SET commits = commits + 1, seal = ?1",
        [seal(db)?],
    )?;
    mark(db)
}

/// Makes a database known by a number that nobody else draws.
pub(super) fn begin(db: &Connection) -> Result<(), StoreError> {
    let mut store = [0; 16];
    getrandom::fill(&mut store).expect("the system has random numbers");
    let store = hex(Sha256::new().chain_update(store));
    db.execute(
        "INSERT INTO guard (store, commits, seal) VALUES (?1, 0, '')",
        [store],
    )?;
    Ok(())
}

/// What the database has, in the form of the mark.
pub(super) fn mark(db: &Connection) -> Result<Mark, StoreError> {
    let query =
        "SELECT store, commits, (SELECT ifnull(max(revision), 0) FROM revisions) FROM guard";
    Ok(db.query_row(query, params![], |row| {
        Ok(Mark {
            store: row.get(0)?,
            commits: row.get(1)?,
            revision: row.get(2)?,
        })
    })?)
}

fn seal(db: &Connection) -> Result<String, StoreError> {
    let mut hash = Sha256::new();
    for sealed in SEALED {
        let mut query = db.prepare(sealed)?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let text: String = row.get(0)?;
            hash.update(text.len().to_le_bytes());
            hash.update(text);
        }
        // No text has this length.
        hash.update(usize::MAX.to_le_bytes());
    }
    Ok(hex(hash))
}

/// Checks the structure of the file.
///
/// # Errors
///
/// [`StoreError::Damaged`].
pub(super) fn check_structure(db: &Connection) -> Result<(), StoreError> {
    let found: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if found == "ok" {
        return Ok(());
    }
    Err(StoreError::Damaged(found))
}

/// Compares the database with its seal, and with the mark that was found beside it.
///
/// # Errors
///
/// [`StoreError::Lost`] where it is another one or has less, [`StoreError::Damaged`] where it is not what was sealed.
pub(super) fn check(db: &Connection, folder: &Path, found: &FoundMark) -> Result<Mark, StoreError> {
    let has = mark(db)?;
    if let FoundMark::Is(accepted) = found {
        if accepted.store != has.store {
            return Err(lost(folder, accepted, "the database of another server"));
        }
        if accepted.commits > has.commits {
            let found = format!("revision {} (commit {})", has.revision, has.commits);
            return Err(lost(folder, accepted, &found));
        }
    }
    let sealed: Option<String> = db
        .query_row("SELECT seal FROM guard", [], |row| row.get(0))
        .optional()?;
    if sealed != Some(seal(db)?) {
        let damage = "what is in it is not what was written: its seal is broken";
        return Err(StoreError::Damaged(damage.to_owned()));
    }
    Ok(has)
}

/// Refuses where there is no database, or one without tables, beside what only a server with one has made.
pub(super) fn require_database(folder: &Path, mark: &FoundMark) -> Result<(), StoreError> {
    let found = match fs::metadata(folder.join(FILE)) {
        Err(_) => "no serin.db",
        Ok(file) if file.len() == 0 => "an empty serin.db",
        Ok(_) => return Ok(()),
    };
    require_new(folder, mark, found)
}

/// Refuses to begin anew beside what only a server with a database has made.
pub(super) fn require_new(folder: &Path, mark: &FoundMark, found: &str) -> Result<(), StoreError> {
    if let FoundMark::Is(accepted) = mark {
        return Err(lost(folder, accepted, found));
    }
    let has = |name: &str| fs::symlink_metadata(folder.join(name)).is_ok();
    let models = fs::read_dir(folder.join("models/sha256"));
    let models = models.is_ok_and(|mut found| found.next().is_some());
    let beside = match (models, has("secret"), *mark == FoundMark::Damaged) {
        (true, _, _) => "models",
        (false, true, _) => "a secret",
        (false, false, true) => "a mark",
        (false, false, false) => return Ok(()),
    };
    Err(StoreError::Lost {
        path: folder.to_owned(),
        expected: format!("the database that was here, of which there is still {beside}"),
        found: found.to_owned(),
    })
}

/// The loss of what a mark tells of.
pub(super) fn lost(folder: &Path, accepted: &Mark, found: &str) -> StoreError {
    StoreError::Lost {
        path: folder.to_owned(),
        expected: format!(
            "revision {} (commit {})",
            accepted.revision, accepted.commits
        ),
        found: found.to_owned(),
    }
}
