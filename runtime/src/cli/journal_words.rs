//! A change of the journal as a sentence: what is from what to what, whether it is in force, and why not. Pure.

use serde_json::Value;

use super::moment;
use crate::control::{Difference, HistoryEntry, ProvisioningState};

/// Longest value that stands in a sentence.
const VALUE_CHARS_MAX: usize = 40;

/// Words of the paths of shares, and what a sentence calls them.
const SHARES: [(&str, &str); 3] = [
    ("traffic", "traffic"),
    ("mirror_traffic", "mirror traffic"),
    ("shadow_traffic", "shadow traffic"),
];

/// `traffic of iris: blue 90 -> 100, green 10 -> 0, in force after 3 ms`
pub(super) fn sentence(entry: &HistoryEntry) -> String {
    let mut words = what(entry);
    words.push_str(&end(entry));
    words
}

/// What was from what to what; where that is not kept any more, what was asked for.
fn what(entry: &HistoryEntry) -> String {
    let (Some(endpoint), Some(changed)) = (&entry.endpoint, &entry.changed) else {
        return entry.what.clone();
    };
    if changed.is_empty() {
        return format!("{}: nothing is other than before", entry.what);
    }
    let told = told(endpoint.as_str(), changed);
    // Who goes back says to where.
    match entry.what.starts_with("roll back ") {
        true => format!("{}: {told}", entry.what),
        false => told,
    }
}

/// How it ended, and after how long.
fn end(entry: &HistoryEntry) -> String {
    let span = entry
        .ended
        .and_then(|ended| moment::between(entry.at, ended));
    let after = span.map_or_else(String::new, |span| format!(" after {}", moment::span(span)));
    let why = entry.why.as_ref();
    let why = why.map_or_else(String::new, |why| format!(": {why}"));
    match entry.provisioning_state {
        Some(ProvisioningState::Succeeded) => format!(", in force{after}{why}"),
        Some(ProvisioningState::Failed) => format!(", failed{after}{why}"),
        Some(ProvisioningState::Canceled) => format!(", replaced{after}{why}"),
        Some(other) => format!(", {other}{why}"),
        // What makes no revision is done when it is written.
        None if entry.revision.is_none() => why,
        None => format!(", no end is noted yet{why}"),
    }
}

/// All differences of an endpoint: its own, then deployment by deployment, then shares, each kind together.
fn told(endpoint: &str, changed: &[Difference]) -> String {
    let mut parts = of_endpoint(endpoint, changed);
    let mut names: Vec<&str> = changed.iter().filter_map(deployment_of).collect();
    names.dedup();
    for name in names {
        let own = changed
            .iter()
            .filter(|one| deployment_of(one) == Some(name));
        let own: Vec<_> = own.collect();
        parts.push(of_deployment(&format!("{endpoint}/{name}"), &own));
    }
    for (path, name) in SHARES {
        let own = changed.iter().filter_map(|one| {
            let (kind, of) = one.path.split_once('.')?;
            (kind == path).then(|| format!("{of} {} -> {}", share(&one.from), share(&one.to)))
        });
        let own: Vec<_> = own.collect();
        if !own.is_empty() {
            parts.push(format!("{name} of {endpoint}: {}", own.join(", ")));
        }
    }
    parts.join("; ")
}

/// The deployment that a difference is about.
fn deployment_of(one: &Difference) -> Option<&str> {
    let rest = one.path.strip_prefix("deployments.")?;
    Some(rest.split_once('.').map_or(rest, |(name, _)| name))
}

fn of_deployment(name: &str, own: &[&Difference]) -> String {
    if let [one] = own
        && one.path.matches('.').count() == 1
    {
        return match one.to.is_null() {
            true => format!("{name} is gone"),
            false => format!("{name} is new: {}", outline(&one.to)),
        };
    }
    let is_said = |key: &str| own.iter().any(|one| key_of(one) == key);
    let told = own.iter().filter_map(|one| {
        Some(match key_of(one) {
            // Another model has another content.
            "model_digest" if is_said("model") => return None,
            "model_digest" => "the model has another content".to_owned(),
            "code_digest" => "the code is another".to_owned(),
            key => step(key, one),
        })
    });
    format!("{name}: {}", told.collect::<Vec<_>>().join(", "))
}

/// The path of a value, seen from its deployment.
fn key_of(one: &Difference) -> &str {
    one.path.splitn(3, '.').nth(2).unwrap_or_default()
}

/// `3 x Standard_F2s_v2 of azureml:digits:1`
fn outline(deployment: &Value) -> String {
    let model = &deployment["model"];
    let model = model.as_str().or_else(|| model["path"].as_str());
    format!(
        "{} x {}{}",
        value(&deployment["instance_count"]),
        value(&deployment["instance_type"]),
        model.map_or_else(String::new, |model| format!(" of {model}"))
    )
}

/// What is said of the endpoint itself.
fn of_endpoint(endpoint: &str, changed: &[Difference]) -> Vec<String> {
    let is_share = |one: &&Difference| {
        let kind = one.path.split_once('.').map(|(kind, _)| kind);
        SHARES.iter().any(|(path, _)| kind == Some(path))
    };
    let own = changed
        .iter()
        .filter(|one| deployment_of(one).is_none() && !is_share(one));
    let (mut sentences, mut steps) = (Vec::new(), Vec::new());
    for one in own {
        match one.path.as_str() {
            "endpoint" if one.to.is_null() => sentences.push(format!("{endpoint} is gone")),
            "endpoint" => sentences.push(format!("{endpoint} is new")),
            "primary_key" => sentences.push(format!("the primary key of {endpoint} is another")),
            "secondary_key" => {
                sentences.push(format!("the secondary key of {endpoint} is another"));
            }
            path => steps.push(step(path, one)),
        }
    }
    if !steps.is_empty() {
        sentences.push(format!("{endpoint}: {}", steps.join(", ")));
    }
    sentences
}

