//! Rollouts in the store: what happened to each, in a form from which its state follows, and the journal of it.
//!
//! Requests are kept as bytes (some twenty each), everything else as JSON. Where a record has grown beyond [`ROLLOUT_RECORD_BYTES_MAX`], the
//! state takes the place of what came before.

use rusqlite::{OptionalExtension as _, Transaction, params};

use crate::canary::{Entry, Input, Observation, Rollout, RolloutPlan};
use crate::config::{ROLLOUT_RECORD_BYTES_MAX, ROLLOUTS_KEPT};
use crate::control::store::database::{Store, Sync};
use crate::control::store::error::StoreError;
use crate::control::store::json::{read, write};

/// The kind of an input whose body is bytes.
const OBSERVED: &str = "observed";

/// A rollout as the store knows it.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::control) struct StoredRollout {
    pub(in crate::control) id: u64,
    pub(in crate::control) plan: RolloutPlan,
    /// As it has ended; none while its state follows from its record alone.
    pub(in crate::control) ended: Option<Rollout>,
}

/// Something that has happened to a rollout, and what came of it.
#[derive(Debug, Clone)]
pub(in crate::control) struct Happened {
    pub(in crate::control) input: Input,
    pub(in crate::control) at_ms: i64,
    pub(in crate::control) entries: Vec<Entry>,
    /// Something is done on the strength of it, so it has to be on disk first.
    pub(in crate::control) decides: bool,
}

/// The record of a rollout.
#[derive(Debug, Clone)]
pub(in crate::control) struct Record {
    /// The state that the inputs are of; that of a new one where there is none.
    pub(in crate::control) base: Option<Rollout>,
    /// All that has happened since.
    pub(in crate::control) inputs: Vec<(Input, i64)>,
    /// The whole journal.
    pub(in crate::control) entries: Vec<Entry>,
    /// Lines of the journal that were there before the first input.
    pub(in crate::control) entries_of_base: usize,
}

impl Store {
    /// Adds a rollout with what has happened to it first, and gives its number.
    pub(in crate::control) fn begin_rollout(
        &mut self,
        plan: &RolloutPlan,
        first: &Happened,
    ) -> Result<u64, StoreError> {
        let text = write("rollout", plan)?;
        let mut id = 0;
        self.in_transaction(Sync::Full, |transaction| {
            transaction.execute("INSERT INTO rollouts (plan) VALUES (?1)", [text])?;
            id = u64::try_from(transaction.last_insert_rowid()).unwrap_or(0);
            put_happened(transaction, id, first)?;
            forget_old(transaction, id)
        })?;
        Ok(id)
    }

    /// Adds to the record of a rollout, which is in this state then. What decides something is on disk when this returns.
    pub(in crate::control) fn record(
        &mut self,
        id: u64,
        happened: &[Happened],
        state: &Rollout,
    ) -> Result<(), StoreError> {
        let has_ended = state.phase().has_ended();
        let decides = has_ended || happened.iter().any(|one| one.decides);
        let sync = if decides { Sync::Full } else { Sync::Later };
        self.in_transaction(sync, |transaction| {
            for one in happened {
                put_happened(transaction, id, one)?;
            }
            let ended = has_ended.then(|| write("rollout", state)).transpose()?;
            transaction.execute(
                "UPDATE rollouts SET ended = ?2 WHERE id = ?1",
                params![id, ended],
            )?;
            put_together(transaction, id, state)
        })
    }

