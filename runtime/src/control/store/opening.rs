//! The start of a store: made, brought up to date, and found to have all that was accepted.
//!
//! Threads: the caller's; everything blocks. Not here: what is compared (`guard`), what is read and written then (`database`).

use std::path::Path;

use rusqlite::{Connection, ErrorCode};
use serde_json::json;

use crate::control::migration;
use crate::control::store::database::{Store, Sync, put_desired};
use crate::control::store::error::StoreError;
use crate::control::store::folder::DataFolder;
use crate::control::store::guard;
use crate::control::store::journal::NewEntry;
use crate::control::store::loss::{self, OnLoss};
use crate::control::store::mark::FoundMark;
use crate::control::store::schema::{
    FILE, SCHEMA, SCHEMA_OF_GUARD, TABLES, TABLES_OF_3, TABLES_OF_4, TABLES_OF_5, journal_guard,
};

impl Store {
    /// Opens `serin.db` of the folder, or makes it.
    ///
    /// # Errors
    ///
    /// [`StoreError`], with [`StoreError::Lost`] and [`StoreError::Damaged`] where there is less than was accepted, unless a person
    /// has said that this is to be accepted.
    pub(in crate::control) fn open(
        folder: &DataFolder,
        on_loss: OnLoss,
    ) -> Result<Self, StoreError> {
        let path = folder.path();
        match Self::open_whole(path) {
            Err(loss) if on_loss == OnLoss::Accept && loss.is_loss() => {
                Self::open_what_is_left(path, &loss)
            }
            opened => opened,
        }
    }

    fn open_whole(path: &Path) -> Result<Self, StoreError> {
        let found = FoundMark::in_folder(path).map_err(|source| StoreError::Folder {
            path: path.to_owned(),
            source,
        })?;
        guard::require_database(path, &found)?;
        let mut store = Self::connect(path)?;
        let version = store.version()?;
        if version == 0 {
            guard::require_new(path, &found, "a database without tables")?;
        } else {
            guard::check_structure(&store.db)?;
        }
        if version < SCHEMA_OF_GUARD
            && let FoundMark::Is(accepted) = &found
        {
            return Err(guard::lost(
                path,
                accepted,
                "a database of an earlier release",
            ));
        }
        store.bring_up_to_date(version)?;
        let mark = guard::check(&store.db, path, &found)?;
        // A server that was killed at its first start has not come as far as to write one.
        if version >= SCHEMA_OF_GUARD && mark.commits > 1 && !matches!(found, FoundMark::Is(_)) {
            tracing::warn!(
                folder = ?path, revision = mark.revision,
                "serin.mark is missing or damaged: it is made anew; whether the database has everything that was accepted cannot be told"
            );
        }
        store.checkpoint();
        store.raise(&mark);
        Ok(store)
    }

    /// Goes on with the database as it stands, or with a new one where it cannot be read. All that was there is kept aside.
    fn open_what_is_left(path: &Path, loss: &StoreError) -> Result<Self, StoreError> {
        let aside = loss::folder_aside(path)?;
        loss::keep_aside(path, &aside)?;
        let mut store = match Self::open_as_it_stands(path) {
            Ok(store) => store,
            Err(error) => {
                tracing::warn!(%error, "the database cannot be read: a new one is begun");
                loss::remove_database(path)?;
                Self::open_as_it_stands(path)?
            }
        };
        store.note_loss(&loss.to_string(), &aside)?;
        Ok(store)
    }

    fn open_as_it_stands(path: &Path) -> Result<Self, StoreError> {
        let mut store = Self::connect(path)?;
        let version = store.version()?;
        if version > 0 {
            guard::check_structure(&store.db)?;
        }
        store.bring_up_to_date(version)?;
        store.load("")?;
        Ok(store)
    }

    /// Notes in the journal that a person has accepted a loss.
    pub(in crate::control) fn note_loss(
        &mut self,
        why: &str,
        aside: &Path,
    ) -> Result<(), StoreError> {
        tracing::warn!(loss = why, kept_in = ?aside, "a loss was accepted");
        self.append(&NewEntry {
            revision: None,
            by: "serin".to_owned(),
            change: json!({ "kind": "accept_loss", "kept_in": aside }),
            why: Some(why.to_owned()),
        })
    }

    /// The database, in a state in which it can be read.
    fn connect(path: &Path) -> Result<Self, StoreError> {
        let file = path.join(FILE);
        let opened = Connection::open(&file).and_then(|db| {
            begin_log(&db)?;
            Ok(db)
        });
        let db = match opened {
            Err(error) if is_about_room(&error) => {
                tracing::warn!(%error, "the disk has no room for what SQLite shares between processes: serin.db is this server's alone");
                let db = Connection::open(&file)?;
                db.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
                begin_log(&db)?;
                db
            }
            opened => opened?,
        };
        db.pragma_update(None, "synchronous", Sync::Full.pragma())?;
        Ok(Self::new(db, path))
    }

    fn version(&self) -> Result<i64, StoreError> {
        let found = self
            .db
            .pragma_query_value(None, "user_version", |row| row.get(0))?;
        if found > SCHEMA {
            return Err(StoreError::Newer {
                path: self.folder.clone(),
                found,
            });
        }
        Ok(found)
    }

    /// Makes the tables that a database of an earlier release, or a new one, does not have.
    fn bring_up_to_date(&mut self, found: i64) -> Result<(), StoreError> {
        if found == SCHEMA {
            return Ok(());
        }
        let migrated = if found == 1 {
            migration::to_format_2(self.history()?, &self.operations()?)
        } else {
            None
        };
        let transaction = self.db.transaction()?;
        if found == 0 {
            transaction.execute_batch(TABLES)?;
        }
        if found < 3 {
            transaction.execute_batch(TABLES_OF_3)?;
        }
        if found < SCHEMA_OF_GUARD {
            transaction.execute_batch(TABLES_OF_4)?;
        }
        transaction.execute_batch(TABLES_OF_5)?;
        transaction.execute_batch(&journal_guard())?;
        if let Some((revision, desired)) = migrated {
            put_desired(&transaction, revision, &desired)?;
        }
        if found < SCHEMA_OF_GUARD {
            guard::begin(&transaction)?;
        }
        guard::advance(&transaction)?;
        transaction.pragma_update(None, "user_version", SCHEMA)?;
        Ok(transaction.commit()?)
    }
}

/// Has changes go to a log first, and reads once: with this all files are there that SQLite needs.
fn begin_log(db: &Connection) -> rusqlite::Result<()> {
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
}

fn is_about_room(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure | ErrorCode::CannotOpen)
    )
}
