//! Names of endpoints, deployments and models. Parsed once, valid ever after.
//!
//! Endpoint and deployment names are compared without case and shown as written (Azure's SDK lowercases them, the
//! documents that people copy from do not).

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::{NAME_LEN_MAX, NAME_LEN_MIN};

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
                "expected {NAME_LEN_MIN} to {NAME_LEN_MAX} letters, digits and dashes, from a letter to a letter or digit, found {text:?}"
            )));
        }
        let key = text.to_ascii_lowercase();
        Ok(Self {
            written: text.into(),
            key: key.into(),
        })
    }
}

macro_rules! caseless_name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(CaselessName);

        impl $name {
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
                let fits = (1..=$len_max).contains(&text.len())
                    && text.starts_with(|c: char| c.is_ascii_alphanumeric())
                    && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
                if fits {
                    Ok(Self(text.into()))
                } else {
                    Err(NameError(format!(
                        "expected 1 to {} letters, digits, dots, dashes and underscores, from a letter or digit, found {text:?}",
                        $len_max
                    )))
                }
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
        fn a_name_that_parses_is_a_path_segment_within_bounds(text in "\\PC{0,40}|[A-Za-z0-9-]{1,40}") {
            if let Ok(name) = text.parse::<DeploymentName>() {
                prop_assert!((NAME_LEN_MIN..=NAME_LEN_MAX).contains(&name.as_str().len()));
                prop_assert!(name.key().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
            }
        }
    }
}
