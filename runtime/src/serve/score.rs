//! Scores one HTTP request: head, credential, body, router, answer. Every failure leaves through one door, where it is counted,
//! logged and written.
//!
//! Threads: edge. Nothing here computes; the router may, inline, where a model's work is small.
//! Not here: which deployment, which instance, and the outcome of what reached one (`router`).

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use serde_json::json;
use tokio::sync::{Notify, Semaphore};
use tracing::Level;

use crate::config::{BODY_READ_MAX, START_HELD_MAX, START_HOLD_MAX};
use crate::observe::{Metrics, Timings};
use crate::router::{
    Answer, Deployment, Endpoint, Rejected, Router, RoutingTable, ScoreRequest, Unserved,
};
use crate::serve::auth::authorize;
use crate::serve::body::{HeldBody, read_body_with_room};
use crate::serve::bytes_in_flight::BytesInFlight;
use crate::serve::drain::Drain;
use crate::serve::failure::Failure;
use crate::serve::health::Health;
use crate::serve::request_id::RequestIds;
use crate::spec::{DeploymentName, Percent};

const MODEL_DEPLOYMENT: HeaderName = HeaderName::from_static("azureml-model-deployment");
const MODEL_ERROR_STATUS: HeaderName = HeaderName::from_static("ms-azureml-model-error-statuscode");
const MODEL_ERROR_REASON: HeaderName = HeaderName::from_static("ms-azureml-model-error-reason");
const MODEL_TIME: HeaderName = HeaderName::from_static("ms-azureml-model-time");
/// Says why a 429 was given. Azure's has no body and no word of explanation, and users mistake it for a fault.
const SHED: HeaderName = HeaderName::from_static("x-serin-shed");

