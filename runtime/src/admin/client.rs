//! The client of the admin listener, for the command line and for tools. Blocking: a command does one thing at a time.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::http::{Method, Request, Response};
use ureq::{Agent, Body};

use crate::admin::server_file::{ServerFile, ServerFileError};
use crate::admin::wire::{ChangeRequest, ErrorBody, ModelRequest, Refusal, ServerStatus};
use crate::config::OPERATION_WAIT_MAX;
use crate::control::{Credentials, JournalEntry, ModelRecord, Operation, OperationId};
use crate::spec::{DeploymentName, EndpointName, ModelName, ModelVersion};

/// Longest answer that is read: a long journal, many endpoints.
const ANSWER_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Longest that the server may take beyond what it was asked to wait. Registering copies a model, hence minutes.
const PATIENCE: Duration = Duration::from_secs(600);

/// A client of the server of one data folder.
#[derive(Debug, Clone)]
pub struct Client {
    agent: Agent,
    data: PathBuf,
    server: ServerFile,
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
    /// The connection broke.
    #[error("the server at {address} does not answer: {source}")]
    Transport {
        /// The address at which it should be.
        address: std::net::SocketAddr,
        /// The failure of the connection.
        source: Box<ureq::Error>,
    },
    /// An answer that is none of a server of this version.
    #[error(
        "the server at {address} gave an answer that this version does not understand: {source}"
    )]
    Answer {
        /// The address that it came from.
        address: std::net::SocketAddr,
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
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(OPERATION_WAIT_MAX + PATIENCE))
            .proxy(None)
            .build()
            .into();
        Ok(Self {
            agent,
            data: data.to_owned(),
            server,
        })
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
        self.post("/v1/changes", request)
    }

    /// The state of a change; waits for its end, at most so long.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub fn operation(&self, id: OperationId, wait: Duration) -> Result<Operation, ClientError> {
        self.get(&format!("/v1/operations/{id}?wait_ms={}", wait.as_millis()))
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
        self.get("/v1/endpoints")
    }

    /// One endpoint, as `show` prints it.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub fn endpoint(&self, name: &EndpointName) -> Result<Value, ClientError> {
        self.get(&format!("/v1/endpoints/{name}"))
    }

    /// The deployments of an endpoint.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub fn deployments(&self, endpoint: &EndpointName) -> Result<Vec<Value>, ClientError> {
        self.get(&format!("/v1/endpoints/{endpoint}/deployments"))
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
        self.get(&format!("/v1/endpoints/{endpoint}/deployments/{name}"))
    }

    /// Keys or a token of an endpoint.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub fn credentials(&self, endpoint: &EndpointName) -> Result<Credentials, ClientError> {
        self.get(&format!("/v1/endpoints/{endpoint}/credentials"))
    }

    /// Registers a model; returns when the server has its own copy.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub fn register_model(&self, request: &ModelRequest) -> Result<ModelRecord, ClientError> {
        self.post("/v1/models", request)
    }

    /// All registered versions of all models.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub fn models(&self) -> Result<Vec<ModelRecord>, ClientError> {
        self.get("/v1/models")
    }

    /// All registered versions of one model.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub fn model(&self, name: &ModelName) -> Result<Vec<ModelRecord>, ClientError> {
        self.get(&format!("/v1/models/{name}"))
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
        self.send(Method::DELETE, &path, &[]).map(|_| ())
    }

    /// The last lines of the journal, oldest first.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub fn journal(&self, last: usize) -> Result<Vec<JournalEntry>, ClientError> {
        self.get(&format!("/v1/journal?last={last}"))
    }

    /// Version, addresses, revision and readiness of the server.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub fn status(&self) -> Result<ServerStatus, ClientError> {
        self.get("/v1/status")
    }

    /// The metrics, as Prometheus reads them.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub fn metrics(&self) -> Result<String, ClientError> {
        let text = self.send(Method::GET, "/metrics", &[])?;
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
        let transport = |error| ClientError::Transport {
            address,
            source: Box::new(error),
        };
        let mut answer = self.agent.run(request).map_err(transport)?;
        Ok(Answer {
            status: answer.status().as_u16(),
            body: read(&mut answer).map_err(transport)?,
        })
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.parse(&self.send(Method::GET, path, &[])?)
    }

    fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(ClientError::Request)?;
        self.parse(&self.send(Method::POST, path, &body)?)
    }

    /// Sends a request; the bytes of a good answer.
    fn send(&self, method: Method, path: &str, body: &[u8]) -> Result<Vec<u8>, ClientError> {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.server.admin_address))
            .header("authorization", format!("Bearer {}", self.server.token))
            .header("content-type", "application/json")
            .body(body)
            .expect("addresses, names and numbers make a valid request");
        let mut answer = self
            .agent
            .run(request)
            .map_err(|error| self.transport(error))?;
        let bytes = read(&mut answer).map_err(|error| self.transport(error))?;
        if answer.status().is_success() {
            return Ok(bytes);
        }
        let refusal: Refusal = self.parse(&bytes)?;
        Err(ClientError::Refused(refusal.error))
    }

    fn parse<T: DeserializeOwned>(&self, answer: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(answer).map_err(|source| ClientError::Answer {
            address: self.server.admin_address,
            source,
        })
    }

    /// A refused connection means that `server.json` outlived its server.
    fn transport(&self, error: ureq::Error) -> ClientError {
        match error {
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                ClientError::NoServer {
                    data: self.data.clone(),
                }
            }
            source => ClientError::Transport {
                address: self.server.admin_address,
                source: Box::new(source),
            },
        }
    }
}

fn read(answer: &mut Response<Body>) -> Result<Vec<u8>, ureq::Error> {
    answer
        .body_mut()
        .with_config()
        .limit(ANSWER_BYTES_MAX)
        .read_to_vec()
}

/// Text as it may stand in a query.
fn percent_encoded(text: &str) -> String {
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
    use std::net::{SocketAddr, TcpListener};
    use std::os::unix::ffi::OsStrExt as _;

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
