//! The workspace of `az ml`: its names, which stand in ids, and `serin workspace`.
//!
//! There is one, the data folder, whatever it is called: flags, and else the defaults that `az configure` keeps, say only how it
//! is named.

use serde_json::{Value, json};

use super::args::{Global, WorkspaceCommand};
use super::defaults::Defaults;
use super::exit::CliError;
use super::output::{self, Columns};

/// The columns of a table of workspaces.
const COLUMNS: Columns = &[
    ("name", &["/name"]),
    ("resource_group", &["/resource_group"]),
    ("location", &["/location"]),
];

/// An id of nobody.
pub(super) const NOBODY: &str = "00000000-0000-0000-0000-000000000000";

/// The names of the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Workspace {
    pub(super) subscription: String,
    pub(super) group: String,
    pub(super) name: String,
}

impl Default for Workspace {
    fn default() -> Self {
        Self {
            subscription: NOBODY.to_owned(),
            group: "local".to_owned(),
            name: "local".to_owned(),
        }
    }
}

impl Workspace {
    /// As the flags name it, and else the defaults.
    pub(super) fn of(global: &Global) -> Self {
        let kept = Defaults::read();
        let place = Self::default();
        let name = |flag: &Option<String>, key: &str, other: String| {
            let flag = flag.clone().filter(|flag| !flag.is_empty());
            flag.or_else(|| kept.get(key)).unwrap_or(other)
        };
        Self {
            subscription: name(&global.subscription, "subscription", place.subscription),
            group: name(&global.resource_group, "group", place.group),
            name: name(&global.workspace_name, "workspace", place.name),
        }
    }

    /// The id of something in it.
    pub(super) fn id(&self, path: &str) -> String {
        format!("{}/{path}", self.own_id())
    }

    /// Its own id.
    pub(super) fn own_id(&self) -> String {
        let Self {
            subscription,
            group,
            name,
        } = self;
        format!(
            "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.MachineLearningServices/workspaces/{name}"
        )
    }

    /// As `az ml workspace show` prints it.
    pub(super) fn shown(&self) -> Value {
        let beside = |provider: &str| {
            format!(
                "/subscriptions/{}/resourceGroups/{}/providers/{provider}/local",
                self.subscription, self.group
            )
        };
        json!({
            "application_insights": beside("Microsoft.Insights/components"),
            "container_registry": beside("Microsoft.ContainerRegistry/registries"),
            "description": "",
            "discovery_url": "",
            "display_name": self.name,
            "id": self.own_id(),
            "identity": {"principal_id": NOBODY, "tenant_id": NOBODY, "type": "system_assigned"},
            "key_vault": beside("Microsoft.KeyVault/vaults"),
            "location": "local",
            "managed_network": {"isolation_mode": "disabled", "outbound_rules": []},
            "name": self.name,
            "provisioning_state": "Succeeded",
            "public_network_access": "Enabled",
            "resourceGroup": self.group,
            "resource_group": self.group,
            "storage_account": beside("Microsoft.Storage/storageAccounts"),
            "tags": {},
        })
    }
}

/// Runs one of the workspace commands: there is one workspace before and after, and it is shown.
pub(super) fn run(command: WorkspaceCommand, global: &Global) -> Result<(), CliError> {
    let mut workspace = Workspace::of(global);
    match command {
        WorkspaceCommand::List => {
            output::print_as_az(&json!([workspace.shown()]), COLUMNS, &global.form())
        }
        WorkspaceCommand::Show(typed) | WorkspaceCommand::Create(typed) => {
            if let Some(name) = typed.name {
                workspace.name = name;
            }
            output::print_as_az(&workspace.shown(), COLUMNS, &global.form())
        }
    }
}
