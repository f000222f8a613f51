//! One block of UnixFS as a value: strict, since hostile bytes come through here. The format is protobuf
//! (<https://specs.ipfs.tech/unixfs/>, <https://ipld.io/specs/codecs/dag-pb/spec/>).

use af_contract::{Cid, Codec, ContentId, ContentIdError};
use bytes::Bytes;

use super::bounds::NODE_LINKS;

/// Links of a node of a sharded directory: the only width that is in use.
const FANOUT: u64 = 256;

/// MurmurHash3 x64, of which the first 64 bits are used: the only hash of names that is in use.
const NAME_HASH: u64 = 0x22;

/// What a block is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// Bytes of a file.
    Bytes(Bytes),
    /// A file, or a part of one, whose bytes are in other blocks.
    File(Vec<Child>),
    /// A directory.
    Directory(Vec<Link>),
    /// A part of a directory. Names begin with two hex digits, which is all that other parts' names have.
    Shard(Vec<Link>),
}

/// A part of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// Its block.
    pub id: ContentId,
    /// Where it ends in the node that it is a part of, bytes; the first one begins at 0.
    pub end: u64,
}

/// A named link of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// As it stands in the node.
    pub name: String,
    /// The block.
    pub id: ContentId,
    /// All blocks behind it together, bytes. A claim, which holds for raw blocks if they were checked.
    pub size: u64,
}

/// Why a block is not UnixFS.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Not the format, or contradicts itself.
    #[error("block {id} is no UnixFS node: {reason}")]
    Malformed {
        /// The block.
        id: ContentId,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A file that only says where another one is.
    #[error("block {0} is a symbolic link, and those are not supported")]
    Symlink(ContentId),
    /// A link to something that is not supported.
    #[error("block {id} links to a block that cannot be used: {source}")]
    Link {
        /// The block.
        id: ContentId,
        /// Why.
        source: ContentIdError,
    },
}

/// What is wrong with a node.
enum Wrong {
    Format(&'static str),
    Symlink,
    Link(ContentIdError),
}

impl From<&'static str> for Wrong {
    fn from(reason: &'static str) -> Self {
        Self::Format(reason)
    }
}

impl Node {
    /// Reads a block that matched its id.
    ///
    /// # Errors
    /// When it is not UnixFS, or of a kind that is not supported.
    pub fn decode(id: &ContentId, block: &Bytes) -> Result<Self, NodeError> {
        let decoded = match id.codec() {
            Codec::Raw => Ok(Self::Bytes(block.clone())),
            Codec::DagPb => Message::read(block).and_then(|message| message.node(block)),
            Codec::DagCbor => Err(Wrong::Format("it is a document")),
        };
        decoded.map_err(|wrong| match wrong {
            Wrong::Format(reason) => NodeError::Malformed { id: *id, reason },
            Wrong::Symlink => NodeError::Symlink(*id),
            Wrong::Link(source) => NodeError::Link { id: *id, source },
        })
    }

    /// A file's length, bytes; `None` for what is no file.
    #[must_use]
    pub fn file_size(&self) -> Option<u64> {
        match self {
            Self::Bytes(bytes) => Some(bytes.len() as u64),
            Self::File(children) => children.last().map(|child| child.end),
            Self::Directory(_) | Self::Shard(_) => None,
        }
    }

    /// The blocks that it links to.
    pub fn links(&self) -> impl Iterator<Item = ContentId> + '_ {
        let (children, links): (&[Child], &[Link]) = match self {
            Self::Bytes(_) => (&[], &[]),
            Self::File(children) => (children, &[]),
            Self::Directory(links) | Self::Shard(links) => (&[], links),
        };
        children.iter().map(|child| child.id).chain(links.iter().map(|link| link.id))
    }
}

/// A dag-pb node with the UnixFS message in it, as they stand there.
#[derive(Default)]
struct Message<'a> {
    links: Vec<Link>,
    kind: u64,
    data: &'a [u8],
    file_size: Option<u64>,
    block_sizes: Vec<u64>,
    name_hash: Option<u64>,
    fanout: Option<u64>,
}

impl<'a> Message<'a> {
    fn read(block: &'a [u8]) -> Result<Self, Wrong> {
        let mut message = Self::default();
        let mut data = None;
        let mut fields = Fields(block);
        while let Some(field) = fields.next()? {
            match field {
                (1, Value::Bytes(bytes)) => data = Some(bytes),
                (2, Value::Bytes(_)) if message.links.len() >= NODE_LINKS => {
                    return Err("it has more than 65,536 links".into());
                }
                (2, Value::Bytes(bytes)) => message.links.push(link(bytes)?),
                _ => return Err("it has an unknown field".into()),
            }
        }
        message.read_data(data.ok_or("it has no UnixFS data")?)?;
        Ok(message)
    }

