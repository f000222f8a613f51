//! Answers of HTTP/2, each with a deadline of its own: a client may take nothing of one, by its flow control, and read its
//! connection and answer pings all the same. The one answer is reset then, which ends its guest, and others go on.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use af_contract::limits::LEAST_BYTES_PER_SECOND;
use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

/// Bytes of an answer that are given away at once: a frame of HTTP/2, unless its client wants larger ones.
const PIECE: usize = 16 << 10;

tokio::task_local! {
    static PIECES: Pieces;
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// By itself.
    Done,
    /// Its client took too long over a piece of its answer.
    TooSlow,
}

/// Counts bytes of an answer that were given away, and not taken yet.
#[derive(Clone, Default)]
struct Pieces(Arc<Given>);

#[derive(Default)]
struct Given {
    /// It is odd while a piece has not been taken, and another for each.
    count: AtomicU32,
    bytes: AtomicU32,
}

impl Pieces {
    fn given(&self, bytes: usize) {
        self.0.bytes.store(u32::try_from(bytes).unwrap_or(u32::MAX), Ordering::Relaxed);
        self.0.count.store(self.count().wrapping_add(1) | 1, Ordering::Relaxed);
    }

    fn asked_for(&self) {
        self.0.count.store(self.count().wrapping_add(1) & !1, Ordering::Relaxed);
    }

    /// All of it is one task: nobody else counts meanwhile.
    fn count(&self) -> u32 {
        self.0.count.load(Ordering::Relaxed)
    }

    /// How long a client may take over the piece.
    fn patience(&self, least: Duration) -> Duration {
        let bytes = self.0.bytes.load(Ordering::Relaxed);
        least.saturating_add(Duration::from_secs(1) * bytes / LEAST_BYTES_PER_SECOND)
    }
}

/// Runs a request of HTTP/2, whose answer is [`InPieces`], to its end. Its client may wait for so long before it takes a piece, and a
/// second longer for each 500 bytes of it. An answer that has nothing to give may wait as long as it likes.
pub async fn attend(request: impl Future<Output = ()>, patience: Duration) -> Answered {
    let pieces = Pieces::default();
    let mut request = pin!(PIECES.scope(pieces.clone(), request));
    // Most answers never wait.
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    let mut last = 0;
    poll_fn(|cx| {
        if request.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Answered::Done);
        }
        let count = pieces.count();
        if count % 2 == 0 {
            return Poll::Pending;
        }
        let most = pieces.patience(patience);
        let timer = timer.get_or_insert_with(|| Box::pin(sleep(most)));
        if count != last {
            last = count;
            timer.as_mut().reset(Instant::now() + most);
        }
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Answered::TooSlow)
    })
    .await
}

/// An answer's body, in pieces that are counted.
pub struct InPieces<B> {
    body: B,
    rest: Bytes,
    pieces: Option<Pieces>,
}

impl<B: Body> InPieces<B> {
    /// Of the request that this task answers.
    pub fn new(body: B) -> Self {
        let pieces = PIECES.try_with(Pieces::clone).ok();
        // Its client has to take something before it is asked for any, unless there is none.
        if let Some(pieces) = pieces.as_ref().filter(|_| !body.is_end_stream()) {
            pieces.given(0);
        }
        Self { body, rest: Bytes::new(), pieces }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for InPieces<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        if let Some(pieces) = &this.pieces {
            pieces.asked_for();
        }
        if this.rest.is_empty() {
            let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => this.rest = data,
                Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        let piece = this.rest.split_to(this.rest.len().min(PIECE));
        if let Some(pieces) = this.pieces.as_ref().filter(|_| piece.has_remaining()) {
            pieces.given(piece.len());
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
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

#[cfg(test)]
mod tests;
