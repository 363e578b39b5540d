//! The form of keys and tokens, and what is behind their check.
//!
//! Keys and tokens derive from the secret of the server, so that none is stored: a key from the endpoint, which of the two it
//! is, and how often it was regenerated; the signing secret of tokens from the endpoint. A token is
//! `base64url(claims) "." base64url(HMAC-SHA-256(signing secret, base64url(claims)))`.
//!
//! Pure: the time is an argument. Not here: the secret's file and generation numbers (`control`).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::router::unauthorized::Unauthorized;
use crate::spec::EndpointName;

/// The seconds that the clock of who issued a token may be ahead of the clock of who checks it.
const CLOCK_SKEW_S: i64 = 60;

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

/// The hash that `EndpointAuth::Key` and the store keep of a key.
#[must_use]
pub fn hash_of_key(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

/// The signing secret of an endpoint's tokens, for `EndpointAuth::Token`.
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

pub(super) fn signed(secret: &[u8; 32], claims: &Claims) -> String {
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
pub(super) struct Claims {
    pub(super) generation: u64,
    /// The time of its issue, in seconds since the Unix epoch (the claims' names in RFC 7519); tokens of earlier releases have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) iat: Option<i64>,
    /// The end, likewise.
    pub(super) exp: i64,
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

pub(super) fn check_key(hashes: &[[u8; 32]; 2], bearer: &str) -> Result<(), Unauthorized> {
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

/// Checks a token against the generation that is good, and the seconds for which one may be.
pub(super) fn check_token(
    secret: &[u8; 32],
    (generation, life_s): (u64, i64),
    bearer: &str,
    now_unix_s: i64,
) -> Result<(), Unauthorized> {
    let claims = signed_claims(secret, bearer).ok_or(Unauthorized::Invalid)?;
    claims.check(generation, life_s, now_unix_s)
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
