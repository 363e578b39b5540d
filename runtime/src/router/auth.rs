//! Credentials: what opens an endpoint, and the check of what a client sends.
//!
//! Pure: the time is an argument. Not here: the form of keys and tokens (`keys`), HTTP headers (`serve`). The library without the
//! server has open endpoints only.

use std::fmt;

#[cfg(feature = "server")]
use crate::router::keys;
#[cfg(feature = "server")]
use crate::router::unauthorized::Unauthorized;

/// The credentials that open an endpoint.
#[derive(Clone)]
pub enum EndpointAuth {
    /// In process or `serin up`: no credential.
    Open,
    /// Two keys that do not expire.
    #[cfg(feature = "server")]
    Key {
        /// SHA-256 of the primary and the secondary key.
        hashes: [[u8; 32]; 2],
    },
    /// Tokens that expire.
    #[cfg(feature = "server")]
    Token {
        /// The endpoint's own signing secret (`keys::token_secret`), so that no token opens another endpoint.
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
            #[cfg(feature = "server")]
            Self::Key { .. } => "Key",
            #[cfg(feature = "server")]
            Self::Token { .. } => "Token",
        })
    }
}

impl EndpointAuth {
    /// Checks what came after `Bearer`. Takes the same time for every wrong credential of one length.
    ///
    /// # Errors
    ///
    /// [`Unauthorized`]. An expired token is told apart only when its signature is right.
    #[cfg(feature = "server")]
    pub fn check(&self, bearer: Option<&str>, now_unix_s: i64) -> Result<(), Unauthorized> {
        if matches!(self, Self::Open) {
            return Ok(());
        }
        let bearer = bearer.ok_or(Unauthorized::Missing)?;
        match self {
            Self::Open => Ok(()),
            Self::Key { hashes } => keys::check_key(hashes, bearer),
            Self::Token {
                secret,
                generation,
                life_s,
            } => keys::check_token(secret, (*generation, *life_s), bearer, now_unix_s),
        }
    }
}

#[cfg(test)]
#[cfg(feature = "server")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::router::keys::{Claims, hash_of_key, key, signed, token, token_secret};
    use crate::spec::EndpointName;

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
