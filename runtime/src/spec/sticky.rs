//! The rule by which requests of one client are told to be that: the key `sticky` of an endpoint.
//!
//! Pure. Not here: reading the key of a request (`serve`), who belongs where (`cohorts`).

use serde::Serialize;

use super::Problem;
use super::fields::{Fields, text};
use super::node::{Content, Node};
use crate::config::{STICKY_DEPTH_MAX, STICKY_NAME_LEN_MAX};

/// Where the key of a client stands in its requests. What has the same key meets the same deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sticky {
    /// In this header, written in lower case.
    Header(String),
    /// In this cookie.
    Cookie(String),
    /// In the JSON body, where this pointer (RFC 6901) says, if that is near its beginning.
    JsonPath(String),
    /// Its address is the key; always `true`.
    ClientIp(bool),
}

impl Sticky {
    /// A sentence about what the rule means and does not say.
    #[must_use]
    pub(super) fn note(&self) -> Option<String> {
        match self {
            Self::ClientIp(_) => Some(
                "sticky client_ip: all clients behind one proxy are one, and so are those of one network of IPv6".to_owned(),
            ),
            Self::JsonPath(_) => Some(
                "sticky json_path: looked for in the first 16 KiB of a body; a model without a scoring script refuses keys that are no inputs of it".to_owned(),
            ),
            Self::Header(_) | Self::Cookie(_) => None,
        }
    }
}

/// Reads the rule; none where nothing is written, or nothing that is one.
pub(super) fn read_sticky(node: Node, problems: &mut Vec<Problem>) -> Option<Sticky> {
    let at = node.clone();
    let before = problems.len();
    let mut fields = Fields::open(node, problems);
    let keys = ["header", "cookie", "json_path", "client_ip"];
    let count = keys.iter().filter(|key| fields.has(key)).count();
    let rules = [
        fields.read("header", header).map(Sticky::Header),
        fields.read("cookie", cookie).map(Sticky::Cookie),
        fields.read("json_path", pointer).map(Sticky::JsonPath),
        fields.read("client_ip", yes).map(Sticky::ClientIp),
    ];
    fields.finish(&[]);
    if count > 1 {
        problems.push(
            at.problem("expected one of header, cookie, json_path and client_ip, found several"),
        );
    }
    let rule = rules.into_iter().flatten().next();
    rule.filter(|_| problems.len() == before)
}

fn header(node: Node) -> Result<String, Problem> {
    token(node, "the name of a header, such as x-user-id").map(|name| name.to_ascii_lowercase())
}

fn cookie(node: Node) -> Result<String, Problem> {
    token(node, "the name of a cookie, such as session")
}

/// A name as headers and cookies have them (RFC 9110, `token`).
fn token(node: Node, what: &str) -> Result<String, Problem> {
    let at = node.clone();
    let name = text(node)?;
    let is_of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let is_token = !name.is_empty() && name.bytes().all(is_of_token);
    if is_token && name.len() <= STICKY_NAME_LEN_MAX {
        Ok(name)
    } else {
        Err(at.expected(format_args!(
            "{what}, of at most {STICKY_NAME_LEN_MAX} characters"
        )))
    }
}

/// Reads a JSON pointer (RFC 6901).
pub(crate) fn pointer(node: Node) -> Result<String, Problem> {
    let at = node.clone();
    let pointer = text(node)?;
    let depth = pointer.matches('/').count();
    let is_escaped = |rest: &str| rest.starts_with(['0', '1']);
    let is_pointer = pointer.starts_with('/') && pointer.split('~').skip(1).all(is_escaped);
    if is_pointer && depth <= STICKY_DEPTH_MAX && pointer.len() <= STICKY_NAME_LEN_MAX {
        Ok(pointer)
    } else {
        Err(at.expected(format_args!(
            "a JSON pointer such as /user/id, of at most {STICKY_DEPTH_MAX} steps and {STICKY_NAME_LEN_MAX} characters"
        )))
    }
}

fn yes(node: Node) -> Result<bool, Problem> {
    match &node.content {
        Content::Bool(true) => Ok(true),
        Content::Text(text) if text.eq_ignore_ascii_case("true") => Ok(true),
        _ => Err(node.expected("true; without it there is no sticky")),
    }
}
