//! What each peer did when it was asked, for people who want to know whom to blame. Decides nothing.

use std::sync::{Mutex, MutexGuard, PoisonError};

use libp2p_identity::PeerId;

use crate::source::SourceReport;

/// Peers that have a line of their own. Those who come after share one, so that strangers cannot fill the memory.
const PEERS: usize = 64;

/// What peers did. The configured ones come first.
#[derive(Debug, Default)]
pub struct Tally(Mutex<Lines>);

#[derive(Debug, Default)]
struct Lines {
    peers: Vec<(PeerId, SourceReport)>,
    others: Option<SourceReport>,
}

impl Lines {
    fn of(&mut self, peer: &PeerId) -> &mut SourceReport {
        if self.peers.len() < PEERS && !self.peers.iter().any(|(known, _)| known == peer) {
            self.peers.push((*peer, named(format!("bitswap peer {peer}"))));
        }
        match self.peers.iter_mut().find(|(known, _)| known == peer) {
            Some((_, line)) => line,
            None => self.others.get_or_insert_with(|| named("other bitswap peers".to_owned())),
        }
    }
}

fn named(name: String) -> SourceReport {
    SourceReport { name, ..SourceReport::default() }
}

impl Tally {
    /// The peers of the configuration have a line, whether or not they are ever asked.
    pub fn new(configured: impl Iterator<Item = PeerId>) -> Self {
        let tally = Self::default();
        for peer in configured {
            tally.lines().of(&peer);
        }
        tally
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is asked for one more block.
    pub fn asked(&self, peer: &PeerId) {
        self.lines().of(peer).asked += 1;
    }

    /// It gave a block that somebody waited for.
    pub fn gave(&self, peer: &PeerId, bytes: usize) {
        let mut lines = self.lines();
        let line = lines.of(peer);
        line.blocks += 1;
        line.bytes += bytes as u64;
    }

    /// It says that it has not what it was asked for.
    pub fn lacks(&self, peer: &PeerId) {
        self.lines().of(peer).missing += 1;
    }

    /// It cannot be reached, is silent, or is sent away.
    pub fn failed(&self, peer: &PeerId, why: impl Into<String>) {
        let mut lines = self.lines();
        let line = lines.of(peer);
        line.failures += 1;
        line.said = Some(why.into());
    }

    /// It sent a block that it was not asked for, which is what one is whose bytes were changed.
    pub fn lied(&self, peer: &PeerId) {
        let mut lines = self.lines();
        let line = lines.of(peer);
        line.lies += 1;
        line.said = Some("it sent bytes that are no block it was asked for".to_owned());
    }

    /// A line for each peer, and one for those that have none of their own.
    pub fn reports(&self) -> Vec<SourceReport> {
        let lines = self.lines();
        lines.peers.iter().map(|(_, line)| line).chain(&lines.others).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_peers_has_a_bounded_number_of_lines() {
        let configured = PeerId::random();
        let tally = Tally::new(std::iter::once(configured));
        for _ in 0..1000 {
            tally.asked(&PeerId::random());
        }
        tally.gave(&configured, 3);
        let reports = tally.reports();
        assert_eq!(reports.len(), PEERS + 1);
        let (first, last) = (reports.first().unwrap(), reports.last().unwrap());
        assert_eq!(
            (first.name.as_str(), first.asked, first.blocks),
            (&*format!("bitswap peer {configured}"), 0, 1)
        );
        assert_eq!((last.name.as_str(), last.asked), ("other bitswap peers", 1001 - PEERS as u64));
    }
}
