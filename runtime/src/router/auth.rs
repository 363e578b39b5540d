//! Credentials: the format of keys and tokens, and the check of what a client sends.
//!
//! Keys and tokens derive from the secret of the server, so that none is stored: a key from the endpoint, which of the two it
//! is, and how often it was regenerated; the signing secret of tokens from the endpoint. A token is
//! `base64url(claims) "." base64url(HMAC-SHA-256(signing secret, base64url(claims)))`.
//!
//! Pure: the time is an argument. Not here: the secret's file and generation numbers (`control`), HTTP headers (`serve`).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::spec::EndpointName;

/// The credentials that open an endpoint.
#[derive(Clone)]
pub enum EndpointAuth {
    /// In process or `serin up`: no credential.
    Open,
    /// Two keys that do not expire.
    Key {
        /// SHA-256 of the primary and the secondary key.
        hashes: [[u8; 32]; 2],
    },
    /// Tokens that expire.
    Token {
        /// The endpoint's own signing secret ([`token_secret`]), so that no token opens another endpoint.
        secret: [u8; 32],
        /// Tokens of other generations are not valid any more.
        generation: u64,
        /// Seconds for which a token is good at most, whatever it says.
        life_s: i64,
    },
}

impl fmt::Debug for EndpointAuth {
    /// Without the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "Open",
            Self::Key { .. } => "Key",
            Self::Token { .. } => "Token",
        })
    }
}

/// The reason why a credential does not open an endpoint. Never says which part matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unauthorized {
    /// No `Authorization: Bearer ...` came with the request.
    #[error("no credential: send `Authorization: Bearer <key or token>`")]
    Missing,
    /// It is no key, or no token, of this endpoint.
    #[error("the credential is not valid for this endpoint")]
    Invalid,
    /// The token was good until then.
    #[error("the token expired at {}: ask for a new one", moment(*.expired_unix_s))]
    Expired {
        /// Seconds since the Unix epoch.
        expired_unix_s: i64,
    },
    /// The token was made by a clock that is ahead of this one, or for longer than tokens live.
    #[error(
        "the token is not good yet: by the clock of this machine it was issued in the future, or for longer than tokens live here; \
         set the clocks right, then ask for a new one"
    )]
    FromTheFuture,
}

/// The seconds that the clock of who issued a token may be ahead of the clock of who checks it.
const CLOCK_SKEW_S: i64 = 60;

fn moment(unix_s: i64) -> String {
    jiff::Timestamp::from_second(unix_s)
        .map_or_else(|_| format!("second {unix_s}"), |moment| moment.to_string())
}

impl EndpointAuth {
    /// Checks what came after `Bearer`. Takes the same time for every wrong credential of one length.
    ///
    /// # Errors
    ///
    /// [`Unauthorized`]. An expired token is told apart only when its signature is right.
    pub fn check(&self, bearer: Option<&str>, now_unix_s: i64) -> Result<(), Unauthorized> {
        if matches!(self, Self::Open) {
            return Ok(());
        }
        let bearer = bearer.ok_or(Unauthorized::Missing)?;
        match self {
            Self::Open => Ok(()),
            Self::Key { hashes } => check_key(hashes, bearer),
            Self::Token {
                secret,
                generation,
                life_s,
            } => {
                let claims = signed_claims(secret, bearer).ok_or(Unauthorized::Invalid)?;
                claims.check(*generation, *life_s, now_unix_s)
            }
        }
    }
}

/// The key of an endpoint: `which` is `primary` or `secondary`, `generation` counts its regenerations.
#[must_use]
pub fn key(
    server_secret: &[u8; 32],
    endpoint: &EndpointName,
    which: &str,
    generation: u64,
) -> String {
    let generation = generation.to_string();
    let parts = ["key", endpoint.key(), which, &generation];
    URL_SAFE_NO_PAD.encode(derive(server_secret, &parts))
}

