//! Scores one HTTP request: head, credential, body, router, answer. Every failure leaves through one door, where it is counted,
//! logged and written.
//!
//! Threads: edge. Nothing here computes; the router may, inline, where a model's work is small.
//! Not here: which deployment, which instance, and the outcome of what reached one (`router`).

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody};
use axum::http::header::{ALLOW, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::Response;
use bytes::Bytes;
use serde_json::json;
use tokio::sync::{Notify, Semaphore};
use tracing::Level;

use crate::config::{
    BODY_READ_MAX, LABELS_BYTES_MAX, LOG_PATH_LEN_MAX, START_HELD_MAX, START_HOLD_MAX,
};
use crate::observe::{Metrics, NoteOn, note};
use crate::router::{
    Answer, Deployment, Endpoint, EndpointAuth, Marks, Rejected, RequestInputs, Router,
    RoutingTable, ScoreRequest, StickyRoutes, Turn, Unserved,
};
use crate::serve::answer::{
    JSON, MODEL_DEPLOYMENT, MODEL_ERROR_REASON, MODEL_ERROR_STATUS, SHED, write_deployment,
    write_model_time,
};
use crate::serve::auth::{open, opened};
use crate::serve::body::{HeldBody, read_body, read_body_with_room};
use crate::serve::bytes_in_flight::BytesInFlight;
use crate::serve::drain::Drain;
use crate::serve::failure::{Failure, Fault};
use crate::serve::feedback::FeedbackDesk;
use crate::serve::health::Health;
use crate::serve::openapi;
use crate::serve::origin::foreign_page;
use crate::serve::request_id::RequestIds;
use crate::serve::script::{ForScript, failure_of_script, script_answer};
use crate::serve::sticky::client_key;
use crate::serve::wrong_keys::{Peer, WrongKey, WrongKeys};
use crate::spec::{DeploymentName, Percent};

/// Headers of an answer, those that the connection adds included.
const HEADERS_USUAL: usize = 8;
/// Headers of a refusal, likewise.
const HEADERS_OF_REFUSAL: usize = 12;

/// Whether what was deployed before the start serves again. Set once by whoever starts the server. Until then requests for what does
/// not serve yet wait: they hold a connection and a head, for their bodies are read afterwards.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<Start>);

#[derive(Debug)]
struct Start {
    is_over: AtomicBool,
    /// Told when it is worth looking at the table again.
    progress: Notify,
    /// Room for requests that wait.
    room: Semaphore,
    hold_max: Duration,
}

impl Default for Readiness {
    fn default() -> Self {
        Self::holding(START_HOLD_MAX)
    }
}

impl Readiness {
    /// Requests wait for the start as long as this.
    pub(crate) fn holding(hold_max: Duration) -> Self {
        Self(Arc::new(Start {
            is_over: AtomicBool::new(false),
            progress: Notify::new(),
            room: Semaphore::new(START_HELD_MAX),
            hold_max,
        }))
    }

    /// From now on the routing table says all.
    pub fn set(&self) {
        // Release, with the Acquire of `is_set`: who sees it sees the table that was published before.
        self.0.is_over.store(true, Ordering::Release);
        self.look_again();
    }

    /// Another table may have been published: requests that wait look whether it serves them.
    pub fn look_again(&self) {
        self.0.progress.notify_waiters();
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.is_over.load(Ordering::Acquire)
    }

    /// Requests that wait for the start.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        START_HELD_MAX - self.0.room.available_permits()
    }
}

/// The parts that the scoring routes need.
#[derive(Clone, Debug)]
pub struct Scoring {
    /// Knows the endpoints.
    pub router: Arc<Router>,
    /// Counts what was refused before it reached a deployment.
    pub metrics: Arc<Metrics>,
    /// Whether the start is over.
    pub readiness: Readiness,
    /// Bounds the bodies and answers that are held.
    pub bytes: BytesInFlight,
    /// Slows down who sends wrong keys.
    pub wrong_keys: WrongKeys,
    /// Whether `/metrics` is answered beside scoring, to whoever asks.
    pub shows_metrics: bool,
    /// The way down.
    pub drain: Drain,
    /// Hears what turned out about answers.
    pub feedback: FeedbackDesk,
}

/// A request body, as it comes from a connection or through the routes.
pub(crate) trait Payload:
    HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Send + Unpin + 'static
{
}

impl<B> Payload for B where
    B: HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Send + Unpin + 'static
{
}

