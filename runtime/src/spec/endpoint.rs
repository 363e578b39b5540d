//! An endpoint as it is written: a name, how clients prove themselves, and the split of traffic.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;

use super::assignment::{Assignment, assign_all};
use super::fields::{Fields, one_of, parsed, text, texts};
use super::kept::{Kept, Shape, kept_notes, read_kept};
use super::node::{Content, Node, find, remove};
use super::spelling::{self, modernise, old_keys};
use super::sticky::{Sticky, read_sticky};
use super::{
    DeploymentName, DeploymentSpec, EndpointName, Percent, Problem, SpecError, TrafficError,
    TrafficSplit, deployment,
};
#[cfg(feature = "server")]
use super::{batch, placeholder, yaml};
use crate::config::SHADOWS_MAX;

/// Keys that are kept without being understood, and the shape that each must have.
pub(super) const KEPT: &Kept = &[
    ("allow_public_access", Shape::Bool),
    ("compute", Shape::Text),
    ("identity", Shape::Map),
    ("public_network_access", Shape::Text),
    ("ssl_enabled", Shape::Bool),
];

/// Keys that Azure writes into its answers and drops from what it reads.
pub(super) const READ_ONLY: &[&str] = &[
    "$schema",
    "id",
    "kind",
    "location",
    "creation_context",
    "openapi_uri",
    "provisioning_state",
    "provisioning_status",
    "scoring_uri",
];

/// The key of the copies of requests that a deployment is to get.
const MIRROR_TRAFFIC: &str = "mirror_traffic";

/// The key of copies beyond Azure's bounds.
const SHADOW_TRAFFIC: &str = "shadow_traffic";

/// Azure's bound.
const MIRROR_PERCENT_MAX: u8 = 50;

/// The way in which clients prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthMode {
    /// One of two keys that do not expire.
    #[default]
    Key,
    /// A token that expires.
    AmlToken,
}

/// The word that is written for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum WrittenAuthMode {
    Key,
    AmlToken,
    /// A token of a directory of users; taken as a key, for there is none here.
    AadToken,
}

/// An endpoint as it was written.
///
/// Serialises to the canonical form, the current form of Azure's files, with only what was written.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EndpointSpec {
    /// The name, unique on a server.
    pub name: EndpointName,
    /// A description for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Tags for people.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Properties for people and programs.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_mode: Option<WrittenAuthMode>,
    /// The split of traffic; no entries where none is written.
    #[serde(skip_serializing_if = "TrafficSplit::is_unwritten")]
    pub traffic: TrafficSplit,
    /// The rule by which clients stay with their deployment; none where each request is decided by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
    /// Deployments that get copies of requests, beside the one of `mirror_traffic`, and the share of each.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub shadow_traffic: BTreeMap<DeploymentName, Percent>,
    /// Other settings of Azure's form that are kept and not acted upon, by their key.
    #[serde(flatten)]
    pub kept: BTreeMap<String, Value>,
}

impl EndpointSpec {
    /// An endpoint with nothing said beyond what is required.
    #[must_use]
    pub fn new(name: EndpointName) -> Self {
        Self {
            name,
            description: None,
            tags: BTreeMap::new(),
            properties: BTreeMap::new(),
            auth_mode: None,
            traffic: TrafficSplit::default(),
            sticky: None,
            shadow_traffic: BTreeMap::new(),
            kept: BTreeMap::new(),
        }
    }

    /// The way in which clients prove who they are; by key where nothing is written.
    #[must_use]
    pub fn auth_mode(&self) -> AuthMode {
        match self.auth_mode {
            Some(WrittenAuthMode::AmlToken) => AuthMode::AmlToken,
            Some(WrittenAuthMode::Key | WrittenAuthMode::AadToken) | None => AuthMode::Key,
        }
    }

    /// Says how clients prove who they are.
    pub fn set_auth_mode(&mut self, auth_mode: AuthMode) {
        self.auth_mode = Some(match auth_mode {
            AuthMode::Key => WrittenAuthMode::Key,
            AuthMode::AmlToken => WrittenAuthMode::AmlToken,
        });
    }

    /// The deployment that is to get copies of requests.
    #[must_use]
    pub fn mirrored(&self) -> Option<DeploymentName> {
        self.mirror().map(|(name, _)| name)
    }

