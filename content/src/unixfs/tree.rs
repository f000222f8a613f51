//! A whole directory tree: complete, valid and within the limits of a deployment's assets, or refused.

use af_contract::{Codec, ContentId, limits};
use bytes::Bytes;

use super::bounds::FILE_DEPTH;
use super::directory::{DirectoryError, Entry, Listing};
use super::node::{Node, NodeError};

/// What a tree has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// Files, each as often as it has a place in the tree.
    pub files: usize,
    /// Directories, without the root.
    pub directories: usize,
    /// All files together, bytes.
    pub bytes: u64,
}

/// Why blocks are no tree that a deployment may have.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A node is not valid.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// A directory is not valid.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A file has another length than what links to it says.
    #[error("block {id} has {found} bytes, but what links to it says {expected}")]
    Size {
        /// The file or part.
        id: ContentId,
        /// As it was said.
        expected: u64,
        /// As it is.
        found: u64,
    },
    /// A file with more levels of nodes than any real one.
    #[error("block {0} is too deep in its file, which has more than {FILE_DEPTH} levels")]
    FileTooDeep(ContentId),
    /// Too many files and directories.
    #[error("there are more than {max} files and directories; deploy fewer", max = limits::ASSETS_ENTRIES)]
    TooManyEntries,
    /// Too deep.
    #[error("there are directories more than {max} deep; make them flatter", max = limits::ASSETS_DEPTH)]
    TooDeep,
    /// Too much.
    #[error("the files have more than {max} MiB; deploy less", max = limits::ASSETS_BYTES >> 20)]
    TooLarge,
    /// Nodes that are larger than the tree they make up could need.
    #[error("the directories have more than {max} MiB; deploy fewer files", max = limits::ASSETS_NODE_BYTES >> 20)]
    NodesTooLarge,
}

impl Tree {
    /// Reads all of a tree. What occurs twice counts twice: that is how a guest would see it, and what
    /// bounds a small DAG that unfolds into an endless tree.
    ///
    /// # Errors
    /// When it is not a valid tree within the limits, or what `read` returns.
    pub fn check<E: From<TreeError>>(
        root: ContentId,
        read: impl FnMut(&ContentId) -> Result<Bytes, E>,
    ) -> Result<Self, E> {
        let mut walk = Walk { read, tree: Self::default(), node_bytes: 0, directories: vec![(root, 0)] };
        while let Some((id, depth)) = walk.directories.pop() {
            walk.directory(id, depth)?;
        }
        Ok(walk.tree)
    }
}

struct Walk<R> {
    read: R,
    tree: Tree,
    node_bytes: u64,
    /// Directories to look at, and how deep they are.
    directories: Vec<(ContentId, usize)>,
}

impl<E: From<TreeError>, R: FnMut(&ContentId) -> Result<Bytes, E>> Walk<R> {
    fn directory(&mut self, id: ContentId, depth: usize) -> Result<(), E> {
        let mut listing = Listing::new(id);
        while let Some(id) = listing.wanted() {
            let block = self.block(&id)?;
            listing.feed(&block).map_err(TreeError::from)?;
        }
        let directory = listing.finish().map_err(TreeError::from)?;
        for entry in directory.entries() {
            self.entry(entry, depth)?;
        }
        Ok(())
    }

    fn entry(&mut self, entry: &Entry, depth: usize) -> Result<(), E> {
        if self.tree.files + self.tree.directories >= limits::ASSETS_ENTRIES {
            return Err(TreeError::TooManyEntries.into());
        }
        let node = self.node(&entry.id)?;
        let Some(size) = node.file_size() else {
            if depth >= limits::ASSETS_DEPTH {
                return Err(TreeError::TooDeep.into());
            }
            self.tree.directories += 1;
            self.directories.push((entry.id, depth + 1));
            return Ok(());
        };
        self.tree.files += 1;
        self.tree.bytes = self.tree.bytes.saturating_add(size);
        if self.tree.bytes > limits::ASSETS_BYTES {
            return Err(TreeError::TooLarge.into());
        }
        // What a link says of other blocks counts their nodes, too, and is nobody's concern.
        let expected = if entry.id.codec() == Codec::Raw { entry.size } else { size };
        self.part(entry.id, expected, node, 0)
    }

