//! Why a request got no score: one enum over every layer, and the only place with status codes of scoring.
//!
//! The codes are those of Azure's managed endpoints where Azure has one. A body that does not fit the model is 424 and not
//! 400, because there a scoring script refuses it, and what the script says arrives as 424 with the original code beside it.

use std::time::Duration;

use axum::http::StatusCode;
use tracing::Level;

use crate::engine::RunError;
use crate::router::{Rejected, Unauthorized, Unserved};
use crate::serve::bytes_in_flight::NoRoom;
use crate::serve::head::HeadFault;
use crate::spec::DeploymentName;

/// Seconds after which a body that found no room is worth sending again: what holds the room is large, and takes seconds.
const NO_ROOM_RETRY_S: u64 = 5;

/// The reason why a request got no score.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The head breaks the protocol.
    #[error(transparent)]
    Head(#[from] HeadFault),
    /// No route has this path.
    #[error("nothing is served at {path}: score with POST /endpoints/{{name}}/score")]
    NoRoute {
        /// The name that was asked for.
        path: String,
    },
    /// The document of an endpoint is not made in this version of its form.
    #[error("Swagger version [{version}] is not valid. Supported versions: [3].")]
    NoSwagger {
        /// The version that was asked for.
        version: String,
    },
    /// The route exists for other methods.
    #[error("the method {method} is not allowed for {path}")]
    MethodNotAllowed {
        /// The method of the request.
        method: String,
        /// Its path.
        path: String,
        /// Something is scored there, with POST.
        is_of_scoring: bool,
    },
    /// `/endpoints/{name}/score` names what does not exist.
    #[error("no endpoint is named {name:?}; {}", endpoints(known))]
    NoEndpoint {
        /// The name that was asked for.
        name: String,
        /// The endpoints that the credential opens.
        known: Vec<String>,
    },
    /// `/score` has a meaning only where there is one endpoint.
    #[error("/score serves a single endpoint; {}", scoring_paths(known))]
    NotOneEndpoint {
        /// The endpoints that the credential opens.
        known: Vec<String>,
    },
    /// The deployments from before a restart do not serve yet.
    #[error("the server is starting: its endpoints are not yet loaded")]
    Starting,
    /// The server ends now, and the request was still in flight.
    #[error("the server is stopping and cannot wait for the answer: send the request again")]
    Stopping,
    /// An id is too long to be echoed.
    #[error("{headers} must not exceed {len_max} characters")]
    RequestIdTooLong {
        /// The headers that share the rule.
        headers: &'static str,
        /// The bound.
        len_max: usize,
    },
    /// The header that names a deployment is not text.
    #[error("the header azureml-model-deployment must hold the name of a deployment")]
    DeploymentHeader,
    /// No valid key or token.
    #[error(transparent)]
    Unauthorized(#[from] Unauthorized),
    /// A web page that the server knows nothing of made a browser send it, to an endpoint that wants no key.
    #[error(
        "this endpoint wants no key, so pages in a browser may not use it; this request comes from one ({page}): leave out \
         Origin and Sec-Fetch-Site, or give the endpoint keys"
    )]
    ForeignPage {
        /// The page, as the browser names it.
        page: String,
    },
    /// Answers to wrong keys of this client wait already, as many as may.
    #[error("too many wrong keys: send one that is valid, or try again later")]
    TooManyWrongKeys,
    /// The body is, or turned out to be, too large.
    #[error("the body is larger than {bytes_max} bytes")]
    BodyTooLarge {
        /// The bound.
        bytes_max: usize,
    },
    /// The body took too long to arrive.
    #[error("the body did not arrive within {} s", within.as_secs())]
    BodyTooSlow {
        /// The bound.
        within: Duration,
    },
    /// The body ended early or broke the protocol.
    #[error("the body could not be read: {0}")]
    BodyBroken(#[source] axum::Error),
    /// The server holds as many bytes as it may.
    #[error("{0}; send the body again later")]
    NoRoomForBody(#[source] NoRoom),
    /// The model answered, and the server holds as many bytes as it may.
    #[error("the answer is lost: {no_room}; ask again later, or for less at once")]
    NoRoomForAnswer {
        /// The deployment that answered. It recorded a success: the model did what was asked of it.
        deployment: DeploymentName,
        /// The numbers.
        #[source]
        no_room: NoRoom,
    },
    /// The body is compressed.
    #[error("the body is encoded as {encoding:?}; send it as it is, without content-encoding")]
    BodyEncoded {
        /// `content-encoding` of the request.
        encoding: String,
    },
    /// The router or a score thread had no answer.
    #[error(transparent)]
    Unserved(#[from] Unserved),
}

/// Whose fault a failure is. Decides the log level, and whether a judge of versions counts it against the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request is wrong.
    Client,
    /// The client's or the model's: the model refused what the request says. One request cannot tell; a model that refuses all
    /// that another version takes is not used wrongly.
    ClientOrModel,
    /// There are too many requests, or they wait too long.
    Load,
    /// The model, or what encodes its answer; also when it is slower than the deadline.
    Model,
    /// serin.
    Server,
}

impl Failure {
    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Head(fault) => fault.status(),
            Self::NoRoute { .. }
            | Self::NoSwagger { .. }
            | Self::NoEndpoint { .. }
            | Self::NotOneEndpoint { .. } => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::Starting
            | Self::Stopping
            | Self::NoRoomForBody(_)
            | Self::NoRoomForAnswer { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::RequestIdTooLong { .. } => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::DeploymentHeader | Self::BodyBroken(_) => StatusCode::BAD_REQUEST,
            Self::Unauthorized(
                Unauthorized::Missing
                | Unauthorized::Invalid
                | Unauthorized::Expired { .. }
                | Unauthorized::FromTheFuture,
            ) => StatusCode::UNAUTHORIZED,
            Self::ForeignPage { .. } => StatusCode::FORBIDDEN,
            Self::TooManyWrongKeys => StatusCode::TOO_MANY_REQUESTS,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTooSlow { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::BodyEncoded { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Unserved(unserved) => match unserved {
                Unserved::NoDeployment { .. } | Unserved::NoTraffic { .. } => StatusCode::NOT_FOUND,
                Unserved::NoScript { .. } => StatusCode::METHOD_NOT_ALLOWED,
                Unserved::NotReady { .. } => StatusCode::SERVICE_UNAVAILABLE,
                Unserved::Rejected { rejected, .. } => match rejected {
                    Rejected::QueueFull { .. } => StatusCode::TOO_MANY_REQUESTS,
                    Rejected::DeadlinePassed => StatusCode::REQUEST_TIMEOUT,
                    Rejected::Draining => StatusCode::SERVICE_UNAVAILABLE,
                },
                Unserved::Failed { error, .. } => match error {
                    RunError::Input(_)
                    | RunError::Output(_)
                    | RunError::Model(_)
                    | RunError::Panicked(_)
                    | RunError::Died { .. } => StatusCode::FAILED_DEPENDENCY,
                    RunError::ExpiredWaiting | RunError::ExpiredRunning => {
                        StatusCode::REQUEST_TIMEOUT
                    }
                    RunError::Abandoned => client_closed_request(),
                    RunError::InstanceGone => StatusCode::INTERNAL_SERVER_ERROR,
                },
            },
        }
    }

    /// The status that a scoring script in Azure's container would have answered, for `ms-azureml-model-error-statuscode`.
    #[must_use]
    pub fn model_status(&self) -> Option<StatusCode> {
        match self {
            Self::Unserved(Unserved::Failed { error, .. }) => match error {
                RunError::Input(_) => Some(StatusCode::BAD_REQUEST),
                RunError::Output(_)
                | RunError::Model(_)
                | RunError::Panicked(_)
                | RunError::Died { .. } => Some(StatusCode::INTERNAL_SERVER_ERROR),
                RunError::ExpiredWaiting
                | RunError::ExpiredRunning
                | RunError::Abandoned
                | RunError::InstanceGone => None,
            },
            _ => None,
        }
    }

    /// The word of `ms-azureml-model-error-reason`.
    #[must_use]
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Unserved(Unserved::NotReady { .. }) => Some("model_not_ready"),
            Self::Unserved(Unserved::Rejected {
                rejected: Rejected::QueueFull { .. },
                ..
            }) => Some("too_many_pending_request"),
            _ => self.model_status().map(|_| "model_error"),
        }
    }

    /// Whose fault it is.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Head(_)
            | Self::NoRoute { .. }
            | Self::NoSwagger { .. }
            | Self::MethodNotAllowed { .. }
            | Self::NoEndpoint { .. }
            | Self::NotOneEndpoint { .. }
            | Self::RequestIdTooLong { .. }
            | Self::DeploymentHeader
            | Self::Unauthorized(_)
            | Self::ForeignPage { .. }
            | Self::TooManyWrongKeys
            | Self::BodyTooLarge { .. }
            | Self::BodyTooSlow { .. }
            | Self::BodyBroken(_)
            | Self::BodyEncoded { .. } => Fault::Client,
            Self::Starting | Self::Stopping => Fault::Server,
            Self::NoRoomForBody(_) | Self::NoRoomForAnswer { .. } => Fault::Load,
            Self::Unserved(unserved) => match unserved {
                Unserved::NoDeployment { .. }
                | Unserved::NoTraffic { .. }
                | Unserved::NoScript { .. } => Fault::Client,
                Unserved::NotReady { .. } => Fault::Server,
                Unserved::Rejected { .. } => Fault::Load,
                Unserved::Failed { error, .. } => match error {
                    _ if error.is_malformed_body() => Fault::Client,
                    RunError::Input(_) => Fault::ClientOrModel,
                    RunError::Output(_)
                    | RunError::Model(_)
                    | RunError::Panicked(_)
                    | RunError::Died { .. }
                    | RunError::ExpiredRunning => Fault::Model,
                    RunError::ExpiredWaiting => Fault::Load,
                    RunError::Abandoned => Fault::Client,
                    RunError::InstanceGone => Fault::Server,
                },
            },
        }
    }

    /// The level at which the log says it. Whatever a client or a crowd can cause at will is low, and counted in the metrics.
    #[must_use]
    pub fn level(&self) -> Level {
        match self.fault() {
            // A start and an end have lines of their own, and one for each request says no more.
            Fault::Server if matches!(self, Self::Starting | Self::Stopping) => Level::DEBUG,
            Fault::Client | Fault::ClientOrModel | Fault::Load => Level::DEBUG,
            Fault::Model => Level::WARN,
            Fault::Server => Level::ERROR,
        }
    }

    /// The deployment that was chosen before it failed.
    #[must_use]
    pub fn deployment(&self) -> Option<&DeploymentName> {
        match self {
            Self::Unserved(
                Unserved::NotReady { deployment }
                | Unserved::Rejected { deployment, .. }
                | Unserved::Failed { deployment, .. },
            )
            | Self::NoRoomForAnswer { deployment, .. } => Some(deployment),
            _ => None,
        }
    }

    /// Seconds after which it is worth asking again, for `Retry-After`.
    #[must_use]
    pub fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::Unserved(Unserved::Rejected {
                rejected: Rejected::QueueFull { .. },
                retry_after_s,
                ..
            }) => Some(*retry_after_s),
            Self::NoRoomForBody(_) | Self::NoRoomForAnswer { .. } => Some(NO_ROOM_RETRY_S),
            Self::Starting
            | Self::TooManyWrongKeys
            | Self::Stopping
            | Self::Unserved(
                Unserved::NotReady { .. }
                | Unserved::Rejected {
                    rejected: Rejected::Draining,
                    ..
                },
            ) => Some(1),
            _ => None,
        }
    }
}

