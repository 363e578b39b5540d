//! The client of the admin listener, for the command line and for tools. Blocking: a command does one thing at a time.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::http::{Method, Request, Response};
use ureq::{Agent, Body};

use crate::admin::server_file::{ServerFile, ServerFileError};
use crate::admin::wire::{
    AboutRequest, ChangeRequest, ErrorBody, ModelGraph, ModelRequest, Refusal, ServerStatus,
};
use crate::config::{
    ANSWER_MAX, OPERATION_WAIT_MAX, REQUEST_TIMEOUT_MAX, SILENCE_TOLD_AFTER, WORK_ANSWER_MAX,
};
use crate::control::{
    AsOf, Change, Credentials, HistoryEntry, JournalEntry, ModelRecord, Operation, OperationId,
    Preview, Revision,
};
use crate::plain_file::check_believable;
use crate::spec::{DeploymentName, EndpointName, ModelName, ModelVersion};

/// Longest answer that is read: a long journal, many endpoints.
const ANSWER_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// The times after which a silent server is spoken of, and given up; see the constants of `config`.
#[derive(Clone, Copy, Debug)]
struct Patience {
    answer_max: Duration,
    work_max: Duration,
    told_after: Duration,
}

const PATIENCE: Patience = Patience {
    answer_max: ANSWER_MAX,
    work_max: WORK_ANSWER_MAX,
    told_after: SILENCE_TOLD_AFTER,
};

/// A client of the server of one data folder.
#[derive(Debug, Clone)]
pub struct Client {
    agent: Agent,
    data: PathBuf,
    server: ServerFile,
    patience: Patience,
    tell: Option<fn(&str)>,
}

/// One request, and how long its answer may take.
#[derive(Debug)]
pub(super) struct Ask<'a> {
    request: Request<&'a [u8]>,
    address: SocketAddr,
    /// The answer that is waited for, in words.
    what: &'a str,
    /// The wait that is part of the request: nobody is told of that.
    held: Duration,
    /// Longest beyond it.
    max: Duration,
}

/// The answer of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body as it came.
    pub body: Vec<u8>,
}

/// The reason why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No server runs on the data folder: there is no `server.json`, or nobody listens where it says.
    #[error(
        "no server runs on {data:?}; start one with `serin serve`, or name another folder with --data"
    )]
    NoServer {
        /// The data folder.
        data: PathBuf,
    },
    /// `server.json` is there and cannot be used.
    #[error(transparent)]
    ServerFile(#[from] ServerFileError),
    /// The request has no form in which it could be sent, such as a path that is not UTF-8.
    #[error("the request cannot be sent: {0}")]
    Request(#[source] serde_json::Error),
    /// The server refused the request, and says why.
    #[error("{}", .0.message)]
    Refused(ErrorBody),
    /// The server took the request, or at least the connection, and then said nothing for too long.
    #[error("the server at {address} did not answer within {} s; waited for {what}", .after.as_secs_f64())]
    Silent {
        /// The address at which it is.
        address: SocketAddr,
        /// The answer that was waited for, in words.
        what: String,
        /// The time that it had.
        after: Duration,
    },
    /// The connection broke.
    #[error("the server at {address} does not answer: {source}")]
    Transport {
        /// The address at which it should be.
        address: SocketAddr,
        /// The failure of the connection.
        source: Box<ureq::Error>,
    },
    /// An answer that is none of a server of this version.
    #[error(
        "the server at {address} gave an answer that this version does not understand: {source}"
    )]
    Answer {
        /// The address that it came from.
        address: SocketAddr,
        /// The mistake in it.
        source: serde_json::Error,
    },
}

