//! Accepts connections, hands each to the core that has the fewest, ends those that take too long, and drains them.
//! Of HTTP it knows how bytes become requests; what requests mean is the next module's.

mod answers;
mod connection;
mod core;
mod deadline;
mod http1;
mod http2;
mod peer;
mod places;
mod progress;
mod proxy_protocol;
mod stream;
mod trusted;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

pub use self::connection::Protocol;
use self::connection::Shared;
use self::core::{Core, Job};
pub use self::peer::{Peer, TlsPeer};
pub(crate) use self::places::Client;
use self::places::{Place, Places};
pub use self::proxy_protocol::{ProxyProtocol, ProxyProtocolError};
pub use self::trusted::{TrustedProxies, X_FORWARDED_FOR};
use crate::http::Service;
use crate::tls::Tls;

/// What clients may do with connections.
#[derive(Clone, Debug)]
pub struct ListenConfig {
    /// How long a client may take to send a request's header.
    pub header_timeout: Duration,
    /// How long, and up to twice as long, a connection may wait for its next request.
    pub idle_timeout: Duration,
    /// How long a client may read nothing of what it is sent.
    pub write_timeout: Duration,
    /// Open connections; further ones wait in the kernel's queue.
    pub connections: usize,
    /// Of them, those of one client: an IPv4 address or an IPv6 network of 64 bits. Further ones are closed.
    pub connections_per_client: usize,
    /// Proxies whose connections are not counted as one client's.
    pub trusted: TrustedProxies,
    /// Whose connections begin with a PROXY header.
    pub proxy_protocol: ProxyProtocol,
}

impl Default for ListenConfig {
    /// Ten seconds for a header are what a phone in a tunnel needs. A minute of waiting is what balancers use, which
    /// close first. A tenth of all connections is more than an office behind one address has.
    fn default() -> Self {
        Self {
            header_timeout: HEADER_TIMEOUT,
            idle_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            connections: 10_000,
            connections_per_client: 1_000,
            trusted: TrustedProxies::default(),
            proxy_protocol: ProxyProtocol::default(),
        }
    }
}

/// How long a client may take to send a request's header, unless it is configured.
pub(crate) const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

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

/// Who answers connections, and how.
pub struct Server {
    /// Answers requests.
    pub service: Arc<Service>,
    /// What clients may do with connections.
    pub config: ListenConfig,
    /// Certificates; without them, the encrypted listener answers nobody.
    pub tls: Option<Arc<Tls>>,
}

/// Serves until `stop`, then drains with a deadline.
///
/// # Errors
/// When the threads that serve cannot be started.
pub async fn serve(server: Server, listeners: Listeners, stop: CancellationToken) -> io::Result<()> {
    let Server { service, config, tls } = server;
    let tasks = TaskTracker::new();
    let places = Places::new(config.connections, config.connections_per_client, config.trusted.clone());
    let config = Arc::new(config);
    let shared = Shared { service: service.clone(), config, stop: stop.clone(), tasks: tasks.clone() };
    let cores = Core::start_all(&shared)?;
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listeners, tls.as_ref(), &places) => accepted,
        };
        match accepted {
            Ok(Some(job)) => {
                // A core has its connections for as long as they last; there is always one.
                if let Some(core) = cores.iter().min_by_key(|core| core.connections()) {
                    core.give(job);
                }
            }
            Ok(None) => service.metrics().connection_refused(),
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

/// Nothing when the client has too many.
async fn accept(listeners: &Listeners, tls: Option<&Arc<Tls>>, places: &Places) -> io::Result<Option<Job>> {
    let permit = places.any().await.map_err(io::Error::other)?;
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
    let Some(place) = places.give(permit, address.ip()) else { return Ok(None) };
    stream.set_nodelay(true)?;
    Ok(Some(Job { stream: stream.into_std()?, address, tls, place }))
}