    fn mirror(&self) -> Option<(DeploymentName, Percent)> {
        let mirror = self.kept.get(MIRROR_TRAFFIC)?.as_object()?;
        let (name, share) = mirror.iter().next()?;
        Some((name.parse().ok()?, share.to_string().parse().ok()?))
    }

    /// Every deployment that is to get copies of requests, with its share.
    pub fn shadows(&self) -> impl Iterator<Item = (DeploymentName, Percent)> {
        let own = self.shadow_traffic.iter();
        let own = own.map(|(name, share)| (name.clone(), *share));
        self.mirror().into_iter().chain(own)
    }

    /// Forgets that a deployment was to get copies of requests.
    pub fn forget_mirrored(&mut self, name: &DeploymentName) {
        if self.mirrored().as_ref() == Some(name) {
            self.kept.remove(MIRROR_TRAFFIC);
        }
        self.shadow_traffic.remove(name);
    }

    /// Takes over what `newer` says and keeps the rest. Tags and properties merge key by key; a split with entries
    /// replaces the old one whole. The name stays.
    pub fn merge(&mut self, newer: Self) {
        self.description = newer.description.or(self.description.take());
        self.tags.extend(newer.tags);
        self.properties.extend(newer.properties);
        self.auth_mode = newer.auth_mode.or(self.auth_mode);
        if !newer.traffic.is_unwritten() {
            self.traffic = newer.traffic;
        }
        self.sticky = newer.sticky.or(self.sticky.take());
        if !newer.shadow_traffic.is_empty() {
            self.shadow_traffic = newer.shadow_traffic;
        }
        self.kept.extend(newer.kept);
    }

    /// Says, in sentences, what is kept without effect.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let aad = self.auth_mode == Some(WrittenAuthMode::AadToken);
        let aad = aad.then(|| {
            "auth_mode aad_token is taken as key: there is no directory of users here".to_owned()
        });
        aad.into_iter()
            .chain(self.sticky.as_ref().and_then(Sticky::note))
            .chain(kept_notes(&self.kept, |key| key != MIRROR_TRAFFIC))
            .collect()
    }
}

impl<'de> Deserialize<'de> for EndpointSpec {
    /// By the reader of files: every spelling is understood and every check holds.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut root = Node::from_value(String::new(), Value::deserialize(deserializer)?);
        let mut problems = Vec::new();
        modernise(&mut root, spelling::ENDPOINT, &mut problems);
        let spec = read(root, &mut problems);
        SpecError::unless_clean("endpoint", spec, problems).map_err(de::Error::custom)
    }
}

/// The content of an endpoint file.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointFile {
    /// The endpoint.
    pub spec: EndpointSpec,
    /// Its deployments, in files of the generations that have them there.
    pub deployments: Option<Vec<DeploymentSpec>>,
}

/// Reads an endpoint file of any generation. `overrides` are set before anything is checked: `name=iris` for
/// `--name iris`.
///
/// # Errors
///
/// All problems of the file.
#[cfg(feature = "server")]
pub fn read_endpoint(
    text: &str,
    file: &str,
    overrides: &[Assignment],
) -> Result<EndpointFile, SpecError> {
    let mut root = yaml::parse(text, file)?;
    batch::refuse(&root, file)?;
    let mut problems = Vec::new();
    let mut deployments = take_deployments(&mut root, &mut problems);
    modernise(&mut root, spelling::ENDPOINT, &mut problems);
    for deployment in deployments.iter_mut().flatten() {
        modernise(deployment, spelling::DEPLOYMENT, &mut problems);
    }
    note_cluster(&root, deployments.iter_mut().flatten());
    let none = &mut Vec::new();
    assign_all(
        overrides,
        &mut root,
        deployments.as_mut().unwrap_or(none),
        &mut problems,
    );
    let mut placeholders = placeholder::in_tree(&root);
    let nodes = deployments.iter().flatten();
    placeholders.extend(nodes.flat_map(placeholder::in_tree));
    let spec = read(root, &mut problems);
    let deployments = deployments.map(|nodes| read_deployments(nodes, &mut problems));
    placeholder::tell(placeholders, &mut problems);
    let read = spec.map(|spec| EndpointFile { spec, deployments });
    SpecError::unless_clean(file, read, problems)
}

