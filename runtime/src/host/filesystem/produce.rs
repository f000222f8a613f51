//! Streams of WASI 0.3: a file's bytes and a directory's entries, fetched as they are taken.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::channel::oneshot;
use futures::future::BoxFuture;
use wasmtime::StoreContextMut;
use wasmtime::component::{Destination, StreamProducer, StreamResult};
use wasmtime_wasi::p3::bindings::filesystem::types::{DirectoryEntry, ErrorCode};

use super::READ_BYTES;
use super::files::{Descriptor, FileError, Files};
use super::piped::PipedStream;
use super::v03::{code, kind};

/// Tells how a stream ended.
type Ended = oneshot::Sender<Result<(), ErrorCode>>;

/// What is being fetched.
type Pending<T> = Option<BoxFuture<'static, Result<T, FileError>>>;

/// A file from some place on.
pub struct Reading {
    files: Arc<Files>,
    file: Descriptor,
    offset: u64,
    pending: Pending<Bytes>,
    piped: Option<PipedStream>,
    ended: Option<Ended>,
}

/// The entries of a directory.
pub struct Entries {
    files: Arc<Files>,
    directory: Descriptor,
    next: usize,
    pending: Pending<Option<(String, Descriptor)>>,
    ended: Option<Ended>,
}

impl Reading {
    pub fn new(files: Arc<Files>, file: Descriptor, offset: u64, ended: Ended) -> Self {
        Self { files, file, offset, pending: None, piped: None, ended: Some(ended) }
    }
}

impl Entries {
    pub fn new(files: Arc<Files>, directory: Descriptor, ended: Ended) -> Self {
        Self { files, directory, next: 0, pending: None, ended: Some(ended) }
    }
}

/// The end of a stream, which its reader is told. A limit ends the whole call instead.
fn end(ended: &mut Option<Ended>, result: Result<(), FileError>) -> wasmtime::Result<StreamResult> {
    if result == Err(FileError::Stopped) {
        return Err(FileError::Stopped.into());
    }
    if let Some(ended) = ended.take() {
        // Nobody asks for it when the reader has gone.
        let _gone = ended.send(result.map_err(code));
    }
    Ok(StreamResult::Dropped)
}

impl<D> StreamProducer<D> for Reading {
    type Item = u8;
    type Buffer = Bytes;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<'a, D>,
        mut destination: Destination<'a, u8, Bytes>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let this = &mut *self;
        // No more than is taken at once: what is left over would keep its block in memory.
        let room = destination.remaining(&mut store);
        if room.is_none() {
            // It is the host that reads.
            this.piped.get_or_insert_with(|| this.files.piped().count());
        }
        let room = room.unwrap_or(READ_BYTES).min(READ_BYTES);
        if room == 0 {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        let (files, file, offset) = (&this.files, this.file, this.offset);
        let pending = this.pending.get_or_insert_with(|| {
            let files = files.clone();
            Box::pin(async move { files.read(file, offset).await })
        });
        let Poll::Ready(read) = pending.as_mut().poll(cx) else { return waiting(finish) };
        this.pending = None;
        Poll::Ready(match read {
            Ok(bytes) if bytes.is_empty() => end(&mut this.ended, Ok(())),
            Ok(mut bytes) => {
                bytes.truncate(room);
                this.offset += bytes.len() as u64;
                destination.set_buffer(bytes);
                Ok(StreamResult::Completed)
            }
            Err(error) => end(&mut this.ended, Err(error)),
        })
    }
}

impl<D> StreamProducer<D> for Entries {
    type Item = DirectoryEntry;
    type Buffer = Option<DirectoryEntry>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<'a, D>,
        mut destination: Destination<'a, DirectoryEntry, Self::Buffer>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let this = &mut *self;
        if destination.remaining(&mut store) == Some(0) {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        let (files, directory, next) = (&this.files, this.directory, this.next);
        let pending = this.pending.get_or_insert_with(|| {
            let files = files.clone();
            Box::pin(async move { files.entry(directory, next).await })
        });
        let Poll::Ready(read) = pending.as_mut().poll(cx) else { return waiting(finish) };
        this.pending = None;
        Poll::Ready(match read {
            Ok(Some((name, entry))) => {
                this.next += 1;
                destination.set_buffer(Some(DirectoryEntry { type_: kind(entry), name }));
                Ok(StreamResult::Completed)
            }
            Ok(None) => end(&mut this.ended, Ok(())),
            Err(error) => end(&mut this.ended, Err(error)),
        })
    }
}

/// What is fetched is found by the next one who asks, also when this one does not wait for it.
fn waiting(finish: bool) -> Poll<wasmtime::Result<StreamResult>> {
    if finish { Poll::Ready(Ok(StreamResult::Cancelled)) } else { Poll::Pending }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let _told = end(&mut self.ended, Ok(()));
    }
}

impl Drop for Entries {
    fn drop(&mut self) {
        let _told = end(&mut self.ended, Ok(()));
    }
}
