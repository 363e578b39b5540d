//! Metrics for Prometheus over HTTP, on a listener of their own or beside scoring.
//!
//! - `GET /metrics`: every series, as OpenMetrics where the client prefers that, else in the text format
//!
//! Threads: that of the listener. Not here: which series there are (`observe`).

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Extension, Router};

use crate::observe::{Metrics, MetricsFormat};
use crate::serve::origin::{foreign_host, foreign_page};
use crate::serve::wrong_keys::Peer;

/// The type of the format that every collector reads.
const TEXT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// The type of the format that Prometheus asks for first.
const OPENMETRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Weights are counted in thousandths, as they are written.
const WEIGHT_MAX: u16 = 1000;

/// The route of the metrics, beside others.
pub(super) fn metrics_route(metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/metrics", get(shown))
        .with_state(metrics)
}

/// The routes of a listener that shows metrics and nothing else.
pub fn metrics_routes(metrics: Arc<Metrics>) -> Router {
    metrics_route(metrics)
        .fallback(nothing_here)
        .method_not_allowed_fallback(only_read)
}

/// Web pages get nothing, by whichever name they make a browser ask.
async fn shown(
    State(metrics): State<Arc<Metrics>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let (headers, uri) = (request.headers(), request.uri());
    // A page that has its own name resolve to this machine asks from there; Prometheus may know another machine by any name.
    let bound = IpAddr::V4(Ipv4Addr::LOCALHOST);
    if let Some(host) = foreign_host(headers, uri, bound).filter(|_| peer.is_local()) {
        let words = format!("metrics are not served to this machine under the name {host:?}");
        return (StatusCode::MISDIRECTED_REQUEST, words).into_response();
    }
    if let Some(page) = foreign_page(headers) {
        let words = format!("metrics are not for the web page {page:?}");
        return (StatusCode::FORBIDDEN, words).into_response();
    }
    metrics_response(headers, &metrics)
}

async fn nothing_here(uri: Uri) -> Response {
    let words = format!(
        "nothing is served at {}; metrics are at /metrics\n",
        uri.path()
    );
    (StatusCode::NOT_FOUND, words).into_response()
}

async fn only_read(method: Method) -> Response {
    let words = format!("metrics take GET, and not {method}\n");
    (StatusCode::METHOD_NOT_ALLOWED, words).into_response()
}

/// All metrics, in the format that the client prefers.
pub fn metrics_response(headers: &HeaderMap, metrics: &Metrics) -> Response {
    let format = preferred(headers);
    let kind = match format {
        MetricsFormat::Text => TEXT_TYPE,
        MetricsFormat::OpenMetrics => OPENMETRICS_TYPE,
    };
    let head = [(CONTENT_TYPE, kind), (VARY, "accept")];
    (head, metrics.page(format)).into_response()
}

/// The format that `Accept` prefers. Who does not name OpenMetrics gets the text format, and so does who accepts neither: it is the one
/// that everybody can look at.
fn preferred(headers: &HeaderMap) -> MetricsFormat {
    let accepted = headers.get_all(ACCEPT).iter();
    let accepted = accepted.filter_map(|value| value.to_str().ok());
    let ranges: Vec<Range<'_>> = accepted
        .flat_map(|value| value.split(','))
        .filter_map(Range::parse)
        .collect();
    let openmetrics = ranges.iter().filter(|range| range.is_openmetrics());
    let openmetrics = openmetrics.map(|range| range.weight).max();
    if openmetrics.is_some_and(|weight| weight > 0 && weight >= weight_of_text(&ranges)) {
        MetricsFormat::OpenMetrics
    } else {
        MetricsFormat::Text
    }
}

/// The weight of the text format: that of the range which says most about it.
fn weight_of_text(ranges: &[Range<'_>]) -> u16 {
    let weight_of = |kind: &str| {
        let ranges = ranges
            .iter()
            .filter(|range| range.is(kind) && range.is_text_version());
        ranges.map(|range| range.weight).max()
    };
    let most = ["text/plain", "text/*", "*/*"]
        .into_iter()
        .find_map(weight_of);
    most.unwrap_or(0)
}

/// One part of `Accept`.
#[derive(Debug)]
struct Range<'a> {
    kind: &'a str,
    version: Option<&'a str>,
    /// In thousandths.
    weight: u16,
}

