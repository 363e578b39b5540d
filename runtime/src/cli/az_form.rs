//! Endpoints, deployments and models in the form in which `az` prints them: all fields of Azure, and no others. Pure.
//!
//! What serin knows beyond them (how a deployment really runs, and why) is behind `show --detail`, and in notes on standard
//! error. Settings of serin's own stay where a file has written them: a file that is made of what `show` prints means the same.
//!
//! Not here: what the values are. The server says that.

use serde_json::{Map, Value, json};

use super::workspace::{NOBODY, Workspace};

/// The form for one workspace, whose names are part of every id.
#[derive(Debug, Clone)]
pub(super) struct AzForm {
    workspace: Workspace,
}

/// Settings of serin that Azure has not; shown where they are written.
const OWN_OF_REQUESTS: &[&str] = &[
    "isolation",
    "lanes",
    "max_batch_delay_us",
    "max_batch_size",
    "max_waiting_requests_per_instance",
    "non_finite",
    "spin",
];

/// Fields that are there only where somebody has written them.
const WRITTEN: &[&str] = &[
    "code_configuration",
    "data_collector",
    "description",
    "environment",
    "environment_python",
    "model_mount_path",
    "private_network_connection",
    "resource_requirements",
    "resources",
    "startup_probe",
];

impl AzForm {
    pub(super) fn new(workspace: Workspace) -> Self {
        Self { workspace }
    }

    /// An endpoint as the server says it; with its deployments as a list, as the commands before 2022 had it, or without.
    pub(super) fn endpoint(&self, said: &Value, with_deployments: bool) -> Value {
        let name = said["name"].as_str().unwrap_or_default();
        let id = self.workspace.id(&format!("onlineEndpoints/{name}"));
        let mut fields = Map::new();
        take_written(
            said,
            &["compute", "description", "shadow_traffic", "sticky"],
            &mut fields,
        );
        let scoring_uri = said["scoring_uri"].as_str().unwrap_or_default();
        let root = scoring_uri.strip_suffix("score");
        let openapi_uri = root.map(|root| format!("{root}swagger.json"));
        let identity = json!({
            "principal_id": NOBODY, "tenant_id": NOBODY, "type": "system_assigned",
        });
        let mut properties = object(said, "properties");
        let creation = &said["creation_context"];
        for (key, of) in [
            ("createdBy", "created_by"),
            ("createdAt", "created_at"),
            ("lastModifiedAt", "last_modified_at"),
        ] {
            if let Some(value) = creation[of].as_str() {
                properties.insert(key.to_owned(), value.into());
            }
        }
        properties.insert("azureml.onlineendpointid".to_owned(), id.as_str().into());
        let more = json!({
            "auth_mode": said["auth_mode"],
            "id": id,
            "identity": merged(identity, &said["identity"]),
            "kind": "Managed",
            "location": "local",
            "mirror_traffic": object(said, "mirror_traffic"),
            "name": name,
            "openapi_uri": openapi_uri,
            "properties": properties,
            "provisioning_state": said["provisioning_state"],
            "public_network_access": network(&said["public_network_access"], &said["allow_public_access"]),
            "scoring_uri": scoring_uri,
            "tags": object(said, "tags"),
            "traffic": object(said, "traffic"),
        });
        extend(&mut fields, more);
        if with_deployments {
            let deployments = said["deployments"].as_object().into_iter().flatten();
            let deployments = deployments.map(|(_, one)| self.deployment(one, name));
            fields.insert("deployments".to_owned(), deployments.collect());
        }
        sorted(fields)
    }

    /// A deployment of an endpoint as the server says it.
    pub(super) fn deployment(&self, said: &Value, endpoint: &str) -> Value {
        let name = said["name"].as_str().unwrap_or_default();
        let path = format!("onlineEndpoints/{endpoint}/deployments/{name}");
        let mut fields = Map::new();
        take_written(said, WRITTEN, &mut fields);
        // Without it a file of this form would run the script.
        if said["scoring"] == "native" && said["code_configuration"]["scoring_script"].is_string() {
            fields.insert("scoring".to_owned(), "native".into());
        }
        if let Value::Object(mut context) = said["creation_context"].clone() {
            context.insert("created_by_type".to_owned(), "User".into());
            fields.insert("creation_context".to_owned(), sorted(context));
        }
        let probe = json!({
            "failure_threshold": 30, "initial_delay": 10, "period": 10, "success_threshold": 1, "timeout": 2,
        });
        let more = json!({
            "app_insights_enabled": said["app_insights_enabled"].as_bool().unwrap_or(false),
            "egress_public_network_access": network(&said["egress_public_network_access"], &Value::Null),
            "endpoint_name": endpoint,
            "environment_variables": object(said, "environment_variables"),
            "id": self.workspace.id(&path),
            "instance_count": said["instance_count"],
            "instance_type": said["instance_type"],
            "liveness_probe": merged(probe.clone(), &said["liveness_probe"]),
            "model": said["model"],
            "name": name,
            "properties": object(said, "properties"),
            "provisioning_state": said["provisioning_state"],
            "readiness_probe": merged(probe, &said["readiness_probe"]),
            "request_settings": request_settings(&said["request_settings"]),
            "scale_settings": merged(json!({"type": "default"}), &said["scale_settings"]),
            "tags": object(said, "tags"),
            "type": "managed",
        });
        extend(&mut fields, more);
        sorted(fields)
    }
}

