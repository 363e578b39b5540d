//! Reads a body within its bounds: bytes and time. Never copies a body that arrived in one piece.

use std::time::Duration;

use axum::body::HttpBody;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use tokio::time::timeout;

use crate::config::REFUSED_BODY_LINGER;
use crate::serve::Failure;

/// Most that is reserved on a client's word about the length of what it will send.
const RESERVE_BYTES_MAX: u64 = 1024 * 1024;

/// Reads a whole body of at most `bytes_max` bytes, within `within`.
///
/// A body that announces more is refused before any of it is read. What still arrives of a refused body is thrown away for a
/// moment, so that its sender meets the answer and not a reset connection.
///
/// # Errors
///
/// [`Failure::BodyTooLarge`], [`Failure::BodyTooSlow`], [`Failure::BodyBroken`].
pub async fn read_body<B>(mut body: B, bytes_max: usize, within: Duration) -> Result<Bytes, Failure>
where
    B: HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Send + Unpin + 'static,
{
    // No timer is set for a body that is there already: `timeout` looks at the body first.
    let read = match timeout(within, collect(&mut body, bytes_max)).await {
        Ok(read) => read,
        Err(_) => Err(Failure::BodyTooSlow { within }),
    };
    if matches!(read, Err(Failure::BodyTooLarge { .. })) {
        tokio::spawn(timeout(REFUSED_BODY_LINGER, discard(body)));
    }
    read
}

async fn collect<B>(body: &mut B, bytes_max: usize) -> Result<Bytes, Failure>
where
    B: HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Unpin,
{
    let announced = body.size_hint().lower();
    if announced > u64::try_from(bytes_max).unwrap_or(u64::MAX) {
        return Err(Failure::BodyTooLarge { bytes_max });
    }
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(broken)?.into_data() else {
            continue; // trailers
        };
        if first.len() + rest.len() + data.len() > bytes_max {
            return Err(Failure::BodyTooLarge { bytes_max });
        }
        if first.is_empty() && rest.is_empty() {
            first = data;
            continue;
        }
        if rest.is_empty() {
            rest.reserve(usize::try_from(announced.min(RESERVE_BYTES_MAX)).unwrap_or_default());
            rest.extend_from_slice(&std::mem::take(&mut first));
        }
        rest.extend_from_slice(&data);
    }
    Ok(if rest.is_empty() {
        first
    } else {
        rest.freeze()
    })
}

fn broken(error: impl Into<axum::BoxError>) -> Failure {
    Failure::BodyBroken(axum::Error::new(error))
}

async fn discard(mut body: impl HttpBody + Unpin) {
    while let Some(Ok(_)) = body.frame().await {}
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use axum::body::Body;
    use hyper::body::Frame;

    use super::*;

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
