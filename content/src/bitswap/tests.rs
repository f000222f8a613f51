//! Nodes on loopback: with each other, and with peers that lie, are silent, or send too much.

use std::collections::HashSet;
use std::io;

use af_contract::Codec;
use bytes::Bytes;
use libp2p_swarm::dial_opts::DialOpts;

use super::behaviour::{Event, Exchange};
use super::handler::Outgoing;
use super::message::{Entry, MESSAGE_BYTES, Message, Payload, Prefix, Presence, WantKind};
use super::*;
use crate::hash;
use crate::unixfs::{self, Export};

/// For what happens on loopback; reached only when a test fails.
const SOON: Duration = Duration::from_secs(20);

struct Fixture {
    _dir: tempfile::TempDir,
    store: DiskStore,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = DiskStore::open(dir.path()).unwrap();
        Self { _dir: dir, store }
    }

    fn save(&self, file: &[u8]) -> ContentId {
        let staging = self.store.stage().unwrap();
        let summary = unixfs::import(file, |block| staging.put(&block).map_err(io::Error::other)).unwrap();
        staging.commit().unwrap().finish().unwrap();
        summary.root
    }

    async fn node(&self, change: impl FnOnce(&mut Config)) -> Bitswap {
        let mut config = Config::new(Identity::ephemeral());
        config.listen.push("/ip4/127.0.0.1/tcp/0".parse().unwrap());
        change(&mut config);
        Bitswap::start(config, self.store.clone()).await.unwrap()
    }
}

fn address(node: &Bitswap) -> PeerAddress {
    node.addresses().next().unwrap().to_string().parse().unwrap()
}

async fn fetch(node: &Bitswap, root: ContentId) -> Vec<u8> {
    let source = node.source();
    let mut export = Export::new(root, 1 << 30);
    let mut file = Vec::new();
    while let Some(id) = export.wanted() {
        let block = tokio::time::timeout(SOON, source.block(id)).await.unwrap().unwrap();
        let block = block.expect(&id).unwrap();
        file.extend_from_slice(&export.feed(&block).unwrap());
    }
    file
}

/// Waits until a node's numbers are such.
async fn until(node: &Bitswap, reached: impl Fn(Stats) -> bool) {
    let reached = async {
        while !reached(node.stats()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, reached).await.unwrap_or_else(|_| panic!("{:?}", node.stats()));
}

/// A peer that says what a test tells it.
struct Puppet {
    swarm: Swarm<Exchange>,
    address: PeerAddress,
}

impl Puppet {
    async fn new() -> Self {
        let identity = Identity::ephemeral();
        let exchange = Exchange::new(HashSet::new(), true);
        let config = swarm::Config::with_tokio_executor().with_idle_connection_timeout(SOON);
        let transport = transport::transport(&identity.0).unwrap();
        let mut swarm = Swarm::new(transport, exchange, identity.peer_id(), config);
        swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break PeerAddress { peer: identity.peer_id(), address };
            }
        };
        Self { swarm, address }
    }

    fn say(&mut self, to: PeerId, message: Message) {
        self.swarm.behaviour_mut().send(to, Outgoing { message, weight: 0 });
    }

    fn send_block(&mut self, to: PeerId, id: ContentId, bytes: impl Into<Bytes>) {
        let block = Payload { prefix: Prefix::of(&id.to_cid()), data: bytes.into() };
        self.say(to, Message { blocks: vec![block], ..Message::default() });
    }

    async fn event(&mut self) -> Event {
        loop {
            let event = tokio::time::timeout(SOON, self.swarm.select_next_some()).await.unwrap();
            if let SwarmEvent::Behaviour(event) = event {
                return event;
            }
        }
    }

    /// Its next message that has wants.
    async fn wants(&mut self) -> (PeerId, Vec<Entry>) {
        loop {
            if let Event::Received(peer, incoming) = self.event().await
                && !incoming.wants.is_empty()
            {
                return (peer, incoming.wants);
            }
        }
    }

    async fn gone(&mut self) {
        while !matches!(self.event().await, Event::Gone(_)) {}
    }

    /// Says that it has all that it is asked about, and answers with these bytes.
    async fn run(mut self, answer: Option<&'static [u8]>) {
        loop {
            let Event::Received(peer, incoming) = self.event().await else { continue };
            for entry in incoming.wants.iter().filter(|entry| !entry.cancel) {
                match (entry.kind, answer) {
                    (WantKind::Have, _) => {
                        let presences = vec![Presence { cid: entry.cid, has: true }];
                        self.say(peer, Message { presences, ..Message::default() });
                    }
                    (WantKind::Block, Some(bytes)) => {
                        self.send_block(peer, ContentId::try_from(entry.cid).unwrap(), bytes);
                    }
                    (WantKind::Block, None) => {}
                }
            }
        }
    }
}

