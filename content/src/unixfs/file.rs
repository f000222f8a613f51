//! Whole files: import under any profile, and export of any file DAG.

use std::io::{self, Read};

use af_contract::{Blake3Hash, Codec, ContentId};
use bytes::Bytes;
use rust_unixfs::file::adder::{BalancedCollector, Chunker, FileAdder};

use super::bounds::{Exceeded, FILE_DEPTH, PENDING};
use super::chunking::Chunking;
use super::node::{Child, Node, NodeError};
use super::profile::Profile;
use crate::car::Block;

/// A file's identity in both namings, and its length in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSummary {
    /// UnixFS root, or the single raw block.
    pub root: ContentId,
    /// BLAKE3 of the whole file; not of the root block.
    pub blake3: Blake3Hash,
    /// Bytes.
    pub size: u64,
}

/// Reads a file and hands its blocks, leaves before nodes, to `sink`; under the profile `unixfs-v1-2025`.
///
/// # Errors
/// Whatever `file` or `sink` returns.
pub fn import(file: impl Read, sink: impl FnMut(Block) -> io::Result<()>) -> io::Result<FileSummary> {
    import_as(Profile::V1, file, sink)
}

/// As [`import`], under this profile or chunking.
///
/// # Errors
/// As [`import`].
pub fn import_as(
    chunking: impl Into<Chunking>,
    mut file: impl Read,
    mut sink: impl FnMut(Block) -> io::Result<()>,
) -> io::Result<FileSummary> {
    let chunking = chunking.into();
    let chunk_bytes = chunking.chunk_bytes;
    let mut adder = FileAdder::builder()
        .with_chunker(Chunker::Size(chunk_bytes))
        .with_collector(BalancedCollector::with_branching_factor(chunking.links_per_node))
        .with_cid_version(chunking.version)
        .with_raw_leaves(chunking.raw_leaves)
        .with_hasher(chunking.hasher())
        .build();
    let mut hasher = blake3::Hasher::new();
    let mut root = None;
    let mut emit = |(cid, bytes): (cid::Cid, Vec<u8>)| {
        let id = ContentId::try_from(cid).map_err(io::Error::other)?;
        root = Some(id);
        sink(Block { id, bytes: bytes.into() })
    };
    let mut chunk = Vec::with_capacity(chunk_bytes);
    let mut size = 0;
    loop {
        chunk.clear();
        let read = file.by_ref().take(chunk_bytes as u64).read_to_end(&mut chunk)?;
        if read == 0 {
            break;
        }
        size += read as u64;
        hasher.update(&chunk);
        let mut rest = chunk.as_slice();
        while !rest.is_empty() {
            let (blocks, used) = adder.push(rest);
            for block in blocks {
                emit(block)?;
            }
            rest = rest.get(used..).unwrap_or_default();
        }
    }
    for block in adder.finish() {
        emit(block)?;
    }
    let root = root.ok_or_else(|| io::Error::other("the importer made no block"))?;
    Ok(FileSummary { root, blake3: hasher.finalize().into(), size })
}

/// Why a DAG is not a file.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A block that is no node.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// A node that is no file's.
    #[error("{0} is no file, but a directory or a document")]
    NotAFile(ContentId),
    /// More bytes than the caller allows.
    #[error("the file has more than {0} bytes")]
    TooLarge(u64),
    /// Larger than files are in another way.
    #[error(transparent)]
    Exceeded(#[from] Exceeded),
    /// A part has more or fewer bytes than what links to it says.
    #[error("block {id} has {found} bytes, but what links to it says {expected}")]
    Size {
        /// The part.
        id: ContentId,
        /// As it was said.
        expected: u64,
        /// As it is.
        found: u64,
    },
}

