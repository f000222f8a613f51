//! Connections that stop speaking HTTP (WebSocket): bytes pass both ways, until one side ends or does not read, or both are silent.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Version};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::places::Place;
use crate::metrics::Metrics;
use crate::usage::Counters;

/// How long neither side may send anything, or one may take nothing of what there is for it, twice at most. WebSocket libraries ping each half minute or so. Tests do
/// not wait for so long, here and below.
const SILENCE: Duration = if cfg!(test) { Duration::from_millis(300) } else { Duration::from_secs(300) };

/// How long tunnels may go on after a stop: they have no end of their own, so that waiting is a courtesy.
const DRAIN: Duration = if cfg!(test) { Duration::from_millis(100) } else { Duration::from_secs(5) };

const UPGRADE_TOKEN: HeaderValue = HeaderValue::from_static("upgrade");

/// The protocol that a request wants to go on with. HTTP/2 is none that is passed on: its requests would no longer be seen.
pub(super) fn asked<B>(request: &Request<B>) -> Option<HeaderValue> {
    if request.version() != Version::HTTP_11 || !names_upgrade(request.headers()) {
        return None;
    }
    let protocol = request.headers().get(UPGRADE)?;
    let mut names = protocol.to_str().ok()?.split(',');
    let is_http2 = |name: &str| name.trim().get(..2).is_some_and(|start| start.eq_ignore_ascii_case("h2"));
    (!names.any(is_http2)).then(|| protocol.clone())
}

fn names_upgrade(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(CONNECTION).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|name| name.trim().eq_ignore_ascii_case("upgrade"))
}

/// Says that a message is about another protocol.
pub(super) fn tell(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, UPGRADE_TOKEN);
    headers.insert(UPGRADE, protocol);
}

/// All open tunnels of this edge. Each holds a place for a connection, which bounds them.
pub(super) struct Tunnels {
    tasks: TaskTracker,
    cut: CancellationToken,
    metrics: Arc<Metrics>,
}

impl Tunnels {
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { tasks: TaskTracker::new(), cut: CancellationToken::new(), metrics }
    }

    /// Runs something that belongs to a tunnel, until it ends or is cut.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let cut = self.cut.clone();
        self.tasks.spawn(async move { cut.run_until_cancelled(work).await });
    }

    /// Joins two connections as soon as both have stopped speaking HTTP. What goes to the client is counted.
    pub fn join(
        &self,
        client: OnUpgrade,
        backend: OnUpgrade,
        place: Arc<Place>,
        usage: Option<Arc<Counters>>,
    ) {
        let open = Open::new(self.metrics.clone());
        self.spawn(async move {
            if let Err(error) = pass(client, backend, usage).await {
                debug!(error = %error, "a tunnel ended with an error");
            }
            drop((place, open));
        });
    }

    /// Waits for a moment, then cuts those that are left.
    pub async fn drain(&self) {
        self.tasks.close();
        if tokio::time::timeout(DRAIN, self.tasks.wait()).await.is_err() {
            self.cut.cancel();
            self.tasks.wait().await;
        }
    }
}

/// A tunnel that is counted while it is open.
struct Open(Arc<Metrics>);

impl Open {
    fn new(metrics: Arc<Metrics>) -> Self {
        metrics.tunnel_opened();
        Self(metrics)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.tunnel_closed();
    }
}

async fn pass(client: OnUpgrade, backend: OnUpgrade, usage: Option<Arc<Counters>>) -> io::Result<()> {
    let upgraded = async { tokio::try_join!(client, backend).map_err(io::Error::other) };
    let upgraded = tokio::time::timeout(SILENCE, upgraded).await;
    let (client, backend) = upgraded.map_err(|_| io::ErrorKind::TimedOut)??;
    let (mut client, mut backend) = (Side::new(client, usage), Side::new(backend, None));
    let signs = [client.signs.clone(), backend.signs.clone()];
    let silence = async {
        loop {
            tokio::time::sleep(SILENCE).await;
            let [client, backend] = signs.each_ref().map(|side| side.look());
            if !client.has_sent && !backend.has_sent || client.is_stuck || backend.is_stuck {
                return;
            }
        }
    };
    tokio::select! {
        copied = copy_bidirectional(&mut client, &mut backend) => copied.map(drop),
        () = silence => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// One side, which notes what comes from it and goes to it.
struct Side {
    io: TokioIo<Upgraded>,
    signs: Arc<Signs>,
    /// Where what goes to it is counted.
    usage: Option<Arc<Counters>>,
}

impl Side {
    fn new(side: Upgraded, usage: Option<Arc<Counters>>) -> Self {
        Self { io: TokioIo::new(side), signs: Arc::default(), usage }
    }
}

/// What was seen of a side.
#[derive(Default)]
struct Signs {
    /// Something came, and went, since it was looked at.
    heard: AtomicBool,
    took: AtomicBool,
    /// There is something that it has not taken.
    waiting: AtomicBool,
}

/// What that says.
struct Seen {
    has_sent: bool,
    /// It took nothing, though there was something for it.
    is_stuck: bool,
}

impl Signs {
    fn look(&self) -> Seen {
        let took = self.took.swap(false, Ordering::Relaxed);
        let has_sent = self.heard.swap(false, Ordering::Relaxed);
        Seen { has_sent, is_stuck: self.waiting.load(Ordering::Relaxed) && !took }
    }
}

impl AsyncRead for Side {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        self.signs.heard.store(true, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Side {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.signs.waiting.store(written.is_pending(), Ordering::Relaxed);
        if written.is_ready() {
            self.signs.took.store(true, Ordering::Relaxed);
        }
        if let (Poll::Ready(Ok(count)), Some(usage)) = (&written, &self.usage) {
            usage.sent(*count as u64);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
