//! The key of a client in its request, by the rule of an endpoint. Whatever a client sends is a key; one that varies it meets one
//! deployment after the other, which it could have anyway.
//!
//! Threads: edge. Pure. Not here: who belongs where (`spec/cohorts.rs`).

use std::borrow::Cow;
use std::fmt;

use axum::http::HeaderMap;
use axum::http::header::COOKIE;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::config::STICKY_BODY_BYTES_MAX;
use crate::serve::wrong_keys::Peer;
use crate::spec::Sticky;

/// The key of the client; none where the request does not say it.
pub(super) fn client_key<'a>(
    rule: &Sticky,
    headers: &'a HeaderMap,
    client: Peer,
    body: &[u8],
) -> Option<Cow<'a, [u8]>> {
    let key = match rule {
        Sticky::Header(name) => Cow::Borrowed(headers.get(name)?.as_bytes()),
        Sticky::Cookie(name) => Cow::Borrowed(cookie(headers, name)?),
        Sticky::JsonPath(pointer) => Cow::Owned(in_json(pointer, body)?.into_bytes()),
        Sticky::ClientIp(_) => Cow::Owned(client.key().into_bytes()),
    };
    (!key.is_empty()).then_some(key)
}

/// The first cookie of this name.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let all = headers.get_all(COOKIE).into_iter();
    let mut pairs = all.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    pairs.find_map(|pair| {
        let rest = pair.trim_ascii().strip_prefix(name.as_bytes())?;
        rest.strip_prefix(b"=")
    })
}

/// The text or number at a place of a JSON document, if that is near its beginning. Reading ends there: what comes behind may be
/// anything.
fn in_json(pointer: &str, body: &[u8]) -> Option<String> {
    let mut found = None;
    let find = Find {
        steps: pointer,
        found: &mut found,
    };
    let mut reader = serde_json::Deserializer::from_slice(beginning(body));
    // An error is how reading ends, also when something was found.
    drop(find.deserialize(&mut reader));
    found
}

/// As much of a body as is looked at. A number that goes on behind it must not be taken for a shorter one.
fn beginning(body: &[u8]) -> &[u8] {
    let Some(cut) = body.get(..STICKY_BODY_BYTES_MAX) else {
        return body;
    };
    let is_of_number = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
    let end = cut.iter().rposition(|byte| !is_of_number(byte));
    &cut[..end.map_or(0, |end| end + 1)]
}

/// Goes down by the steps that are left. The first value that is there is the one that is meant, and reading ends with it.
struct Find<'a> {
    steps: &'a str,
    found: &'a mut Option<String>,
}

impl Find<'_> {
    fn at_end<E: Error>(self, value: impl fmt::Display) -> Result<IgnoredAny, E> {
        if self.steps.is_empty() {
            *self.found = Some(value.to_string());
        }
        Err(over())
    }
}

/// The next step as it is written in a document, and the steps behind it.
fn next_step(steps: &str) -> Option<(Cow<'_, str>, &str)> {
    let steps = steps.strip_prefix('/')?;
    let end = steps.find('/').unwrap_or(steps.len());
    let (step, rest) = steps.split_at(end);
    let step = if step.contains('~') {
        step.replace("~1", "/").replace("~0", "~").into()
    } else {
        step.into()
    };
    Some((step, rest))
}

/// Nothing that comes later is of interest.
fn over<E: Error>() -> E {
    E::custom("over")
}

