//! Credentials
use serde::{Deserialize, Serialize};

/// What a client needs to score, in the fields of `az ml online-endpoint get-credentials`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Credentials {
    /// Two keys that do not expire; both are good.
    #[serde(rename_all = "camelCase")]
    Keys {
        primary_key: String,
        secondary_key: String,
    },
    /// A token that expires. Times are Unix seconds.
    #[serde(rename_all = "camelCase")]
    Token {
        access_token: String,
        expiry_time_utc: i64,
        refresh_after_time_utc: i64,
        token_type: String,
    },
}

impl std::fmt::Debug for Credentials {
    /// Without the secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Keys { .. } => "Credentials::Keys",
            Self::Token { .. } => "Credentials::Token",
        })
    }
}
