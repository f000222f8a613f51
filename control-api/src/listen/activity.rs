//! What a connection of HTTP/2 is asked for, and the end of one that is asked for nothing: its client may answer pings for ever, and
//! would keep its place. hyper ends those of HTTP/1.1.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Poll, ready};

use hyper_util::server::graceful::GracefulConnection;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::IDLE_TIMEOUT;

/// Of one connection. Requests may run on other threads.
#[derive(Debug, Default)]
pub(super) struct Activity {
    is_http2: AtomicBool,
    begun: AtomicU32,
    ended: AtomicU32,
}

impl Activity {
    /// The connection is one of HTTP/2.
    pub(super) fn speaks_http2(&self) {
        self.is_http2.store(true, Ordering::Relaxed);
    }

    /// A request has begun.
    pub(super) fn begin(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// One has ended, in whatever way.
    pub(super) fn end(&self) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether nothing is asked for, and no request has begun or ended since so many had.
    fn is_idle(&self, seen: &mut (u32, u32)) -> bool {
        let now = (self.begun.load(Ordering::Relaxed), self.ended.load(Ordering::Relaxed));
        let is_quiet = std::mem::replace(seen, now) == now;
        self.is_http2.load(Ordering::Relaxed) && is_quiet && now.0 == now.1
    }
}

/// Drives a connection to its end: it takes no more requests when the server stops, and when there was none for one to two times
/// [`IDLE_TIMEOUT`]; its client is told, and has as long again to go.
pub(super) async fn drive<C: GracefulConnection>(
    connection: C,
    activity: &Activity,
    stop: &CancellationToken,
) -> Result<(), C::Error> {
    let mut connection = pin!(connection);
    let mut stopped = pin!(stop.cancelled());
    let mut timer = pin!(sleep(IDLE_TIMEOUT));
    let (mut is_stopping, mut is_told, mut seen) = (false, false, (0, 0));
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                return Poll::Ready(ended);
            }
            if !is_stopping && stopped.as_mut().poll(cx).is_ready() {
                is_stopping = true;
                connection.as_mut().graceful_shutdown();
                continue;
            }
            ready!(timer.as_mut().poll(cx));
            timer.as_mut().reset(Instant::now() + IDLE_TIMEOUT);
            if !activity.is_idle(&mut seen) {
                continue;
            }
            if std::mem::replace(&mut is_told, true) {
                debug!("a client asks for nothing and does not go; its connection is cut");
                return Poll::Ready(Ok(()));
            }
            connection.as_mut().graceful_shutdown();
        }
    })
    .await
}
