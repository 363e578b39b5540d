//! The database: one SQLite file.
//!
//! A commit writes the whole desired state, the line of the journal and the operation in one transaction, so after a crash the
//! last accepted state is there, or the one before it, and nothing in between.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::de::DeserializeOwned;

use crate::config::{JOURNAL_KEPT, OPERATIONS_KEPT, REVISIONS_KEPT};
use crate::control::desired::Desired;
use crate::control::models::{ModelDigest, ModelRecord};
use crate::control::operation::{Operation, OperationId};
use crate::control::revision::Revision;
use crate::control::store::error::StoreError;
use crate::control::store::guard;
use crate::control::store::journal::{JournalEntry, NewEntry, journal, states};
use crate::control::store::json::{read, write};
use crate::control::store::mark::{Mark, MarkFile};

/// The longest wait for another program that has the database locked.
const BUSY_WAIT_MAX: Duration = Duration::from_secs(5);

/// The store. One per data folder.
#[derive(Debug)]
pub(in crate::control) struct Store {
    pub(super) db: Connection,
    pub(super) folder: PathBuf,
    /// None where it could not be written the last time.
    mark: Option<MarkFile>,
}

/// The content of the store at a start.
#[derive(Debug)]
pub(in crate::control) struct Loaded {
    pub(in crate::control) revision: Revision,
    pub(in crate::control) desired: Desired,
    pub(in crate::control) operations: Vec<Operation>,
    pub(in crate::control) models: Vec<ModelRecord>,
    /// Models that were tried with this ONNX Runtime.
    pub(in crate::control) probed: Vec<ModelDigest>,
    /// Models that have killed a server, and how.
    pub(in crate::control) isolated: BTreeMap<ModelDigest, String>,
}

impl Store {
    pub(super) fn new(db: Connection, folder: &Path) -> Self {
        Self {
            db,
            folder: folder.to_owned(),
            mark: None,
        }
    }

    /// The folder that it is in.
    pub(in crate::control) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Everything that the server needs to go on.
    pub(in crate::control) fn load(&self, onnx_runtime: &str) -> Result<Loaded, StoreError> {
        let newest = "SELECT revision, desired FROM revisions ORDER BY revision DESC LIMIT 1";
        let row = self
            .db
            .query_row(newest, [], |row| {
                Ok((row.get(0)?, row.get::<_, String>(1)?))
            })
            .optional()?;
        let (revision, desired) = match row {
            Some((revision, text)) => (Revision(revision), read("state", &text)?),
            None => (Revision(0), Desired::default()),
        };
        let probed = self.texts(
            "SELECT digest FROM probes WHERE onnx_runtime = ?1",
            onnx_runtime,
        )?;
        let probed = probed
            .into_iter()
            .map(|digest| serde_json::Value::from(digest).to_string());
        Ok(Loaded {
            revision,
            desired,
            operations: self.operations()?,
            models: self.records(
                "model",
                "SELECT record FROM models WHERE rowid >= ?1 ORDER BY rowid",
            )?,
            probed: probed
                .map(|digest| read("probe", &digest))
                .collect::<Result<_, _>>()?,
            isolated: self.isolated()?,
        })
    }

    fn isolated(&self) -> Result<BTreeMap<ModelDigest, String>, StoreError> {
        let mut query = self.db.prepare("SELECT digest, reason FROM isolated")?;
        let rows = query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
        let mut isolated = BTreeMap::new();
        for row in rows {
            let (digest, reason) = row?;
            // Nobody but this store writes there; what is no digest stands for no model.
            isolated.extend(ModelDigest::of_name(&digest).map(|digest| (digest, reason)));
        }
        Ok(isolated)
    }

    /// The state of one revision, where it is kept.
    pub(in crate::control) fn state_of(
        &self,
        revision: Revision,
    ) -> Result<Option<Desired>, StoreError> {
        Ok(states(&self.db, revision..=revision)?.remove(&revision))
    }

    /// The states that are kept, newest first.
    pub(super) fn history(&self) -> Result<Vec<(Revision, Desired)>, StoreError> {
        let mut query = self
            .db
            .prepare("SELECT revision, desired FROM revisions ORDER BY revision DESC")?;
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?;
        rows.map(|row| {
            let (revision, text) = row?;
            Ok((Revision(revision), read("state", &text)?))
        })
        .collect()
    }

    pub(super) fn operations(&self) -> Result<Vec<Operation>, StoreError> {
        self.records(
            "operation",
            "SELECT operation FROM operations WHERE id >= ?1 ORDER BY id",
        )
    }

