//! The history of what should run: each change with who asked, what was from what to what, and how it ended.
//!
//! Changes and their ends are lines of the journal; what was before and after is in the states that the store keeps, which are fewer.
//! Pure. Not here: reading the two (`store`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::control::change::Change;
use crate::control::desired::Desired;
use crate::control::difference::{Difference, differences};
use crate::control::operation::ProvisioningState;
use crate::control::revision::Revision;
use crate::control::store::JournalEntry;
use crate::control::timestamp::Timestamp;
use crate::spec::EndpointName;

/// One change of what should run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// The revision that it made; none for models.
    pub revision: Option<Revision>,
    /// When it was accepted.
    pub at: Timestamp,
    /// Who asked.
    pub by: String,
    /// The change in one line.
    pub what: String,
    /// The endpoint that it is about; none for models.
    pub endpoint: Option<EndpointName>,
    /// How it ended; none where it has not, or nobody noted it.
    pub provisioning_state: Option<ProvisioningState>,
    /// When it ended; none of an earlier server.
    #[serde(default)]
    pub ended: Option<Timestamp>,
    /// Why it ended so.
    pub why: Option<String>,
    /// What was from what to what; none where the states are kept no more.
    pub changed: Option<Vec<Difference>>,
}

/// What an endpoint would be again as of an earlier revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AsOf {
    /// The endpoint.
    pub endpoint: EndpointName,
    /// Whether it was there then.
    pub was_there: bool,
    /// What is from what, now, to what it was then.
    pub changed: Vec<Difference>,
}

/// The last changes among lines of the journal, oldest first; of one endpoint where one is named.
pub(super) fn history(
    lines: &[JournalEntry],
    states: &BTreeMap<Revision, Desired>,
    (last, only): (usize, Option<&EndpointName>),
) -> Vec<HistoryEntry> {
    let (outcomes, changes): (Vec<_>, Vec<_>) = lines.iter().partition(|line| is_outcome(line));
    let ends: BTreeMap<Revision, &JournalEntry> = outcomes
        .into_iter()
        .filter_map(|line| Some((line.revision?, line)))
        .collect();
    let entries = changes.into_iter().map(|line| {
        let end = line.revision.and_then(|revision| ends.get(&revision));
        entry(line, end.copied(), states)
    });
    let entries: Vec<_> = entries
        .filter(|entry| only.is_none() || entry.endpoint.as_ref() == only)
        .collect();
    let first = entries.len().saturating_sub(last);
    entries.into_iter().skip(first).collect()
}

fn is_outcome(line: &JournalEntry) -> bool {
    line.change["kind"] == "outcome"
}

fn entry(
    line: &JournalEntry,
    end: Option<&JournalEntry>,
    states: &BTreeMap<Revision, Desired>,
) -> HistoryEntry {
    let change = Change::deserialize(&line.change).ok();
    let state = end.map(|end| &end.change["provisioning_state"]);
    let around = line.revision.map(|Revision(number)| {
        // Before the first change there was nothing.
        let nothing = (number == 1).then(Desired::default);
        let before = number.checked_sub(1).map(Revision);
        let before = before.and_then(|before| states.get(&before)).cloned();
        (before.or(nothing), states.get(&Revision(number)))
    });
    let (endpoint, changed) = match around {
        Some((Some(before), Some(after))) => {
            let endpoint = changed_endpoint(&before, after).or_else(|| named(change.as_ref()));
            let changed = endpoint
                .as_ref()
                .map(|name| differences(before.endpoints.get(name), after.endpoints.get(name)));
            (endpoint, changed)
        }
        _ => (named(change.as_ref()), None),
    };
    HistoryEntry {
        revision: line.revision,
        at: line.at,
        by: line.by.clone(),
        what: line.what(),
        endpoint,
        provisioning_state: state.and_then(|state| ProvisioningState::deserialize(state).ok()),
        ended: end.map(|end| end.at),
        why: end
            .and_then(|end| end.why.clone())
            .or_else(|| line.why.clone()),
        changed,
    }
}

/// The one endpoint that is another after a change. A change is about one.
fn changed_endpoint(before: &Desired, after: &Desired) -> Option<EndpointName> {
    let mut names = before.endpoints.keys().chain(after.endpoints.keys());
    names
        .find(|name| before.endpoints.get(*name) != after.endpoints.get(*name))
        .cloned()
}

fn named(change: Option<&Change>) -> Option<EndpointName> {
    match change? {
        Change::CreateEndpoint { endpoint, .. } => Some(endpoint.name.clone()),
        Change::UpdateEndpoint { name, .. } | Change::DeleteEndpoint { name } => Some(name.clone()),
        Change::CreateDeployment { endpoint, .. }
        | Change::UpdateDeployment { endpoint, .. }
        | Change::RegenerateKey { endpoint, .. }
        | Change::RollBack { endpoint, .. } => Some(endpoint.clone()),
        Change::DeleteDeployment { endpoint, .. } => endpoint.clone(),
    }
}

/// Each endpoint that is not as it was.
pub(super) fn as_of(then: &Desired, now: &Desired) -> Vec<AsOf> {
    let mut names: Vec<_> = then.endpoints.keys().chain(now.endpoints.keys()).collect();
    names.sort();
    names.dedup();
    let all = names.into_iter().map(|name| {
        let (now, then) = (now.endpoints.get(name), then.endpoints.get(name));
        let changed = differences(now, then).into_iter();
        AsOf {
            endpoint: name.clone(),
            was_there: then.is_some(),
            // Credentials stay what they are.
            changed: changed
                .filter(|one| !one.path.ends_with("ary_key"))
                .collect(),
        }
    });
    all.filter(|one| !one.changed.is_empty()).collect()
}
