//! The socket of one client, between the HTTP parser and the kernel. It tells a client that has ended its side and waits for the
//! answer from one that has left, gives the parser's own refusals a body, and reads little at once of a stranger.
//!
//! A client that has ended its side looks like one that has closed: the kernel says "no more bytes" of both. Only writing tells, for
//! the kernel of one that has closed refuses what comes. So the first bytes of the answer are written ahead of it, for all answers
//! begin alike: one at once, and one more now and then, for a client that listened may leave later. A client that listens has lost
//! nothing; of one that does not, the refusal comes back, and its run is ended.
//!
//! Threads: the one that serves the connection. Not here: what is written.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use crate::config::{LEFT_LOOK_PERIOD, REFUSED_BODY_LINGER, STRANGER_READ_BYTES};
use crate::serve::client::{Client, Stage};
use crate::serve::head::HeadFault;
use crate::serve::refusals::Refusals;

/// The first bytes of every answer, of HTTP/1.0 as of HTTP/1.1.
const BEGINNING: &[u8] = b"HTTP/1.";
/// The place of the status in the head of an answer.
const STATUS: std::ops::Range<usize> = 9..12;

/// A client's socket.
#[derive(Debug)]
pub(super) struct ClientStream {
    stream: TcpStream,
    client: Arc<Client>,
    refusals: Refusals,
    /// The client has ended its side while its answer was written, and the parser does not know it yet.
    end_withheld: bool,
    probe: Option<Probe>,
    refusal: Option<Refusal>,
    linger: Option<Pin<Box<Sleep>>>,
}

/// The beginning of an answer, sent ahead to a client that may have left.
#[derive(Debug)]
struct Probe {
    /// Bytes that the answer need not send again.
    sent: usize,
    /// Looks so far whether they were refused.
    looks: u32,
    next_look: Pin<Box<Sleep>>,
}

/// A refusal that is written instead of the parser's.
#[derive(Debug)]
struct Refusal {
    text: Vec<u8>,
    written: usize,
}

impl ClientStream {
    pub(super) fn new(stream: TcpStream, client: Arc<Client>, refusals: Refusals) -> Self {
        Self {
            stream,
            client,
            refusals,
            end_withheld: false,
            probe: None,
            refusal: None,
            linger: None,
        }
    }

    /// Fails when the client of the request that is being answered has left.
    fn watch(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let probe = match &mut self.probe {
            Some(probe) => probe,
            None => {
                let mut byte = [0];
                match self
                    .stream
                    .poll_peek(context, &mut ReadBuf::new(&mut byte))?
                {
                    Poll::Ready(0) => self.probe.insert(Probe::send(&self.stream)?),
                    // It goes on, or has sent another request already.
                    Poll::Ready(_) | Poll::Pending => return Ok(()),
                }
            }
        };
        loop {
            if let Some(left) = self.stream.take_error()? {
                return Err(left);
            }
            if probe.next_look.as_mut().poll(context).is_pending() {
                return Ok(());
            }
            probe.look_again(&self.stream)?;
        }
    }

    /// Writes what is left of an answer whose beginning is out.
    fn poll_write_rest(
        &mut self,
        context: &mut Context<'_>,
        first: &[u8],
    ) -> Poll<io::Result<usize>> {
        let sent = self.probe.as_ref().map_or(0, |probe| probe.sent);
        let is_out = sent.min(first.len());
        let mut written = is_out;
        if is_out < first.len() {
            written += ready!(Pin::new(&mut self.stream).poll_write(context, &first[is_out..]))?;
        }
        if is_out == sent {
            self.probe = None;
        } else if let Some(probe) = &mut self.probe {
            probe.sent -= is_out;
        }
        Poll::Ready(Ok(written))
    }

    /// Writes a refusal in place of `asked` bytes of the parser's.
    fn poll_write_refusal(
        &mut self,
        context: &mut Context<'_>,
        asked: usize,
    ) -> Poll<io::Result<usize>> {
        let Some(refusal) = &mut self.refusal else {
            return Poll::Ready(Ok(asked));
        };
        while refusal.written < refusal.text.len() {
            let left = &refusal.text[refusal.written..];
            refusal.written += ready!(Pin::new(&mut self.stream).poll_write(context, left))?;
        }
        Poll::Ready(Ok(asked))
    }

