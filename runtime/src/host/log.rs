//! `wasi:cli` standard output and error: lines of the function's log, bounded per request.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use tracing::info;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};

use crate::logs::Logger;
use crate::metrics::Metrics;
use crate::request_id::RequestId;

/// A longer line is cut into several.
const LINE_BYTES: usize = af_contract::logs::LINE_BYTES;

/// Whose line it is that the function did not write.
const PLATFORM: &str = "platform";

/// Where the lines of an instance go: under the request that it is answering. Clones are one.
#[derive(Clone)]
pub struct GuestLog {
    request: Arc<Mutex<Request>>,
}

/// The request that lines are logged under.
struct Request {
    logger: Arc<Logger>,
    id: RequestId,
    /// Which of the requests a line belongs to cannot be told while an instance works for several.
    others: u32,
    left: u64,
    /// Lines that have no end yet, by stream.
    partial: [Vec<u8>; 2],
    metrics: Arc<Metrics>,
}

/// Standard output or error.
#[derive(Clone, Copy)]
enum Stream {
    Out,
    Err,
}

impl Stream {
    const ALL: [Self; 2] = [Self::Out, Self::Err];

    fn name(self) -> &'static str {
        match self {
            Self::Out => "stdout",
            Self::Err => "stderr",
        }
    }
}

impl GuestLog {
    /// At most `limit` bytes are kept; one last line then says that there was more.
    pub fn new(logger: &Arc<Logger>, id: RequestId, limit: u64, metrics: &Arc<Metrics>) -> Self {
        let (logger, metrics) = (logger.clone(), metrics.clone());
        let request = Request { logger, id, others: 0, left: limit, partial: Default::default(), metrics };
        Self { request: Arc::new(Mutex::new(request)) }
    }

    /// From here on, lines belong to the request of `next`.
    pub fn continue_as(&self, next: &Self) {
        let (logger, id, left) = {
            let next = next.lock();
            (next.logger.clone(), next.id, next.left)
        };
        let mut request = self.lock();
        request.end();
        let metrics = request.metrics.clone();
        *request = Request { logger, id, others: 0, left, partial: Default::default(), metrics };
    }

    /// From here on, lines belong to the request of `next`, too.
    pub fn admit(&self, next: &Self) {
        let more = next.lock().left;
        let mut request = self.lock();
        request.left = request.left.saturating_add(more);
        request.others = request.others.saturating_add(1);
    }

    /// Standard output of an instance.
    pub fn stdout(&self) -> LogStream {
        LogStream { log: self.clone(), stream: Stream::Out }
    }

    /// Standard error of an instance.
    pub fn stderr(&self) -> LogStream {
        LogStream { log: self.clone(), stream: Stream::Err }
    }

    /// Whose lines they are, and of which request.
    pub fn names(&self) -> (Arc<Logger>, RequestId) {
        let request = self.lock();
        (request.logger.clone(), request.id)
    }

    /// A message with a level of the guest's.
    pub fn message(&self, level: &'static str, context: &str, message: &str) {
        let mut request = self.lock();
        let length = context.len().saturating_add(message.len());
        if request.take(length, level) < length {
            return;
        }
        let (function, id, message) = (request.logger.function(), request.told(), message.trim_end());
        info!(target: "function", function, request_id = %id, stream = level, context, "{message}");
        if context.is_empty() {
            request.logger.tell(id, level, message);
        } else {
            request.logger.tell(id, level, format_args!("{context}: {message}"));
        }
    }

    /// The guest ran into a limit, which is counted by its code. The line is the platform's own, so that
    /// the limit of the log does not count it.
    pub fn limit(&self, code: &'static str, text: &str) {
        let request = self.lock();
        request.metrics.limit(code);
        let (logger, id) = (&request.logger, request.id);
        info!(target: "function", function = logger.function(), request_id = %id, stream = PLATFORM, code, "[{text}]");
        logger.tell(id, PLATFORM, format_args!("[{code}: {text}]"));
    }

    /// The request is over: what had no end is a line now.
    pub fn end(&self) {
        self.lock().end();
    }

    fn lock(&self) -> MutexGuard<'_, Request> {
        self.request.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Request {
    fn line(&self, stream: &'static str, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        let (function, id, text) = (self.logger.function(), self.told(), text.trim_end());
        info!(target: "function", function, request_id = %id, stream, "{text}");
        self.logger.tell(id, stream, text);
    }

    /// `ID`, or `ID+2` for a line of this request or of one of two others.
    fn told(&self) -> String {
        if self.others == 0 { self.id.to_string() } else { format!("{}+{}", self.id, self.others) }
    }

    fn end(&mut self) {
        for stream in Stream::ALL {
            let partial = std::mem::take(self.partial(stream));
            if !partial.is_empty() {
                self.line(stream.name(), &partial);
            }
        }
    }

    fn partial(&mut self, stream: Stream) -> &mut Vec<u8> {
        let [out, err] = &mut self.partial;
        match stream {
            Stream::Out => out,
            Stream::Err => err,
        }
    }

    fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let granted = self.take(bytes.len(), stream.name());
        for piece in bytes.get(..granted).unwrap_or_default().split_inclusive(|byte| *byte == b'\n') {
            self.partial(stream).extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.partial(stream).len() >= LINE_BYTES {
                let line = std::mem::take(self.partial(stream));
                self.line(stream.name(), &line);
            }
        }
    }

    /// How many of `wanted` bytes may still be logged.
    fn take(&mut self, wanted: usize, stream: &'static str) -> usize {
        if self.left == 0 {
            return 0;
        }
        let granted = usize::try_from(self.left).unwrap_or(usize::MAX).min(wanted);
        self.left -= granted as u64;
        if self.left == 0 && granted < wanted {
            self.metrics.limit("log_limit_reached");
            self.line(stream, b"[the log limit of this request is reached; the rest is dropped]");
        }
        granted
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.end();
    }
}

/// Standard output or error of one instance.
#[derive(Clone)]
pub struct LogStream {
    log: GuestLog,
    stream: Stream,
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
        self.log.lock().write(self.stream, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
