//! The bytes of a response: when it is whole, and what is in it. Pure.
//!
//! `httparse` reads the head; here is what frames the body (RFC 9112, section 6.3): a length, chunks, or the end of the
//! connection.

use std::str;

use bytes::{Buf as _, Bytes, BytesMut};
use httparse::{EMPTY_HEADER, Status, parse_chunk_size};

/// Most headers of a response.
const HEADERS_MAX: usize = 64;
/// Longest head of a response.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Longest body of a response.
const BODY_BYTES_MAX: usize = 1 << 30;

/// The reason why what came is no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotHttp {
    /// The head.
    #[error("its head is malformed: {0}")]
    Head(#[from] httparse::Error),
    /// The head does not end.
    #[error("its head is longer than {HEAD_BYTES_MAX} bytes")]
    LongHead,
    /// The length of the body.
    #[error("its content-length is no number")]
    Length,
    /// A chunk of the body.
    #[error("a chunk of its body is malformed")]
    Chunk,
    /// The body does not end.
    #[error("its body is longer than {BODY_BYTES_MAX} bytes")]
    LongBody,
    /// The connection ended within it.
    #[error("the connection was closed before it was whole")]
    Cut,
}

/// The content of the head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) deployment: Option<String>,
    /// Another request may follow on this connection.
    pub(super) keeps_open: bool,
    framing: Framing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunks,
    UntilClosed,
}

/// A response that comes in pieces.
#[derive(Debug, Default)]
pub(super) struct Reading {
    head: Option<Head>,
    /// The content of the chunks so far.
    chunks: BytesMut,
}

impl Reading {
    /// Takes what it can from the front of `buffer`; the response when it is whole.
    pub(super) fn more(&mut self, buffer: &mut BytesMut) -> Result<Option<(Head, Bytes)>, NotHttp> {
        while self.head.is_none() {
            match Head::parse(buffer)? {
                // Interim responses are followed by the one that counts (RFC 9110, section 15.2).
                Some((head, length)) => {
                    buffer.advance(length);
                    self.head = (head.status >= 200).then_some(head);
                }
                None if buffer.len() > HEAD_BYTES_MAX => return Err(NotHttp::LongHead),
                None => return Ok(None),
            }
        }
        let framing = self.head.as_ref().map(|head| head.framing);
        let body = match framing {
            Some(Framing::Length(length)) if buffer.len() >= length => buffer.split_to(length),
            Some(Framing::Chunks) if self.take_chunks(buffer)? => self.chunks.split(),
            _ if buffer.len() > BODY_BYTES_MAX => return Err(NotHttp::LongBody),
            _ => return Ok(None),
        };
        Ok(self.head.take().map(|head| (head, body.freeze())))
    }

    /// The connection ended.
    pub(super) fn ended(
        &mut self,
        buffer: &mut BytesMut,
    ) -> Result<Option<(Head, Bytes)>, NotHttp> {
        match self.head.take() {
            Some(head) if head.framing == Framing::UntilClosed => {
                Ok(Some((head, buffer.split().freeze())))
            }
            _ => Err(NotHttp::Cut),
        }
    }

    /// Moves whole chunks over; whether the last one was among them.
    fn take_chunks(&mut self, buffer: &mut BytesMut) -> Result<bool, NotHttp> {
        const LINE_END: usize = 2;
        loop {
            let Ok(parsed) = parse_chunk_size(buffer) else {
                return Err(NotHttp::Chunk);
            };
            let Status::Complete((line, size)) = parsed else {
                return Ok(false);
            };
            let size = usize::try_from(size).map_err(|_| NotHttp::LongBody)?;
            if size == 0 {
                return Ok(take_trailers(buffer, line));
            }
            if self.chunks.len().saturating_add(size) > BODY_BYTES_MAX {
                return Err(NotHttp::LongBody);
            }
            if buffer.len() < line + size + LINE_END {
                return Ok(false);
            }
            buffer.advance(line);
            self.chunks.extend_from_slice(&buffer[..size]);
            buffer.advance(size);
            if !buffer.starts_with(b"\r\n") {
                return Err(NotHttp::Chunk);
            }
            buffer.advance(LINE_END);
        }
    }
}

/// Takes the last chunk's line and what follows it, up to an empty line; false when that has not come yet.
fn take_trailers(buffer: &mut BytesMut, line: usize) -> bool {
    // The empty line may follow the last chunk's line at once.
    let from = line.saturating_sub(2);
    let end = buffer[from..]
        .windows(4)
        .position(|bytes| bytes == b"\r\n\r\n");
    if let Some(end) = end {
        buffer.advance(from + end + 4);
    }
    end.is_some()
}

