//! Directories: written plain, or sharded when that would be a large node; read whichever they are.

use std::io;

use af_contract::{ContentId, limits};
use bytes::Bytes;
use rust_unixfs::dir::builder::{BufferingTreeBuilder, OwnedTreeNode, TreeOptions};

use super::bounds::SHARD_DEPTH;
use super::chunking::{Chunking, ShardedBy};
use super::node::{Link, Node, NodeError};
use super::profile::Profile;
use crate::car::Block;

/// A directory larger than this is written as shards; what is counted is the profile's.
const SHARD_BYTES: usize = 256 << 10;

/// Two hex digits stand before a shard's names.
const PREFIX: usize = 2;

/// The entries of a directory, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    entries: Vec<Entry>,
}

/// What a directory calls a file or directory.
pub type Entry = Link;

/// Why blocks are not a directory.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// A block is no node at all.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// A file.
    #[error("block {0} is a file, not a directory")]
    NotADirectory(ContentId),
    /// A directory where a file's bytes should be.
    #[error("block {0} is a directory within a file")]
    NotAFile(ContentId),
    /// A name that no file can have.
    #[error(
        "directory {0} has an entry named {1:?}; names have 1 to {max} bytes, no / and no NUL, and are not . or ..",
        max = limits::ASSETS_NAME_BYTES
    )]
    Name(ContentId, String),
    /// The same name twice.
    #[error("directory {0} has two entries named {1:?}")]
    Duplicate(ContentId, String),
    /// Shards that are not built as they must be.
    #[error("block {0} is no shard of a directory")]
    Shard(ContentId),
    /// More than a directory may have.
    #[error("directory {0} has more than {max} entries", max = limits::ASSETS_ENTRIES)]
    TooManyEntries(ContentId),
}

impl Directory {
    /// The entry of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Entry> {
        let at = self.entries.binary_search_by(|entry| entry.name.as_str().cmp(name)).ok()?;
        self.entries.get(at)
    }

    /// All entries, in the order of their names' bytes.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Writes it under the profile `unixfs-v1-2025`: blocks go to `sink`, the last one is the directory. Entries need not be in
    /// order.
    ///
    /// # Errors
    /// When names collide, or what `sink` returns.
    pub fn write(
        entries: &[Entry],
        sink: &mut dyn FnMut(Block) -> io::Result<()>,
    ) -> io::Result<(ContentId, u64)> {
        Self::write_as(Profile::V1, entries, sink)
    }

    /// As [`Self::write`], under this profile or chunking.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_as(
        chunking: impl Into<Chunking>,
        entries: &[Entry],
        sink: &mut dyn FnMut(Block) -> io::Result<()>,
    ) -> io::Result<(ContentId, u64)> {
        let chunking = chunking.into();
        let nodes = match chunking.sharded_by {
            ShardedBy::Names => build(chunking, entries, Some(SHARD_BYTES as u64))?,
            ShardedBy::Node => {
                let plain = build(chunking, entries, None)?;
                let large = plain.iter().any(|node| node.block.len() > SHARD_BYTES);
                if large { build(chunking, entries, Some(0))? } else { plain }
            }
        };
        let mut last = None;
        for node in nodes {
            let id = ContentId::try_from(node.cid).map_err(io::Error::other)?;
            last = Some((id, node.total_size));
            sink(Block { id, bytes: Vec::from(node.block).into() })?;
        }
        last.ok_or_else(|| io::Error::other("the directory was given no block"))
    }
}

fn build(
    chunking: Chunking,
    entries: &[Entry],
    shard_threshold: Option<u64>,
) -> io::Result<Vec<OwnedTreeNode>> {
    let mut options = TreeOptions::default();
    options.cid_version(chunking.version);
    options.hasher(chunking.hasher());
    options.wrap_with_directory();
    options.block_size_limit(None);
    options.shard_threshold(shard_threshold);
    let mut builder = BufferingTreeBuilder::new(options);
    for entry in entries {
        let cid = chunking.cid(&entry.id).to_bytes();
        let cid = cid::Cid::try_from(cid.as_slice()).map_err(io::Error::other)?;
        builder.put_link(&entry.name, cid, entry.size).map_err(io::Error::other)?;
    }
    builder.build().collect::<Result<_, _>>().map_err(io::Error::other)
}

/// Reads a directory out of its blocks: ask [`Self::wanted`], hand the block to [`Self::feed`].
///
/// Bounded against DAG bombs: every shard but the first has an entry, and entries and levels are counted.
#[derive(Debug)]
pub struct Listing {
    root: ContentId,
    /// Shards to read, and how deep they are.
    pending: Vec<(ContentId, usize)>,
    entries: Vec<Entry>,
}

