//! Fields of a mapping: taken out one by one, and everything that is wrong with them gathered.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::node::{Content, Entries, Node, find, join, remove};
use super::{Place, Problem};

/// A mapping while it is read. What nobody asked for is unknown at the end.
pub(crate) struct Fields<'p> {
    entries: Entries,
    place: Option<Place>,
    field: String,
    asked: Vec<&'static str>,
    problems: &'p mut Vec<Problem>,
}

impl<'p> Fields<'p> {
    /// Opens a mapping; anything else is a problem and reads as an empty one.
    pub(crate) fn open(node: Node, problems: &'p mut Vec<Problem>) -> Self {
        let wrong = node.expected("a mapping");
        let entries = match node.content {
            Content::Map(entries) => entries,
            Content::Nothing => Entries::new(),
            Content::Bool(_) | Content::Number(_) | Content::Text(_) | Content::List(_) => {
                problems.push(wrong);
                Entries::new()
            }
        };
        Self {
            entries,
            place: node.place,
            field: node.field,
            asked: Vec::new(),
            problems,
        }
    }

    /// The list for problems that are found in what was taken.
    pub(crate) fn problems(&mut self) -> &mut Vec<Problem> {
        self.problems
    }

    /// Takes a value; one that is there without content counts as absent.
    pub(crate) fn take(&mut self, key: &'static str) -> Option<Node> {
        self.asked.push(key);
        remove(&mut self.entries, key).filter(|node| node.content != Content::Nothing)
    }

    /// Whether a value is there to be taken.
    pub(crate) fn has(&self, key: &str) -> bool {
        find(&self.entries, key).is_some_and(|node| node.content != Content::Nothing)
    }

    /// Takes a value and judges it.
    pub(crate) fn read<T>(
        &mut self,
        key: &'static str,
        judge: impl FnOnce(Node) -> Result<T, Problem>,
    ) -> Option<T> {
        let node = self.take(key)?;
        judge(node)
            .map_err(|problem| self.problems.push(problem))
            .ok()
    }

    /// Takes a value that must be there; `what` says of which kind.
    pub(crate) fn require<T>(
        &mut self,
        key: &'static str,
        what: &str,
        judge: impl FnOnce(Node) -> Result<T, Problem>,
    ) -> Option<T> {
        if let Some(node) = self.take(key) {
            return judge(node)
                .map_err(|problem| self.problems.push(problem))
                .ok();
        }
        self.problems.push(Problem {
            place: self.place.filter(|_| !self.field.is_empty()),
            field: join(&self.field, key),
            message: format!("expected {what}, found nothing"),
            suggestion: None,
        });
        None
    }

    /// Drops values that say nothing to serin.
    pub(crate) fn ignore(&mut self, keys: &[&'static str]) {
        for key in keys {
            drop(self.take(key));
        }
    }

    /// Ends the reading: what is left is unknown. `also` are other spellings, for suggestions.
    pub(crate) fn finish(mut self, also: &[&'static str]) {
        self.asked.extend(also);
        for (key, node) in &self.entries {
            self.problems.push(Problem {
                suggestion: nearest(key, self.asked.iter().copied()),
                ..node.problem("unknown key")
            });
        }
    }
}

/// The candidate that a misspelt word was meant to be, if one is near.
pub(crate) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<String> {
    let distance = |candidate: &str| {
        strsim::damerau_levenshtein(&word.to_lowercase(), &candidate.to_lowercase())
    };
    candidates
        .map(|candidate| (distance(candidate), candidate))
        .min()
        // One slip in three letters; more is another word.
        .filter(|(distance, candidate)| *distance <= candidate.len().div_ceil(3))
        .map(|(_, candidate)| candidate.to_owned())
}

/// Text; a number counts as its text, as in `version: 1`.
pub(crate) fn text(node: Node) -> Result<String, Problem> {
    match node.content {
        Content::Text(text) => Ok(text),
        Content::Number(number) => Ok(number.to_string()),
        Content::Nothing | Content::Bool(_) | Content::List(_) | Content::Map(_) => {
            Err(node.expected("text"))
        }
    }
}

/// Text that parses, such as a name.
pub(crate) fn parsed<T: FromStr<Err: fmt::Display>>(node: Node) -> Result<T, Problem> {
    let at = node.clone();
    text(node)?
        .parse()
        .map_err(|error: T::Err| at.problem(error.to_string()))
}

/// A whole number within bounds, also as text and with zeros behind a point: `'2'`, `3000.0`.
pub(crate) fn whole<T>(bounds: RangeInclusive<T>) -> impl FnOnce(Node) -> Result<T, Problem>
where
    T: TryFrom<u64> + PartialOrd + fmt::Display,
{
    move |node| {
        let (least, most) = (bounds.start(), bounds.end());
        let written = match &node.content {
            Content::Number(number) => number.to_string(),
            Content::Text(text) => text.trim().to_owned(),
            Content::Nothing | Content::Bool(_) | Content::List(_) | Content::Map(_) => {
                String::new()
            }
        };
        let digits = match written.split_once('.') {
            Some((whole, rest)) if rest.bytes().all(|byte| byte == b'0') => whole,
            _ => written.as_str(),
        };
        let unsigned = digits.strip_prefix('-').unwrap_or(digits);
        if unsigned.is_empty() || !unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(node.expected(format_args!("a whole number from {least} to {most}")));
        }
        let number: Option<u64> = digits.parse().ok();
        number
            .and_then(|number| T::try_from(number).ok())
            .filter(|number| bounds.contains(number))
            .ok_or_else(|| node.expected(format_args!("{least} to {most}")))
    }
}

/// `true` or `false`, also as text.
pub(crate) fn yes_or_no(node: Node) -> Result<bool, Problem> {
    match node.content {
        Content::Bool(bool) => Ok(bool),
        Content::Text(ref text) if text.eq_ignore_ascii_case("true") => Ok(true),
        Content::Text(ref text) if text.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err(node.expected("true or false")),
    }
}

/// A word of a list; case does not count.
pub(crate) fn one_of(node: Node, words: &[&str]) -> Result<String, Problem> {
    let known = matches!(&node.content, Content::Text(text)
        if words.iter().any(|word| word.eq_ignore_ascii_case(text)));
    if known {
        text(node)
    } else {
        Err(node.expected(words.join(" or ")))
    }
}

/// A mapping of texts, such as tags.
pub(crate) fn texts(node: Option<Node>, problems: &mut Vec<Problem>) -> BTreeMap<String, String> {
    let Some(node) = node else {
        return BTreeMap::new();
    };
    let wrong = node.expected("a mapping");
    let Content::Map(entries) = node.content else {
        problems.push(wrong);
        return BTreeMap::new();
    };
    let mut texts = BTreeMap::new();
    for (key, node) in entries {
        let read = match node.content {
            Content::Bool(bool) => Ok(bool.to_string()),
            Content::Nothing => Ok(String::new()),
            Content::Number(_) | Content::Text(_) | Content::List(_) | Content::Map(_) => {
                text(node)
            }
        };
        match read {
            Ok(text) => drop(texts.insert(key, text)),
            Err(problem) => problems.push(problem),
        }
    }
    texts
}