impl<'de> DeserializeSeed<'de> for Find<'_> {
    type Value = IgnoredAny;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<IgnoredAny, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Find<'_> {
    type Value = IgnoredAny;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<IgnoredAny, E> {
        self.at_end(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<IgnoredAny, E> {
        self.at_end(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<IgnoredAny, E> {
        self.at_end(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<IgnoredAny, E> {
        self.at_end(value)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<IgnoredAny, A::Error> {
        let (step, steps) = next_step(self.steps).ok_or_else(over)?;
        while let Some(is_it) = map.next_key_seed(Is(&step))? {
            if is_it {
                let found = &mut *self.found;
                return map.next_value_seed(Find { steps, found });
            }
            map.next_value::<IgnoredAny>()?;
        }
        Err(over())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<IgnoredAny, A::Error> {
        let (step, steps) = next_step(self.steps).ok_or_else(over)?;
        let index: usize = step.parse().map_err(|_| over())?;
        for _ in 0..index {
            if list.next_element::<IgnoredAny>()?.is_none() {
                return Err(over());
            }
        }
        let found = &mut *self.found;
        list.next_element_seed(Find { steps, found })?;
        Err(over())
    }
}

/// Whether a key of an object is this one.
struct Is<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<bool, D::Error> {
        reader.deserialize_str(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn key(rule: &Sticky, headers: &[(&'static str, &str)], body: &str) -> Option<String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let client = Peer::at("192.0.2.7:80".parse().unwrap());
        let key = client_key(rule, &map, client, body.as_bytes())?;
        Some(String::from_utf8(key.into_owned()).unwrap())
    }

    #[test]
    fn a_header_is_the_key_as_it_stands_and_an_empty_one_is_none() {
        let rule = Sticky::Header("x-user-id".to_owned());
        assert_eq!(
            key(&rule, &[("x-user-id", "ann b")], "").as_deref(),
            Some("ann b")
        );
        assert_eq!(key(&rule, &[("x-user-id", "")], ""), None);
        assert_eq!(key(&rule, &[("x-user", "ann")], ""), None);
    }

    #[test]
    fn a_cookie_is_found_among_others_by_its_whole_name() {
        let rule = Sticky::Cookie("sid".to_owned());
        let sent = |lines: &[&'static str]| {
            let lines: Vec<_> = lines.iter().map(|line| ("cookie", *line)).collect();
            key(&rule, &lines, "")
        };
        assert_eq!(sent(&["a=1; sid=x=y; b=2"]).as_deref(), Some("x=y"));
        assert_eq!(sent(&["a=1", "sid=7"]).as_deref(), Some("7"));
        assert_eq!(sent(&["xsid=1; sidx=2; sid"]), None);
        assert_eq!(sent(&["sid="]), None);
    }

    #[test]
    fn an_address_is_the_key_without_its_port() {
        assert_eq!(
            key(&Sticky::ClientIp(true), &[], "").as_deref(),
            Some("192.0.2.7")
        );
    }

    #[test]
    fn a_text_or_number_in_the_body_is_found_by_its_pointer_and_the_rest_is_not_read() {
        for (pointer, body, found) in [
            (
                "/user/id",
                r#"{"data": [1], "user": {"n": {}, "id": "ann"}, "#,
                Some("ann"),
            ),
            ("/user/id", r#"{"user": {"id": 7}}"#, Some("7")),
            ("/user/id", r#"{"user": {"id": -7}}"#, Some("-7")),
            (
                "/user/id",
                r#"{"user": {"id": "a\u006en"}} and no JSON"#,
                Some("ann"),
            ),
            ("/rows/1/0", r#"{"rows": [[1], ["b", 2]]}"#, Some("b")),
            ("/a~1b/c~0d", r#"{"a/b": {"c~d": "x"}}"#, Some("x")),
            ("/", r#"{"": "x"}"#, Some("x")),
            // The first counts, be it of no use.
            ("/id", r#"{"id": "a", "id": "b"}"#, Some("a")),
            ("/id", r#"{"id": {}, "id": "b"}"#, None),
            ("/id", r#"{"id": null}"#, None),
            ("/id", r#"{"id": true}"#, None),
            ("/id", r#"{"id": ""}"#, None),
            ("/id/x", r#"{"id": "x"}"#, None),
            ("/id", r#"[{"id": "x"}]"#, None),
            ("/7", "[1, 2]", None),
            ("/id", "no JSON", None),
            ("/id", "", None),
        ] {
            let rule = Sticky::JsonPath(pointer.to_owned());
            assert_eq!(key(&rule, &[], body).as_deref(), found, "{pointer} {body}");
        }
    }

    #[test]
    fn what_stands_behind_the_beginning_of_a_body_is_not_found_and_no_number_is_cut() {
        let rule = Sticky::JsonPath("/id".to_owned());
        for digits in 1..12 {
            let head = STICKY_BODY_BYTES_MAX - r#"{"data": "", "id": "#.len() - digits;
            let body = format!(r#"{{"data": "{}", "id": 12345678901}}"#, "x".repeat(head));
            assert_eq!(key(&rule, &[], &body), None, "{digits}");
        }
        let body = format!(
            r#"{{"id": 12345, "data": "{}"}}"#,
            "x".repeat(STICKY_BODY_BYTES_MAX)
        );
        assert_eq!(key(&rule, &[], &body).as_deref(), Some("12345"));
        // Nests deeper than any reader goes.
        let deep = format!(r#"{{"a": {}, "id": 1}}"#, "[".repeat(10_000));
        assert_eq!(key(&rule, &[], &deep), None);
    }

    proptest! {
        #[test]
        fn no_body_and_no_pointer_panics(body in ".{0,200}", pointer in "(/[a-z0-9~/]{0,6}){1,3}") {
            key(&Sticky::JsonPath(pointer), &[], &body);
        }
    }
}
