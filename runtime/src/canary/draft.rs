//! A rollout while its file is read: what the three forms of files fill in, and the values that they share.

use crate::canary::feedback_plan::FeedbackPlan;
use crate::canary::guard_plan::GuardPlan;
use crate::canary::plan::{Hook, OnSlowed, OnUndecided, Step, StickyKey, origin};
use crate::spec::{Content, Fields, Node, Place, Problem, text};

/// A rollout as its file says it, without what the file leaves out.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) steps: Vec<Step>,
    pub(super) guard: Option<GuardPlan>,
    pub(super) on_undecided: OnUndecided,
    pub(super) on_slowed: OnSlowed,
    pub(super) seconds_max: Option<u64>,
    pub(super) sticky: Option<StickyKey>,
    pub(super) notify: Vec<Hook>,
    pub(super) feedback: Option<FeedbackPlan>,
    pub(super) notes: Vec<String>,
    /// The places of the steps, for what is wrong with the ramp as a whole.
    pub(super) places: Vec<Option<Place>>,
}

/// Reads hooks: a list of `url: ..` and `command: ..`.
pub(super) fn read_hooks(node: Node, problems: &mut Vec<Problem>) -> Vec<Hook> {
    let wrong = node.expected("a list of `url: ..` and `command: ..`");
    let Content::List(items) = node.content else {
        problems.push(wrong);
        return Vec::new();
    };
    items
        .into_iter()
        .filter_map(|item| read_hook(item, problems))
        .collect()
}

/// Reads one hook.
pub(super) fn read_hook(node: Node, problems: &mut Vec<Problem>) -> Option<Hook> {
    let wrong = node.expected("`url: ..` or `command: ..`");
    let mut fields = Fields::open(node, problems);
    let url = fields.read("url", read_url);
    let command = fields.take("command");
    let command = command.and_then(|node| read_command(node, fields.problems()));
    fields.finish(&[]);
    match (url, command) {
        (Some(url), None) => Some(Hook::Url(url)),
        (None, Some(words)) => Some(Hook::Command(words)),
        _ => {
            problems.push(wrong);
            None
        }
    }
}

/// Reads an address that a hook can have.
pub(super) fn read_url(node: Node) -> Result<String, Problem> {
    let at = node.clone();
    let url = text(node)?;
    let origin = origin(&url);
    let https = || origin.strip_prefix("https://");
    let authority = origin.strip_prefix("http://").or_else(https);
    let is_one = authority.is_some_and(|authority| {
        let name = match authority.rsplit_once(':') {
            // The colons in brackets are those of an address of IPv6.
            Some((name, port)) if !port.ends_with(']') => port.parse::<u16>().ok().map(|_| name),
            _ => Some(authority),
        };
        name.is_some_and(|name| !name.is_empty() && !name.contains('@'))
    });
    if is_one && url.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(url);
    }
    Err(at.expected("an address such as https://example.org/hook or http://127.0.0.1:9000/hook"))
}

fn read_command(node: Node, problems: &mut Vec<Problem>) -> Option<Vec<String>> {
    let wrong = node.expected("a program, or a list of a program and its arguments");
    let words = match node.content {
        // As a shell would split it without quotes: who needs more writes a list.
        Content::Text(line) => line.split_whitespace().map(str::to_owned).collect(),
        Content::List(items) => {
            let words: Result<Vec<_>, _> = items.into_iter().map(text).collect();
            words.map_err(|problem| problems.push(problem)).ok()?
        }
        _ => Vec::new(),
    };
    if words.is_empty() {
        problems.push(wrong);
        return None;
    }
    Some(words)
}

/// A time in seconds: `90`, `90s`, `10m`, `1h30m`.
pub(super) fn read_seconds(node: Node) -> Result<u64, Problem> {
    const SECONDS_MAX: u64 = 366 * 24 * 3600;
    let at = node.clone();
    let written = text(node)?;
    let seconds = seconds_of(&written).filter(|seconds| *seconds <= SECONDS_MAX);
    seconds.ok_or_else(|| at.expected("a time such as 90s, 10m or 1h30m, of a year at most"))
}

fn seconds_of(written: &str) -> Option<u64> {
    if let Ok(seconds) = written.parse() {
        return Some(seconds);
    }
    let (mut rest, mut sum) = (written, 0_u64);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let unit = match tail.chars().next()? {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            _ => return None,
        };
        sum = sum.checked_add(number.parse::<u64>().ok()?.checked_mul(unit)?)?;
        rest = &tail[1..];
    }
    (!written.is_empty()).then_some(sum)
}
