//! What peers want of this node: remembered within bounds, and whose turn it is. Reads no blocks and sends nothing.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, VecDeque};

use af_contract::Cid;
use libp2p_identity::PeerId;

use super::message::{Entry, Presence, WantKind};

/// Wants of one peer, as in Kubo.
const WANTS: usize = 1024;

/// Wants that are looked up together.
const BATCH: usize = 64;

/// What may be under way to one peer, in bytes: the answers are written to one stream, one after the other.
const UNSENT: usize = 4 << 20;

/// What may be under way to all peers together.
const UNSENT_BY_ALL: usize = 32 << 20;

/// Batches that are looked up at the same time: so many threads do nothing else.
pub const LOOKUPS: usize = 4;

/// One want, taken out to be looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    pub cid: Cid,
    pub kind: WantKind,
    number: u64,
}

/// What the store said.
#[derive(Debug)]
pub struct Looked {
    /// It has it.
    pub found: Vec<Job>,
    /// It does not have it.
    pub missing: Vec<Job>,
    /// It was not asked, because the answer was large enough.
    pub left: Vec<Job>,
}

/// The wants of all connected peers.
#[derive(Default)]
pub struct Ledgers {
    peers: HashMap<PeerId, Ledger>,
    /// Whose turn is next.
    turns: VecDeque<PeerId>,
    unsent: usize,
    lookups: usize,
    numbers: u64,
}

#[derive(Default)]
struct Ledger {
    wants: HashMap<Cid, Want>,
    /// Those that are to be looked up, in the peer's order, then in that of their arrival.
    pending: BTreeSet<Turn>,
    unsent: usize,
    looking: bool,
}

type Turn = (Reverse<i32>, u64, Cid);

struct Want {
    kind: WantKind,
    priority: i32,
    number: u64,
    /// The peer wants to hear that the block is not here, and has not heard it yet.
    tell: bool,
}

impl Want {
    fn turn(&self, cid: Cid) -> Turn {
        (Reverse(self.priority), self.number, cid)
    }
}

impl Ledgers {
    pub fn connected(&mut self, peer: PeerId) {
        self.peers.insert(peer, Ledger::default());
        self.turns.push_back(peer);
    }

    pub fn gone(&mut self, peer: &PeerId) {
        if let Some(ledger) = self.peers.remove(peer) {
            self.unsent = self.unsent.saturating_sub(ledger.unsent);
            // A look-up that is on its way ends with `looked`.
            self.turns.retain(|other| other != peer);
        }
    }

    /// Takes a peer's wants over. What is not remembered, because there are too many, is answered at once as not here.
    pub fn receive(&mut self, peer: &PeerId, entries: Vec<Entry>, full: bool) -> Vec<Presence> {
        let Some(ledger) = self.peers.get_mut(peer) else { return Vec::new() };
        if full {
            ledger.wants.clear();
            ledger.pending.clear();
        }
        let mut refused = Vec::new();
        for entry in entries {
            let cid = entry.cid;
            if let Some(old) = ledger.wants.remove(&cid) {
                ledger.pending.remove(&old.turn(cid));
            }
            if entry.cancel {
                continue;
            }
            if ledger.wants.len() >= WANTS {
                refused.extend(refusal(&entry));
                continue;
            }
            self.numbers += 1;
            let Entry { kind, priority, send_dont_have: tell, .. } = entry;
            let want = Want { kind, priority, number: self.numbers, tell };
            ledger.pending.insert(want.turn(cid));
            ledger.wants.insert(cid, want);
        }
        refused
    }