    /// A file or a part of one, which must have `expected` bytes.
    fn part(&mut self, id: ContentId, expected: u64, node: Node, depth: usize) -> Result<(), E> {
        let found = node.file_size().ok_or(DirectoryError::NotAFile(id)).map_err(TreeError::from)?;
        if found != expected {
            return Err(TreeError::Size { id, expected, found }.into());
        }
        let Node::File(children) = node else { return Ok(()) };
        if depth >= FILE_DEPTH {
            return Err(TreeError::FileTooDeep(id).into());
        }
        let mut begin = 0;
        for child in children {
            let node = self.node(&child.id)?;
            self.part(child.id, child.end - begin, node, depth + 1)?;
            begin = child.end;
        }
        Ok(())
    }

    fn node(&mut self, id: &ContentId) -> Result<Node, E> {
        let block = self.block(id)?;
        Ok(Node::decode(id, &block).map_err(TreeError::from)?)
    }

    /// A block. Raw ones are a file's bytes, which its length bounds; all others are counted here.
    fn block(&mut self, id: &ContentId) -> Result<Bytes, E> {
        let block = (self.read)(id)?;
        if id.codec() != Codec::Raw {
            self.node_bytes += block.len() as u64;
        }
        if self.node_bytes > limits::ASSETS_NODE_BYTES {
            return Err(TreeError::NodesTooLarge.into());
        }
        Ok(block)
    }
}

#[cfg(test)]
mod tests {
    use super::super::directory::tests::{Blocks, written};
    use super::super::import;
    use super::super::node::tests::{encoded, link_to};
    use super::*;

    #[derive(Debug)]
    enum Failed {
        Missing(ContentId),
        Tree(TreeError),
    }

    impl From<TreeError> for Failed {
        fn from(error: TreeError) -> Self {
            Self::Tree(error)
        }
    }

    fn check(root: ContentId, blocks: &Blocks) -> Result<Tree, Failed> {
        Tree::check(root, |id| blocks.get(id).cloned().ok_or(Failed::Missing(*id)))
    }

    fn file(bytes: &[u8], name: &str, blocks: &mut Blocks) -> Entry {
        let mut size = 0;
        let summary = import(bytes, |block| {
            size += block.bytes.len() as u64;
            blocks.insert(block.id, block.bytes);
            Ok(())
        });
        Entry { name: name.into(), id: summary.unwrap().root, size }
    }

    fn within(name: &str, id: ContentId) -> Entry {
        Entry { id, ..link_to(name, 1) }
    }

    #[test]
    fn a_tree_is_counted_as_a_guest_would_see_it() {
        let mut blocks = Blocks::new();
        let large = file(&vec![1; 3 << 20], "large", &mut blocks);
        let inner =
            written(&[file(b"hello", "a", &mut blocks), file(b"hello", "b", &mut blocks)], &mut blocks);
        let root = written(&[large, within("one", inner), within("two", inner)], &mut blocks);
        let tree = check(root, &blocks).unwrap();
        assert_eq!(tree, Tree { files: 5, directories: 2, bytes: (3 << 20) + 20 });
        for id in blocks.keys().copied().collect::<Vec<_>>() {
            let block = blocks.remove(&id).unwrap();
            assert!(matches!(check(root, &blocks), Err(Failed::Missing(missing)) if missing == id));
            blocks.insert(id, block);
        }
    }

    #[test]
    fn a_small_dag_that_unfolds_into_an_endless_tree_is_refused() {
        let mut blocks = Blocks::new();
        let mut root = written(&[], &mut blocks);
        for _ in 0..20 {
            let entries: Vec<_> = (0..100).map(|n| within(&n.to_string(), root)).collect();
            root = written(&entries, &mut blocks);
        }
        assert!(matches!(check(root, &blocks), Err(Failed::Tree(TreeError::TooManyEntries))));
    }

    #[test]
    fn depth_is_bounded() {
        let mut blocks = Blocks::new();
        let mut root = written(&[], &mut blocks);
        for _ in 0..limits::ASSETS_DEPTH {
            root = written(&[within("a", root)], &mut blocks);
        }
        check(root, &blocks).unwrap();
        root = written(&[within("a", root)], &mut blocks);
        assert!(matches!(check(root, &blocks), Err(Failed::Tree(TreeError::TooDeep))));
    }