/// Writes into deployments that they are for a cluster, where their endpoint says so.
fn note_cluster<'a>(root: &Node, deployments: impl Iterator<Item = &'a mut Node>) {
    let Content::Map(entries) = &root.content else {
        return;
    };
    let cluster = find(entries, "compute").filter(|compute| match &compute.content {
        Content::Text(name) => !name.eq_ignore_ascii_case("managed"),
        _ => false,
    });
    let Some(cluster) = cluster else {
        return;
    };
    for deployment in deployments {
        if let Content::Map(entries) = &mut deployment.content
            && find(entries, "type").is_none()
        {
            let kind = Node {
                content: Content::Text("kubernetes".to_owned()),
                ..cluster.clone()
            };
            entries.push(("type".to_owned(), kind));
        }
    }
}

/// Takes the deployments out of an endpoint file: a list, or a mapping whose keys are the names.
fn take_deployments(root: &mut Node, problems: &mut Vec<Problem>) -> Option<Vec<Node>> {
    let Content::Map(entries) = &mut root.content else {
        return None;
    };
    let node = remove(entries, "deployments")?;
    let wrong = node.expected("a list, or a mapping from names");
    match node.content {
        Content::List(items) => Some(items),
        Content::Map(entries) => Some(
            entries
                .into_iter()
                .map(|(name, node)| name_deployment(&name, node, problems))
                .collect(),
        ),
        Content::Nothing => Some(Vec::new()),
        Content::Bool(_) | Content::Number(_) | Content::Text(_) => {
            problems.push(wrong);
            None
        }
    }
}

/// Writes the key of a deployment into it as its name.
fn name_deployment(key: &str, mut node: Node, problems: &mut Vec<Problem>) -> Node {
    let name = Node {
        place: node.place,
        field: node.field.clone(),
        content: Content::Text(key.to_owned()),
    };
    if let Content::Map(entries) = &mut node.content {
        match find(entries, "name") {
            None => entries.push(("name".to_owned(), name)),
            Some(inner) if inner.content == name.content => {}
            Some(inner) => problems.push(inner.expected(format_args!("{key:?}, as its key says"))),
        }
    }
    node
}

fn read_deployments(nodes: Vec<Node>, problems: &mut Vec<Problem>) -> Vec<DeploymentSpec> {
    let mut deployments: Vec<DeploymentSpec> = Vec::new();
    for node in nodes {
        let at = node.clone();
        let Some(deployment) = deployment::read(node, problems) else {
            continue;
        };
        if deployments
            .iter()
            .any(|earlier| earlier.name == deployment.name)
        {
            problems.push(at.problem(format!(
                "expected each deployment once, found `{}` twice",
                deployment.name
            )));
        }
        deployments.push(deployment);
    }
    deployments
}

/// Reads an endpoint in current spelling. None only with problems.
pub(super) fn read(root: Node, problems: &mut Vec<Problem>) -> Option<EndpointSpec> {
    let mut fields = Fields::open(root, problems);
    fields.ignore(READ_ONLY);
    fields.read("type", |node| {
        one_of(node, &["OnlineEndpoint", "online", "managed", "kubernetes"])
    });
    let name = fields.require("name", "a name", parsed);
    let description = fields.read("description", text);
    let tags = texts(fields.take("tags"), fields.problems());
    let properties = texts(fields.take("properties"), fields.problems());
    let auth_mode = fields.read("auth_mode", read_auth_mode);
    let traffic = fields
        .take("traffic")
        .map(|node| read_traffic(node, fields.problems()))
        .unwrap_or_default();
    let sticky = fields.take("sticky");
    let sticky = sticky.and_then(|node| read_sticky(node, fields.problems()));
    let mirror_traffic = fields.take(MIRROR_TRAFFIC);
    let mirrored = mirror_traffic.and_then(|node| read_mirror(node, fields.problems()));
    let shadow_traffic = fields.take(SHADOW_TRAFFIC);
    let shadow_traffic = shadow_traffic
        .map(|node| read_shadows(node, fields.problems()))
        .unwrap_or_default();
    let mut kept = read_kept(KEPT, &mut fields);
    kept.extend(mirrored.map(|mirrored| (MIRROR_TRAFFIC.to_owned(), mirrored)));
    fields.finish(
        &[
            &["deployments"],
            old_keys(spelling::ENDPOINT, "").as_slice(),
        ]
        .concat(),
    );
    Some(EndpointSpec {
        name: name?,
        description,
        tags,
        properties,
        auth_mode,
        traffic,
        sticky,
        shadow_traffic,
        kept,
    })
}

