//! A guest's response body. Reading it is what lets the guest go on.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use wasmtime_wasi_http::WasiBody;

use super::GuestError;
use super::call::Running;

/// The body and the guest that writes it. Dropping it ends the guest.
pub struct GuestBody {
    body: WasiBody,
    running: Option<Running>,
    left: u64,
}

impl GuestBody {
    pub(super) fn new(body: WasiBody, running: Running, limit: u64) -> Self {
        Self { body, running: Some(running), left: limit }
    }

    /// After the last frame: what the guest still has to do, if anything.
    pub fn take_rest(&mut self) -> Option<impl Future<Output = ()> + Send + use<>> {
        self.running.take().filter(|running| !running.ended()).map(Running::finish)
    }

    fn count(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, GuestError> {
        let size = frame.data_ref().map_or(0, |data| data.len() as u64);
        match (self.left.checked_sub(size), &mut self.running) {
            (Some(left), _) => {
                self.left = left;
                Ok(frame)
            }
            (None, Some(running)) => Err(running.cut()),
            (None, None) => Err(GuestError::Exceeded(super::Exceeded::ResponseBody)),
        }
    }

    fn fail(&self, error: GuestError) -> GuestError {
        if let Some(running) = &self.running {
            running.report(&error);
        }
        error
    }
}

impl Body for GuestBody {
    type Data = Bytes;
    type Error = GuestError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, GuestError>>> {
        let this = self.get_mut();
        // The guest first: it fills the body, and its failure explains a body that breaks off.
        if let Some(running) = &mut this.running
            && let Poll::Ready(Err(error)) = running.poll(cx)
        {
            return Poll::Ready(Some(Err(this.fail(error))));
        }
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let counted = this.count(frame);
                Poll::Ready(Some(counted.map_err(|error| this.fail(error))))
            }
            Poll::Ready(Some(Err(error))) => {
                let error = GuestError::Http(error.to_string());
                Poll::Ready(Some(Err(this.fail(error))))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        // Not before the guest has ended: its last work hangs on the last poll.
        self.body.is_end_stream() && self.running.as_ref().is_none_or(Running::ended)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
