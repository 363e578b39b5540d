//! What RFC 9112 asks of the head of a request, beyond what its parser refuses already.
//!
//! A head that says two things could be two requests to somebody in front of this server; it is refused, and its connection closed.
//! `content-length` beside `transfer-encoding: chunked` is read as chunked, as the RFC allows, and the connection closed after the
//! answer: the parser sees to both.
//! Not here: how a refusal is written (`refusals`).

use axum::http::header::{HOST, TRANSFER_ENCODING};
use axum::http::{HeaderMap, StatusCode, Version};

use crate::config::HEAD_BYTES_MAX;

/// The fault of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadFault {
    /// It is not the head of an HTTP/1 request.
    #[error("expected the head of an HTTP/1.1 request, and found something else")]
    Malformed,
    /// The path is longer than any.
    #[error("the path is too long")]
    PathTooLong,
    /// It has too many bytes or lines.
    #[error("expected a head of at most {HEAD_BYTES_MAX} bytes and 100 headers, and found more")]
    TooLarge,
    /// HTTP/1.1 asks for it.
    #[error("expected a header `host`, and found none")]
    NoHost,
    /// Nobody knows which one is meant.
    #[error("expected one header `host`, and found {found}")]
    ManyHosts {
        /// As many.
        found: usize,
    },
    /// The body is encoded in a way that nothing here decodes.
    #[error(
        "expected `transfer-encoding: chunked` or none, and found another; send the body as it is"
    )]
    TransferEncoding,
}

impl HeadFault {
    /// The status of the answer.
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Malformed | Self::NoHost | Self::ManyHosts { .. } => StatusCode::BAD_REQUEST,
            Self::PathTooLong => StatusCode::URI_TOO_LONG,
            Self::TooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::TransferEncoding => StatusCode::NOT_IMPLEMENTED,
        }
    }

    /// The fault for which the parser would answer so, with an empty body.
    pub(super) fn of_status(status: &[u8]) -> Self {
        match status {
            b"414" => Self::PathTooLong,
            b"431" => Self::TooLarge,
            _ => Self::Malformed,
        }
    }
}

/// Looks at a head that the parser has taken.
pub(super) fn check(version: Version, headers: &HeaderMap) -> Result<(), HeadFault> {
    let found = headers.get_all(HOST).iter().take(3).count();
    match found {
        1 => {}
        0 if version < Version::HTTP_11 => {}
        0 => return Err(HeadFault::NoHost),
        found => return Err(HeadFault::ManyHosts { found }),
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else {
        return Ok(());
    };
    if codings.next().is_none() && coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        Ok(())
    } else {
        Err(HeadFault::TransferEncoding)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn checked(version: Version, lines: &[(&'static str, &'static str)]) -> Result<(), HeadFault> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        check(version, &headers)
    }

    #[test]
    fn a_host_is_asked_for_since_http_1_1_and_never_two() {
        let (one, two) = ([("host", "x")], [("host", "x"), ("host", "x")]);
        for version in [Version::HTTP_10, Version::HTTP_11] {
            assert_eq!(checked(version, &one), Ok(()));
            assert_eq!(
                checked(version, &two),
                Err(HeadFault::ManyHosts { found: 2 })
            );
        }
        assert_eq!(checked(Version::HTTP_10, &[]), Ok(()));
        assert_eq!(checked(Version::HTTP_11, &[]), Err(HeadFault::NoHost));
    }

    #[test]
    fn a_body_may_be_chunked_and_nothing_else() {
        let coded = |codings: &[&'static str]| {
            let mut lines = vec![("host", "x")];
            lines.extend(codings.iter().map(|&coding| ("transfer-encoding", coding)));
            checked(Version::HTTP_11, &lines)
        };
        assert_eq!(coded(&["chunked"]), Ok(()));
        assert_eq!(coded(&["Chunked"]), Ok(()));
        for codings in [
            &["gzip, chunked"][..],
            &["gzip", "chunked"],
            &["chunked", "chunked"],
            &["chunked, chunked"],
            &["identity"],
            &[""],
        ] {
            assert_eq!(
                coded(codings),
                Err(HeadFault::TransferEncoding),
                "{codings:?}"
            );
        }
    }
}
