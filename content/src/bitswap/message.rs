//! Bitswap's messages as bytes: protobuf with a few kinds of fields, read from peers that may be hostile. Hashes nothing.
//!
//! The format is that of <https://specs.ipfs.tech/bitswap-protocol/>; what it does not name is skipped.

use af_contract::Cid;
use bytes::{BufMut, Bytes};

/// The largest message, which is what other nodes accept, too: 4 MiB.
pub const MESSAGE_BYTES: usize = 4 << 20;

/// Wants or presences in one message. Others send some thousand at once at most; each takes two hundred bytes here.
pub const ENTRIES: usize = 16_384;

/// Blocks in one message: 4 MiB of the smallest that anybody sends in numbers.
pub const BLOCKS: usize = 1024;

/// Which version of the protocol a stream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `/ipfs/bitswap/1.0.0`: blocks have no prefix, so they are those of CIDv0.
    V1_0,
    /// `/ipfs/bitswap/1.1.0`: blocks have the prefix of their CID.
    V1_1,
    /// `/ipfs/bitswap/1.2.0`: peers also tell what they have.
    V1_2,
}

/// What one peer says to another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// What it wants, or does not want any more.
    pub wants: Vec<Entry>,
    /// These are all its wants.
    pub full: bool,
    /// Blocks that it sends.
    pub blocks: Vec<Payload>,
    /// What it has, and what it does not have.
    pub presences: Vec<Presence>,
}

/// One want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Of what.
    pub cid: Cid,
    /// Higher first.
    pub priority: i32,
    /// It is not wanted any more.
    pub cancel: bool,
    /// What is wanted of it.
    pub kind: WantKind,
    /// Whether to be told, too, when the block is not there.
    pub send_dont_have: bool,
}

/// What is wanted of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WantKind {
    /// The block.
    Block,
    /// To know whether the peer has it.
    Have,
}

/// A block, whose id is its prefix and the hash of its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// How its id is made.
    pub prefix: Prefix,
    /// Its bytes.
    pub data: Bytes,
}

/// A CID without its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// 0 or 1.
    pub version: u64,
    /// What the block holds (multicodec).
    pub codec: u64,
    /// The hash function (multicodec).
    pub hash: u64,
    /// The digest's length.
    pub size: u64,
}

/// Whether a peer has a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presence {
    /// Which one.
    pub cid: Cid,
    /// It has it.
    pub has: bool,
}

/// Why bytes are no message.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A number or a field goes beyond the end, or is of a kind that protobuf does not have.
    #[error("the message is no protobuf")]
    Malformed,
    /// More wants or presences than [`ENTRIES`], or more blocks than [`BLOCKS`].
    #[error("the message has too many entries")]
    TooMany,
}

impl Entry {
    /// Asks for a block or whether it is there, and to be told when it is not.
    #[must_use]
    pub const fn want(cid: Cid, kind: WantKind) -> Self {
        Self { cid, priority: 1, cancel: false, kind, send_dont_have: true }
    }

    /// Takes a want back.
    #[must_use]
    pub const fn cancel(cid: Cid) -> Self {
        Self { cid, priority: 0, cancel: true, kind: WantKind::Block, send_dont_have: false }
    }

    /// Not readable ids are left out: nobody here has such blocks.
    fn decode(bytes: Bytes) -> Result<Option<Self>, DecodeError> {
        let (mut cid, kind) = (None, WantKind::Block);
        let mut entry = Self { cid: Cid::default(), priority: 0, cancel: false, kind, send_dont_have: false };
        let mut fields = Fields(bytes);
        while let Some(field) = fields.next()? {
            match field {
                (1, Value::Bytes(bytes)) => cid = read_cid(&bytes),
                (2, Value::Number(number)) => entry.priority = int32(number),
                (3, Value::Number(number)) => entry.cancel = number != 0,
                (4, Value::Number(1)) => entry.kind = WantKind::Have,
                (5, Value::Number(number)) => entry.send_dont_have = number != 0,
                _ => {}
            }
        }
        Ok(cid.map(|cid| Self { cid, ..entry }))
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        bytes_field(&mut out, 1, &self.cid.to_bytes());
        number_field(&mut out, 2, uint64(self.priority));
        number_field(&mut out, 3, self.cancel.into());
        number_field(&mut out, 4, (self.kind == WantKind::Have).into());
        number_field(&mut out, 5, self.send_dont_have.into());
        out
    }
}

