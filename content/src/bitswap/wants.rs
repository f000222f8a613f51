//! What this node wants of its peers: whom it asks for which block, and whom next. Moves no bytes and reads no clock.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use af_contract::ContentId;
use libp2p_identity::PeerId;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::message::{Entry, WantKind};
use super::tally::Tally;
use crate::hash::Hashed;
use crate::source::SourceError;

/// Blocks wanted at once: more than all fetches of a node together ask for.
const WANTS: usize = 1024;

/// Callers that wait for the same block.
const WAITERS: usize = 256;

/// Blocks that one peer is asked for at the same time: at 1 MiB each, what fits a second of a good line.
const IN_FLIGHT: usize = 16;

/// How long a peer may take to say whether it has a block. Those of older versions never say that they have not.
const HAVE_TIME: Duration = Duration::from_secs(3);

/// How many times as long a peer may take that sends other blocks meanwhile, so that none can hold a want for good.
const AT_WORK: u32 = 6;

/// A peer that goes sooner was as good as none.
const VISIT: Duration = Duration::from_secs(1);

/// The ids that a peer was asked for last. A block that comes late was still asked for.
const REMEMBERED: usize = 2048;

/// Blocks that nobody asked for, before a peer is sent away. Some may come after this node was started anew under the same
/// name.
const STRIKES: u32 = 8;

/// Who waits for a block.
pub type Waiter = oneshot::Sender<Result<Hashed, SourceError>>;

/// What became of a block that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Somebody waited for it.
    Taken,
    /// It was asked for, and is not needed any more.
    Late,
    /// Nobody asked for it.
    Unasked,
    /// Nor for those before it: the peer is to be sent away.
    Flood,
}

/// How long to wait.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a peer that is asked for a block and is silent.
    pub block: Duration,
    /// For any peer, since the last one went.
    pub connect: Duration,
}

/// All that is wanted.
pub struct Wants {
    patience: Patience,
    /// Since when no peer is there, where none is.
    alone_since: Instant,
    wanted: HashMap<ContentId, Wanted>,
    peers: HashMap<PeerId, Partner>,
    outgoing: HashMap<PeerId, Vec<Entry>>,
    tally: Arc<Tally>,
}

struct Wanted {
    waiters: Vec<Waiter>,
    /// Which of the connected peers has it.
    known: HashMap<PeerId, Known>,
    /// The one that is asked for it.
    asked: Option<PeerId>,
    /// A peer was silent when it was asked.
    timed_out: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// It was asked.
    No {
        since: Instant,
    },
    Has,
    Lacks,
}

struct Partner {
    since: Instant,
    in_flight: usize,
    /// When it last sent a block that somebody waited for.
    gave: Option<Instant>,
    remembered: VecDeque<ContentId>,
    strikes: u32,
}

impl Partner {
    fn remember(&mut self, id: ContentId) {
        if self.remembered.len() >= REMEMBERED {
            self.remembered.pop_front();
        }
        self.remembered.push_back(id);
    }
}

impl Wants {
    pub fn new(patience: Patience, now: Instant, tally: Arc<Tally>) -> Self {
        let (wanted, peers, outgoing) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { patience, alone_since: now, wanted, peers, outgoing, tally }
    }

    /// Messages that are to be sent now.
    pub fn take_outgoing(&mut self) -> impl Iterator<Item = (PeerId, Vec<Entry>)> {
        std::mem::take(&mut self.outgoing).into_iter()
    }

    /// Nothing is wanted, so [`Self::tick`] has nothing to do.
    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    /// Somebody can be asked.
    pub fn has_peers(&self) -> bool {
        !self.peers.is_empty()
    }

    /// Somebody wants a block. Returns whether nobody wanted it before.
    pub fn add(&mut self, id: ContentId, waiter: Waiter, now: Instant) -> bool {
        let full = self.wanted.len() >= WANTS;
        match self.wanted.get_mut(&id) {
            Some(wanted) if wanted.waiters.len() < WAITERS => wanted.waiters.push(waiter),
            None if !full => {
                let (waiters, known) = (vec![waiter], HashMap::new());
                let wanted = Wanted { waiters, known, asked: None, timed_out: false };
                self.wanted.insert(id, wanted);
                self.ask_all(id, now);
                self.advance(id, now);
                return true;
            }
            _ => answer(vec![waiter], || SourceError::Busy { status: None, after: None }),
        }
        false
    }

    /// The peer that gave a block last is asked for the next one at once, which saves a round trip; the others are asked
    /// whether they have it.
    fn ask_all(&mut self, id: ContentId, now: Instant) {
        let free = self.peers.iter().filter(|(_, peer)| peer.in_flight < IN_FLIGHT && peer.gave.is_some());
        let best = free.max_by_key(|(_, peer)| peer.gave).map(|(peer, _)| *peer);
        if let Some(peer) = best {
            self.ask(id, peer, now);
        }
        let others: Vec<_> = self.peers.keys().copied().filter(|peer| Some(*peer) != best).collect();
        others.into_iter().for_each(|peer| self.ask_whether(id, peer, now));
    }

