//! Keys and tokens of endpoints, made from one secret file.
//!
//! A key is a function of the secret, the endpoint and a generation number, so `get-credentials` can show it at any time while
//! the store holds no key. A copy of the database alone opens no endpoint.
//!
//! Not here: their format and the check of what a client sends (`router::EndpointAuth`).

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::control::change::KeyType;
use crate::control::desired::{Revision, WantedEndpoint};
use crate::router::EndpointAuth;
use crate::router::auth::{hash_of_key, key, token, token_secret};
use crate::spec::{AuthMode, EndpointName};

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

/// The secret that all keys and tokens come from. Losing the file renews them all.
#[derive(Clone)]
pub(super) struct Secret([u8; 32]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// Reads `<data>/secret`, or makes it: 32 random bytes that this user alone may read.
    pub(super) fn load(data: &Path) -> io::Result<Self> {
        let path = data.join("secret");
        match fs::read(&path) {
            Ok(bytes) => bytes.try_into().map(Self).map_err(|bytes: Vec<u8>| {
                let found = format!("{} has {} bytes, expected 32: put the old file back, or delete it to renew all keys", path.display(), bytes.len());
                io::Error::new(io::ErrorKind::InvalidData, found)
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::make(data, &path),
            Err(error) => Err(error),
        }
    }

    fn make(data: &Path, path: &Path) -> io::Result<Self> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        let unnamed = data.join("secret.new");
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unnamed)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&unnamed, path)?;
        File::open(data)?.sync_all()?;
        Ok(Self(bytes))
    }

    fn key(
        &self,
        endpoint: &EndpointName,
        which: KeyType,
        Revision(generation): Revision,
    ) -> String {
        key(&self.0, endpoint, &which.to_string(), generation)
    }

    /// What the data plane checks requests of this endpoint against.
    pub(super) fn auth(&self, endpoint: &WantedEndpoint) -> EndpointAuth {
        let (name, generations) = (&endpoint.spec.name, endpoint.generations);
        let hash = |key: String| hash_of_key(&key);
        match endpoint.spec.auth_mode() {
            AuthMode::Key => EndpointAuth::Key {
                hashes: [
                    hash(self.key(name, KeyType::Primary, generations.primary)),
                    hash(self.key(name, KeyType::Secondary, generations.secondary)),
                ],
            },
            AuthMode::AmlToken => EndpointAuth::Token {
                secret: token_secret(&self.0, name),
                generation: generations.token.0,
            },
        }
    }

    /// What clients of this endpoint send: its keys, or a new token that is good for `life`.
    pub(super) fn credentials(
        &self,
        endpoint: &WantedEndpoint,
        now_unix_s: i64,
        life: Duration,
    ) -> Credentials {
        let (name, generations) = (&endpoint.spec.name, endpoint.generations);
        match endpoint.spec.auth_mode() {
            AuthMode::Key => Credentials::Keys {
                primary_key: self.key(name, KeyType::Primary, generations.primary),
                secondary_key: self.key(name, KeyType::Secondary, generations.secondary),
            },
            AuthMode::AmlToken => {
                let life_s = i64::try_from(life.as_secs()).unwrap_or(i64::MAX / 2);
                let exp = now_unix_s.saturating_add(life_s);
                Credentials::Token {
                    access_token: token(&token_secret(&self.0, name), generations.token.0, exp),
                    expiry_time_utc: exp,
                    // At 80 % of its life, so that a client which renews then never meets an expired one.
                    refresh_after_time_utc: now_unix_s.saturating_add(life_s / 5 * 4),
                    token_type: "Bearer".to_owned(),
                }
            }
        }
    }
}