    /// Whether what is to be written needs a look: it is no answer of the service, or the beginning of it is out.
    fn needs_look(&self) -> bool {
        self.probe.is_some() || self.client.stage() == Stage::Idle
    }

    fn poll_write_looked_at(
        &mut self,
        context: &mut Context<'_>,
        first: &[u8],
        asked: usize,
    ) -> Poll<io::Result<usize>> {
        let is_refusal = self.client.stage() == Stage::Idle && first.starts_with(BEGINNING);
        if is_refusal && self.refusal.is_none() && first.len() > STATUS.end {
            let text = self.refusals.text(HeadFault::of_status(&first[STATUS]));
            self.refusal = Some(Refusal { text, written: 0 });
        }
        if self.refusal.is_some() {
            return self.poll_write_refusal(context, asked);
        }
        self.poll_write_rest(context, first)
    }

    /// Reads and throws away what a refused client still sends, for a moment, so that it meets the answer and not a reset connection.
    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let over = self
            .linger
            .get_or_insert_with(|| Box::pin(sleep(REFUSED_BODY_LINGER)));
        let mut thrown_away = [0; 4096];
        while over.as_mut().poll(context).is_pending() {
            let mut into = ReadBuf::new(&mut thrown_away);
            let read = ready!(Pin::new(&mut self.stream).poll_read(context, &mut into));
            if read.is_err() || into.filled().is_empty() {
                break;
            }
        }
        Poll::Ready(())
    }
}

impl Probe {
    fn send(stream: &TcpStream) -> io::Result<Self> {
        let mut probe = Self {
            sent: 0,
            looks: 0,
            next_look: Box::pin(sleep(LEFT_LOOK_PERIOD)),
        };
        probe.send_byte(stream)?;
        Ok(probe)
    }

    fn send_byte(&mut self, stream: &TcpStream) -> io::Result<()> {
        let Some(byte) = BEGINNING.get(self.sent..=self.sent) else {
            return Ok(());
        };
        match stream.try_write(byte) {
            Ok(sent) => self.sent += sent,
            // The answer will tell.
            Err(full) if full.kind() == io::ErrorKind::WouldBlock => {}
            Err(left) => return Err(left),
        }
        Ok(())
    }

    /// Sends a byte after 1, 2, 4, 8 and more looks, so that the few there are last for a while.
    fn look_again(&mut self, stream: &TcpStream) -> io::Result<()> {
        self.looks = self.looks.saturating_add(1);
        if self.looks.is_power_of_two() {
            self.send_byte(stream)?;
        }
        self.next_look
            .as_mut()
            .reset(Instant::now() + LEFT_LOOK_PERIOD);
        Ok(())
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        if self.client.stage() == Stage::Idle && !self.client.is_known() {
            let at_most = into.remaining().min(STRANGER_READ_BYTES);
            let mut little = ReadBuf::new(into.initialize_unfilled_to(at_most));
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut little))?;
            let read = little.filled().len();
            into.advance(read);
        } else {
            ready!(Pin::new(&mut self.stream).poll_read(context, into))?;
        }
        // A parser that hears of the end closes the connection, whatever it still has to write.
        if into.filled().len() == before && self.client.stage() == Stage::Answered {
            self.end_withheld = true;
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.needs_look() {
            return self.poll_write_looked_at(context, bytes, bytes.len());
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.needs_look() {
            let first = parts.iter().find(|part| !part.is_empty());
            let asked = parts.iter().map(|part| part.len()).sum();
            return self.poll_write_looked_at(context, first.map_or(&[], |part| part), asked);
        }
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Called at the end of each turn of the parser, when all that it has written is out.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.client.stage() {
            Stage::Idle => {}
            Stage::Asked => self.watch(context)?,
            Stage::Answered => {
                self.client.rests();
                if self.end_withheld {
                    self.end_withheld = false;
                    context.waker().wake_by_ref();
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
        if self.refusal.is_some() || self.client.lingers() {
            ready!(self.poll_linger(context));
        }
        Poll::Ready(Ok(()))
    }
}
