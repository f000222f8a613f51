//! The access log: one line of JSON for each request, when its response has ended. Requests never wait for it.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvError, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread;
use std::time::{Instant, SystemTime};

use ::http::{HeaderName, Request, Response, Version};
use serde_json::json;
use tokio::sync::oneshot;
use tracing::warn;

use super::body::{ResponseBody, Watcher};
use super::trace::TraceContext;
use crate::metrics::Metrics;
use crate::request_id::RequestId;

/// Lines that wait for the disk; further ones are dropped and counted. Some 10 MB.
const LINES: usize = 16_384;

/// Of a path and of a host: enough to recognise, and a client cannot fill the disk faster with longer ones.
const TEXT_BYTES: usize = 1024;

const DEPLOYMENT: HeaderName = HeaderName::from_static("af-deployment");

/// Where the lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLogTarget {
    /// Standard output.
    Stdout,
    /// The end of a file.
    File(PathBuf),
}

impl FromStr for AccessLogTarget {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(if text == "-" { Self::Stdout } else { Self::File(text.into()) })
    }
}

/// Who answered, where it is neither a function nor the edge itself. An extension of the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnsweredBy(pub &'static str);

enum Message {
    Line(String),
    Flush(oneshot::Sender<()>),
}

/// Cheap to clone.
#[derive(Clone)]
pub struct AccessLog {
    lines: SyncSender<Message>,
    metrics: Arc<Metrics>,
}

impl AccessLog {
    /// Opens the file and starts the thread that writes it.
    ///
    /// # Errors
    /// When either is not possible.
    pub fn open(target: &AccessLogTarget, metrics: Arc<Metrics>) -> io::Result<Self> {
        let out: Box<dyn Write + Send> = match target {
            AccessLogTarget::Stdout => Box::new(io::stdout()),
            AccessLogTarget::File(path) => Box::new(File::options().append(true).create(true).open(path)?),
        };
        let (lines, inbox) = sync_channel(LINES);
        let counted = metrics.clone();
        thread::Builder::new().name("access-log".into()).spawn(move || write(&inbox, out, &counted))?;
        Ok(Self { lines, metrics })
    }

    /// Begins a request's line.
    pub fn begin<B>(
        &self,
        id: RequestId,
        trace: TraceContext,
        (client, scheme): (IpAddr, &'static str),
        request: &Request<B>,
    ) -> Line {
        let host = request.headers().get(::http::header::HOST).and_then(|host| host.to_str().ok());
        let host = request.uri().authority().map(|authority| authority.as_str()).or(host);
        Line {
            log: self.clone(),
            began: Instant::now(),
            time: SystemTime::now(),
            id,
            trace,
            client: client.to_canonical().to_string(),
            method: shortened(request.method().as_str()),
            scheme,
            version: version(request.version()),
            host: shortened(host.unwrap_or_default()),
            path: shortened(request.uri().path()),
            status: 0,
            by: "edge",
            bytes: 0,
        }
    }

    /// Returns when all lines so far are written.
    pub async fn flush(&self) {
        let (done, written) = oneshot::channel();
        // A queue that is full is being written; the wait for a place is not the event loop's.
        let lines = self.lines.clone();
        let sent = tokio::task::spawn_blocking(move || lines.send(Message::Flush(done)).is_ok()).await;
        if matches!(sent, Ok(true)) {
            // The thread has ended if it says nothing.
            let _ended = written.await;
        }
    }
}

/// One request, until its response has ended.
pub struct Line {
    log: AccessLog,
    began: Instant,
    time: SystemTime,
    id: RequestId,
    trace: TraceContext,
    client: String,
    method: String,
    scheme: &'static str,
    version: &'static str,
    host: String,
    /// Without its query, which often holds what is secret.
    path: String,
    status: u16,
    by: &'static str,
    bytes: u64,
}

impl Line {
    /// Writes the line when the response has been sent, or will not be any more.
    pub fn attach(mut self, response: Response<ResponseBody>) -> Response<ResponseBody> {
        self.status = response.status().as_u16();
        self.by = match response.extensions().get::<AnsweredBy>() {
            Some(AnsweredBy(who)) => who,
            None if response.headers().contains_key(DEPLOYMENT) => "function",
            None => "edge",
        };
        response.map(|body| body.watched(Box::new(self)))
    }
}

impl Watcher for Line {
    fn sent(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let duration = self.began.elapsed().as_secs_f64() * 1e3;
        let line = json!({
            "time": humantime::format_rfc3339_millis(self.time).to_string(),
            "requestId": self.id.to_string(),
            "traceId": self.trace.trace().to_string(),
            "client": self.client,
            "method": self.method,
            "scheme": self.scheme,
            "protocol": self.version,
            "host": self.host,
            "path": self.path,
            "status": self.status,
            "by": self.by,
            "bytes": self.bytes,
            "durationMs": (duration * 1e3).round() / 1e3,
        });
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.log.lines.try_send(Message::Line(line.to_string()))
        {
            self.log.metrics.log_line_dropped();
        }
    }
}

/// Ends when the last [`AccessLog`] is gone.
fn write(inbox: &Receiver<Message>, out: Box<dyn Write + Send>, metrics: &Metrics) {
    let mut out = BufWriter::new(out);
    let mut failing = false;
    while let Ok(message) = next(inbox, &mut out) {
        match message {
            Message::Line(line) => match writeln!(out, "{line}") {
                Ok(()) => failing = false,
                Err(error) => {
                    metrics.log_line_dropped();
                    // Once for each time that the disk is full, not for each line.
                    if !std::mem::replace(&mut failing, true) {
                        warn!(%error, "the access log cannot be written");
                    }
                }
            },
            Message::Flush(done) => {
                let flushed = out.flush();
                if let Err(error) = flushed {
                    warn!(%error, "the access log cannot be written");
                }
                // Whoever waited may have gone.
                let _gone = done.send(());
            }
        }
    }
    let _last = out.flush();
}

/// The next one; what is written so far goes out before this waits.
fn next(inbox: &Receiver<Message>, out: &mut impl Write) -> Result<Message, RecvError> {
    match inbox.try_recv() {
        Ok(message) => Ok(message),
        Err(TryRecvError::Disconnected) => Err(RecvError),
        Err(TryRecvError::Empty) => {
            // An error shows again with the next line.
            let _later = out.flush();
            inbox.recv()
        }
    }
}

fn shortened(text: &str) -> String {
    let mut end = text.len().min(TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}
