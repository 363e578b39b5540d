//! One client connection: HTTP/1.1, kept alive, opened anew when the server has closed it.
//!
//! Not here: the bytes of requests and responses (`wire`).

use std::error::Error as _;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
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

    fn with_header(mut self, name: &'static str, value: &str) -> Result<Self, TargetError> {
        let sound = |byte: u8| matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
        if !value.bytes().all(sound) {
            return Err(TargetError::Header { name });
        }
        for part in [name, ": ", value, "\r\n"] {
            self.head.push_str(part);
        }
        Ok(self)
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
        // Not put back unless the exchange is whole: half a response would be taken for the next one's.
        let kept = self.stream.take().filter(is_open);
        let mut stream = match kept {
            Some(stream) => stream,
            None => open(self.target.address).await?,
        };
        if self.head.0 != body.len() {
            self.head = (body.len(), head_for(&self.target, body.len()));
        }
        let head = self.head.1.as_bytes();
        write(&mut stream, head, body)
            .await
            .map_err(LoadError::Broken)?;
        self.buffer.clear();
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
        assert_eq!(
            target.with_bearer("a\nb").unwrap_err().to_string(),
            "expected a value of header authorization without control characters"
        );
    }
}