#[tokio::test]
async fn two_nodes_exchange_a_dag_in_both_directions() {
    let (here, there) = (Fixture::new(), Fixture::new());
    let file: Vec<u8> = (0..1_300_000_u32).flat_map(|n| [n.to_le_bytes()[0], n.to_le_bytes()[1]]).collect();
    let (one, other) = (there.save(&file), here.save(b"small"));
    let serving = there.node(|config| config.serve = Serve::Anyone).await;
    let asking = here.node(|config| config.peers.push(address(&serving))).await;
    assert!(fetch(&asking, one).await == file);
    // The other way over the same connection: the asking node serves its configured peers.
    assert_eq!(fetch(&serving, other).await, b"small");
    let stats = asking.stats();
    assert_eq!((stats.peers, stats.blocks_unasked, stats.blocks_sent), (1, 0, 1), "{stats:?}");
    assert_eq!(stats.blocks_received, serving.stats().blocks_sent);
    let missing = hash::identify(Codec::Raw, b"nobody has it");
    assert!(matches!(asking.source().block(missing).await, Err(SourceError::NotFound)));
    asking.stop().await;
    until(&serving, |stats| stats.peers == 0).await;
    serving.stop().await;
}

#[tokio::test]
async fn who_is_not_served_gets_nothing() {
    let (here, there) = (Fixture::new(), Fixture::new());
    let id = there.save(b"private");
    let silent = there.node(|config| config.serve = Serve::Nobody).await;
    let strict = there.node(|_| {}).await;
    let asking = here.node(|config| {
        config.patience.connect = Duration::from_millis(300);
        config.peers.extend([address(&silent), address(&strict)]);
    });
    let asking = asking.await;
    let asked = asking.source().block(id).await;
    assert!(matches!(asked, Err(SourceError::Unreachable(_) | SourceError::NotFound)), "{asked:?}");
    assert_eq!(strict.stats().peers + strict.stats().blocks_sent + silent.stats().blocks_sent, 0);
    let alone = here.node(|_| {}).await;
    assert!(matches!(alone.source().block(id).await, Err(SourceError::Unreachable(_))));
}

#[tokio::test]
async fn a_node_that_serves_nobody_refuses_its_configured_peers() {
    let (here, there) = (Fixture::new(), Fixture::new());
    let id = there.save(b"private");
    let open = here.node(|config| config.serve = Serve::Anyone).await;
    let closed = there.node(|config| {
        config.serve = Serve::Nobody;
        config.peers.push(address(&open));
    });
    let closed = closed.await;
    until(&open, |stats| stats.peers == 1).await;
    assert!(matches!(open.source().block(id).await, Err(SourceError::NotFound)));
    assert_eq!(closed.stats().blocks_sent, 0);
}

#[tokio::test]
async fn wrong_bytes_are_counted_and_another_peer_is_asked() {
    let (here, there) = (Fixture::new(), Fixture::new());
    let ids: Vec<_> = (0..5_u8).map(|n| there.save(&[n; 100])).collect();
    let honest = there.node(|config| config.serve = Serve::Anyone).await;
    let liar = Puppet::new().await;
    let liar_address = liar.address.clone();
    let lying = tokio::spawn(liar.run(Some(b"something else")));
    let asking = here.node(|config| config.peers.extend([liar_address, address(&honest)])).await;
    until(&asking, |stats| stats.peers == 2).await;
    for id in ids {
        let block = tokio::time::timeout(SOON, asking.source().block(id)).await.unwrap().unwrap();
        block.expect(&id).unwrap();
    }
    assert_eq!(asking.stats().blocks_received, 5);
    let [lied, gave] = asking.source().peers().try_into().unwrap();
    assert_eq!((lied.blocks, gave.blocks, gave.lies), (0, 5, 0));
    assert!(lied.lies > 0 && lied.asked > 0 && lied.said.is_some(), "{lied:?}");
    lying.abort();
}

#[tokio::test]
async fn a_lonely_liar_is_found_out_at_once() {
    let here = Fixture::new();
    let liar = Puppet::new().await;
    let liar_address = liar.address.clone();
    let lying = tokio::spawn(liar.run(Some(b"something else")));
    let asking = here.node(|config| config.peers.push(liar_address)).await;
    let id = hash::identify(Codec::Raw, b"the truth");
    let asked = tokio::time::timeout(SOON, asking.source().block(id)).await.unwrap();
    assert!(matches!(asked, Err(SourceError::NotFound)), "{asked:?}");
    assert_eq!((asking.stats().blocks_unasked, asking.stats().blocks_received), (1, 0));
    let [line] = asking.source().peers().try_into().unwrap();
    assert_eq!((line.asked, line.blocks, line.missing, line.lies), (1, 0, 0, 1), "{line:?}");
    lying.abort();
}

