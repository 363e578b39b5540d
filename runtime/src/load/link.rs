//! The bytes of one connection: as they are, or through TLS (https).
//!
//! A connection with its session outlives the runtime that it was opened in, so that a handshake is never within a block of load but for its
//! first one.
//!
//! Not here: what the bytes mean (`wire`), which connection a request takes (`connection`).

use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::SocketAddr;

use bytes::BytesMut;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::trust::{Trust, TrustError, name_in_certificates};

/// Room that a read has at least.
const READ_BYTES: usize = 16 * 1024;

/// The name by which a server must be known, and by whom.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    trust: Trust,
    name: ServerName<'static>,
}

impl Peer {
    /// By the host of an address, without its port.
    pub(super) fn new(trust: Trust, host: &str) -> Result<Self, TrustError> {
        let name = name_in_certificates(host)?;
        Ok(Self { trust, name })
    }
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Link {
    stream: TcpStream,
    session: Option<Box<Session>>,
}

/// TLS on a connection.
#[derive(Debug)]
struct Session {
    tls: ClientConnection,
    /// Room for what comes from the socket; here and not in a future, which would be as large.
    bytes: Vec<u8>,
}

/// The same, in no runtime.
#[derive(Debug)]
pub(super) struct Idle {
    stream: std::net::TcpStream,
    session: Option<Box<Session>>,
}

impl Idle {
    /// Within a runtime.
    pub(super) fn wake(self) -> io::Result<Link> {
        Ok(Link {
            stream: TcpStream::from_std(self.stream)?,
            session: self.session,
        })
    }
}

impl Link {
    /// Connects, and knows the server where one must.
    pub(super) async fn open(address: SocketAddr, peer: Option<&Peer>) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        // Small writes must not wait for each other.
        stream.set_nodelay(true)?;
        let mut link = Self {
            stream,
            session: None,
        };
        let Some(Peer { trust, name }) = peer else {
            return Ok(link);
        };
        let tls = ClientConnection::new(trust.config(), name.clone());
        let mut tls = tls.map_err(io::Error::other)?;
        // A body waits whole: the request is written at once.
        tls.set_buffer_limit(None);
        link.session = Some(Box::new(Session {
            tls,
            bytes: vec![0; READ_BYTES],
        }));
        link.shake_hands().await?;
        Ok(link)
    }

    async fn shake_hands(&mut self) -> io::Result<()> {
        loop {
            self.flush().await?;
            match &self.session {
                Some(session) if session.tls.is_handshaking() => {}
                _ => return Ok(()),
            }
            if self.receive().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    pub(super) fn sleep(self) -> io::Result<Idle> {
        Ok(Idle {
            stream: self.stream.into_std()?,
            session: self.session,
        })
    }

    /// Whether the server has left an idle connection open. Costs no system call where nothing has happened on it. Through TLS there may be
    /// tickets for later sessions.
    pub(super) fn is_open(&mut self) -> bool {
        let would_block = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
        let Some(session) = &mut self.session else {
            return self
                .stream
                .try_read(&mut [0])
                .is_err_and(|error| would_block(&error));
        };
        loop {
            let Session { tls, bytes } = &mut **session;
            match self.stream.try_read(bytes) {
                Err(error) => return would_block(&error),
                Ok(0) => return false,
                Ok(count) => {
                    let plain = take_in(tls, &bytes[..count]);
                    if !plain.is_ok_and(|plain| plain == 0) {
                        return false;
                    }
                }
            }
        }
    }

    /// Writes head and body, in one system call where the socket takes them.
    pub(super) async fn write(&mut self, head: &[u8], body: &[u8]) -> io::Result<()> {
        if let Some(session) = &mut self.session {
            session.tls.writer().write_all(head)?;
            session.tls.writer().write_all(body)?;
            return self.flush().await;
        }
        let mut slices = [IoSlice::new(head), IoSlice::new(body)];
        let mut left = &mut slices[..];
        while !left.is_empty() {
            match self.stream.write_vectored(left).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => IoSlice::advance_slices(&mut left, written),
            }
        }
        Ok(())
    }

    /// Adds what comes next; 0 at the end. An end that TLS did not announce is an error: it may have been made by somebody else.
    pub(super) async fn read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        buffer.reserve(READ_BYTES);
        if self.session.is_none() {
            return self.stream.read_buf(buffer).await;
        }
        loop {
            if let Some(session) = &mut self.session {
                let start = buffer.len();
                buffer.resize(start + READ_BYTES, 0);
                let found = session.tls.reader().read(&mut buffer[start..]);
                buffer.truncate(start + found.as_ref().copied().unwrap_or(0));
                match found {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    found => return found,
                }
            }
            self.flush().await?;
            self.receive().await?;
        }
    }

    /// Sends what the session has to say.
    async fn flush(&mut self) -> io::Result<()> {
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        let mut bytes = Vec::new();
        while session.tls.wants_write() {
            session.tls.write_tls(&mut bytes)?;
        }
        self.stream.write_all(&bytes).await
    }

    /// Gives the session what comes next; how much that was.
    async fn receive(&mut self) -> io::Result<usize> {
        let Some(session) = &mut self.session else {
            return Ok(0);
        };
        let Session { tls, bytes } = &mut **session;
        let count = self.stream.read(bytes).await?;
        take_in(tls, &bytes[..count])?;
        Ok(count)
    }
}

/// Gives a session bytes, none for the end; how many it has for who reads.
fn take_in(session: &mut ClientConnection, mut bytes: &[u8]) -> io::Result<usize> {
    let mut plain = 0;
    loop {
        session.read_tls(&mut bytes)?;
        let state = session.process_new_packets().map_err(io::Error::other)?;
        plain = state.plaintext_bytes_to_read().max(plain);
        if bytes.is_empty() {
            return Ok(plain);
        }
    }
}
