//! `wasi:cli` standard output and error: lines of the function's log, bounded per request.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use tracing::info;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};

use crate::request_id::RequestId;

/// A longer line is cut into several.
const LINE_BYTES: usize = 8 << 10;

/// Where the lines of one request go.
#[derive(Clone)]
pub struct GuestLog {
    function: Arc<str>,
    id: RequestId,
    left: Arc<Mutex<u64>>,
}

impl GuestLog {
    /// At most `limit` bytes are kept; one last line then says that there was more.
    pub fn new(function: &str, id: RequestId, limit: u64) -> Self {
        Self { function: function.into(), id, left: Arc::new(Mutex::new(limit)) }
    }

    /// A stream of the given name that writes lines here.
    pub fn stream(&self, name: &'static str) -> LogStream {
        LogStream { log: self.clone(), name, partial: Arc::default() }
    }

    /// The function and the request that lines are logged under.
    pub fn names(&self) -> (&str, RequestId) {
        (&self.function, self.id)
    }

    fn line(&self, stream: &'static str, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        info!(target: "function", function = %self.function, request_id = %self.id, stream, "{}", text.trim_end());
    }

    /// How many of `wanted` bytes may still be logged.
    fn take(&self, wanted: usize, stream: &'static str) -> usize {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        if *left == 0 {
            return 0;
        }
        let granted = usize::try_from(*left).unwrap_or(usize::MAX).min(wanted);
        *left -= granted as u64;
        if *left == 0 && granted < wanted {
            self.line(stream, b"[the log limit of this request is reached; the rest is dropped]");
        }
        granted
    }
}

/// Standard output or error of one instance.
#[derive(Clone)]
pub struct LogStream {
    log: GuestLog,
    name: &'static str,
    partial: Arc<Mutex<Vec<u8>>>,
}

impl LogStream {
    fn write(&self, bytes: &[u8]) {
        let granted = self.log.take(bytes.len(), self.name);
        let mut partial = self.partial.lock().unwrap_or_else(PoisonError::into_inner);
        for piece in bytes.get(..granted).unwrap_or_default().split_inclusive(|byte| *byte == b'\n') {
            partial.extend_from_slice(piece);
            if piece.ends_with(b"\n") || partial.len() >= LINE_BYTES {
                self.log.line(self.name, &partial);
                partial.clear();
            }
        }
    }
}

impl Drop for LogStream {
    fn drop(&mut self) {
        // The last of the clones that share it writes the line that had no end.
        if let Some(partial) = Arc::get_mut(&mut self.partial) {
            let partial = partial.get_mut().unwrap_or_else(PoisonError::into_inner);
            if !partial.is_empty() {
                self.log.line(self.name, partial);
            }
        }
    }
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}

impl AsyncWrite for LogStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.write(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
