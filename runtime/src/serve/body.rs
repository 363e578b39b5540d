//! Reads a body within its bounds: bytes, time, and room for what is large. Never copies a body that arrived in one piece.
//!
//! Threads: edge, and control for administrative requests. Not here: who has room (`bytes_in_flight`).

use std::sync::Arc;
use std::time::Duration;

use axum::body::HttpBody;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout_at};

use crate::config::SMALL_BYTES;
use crate::serve::Failure;
use crate::serve::bytes_in_flight::{BytesInFlight, Room, hold};

/// A body that is whole, and the room that it has if it is large.
#[derive(Debug)]
pub(super) struct HeldBody {
    pub(super) bytes: Bytes,
    pub(super) room: Option<Arc<Room>>,
}

/// Reads a whole body of at most `bytes_max` bytes, within `within`. It takes no room: for bodies that are few and small.
///
/// A body that announces more is refused before any of it is read. What becomes of the rest is the connection's affair.
///
/// # Errors
///
/// [`Failure::BodyTooLarge`], [`Failure::BodyTooSlow`], [`Failure::BodyBroken`].
pub async fn read_body<B>(body: B, bytes_max: usize, within: Duration) -> Result<Bytes, Failure>
where
    B: HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Send + Unpin + 'static,
{
    let reading = Reading::new(body, bytes_max, usize::MAX);
    Ok(reading.collect(None, within).await?.bytes)
}

/// Reads a whole body like [`read_body`]; what is larger than [`SMALL_BYTES`] has room in `bytes` until the last part of it is
/// dropped. Waits for room count against nobody's time to send.
///
/// # Errors
///
/// Those of [`read_body`], and [`Failure::NoRoomForBody`].
pub(super) async fn read_body_with_room<B>(
    body: B,
    bytes: &BytesInFlight,
    within: Duration,
) -> Result<HeldBody, Failure>
where
    B: HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Send + Unpin + 'static,
{
    let reading = Reading::new(body, bytes.body_bytes_max(), SMALL_BYTES);
    reading.collect(Some(bytes), within).await
}

/// A body on its way in.
struct Reading<B> {
    body: B,
    bytes_max: usize,
    /// The length that it announced, at least.
    announced: u64,
    /// Bytes for which there is room.
    granted: usize,
    /// The only piece so far.
    first: Bytes,
    /// All pieces, when there are several.
    joined: Vec<u8>,
    /// A piece that there is no room for yet.
    next: Bytes,
}

/// The point that a body has come to.
enum Step {
    Whole,
    /// It needs room for so many bytes in all to go on.
    NeedsRoom(usize),
}

