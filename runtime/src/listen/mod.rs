//! Accepts connections, hands each to the core that has the fewest, and drains them. Knows HTTP only
//! as hyper's connection driver.

mod core;
mod peer;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

pub(crate) use self::core::HEADER_TIMEOUT;
use self::core::{CONNECTIONS, Core, Job};
pub use self::peer::{Peer, TlsPeer};
use crate::http::Service;
use crate::tls::Tls;

/// How long requests may go on after a stop: the default wall time limit and a little.
const DRAIN: Duration = Duration::from_secs(35);

/// After an accept error such as "too many open files": time for some to close.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where clients connect.
#[derive(Debug)]
pub struct Listeners {
    /// Unencrypted.
    pub plain: TcpListener,
    /// Encrypted, where an edge has certificates.
    pub tls: Option<TcpListener>,
}

/// Serves until `stop`, then drains with a deadline. Without `tls`, the listener for it answers nobody.
///
/// # Errors
/// When the threads that serve cannot be started.
pub async fn serve(
    listeners: Listeners,
    service: Arc<Service>,
    tls: Option<Arc<Tls>>,
    stop: CancellationToken,
) -> io::Result<()> {
    let tasks = TaskTracker::new();
    let cores = Core::start_all(&service, &stop, &tasks)?;
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listeners, tls.as_ref(), &permits) => accepted,
        };
        match accepted {
            Ok(job) => {
                // A core has its connections for as long as they last; there is always one.
                if let Some(core) = cores.iter().min_by_key(|core| core.connections()) {
                    core.give(job);
                }
            }
            Err(error) => {
                warn!(%error, "cannot accept a connection; going on");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listeners);
    tasks.close();
    if tokio::time::timeout(DRAIN, tasks.wait()).await.is_err() {
        warn!(open = tasks.len(), "connections were cut because they did not finish in time");
    }
    service.drain().await;
    Ok(())
}

async fn accept(listeners: &Listeners, tls: Option<&Arc<Tls>>, permits: &Arc<Semaphore>) -> io::Result<Job> {
    let permit = permits.clone().acquire_owned().await.map_err(io::Error::other)?;
    let encrypted = async {
        match (&listeners.tls, tls) {
            (Some(listener), Some(tls)) => (listener.accept().await, Some(tls.clone())),
            _ => std::future::pending().await,
        }
    };
    let (accepted, tls) = tokio::select! {
        accepted = listeners.plain.accept() => (accepted, None),
        accepted = encrypted => accepted,
    };
    let (stream, address) = accepted?;
    stream.set_nodelay(true)?;
    Ok(Job { stream: stream.into_std()?, address, tls, permit })
}
