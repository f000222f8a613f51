//! Speaks HTTP/2 over a stream, within bounds on what one client can make the server do and hold.

use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use af_contract::limits;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::debug;

use super::answers::{Answered, InPieces, attend};
use super::connection::Answering;
use super::deadline::{Driven, drive};
use super::stream::Stream;

/// Requests of one connection at the same time: the least that RFC 9113 (section 6.5.2) recommends, and what browsers use.
const STREAMS: u32 = 100;

/// A header as HTTP/2 counts it: 32 bytes more for each line (RFC 9113, section 6.5.2). It also bounds CONTINUATION frames.
const HEADER_LIST_BYTES: usize = limits::HEADER_BYTES + limits::URL_BYTES + 32 * limits::HEADER_COUNT;

/// Requests that the client has taken back before anybody looked at them (the rapid reset attack). Clients that go
/// away cleanly take back a few.
const PENDING_RESETS: usize = 20;

/// Streams that the server has reset because of the client's faults, before the connection is closed.
const FAULTS: usize = 100;

/// What a client may send before a function reads it, for each request and for the connection: 5 MB/s at 50 ms distance,
/// and 500 MB held for a client that opens all of its connections to make the server hold bytes.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 512 << 10;

/// What is held of a response for a client that does not read, of each stream: 6 MB for a connection that has all of them, for as
/// long as `write_timeout`.
const SEND_BUFFER: usize = 64 << 10;

/// A client that does not answer a ping has gone, though nothing on the network said so.
const PING: Duration = Duration::from_secs(30);
const PONG: Duration = Duration::from_secs(20);

/// How a connection is counted that had too many frames which ask for nothing.
const FLOOD: &str = "http2_flood";

/// Serves a connection to its end.
pub async fn serve<S>(stream: Stream<S>, answering: Answering)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let requests = answering.clone();
    let handler = service_fn(move |request| {
        let answering = requests.clone();
        async move { Ok::<_, Infallible>(answering.answer(request).await.map(InPieces::new)) }
    });
    let connection = http2::Builder::new(Tracked(answering.clone()))
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(HEADER_LIST_BYTES).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(FAULTS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .serve_connection(TokioIo::new(stream), handler);
    drive(&mut Box::pin(connection), &answering).await;
    if answering.progress().is_flooded() {
        // No request of it is to blame.
        answering.service().metrics().refused(FLOOD);
        debug!(peer = %answering.peer().address, code = FLOOD, "a client sent too much that asks for nothing");
    }
}

/// Runs requests on the connection's core, tracked like connections, and ends those whose client does not take their answer.
#[derive(Clone)]
struct Tracked(Answering);

impl<F> Executor<F> for Tracked
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, request: F) {
        let answering = self.0.clone();
        self.0.tasks().spawn(async move {
            let _active = answering.begin();
            if attend(request, answering.config().write_timeout).await == Answered::TooSlow {
                debug!("a client does not take an answer that it asked for");
                answering.progress().give_up();
            }
        });
    }
}

impl<I, H> Driven for Pin<Box<http2::Connection<I, H, Tracked>>>
where
    Self: Future<Output = hyper::Result<()>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    H: hyper::service::HttpService<hyper::body::Incoming>,
    H::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    H::ResBody: 'static,
    <H::ResBody as http_body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    Tracked: hyper::rt::bounds::Http2ServerConnExec<H::Future, H::ResBody>,
{
    fn shut_down(self: Pin<&mut Self>) {
        self.get_mut().as_mut().graceful_shutdown();
    }
}
