//! Request and response bodies: streamed, counted and cut at their limits.

use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use af_content::gateway::{GatewayBody, GatewayBodyError};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::time::{Sleep, sleep};
use tokio_util::task::TaskTracker;
use wasmtime_wasi_http::{Error, WasiBody};

use super::compress::Compressed;
use crate::proxy::{ProxyError, UpstreamBody};
use crate::sandbox::{Exceeded, GuestBody, GuestError, Meter};
use crate::site::{FileBody, FileBodyError};

/// A request body: nothing, or one that ends with an error, and the call with 413, where it exceeds `limit` bytes, or
/// with 408 where the client lets the function wait for longer than `patience` in all, and what it has sent is worth.
pub fn limited(body: Incoming, limit: u64, patience: Duration, taken: Taken) -> WasiBody {
    if body.is_end_stream() {
        taken.received.whole();
        return WasiBody::default();
    }
    Limited { body, left: limit, limit, patience, most: patience, waiting: None, taken }.boxed_unsync()
}

/// Who looks on while a guest takes a request.
pub struct Taken {
    /// Of the call.
    pub meter: Arc<Meter>,
    /// When the guest had all of it.
    pub received: Received,
}

/// Since when a guest has all of a request, or that it will never have.
#[derive(Clone, Default)]
pub struct Received(Arc<OnceLock<End>>);

/// How a request's body ended.
enum End {
    Whole(Instant),
    /// The client went away before.
    Broken,
}

impl Received {
    fn whole(&self) {
        self.0.get_or_init(|| End::Whole(Instant::now()));
    }

    fn broke(&self) {
        self.0.get_or_init(|| End::Broken);
    }

    /// Whether the guest had to do with a part of what its client wanted to send: whatever it makes of that says nothing of it.
    pub fn is_broken(&self) -> bool {
        matches!(self.0.get(), Some(End::Broken))
    }

    /// For how long; nothing, where the client has not sent all, or the guest has not read it.
    pub fn since(&self, now: Instant) -> Duration {
        match self.0.get() {
            Some(End::Whole(since)) => now.saturating_duration_since(*since),
            Some(End::Broken) | None => Duration::ZERO,
        }
    }
}

struct Limited {
    body: Incoming,
    left: u64,
    limit: u64,
    /// How much longer may be waited, and the most that that can be.
    patience: Duration,
    most: Duration,
    /// Since when, and until when.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
    taken: Taken,
}

impl Limited {
    fn fail(&self, limit: Exceeded, error: Error) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.taken.meter.exceed(limit);
        Poll::Ready(Some(Err(error)))
    }

    /// So many bytes have come.
    fn received(&mut self, bytes: u64) {
        let waited = self.waiting.take().map_or(Duration::ZERO, |(since, _)| since.elapsed());
        let earned = Duration::from_millis(
            bytes.saturating_mul(1000) / u64::from(af_contract::limits::LEAST_BYTES_PER_SECOND),
        );
        self.patience = self.patience.saturating_sub(waited).saturating_add(earned).min(self.most);
    }

    /// Ready when it has been waited for long enough.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let patience = self.patience;
        let (_, timer) = self.waiting.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(patience))));
        timer.as_mut().poll(cx)
    }
}

/// Whether the client's bytes are none of a body, as its connection found.
fn is_malformed(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    cause.is_some_and(|cause| cause.kind() == ErrorKind::InvalidData)
}