    fn read_data(&mut self, data: &'a [u8]) -> Result<(), Wrong> {
        let mut fields = Fields(data);
        let mut kind = None;
        while let Some(field) = fields.next()? {
            match field {
                (1, Value::Number(value)) => kind = Some(value),
                (2, Value::Bytes(bytes)) => self.data = bytes,
                (3, Value::Number(value)) => self.file_size = Some(value),
                (4, Value::Number(value)) => self.block_sizes.push(value),
                (5, Value::Number(value)) => self.name_hash = Some(value),
                (6, Value::Number(value)) => self.fanout = Some(value),
                // Mode and time are told by files that are not ours; nobody is told them.
                (7, Value::Number(_)) | (8, Value::Bytes(_)) => {}
                _ => return Err("its UnixFS data has an unknown field".into()),
            }
        }
        self.kind = kind.ok_or("its UnixFS data has no type")?;
        Ok(())
    }

    fn node(self, block: &Bytes) -> Result<Node, Wrong> {
        match self.kind {
            0 | 2 => self.file(block),
            1 if self.is_no_file() => Ok(Node::Directory(self.links)),
            1 => Err("it is a directory with a file's properties".into()),
            5 => self.shard(),
            4 => Err(Wrong::Symlink),
            _ => Err("its type is not supported".into()),
        }
    }

    fn file(self, block: &Bytes) -> Result<Node, Wrong> {
        if self.links.is_empty() && self.block_sizes.is_empty() {
            if self.file_size.is_some_and(|size| size != self.data.len() as u64) {
                return Err("it says another size than it has".into());
            }
            return Ok(Node::Bytes(block.slice_ref(self.data)));
        }
        if !self.data.is_empty() {
            return Err("it has both bytes and links".into());
        }
        if self.links.len() != self.block_sizes.len() {
            return Err("it does not say one size for each link".into());
        }
        let mut end = 0_u64;
        let mut children = Vec::with_capacity(self.links.len());
        for (link, size) in self.links.iter().zip(self.block_sizes) {
            // A part without bytes is of no use, and any number of them could be.
            if size == 0 {
                return Err("it has a part without bytes".into());
            }
            end = end.checked_add(size).ok_or("its size is not a number")?;
            children.push(Child { id: link.id, end });
        }
        if self.file_size != Some(end) {
            return Err("it says another size than its parts have".into());
        }
        Ok(Node::File(children))
    }

    fn shard(self) -> Result<Node, Wrong> {
        if self.fanout != Some(FANOUT) || self.name_hash != Some(NAME_HASH) {
            return Err("it is sharded in a way that is not supported".into());
        }
        if self.file_size.is_some() || !self.block_sizes.is_empty() {
            return Err("it is a directory with a file's properties".into());
        }
        if self.links.len() as u64 > FANOUT {
            return Err("it has more links than its shards allow".into());
        }
        Ok(Node::Shard(self.links))
    }

    fn is_no_file(&self) -> bool {
        self.data.is_empty() && self.file_size.is_none() && self.block_sizes.is_empty()
    }
}

fn link(bytes: &[u8]) -> Result<Link, Wrong> {
    let (mut id, mut name, mut size) = (None, "", 0);
    let mut fields = Fields(bytes);
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Bytes(bytes)) => id = Some(content_id(bytes)?),
            (2, Value::Bytes(bytes)) => {
                name = std::str::from_utf8(bytes).map_err(|_| "a name is not UTF-8")?
            }
            (3, Value::Number(value)) => size = value,
            _ => return Err("a link has an unknown field".into()),
        }
    }
    Ok(Link { id: id.ok_or("a link has no CID")?, name: name.to_owned(), size })
}

fn content_id(mut bytes: &[u8]) -> Result<ContentId, Wrong> {
    let cid = Cid::read_bytes(&mut bytes).map_err(|_| "a link's CID is malformed")?;
    if !bytes.is_empty() {
        return Err("a link's CID has something behind it".into());
    }
    ContentId::try_from(cid).map_err(Wrong::Link)
}

/// The fields of a protobuf message.
struct Fields<'a>(&'a [u8]);

