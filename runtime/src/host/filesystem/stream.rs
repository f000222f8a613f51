//! `wasi:io/streams.input-stream` of a file.

use std::sync::Arc;

use bytes::Bytes;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{InputStream, Pollable, StreamError, StreamResult};

use super::files::{Descriptor, FileError, Files};

/// Bytes that a stream holds while nobody takes them. A copy: ten thousand streams must not keep as many
/// blocks in memory.
const AHEAD_BYTES: usize = 4096;

/// A place in a file, from which it is read on.
pub struct FileStream {
    files: Arc<Files>,
    file: Descriptor,
    offset: u64,
    /// What a guest that asked whether there is something will find.
    ready: Option<Result<Bytes, FileError>>,
}

impl FileStream {
    /// From `offset` on.
    pub fn new(files: Arc<Files>, file: Descriptor, offset: u64) -> Self {
        Self { files, file, offset, ready: None }
    }

    fn take(&mut self, found: Result<Bytes, FileError>, size: usize) -> StreamResult<Bytes> {
        let mut bytes = found.map_err(failed)?;
        if bytes.is_empty() {
            return Err(StreamError::Closed);
        }
        bytes.truncate(size);
        self.offset += bytes.len() as u64;
        Ok(bytes)
    }
}

fn failed(error: FileError) -> StreamError {
    match error {
        FileError::Stopped => StreamError::Trap(error.into()),
        error => StreamError::LastOperationFailed(error.into()),
    }
}

#[async_trait]
impl InputStream for FileStream {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if size == 0 {
            return Ok(Bytes::new());
        }
        match self.ready.take() {
            Some(found) => self.take(found, size),
            None => match self.files.read_now(self.file, self.offset).transpose() {
                Some(found) => self.take(found, size),
                // The guest asks when there is.
                None => Ok(Bytes::new()),
            },
        }
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        if size == 0 {
            return Ok(Bytes::new());
        }
        let found = match self.ready.take() {
            Some(found) => found,
            None => self.files.read(self.file, self.offset).await,
        };
        self.take(found, size)
    }
}

#[async_trait]
impl Pollable for FileStream {
    async fn ready(&mut self) {
        if self.ready.is_none() {
            let found = self.files.read(self.file, self.offset).await;
            self.ready = Some(found.map(|bytes| {
                let ahead = bytes.get(..AHEAD_BYTES).unwrap_or(&bytes);
                Bytes::copy_from_slice(ahead)
            }));
        }
    }
}
