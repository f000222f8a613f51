//! A walk over a DAG: depth first, parents before children, block by block. What a CAR has and what a file's bytes are both
//! come from here. Memory is bounded whatever the DAG is; what is sent of it, its client pays for.

use std::collections::HashSet;
use std::ops::Range;

use af_contract::{Codec, ContentId};
use bytes::Bytes;

use super::document;
use super::error::DagError;
use super::format::Duplicates;
use super::reading::Reading;
use crate::unixfs::{FILE_DEPTH, Node, NodeError, PENDING};

/// Blocks of one answer: 256 GiB of the usual size. Without duplicates, each is remembered, which takes 40 MiB at most.
const BLOCKS: usize = 1 << 18;

/// `identity` (multihash table): what a link with it leads to stands in the link.
const IDENTITY: u64 = 0x00;

/// A block that a walk came to.
#[derive(Debug)]
pub struct Visited {
    /// Which.
    pub id: ContentId,
    /// Verified.
    pub block: Bytes,
    /// The file's bytes in it, and where in the file they are.
    pub content: Option<(u64, Bytes)>,
}

/// What is below a block.
#[derive(Clone, Copy, Debug)]
enum Below {
    /// Nothing that is wanted.
    Nothing,
    /// All that it links to.
    All,
    /// What a directory needs to be listed; of a document, nothing.
    Entity,
    /// A part of a file with so many bytes, which begins at so many.
    File { begin: u64, size: Option<u64>, depth: usize },
}

/// A walk.
#[derive(Debug)]
pub struct Walk {
    reading: Reading,
    /// The next one last.
    pending: Vec<(ContentId, Below)>,
    /// Those that were sent, where each is sent once.
    seen: Option<HashSet<ContentId>>,
    /// Of a file, the bytes that are wanted.
    wanted: Range<u64>,
    left: usize,
}

impl Walk {
    /// Of one block.
    pub fn of_block(root: ContentId, reading: Reading) -> Self {
        Self::new(root, Below::Nothing, 0..u64::MAX, reading)
    }

    /// Of everything.
    pub fn of_all(root: ContentId, reading: Reading) -> Self {
        Self::new(root, Below::All, 0..u64::MAX, reading)
    }

    /// Of a directory without what is in it, or of a document.
    pub fn of_entity(root: ContentId, reading: Reading) -> Self {
        Self::new(root, Below::Entity, 0..u64::MAX, reading)
    }

    /// Of a file, as far as these of its bytes need it.
    pub fn of_file(root: ContentId, wanted: Range<u64>, reading: Reading) -> Self {
        Self::new(root, Below::File { begin: 0, size: None, depth: 0 }, wanted, reading)
    }

    fn new(root: ContentId, below: Below, wanted: Range<u64>, reading: Reading) -> Self {
        Self { reading: reading.unbounded(), pending: vec![(root, below)], seen: None, wanted, left: BLOCKS }
    }

    /// Begins with the blocks that lead to the root, and sends duplicates or not.
    pub fn led_by(mut self, trail: &[ContentId], duplicates: Duplicates) -> Self {
        self.pending.extend(trail.iter().rev().map(|id| (*id, Below::Nothing)));
        if duplicates == Duplicates::Left {
            self.seen = Some(HashSet::new());
        }
        self
    }

    /// The next block; `None` at the end.
    ///
    /// # Errors
    /// When a block is not here or corrupt, or the DAG is not what it says. Then nothing comes any more.
    pub fn next(&mut self) -> Result<Option<Visited>, DagError> {
        let visited = self.advance();
        if visited.is_err() {
            self.pending.clear();
        }
        visited
    }

    fn advance(&mut self) -> Result<Option<Visited>, DagError> {
        while let Some((id, below)) = self.pending.pop() {
            self.left = self.left.checked_sub(1).ok_or(DagError::TooMuch("blocks"))?;
            let again = self.seen.as_mut().is_some_and(|seen| !seen.insert(id));
            if again && !self.may_differ(id, below) {
                continue;
            }
            let block = self.reading.block(&id)?;
            let content = self.descend(id, below, &block)?;
            if self.pending.len() > PENDING {
                return Err(DagError::TooMuch("links"));
            }
            if !again {
                return Ok(Some(Visited { id, block, content }));
            }
        }
        Ok(None)
    }

    /// Whether something else may be wanted below a block than where it was before: other bytes of a part of a file.
    fn may_differ(&self, id: ContentId, below: Below) -> bool {
        matches!(below, Below::File { .. }) && id.codec() != Codec::Raw && self.wanted != (0..u64::MAX)
    }

