//! A guest's response body. Reading it is what lets the guest go on.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::response::Parts;
use http_body::{Body, Frame, SizeHint};
use tokio::task::AbortHandle;
use wasmtime_wasi_http::WasiBody;

use super::call::Running;
use super::{Exceeded, GuestError};

/// The body and the guest that writes it. Dropping it ends the guest.
pub struct GuestBody {
    body: WasiBody,
    running: Arc<Mutex<Running>>,
    /// Ends the guest when its time is up, also when nobody reads the body.
    watchdog: Option<AbortHandle>,
    /// Bytes that may still come.
    left: u64,
    /// Bytes that are still to come, where the response says so.
    declared: Option<u64>,
    ended: bool,
}

impl GuestBody {
    pub(super) fn new(response: &Parts, body: WasiBody, running: Running, limit: u64) -> Self {
        let declared = response.headers.get(CONTENT_LENGTH);
        let declared = declared.and_then(|length| length.to_str().ok()?.parse().ok());
        let deadline = (!running.ended()).then(|| running.deadline());
        let running = Arc::new(Mutex::new(running));
        let watchdog = deadline.map(|deadline| watch(Arc::downgrade(&running), deadline));
        Self { body, running, watchdog, left: limit, declared, ended: false }
    }

    /// Once the response is complete: what the guest still has to do, if anything.
    pub fn take_rest(&mut self) -> Option<impl Future<Output = ()> + Send + use<>> {
        // A server that has sent all declared bytes does not ask for the end.
        let complete = self.ended || self.declared == Some(0);
        (complete && !lock(&self.running).ended()).then(|| finish(self.running.clone()))
    }

    /// The guest's failure, logged here, since the client only sees a body that breaks off.
    fn broken(&self) -> Option<GuestError> {
        let mut running = lock(&self.running);
        let error = running.failure()?;
        running.report(&error);
        Some(error)
    }

    /// Ends the guest and the body.
    fn end(&self, error: GuestError) -> Option<GuestError> {
        lock(&self.running).end(Some(error));
        self.broken()
    }
}

impl Drop for GuestBody {
    fn drop(&mut self) {
        if let Some(watchdog) = &self.watchdog {
            watchdog.abort();
        }
    }
}

/// A client that does not read is not asked for more, and so the guest would never be polled again:
/// its time has to end from outside.
fn watch(running: Weak<Mutex<Running>>, deadline: Instant) -> AbortHandle {
    let watching = tokio::spawn(async move {
        tokio::time::sleep_until(deadline.into()).await;
        if let Some(running) = running.upgrade() {
            lock(&running).end(Some(GuestError::Exceeded(Exceeded::Wall)));
        }
    });
    watching.abort_handle()
}

/// Runs to the end what the guest does after its response.
async fn finish(running: Arc<Mutex<Running>>) {
    poll_fn(|cx| lock(&running).poll(cx)).await;
    let mut running = lock(&running);
    if let Some(error) = running.failure() {
        running.report(&error);
    }
}

fn lock(running: &Mutex<Running>) -> MutexGuard<'_, Running> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Body for GuestBody {
    type Data = Bytes;
    type Error = GuestError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, GuestError>>> {
        let this = self.get_mut();
        // Ready or not, the body has what was sent.
        let _ended = lock(&this.running).poll(cx);
        let frame = match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => frame,
            Poll::Ready(Some(Err(error))) => {
                let failure = this.broken();
                let failure = failure.or_else(|| this.end(GuestError::Http(error.to_string())));
                return Poll::Ready(failure.map(Err));
            }
            // A WASI 0.3 body of a guest that crashed looks complete; it is not.
            Poll::Ready(None) => {
                let failure = this.broken();
                this.ended = failure.is_none();
                return Poll::Ready(failure.map(Err));
            }
            Poll::Pending => {
                return match this.broken() {
                    Some(error) => Poll::Ready(Some(Err(error))),
                    None => Poll::Pending,
                };
            }
        };
        let size = frame.data_ref().map_or(0, |data| data.len() as u64);
        match this.left.checked_sub(size) {
            Some(left) => {
                this.left = left;
                this.declared = this.declared.map(|declared| declared.saturating_sub(size));
                Poll::Ready(Some(Ok(frame)))
            }
            None => Poll::Ready(this.end(GuestError::Exceeded(Exceeded::ResponseBody)).map(Err)),
        }
    }

    fn is_end_stream(&self) -> bool {
        // Not before the guest has ended well: its last work and its failure hang on the last poll.
        self.body.is_end_stream() && lock(&self.running).ended_well()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
