//! One client connection: HTTP/1.1, kept alive, opened anew when the server has closed it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const MODEL_DEPLOYMENT: &str = "azureml-model-deployment";

/// Where requests go, and with which headers.
#[derive(Debug, Clone)]
pub struct Target {
    address: SocketAddr,
    uri: Uri,
    headers: HeaderMap,
}

/// Why a text is no part of a request.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The path.
    #[error("expected a path such as /score, found {found:?}")]
    Path {
        /// What was given.
        found: String,
    },
    /// A value of a header.
    #[error("expected a value of header {name} without control characters")]
    Header {
        /// Its name.
        name: &'static str,
    },
}

impl Target {
    /// `POST path` at `address`, with JSON bodies.
    ///
    /// # Errors
    ///
    /// [`TargetError::Path`].
    pub fn new(address: SocketAddr, path: &str) -> Result<Self, TargetError> {
        let refused = || TargetError::Path {
            found: path.to_owned(),
        };
        let uri: Uri = path.parse().map_err(|_| refused())?;
        if !path.starts_with('/') {
            return Err(refused());
        }
        let host = HeaderValue::from_str(&address.to_string()).expect("digits, dots and colons");
        let json = HeaderValue::from_static("application/json");
        Ok(Self {
            address,
            uri,
            headers: HeaderMap::from_iter([(HOST, host), (CONTENT_TYPE, json)]),
        })
    }

    /// With this key or token.
    ///
    /// # Errors
    ///
    /// [`TargetError::Header`].
    pub fn with_bearer(self, credential: &str) -> Result<Self, TargetError> {
        self.with_header("authorization", &format!("Bearer {credential}"))
    }

    /// Straight to this deployment.
    ///
    /// # Errors
    ///
    /// [`TargetError::Header`].
    pub fn with_deployment(self, deployment: &str) -> Result<Self, TargetError> {
        self.with_header(MODEL_DEPLOYMENT, deployment)
    }

    fn with_header(mut self, name: &'static str, value: &str) -> Result<Self, TargetError> {
        let value = HeaderValue::from_str(value).map_err(|_| TargetError::Header { name })?;
        self.headers.insert(HeaderName::from_static(name), value);
        Ok(self)
    }

    fn request(&self, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

/// A whole response.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// Who answered, as the header `azureml-model-deployment` says.
    pub deployment: Option<String>,
    /// The body.
    pub body: Bytes,
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No connection.
    #[error("cannot connect to {address}")]
    Connect {
        /// The server.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The connection broke, or what came is no HTTP.
    #[error("the exchange failed")]
    Exchange(#[source] hyper::Error),
    /// It took too long.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

/// One exchange after the other.
#[derive(Debug)]
pub(super) struct Client {
    target: Target,
    timeout: Duration,
    connection: Option<Connection>,
}

impl Client {
    pub(super) fn new(target: Target, timeout: Duration) -> Self {
        Self {
            target,
            timeout,
            connection: None,
        }
    }

    /// Sends a body and reads the whole response. After a failure the next call opens a new connection.
    pub(super) async fn exchange(&mut self, body: Bytes) -> Result<Reply, LoadError> {
        let limit = self.timeout;
        // Not put back unless the exchange is whole: half a response would be taken for the next one's.
        let connection = self.connection.take();
        let (connection, reply) = timeout(limit, self.send(connection, body))
            .await
            .map_err(|_| LoadError::Timeout(limit))??;
        self.connection = Some(connection);
        Ok(reply)
    }

    async fn send(
        &self,
        kept: Option<Connection>,
        body: Bytes,
    ) -> Result<(Connection, Reply), LoadError> {
        let mut request = self.target.request(body);
        if let Some(mut connection) = kept
            && connection.sender.ready().await.is_ok()
        {
            match connection.sender.try_send_request(request).await {
                Ok(response) => return Ok((connection, read(response).await?)),
                // The server had closed it while it was idle: nothing was sent, so sending is no repetition.
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(LoadError::Exchange(error.into_error())),
                },
            }
        }
        let mut connection = Connection::open(self.target.address).await?;
        let sent = connection.sender.send_request(request).await;
        let reply = read(sent.map_err(LoadError::Exchange)?).await?;
        Ok((connection, reply))
    }
}

async fn read(response: Response<hyper::body::Incoming>) -> Result<Reply, LoadError> {
    let status = response.status().as_u16();
    let deployment = response
        .headers()
        .get(MODEL_DEPLOYMENT)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let body = response.into_body().collect().await;
    Ok(Reply {
        status,
        deployment,
        body: body.map_err(LoadError::Exchange)?.to_bytes(),
    })
}

/// Closed when dropped, whatever goes on.
#[derive(Debug)]
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Connection {
    async fn open(address: SocketAddr) -> Result<Self, LoadError> {
        let failed = |source| LoadError::Connect { address, source };
        let stream = TcpStream::connect(address).await.map_err(failed)?;
        // Small writes must not wait for each other.
        stream.set_nodelay(true).map_err(failed)?;
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(LoadError::Exchange)?;
        // How it ends shows in the exchange that meets the end.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender, driver })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_path_or_no_header_is_refused() {
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        for path in ["", "score", "http://elsewhere/score", "/a b"] {
            let message = Target::new(address, path).unwrap_err().to_string();
            assert_eq!(
                message,
                format!("expected a path such as /score, found {path:?}")
            );
        }
        let target = Target::new(address, "/endpoints/iris/score").unwrap();
        assert_eq!(
            target.with_bearer("a\nb").unwrap_err().to_string(),
            "expected a value of header authorization without control characters"
        );
    }
}
