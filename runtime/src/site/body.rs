//! A file as a response's body: read block by block as the client takes it, each verified before a byte of it
//! is sent.

use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body::{Body, Frame, SizeHint};
use tracing::error;

use crate::content::{File, ReadError, Reader};

/// Bytes that are handed over at a time. They are a copy: ten thousand clients that do not read on must not keep
/// as many blocks of a megabyte in memory.
pub const PIECE: usize = 64 << 10;

/// A part of a file, or all of it.
pub struct FileBody {
    reader: Reader,
    file: File,
    range: Range<u64>,
    /// Where what was asked for last ends; what comes behind has been asked for then.
    ahead: u64,
    pending: Option<BoxFuture<'static, Result<Bytes, ReadError>>>,
}

/// A file's content cannot be read on. What was sent is right, and the rest is not sent.
#[derive(Debug, thiserror::Error)]
pub enum FileBodyError {
    /// A block.
    #[error("the file cannot be read on")]
    Read(#[from] ReadError),
    /// It ends before its end.
    #[error("the file is shorter than it says")]
    Short,
}

impl FileBody {
    /// These bytes of a file.
    pub fn new(reader: Reader, file: File, range: Range<u64>) -> Self {
        Self { reader, file, range, ahead: 0, pending: None }
    }

    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, ReadError>> {
        let (file, from) = (self.file, self.range.start);
        if self.pending.is_none() {
            if let Some(bytes) = self.reader.bytes_now(file, from)? {
                return Poll::Ready(Ok(bytes));
            }
            let reader = self.reader.clone();
            self.pending = Some(Box::pin(async move { reader.bytes(file, from).await }));
        }
        let Some(pending) = &mut self.pending else { return Poll::Pending };
        let read = ready!(pending.as_mut().poll(cx));
        self.pending = None;
        Poll::Ready(read)
    }

    /// Takes a piece of what is left of a block.
    fn piece(&mut self, block: &Bytes) -> Result<Bytes, FileBodyError> {
        let end = self.range.start.saturating_add(block.len() as u64);
        if end > self.ahead {
            self.ahead = end;
            if end < self.range.end {
                self.reader.read_ahead(self.file, end);
            }
        }
        let left = usize::try_from(self.range.end - self.range.start).unwrap_or(usize::MAX);
        let piece = block.get(..PIECE.min(left)).unwrap_or(block.get(..left).unwrap_or(block));
        if piece.is_empty() {
            return Err(FileBodyError::Short);
        }
        self.range.start += piece.len() as u64;
        Ok(Bytes::copy_from_slice(piece))
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = FileBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, FileBodyError>>> {
        if self.range.is_empty() {
            return Poll::Ready(None);
        }
        let read = ready!(self.poll_bytes(cx));
        let piece = read.map_err(FileBodyError::from).and_then(|block| self.piece(&block));
        if let Err(error) = &piece {
            let (file, at) = (self.file.id, self.range.start);
            error!(%file, at, %error, "a site's file broke off");
            // Nothing comes after it.
            self.range.end = self.range.start;
        }
        Poll::Ready(Some(piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.range.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.range.end - self.range.start)
    }
}