impl<B> Reading<B>
where
    B: HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Send + Unpin + 'static,
{
    fn new(body: B, bytes_max: usize, granted: usize) -> Self {
        Self {
            announced: body.size_hint().lower(),
            body,
            bytes_max,
            granted,
            first: Bytes::new(),
            joined: Vec::new(),
            next: Bytes::new(),
        }
    }

    async fn collect(
        mut self,
        bytes: Option<&BytesInFlight>,
        within: Duration,
    ) -> Result<HeldBody, Failure> {
        let mut room = None;
        self.read(bytes, &mut room, within).await?;
        Ok(self.whole(room))
    }

    async fn read(
        &mut self,
        bytes: Option<&BytesInFlight>,
        room: &mut Option<Room>,
        within: Duration,
    ) -> Result<(), Failure> {
        let mut until = Instant::now() + within;
        loop {
            // No timer is set for a body that is there already: `timeout_at` looks at the body first.
            let step = timeout_at(until, self.fill()).await;
            match step.map_err(|_| Failure::BodyTooSlow { within })?? {
                Step::Whole => return Ok(()),
                Step::NeedsRoom(wanted) => {
                    if let Some(bytes) = bytes {
                        let began = Instant::now();
                        let room = room.get_or_insert_with(|| bytes.room());
                        let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
                        room.grow(wanted).await.map_err(Failure::NoRoomForBody)?;
                        until += began.elapsed();
                    }
                    self.granted = wanted;
                }
            }
        }
    }

    /// Reads until the end, or until there is no room for what has come.
    ///
    /// # Cancel safety
    ///
    /// A piece that has come is kept before anything else is waited for.
    async fn fill(&mut self) -> Result<Step, Failure> {
        if self.announced > u64::try_from(self.bytes_max).unwrap_or(u64::MAX) {
            return Err(self.too_large());
        }
        loop {
            let len = self.len() + self.next.len();
            if len > self.bytes_max {
                return Err(self.too_large());
            }
            if len > self.granted {
                return Ok(Step::NeedsRoom(self.room_for(len)));
            }
            self.join();
            let Some(frame) = self.body.frame().await else {
                return Ok(Step::Whole);
            };
            if let Ok(data) = frame.map_err(broken)?.into_data() {
                self.next = data;
            } // else trailers
        }
    }

    fn len(&self) -> usize {
        self.first.len() + self.joined.len()
    }

    /// The room to ask for when there must be some for `len` bytes: for as much again, and not for more than can come.
    fn room_for(&self, len: usize) -> usize {
        let most = usize::try_from(self.announced).unwrap_or(usize::MAX);
        // A body of which the length is not announced may be as long as any.
        let most = if most == 0 { self.bytes_max } else { most };
        len.max(len.saturating_mul(2).min(most))
    }

    /// Takes the next piece to the others.
    fn join(&mut self) {
        let next = std::mem::take(&mut self.next);
        if self.len() == 0 {
            self.first = next;
            return;
        }
        if next.is_empty() {
            return;
        }
        let len = self.len() + next.len();
        if self.joined.capacity() < len {
            // All that was announced, as far as there is room: so much a client has shown to be true.
            let capacity = match usize::try_from(self.announced) {
                Ok(announced) if announced >= len => announced,
                _ => self.room_for(len),
            };
            let capacity = capacity.min(self.granted).max(len);
            self.joined.reserve_exact(capacity - self.joined.len());
        }
        self.joined
            .extend_from_slice(&std::mem::take(&mut self.first));
        self.joined.extend_from_slice(&next);
    }

    fn whole(self, room: Option<Room>) -> HeldBody {
        let room = room.map(Arc::new);
        let bytes = match &room {
            Some(room) if self.joined.is_empty() => hold(self.first, Arc::clone(room)),
            Some(room) => hold(self.joined, Arc::clone(room)),
            None if self.joined.is_empty() => self.first,
            None => self.joined.into(),
        };
        HeldBody { bytes, room }
    }

    fn too_large(&self) -> Failure {
        Failure::BodyTooLarge {
            bytes_max: self.bytes_max,
        }
    }
}