impl Prefix {
    /// Of blocks that come without one.
    const V0: Self = Self { version: 0, codec: 0x70, hash: 0x12, size: 32 };

    /// Of a CID.
    #[must_use]
    pub fn of(cid: &Cid) -> Self {
        let version = if cid.version() == cid::Version::V0 { 0 } else { 1 };
        Self { version, codec: cid.codec(), hash: cid.hash().code(), size: cid.hash().size().into() }
    }

    fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut number = || {
            let (number, rest) = unsigned_varint::decode::u64(bytes).ok()?;
            bytes = rest;
            Some(number)
        };
        Some(Self { version: number()?, codec: number()?, hash: number()?, size: number()? })
    }

    fn encode(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(8);
        for number in [self.version, self.codec, self.hash, self.size] {
            varint(&mut out, number);
        }
        out
    }
}

impl Presence {
    fn decode(bytes: Bytes) -> Result<Option<Self>, DecodeError> {
        let (mut cid, mut has) = (None, true);
        let mut fields = Fields(bytes);
        while let Some(field) = fields.next()? {
            match field {
                (1, Value::Bytes(bytes)) => cid = read_cid(&bytes),
                (2, Value::Number(number)) => has = number == 0,
                _ => {}
            }
        }
        Ok(cid.map(|cid| Self { cid, has }))
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(48);
        bytes_field(&mut out, 1, &self.cid.to_bytes());
        number_field(&mut out, 2, (!self.has).into());
        out
    }
}

impl Message {
    /// Reads a message, without the length before it.
    ///
    /// # Errors
    /// When it is none, or says more than one message may.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut message = Self::default();
        let mut fields = Fields(bytes);
        while let Some(field) = fields.next()? {
            match field {
                (1, Value::Bytes(bytes)) => message.decode_wants(bytes)?,
                (2, Value::Bytes(data)) => message.blocks.push(Payload { prefix: Prefix::V0, data }),
                (3, Value::Bytes(bytes)) => message.blocks.extend(Payload::decode(bytes)?),
                (4, Value::Bytes(bytes)) => message.presences.extend(Presence::decode(bytes)?),
                _ => {}
            }
            if message.presences.len() > ENTRIES || message.blocks.len() > BLOCKS {
                return Err(DecodeError::TooMany);
            }
        }
        Ok(message)
    }

    fn decode_wants(&mut self, bytes: Bytes) -> Result<(), DecodeError> {
        let mut fields = Fields(bytes);
        while let Some(field) = fields.next()? {
            match field {
                (1, Value::Bytes(bytes)) => self.wants.extend(Entry::decode(bytes)?),
                (2, Value::Number(number)) => self.full = number != 0,
                _ => {}
            }
            if self.wants.len() > ENTRIES {
                return Err(DecodeError::TooMany);
            }
        }
        Ok(())
    }

    /// Writes the message as peers of a version read it, with its length before it.
    #[must_use]
    pub fn encode(&self, version: Version) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.blocks.iter().map(|block| block.data.len() + 32).sum());
        if self.full || !self.wants.is_empty() {
            let mut wants = Vec::new();
            self.wants.iter().for_each(|entry| bytes_field(&mut wants, 1, &entry.encode()));
            number_field(&mut wants, 2, self.full.into());
            bytes_field(&mut out, 1, &wants);
        }
        for block in &self.blocks {
            match version {
                Version::V1_0 => bytes_field(&mut out, 2, &block.data),
                Version::V1_1 | Version::V1_2 => block.encode(&mut out),
            }
        }
        if version == Version::V1_2 {
            self.presences.iter().for_each(|presence| bytes_field(&mut out, 4, &presence.encode()));
        }
        let mut framed = Vec::with_capacity(out.len() + 5);
        varint(&mut framed, out.len() as u64);
        framed.append(&mut out);
        framed
    }

    /// The memory that it takes, about.
    #[must_use]
    pub fn size(&self) -> usize {
        let blocks = self.blocks.iter().map(|block| size_of::<Payload>() + block.data.len()).sum::<usize>();
        blocks + size_of_val(self.wants.as_slice()) + size_of_val(self.presences.as_slice())
    }

    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.wants.is_empty() && !self.full && self.blocks.is_empty() && self.presences.is_empty()
    }
}

