//! One client connection: HTTP/1.1, kept alive, opened anew when the server has closed it.
//!
//! A server may close a connection that is idle at the very moment at which a request goes out on it. Such a request, of whose answer not a
//! byte came, is sent once more on a new connection, as every client does (RFC 9112, section 9.3.1); one on a connection that was new is not.
//! Connections outlive a run of load: the next one to the same target takes them over.
//!
//! Threads: a client belongs to one task; targets are shared, and with them the connections that nobody uses.
//! Not here: the bytes of requests and responses (`wire`).

use std::error::Error as _;
use std::io::{self, IoSlice};
use std::mem;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::wire::{Head, NotHttp, Reading};

/// Room that a read has at least.
const READ_BYTES: usize = 16 * 1024;

const MODEL_DEPLOYMENT: &str = "azureml-model-deployment";

/// The server that requests go to, and their headers.
#[derive(Debug, Clone)]
pub struct Target {
    address: SocketAddr,
    /// Request line and headers, without the length of the body.
    head: String,
    /// Open connections that no client uses, shared by all copies.
    idle: Arc<Mutex<Vec<std::net::TcpStream>>>,
}

/// The reason why a text is no part of a request.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The path.
    #[error("expected a path such as /score, found {found:?}")]
    Path {
        /// The text that was given.
        found: String,
    },
    /// A value of a header.
    #[error("expected a value of header {name} without control characters")]
    Header {
        /// Its name.
        name: String,
    },
    /// The name of a header.
    #[error("expected the name of a header of letters, digits and hyphens, found {found:?}")]
    Name {
        /// The text that was given.
        found: String,
    },
}

impl Target {
    /// `POST path` at `address`, with JSON bodies.
    ///
    /// # Errors
    ///
    /// [`TargetError::Path`].
    pub fn new(address: SocketAddr, path: &str) -> Result<Self, TargetError> {
        Self::at(address, &address.to_string(), path)
    }

    /// The same, where the server knows itself by another name than its address.
    ///
    /// # Errors
    ///
    /// [`TargetError`].
    pub fn at(address: SocketAddr, host: &str, path: &str) -> Result<Self, TargetError> {
        if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TargetError::Path {
                found: path.to_owned(),
            });
        }
        let target = Self {
            address,
            head: format!("POST {path} HTTP/1.1\r\n"),
            idle: Arc::default(),
        };
        target
            .with_header("host", host)?
            .with_header("content-type", "application/json")
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

    /// Its address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// With one header more.
    ///
    /// # Errors
    ///
    /// [`TargetError::Name`], [`TargetError::Header`].
    pub fn with_header(mut self, name: &str, value: &str) -> Result<Self, TargetError> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if name.is_empty() || !name.bytes().all(is_name) {
            let found = name.to_owned();
            return Err(TargetError::Name { found });
        }
        let sound = |byte: u8| matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
        if !value.bytes().all(sound) {
            let name = name.to_owned();
            return Err(TargetError::Header { name });
        }
        for part in [name, ": ", value, "\r\n"] {
            self.head.push_str(part);
        }
        Ok(self)
    }

    /// A connection that a client before left open; within a runtime.
    fn take_idle(&self) -> Option<TcpStream> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        TcpStream::from_std(idle.pop()?).ok()
    }

    fn put_back(&self, stream: TcpStream) {
        if let Ok(stream) = stream.into_std() {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.push(stream);
        }
    }
}

/// A whole response.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The deployment that answered, as the header `azureml-model-deployment` says.
    pub deployment: Option<String>,
    /// The body.
    pub body: Bytes,
}