fn broken(error: impl Into<axum::BoxError>) -> Failure {
    Failure::BodyBroken(axum::Error::new(error))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use axum::body::Body;
    use hyper::body::Frame;

    use super::*;
    use crate::config::ROOM_WAIT_MAX;
    use crate::observe::Metrics;

    /// A body in pieces that does not announce its length; after the last piece it ends, or stays silent.
    struct Pieces {
        left: Vec<&'static [u8]>,
        ends: bool,
    }

    impl HttpBody for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            if self.left.is_empty() {
                return if self.ends {
                    Poll::Ready(None)
                } else {
                    Poll::Pending
                };
            }
            let piece = self.left.remove(0);
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(piece)))))
        }
    }

    fn pieces(left: &[&'static [u8]], ends: bool) -> Body {
        Body::new(Pieces {
            left: left.to_vec(),
            ends,
        })
    }

    const SOON: Duration = Duration::from_secs(5);

    const KIB: usize = 1024;
    static PIECE: [u8; 64 * KIB] = [b'x'; 64 * KIB];

    /// Room for bodies of 1 MiB, and for so many bytes in all.
    fn bytes_in_flight(bytes_max: usize) -> BytesInFlight {
        let bytes_max = u64::try_from(bytes_max).unwrap();
        BytesInFlight::new(bytes_max, 1024 * KIB, &Metrics::new())
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_body_of_no_announced_length_has_room_until_its_last_part_is_dropped() {
        let bytes = bytes_in_flight(1024 * KIB);
        let body = pieces(&[&PIECE, &PIECE, &PIECE], true);
        let HeldBody { bytes: body, room } = read_body_with_room(body, &bytes, SOON).await.unwrap();
        assert_eq!(body.len(), 3 * PIECE.len());
        assert_eq!(bytes.held(), 256 * KIB);
        drop(room);
        let part = body.slice(5..6);
        drop(body);
        assert_eq!(bytes.held(), 256 * KIB);
        drop(part);
        assert_eq!(bytes.held(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_small_body_needs_no_room_and_a_silent_large_one_holds_no_more_than_twice_what_it_sent()
     {
        let bytes = bytes_in_flight(2048 * KIB);
        let silent = bytes.clone();
        let silent = tokio::spawn(async move {
            read_body_with_room(pieces(&[&PIECE, b"y"], false), &silent, SOON)
                .await
                .map(drop)
        });
        while bytes.held() == 0 {
            tokio::task::yield_now().await;
        }
        assert!(bytes.held() <= 2 * (PIECE.len() + 1), "{}", bytes.held());
        let body = read_body_with_room(pieces(&[&PIECE], true), &bytes, SOON).await;
        assert!(body.unwrap().room.is_none());
        assert_eq!(silent.await.unwrap().unwrap_err().status().as_u16(), 408);
        assert_eq!(bytes.held(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_gets_no_room_is_503_and_its_wait_is_not_counted_as_slow_sending() {
        let bytes = bytes_in_flight(1024 * KIB);
        let mut reserve = bytes.room();
        reserve.grow(1).await.unwrap();
        let failure = read_body_with_room(pieces(&[&PIECE, b"y"], true), &bytes, SOON).await;
        let failure = failure.unwrap_err();
        assert_eq!(
            (failure.status().as_u16(), failure.retry_after_s()),
            (503, Some(5))
        );
        assert!(
            failure.to_string().contains("--bytes-in-flight-max"),
            "{failure}"
        );
        // Room comes when the time to send would be over.
        assert!(SOON < ROOM_WAIT_MAX);
        let waiting = read_body_with_room(pieces(&[&PIECE, b"y"], true), &bytes, SOON);
        let freed = async {
            tokio::time::sleep(SOON + Duration::from_millis(1)).await;
            drop(reserve);
        };
        let (body, ()) = tokio::join!(waiting, freed);
        assert_eq!(body.unwrap().bytes.len(), PIECE.len() + 1);
    }

    #[tokio::test]
    async fn pieces_are_joined_up_to_the_bound() {
        let read = read_body(pieces(&[b"ab", b"", b"cd", b"e"], true), 5, SOON)
            .await
            .unwrap();
        assert_eq!(read, "abcde");
        let failure = read_body(pieces(&[b"ab", b"cd", b"ef"], true), 5, SOON)
            .await
            .unwrap_err();
        assert_eq!(failure.to_string(), "the body is larger than 5 bytes");
    }

    #[tokio::test]
    async fn one_piece_is_not_copied() {
        let sent = Bytes::from(vec![b'x'; 100]);
        let read = read_body(Body::from(sent.clone()), 100, SOON)
            .await
            .unwrap();
        assert_eq!(read.as_ptr(), sent.as_ptr());
    }

    #[tokio::test]
    async fn an_announced_excess_is_refused_before_any_of_it_is_read() {
        let failure = read_body(Body::from(vec![0; 6]), 5, SOON)
            .await
            .unwrap_err();
        assert_eq!(failure.status().as_u16(), 413);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stalls_is_given_up() {
        let failure = read_body(pieces(&[b"ab"], false), 5, SOON)
            .await
            .unwrap_err();
        assert_eq!(
            (failure.status().as_u16(), failure.to_string().as_str()),
            (408, "the body did not arrive within 5 s")
        );
    }
}
