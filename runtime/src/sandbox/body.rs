//! A guest's response body. Reading it is what lets the guest go on.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_LENGTH;
use http::response::Parts;
use http_body::{Body, Frame, SizeHint};
use tokio::task::{AbortHandle, JoinHandle};
use wasmtime_wasi_http::WasiBody;

use super::running::Running;
use super::{Exceeded, GuestError};

/// How much of a body is read before the response is sent. What is complete by then goes out in one
/// piece with its length, and its instance is free before the client has read a byte.
const AHEAD: usize = 256 << 10;

/// How much of a body goes out before other requests on the core have their turn.
const TURN: usize = 128 << 10;

/// The body and the guest that writes it. Dropping it ends the guest.
pub struct GuestBody {
    body: WasiBody,
    running: Arc<Mutex<Running>>,
    /// Read already and not sent.
    ahead: VecDeque<Frame<Bytes>>,
    /// Ends the guest when its time is up, also when nobody reads the body. Set once it streams.
    watchdog: Option<AbortHandle>,
    /// Bytes that may still come.
    left: u64,
    /// The length that the response says it has.
    declared: Option<u64>,
    /// Bytes that came.
    received: u64,
    /// Of them, those since others last had their turn.
    turn: usize,
    /// Ends when others have had theirs. A wake-up alone would not do: who sends the body asks for more at once.
    rest: Option<JoinHandle<()>>,
    ended: bool,
}

impl GuestBody {
    pub(super) fn new(response: &Parts, body: WasiBody, running: Running, limit: u64) -> Self {
        let declared = response.headers.get(CONTENT_LENGTH);
        let declared = declared.and_then(|length| length.to_str().ok()?.parse().ok());
        Self {
            body,
            running: Arc::new(Mutex::new(running)),
            ahead: VecDeque::new(),
            watchdog: None,
            left: limit,
            declared,
            received: 0,
            turn: 0,
            rest: None,
            ended: false,
        }
    }

    /// Reads what the guest has to say without being waited for. One that computes for so long that it was sent to the background
    /// (`Verdict::Yield`) is waited for, so when that is depends on the machine: what it wrote goes out, and a crash after that cuts
    /// the response off.
    ///
    /// # Errors
    /// When the guest fails: nothing has been sent yet, so the client can be told.
    pub(super) async fn read_ahead(&mut self) -> Result<(), GuestError> {
        poll_fn(|cx| {
            let (mut bytes, mut waited) = (0, false);
            while bytes < AHEAD && !self.ended {
                match self.poll_guest(cx) {
                    Poll::Ready(Some(Ok(frame))) => {
                        bytes += frame.data_ref().map_or(0, Bytes::len);
                        self.ahead.push_back(frame);
                        waited = false;
                    }
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                    Poll::Ready(None) => {}
                    // A WASI 0.3 guest writes when it is asked, so it has to be polled after the body.
                    Poll::Pending if waited || lock(&self.running).ended() => break,
                    Poll::Pending => waited = true,
                }
            }
            if !self.ended {
                // It streams, and so waits for its client.
                lock(&self.running).share();
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// # Errors
    /// When the response is complete and has not the length that it declares.
    pub(super) fn check_length(&self) -> Result<(), GuestError> {
        match self.declared {
            Some(declared) if self.ended && declared != self.received => {
                Err(GuestError::Length { declared, sent: self.received })
            }
            _ => Ok(()),
        }
    }

    /// All of it, if it is here: then the client can be told its length.
    pub fn whole(&mut self) -> Option<Bytes> {
        if !self.ended || self.ahead.iter().any(|frame| !frame.is_data()) {
            return None;
        }
        let mut pieces = self.ahead.drain(..).filter_map(|frame| frame.into_data().ok());
        let first = pieces.next().unwrap_or_default();
        let Some(second) = pieces.next() else { return Some(first) };
        let mut all = BytesMut::from(first);
        all.extend_from_slice(&second);
        pieces.for_each(|piece| all.extend_from_slice(&piece));
        Some(all.freeze())
    }

    /// Once the response is complete: what the guest still has to do, if anything.
    pub fn take_rest(&mut self) -> Option<impl Future<Output = ()> + Send + use<>> {
        // A server that has sent all declared bytes does not ask for the end.
        let complete = self.ended || self.declared == Some(self.received);
        if complete {
            lock(&self.running).complete();
        }
        (complete && !lock(&self.running).ended()).then(|| finish(self.running.clone()))
    }

    /// The guest's failure, if it has failed.
    fn failure(&self) -> Option<GuestError> {
        lock(&self.running).failure()
    }

    /// Ends the guest and the body.
    fn end(&self, error: GuestError) -> Option<GuestError> {
        lock(&self.running).end(Some(error));
        self.failure()
    }

    fn poll_guest(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, GuestError>>> {
        // Ready or not, the body has what was sent.
        let _ended = lock(&self.running).poll(cx);
        let frame = match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => frame,
            Poll::Ready(Some(Err(error))) => {
                let failure = self.failure();
                let failure = failure.or_else(|| self.end(GuestError::Http(error.to_string())));
                return Poll::Ready(failure.map(Err));
            }
            // A WASI 0.3 body of a guest that crashed looks complete; it is not.
            Poll::Ready(None) => {
                let failure = self.failure();
                self.ended = failure.is_none();
                if self.ended {
                    lock(&self.running).complete();
                }
                return Poll::Ready(failure.map(Err));
            }
            Poll::Pending => {
                return match self.failure() {
                    Some(error) => Poll::Ready(Some(Err(error))),
                    None => Poll::Pending,
                };
            }
        };
        let size = frame.data_ref().map_or(0, |data| data.len() as u64);
        self.received += size;
        match self.left.checked_sub(size) {
            Some(left) => {
                self.left = left;
                Poll::Ready(Some(Ok(frame)))
            }
            None => Poll::Ready(self.end(GuestError::Exceeded(Exceeded::ResponseBody)).map(Err)),
        }
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
        if this.watchdog.is_none() && !this.ended {
            let deadline = lock(&this.running).deadline();
            this.watchdog = Some(watch(Arc::downgrade(&this.running), deadline));
        }
        if let Some(frame) = this.ahead.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        if this.ended {
            return Poll::Ready(None);
        }
        if this.turn >= TURN {
            // A client that reads as fast as the guest writes would have the core to itself.
            this.turn = 0;
            this.rest = Some(tokio::spawn(std::future::ready(())));
        }
        if let Some(rest) = &mut this.rest {
            // Nothing in it can fail.
            let _rested = ready!(Pin::new(rest).poll(cx));
            this.rest = None;
        }
        let polled = this.poll_guest(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            this.turn += frame.data_ref().map_or(0, Bytes::len);
        }
        if let Poll::Ready(Some(Err(error))) = &polled {
            // Logged here, since the client only sees a body that breaks off.
            lock(&this.running).report(error);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        // Not before the guest has ended well: its last work and its failure hang on the last poll.
        let received = self.ended || (self.body.is_end_stream() && lock(&self.running).ended_well());
        received && self.ahead.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let ahead = self.ahead.iter().filter_map(Frame::data_ref).map(|data| data.len() as u64).sum::<u64>();
        if self.ended {
            return SizeHint::with_exact(ahead);
        }
        let rest = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(ahead));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(ahead));
        }
        hint
    }
}