impl Listing {
    /// Of the directory whose first block this is.
    #[must_use]
    pub fn new(root: ContentId) -> Self {
        Self { root, pending: vec![(root, 0)], entries: Vec::new() }
    }

    /// The block to feed next; `None` when all are there.
    #[must_use]
    pub fn wanted(&self) -> Option<ContentId> {
        self.pending.last().map(|(id, _)| *id)
    }

    /// Takes the wanted block.
    ///
    /// # Errors
    /// When it is no part of a directory, or the directory has too many entries.
    pub fn feed(&mut self, block: &Bytes) -> Result<(), DirectoryError> {
        let Some((id, depth)) = self.pending.pop() else { return Ok(()) };
        match Node::decode(&id, block)? {
            Node::Directory(links) if depth == 0 => self.entries = links,
            Node::Shard(links) => self.shard(id, depth, links)?,
            Node::Directory(_) => return Err(DirectoryError::Shard(id)),
            Node::Bytes(_) | Node::File(_) => return Err(DirectoryError::NotADirectory(id)),
        }
        if self.entries.len() > limits::ASSETS_ENTRIES {
            return Err(DirectoryError::TooManyEntries(self.root));
        }
        Ok(())
    }

    fn shard(&mut self, id: ContentId, depth: usize, links: Vec<Link>) -> Result<(), DirectoryError> {
        if depth >= SHARD_DEPTH || (depth > 0 && links.is_empty()) {
            return Err(DirectoryError::Shard(id));
        }
        for mut link in links {
            match link.name.split_at_checked(PREFIX) {
                Some((prefix, _)) if !prefix.bytes().all(|digit| digit.is_ascii_hexdigit()) => {
                    return Err(DirectoryError::Shard(id));
                }
                Some((_, "")) => self.pending.push((link.id, depth + 1)),
                Some((_, name)) => {
                    link.name = name.to_owned();
                    self.entries.push(link);
                }
                None => return Err(DirectoryError::Shard(id)),
            }
        }
        Ok(())
    }

    /// The directory, once all blocks are there.
    ///
    /// # Errors
    /// When a name cannot be one or occurs twice.
    pub fn finish(mut self) -> Result<Directory, DirectoryError> {
        self.entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        if let Some(entry) = self.entries.iter().find(|entry| !is_name(&entry.name)) {
            let shown = entry.name.chars().take(100).collect();
            return Err(DirectoryError::Name(self.root, shown));
        }
        let twice = self.entries.windows(2).find_map(|pair| match pair {
            [one, other] if one.name == other.name => Some(one.name.clone()),
            _ => None,
        });
        match twice {
            Some(name) => Err(DirectoryError::Duplicate(self.root, name)),
            None => Ok(Directory { entries: self.entries }),
        }
    }
}