/// A field's value; no other types occur here.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Fields<'a> {
    /// The next field's number and value.
    fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, Wrong> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.number()?;
        let value = match tag & 7 {
            0 => Value::Number(self.number()?),
            2 => {
                let length = usize::try_from(self.number()?).map_err(|_| "it is cut off")?;
                let (bytes, rest) = self.0.split_at_checked(length).ok_or("it is cut off")?;
                self.0 = rest;
                Value::Bytes(bytes)
            }
            _ => return Err("it has a field of an unknown type".into()),
        };
        Ok(Some((tag >> 3, value)))
    }

    fn number(&mut self) -> Result<u64, Wrong> {
        let (number, rest) = unsigned_varint::decode::u64(self.0).map_err(|_| "it has a malformed number")?;
        self.0 = rest;
        Ok(number)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use af_contract::HashKind;

    use super::*;

    /// A protobuf field with bytes.
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2];
        out.extend(unsigned_varint::encode::usize(bytes.len(), &mut unsigned_varint::encode::usize_buffer()));
        out.extend_from_slice(bytes);
        out
    }

    fn number(field: u8, value: u64) -> Vec<u8> {
        let mut out = vec![field << 3];
        out.extend(unsigned_varint::encode::u64(value, &mut unsigned_varint::encode::u64_buffer()));
        out
    }

    /// A node by hand: its type, fields of UnixFS with a number, and links.
    pub(crate) fn encoded(kind: u64, fields: &[(u8, u64)], links: &[Link]) -> (ContentId, Bytes) {
        let mut out = Vec::new();
        for link in links {
            let mut bytes = field(1, &link.id.to_cid().to_bytes());
            bytes.extend(field(2, link.name.as_bytes()));
            bytes.extend(number(3, link.size));
            out.extend(field(2, &bytes));
        }
        let mut data = number(1, kind);
        for (field, value) in fields {
            data.extend(number(*field, *value));
        }
        out.extend(field(1, &data));
        (crate::identify(Codec::DagPb, &out), out.into())
    }

    /// Links to blocks that there need not be.
    pub(in crate::unixfs) fn link_to(name: &str, size: u64) -> Link {
        let id = ContentId::new(Codec::Raw, HashKind::Sha2_256, [7; 32]);
        Link { name: name.to_owned(), id, size }
    }

    fn refused(kind: u64, fields: &[(u8, u64)], links: &[Link]) -> String {
        let (id, block) = encoded(kind, fields, links);
        Node::decode(&id, &block).unwrap_err().to_string()
    }

    #[test]
    fn sizes_that_contradict_each_other_are_refused() {
        let links = [link_to("", 5), link_to("", 7)];
        let (id, block) = encoded(2, &[(3, 12), (4, 5), (4, 7)], &links);
        let Node::File(children) = Node::decode(&id, &block).unwrap() else { panic!("it is a file") };
        assert_eq!(children.iter().map(|child| child.end).collect::<Vec<_>>(), [5, 12]);
        assert!(refused(2, &[(3, 13), (4, 5), (4, 7)], &links).contains("another size"));
        assert!(refused(2, &[(4, 5), (4, 7)], &links).contains("another size"));
        assert!(refused(2, &[(3, 12), (4, 12)], &links).contains("one size for each link"));
        assert!(refused(2, &[(3, 12), (4, 12), (4, 0)], &links).contains("part without bytes"));
        assert!(refused(2, &[(3, 1), (4, u64::MAX), (4, 2)], &links).contains("not a number"));
        assert!(refused(2, &[(3, 1)], &[]).contains("another size than it has"));
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        assert!(refused(4, &[], &[]).contains("symbolic link"));
        assert!(refused(3, &[], &[]).contains("type"));
        assert!(refused(1, &[(3, 1)], &[]).contains("a file's properties"));
        assert!(refused(5, &[(5, 0x22), (6, 1024)], &[]).contains("sharded in a way"));
        assert!(refused(5, &[(5, 0x12), (6, 256)], &[]).contains("sharded in a way"));
        let many = vec![link_to("00a", 1); 257];
        assert!(refused(5, &[(5, 0x22), (6, 256)], &many).contains("more links"));
        let inline = Link { id: ContentId::inline(Codec::Raw, b"").unwrap(), ..link_to("", 0) };
        let (id, block) = encoded(1, &[], &vec![inline.clone(); NODE_LINKS]);
        assert!(Node::decode(&id, &block).is_ok());
        assert!(refused(1, &[], &vec![inline; NODE_LINKS + 1]).contains("more than 65,536 links"));
        let id = crate::identify(Codec::DagCbor, b"\xa0");
        assert!(Node::decode(&id, &Bytes::from_static(b"\xa0")).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_node_or_refused(bytes: Vec<u8>) {
            let block = Bytes::from(bytes);
            if let Ok(node) = Node::decode(&crate::identify(Codec::DagPb, &block), &block) {
                proptest::prop_assert!(node.links().count() <= block.len());
            }
        }

        #[test]
        fn a_changed_byte_makes_another_node_or_none(at in 0usize..400, value: u8) {
            let links = [link_to("a", 5), link_to("é", 7)];
            let (id, block) = encoded(1, &[], &links);
            let mut bytes = block.to_vec();
            let at = at % bytes.len();
            bytes[at] = value;
            if let Ok(node) = Node::decode(&id, &bytes.into()) {
                proptest::prop_assert!(node.links().count() <= 2);
            }
        }
    }
}
