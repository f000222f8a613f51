//! A walk over a DAG that comes to each block once, parents before children: who fetches, sends or counts one goes by it,
//! so that the bounds are in one place. Without I/O.

use std::collections::{HashMap, HashSet};

use af_contract::{Codec, ContentId};
use bytes::Bytes;

use crate::unixfs::{DAG_DEPTH, Exceeded, Node, NodeError};

/// What a DAG may have at most. How deep it may be is the same for all: [`DAG_DEPTH`].
#[derive(Clone, Copy, Debug)]
pub struct DagBounds {
    /// All blocks together, each once; and what its root says, if that is a file.
    pub bytes: u64,
    /// Their number.
    pub blocks: usize,
}

impl DagBounds {
    /// Of what is on this node's disk, where bytes were bounded when they came. A million blocks are a file of a terabyte.
    pub const STORED: Self = Self { bytes: u64::MAX, blocks: 1 << 20 };
}

/// A block that the walk has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visit {
    /// Which.
    pub id: ContentId,
    depth: usize,
}

/// Why a walk ends before its end.
#[derive(Debug, thiserror::Error)]
pub enum TraversalError {
    /// A block is no node.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The DAG is too large.
    #[error(transparent)]
    Exceeded(#[from] Exceeded),
}

/// A walk: take [`Self::next`] or [`Self::take`], get the block, hand it to [`Self::arrived`]. Several may be under way.
#[derive(Debug)]
pub struct Traversal {
    bounds: DagBounds,
    /// The next one last. What is not waiting any more was taken by its id.
    order: Vec<ContentId>,
    /// Known and not taken yet, and how deep.
    waiting: HashMap<ContentId, usize>,
    /// All that were ever waiting.
    seen: HashSet<ContentId>,
    bytes: u64,
}

impl Traversal {
    /// Of the DAG under `root`.
    #[must_use]
    pub fn new(root: ContentId, bounds: DagBounds) -> Self {
        Self {
            bounds,
            order: vec![root],
            waiting: HashMap::from([(root, 0)]),
            seen: HashSet::from([root]),
            bytes: 0,
        }
    }