    fn texts(
        &self,
        query: &str,
        argument: impl rusqlite::ToSql,
    ) -> Result<Vec<String>, StoreError> {
        let mut query = self.db.prepare(query)?;
        let rows = query.query_map([argument], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn records<T: DeserializeOwned>(
        &self,
        what: &'static str,
        query: &str,
    ) -> Result<Vec<T>, StoreError> {
        self.texts(query, 0)?
            .iter()
            .map(|text| read(what, text))
            .collect()
    }

    /// Makes a revision durable, with its journal line, its operation and those that it has overtaken. Returns when it is on
    /// disk.
    pub(in crate::control) fn commit(
        &mut self,
        desired: &Desired,
        (operation, overtaken): (&Operation, &[Operation]),
        entry: &NewEntry,
    ) -> Result<(), StoreError> {
        let text = write("state", desired)?;
        let revision = operation.revision.0;
        self.in_transaction(Sync::Full, |transaction| {
            let at = operation.started.to_string();
            transaction.execute(
                "INSERT INTO revisions VALUES (?1, ?2, ?3)",
                params![revision, at, text],
            )?;
            let oldest = revision.saturating_sub(REVISIONS_KEPT);
            transaction.execute("DELETE FROM revisions WHERE revision <= ?1", [oldest])?;
            for older in overtaken {
                put_operation(transaction, older)?;
            }
            put_operation(transaction, operation)?;
            append(transaction, entry)
        })
    }

    /// Makes durable what became of a revision: which of its deployments are good, whether its split is in force, and that its
    /// operation has `ended`. Returns when it is on disk.
    pub(in crate::control) fn settle(
        &mut self,
        revision: Revision,
        desired: &Desired,
        ended: Option<&Operation>,
    ) -> Result<(), StoreError> {
        self.in_transaction(Sync::Full, |transaction| {
            put_desired(transaction, revision, desired)?;
            ended.map_or(Ok(()), |operation| put_operation(transaction, operation))
        })
    }

    /// Notes how an operation ended.
    ///
    /// Not flushed to disk: what a power cut takes away, the recovery after it finds out again.
    pub(in crate::control) fn conclude(
        &mut self,
        operation: &Operation,
        entry: &NewEntry,
    ) -> Result<(), StoreError> {
        self.in_transaction(Sync::Later, |transaction| {
            put_operation(transaction, operation)?;
            append(transaction, entry)
        })
    }

    /// Adds a version of a model.
    pub(in crate::control) fn insert_model(
        &mut self,
        record: &ModelRecord,
        entry: &NewEntry,
    ) -> Result<(), StoreError> {
        let text = write("model", record)?;
        self.in_transaction(Sync::Full, |transaction| {
            let row = params![record.name.as_str(), record.version.as_str(), text];
            transaction.execute("INSERT INTO models VALUES (?1, ?2, ?3)", row)?;
            append(transaction, entry)
        })
    }

    /// Writes what is known of a version of a model anew.
    pub(in crate::control) fn update_model(
        &mut self,
        record: &ModelRecord,
        entry: &NewEntry,
    ) -> Result<(), StoreError> {
        let text = write("model", record)?;
        self.in_transaction(Sync::Full, |transaction| {
            let row = params![record.name.as_str(), record.version.as_str(), text];
            let update = "UPDATE models SET record = ?3 WHERE name = ?1 AND version = ?2";
            transaction.execute(update, row)?;
            append(transaction, entry)
        })
    }

    /// Forgets a version of a model.
    pub(in crate::control) fn delete_model(
        &mut self,
        record: &ModelRecord,
        entry: &NewEntry,
    ) -> Result<(), StoreError> {
        self.in_transaction(Sync::Full, |transaction| {
            let row = params![record.name.as_str(), record.version.as_str()];
            transaction.execute("DELETE FROM models WHERE name = ?1 AND version = ?2", row)?;
            append(transaction, entry)
        })
    }

    /// Remembers that a model loads and answers with this ONNX Runtime.
    pub(in crate::control) fn insert_probe(
        &self,
        digest: &ModelDigest,
        onnx_runtime: &str,
    ) -> Result<(), StoreError> {
        let row = params![digest.as_str(), onnx_runtime];
        self.db
            .execute("INSERT OR REPLACE INTO probes VALUES (?1, ?2)", row)?;
        Ok(())
    }

    /// Notes how the server before has died, and the models that are not to run within this one. Returns when it is on disk.
    pub(in crate::control) fn insert_death(
        &mut self,
        isolated: &BTreeMap<ModelDigest, String>,
        entry: &NewEntry,
    ) -> Result<(), StoreError> {
        self.in_transaction(Sync::Full, |transaction| {
            for (digest, reason) in isolated {
                let row = params![digest.as_str(), reason];
                transaction.execute("INSERT OR REPLACE INTO isolated VALUES (?1, ?2)", row)?;
            }
            append(transaction, entry)
        })
    }

    /// All or nothing: the transaction is rolled back when `work` or the commit fails.
    pub(super) fn in_transaction(
        &mut self,
        sync: Sync,
        work: impl FnOnce(&Transaction<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        // Set for each, never taken for what an earlier one has left: whether a commit is on disk must not depend on that.
        self.db.pragma_update(None, "synchronous", sync.pragma())?;
        let transaction = self.db.transaction()?;
        work(&transaction)?;
        let mark = guard::advance(&transaction)?;
        transaction.commit()?;
        if matches!(sync, Sync::Full) {
            self.raise(&mark);
        }
        Ok(())
    }

    /// Brings the log into the database, so that the database alone has everything.
    ///
    /// What cannot be done now, as where somebody reads or the disk is full, the next one does: the log has it as well.
    pub(super) fn checkpoint(&self) {
        // Nobody is waited for.
        drop(self.db.busy_timeout(Duration::ZERO));
        let done = self
            .db
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        drop(self.db.busy_timeout(BUSY_WAIT_MAX));
        if let Err(error) = done {
            tracing::debug!(%error, "the log of the database stays for now");
        }
    }

    /// Raises the mark to what is on disk by now.
    ///
    /// Where that fails the change is still accepted: it is on disk, only a loss of it would not be noticed.
    pub(super) fn raise(&mut self, mark: &Mark) {
        let raised = match &mut self.mark {
            Some(file) => file.write(mark),
            None => MarkFile::begin(&self.folder, mark).map(|file| self.mark = Some(file)),
        };
        if let Err(error) = raised {
            self.mark = None;
            tracing::warn!(%error, "cannot write serin.mark: were the newest changes to be lost, no start would notice");
        }
    }

    /// The fingerprint of the secret that belongs to this database, once it is known.
    pub(in crate::control) fn secret_fingerprint(&self) -> Result<Option<String>, StoreError> {
        let query = "SELECT secret FROM guard";
        Ok(self.db.query_row(query, [], |row| row.get(0))?)
    }

    /// Makes durable which secret belongs to this database.
    pub(in crate::control) fn put_secret_fingerprint(
        &mut self,
        fingerprint: &str,
    ) -> Result<(), StoreError> {
        self.in_transaction(Sync::Full, |transaction| {
            transaction.execute("UPDATE guard SET secret = ?1", [fingerprint])?;
            Ok(())
        })
    }

    /// Whether nothing was ever accepted.
    pub(in crate::control) fn is_new(&self) -> Result<bool, StoreError> {
        let query = "SELECT (SELECT count(*) FROM revisions) + (SELECT count(*) FROM models)";
        let rows: u64 = self.db.query_row(query, [], |row| row.get(0))?;
        Ok(rows == 0)
    }

    /// The last lines of the journal, oldest first.
    pub(in crate::control) fn journal(&self, last: usize) -> Result<Vec<JournalEntry>, StoreError> {
        journal(&self.db, last)
    }

    /// Adds a line to the journal. Returns when it is on disk.
    pub(super) fn append(&mut self, entry: &NewEntry) -> Result<(), StoreError> {
        self.in_transaction(Sync::Full, |transaction| append(transaction, entry))
    }
}

/// The time at which a transaction is on disk.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sync {
    /// When its commit returns.
    Full,
    /// Some time later, in order.
    Later,
}

impl Sync {
    pub(super) fn pragma(self) -> &'static str {
        match self {
            Self::Full => "FULL",
            Self::Later => "NORMAL",
        }
    }
}

pub(super) fn put_desired(
    transaction: &Transaction<'_>,
    revision: Revision,
    desired: &Desired,
) -> Result<(), StoreError> {
    transaction.execute(
        "UPDATE revisions SET desired = ?2 WHERE revision = ?1",
        params![revision.0, write("state", desired)?],
    )?;
    Ok(())
}

fn put_operation(transaction: &Transaction<'_>, operation: &Operation) -> Result<(), StoreError> {
    let OperationId(id) = operation.id;
    let row = params![id, write("operation", operation)?];
    transaction.execute("INSERT OR REPLACE INTO operations VALUES (?1, ?2)", row)?;
    transaction.execute(
        "DELETE FROM operations WHERE id <= ?1 AND json_extract(operation, '$.ended') IS NOT NULL",
        [id.saturating_sub(OPERATIONS_KEPT)],
    )?;
    Ok(())
}

fn append(transaction: &Transaction<'_>, entry: &NewEntry) -> Result<(), StoreError> {
    let revision = entry.revision.map(|revision| revision.0);
    let row = params![
        revision,
        jiff::Timestamp::now().to_string(),
        entry.by,
        entry.change.to_string(),
        entry.why
    ];
    transaction.execute(
        "INSERT INTO journal (revision, at, by, change, why) VALUES (?1, ?2, ?3, ?4, ?5)",
        row,
    )?;
    transaction.execute(
        "DELETE FROM journal WHERE seq <= (SELECT max(seq) FROM journal) - ?1",
        [JOURNAL_KEPT],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::control::desired::Generation;
    use crate::control::operation::ProvisioningState;
    use crate::control::store::folder::DataFolder;
    use crate::control::store::loss::OnLoss;
    use crate::control::store::schema::SCHEMA;
    use crate::control::{Change, KeyType};
    use crate::spec::EndpointSpec;

    fn open(path: &Path) -> Result<(DataFolder, Store), StoreError> {
        let folder = DataFolder::open(path)?;
        let store = Store::open(&folder, OnLoss::Refuse)?;
        Ok((folder, store))
    }

    /// The state after `revision` changes: as many endpoints.
    fn state(revision: u64) -> Desired {
        let mut desired = Desired::default();
        for number in 1..=revision {
            let spec = EndpointSpec::new(format!("iris-{number}").parse().expect("a name"));
            let generations = crate::control::desired::Generations {
                primary: Generation(number),
                secondary: Generation(number),
                token: Generation(number),
            };
            let endpoint = crate::control::desired::DesiredEndpoint {
                spec: spec.clone(),
                generations,
                deployments: BTreeMap::new(),
                pending: None,
                stamp: None,
                cohorts: None,
            };
            desired.endpoints.insert(spec.name, endpoint);
        }
        desired
    }

    fn operation(revision: u64) -> Operation {
        Operation {
            id: OperationId(revision),
            endpoint: "iris".parse().expect("a name"),
            deployments: Vec::new(),
            note: None,
            change: "change".to_owned(),
            revision: Revision(revision),
            provisioning_state: ProvisioningState::Updating,
            reason: None,
            started: jiff::Timestamp::UNIX_EPOCH,
            ended: None,
        }
    }

    fn entry(revision: u64) -> NewEntry {
        let change = Change::RegenerateKey {
            endpoint: "iris".parse().expect("a name"),
            key: KeyType::Primary,
        };
        NewEntry {
            revision: Some(Revision(revision)),
            by: "me".to_owned(),
            change: serde_json::to_value(change).expect("JSON"),
            why: None,
        }
    }

    fn commit(store: &mut Store, revision: u64) -> Result<(), StoreError> {
        store.commit(
            &state(revision),
            (&operation(revision), &[]),
            &entry(revision),
        )
    }

    #[track_caller]
    fn check_state(store: &Store, revision: u64) {
        let loaded = store.load("1").expect("loads");
        assert_eq!(
            (loaded.revision, loaded.desired),
            (Revision(revision), state(revision))
        );
        let last = loaded.operations.last().map_or(0, |one| one.revision.0);
        let line = journal(&store.db, 1)
            .expect("reads")
            .last()
            .and_then(|one| one.revision)
            .map_or(0, |one| one.0);
        assert_eq!(
            (last, line),
            (revision, revision),
            "state, operation and journal are of one revision"
        );
    }

    #[test]
    fn what_a_change_overtakes_and_what_fails_with_its_split_is_on_disk_with_it() {
        let data = tempfile::tempdir().expect("a folder");
        let (folder, mut store) = open(data.path()).expect("opens");
        commit(&mut store, 1).expect("stored");
        let older = Operation {
            reason: Some("operation 2 took its place".to_owned()),
            ..operation(1)
        };
        let overtaken = [older.clone()];
        store
            .commit(&state(2), (&operation(2), &overtaken), &entry(2))
            .expect("stored");
        let failed = Operation {
            provisioning_state: ProvisioningState::Failed,
            ..operation(2)
        };
        store
            .settle(Revision(2), &state(1), Some(&failed))
            .expect("stored");
        drop((store, folder));
        let (_folder, store) = open(data.path()).expect("opens again");
        let loaded = store.load("1").expect("loads");
        assert_eq!(loaded.operations, [older, failed]);
        assert_eq!(loaded.desired, state(1));
    }

    #[test]
    fn a_state_comes_back_with_its_operation_and_its_line_in_the_journal() {
        let data = tempfile::tempdir().expect("a folder");
        let (folder, mut store) = open(data.path()).expect("opens");
        check_state(&store, 0);
        for revision in 1..=3 {
            commit(&mut store, revision).expect("stored");
        }
        drop((store, folder));
        let (_folder, store) = open(data.path()).expect("opens again");
        check_state(&store, 3);
        let names = store
            .texts(
                "SELECT name FROM endpoints WHERE name > ?1 ORDER BY name",
                "",
            )
            .expect("a view for people");
        assert_eq!(names, ["iris-1", "iris-2", "iris-3"]);
    }

    /// Somebody who reads all the while: then the log stays.
    fn reader(folder: &DataFolder) -> Connection {
        let reader = Connection::open(folder.path().join("serin.db")).expect("opens");
        reader
            .execute_batch("BEGIN; SELECT count(*) FROM revisions;")
            .expect("reads");
        reader
    }

    /// A folder with these contents of the database, its log and the mark.
    fn folder_of(parts: [&[u8]; 3]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, content) in ["serin.db", "serin.db-wal", "serin.mark"].iter().zip(parts) {
            fs::write(folder.path().join(name), content).expect("written");
        }
        folder
    }

    /// The contents of the database, its log and the mark.
    fn parts_of(folder: &DataFolder) -> [Vec<u8>; 3] {
        ["serin.db", "serin.db-wal", "serin.mark"]
            .map(|name| fs::read(folder.path().join(name)).unwrap_or_default())
    }

    /// Goal: a kill at any moment of a commit leaves the state before it or after it, and one that was accepted is never missed
    /// in silence. Method: what SQLite has written so far is its write-ahead log, so every prefix of the log is a moment at which
    /// the process may have died; the mark is written after it.
    #[test]
    fn a_kill_at_any_byte_of_a_commit_leaves_the_old_state_or_the_new_one() {
        let data = tempfile::tempdir().expect("a folder");
        let (folder, mut store) = open(data.path()).expect("opens");
        let _reader = reader(&folder);
        for revision in 1..=6 {
            let [_, before, mark_before] = parts_of(&folder);
            commit(&mut store, revision).expect("stored");
            let [db, log, mark_after] = parts_of(&folder);
            assert!(log.len() > before.len(), "the log has it");
            // 4096 bytes a page and 24 bytes of header: steps of 509 meet every part of every frame.
            for len in (before.len()..log.len()).step_by(509).chain([log.len()]) {
                let crashed = folder_of([&db, &log[..len], &mark_before]);
                let (_folder, reopened) = open(crashed.path()).expect("opens after a crash");
                let found = reopened.load("1").expect("loads").revision.0;
                assert!(
                    found == revision || (found + 1 == revision && len < log.len()),
                    "revision {found} of {revision} at {len}"
                );
                check_state(&reopened, found);
                // As accepted, and then the log was cut off.
                let damaged = folder_of([&db, &log[..len], &mark_after]);
                match open(damaged.path()) {
                    Ok((_folder, reopened)) => check_state(&reopened, revision),
                    Err(error) => assert!(error.is_loss() && len < log.len(), "{error}"),
                }
            }
        }
    }

    #[test]
    fn a_power_cut_while_the_log_is_brought_into_the_database_loses_nothing() {
        let data = tempfile::tempdir().expect("a folder");
        let (folder, mut store) = open(data.path()).expect("opens");
        let reader = reader(&folder);
        for revision in 1..=3 {
            commit(&mut store, revision).expect("stored");
        }
        let [before, log, mark] = parts_of(&folder);
        drop(reader);
        store.checkpoint();
        let [mut after, log_after, _] = parts_of(&folder);
        assert!(log_after.is_empty() && before != after);
        let whole = after.len();
        after.resize(whole.max(before.len()), 0);
        for cut in (0..=after.len()).step_by(1021) {
            let rest = before.get(cut..).unwrap_or_default();
            let torn = folder_of([&[&after[..cut], rest].concat(), &log, &mark]);
            let (_folder, reopened) = open(torn.path()).expect("opens");
            check_state(&reopened, 3);
        }
    }

    /// Every file as it was at every moment, beside the others as they were at others.
    #[test]
    fn a_database_older_than_its_mark_is_refused_and_a_newer_one_is_not() {
        let data = tempfile::tempdir().expect("a folder");
        let (folder, mut store) = open(data.path()).expect("opens");
        let mut moments = vec![parts_of(&folder)];
        for revision in 1..=4 {
            commit(&mut store, revision).expect("stored");
            store.checkpoint();
            moments.push(parts_of(&folder));
        }
        for (db, [content, _, _]) in moments.iter().enumerate() {
            for (mark, [_, _, marked]) in moments.iter().enumerate() {
                let mixed = folder_of([content, b"", marked]);
                match open(mixed.path()) {
                    Ok((_folder, store)) => {
                        assert!(db >= mark, "revision {db} passed for {mark}");
                        check_state(&store, db as u64);
                    }
                    Err(error) => {
                        assert!(db < mark, "{error}");
                        let words = error.to_string();
                        assert!(
                            words.contains(&format!("expected revision {mark} ")),
                            "{words}"
                        );
                        assert!(words.contains(&format!("found revision {db} ")), "{words}");
                    }
                }
            }
        }
        let other = tempfile::tempdir().expect("a folder");
        let (other, mut store) = open(other.path()).expect("opens");
        for revision in 1..=9 {
            commit(&mut store, revision).expect("stored");
        }
        store.checkpoint();
        let [db, _, _] = parts_of(&other);
        let mixed = folder_of([&db, b"", &moments[1][2]]);
        let error = open(mixed.path()).expect_err("another one").to_string();
        assert!(
            error.contains("found the database of another server"),
            "{error}"
        );
    }

    /// SQLite has no checksums: bits of texts flip unnoticed by it.
    #[test]
    fn a_flipped_bit_of_the_database_is_noticed_or_changes_nothing_that_is_served() {
        let data = tempfile::tempdir().expect("a folder");
        let (folder, mut store) = open(data.path()).expect("opens");
        for revision in 1..=3 {
            commit(&mut store, revision).expect("stored");
        }
        store.checkpoint();
        let [db, _, mark] = parts_of(&folder);
        let newest = db.windows(6).rposition(|found| found == b"iris-3");
        let served = newest.expect("the newest state is a text");
        let mut noticed = 0;
        for at in (0..db.len()).step_by(1021).chain([served + 5]) {
            let mut flipped = db.clone();
            flipped[at] ^= 1 << (at % 8);
            let damaged = folder_of([&flipped, b"", &mark]);
            match open(damaged.path()) {
                Ok((_folder, store)) => {
                    assert_eq!(store.load("1").expect("loads").desired, state(3));
                }
                Err(_) => noticed += 1,
            }
            assert!(
                noticed > 0 || at < served,
                "the name of an endpoint at {at}"
            );
        }
    }

    #[test]
    fn a_missing_or_empty_database_is_refused_beside_whatever_only_a_server_makes() {
        for beside in ["serin.mark", "secret", "models/sha256/a"] {
            for database in [None, Some("")] {
                let data = tempfile::tempdir().expect("a folder");
                let (folder, mut store) = open(data.path()).expect("opens");
                commit(&mut store, 1).expect("stored");
                drop((store, folder));
                let at = |name: &str| data.path().join(name);
                fs::create_dir_all(at("models/sha256/a")).expect("made");
                fs::write(at("secret"), "s").expect("written");
                fs::remove_file(at("serin.db")).expect("removed");
                if let Some(text) = database {
                    fs::write(at("serin.db"), text).expect("written");
                }
                for name in ["serin.mark", "secret"] {
                    if name != beside {
                        fs::remove_file(at(name)).expect("removed");
                    }
                }
                if beside != "models/sha256/a" {
                    fs::remove_dir(at("models/sha256/a")).expect("removed");
                }
                let error = open(data.path()).expect_err("lost").to_string();
                let found = database.map_or("found no serin.db", |_| "found an empty serin.db");
                assert!(error.contains(found), "{beside}: {error}");
            }
        }
    }

    #[test]
    fn an_accepted_loss_goes_on_with_what_can_be_read_and_keeps_the_rest() {
        for (damage, left) in [("older", 1), ("empty", 0), ("garbage", 0)] {
            let data = tempfile::tempdir().expect("a folder");
            let (folder, mut store) = open(data.path()).expect("opens");
            commit(&mut store, 1).expect("stored");
            store.checkpoint();
            let [older, _, _] = parts_of(&folder);
            commit(&mut store, 2).expect("stored");
            drop((store, folder));
            let damaged = match damage {
                "older" => older,
                "empty" => Vec::new(),
                _ => b"garbage".repeat(1000),
            };
            fs::write(data.path().join("serin.db"), &damaged).expect("written");
            let refused = open(data.path()).expect_err("less than was accepted");
            assert!(refused.is_loss(), "{damage}: {refused}");
            let folder = DataFolder::open(data.path()).expect("opens");
            let store = Store::open(&folder, OnLoss::Accept).expect("accepted");
            check_revision(&store, left);
            let line = journal(&store.db, 1).expect("read").remove(0);
            assert_eq!(line.change["kind"], "accept_loss");
            assert_eq!(line.why, Some(refused.to_string()));
            let aside = line.change["kept_in"].as_str().expect("a path").to_owned();
            let kept = fs::read(Path::new(&aside).join("serin.db")).expect("kept");
            assert_eq!(kept, damaged, "{damage}");
            drop((store, folder));
            let (_folder, store) = open(data.path()).expect("a whole one from then on");
            check_revision(&store, left);
        }
    }

    fn check_revision(store: &Store, revision: u64) {
        let loaded = store.load("1").expect("loads");
        assert_eq!(
            (loaded.revision.0, loaded.desired),
            (revision, state(revision))
        );
    }

    #[test]
    fn a_full_disk_refuses_the_commit_whole_and_the_store_works_on() {
        let data = tempfile::tempdir().expect("a folder");
        let (_folder, mut store) = open(data.path()).expect("opens");
        commit(&mut store, 1).expect("stored");
        let pages: i64 = store
            .db
            .pragma_query_value(None, "page_count", |row| row.get(0))
            .expect("read");
        let full = |store: &Store, pages: i64| {
            store
                .db
                .pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
                .expect("set");
        };
        full(&store, pages);
        let error = store
            .commit(&state(200), (&operation(2), &[]), &entry(2))
            .expect_err("no room");
        assert_eq!(error.to_string(), "the disk is full");
        check_state(&store, 1);
        full(&store, 1_000_000);
        commit(&mut store, 2).expect("stored");
        check_state(&store, 2);
    }

    #[test]
    fn a_folder_in_use_is_refused_with_the_process_that_has_it() {
        let data = tempfile::tempdir().expect("a folder");
        let _first = DataFolder::open(data.path()).expect("opens");
        let error = DataFolder::open(data.path())
            .expect_err("locked")
            .to_string();
        let (path, pid) = (data.path(), std::process::id());
        assert_eq!(
            error,
            format!(
                "data folder {path:?} is in use by another server (pid {pid}); stop it, or choose another folder with --data"
            )
        );
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_refused() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let path = file.path().join("data");
        let error = DataFolder::open(&path)
            .expect_err("under a file")
            .to_string();
        assert_eq!(
            error,
            format!(
                "cannot use data folder {path:?}: Not a directory (os error 20); choose another with --data"
            )
        );
    }

    #[test]
    fn the_folder_is_made_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let data = tempfile::tempdir().expect("a folder");
        let _folder = DataFolder::open(&data.path().join("a/b")).expect("made");
        let mode = fs::metadata(data.path().join("a/b"))
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn a_store_of_a_later_release_is_refused() {
        let data = tempfile::tempdir().expect("a folder");
        let (folder, store) = open(data.path()).expect("opens");
        store
            .db
            .pragma_update(None, "user_version", SCHEMA + 1)
            .expect("set");
        drop((store, folder));
        let error = open(data.path()).expect_err("too new").to_string();
        let path = data.path();
        assert_eq!(
            error,
            format!(
                "data folder {path:?} was written by a later release (schema 6, this one knows 5): use that release"
            )
        );
    }

    #[test]
    fn the_journal_is_append_only() {
        let data = tempfile::tempdir().expect("a folder");
        let (_folder, mut store) = open(data.path()).expect("opens");
        commit(&mut store, 1).expect("stored");
        for statement in ["DELETE FROM journal", "UPDATE journal SET by = 'you'"] {
            let error = store
                .db
                .execute(statement, [])
                .expect_err("refused")
                .to_string();
            assert_eq!(error, "the journal is append-only");
        }
    }

    #[test]
    fn old_revisions_and_operations_make_room_for_new_ones() {
        let data = tempfile::tempdir().expect("a folder");
        let (_folder, mut store) = open(data.path()).expect("opens");
        store
            .db
            .pragma_update(None, "synchronous", "OFF")
            .expect("set");
        for revision in 1..=REVISIONS_KEPT + 3 {
            store
                .commit(
                    &Desired::default(),
                    (&operation(revision), &[]),
                    &entry(revision),
                )
                .expect("stored");
        }
        let kept: u64 = store
            .db
            .query_row("SELECT count(*) FROM revisions", [], |row| row.get(0))
            .expect("read");
        assert_eq!(kept, REVISIONS_KEPT);
    }

    #[test]
    fn an_operation_that_has_not_ended_is_kept_however_many_come_after_it() {
        let data = tempfile::tempdir().expect("a folder");
        let (_folder, mut store) = open(data.path()).expect("opens");
        commit(&mut store, 1).expect("stored");
        let mut ended = operation(2);
        ended.ended = Some(jiff::Timestamp::UNIX_EPOCH);
        store
            .commit(&state(2), (&ended, &[]), &entry(2))
            .expect("stored");
        let late = OPERATIONS_KEPT + 10;
        store
            .commit(&state(3), (&operation(late), &[]), &entry(late))
            .expect("stored");
        let kept: Vec<_> = store
            .operations()
            .expect("read")
            .iter()
            .map(|one| one.id.0)
            .collect();
        assert_eq!(kept, [1, late]);
    }

    #[test]
    fn the_journal_has_a_bound_and_the_oldest_lines_make_room() {
        let data = tempfile::tempdir().expect("a folder");
        let (_folder, mut store) = open(data.path()).expect("opens");
        store
            .db
            .execute(
                "WITH RECURSIVE line(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM line WHERE n < ?1)
                 INSERT INTO journal (at, by, change) SELECT '1970-01-01T00:00:00Z', 'me', '{}' FROM line",
                [JOURNAL_KEPT],
            )
            .expect("filled");
        commit(&mut store, 1).expect("stored");
        let (count, first): (u64, u64) = store
            .db
            .query_row("SELECT count(*), min(seq) FROM journal", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .expect("read");
        assert_eq!((count, first), (JOURNAL_KEPT, 2));
    }

    #[test]
    fn a_store_of_the_first_schema_is_migrated_once() {
        let data = tempfile::tempdir().expect("a folder");
        let (folder, mut store) = open(data.path()).expect("opens");
        commit(&mut store, 1).expect("stored");
        store
            .db
            .execute_batch(
                "UPDATE revisions SET desired = json_remove(desired, '$.format'); PRAGMA user_version = 1;
                 DROP TRIGGER journal_keeps_lines; DROP TABLE isolated; DROP TABLE guard; DROP TABLE rollouts;
                 DROP TABLE rollout_inputs; DROP TABLE rollout_entries;",
            )
            .expect("as the first release wrote it");
        fs::remove_file(data.path().join("serin.mark")).expect("there");
        drop((store, folder));
        let (_folder, store) = open(data.path()).expect("opens and migrates");
        check_state(&store, 1);
        let version: i64 = store
            .db
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .expect("read");
        assert_eq!(version, SCHEMA);
        store
            .db
            .execute("DELETE FROM journal", [])
            .expect_err("the last lines are guarded again");
    }

    #[test]
    fn a_store_with_a_mark_and_without_rollouts_gets_room_for_them_and_loses_nothing() {
        let data = tempfile::tempdir().expect("a folder");
        let (folder, mut store) = open(data.path()).expect("opens");
        commit(&mut store, 1).expect("stored");
        store
            .db
            .execute_batch(
                "DROP TABLE rollouts; DROP TABLE rollout_inputs; DROP TABLE rollout_entries; PRAGMA user_version = 4;",
            )
            .expect("as the release before wrote it");
        drop((store, folder));
        assert!(data.path().join("serin.mark").exists());
        let (_folder, store) = open(data.path()).expect("opens and migrates");
        check_state(&store, 1);
        assert_eq!(store.rollouts().expect("there is a table"), []);
    }

    #[test]
    fn a_store_of_the_second_schema_gets_room_for_isolated_models_and_keeps_its_state() {
        let data = tempfile::tempdir().expect("a folder");
        let (folder, mut store) = open(data.path()).expect("opens");
        commit(&mut store, 1).expect("stored");
        store
            .db
            .execute_batch("DROP TABLE isolated; DROP TABLE guard; DROP TABLE rollouts; DROP TABLE rollout_inputs;
                 DROP TABLE rollout_entries; PRAGMA user_version = 2;")
            .expect("as the release before wrote it");
        fs::remove_file(data.path().join("serin.mark")).expect("there");
        drop((store, folder));
        let (folder, mut store) = open(data.path()).expect("opens and migrates");
        check_state(&store, 1);
        let digest = ModelDigest::of_name(&"a".repeat(64)).expect("a digest");
        let isolated = BTreeMap::from([(digest, "it killed".to_owned())]);
        store
            .insert_death(&isolated, &entry(1))
            .expect("there is a table");
        drop((store, folder));
        let (_folder, store) = open(data.path()).expect("opens again");
        assert_eq!(store.load("1").expect("loads").isolated, isolated);
    }

    #[test]
    fn a_commit_is_flushed_whatever_was_set_before_it() {
        let data = tempfile::tempdir().expect("a folder");
        let (_folder, mut store) = open(data.path()).expect("opens");
        store
            .db
            .pragma_update(None, "synchronous", "OFF")
            .expect("set");
        commit(&mut store, 1).expect("stored");
        let synchronous: i64 = store
            .db
            .pragma_query_value(None, "synchronous", |row| row.get(0))
            .expect("read");
        assert_eq!(synchronous, 2, "full");
    }
}
