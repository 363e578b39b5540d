//! The journal: who asked for what, when, and what became of it.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use serde::{Deserialize, Serialize};

use crate::control::change::Change;
use crate::control::desired::Desired;
use crate::control::revision::Revision;
use crate::control::store::error::StoreError;
use crate::control::store::folder::DataFolder;
use crate::control::store::json::read;
use crate::control::store::schema::FILE;

/// The longest wait for a lock that SQLite takes for moments.
const LOCK_WAIT_MAX: Duration = Duration::from_millis(200);

/// One line of the journal: what was asked for or what became of it, when, by whom and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// Number of the line.
    pub seq: u64,
    /// The revision that it made or is about; none for models.
    pub revision: Option<Revision>,
    /// When.
    pub at: jiff::Timestamp,
    /// Who asked.
    pub by: String,
    /// The change, or `{"kind": "outcome", ..}`.
    pub change: serde_json::Value,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl JournalEntry {
    /// The change in one line: `update endpoint iris, traffic blue:90,green:10`, `register model digits:1`.
    #[must_use]
    pub fn what(&self) -> String {
        if let Ok(change) = Change::deserialize(&self.change) {
            return change.to_string();
        }
        let kind = self.change["kind"].as_str().unwrap_or_default();
        let kind = kind.replace('_', " ");
        let model = &self.change["model"];
        match (model["name"].as_str(), model["version"].as_str()) {
            (Some(name), Some(version)) => format!("{kind} {name}:{version}"),
            _ => kind,
        }
    }
}

/// A line that gets its number when it is written.
#[derive(Debug, Clone)]
pub(in crate::control) struct NewEntry {
    pub(in crate::control) revision: Option<Revision>,
    pub(in crate::control) by: String,
    pub(in crate::control) change: serde_json::Value,
    pub(in crate::control) why: Option<String>,
}

/// Reads the journal beside the thread that writes it.
#[derive(Debug, Clone)]
pub(in crate::control) struct JournalReader {
    file: PathBuf,
}

impl JournalReader {
    pub(in crate::control) fn new(folder: &DataFolder) -> Self {
        Self {
            file: folder.path().join(FILE),
        }
    }

    /// The last lines of the journal, oldest first. Blocks.
    pub(in crate::control) fn last(&self, last: usize) -> Result<Vec<JournalEntry>, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(&self.file, flags)?;
        // Whoever holds a lock for longer has the database for itself; see `ControllerHandle::journal`.
        db.busy_timeout(LOCK_WAIT_MAX)?;
        journal(&db, last)
    }

    /// The states of these revisions, as far as they are kept. Blocks.
    pub(in crate::control) fn states(
        &self,
        revisions: RangeInclusive<Revision>,
    ) -> Result<BTreeMap<Revision, Desired>, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(&self.file, flags)?;
        db.busy_timeout(LOCK_WAIT_MAX)?;
        states(&db, revisions)
    }
}

/// The states of these revisions, as far as they are kept.
pub(super) fn states(
    db: &Connection,
    revisions: RangeInclusive<Revision>,
) -> Result<BTreeMap<Revision, Desired>, StoreError> {
    let mut query =
        db.prepare("SELECT revision, desired FROM revisions WHERE revision BETWEEN ?1 AND ?2")?;
    let (Revision(first), Revision(last)) = (*revisions.start(), *revisions.end());
    // What is greater than any that there can be is none.
    let bound = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let rows = query.query_map([bound(first), bound(last)], |row| {
        Ok((row.get(0)?, row.get::<_, String>(1)?))
    })?;
    rows.map(|row| {
        let (revision, text) = row?;
        Ok((Revision(revision), read("state", &text)?))
    })
    .collect()
}

pub(super) fn journal(db: &Connection, last: usize) -> Result<Vec<JournalEntry>, StoreError> {
    let last = i64::try_from(last).unwrap_or(i64::MAX);
    let mut query = db.prepare(
        "SELECT seq, revision, at, by, change, why FROM journal ORDER BY seq DESC LIMIT ?1",
    )?;
    let mut rows = query.query([last])?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        let (at, change): (String, String) = (row.get(2)?, row.get(4)?);
        entries.push(JournalEntry {
            seq: row.get(0)?,
            revision: row.get::<_, Option<u64>>(1)?.map(Revision),
            at: read("time", &serde_json::Value::from(at).to_string())?,
            by: row.get(3)?,
            change: read("change", &change)?,
            why: row.get(5)?,
        });
    }
    entries.reverse();
    Ok(entries)
}