/// The hash that [`EndpointAuth::Key`] and the store keep of a key.
#[must_use]
pub fn hash_of_key(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

/// The signing secret of an endpoint's tokens, for [`EndpointAuth::Token`].
#[must_use]
pub fn token_secret(server_secret: &[u8; 32], endpoint: &EndpointName) -> [u8; 32] {
    derive(server_secret, &["token", endpoint.key()])
}

/// A token of this generation that was issued now and is good until `expires_unix_s`.
#[must_use]
pub fn token(secret: &[u8; 32], generation: u64, now_unix_s: i64, expires_unix_s: i64) -> String {
    let claims = Claims {
        generation,
        iat: Some(now_unix_s),
        exp: expires_unix_s,
    };
    signed(secret, &claims)
}

fn signed(secret: &[u8; 32], claims: &Claims) -> String {
    let claims = serde_json::to_vec(claims).expect("numbers are JSON");
    let claims = URL_SAFE_NO_PAD.encode(claims);
    let signature = signer(secret)
        .chain_update(claims.as_bytes())
        .finalize()
        .into_bytes();
    format!("{claims}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// The claims of a token.
#[derive(Serialize, Deserialize)]
struct Claims {
    generation: u64,
    /// The time of its issue, in seconds since the Unix epoch (the claims' names in RFC 7519); tokens of earlier releases have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iat: Option<i64>,
    /// The end, likewise.
    exp: i64,
}

impl Claims {
    fn check(&self, generation: u64, life_s: i64, now_unix_s: i64) -> Result<(), Unauthorized> {
        if self.generation != generation {
            return Err(Unauthorized::Invalid);
        }
        if now_unix_s >= self.exp {
            return Err(Unauthorized::Expired {
                expired_unix_s: self.exp,
            });
        }
        let latest_issue = now_unix_s.saturating_add(CLOCK_SKEW_S);
        let is_ahead = self.iat.is_some_and(|issued| issued > latest_issue);
        if is_ahead || self.exp > latest_issue.saturating_add(life_s) {
            return Err(Unauthorized::FromTheFuture);
        }
        Ok(())
    }
}

fn check_key(hashes: &[[u8; 32]; 2], bearer: &str) -> Result<(), Unauthorized> {
    let hash = words(&hash_of_key(bearer));
    let [primary, secondary] = hashes;
    // Both are compared always, and in constant time.
    if (words(primary).ct_eq(&hash) | words(secondary).ct_eq(&hash)).into() {
        Ok(())
    } else {
        Err(Unauthorized::Invalid)
    }
}

/// The same bits in four steps of a comparison instead of 32.
fn words(hash: &[u8; 32]) -> [u64; 4] {
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(hash.as_chunks().0) {
        *word = u64::from_ne_bytes(*bytes);
    }
    words
}

/// The claims of a token whose signature is right.
fn signed_claims(secret: &[u8; 32], token: &str) -> Option<Claims> {
    let (claims, signature) = token.split_once('.')?;
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    signer(secret)
        .chain_update(claims.as_bytes())
        .verify_slice(&signature)
        .ok()?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
}

/// No part holds a zero byte, so different parts never read the same.
fn derive(secret: &[u8; 32], parts: &[&str]) -> [u8; 32] {
    signer(secret)
        .chain_update(parts.join("\0").as_bytes())
        .finalize()
        .into_bytes()
        .into()
}

fn signer(secret: &[u8; 32]) -> Hmac<Sha256> {
    Hmac::new_from_slice(secret).expect("HMAC takes keys of any length")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: [u8; 32] = [7; 32];
    const NOW: i64 = 1_800_000_000;

    fn name(text: &str) -> EndpointName {
        text.parse().expect("a name")
    }

    fn by_keys(endpoint: &str, generations: [u64; 2]) -> EndpointAuth {
        let endpoint = name(endpoint);
        let [primary, secondary] = generations;
        EndpointAuth::Key {
            hashes: [("primary", primary), ("secondary", secondary)].map(|(which, generation)| {
                hash_of_key(&key(&SECRET, &endpoint, which, generation))
            }),
        }
    }

    fn by_token(endpoint: &str, generation: u64) -> EndpointAuth {
        EndpointAuth::Token {
            secret: token_secret(&SECRET, &name(endpoint)),
            generation,
            life_s: 6000,
        }
    }

    #[test]
    fn both_keys_open_the_endpoint_and_a_regenerated_one_no_longer_does() {
        let primary = key(&SECRET, &name("iris"), "primary", 0);
        let secondary = key(&SECRET, &name("IRIS"), "secondary", 0);
        assert_ne!(primary, secondary);
        let before = by_keys("iris", [0, 0]);
        assert_eq!(before.check(Some(&primary), NOW), Ok(()));
        assert_eq!(before.check(Some(&secondary), NOW), Ok(()));
        let after = by_keys("iris", [1, 0]);
        assert_eq!(after.check(Some(&primary), NOW), Err(Unauthorized::Invalid));
        assert_eq!(after.check(Some(&secondary), NOW), Ok(()));
    }

    #[test]
    fn a_key_is_43_characters_that_need_no_escape() {
        let key = key(&SECRET, &name("iris"), "primary", 3);
        assert_eq!(key.len(), 43);
        assert!(
            key.chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
        );
    }

    #[test]
    fn no_credential_of_one_endpoint_opens_another() {
        let key = key(&SECRET, &name("iris"), "primary", 0);
        let token = token(&token_secret(&SECRET, &name("iris")), 0, NOW, NOW + 60);
        for other in [by_keys("digits", [0, 0]), by_token("digits", 0)] {
            for credential in [&key, &token] {
                assert_eq!(
                    other.check(Some(credential), NOW),
                    Err(Unauthorized::Invalid)
                );
            }
        }
    }

    #[test]
    fn a_token_is_good_until_its_end_and_for_its_generation() {
        let token = token(&token_secret(&SECRET, &name("iris")), 2, NOW, NOW + 60);
        let auth = by_token("iris", 2);
        assert_eq!(auth.check(Some(&token), NOW + 59), Ok(()));
        assert_eq!(
            auth.check(Some(&token), NOW + 60),
            Err(Unauthorized::Expired {
                expired_unix_s: NOW + 60
            })
        );
        assert_eq!(
            by_token("iris", 3).check(Some(&token), NOW),
            Err(Unauthorized::Invalid)
        );
    }

    #[test]
    fn a_token_with_other_claims_or_another_signature_is_not_valid() {
        let secret = token_secret(&SECRET, &name("iris"));
        let (short, long) = (
            token(&secret, 0, NOW, NOW + 60),
            token(&secret, 0, NOW, NOW + 6000),
        );
        let (claims, signature) = (
            long.split_once('.').unwrap().0,
            short.split_once('.').unwrap().1,
        );
        let auth = by_token("iris", 0);
        for forged in [
            format!("{claims}.{signature}"),
            format!("{claims}."),
            claims.to_owned(),
        ] {
            assert_eq!(auth.check(Some(&forged), NOW), Err(Unauthorized::Invalid));
        }
    }

    #[test]
    fn an_expired_token_says_since_when_in_words_of_people() {
        let secret = token_secret(&SECRET, &name("iris"));
        let refused = by_token("iris", 0).check(Some(&token(&secret, 0, NOW - 60, NOW)), NOW);
        assert_eq!(
            refused.unwrap_err().to_string(),
            "the token expired at 2027-01-15T08:00:00Z: ask for a new one"
        );
    }

    /// A server whose clock was years ahead has given out tokens that would be good for years.
    #[test]
    fn a_token_of_a_clock_that_is_more_than_a_minute_ahead_is_refused() {
        let secret = token_secret(&SECRET, &name("iris"));
        let auth = by_token("iris", 0);
        let check = |token: String| auth.check(Some(&token), NOW);
        assert_eq!(check(token(&secret, 0, NOW + 60, NOW + 100)), Ok(()));
        for (issued, expires) in [(61, 100), (i64::MAX - NOW, i64::MAX - NOW), (0, 6061)] {
            let refused = check(token(&secret, 0, NOW + issued, NOW + expires));
            assert_eq!(refused, Err(Unauthorized::FromTheFuture), "{issued}");
        }
    }

    #[test]
    fn a_token_of_an_earlier_release_is_good_for_as_long_as_tokens_live() {
        let secret = token_secret(&SECRET, &name("iris"));
        let old = |exp| {
            let token = signed(
                &secret,
                &Claims {
                    generation: 0,
                    iat: None,
                    exp,
                },
            );
            by_token("iris", 0).check(Some(&token), NOW)
        };
        assert_eq!(old(NOW + 6060), Ok(()));
        assert_eq!(old(NOW + 6061), Err(Unauthorized::FromTheFuture));
    }

    #[test]
    fn a_missing_credential_is_told_apart_and_an_open_endpoint_needs_none() {
        assert_eq!(
            by_keys("iris", [0, 0]).check(None, NOW),
            Err(Unauthorized::Missing)
        );
        assert_eq!(EndpointAuth::Open.check(None, NOW), Ok(()));
        assert_eq!(EndpointAuth::Open.check(Some("anything"), NOW), Ok(()));
    }

    #[test]
    fn secrets_do_not_print() {
        assert_eq!(format!("{:?}", by_token("iris", 0)), "Token");
        assert_eq!(format!("{:?}", by_keys("iris", [0, 0])), "Key");
    }

    proptest! {
        #[test]
        fn no_other_text_opens_an_endpoint(text: String, dotted in "[A-Za-z0-9_-]{0,60}\\.[A-Za-z0-9_-]{0,60}") {
            for auth in [by_keys("iris", [0, 0]), by_token("iris", 0)] {
                for bearer in [&text, &dotted] {
                    prop_assert_eq!(auth.check(Some(bearer), NOW), Err(Unauthorized::Invalid));
                }
            }
        }
    }
}
