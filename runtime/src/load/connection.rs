//! One client connection: HTTP/1.1, kept alive, opened anew when the server has closed it.
//!
//! A server may close a connection that is idle at the very moment at which a request goes out on it. Such a request, of whose answer not a
//! byte came, is sent once more on a new connection, as every client does (RFC 9112, section 9.3.1); one on a connection that was new is not.
//! Connections outlive a run of load: the next one to the same target takes them over.
//!
//! Threads: a client belongs to one task; targets are shared, and with them the connections that nobody uses.
//! Not here: the bytes of requests and responses (`wire`), TLS (`link`).

use std::error::Error as _;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::timeout;

use super::link::{Idle, Link, Peer};
use super::wire::{Head, NotHttp, Reading};
use crate::trust::{Trust, TrustError};

const MODEL_DEPLOYMENT: &str = "azureml-model-deployment";

/// The server that requests go to, and their headers.
#[derive(Debug, Clone)]
pub struct Target {
    address: SocketAddr,
    /// Request line and headers, without the length of the body.
    head: String,
    /// The server's name, where it is spoken to through TLS.
    peer: Option<Peer>,
    /// Open connections that no client uses, shared by all copies.
    idle: Arc<Mutex<Vec<Idle>>>,
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
            peer: None,
            idle: Arc::default(),
        };
        target
            .with_header("host", host)?
            .with_header("content-type", "application/json")
    }

    /// Through TLS, to a server that is known by the name `host`, which has no port.
    ///
    /// # Errors
    ///
    /// [`TrustError::Name`].
    pub fn with_tls(mut self, trust: Trust, host: &str) -> Result<Self, TrustError> {
        self.peer = Some(Peer::new(trust, host)?);
        Ok(self)
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
    fn take_idle(&self) -> Option<Link> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.pop()?.wake().ok()
    }

    fn put_back(&self, link: Link) {
        if let Ok(link) = link.sleep() {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.push(link);
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
    link: Option<Link>,
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
            link: None,
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
        let kept = self.link.take().or_else(|| self.target.take_idle());
        if let Some(mut link) = kept
            && link.is_open()
        {
            self.buffer.clear();
            match self.on(link, body).await {
                // It was closed while it was idle.
                Err(LoadError::Broken(_) | LoadError::NotHttp(NotHttp::Cut))
                    if self.buffer.is_empty() => {}
                outcome => return outcome,
            }
        }
        let link = open(&self.target).await?;
        self.buffer.clear();
        self.on(link, body).await
    }

    /// One exchange on this connection; what came of an answer that is not whole stays in the buffer.
    async fn on(&mut self, mut link: Link, body: &[u8]) -> Result<Reply, LoadError> {
        let head = self.head.1.as_bytes();
        link.write(head, body).await.map_err(LoadError::Broken)?;
        let (head, body) = read(&mut link, &mut self.buffer).await?;
        if head.keeps_open {
            self.link = Some(link);
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
        if let Some(link) = mem::take(&mut self.link) {
            self.target.put_back(link);
        }
    }
}

fn head_for(target: &Target, length: usize) -> String {
    format!("{}content-length: {length}\r\n\r\n", target.head)
}

async fn open(target: &Target) -> Result<Link, LoadError> {
    let address = target.address;
    let opened = Link::open(address, target.peer.as_ref()).await;
    opened.map_err(|source| LoadError::Connect { address, source })
}

async fn read(link: &mut Link, buffer: &mut BytesMut) -> Result<(Head, Bytes), LoadError> {
    let mut reading = Reading::default();
    loop {
        let count = link.read(buffer).await.map_err(LoadError::Broken)?;
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
    use std::io::{Read as _, Write as _};
    use std::path::Path;
    use std::thread;

    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::{ServerConfig, ServerConnection, StreamOwned};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

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

    fn tls_file(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../tests/tls")
            .join(name)
    }

    /// A server of https with the certificate of the tests; what it does with each connection, in order, and then it is gone.
    fn secured(
        scripts: Vec<fn(&mut StreamOwned<ServerConnection, std::net::TcpStream>)>,
    ) -> SocketAddr {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = CertificateDer::pem_file_iter(tls_file("server.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(tls_file("server.key")).unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain.map(Result::unwrap).collect(), key)
            .unwrap();
        let config = Arc::new(config);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serve = move || {
            for script in scripts {
                let (stream, _) = listener.accept().unwrap();
                let session = ServerConnection::new(Arc::clone(&config)).unwrap();
                script(&mut StreamOwned::new(session, stream));
            }
        };
        drop(
            thread::Builder::new()
                .name("https".into())
                .spawn(serve)
                .unwrap(),
        );
        address
    }

    fn answer(stream: &mut StreamOwned<ServerConnection, std::net::TcpStream>) {
        let mut bytes = [0; 4096];
        if stream.read(&mut bytes).is_ok() {
            drop(stream.write_all(OK));
            drop(stream.flush());
        }
    }

    fn trusting(address: SocketAddr, host: &str) -> Target {
        let trust = Trust::of_file(&tls_file("authority.pem")).unwrap();
        let target = Target::new(address, "/score").unwrap();
        target.with_tls(trust, host).unwrap()
    }

    #[tokio::test]
    async fn a_server_of_https_answers_and_its_session_is_taken_over_by_the_next_client() {
        // All on one connection: there is no second one.
        let address = secured(vec![|stream| (0..3).for_each(|_| answer(stream))]);
        let target = trusting(address, "127.0.0.1");
        for _ in 0..3 {
            let mut client = Client::new(target.clone(), Duration::from_secs(60));
            let reply = client.exchange(b"{}").await.unwrap();
            assert_eq!((reply.status, &reply.body[..]), (200, &b"ok"[..]));
        }
    }

    #[tokio::test]
    async fn a_large_body_goes_both_ways() {
        let address = secured(vec![|stream| {
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") {
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            let mut body = vec![0; 1 << 20];
            stream.read_exact(&mut body).unwrap();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&body).unwrap();
            stream.flush().unwrap();
        }]);
        let mut client = Client::new(trusting(address, "127.0.0.1"), Duration::from_secs(60));
        let body: Vec<u8> = (0..1 << 20).map(|at: u32| at.to_le_bytes()[1]).collect();
        let reply = client.exchange(&body).await.unwrap();
        assert!(reply.body[..] == body[..], "the same bytes come back");
    }

    #[tokio::test]
    async fn a_session_that_was_closed_while_it_was_idle_is_opened_anew() {
        let address = secured(vec![answer, answer]);
        let mut client = Client::new(trusting(address, "127.0.0.1"), Duration::from_secs(60));
        for _ in 0..2 {
            assert_eq!(client.exchange(b"").await.unwrap().status, 200);
        }
    }

    #[tokio::test]
    async fn a_server_that_nobody_vouches_for_under_this_name_gets_no_request() {
        let refused = |target: Target| async {
            let mut client = Client::new(target, Duration::from_secs(60));
            client.exchange(b"secret").await.unwrap_err().words()
        };
        let silent = |stream: &mut StreamOwned<ServerConnection, std::net::TcpStream>| {
            let mut bytes = [0; 16];
            assert!(stream.read(&mut bytes).is_err(), "nothing is sent");
        };
        let other_name = trusting(secured(vec![silent]), "elsewhere.example");
        let words = refused(other_name).await;
        assert!(
            words.contains("cannot connect") && words.contains("certificate"),
            "{words}"
        );
        // The system does not know the authority of the tests; where it knows none, there is nothing to try.
        if let Ok(trust) = Trust::of_system() {
            let target = Target::new(secured(vec![silent]), "/score").unwrap();
            let words = refused(target.with_tls(trust, "127.0.0.1").unwrap()).await;
            assert!(words.contains("UnknownIssuer"), "{words}");
        }
    }

    #[test]
    fn what_is_no_certificate_or_no_name_is_refused() {
        for file in ["server.key", "make.sh", "missing.pem"] {
            assert!(Trust::of_file(&tls_file(file)).is_err(), "{file}");
        }
        let target = Target::new(SocketAddr::from(([127, 0, 0, 1], 9)), "/score").unwrap();
        let trust = Trust::of_file(&tls_file("authority.pem")).unwrap();
        target.clone().with_tls(trust.clone(), "a b").unwrap_err();
        target.with_tls(trust, "[::1]").unwrap();
    }
}
