//! The stream that hyper reads: the connection's own, with the bytes that were read to learn its protocol in front, and
//! for HTTP/1.1 under the eyes of [`Framing`].

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::Place;
use super::http1::{Framing, Refusal};
use super::progress::Progress;

/// What begins every HTTP/2 connection (RFC 9113, section 3.4). HTTP/1.1 reserves its method for that.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The first bytes of a connection, until they are read again.
#[derive(Debug, Default)]
pub struct Prefix {
    bytes: [u8; PREFACE.len()],
    start: usize,
    end: usize,
}

impl Prefix {
    /// Reads until it is clear whether they are HTTP/2's. A client that closes first has sent none.
    pub async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Self> {
        let mut prefix = Self::default();
        loop {
            let Some(room) = prefix.bytes.get_mut(prefix.end..).filter(|room| !room.is_empty()) else {
                return Ok(prefix);
            };
            let count = stream.read(room).await?;
            prefix.end += count;
            if count == 0 || !PREFACE.starts_with(prefix.rest()) {
                return Ok(prefix);
            }
        }
    }

    /// Whether they are HTTP/2's.
    pub fn is_http2(&self) -> bool {
        self.rest() == PREFACE
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rest().is_empty()
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    fn put(&mut self, buffer: &mut ReadBuf<'_>) {
        let count = buffer.remaining().min(self.end - self.start);
        buffer.put_slice(self.rest().get(..count).unwrap_or_default());
        self.start += count;
    }
}

/// The stream. Its connection's place among all is free when it is dropped, also after an upgrade.
pub struct Stream<S> {
    stream: S,
    prefix: Prefix,
    framing: Option<Box<Framing>>,
    refusal: Option<Refusal>,
    progress: Arc<Progress>,
    _place: Place,
}

impl<S> Stream<S> {
    /// With `framing`, only what it lets pass is read.
    pub fn new(
        stream: S,
        prefix: Prefix,
        framing: Option<Framing>,
        progress: Arc<Progress>,
        place: Place,
    ) -> Self {
        let framing = framing.map(Box::new);
        Self { stream, prefix, framing, refusal: None, progress, _place: place }
    }

    /// What did not pass.
    pub fn refusal(&self) -> Option<Refusal> {
        self.refusal
    }

    /// Without what was around it.
    pub fn inner(&mut self) -> &mut S {
        &mut self.stream
    }

    fn judge(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        if self.framing.is_some() && self.progress.is_upgraded() {
            self.framing = None;
        }
        let Some(framing) = &mut self.framing else {
            self.progress.act();
            return Ok(());
        };
        framing.read(bytes)?;
        self.progress.read(framing.is_in_head(), framing.heads());
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(refusal) = this.refusal {
            return Poll::Ready(Err(io::Error::new(ErrorKind::InvalidData, refusal)));
        }
        let before = buffer.filled().len();
        if this.prefix.is_empty() {
            ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        } else {
            this.prefix.put(buffer);
        }
        let judged = this.judge(buffer.filled().get(before..).unwrap_or_default());
        Poll::Ready(judged.map_err(|refusal| {
            this.refusal = Some(refusal);
            buffer.set_filled(before);
            io::Error::new(ErrorKind::InvalidData, refusal)
        }))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.progress.wrote(written.is_ready());
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.progress.wrote(written.is_ready());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The client has yet to be told.
        if self.refusal.is_some() {
            Poll::Ready(Ok(()))
        } else {
            Pin::new(&mut self.stream).poll_shutdown(cx)
        }
    }
}
