//! Keys and tokens of endpoints, made from one secret file.
//!
//! A key is a function of the secret, the endpoint and a random generation, so `get-credentials` can show it at any time while
//! the store holds no key. A copy of the database alone opens no endpoint.
//!
//! Not here: their format and the check of what a client sends (`router::EndpointAuth`).

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::control::change::KeyType;
use crate::control::desired::{DesiredEndpoint, Generation, Generations};
use crate::control::store::{OnLoss, Store, StoreError, folder_aside};
use crate::control::work::AuthSource;
use crate::router::EndpointAuth;
use crate::router::keys::{hash_of_key, key, token, token_secret};
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

/// The name of the secret in the data folder.
pub(super) const SECRET_FILE: &str = "secret";

/// The reason why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The system refuses.
    #[error("cannot read or write the secret of the data folder: {0}")]
    Io(#[from] io::Error),
    /// The keys that clients have come from another one.
    #[error(
        "{path:?} is not the secret that the keys of this server are made from: found {found}; put the old file back, or a backup \
         (`serin restore`), or renew all keys and tokens (`serin serve --accept-loss`; what is there is kept aside)"
    )]
    Lost { path: PathBuf, found: String },
    /// The database that says which one it is.
    #[error(transparent)]
    Store(#[from] StoreError),
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
    ///
    /// # Errors
    ///
    /// [`SecretError::Lost`] where it is not the one that the keys of this database are made from, unless that is to be accepted.
    pub(super) fn load(
        data: &Path,
        store: &mut Store,
        on_loss: OnLoss,
    ) -> Result<Self, SecretError> {
        let known = store.secret_fingerprint()?;
        let loss = match (Self::read(data)?, &known) {
            (Ok(secret), Some(known)) if secret.fingerprint() == *known => return Ok(secret),
            (Ok(secret), None) => {
                store.put_secret_fingerprint(&secret.fingerprint())?;
                return Ok(secret);
            }
            (Ok(_), Some(_)) => "another one".to_owned(),
            (Err(0), None) if store.is_new()? => return Self::make_for(data, store),
            (Err(bytes), _) => format!("{bytes} bytes instead of 32"),
        };
        let loss = SecretError::Lost {
            path: data.join(SECRET_FILE),
            found: loss,
        };
        if on_loss == OnLoss::Refuse {
            return Err(loss);
        }
        let aside = folder_aside(data)?;
        // Not there where it is missing.
        drop(fs::rename(data.join(SECRET_FILE), aside.join(SECRET_FILE)));
        let made = Self::make_for(data, store)?;
        store.note_loss(&loss.to_string(), &aside)?;
        Ok(made)
    }

    /// The secret in the file, or how many bytes there are in one that holds none.
    fn read(data: &Path) -> io::Result<Result<Self, usize>> {
        match fs::read(data.join(SECRET_FILE)) {
            Ok(bytes) => Ok(bytes
                .try_into()
                .map(Self)
                .map_err(|bytes: Vec<u8>| bytes.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Err(0)),
            Err(error) => Err(error),
        }
    }

    fn make_for(data: &Path, store: &mut Store) -> Result<Self, SecretError> {
        let made = Self::make(data, &data.join(SECRET_FILE))?;
        store.put_secret_fingerprint(&made.fingerprint())?;
        Ok(made)
    }

    /// Checks that a folder has the secret that belongs to a database.
    ///
    /// # Errors
    ///
    /// [`SecretError::Lost`] where it is another one, or none.
    pub(super) fn check_copy(folder: &Path, known: Option<&str>) -> Result<(), SecretError> {
        let found = match (Self::read(folder)?, known) {
            (Ok(secret), Some(known)) if secret.fingerprint() == known => return Ok(()),
            (Ok(_), None) => return Ok(()),
            (Ok(_), Some(_)) => "another one".to_owned(),
            (Err(bytes), _) => format!("{bytes} bytes instead of 32"),
        };
        let path = folder.join(SECRET_FILE);
        Err(SecretError::Lost { path, found })
    }

    /// A name of the secret that says nothing of it.
    pub(super) fn fingerprint(&self) -> String {
        let hash = Sha256::new()
            .chain_update("serin secret\0")
            .chain_update(self.0);
        URL_SAFE_NO_PAD.encode(hash.finalize())
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
    use crate::control::store::DataFolder;
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
            stamp: None,
            cohorts: None,
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
        let folder = DataFolder::open(data.path()).expect("opens");
        let mut store = Store::open(&folder, OnLoss::Refuse).expect("opens");
        let mut load = |on_loss| Secret::load(data.path(), &mut store, on_loss);
        let made = load(OnLoss::Refuse).expect("made");
        assert_eq!(load(OnLoss::Refuse).expect("read").0, made.0);
        let mode = fs::metadata(data.path().join("secret"))
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_secret_that_is_gone_or_another_one_is_refused_until_a_person_accepts_it() {
        let data = tempfile::tempdir().expect("a folder");
        let folder = DataFolder::open(data.path()).expect("opens");
        let mut store = Store::open(&folder, OnLoss::Refuse).expect("opens");
        let mut load = |on_loss| Secret::load(data.path(), &mut store, on_loss);
        let mut before = load(OnLoss::Refuse).expect("made").0;
        let path = data.path().join(SECRET_FILE);
        let damages: [(&str, Option<&[u8]>); 4] = [
            ("found 0 bytes instead of 32", None),
            ("found 0 bytes instead of 32", Some(b"")),
            ("found 3 bytes instead of 32", Some(b"cut")),
            ("found another one", Some(&[1; 32])),
        ];
        for (words, damage) in damages {
            fs::remove_file(&path).expect("there");
            if let Some(bytes) = damage {
                fs::write(&path, bytes).expect("written");
            }
            let refused = load(OnLoss::Refuse).expect_err("lost").to_string();
            assert!(refused.contains(words), "{refused}");
            let renewed = load(OnLoss::Accept).expect("made anew").0;
            assert_ne!(renewed, before);
            before = load(OnLoss::Refuse).expect("the new one").0;
        }
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
