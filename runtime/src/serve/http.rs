//! The routes of the scoring listener.
//!
//! - `POST /endpoints/{name}/score`: scores at an endpoint
//! - `POST /score`: the same, where there is one endpoint
//! - `GET` and `OPTIONS` of both: where a scoring script answers, which knows what they mean
//! - `GET /endpoints/{name}/swagger.json`, `GET /swagger.json`: what a request looks like, as OpenAPI 3, to who may send one
//! - `POST /endpoints/{name}/feedback`: what turned out about answers, for the rollout of the endpoint
//! - `GET /`: `Healthy`, as Azure's inference server says it
//! - `GET /health/live`: the process answers
//! - `GET /health/ready`: the server can answer, else 503; names the deployments that cannot, to who may know their endpoint
//! - `GET /metrics`: for Prometheus, where that is wished for here

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use axum::routing::{any, get, post};
use axum::{Extension, Router};
use hyper::service::{Service, service_fn};
use hyper_util::service::TowerToHyperService;
use serde_json::json;

use crate::serve::exposition::metrics_route;
use crate::serve::failure::Failure;
use crate::serve::request_body::RequestBody;
use crate::serve::score::{Scoring, Target, json_response, wrong_method};
use crate::serve::wrong_keys::Peer;

/// Answers the requests of one connection. Scoring by a plain path, which is nearly every request, does not pass through the
/// routes: they box and clone a handler for each.
pub(super) fn service(
    scoring: &Arc<Scoring>,
    routes: &Router,
    client: Peer,
) -> impl Service<hyper::Request<RequestBody>, Response = Response, Error = Infallible, Future: Send>
+ use<> {
    let (scoring, routes) = (
        Arc::clone(scoring),
        TowerToHyperService::new(routes.clone()),
    );
    service_fn(move |mut request: hyper::Request<RequestBody>| {
        let plain = request.method() == Method::POST && Target::of(request.uri().path()).is_some();
        let (scoring, routes) = (Arc::clone(&scoring), (!plain).then(|| routes.clone()));
        async move {
            if let Some(routes) = routes {
                request.extensions_mut().insert(client);
                return routes
                    .call(request)
                    .await
                    .map(|response| scoring.drain.mark(response));
            }
            let (parts, body) = request.into_parts();
            let target = Target::of(parts.uri.path()).unwrap_or(Target::Only);
            let response = scoring.score(client, target, &parts, body).await;
            Ok(scoring.drain.mark(response))
        }
    })
}

/// The scoring routes.
pub(super) fn routes(scoring: Scoring) -> Router {
    let shown = if scoring.shows_metrics {
        metrics_route(Arc::clone(&scoring.metrics))
    } else {
        Router::new()
    };
    Router::new()
        .route("/endpoints/{name}/score", any(score_named))
        .route("/score", any(score_only))
        .route("/endpoints/{name}/swagger.json", get(document_named))
        .route("/swagger.json", get(document_only))
        .route("/endpoints/{name}/feedback", post(feedback))
        .route("/", get(|| async { "Healthy" }))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .fallback(no_route)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(scoring)
        .merge(shown)
}

async fn score_named(
    State(scoring): State<Scoring>,
    Extension(client): Extension<Peer>,
    name: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    match name {
        Ok(Path(name)) => score(&scoring, client, Target::Named(&name), request).await,
        // Bytes that are no text name nothing.
        Err(_) => no_route(State(scoring), request).await,
    }
}

async fn score_only(
    State(scoring): State<Scoring>,
    Extension(client): Extension<Peer>,
    request: Request,
) -> Response {
    score(&scoring, client, Target::Only, request).await
}

async fn document_named(
    State(scoring): State<Scoring>,
    Extension(client): Extension<Peer>,
    name: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    match name {
        Ok(Path(name)) => {
            let (parts, _body) = request.into_parts();
            scoring.describe(client, Target::Named(&name), &parts).await
        }
        Err(_) => no_route(State(scoring), request).await,
    }
}

async fn document_only(
    State(scoring): State<Scoring>,
    Extension(client): Extension<Peer>,
    request: Request,
) -> Response {
    let (parts, _body) = request.into_parts();
    scoring.describe(client, Target::Only, &parts).await
}

async fn feedback(
    State(scoring): State<Scoring>,
    Extension(client): Extension<Peer>,
    name: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    match name {
        Ok(Path(name)) => {
            let (parts, body) = request.into_parts();
            let target = Target::Named(&name);
            scoring.hear(client, target, &parts, body).await
        }
        Err(_) => no_route(State(scoring), request).await,
    }
}