impl Client {
    /// Finds the server of a data folder by its `server.json`. Does not speak to it yet.
    ///
    /// # Errors
    ///
    /// [`ClientError::NoServer`], [`ClientError::ServerFile`].
    pub fn connect(data: &Path) -> Result<Self, ClientError> {
        let server = ServerFile::read(data)?.ok_or_else(|| ClientError::NoServer {
            data: data.to_owned(),
        })?;
        // Somebody else's file could send requests, keys among them, to somebody else's server.
        check_believable(data).map_err(|source| ServerFileError::Read {
            path: data.to_owned(),
            source,
        })?;
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .build()
            .into();
        Ok(Self {
            agent,
            data: data.to_owned(),
            server,
            patience: PATIENCE,
            tell: None,
        })
    }

    /// Has a sentence told when the server is silent for seconds: what is waited for. Without it the wait is a silent one.
    #[must_use]
    pub fn telling(mut self, tell: fn(&str)) -> Self {
        self.tell = Some(tell);
        self
    }

    /// The addresses of the server.
    #[must_use]
    pub fn server(&self) -> &ServerFile {
        &self.server
    }

    /// Asks for a change; returns when it is accepted, that is on disk.
    ///
    /// # Errors
    ///
    /// [`ClientError`], as all calls here.
    pub fn change(&self, request: &ChangeRequest) -> Result<Operation, ClientError> {
        self.post("/v1/changes", request, "the change to be accepted")
    }

