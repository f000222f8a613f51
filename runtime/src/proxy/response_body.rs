//! A response's body on its way from a backend to the client. Reading it drives the connection that it comes over.

use std::error::Error as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep};
use tracing::warn;

use super::connection::{Http1, Http2};
use super::error::ProxyError;
use super::pool::Pool;
use super::upstreams::Member;
use crate::metrics::Metrics;
use crate::request_id::RequestId;

/// How long nothing may come. Event streams are silent for long, but most send something each half minute, so that
/// proxies like this one do not end them. Tests do not wait for so long.
const STALL: Duration = if cfg!(test) { Duration::from_millis(300) } else { Duration::from_secs(120) };

/// Dropping it closes the connection, or the stream, unless it is complete.
pub struct UpstreamBody {
    body: Incoming,
    carrier: Carrier,
    /// Read before the response was handed on.
    ahead: Option<Frame<Bytes>>,
    stall: Option<Pin<Box<Sleep>>>,
    /// Something came since the timer was set.
    moved: bool,
    /// Who is told if it breaks off: the client only sees that it does.
    report: Option<(RequestId, Arc<Metrics>)>,
}

/// What it comes over.
pub(super) enum Carrier {
    /// To be given back when it is idle again.
    Http1(Box<Http1>, Arc<Member>),
    /// The stream counts until then.
    Http2 { _stream: Http2 },
    /// A task drives it.
    Task,
    /// Given back.
    Done,
}

impl UpstreamBody {
    pub(super) fn new(body: Incoming, carrier: Carrier) -> Self {
        Self { body, carrier, ahead: None, stall: None, moved: false, report: None }
    }

    /// Takes what is there already. A small body is complete by now: then this is all of it, and its connection is free
    /// for the next request.
    ///
    /// # Errors
    /// When it is broken already.
    pub(super) fn read_ahead(&mut self, cx: &mut Context<'_>) -> Result<Option<Bytes>, ProxyError> {
        if !self.body.is_end_stream() {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => self.ahead = Some(frame),
                Poll::Ready(Some(Err(error))) => return Err(ProxyError::Failed(error.into())),
                Poll::Ready(None) => {}
                Poll::Pending => return Ok(None),
            }
            if self.ahead.is_some() && !self.body.is_end_stream() {
                return Ok(None);
            }
        }
        self.give_back(cx);
        match self.ahead.take().map(Frame::into_data) {
            None => Ok(Some(Bytes::new())),
            Some(Ok(data)) => Ok(Some(data)),
            Some(Err(trailers)) => {
                self.ahead = Some(trailers);
                Ok(None)
            }
        }
    }

    /// Whose it is, once its response has begun.
    pub(super) fn report_to(&mut self, id: RequestId, metrics: Arc<Metrics>) {
        self.report = Some((id, metrics));
    }

    fn broken(&self, error: ProxyError) -> ProxyError {
        if let Some((id, metrics)) = &self.report {
            metrics.upstream_broke();
            let cause = error.source().map(ToString::to_string);
            warn!(request_id = %id, error = %error, cause, "a backend's response broke off");
        }
        error
    }

    fn drive(&mut self, cx: &mut Context<'_>) {
        if let Carrier::Http1(connection, _) = &mut self.carrier {
            connection.drive(cx);
        }
    }

    /// The body is complete: its connection may take another request.
    fn give_back(&mut self, cx: &mut Context<'_>) {
        match std::mem::replace(&mut self.carrier, Carrier::Done) {
            Carrier::Http1(mut connection, member) => {
                // It may have the end before it, still.
                if !connection.is_idle() {
                    connection.drive(cx);
                }
                if connection.is_idle() {
                    Pool::put(&member, connection);
                }
            }
            Carrier::Http2 { .. } | Carrier::Task | Carrier::Done => {}
        }
    }

    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(STALL)));
        if std::mem::take(&mut self.moved) {
            stall.as_mut().reset(Instant::now() + STALL);
        }
        stall.as_mut().poll(cx)
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = ProxyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        let this = self.get_mut();
        if let Some(frame) = this.ahead.take() {
            return Poll::Ready(Some(Ok(frame)));
        }
        this.drive(cx);
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.moved = true;
                // A server that has sent all declared bytes does not ask for the end.
                if this.body.is_end_stream() {
                    this.give_back(cx);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                Poll::Ready(Some(Err(this.broken(ProxyError::Failed(error.into())))))
            }
            Poll::Ready(None) => {
                this.give_back(cx);
                Poll::Ready(None)
            }
            Poll::Pending => this.poll_stall(cx).map(|()| Some(Err(this.broken(ProxyError::Stalled)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let ahead = self.ahead.as_ref().and_then(Frame::data_ref).map_or(0, |data| data.len() as u64);
        let rest = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(ahead));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(ahead));
        }
        hint
    }
}
