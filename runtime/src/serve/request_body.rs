//! The body of a request on a connection, and what becomes of the part that nobody has read when the answer is there.
//!
//! Many answers are made without the body: 401, 404, 413, 429. Of a client that sends all of it first and reads later, a server that
//! just closes takes its answer away again: the kernel resets the connection. So a short rest is read and thrown away, and the
//! connection goes on; before any other rest the answer says that it is the last, and the socket throws away what still comes.
//!
//! Threads: the one that serves the connection. Not here: the throwing away after the answer (`client_stream`).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::http::HeaderValue;
use axum::http::header::{CONNECTION, EXPECT};
use axum::response::Response;
use bytes::Bytes;
use hyper::Request;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::serve::client::Client;
use crate::serve::rest::Rest;

/// A body that comes from a client. Where it is dropped before its end, the client keeps the rest.
#[derive(Debug)]
pub(super) struct RequestBody {
    rest: Option<Rest>,
    client: Arc<Client>,
}

impl RequestBody {
    /// The body of this request, in its place.
    pub(super) fn of(request: Request<Incoming>, client: Arc<Client>) -> Request<Self> {
        let (parts, incoming) = request.into_parts();
        let rest = (!incoming.is_end_stream()).then(|| Rest {
            is_held_back: parts.headers.contains_key(EXPECT),
            incoming,
        });
        Request::from_parts(parts, Self { rest, client })
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(rest) = &mut self.rest else {
            return Poll::Ready(None);
        };
        rest.is_held_back = false;
        let polled = Pin::new(&mut rest.incoming).poll_frame(context);
        // Of a broken one nothing is left either: the connection ends by itself.
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.rest = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        let rest = self.rest.as_ref();
        rest.is_none_or(|rest| rest.incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.as_ref();
        rest.map_or(SizeHint::with_exact(0), |rest| rest.incoming.size_hint())
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let unread = |rest: &Rest| !rest.incoming.is_end_stream();
        if let Some(rest) = self.rest.take().filter(unread) {
            self.client.keep_rest(rest);
        }
    }
}

/// Marks an answer as its connection's last where the rest of the body does not come at once.
pub(super) async fn see_to_the_rest(client: &Client, mut answer: Response) -> Response {
    let Some(rest) = client.take_rest() else {
        return answer;
    };
    if !rest.ends_soon().await {
        let close = HeaderValue::from_static("close");
        answer.headers_mut().insert(CONNECTION, close);
        client.linger();
    }
    answer
}