    fn ask_whether(&mut self, id: ContentId, peer: PeerId, now: Instant) {
        if let Some(wanted) = self.wanted.get_mut(&id) {
            wanted.known.insert(peer, Known::No { since: now });
            self.tally.asked(&peer);
            self.tell(peer, Entry::want(id.to_cid(), WantKind::Have));
            self.peers.entry(peer).and_modify(|partner| partner.remember(id));
        }
    }

    fn ask(&mut self, id: ContentId, peer: PeerId, now: Instant) {
        let (Some(wanted), Some(partner)) = (self.wanted.get_mut(&id), self.peers.get_mut(&peer)) else {
            return;
        };
        partner.in_flight += 1;
        partner.remember(id);
        // Whether it has the block is the same question.
        if wanted.known.insert(peer, Known::No { since: now }).is_none() {
            self.tally.asked(&peer);
        }
        wanted.asked = Some(peer);
        self.tell(peer, Entry::want(id.to_cid(), WantKind::Block));
    }

    fn tell(&mut self, peer: PeerId, entry: Entry) {
        self.outgoing.entry(peer).or_default().push(entry);
    }

    /// A peer came: it is asked for everything.
    pub fn connected(&mut self, peer: PeerId, now: Instant) {
        let partner =
            Partner { since: now, in_flight: 0, gave: None, remembered: VecDeque::new(), strikes: 0 };
        self.peers.insert(peer, partner);
        let ids: Vec<_> = self.wanted.keys().copied().collect();
        ids.into_iter().for_each(|id| self.ask_whether(id, peer, now));
    }

    /// A peer went: others are asked for what it was asked for.
    pub fn gone(&mut self, peer: &PeerId, now: Instant) {
        self.outgoing.remove(peer);
        if self.wanted.values().any(|wanted| matches!(wanted.known.get(peer), Some(Known::No { .. }))) {
            self.tally.failed(peer, "the connection ended before it answered");
        }
        let stayed = self.peers.remove(peer).is_some_and(|peer| now.duration_since(peer.since) >= VISIT);
        if stayed && self.peers.is_empty() {
            self.alone_since = now;
        }
        let ids: Vec<_> = self.wanted.keys().copied().collect();
        for id in ids {
            let Some(wanted) = self.wanted.get_mut(&id) else { continue };
            wanted.known.remove(peer);
            wanted.asked.take_if(|asked| asked == peer);
            self.advance(id, now);
        }
    }

    /// A peer says whether it has a block.
    pub fn presence(&mut self, peer: PeerId, id: ContentId, has: bool, now: Instant) {
        let Some(wanted) = self.wanted.get_mut(&id) else { return };
        let Some(known) = wanted.known.get_mut(&peer) else { return };
        if has {
            *known = Known::Has;
        } else {
            self.tally.lacks(&peer);
            self.lacks(id, peer);
        }
        self.advance(id, now);
    }

    /// Nothing is expected of the peer for this block any more.
    fn lacks(&mut self, id: ContentId, peer: PeerId) {
        if let Some(wanted) = self.wanted.get_mut(&id) {
            wanted.known.insert(peer, Known::Lacks);
        }
        self.withdraw(id, &peer);
    }

    /// A block came.
    pub fn block(&mut self, peer: PeerId, block: &Hashed, now: Instant) -> Verdict {
        let id = block.id();
        let Some(partner) = self.peers.get_mut(&peer) else { return Verdict::Unasked };
        if !partner.remembered.contains(&id) {
            return self.strike(peer, now);
        }
        let Some(mut wanted) = self.wanted.remove(&id) else { return Verdict::Late };
        partner.gave = Some(now);
        self.tally.gave(&peer, block.size());
        self.release(&mut wanted);
        // Also to the giver: Helia takes the same want for one that it has answered, for some seconds.
        for (other, _) in wanted.known.iter().filter(|(_, known)| **known != Known::Lacks) {
            self.outgoing.entry(*other).or_default().push(Entry::cancel(id.to_cid()));
        }
        for waiter in wanted.waiters {
            // Whoever does not wait any more has what it wanted from elsewhere.
            let _gone = waiter.send(Ok(block.clone()));
        }
        self.fill(now);
        Verdict::Taken
    }

    /// A block that nobody here can have asked for.
    pub fn strike(&mut self, peer: PeerId, now: Instant) -> Verdict {
        let Some(partner) = self.peers.get_mut(&peer) else { return Verdict::Unasked };
        self.tally.lied(&peer);
        partner.strikes += 1;
        partner.gave = None;
        let verdict = if partner.strikes > STRIKES { Verdict::Flood } else { Verdict::Unasked };
        // It may have been meant as an answer, and it is none: somebody else is asked.
        let asked = self.wanted.iter().filter(|(_, wanted)| wanted.asks(&peer)).map(|(id, _)| *id);
        let ids: Vec<_> = asked.collect();
        for id in ids {
            self.lacks(id, peer);
            self.advance(id, now);
        }
        verdict
    }