/// Walks a file DAG in order: ask [`Self::wanted`], hand the block to [`Self::feed`], use the bytes.
///
/// Bounded against DAG bombs: by bytes, which the root has to admit before anything else is read, by nodes, since every
/// leaf of a real file holds bytes, by levels, and by the links that wait.
#[derive(Debug)]
pub struct Export {
    /// Parts to come, the next one last.
    pending: Vec<Part>,
    fed_blocks: u64,
    max_bytes: u64,
}

#[derive(Debug)]
struct Part {
    id: ContentId,
    /// As what links to it says.
    size: Option<u64>,
    depth: usize,
}

impl Export {
    /// Starts at a file's root; `max_bytes` bounds what the file may hold.
    #[must_use]
    pub fn new(root: ContentId, max_bytes: u64) -> Self {
        Self { pending: vec![Part { id: root, size: None, depth: 0 }], fed_blocks: 0, max_bytes }
    }

    /// The block to feed next; `None` when the file is complete.
    #[must_use]
    pub fn wanted(&self) -> Option<ContentId> {
        self.pending.last().map(|part| part.id)
    }

    /// Takes the wanted block and returns the file bytes in it, which are none for an inner node.
    ///
    /// # Errors
    /// When the block is no node of a file, or the file is too large or of another size than its root says.
    pub fn feed(&mut self, block: &Bytes) -> Result<Bytes, ExportError> {
        let Some(part) = self.pending.pop() else { return Ok(Bytes::new()) };
        if part.id.codec() == Codec::DagCbor {
            return Err(ExportError::NotAFile(part.id));
        }
        let node = Node::decode(&part.id, block)?;
        let found = node.file_size().ok_or(ExportError::NotAFile(part.id))?;
        self.admit(&part, found)?;
        match node {
            Node::Bytes(bytes) => Ok(bytes),
            Node::File(children) => self.descend(part.depth, &children).map(|()| Bytes::new()),
            Node::Directory(_) | Node::Shard(_) => Err(ExportError::NotAFile(part.id)),
        }
    }

    /// Takes the wanted block, a raw one of `size` bytes, which are all the file's. A block that is wanted and is no raw
    /// one has to be fed.
    ///
    /// # Errors
    /// As [`Self::feed`].
    pub fn feed_raw(&mut self, size: u64) -> Result<(), ExportError> {
        match self.pending.pop() {
            Some(part) if part.id.codec() == Codec::Raw => self.admit(&part, size),
            Some(part) => Err(ExportError::NotAFile(part.id)),
            None => Ok(()),
        }
    }

    /// Counts a part that has `found` bytes of the file.
    fn admit(&mut self, part: &Part, found: u64) -> Result<(), ExportError> {
        match part.size {
            Some(expected) if expected != found => {
                return Err(ExportError::Size { id: part.id, expected, found });
            }
            // All other parts have to fit into what the root says.
            None if found > self.max_bytes => return Err(ExportError::TooLarge(self.max_bytes)),
            _ => {}
        }
        self.fed_blocks += 1;
        // A file of real chunkers has leaves of 1 KiB or more; 64 spare ones let tiny files be odd.
        if self.fed_blocks > self.max_bytes / 1024 + 64 {
            return Err(ExportError::TooLarge(self.max_bytes));
        }
        Ok(())
    }