    fn descend(
        &mut self,
        id: ContentId,
        below: Below,
        block: &Bytes,
    ) -> Result<Option<(u64, Bytes)>, DagError> {
        match below {
            Below::Nothing => {}
            Below::All => {
                let links = links(&id, block)?;
                self.pending.extend(links.into_iter().rev().map(|link| (link, Below::All)));
            }
            Below::Entity => {
                if id.codec() == Codec::DagPb
                    && let Some(Node::Shard(links)) = node(&id, block)?
                {
                    let shards = links.iter().rev().filter(|link| link.name.len() == 2);
                    self.pending.extend(shards.map(|link| (link.id, Below::Entity)));
                }
            }
            Below::File { begin, size, depth } => return self.file(id, block, (begin, size, depth)),
        }
        Ok(None)
    }

    fn file(
        &mut self,
        id: ContentId,
        block: &Bytes,
        (begin, size, depth): (u64, Option<u64>, usize),
    ) -> Result<Option<(u64, Bytes)>, DagError> {
        let wrong = |reason| NodeError::Malformed { id, reason };
        let node = Node::decode(&id, block)?;
        let found = node.file_size().ok_or_else(|| wrong("it is no part of a file"))?;
        if size.is_some_and(|size| size != found) {
            return Err(wrong("it is not of the length that the file says").into());
        }
        match node {
            Node::Bytes(bytes) => Ok(Some((begin, bytes))),
            Node::File(children) if depth < FILE_DEPTH => {
                let mut parts = Vec::new();
                let mut start = 0;
                for child in children {
                    let part = begin.saturating_add(start)..begin.saturating_add(child.end);
                    if part.start < self.wanted.end && part.end > self.wanted.start {
                        let size = Some(child.end - start);
                        parts.push((child.id, Below::File { begin: part.start, size, depth: depth + 1 }));
                    }
                    start = child.end;
                }
                self.pending.extend(parts.into_iter().rev());
                Ok(None)
            }
            _ => Err(wrong("the file has too many levels").into()),
        }
    }
}

/// All that a block links to.
fn links(id: &ContentId, block: &Bytes) -> Result<Vec<ContentId>, DagError> {
    match id.codec() {
        Codec::Raw => Ok(Vec::new()),
        Codec::DagPb => Ok(node(id, block)?.map_or_else(Vec::new, |node| node.links().collect())),
        Codec::DagCbor => {
            let links = document::links(id, block)?;
            // What is within a link and of another codec has no block to send.
            let of_use =
                |link: &cid::Cid| link.hash().code() != IDENTITY || ContentId::try_from(*link).is_ok();
            let ids = links.into_iter().filter(of_use).map(ContentId::try_from);
            Ok(ids.collect::<Result<_, _>>()?)
        }
    }
}

/// A node; none of a symbolic link, which links to nothing.
fn node(id: &ContentId, block: &Bytes) -> Result<Option<Node>, DagError> {
    match Node::decode(id, block) {
        Ok(node) => Ok(Some(node)),
        Err(NodeError::Symlink(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DiskStore;
    use crate::car::Block;
    use crate::unixfs::{Link, encoded};

    #[test]
    fn a_walk_ends_however_the_dag_unfolds() {
        let dir = tempfile::tempdir().unwrap();
        let store = DiskStore::open(dir.path()).unwrap();
        let mut id = crate::identify(Codec::Raw, b"leaf");
        store.keep(&Block { id, bytes: Bytes::from_static(b"leaf") }).unwrap();
        for level in 0..40 {
            let link = |n: usize| Link { name: format!("{level}-{n}"), id, size: 1 };
            let (root, bytes) = encoded(1, &[], &(0..20_000).map(link).collect::<Vec<_>>());
            store.keep(&Block { id: root, bytes }).unwrap();
            id = root;
        }
        // Each level is kept on the way down, and together they are too many.
        let mut walk = Walk::of_all(id, Reading::bounded(store.clone())).led_by(&[], Duplicates::Sent);
        let mut sent = 0;
        let error = loop {
            match walk.next() {
                Ok(Some(_)) => sent += 1,
                Ok(None) => panic!("it cannot end well"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, DagError::TooMuch("links")) && sent < 20, "{sent} {error:?}");
        assert!(matches!(walk.next(), Ok(None)));
        let mut walk = Walk { left: 5, ..Walk::of_all(id, Reading::bounded(store)) };
        let ended =
            std::iter::repeat_with(|| walk.next()).find(|visited| !matches!(visited, Ok(Some(_)))).unwrap();
        assert!(matches!(ended, Err(DagError::TooMuch("blocks"))));
    }
}