    /// Says what a change would do; nothing of it is done.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub fn preview(&self, change: Change) -> Result<Preview, ClientError> {
        let request = ChangeRequest {
            change,
            by: None,
            expected_revision: None,
        };
        self.post(
            "/v1/changes/preview",
            &request,
            "the change to be worked out",
        )
    }

    /// The state of a change; waits for its end, at most so long.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub fn operation(&self, id: OperationId, wait: Duration) -> Result<Operation, ClientError> {
        let path = format!("/v1/operations/{id}?wait_ms={}", wait.as_millis());
        let mut ask = self.ask(Method::GET, &path, &[], "the state of the operation");
        ask.held = wait;
        self.parse(&self.send(ask)?)
    }

    /// Waits for the end of a change, however long it takes.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub fn wait(&self, id: OperationId) -> Result<Operation, ClientError> {
        loop {
            let operation = self.operation(id, OPERATION_WAIT_MAX)?;
            if operation.provisioning_state.has_ended() {
                return Ok(operation);
            }
        }
    }

    /// All endpoints, as `list` prints them.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub fn endpoints(&self) -> Result<Vec<Value>, ClientError> {
        self.get("/v1/endpoints", "the list of endpoints")
    }

    /// One endpoint, as `show` prints it.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub fn endpoint(&self, name: &EndpointName) -> Result<Value, ClientError> {
        self.get(&format!("/v1/endpoints/{name}"), "an endpoint")
    }

    /// The deployments of an endpoint.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub fn deployments(&self, endpoint: &EndpointName) -> Result<Vec<Value>, ClientError> {
        self.get(
            &format!("/v1/endpoints/{endpoint}/deployments"),
            "the list of deployments",
        )
    }

    /// One deployment.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub fn deployment(
        &self,
        endpoint: &EndpointName,
        name: &DeploymentName,
    ) -> Result<Value, ClientError> {
        self.get(
            &format!("/v1/endpoints/{endpoint}/deployments/{name}"),
            "a deployment",
        )
    }

    /// The last lines of the log of a deployment, oldest first.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub fn deployment_log(
        &self,
        endpoint: &EndpointName,
        name: &DeploymentName,
        lines: usize,
    ) -> Result<Vec<String>, ClientError> {
        let path = format!("/v1/endpoints/{endpoint}/deployments/{name}/logs?lines={lines}");
        self.get(&path, "the log of a deployment")
    }

    /// Keys or a token of an endpoint.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub fn credentials(&self, endpoint: &EndpointName) -> Result<Credentials, ClientError> {
        self.get(
            &format!("/v1/endpoints/{endpoint}/credentials"),
            "credentials",
        )
    }

    /// Registers a model; returns when the server has its own copy.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub fn register_model(&self, request: &ModelRequest) -> Result<ModelRecord, ClientError> {
        self.post("/v1/models", request, "the model to be copied")
    }

    /// All registered versions of all models.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub fn models(&self) -> Result<Vec<ModelRecord>, ClientError> {
        self.get("/v1/models", "the list of models")
    }

    /// All registered versions of one model.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub fn model(&self, name: &ModelName) -> Result<Vec<ModelRecord>, ClientError> {
        self.get(&format!("/v1/models/{name}"), "the versions of a model")
    }

    /// What the graph of a registered version says.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub fn model_graph(
        &self,
        name: &ModelName,
        version: &ModelVersion,
    ) -> Result<ModelGraph, ClientError> {
        let path = format!("/v1/models/{name}/{version}");
        self.get(&path, "the graph of a model")
    }

    /// Says something else of a registered version.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub fn describe_model(
        &self,
        name: &ModelName,
        version: &ModelVersion,
        request: &AboutRequest,
    ) -> Result<ModelRecord, ClientError> {
        let path = format!("/v1/models/{name}/{version}/about");
        self.post(&path, request, "the words on a model to be kept")
    }

    /// Forgets a version of a model. `by` stands in the journal.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub fn delete_model(
        &self,
        name: &ModelName,
        version: &ModelVersion,
        by: &str,
    ) -> Result<(), ClientError> {
        let path = format!("/v1/models/{name}/{version}?by={}", percent_encoded(by));
        let ask = self.ask(Method::DELETE, &path, &[], "the model to be deleted");
        self.send(ask).map(|_| ())
    }

    /// The last lines of the journal, oldest first.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub fn journal(&self, last: usize) -> Result<Vec<JournalEntry>, ClientError> {
        self.get(&format!("/v1/journal?last={last}"), "the journal")
    }

    /// The last changes, oldest first, with what each was from and to; of one endpoint where one is named.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub fn history(
        &self,
        last: usize,
        endpoint: Option<&EndpointName>,
    ) -> Result<Vec<HistoryEntry>, ClientError> {
        let only = endpoint.map_or_else(String::new, |name| format!("&endpoint={name}"));
        self.get(&format!("/v1/history?last={last}{only}"), "the history")
    }

    /// What differs from the state as of a revision.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub fn as_of(&self, revision: Revision) -> Result<Vec<AsOf>, ClientError> {
        let path = format!("/v1/revisions/{revision}");
        self.get(&path, "an earlier state")
    }

    /// Version, addresses, revision and readiness of the server.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub fn status(&self) -> Result<ServerStatus, ClientError> {
        self.get("/v1/status", "the state of the server")
    }

    /// The metrics, as Prometheus reads them.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub fn metrics(&self) -> Result<String, ClientError> {
        let text = self.send(self.ask(Method::GET, "/metrics", &[], "the metrics"))?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Sends a scoring request, to the deployment that is named or by the split of traffic.
    ///
    /// # Errors
    ///
    /// [`ClientError`] when there is no answer; an answer that is a refusal is none.
    pub fn score(
        &self,
        endpoint: &EndpointName,
        deployment: Option<&DeploymentName>,
        bearer: &str,
        body: &[u8],
    ) -> Result<Answer, ClientError> {
        let address = self.server.scoring_address;
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://{address}/endpoints/{endpoint}/score"))
            .header("authorization", format!("Bearer {bearer}"))
            .header("content-type", "application/json");
        if let Some(deployment) = deployment {
            request = request.header("azureml-model-deployment", deployment.as_str());
        }
        let request = request
            .body(body)
            .expect("addresses, names and credentials make a valid request");
        self.exchange(Ask {
            request,
            address,
            what: "the score",
            held: Duration::ZERO,
            // The endpoint's own timeout comes first, and has better words.
            max: REQUEST_TIMEOUT_MAX + self.patience.answer_max,
        })
    }

    pub(super) fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        what: &str,
    ) -> Result<T, ClientError> {
        self.parse(&self.send(self.ask(Method::GET, path, &[], what))?)
    }

    /// Asks for work, of a server that answers at all: one that does not is given up long before its work would have to be done.
    pub(super) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        what: &str,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(ClientError::Request)?;
        self.send(self.ask(Method::GET, "/health", &[], "a first answer"))?;
        let mut ask = self.ask(Method::POST, path, &body, what);
        ask.max = self.patience.work_max;
        self.parse(&self.send(ask)?)
    }

    /// A request for something that the server has at hand.
    pub(super) fn ask<'a>(
        &self,
        method: Method,
        path: &str,
        body: &'a [u8],
        what: &'a str,
    ) -> Ask<'a> {
        let address = self.server.admin_address;
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{address}{path}"))
            .header("authorization", format!("Bearer {}", self.server.token))
            .header("content-type", "application/json")
            .body(body)
            .expect("addresses, names and numbers make a valid request");
        Ask {
            request,
            address,
            what,
            held: Duration::ZERO,
            max: self.patience.answer_max,
        }
    }

    /// Sends a request; the bytes of a good answer.
    fn send(&self, ask: Ask<'_>) -> Result<Vec<u8>, ClientError> {
        let answer = self.exchange(ask)?;
        if (200..300).contains(&answer.status) {
            return Ok(answer.body);
        }
        let refusal: Refusal = self.parse(&answer.body)?;
        Err(ClientError::Refused(refusal.error))
    }

    /// Sends a request and reads the whole answer, whatever it is.
    pub(super) fn exchange(&self, ask: Ask<'_>) -> Result<Answer, ClientError> {
        let (address, what, after) = (ask.address, ask.what, ask.held + ask.max);
        let failed = |error| match error {
            ureq::Error::Timeout(_) => ClientError::Silent {
                address,
                what: what.to_owned(),
                after,
            },
            // `server.json` outlived its server.
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                ClientError::NoServer {
                    data: self.data.clone(),
                }
            }
            source => ClientError::Transport {
                address,
                source: Box::new(source),
            },
        };
        let configured = self.agent.configure_request(ask.request);
        let request = configured.timeout_global(Some(after)).build();
        let words = format!("waiting for the server at {address}: {what}\n");
        let told_after = ask.held + self.patience.told_after;
        let answered = attended(self.tell, told_after, &words, || {
            let mut answer = self.agent.run(request)?;
            let status = answer.status().as_u16();
            read(&mut answer).map(|body| Answer { status, body })
        });
        answered.map_err(failed)
    }

    pub(super) fn parse<T: DeserializeOwned>(&self, answer: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(answer).map_err(|source| ClientError::Answer {
            address: self.server.admin_address,
            source,
        })
    }
}

