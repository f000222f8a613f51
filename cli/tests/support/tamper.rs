//! A proxy between us and a real server that changes what the server says, or counts how often it was asked.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a failure here is the test's failure")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// Nothing is changed.
const HONEST: u64 = u64::MAX;

/// Passes on what comes, and flips a bit in what goes back when it is told to. Has a thread of its own, and ends when
/// it is dropped.
pub struct Tamper {
    pub address: SocketAddr,
    told: Arc<Told>,
    _end: oneshot::Sender<()>,
}

/// What both sides know.
struct Told {
    target: SocketAddr,
    /// Which byte is changed.
    flip: AtomicU64,
    /// Requests, or connections.
    seen: AtomicU64,
}

impl Tamper {
    /// In front of a server of HTTP: every response's body is one to change.
    pub fn http(target: SocketAddr) -> Self {
        Self::start(target, |listener, told| async move {
            let client = super::support::http_without_redirects();
            let app = axum::Router::new().fallback(forward).with_state((told, client));
            axum::serve(listener, app).await.unwrap();
        })
    }

    /// In front of any server: what it says on a connection is changed, whatever it means.
    pub fn tcp(target: SocketAddr) -> Self {
        Self::start(target, |listener, told| async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(connection(client, told.clone()));
            }
        })
    }

    fn start<F: Future<Output = ()>>(
        target: SocketAddr,
        serve: impl FnOnce(TcpListener, Arc<Told>) -> F + Send + 'static,
    ) -> Self {
        let told = Arc::new(Told { target, flip: AtomicU64::new(HONEST), seen: AtomicU64::new(0) });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (end, ended) = oneshot::channel::<()>();
        let shared = told.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let serve = serve(TcpListener::from_std(listener).unwrap(), shared);
                tokio::select! { () = serve => {}, _ = ended => {} }
            });
        });
        Self { address, told, _end: end }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on a bit of this byte of each body or connection is another one, if it is that long.
    pub fn flip(&self, byte: u64) {
        self.told.flip.store(byte, Ordering::SeqCst);
    }

    /// From now on it tells the truth.
    pub fn be_honest(&self) {
        self.flip(HONEST);
    }

    /// How many requests or connections there were.
    pub fn seen(&self) -> u64 {
        self.told.seen.load(Ordering::SeqCst)
    }
}

impl Told {
    /// Changes the byte where it is in this part of what is said, which begins at `from`.
    fn change(&self, from: u64, part: &mut [u8]) {
        let flip = self.flip.load(Ordering::SeqCst);
        let at = flip.checked_sub(from).and_then(|at| usize::try_from(at).ok());
        if let Some(byte) = at.and_then(|at| part.get_mut(at)) {
            *byte ^= 1;
        }
    }
}

async fn forward(
    State((told, client)): State<(Arc<Told>, reqwest::Client)>,
    request: Request,
) -> Result<Response, String> {
    told.seen.fetch_add(1, Ordering::SeqCst);
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut headers = parts.headers;
    headers.remove("host");
    let sent = client
        .request(parts.method, format!("http://{}{path}", told.target))
        .headers(headers)
        .body(reqwest::Body::wrap_stream(body.into_data_stream()))
        .send()
        .await
        .map_err(|error| error.to_string())?;
    let mut response = Response::builder().status(sent.status());
    for (name, value) in sent.headers().iter().filter(|(name, _)| *name != "transfer-encoding") {
        response = response.header(name, value);
    }
    let mut from = 0;
    let body = sent.bytes_stream().map(move |part| {
        part.map(|part| {
            let mut part = part.to_vec();
            told.change(from, &mut part);
            from += part.len() as u64;
            part
        })
    });
    response.body(Body::from_stream(body)).map_err(|error| error.to_string())
}

/// Ends when both have, or the wire is cut.
async fn connection(client: TcpStream, told: Arc<Told>) -> std::io::Result<()> {
    told.seen.fetch_add(1, Ordering::SeqCst);
    let (mut from_server, mut to_server) = TcpStream::connect(told.target).await?.into_split();
    let (mut from_client, mut to_client) = client.into_split();
    let there = tokio::io::copy(&mut from_client, &mut to_server);
    let back = async {
        let (mut buffer, mut from) = (vec![0; 64 << 10], 0);
        loop {
            let size = from_server.read(&mut buffer).await?;
            if size == 0 {
                return to_client.shutdown().await;
            }
            let (part, _) = buffer.split_at_mut(size);
            told.change(from, part);
            from += size as u64;
            to_client.write_all(part).await?;
        }
    };
    tokio::try_join!(there, back).map(|_| ())
}