    #[test]
    fn bytes_are_bounded_however_often_they_are_linked_to() {
        let mut blocks = Blocks::new();
        let entry = file(&vec![0; 1 << 20], "0", &mut blocks);
        let entries: Vec<_> = (0..101).map(|n| Entry { name: n.to_string(), ..entry.clone() }).collect();
        let root = written(&entries, &mut blocks);
        assert!(matches!(check(root, &blocks), Err(Failed::Tree(TreeError::TooLarge))));
        // A hundred million parts of one byte, of which each node has a thousand.
        let byte = crate::identify(Codec::Raw, b"x");
        blocks.insert(byte, Bytes::from_static(b"x"));
        let mut part = within("", byte);
        let mut size = 1;
        for _ in 0..2 {
            let mut fields = vec![(3, size * 1000)];
            fields.extend([(4, size)].repeat(1000));
            let (id, node) = encoded(2, &fields, &vec![part.clone(); 1000]);
            blocks.insert(id, node);
            size *= 1000;
            part = within("", id);
        }
        let entries: Vec<_> = (0..90).map(|n| within(&n.to_string(), part.id)).collect();
        let root = written(&entries, &mut blocks);
        assert!(matches!(check(root, &blocks), Err(Failed::Tree(TreeError::NodesTooLarge))));
    }

    #[test]
    fn what_contradicts_its_link_is_refused() {
        let mut blocks = Blocks::new();
        let entry = file(b"hello", "a", &mut blocks);
        let root = written(&[Entry { size: 6, ..entry.clone() }], &mut blocks);
        assert!(matches!(
            check(root, &blocks),
            Err(Failed::Tree(TreeError::Size { expected: 6, found: 5, .. }))
        ));
        let (id, node) = encoded(2, &[(3, 6), (4, 6)], &[entry]);
        blocks.insert(id, node);
        let root = written(&[within("a", id)], &mut blocks);
        assert!(matches!(check(root, &blocks), Err(Failed::Tree(TreeError::Size { .. }))));
        let empty = written(&[], &mut blocks);
        let (id, node) = encoded(2, &[(3, 6), (4, 6)], &[within("", empty)]);
        blocks.insert(id, node);
        let root = written(&[within("a", id)], &mut blocks);
        assert!(matches!(
            check(root, &blocks),
            Err(Failed::Tree(TreeError::Directory(DirectoryError::NotAFile(_))))
        ));
    }

    #[test]
    fn a_link_and_a_file_are_no_tree() {
        let mut blocks = Blocks::new();
        let (link, node) = encoded(4, &[], &[]);
        blocks.insert(link, node);
        let root = written(&[within("passwd", link)], &mut blocks);
        assert!(matches!(check(root, &blocks), Err(Failed::Tree(TreeError::Node(NodeError::Symlink(_))))));
        let file = file(b"hello", "a", &mut blocks);
        assert!(matches!(
            check(file.id, &blocks),
            Err(Failed::Tree(TreeError::Directory(DirectoryError::NotADirectory(_))))
        ));
    }

    proptest::proptest! {
        #[test]
        fn any_blocks_are_a_tree_or_refused(
            kinds in proptest::collection::vec((0u64..6, proptest::collection::vec(0usize..8, 0..6)), 1..8),
            sizes in proptest::collection::vec(0u64..9, 8),
        ) {
            let mut blocks = Blocks::new();
            let mut ids = vec![crate::identify(Codec::Raw, b"hello")];
            blocks.insert(ids[0], Bytes::from_static(b"hello"));
            for (kind, links) in kinds {
                let links: Vec<_> = links.into_iter().map(|n| Entry {
                    name: format!("{n:02X}{}", ["", "a"][n % 2]),
                    id: ids[n % ids.len()],
                    size: sizes[n],
                }).collect();
                let mut fields: Vec<_> = links.iter().map(|link| (4, link.size)).collect();
                match kind {
                    2 => fields.push((3, links.iter().map(|link| link.size).sum())),
                    5 => fields = vec![(5, 0x22), (6, 256)],
                    _ => fields.clear(),
                }
                let (id, node) = encoded(kind, &fields, &links);
                blocks.insert(id, node);
                ids.push(id);
            }
            if let Ok(tree) = check(*ids.last().unwrap(), &blocks) {
                proptest::prop_assert!(tree.files + tree.directories <= limits::ASSETS_ENTRIES);
            }
        }
    }
}
