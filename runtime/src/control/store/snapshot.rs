//! A copy of the database at one moment, whether a server has it open or not.
//!
//! Threads: the caller's, in any process; everything blocks. The server's own writes go on meanwhile.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use crate::control::models::ModelDigest;
use crate::control::store::database::Store;
use crate::control::store::error::StoreError;
use crate::control::store::guard;
use crate::control::store::mark::{FoundMark, MarkFile};
use crate::control::store::schema::{FILE, SCHEMA};

/// What a copy holds.
#[derive(Debug)]
pub(in crate::control) struct Snapshot {
    pub(in crate::control) revision: u64,
    pub(in crate::control) endpoints: usize,
    /// All that versions and deployments refer to.
    pub(in crate::control) models: BTreeSet<ModelDigest>,
    /// The fingerprint of the secret that belongs to it.
    pub(in crate::control) secret: Option<String>,
}

/// Copies the database of a data folder, and its mark, into another folder.
///
/// # Errors
///
/// [`StoreError`]; also where the database has less than was accepted.
pub(in crate::control) fn snapshot(data: &Path, to: &Path) -> Result<Snapshot, StoreError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| StoreError::Folder { path, source }
    };
    if !data.join(FILE).is_file() {
        return Err(StoreError::NoDatabase(data.to_owned()));
    }
    // Before the database: what is accepted meanwhile is more than this says.
    let found = FoundMark::in_folder(data).map_err(at(data))?;
    let copy = to.join(FILE);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let source = Connection::open_with_flags(data.join(FILE), flags)?;
    let name = copy
        .to_str()
        .ok_or_else(|| at(&copy)(io::Error::other("its path is no UTF-8")))?;
    source.execute("VACUUM INTO ?1", [name])?;
    let db = Connection::open(&copy)?;
    let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version != SCHEMA {
        return Err(StoreError::OtherRelease {
            path: data.to_owned(),
            found: version,
        });
    }
    guard::check_structure(&db)?;
    let mark = guard::check(&db, data, &found)?;
    MarkFile::begin(to, &mark).map_err(at(to))?;
    let store = Store::new(db, to);
    let loaded = store.load("")?;
    let secret = store.secret_fingerprint()?;
    drop(store);
    let synced = File::open(&copy).and_then(|file| file.sync_all());
    synced.map_err(at(&copy))?;
    let records = loaded.models.iter().map(|record| &record.digest);
    Ok(Snapshot {
        revision: loaded.revision.0,
        endpoints: loaded.desired.endpoints.len(),
        models: records.chain(loaded.desired.models()).cloned().collect(),
        secret,
    })
}
