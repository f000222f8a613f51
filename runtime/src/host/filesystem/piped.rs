//! File streams that a guest of WASI 0.3 gave away, as its response's body: they go from host to host, and end
//! later than the guest, whose instance must outlive them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;

/// Counts the streams of one instance that were given away.
#[derive(Default)]
pub struct Piped {
    streams: AtomicUsize,
    waker: AtomicWaker,
}

/// One of them; counted until it is dropped.
pub struct PipedStream(Arc<Piped>);

impl Piped {
    /// Ready when none is left.
    pub fn poll_none(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.waker.register(cx.waker());
        if self.streams.load(Ordering::Acquire) == 0 { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Another one.
    pub fn count(self: &Arc<Self>) -> PipedStream {
        self.streams.fetch_add(1, Ordering::Relaxed);
        PipedStream(self.clone())
    }
}

impl Drop for PipedStream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Release);
        self.0.waker.wake();
    }
}
