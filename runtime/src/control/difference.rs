//! What differs between two desired states of an endpoint, in the words of files: `deployments.blue.instance_count`, 3, 5. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::control::desired::{DesiredDeployment, DesiredEndpoint};

/// A value that is another than before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The path of the value, seen from the endpoint.
    pub path: String,
    /// The value before; null where there was none.
    pub from: Value,
    /// The value after; null where there is none.
    pub to: Value,
}

/// All values that differ, in the order of their paths. A deployment or an endpoint that is new or gone is one of them.
#[cfg_attr(
    not(feature = "server"),
    expect(dead_code, reason = "asked for by servers alone")
)]
pub(super) fn differences(
    before: Option<&DesiredEndpoint>,
    after: Option<&DesiredEndpoint>,
) -> Vec<Difference> {
    let (old, new) = match (before, after) {
        (None, None) => return Vec::new(),
        (Some(old), Some(new)) => (old, new),
        (old, new) => {
            let mut found = vec![Difference {
                path: "endpoint".to_owned(),
                from: old.map_or(Value::Null, |one| one.spec.name.as_str().into()),
                to: new.map_or(Value::Null, |one| one.spec.name.as_str().into()),
            }];
            found.extend(of_deployments(old, new));
            return found;
        }
    };
    let mut found = of_values("", &own_values(old), &own_values(new));
    for (which, is_another) in [
        (
            "primary",
            old.generations.primary != new.generations.primary,
        ),
        (
            "secondary",
            old.generations.secondary != new.generations.secondary,
        ),
    ] {
        if is_another {
            found.push(Difference {
                path: format!("{which}_key"),
                from: Value::Null,
                to: "made anew".into(),
            });
        }
    }
    found.extend(of_deployments(Some(old), Some(new)));
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

/// What is said of the endpoint itself, with the split that it has or waits for.
fn own_values(endpoint: &DesiredEndpoint) -> Value {
    let mut values = json!(endpoint.spec);
    if let Some(pending) = &endpoint.pending {
        values["traffic"] = json!(pending.split);
    }
    if let Some(fields) = values.as_object_mut() {
        fields.remove("name");
    }
    values
}

fn of_deployments(
    before: Option<&DesiredEndpoint>,
    after: Option<&DesiredEndpoint>,
) -> Vec<Difference> {
    let there = |endpoint: Option<&DesiredEndpoint>| -> BTreeMap<String, DesiredDeployment> {
        let goes = |name| {
            let pending = endpoint.and_then(|one| one.pending.as_ref());
            pending.is_some_and(|pending| pending.removes.contains(name))
        };
        let deployments = endpoint.into_iter().flat_map(|one| &one.deployments);
        deployments
            .filter(|(name, _)| !goes(name))
            .map(|(name, one)| (name.key().to_owned(), one.clone()))
            .collect()
    };
    let (before, after) = (there(before), there(after));
    let mut found = Vec::new();
    for (name, old) in &before {
        let path = format!("deployments.{}", old.target.spec.name);
        match after.get(name) {
            Some(new) => found.extend(of_values(&path, &values_of(old), &values_of(new))),
            None => found.push(Difference {
                path,
                from: outline(old),
                to: Value::Null,
            }),
        }
    }
    for (_, new) in after.iter().filter(|(name, _)| !before.contains_key(*name)) {
        found.push(Difference {
            path: format!("deployments.{}", new.target.spec.name),
            from: Value::Null,
            to: outline(new),
        });
    }
    found
}

/// What is said of a deployment, and the content that its model stands for.
fn values_of(deployment: &DesiredDeployment) -> Value {
    let target = &deployment.target;
    let mut values = json!(target.spec);
    // One that nobody wrote is one.
    values["instance_count"] = json!(target.spec.instance_count());
    values["model_digest"] = json!(target.model.digest);
    if let Some(script) = &target.script {
        values["code_digest"] = json!(script.code);
    }
    if let Some(fields) = values.as_object_mut() {
        fields.remove("name");
        fields.remove("endpoint_name");
    }
    values
}

/// A whole deployment in a few words.
fn outline(deployment: &DesiredDeployment) -> Value {
    let spec = json!(deployment.target.spec);
    json!({
        "instance_count": deployment.target.spec.instance_count(),
        "instance_type": spec["instance_type"],
        "model": spec["model"],
    })
}

fn of_values(path: &str, before: &Value, after: &Value) -> Vec<Difference> {
    let (before, after) = (leaves(path, before), leaves(path, after));
    let mut paths: Vec<_> = before.keys().chain(after.keys()).collect();
    paths.sort();
    paths.dedup();
    let value = |values: &BTreeMap<String, Value>, path: &String| {
        values.get(path).cloned().unwrap_or(Value::Null)
    };
    paths
        .into_iter()
        .map(|path| Difference {
            path: path.clone(),
            from: value(&before, path),
            to: value(&after, path),
        })
        .filter(|one| one.from != one.to)
        .collect()
}

/// Every value by its path. Nothing, and a mapping or a list without entries, is none.
fn leaves(path: &str, value: &Value) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    gather(path, value, &mut found);
    found
}

fn gather(path: &str, value: &Value, found: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let below = match path {
                    "" => key.clone(),
                    path => format!("{path}.{key}"),
                };
                gather(&below, value, found);
            }
        }
        Value::Array(entries) => {
            for (at, entry) in entries.iter().enumerate() {
                gather(&format!("{path}[{at}]"), entry, found);
            }
        }
        Value::Null => {}
        value => drop(found.insert(path.to_owned(), value.clone())),
    }
}
