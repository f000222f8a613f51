//! One connection, over whatever kind of stream: which protocol it speaks, and who answers its requests.

use std::pin::Pin;
use std::sync::Arc;

use ::http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use tokio_util::task::TaskTracker;

use super::progress::{Active, Phase, Progress};
use super::stream::{Prefix, Stream};
use super::{ListenConfig, Peer, Place, http1, http2};
use crate::http::{ResponseBody, Service};

/// Which protocol a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Its first bytes tell. An unencrypted client of HTTP/2 has to know beforehand that the server speaks it.
    Detect,
    /// As was agreed on while encryption was set up (ALPN), or not talked about.
    Http1,
    /// As was agreed on.
    Http2,
}

/// Why a connection came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself.
    Closed,
    /// It took too long over this.
    TooSlow(Phase),
}

/// What all connections of a core share.
#[derive(Clone)]
pub struct Shared {
    pub service: Arc<Service>,
    pub config: Arc<ListenConfig>,
    pub stop: CancellationToken,
    pub tasks: TaskTracker,
}

/// What all requests of a connection share. Cheap to clone.
#[derive(Clone)]
pub struct Answering(Arc<Connection>);

struct Connection {
    peer: Peer,
    progress: Arc<Progress>,
    shared: Shared,
}

/// A connection that is served to its end. In a box, since most are idle: a task has room for the largest future that it may
/// hold, and what comes before is larger than what a connection waits with.
pub type Serving = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Begins to serve a connection. Nothing when its client has gone.
pub async fn open<S>(
    mut stream: S,
    protocol: Protocol,
    peer: Peer,
    place: Place,
    shared: &Shared,
) -> Option<Serving>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let prefix = match protocol {
        Protocol::Detect => detect(&mut stream, shared).await?,
        Protocol::Http1 | Protocol::Http2 => Prefix::default(),
    };
    let is_http2 = protocol == Protocol::Http2 || prefix.is_http2();
    let progress = Arc::new(Progress::default());
    let stream = Stream::new(stream, &prefix, is_http2, progress.clone(), place);
    let answering = Answering(Arc::new(Connection { peer, progress, shared: shared.clone() }));
    Some(if is_http2 {
        Box::pin(http2::serve(stream, answering))
    } else {
        Box::pin(http1::serve(stream, answering))
    })
}

/// Nothing from a client that has gone or sends nothing.
async fn detect<S: AsyncRead + Unpin>(stream: &mut S, shared: &Shared) -> Option<Prefix> {
    let read = shared.stop.run_until_cancelled(Prefix::read(stream));
    match tokio::time::timeout(shared.config.header_timeout, read).await {
        Ok(Some(Ok(prefix))) if !prefix.is_empty() => Some(prefix),
        _ => None,
    }
}

impl Answering {
    /// Answers one request.
    pub async fn answer(self, request: Request<Incoming>) -> Response<ResponseBody> {
        let active = self.begin();
        let response = self.0.shared.service.call(&self.0.peer, request).await;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            self.0.progress.upgrade();
        }
        // What is complete has only to be taken, which the stream sees.
        if response.body().is_complete() {
            return response;
        }
        response.map(|body| body.watched(Box::new(active)))
    }

    /// A request has begun.
    pub fn begin(&self) -> Active {
        Active::begin(&self.0.progress)
    }

    pub fn service(&self) -> &Service {
        &self.0.shared.service
    }

    pub fn peer(&self) -> &Peer {
        &self.0.peer
    }

    pub fn progress(&self) -> &Progress {
        &self.0.progress
    }

    pub fn config(&self) -> &ListenConfig {
        &self.0.shared.config
    }

    pub fn tasks(&self) -> &TaskTracker {
        &self.0.shared.tasks
    }

    /// Resolves when the server is to stop.
    pub fn stopped(&self) -> WaitForCancellationFuture<'_> {
        self.0.shared.stop.cancelled()
    }
}
