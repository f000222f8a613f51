//! The proxy between real connections: an edge that passes everything on, backends of every kind, clients that write bytes.

mod failing;
mod passing;
mod protocols;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::http::{RequestError, rescue};
use crate::usage::Book;

/// Long enough for a loaded machine, short enough to be waited for.
const SOON: Duration = Duration::from_millis(300);

const PATIENT: Duration = Duration::from_secs(30);

type Answer = Response<BoxBody<Bytes, hyper::Error>>;

/// An edge whose only route is to some backends.
struct Edge {
    address: SocketAddr,
    proxy: Arc<Proxy>,
    metrics: Arc<Metrics>,
    book: Book,
}

impl Edge {
    async fn to(targets: Vec<UpstreamTarget>) -> Self {
        Self::with(targets, PATIENT, Trust::default(), &["127.0.0.0/8"]).await
    }

    async fn hasty(targets: Vec<UpstreamTarget>) -> Self {
        Self::with(targets, SOON, Trust::default(), &["127.0.0.0/8"]).await
    }

    async fn with(targets: Vec<UpstreamTarget>, timeout: Duration, trust: Trust, opened: &[&str]) -> Self {
        let metrics = Arc::new(Metrics::default());
        let opened: Vec<_> = opened.iter().map(|network| network.parse().unwrap()).collect();
        let trusted = TrustedProxies::default();
        let proxy = Arc::new(Proxy::new(Egress::new(&opened), trust, trusted, metrics.clone()));
        let upstreams = Arc::new(Upstreams::new(targets.into_iter().map(Some).collect(), timeout));
        let shared = (proxy.clone(), upstreams, metrics.clone());
        let book = Book::default();
        let usage = book.of("fn_1");
        let address = serve(move |peer, mut request: Request<Incoming>| {
            request.extensions_mut().insert(usage.clone());
            forward(shared.clone(), peer, request)
        });
        Self { address: address.await, proxy, metrics, book }
    }

    /// Everything that an answer to these bytes has, until the connection is closed.
    async fn ask(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        until_closed(&mut stream).await
    }

    async fn get(&self, path: &str) -> String {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n")).await
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    fn metric(&self, name: &str) -> u64 {
        let text = self.metrics.encode().unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or_default()
    }
}

async fn forward(
    (proxy, upstreams, metrics): (Arc<Proxy>, Arc<Upstreams>, Arc<Metrics>),
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let id = RequestId::next();
    let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let peer = Peer::plain(peer);
    match proxy.forward(&peer, request, "shop.example", &upstreams, vec![path; 16], id).await {
        Ok(response) => response,
        Err(error) => rescue::response(&RequestError::Proxy(error), id, &metrics),
    }
}

/// A server of HTTP/1.1 and 2 that lives as long as the test.
async fn serve<F, B>(
    answer: impl Fn(SocketAddr, Request<Incoming>) -> F + Clone + Send + 'static,
) -> SocketAddr
where
    F: Future<Output = Response<B>> + Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, peer) = listener.accept().await.unwrap();
            tokio::spawn(serve_one(stream, peer, answer.clone()));
        }
    });
    address
}

async fn serve_one<F, B>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    answer: impl Fn(SocketAddr, Request<Incoming>) -> F + Send + 'static,
) where
    F: Future<Output = Response<B>> + Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let service = service_fn(move |request| {
        let answer = answer(peer, request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    // Tests break connections on purpose.
    let _ended = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
}

fn target(scheme: UpstreamScheme, address: SocketAddr) -> UpstreamTarget {
    UpstreamTarget::new(scheme, address.to_string().parse().unwrap()).unwrap()
}

fn http(address: SocketAddr) -> Vec<UpstreamTarget> {
    vec![target(UpstreamScheme::Http, address)]
}

/// A backend of which each connection is handled by a function of its bytes. Counts connections.
async fn raw<F>(handle: impl Fn(TcpStream) -> F + Send + 'static) -> (SocketAddr, Arc<AtomicUsize>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            counter.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(handle(stream));
        }
    });
    (address, count)
}

/// A raw backend that reads a request's header and answers with these bytes, then closes.
async fn saying(answer: &'static str) -> (SocketAddr, Arc<AtomicUsize>) {
    raw(move |mut stream| async move {
        head(&mut stream).await;
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await
}

/// A header, up to its empty line; empty if the connection is closed before.
async fn head(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => text.push(byte),
            Err(_) => return String::new(),
        }
    }
    String::from_utf8(text).unwrap()
}

async fn until_closed(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    // A connection that is reset ends the answer, too.
    let _ended = stream.read_to_end(&mut text).await;
    String::from_utf8_lossy(&text).into_owned()
}

/// A backend that answers with what it was asked, or the body that it was sent.
async fn echo(_: SocketAddr, request: Request<Incoming>) -> Answer {
    let text = format!(
        "{} {} {:?}\n{}",
        request.method(),
        request.uri(),
        request.version(),
        lines(request.headers())
    );
    match request.uri().path() {
        "/body" => Response::new(request.into_body().boxed()),
        _ => Response::new(Full::from(text).map_err(|never| match never {}).boxed()),
    }
}

/// Sorted by name; lines of one name in their order.
fn lines(headers: &http::HeaderMap) -> String {
    let mut lines: Vec<String> =
        headers.iter().map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap())).collect();
    lines.sort_by_key(|line| line.split_once(':').unwrap().0.to_owned());
    lines.concat()
}

/// What comes after an answer's header.
fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}")).1
}

/// The code of a problem document.
fn code(answer: &str) -> (u16, String) {
    let status = answer.split(' ').nth(1).unwrap_or_else(|| panic!("no answer: {answer:?}")).parse().unwrap();
    let problem: serde_json::Value = serde_json::from_str(body(answer)).unwrap_or_default();
    let code = problem["code"].as_str();
    (status, code.unwrap_or_else(|| panic!("no problem document: {answer:.300}")).to_owned())
}
