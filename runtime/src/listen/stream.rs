//! The stream that hyper reads: the connection's own, with the bytes that were read to learn its protocol in front, under the
//! eyes of [`Framing`] for HTTP/1.1 and of [`Frames`] for HTTP/2. A header of HTTP/1.1 that arrives in parts is given to hyper
//! when it is whole, so that hyper has nothing to refuse.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use af_contract::frames::{Flood, Frames};
use bytes::Bytes;
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
            if count == 0 || !PREFACE.starts_with(prefix.bytes()) {
                return Ok(prefix);
            }
        }
    }

    /// Whether they are HTTP/2's.
    pub fn is_http2(&self) -> bool {
        self.bytes() == PREFACE
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.end).unwrap_or_default()
    }
}

/// The stream. Its connection's place among all is free when it is dropped, also after an upgrade.
pub struct Stream<S> {
    stream: S,
    /// What hyper gets before anything else.
    ahead: Bytes,
    framing: Option<Box<Framing>>,
    frames: Option<Box<Frames>>,
    /// Whether hyper has nothing yet of the header that is on its way.
    holding: bool,
    /// Headers that hyper has, or has ahead of it.
    given: u32,
    refusal: Option<Unread>,
    progress: Arc<Progress>,
    _place: Place,
}

/// Why bytes do not pass.
#[derive(Clone, Copy)]
enum Unread {
    /// They are no HTTP/1.1 that may be read.
    Refused(Refusal),
    /// They are too many of HTTP/2.
    Flood(Flood),
}

/// What becomes of bytes that were read.
enum Verdict {
    /// Hyper gets them.
    Pass,
    /// They are kept until their header is whole.
    Hold,
    /// They are in `ahead`, with what was kept before them.
    Ahead,
}

impl<S> Stream<S> {
    /// Of a connection that begins with `prefix`, and speaks HTTP/2 or HTTP/1.1.
    pub fn new(stream: S, prefix: &Prefix, is_http2: bool, progress: Arc<Progress>, place: Place) -> Self {
        let framing = (!is_http2).then(Box::default);
        let frames = is_http2.then(|| Box::new(Frames::new(Instant::now())));
        progress.read(is_http2, 0);
        let mut made = Self {
            stream,
            ahead: Bytes::new(),
            framing,
            frames,
            holding: false,
            given: 0,
            refusal: None,
            progress,
            _place: place,
        };
        match made.judge(prefix.bytes()) {
            Ok(Verdict::Pass) => made.ahead = Bytes::copy_from_slice(prefix.bytes()),
            Ok(Verdict::Hold | Verdict::Ahead) => {}
            Err(refusal) => made.refusal = Some(refusal),
        }
        made
    }

    /// What did not pass, if the client has to be told of it here: a malformed body ends its request, which has a response
    /// of its own where hyper knows of it, and nothing can be said in the middle of another response.
    pub fn refusal(&self) -> Option<Refusal> {
        let known = |framing: &Framing| framing.is_in_body() && framing.heads() == self.given;
        let in_body = self.framing.as_ref().is_some_and(|framing| known(framing));
        match self.refusal {
            Some(Unread::Refused(refusal)) if !in_body && !self.progress.is_answering() => Some(refusal),
            Some(Unread::Refused(_) | Unread::Flood(_)) | None => None,
        }
    }

    /// Without what was around it.
    pub fn inner(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Bytes went on. Of HTTP/2, that is something only while a request is under way: any client answers pings, and sends some.
    fn act(&self) {
        if self.frames.is_none() || self.progress.is_active() {
            self.progress.act();
        }
    }

    fn judge(&mut self, bytes: &[u8]) -> Result<Verdict, Unread> {
        self.act();
        if let Some(frames) = &mut self.frames {
            frames.read(bytes, Instant::now).map_err(|flood| {
                self.progress.flood();
                Unread::Flood(flood)
            })?;
            self.progress.read(frames.is_in_head(), frames.heads());
            return Ok(Verdict::Pass);
        }
        if self.framing.is_some() && self.progress.is_upgraded() {
            self.framing = None;
        }
        let Some(framing) = &mut self.framing else { return Ok(Verdict::Pass) };
        let (between, kept) = (self.holding || framing.is_between(), framing.kept());
        let heads = framing.heads();
        framing.read(bytes).map_err(Unread::Refused)?;
        self.progress.read(framing.is_in_head(), framing.heads());
        let whole = framing.take_whole();
        if between && framing.is_in_head() && framing.heads() == heads {
            self.holding = true;
            return Ok(Verdict::Hold);
        }
        self.given = framing.heads();
        if std::mem::take(&mut self.holding) {
            let rest = bytes.get(whole.len().saturating_sub(kept)..).unwrap_or_default();
            self.ahead = [&whole, rest].concat().into();
            return Ok(Verdict::Ahead);
        }
        Ok(Verdict::Pass)
    }

    fn refused(&self) -> io::Result<()> {
        Err(match self.refusal {
            None => return Ok(()),
            Some(Unread::Refused(refusal)) => io::Error::new(ErrorKind::InvalidData, refusal),
            Some(Unread::Flood(flood)) => io::Error::new(ErrorKind::InvalidData, flood),
        })
    }

    /// What the connection's other end took of these pieces.
    fn wrote(&mut self, written: &Poll<io::Result<usize>>, pieces: &[IoSlice<'_>]) {
        self.progress.wrote(written.is_ready());
        let Poll::Ready(Ok(count)) = written else { return };
        self.act();
        if let Some(frames) = &mut self.frames {
            frames.wrote(pieces, *count);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        loop {
            this.refused()?;
            if !this.ahead.is_empty() {
                let count = buffer.remaining().min(this.ahead.len());
                buffer.put_slice(&this.ahead.split_to(count));
                return Poll::Ready(Ok(()));
            }
            ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
            let read = buffer.filled().get(before..).unwrap_or_default();
            if read.is_empty() {
                return Poll::Ready(Ok(()));
            }
            match this.judge(read) {
                Ok(Verdict::Pass) => return Poll::Ready(Ok(())),
                Ok(Verdict::Hold | Verdict::Ahead) => {}
                Err(refusal) => this.refusal = Some(refusal),
            }
            buffer.set_filled(before);
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(&written, &[IoSlice::new(bytes)]);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.wrote(&written, pieces);
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
        if self.refusal().is_some() {
            Poll::Ready(Ok(()))
        } else {
            Pin::new(&mut self.stream).poll_shutdown(cx)
        }
    }
}
