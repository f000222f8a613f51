//! The stream of a connection whose other end has to read: where it does not for too long, writes fail, which ends the connection
//! with all that it held. It also has to begin: hyper has no deadline before it knows which protocol is spoken.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::patience::Patience;

/// What begins every HTTP/2 connection (RFC 9113, section 3.4); anything else is HTTP/1.1.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream with a deadline for writes that wait. What has nothing to write, such as events that do not happen, waits as long as it likes.
pub(super) struct Patient<S> {
    stream: S,
    patience: Patience,
    /// None: the protocol is known, and has deadlines of its own.
    opening: Option<Opening>,
}

/// A connection whose protocol is not known yet.
struct Opening {
    /// Bytes that were read, all of them of the preface.
    read: usize,
    timer: Pin<Box<Sleep>>,
}

impl Opening {
    /// Whether the protocol is known after these bytes.
    fn ends(&mut self, read: &[u8]) -> bool {
        let end = self.read + read.len();
        let may_be_either =
            !read.is_empty() && end < PREFACE.len() && PREFACE.get(self.read..end) == Some(read);
        self.read = end;
        !may_be_either
    }
}

impl<S> Patient<S> {
    /// A client may take so long to begin, and writes wait for so long.
    pub(super) fn new(stream: S, opening: Duration, patience: Duration) -> Self {
        let opening = Opening { read: 0, timer: Box::pin(sleep(opening)) };
        Self { stream, patience: Patience::new(patience), opening: Some(opening) }
    }

    fn poll(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(result) = written {
            self.patience.earn(result.as_ref().copied().unwrap_or_default());
            return Poll::Ready(result);
        }
        ready!(self.patience.poll(cx));
        Poll::Ready(Err(io::Error::new(ErrorKind::TimedOut, "the client does not read what it asked for")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut this.stream).poll_read(cx, buffer) {
            let read_now = buffer.filled().get(before..).unwrap_or_default();
            this.opening.take_if(|opening| opening.ends(read_now));
            return Poll::Ready(read);
        }
        if let Some(opening) = &mut this.opening {
            ready!(opening.timer.as_mut().poll(cx));
            return Poll::Ready(Err(io::Error::new(ErrorKind::TimedOut, "the client asks for nothing")));
        }
        Poll::Pending
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.poll(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.poll(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Of a socket it never waits: what it took is the kernel's.
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
