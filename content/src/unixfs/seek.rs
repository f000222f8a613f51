//! One place in a file: which blocks lead to it, and the bytes that are there. Reads no block besides.

use af_contract::ContentId;
use bytes::Bytes;

use super::bounds::FILE_DEPTH;
use super::node::{Node, NodeError};

/// The way to a byte of a file: ask [`Self::wanted`], hand the node to [`Self::step`].
#[derive(Clone, Copy, Debug)]
pub struct Seek {
    wanted: ContentId,
    size: u64,
    /// Within the wanted node.
    offset: u64,
    depth: usize,
}

/// What a node on the way has.
#[derive(Debug)]
pub enum Found {
    /// The bytes from the place to the end of its block; none at the end of the file.
    Bytes(Bytes),
    /// The way leads on.
    Deeper(Seek),
}

impl Seek {
    /// To a byte of the file with this root and length.
    #[must_use]
    pub const fn new(root: ContentId, size: u64, offset: u64) -> Self {
        Self { wanted: root, size, offset, depth: 0 }
    }

    /// The node to look at next.
    #[must_use]
    pub const fn wanted(&self) -> ContentId {
        self.wanted
    }

    /// Looks at the wanted node.
    ///
    /// # Errors
    /// When it is no part of a file, or of another length than the node before said.
    pub fn step(self, node: &Node) -> Result<Found, NodeError> {
        let wrong = |reason| NodeError::Malformed { id: self.wanted, reason };
        if node.file_size() != Some(self.size) {
            return Err(wrong("it is not of the length that the file says"));
        }
        match node {
            Node::Bytes(bytes) => {
                let from = usize::try_from(self.offset).unwrap_or(usize::MAX).min(bytes.len());
                Ok(Found::Bytes(bytes.slice(from..)))
            }
            Node::File(children) if self.depth < FILE_DEPTH => {
                let at = children.partition_point(|child| child.end <= self.offset);
                let Some(child) = children.get(at) else { return Ok(Found::Bytes(Bytes::new())) };
                let begin = at.checked_sub(1).and_then(|before| children.get(before)).map_or(0, |c| c.end);
                Ok(Found::Deeper(Self {
                    wanted: child.id,
                    size: child.end - begin,
                    offset: self.offset - begin,
                    depth: self.depth + 1,
                }))
            }
            _ => Err(wrong("the file has too many levels")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::directory::tests::Blocks;
    use super::super::node::tests::{encoded, link_to};
    use super::super::{Link, import};
    use super::*;

    /// From a place to the end, block by block; and how many nodes were looked at.
    fn read(
        root: ContentId,
        size: u64,
        mut offset: u64,
        blocks: &Blocks,
    ) -> Result<(Vec<u8>, usize), NodeError> {
        let (mut out, mut looked) = (Vec::new(), 0);
        loop {
            let mut seek = Seek::new(root, size, offset);
            let bytes = loop {
                looked += 1;
                match seek.step(&Node::decode(&seek.wanted(), &blocks[&seek.wanted()])?)? {
                    Found::Bytes(bytes) => break bytes,
                    Found::Deeper(deeper) => seek = deeper,
                }
            };
            if bytes.is_empty() {
                return Ok((out, looked));
            }
            offset += bytes.len() as u64;
            out.extend_from_slice(&bytes);
        }
    }

    #[test]
    fn only_the_blocks_of_the_range_are_looked_at() {
        let mut blocks = Blocks::new();
        let file: Vec<u8> = (0..3_500_000_u32).map(|n| n.to_le_bytes()[1]).collect();
        let summary = import(&file[..], |block| {
            blocks.insert(block.id, block.bytes);
            Ok(())
        });
        let summary = summary.unwrap();
        let from = 3_400_000_usize;
        let (bytes, looked) = read(summary.root, summary.size, from as u64, &blocks).unwrap();
        assert!(bytes == file[from..]);
        assert_eq!(looked, 3, "the root and one leaf, and the root again for the end");
    }

    #[test]
    fn a_part_that_is_longer_than_said_is_refused() {
        let leaf = Bytes::from_static(b"hello");
        let id = crate::identify(af_contract::Codec::Raw, &leaf);
        let (root, node) = encoded(2, &[(3, 4), (4, 4)], &[Link { id, ..link_to("", 4) }]);
        let blocks = Blocks::from([(id, leaf), (root, node)]);
        let error = read(root, 4, 0, &blocks).unwrap_err();
        assert!(error.to_string().contains("length"), "{error}");
        assert!(read(root, 5, 0, &blocks).is_err());
    }

    #[test]
    fn a_chain_of_nodes_is_refused() {
        let leaf = Bytes::from_static(b"hello");
        let mut root = crate::identify(af_contract::Codec::Raw, &leaf);
        let mut blocks = Blocks::from([(root, leaf)]);
        for _ in 0..=FILE_DEPTH {
            let (next, node) = encoded(2, &[(3, 5), (4, 5)], &[Link { id: root, ..link_to("", 5) }]);
            blocks.insert(next, node);
            root = next;
        }
        assert!(read(root, 5, 0, &blocks).unwrap_err().to_string().contains("levels"));
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(24))]
        #[test]
        fn any_range_is_read(size in 0usize..5 << 20, from: u32) {
            let file: Vec<u8> = (0..size).map(|n| n.to_le_bytes()[1]).collect();
            let mut blocks = Blocks::new();
            let summary = import(&file[..], |block| { blocks.insert(block.id, block.bytes); Ok(()) }).unwrap();
            let from = from as usize % (size + 2);
            let (bytes, _) = read(summary.root, summary.size, from as u64, &blocks).unwrap();
            proptest::prop_assert!(bytes == file[from.min(size)..]);
        }
    }
}
