//! Keys and tokens of endpoints, made from one secret file.
//!
//! A key is a function of the secret, the endpoint and a random generation, so `get-credentials` can show it at any time while
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
use crate::control::desired::{DesiredEndpoint, Generation, Generations};
use crate::control::work::AuthSource;
use crate::router::EndpointAuth;
use crate::router::auth::{hash_of_key, key, token, token_secret};
use crate::spec::{AuthMode, EndpointName, EndpointSpec};

/// The credentials that a client needs to score, in the fields of `az ml online-endpoint get-credentials`.
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

impl Credentials {
    /// The word that a request brings behind `Bearer`.
    #[must_use]
    pub fn bearer(&self) -> &str {
        match self {
            Self::Keys { primary_key, .. } => primary_key,
            Self::Token { access_token, .. } => access_token,
        }
    }
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
        Generation(generation): Generation,
    ) -> String {
        key(&self.0, endpoint, &which.to_string(), generation)
    }
}

/// A generation that never was, neither in this database nor in one that was lost.
pub(super) fn draw_generation() -> Generation {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the system has random numbers");
    Generation(u64::from_ne_bytes(bytes))
}

/// The secret, with the life of the tokens that are made from it.
#[derive(Debug, Clone)]
pub(super) struct Issuer {
    secret: Secret,
    life_s: i64,
}

impl Issuer {
    pub(super) fn new(secret: Secret, token_life: Duration) -> Self {
        let life_s = i64::try_from(token_life.as_secs()).unwrap_or(i64::MAX / 2);
        Self { secret, life_s }
    }

    /// The credentials of clients of this endpoint: its keys, or a new token.
    pub(super) fn credentials(&self, endpoint: &DesiredEndpoint, now_unix_s: i64) -> Credentials {
        let (name, generations) = (&endpoint.spec.name, endpoint.generations);
        match endpoint.spec.auth_mode() {
            AuthMode::Key => Credentials::Keys {
                primary_key: self.secret.key(name, KeyType::Primary, generations.primary),
                secondary_key: self
                    .secret
                    .key(name, KeyType::Secondary, generations.secondary),
            },
            AuthMode::AmlToken => {
                let secret = token_secret(&self.secret.0, name);
                let exp = now_unix_s.saturating_add(self.life_s);
                Credentials::Token {
                    access_token: token(&secret, generations.token.0, now_unix_s, exp),
                    expiry_time_utc: exp,
                    // At 80 % of its life, so that a client which renews then never meets an expired one.
                    refresh_after_time_utc: now_unix_s.saturating_add(self.life_s / 5 * 4),
                    token_type: "Bearer".to_owned(),
                }
            }
        }
    }
}

impl AuthSource for Issuer {
    fn auth(&self, endpoint: &EndpointSpec, generations: Generations) -> EndpointAuth {
        let name = &endpoint.name;
        let hash = |key: String| hash_of_key(&key);
        match endpoint.auth_mode() {
            AuthMode::Key => EndpointAuth::Key {
                hashes: [
                    hash(self.secret.key(name, KeyType::Primary, generations.primary)),
                    hash(
                        self.secret
                            .key(name, KeyType::Secondary, generations.secondary),
                    ),
                ],
            },
            AuthMode::AmlToken => EndpointAuth::Token {
                secret: token_secret(&self.secret.0, name),
                generation: generations.token.0,
                life_s: self.life_s,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::router::Unauthorized;

    fn endpoint(auth_mode: AuthMode, primary: u64) -> DesiredEndpoint {
        let mut spec = EndpointSpec::new("iris".parse().expect("a name"));
        spec.set_auth_mode(auth_mode);
        let generations = Generations {
            primary: Generation(primary),
            secondary: Generation(1),
            token: Generation(1),
        };
        DesiredEndpoint {
            spec,
            generations,
            deployments: BTreeMap::new(),
            pending: None,
        }
    }

    fn issuer() -> Issuer {
        Issuer::new(Secret([7; 32]), Duration::from_secs(3600))
    }

    fn keys(issuer: &Issuer, endpoint: &DesiredEndpoint) -> (String, String) {
        match issuer.credentials(endpoint, 0) {
            Credentials::Keys {
                primary_key,
                secondary_key,
            } => (primary_key, secondary_key),
            Credentials::Token { .. } => panic!("expected keys"),
        }
    }

    #[test]
    fn the_secret_is_made_once_and_readable_for_its_owner_alone() {
        let data = tempfile::tempdir().expect("a folder");
        let made = Secret::load(data.path()).expect("made");
        assert_eq!(Secret::load(data.path()).expect("read").0, made.0);
        let mode = fs::metadata(data.path().join("secret"))
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn both_keys_open_the_endpoint_and_a_renewed_one_shuts_the_old_out() {
        let secret = issuer();
        let (before, after) = (endpoint(AuthMode::Key, 1), endpoint(AuthMode::Key, 5));
        let (primary, secondary) = keys(&secret, &before);
        for key in [&primary, &secondary] {
            assert_eq!(
                secret
                    .auth(&before.spec, before.generations)
                    .check(Some(key), 0),
                Ok(())
            );
        }
        assert_eq!(
            secret
                .auth(&after.spec, after.generations)
                .check(Some(&primary), 0),
            Err(Unauthorized::Invalid)
        );
        assert_eq!(
            secret
                .auth(&after.spec, after.generations)
                .check(Some(&secondary), 0),
            Ok(())
        );
    }

    #[test]
    fn a_token_is_good_until_it_expires_and_asks_to_be_renewed_before() {
        let (secret, endpoint) = (issuer(), endpoint(AuthMode::AmlToken, 1));
        let credentials = secret.credentials(&endpoint, 1000);
        let json = serde_json::to_value(&credentials).expect("JSON");
        assert_eq!(json["expiryTimeUtc"], 4600);
        assert_eq!(json["refreshAfterTimeUtc"], 3880);
        assert_eq!(json["tokenType"], "Bearer");
        let token = json["accessToken"].as_str();
        assert_eq!(
            secret
                .auth(&endpoint.spec, endpoint.generations)
                .check(token, 4599),
            Ok(())
        );
        assert_eq!(
            secret
                .auth(&endpoint.spec, endpoint.generations)
                .check(token, 4600),
            Err(Unauthorized::Expired {
                expired_unix_s: 4600
            })
        );
    }
}