impl Head {
    /// The head at the front of `bytes` and its length; none when it is not whole.
    fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, NotHttp> {
        let mut headers = [EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let Status::Complete(length) = response.parse(bytes)? else {
            return Ok(None);
        };
        let status = response.code.unwrap_or_default();
        let mut head = Self {
            status,
            deployment: None,
            keeps_open: response.version == Some(1),
            framing: match status {
                204 | 304 => Framing::Length(0),
                _ => Framing::UntilClosed,
            },
        };
        for header in response.headers.iter() {
            head.learn(header.name, header.value)?;
        }
        head.keeps_open &= head.framing != Framing::UntilClosed;
        Ok(Some((head, length)))
    }

    fn learn(&mut self, name: &str, value: &[u8]) -> Result<(), NotHttp> {
        let text = || str::from_utf8(value).unwrap_or_default().trim();
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        if is("content-length") {
            let length = text().parse().map_err(|_| NotHttp::Length)?;
            if length > BODY_BYTES_MAX {
                return Err(NotHttp::LongBody);
            }
            // Chunks win over a length (RFC 9112, section 6.3).
            if self.framing == Framing::UntilClosed {
                self.framing = Framing::Length(length);
            }
        } else if is("transfer-encoding") {
            if text().to_ascii_lowercase().ends_with("chunked") {
                self.framing = Framing::Chunks;
            }
        } else if is("connection") {
            let mut options = text().split(',').map(str::trim);
            if options.any(|option| option.eq_ignore_ascii_case("close")) {
                self.keeps_open = false;
            }
        } else if is("azureml-model-deployment") {
            self.deployment = Some(text().to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds a response in pieces of a size; what came of it, and what was left over.
    fn read(bytes: &[u8], piece: usize) -> Result<Option<(Head, Bytes)>, NotHttp> {
        let mut reading = Reading::default();
        let mut buffer = BytesMut::new();
        for piece in bytes.chunks(piece) {
            buffer.extend_from_slice(piece);
            if let Some(whole) = reading.more(&mut buffer)? {
                assert!(buffer.is_empty(), "{buffer:?}");
                return Ok(Some(whole));
            }
        }
        reading.ended(&mut buffer)
    }

    #[test]
    fn a_body_is_framed_by_length_by_chunks_or_by_the_end() {
        for (bytes, keeps_open) in [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nazureml-model-deployment: blue\r\n\r\nhello",
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nazureml-model-deployment: blue\r\n\r\n\
                 2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\
                 azureml-model-deployment: blue\r\n\r\n5\r\nhello\r\n0\r\ntrailer: x\r\n\r\n",
                true,
            ),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nconnection: Close\r\ncontent-length: 5\r\n\
                 azureml-model-deployment: blue\r\n\r\nhello",
                false,
            ),
            (
                "HTTP/1.1 200 OK\r\nazureml-model-deployment: blue\r\n\r\nhello",
                false,
            ),
            (
                "HTTP/1.0 200 OK\r\ncontent-length: 5\r\nazureml-model-deployment: blue\r\n\r\nhello",
                false,
            ),
        ] {
            for piece in [1, 2, 3, 7, 1000] {
                let (head, body) = read(bytes.as_bytes(), piece).unwrap().unwrap();
                assert_eq!(head.status, 200, "{bytes}");
                assert_eq!(head.deployment.as_deref(), Some("blue"), "{bytes}");
                assert_eq!(head.keeps_open, keeps_open, "{bytes}");
                assert_eq!(&body[..], b"hello", "{bytes}");
            }
        }
    }

    #[test]
    fn a_status_without_a_body_needs_no_length() {
        let (head, body) = read(b"HTTP/1.1 204 No Content\r\n\r\n", 100)
            .unwrap()
            .unwrap();
        assert!(head.status == 204 && head.keeps_open && body.is_empty());
    }

    #[test]
    fn what_is_no_response_is_refused() {
        let refused = |bytes: &str| read(bytes.as_bytes(), 8).unwrap_err();
        assert!(matches!(refused("SSH-2.0-x\r\n\r\n"), NotHttp::Head(_)));
        assert_eq!(
            refused("HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n"),
            NotHttp::Length
        );
        assert_eq!(
            refused("HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n"),
            NotHttp::LongBody
        );
        let chunks = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        assert_eq!(refused(&format!("{chunks}zz\r\n")), NotHttp::Chunk);
        assert_eq!(refused(&format!("{chunks}1\r\nabc\r\n")), NotHttp::Chunk);
        for cut in [
            "",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell",
        ] {
            assert_eq!(refused(cut), NotHttp::Cut);
        }
        let long = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(HEAD_BYTES_MAX));
        assert_eq!(refused(&long), NotHttp::LongHead);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_response_or_refused(bytes: Vec<u8>, piece in 1..9_usize) {
            drop(read(&bytes, piece));
            let after = [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", &bytes[..]].concat();
            let mut buffer = BytesMut::from(&after[..]);
            drop(Reading::default().more(&mut buffer));
        }
    }
}
