//! Bitswap on all connections: who may connect, and which messages come and go. What they mean is decided elsewhere.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p_core::Endpoint;
use libp2p_core::Multiaddr;
use libp2p_core::transport::PortUse;
use libp2p_identity::PeerId;
use libp2p_swarm::behaviour::{ConnectionClosed, ConnectionEstablished};
use libp2p_swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, ToSwarm,
};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::handler::{self, Failure, Handler, Outgoing};
use super::message::MESSAGE_BYTES;
use super::stream::Incoming;

/// Peers that nobody configured, at once. Each takes 20 MiB at the very most, if it is hostile.
const STRANGERS: usize = 64;

/// What messages of a configured peer may take while they are read: two of the largest.
const PEER_BUDGET: usize = 2 * MESSAGE_BYTES;

/// The same for all others together.
const STRANGERS_BUDGET: usize = 8 * MESSAGE_BYTES;

/// Peers that are remembered for having been banned, so that nobody can fill the memory with new names.
const BANNED: usize = 1024;

/// How long a peer that broke the protocol is kept out.
pub const BAN: Duration = Duration::from_secs(60);

/// Somebody who may not connect.
#[derive(Debug, thiserror::Error)]
#[error("peer {0} is not welcome here now")]
struct Unwelcome(PeerId);

/// What happened with a peer.
#[derive(Debug)]
pub enum Event {
    /// It is there.
    Connected(PeerId),
    /// Its last connection ended.
    Gone(PeerId),
    /// It said something.
    Received(PeerId, Incoming),
    /// What it was sent is on its way.
    Sent(PeerId, usize),
    /// It was sent away.
    Failed(PeerId, Failure),
}

/// The connections.
pub struct Exchange {
    configured: HashSet<PeerId>,
    /// Whether others than the configured may connect.
    open: bool,
    peers: HashMap<PeerId, Connections>,
    banned: HashMap<PeerId, Instant>,
    strangers: Arc<Semaphore>,
    events: VecDeque<ToSwarm<Event, Outgoing>>,
}

struct Connections {
    /// The first one is what we write to, so that messages stay in order.
    ids: Vec<ConnectionId>,
    budget: Arc<Semaphore>,
}

impl Exchange {
    pub fn new(configured: HashSet<PeerId>, open: bool) -> Self {
        Self {
            configured,
            open,
            peers: HashMap::new(),
            banned: HashMap::new(),
            strangers: Arc::new(Semaphore::new(STRANGERS_BUDGET)),
            events: VecDeque::new(),
        }
    }

    /// Sends a message, if the peer is still there. Its weight is reported when it is on its way.
    pub fn send(&mut self, peer_id: PeerId, outgoing: Outgoing) {
        if let Some(first) = self.peers.get(&peer_id).and_then(|peer| peer.ids.first()) {
            let handler = NotifyHandler::One(*first);
            self.events.push_back(ToSwarm::NotifyHandler { peer_id, handler, event: outgoing });
        }
    }

    /// Ends a peer's connections and keeps it out for a while.
    pub fn ban(&mut self, peer_id: PeerId) {
        let now = Instant::now();
        self.banned.retain(|_, until| *until > now);
        if self.banned.len() < BANNED {
            self.banned.insert(peer_id, now + BAN);
        }
        self.events.push_back(ToSwarm::CloseConnection { peer_id, connection: CloseConnection::All });
    }

    fn handler(&self, peer: PeerId) -> Handler {
        let known = self.configured.contains(&peer);
        let budget = match self.peers.get(&peer) {
            Some(peer) => Arc::clone(&peer.budget),
            None => self.budget(known),
        };
        Handler::new(budget, known)
    }

    fn budget(&self, known: bool) -> Arc<Semaphore> {
        if known { Arc::new(Semaphore::new(PEER_BUDGET)) } else { Arc::clone(&self.strangers) }
    }

    fn welcome(&self, peer: PeerId) -> Result<(), ConnectionDenied> {
        let banned = self.banned.get(&peer).is_some_and(|until| *until > Instant::now());
        let strangers = || self.peers.keys().filter(|peer| !self.configured.contains(peer)).count();
        let known = self.configured.contains(&peer) || self.peers.contains_key(&peer);
        if !banned && (known || self.open && strangers() < STRANGERS) {
            Ok(())
        } else {
            Err(ConnectionDenied::new(Unwelcome(peer)))
        }
    }

    fn established(&mut self, peer: PeerId, connection: ConnectionId) {
        let budget = self.budget(self.configured.contains(&peer));
        let entry = self.peers.entry(peer).or_insert_with(|| Connections { ids: Vec::new(), budget });
        entry.ids.push(connection);
        if entry.ids.len() == 1 {
            self.events.push_back(ToSwarm::GenerateEvent(Event::Connected(peer)));
        }
    }

    /// What was written to a connection that ended may not have arrived, so the peer counts as new when it was the one
    /// that we write to.
    fn closed(&mut self, peer: PeerId, connection: ConnectionId) {
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        let first = entry.ids.first() == Some(&connection);
        entry.ids.retain(|id| *id != connection);
        let left = !entry.ids.is_empty();
        if !left {
            self.peers.remove(&peer);
        }
        if first || !left {
            self.events.push_back(ToSwarm::GenerateEvent(Event::Gone(peer)));
        }
        if first && left {
            self.events.push_back(ToSwarm::GenerateEvent(Event::Connected(peer)));
        }
    }
}

impl NetworkBehaviour for Exchange {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        self.welcome(peer)?;
        Ok(self.handler(peer))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.handler(peer))
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished { peer_id, connection_id, .. }) => {
                self.established(peer_id, connection_id);
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, connection_id, .. }) => {
                self.closed(peer_id, connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer_id: PeerId,
        connection: ConnectionId,
        event: handler::Event,
    ) {
        let event = match event {
            handler::Event::Received(incoming) => Event::Received(peer_id, incoming),
            handler::Event::Sent(weight) => Event::Sent(peer_id, weight),
            handler::Event::Failed(failure) => {
                let connection = CloseConnection::One(connection);
                self.events.push_back(ToSwarm::CloseConnection { peer_id, connection });
                Event::Failed(peer_id, failure)
            }
        };
        self.events.push_back(ToSwarm::GenerateEvent(event));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Event, Outgoing>> {
        // What fills the list is called by whoever polls, and polls again.
        self.events.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}
