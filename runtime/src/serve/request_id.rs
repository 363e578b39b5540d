//! Ids that tie a request to the client's and the server's logs, by the rules of Azure's endpoints and inference server.
//!
//! `x-request-id` is echoed when it is a usable id, else made. `x-ms-client-request-id` is the client's own: letters, digits,
//! dashes and underscores, cut to 40 characters. `x-ms-request-id` is an older spelling: sent alone it stands for the client's.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

use crate::config::{CLIENT_REQUEST_ID_LEN_KEPT, REQUEST_ID_LEN_MAX};
use crate::serve::Failure;
use crate::spec::hash64;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const MS_REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-request-id");
const MS_CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-client-request-id");

/// Whether it is one of the ids.
pub(super) fn is_id_header(name: &HeaderName) -> bool {
    [REQUEST_ID, MS_REQUEST_ID, MS_CLIENT_REQUEST_ID].contains(name)
}

/// The ids of one request, as its answer will carry them.
#[derive(Clone, Debug)]
pub(crate) struct RequestIds {
    request: HeaderValue,
    /// Where it differs from `request`.
    ms_request: Option<HeaderValue>,
    client: Option<HeaderValue>,
}

impl RequestIds {
    /// Fresh ids, for a request that has none or none that can be used.
    pub(crate) fn fresh() -> Self {
        let mut text = Uuid::encode_buffer();
        let text = Uuid::new_v4().hyphenated().encode_lower(&mut text);
        let request = HeaderValue::from_str(text).expect("a UUID is ASCII");
        Self {
            request,
            ms_request: None,
            client: None,
        }
    }

    /// The ids that a request brought, completed.
    ///
    /// # Errors
    ///
    /// [`Failure::RequestIdTooLong`].
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Failure> {
        let request = bounded(headers, &REQUEST_ID, "x-request-id")?;
        let ms_request = bounded(
            headers,
            &MS_REQUEST_ID,
            "x-ms-request-id and x-ms-client-request-id",
        )?;
        let client = bounded(
            headers,
            &MS_CLIENT_REQUEST_ID,
            "x-ms-request-id and x-ms-client-request-id",
        )?;
        let mut ids = Self::fresh_unless(request.filter(|id| is_usable(id)));
        ids.ms_request = ms_request.filter(|id| is_usable(id)).cloned();
        ids.client = client.or(ms_request).and_then(cleaned);
        Ok(ids)
    }

    fn fresh_unless(request: Option<&HeaderValue>) -> Self {
        match request {
            Some(request) => Self {
                request: request.clone(),
                ms_request: None,
                client: None,
            },
            None => Self::fresh(),
        }
    }

    /// The id for logs.
    pub(crate) fn as_str(&self) -> &str {
        self.request.to_str().unwrap_or_default()
    }

    /// A hash of the id, by which a label that comes later finds the request.
    pub(crate) fn hash(&self) -> u64 {
        hash64(&[self.request.as_bytes()])
    }

    /// Writes the ids to an answer.
    pub(crate) fn write(self, headers: &mut HeaderMap) {
        headers.insert(
            MS_REQUEST_ID,
            self.ms_request.unwrap_or_else(|| self.request.clone()),
        );
        headers.insert(REQUEST_ID, self.request);
        if let Some(client) = self.client {
            headers.insert(MS_CLIENT_REQUEST_ID, client);
        }
    }
}

fn bounded<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    rule: &'static str,
) -> Result<Option<&'a HeaderValue>, Failure> {
    match headers.get(name) {
        Some(id) if id.len() > REQUEST_ID_LEN_MAX => Err(Failure::RequestIdTooLong {
            headers: rule,
            len_max: REQUEST_ID_LEN_MAX,
        }),
        found => Ok(found),
    }
}

/// Whether it can stand in a log line as it is.
fn is_usable(id: &HeaderValue) -> bool {
    !id.is_empty() && id.as_bytes().iter().all(|&byte| is_id_byte(byte))
}

fn is_id_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

/// The part of a client's id that Azure keeps; `None` when nothing is left.
fn cleaned(id: &HeaderValue) -> Option<HeaderValue> {
    let kept: Vec<u8> = id
        .as_bytes()
        .iter()
        .copied()
        .filter(|&byte| is_id_byte(byte))
        .take(CLIENT_REQUEST_ID_LEN_KEPT)
        .collect();
    if kept.is_empty() {
        None
    } else {
        HeaderValue::from_bytes(&kept).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(sent: &[(&'static str, &str)]) -> Result<HeaderMap, Failure> {
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            headers.insert(*name, value.parse().unwrap());
        }
        let mut answer = HeaderMap::new();
        RequestIds::of(&headers)?.write(&mut answer);
        Ok(answer)
    }

    #[test]
    fn a_usable_id_is_echoed() {
        let answer = answer(&[("x-request-id", "my-id_1")]).unwrap();
        assert_eq!(answer["x-request-id"], "my-id_1");
        assert_eq!(answer["x-ms-request-id"], "my-id_1");
        assert!(!answer.contains_key("x-ms-client-request-id"));
    }

    #[test]
    fn a_missing_or_unusable_id_is_replaced_by_a_new_uuid() {
        for sent in [
            &[][..],
            &[("x-request-id", "")],
            &[("x-request-id", "a b")],
            &[("x-request-id", "a\"b")],
        ] {
            let answer = answer(sent).unwrap();
            let made = answer["x-request-id"].to_str().unwrap();
            assert_eq!(Uuid::parse_str(made).unwrap().get_version_num(), 4);
            assert_eq!(answer["x-ms-request-id"], made);
        }
    }

    #[test]
    fn the_clients_id_is_cleaned_and_cut_to_40_characters() {
        let answer =
            answer(&[("x-ms-client-request-id", &format!("a b;{}", "c".repeat(60)))]).unwrap();
        assert_eq!(
            answer["x-ms-client-request-id"],
            format!("ab{}", "c".repeat(38))
        );
    }

    #[test]
    fn the_older_spelling_alone_stands_for_the_clients_id() {
        let alone = answer(&[("x-ms-request-id", "old")]).unwrap();
        assert_eq!(
            (&alone["x-ms-request-id"], &alone["x-ms-client-request-id"]),
            (&"old".parse().unwrap(), &"old".parse().unwrap())
        );
        let both = answer(&[
            ("x-ms-request-id", "old"),
            ("x-ms-client-request-id", "new"),
        ])
        .unwrap();
        assert_eq!(
            (&both["x-ms-request-id"], &both["x-ms-client-request-id"]),
            (&"old".parse().unwrap(), &"new".parse().unwrap())
        );
    }

    #[test]
    fn an_id_of_more_than_100_characters_is_refused() {
        let long = "a".repeat(101);
        for (name, rule) in [
            (
                "x-request-id",
                "x-request-id must not exceed 100 characters",
            ),
            (
                "x-ms-request-id",
                "x-ms-request-id and x-ms-client-request-id must not exceed 100 characters",
            ),
            (
                "x-ms-client-request-id",
                "x-ms-request-id and x-ms-client-request-id must not exceed 100 characters",
            ),
        ] {
            let failure = answer(&[(name, &long)]).unwrap_err();
            assert_eq!(
                (failure.status().as_u16(), failure.to_string().as_str()),
                (431, rule)
            );
            assert!(answer(&[(name, &long[..100])]).is_ok());
        }
    }
}