impl<'a> Range<'a> {
    /// None of what has a weight that is no weight.
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let kind = parts.next()?;
        let (mut version, mut weight) = (None, WEIGHT_MAX);
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            let (name, value) = (name.trim(), value.trim().trim_matches('"'));
            if name.eq_ignore_ascii_case("q") {
                weight = thousandths(value)?;
            } else if name.eq_ignore_ascii_case("version") {
                version = Some(value);
            }
        }
        Some(Self {
            kind,
            version,
            weight,
        })
    }

    fn is(&self, kind: &str) -> bool {
        self.kind.eq_ignore_ascii_case(kind)
    }

    /// Whether what is written as OpenMetrics 1.0 is meant. What the version before it had is the same in all that is written here.
    fn is_openmetrics(&self) -> bool {
        let versions = [None, Some("1.0.0"), Some("0.0.1")];
        self.is("application/openmetrics-text") && versions.contains(&self.version)
    }

    /// The names that are written here stand in every version of the text format.
    fn is_text_version(&self) -> bool {
        matches!(self.version, None | Some("0.0.4" | "1.0.0"))
    }
}

/// A weight from 0 to 1, which has three digits behind the point at most.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !matches!(whole, "0" | "1") || part.len() > 3 || !is_digits(part) {
        return None;
    }
    let whole: u16 = whole.parse().ok()?;
    let part: u16 = format!("{part:0<3}").parse().ok()?;
    Some(whole * WEIGHT_MAX + part).filter(|weight| *weight <= WEIGHT_MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::serve::listen::{ConnectionLimits, listen};

    fn format_for(accept: &[&str]) -> MetricsFormat {
        let mut headers = HeaderMap::new();
        for value in accept {
            headers.append(ACCEPT, value.parse().unwrap());
        }
        preferred(&headers)
    }

    #[test]
    fn who_prefers_openmetrics_gets_it_and_everybody_else_the_text_format() {
        for accept in [
            // Prometheus 2 and 3, and the agents that took its words.
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3",
            "application/openmetrics-text",
            "APPLICATION/OpenMetrics-Text ; Version=\"1.0.0\" ; Q=0.001",
            "text/plain;q=0.5, application/openmetrics-text; version=1.0.0; charset=utf-8; q=0.5",
            "text/plain;q=0, */*, application/openmetrics-text;q=0.1",
        ] {
            assert_eq!(
                format_for(&[accept]),
                MetricsFormat::OpenMetrics,
                "{accept}"
            );
        }
        for accept in [
            "",
            "*/*",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "text/plain;version=0.0.4",
            "application/json",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;version=2.0.0",
            "application/openmetrics-text;q=0.4,text/plain;q=0.5",
            "application/openmetrics-text;q=0.4,text/*;q=0.5",
            "application/openmetrics-text;q=2",
            "application/openmetrics-text;q=-1",
            "application/openmetrics-text;q=0.00001",
            "application/openmetrics-textual",
            ";;;,,=;q",
        ] {
            assert_eq!(format_for(&[accept]), MetricsFormat::Text, "{accept}");
        }
        assert_eq!(format_for(&[]), MetricsFormat::Text);
        let apart = ["text/plain;q=0.2", "application/openmetrics-text;q=0.3"];
        assert_eq!(format_for(&apart), MetricsFormat::OpenMetrics);
    }

    /// The answer of a listener of metrics to a request of this machine.
    async fn asked(request: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let limits = ConnectionLimits {
            connections_max: 4,
            grace: Duration::ZERO,
        };
        let routes = metrics_routes(Metrics::new());
        tokio::spawn(listen(listener, routes, limits, std::future::pending()));
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("{request} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_listener_of_metrics_says_where_they_are_and_how_they_are_asked_for() {
        let shown = asked("GET /metrics").await;
        assert!(shown.starts_with("HTTP/1.1 200 OK\r\n"), "{shown}");
        assert!(shown.contains("\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n"));
        assert!(shown.contains("\nserin_build_info{"), "{shown}");
        let head = asked("HEAD /metrics").await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains("\r\ncontent-length: ") && head.ends_with("\r\n\r\n"));
        let elsewhere = asked("GET /score").await;
        assert!(elsewhere.starts_with("HTTP/1.1 404 "), "{elsewhere}");
        assert!(elsewhere.ends_with("nothing is served at /score; metrics are at /metrics\n"));
        let wrong = asked("DELETE /metrics").await;
        assert!(wrong.starts_with("HTTP/1.1 405 "), "{wrong}");
        assert!(wrong.contains("\r\nallow: GET,HEAD\r\n"), "{wrong}");
        assert!(wrong.ends_with("metrics take GET, and not DELETE\n"));
    }

    #[test]
    fn a_weight_is_from_0_to_1() {
        for (text, weight) in [
            ("1", 1000),
            ("1.000", 1000),
            ("0.5", 500),
            ("0.", 0),
            ("0.075", 75),
        ] {
            assert_eq!(thousandths(text), Some(weight), "{text}");
        }
        for text in ["", "1.001", "2", "01", ".5", "0.5555", "0.+5", "é", "0.é"] {
            assert_eq!(thousandths(text), None, "{text}");
        }
    }
}
