//! Requests of an HTTP/2 connection, each with a deadline of its own: a client may take nothing of one answer, by its flow control,
//! and read its connection all the same. The one answer is reset then, and others go on.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::BoxError;
use axum::body::{Body, HttpBody};
use axum::http::Response;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use hyper::rt::Executor;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::activity::Activity;

/// Bytes of an answer that are given away at once: a frame of HTTP/2, unless its client wants larger ones.
const PIECE: usize = 16 << 10;

tokio::task_local! {
    static PIECES: Pieces;
}

/// Runs requests of a connection of HTTP/2, and ends those whose client takes no piece of their answer for so long.
#[derive(Clone)]
pub(super) struct Streams {
    patience: Duration,
    activity: Arc<Activity>,
}

impl Streams {
    pub(super) const fn new(patience: Duration, activity: Arc<Activity>) -> Self {
        Self { patience, activity }
    }
}

/// A request, until it is dropped.
struct Begun(Arc<Activity>);

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, request: F) {
        self.activity.begin();
        let (begun, patience) = (Begun(self.activity.clone()), self.patience);
        tokio::spawn(async move {
            patient(request, patience).await;
            drop(begun);
        });
    }
}

/// Counts pieces of an answer that were given away, and asked for: it is odd while the last one has not been taken.
#[derive(Clone, Default)]
struct Pieces(Arc<AtomicU32>);

impl Pieces {
    fn given(&self) {
        self.0.store(self.count().wrapping_add(1) | 1, Ordering::Relaxed);
    }

    fn asked_for(&self) {
        self.0.store(self.count().wrapping_add(1) & !1, Ordering::Relaxed);
    }

    /// All of it is one task: nobody else counts meanwhile.
    fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

async fn patient(request: impl Future<Output = ()>, patience: Duration) {
    let pieces = Pieces::default();
    let mut request = pin!(PIECES.scope(pieces.clone(), request));
    let mut timer = pin!(sleep_until(Instant::now()));
    let mut last = 0;
    poll_fn(|cx| {
        if request.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let count = pieces.count();
        if count % 2 == 0 {
            return Poll::Pending;
        }
        if count != last {
            last = count;
            timer.as_mut().reset(Instant::now() + patience);
        }
        ready!(timer.as_mut().poll(cx));
        debug!("a client does not read an answer that it asked for");
        Poll::Ready(())
    })
    .await;
}

/// An answer in pieces, where it is one of HTTP/2's.
pub(super) fn in_pieces(answer: Response<Body>) -> Response<Body> {
    match PIECES.try_with(Pieces::clone) {
        Ok(pieces) if !answer.body().is_end_stream() => {
            // Its client has to take something before the body is asked for any: without a window it never is.
            pieces.given();
            answer.map(|body| Body::new(InPieces { body, rest: Bytes::new(), pieces }))
        }
        _ => answer,
    }
}

struct InPieces {
    body: Body,
    rest: Bytes,
    pieces: Pieces,
}

impl InPieces {
    /// Copied: whatever holds all of it must not be held by what is on its way.
    fn piece(&mut self) -> Option<Bytes> {
        let piece = self.rest.split_to(self.rest.len().min(PIECE));
        (!piece.is_empty()).then(|| Bytes::copy_from_slice(&piece))
    }
}

impl HttpBody for InPieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.pieces.asked_for();
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)).map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => self.rest = data,
                Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => return Poll::Ready(None),
            }
        }
        let piece = self.piece().unwrap_or_default();
        if !piece.is_empty() {
            self.pieces.given();
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    // It has no end before the last piece was taken: until then somebody asks for more.
    fn is_end_stream(&self) -> bool {
        false
    }

    fn size_hint(&self) -> SizeHint {
        let rest = u64::try_from(self.rest.len()).unwrap_or(u64::MAX);
        let body = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower().saturating_add(rest));
        if let Some(upper) = body.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint
    }
}