fn step(name: &str, one: &Difference) -> String {
    format!("{name} {} -> {}", value(&one.from), value(&one.to))
}

/// A share; none is nothing.
fn share(percent: &Value) -> String {
    match percent {
        Value::Null => "0".to_owned(),
        percent => percent.to_string(),
    }
}

/// A value in a few characters.
pub(super) fn value(value: &Value) -> String {
    let text = match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{}..", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// An entry of the endpoint iris; fields of the answer over those of a change that came in force after 3 ms.
    fn entry(fields: Value) -> HistoryEntry {
        let mut entry = json!({
            "revision": 7, "at": "2026-01-01T00:00:00Z", "by": "ann", "what": "update endpoint iris", "endpoint": "iris",
            "provisioning_state": "Succeeded", "ended": "2026-01-01T00:00:00.003Z", "why": null, "changed": [],
        });
        for (name, field) in fields.as_object().expect("fields") {
            entry[name] = field.clone();
        }
        serde_json::from_value(entry).expect("an entry")
    }

    #[track_caller]
    fn check(changed: &[(&str, Value, Value)], expected: &str) {
        let changed = changed
            .iter()
            .map(|(path, from, to)| json!({"path": path, "from": from, "to": to}));
        let entry = entry(json!({"changed": changed.collect::<Vec<_>>()}));
        assert_eq!(sentence(&entry), format!("{expected}, in force after 3 ms"));
    }

    #[test]
    fn a_change_of_the_traffic_says_each_share_before_and_after() {
        check(
            &[
                ("traffic.blue", json!(90), json!(100)),
                ("traffic.green", json!(10), json!(0)),
            ],
            "traffic of iris: blue 90 -> 100, green 10 -> 0",
        );
        check(
            &[("mirror_traffic.green", Value::Null, json!(12.5))],
            "mirror traffic of iris: green 0 -> 12.5",
        );
    }

    #[test]
    fn what_is_new_is_said_with_its_size_and_what_is_another_by_its_values() {
        let blue = json!({"instance_count": 2, "instance_type": "Standard_F2s_v2", "model": "azureml:digits:1"});
        check(
            &[
                ("deployments.blue", Value::Null, blue.clone()),
                ("traffic.blue", Value::Null, json!(100)),
            ],
            "iris/blue is new: 2 x Standard_F2s_v2 of azureml:digits:1; traffic of iris: blue 0 -> 100",
        );
        check(
            &[("deployments.blue", blue, Value::Null)],
            "iris/blue is gone",
        );
        check(
            &[
                ("deployments.blue.instance_count", json!(1), json!(3)),
                (
                    "deployments.blue.model",
                    json!("azureml:digits:1"),
                    json!("azureml:digits:2"),
                ),
                ("deployments.blue.model_digest", json!("a"), json!("b")),
                ("deployments.green.model_digest", json!("a"), json!("b")),
            ],
            "iris/blue: instance_count 1 -> 3, model azureml:digits:1 -> azureml:digits:2; iris/green: the model has another content",
        );
        check(
            &[
                ("endpoint", Value::Null, json!("iris")),
                ("tags.team", Value::Null, json!("x".repeat(50))),
                ("primary_key", Value::Null, json!("made anew")),
            ],
            &format!(
                "iris is new; the primary key of iris is another; iris: tags.team none -> {}..",
                "x".repeat(40)
            ),
        );
    }

    #[test]
    fn a_change_that_failed_or_was_replaced_says_why_and_after_how_long() {
        let failed = entry(
            json!({"provisioning_state": "Failed", "why": "no memory", "ended": "2026-01-01T00:00:02Z", "changed": null}),
        );
        assert_eq!(
            sentence(&failed),
            "update endpoint iris, failed after 2.0 s: no memory"
        );
        let replaced = entry(
            json!({"provisioning_state": "Canceled", "why": "revision 8 took its place", "ended": null}),
        );
        assert_eq!(
            sentence(&replaced),
            "update endpoint iris: nothing is other than before, replaced: revision 8 took its place"
        );
    }

    #[test]
    fn without_an_end_or_with_one_before_its_begin_no_time_is_said() {
        let open = entry(json!({"provisioning_state": null, "ended": null, "changed": null}));
        assert_eq!(sentence(&open), "update endpoint iris, no end is noted yet");
        let set_back = entry(json!({"ended": "2025-12-31T23:00:00Z", "changed": null}));
        assert_eq!(sentence(&set_back), "update endpoint iris, in force");
    }

    #[test]
    fn what_makes_no_revision_is_said_as_it_was_asked_for() {
        let model = entry(json!({
            "revision": null, "endpoint": null, "changed": null, "provisioning_state": null, "ended": null,
            "what": "register model digits:1",
        }));
        assert_eq!(sentence(&model), "register model digits:1");
    }

    #[test]
    fn who_goes_back_says_to_where() {
        let back = entry(json!({
            "what": "roll back endpoint iris to revision 3",
            "changed": [{"path": "traffic.blue", "from": 10, "to": 100}],
        }));
        assert_eq!(
            sentence(&back),
            "roll back endpoint iris to revision 3: traffic of iris: blue 10 -> 100, in force after 3 ms"
        );
    }
}
