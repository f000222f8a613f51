//! What a node has done, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};

use super::message::Message;
use super::wants::Verdict;

/// Counted since the start, but for `peers`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connected now.
    pub peers: u64,
    /// Blocks that peers were asked for.
    pub blocks_wanted: u64,
    /// Blocks that somebody waited for.
    pub blocks_received: u64,
    /// Their bytes.
    pub bytes_received: u64,
    /// Blocks that came when they were not needed any more.
    pub blocks_late: u64,
    /// Blocks that nobody asked for, wrong ones among them.
    pub blocks_unasked: u64,
    /// Blocks sent to peers.
    pub blocks_sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
}

/// The numbers while a node counts them.
#[derive(Debug, Default)]
pub struct Counters {
    peers: AtomicU64,
    blocks_wanted: AtomicU64,
    blocks_received: AtomicU64,
    bytes_received: AtomicU64,
    blocks_late: AtomicU64,
    blocks_unasked: AtomicU64,
    blocks_sent: AtomicU64,
    bytes_sent: AtomicU64,
}

impl Counters {
    pub(super) fn connected(&self) {
        add(&self.peers, 1);
    }

    pub(super) fn gone(&self) {
        self.peers.fetch_sub(1, Ordering::Relaxed);
    }

    /// Somebody wants a block, which may be `new`.
    pub(super) fn wanted(&self, new: bool) {
        add(&self.blocks_wanted, u64::from(new));
    }

    pub(super) fn received(&self, verdict: Verdict, bytes: usize) {
        match verdict {
            Verdict::Taken => {
                add(&self.blocks_received, 1);
                add(&self.bytes_received, bytes as u64);
            }
            Verdict::Late => add(&self.blocks_late, 1),
            Verdict::Unasked | Verdict::Flood => add(&self.blocks_unasked, 1),
        }
    }

    pub(super) fn sent(&self, message: &Message) {
        add(&self.blocks_sent, message.blocks.len() as u64);
        add(&self.bytes_sent, message.blocks.iter().map(|block| block.data.len() as u64).sum());
    }

    /// The numbers now.
    #[must_use]
    pub fn read(&self) -> Stats {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            peers: value(&self.peers),
            blocks_wanted: value(&self.blocks_wanted),
            blocks_received: value(&self.blocks_received),
            bytes_received: value(&self.bytes_received),
            blocks_late: value(&self.blocks_late),
            blocks_unasked: value(&self.blocks_unasked),
            blocks_sent: value(&self.blocks_sent),
            bytes_sent: value(&self.bytes_sent),
        }
    }
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}
