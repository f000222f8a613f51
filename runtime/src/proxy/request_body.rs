//! A request's body on its way to a backend: streamed, counted, and held back until the backend wants it where the
//! client waits for that, too.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use af_contract::limits;
use bytes::Bytes;
use futures::task::AtomicWaker;
use http::{Request, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Sleep, sleep};

use super::error::ProxyError;

/// How long a client that waits for "100 Continue" is made to: RFC 9110 section 10.1.1 wants backends to be waited for,
/// but not without end, since some never say it.
const CONTINUE: Duration = Duration::from_secs(1);

/// A body that ends with an error where it exceeds its limit.
#[derive(Default)]
pub(super) struct RequestBody {
    /// Nothing if it is empty.
    body: Option<Incoming>,
    left: u64,
    /// Nothing for requests without a body.
    upload: Option<Arc<Upload>>,
    held: Option<Held>,
}

/// How an upload goes, for whoever waits for the response.
#[derive(Debug, Default)]
pub(super) struct Upload {
    /// A part of it came since somebody asked.
    moved: AtomicBool,
    /// The backend has taken all that the client has sent so far.
    client_is_slow: AtomicBool,
    too_large: AtomicBool,
    client_broke: AtomicBool,
    complete: AtomicBool,
}

/// Why a body ends before its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyBroken {
    #[error("the request body is too large")]
    TooLarge,
    #[error("the client broke off")]
    Client(#[source] hyper::Error),
}

impl RequestBody {
    pub fn new(body: Incoming) -> Self {
        if body.is_end_stream() {
            return Self::default();
        }
        let upload = Some(Arc::default());
        Self { body: Some(body), left: limits::PROXIED_BODY_BYTES, upload, held: None }
    }

    /// Its progress, if it is not empty.
    pub fn upload(&self) -> Option<Arc<Upload>> {
        self.upload.clone()
    }
}

impl Upload {
    /// What the client did wrong, if anything.
    pub fn fault(&self) -> Option<ProxyError> {
        if self.too_large.load(Ordering::Relaxed) {
            return Some(ProxyError::BodyTooLarge(limits::PROXIED_BODY_BYTES));
        }
        self.client_broke.load(Ordering::Relaxed).then_some(ProxyError::BodyBroken)
    }

    /// Whether something came since this was asked last. The time for the response begins with the last part.
    pub fn has_moved(&self) -> bool {
        self.moved.swap(false, Ordering::Relaxed)
    }

    /// Whether it is the client that is waited for.
    pub fn is_clients_turn(&self) -> bool {
        !self.complete.load(Ordering::Relaxed) && self.client_is_slow.load(Ordering::Relaxed)
    }
}

/// A body that is not asked for before the backend said that it wants it: asking is what sends the client its "100 Continue".
struct Held {
    gate: Arc<Gate>,
    patience: Pin<Box<Sleep>>,
}

#[derive(Default)]
struct Gate {
    open: AtomicBool,
    waker: AtomicWaker,
}

/// Holds the body back until the backend says "100 Continue".
pub(super) fn hold(request: &mut Request<RequestBody>) {
    if request.body().upload.is_none() || request.body().held.is_some() {
        return;
    }
    let gate = Arc::new(Gate::default());
    request.body_mut().held = Some(Held { gate: gate.clone(), patience: Box::pin(sleep(CONTINUE)) });
    hyper::ext::on_informational(request, move |response| {
        if response.status() == StatusCode::CONTINUE {
            gate.open.store(true, Ordering::Release);
            gate.waker.wake();
        }
    });
}

impl Held {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.gate.waker.register(cx.waker());
        if self.gate.open.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        self.patience.as_mut().poll(cx)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyBroken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyBroken>>> {
        let this = &mut *self;
        if let Some(held) = &mut this.held {
            std::task::ready!(held.poll(cx));
            this.held = None;
        }
        let (Some(body), Some(upload)) = (&mut this.body, &this.upload) else { return Poll::Ready(None) };
        let polled = Pin::new(&mut *body).poll_frame(cx);
        upload.client_is_slow.store(polled.is_pending(), Ordering::Relaxed);
        let frame = match std::task::ready!(polled) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                upload.client_broke.store(true, Ordering::Relaxed);
                return Poll::Ready(Some(Err(BodyBroken::Client(error))));
            }
            None => {
                upload.complete.store(true, Ordering::Relaxed);
                return Poll::Ready(None);
            }
        };
        upload.moved.store(true, Ordering::Relaxed);
        if body.is_end_stream() {
            upload.complete.store(true, Ordering::Relaxed);
        }
        let size = frame.data_ref().map_or(0, |data| data.len() as u64);
        let Some(left) = this.left.checked_sub(size) else {
            upload.too_large.store(true, Ordering::Relaxed);
            return Poll::Ready(Some(Err(BodyBroken::TooLarge)));
        };
        this.left = left;
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
