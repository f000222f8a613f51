//! Request and response bodies: streamed, counted and cut at their limits.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio_util::task::TaskTracker;
use wasmtime_wasi_http::{Error, WasiBody};

use crate::sandbox::{Exceeded, GuestBody, GuestError, Meter};
use crate::site::{FileBody, FileBodyError};

/// A request body: nothing, or one that ends with an error, and the call with 413, where it exceeds `limit` bytes.
pub fn limited(body: Incoming, limit: u64, meter: Arc<Meter>) -> WasiBody {
    if body.is_end_stream() {
        return WasiBody::default();
    }
    Limited { body, left: limit, limit, meter }.boxed_unsync()
}

struct Limited {
    body: Incoming,
    left: u64,
    limit: u64,
    meter: Arc<Meter>,
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
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(Error::Hyper(error)))),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => return Poll::Pending,
        };
        let size = frame.data_ref().map_or(0, |data| data.len() as u64);
        match self.left.checked_sub(size) {
            Some(left) => self.left = left,
            None => {
                self.meter.exceed(Exceeded::RequestBody);
                return Poll::Ready(Some(Err(Error::HttpRequestBodySize(Some(self.limit)))));
            }
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
}

/// Why a body breaks off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The guest failed.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// The content is damaged.
    #[error(transparent)]
    File(#[from] FileBodyError),
}

impl ResponseBody {
    pub(crate) fn file(body: FileBody) -> Self {
        Self::File(Box::new(body))
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
            Self::Guest(guest) => Pin::new(&mut guest.body).poll_frame(cx).map_err(BodyError::from),
            Self::File(file) => Pin::new(file.as_mut()).poll_frame(cx).map_err(BodyError::from),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(body) => body.is_end_stream(),
            Self::Guest(guest) => guest.body.is_end_stream(),
            Self::File(file) => file.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(body) => body.size_hint(),
            Self::Guest(guest) => guest.body.size_hint(),
            Self::File(file) => file.size_hint(),
        }
    }
}
