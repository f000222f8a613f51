//! One name in a directory: which blocks lead to it. Reads no other shard of the directory.

use af_contract::ContentId;

use super::bounds::SHARD_DEPTH;
use super::directory::Entry;
use super::node::{Node, NodeError};

/// The way to a name: ask [`Self::wanted`], hand the node to [`Self::step`].
#[derive(Clone, Debug)]
pub struct Lookup<'a> {
    wanted: ContentId,
    name: &'a str,
    depth: usize,
}

/// What a node on the way has.
#[derive(Debug)]
pub enum Looked<'a> {
    /// The entry of this name.
    Found(Entry),
    /// No such name in the directory.
    Nothing,
    /// The way leads on.
    Deeper(Lookup<'a>),
    /// The directory is none, but a file.
    File,
}

impl<'a> Lookup<'a> {
    /// Of a name in the directory with this root.
    #[must_use]
    pub const fn new(root: ContentId, name: &'a str) -> Self {
        Self { wanted: root, name, depth: 0 }
    }

    /// The node to look at next.
    #[must_use]
    pub const fn wanted(&self) -> ContentId {
        self.wanted
    }

    /// Looks at the wanted node.
    ///
    /// # Errors
    /// When it is not what a shard leads to.
    pub fn step(self, node: Node) -> Result<Looked<'a>, NodeError> {
        let wrong = |reason| NodeError::Malformed { id: self.wanted, reason };
        match node {
            Node::Directory(links) if self.depth == 0 => {
                let found = links.into_iter().find(|link| link.name == self.name);
                Ok(found.map_or(Looked::Nothing, Looked::Found))
            }
            Node::Shard(links) => {
                let byte = hash(self.name).get(self.depth).copied().ok_or_else(|| wrong("it is too deep"))?;
                let prefix = format!("{byte:02X}");
                for mut link in links {
                    let Some(name) = link.name.strip_prefix(&prefix) else { continue };
                    if name.is_empty() {
                        return Ok(Looked::Deeper(Self { wanted: link.id, depth: self.depth + 1, ..self }));
                    }
                    if name == self.name {
                        link.name = name.to_owned();
                        return Ok(Looked::Found(link));
                    }
                }
                Ok(Looked::Nothing)
            }
            Node::Bytes(_) | Node::File(_) if self.depth == 0 => Ok(Looked::File),
            Node::Directory(_) | Node::Bytes(_) | Node::File(_) => {
                Err(wrong("it is no shard of a directory"))
            }
        }
    }
}

/// The first half of MurmurHash3 x64, big endian.
fn hash(name: &str) -> [u8; SHARD_DEPTH] {
    // Reading from memory has no way to fail.
    let hash = murmur3::murmur3_x64_128(&mut name.as_bytes(), 0).unwrap_or_default();
    let [_, _, _, _, _, _, _, _, half @ ..] = hash.to_be_bytes();
    half
}

#[cfg(test)]
mod tests {
    use super::super::directory::tests::{Blocks, written};
    use super::super::node::tests::link_to;
    use super::*;

    fn look<'a>(root: ContentId, name: &'a str, blocks: &Blocks) -> (Looked<'a>, usize) {
        let mut lookup = Lookup::new(root, name);
        let mut nodes = 0;
        loop {
            nodes += 1;
            let node = Node::decode(&lookup.wanted(), &blocks[&lookup.wanted()]).unwrap();
            match lookup.step(node).unwrap() {
                Looked::Deeper(deeper) => lookup = deeper,
                looked => return (looked, nodes),
            }
        }
    }

    #[test]
    fn hashes_are_those_of_other_implementations() {
        assert_eq!(hash("file.txt"), 0xb538_75c8_3534_fe3e_u64.to_be_bytes());
    }

    #[test]
    fn every_name_is_found_with_few_nodes_and_no_other() {
        for count in [0, 1, 100, 7000] {
            let mut blocks = Blocks::new();
            let entries: Vec<_> = (0..count).map(|n| link_to(&format!("name-{n}"), n)).collect();
            let root = written(&entries, &mut blocks);
            for entry in &entries {
                let (looked, nodes) = look(root, &entry.name, &blocks);
                let Looked::Found(found) = looked else { panic!("{} is not there", entry.name) };
                assert_eq!(&found, entry);
                assert!(nodes < 5, "{nodes}");
            }
            for other in ["", "name-", "name-7000", "A7", "a"] {
                assert!(matches!(look(root, other, &blocks).0, Looked::Nothing), "{other}");
            }
        }
    }

    #[test]
    fn shards_deeper_than_a_hash_are_refused() {
        let mut lookup = Lookup::new(link_to("", 0).id, "a");
        for byte in hash("a") {
            let shard = Node::Shard(vec![link_to(&format!("{byte:02X}"), 0)]);
            let Ok(Looked::Deeper(deeper)) = lookup.step(shard) else { panic!("it leads on") };
            lookup = deeper;
        }
        assert!(lookup.step(Node::Shard(vec![link_to("00", 0)])).is_err());
        let inner = Lookup { depth: 1, ..Lookup::new(link_to("", 0).id, "a") };
        assert!(inner.step(Node::Directory(Vec::new())).is_err());
    }
}