/// Which endpoint a request asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target<'a> {
    /// `/endpoints/{name}/score`
    Named(&'a str),
    /// `/score`
    Only,
}

impl<'a> Target<'a> {
    /// Reads a path that is written plainly; others (`%45`) are for the routes.
    pub(crate) fn of(path: &'a str) -> Option<Self> {
        if path == "/score" {
            return Some(Self::Only);
        }
        let name = path.strip_prefix("/endpoints/")?.strip_suffix("/score")?;
        (!name.is_empty() && !name.contains(['/', '%'])).then_some(Self::Named(name))
    }

    fn find(self, table: &RoutingTable) -> Option<&Arc<Endpoint>> {
        match self {
            Self::Named(name) => table.endpoint(name),
            Self::Only => table.only(),
        }
    }
}

/// A deployment that the request may meet and that has no instance: the one that it names, else any that has traffic.
fn missing<'a>(endpoint: &'a Endpoint, named: Option<&str>) -> Option<&'a Arc<Deployment>> {
    let is_meant = |one: &Deployment| match named {
        Some(name) => one.name.key().eq_ignore_ascii_case(name),
        None => endpoint.split().percent_of(&one.name) > Percent::ZERO,
    };
    let mut deployments = endpoint.deployments().iter();
    deployments.find(|one| is_meant(one) && one.instances.is_empty())
}

impl Scoring {
    /// Scoring at the endpoints of this router. It has not started, nobody has sent it a wrong key, and nothing is on its way down.
    #[must_use]
    pub fn new(router: Arc<Router>, metrics: Arc<Metrics>, bytes: BytesInFlight) -> Self {
        Self {
            router,
            metrics,
            bytes,
            readiness: Readiness::default(),
            wrong_keys: WrongKeys::default(),
            shows_metrics: false,
            drain: Drain::default(),
            feedback: FeedbackDesk::default(),
        }
    }

    /// Scores one request; the answer tells of failures too.
    pub(crate) async fn score(
        &self,
        client: Peer,
        target: Target<'_>,
        parts: &Parts,
        body: impl Payload,
    ) -> Response {
        // Nothing is done for a request before the thread has time for it.
        let turn = Turn::wait().await;
        let (ids, outcome) = match RequestIds::of(&parts.headers) {
            Ok(ids) => {
                let outcome = {
                    let asked = Asked {
                        client,
                        target,
                        head: ForScript { parts, ids: &ids },
                    };
                    let answer = pin!(self.answer(asked, body, turn));
                    self.drain.or_cut(answer).await
                };
                (ids, outcome)
            }
            Err(failure) => (RequestIds::fresh(), Err(failure)),
        };
        match outcome {
            Ok(answer) if answer.by_script => {
                if let Some(words) = failure_of_script(&answer) {
                    self.note(target, &answer.deployment, &ids, &words);
                }
                script_answer(answer, parts, ids)
            }
            Ok(answer) => success(answer, ids),
            Err(failure) => {
                if let Some(deployment) = failure.deployment().filter(|_| is_of_model(&failure)) {
                    let status = failure.status().as_u16();
                    let words = format_args!("{status}: {failure}");
                    self.note(target, deployment, &ids, &words);
                }
                self.refuse(&failure, parts, ids)
            }
        }
    }

    /// The document of an endpoint, to who may send requests to it.
    pub(super) async fn describe(
        &self,
        client: Peer,
        target: Target<'_>,
        parts: &Parts,
    ) -> Response {
        let document = self.document(client, target, parts).await;
        document.unwrap_or_else(|failure| self.refuse_at_route(&failure, parts))
    }

    /// The endpoint, for who may send requests to it.
    async fn opened_endpoint(
        &self,
        client: Peer,
        target: Target<'_>,
        headers: &HeaderMap,
    ) -> Result<Arc<Endpoint>, Failure> {
        let endpoint = match self.endpoint(target, headers) {
            Ok((endpoint, _)) => endpoint,
            Err(refused) => return Err(self.held_back(client, refused).await),
        };
        refuse_foreign_page(endpoint.auth(), headers)?;
        Ok(endpoint)
    }

