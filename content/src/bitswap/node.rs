//! The task that is a peer: what happens on the network goes to those who decide, and what they decide goes out.

use std::sync::Arc;
use std::time::Duration;

use af_contract::ContentId;
use futures::StreamExt;
use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;
use libp2p_swarm::Swarm;
use libp2p_swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p_swarm::{DialError, NetworkBehaviour, SwarmEvent};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinSet, spawn_blocking};
use tokio::time::Instant;
use tracing::{debug, info, warn};
use {libp2p_connection_limits as connection_limits, libp2p_identify as identify, libp2p_ping as ping};

use super::behaviour::{BAN, Event, Exchange};
use super::config::Serve;
use super::counters::Counters;
use super::handler::Outgoing;
use super::ledgers::{Ledgers, refusal};
use super::lookup::{Found, look_up};
use super::message::Message;
use super::peers::{PeerAddress, Peers};
use super::stream::{Incoming, content_id};
use super::tally::Tally;
use super::wants::{Verdict, Waiter, Wants};
use crate::disk::DiskStore;
use crate::source::SourceError;

/// How often silence is noticed, while something is wanted.
const TICK: Duration = Duration::from_millis(100);

/// How often what peers want, and is not here, is looked up again.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// For saying goodbye.
const CLOSE_TIME: Duration = Duration::from_secs(1);

/// Without anything to do.
const LONG: Duration = Duration::from_secs(3600);

/// All protocols that the node speaks.
#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p_swarm::derive_prelude")]
pub struct Network {
    pub limits: connection_limits::Behaviour,
    pub identify: identify::Behaviour,
    pub ping: ping::Behaviour,
    pub exchange: Exchange,
}

/// Somebody wants a block.
#[derive(Debug)]
pub struct Request {
    pub id: ContentId,
    pub waiter: Waiter,
}

/// A peer among peers.
pub struct Node {
    pub swarm: Swarm<Network>,
    pub store: DiskStore,
    pub serve: Serve,
    pub peers: Peers,
    pub wants: Wants,
    pub counters: Arc<Counters>,
    pub tally: Arc<Tally>,
    pub ledgers: Ledgers,
    pub lookups: JoinSet<(PeerId, Result<Found, JoinError>)>,
}