    /// All rollouts, newest first.
    pub(in crate::control) fn rollouts(&self) -> Result<Vec<StoredRollout>, StoreError> {
        let query = "SELECT id, plan, ended FROM rollouts ORDER BY id DESC";
        let mut query = self.db.prepare(query)?;
        let mut rows = query.query([])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let (plan, ended): (String, Option<String>) = (row.get(1)?, row.get(2)?);
            found.push(StoredRollout {
                id: row.get(0)?,
                plan: read("rollout", &plan)?,
                ended: ended.map(|text| read("rollout", &text)).transpose()?,
            });
        }
        Ok(found)
    }

    /// The record of a rollout; none where there is no such.
    pub(in crate::control) fn rollout_record(&self, id: u64) -> Result<Option<Record>, StoreError> {
        let query = "SELECT base, base_entries FROM rollouts WHERE id = ?1";
        let base = self.db.query_row(query, [id], |row| {
            Ok((row.get::<_, Option<String>>(0)?, row.get::<_, usize>(1)?))
        });
        let Some((base, entries_of_base)) = base.optional()? else {
            return Ok(None);
        };
        Ok(Some(Record {
            base: base.map(|text| read("rollout", &text)).transpose()?,
            inputs: self.inputs_of(id)?,
            entries: self.entries_of(id)?,
            entries_of_base,
        }))
    }

    fn inputs_of(&self, id: u64) -> Result<Vec<(Input, i64)>, StoreError> {
        let query = "SELECT kind, body, at_ms FROM rollout_inputs WHERE rollout = ?1 ORDER BY no";
        let mut query = self.db.prepare(query)?;
        let mut rows = query.query([id])?;
        let mut inputs = Vec::new();
        while let Some(row) = rows.next()? {
            let (kind, body): (String, Vec<u8>) = (row.get(0)?, row.get(1)?);
            inputs.push((input_of(&kind, &body)?, row.get(2)?));
        }
        Ok(inputs)
    }

    fn entries_of(&self, id: u64) -> Result<Vec<Entry>, StoreError> {
        let query = "SELECT entry FROM rollout_entries WHERE rollout = ?1 ORDER BY no";
        let mut query = self.db.prepare(query)?;
        let rows = query.query_map([id], |row| row.get::<_, String>(0))?;
        rows.map(|text| read("line", &text?)).collect()
    }
}

/// Forgets the records of rollouts that are long over; their journals stay as long as others do.
fn forget_old(transaction: &Transaction<'_>, newest: u64) -> Result<(), StoreError> {
    let oldest = newest.saturating_sub(ROLLOUTS_KEPT);
    for forget in [
        "DELETE FROM rollout_inputs WHERE rollout <= ?1 AND rollout IN (SELECT id FROM rollouts WHERE ended IS NOT NULL)",
        "DELETE FROM rollout_entries WHERE rollout <= ?1 AND rollout IN (SELECT id FROM rollouts WHERE ended IS NOT NULL)",
        "DELETE FROM rollouts WHERE id <= ?1 AND ended IS NOT NULL",
    ] {
        transaction.execute(forget, [oldest])?;
    }
    Ok(())
}

/// Puts the state in the place of what came before, where that has grown large.
fn put_together(transaction: &Transaction<'_>, id: u64, state: &Rollout) -> Result<(), StoreError> {
    let query = "SELECT ifnull(sum(length(body)), 0) FROM rollout_inputs WHERE rollout = ?1";
    let bytes: u64 = transaction.query_row(query, [id], |row| row.get(0))?;
    if bytes <= ROLLOUT_RECORD_BYTES_MAX {
        return Ok(());
    }
    transaction.execute("DELETE FROM rollout_inputs WHERE rollout = ?1", [id])?;
    transaction.execute(
        "UPDATE rollouts SET base = ?2,
            base_entries = (SELECT count(*) FROM rollout_entries WHERE rollout = ?1) WHERE id = ?1",
        params![id, write("rollout", state)?],
    )?;
    Ok(())
}

fn put_happened(transaction: &Transaction<'_>, id: u64, one: &Happened) -> Result<(), StoreError> {
    put_input(transaction, id, one)?;
    for entry in &one.entries {
        transaction.execute(
            "INSERT INTO rollout_entries SELECT ?1, ifnull(max(no) + 1, 0), ?2 FROM rollout_entries WHERE rollout = ?1",
            params![id, write("line", entry)?],
        )?;
    }
    Ok(())
}

fn put_input(transaction: &Transaction<'_>, id: u64, one: &Happened) -> Result<(), StoreError> {
    let (kind, body) = match &one.input {
        Input::Observed { requests } => (OBSERVED, bytes_of(requests)?),
        other => ("", write("input", other)?.into_bytes()),
    };
    transaction.execute(
        "INSERT INTO rollout_inputs SELECT ?1, ifnull(max(no) + 1, 0), ?2, ?3, ?4 FROM rollout_inputs WHERE rollout = ?1",
        params![id, one.at_ms, kind, body],
    )?;
    Ok(())
}

fn bytes_of(requests: &[Observation]) -> Result<Vec<u8>, StoreError> {
    postcard::to_allocvec(requests).map_err(|error| StoreError::Damaged(error.to_string()))
}

fn input_of(kind: &str, body: &[u8]) -> Result<Input, StoreError> {
    if kind == OBSERVED {
        let requests = postcard::from_bytes(body);
        return requests
            .map(|requests| Input::Observed { requests })
            .map_err(|error| StoreError::Damaged(format!("requests of a rollout: {error}")));
    }
    let text = std::str::from_utf8(body)
        .map_err(|error| StoreError::Damaged(format!("what happened to a rollout: {error}")))?;
    read("input", text)
}