/// Reads one deployment and the share of requests of which it is to get a copy; nothing where that is none.
fn read_mirror(node: Node, problems: &mut Vec<Problem>) -> Option<Value> {
    const EXPECTED: &str = "one deployment with a whole percent from 0 to 50, as in `green: 10`";
    let wrong = node.expected(EXPECTED);
    let entries = match node.content {
        Content::Map(entries) if entries.len() <= 1 => entries,
        _ => {
            problems.push(wrong);
            return None;
        }
    };
    let (name, share) = entries.into_iter().next()?;
    let name = match name.parse::<DeploymentName>() {
        Ok(name) => name,
        Err(error) => {
            problems.push(share.problem(error.to_string()));
            return None;
        }
    };
    let percent = share.to_string().trim_matches('"').parse::<u8>().ok();
    match percent.filter(|percent| *percent <= MIRROR_PERCENT_MAX) {
        Some(0) => None,
        Some(percent) => Some(serde_json::json!({ name.as_str(): percent })),
        None => {
            problems.push(share.expected(EXPECTED));
            None
        }
    }
}

/// Reads deployments and the share of requests of which each is to get a copy; one with nothing is none.
fn read_shadows(node: Node, problems: &mut Vec<Problem>) -> BTreeMap<DeploymentName, Percent> {
    let at = node.clone();
    let Content::Map(entries) = node.content else {
        problems.push(at.expected("a mapping from deployments to percents"));
        return BTreeMap::new();
    };
    let mut shadows = BTreeMap::new();
    for (name, node) in entries {
        match read_share(&name, &node) {
            Ok((name, share)) => {
                if shadows.insert(name.clone(), share).is_some() {
                    problems.push(node.problem(TrafficError::Twice(name).to_string()));
                }
            }
            Err(error) => problems.push(node.problem(error.to_string())),
        }
    }
    shadows.retain(|_, share| *share > Percent::ZERO);
    if shadows.len() > SHADOWS_MAX {
        let count = shadows.len();
        problems.push(at.problem(format!(
            "expected at most {SHADOWS_MAX} deployments, found {count}"
        )));
    }
    shadows
}

fn read_share(name: &str, node: &Node) -> Result<(DeploymentName, Percent), TrafficError> {
    let percent = match &node.content {
        Content::Text(text) => text.parse()?,
        _ => node.to_string().parse()?,
    };
    Ok((name.parse()?, percent))
}

/// Reads `key`, `aml_token` or `aad_token`, also as `Key` and `AMLToken`.
fn read_auth_mode(node: Node) -> Result<WrittenAuthMode, Problem> {
    let Content::Text(text) = &node.content else {
        return Err(node.expected("key or aml_token"));
    };
    match text.to_lowercase().replace('_', "").as_str() {
        "key" => Ok(WrittenAuthMode::Key),
        "amltoken" => Ok(WrittenAuthMode::AmlToken),
        "aadtoken" => Ok(WrittenAuthMode::AadToken),
        _ => Err(node.expected("key or aml_token")),
    }
}

fn read_traffic(node: Node, problems: &mut Vec<Problem>) -> TrafficSplit {
    let at = node.clone();
    let Content::Map(entries) = node.content else {
        problems.push(at.expected("a mapping from deployments to percents"));
        return TrafficSplit::default();
    };
    let before = problems.len();
    let mut shares = Vec::new();
    for (name, node) in entries {
        match read_share(&name, &node) {
            Ok(share) => shares.push(share),
            Err(error) => problems.push(node.problem(error.to_string())),
        }
    }
    if problems.len() > before {
        return TrafficSplit::default();
    }
    TrafficSplit::new(shares).unwrap_or_else(|error| {
        problems.push(at.problem(error.to_string()));
        TrafficSplit::default()
    })
}