    fn descend(&mut self, depth: usize, children: &[Child]) -> Result<(), ExportError> {
        if depth >= FILE_DEPTH {
            return Err(Exceeded::FileDepth(FILE_DEPTH).into());
        }
        let begins = std::iter::once(0).chain(children.iter().map(|child| child.end));
        let parts = children.iter().zip(begins).map(|(child, begin)| Part {
            id: child.id,
            size: Some(child.end - begin),
            depth: depth + 1,
        });
        let before = self.pending.len();
        self.pending.extend(parts);
        if let Some(parts) = self.pending.get_mut(before..) {
            parts.reverse();
        }
        if self.pending.len() > PENDING { Err(Exceeded::Pending(PENDING).into()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::Link;
    use super::super::node::tests::{encoded, link_to};
    use super::*;

    type Blocks = HashMap<ContentId, Bytes>;

    const CHUNK_BYTES: usize = 1 << 20;

    fn imported(file: impl Read) -> (FileSummary, Blocks) {
        imported_as(Profile::V1, file)
    }

    fn imported_as(profile: Profile, file: impl Read) -> (FileSummary, Blocks) {
        let mut blocks = Blocks::new();
        let summary = import_as(profile, file, |block| {
            crate::verify(&block.id, &block.bytes).unwrap();
            blocks.insert(block.id, block.bytes);
            Ok(())
        });
        (summary.unwrap(), blocks)
    }

    fn exported(root: ContentId, blocks: &Blocks, max: u64) -> Result<Vec<u8>, ExportError> {
        let mut export = Export::new(root, max);
        let mut out = Vec::new();
        while let Some(id) = export.wanted() {
            out.extend_from_slice(&export.feed(&blocks[&id])?);
        }
        Ok(out)
    }

    #[test]
    fn the_published_cid_of_a_small_file() {
        let (summary, _) = imported(&b"hello world"[..]);
        assert_eq!(summary.root.to_string(), "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e");
        assert_eq!(summary.blake3, blake3::hash(b"hello world").into());
    }

    #[test]
    fn an_empty_file_round_trips() {
        let (summary, blocks) = imported(&b""[..]);
        assert_eq!(summary.size, 0);
        assert_eq!(exported(summary.root, &blocks, 10).unwrap(), b"");
    }

    #[test]
    fn a_file_over_the_limit_is_refused() {
        let (summary, blocks) = imported(&vec![1; 3 * CHUNK_BYTES][..]);
        let max = 2 * CHUNK_BYTES as u64;
        assert!(matches!(exported(summary.root, &blocks, max), Err(ExportError::TooLarge(_))));
    }

    #[test]
    fn a_node_that_lies_about_its_size_is_refused() {
        let (summary, mut blocks) = imported(&vec![1; CHUNK_BYTES + 5][..]);
        let leaf = blocks.iter().find(|(_, bytes)| bytes.len() == 5).map(|(id, _)| *id).unwrap();
        blocks.insert(leaf, Bytes::from_static(b"12"));
        let result = exported(summary.root, &blocks, 1 << 30);
        assert!(matches!(result, Err(ExportError::Size { .. })), "{result:?}");
    }

    #[test]
    fn a_document_is_no_file() {
        let id = crate::identify(Codec::DagCbor, b"\xa0");
        let blocks = Blocks::from([(id, Bytes::from_static(b"\xa0"))]);
        assert!(matches!(exported(id, &blocks, 10), Err(ExportError::NotAFile(_))));
    }

    /// A file whose parts stand in their links, but for one.
    #[test]
    fn parts_that_stand_in_their_links_are_read() {
        let block = Bytes::from_static(b"block");
        let of_block = crate::identify(Codec::Raw, &block);
        let raw = ContentId::inline(Codec::Raw, b"raw").unwrap();
        let fields = [(3, 8), (4, 3), (4, 5)];
        let (_, inner) = encoded(2, &fields, &[part(raw), part(of_block)]);
        let inner = ContentId::inline(Codec::DagPb, &inner).unwrap();
        let (root, node) = encoded(2, &[(3, 11), (4, 8), (4, 3)], &[part(inner), part(raw)]);
        let blocks = Blocks::from([(root, node), (of_block, block)]);
        let mut export = Export::new(root, 100);
        let mut out = Vec::new();
        while let Some(id) = export.wanted() {
            let block = blocks.get(&id).cloned();
            let block = block.or_else(|| id.content().map(Bytes::copy_from_slice)).unwrap();
            out.extend_from_slice(&export.feed(&block).unwrap());
        }
        assert_eq!(out, b"rawblockraw");
    }

    fn part(id: ContentId) -> Link {
        Link { id, ..link_to("", 1) }
    }

    #[test]
    fn a_file_that_claims_to_be_a_petabyte_is_refused_at_its_root() {
        let (leaf, mut blocks) = (crate::identify(Codec::Raw, b"leaf"), Blocks::new());
        blocks.insert(leaf, Bytes::from_static(b"leaf"));
        let (mut root, mut size) = (leaf, 4);
        for _ in 0..5 {
            let fields: Vec<_> = [(3, size * 1000)].into_iter().chain([(4, size)].repeat(1000)).collect();
            let (id, block) = encoded(2, &fields, &vec![part(root); 1000]);
            blocks.insert(id, block);
            (root, size) = (id, size * 1000);
        }
        let mut export = Export::new(root, 1 << 40);
        let error = export.feed(&blocks[&root]).unwrap_err();
        assert!(matches!(error, ExportError::TooLarge(max) if max == 1 << 40), "{error}");
        // Who allows so many bytes does not have as many blocks.
        let error = exported(root, &blocks, 1 << 20).unwrap_err();
        assert!(matches!(error, ExportError::TooLarge(_)), "{error}");
        let mut export = Export::new(root, u64::MAX);
        for _ in 0..20_000 {
            export.feed(&blocks[&export.wanted().unwrap()]).unwrap();
        }
        assert!(export.pending.len() < 6_000, "what waits is bounded: {}", export.pending.len());
    }

    #[test]
    fn a_file_of_few_bytes_in_many_blocks_is_refused() {
        let byte = crate::identify(Codec::Raw, b"x");
        let fields: Vec<_> = [(3, 60_000)].into_iter().chain([(4, 1)].repeat(60_000)).collect();
        let (root, node) = encoded(2, &fields, &vec![part(byte); 60_000]);
        let blocks = Blocks::from([(byte, Bytes::from_static(b"x")), (root, node)]);
        assert!(matches!(exported(root, &blocks, 60_000), Err(ExportError::TooLarge(60_000))));
    }

    #[test]
    fn a_chain_of_nodes_is_refused() {
        let mut root = crate::identify(Codec::Raw, b"hello");
        let mut blocks = Blocks::from([(root, Bytes::from_static(b"hello"))]);
        for level in 0..=FILE_DEPTH {
            assert!(exported(root, &blocks, 100).is_ok(), "{level} levels");
            let (next, node) = encoded(2, &[(3, 5), (4, 5)], &[part(root)]);
            blocks.insert(next, node);
            root = next;
        }
        let error = exported(root, &blocks, 100).unwrap_err();
        assert!(matches!(error, ExportError::Exceeded(Exceeded::FileDepth(FILE_DEPTH))), "{error}");
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(24))]
        #[test]
        fn any_file_round_trips_in_each_profile(size in 0usize..5 * CHUNK_BYTES, seed: u64, profile in 0usize..3) {
            let profile = Profile::ALL[profile];
            let mut bytes = vec![0; size];
            blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
            let (summary, blocks) = imported_as(profile, &bytes[..]);
            proptest::prop_assert_eq!(summary.size, size as u64);
            proptest::prop_assert!(blocks.keys().all(|id| id.kind() == Some(profile.hash())));
            proptest::prop_assert!(blocks.keys().all(|id| profile != Profile::V0 || id.codec() == Codec::DagPb));
            proptest::prop_assert!(exported(summary.root, &blocks, u64::MAX).unwrap() == bytes);
        }

        #[test]
        fn any_node_is_exported_or_refused(node: Vec<u8>) {
            let bytes = Bytes::from(node);
            let root = crate::identify(Codec::DagPb, &bytes);
            let mut export = Export::new(root, 1 << 20);
            let mut fed = 0;
            while let Some(_wanted) = export.wanted() {
                if export.feed(&bytes).is_err() { break }
                fed += 1;
                proptest::prop_assert!(fed < 2000);
            }
        }
    }
}