impl Payload {
    /// One without a readable prefix has no id, so nobody asked for it: it is left out.
    fn decode(bytes: Bytes) -> Result<Option<Self>, DecodeError> {
        let (mut prefix, mut data) = (None, Bytes::new());
        let mut fields = Fields(bytes);
        while let Some(field) = fields.next()? {
            match field {
                (1, Value::Bytes(bytes)) => prefix = Prefix::decode(&bytes),
                (2, Value::Bytes(bytes)) => data = bytes,
                _ => {}
            }
        }
        Ok(prefix.map(|prefix| Self { prefix, data }))
    }

    /// Writes the data once, since it is most of a message.
    fn encode(&self, out: &mut Vec<u8>) {
        let mut head = Vec::with_capacity(24);
        bytes_field(&mut head, 1, &self.prefix.encode());
        if !self.data.is_empty() {
            tag(&mut head, 2, 2);
            varint(&mut head, self.data.len() as u64);
        }
        tag(out, 3, 2);
        varint(out, (head.len() + self.data.len()) as u64);
        out.append(&mut head);
        out.put_slice(&self.data);
    }
}

/// The CID that these bytes are, and nothing after it.
fn read_cid(mut bytes: &[u8]) -> Option<Cid> {
    let cid = Cid::read_bytes(&mut bytes).ok()?;
    bytes.is_empty().then_some(cid)
}

/// Protobuf's `int32` is the low half of a number.
fn int32(number: u64) -> i32 {
    let [a, b, c, d, ..] = number.to_le_bytes();
    i32::from_le_bytes([a, b, c, d])
}

fn uint64(number: i32) -> u64 {
    u64::from_le_bytes(i64::from(number).to_le_bytes())
}

fn varint(out: &mut Vec<u8>, number: u64) {
    out.put_slice(unsigned_varint::encode::u64(number, &mut unsigned_varint::encode::u64_buffer()));
}

fn tag(out: &mut Vec<u8>, number: u64, wire: u64) {
    varint(out, number << 3 | wire);
}

fn bytes_field(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    tag(out, number, 2);
    varint(out, bytes.len() as u64);
    out.put_slice(bytes);
}

/// Zero is what a field is that is left out.
fn number_field(out: &mut Vec<u8>, number: u64, value: u64) {
    if value != 0 {
        tag(out, number, 0);
        varint(out, value);
    }
}

enum Value {
    Number(u64),
    Bytes(Bytes),
    Skipped,
}

/// The fields of a protobuf message, one after the other.
struct Fields(Bytes);

