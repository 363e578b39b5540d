//! Old spellings of keys, and how they become the current ones.
//!
//! The tables are read from top to bottom: a row renames one path, and later rows see the new name. So the keys of an
//! old section need one row for the section and one for each key that has another name or another home.

use super::Problem;
use super::node::{Content, Entries, Node, find, remove};

/// An old path and the current one.
pub(super) type Spelling = (&'static str, &'static str);

/// Spellings of endpoint files.
pub(super) const ENDPOINT: &[Spelling] = &[
    ("target", "compute"),
    ("infrastructure", "compute"),
    ("swagger_uri", "openapi_uri"),
];

/// Spellings of deployment files.
pub(super) const DEPLOYMENT: &[Spelling] = &[
    ("sku", "instance_type"),
    ("scale", "scale_settings"),
    ("scale_settings.scale_type", "scale_settings.type"),
    ("scale_settings.instance_count", "instance_count"),
    ("scale_settings.minimum", "scale_settings.min_instances"),
    ("scale_settings.maximum", "scale_settings.max_instances"),
    ("request", "request_settings"),
    ("code_reference", "code_configuration"),
    ("code_configuration.directory", "code_configuration.code"),
    (
        "code_configuration.code.scoring_script",
        "code_configuration.scoring_script",
    ),
    (
        "code_configuration.code.directory",
        "code_configuration.code",
    ),
    (
        "code_configuration.code.local_path",
        "code_configuration.code",
    ),
    ("model.local_path", "model.path"),
    ("model.asset_path", "model.path"),
    ("model.model_uri", "model.path"),
    ("model.model_format", "model.type"),
    ("environment.docker.image", "environment.image"),
    ("environment.build.local_path", "environment.build.path"),
    (
        "liveness_probe.initial_delay_seconds",
        "liveness_probe.initial_delay",
    ),
    ("liveness_probe.period_seconds", "liveness_probe.period"),
    ("liveness_probe.timeout_seconds", "liveness_probe.timeout"),
];

/// Spellings of model files.
#[cfg(feature = "server")]
pub(super) const MODEL: &[Spelling] = &[
    ("local_path", "path"),
    ("asset_path", "path"),
    ("model_uri", "path"),
    ("model_format", "type"),
];

/// Keys beside the path of a folder of code, from when code was registered too.
const ABOUT_CODE: &[&str] = &["name", "version", "description", "tags", "properties"];

/// Rewrites every old spelling in a mapping. Two spellings of one thing are a problem that names both.
pub(super) fn modernise(root: &mut Node, spellings: &[Spelling], problems: &mut Vec<Problem>) {
    let Content::Map(entries) = &mut root.content else {
        return;
    };
    for (old, new) in spellings {
        if let Some(node) = take_path(entries, old) {
            let within = old.strip_prefix(new).unwrap_or_default();
            if within.starts_with('.') {
                for key in ABOUT_CODE {
                    drop(take_path(entries, &format!("{new}.{key}")));
                }
            }
            put_path(entries, new, node, problems);
        }
    }
}

/// The old spellings that could stand directly within `section`, for suggestions.
pub(super) fn old_keys(spellings: &[Spelling], section: &str) -> Vec<&'static str> {
    spellings
        .iter()
        .map(|(old, _)| old.rsplit_once('.').unwrap_or(("", old)))
        .filter(|(parent, _)| *parent == section)
        .map(|(_, key)| key)
        .collect()
}

/// Takes out the value at a path, and the mappings on the way that it leaves empty.
fn take_path(entries: &mut Entries, path: &str) -> Option<Node> {
    let Some((section, rest)) = path.split_once('.') else {
        return remove(entries, path);
    };
    let Content::Map(inner) = find_mut(entries, section)? else {
        return None;
    };
    let node = take_path(inner, rest)?;
    if inner.is_empty() {
        remove(entries, section);
    }
    Some(node)
}

fn put_path(entries: &mut Entries, path: &str, node: Node, problems: &mut Vec<Problem>) {
    let (key, rest) = path
        .split_once('.')
        .map_or((path, None), |(key, rest)| (key, Some(rest)));
    match (find(entries, key), rest) {
        (None, None) => entries.push((key.to_owned(), node)),
        (Some(other), None) => problems.push(node.problem(format!(
            "expected `{}` or `{}`, which mean the same, found both",
            other.field, node.field
        ))),
        (_, Some(rest)) => {
            if find(entries, key).is_none() {
                let section = Node {
                    place: node.place,
                    field: node.field.clone(),
                    content: Content::Map(Entries::new()),
                };
                entries.push((key.to_owned(), section));
            }
            if let Some(Content::Map(inner)) = find_mut(entries, key) {
                put_path(inner, rest, node, problems);
            }
        }
    }
}

fn find_mut<'a>(entries: &'a mut Entries, key: &str) -> Option<&'a mut Content> {
    entries
        .iter_mut()
        .find(|(entry, _)| entry == key)
        .map(|(_, node)| &mut node.content)
}

/// Puts `value` at `path`, which may be in any spelling, of a mapping in current spelling.
///
/// The value at the end of the path is replaced; mappings on the way keep their other keys.
pub(super) fn assign(root: &mut Node, path: &str, value: Node, spellings: &[Spelling]) {
    let mut path = path.to_owned();
    for (old, new) in spellings {
        if let Some(rest) = path.strip_prefix(old)
            && (rest.is_empty() || rest.starts_with('.'))
        {
            path = format!("{new}{rest}");
        }
    }
    let mut target = root;
    for part in path.split('.') {
        let (key, entry) = entry_of(part);
        if !matches!(target.content, Content::Map(_)) {
            target.content = Content::Map(Entries::new());
        }
        let Content::Map(entries) = &mut target.content else {
            return;
        };
        let index = entries
            .iter()
            .position(|(entry, _)| entry == key)
            .unwrap_or_else(|| {
                let nothing = Node {
                    content: Content::Nothing,
                    ..value.clone()
                };
                entries.push((key.to_owned(), nothing));
                entries.len() - 1
            });
        let Some((_, next)) = entries.get_mut(index) else {
            return;
        };
        target = match entry {
            None => next,
            Some(entry) => entry_at(entry, next, &value),
        };
    }
    *target = value;
}

/// The key of a part of a path, and the number of an entry of its list: `identities[0]`.
fn entry_of(part: &str) -> (&str, Option<usize>) {
    let split = part.strip_suffix(']').and_then(|part| part.split_once('['));
    let entry = split.and_then(|(key, number)| Some((key, number.parse().ok()?)));
    match entry {
        Some((key, number)) if !key.is_empty() => (key, Some(number)),
        _ => (part, None),
    }
}

/// An entry of a list, which is made where there is none; a number beyond its end is the next one.
fn entry_at<'a>(entry: usize, list: &'a mut Node, value: &Node) -> &'a mut Node {
    if !matches!(list.content, Content::List(_)) {
        list.content = Content::List(Vec::new());
    }
    let Content::List(items) = &mut list.content else {
        unreachable!("it was made a list above")
    };
    let entry = entry.min(items.len());
    if entry == items.len() {
        items.push(Node {
            content: Content::Nothing,
            ..value.clone()
        });
    }
    &mut items[entry]
}
