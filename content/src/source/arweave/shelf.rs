//! The archives that were opened last: how far they were read, and where their blocks are. All of it is bounded.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use af_contract::{Codec, ContentId};
use bytes::Bytes;
use tokio::time::Instant;

use super::reading::Window;
use crate::car::Block;
use crate::source::SourceError;
use crate::unixfs::Node;

/// Archives that are open.
const ARCHIVES: usize = 4;

/// DAGs that are fetched at the same time, and known to be. More of them are found if they are fetched from the root.
const ROOTS: usize = 64;

/// Blocks that no archive begins with: how many are remembered, and for how long.
const MISSING: usize = 4096;
const MISSING_FOR: Duration = Duration::from_secs(60);

/// Blocks of an archive that are remembered, and those that are still to come: 8 MiB each, and 128 GiB of content.
const BLOCKS: usize = 1 << 17;

/// Blocks that came and may be asked for next: their bytes and number.
const RECENT: usize = 32 << 20;
const RECENT_BLOCKS: usize = 1 << 14;

/// An archive of one DAG.
#[derive(Debug)]
pub(super) struct Archive {
    /// What it is called on Arweave.
    pub item: String,
    root: ContentId,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Where the next section begins.
    position: u64,
    end: bool,
    /// What is read on from there, while nobody does.
    window: Option<Window>,
    /// Where blocks are, and how long.
    blocks: HashMap<ContentId, (u64, usize)>,
    /// Those that its blocks link to, and that have not come yet.
    coming: HashSet<ContentId>,
}

/// Where a block is.
pub(super) enum Found {
    Here(Bytes),
    There { item: String, from: u64, size: usize },
}

impl Archive {
    pub fn new(item: String, root: ContentId) -> Self {
        let state = State { coming: HashSet::from([root]), ..State::default() };
        Self { item, root, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it is to be read on, and its roots once they were read; nothing where it ends.
    pub fn next(&self) -> Option<(u64, Option<Vec<ContentId>>)> {
        let state = self.state();
        let roots = (state.position > 0).then(|| vec![self.root]);
        (!state.end).then_some((state.position, roots))
    }

    /// There is no more of it.
    pub fn ends(&self) {
        self.state().end = true;
    }

    /// Whoever takes it and goes away costs a request, and nothing else.
    pub fn take_window(&self) -> Option<Window> {
        self.state().window.take()
    }

    pub fn leave_window(&self, window: Window) {
        self.state().window = Some(window);
    }

    /// A block whose bytes begin at `at`, before `next`, where the next section begins.
    ///
    /// # Errors
    /// When it is of another DAG, which is how an archive could go on for ever, or there are too many.
    pub fn enter(&self, block: &Block, at: u64, next: u64) -> Result<(), SourceError> {
        let mut state = self.state();
        if !state.coming.remove(&block.id) && !state.blocks.contains_key(&block.id) {
            state.end = true;
            return Err(SourceError::Unexpected("an archive with blocks of something else".to_owned()));
        }
        state.position = next;
        state.blocks.insert(block.id, (at, block.bytes.len()));
        if block.id.codec() == Codec::DagPb
            && let Ok(node) = Node::decode(&block.id, &block.bytes)
        {
            for child in node.links().filter(|child| *child != block.id) {
                if !state.blocks.contains_key(&child) {
                    state.coming.insert(child);
                }
            }
        }
        if state.blocks.len() > BLOCKS || state.coming.len() > BLOCKS {
            state.end = true;
            return Err(SourceError::Unexpected(format!("an archive of more than {BLOCKS} blocks")));
        }
        Ok(())
    }
}

/// What is remembered of a gateway's archives.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    /// The last one that was used is the last.
    archives: VecDeque<Arc<Archive>>,
    roots: Vec<ContentId>,
    missing: VecDeque<(ContentId, Instant)>,
    recent: HashMap<ContentId, Bytes>,
    /// The oldest one first.
    order: VecDeque<ContentId>,
    recent_bytes: usize,
}

impl Shelf {
    pub fn find(&self, id: ContentId) -> Option<Found> {
        if let Some(bytes) = self.recent.get(&id) {
            return Some(Found::Here(bytes.clone()));
        }
        self.archives.iter().rev().find_map(|archive| {
            let (from, size) = *archive.state().blocks.get(&id)?;
            Some(Found::There { item: archive.item.clone(), from, size })
        })
    }