/// The status of an answer in which a scoring script gave this one. What it says of the request is for the client, as the script put it;
/// that it failed is 424, so that whoever watches a server tells a failed script from a failed server.
pub(super) fn status_of_script(script_status: u16) -> StatusCode {
    let passes = (200..500).contains(&script_status);
    let status = StatusCode::from_u16(script_status).ok();
    status
        .filter(|_| passes)
        .unwrap_or(StatusCode::FAILED_DEPENDENCY)
}

/// The status that others log for a client that left; nobody is there to read it.
fn client_closed_request() -> StatusCode {
    StatusCode::from_u16(499).expect("a status has three digits")
}

/// Says which endpoints exist.
fn endpoints(known: &[String]) -> String {
    if known.is_empty() {
        "there is none yet".to_owned()
    } else {
        format!("there are: {}", known.join(", "))
    }
}

/// Says where the endpoints are scored.
fn scoring_paths(known: &[String]) -> String {
    if known.is_empty() {
        return "there is none yet".to_owned();
    }
    let paths: Vec<_> = known
        .iter()
        .map(|name| format!("/endpoints/{name}/score"))
        .collect();
    format!("score at {}", paths.join(", "))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use serin_scorers::ScoreError;

    use super::*;
    use crate::observe::Timings;

    const FULL: Rejected = Rejected::QueueFull {
        held: 2,
        held_max: 2,
    };

    fn blue() -> DeploymentName {
        "blue".parse().unwrap()
    }

    fn failed(error: RunError) -> Failure {
        Unserved::Failed {
            deployment: blue(),
            error,
            timings: Timings::start(Instant::now()),
        }
        .into()
    }

    fn rejected(rejected: Rejected) -> Failure {
        Unserved::Rejected {
            deployment: blue(),
            rejected,
            retry_after_s: 3,
        }
        .into()
    }

    /// Status, fault, the model's own status and the reason, as one line.
    fn told(failure: impl Into<Failure>) -> String {
        let failure = failure.into();
        let model = failure
            .model_status()
            .map_or("-".into(), |s| s.as_u16().to_string());
        let (status, fault) = (failure.status().as_u16(), failure.fault());
        format!(
            "{status} {fault:?} {model} {}",
            failure.reason().unwrap_or("-")
        )
    }

    #[test]
    fn what_reaches_no_deployment_has_its_status_and_fault() {
        let (path, method, name) = ("/x".to_owned(), "PUT".to_owned(), "x".to_owned());
        let nothing = Failure::NoRoute { path: path.clone() };
        assert_eq!(told(nothing), "404 Client - -");
        let method = Failure::MethodNotAllowed {
            method,
            path,
            is_of_scoring: false,
        };
        assert_eq!(told(method), "405 Client - -");
        let unknown = Failure::NoEndpoint {
            name,
            known: vec![],
        };
        assert_eq!(told(unknown), "404 Client - -");
        let several = Failure::NotOneEndpoint { known: vec![] };
        assert_eq!(told(several), "404 Client - -");
        assert_eq!(told(Failure::Starting), "503 Server - -");
        assert_eq!(told(Failure::Stopping), "503 Server - -");
        let id = Failure::RequestIdTooLong {
            headers: "x-request-id",
            len_max: 100,
        };
        assert_eq!(told(id), "431 Client - -");
        assert_eq!(told(Failure::DeploymentHeader), "400 Client - -");
        let expired = Unauthorized::Expired { expired_unix_s: 0 };
        for wrong in [
            Unauthorized::Missing,
            Unauthorized::Invalid,
            expired,
            Unauthorized::FromTheFuture,
        ] {
            assert_eq!(told(wrong), "401 Client - -");
        }
        let page = "null".to_owned();
        assert_eq!(told(Failure::ForeignPage { page }), "403 Client - -");
        assert_eq!(told(Failure::TooManyWrongKeys), "429 Client - -");
        let large = Failure::BodyTooLarge { bytes_max: 1 };
        assert_eq!(told(large), "413 Client - -");
        let within = Duration::from_secs(1);
        assert_eq!(told(Failure::BodyTooSlow { within }), "408 Client - -");
        let no_room = NoRoom {
            bytes: 3,
            held: 2,
            bytes_max: 4,
        };
        assert_eq!(told(Failure::NoRoomForBody(no_room)), "503 Load - -");
        let answer = Failure::NoRoomForAnswer {
            deployment: blue(),
            no_room,
        };
        assert_eq!(told(answer), "503 Load - -");
        let broken = Failure::BodyBroken(axum::Error::new("cut"));
        assert_eq!(told(broken), "400 Client - -");
    }

    #[test]
    fn what_the_router_says_has_its_status_fault_and_reason() {
        let endpoint = "iris".to_owned();
        assert_eq!(told(Unserved::NoTraffic { endpoint }), "404 Client - -");
        let native = Unserved::NoScript { deployment: blue() };
        assert_eq!(told(native), "405 Client - -");
        let deployment = blue();
        let not_ready = Unserved::NotReady { deployment };
        assert_eq!(told(not_ready), "503 Server - model_not_ready");
        let full = rejected(FULL);
        assert_eq!(told(full), "429 Load - too_many_pending_request");
        assert_eq!(told(rejected(Rejected::DeadlinePassed)), "408 Load - -");
        assert_eq!(told(rejected(Rejected::Draining)), "503 Load - -");
    }

    #[test]
    fn what_a_score_thread_says_has_its_status_fault_and_reason() {
        let text = || "x".to_owned();
        let model = failed(RunError::Model(text()));
        assert_eq!(told(model), "424 Model 500 model_error");
        let panicked = failed(RunError::Panicked(text()));
        assert_eq!(told(panicked), "424 Model 500 model_error");
        let died = RunError::Died {
            how: text(),
            suspect: None,
        };
        assert_eq!(told(failed(died)), "424 Model 500 model_error");
        assert_eq!(told(failed(RunError::ExpiredWaiting)), "408 Load - -");
        assert_eq!(told(failed(RunError::ExpiredRunning)), "408 Model - -");
        assert_eq!(told(failed(RunError::Abandoned)), "499 Client - -");
        assert_eq!(told(failed(RunError::InstanceGone)), "500 Server - -");
        // A body that does not fit: what a scoring script would refuse with 400.
        let twice = ScoreError::RepeatedInput {
            input: "data".to_owned(),
        };
        let twice = failed(RunError::Input(twice));
        assert_eq!(told(twice), "424 Client 400 model_error");
        let unfit = ScoreError::UnknownInput {
            input: "data".to_owned(),
            known: "x".to_owned(),
        };
        let encoding = ScoreError::OutputCount {
            declared: 1,
            found: 2,
        };
        assert_eq!(
            told(failed(RunError::Output(encoding))),
            "424 Model 500 model_error"
        );
        let unfit = failed(RunError::Input(unfit));
        assert_eq!(told(unfit), "424 ClientOrModel 400 model_error");
    }

    #[test]
    fn a_process_that_ended_under_a_request_says_how_and_where() {
        let died = |suspect: Option<&str>| {
            failed(RunError::Died {
                how: "signal 8, SIGFPE".to_owned(),
                suspect: suspect.map(str::to_owned),
            })
        };
        assert_eq!(told(died(None)), "424 Model 500 model_error");
        assert_eq!(
            died(Some("Div may divide (node 0)")).to_string(),
            "the process that ran the model ended (signal 8, SIGFPE); the graph says: Div may divide (node 0)"
        );
        assert_eq!(
            died(None).to_string(),
            "the process that ran the model ended (signal 8, SIGFPE)"
        );
    }

    #[test]
    fn a_full_queue_says_when_to_come_back() {
        let failure = rejected(FULL);
        assert_eq!(failure.retry_after_s(), Some(3));
        assert_eq!(failure.deployment(), Some(&blue()));
        assert_eq!(failed(RunError::InstanceGone).retry_after_s(), None);
    }

    #[test]
    fn a_wrong_address_is_answered_with_the_right_ones() {
        let failure = Failure::NoEndpoint {
            name: "irs".into(),
            known: vec!["iris".into()],
        };
        assert_eq!(
            failure.to_string(),
            "no endpoint is named \"irs\"; there are: iris"
        );
        let failure = Failure::NotOneEndpoint {
            known: vec!["iris".into(), "digits".into()],
        };
        assert_eq!(
            failure.to_string(),
            "/score serves a single endpoint; score at /endpoints/iris/score, /endpoints/digits/score"
        );
        let failure = Failure::NotOneEndpoint { known: vec![] };
        assert_eq!(
            failure.to_string(),
            "/score serves a single endpoint; there is none yet"
        );
    }
}
