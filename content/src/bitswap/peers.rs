//! The configured peers: where they are, and when each is to be dialled again.

use std::collections::HashMap;
use std::str::FromStr;
use std::time::Duration;

use libp2p_core::Multiaddr;
use libp2p_core::multiaddr::Protocol;
use libp2p_identity::PeerId;
use tokio::time::Instant;

/// After the first failure, and doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause.
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// A connection that ends before was as good as none.
const STEADY: Duration = Duration::from_secs(10);

/// Where a peer is, and who it has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    /// Who answers there.
    pub peer: PeerId,
    /// Where, such as `/ip4/192.0.2.1/tcp/4001`.
    pub address: Multiaddr,
}

/// Why a text names no peer.
#[derive(Debug, thiserror::Error)]
pub enum PeerAddressError {
    /// No multiaddr at all.
    #[error("{0:?} is no multiaddr; one looks like /ip4/192.0.2.1/tcp/4001/p2p/12D3Koo…")]
    Syntax(String, #[source] libp2p_core::multiaddr::Error),
    /// It does not say who has to answer.
    #[error("{0} does not name the peer; add /p2p/ and its id")]
    NoPeer(Multiaddr),
}

impl FromStr for PeerAddress {
    type Err = PeerAddressError;

    fn from_str(text: &str) -> Result<Self, PeerAddressError> {
        let parsed = text.parse::<Multiaddr>();
        let mut address = parsed.map_err(|source| PeerAddressError::Syntax(text.to_owned(), source))?;
        match address.pop() {
            Some(Protocol::P2p(peer)) if !address.is_empty() => Ok(Self { peer, address }),
            last => {
                last.into_iter().for_each(|part| address.push(part));
                Err(PeerAddressError::NoPeer(address))
            }
        }
    }
}

/// All configured peers.
#[derive(Debug, Default)]
pub struct Peers(HashMap<PeerId, Peer>);

#[derive(Debug)]
struct Peer {
    addresses: Vec<Multiaddr>,
    failures: u32,
    state: State,
}

#[derive(Debug)]
enum State {
    Waiting { until: Instant },
    Dialling,
    Connected { since: Instant },
}

impl Peers {
    pub fn new(addresses: Vec<PeerAddress>) -> Self {
        let mut peers: HashMap<PeerId, Peer> = HashMap::new();
        let now = Instant::now();
        for PeerAddress { peer, address } in addresses {
            let state = State::Waiting { until: now };
            let entry = peers.entry(peer);
            entry.or_insert(Peer { addresses: Vec::new(), failures: 0, state }).addresses.push(address);
        }
        Self(peers)
    }

    pub fn ids(&self) -> impl Iterator<Item = PeerId> {
        self.0.keys().copied()
    }

    pub fn contains(&self, peer: &PeerId) -> bool {
        self.0.contains_key(peer)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those whose turn it is; they are being dialled from now on.
    pub fn due(&mut self, now: Instant) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let due = self.0.iter_mut().filter(|(_, peer)| peer.waits_until().is_some_and(|until| until <= now));
        due.map(|(id, peer)| {
            peer.state = State::Dialling;
            (*id, peer.addresses.clone())
        })
        .collect()
    }

    /// When [`Self::due`] has somebody.
    pub fn next_due(&self) -> Option<Instant> {
        self.0.values().filter_map(Peer::waits_until).min()
    }

    pub fn connected(&mut self, peer: &PeerId, now: Instant) {
        if let Some(peer) = self.0.get_mut(peer) {
            peer.state = State::Connected { since: now };
        }
    }

    /// The connection ended, or there was none. `jitter` is between 0 and 1. Returns the pause before the next attempt.
    pub fn lost(&mut self, peer: &PeerId, now: Instant, jitter: f64) -> Option<Duration> {
        let peer = self.0.get_mut(peer)?;
        if matches!(peer.state, State::Connected { since } if now.duration_since(since) >= STEADY) {
            peer.failures = 0;
        }
        let longest = FIRST_PAUSE.saturating_mul(1 << peer.failures.min(10)).min(LAST_PAUSE);
        let pause = longest.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0);
        peer.failures = peer.failures.saturating_add(1);
        peer.state = State::Waiting { until: now + pause };
        Some(pause)
    }

    /// The peer is not to be dialled for so long.
    pub fn avoid(&mut self, peer: &PeerId, until: Instant) {
        if let Some(peer) = self.0.get_mut(peer) {
            peer.state = State::Waiting { until };
        }
    }
}

impl Peer {
    const fn waits_until(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { until } => Some(until),
            State::Dialling | State::Connected { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: &str = "/ip4/127.0.0.1/tcp/4001/p2p/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA";

    #[test]
    fn an_address_names_its_peer() {
        let parsed: PeerAddress = ADDRESS.parse().unwrap();
        assert_eq!(parsed.address.to_string(), "/ip4/127.0.0.1/tcp/4001");
        assert!("/dns4/peer.example.com/tcp/4001".parse::<PeerAddress>().is_err());
        assert!("127.0.0.1:4001".parse::<PeerAddress>().is_err());
        assert!(format!("/p2p/{}", parsed.peer).parse::<PeerAddress>().is_err());
    }

    #[test]
    fn pauses_grow_until_a_connection_lasts() {
        let address: PeerAddress = ADDRESS.parse().unwrap();
        let peer = address.peer;
        let mut peers = Peers::new(vec![address]);
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        for _ in 0..10 {
            assert_eq!(peers.due(now).len(), 1, "{peers:?}");
            assert!(peers.due(now).is_empty(), "it is being dialled");
            let pause = peers.lost(&peer, now, 1.0).unwrap();
            assert!(peers.due(now).is_empty());
            pauses.push(pause.as_millis());
            now += pause;
        }
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000]);
        peers.connected(&peer, now);
        assert_eq!(peers.lost(&peer, now, 0.0).unwrap().as_millis(), 30_000, "it did not last");
        peers.connected(&peer, now);
        assert_eq!(peers.lost(&peer, now + STEADY, 0.0).unwrap().as_millis(), 250);
    }
}
