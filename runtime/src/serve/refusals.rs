//! Answers to requests whose head is at fault: counted, logged and written like every refusal, whoever found the fault.
//!
//! Threads: those that serve. Not here: what a fault is (`head`).

use std::sync::Arc;

use axum::http::HeaderValue;
use axum::http::header::CONNECTION;
use axum::response::Response;
use serde_json::json;
use tracing::debug;

use crate::observe::Metrics;
use crate::serve::failure::Failure;
use crate::serve::head::HeadFault;
use crate::serve::request_id::RequestIds;
use crate::serve::score::refusal;

/// Writes refusals of heads, and counts them where there are metrics to count in.
#[derive(Clone, Debug, Default)]
pub(super) struct Refusals(Option<Arc<Metrics>>);

impl Refusals {
    pub(super) fn counted_in(metrics: Arc<Metrics>) -> Self {
        Self(Some(metrics))
    }

    /// The answer, after which the connection is closed.
    pub(super) fn answer(&self, fault: HeadFault, ids: RequestIds) -> Response {
        self.tell(fault, &ids);
        let mut response = refusal(&Failure::Head(fault), ids);
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
        response
    }

    /// The same as bytes, for a head that the parser could not read.
    pub(super) fn text(&self, fault: HeadFault) -> Vec<u8> {
        let ids = RequestIds::fresh();
        self.tell(fault, &ids);
        let (status, id) = (fault.status(), ids.as_str());
        let body = json!({ "message": fault.to_string() }).to_string();
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\nx-ms-request-id: {id}\r\nx-request-id: {id}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }

    fn tell(&self, fault: HeadFault, ids: &RequestIds) {
        let status = fault.status().as_u16();
        if let Some(metrics) = &self.0 {
            metrics.refused("", status);
        }
        debug!(status, request_id = ids.as_str(), failure = %fault, "request refused");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_refusal_say_the_same() {
        let fault = HeadFault::TooLarge;
        let text = String::from_utf8(Refusals::default().text(fault)).unwrap();
        let response = Refusals::default().answer(fault, RequestIds::fresh());
        assert!(text.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"));
        assert_eq!(response.status().as_u16(), 431);
        for name in response.headers().keys() {
            assert!(text.contains(&format!("\r\n{name}: ")), "{name}: {text}");
        }
    }
}
