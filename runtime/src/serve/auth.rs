//! The credential of a request: what came with it, and whether it opens the endpoint.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;

use crate::router::{EndpointAuth, Unauthorized};

/// Checks the credential of a request against its endpoint's.
///
/// # Errors
///
/// [`Unauthorized`], which never says what part of a wrong credential was right.
pub(crate) fn authorize(auth: &EndpointAuth, headers: &HeaderMap) -> Result<(), Unauthorized> {
    auth.check(bearer(headers), now_unix_s())
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