/// Scores, unless neither a model nor a script could have an answer: that is said to whoever asks.
async fn score(scoring: &Scoring, client: Peer, target: Target<'_>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    match parts.method {
        Method::POST | Method::GET | Method::OPTIONS => {
            scoring.score(client, target, &parts, body).await
        }
        _ => scoring.refuse_at_route(&wrong_method(&parts.method, &parts.uri), &parts),
    }
}

async fn live() -> Response {
    json_response(StatusCode::OK, &json!({ "live": true }))
}

async fn ready(State(scoring): State<Scoring>, headers: HeaderMap) -> Response {
    let health = scoring.health_for(&headers);
    let status = if health.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    json_response(status, &json!(health))
}

async fn no_route(State(scoring): State<Scoring>, request: Request) -> Response {
    let failure = Failure::NoRoute {
        path: request.uri().path().to_owned(),
    };
    let (parts, _body) = request.into_parts();
    scoring.refuse_at_route(&failure, &parts)
}

async fn method_not_allowed(State(scoring): State<Scoring>, request: Request) -> Response {
    let failure = Failure::MethodNotAllowed {
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        is_of_scoring: false,
    };
    let (parts, _body) = request.into_parts();
    scoring.refuse_at_route(&failure, &parts)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::SocketAddr;
    use std::time::Duration;

    use axum::body::Body;
    use bytes::Bytes;
    use serde_json::Value;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::config::{
        DEGRADED_AFTER, SMALL_BYTES, WRONG_KEY_DELAY, WRONG_KEYS_FREE, WRONG_KEYS_WAITING_MAX,
    };
    use crate::engine::{InstanceHandle, RequestHead, ResponseHead, RunError, Scored};
    use crate::observe::Metrics;
    use crate::router::keys::hash_of_key;
    use crate::router::{
        AdmissionControl, Deployment, Endpoint, EndpointAuth, Router as Endpoints, RoutingTable,
    };
    use crate::serve::{BytesInFlight, Drain, Readiness, accept, connection_queue};
    use crate::spec::TrafficSplit;

    const BODY_BYTES_MAX: usize = 1000;

    /// A real listener over real routes, without any model.
    struct Server {
        address: SocketAddr,
        endpoints: Arc<Endpoints>,
        metrics: Arc<Metrics>,
        readiness: Readiness,
        scoring: Scoring,
        drain: Drain,
    }

    struct Answer {
        status: u16,
        headers: BTreeMap<String, String>,
        body: String,
    }

    impl Answer {
        fn message(&self) -> String {
            let body: Value = serde_json::from_str(&self.body).unwrap();
            body["message"].as_str().unwrap().to_owned()
        }
    }

    impl Server {
        async fn start() -> Self {
            Self::holding(Duration::from_secs(60)).await
        }

        /// One that has not begun, where requests wait for that as long as this.
        async fn holding(hold_max: Duration) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let (endpoints, metrics) = (Endpoints::new(), Metrics::new());
            let bytes = BytesInFlight::new(0, BODY_BYTES_MAX, &metrics);
            let scoring = Scoring {
                readiness: Readiness::holding(hold_max),
                ..Scoring::new(Arc::clone(&endpoints), Arc::clone(&metrics), bytes)
            };
            let server = Self {
                address: listener.local_addr().unwrap(),
                endpoints,
                metrics,
                readiness: scoring.readiness.clone(),
                drain: scoring.drain.clone(),
                scoring: scoring.clone(),
            };
            let (queue, connections) = connection_queue();
            tokio::spawn(accept(listener, vec![queue], 16, std::future::pending()));
            tokio::spawn(connections.serve_scoring(scoring, Duration::ZERO));
            server
        }

        /// A ready server with these endpoints, none of which has a deployment. The key of each is its name.
        async fn with(names: &[&str]) -> Self {
            Self::with_auth(names, |name| EndpointAuth::Key {
                hashes: [hash_of_key(name), [7; 32]],
            })
            .await
        }

        async fn with_auth(names: &[&str], auth: impl Fn(&str) -> EndpointAuth) -> Self {
            let server = Self::start().await;
            server.readiness.set();
            let endpoint = |name: &&str| {
                let split = TrafficSplit::default();
                Endpoint::new(name.parse().unwrap(), auth(name), split, vec![], None).unwrap()
            };
            let endpoints = names.iter().map(endpoint).collect();
            server.endpoints.publish(RoutingTable::new(endpoints));
            server
        }

        async fn send(&self, head: &str, body: &[u8]) -> Answer {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            let head = format!("{head}\r\nhost: x\r\nconnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(body).await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            let mut lines = head.lines();
            let status = lines.next().unwrap().split(' ').nth(1).unwrap();
            let header = |line: &str| {
                let (name, value) = line.split_once(": ").unwrap();
                (name.to_owned(), value.to_owned())
            };
            Answer {
                status: status.parse().unwrap(),
                headers: lines.map(header).collect(),
                body: body.to_owned(),
            }
        }

        async fn get(&self, path: &str) -> Answer {
            self.send(&format!("GET {path} HTTP/1.1"), b"").await
        }

        async fn post(&self, path: &str, headers: &str) -> Answer {
            let head = format!("POST {path} HTTP/1.1\r\ncontent-length: 2{headers}");
            self.send(&head, b"{}").await
        }
    }

    #[tokio::test]
    async fn health_says_whether_it_lives_and_whether_it_can_answer() {
        let server = Server::start().await;
        let healthy = server.get("/").await;
        assert_eq!((healthy.status, healthy.body.as_str()), (200, "Healthy"));
        let live = server.get("/health/live").await;
        assert_eq!((live.status, live.body.as_str()), (200, r#"{"live":true}"#));
        let ready = async || {
            let ready = server.get("/health/ready").await;
            (ready.status, ready.body)
        };
        let (yes, no) = (r#"{"ready":true}"#, r#"{"ready":false}"#);
        assert_eq!(ready().await, (503, no.to_owned()));
        server.readiness.set();
        assert_eq!(ready().await, (200, yes.to_owned()));

        // All traffic is for a deployment without an instance: not ready.
        let deployment = Deployment {
            name: "blue".parse().unwrap(),
            admission: AdmissionControl::new(1),
            instances: vec![],
            request_timeout: Duration::from_secs(1),
            metrics: server.metrics.deployment("iris", "blue"),
        };
        let endpoint = Endpoint::new(
            "iris".parse().unwrap(),
            EndpointAuth::Open,
            TrafficSplit::parse("blue=100").unwrap(),
            vec![Arc::new(deployment)],
            None,
        );
        let table = RoutingTable::new(vec![endpoint.unwrap()]);
        server.endpoints.publish(table);
        let short =
            r#"{"ready":false,"short":[{"endpoint":"iris","deployment":"blue","traffic":100}]}"#;
        assert_eq!(ready().await, (503, short.to_owned()));
        // And so is the request itself.
        let answer = server.post("/score", "").await;
        assert_eq!(answer.status, 503);
        assert_eq!(answer.headers["azureml-model-deployment"], "blue");
        assert_eq!(
            answer.headers["ms-azureml-model-error-reason"],
            "model_not_ready"
        );
    }

    #[tokio::test]
    async fn a_degraded_deployment_is_named_with_its_reason_and_the_server_stays_as_ready_as_it_was()
     {
        let server = Server::start().await;
        publish_with_key(&server, "key");
        server.readiness.set();
        let ready = async || {
            let head = "GET /health/ready HTTP/1.1\r\nauthorization: Bearer key";
            server.send(head, b"").await
        };
        let before = ready().await;
        assert!(!before.body.contains("degraded"), "{}", before.body);
        let blue = server.metrics.deployment("iris", "blue");
        for _ in 0..DEGRADED_AFTER {
            blue.streak().failed(|| "it hangs".to_owned());
        }
        let named = ready().await;
        assert_eq!(named.status, before.status);
        let stranger = server.get("/health/ready").await;
        assert_eq!(
            (stranger.status, stranger.body.as_str()),
            (
                before.status,
                r#"{"ready":false,"short_unnamed":1,"degraded_unnamed":1}"#
            )
        );
        let body: Value = serde_json::from_str(&named.body).unwrap();
        assert_eq!(
            body["degraded"],
            json!([{"endpoint": "iris", "deployment": "blue", "traffic": 100, "failures_in_a_row": DEGRADED_AFTER, "reason": "it hangs"}])
        );
        let metrics = server.metrics.render();
        let line = "serin_degraded{endpoint=\"iris\",deployment=\"blue\"} 1\n";
        assert!(metrics.contains(line), "{metrics}");
        blue.streak().succeeded();
        assert_eq!(ready().await.body, before.body);
    }

    #[tokio::test]
    async fn wrong_paths_and_methods_are_told_as_json() {
        let server = Server::with(&["iris"]).await;
        let nowhere = server.get("/nowhere").await;
        assert_eq!(nowhere.status, 404);
        assert_eq!(
            nowhere.message(),
            "nothing is served at /nowhere: score with POST /endpoints/{name}/score"
        );
        for path in ["/score", "/endpoints/iris/score", "/endpoints/ir%69s/score"] {
            // No model takes them, and no script; so it does not matter who asks.
            for method in ["HEAD", "PUT", "DELETE", "PATCH", "PURGE"] {
                let wrong = server.send(&format!("{method} {path} HTTP/1.1"), b"").await;
                assert_eq!(wrong.status, 405, "{method} {path}");
                assert_eq!(wrong.headers["allow"], "POST");
            }
            for method in ["GET", "OPTIONS"] {
                let head = format!("{method} {path} HTTP/1.1");
                assert_eq!(server.send(&head, b"").await.status, 401, "{head}");
                let head = format!("{head}\r\nauthorization: Bearer iris");
                let wrong = server.send(&head, b"").await;
                assert_eq!(wrong.status, 405, "{head}");
                let message = format!("the method {method} is not allowed for {path}");
                assert_eq!(wrong.message(), message);
                assert_eq!(wrong.headers["allow"], "POST");
                assert_eq!(wrong.headers["x-request-id"].len(), 36);
            }
        }
        let wrong = server.post("/health/live", "").await;
        assert_eq!(
            (wrong.status, wrong.headers["allow"].as_str()),
            (405, "GET,HEAD")
        );
    }

    #[tokio::test]
    async fn a_name_that_is_no_text_is_404_as_json() {
        let server = Server::with(&["iris"]).await;
        let answer = server.post("/endpoints/ir%FFs/score", "").await;
        assert_eq!(answer.status, 404);
        assert!(answer.message().contains("/endpoints/ir%FFs/score"));
    }

    #[tokio::test]
    async fn an_endpoint_that_is_not_there_is_404_and_names_those_that_are_where_all_are_open() {
        let server = Server::with_auth(&["iris", "digits"], |_| EndpointAuth::Open).await;
        let answer = server.post("/endpoints/irs/score", "").await;
        assert_eq!(answer.status, 404);
        assert_eq!(
            answer.message(),
            "no endpoint is named \"irs\"; there are: digits, iris"
        );
        let answer = server.post("/score", "").await;
        assert_eq!(answer.status, 404);
        assert_eq!(
            answer.message(),
            "/score serves a single endpoint; score at /endpoints/digits/score, /endpoints/iris/score"
        );
    }

    /// Publishes `iris`, which its name opens, with deployments of scripts (`script`, which has the traffic) and of models (`model`).
    /// A script answers with what it was asked, and by the headers `x-want` and `x-want-bytes` with another status and size.
    fn publish_script(server: &Server, auth: EndpointAuth) {
        let deployment = |name: &str, runs_a_script| {
            Arc::new(Deployment {
                name: name.parse().unwrap(),
                admission: AdmissionControl::new(1),
                instances: vec![InstanceHandle::played(runs_a_script, script_says)],
                request_timeout: Duration::from_secs(60),
                metrics: server.metrics.deployment("iris", name),
            })
        };
        let endpoint = Endpoint::new(
            "iris".parse().unwrap(),
            auth,
            TrafficSplit::parse("script=100").unwrap(),
            vec![deployment("script", true), deployment("model", false)],
            None,
        );
        let table = RoutingTable::new(vec![endpoint.unwrap()]);
        server.endpoints.publish(table);
        server.readiness.set();
    }

    fn script_says(asked: Option<&RequestHead>, body: &[u8]) -> Result<Scored, RunError> {
        let Some(asked) = asked else {
            return Ok(Scored {
                body: Bytes::from("[]").into(),
                head: None,
            });
        };
        let mut wanted = asked.headers.iter().filter(|(name, _)| name == "x-want");
        let status = wanted.next().map_or(200, |(_, want)| want.parse().unwrap());
        let headers = [
            ("content-type", "text/plain"),
            ("content-length", "1"),
            ("x-split", "a\r\nb: c"),
        ];
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let large = asked
            .headers
            .iter()
            .find(|(name, _)| name == "x-want-bytes");
        if let Some((_, bytes)) = large {
            return Ok(Scored {
                body: Bytes::from(vec![b' '; bytes.parse().unwrap()]).into(),
                head: None,
            });
        }
        let mut said = json!(asked);
        said["body"] = String::from_utf8_lossy(body).into();
        Ok(Scored {
            body: Bytes::from(said.to_string()).into(),
            head: Some(Box::new(ResponseHead {
                status,
                headers: headers.iter().map(owned).collect(),
                failed: status >= 500,
            })),
        })
    }

    fn key_of_iris() -> EndpointAuth {
        EndpointAuth::Key {
            hashes: [hash_of_key("iris"), [7; 32]],
        }
    }

    const KEY: &str = "\r\nauthorization: Bearer iris";

    #[tokio::test]
    async fn a_script_answers_get_and_options_and_post_by_any_path_and_only_to_who_may_ask() {
        let server = Server::start().await;
        publish_script(&server, key_of_iris());
        for path in ["/score", "/endpoints/iris/score", "/endpoints/ir%69s/score"] {
            for method in ["GET", "OPTIONS", "POST"] {
                let head = format!("{method} {path}?a=1&b=%20x HTTP/1.1");
                assert_eq!(server.send(&head, b"").await.status, 401, "{head}");
                let wrong = format!("{head}\r\nauthorization: Bearer wrong");
                assert_eq!(server.send(&wrong, b"").await.status, 401, "{head}");
                let answer = server.send(&format!("{head}{KEY}"), b"").await;
                assert_eq!(answer.status, 200, "{head}");
                assert_eq!(answer.headers["content-type"], "text/plain");
                assert_eq!(answer.headers["azureml-model-deployment"], "script");
                assert_eq!(answer.headers["x-ms-run-function-failed"], "False");
                assert!(!answer.body.contains("Bearer"), "{}", answer.body);
                let said: Value = serde_json::from_str(&answer.body).unwrap();
                let seen = json!([said["method"], said["path"], said["query"], said["body"]]);
                assert_eq!(seen, json!([method, path, "a=1&b=%20x", ""]));
            }
            let head = format!("HEAD {path} HTTP/1.1{KEY}");
            assert_eq!(server.send(&head, b"").await.status, 405);
        }
    }

    #[tokio::test]
    async fn beside_a_script_a_model_takes_post_and_nothing_else() {
        let server = Server::start().await;
        publish_script(&server, key_of_iris());
        let to_model = format!("{KEY}\r\nazureml-model-deployment: model");
        for method in ["GET", "OPTIONS"] {
            let answer = server
                .send(&format!("{method} /score HTTP/1.1{to_model}"), b"")
                .await;
            assert_eq!(
                (answer.status, answer.headers["allow"].as_str()),
                (405, "POST")
            );
            assert_eq!(
                answer.message(),
                "deployment model has no scoring script; its model takes POST and nothing else"
            );
        }
        let answer = server.post("/score", &to_model).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "[]"));
        assert!(!answer.headers.contains_key("x-ms-run-function-failed"));
        let metrics = server.metrics.render();
        let refused = "serin_requests_refused_total{endpoint=\"iris\",status=\"405\"} 2\n";
        assert!(metrics.contains(refused), "{metrics}");
    }

    #[tokio::test]
    async fn a_foreign_page_may_not_ask_a_script_that_wants_no_key_whatever_the_method() {
        let server = Server::start().await;
        publish_script(&server, EndpointAuth::Open);
        for method in ["GET", "OPTIONS", "POST"] {
            let head = format!("{method} /score HTTP/1.1");
            assert_eq!(server.send(&head, b"").await.status, 200);
            for page in ["origin: http://evil.example", "sec-fetch-site: cross-site"] {
                let answer = server.send(&format!("{head}\r\n{page}"), b"").await;
                assert_eq!(answer.status, 403, "{method} {page}");
            }
        }
    }

    #[tokio::test]
    async fn a_body_of_any_type_reaches_a_script_and_a_compressed_one_does_not() {
        let server = Server::start().await;
        publish_script(&server, key_of_iris());
        for kind in [
            "multipart/form-data; boundary=x",
            "application/x-www-form-urlencoded",
            "image/png",
        ] {
            let answer = server
                .post("/score", &format!("{KEY}\r\ncontent-type: {kind}"))
                .await;
            let said: Value = serde_json::from_str(&answer.body).unwrap();
            let headers = said["headers"].as_array().unwrap();
            assert!(headers.contains(&json!(["content-type", kind])), "{said}");
            assert_eq!(said["body"], "{}");
        }
        let gzip = format!("{KEY}\r\ncontent-encoding: gzip");
        assert_eq!(server.post("/score", &gzip).await.status, 415);
    }

    #[tokio::test]
    async fn a_large_answer_of_a_script_needs_room_like_any_other() {
        let server = Server::start().await;
        publish_script(&server, key_of_iris());
        let large = format!("{KEY}\r\nx-want-bytes: {}", 10 * SMALL_BYTES);
        let answer = server.post("/score", &large).await;
        assert_eq!(answer.status, 503);
        assert!(answer.message().contains("the answer is lost"));
        assert_eq!(answer.headers["azureml-model-deployment"], "script");
    }

    /// Whatever a script says of length and status, the next answer begins where this one ends.
    #[tokio::test]
    async fn answers_of_a_script_keep_their_places_on_a_connection_that_stays_open() {
        let server = Server::start().await;
        publish_script(&server, key_of_iris());
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        for (want, status, has_body) in [
            (200, 200, true),
            (204, 204, false),
            (205, 205, true),
            (304, 304, false),
            (404, 404, true),
            (500, 424, true),
            (100, 424, true),
            (101, 424, true),
            (999, 424, true),
            (201, 201, true),
        ] {
            let head = format!("POST /score HTTP/1.1\r\nhost: x\r\nx-want: {want}{KEY}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            let head = next_head(&mut stream).await;
            assert!(
                head.starts_with(&format!("HTTP/1.1 {status} ")),
                "{want}: {head}"
            );
            assert_eq!(
                head.matches("content-length: ").count(),
                usize::from(has_body),
                "{head}"
            );
            assert!(!head.contains("\r\nb: c"), "{head}");
            if has_body {
                let (_, length) = head.split_once("content-length: ").unwrap();
                let length = length.split("\r\n").next().unwrap().parse().unwrap();
                let mut body = vec![0; length];
                stream.read_exact(&mut body).await.unwrap();
                let said: Value = serde_json::from_slice(&body).unwrap();
                assert_eq!(said["path"], "/score", "the script's body is kept");
            }
        }
    }

    /// The routes, and what they are asked over a connection that stays open.
    async fn ask(server: &Server, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{{}}");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    }

    /// The head of the next answer.
    async fn next_head(stream: &mut TcpStream) -> String {
        let mut text = Vec::new();
        while !text.ends_with(b"\r\n\r\n") {
            text.push(stream.read_u8().await.unwrap());
        }
        String::from_utf8(text).unwrap()
    }

    async fn until_held(server: &Server, count: usize) {
        while server.readiness.held() != count {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_a_server_that_starts_does_not_know_yet_waits_until_the_start_is_over() {
        let server = Server::start().await;
        let mut early = ask(&server, "/endpoints/iris/score").await;
        until_held(&server, 1).await;
        // Health is for nobody to wait for.
        assert_eq!(server.get("/health/ready").await.status, 503);
        server.readiness.look_again();
        until_held(&server, 1).await;
        server.readiness.set();
        let head = next_head(&mut early).await;
        assert!(head.starts_with("HTTP/1.1 404"), "{head}");
        assert_eq!(server.readiness.held(), 0);
    }

    #[tokio::test]
    async fn who_leaves_while_a_start_is_waited_for_gives_the_place_back() {
        let server = Server::start().await;
        publish_with_key(&server, "key");
        // The deployment has no instance yet.
        let mut friend = TcpStream::connect(server.address).await.unwrap();
        let head = "POST /score HTTP/1.1\r\nhost: x\r\nauthorization: Bearer key\r\ncontent-length: 2\r\n\r\n{}";
        friend.write_all(head.as_bytes()).await.unwrap();
        until_held(&server, 1).await;
        drop(friend);
        until_held(&server, 0).await;
    }

    #[tokio::test]
    async fn a_server_that_leaves_is_not_ready_and_serves_all_and_then_each_answer_is_the_last() {
        let server = Server::with(&["iris"]).await;
        let mut stream = ask(&server, "/endpoints/none/score").await;
        let head = next_head(&mut stream).await;
        assert!(!head.contains("connection: close"), "{head}");
        server.drain.leave();
        let ready = server.get("/health/ready").await;
        assert_eq!(ready.status, 503);
        assert_eq!(ready.body, r#"{"ready":false,"reason":"draining"}"#);
        assert_eq!(server.get("/health/live").await.status, 200);
        let mut stream = ask(&server, "/endpoints/none/score").await;
        let head = next_head(&mut stream).await;
        assert!(!head.contains("connection: close"), "{head}");
        server.drain.close(Duration::from_secs(60));
        for path in ["/endpoints/none/score", "/nowhere"] {
            let mut stream = ask(&server, path).await;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
        }
    }

    #[tokio::test]
    async fn who_waits_when_the_server_is_cut_is_told_so() {
        let server = Server::start().await;
        let mut stream = ask(&server, "/score").await;
        until_held(&server, 1).await;
        server.drain.close(Duration::ZERO);
        server.drain.cut();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
        assert!(answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
        assert!(answer.contains("the server is stopping"), "{answer}");
    }

    #[tokio::test]
    async fn a_stranger_cannot_tell_an_endpoint_that_exists_from_one_that_does_not() {
        let server = Server::with(&["iris", "digits"]).await;
        for credential in ["", "\r\nauthorization: Bearer wrong"] {
            let answer = async |path| {
                let mut answer = server.post(path, credential).await;
                // They differ with every answer.
                answer
                    .headers
                    .retain(|name, _| !name.ends_with("request-id"));
                answer.headers.remove("date");
                (answer.status, answer.headers, answer.body)
            };
            let there = answer("/endpoints/iris/score").await;
            assert_eq!(there.0, 401);
            for other in ["/endpoints/irs/score", "/endpoints/ir%69s/score", "/score"] {
                assert_eq!(answer(other).await, there, "{other}");
            }
            assert!(!there.2.contains("digits"), "{}", there.2);
        }
    }

    #[tokio::test]
    async fn who_has_a_key_is_told_the_endpoints_that_it_opens() {
        let server = Server::with(&["iris", "digits"]).await;
        let key = "\r\nauthorization: Bearer iris";
        let answer = server.post("/endpoints/irs/score", key).await;
        assert_eq!(answer.status, 404);
        assert_eq!(
            answer.message(),
            "no endpoint is named \"irs\"; there are: iris"
        );
        let answer = server.post("/score", key).await;
        assert_eq!(
            answer.message(),
            "/score serves a single endpoint; score at /endpoints/iris/score"
        );
        assert_eq!(
            server.post("/endpoints/digits/score", key).await.status,
            401
        );
    }

    #[tokio::test]
    async fn a_foreign_page_may_use_no_endpoint_that_is_open_and_any_that_wants_a_key() {
        let open = Server::with_auth(&["iris"], |_| EndpointAuth::Open).await;
        let keyed = Server::with(&["iris"]).await;
        for page in [
            "\r\norigin: http://evil.example",
            "\r\norigin: null\r\ncontent-type: text/plain",
            "\r\nsec-fetch-site: cross-site",
        ] {
            let refused = open.post("/score", page).await;
            assert_eq!(refused.status, 403, "{page}");
            assert!(refused.message().contains("pages"), "{}", refused.message());
            // It goes on to an endpoint that sends traffic nowhere.
            let page = format!("{page}\r\nauthorization: Bearer iris");
            assert_eq!(keyed.post("/score", &page).await.status, 404, "{page}");
        }
        assert_eq!(open.post("/score", "").await.status, 404);
    }

    #[tokio::test(start_paused = true)]
    async fn many_wrong_keys_wait_for_their_answers_and_a_right_one_from_the_same_address_does_not()
    {
        let server = Server::with(&["iris"]).await;
        let client = Peer::at(server.address);
        let ask = async |key: &str| {
            let (parts, ()) = Request::post("/score")
                .header("authorization", format!("Bearer {key}"))
                .body(())
                .unwrap()
                .into_parts();
            let answer = server
                .scoring
                .score(client, Target::Only, &parts, Body::from("{}"));
            answer.await.status().as_u16()
        };
        let begun = tokio::time::Instant::now();
        for _ in 0..WRONG_KEYS_FREE {
            assert_eq!(ask("wrong").await, 401);
        }
        assert_eq!(begun.elapsed(), Duration::ZERO, "they are free");
        let mut waiting: Vec<_> = (0..WRONG_KEYS_WAITING_MAX)
            .map(|_| Box::pin(ask("wrong")))
            .collect();
        for one in &mut waiting {
            assert!(futures_poll(one.as_mut()).await.is_none(), "it waits");
        }
        assert_eq!(ask("wrong").await, 429);
        assert_eq!(ask("iris").await, 404, "it came as far as the split");
        assert_eq!(begun.elapsed(), Duration::ZERO, "nobody waited");
        for one in waiting {
            assert_eq!(one.await, 401);
        }
        assert_eq!(begun.elapsed(), WRONG_KEY_DELAY);
    }

    /// The end of a future, if one poll brings it.
    async fn futures_poll<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(match future.as_mut().poll(context) {
                std::task::Poll::Ready(end) => Some(end),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }

    #[tokio::test]
    async fn before_the_endpoints_are_loaded_it_is_503_and_not_404() {
        let server = Server::holding(Duration::ZERO).await;
        let answer = server.post("/endpoints/iris/score", "").await;
        assert_eq!(answer.status, 503);
        assert_eq!(answer.headers["retry-after"], "1");
        server.readiness.set();
        assert_eq!(server.post("/endpoints/iris/score", "").await.status, 404);
    }

    #[tokio::test]
    async fn while_endpoints_are_being_loaded_a_stranger_cannot_tell_which_are_there() {
        let server = Server::holding(Duration::ZERO).await;
        publish_with_key(&server, "key");
        let ask = async |path, key| {
            let key = format!("\r\nauthorization: Bearer {key}");
            server.post(path, &key).await
        };
        for path in ["/endpoints/iris/score", "/endpoints/other/score"] {
            let answer = ask(path, "wrong").await;
            assert_eq!(answer.status, 503, "{path}");
            assert!(
                answer.message().contains("starting"),
                "{}",
                answer.message()
            );
        }
        server.readiness.set();
        let reached = ask("/endpoints/iris/score", "key").await;
        assert_eq!(reached.headers["azureml-model-deployment"], "blue");
    }

    #[tokio::test]
    async fn a_stranger_waits_for_a_start_as_long_whatever_is_there() {
        let server = Server::start().await;
        publish_with_key(&server, "key");
        let mut there = ask(&server, "/endpoints/iris/score").await;
        let mut elsewhere = ask(&server, "/endpoints/other/score").await;
        until_held(&server, 2).await;
        server.readiness.set();
        for stranger in [&mut there, &mut elsewhere] {
            let head = next_head(stranger).await;
            assert!(head.starts_with("HTTP/1.1 401"), "{head}");
        }
    }

    #[tokio::test]
    async fn without_a_valid_credential_it_is_401_before_the_body_is_read() {
        let server = Server::with(&["iris"]).await;
        for credential in ["", "\r\nauthorization: Bearer wrong"] {
            // Only the head is sent: an answer comes all the same.
            let head = format!("POST /score HTTP/1.1\r\ncontent-length: 900{credential}");
            let answer = server.send(&head, b"").await;
            assert_eq!(answer.status, 401);
            assert_eq!(answer.headers["www-authenticate"], "Bearer");
            assert!(!answer.message().is_empty());
        }
    }

    /// Publishes `iris` with this key and a deployment without an instance.
    fn publish_with_key(server: &Server, key: &str) {
        let deployment = Deployment {
            name: "blue".parse().unwrap(),
            admission: AdmissionControl::new(1),
            instances: vec![],
            request_timeout: Duration::from_secs(1),
            metrics: server.metrics.deployment("iris", "blue"),
        };
        let endpoint = Endpoint::new(
            "iris".parse().unwrap(),
            EndpointAuth::Key {
                hashes: [hash_of_key(key), hash_of_key("the other")],
            },
            TrafficSplit::parse("blue=100").unwrap(),
            vec![Arc::new(deployment)],
            None,
        );
        let table = RoutingTable::new(vec![endpoint.unwrap()]);
        server.endpoints.publish(table);
    }

    /// The key was looked at once, before the body, and a body can take half a minute.
    #[tokio::test]
    async fn a_key_that_is_revoked_while_the_body_comes_opens_nothing() {
        let server = Server::start().await;
        server.readiness.set();
        for (later_key, status) in [("first", 503), ("second", 401)] {
            publish_with_key(&server, "first");
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            // The server says `100 Continue` as it begins to read the body: the key was looked at by then.
            let head = "POST /score HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer first\r\n\
                        expect: 100-continue\r\ncontent-length: 2\r\n\r\n";
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut go_on = [0; 25];
            stream.read_exact(&mut go_on).await.unwrap();
            assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
            stream.write_all(b"{").await.unwrap();
            publish_with_key(&server, later_key);
            stream.write_all(b"}").await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            // 503: it came as far as the deployment, which has no instance.
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status}")),
                "{answer}"
            );
            let reached = answer.contains("azureml-model-deployment");
            assert_eq!(reached, status == 503, "{answer}");
        }
    }

    #[tokio::test]
    async fn an_id_that_is_too_long_is_431() {
        let server = Server::with(&["iris"]).await;
        let header = format!("\r\nx-request-id: {}", "a".repeat(101));
        let answer = server.post("/score", &header).await;
        assert_eq!(answer.status, 431);
        assert_eq!(
            answer.message(),
            "x-request-id must not exceed 100 characters"
        );
        assert_eq!(answer.headers["x-request-id"].len(), 36);
    }

    #[tokio::test]
    async fn a_body_over_the_bound_is_413_and_a_compressed_one_415() {
        let server = Server::start().await;
        server.readiness.set();
        let endpoint = Endpoint::new(
            "iris".parse().unwrap(),
            EndpointAuth::Open,
            TrafficSplit::default(),
            vec![],
            None,
        );
        let table = RoutingTable::new(vec![endpoint.unwrap()]);
        server.endpoints.publish(table);
        let announced = "POST /score HTTP/1.1\r\ncontent-length: 1001";
        let chunked = "POST /score HTTP/1.1\r\ntransfer-encoding: chunked";
        let chunk = [b"3e9\r\n".as_slice(), &[b' '; 1001], b"\r\n0\r\n\r\n"].concat();
        for (head, body) in [(announced, b"".as_slice()), (chunked, &chunk)] {
            let answer = server.send(head, body).await;
            assert_eq!(answer.status, 413);
            assert_eq!(answer.message(), "the body is larger than 1000 bytes");
        }
        let gzip = "POST /score HTTP/1.1\r\ncontent-encoding: gzip\r\ncontent-length: 9";
        let answer = server.send(gzip, b"").await;
        assert_eq!(answer.status, 415);
        assert_eq!(
            answer.message(),
            "the body is encoded as \"gzip\"; send it as it is, without content-encoding"
        );
        assert_eq!(
            server
                .post("/score", "\r\ncontent-encoding: identity")
                .await
                .status,
            404
        );
        // A body within the bound goes on, to an endpoint that sends traffic nowhere.
        let answer = server.post("/score", "").await;
        assert_eq!(answer.status, 404);
    }
}