impl Node {
    /// Runs until it is told to stop, or nobody can tell it any more.
    pub async fn run(
        mut self,
        mut requests: mpsc::Receiver<Request>,
        mut named: mpsc::Receiver<PeerAddress>,
        mut stop: oneshot::Receiver<()>,
    ) {
        let mut look_again = Instant::now() + LOOK_AGAIN;
        loop {
            let wake = self.next_wake(look_again);
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_event(event),
                Some(Request { id, waiter }) = requests.recv() => self.want(id, waiter),
                Some(peer) = named.recv() => self.dial_once(peer),
                Some(Ok((peer, found))) = self.lookups.join_next() => self.on_found(peer, found),
                () = tokio::time::sleep_until(wake) => {
                    let now = Instant::now();
                    self.wants.tick(now);
                    if now >= look_again {
                        self.ledgers.look_again();
                        look_again = now + LOOK_AGAIN;
                    }
                }
                _ = &mut stop => break,
            }
            self.dial();
            self.say_wants();
            self.look_up();
        }
        self.stop().await;
    }

    fn next_wake(&self, look_again: Instant) -> Instant {
        let now = Instant::now();
        let tick = (!self.wants.is_empty()).then(|| now + TICK);
        let again = (!self.ledgers.is_empty()).then_some(look_again);
        let next = [tick, again, self.peers.next_due()].into_iter().flatten().min();
        next.unwrap_or_else(|| now + LONG)
    }

    fn want(&mut self, id: ContentId, waiter: Waiter) {
        if self.peers.is_empty() && !self.wants.has_peers() {
            let nobody = "no peer is configured, and none is connected".into();
            // Whoever does not wait any more needs no answer.
            let _gone = waiter.send(Err(SourceError::Unreachable(nobody)));
        } else {
            let new = self.wants.add(id, waiter, Instant::now());
            self.counters.wanted(new);
        }
    }

    fn on_event(&mut self, event: SwarmEvent<NetworkEvent>) {
        match event {
            SwarmEvent::Behaviour(NetworkEvent::Exchange(event)) => self.on_exchange(event),
            SwarmEvent::Behaviour(NetworkEvent::Ping(ping::Event { peer, result: Err(error), .. }))
                if !matches!(error, ping::Failure::Unsupported) =>
            {
                debug!(%peer, %error, "a bitswap peer does not answer");
                let _already_gone = self.swarm.disconnect_peer_id(peer);
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), error, .. } => {
                debug!(%peer, %error, "a bitswap peer cannot be reached");
                self.unreachable(&peer, &error);
                self.lost(&peer);
            }
            SwarmEvent::ListenerError { error, .. } => warn!(%error, "accepting bitswap peers failed"),
            _ => {}
        }
    }

    fn on_exchange(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Connected(peer) => {
                debug!(%peer, "a bitswap peer is connected");
                self.counters.connected();
                self.peers.connected(&peer, now);
                self.wants.connected(peer, now);
                self.ledgers.connected(peer);
            }
            Event::Gone(peer) => {
                debug!(%peer, "a bitswap peer is gone");
                self.counters.gone();
                self.wants.gone(&peer, now);
                self.ledgers.gone(&peer);
                self.lost(&peer);
            }
            Event::Received(peer, incoming) => self.on_message(peer, incoming, now),
            Event::Sent(peer, weight) => self.ledgers.sent(&peer, weight),
            Event::Failed(peer, failure) => {
                let error = &failure as &dyn std::error::Error;
                info!(%peer, error, "a bitswap peer is disconnected");
                self.tally.failed(&peer, failure.to_string());
                if failure.is_lasting() {
                    self.ban(peer);
                }
            }
        }
    }

    fn on_message(&mut self, peer: PeerId, incoming: Incoming, now: Instant) {
        for presence in &incoming.presences {
            if let Some(id) = content_id(&presence.cid) {
                self.wants.presence(peer, id, presence.has, now);
            }
        }
        let mut flood = false;
        for block in &incoming.blocks {
            let verdict = self.wants.block(peer, block, now);
            self.counters.received(verdict, block.size());
            flood |= verdict == Verdict::Flood;
        }
        for _ in 0..incoming.foreign {
            let verdict = self.wants.strike(peer, now);
            self.counters.received(verdict, 0);
            flood |= verdict == Verdict::Flood;
        }
        if flood {
            self.tally.failed(&peer, "it was sent away, because it sends what nobody asked for");
            info!(%peer, "a bitswap peer is disconnected, because it sends what nobody asked for");
            self.ban(peer);
            return;
        }
        if incoming.full || !incoming.wants.is_empty() {
            self.on_wants(peer, incoming);
        }
    }

    fn on_wants(&mut self, peer: PeerId, incoming: Incoming) {
        let served = match self.serve {
            Serve::Nobody => false,
            Serve::Peers => self.peers.contains(&peer),
            Serve::Anyone => true,
        };
        let presences = if served {
            self.ledgers.receive(&peer, incoming.wants, incoming.full)
        } else {
            incoming.wants.iter().filter_map(refusal).collect()
        };
        self.send(peer, Message { presences, ..Message::default() }, 0);
    }

    fn on_found(&mut self, peer: PeerId, found: Result<Found, JoinError>) {
        let mut found = match found {
            Ok(found) => found,
            // Only a panic ends it so; what it was about is looked up again later.
            Err(error) => {
                self.ledgers.lookup_failed(&peer);
                warn!(%error, "looking blocks up for a bitswap peer failed");
                return;
            }
        };
        let size = found.size();
        let missing = self.ledgers.looked(&peer, &mut found.looked, size);
        let message = found.message(missing);
        self.counters.sent(&message);
        if message.is_empty() {
            self.ledgers.sent(&peer, size);
        }
        self.send(peer, message, size);
    }

    fn send(&mut self, peer: PeerId, message: Message, weight: usize) {
        if !message.is_empty() {
            self.swarm.behaviour_mut().exchange.send(peer, Outgoing { message, weight });
        }
    }

    fn say_wants(&mut self) {
        for (peer, wants) in self.wants.take_outgoing() {
            let message = Message { wants, ..Message::default() };
            self.swarm.behaviour_mut().exchange.send(peer, Outgoing { message, weight: 0 });
        }
    }

    fn look_up(&mut self) {
        while let Some((peer, jobs)) = self.ledgers.next() {
            let store = self.store.clone();
            let found = spawn_blocking(move || look_up(&store, jobs));
            self.lookups.spawn(async move { (peer, found.await) });
        }
    }

    fn dial(&mut self) {
        for (peer, addresses) in self.peers.due(Instant::now()) {
            let addresses: Vec<Multiaddr> = addresses;
            let condition = PeerCondition::DisconnectedAndNotDialing;
            let options = DialOpts::peer_id(peer).addresses(addresses).condition(condition).build();
            if let Err(error) = self.swarm.dial(options) {
                debug!(%peer, %error, "a bitswap peer cannot be dialled");
                self.lost(&peer);
            }
        }
    }

    /// Whoever named the peer does so again while it matters.
    fn dial_once(&mut self, PeerAddress { peer, address }: PeerAddress) {
        let condition = PeerCondition::DisconnectedAndNotDialing;
        let options = DialOpts::peer_id(peer).addresses(vec![address]).condition(condition).build();
        if let Err(error) = self.swarm.dial(options) {
            debug!(%peer, %error, "a peer that was named is not dialled");
        }
    }

    /// Of peers that nobody configured nothing was expected.
    fn unreachable(&self, peer: &PeerId, error: &DialError) {
        if self.peers.contains(peer) {
            self.tally.failed(peer, not_reached(error));
        }
    }

    fn lost(&mut self, peer: &PeerId) {
        if !self.swarm.is_connected(peer) {
            self.peers.lost(peer, Instant::now(), jitter());
        }
    }

    fn ban(&mut self, peer: PeerId) {
        self.swarm.behaviour_mut().exchange.ban(peer);
        self.peers.avoid(&peer, Instant::now() + BAN);
    }

    async fn stop(mut self) {
        self.wants.stop();
        let peers: Vec<_> = self.swarm.connected_peers().copied().collect();
        for peer in peers {
            let _already_gone = self.swarm.disconnect_peer_id(peer);
        }
        let closed = async {
            while self.swarm.connected_peers().next().is_some() {
                self.swarm.select_next_some().await;
            }
        };
        let _at_any_rate = tokio::time::timeout(CLOSE_TIME, closed).await;
        while self.lookups.join_next().await.is_some() {}
    }
}

/// For people: what is at the end of the chain of errors.
fn not_reached(error: &DialError) -> String {
    let first: &dyn std::error::Error = match error {
        DialError::WrongPeerId { obtained, .. } => {
            return format!("another peer answers at its address: {obtained}");
        }
        DialError::Transport(errors) => errors.first().map_or(error as _, |(_, error)| error as _),
        _ => error,
    };
    format!(
        "it cannot be reached: {}",
        std::iter::successors(Some(first), |error| error.source()).last().unwrap_or(first)
    )
}

/// Between 0 and 1, so that nodes that lost the same peer do not all come back at once.
fn jitter() -> f64 {
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    f64::from(random) / f64::from(u32::MAX)
}
