//! The Python that a file asks for, and whether a version grants the wish. Pure.
//!
//! Not here: which interpreters there are, and which of several is taken (`python`).

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A version of Python: 3, 11, 7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Version {
    pub(super) major: u32,
    pub(super) minor: u32,
    pub(super) patch: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match numbers(text)?[..] {
            [major, minor, patch] => Ok(Self {
                major,
                minor,
                patch,
            }),
            _ => Err(format!("expected a version such as 3.11.7, found {text:?}")),
        }
    }
}

/// The versions of Python that will do, such as `3.8`, `>=3.8` or `>=3.8,<3.11`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct PythonWish {
    clauses: Vec<Clause>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Clause {
    operator: Operator,
    /// One to three numbers. A version is compared with as many of its own: 3.8.18 is `==3.8`, and `<=3.8`.
    version: Vec<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Is,
    IsNot,
    AtLeast,
    AtMost,
    Above,
    Below,
    Compatible,
}

/// Longer operators stand before those that they begin with.
const OPERATORS: [(&str, Operator); 9] = [
    ("===", Operator::Is),
    ("==", Operator::Is),
    ("!=", Operator::IsNot),
    (">=", Operator::AtLeast),
    ("<=", Operator::AtMost),
    ("~=", Operator::Compatible),
    (">", Operator::Above),
    ("<", Operator::Below),
    ("=", Operator::Is),
];

impl PythonWish {
    pub(super) fn grants(&self, version: Version) -> bool {
        self.clauses.iter().all(|clause| clause.holds(version))
    }

    /// Whether one minor version alone will do, so that the highest patch is the best of them.
    pub(super) fn names_a_minor(&self) -> bool {
        self.clauses
            .iter()
            .any(|clause| clause.operator == Operator::Is && clause.version.len() > 1)
    }

    /// The version that others are near to, or far from: the first that is named.
    pub(super) fn near(&self) -> (u32, u32) {
        let first = self.clauses.first();
        let number = |index: usize| first.and_then(|clause| clause.version.get(index)).copied();
        (number(0).unwrap_or(3), number(1).unwrap_or_default())
    }
}

impl Clause {
    fn holds(&self, found: Version) -> bool {
        let found = [found.major, found.minor, found.patch];
        let order = found[..self.version.len()].cmp(&self.version[..]);
        match self.operator {
            Operator::Is => order == Ordering::Equal,
            Operator::IsNot => order != Ordering::Equal,
            Operator::AtLeast => order != Ordering::Less,
            Operator::AtMost => order != Ordering::Greater,
            Operator::Above => order == Ordering::Greater,
            Operator::Below => order == Ordering::Less,
            Operator::Compatible => {
                let series = self.version.len().saturating_sub(1);
                order != Ordering::Less && found[..series] == self.version[..series]
            }
        }
    }
}

impl fmt::Display for PythonWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, clause) in self.clauses.iter().enumerate() {
            let separator = if index > 0 { "," } else { "" };
            let operator = match (clause.operator, self.clauses.len()) {
                (Operator::Is, 1) => "",
                (Operator::Is, _) => "==",
                (Operator::IsNot, _) => "!=",
                (Operator::AtLeast, _) => ">=",
                (Operator::AtMost, _) => "<=",
                (Operator::Above, _) => ">",
                (Operator::Below, _) => "<",
                (Operator::Compatible, _) => "~=",
            };
            let version: Vec<String> = clause.version.iter().map(u32::to_string).collect();
            write!(f, "{separator}{operator}{}", version.join("."))?;
        }
        Ok(())
    }
}

impl FromStr for PythonWish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let clauses = text.split(',').map(|clause| clause_of(clause.trim()));
        Ok(Self {
            clauses: clauses.collect::<Result<_, _>>()?,
        })
    }
}

impl TryFrom<String> for PythonWish {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<PythonWish> for String {
    fn from(wish: PythonWish) -> Self {
        wish.to_string()
    }
}

fn clause_of(text: &str) -> Result<Clause, String> {
    let operator = OPERATORS.iter().find(|(sign, _)| text.starts_with(sign));
    let (sign, operator) =
        operator.map_or(("", Operator::Is), |(sign, operator)| (sign, *operator));
    let version = text[sign.len()..].trim();
    let version = version
        .strip_suffix(".*")
        .or_else(|| version.strip_suffix('*'))
        .unwrap_or(version);
    Ok(Clause {
        operator,
        version: numbers(version)?,
    })
}

fn numbers(text: &str) -> Result<Vec<u32>, String> {
    let numbers: Result<Vec<u32>, _> = text.split('.').map(str::parse).collect();
    numbers
        .ok()
        .filter(|numbers| numbers.len() <= 3)
        .ok_or_else(|| format!("expected a version of Python such as 3.8, found {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(wish: &str, version: &str) -> bool {
        let wish: PythonWish = wish.parse().expect("a wish");
        wish.grants(version.parse().expect("a version"))
    }

    #[test]
    fn a_wish_compares_as_many_numbers_as_it_names() {
        for (wish, yes, no) in [
            ("3.8", "3.8.18", "3.9.0"),
            ("=3.8.*", "3.8.0", "3.80.0"),
            ("==3.8.5", "3.8.5", "3.8.6"),
            (">=3.8", "3.13.0", "3.7.16"),
            (">=3.8,<3.11", "3.10.13", "3.11.0"),
            ("<=3.8", "3.8.18", "3.9.0"),
            (">3.8", "3.9.0", "3.8.18"),
            ("~=3.8", "3.13.0", "2.7.18"),
            ("~=3.8.2", "3.8.18", "3.9.0"),
            ("!=3.9", "3.8.0", "3.9.18"),
            ("3", "3.12.1", "2.7.18"),
        ] {
            assert!(grants(wish, yes), "{wish} and {yes}");
            assert!(!grants(wish, no), "{wish} and {no}");
        }
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for wrong in [
            "",
            "three",
            ">=",
            "3.8.1.2",
            "3..8",
            ">=3.8,",
            "3.8|3.9",
            "99999999999",
        ] {
            assert!(wrong.parse::<PythonWish>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_wish_that_is_stored_comes_back() {
        for wish in ["3.8", ">=3.8,<3.11", "==3.8,!=3.8.1", "~=3.8"] {
            let read: PythonWish = wish.parse().expect("a wish");
            let stored = serde_json::to_string(&read).expect("JSON");
            assert_eq!(stored, format!("{wish:?}"));
            assert_eq!(
                serde_json::from_str::<PythonWish>(&stored).expect("stored"),
                read
            );
        }
    }
}
