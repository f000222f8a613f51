//! Whole files: import under the profile `unixfs-v1-2025` (1 MiB chunks, raw leaves, 1,024 links a node) and
//! export of any file DAG.

use std::io::{self, Read};

use af_contract::{Blake3Hash, Codec, ContentId, ContentIdError};
use bytes::Bytes;
use cid::Cid;
use rust_unixfs::file::FileReadFailed;
use rust_unixfs::file::adder::{BalancedCollector, Chunker, FileAdder};
use rust_unixfs::file::visit::{FileVisit, IdleFileVisit};

use crate::car::Block;

const CHUNK_BYTES: usize = 1 << 20;
const LINKS_PER_NODE: usize = 1024;

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

/// Reads a file and hands its blocks, leaves before nodes, to `sink`.
///
/// # Errors
/// Whatever `file` or `sink` returns.
pub fn import(mut file: impl Read, mut sink: impl FnMut(Block) -> io::Result<()>) -> io::Result<FileSummary> {
    let mut adder = FileAdder::builder()
        .with_chunker(Chunker::Size(CHUNK_BYTES))
        .with_collector(BalancedCollector::with_branching_factor(LINKS_PER_NODE))
        .with_raw_leaves(true)
        .build();
    let mut hasher = blake3::Hasher::new();
    let mut root = None;
    let mut emit = |(cid, bytes): (Cid, Vec<u8>)| {
        let id = ContentId::try_from(cid).map_err(io::Error::other)?;
        root = Some(id);
        sink(Block { id, bytes: bytes.into() })
    };
    let mut chunk = Vec::with_capacity(CHUNK_BYTES);
    let mut size = 0;
    loop {
        chunk.clear();
        let read = file.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut chunk)?;
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
    /// A node that is not UnixFS, is no file, or contradicts its parent.
    #[error("block {id} is not part of a UnixFS file: {reason}")]
    Node {
        /// The node.
        id: ContentId,
        /// What is wrong with it.
        reason: String,
    },
    /// A root that is neither a raw block nor a dag-pb node.
    #[error("{0} is a document, not a file")]
    NotAFile(ContentId),
    /// A link to something that is not supported.
    #[error("the file links to a block that cannot be used: {0}")]
    Link(#[from] ContentIdError),
    /// More bytes or blocks than the caller allows.
    #[error("the file has more than {0} bytes")]
    TooLarge(u64),
    /// The blocks have more or fewer bytes than the root says.
    #[error("the file's root says {expected} bytes, its blocks have {found}")]
    Size {
        /// Of the root.
        expected: u64,
        /// Counted.
        found: u64,
    },
}

/// Walks a file DAG in order: ask [`Self::wanted`], hand the block to [`Self::feed`], use the bytes.
///
/// Bounded against DAG bombs: by bytes, and by nodes, since every leaf of a real file holds bytes.
#[derive(Debug)]
pub struct Export {
    wanted: Option<ContentId>,
    visit: Option<FileVisit>,
    started: bool,
    size: u64,
    fed_bytes: u64,
    fed_blocks: u64,
    max_bytes: u64,
}

impl Export {
    /// Starts at a file's root; `max_bytes` bounds what the file may hold.
    #[must_use]
    pub const fn new(root: ContentId, max_bytes: u64) -> Self {
        Self {
            wanted: Some(root),
            visit: None,
            started: false,
            size: 0,
            fed_bytes: 0,
            fed_blocks: 0,
            max_bytes,
        }
    }

    /// The block to feed next; `None` when the file is complete.
    #[must_use]
    pub const fn wanted(&self) -> Option<ContentId> {
        self.wanted
    }

    /// Takes the wanted block and returns the file bytes in it, which are none for an inner node.
    ///
    /// # Errors
    /// When the block is no node of a file, or the file is too large or of another size than its root says.
    pub fn feed(&mut self, block: &Bytes) -> Result<Bytes, ExportError> {
        let Some(id) = self.wanted else { return Ok(Bytes::new()) };
        let content = self.step(id, block)?;
        self.fed_bytes += content.len() as u64;
        self.fed_blocks += 1;
        // A file of real chunkers has leaves of 1 KiB or more; 64 spare ones let tiny files be odd.
        let too_many_blocks = self.fed_blocks > self.max_bytes / 1024 + 64;
        if self.fed_bytes > self.max_bytes || self.size > self.max_bytes || too_many_blocks {
            return Err(ExportError::TooLarge(self.max_bytes));
        }
        self.wanted = match &self.visit {
            Some(visit) => Some(ContentId::try_from(*visit.pending_links().0)?),
            None => None,
        };
        if self.wanted.is_none() && self.fed_bytes != self.size {
            return Err(ExportError::Size { expected: self.size, found: self.fed_bytes });
        }
        Ok(content)
    }

    fn step(&mut self, id: ContentId, block: &Bytes) -> Result<Bytes, ExportError> {
        let refuse = |error: FileReadFailed| ExportError::Node { id, reason: error.to_string() };
        if self.started {
            let Some(visit) = self.visit.take() else { return Ok(Bytes::new()) };
            let (content, visit) = visit.continue_walk(block, &mut None).map_err(refuse)?;
            self.visit = visit;
            return Ok(block.slice_ref(content));
        }
        self.started = true;
        match id.codec() {
            Codec::Raw => {
                self.size = block.len() as u64;
                Ok(block.clone())
            }
            Codec::DagPb => {
                let (content, size, _, visit) = IdleFileVisit::default().start(block).map_err(refuse)?;
                self.size = size;
                self.visit = visit;
                Ok(block.slice_ref(content))
            }
            Codec::DagCbor => Err(ExportError::NotAFile(id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    type Blocks = HashMap<ContentId, Bytes>;

    fn imported(file: impl Read) -> (FileSummary, Blocks) {
        let mut blocks = Blocks::new();
        let summary = import(file, |block| {
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

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(24))]
        #[test]
        fn any_file_round_trips(size in 0usize..5 * CHUNK_BYTES, seed: u64) {
            let mut bytes = vec![0; size];
            blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
            let (summary, blocks) = imported(&bytes[..]);
            proptest::prop_assert_eq!(summary.size, size as u64);
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
