//! Accepts connections of the control API's clients, so many at once, and lets them finish when it stops.

mod activity;
mod patience;
mod patient;
mod request_body;
mod shares;
mod streams;

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulConnection;
use hyper_util::service::TowerToHyperService;
use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use self::activity::{Activity, drive};
use self::patient::Patient;
use self::request_body::RequestBody;
use self::shares::Shares;
use self::streams::Streams;
use crate::rest::Peer;

/// Open connections, two of each edge among them; further ones wait in the kernel's queue.
const CONNECTIONS: usize = 3_000;

/// How long a client may take to send a request's header, and how long a connection of HTTP/1.1 may wait for one.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Requests of one HTTP/2 connection at the same time.
const STREAMS: u32 = 100;

/// How long, and up to twice as long, a connection of HTTP/2 may wait for a request. As at the edge.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Streams of a connection that are reset or refused because of the client's faults, before it is closed. As at the edge.
const FAULTS: usize = 100;

/// What is held of an answer whose client does not read, of each stream of a connection. As at the edge.
const SEND_BUFFER: usize = 64 << 10;

/// A client of HTTP/2 that does not answer a ping has gone.
const PING: Duration = Duration::from_secs(30);

/// A client that takes nothing of an answer for so long does not get the rest: it would hold what others wait for, such as the place of
/// a page of the feed. As at the edge.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Nor does one that sends nothing of a request's body for so long keep its connection.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// After an accept error such as "too many open files": time for some to close.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `stop` resolves, then lets requests finish. Proxies that are `trusted` bring many clients.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    trusted: Vec<IpNet>,
    stop: impl Future<Output = ()>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let shares = Shares::new(CONNECTIONS, trusted);
    let (stopping, tasks) = (CancellationToken::new(), TaskTracker::new());
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = async {
            let place = places.clone().acquire_owned().await.map_err(std::io::Error::other)?;
            let (stream, peer) = listener.accept().await?;
            Ok::<_, std::io::Error>((stream, peer, place))
        };
        let (stream, peer, place) = tokio::select! {
            () = stop.as_mut() => break,
            accepted = accepted => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "cannot accept a connection; going on");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let Some(share) = shares.take(peer.ip()) else {
            debug!(peer = %peer.ip(), "a client has too many connections; this one is closed");
            continue;
        };
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "a connection was gone before it was served");
            continue;
        }
        let activity = Arc::new(Activity::default());
        let connection = connection(stream, router.clone(), Peer(peer.ip()), &activity);
        let stopping = stopping.clone();
        tasks.spawn(async move {
            if let Err(error) = drive(connection, &activity, &stopping).await {
                debug!(error, "a connection ended with an error");
            }
            drop((place, share));
        });
    }
    drop(listener);
    stopping.cancel();
    tasks.close();
    tasks.wait().await;
}

fn connection<S>(
    stream: S,
    router: Router,
    peer: Peer,
    activity: &Arc<Activity>,
) -> impl GracefulConnection<Error = axum::BoxError> + Send + use<S>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        let answered = service.call(request.map(|body| RequestBody::new(body, READ_TIMEOUT)));
        async move {
            let Ok(answer) = answered.await;
            Ok::<_, Infallible>(streams::in_pieces(answer))
        }
    });
    let stream = TokioIo::new(Patient::new(stream, HEADER_TIMEOUT, WRITE_TIMEOUT, activity.clone()));
    builder(activity).serve_connection_with_upgrades(stream, service).into_owned()
}

fn builder(activity: &Arc<Activity>) -> auto::Builder<Streams> {
    let mut builder = auto::Builder::new(Streams::new(WRITE_TIMEOUT, activity.clone()));
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    let mut http2 = builder.http2();
    http2.timer(TokioTimer::new()).max_concurrent_streams(STREAMS).max_local_error_reset_streams(FAULTS);
    http2.max_send_buf_size(SEND_BUFFER);
    http2.keep_alive_interval(PING).keep_alive_timeout(HEADER_TIMEOUT);
    builder
}

#[cfg(test)]
mod tests;
