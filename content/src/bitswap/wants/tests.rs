use af_contract::{Codec, HashKind};
use bytes::Bytes;

use super::*;
use crate::hash::identify;

fn block(bytes: &[u8]) -> Hashed {
    Hashed::new(Codec::Raw, HashKind::Sha2_256, Bytes::copy_from_slice(bytes))
}

struct Fixture {
    wants: Wants,
    now: Instant,
    id: ContentId,
    answers: Vec<oneshot::Receiver<Result<Hashed, SourceError>>>,
}

impl Fixture {
    fn new(peers: &[PeerId]) -> Self {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut wants = Wants::new(Patience { block: 10 * second, connect: 5 * second }, now, Arc::default());
        peers.iter().for_each(|peer| wants.connected(*peer, now));
        Self { wants, now, id: block(b"block").id(), answers: Vec::new() }
    }

    fn want(&mut self, id: ContentId) {
        let (waiter, answer) = oneshot::channel();
        self.wants.add(id, waiter, self.now);
        self.answers.push(answer);
    }

    fn after(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.wants.tick(self.now);
    }

    fn says(&mut self, peer: PeerId, has: bool) {
        self.wants.presence(peer, self.id, has, self.now);
    }

    /// What is said to a peer; what is said to others is forgotten.
    fn told(&mut self, peer: PeerId) -> Vec<Entry> {
        self.wants.take_outgoing().filter(|(to, _)| *to == peer).flat_map(|(_, entries)| entries).collect()
    }

    fn answer(&mut self) -> Option<Result<Hashed, SourceError>> {
        self.answers.first_mut().unwrap().try_recv().ok()
    }
}

fn entry(id: ContentId, kind: WantKind) -> Entry {
    Entry::want(id.to_cid(), kind)
}

#[test]
fn who_has_it_is_asked_and_the_next_one_when_it_has_not() {
    let (one, two) = (PeerId::random(), PeerId::random());
    let mut fixture = Fixture::new(&[one, two]);
    fixture.want(fixture.id);
    assert_eq!(fixture.told(one), [entry(fixture.id, WantKind::Have)]);
    fixture.says(one, true);
    assert_eq!(fixture.told(one), [entry(fixture.id, WantKind::Block)]);
    fixture.says(two, true);
    assert_eq!(fixture.told(two), [], "one at a time");
    fixture.says(one, false);
    assert_eq!(fixture.told(two), [entry(fixture.id, WantKind::Block)]);
    assert_eq!(fixture.wants.block(two, &block(b"block"), fixture.now), Verdict::Taken);
    assert_eq!(fixture.answer().unwrap().unwrap(), block(b"block"));
    assert_eq!(fixture.told(two), [Entry::cancel(fixture.id.to_cid())]);
    assert_eq!(fixture.wants.block(two, &block(b"block"), fixture.now), Verdict::Late);
    // The giver is asked for the next one at once.
    let next = identify(Codec::Raw, b"next");
    fixture.want(next);
    assert_eq!(fixture.told(two), [entry(next, WantKind::Block)]);
}

#[test]
fn nobody_has_it_when_all_say_so_or_are_silent() {
    let (one, two) = (PeerId::random(), PeerId::random());
    let mut fixture = Fixture::new(&[one, two]);
    fixture.want(fixture.id);
    fixture.says(one, false);
    assert!(fixture.answer().is_none());
    fixture.told(two);
    fixture.after(4);
    assert!(matches!(fixture.answer(), Some(Err(SourceError::NotFound))));
    assert_eq!(fixture.told(two), [Entry::cancel(fixture.id.to_cid())]);
    assert!(fixture.wants.is_empty());
}

#[test]
fn a_peer_cannot_hold_a_want_by_sending_others() {
    let peer = PeerId::random();
    let mut fixture = Fixture::new(&[peer]);
    fixture.want(fixture.id);
    fixture.says(peer, true);
    let mut waited = 0;
    while fixture.answer().is_none() {
        let other = block(&[waited]);
        fixture.want(other.id());
        fixture.wants.block(peer, &other, fixture.now);
        fixture.after(5);
        waited += 5;
    }
    assert_eq!(waited, 65, "six times as long as it may be silent");
}

#[test]
fn so_many_blocks_are_asked_for_at_once_and_others_when_they_came() {
    let peer = PeerId::random();
    let mut fixture = Fixture::new(&[peer]);
    let all: Vec<_> = (0..IN_FLIGHT + 5).map(|n| block(&n.to_le_bytes())).collect();
    for one in &all {
        fixture.want(one.id());
        fixture.wants.presence(peer, one.id(), true, fixture.now);
    }
    let blocks = |told: Vec<Entry>| told.iter().filter(|e| e.kind == WantKind::Block && !e.cancel).count();
    assert_eq!(blocks(fixture.told(peer)), IN_FLIGHT);
    fixture.wants.block(peer, &all[0], fixture.now);
    assert_eq!(blocks(fixture.told(peer)), 1);
    fixture.wants.gone(&peer, fixture.now);
    assert!(fixture.wants.peers.is_empty() && !fixture.wants.is_empty());
    fixture.after(6);
    assert!(fixture.wants.is_empty(), "nobody came");
}