impl Fields {
    fn next(&mut self) -> Result<Option<(u64, Value)>, DecodeError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.number()?;
        let value = match tag & 7 {
            0 => Value::Number(self.number()?),
            1 => self.take(8).map(|_| Value::Skipped)?,
            2 => {
                let size = self.number()?;
                Value::Bytes(self.take(size)?)
            }
            5 => self.take(4).map(|_| Value::Skipped)?,
            _ => return Err(DecodeError::Malformed),
        };
        Ok(Some((tag >> 3, value)))
    }

    fn number(&mut self) -> Result<u64, DecodeError> {
        let (number, rest) = unsigned_varint::decode::u64(&self.0).map_err(|_| DecodeError::Malformed)?;
        let read = self.0.len() - rest.len();
        let _number = self.0.split_to(read);
        Ok(number)
    }

    fn take(&mut self, size: u64) -> Result<Bytes, DecodeError> {
        match usize::try_from(size) {
            Ok(size) if size <= self.0.len() => Ok(self.0.split_to(size)),
            _ => Err(DecodeError::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use af_contract::Multihash;
    use proptest::prelude::*;

    use super::*;

    fn cid() -> impl Strategy<Value = Cid> {
        (any::<[u8; 32]>(), any::<u8>()).prop_map(|(digest, kind)| {
            let hash = |code| Multihash::wrap(code, &digest).unwrap();
            match kind % 3 {
                0 => Cid::new_v0(hash(0x12)).unwrap(),
                1 => Cid::new_v1(0x55, hash(0x12)),
                _ => Cid::new_v1(0x70, hash(0x1e)),
            }
        })
    }

    fn entry() -> impl Strategy<Value = Entry> {
        (cid(), -2..3_i32, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
            |(cid, priority, cancel, have, send_dont_have)| {
                let kind = if have { WantKind::Have } else { WantKind::Block };
                Entry { cid, priority, cancel, kind, send_dont_have }
            },
        )
    }

    prop_compose! {
        fn message()(
            wants in prop::collection::vec(entry(), 0..8),
            full: bool,
            blocks in prop::collection::vec((cid(), prop::collection::vec(any::<u8>(), 0..300)), 0..4),
            presences in prop::collection::vec((cid(), any::<bool>()), 0..8),
        ) -> Message {
            let blocks = blocks.into_iter();
            let blocks = blocks.map(|(cid, data)| Payload { prefix: Prefix::of(&cid), data: data.into() });
            let presences = presences.into_iter().map(|(cid, has)| Presence { cid, has });
            Message { wants, full, blocks: blocks.collect(), presences: presences.collect() }
        }
    }

    /// Without the length before it, which has to be right.
    fn body(framed: Vec<u8>) -> Bytes {
        let (size, rest) = unsigned_varint::decode::u64(&framed).unwrap();
        assert_eq!(size, rest.len() as u64);
        Bytes::copy_from_slice(rest)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(message in message()) {
            prop_assert_eq!(Message::decode(body(message.encode(Version::V1_2))).unwrap(), message);
        }

        #[test]
        fn any_bytes_are_a_message_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(message) = Message::decode(bytes.into()) {
                let again = Message::decode(body(message.encode(Version::V1_2)));
                prop_assert_eq!(again.unwrap(), message);
            }
        }

        #[test]
        fn a_message_that_is_cut_or_changed_does_no_harm(message in message(), at: prop::sample::Index, byte: u8) {
            let mut bytes = message.encode(Version::V1_2);
            let at = at.index(bytes.len());
            let _cut = Message::decode(Bytes::copy_from_slice(&bytes[..at]));
            bytes[at] = byte;
            let _changed = Message::decode(bytes.into());
        }
    }

    #[test]
    fn the_first_version_has_blocks_without_prefix_and_no_presences() {
        let cid = Cid::new_v0(Multihash::wrap(0x12, &[7; 32]).unwrap()).unwrap();
        let block = Payload { prefix: Prefix::of(&cid), data: Bytes::from_static(b"block") };
        let message = Message {
            blocks: vec![block.clone()],
            presences: vec![Presence { cid, has: true }],
            ..Message::default()
        };
        let read = Message::decode(body(message.encode(Version::V1_0))).unwrap();
        assert_eq!(read, Message { blocks: vec![block], ..Message::default() });
    }

    #[test]
    fn too_many_entries_are_refused() {
        let cid = Cid::new_v1(0x55, Multihash::wrap(0x12, &[7; 32]).unwrap());
        let mut message = Message { wants: vec![Entry::cancel(cid); ENTRIES], ..Message::default() };
        Message::decode(body(message.encode(Version::V1_2))).unwrap();
        message.wants.push(Entry::cancel(cid));
        let error = Message::decode(body(message.encode(Version::V1_2))).unwrap_err();
        assert_eq!(error, DecodeError::TooMany);
        let block = Payload { prefix: Prefix::of(&cid), data: Bytes::new() };
        let message = Message { blocks: vec![block; BLOCKS + 1], ..Message::default() };
        assert_eq!(Message::decode(body(message.encode(Version::V1_2))).unwrap_err(), DecodeError::TooMany);
    }
}