    async fn document(
        &self,
        client: Peer,
        target: Target<'_>,
        parts: &Parts,
    ) -> Result<Response, Failure> {
        let named = named_deployment(&parts.headers)?;
        let endpoint = self.opened_endpoint(client, target, &parts.headers);
        let endpoint = endpoint.await?;
        openapi::check_version(&parts.uri)?;
        let deployment = openapi::deployment(&endpoint, named.as_deref())?;
        let path = match target {
            Target::Named(_) => format!("/endpoints/{}/score", endpoint.name()),
            Target::Only => "/score".to_owned(),
        };
        let mut response = json_response(
            StatusCode::OK,
            &openapi::document(&endpoint, deployment, &path),
        );
        write_deployment(response.headers_mut(), &deployment.name);
        Ok(response)
    }

    /// Hears what turned out about answers of an endpoint, from who may send requests to it.
    pub(super) async fn hear(
        &self,
        client: Peer,
        target: Target<'_>,
        parts: &Parts,
        body: impl Payload,
    ) -> Response {
        let heard = self.heard(client, target, parts, body).await;
        heard.unwrap_or_else(|failure| self.refuse_at_route(&failure, parts))
    }

    async fn heard(
        &self,
        client: Peer,
        target: Target<'_>,
        parts: &Parts,
        body: impl Payload,
    ) -> Result<Response, Failure> {
        let endpoint = self.opened_endpoint(client, target, &parts.headers);
        let endpoint = endpoint.await?;
        refuse_encoding(&parts.headers)?;
        let body = read_body(body, LABELS_BYTES_MAX, BODY_READ_MAX).await?;
        let name = endpoint.name().clone();
        let told = self.feedback.tell(name, body).await;
        let told = told.ok_or(Failure::Starting)?;
        Ok(json_response(told.status, &told.body))
    }

    /// Notes a failure of a deployment in its log.
    fn note(
        &self,
        target: Target<'_>,
        deployment: &DeploymentName,
        ids: &RequestIds,
        words: &dyn Display,
    ) {
        let table = self.router.table();
        if let Some(endpoint) = target.find(&table) {
            let label = format!("{}/{deployment}", endpoint.name());
            let words = format_args!("{words} (x-request-id {})", ids.as_str());
            note(&label, NoteOn::Request, &words);
        }
    }

    /// The answer to a request that was refused before anybody read its ids.
    pub(super) fn refuse_at_route(&self, failure: &Failure, parts: &Parts) -> Response {
        let ids = RequestIds::of(&parts.headers).unwrap_or_else(|_| RequestIds::fresh());
        self.refuse(failure, parts, ids)
    }

    /// The answer to a request that no handler takes.
    pub(crate) fn refuse(&self, failure: &Failure, parts: &Parts, ids: RequestIds) -> Response {
        if failure.deployment().is_none() {
            // What reached a deployment was recorded by the router.
            let table = self.router.table();
            let endpoint = Target::of(parts.uri.path()).and_then(|target| target.find(&table));
            let name = endpoint.map_or("", |endpoint| endpoint.name().as_str());
            self.metrics.refused(name, failure.status().as_u16());
        }
        log(failure, parts, &ids);
        refusal(failure, ids)
    }

    async fn answer(
        &self,
        asked: Asked<'_>,
        body: impl Payload,
        mut turn: Turn,
    ) -> Result<Answer, Failure> {
        let (target, parts) = (asked.target, asked.head.parts);
        let deployment = named_deployment(&parts.headers)?;
        if !self.readiness.is_set() {
            self.wait_for_start(target, parts, deployment.as_deref())
                .await?;
        }
        // Before the body is read, so that a stranger cannot make the server read one.
        let (mut endpoint, table) = match self.endpoint(target, &parts.headers) {
            Ok(found) => found,
            Err(refused) => return Err(self.held_back(asked.client, refused).await),
        };
        refuse_foreign_page(endpoint.auth(), &parts.headers)?;
        let is_for_scripts = parts.method != Method::POST;
        if is_for_scripts && !endpoint.may_run_a_script() {
            return Err(wrong_method(&parts.method, &parts.uri));
        }
        refuse_encoding(&parts.headers)?;
        let HeldBody {
            bytes: payload,
            room,
        } = read_body_with_room(body, &self.bytes, BODY_READ_MAX).await?;
        turn.renew().await;
        // Its time runs since it came: what it stood in line for is the server's time, not the client's.
        let now = Instant::now();
        let received = now.checked_sub(turn.waited()).unwrap_or(now);
        // A body can take seconds: the request is served under the table of the moment it is whole, and must be allowed by it. A
        // key that was revoked meanwhile opens nothing.
        if self.router.table().number() != table {
            let found = self.endpoint(target, &parts.headers);
            (endpoint, _) = found.map_err(|refused| refused.failure)?;
        }
        // A request that names its deployment is nobody's evidence.
        let sticky = endpoint.sticky().filter(|_| deployment.is_none());
        let client = sticky.and_then(|sticky| client_of(sticky, &asked, &payload));
        let request = ScoreRequest {
            deployment: deployment.map(Cow::Owned),
            inputs: RequestInputs::Body(payload),
            head: Some(&asked.head),
            is_for_scripts,
            received,
            timeout: None,
            waits: false,
            marks: Marks {
                id_hash: asked.head.ids.hash(),
                client,
            },
        };
        let mut answer = self.router.score(&endpoint, request).await?;
        answer.body = match self.bytes.hold_answer(answer.body.into_bytes(), room) {
            Ok(held) => held.into(),
            Err(no_room) => {
                return Err(Failure::NoRoomForAnswer {
                    deployment: answer.deployment,
                    no_room,
                });
            }
        };
        Ok(answer)
    }

