//! Bitswap: this node as an IPFS peer, which asks others for blocks and sends them its own
//! (<https://specs.ipfs.tech/bitswap-protocol/>), over TCP with Noise and yamux.
//!
//! No peer is trusted: a block counts as the one whose id its bytes have, and if nobody asked for that, it is dropped,
//! counted, and held against its sender.

mod behaviour;
mod config;
mod counters;
mod delegates;
mod handler;
mod identity;
mod ledgers;
mod lookup;
pub mod message;
mod muxer;
mod node;
mod peers;
mod stream;
mod tally;
#[cfg(test)]
mod tests;
mod transport;
mod wants;

use std::sync::Arc;
use std::time::Duration;

use af_contract::ContentId;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use libp2p_connection_limits::{self as connection_limits, ConnectionLimits};
pub use libp2p_core::Multiaddr;
pub use libp2p_identity::PeerId;
use libp2p_swarm::{self as swarm, Swarm, SwarmEvent};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use {libp2p_identify as identify, libp2p_noise as noise, libp2p_ping as ping};

pub use self::config::{Config, Serve};
pub use self::counters::{Counters, Stats};
pub use self::delegates::Delegates;
pub use self::identity::{Identity, IdentityError};
use self::node::{Network, Node, Request};
pub use self::peers::{PeerAddress, PeerAddressError};
pub use self::wants::Patience;
use crate::disk::DiskStore;
use crate::hash::Hashed;
use crate::source::{Allowed, Source, SourceError, SourceReport};

/// Connections that are not encrypted yet, at once. Whoever opens them has shown nothing of itself.
const HANDSHAKES: u32 = 64;

/// Connections with one peer: each side may have dialled the other at the same time, and once more.
const CONNECTIONS_PER_PEER: u32 = 4;

/// Streams of one connection whose protocol is not chosen yet.
const NEGOTIATING: usize = 16;

/// For a connection on which no protocol wants to go on.
const IDLE_TIME: Duration = Duration::from_secs(10);

/// Requests that wait for the node's task; whoever asks then waits, too.
const REQUESTS: usize = 64;

/// Peers that others named and that wait to be dialled.
const DIALS: usize = 16;

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken, is not this machine's, or is no TCP.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: Multiaddr,
        /// What the system said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The key cannot be used for encryption.
    #[error("the key cannot be used")]
    Key(#[from] noise::Error),
}

/// A running node. Dropping it ends it.
#[derive(Debug)]
pub struct Bitswap {
    source: Arc<Asked>,
    dials: mpsc::Sender<PeerAddress>,
    addresses: Vec<Multiaddr>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Bitswap {
    /// Starts a node on the current Tokio runtime. It listens when this returns; peers are dialled from then on.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start(config: Config, store: DiskStore) -> Result<Self, StartError> {
        let tally = Arc::new(tally::Tally::new(config.peers.iter().map(|address| address.peer)));
        let peers = peers::Peers::new(config.peers);
        let exchange = behaviour::Exchange::new(peers.ids().collect(), config.serve == Serve::Anyone);
        let mut swarm = swarm(&config.identity, exchange)?;
        let addresses = listen(&mut swarm, &config.listen).await?;
        let counters = Arc::new(Counters::default());
        let (requests, asked) = mpsc::channel(REQUESTS);
        let (dials, named) = mpsc::channel(DIALS);
        let (stop, stopped) = oneshot::channel();
        let node = Node {
            swarm,
            store,
            serve: config.serve,
            peers,
            wants: wants::Wants::new(config.patience, Instant::now(), Arc::clone(&tally)),
            counters: Arc::clone(&counters),
            tally: Arc::clone(&tally),
            ledgers: ledgers::Ledgers::default(),
            lookups: JoinSet::new(),
        };
        let peer_id = config.identity.peer_id();
        let task = tokio::spawn(node.run(asked, named, stopped));
        let source = Arc::new(Asked { requests, counters, tally, peer_id });
        Ok(Self { source, dials, addresses, stop, task })
    }

    /// The connected peers, as one source of blocks.
    #[must_use]
    pub fn source(&self) -> Arc<dyn Source> {
        Arc::clone(&self.source) as Arc<dyn Source>
    }

    /// Who the node is.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.source.peer_id
    }

    /// Where it listens, each with its id, as others are told to connect.
    pub fn addresses(&self) -> impl Iterator<Item = Multiaddr> {
        let of = libp2p_core::multiaddr::Protocol::P2p(self.peer_id());
        self.addresses.iter().map(move |address| address.clone().with(of.clone()))
    }

    /// Has it connect with peers that others name, at addresses that are `allowed`.
    #[must_use]
    pub fn delegates(&self, allowed: Allowed) -> Delegates {
        Delegates { dials: self.dials.clone(), allowed }
    }

    /// What it counts, also after it has ended.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.source.counters)
    }

    /// What it has done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.source.counters.read()
    }

    /// Ends all connections, and returns when that is done. Who still waits for a block gets none.
    pub async fn stop(self) {
        // An error means that the task has ended by itself, which is a panic, and was reported as such.
        let _ended = self.stop.send(());
        let _ended = self.task.await;
    }
}

fn swarm(identity: &Identity, exchange: behaviour::Exchange) -> Result<Swarm<Network>, noise::Error> {
    let transport = transport::transport(&identity.0)?;
    let limits = ConnectionLimits::default()
        .with_max_pending_incoming(Some(HANDSHAKES))
        .with_max_established_per_peer(Some(CONNECTIONS_PER_PEER));
    let agent = concat!("af/", env!("CARGO_PKG_VERSION"));
    let identify = identify::Config::new("ipfs/0.1.0".to_owned(), identity.0.public());
    let network = Network {
        limits: connection_limits::Behaviour::new(limits),
        // What peers say of themselves is of no interest here, so nothing of it is kept.
        identify: identify::Behaviour::new(identify.with_agent_version(agent.to_owned()).with_cache_size(0)),
        ping: ping::Behaviour::default(),
        exchange,
    };
    let config = swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(IDLE_TIME)
        .with_max_negotiating_inbound_streams(NEGOTIATING);
    Ok(Swarm::new(transport, network, identity.peer_id(), config))
}

/// Listens on all addresses, and returns those that came of them: a port of 0 is one that is free.
async fn listen(swarm: &mut Swarm<Network>, wanted: &[Multiaddr]) -> Result<Vec<Multiaddr>, StartError> {
    let mut addresses = Vec::new();
    for address in wanted {
        let failed = |source| StartError::Listen { address: address.clone(), source };
        swarm.listen_on(address.clone()).map_err(|error| failed(error.into()))?;
    }
    while addresses.len() < wanted.len() {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

/// The node as a source.
#[derive(Debug)]
struct Asked {
    requests: mpsc::Sender<Request>,
    counters: Arc<Counters>,
    tally: Arc<tally::Tally>,
    peer_id: PeerId,
}

impl Source for Asked {
    fn name(&self) -> &str {
        "bitswap"
    }

    fn block(&self, id: ContentId) -> BoxFuture<'_, Result<Hashed, SourceError>> {
        let stopped = || SourceError::Unreachable("this node stops".into());
        async move {
            let (waiter, answer) = oneshot::channel();
            self.requests.send(Request { id, waiter }).await.map_err(|_| stopped())?;
            answer.await.unwrap_or_else(|_| Err(stopped()))
        }
        .boxed()
    }

    fn peers(&self) -> Vec<SourceReport> {
        self.tally.reports()
    }
}