impl Body for Limited {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => frame,
            Poll::Ready(Some(Err(error))) if is_malformed(&error) => {
                return self.fail(Exceeded::RequestMalformed, Error::Hyper(error));
            }
            Poll::Ready(Some(Err(error))) => {
                self.taken.received.broke();
                return Poll::Ready(Some(Err(Error::Hyper(error))));
            }
            Poll::Ready(None) => {
                self.taken.received.whole();
                return Poll::Ready(None);
            }
            Poll::Pending => {
                ready!(self.poll_patience(cx));
                return self.fail(Exceeded::RequestSlow, Error::ConnectionReadTimeout);
            }
        };
        let size = frame.data_ref().map_or(0, |data| data.len() as u64);
        self.received(size);
        match self.left.checked_sub(size) {
            Some(left) => self.left = left,
            None => return self.fail(Exceeded::RequestBody, Error::HttpRequestBodySize(Some(self.limit))),
        }
        // Whoever sees that this was the last one does not ask for another.
        if self.body.is_end_stream() {
            self.taken.received.whole();
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What the edge sends: a guest's body, a site's file, or a text of its own.
pub enum ResponseBody {
    /// Of the edge itself.
    Full(Full<Bytes>),
    /// Of a guest that is still running while this is read.
    Guest(Box<Attended>),
    /// Of a site, read while this is.
    File(Box<FileBody>),
    /// Of the gateway.
    Gateway(Box<GatewayBody>),
    /// Of a backend.
    Upstream(Box<UpstreamBody>),
    /// Of any, compressed while it is sent.
    Compressed(Box<Compressed>),
    /// Of any, with somebody who looks on.
    Watched(Box<Watched>),
}

/// Why a body breaks off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The guest failed.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// The backend failed.
    #[error(transparent)]
    Upstream(#[from] ProxyError),
    /// The content is damaged.
    #[error(transparent)]
    File(#[from] FileBodyError),
    /// Likewise, or the client was too slow.
    #[error(transparent)]
    Gateway(#[from] GatewayBodyError),
}

impl Default for ResponseBody {
    /// Empty.
    fn default() -> Self {
        Self::Full(Full::default())
    }
}

/// Looks on while a body is sent. Dropped with the body, sent or not.
pub trait Watcher: Send {
    /// So many bytes more were asked for.
    fn sent(&mut self, bytes: usize);

    /// Whoever answers failed before the end.
    fn broke(&mut self) {}
}

/// A body and who looks on.
pub struct Watched {
    body: ResponseBody,
    watcher: Box<dyn Watcher>,
}

impl ResponseBody {
    /// Lets somebody look on.
    #[must_use]
    pub fn watched(self, watcher: Box<dyn Watcher>) -> Self {
        Self::Watched(Box::new(Watched { body: self, watcher }))
    }

    /// Whether all of it is here, and nobody has to do anything for it any more.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        match self {
            Self::Full(_) => true,
            Self::Guest(_) | Self::Upstream(_) | Self::File(_) | Self::Gateway(_) | Self::Compressed(_) => {
                false
            }
            Self::Watched(watched) => watched.body.is_complete(),
        }
    }

    pub(crate) fn file(body: FileBody) -> Self {
        Self::File(Box::new(body))
    }

    pub(crate) fn gateway(body: GatewayBody) -> Self {
        Self::Gateway(Box::new(body))
    }

    pub(crate) fn full(text: impl Into<Bytes>) -> Self {
        Self::Full(Full::new(text.into()))
    }

    pub(super) fn guest(body: GuestBody, background: &TaskTracker) -> Self {
        let mut attended = Attended { body, background: background.clone() };
        match attended.body.whole() {
            Some(whole) => Self::full(whole),
            None => Self::Guest(Box::new(attended)),
        }
    }
}

/// A guest's body, and who looks after the guest when the body is done.
pub struct Attended {
    body: GuestBody,
    background: TaskTracker,
}

impl Drop for Attended {
    fn drop(&mut self) {
        if let Some(rest) = self.body.take_rest() {
            self.background.spawn(rest);
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Full(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
            Self::File(file) => Pin::new(file.as_mut()).poll_frame(cx).map_err(BodyError::from),
            Self::Gateway(body) => Pin::new(body.as_mut()).poll_frame(cx).map_err(BodyError::from),
            Self::Guest(guest) => Pin::new(&mut guest.body).poll_frame(cx).map_err(BodyError::Guest),
            Self::Upstream(body) => Pin::new(body).poll_frame(cx).map_err(BodyError::Upstream),
            Self::Compressed(compressed) => compressed.poll_frame(cx),
            Self::Watched(watched) => {
                let polled = Pin::new(&mut watched.body).poll_frame(cx);
                match &polled {
                    Poll::Ready(Some(Ok(frame))) => {
                        watched.watcher.sent(frame.data_ref().map_or(0, Bytes::len));
                    }
                    Poll::Ready(Some(Err(_))) => watched.watcher.broke(),
                    Poll::Ready(None) | Poll::Pending => {}
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(body) => body.is_end_stream(),
            Self::Guest(guest) => guest.body.is_end_stream(),
            Self::File(file) => file.is_end_stream(),
            Self::Gateway(body) => body.is_end_stream(),
            Self::Compressed(_) => false,
            Self::Watched(watched) => watched.body.is_end_stream(),
            Self::Upstream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(body) => body.size_hint(),
            Self::Guest(guest) => guest.body.size_hint(),
            Self::File(file) => file.size_hint(),
            Self::Gateway(body) => body.size_hint(),
            Self::Compressed(_) => SizeHint::new(),
            Self::Watched(watched) => watched.body.size_hint(),
            Self::Upstream(body) => body.size_hint(),
        }
    }
}