    /// Waits until what the request asks for serves again, or the start is over; not longer than the request may take.
    async fn wait_for_start(
        &self,
        target: Target<'_>,
        parts: &Parts,
        deployment: Option<&str>,
    ) -> Result<(), Failure> {
        let start = &self.readiness.0;
        let _room = start.room.try_acquire().map_err(|_| Failure::Starting)?;
        let began = tokio::time::Instant::now();
        loop {
            // Told from here on, so that what is published after the look below is not missed.
            let mut progress = pin!(start.progress.notified());
            progress.as_mut().enable();
            if self.readiness.is_set() {
                return Ok(());
            }
            let mut patience = start.hold_max;
            let table = self.router.table();
            // A stranger waits in any case: at once or not would say which endpoints are there already.
            if let Ok(endpoint) = open(target.find(&table), &table, &parts.headers) {
                let Some(missing) = missing(endpoint, deployment) else {
                    return Ok(());
                };
                patience = patience.min(missing.request_timeout);
            }
            let waited = tokio::time::timeout_at(began + patience, progress).await;
            waited.map_err(|_| Failure::Starting)?;
        }
    }

    /// The failure, once a client that sends wrong keys has waited for it.
    async fn held_back(&self, client: Peer, refused: Refused) -> Failure {
        if refused.is_wrong_key && self.wrong_keys.hold(client).await == WrongKey::TooMany {
            return Failure::TooManyWrongKeys;
        }
        refused.failure
    }

    /// The endpoint, which the credential opens, and the number of the table that has it.
    fn endpoint(
        &self,
        target: Target<'_>,
        headers: &HeaderMap,
    ) -> Result<(Arc<Endpoint>, u64), Refused> {
        // Asked before the table is looked at: a start that ends in between has published what it restored, and it would be said not to
        // exist.
        let is_started = self.readiness.is_set();
        let table = self.router.table();
        let found = target.find(&table);
        let closed = match open(found, &table, headers) {
            Ok(endpoint) => return Ok((Arc::clone(endpoint), table.number())),
            Err(closed) => closed,
        };
        let is_wrong_key = closed.is_wrong_key();
        let known = closed.open;
        let failure = match (closed.unauthorized, target) {
            // Whether it is there cannot be said yet, and to a stranger not by saying it of some.
            _ if !is_started => Failure::Starting,
            (Some(unauthorized), _) => unauthorized.into(),
            (None, Target::Named(name)) => Failure::NoEndpoint {
                name: name.to_owned(),
                known,
            },
            (None, Target::Only) => Failure::NotOneEndpoint { known },
        };
        Err(Refused {
            failure,
            is_wrong_key,
        })
    }

    /// Deployments that can answer, as `endpoint/deployment`, with traffic or without.
    #[must_use]
    pub fn serves(&self) -> BTreeSet<String> {
        let table = self.router.table();
        let deployments = table.endpoints().flat_map(|endpoint| {
            let ready = endpoint.deployments().iter();
            let ready = ready.filter(|one| !one.instances.is_empty());
            ready.map(|one| format!("{}/{}", endpoint.name(), one.name))
        });
        deployments.collect()
    }

    /// Whether the server can answer, and which deployments cannot.
    #[must_use]
    pub fn health(&self) -> Health {
        let health = Health::of(&self.router.table(), self.readiness.is_set());
        if self.drain.is_leaving() {
            health.draining()
        } else {
            health
        }
    }

