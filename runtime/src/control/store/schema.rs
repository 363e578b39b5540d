//! The tables of the database, and their version.

use crate::config::JOURNAL_KEPT;

/// Version of the tables below, kept in `user_version`. 1 had desired states of the first format, and a journal without a bound; 2
/// had no isolated models; 3 had no guard; 4 had no rollouts.
pub(super) const SCHEMA: i64 = 5;

/// The tables, and views of them for people.
pub(super) const TABLES: &str = "
CREATE TABLE revisions (revision INTEGER PRIMARY KEY, at TEXT NOT NULL, desired TEXT NOT NULL);
CREATE TABLE operations (id INTEGER PRIMARY KEY, operation TEXT NOT NULL);
CREATE TABLE models (name TEXT NOT NULL, version TEXT NOT NULL, record TEXT NOT NULL, PRIMARY KEY (name, version));
CREATE TABLE probes (digest TEXT NOT NULL, onnx_runtime TEXT NOT NULL, PRIMARY KEY (digest, onnx_runtime));
CREATE TABLE journal (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, revision INTEGER, at TEXT NOT NULL, by TEXT NOT NULL, change TEXT NOT NULL, why TEXT
);
CREATE TRIGGER journal_keeps_words BEFORE UPDATE ON journal BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE VIEW endpoints AS
    SELECT e.key AS name, json_extract(e.value, '$.spec') AS spec
    FROM revisions, json_each(desired, '$.endpoints') e
    WHERE revision = (SELECT max(revision) FROM revisions);
CREATE VIEW deployments AS
    SELECT e.key AS endpoint, d.key AS name, json_extract(d.value, '$.spec') AS spec,
        json_extract(d.value, '$.model.digest') AS model_digest
    FROM revisions, json_each(desired, '$.endpoints') e, json_each(e.value, '$.deployments') d
    WHERE revision = (SELECT max(revision) FROM revisions);
";

/// What came with the third schema.
pub(super) const TABLES_OF_3: &str =
    "CREATE TABLE isolated (digest TEXT PRIMARY KEY, reason TEXT NOT NULL);";

/// What came with the fourth schema: who this database is, how often it was written, and checksums of what is served by.
pub(super) const TABLES_OF_4: &str = "CREATE TABLE guard (store TEXT NOT NULL, commits INTEGER NOT NULL, seal TEXT NOT NULL, secret TEXT);";

/// What came with the fifth schema: rollouts, all that happened to each, and their journals. They have a bound of their own, so they are
/// not in the seal.
pub(super) const TABLES_OF_5: &str = "
CREATE TABLE rollouts (
    id INTEGER PRIMARY KEY AUTOINCREMENT, plan TEXT NOT NULL, ended TEXT, base TEXT, base_entries INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE rollout_inputs (
    rollout INTEGER NOT NULL, no INTEGER NOT NULL, at_ms INTEGER NOT NULL, kind TEXT NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (rollout, no)
) WITHOUT ROWID;
CREATE TABLE rollout_entries (rollout INTEGER NOT NULL, no INTEGER NOT NULL, entry TEXT NOT NULL, PRIMARY KEY (rollout, no)) WITHOUT ROWID;
";

/// The first schema with a guard, and so with a mark beside the database.
pub(super) const SCHEMA_OF_GUARD: i64 = 4;

/// The name of the database in the data folder.
pub(super) const FILE: &str = "serin.db";

/// The last lines of the journal stay, whoever opens the file; only older ones may go.
pub(super) fn journal_guard() -> String {
    format!(
        "DROP TRIGGER IF EXISTS journal_keeps_lines;
         CREATE TRIGGER journal_keeps_lines BEFORE DELETE ON journal
         WHEN old.seq > (SELECT max(seq) FROM journal) - {JOURNAL_KEPT}
         BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;"
    )
}