    /// The next block in the order of links, of those that are known; what stands in a link is none, but a root may.
    #[expect(
        clippy::should_implement_trait,
        reason = "it is not over when there is none: others may be under way"
    )]
    pub fn next(&mut self) -> Option<Visit> {
        while let Some(id) = self.order.pop() {
            if let Some(depth) = self.waiting.remove(&id) {
                return Some(Visit { id, depth });
            }
        }
        None
    }

    /// The one that [`Self::next`] would give.
    #[must_use]
    pub fn peek(&self) -> Option<ContentId> {
        self.order.iter().rev().find(|id| self.waiting.contains_key(id)).copied()
    }

    /// This block, if it is known and was not taken yet.
    pub fn take(&mut self, id: &ContentId) -> Option<Visit> {
        self.waiting.remove(id).map(|depth| Visit { id: *id, depth })
    }

    /// Blocks that are known and were not taken yet.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Takes a block that was visited, verified, and says what it is: nothing of a document, whose links are not followed.
    ///
    /// # Errors
    /// When it is no node, or the DAG is over its bounds.
    pub fn arrived(&mut self, visit: Visit, block: &Bytes) -> Result<Option<Node>, TraversalError> {
        self.bytes = self.bytes.saturating_add(block.len() as u64);
        if self.bytes > self.bounds.bytes {
            return Err(Exceeded::Bytes(self.bounds.bytes).into());
        }
        if visit.id.codec() == Codec::DagCbor {
            return Ok(None);
        }
        let node = Node::decode(&visit.id, block)?;
        if let Some(declared) = node.file_size().filter(|size| visit.depth == 0 && *size > self.bounds.bytes)
        {
            return Err(Exceeded::FileBytes { declared, most: self.bounds.bytes }.into());
        }
        let before = self.order.len();
        self.follow(&node, visit.depth)?;
        // The first child comes first, as in a CAR.
        if let Some(children) = self.order.get_mut(before..) {
            children.reverse();
        }
        Ok(Some(node))
    }

    fn follow(&mut self, node: &Node, depth: usize) -> Result<(), TraversalError> {
        for child in node.links() {
            if !self.seen.insert(child) {
                continue;
            }
            if depth >= DAG_DEPTH {
                return Err(Exceeded::Depth(DAG_DEPTH).into());
            }
            if self.seen.len() > self.bounds.blocks {
                return Err(Exceeded::Blocks(self.bounds.blocks).into());
            }
            if let Some(content) = child.content() {
                // It is here, and may link on. What links to it is longer, so this goes a few levels deep only.
                if child.codec() == Codec::DagPb {
                    self.follow(&Node::decode(&child, &Bytes::copy_from_slice(content))?, depth + 1)?;
                }
                continue;
            }
            self.order.push(child);
            self.waiting.insert(child, depth + 1);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::unixfs::{Link, encoded};

    type Blocks = HashMap<ContentId, Bytes>;

    const BOUNDS: DagBounds = DagBounds { bytes: 1 << 20, blocks: 5_000 };

    fn link(name: &str, id: ContentId) -> Link {
        Link { name: name.to_owned(), id, size: 1 }
    }

    fn walked(root: ContentId, blocks: &Blocks, bounds: DagBounds) -> Result<Vec<ContentId>, TraversalError> {
        let mut traversal = Traversal::new(root, bounds);
        let mut visited = Vec::new();
        while let Some(visit) = traversal.next() {
            visited.push(visit.id);
            traversal.arrived(visit, &blocks[&visit.id])?;
        }
        Ok(visited)
    }

    fn leaf(blocks: &mut Blocks) -> ContentId {
        let id = crate::identify(Codec::Raw, b"leaf");
        blocks.insert(id, Bytes::from_static(b"leaf"));
        id
    }

    #[test]
    fn a_dag_that_unfolds_without_end_is_walked_once() {
        let mut blocks = Blocks::new();
        let mut root = leaf(&mut blocks);
        for _ in 0..100 {
            let (id, block) =
                encoded(1, &[], &(0..100).map(|n| link(&n.to_string(), root)).collect::<Vec<_>>());
            blocks.insert(id, block);
            root = id;
        }
        assert_eq!(walked(root, &blocks, BOUNDS).unwrap().len(), 101);
    }

    #[test]
    fn a_chain_is_followed_so_far() {
        let mut blocks = Blocks::new();
        let mut root = leaf(&mut blocks);
        for _ in 0..DAG_DEPTH {
            let (id, block) = encoded(1, &[], &[link("a", root)]);
            blocks.insert(id, block);
            root = id;
        }
        assert_eq!(walked(root, &blocks, BOUNDS).unwrap().len(), DAG_DEPTH + 1);
        let (id, block) = encoded(1, &[], &[link("a", root)]);
        blocks.insert(id, block);
        let error = walked(id, &blocks, BOUNDS).unwrap_err();
        assert!(matches!(error, TraversalError::Exceeded(Exceeded::Depth(DAG_DEPTH))), "{error}");
    }

    #[test]
    fn each_bound_is_named() {
        let mut blocks = Blocks::new();
        // A few bytes that say they are a petabyte.
        let mut part = (leaf(&mut blocks), 4_u64);
        for _ in 0..5 {
            let fields: Vec<_> = [(3, part.1 * 1000)].into_iter().chain([(4, part.1)].repeat(1000)).collect();
            let (id, block) = encoded(2, &fields, &vec![link("", part.0); 1000]);
            blocks.insert(id, block);
            part = (id, part.1 * 1000);
        }
        let error = walked(part.0, &blocks, BOUNDS).unwrap_err().to_string();
        assert_eq!(
            error,
            "the file says that it has 4000000000000000 bytes, and at most 1048576 are allowed"
        );
        // In a directory it does not count: who reads it bounds what is read.
        let (root, block) = encoded(1, &[], &[link("large", part.0)]);
        blocks.insert(root, block);
        assert_eq!(walked(root, &blocks, BOUNDS).unwrap().len(), 7);
        let error = walked(root, &blocks, DagBounds { blocks: 6, ..BOUNDS }).unwrap_err().to_string();
        assert_eq!(error, "the DAG has more than 6 blocks");
        let error = walked(root, &blocks, DagBounds { bytes: 1000, ..BOUNDS }).unwrap_err().to_string();
        assert_eq!(error, "the blocks of the DAG have more than 1000 bytes");
    }

    #[test]
    fn what_stands_in_a_link_is_followed_and_never_asked_for() {
        let mut blocks = Blocks::new();
        let leaf = leaf(&mut blocks);
        let raw = ContentId::inline(Codec::Raw, b"hello").unwrap();
        let (_, block) = encoded(1, &[], &[link("deep", leaf)]);
        let inner = ContentId::inline(Codec::DagPb, &block).unwrap();
        let (root, block) = encoded(1, &[], &[link("a", raw), link("b", inner)]);
        blocks.insert(root, block);
        assert_eq!(walked(root, &blocks, BOUNDS).unwrap(), [root, leaf]);
        // And a root: its content is its block.
        blocks.insert(inner, Bytes::copy_from_slice(inner.content().unwrap()));
        assert_eq!(walked(inner, &blocks, BOUNDS).unwrap(), [inner, leaf]);
        let nonsense = ContentId::inline(Codec::DagPb, b"no node").unwrap();
        let (root, block) = encoded(1, &[], &[link("a", nonsense)]);
        blocks.insert(root, block);
        assert!(matches!(walked(root, &blocks, BOUNDS), Err(TraversalError::Node(_))));
    }

    #[test]
    fn blocks_are_taken_in_any_order_and_each_once() {
        let mut blocks = Blocks::new();
        let leaf = leaf(&mut blocks);
        let other = crate::identify(Codec::Raw, b"other");
        let (root, block) = encoded(1, &[], &[link("a", leaf), link("b", other), link("c", leaf)]);
        let mut traversal = Traversal::new(root, BOUNDS);
        assert_eq!(traversal.take(&leaf), None, "nobody knows of it yet");
        let visit = traversal.take(&root).unwrap();
        traversal.arrived(visit, &block).unwrap();
        assert_eq!((traversal.peek(), traversal.waiting()), (Some(leaf), 2));
        assert!(traversal.take(&other).is_some() && traversal.take(&other).is_none());
        assert_eq!(traversal.next().unwrap().id, leaf);
        assert_eq!((traversal.next(), traversal.peek(), traversal.waiting()), (None, None, 0));
    }
}