    /// The next wants to look up, of the peer whose turn it is.
    pub fn next(&mut self) -> Option<(PeerId, Vec<Job>)> {
        if self.lookups >= LOOKUPS || self.unsent >= UNSENT_BY_ALL {
            return None;
        }
        let at = self.turns.iter().position(|peer| self.peers.get(peer).is_some_and(Ledger::is_ready))?;
        let peer = self.turns.remove(at)?;
        self.turns.push_back(peer);
        let ledger = self.peers.get_mut(&peer)?;
        ledger.looking = true;
        self.lookups += 1;
        let mut jobs = Vec::with_capacity(BATCH.min(ledger.pending.len()));
        while jobs.len() < BATCH
            && let Some((_, number, cid)) = ledger.pending.pop_first()
        {
            let kind = ledger.wants.get(&cid).map_or(WantKind::Block, |want| want.kind);
            jobs.push(Job { cid, kind, number });
        }
        Some((peer, jobs))
    }

    /// Wants were looked up. Returns what to say of them, besides the blocks that were found and that are still wanted:
    /// `found` keeps only those. `bytes` are under way to the peer until they are [sent](Self::sent).
    pub fn looked(&mut self, peer: &PeerId, looked: &mut Looked, bytes: usize) -> Vec<Presence> {
        self.lookups = self.lookups.saturating_sub(1);
        let Some(ledger) = self.peers.get_mut(peer) else {
            looked.found.clear();
            return Vec::new();
        };
        ledger.looking = false;
        ledger.unsent += bytes;
        self.unsent += bytes;
        // What was cancelled or asked for anew meanwhile is not the same want any more.
        looked.found.retain(|job| ledger.wants.remove_if_same(job));
        for job in &looked.left {
            if let Some(want) = ledger.wants.get(&job.cid).filter(|want| want.number == job.number) {
                ledger.pending.insert(want.turn(job.cid));
            }
        }
        let mut told = Vec::new();
        for job in &looked.missing {
            let want = ledger.wants.get_mut(&job.cid).filter(|want| want.number == job.number);
            if want.is_some_and(|want| std::mem::take(&mut want.tell)) {
                told.push(Presence { cid: job.cid, has: false });
            }
        }
        told
    }

    /// A look-up ended without an answer. Its peer's wants are looked up again with the next ones.
    pub fn lookup_failed(&mut self, peer: &PeerId) {
        self.lookups = self.lookups.saturating_sub(1);
        if let Some(ledger) = self.peers.get_mut(peer) {
            ledger.looking = false;
        }
    }

    /// So many bytes are not under way any more.
    pub fn sent(&mut self, peer: &PeerId, bytes: usize) {
        if let Some(ledger) = self.peers.get_mut(peer) {
            // What an earlier connection had under way went with it.
            let bytes = bytes.min(ledger.unsent);
            ledger.unsent -= bytes;
            self.unsent = self.unsent.saturating_sub(bytes);
        }
    }

    /// Everything that was not here is looked up again.
    pub fn look_again(&mut self) {
        for ledger in self.peers.values_mut().filter(|ledger| !ledger.looking) {
            ledger.pending = ledger.wants.iter().map(|(cid, want)| want.turn(*cid)).collect();
        }
    }

    /// Whether peers wait for anything.
    pub fn is_empty(&self) -> bool {
        self.peers.values().all(|ledger| ledger.wants.is_empty())
    }
}

impl Ledger {
    fn is_ready(&self) -> bool {
        !self.looking && !self.pending.is_empty() && self.unsent < UNSENT
    }
}

trait RemoveIfSame {
    fn remove_if_same(&mut self, job: &Job) -> bool;
}

impl RemoveIfSame for HashMap<Cid, Want> {
    fn remove_if_same(&mut self, job: &Job) -> bool {
        self.get(&job.cid).is_some_and(|want| want.number == job.number) && self.remove(&job.cid).is_some()
    }
}

/// What a peer hears that is not served.
pub fn refusal(entry: &Entry) -> Option<Presence> {
    (entry.send_dont_have && !entry.cancel).then_some(Presence { cid: entry.cid, has: false })
}

#[cfg(test)]
mod tests {
    use af_contract::Codec;

    use super::*;
    use crate::hash::identify;

    fn cid(n: usize) -> Cid {
        identify(Codec::Raw, &n.to_le_bytes()).to_cid()
    }

    fn wants(range: std::ops::Range<usize>) -> Vec<Entry> {
        range.map(|n| Entry::want(cid(n), WantKind::Block)).collect()
    }