    /// The same for who asks with these headers: names are for who may use their endpoints. It never waits, whatever the key, for a
    /// load balancer may send one.
    pub(crate) fn health_for(&self, headers: &HeaderMap) -> Health {
        let open = if foreign_page(headers).is_some() {
            Vec::new()
        } else {
            opened(&self.router.table(), headers)
        };
        self.health().seen_by(&open)
    }
}

/// A method that nothing here takes for scoring.
pub(super) fn wrong_method(method: &Method, uri: &Uri) -> Failure {
    Failure::MethodNotAllowed {
        method: method.to_string(),
        path: uri.path().to_owned(),
        is_of_scoring: true,
    }
}

/// The point of the client on the line of cohorts.
fn client_of(sticky: &StickyRoutes, asked: &Asked<'_>, body: &[u8]) -> Option<u64> {
    let key = client_key(&sticky.rule, &asked.head.parts.headers, asked.client, body)?;
    Some(sticky.cohorts.point(&key))
}

/// One request, without its body.
struct Asked<'a> {
    client: Peer,
    target: Target<'a>,
    head: ForScript<'a>,
}

/// A request that found no endpoint that is open to it.
struct Refused {
    failure: Failure,
    /// Whether it came with a key that opens nothing.
    is_wrong_key: bool,
}

/// A page anywhere could make the browser of a person on this machine send what an endpoint without keys would answer.
fn refuse_foreign_page(auth: &EndpointAuth, headers: &HeaderMap) -> Result<(), Failure> {
    match auth {
        EndpointAuth::Open => match foreign_page(headers) {
            None => Ok(()),
            Some(page) => Err(Failure::ForeignPage { page }),
        },
        EndpointAuth::Key { .. } | EndpointAuth::Token { .. } => Ok(()),
    }
}

fn named_deployment(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    let Some(value) = headers.get(MODEL_DEPLOYMENT) else {
        return Ok(None);
    };
    let name = value
        .to_str()
        .map_err(|_| Failure::DeploymentHeader)?
        .trim();
    Ok((!name.is_empty()).then(|| name.to_owned()))
}