/// The reason why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No connection.
    #[error("cannot connect to {address}")]
    Connect {
        /// The server.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The connection broke.
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    /// Bytes that are no HTTP.
    #[error("the answer is no HTTP")]
    NotHttp(#[from] NotHttp),
    /// It took too long.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

impl LoadError {
    /// In words, with what caused it.
    #[must_use]
    pub fn words(&self) -> String {
        self.source()
            .map_or_else(|| self.to_string(), |cause| format!("{self}: {cause}"))
    }
}

/// One exchange after the other.
#[derive(Debug)]
pub(super) struct Client {
    target: Target,
    timeout: Duration,
    /// Open, and with nothing under way.
    stream: Option<TcpStream>,
    /// The head that was sent last, and the length of the body that it announces.
    head: (usize, String),
    buffer: BytesMut,
}

impl Client {
    pub(super) fn new(target: Target, timeout: Duration) -> Self {
        let head = (0, head_for(&target, 0));
        Self {
            target,
            timeout,
            stream: None,
            head,
            buffer: BytesMut::new(),
        }
    }

    /// Sends a body and reads the whole response. After a failure the next call opens a new connection.
    pub(super) async fn exchange(&mut self, body: &[u8]) -> Result<Reply, LoadError> {
        let limit = self.timeout;
        timeout(limit, self.send(body))
            .await
            .map_err(|_| LoadError::Timeout(limit))?
    }

    async fn send(&mut self, body: &[u8]) -> Result<Reply, LoadError> {
        if self.head.0 != body.len() {
            self.head = (body.len(), head_for(&self.target, body.len()));
        }
        // Not put back unless the exchange is whole: half a response would be taken for the next one's.
        let kept = self.stream.take().or_else(|| self.target.take_idle());
        if let Some(stream) = kept.filter(is_open) {
            self.buffer.clear();
            match self.on(stream, body).await {
                // It was closed while it was idle.
                Err(LoadError::Broken(_) | LoadError::NotHttp(NotHttp::Cut))
                    if self.buffer.is_empty() => {}
                outcome => return outcome,
            }
        }
        let stream = open(self.target.address).await?;
        self.buffer.clear();
        self.on(stream, body).await
    }

    /// One exchange on this connection; what came of an answer that is not whole stays in the buffer.
    async fn on(&mut self, mut stream: TcpStream, body: &[u8]) -> Result<Reply, LoadError> {
        let head = self.head.1.as_bytes();
        write(&mut stream, head, body)
            .await
            .map_err(LoadError::Broken)?;
        let (head, body) = read(&mut stream, &mut self.buffer).await?;
        if head.keeps_open {
            self.stream = Some(stream);
        }
        Ok(Reply {
            status: head.status,
            deployment: head.deployment,
            body,
        })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(stream) = mem::take(&mut self.stream) {
            self.target.put_back(stream);
        }
    }
}

fn head_for(target: &Target, length: usize) -> String {
    format!("{}content-length: {length}\r\n\r\n", target.head)
}

async fn open(address: SocketAddr) -> Result<TcpStream, LoadError> {
    let failed = |source| LoadError::Connect { address, source };
    let stream = TcpStream::connect(address).await.map_err(failed)?;
    // Small writes must not wait for each other.
    stream.set_nodelay(true).map_err(failed)?;
    Ok(stream)
}

/// Whether the server has left an idle connection open. Costs no system call where nothing has happened on it.
fn is_open(stream: &TcpStream) -> bool {
    let found = stream.try_read(&mut [0]);
    found.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

/// Writes head and body, in one system call where the socket takes them.
async fn write(stream: &mut TcpStream, head: &[u8], body: &[u8]) -> io::Result<()> {
    let mut slices = [IoSlice::new(head), IoSlice::new(body)];
    let mut left = &mut slices[..];
    while !left.is_empty() {
        match stream.write_vectored(left).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => IoSlice::advance_slices(&mut left, written),
        }
    }
    Ok(())
}

async fn read(stream: &mut TcpStream, buffer: &mut BytesMut) -> Result<(Head, Bytes), LoadError> {
    let mut reading = Reading::default();
    loop {
        buffer.reserve(READ_BYTES);
        let count = stream.read_buf(buffer).await.map_err(LoadError::Broken)?;
        let whole = match count {
            0 => reading.ended(buffer)?,
            _ => reading.more(buffer)?,
        };
        if let Some(whole) = whole {
            return Ok(whole);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn what_is_no_path_or_no_header_is_refused() {
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        for path in ["", "score", "http://elsewhere/score", "/a b", "/a\r\nb"] {
            let message = Target::new(address, path).unwrap_err().to_string();
            assert_eq!(
                message,
                format!("expected a path such as /score, found {path:?}")
            );
        }
        let target = Target::new(address, "/endpoints/iris/score").unwrap();
        for name in ["", "a b", "a:", "a\r\nb"] {
            let refused = target.clone().with_header(name, "x").unwrap_err();
            let words = refused.to_string();
            assert!(
                words.starts_with("expected the name of a header"),
                "{words}"
            );
        }
        assert_eq!(
            target.with_bearer("a\nb").unwrap_err().to_string(),
            "expected a value of header authorization without control characters"
        );
    }

    const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

    /// Reads a request without a body, and what there is of it is all.
    async fn read_request(stream: &mut TcpStream) -> usize {
        let mut bytes = [0; 4096];
        stream.read(&mut bytes).await.unwrap_or(0)
    }

    #[tokio::test]
    async fn a_request_on_a_connection_that_was_closed_while_it_was_idle_is_sent_once_more() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let target = Target::new(listener.local_addr().unwrap(), "/score").unwrap();
        let mut client = Client::new(target, Duration::from_secs(60));
        let server = tokio::spawn(async move {
            // Answers once, takes the next request and closes without a byte; then answers on a new connection.
            let (mut first, _) = listener.accept().await.unwrap();
            read_request(&mut first).await;
            first.write_all(OK).await.unwrap();
            read_request(&mut first).await;
            drop(first);
            let (mut second, _) = listener.accept().await.unwrap();
            read_request(&mut second).await;
            second.write_all(OK).await.unwrap();
            // And closes a connection that is new, or that has begun to answer: that is a failure.
            read_request(&mut second).await;
            second.write_all(b"HTTP/1.1 200").await.unwrap();
            drop(second);
            let (mut third, _) = listener.accept().await.unwrap();
            read_request(&mut third).await;
            drop(third);
            listener
        });
        assert_eq!(client.exchange(b"").await.unwrap().status, 200);
        assert_eq!(client.exchange(b"").await.unwrap().status, 200);
        client.exchange(b"").await.unwrap_err();
        client.exchange(b"").await.unwrap_err();
        drop(server.await.unwrap());
    }

    #[tokio::test]
    async fn a_connection_outlives_its_client_and_is_taken_over_by_the_next() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let target = Target::new(listener.local_addr().unwrap(), "/score").unwrap();
        let server = tokio::spawn(async move {
            let (mut only, _) = listener.accept().await.unwrap();
            for _ in 0..2 {
                read_request(&mut only).await;
                only.write_all(OK).await.unwrap();
            }
            listener
        });
        for _ in 0..2 {
            let mut client = Client::new(target.clone(), Duration::from_secs(60));
            assert_eq!(client.exchange(b"").await.unwrap().status, 200);
        }
        drop(server.await.unwrap());
    }
}
