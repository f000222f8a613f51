//! One connection to a backend. One of HTTP/1.1 is driven by whoever uses it, first the request's future, then its
//! response's body: there is no task to hand over to. One of HTTP/2 is shared, and has a task.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use af_contract::limits;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use tracing::debug;

use super::Proxy;
use super::error::{ProxyError, Unreachable};
use super::places::Place;
use super::request_body::RequestBody;
use super::tls::Offer;
use super::upstreams::{Member, UpstreamScheme};
use crate::calm::Calm;

/// Streams of one HTTP/2 connection: what most servers allow.
const STREAMS: usize = 100;

/// A connection with streams on which nothing comes is asked whether it is still there, and how long it may take.
const PING: Duration = Duration::from_secs(20);
const PONG: Duration = Duration::from_secs(10);

/// What a backend's HTTP/2 connection may send before it waits: for each stream, and all of them.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

pub(super) type Io = TokioIo<Either<TcpStream, Box<TlsStream<TcpStream>>>>;

/// What sending gave: an error has the request if the backend cannot have seen any of it.
pub(super) type Sent = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>;

/// A connection on which a request can be sent.
pub(super) enum Connection {
    Http1(Box<Http1>),
    Http2(Http2),
}

/// An HTTP/1.1 connection.
pub(super) struct Http1 {
    sender: http1::SendRequest<RequestBody>,
    /// Gone when it is closed.
    driver: Option<http1::Connection<Io, RequestBody>>,
    place: Place,
}

impl Http1 {
    /// Sends a request and drives the connection until the response begins.
    pub async fn send(&mut self, request: Request<RequestBody>) -> Sent {
        let mut sent = pin!(self.sender.try_send_request(request));
        let driver = &mut self.driver;
        poll_fn(move |cx| {
            drive(driver, cx);
            sent.as_mut().poll(cx)
        })
        .await
    }

    /// Reads and writes what can be without waiting.
    pub fn drive(&mut self, cx: &mut Context<'_>) {
        drive(&mut self.driver, cx);
    }

    /// Whether the last exchange is complete and another one may follow.
    pub fn is_idle(&self) -> bool {
        self.driver.is_some() && self.sender.is_ready() && self.place.may_wait()
    }
}

fn drive(driver: &mut Option<http1::Connection<Io, RequestBody>>, cx: &mut Context<'_>) {
    let Some(connection) = driver else { return };
    if let Poll::Ready(ended) = Pin::new(connection).poll(cx) {
        if let Err(error) = ended {
            debug!(%error, "a connection to a backend ended with an error");
        }
        // Dropped, so that whoever waits for a response learns of it.
        *driver = None;
    }
}

/// An HTTP/2 connection, or a part of it.
#[derive(Clone)]
pub(super) struct Http2 {
    sender: http2::SendRequest<RequestBody>,
    /// One more for each stream that is open.
    streams: Arc<()>,
}

impl Http2 {
    pub async fn send(&mut self, request: Request<RequestBody>) -> Sent {
        self.sender.try_send_request(request).await
    }

    pub fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Whether it has room for one more stream.
    pub fn has_room(&self) -> bool {
        // The pool's own.
        Arc::strong_count(&self.streams) <= STREAMS
    }

    pub fn is_unused(&self) -> bool {
        Arc::strong_count(&self.streams) == 1
    }
}

impl Proxy {
    /// Connects to a backend, as its scheme says.
    pub(super) async fn connect(&self, member: &Member) -> Result<Connection, ProxyError> {
        let place = self.places.take().ok_or(ProxyError::Full)?;
        let (io, http2) = self.dial(member, Offer::Any).await?;
        if http2 {
            return Ok(Connection::Http2(start_http2(io, place).await.map_err(Unreachable::Http2)?));
        }
        let (sender, driver) = start_http1(io).await?;
        Ok(Connection::Http1(Box::new(Http1 { sender, driver: Some(driver), place })))
    }

    /// A connection of HTTP/1.1 that is used once, since it is going to speak another protocol.
    pub(super) async fn connect_once(
        &self,
        member: &Member,
    ) -> Result<(http1::SendRequest<RequestBody>, http1::Connection<Io, RequestBody>, Place), ProxyError>
    {
        let place = self.places.take().ok_or(ProxyError::Full)?;
        let (io, _http1) = self.dial(member, Offer::Http1).await?;
        let (sender, driver) = start_http1(io).await?;
        Ok((sender, driver, place))
    }

    async fn dial(&self, member: &Member, offer: Offer) -> Result<(Io, bool), ProxyError> {
        let uri = member.target.uri();
        let stream =
            self.egress.clone().connect(uri.clone()).await.map_err(Unreachable::Egress)?.into_inner();
        Ok(match member.target.scheme() {
            UpstreamScheme::Http => (TokioIo::new(Either::Left(stream)), false),
            UpstreamScheme::H2c => (TokioIo::new(Either::Left(stream)), offer == Offer::Any),
            UpstreamScheme::Https => {
                let (stream, http2) = member.tls.connect(&self.trust, stream, uri, offer).await?;
                (TokioIo::new(Either::Right(Box::new(stream))), http2)
            }
        })
    }
}

async fn start_http1(
    io: Io,
) -> Result<(http1::SendRequest<RequestBody>, http1::Connection<Io, RequestBody>), ProxyError> {
    let mut builder = http1::Builder::new();
    // A response's header may be as large as a request's; a body is held in pieces of no more than that.
    builder
        .max_buf_size(limits::HEADER_BYTES)
        .max_header_size(limits::HEADER_BYTES)
        .max_headers(limits::HEADER_COUNT);
    builder.handshake(io).await.map_err(|error| ProxyError::Failed(error.into()))
}

async fn start_http2(io: Io, place: Place) -> Result<Http2, hyper::Error> {
    let io = TokioIo::new(Calm::new(io.into_inner(), true));
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.timer(TokioTimer::new()).keep_alive_interval(PING).keep_alive_timeout(PONG);
    builder.initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
    builder.max_header_list_size(u32::try_from(limits::HEADER_BYTES).unwrap_or(u32::MAX));
    let (sender, driver) = builder.handshake(io).await?;
    // It ends when the pool and the last stream have let go of it.
    tokio::spawn(async move {
        if let Err(error) = driver.await {
            debug!(%error, "a connection to a backend ended with an error");
        }
        drop(place);
    });
    Ok(Http2 { sender, streams: Arc::new(()) })
}