    /// Goes on with what somebody was silent about. Call it every now and then.
    pub fn tick(&mut self, now: Instant) {
        let ids: Vec<_> = self.wanted.keys().copied().collect();
        for id in ids {
            self.forget_if_unwanted(id);
            self.time_out(id, now);
            self.advance(id, now);
        }
    }

    fn forget_if_unwanted(&mut self, id: ContentId) {
        let Some(wanted) = self.wanted.get_mut(&id) else { return };
        wanted.waiters.retain(|waiter| !waiter.is_closed());
        if wanted.waiters.is_empty() {
            self.finish(id, || SourceError::NotFound);
        }
    }

    fn time_out(&mut self, id: ContentId, now: Instant) {
        let Some(wanted) = self.wanted.get_mut(&id) else { return };
        // A peer that sends other blocks meanwhile is at work.
        let waited = |peer: &PeerId, since: Instant| {
            let gave = self.peers.get(peer).and_then(|partner| partner.gave);
            now.duration_since(gave.map_or(since, |gave| gave.max(since)))
        };
        let mut silent = Vec::new();
        for (peer, known) in &mut wanted.known {
            let asked = wanted.asked == Some(*peer);
            let time = if asked { self.patience.block } else { HAVE_TIME };
            if let Known::No { since } = *known
                && (waited(peer, since) > time || now.duration_since(since) > time * AT_WORK)
            {
                *known = Known::Lacks;
                wanted.timed_out |= asked;
                silent.push((*peer, asked));
            }
        }
        for (peer, asked) in silent {
            self.tell(peer, Entry::cancel(id.to_cid()));
            self.tally.failed(&peer, "it was asked, and said nothing");
            if asked {
                self.withdraw(id, &peer);
                // It is not the first choice any more.
                self.peers.entry(peer).and_modify(|partner| partner.gave = None);
            }
        }
    }

    /// Asks a peer that has the block, or gives up when none has it.
    fn advance(&mut self, id: ContentId, now: Instant) {
        let Some(wanted) = self.wanted.get(&id) else { return };
        if wanted.asked.is_some() {
            return;
        }
        let alone = self.peers.is_empty();
        let has = wanted.known.iter().filter(|(_, known)| **known == Known::Has);
        let has = has.filter_map(|(peer, _)| Some((*peer, self.peers.get(peer)?)));
        let best = has.min_by_key(|(_, partner)| (partner.gave.is_none(), partner.in_flight));
        match best {
            Some((peer, partner)) if partner.in_flight < IN_FLIGHT => self.ask(id, peer, now),
            Some(_) => {}
            None if alone && now.duration_since(self.alone_since) > self.patience.connect => {
                self.finish(id, || SourceError::Unreachable("no peer is connected".into()));
            }
            None if !alone && wanted.known.values().all(|known| *known == Known::Lacks) => {
                let timed_out = wanted.timed_out.then_some(self.patience.block);
                self.finish(id, || timed_out.map_or(SourceError::NotFound, SourceError::Timeout));
            }
            None => {}
        }
    }

    /// A peer has room for more: what waits for it is asked for.
    fn fill(&mut self, now: Instant) {
        let waiting = self.wanted.iter().filter(|(_, wanted)| wanted.asked.is_none()).map(|(id, _)| *id);
        let ids: Vec<_> = waiting.collect();
        ids.into_iter().for_each(|id| self.advance(id, now));
    }

    /// The peer is not asked for the block any more.
    fn withdraw(&mut self, id: ContentId, peer: &PeerId) {
        if let Some(wanted) = self.wanted.get_mut(&id)
            && wanted.asks(peer)
        {
            wanted.asked = None;
            self.peers
                .entry(*peer)
                .and_modify(|partner| partner.in_flight = partner.in_flight.saturating_sub(1));
        }
    }

    fn release(&mut self, wanted: &mut Wanted) {
        if let Some(asked) = wanted.asked.take() {
            let partner = self.peers.entry(asked);
            partner.and_modify(|partner| partner.in_flight = partner.in_flight.saturating_sub(1));
        }
    }

    /// Nobody gets the block.
    fn finish(&mut self, id: ContentId, error: impl Fn() -> SourceError) {
        let Some(mut wanted) = self.wanted.remove(&id) else { return };
        self.release(&mut wanted);
        for (peer, known) in &wanted.known {
            if *known != Known::Lacks {
                self.tell(*peer, Entry::cancel(id.to_cid()));
            }
        }
        answer(wanted.waiters, error);
    }

    /// The node stops: nobody gets anything any more.
    pub fn stop(&mut self) {
        for (_, wanted) in self.wanted.drain() {
            answer(wanted.waiters, || SourceError::Unreachable("this node stops".into()));
        }
    }
}

impl Wanted {
    fn asks(&self, peer: &PeerId) -> bool {
        self.asked == Some(*peer)
    }
}

fn answer(waiters: Vec<Waiter>, error: impl Fn() -> SourceError) {
    for waiter in waiters {
        // Whoever does not wait any more needs no answer.
        let _gone = waiter.send(Err(error()));
    }
}

#[cfg(test)]
mod tests;