/// A compressed body would otherwise be told as text that is not JSON.
fn refuse_encoding(headers: &HeaderMap) -> Result<(), Failure> {
    let encoded = headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .find(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"));
    match encoded {
        None => Ok(()),
        Some(value) => Err(Failure::BodyEncoded {
            encoding: String::from_utf8_lossy(value.as_bytes()).into_owned(),
        }),
    }
}

fn success(answer: Answer, ids: RequestIds) -> Response {
    let mut response = Response::new(Body::from(answer.body.into_bytes()));
    let headers = response.headers_mut();
    headers.reserve(HEADERS_USUAL);
    headers.insert(CONTENT_TYPE, JSON);
    write_deployment(headers, &answer.deployment);
    write_model_time(headers, &answer.timings);
    ids.write(headers);
    response
}

/// The answer that tells of a failure. The body is `{"message": ..}`, as that of Azure's inference server.
pub(super) fn refusal(failure: &Failure, ids: RequestIds) -> Response {
    let mut response = Response::new(Body::from(message(failure)));
    *response.status_mut() = failure.status();
    let headers = response.headers_mut();
    headers.reserve(HEADERS_OF_REFUSAL);
    headers.insert(CONTENT_TYPE, JSON);
    if let Some(deployment) = failure.deployment() {
        write_deployment(headers, deployment);
    }
    if let Some(status) = failure.model_status() {
        headers.insert(MODEL_ERROR_STATUS, status.as_u16().into());
    }
    if let Some(reason) = failure.reason() {
        headers.insert(MODEL_ERROR_REASON, HeaderValue::from_static(reason));
    }
    if let Some(seconds) = failure.retry_after_s() {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    match failure {
        Failure::Unauthorized(_) => {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        Failure::Unserved(Unserved::Rejected {
            rejected: Rejected::QueueFull { .. },
            ..
        }) => {
            headers.insert(SHED, HeaderValue::from_static("queue_full"));
        }
        Failure::Unserved(Unserved::Failed { timings, .. }) => write_model_time(headers, timings),
        // What other methods a scoring script takes is its own affair, and whether there is one not a stranger's.
        Failure::Unserved(Unserved::NoScript { .. }) => {
            headers.insert(ALLOW, HeaderValue::from_static("POST"));
        }
        Failure::MethodNotAllowed {
            is_of_scoring: true,
            ..
        } => {
            headers.insert(ALLOW, HeaderValue::from_static("POST"));
        }
        _ => {}
    }
    ids.write(headers);
    response
}

fn message(failure: &Failure) -> String {
    match failure {
        // Words and numbers, that need no escaping. What a crowd can cause at will costs as little as it can.
        Failure::Unserved(Unserved::Rejected {
            rejected: rejected @ Rejected::QueueFull { .. },
            ..
        }) => format!("{{\"message\":\"{rejected}\"}}"),
        _ => json!({ "message": failure.to_string() }).to_string(),
    }
}

/// A JSON answer.
pub(crate) fn json_response(status: StatusCode, body: &serde_json::Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// Whether the model failed, or refused what the request says: what its deployment's log tells of.
fn is_of_model(failure: &Failure) -> bool {
    failure.model_status().is_some() || failure.fault() == Fault::Model
}

/// One line for each failure, as loud as its fault deserves.
fn log(failure: &Failure, parts: &Parts, ids: &RequestIds) {
    let level = failure.level();
    if level == Level::DEBUG && !tracing::enabled!(Level::DEBUG) {
        return;
    }
    let (status, path, request_id) = (failure.status().as_u16(), parts.uri.path(), ids.as_str());
    // The client's to choose, at any length.
    let path = path.get(..LOG_PATH_LEN_MAX).unwrap_or(path);
    let deployment = failure.deployment().map(DeploymentName::as_str);
    macro_rules! event {
        ($level:ident) => {
            tracing::event!(Level::$level, status, path, deployment, request_id, %failure, "request refused")
        };
    }
    match level {
        Level::ERROR => event!(ERROR),
        Level::WARN => event!(WARN),
        Level::INFO => event!(INFO),
        _ => event!(DEBUG),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_way_to_refuse_says_what_the_long_one_would() {
        for (held, held_max) in [(2, 2), (usize::MAX, 0)] {
            let failure = Failure::Unserved(Unserved::Rejected {
                deployment: "blue".parse().unwrap(),
                rejected: Rejected::QueueFull { held, held_max },
                retry_after_s: 7,
            });
            let long = json!({ "message": failure.to_string() });
            assert_eq!(message(&failure), long.to_string());
            let refusal = refusal(&failure, RequestIds::fresh());
            let headers = refusal.headers();
            for (name, value) in [
                ("content-type", "application/json"),
                ("azureml-model-deployment", "blue"),
                ("ms-azureml-model-error-reason", "too_many_pending_request"),
                ("retry-after", "7"),
                ("x-serin-shed", "queue_full"),
            ] {
                assert_eq!(headers[name], value);
            }
            assert_eq!(headers["x-request-id"], headers["x-ms-request-id"]);
            assert!(headers.len() <= HEADERS_OF_REFUSAL);
        }
    }

    #[test]
    fn a_plain_path_names_its_endpoint_and_others_are_left_to_the_routes() {
        let name = |path| match Target::of(path) {
            Some(Target::Named(name)) => Some(name),
            Some(Target::Only) => Some("(the only one)"),
            None => None,
        };
        assert_eq!(name("/score"), Some("(the only one)"));
        assert_eq!(name("/endpoints/iris/score"), Some("iris"));
        for other in [
            "/",
            "/score/",
            "/endpoints//score",
            "/endpoints/score",
            "/endpoints/a/b/score",
            "/endpoints/ir%69s/score",
            "/endpoints/iris/scores",
        ] {
            assert_eq!(name(other), None, "{other}");
        }
    }

    #[test]
    fn an_empty_deployment_header_names_none() {
        let mut headers = HeaderMap::new();
        assert_eq!(named_deployment(&headers).unwrap(), None);
        headers.insert(MODEL_DEPLOYMENT, HeaderValue::from_static(" "));
        assert_eq!(named_deployment(&headers).unwrap(), None);
        headers.insert(MODEL_DEPLOYMENT, HeaderValue::from_static("green"));
        assert_eq!(
            named_deployment(&headers).unwrap().as_deref(),
            Some("green")
        );
        headers.insert(
            MODEL_DEPLOYMENT,
            HeaderValue::from_bytes(b"gr\xfcn").unwrap(),
        );
        assert_eq!(
            named_deployment(&headers).unwrap_err().status().as_u16(),
            400
        );
    }
}