impl AzForm {
    /// A version of a model as the server says it.
    pub(super) fn model(&self, record: &Value) -> Value {
        let text = |key: &str| record[key].as_str().unwrap_or_default();
        let path = format!("models/{}/versions/{}", text("name"), text("version"));
        let about = &record["about"];
        let mut fields = object(&json!({ "record": record }), "record");
        fields.remove("about");
        take_written(about, &["description", "is_archived", "stage"], &mut fields);
        let more = json!({
            "creation_context": {
                "created_at": record["created_at"], "created_by": record["created_by"], "created_by_type": "User",
            },
            "id": self.workspace.id(&path),
            "properties": object(about, "properties"),
            "tags": object(about, "tags"),
            "type": "custom_model",
        });
        extend(&mut fields, more);
        sorted(fields)
    }
}

fn request_settings(said: &Value) -> Value {
    let azure = json!({
        "max_concurrent_requests_per_instance": 1, "max_queue_wait_ms": 500, "request_timeout_ms": 5000,
    });
    let mut settings = azure.as_object().cloned().unwrap_or_default();
    for (key, default) in &mut settings {
        if let Some(written) = said.get(key).filter(|written| !written.is_null()) {
            *default = written.clone();
        }
    }
    take_written(said, OWN_OF_REQUESTS, &mut settings);
    settings.into()
}

/// `enabled`, unless somebody has written otherwise, in the words of today or of 2021.
fn network(access: &Value, is_allowed: &Value) -> Value {
    match (access, is_allowed) {
        (Value::String(access), _) => access.as_str().into(),
        (_, Value::Bool(false)) => "disabled".into(),
        _ => "enabled".into(),
    }
}

/// Defaults, and over them what is written.
fn merged(defaults: Value, written: &Value) -> Value {
    let mut fields = defaults.as_object().cloned().unwrap_or_default();
    extend(&mut fields, written.clone());
    fields.into()
}

fn extend(fields: &mut Map<String, Value>, more: Value) {
    if let Value::Object(more) = more {
        fields.extend(more);
    }
}

fn take_written(said: &Value, keys: &[&str], fields: &mut Map<String, Value>) {
    for key in keys {
        if let Some(value) = said.get(*key).filter(|value| !value.is_null()) {
            fields.insert((*key).to_owned(), value.clone());
        }
    }
}

/// A mapping, empty where none is written.
fn object(said: &Value, key: &str) -> Map<String, Value> {
    said[key].as_object().cloned().unwrap_or_default()
}

/// Keys by their names, on every level, as `az` prints them.
fn sorted(fields: Map<String, Value>) -> Value {
    let mut fields: Vec<_> = fields.into_iter().collect();
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    let inner = |value| match value {
        Value::Object(fields) => sorted(fields),
        other => other,
    };
    let fields = fields.into_iter().map(|(key, value)| (key, inner(value)));
    Value::Object(fields.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{read_deployment, read_endpoint};

    fn form() -> AzForm {
        AzForm::new(Workspace::default())
    }

    fn blue() -> Value {
        json!({
            "name": "blue", "model": "azureml:digits:1", "instance_type": "Standard_F2s_v2", "instance_count": 3,
            "request_settings": {"lanes": 1, "request_timeout_ms": 3000}, "scoring": "native",
            "code_configuration": {"code": "./src", "scoring_script": "score.py"},
            "provisioning_state": "Succeeded", "model_digest": "d", "placements": [{"cores": [1]}],
            "instances_ready": 3, "notes": ["a"], "reason": "b", "liveness_probe": {"period": 5},
        })
    }

    #[test]
    fn what_serin_alone_knows_is_left_out_and_what_azure_has_is_there() {
        let shown = form().deployment(&blue(), "iris");
        for own in [
            "model_digest",
            "placements",
            "instances_ready",
            "notes",
            "reason",
        ] {
            assert_eq!(shown.get(own), None, "{shown:#}");
        }
        assert_eq!(shown["liveness_probe"]["period"], 5);
        assert_eq!(shown["liveness_probe"]["failure_threshold"], 30);
        assert_eq!(shown["request_settings"]["max_queue_wait_ms"], 500);
        let endpoint =
            json!({"name": "iris", "traffic": {"blue": 90}, "deployments": {"blue": blue()}});
        assert_eq!(form().endpoint(&endpoint, false).get("deployments"), None);
        let listed = form().endpoint(&endpoint, true);
        assert_eq!(listed["deployments"][0], shown);
        assert_eq!(listed["mirror_traffic"], json!({}));
    }

    #[test]
    fn a_file_of_what_is_shown_means_the_same() {
        let shown = form().deployment(&blue(), "iris").to_string();
        let read = read_deployment(&shown, "blue.yml", &[]).expect("a deployment");
        assert_eq!(read.instance_count(), 3);
        assert_eq!(read.request_settings().lanes(), Some(1));
        assert_eq!(read.scoring(), crate::spec::Scoring::Native);
        let endpoint = json!({"name": "iris", "auth_mode": "aml_token", "tags": {"a": "b"}});
        let shown = form().endpoint(&endpoint, false).to_string();
        let read = read_endpoint(&shown, "iris.yml", &[]).expect("an endpoint");
        assert_eq!(read.spec.tags["a"], "b");
    }

    #[test]
    fn keys_stand_in_order_on_every_level() {
        let shown = form().deployment(&blue(), "iris");
        let keys: Vec<_> = shown.as_object().expect("fields").keys().collect();
        assert!(keys.is_sorted(), "{keys:?}");
    }
}
