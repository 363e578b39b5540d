//! The credential of a request: what came with it, and what it opens.
//!
//! Who has no valid credential learns nothing of what there is: an endpoint that exists and one that does not are refused with the
//! same words, after the same work.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;

use crate::router::{Endpoint, RoutingTable, Unauthorized};

/// The answer of a table to a credential that does not open what was asked for.
#[derive(Debug)]
pub(crate) struct Closed {
    /// The reason, where the client may not know whether what it asked for exists.
    pub(crate) unauthorized: Option<Unauthorized>,
    /// Names of the endpoints that are open to it.
    pub(crate) open: Vec<String>,
}

impl Closed {
    /// Whether the client has sent a key that opens nothing at all.
    pub(crate) fn is_wrong_key(&self) -> bool {
        self.unauthorized == Some(Unauthorized::Invalid) && self.open.is_empty()
    }
}

/// The endpoint that was found, if the credential opens it.
///
/// # Errors
///
/// [`Closed`], which never says what part of a wrong credential was right.
pub(crate) fn open<'a>(
    found: Option<&'a Arc<Endpoint>>,
    table: &RoutingTable,
    headers: &HeaderMap,
) -> Result<&'a Arc<Endpoint>, Closed> {
    let (bearer, now) = (bearer(headers), now_unix_s());
    // What does not exist costs a check too, so that the time says nothing.
    let checked = match found {
        Some(endpoint) => endpoint.auth().check(bearer, now),
        None => black_box(table.endpoints().next())
            .map_or(Ok(()), |any| black_box(any.auth().check(bearer, now))),
    };
    if let (Some(endpoint), Ok(())) = (found, &checked) {
        return Ok(endpoint);
    }
    let open = opened(table, headers);
    let unauthorized = match found {
        Some(_) => checked.err(),
        None if open.is_empty() && table.endpoints().next().is_some() => {
            Some(bearer.map_or(Unauthorized::Missing, |_| Unauthorized::Invalid))
        }
        None => None,
    };
    Err(Closed { unauthorized, open })
}

/// Names of the endpoints that the credential opens, and of those that want none, in order.
pub(crate) fn opened(table: &RoutingTable, headers: &HeaderMap) -> Vec<String> {
    let (bearer, now) = (bearer(headers), now_unix_s());
    let mut names: Vec<_> = table
        .endpoints()
        .filter(|endpoint| endpoint.auth().check(bearer, now).is_ok())
        .map(|endpoint| endpoint.name().as_str().to_owned())
        .collect();
    names.sort_unstable();
    names
}

/// The credential that follows `Bearer` in `Authorization`. The word counts without case, as RFC 9110 has it.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, credential) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let credential = credential.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !credential.is_empty()).then_some(credential)
}

fn now_unix_s() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer_of(authorization: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, authorization.parse().unwrap());
        bearer(&headers).map(str::to_owned)
    }

    #[test]
    fn the_scheme_counts_without_case_and_the_credential_with() {
        assert_eq!(bearer_of("Bearer aB").as_deref(), Some("aB"));
        assert_eq!(bearer_of("bearer  aB ").as_deref(), Some("aB"));
    }

    #[test]
    fn anything_else_is_no_credential() {
        for other in ["", "Bearer", "Bearer ", "Basic aB", "aB"] {
            assert_eq!(bearer_of(other), None, "{other:?}");
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }
}