    fn ledgers(peers: usize) -> (Ledgers, Vec<PeerId>) {
        let peers: Vec<_> = std::iter::repeat_with(PeerId::random).take(peers).collect();
        let mut ledgers = Ledgers::default();
        peers.iter().for_each(|peer| ledgers.connected(*peer));
        (ledgers, peers)
    }

    fn looked(found: Vec<Job>, missing: Vec<Job>) -> Looked {
        Looked { found, missing, left: Vec::new() }
    }

    #[test]
    fn peers_take_turns() {
        let (mut ledgers, peers) = ledgers(2);
        for peer in &peers {
            assert!(ledgers.receive(peer, wants(0..200), false).is_empty());
        }
        let mut order = Vec::new();
        for _ in 0..4 {
            let (peer, jobs) = ledgers.next().unwrap();
            assert_eq!(jobs.len(), BATCH);
            ledgers.looked(&peer, &mut looked(jobs, Vec::new()), 0);
            order.push(peer);
        }
        assert_eq!(order, [peers[0], peers[1], peers[0], peers[1]]);
    }

    #[test]
    fn what_is_under_way_is_bounded_for_each_peer() {
        let (mut ledgers, peers) = ledgers(1);
        ledgers.receive(&peers[0], wants(0..200), false);
        let (peer, jobs) = ledgers.next().unwrap();
        assert!(ledgers.next().is_none(), "one look-up for a peer at a time");
        ledgers.looked(&peer, &mut looked(jobs, Vec::new()), UNSENT);
        assert!(ledgers.next().is_none());
        ledgers.sent(&peer, UNSENT);
        assert!(ledgers.next().is_some());
    }

    #[test]
    fn higher_priorities_come_first_and_cancelled_ones_not_at_all() {
        let (mut ledgers, peers) = ledgers(1);
        let entry = |n, priority| Entry { priority, ..Entry::want(cid(n), WantKind::Block) };
        let entries = vec![entry(0, 1), entry(1, 9), entry(2, 5), entry(3, 7), Entry::cancel(cid(3))];
        ledgers.receive(&peers[0], entries, false);
        let (peer, jobs) = ledgers.next().unwrap();
        let order: Vec<_> = jobs.iter().map(|job| job.cid).collect();
        assert_eq!(order, [cid(1), cid(2), cid(0)]);
        // Cancelled while it was looked up: it is not sent.
        ledgers.receive(&peers[0], vec![Entry::cancel(cid(1))], false);
        let mut looked = looked(jobs, Vec::new());
        ledgers.looked(&peer, &mut looked, 0);
        assert_eq!(looked.found.len(), 2);
        assert!(ledgers.is_empty());
    }

    #[test]
    fn what_is_not_here_is_told_once_and_looked_up_again() {
        let (mut ledgers, peers) = ledgers(1);
        ledgers.receive(&peers[0], wants(0..1), false);
        let (peer, jobs) = ledgers.next().unwrap();
        let told = ledgers.looked(&peer, &mut looked(Vec::new(), jobs), 0);
        assert_eq!(told, [Presence { cid: cid(0), has: false }]);
        assert!(ledgers.next().is_none());
        ledgers.look_again();
        let (peer, jobs) = ledgers.next().unwrap();
        assert!(ledgers.looked(&peer, &mut looked(Vec::new(), jobs), 0).is_empty());
        ledgers.receive(&peers[0], Vec::new(), true);
        assert!(ledgers.is_empty(), "a full list replaces the one before");
    }

    #[test]
    fn a_peer_with_too_many_wants_hears_so() {
        let (mut ledgers, peers) = ledgers(1);
        let refused = ledgers.receive(&peers[0], wants(0..WANTS + 3), false);
        assert_eq!(refused.len(), 3);
        assert_eq!(ledgers.peers[&peers[0]].wants.len(), WANTS);
        ledgers.gone(&peers[0]);
        assert!(ledgers.next().is_none());
    }
}