/// Does something, and has `words` told if it is not done by then.
pub(crate) fn attended<T>(
    tell: Option<fn(&str)>,
    after: Duration,
    words: &str,
    doing: impl FnOnce() -> T,
) -> T {
    let Some(tell) = tell else {
        return doing();
    };
    thread::scope(|scope| {
        let (done, ended) = mpsc::channel::<()>();
        let watch = move || {
            if ended.recv_timeout(after) == Err(RecvTimeoutError::Timeout) {
                tell(words);
            }
        };
        let watching = thread::Builder::new().name("patience".to_owned());
        // Without a thread nobody is told, and the request is made all the same.
        drop(watching.spawn_scoped(scope, watch));
        let outcome = doing();
        drop(done);
        outcome
    })
}

fn read(answer: &mut Response<Body>) -> Result<Vec<u8>, ureq::Error> {
    answer
        .body_mut()
        .with_config()
        .limit(ANSWER_BYTES_MAX)
        .read_to_vec()
}

/// Text as it may stand in a query.
pub(super) fn percent_encoded(text: &str) -> String {
    let encoded = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encoded).collect()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs::Permissions;
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Condvar, Mutex};

    use jiff::Timestamp;

    use super::*;

    /// The client of a server that is said to be at this address.
    fn client_of(address: SocketAddr) -> Client {
        let data = tempfile::tempdir().unwrap();
        let server = ServerFile {
            pid: 1,
            scoring_address: address,
            admin_address: address,
            token: "t0ken".to_owned(),
            started: Timestamp::UNIX_EPOCH,
        };
        server.write(data.path()).unwrap();
        Client::connect(data.path()).unwrap()
    }

    /// A free port; somebody accepts connections there as long as the listener lives, and says nothing.
    fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[test]
    fn a_path_that_is_not_text_is_an_error_and_no_panic() {
        let (_listener, address) = listener();
        let registered = client_of(address).register_model(&ModelRequest {
            path: OsStr::from_bytes(b"/mod\xe8le.onnx").into(),
            name: "digits".parse().unwrap(),
            version: None,
            by: None,
        });
        assert_eq!(
            registered.unwrap_err().to_string(),
            "the request cannot be sent: path contains invalid UTF-8 characters"
        );
    }

    /// Sentences that were told, for a test that waits for one.
    static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());
    static ONE_MORE: Condvar = Condvar::new();

    #[test]
    fn a_server_that_accepts_and_never_answers_is_given_up() {
        let (_listener, address) = listener();
        let mut client = client_of(address);
        client.patience.answer_max = Duration::from_millis(40);
        client.patience.work_max = Duration::MAX;
        let silent = |after, what| {
            format!("the server at {address} did not answer within {after} s; waited for {what}")
        };
        let error = client.endpoints().unwrap_err();
        assert_eq!(error.to_string(), silent(0.04, "the list of endpoints"));
        let error = client.operation(OperationId(7), Duration::from_millis(10));
        assert_eq!(
            error.unwrap_err().to_string(),
            silent(0.05, "the state of the operation")
        );
        let error = client.register_model(&digits()).unwrap_err();
        assert_eq!(error.to_string(), silent(0.04, "a first answer"));
    }

    #[test]
    fn work_that_takes_too_long_is_given_up() {
        let (listener, address) = listener();
        let server = thread::Builder::new().spawn(move || {
            // A client may ask again on the same connection, or on another one.
            let (mut client, _) = listener.accept().unwrap();
            let mut head = [0; 4096];
            assert!(client.read(&mut head).unwrap() > 0);
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
            client.write_all(answer).unwrap();
            drop(client.read_to_end(&mut Vec::new()));
        });
        let mut client = client_of(address);
        client.patience.work_max = Duration::from_millis(60);
        let error = client.register_model(&digits()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "the server at {address} did not answer within 0.06 s; waited for the model to be copied"
            )
        );
        drop(client);
        server.unwrap().join().unwrap();
    }

    fn digits() -> ModelRequest {
        ModelRequest {
            path: "/digits.onnx".into(),
            name: "digits".parse().unwrap(),
            version: None,
            by: None,
        }
    }

    /// What a client says of a server that begins an answer, and then does this until the client has gone.
    #[track_caller]
    fn check_given_up(goes_on: impl Fn(&mut TcpStream) -> io::Result<()> + Send + Sync) {
        let (listener, address) = listener();
        thread::scope(|scope| {
            let server = thread::Builder::new().spawn_scoped(scope, || {
                let (mut client, _) = listener.accept().unwrap();
                let mut head = [0; 4096];
                assert!(client.read(&mut head).unwrap() > 0);
                while goes_on(&mut client).is_ok() {}
            });
            let mut client = client_of(address);
            client.patience.answer_max = Duration::from_millis(200);
            let error = client.endpoints().unwrap_err();
            let given_up = matches!(
                error,
                ClientError::Silent { .. } | ClientError::Transport { .. }
            );
            assert!(given_up, "{error}");
            drop(client);
            server.unwrap().join().unwrap();
        });
    }

    #[test]
    fn an_answer_that_trickles_without_end_is_given_up() {
        let begun = AtomicBool::new(false);
        check_given_up(|client| {
            if !begun.swap(true, Ordering::Relaxed) {
                let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n";
                client.write_all(head)?;
            }
            client.write_all(b" ")
        });
        // A head that never ends.
        check_given_up(|client| client.write_all(b"H"));
    }

    #[test]
    fn a_server_that_stops_within_its_answer_is_given_up() {
        for part in [
            "",
            "HTTP/1.1 2",
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n[",
        ] {
            check_given_up(|client| {
                client.write_all(part.as_bytes())?;
                // Until the client goes.
                client.read_to_end(&mut Vec::new())?;
                Err(io::ErrorKind::ConnectionReset.into())
            });
        }
    }

    #[test]
    fn a_server_that_does_not_even_take_the_connection_is_given_up() {
        // The backlog is full after the first few: further ones get no answer to their first packet.
        let socket = rustix::net::socket(
            rustix::net::AddressFamily::INET,
            rustix::net::SocketType::STREAM,
            None,
        )
        .unwrap();
        rustix::net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        rustix::net::listen(&socket, 0).unwrap();
        let address = TcpListener::from(socket.try_clone().unwrap())
            .local_addr()
            .unwrap();
        let mut waiting = Vec::new();
        while let Ok(one) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            waiting.push(one);
            assert!(waiting.len() < 100, "the backlog has no end");
        }
        let mut client = client_of(address);
        client.patience.answer_max = Duration::from_millis(200);
        let error = client.endpoints().unwrap_err();
        assert!(matches!(error, ClientError::Silent { .. }), "{error}");
    }

    #[test]
    fn a_folder_that_others_may_write_to_names_no_server() {
        let data = tempfile::tempdir().unwrap();
        let (_listener, address) = listener();
        client_of(address).server().write(data.path()).unwrap();
        Client::connect(data.path()).unwrap();
        std::fs::set_permissions(data.path(), Permissions::from_mode(0o777)).unwrap();
        let error = Client::connect(data.path()).unwrap_err().to_string();
        assert!(
            error.contains("others may write to it (its mode is 0777): `chmod go-w"),
            "{error}"
        );
    }

    #[test]
    fn a_server_that_is_silent_for_long_is_spoken_of_before_it_answers() {
        let (listener, address) = listener();
        // It answers only once somebody was told that it does not.
        let server = thread::Builder::new().spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let told = TOLD.lock().unwrap();
            drop(ONE_MORE.wait_while(told, |told| told.is_empty()).unwrap());
            let mut head = [0; 1024];
            assert!(client.read(&mut head).unwrap() > 0);
            let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n[]";
            client.write_all(answer.as_bytes()).unwrap();
        });
        let server = server.unwrap();
        let mut client = client_of(address).telling(|words| {
            TOLD.lock().unwrap().push(words.to_owned());
            ONE_MORE.notify_all();
        });
        client.patience.told_after = Duration::ZERO;
        assert!(client.endpoints().unwrap().is_empty());
        server.join().unwrap();
        assert_eq!(
            *TOLD.lock().unwrap(),
            [format!(
                "waiting for the server at {address}: the list of endpoints\n"
            )]
        );
    }

    #[test]
    fn a_server_that_answers_at_once_is_not_spoken_of() {
        let told = attended(Some(|_| panic!("told")), Duration::MAX, "", || 7);
        assert_eq!(told, 7);
    }

    #[test]
    fn text_in_a_query_keeps_letters_and_encodes_the_rest() {
        assert_eq!(percent_encoded("ann-1 & bé"), "ann-1%20%26%20b%C3%A9");
    }

    #[test]
    fn without_a_server_file_the_message_says_how_to_start_one() {
        let error = Client::connect(Path::new("/nowhere")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no server runs on \"/nowhere\"; start one with `serin serve`, or name another folder with --data"
        );
    }

    #[test]
    fn a_server_file_that_outlived_its_server_means_that_no_server_runs() {
        let (listener, address) = listener();
        // Bound and closed again: nobody listens there now.
        drop(listener);
        let client = client_of(address);
        assert!(matches!(client.status(), Err(ClientError::NoServer { .. })));
    }
}