#[tokio::test]
async fn a_silent_peer_costs_its_time_and_then_the_next_one_is_asked() {
    let (here, there) = (Fixture::new(), Fixture::new());
    let id = there.save(b"late");
    let silent = Puppet::new().await;
    let silent_address = silent.address.clone();
    let silence = tokio::spawn(silent.run(None));
    let asking = here
        .node(|config| {
            config.serve = Serve::Anyone;
            config.patience.block = Duration::from_millis(300);
            config.peers.push(silent_address);
        })
        .await;
    until(&asking, |stats| stats.peers == 1).await;
    let asked = asking.source().block(id).await;
    assert!(matches!(asked, Err(SourceError::Timeout(_))), "{asked:?}");
    let [line] = asking.source().peers().try_into().unwrap();
    assert_eq!((line.asked, line.failures), (1, 1), "{line:?}");
    assert_eq!(line.said.as_deref(), Some("it was asked, and said nothing"));
    // Somebody who has it comes while the silent one is waited for.
    let source = asking.source();
    let waiting = tokio::spawn(async move { source.block(id).await });
    let honest = there.node(|config| config.peers.push(address(&asking))).await;
    let block = tokio::time::timeout(SOON, waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(block.expect(&id).unwrap(), &b"late"[..]);
    honest.stop().await;
    silence.abort();
}

#[tokio::test]
async fn blocks_that_nobody_asked_for_are_dropped_and_end_the_connection() {
    let here = Fixture::new();
    let mut puppet = Puppet::new().await;
    let asking = here.node(|config| config.peers.push(puppet.address.clone())).await;
    let Event::Connected(peer) = puppet.event().await else { panic!("it is not connected") };
    for n in 0..20_u8 {
        puppet.send_block(peer, hash::identify(Codec::Raw, &[n]), vec![n]);
    }
    puppet.gone().await;
    until(&asking, |stats| stats.peers == 0).await;
    let stats = asking.stats();
    assert!(stats.blocks_received == 0 && (9..20).contains(&stats.blocks_unasked), "{stats:?}");
    // It stays out, although it is configured.
    puppet.swarm.dial(DialOpts::from(address(&asking).address)).unwrap();
    loop {
        match tokio::time::timeout(SOON, puppet.swarm.select_next_some()).await.unwrap() {
            SwarmEvent::ConnectionClosed { .. } | SwarmEvent::OutgoingConnectionError { .. } => break,
            _ => {}
        }
    }
    assert_eq!(asking.stats().peers, 0);
}

#[tokio::test]
async fn an_oversized_message_ends_the_connection() {
    let here = Fixture::new();
    let mut puppet = Puppet::new().await;
    let asking = here.node(|config| config.peers.push(puppet.address.clone())).await;
    let Event::Connected(peer) = puppet.event().await else { panic!("it is not connected") };
    puppet.send_block(peer, hash::identify(Codec::Raw, b"?"), vec![0; MESSAGE_BYTES]);
    puppet.gone().await;
    until(&asking, |stats| stats.peers == 0).await;
    assert_eq!(asking.stats().blocks_unasked, 0, "nothing of it was taken");
}

#[tokio::test]
async fn who_does_not_wait_any_more_takes_the_want_back() {
    let here = Fixture::new();
    let mut puppet = Puppet::new().await;
    let asking = here.node(|config| config.peers.push(puppet.address.clone())).await;
    let id = hash::identify(Codec::Raw, b"not needed");
    let source = asking.source();
    let waiting = tokio::spawn(async move { source.block(id).await });
    let (_, wants) = puppet.wants().await;
    assert_eq!(wants, [Entry::want(id.to_cid(), WantKind::Have)]);
    waiting.abort();
    let (peer, wants) = puppet.wants().await;
    assert_eq!(wants, [Entry::cancel(id.to_cid())]);
    // One that comes now was asked for.
    puppet.send_block(peer, id, &b"not needed"[..]);
    let events = async { while !matches!(puppet.event().await, Event::Sent(..)) {} };
    events.await;
    until(&asking, |stats| stats.blocks_late == 1).await;
    // Whoever waits when the node stops hears so.
    let source = asking.source();
    let waiting = tokio::spawn(async move { source.block(id).await });
    let _ = puppet.wants().await;
    asking.stop().await;
    assert!(matches!(waiting.await.unwrap(), Err(SourceError::Unreachable(_))));
}

#[tokio::test]
async fn a_peer_that_was_started_again_is_found_again() {
    let (here, there) = (Fixture::new(), Fixture::new());
    let (first, second) = (there.save(b"first"), there.save(b"second"));
    let identity = Identity::ephemeral();
    let serving = there.node(|config| {
        config.serve = Serve::Anyone;
        config.identity = identity.clone();
    });
    let serving = serving.await;
    let at = address(&serving);
    let asking = here.node(|config| config.peers.push(at.clone())).await;
    assert_eq!(fetch(&asking, first).await, b"first");
    serving.stop().await;
    until(&asking, |stats| stats.peers == 0).await;
    let again = there.node(|config| {
        config.serve = Serve::Anyone;
        config.identity = identity;
        config.listen = vec![at.address];
    });
    let again = again.await;
    until(&asking, |stats| stats.peers == 1).await;
    assert_eq!(fetch(&asking, second).await, b"second");
    again.stop().await;
}

#[tokio::test]
async fn an_address_that_is_taken_is_told() {
    let here = Fixture::new();
    let first = here.node(|_| {}).await;
    let mut config = Config::new(Identity::ephemeral());
    config.listen.push(address(&first).address);
    let refused = Bitswap::start(config, here.store.clone()).await;
    assert!(matches!(refused, Err(StartError::Listen { .. })), "{refused:?}");
}