/// Whether a file or directory may have this name.
#[must_use]
pub fn is_name(name: &str) -> bool {
    (1..=limits::ASSETS_NAME_BYTES).contains(&name.len())
        && !name.contains(['/', '\0'])
        && name != "."
        && name != ".."
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::HashMap;

    use super::super::node::tests::{encoded, link_to};
    use super::*;

    pub(in crate::unixfs) type Blocks = HashMap<ContentId, Bytes>;

    pub(in crate::unixfs) fn written(entries: &[Entry], blocks: &mut Blocks) -> ContentId {
        let mut keep = |block: Block| {
            crate::verify(&block.id, &block.bytes).unwrap();
            blocks.insert(block.id, block.bytes);
            Ok(())
        };
        Directory::write(entries, &mut keep).unwrap().0
    }

    fn read(root: ContentId, blocks: &Blocks) -> Result<Directory, DirectoryError> {
        let mut listing = Listing::new(root);
        while let Some(id) = listing.wanted() {
            listing.feed(&blocks[&id])?;
        }
        listing.finish()
    }

    #[test]
    fn the_published_cid_of_an_empty_directory() {
        let mut blocks = Blocks::new();
        let root = written(&[], &mut blocks);
        assert_eq!(root.to_string(), "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354");
        assert!(read(root, &blocks).unwrap().entries().is_empty());
    }

    #[test]
    fn a_large_directory_is_sharded_and_reads_the_same() {
        for count in [3, 4000, 9000] {
            let mut blocks = Blocks::new();
            let entries: Vec<_> = (0..count).map(|n| link_to(&format!("name-{n:05}"), n)).collect();
            let root = written(&entries, &mut blocks);
            assert_eq!(blocks.len() > 1, count > 4000, "{count} entries are {} blocks", blocks.len());
            let directory = read(root, &blocks).unwrap();
            assert_eq!(directory.entries(), entries);
            assert_eq!(directory.find("name-00002"), Some(&entries[2]));
            assert_eq!(directory.find("name"), None);
        }
    }

    #[test]
    fn names_that_no_file_can_have_are_refused() {
        for name in ["", ".", "..", "a/b", "a\0", &"x".repeat(256)] {
            let (root, block) = encoded(1, &[], &[link_to(name, 1)]);
            let result = read(root, &Blocks::from([(root, block)]));
            assert!(matches!(result, Err(DirectoryError::Name(..))), "{name:?}: {result:?}");
        }
        let (root, block) = encoded(1, &[], &[link_to("a", 1), link_to("b", 1), link_to("a", 2)]);
        let result = read(root, &Blocks::from([(root, block)]));
        assert!(matches!(result, Err(DirectoryError::Duplicate(..))), "{result:?}");
    }

    #[test]
    fn shards_that_go_on_for_ever_are_refused() {
        const SHARD: &[(u8, u64)] = &[(5, 0x22), (6, 256)];
        let (mut root, block) = encoded(5, SHARD, &[link_to("00name", 1)]);
        let mut blocks = Blocks::from([(root, block)]);
        for _ in 0..8 {
            let again: Vec<_> =
                (0..256).map(|n| Link { id: root, ..link_to(&format!("{n:02X}"), 1) }).collect();
            let (next, block) = encoded(5, SHARD, &again);
            root = next;
            blocks.insert(root, block);
        }
        assert!(matches!(read(root, &blocks), Err(DirectoryError::Shard(_))));
        let (empty, block) = encoded(5, SHARD, &[]);
        let (root, outer) = encoded(5, SHARD, &[Link { id: empty, ..link_to("00", 1) }]);
        assert!(matches!(
            read(root, &Blocks::from([(empty, block), (root, outer)])),
            Err(DirectoryError::Shard(_))
        ));
        for name in ["0", "é", "zz", "0é", "0"] {
            let (root, block) = encoded(5, SHARD, &[link_to(name, 1)]);
            assert!(matches!(read(root, &Blocks::from([(root, block)])), Err(DirectoryError::Shard(_))));
        }
    }

    #[test]
    fn more_entries_than_allowed_are_refused() {
        let entries: Vec<_> = (0..=limits::ASSETS_ENTRIES).map(|n| link_to(&n.to_string(), 1)).collect();
        let mut blocks = Blocks::new();
        let root = written(&entries, &mut blocks);
        assert!(matches!(read(root, &blocks), Err(DirectoryError::TooManyEntries(_))));
    }

    #[test]
    fn a_sharded_directory_reads_the_same_in_each_profile() {
        for profile in Profile::ALL {
            let mut blocks = Blocks::new();
            let entries: Vec<_> = (0..7000).map(|n| link_to(&format!("name-{n:05}"), n)).collect();
            let mut keep = |block: Block| {
                assert_eq!(block.id.kind(), Some(profile.hash()));
                blocks.insert(block.id, block.bytes);
                Ok(())
            };
            let (root, _) = Directory::write_as(profile, &entries, &mut keep).unwrap();
            assert!(blocks.len() > 256, "{profile}: {} blocks", blocks.len());
            assert_eq!(read(root, &blocks).unwrap().entries(), entries, "{profile}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_names_round_trip(names in proptest::collection::btree_set("[^/\0]{1,40}", 0..40)) {
            let names: Vec<_> = names.into_iter().filter(|name| is_name(name)).collect();
            let entries: Vec<_> = names.iter().map(|name| link_to(name, 1)).collect();
            let mut blocks = Blocks::new();
            let root = written(&entries, &mut blocks);
            let directory = read(root, &blocks).unwrap();
            proptest::prop_assert_eq!(directory.entries(), entries);
        }

        #[test]
        fn any_shard_is_read_or_refused(names in proptest::collection::vec(".{0,4}", 0..20)) {
            let links: Vec<_> = names.iter().map(|name| link_to(name, 1)).collect();
            let (root, block) = encoded(5, &[(5, 0x22), (6, 256)], &links);
            let mut listing = Listing::new(root);
            let mut fed = 0;
            while listing.wanted().is_some() {
                if listing.feed(&block).is_err() { break }
                fed += 1;
                proptest::prop_assert!(fed < 30_000);
            }
        }
    }
}