/// Headers of an answer, those that the connection adds included.
const HEADERS_USUAL: usize = 8;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

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
    /// The way down.
    pub drain: Drain,
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
    /// Scores one request; the answer tells of failures too.
    pub(crate) async fn score(
        &self,
        target: Target<'_>,
        parts: &Parts,
        body: impl Payload,
    ) -> Response {
        let (ids, outcome) = match RequestIds::of(&parts.headers) {
            Ok(ids) => {
                let answer = self.answer(target, parts, body);
                (ids, self.drain.or_cut(answer).await)
            }
            Err(failure) => (RequestIds::fresh(), Err(failure)),
        };
        match outcome {
            Ok(answer) => success(answer, ids),
            Err(failure) => self.refuse(&failure, parts, ids),
        }
    }

    /// The answer to a request that no handler takes.
    pub(crate) fn refuse(&self, failure: &Failure, parts: &Parts, ids: RequestIds) -> Response {
        if failure.deployment().is_none() {
            // What reached a deployment was recorded by the router.
            self.metrics.refused(failure.status().as_u16());
        }
        log(failure, parts, &ids);
        refusal(failure, ids)
    }

    async fn answer(
        &self,
        target: Target<'_>,
        parts: &Parts,
        body: impl Payload,
    ) -> Result<Answer, Failure> {
        let deployment = named_deployment(&parts.headers)?;
        if !self.readiness.is_set() {
            self.wait_for_start(target, parts, deployment.as_deref())
                .await?;
        }
        // Before the body is read, so that a stranger cannot make the server read one.
        let (mut endpoint, table) = self.endpoint(target)?;
        authorize(endpoint.auth(), &parts.headers)?;
        refuse_encoding(&parts.headers)?;
        let HeldBody {
            bytes: payload,
            room,
        } = read_body_with_room(body, &self.bytes, BODY_READ_MAX).await?;
        let received = Instant::now();
        // A body can take seconds: the request is served under the table of the moment it is whole, and must be allowed by it. A
        // key that was revoked meanwhile opens nothing.
        if self.router.table().number() != table {
            (endpoint, _) = self.endpoint(target)?;
            authorize(endpoint.auth(), &parts.headers)?;
        }
        let request = ScoreRequest {
            deployment,
            payload,
            received,
        };
        let mut answer = self.router.score(&endpoint, request).await?;
        answer.body = match self.bytes.hold_answer(answer.body, room) {
            Ok(held) => held,
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
            if let Some(endpoint) = target.find(&self.router.table()) {
                // A stranger does not wait.
                authorize(endpoint.auth(), &parts.headers)?;
                let Some(missing) = missing(endpoint, deployment) else {
                    return Ok(());
                };
                patience = patience.min(missing.request_timeout);
            }
            let waited = tokio::time::timeout_at(began + patience, progress).await;
            waited.map_err(|_| Failure::Starting)?;
        }
    }

    /// The endpoint, and the number of the table that has it.
    fn endpoint(&self, target: Target<'_>) -> Result<(Arc<Endpoint>, u64), Failure> {
        // Asked before the table is looked at: a start that ends in between has published what it restored, and it would be said not to
        // exist.
        let is_started = self.readiness.is_set();
        let table = self.router.table();
        if let Some(endpoint) = target.find(&table) {
            return Ok((Arc::clone(endpoint), table.number()));
        }
        if !is_started {
            return Err(Failure::Starting);
        }
        let known = names(&table);
        Err(match target {
            Target::Named(name) => Failure::NoEndpoint {
                name: name.to_owned(),
                known,
            },
            Target::Only => Failure::NotOneEndpoint { known },
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
}

fn names(table: &RoutingTable) -> Vec<String> {
    let mut names: Vec<_> = table
        .endpoints()
        .map(|endpoint| endpoint.name().as_str().to_owned())
        .collect();
    names.sort_unstable();
    names
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
    let mut response = Response::new(Body::from(answer.body));
    let headers = response.headers_mut();
    headers.reserve(HEADERS_USUAL);
    headers.insert(CONTENT_TYPE, JSON);
    write_deployment(headers, &answer.deployment);
    write_model_time(headers, &answer.timings);
    ids.write(headers);
    response
}

/// The answer that tells of a failure. The body is `{"message": ..}`, as that of Azure's inference server.
fn refusal(failure: &Failure, ids: RequestIds) -> Response {
    let mut response = json_response(failure.status(), &json!({ "message": failure.to_string() }));
    let headers = response.headers_mut();
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
        _ => {}
    }
    ids.write(headers);
    response
}

/// A JSON answer.
pub(crate) fn json_response(status: StatusCode, body: &serde_json::Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

fn write_deployment(headers: &mut HeaderMap, deployment: &DeploymentName) {
    let name =
        HeaderValue::from_str(deployment.as_str()).expect("a name is letters, digits and dashes");
    headers.insert(MODEL_DEPLOYMENT, name);
}

/// Milliseconds, with microseconds as fraction: most models that fit a canary on one machine take less than one.
fn write_model_time(headers: &mut HeaderMap, timings: &Timings) {
    if let Some(run) = timings.run() {
        headers.insert(MODEL_TIME, millis(run));
    }
}

/// `2.017`. Written for every answer, hence without the machinery of formatting.
fn millis(time: Duration) -> HeaderValue {
    const POINT_AT: usize = 20;
    let mut us = time.as_micros();
    let mut text = [b'0'; 24];
    text[POINT_AT] = b'.';
    let mut at = text.len();
    while us > 0 || at > POINT_AT - 1 {
        at -= 1;
        if at == POINT_AT {
            continue;
        }
        // A digit fits; no time fills the text, for 19 digits of milliseconds are more than any clock has.
        text[at] = b'0' + u8::try_from(us % 10).unwrap_or(0);
        us /= 10;
        if at == 0 {
            break;
        }
    }
    HeaderValue::from_bytes(&text[at..]).expect("digits and a point")
}

/// One line for each failure, as loud as its fault deserves.
fn log(failure: &Failure, parts: &Parts, ids: &RequestIds) {
    let (status, path, request_id) = (failure.status().as_u16(), parts.uri.path(), ids.as_str());
    let deployment = failure.deployment().map(DeploymentName::as_str);
    macro_rules! event {
        ($level:ident) => {
            tracing::event!(Level::$level, status, path, deployment, request_id, %failure, "request refused")
        };
    }
    match failure.level() {
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
    fn model_time_is_in_milliseconds_with_three_digits() {
        assert_eq!(millis(Duration::ZERO), "0.000");
        assert_eq!(millis(Duration::from_nanos(2_999)), "0.002");
        assert_eq!(millis(Duration::from_micros(12_345)), "12.345");
        assert_eq!(millis(Duration::from_secs(180)), "180000.000");
        let longest = millis(Duration::MAX);
        assert_eq!(longest.len(), 24, "cut, not a panic");
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
