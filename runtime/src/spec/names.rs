//! Names of endpoints, deployments and models. Parsed once, valid ever after.
//!
//! Endpoint and deployment names are compared without case and shown as written (Azure's SDK lowercases them, the
//! documents that people copy from do not). Azure's rule for them binds what files and requests say; a program that has
//! endpoints of its own may call them `v1` or `my_model`.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::{NAME_LEN_MAX, NAME_LEN_MIN, PROGRAM_NAME_LEN_MAX};

/// The reason why a text is not a name: the rule, and what was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NameError(String);

/// A name compared without case; `key` is the lower-case form.
#[derive(Debug, Clone)]
struct CaselessName {
    written: Arc<str>,
    key: Arc<str>,
}

impl CaselessName {
    /// Parses by Azure's rule for endpoints and deployments (azureml.md 1.4, 1.7).
    fn parse(text: &str) -> Result<Self, NameError> {
        let fits = (NAME_LEN_MIN..=NAME_LEN_MAX).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.ends_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        if !fits {
            return Err(NameError(format!(
                "expected {NAME_LEN_MIN} to {NAME_LEN_MAX} letters, digits and dashes, from a letter to a letter or digit, found {}",
                shown(text)
            )));
        }
        Ok(Self::new(text))
    }

    /// Parses by the rule for programs: what is safe in logs, labels of metrics and paths.
    fn of_program(text: &str) -> Result<Self, NameError> {
        label(text, PROGRAM_NAME_LEN_MAX).map(Self::new)
    }

    fn new(text: &str) -> Self {
        let key = text.to_ascii_lowercase();
        Self {
            written: text.into(),
            key: key.into(),
        }
    }
}

/// A short label of any case, which cannot be read as anything else in a path.
fn label(text: &str, len_max: usize) -> Result<&str, NameError> {
    let fits = (1..=len_max).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    match fits {
        true => Ok(text),
        false => Err(NameError(format!(
            "expected 1 to {len_max} letters, digits, dots, dashes and underscores, from a letter or digit, found {}",
            shown(text)
        ))),
    }
}

/// A text of somebody as messages have it: in quotes, and cut where it is far longer than any name.
pub(crate) fn shown(text: &str) -> String {
    match text.char_indices().nth(2 * PROGRAM_NAME_LEN_MAX) {
        Some((end, _)) => format!("{:?}.. ({} bytes)", &text[..end], text.len()),
        None => format!("{text:?}"),
    }
}

macro_rules! caseless_name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(CaselessName);

        impl $name {
            /// Parses a name of a program, whose rule is wider than that of files: 1 to 64 letters, digits, dots, dashes and
            /// underscores, from a letter or digit.
            ///
            /// # Errors
            ///
            /// [`NameError`] with the rule and what was found.
            pub fn of_program(text: &str) -> Result<Self, NameError> {
                CaselessName::of_program(text).map(Self)
            }

            /// The name in lower case, as it is compared and stored.
            #[must_use]
            pub fn key(&self) -> &str {
                &self.0.key
            }

            /// The name as it was written.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0.written
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                CaselessName::parse(text).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.as_str().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.key() == other.key()
            }
        }

        impl Eq for $name {}

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Ord for $name {
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                self.key().cmp(other.key())
            }
        }

        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.key().hash(state);
            }
        }
    };
}

caseless_name! {
    /// Name of an endpoint.
    EndpointName
}
caseless_name! {
    /// Name of a deployment, unique within its endpoint.
    DeploymentName
}

macro_rules! asset_name {
    ($(#[$doc:meta])* $name:ident, $len_max:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text itself.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                label(text, $len_max).map(|text| Self(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.as_str().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

asset_name! {
    /// Name of a registered model. Case counts.
    ModelName, 255
}
asset_name! {
    /// Version of a registered model: digits, or any short label.
    ModelVersion, 30
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_compared_without_case_and_shown_as_written() {
        let written: EndpointName = "myEndpoint".parse().expect("a name");
        let lower: EndpointName = "myendpoint".parse().expect("a name");
        assert_eq!(written, lower);
        assert_eq!(
            (written.as_str(), written.key()),
            ("myEndpoint", "myendpoint")
        );
    }

    #[test]
    fn a_program_may_use_names_that_no_file_may() {
        for name in ["v1", "my_model", "a", "2024.1", "blue-", "BLUE"] {
            let endpoint = EndpointName::of_program(name).expect(name);
            assert_eq!(endpoint.key(), name.to_lowercase());
            assert_eq!(DeploymentName::of_program(name).expect(name).as_str(), name);
            let is_of_files = name == "BLUE";
            assert_eq!(name.parse::<DeploymentName>().is_ok(), is_of_files);
            let stored = serde_json::from_value::<EndpointName>(name.into());
            assert_eq!(stored.is_ok(), is_of_files);
        }
        let long = "x".repeat(65);
        let never = [
            "", ".", "..", "-a", "_a", "a b", "a/b", "a:b", "a=1", "a,b", "a\n", "a\"", "\u{e4}",
            &long,
        ];
        for name in never {
            let refused = EndpointName::of_program(name).expect_err(name).to_string();
            let words = "expected 1 to 64 letters, digits, dots, dashes and underscores, from a letter or digit, found ";
            assert_eq!(refused, format!("{words}{name:?}"));
        }
        assert_eq!(
            EndpointName::of_program("My_Model"),
            EndpointName::of_program("my_model")
        );
    }

    #[test]
    fn names_of_models_keep_their_case_and_may_hold_dots() {
        let model: ModelName = "My_Model.v2".parse().expect("a name");
        assert_ne!(Ok(model), "my_model.v2".parse());
        assert_eq!(
            "../up"
                .parse::<ModelName>()
                .expect_err("refused")
                .to_string(),
            "expected 1 to 255 letters, digits, dots, dashes and underscores, from a letter or digit, found \"../up\""
        );
        assert_eq!(
            "".parse::<ModelVersion>().expect_err("refused").to_string(),
            "expected 1 to 30 letters, digits, dots, dashes and underscores, from a letter or digit, found \"\""
        );
    }

    proptest! {
        #[test]
        fn what_a_file_may_say_a_program_may_say_too(text in "\\PC{0,70}|[A-Za-z0-9._-]{1,70}") {
            let of_program = DeploymentName::of_program(&text);
            if let Ok(name) = text.parse::<DeploymentName>() {
                prop_assert_eq!(of_program.as_ref(), Ok(&name));
            }
            if let Ok(name) = of_program {
                prop_assert!(name.as_str().len() <= 64);
                prop_assert!(name.key().bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)));
            }
        }

        #[test]
        fn a_name_that_parses_is_a_path_segment_within_bounds(text in "\\PC{0,40}|[A-Za-z0-9-]{1,40}") {
            if let Ok(name) = text.parse::<DeploymentName>() {
                prop_assert!((NAME_LEN_MIN..=NAME_LEN_MAX).contains(&name.as_str().len()));
                prop_assert!(name.key().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
            }
        }
    }
}