    /// The archive that will have this block.
    pub fn expecting(&self, id: ContentId) -> Option<Arc<Archive>> {
        let expecting = |archive: &&Arc<Archive>| {
            let state = archive.state();
            !state.end && state.coming.contains(&id)
        };
        self.archives.iter().rev().find(expecting).cloned()
    }

    /// The archive of this DAG.
    pub fn of(&self, root: ContentId) -> Option<Arc<Archive>> {
        self.archives.iter().find(|archive| archive.root == root).cloned()
    }

    pub fn put(&mut self, archive: Arc<Archive>) {
        self.archives.retain(|other| other.root != archive.root);
        if self.archives.len() >= ARCHIVES {
            self.archives.pop_front();
        }
        self.archives.push_back(archive);
    }

    /// It is looked up again when it is needed again.
    pub fn drop_archive(&mut self, archive: &Arc<Archive>) {
        self.archives.retain(|other| !Arc::ptr_eq(other, archive));
    }

    /// What is fetched now.
    pub fn expected(&self) -> Vec<ContentId> {
        self.roots.clone()
    }

    pub fn expect(&mut self, root: ContentId) {
        if self.roots.len() < ROOTS {
            self.roots.push(root);
        }
    }

    pub fn done(&mut self, root: ContentId) {
        if let Some(at) = self.roots.iter().position(|other| *other == root) {
            self.roots.swap_remove(at);
        }
    }

    /// There was no archive that begins with it.
    pub fn misses(&mut self, root: ContentId) {
        if self.missing.len() >= MISSING {
            self.missing.pop_front();
        }
        self.missing.push_back((root, Instant::now()));
    }

    /// Whether there was none a moment ago.
    pub fn is_missing(&self, root: ContentId) -> bool {
        self.missing.iter().any(|(id, since)| *id == root && since.elapsed() < MISSING_FOR)
    }

    pub fn remember(&mut self, block: &Block) {
        if self.recent.insert(block.id, block.bytes.clone()).is_none() {
            self.recent_bytes += block.bytes.len();
            self.order.push_back(block.id);
        }
        while (self.recent_bytes > RECENT || self.order.len() > RECENT_BLOCKS)
            && let Some(oldest) = self.order.pop_front()
        {
            self.recent_bytes -= self.recent.remove(&oldest).map_or(0, |gone| gone.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash;

    fn block(bytes: Vec<u8>) -> Block {
        Block { id: hash::identify(Codec::Raw, &bytes), bytes: bytes.into() }
    }

    #[test]
    fn an_archive_with_blocks_that_nothing_links_to_is_read_no_further() {
        let (root, other) = (block(vec![1]), block(vec![2]));
        let archive = Archive::new("item".into(), root.id);
        archive.enter(&root, 60, 61).unwrap();
        assert_eq!(archive.next().unwrap().0, 61);
        archive.enter(&root, 60, 61).unwrap();
        assert!(archive.enter(&other, 100, 101).is_err());
        assert!(archive.next().is_none());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut shelf = Shelf::default();
        let blocks: Vec<Block> = (0..34_u8).map(|n| block(vec![n; 1 << 20])).collect();
        blocks.iter().chain(&blocks[30..]).for_each(|block| shelf.remember(block));
        assert!(shelf.find(blocks[0].id).is_none() && shelf.find(blocks[33].id).is_some());
        assert!(shelf.recent_bytes <= RECENT && shelf.recent.len() == shelf.order.len());
        (0..100).for_each(|n| shelf.expect(blocks[n % 34].id));
        assert_eq!(shelf.expected().len(), ROOTS);
        shelf.done(blocks[0].id);
        assert_eq!(shelf.expected().len(), ROOTS - 1);
        for n in 0..5_u32 {
            shelf.put(Arc::new(Archive::new(n.to_string(), blocks[n as usize].id)));
        }
        assert!(shelf.of(blocks[0].id).is_none() && shelf.of(blocks[4].id).is_some());
    }
}
