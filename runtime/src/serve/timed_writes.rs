//! A connection whose client must take what is written to it: one that does not, or takes a byte now and then, is cut off, so that
//! the memory of its answer and its place among the connections come back.
//!
//! The clock runs while there is something that the kernel does not take. Each connection has its own; it costs nothing while the
//! client keeps up. Threads: edge. Not here: what is written.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::config::{ANSWER_BYTES_PER_S_MIN, ANSWER_WRITE_MAX};

/// A stream whose writes must make way.
#[derive(Debug)]
pub(super) struct TimedWrites<S> {
    stream: S,
    blocked: Option<Blocked>,
}

/// The time since which the client is behind.
#[derive(Debug)]
struct Blocked {
    since: Instant,
    /// Bytes that it took since then.
    taken: u64,
    timer: Pin<Box<Sleep>>,
}

impl<S> TimedWrites<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            blocked: None,
        }
    }

    /// Keeps the time of a write of `asked` bytes.
    fn watch(
        &mut self,
        context: &mut Context<'_>,
        wrote: Poll<io::Result<usize>>,
        asked: usize,
    ) -> Poll<io::Result<usize>> {
        match wrote {
            Poll::Ready(Ok(bytes)) if bytes < asked => {
                if let Some(blocked) = &mut self.blocked {
                    blocked.taken += u64::try_from(bytes).unwrap_or(u64::MAX);
                }
                wrote
            }
            Poll::Ready(_) => {
                self.blocked = None;
                wrote
            }
            Poll::Pending => {
                let blocked = self.blocked.get_or_insert_with(Blocked::now);
                ready!(blocked.poll_over(context));
                Poll::Ready(Err(ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl Blocked {
    fn now() -> Self {
        let since = Instant::now();
        Self {
            since,
            taken: 0,
            timer: Box::pin(sleep_until(since + ANSWER_WRITE_MAX)),
        }
    }

    /// Ready when the client has had its time.
    fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let earned = Duration::from_secs(self.taken / ANSWER_BYTES_PER_S_MIN);
        let until = self.since + ANSWER_WRITE_MAX + earned;
        if self.timer.deadline() != until {
            self.timer.as_mut().reset(until);
        }
        self.timer.as_mut().poll(context)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedWrites<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimedWrites<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, wrote, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        let asked = parts.iter().map(|part| part.len()).sum();
        self.watch(context, wrote, asked)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_is_cut_off() {
        let (server, _client) = duplex(16);
        let begun = Instant::now();
        let error = TimedWrites::new(server).write_all(&[7; 100]).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::TimedOut);
        // In virtual time.
        assert!(begun.elapsed() < ANSWER_WRITE_MAX * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_byte_now_and_then_buys_no_time() {
        let (server, mut client) = duplex(16);
        let reading = tokio::spawn(async move {
            let mut bytes = 0;
            while client.read_u8().await.is_ok() {
                bytes += 1;
                sleep(Duration::from_secs(1)).await;
            }
            bytes
        });
        let error = TimedWrites::new(server).write_all(&[7; 1000]).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(reading.await.unwrap() < 100);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_goes_on_reading_gets_all_of_a_long_answer() {
        let piece = usize::try_from(2 * ANSWER_BYTES_PER_S_MIN).unwrap();
        let pieces = 100;
        let (server, mut client) = duplex(piece);
        let reading = tokio::spawn(async move {
            let mut buffer = vec![0; piece];
            for _ in 0..pieces {
                client.read_exact(&mut buffer).await.unwrap();
                sleep(Duration::from_secs(1)).await;
            }
        });
        let mut server = TimedWrites::new(server);
        let begun = Instant::now();
        server.write_all(&vec![7; pieces * piece]).await.unwrap();
        assert!(begun.elapsed() > ANSWER_WRITE_MAX);
        reading.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn time_between_answers_does_not_count() {
        let (server, mut client) = duplex(16);
        let mut server = TimedWrites::new(server);
        let mut buffer = [0; 32];
        for _ in 0..3 {
            let (wrote, read) =
                tokio::join!(server.write_all(&[7; 32]), client.read_exact(&mut buffer));
            wrote.unwrap();
            read.unwrap();
            sleep(ANSWER_WRITE_MAX).await;
        }
    }
}
