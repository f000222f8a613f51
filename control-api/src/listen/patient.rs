//! The stream of a connection whose other end has to read: where it does not for too long, writes fail, which ends the connection
//! with all that it held. It also has to begin: hyper has no deadline before it knows which protocol is spoken. And of HTTP/2 it may
//! send only so much that asks for nothing.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use af_contract::frames::{Flood, Frames};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::activity::Activity;
use super::patience::Patience;

/// What begins every HTTP/2 connection (RFC 9113, section 3.4); anything else is HTTP/1.1.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream with a deadline for writes that wait. What has nothing to write, such as events that do not happen, waits as long as it likes.
pub(super) struct Patient<S> {
    stream: S,
    patience: Patience,
    /// None: the protocol is known, and has deadlines of its own.
    opening: Option<Opening>,
    /// Where it is HTTP/2.
    frames: Option<Box<Frames>>,
    activity: Arc<Activity>,
}

/// A connection whose protocol is not known yet.
struct Opening {
    /// Bytes that were read, all of them of the preface.
    read: usize,
    timer: Pin<Box<Sleep>>,
}

/// Which protocol the first bytes are.
enum Opened {
    NotYet,
    Http1,
    Http2,
}

impl Opening {
    /// What is known after these bytes.
    fn read(&mut self, read: &[u8]) -> Opened {
        let expected = PREFACE.get(self.read..).unwrap_or_default();
        self.read += read.len();
        if read.is_empty() || !read.iter().zip(expected).all(|(read, expected)| read == expected) {
            Opened::Http1
        } else if self.read < PREFACE.len() {
            Opened::NotYet
        } else {
            Opened::Http2
        }
    }
}

impl<S> Patient<S> {
    /// A client may take so long to begin, and writes wait for so long.
    pub(super) fn new(stream: S, opening: Duration, patience: Duration, activity: Arc<Activity>) -> Self {
        let opening = Some(Opening { read: 0, timer: Box::pin(sleep(opening)) });
        Self { stream, patience: Patience::new(patience), opening, frames: None, activity }
    }

    /// Looks at what the client has sent.
    fn judge(&mut self, bytes: &[u8]) -> Result<(), Flood> {
        if let Some(opening) = &mut self.opening {
            match opening.read(bytes) {
                Opened::NotYet => return Ok(()),
                Opened::Http1 => self.opening = None,
                Opened::Http2 => {
                    self.activity.speaks_http2();
                    let frames = self.frames.insert(Box::new(Frames::new(Instant::now())));
                    let before = opening.read.saturating_sub(bytes.len());
                    self.opening = None;
                    frames.read(PREFACE.get(..before).unwrap_or_default(), Instant::now)?;
                }
            }
        }
        self.frames.as_mut().map_or(Ok(()), |frames| frames.read(bytes, Instant::now))
    }

    /// Of these pieces, something was written or waits.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(result) = written {
            let count = result.as_ref().copied().unwrap_or_default();
            self.patience.earn(count);
            if let Some(frames) = &mut self.frames {
                frames.wrote(pieces, count);
            }
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
            this.judge(read_now).map_err(|flood| io::Error::new(ErrorKind::InvalidData, flood))?;
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
        self.poll(cx, written, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.poll(cx, written, pieces)
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
