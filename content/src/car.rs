//! CAR version 1 (<https://ipld.io/specs/transport/car/carv1/>), without I/O: the decoder is fed what
//! arrives and hands out verified blocks only.

use af_contract::{Cid, ContentId, ContentIdError, limits::BLOCK_BYTES};
use bytes::{Buf, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::hash::{self, Mismatch};

/// A header names a handful of roots; more is an attack or another format.
const HEADER_BYTES: usize = 4096;

/// The longest CID in bytes: version, codec, hash code and length as varints, then the digest.
const CID_BYTES: usize = 100;

/// Why a stream is not a CAR of verified blocks.
#[derive(Debug, thiserror::Error)]
pub enum CarError {
    /// The stream ended within a header or block.
    #[error("the CAR ends in the middle of a block; {0} bytes of it had come")]
    Truncated(usize),
    /// A length prefix that is malformed or over the limit.
    #[error("a section of the CAR says that it has {0} bytes; at most {1} are allowed")]
    SectionLength(u64, usize),
    /// A length prefix that is not a varint.
    #[error("a section of the CAR starts with a malformed length")]
    Varint,
    /// The header is not that of a CAR version 1.
    #[error("not a CAR version 1: {0}")]
    Header(String),
    /// A section does not start with a CID.
    #[error("a block of the CAR has a malformed CID")]
    Cid(#[source] cid::Error),
    /// A block's CID is of a kind that is not supported.
    #[error("a block of the CAR cannot be used: {0}")]
    ContentId(#[from] ContentIdError),
    /// A block's bytes are not what its CID says.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    roots: Vec<Cid>,
    version: u64,
}

/// A block whose bytes matched its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The id.
    pub id: ContentId,
    /// The bytes.
    pub bytes: Bytes,
}

/// Reads a CAR from chunks of any size. Holds at most one block.
#[derive(Debug, Default)]
pub struct CarDecoder {
    buffer: BytesMut,
    roots: Option<Vec<ContentId>>,
    /// Bytes of whole sections that were read.
    position: u64,
}

impl CarDecoder {
    /// Goes on where another one was at [`Self::position`], which had read the header.
    #[must_use]
    pub fn resume(roots: Vec<ContentId>, position: u64) -> Self {
        Self { buffer: BytesMut::new(), roots: Some(roots), position }
    }

    /// How far it is: where the next section begins, bytes.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// Adds bytes that arrived. Call [`Self::next_block`] until it returns `None` before the next push, so
    /// that the buffer stays bounded.
    pub fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The roots, once the header has been read.
    #[must_use]
    pub fn roots(&self) -> Option<&[ContentId]> {
        self.roots.as_deref()
    }

    /// The next verified block, or `None` when more bytes are needed.
    ///
    /// # Errors
    /// When the stream is malformed or a block does not match its CID.
    pub fn next_block(&mut self) -> Result<Option<Block>, CarError> {
        if self.roots.is_none() {
            let Some(section) = self.take_section(HEADER_BYTES)? else { return Ok(None) };
            self.roots = Some(read_header(&section)?);
        }
        let Some(mut section) = self.take_section(BLOCK_BYTES + CID_BYTES)? else { return Ok(None) };
        let mut rest: &[u8] = &section;
        let cid = Cid::read_bytes(&mut rest).map_err(CarError::Cid)?;
        let id = ContentId::try_from(cid)?;
        section.advance(section.len() - rest.len());
        if section.len() > BLOCK_BYTES {
            return Err(CarError::SectionLength(section.len() as u64, BLOCK_BYTES));
        }
        hash::verify(&id, &section)?;
        Ok(Some(Block { id, bytes: section }))
    }

    /// Says that the stream has ended.
    ///
    /// # Errors
    /// When it ended before the header was complete or within a block.
    pub fn finish(self) -> Result<(), CarError> {
        if self.roots.is_none() || !self.buffer.is_empty() {
            return Err(CarError::Truncated(self.buffer.len()));
        }
        Ok(())
    }

    fn take_section(&mut self, limit: usize) -> Result<Option<Bytes>, CarError> {
        use unsigned_varint::decode::Error;
        let (length, rest) = match unsigned_varint::decode::u64(&self.buffer) {
            Ok((length, rest)) => (length, rest.len()),
            Err(Error::Insufficient) => return Ok(None),
            Err(_) => return Err(CarError::Varint),
        };
        let size = usize::try_from(length).ok().filter(|size| (1..=limit).contains(size));
        let Some(size) = size else { return Err(CarError::SectionLength(length, limit)) };
        if rest < size {
            return Ok(None);
        }
        self.position += (self.buffer.len() - rest + size) as u64;
        self.buffer.advance(self.buffer.len() - rest);
        Ok(Some(self.buffer.split_to(size).freeze()))
    }
}

fn read_header(bytes: &[u8]) -> Result<Vec<ContentId>, CarError> {
    let header: Header =
        serde_ipld_dagcbor::from_slice(bytes).map_err(|e| CarError::Header(e.to_string()))?;
    if header.version != 1 {
        return Err(CarError::Header(format!("it has version {}", header.version)));
    }
    header.roots.into_iter().map(|cid| ContentId::try_from(cid).map_err(CarError::from)).collect()
}

/// The header of a CAR with these roots.
#[must_use]
pub fn encode_header(roots: &[ContentId]) -> Vec<u8> {
    encode_header_of(&roots.iter().map(ContentId::to_cid).collect::<Vec<_>>())
}

/// The header of a CAR with any CIDs as its roots.
#[must_use]
pub fn encode_header_of(roots: &[Cid]) -> Vec<u8> {
    let header = Header { roots: roots.to_vec(), version: 1 };
    // Writing plain values to memory has no way to fail.
    let bytes = serde_ipld_dagcbor::to_vec(&header).unwrap_or_default();
    let mut out = varint(bytes.len());
    out.extend_from_slice(&bytes);
    out
}

/// What stands before a block's bytes in a CAR: length and CID.
#[must_use]
pub fn encode_block_prefix(id: &ContentId, size: usize) -> Vec<u8> {
    let cid = id.to_cid().to_bytes();
    let mut out = varint(cid.len() + size);
    out.extend_from_slice(&cid);
    out
}

fn varint(value: usize) -> Vec<u8> {
    unsigned_varint::encode::usize(value, &mut unsigned_varint::encode::usize_buffer()).to_vec()
}

#[cfg(test)]
mod tests {
    use af_contract::Codec;

    use super::*;

    fn car(blocks: &[&[u8]]) -> Vec<u8> {
        let mut out = encode_header(&[hash::identify(Codec::Raw, blocks[0])]);
        for block in blocks {
            out.extend(encode_block_prefix(&hash::identify(Codec::Raw, block), block.len()));
            out.extend_from_slice(block);
        }
        out
    }

    fn decode(car: &[u8], chunk: usize) -> Result<Vec<Block>, CarError> {
        let mut decoder = CarDecoder::default();
        let mut blocks = Vec::new();
        for part in car.chunks(chunk.max(1)) {
            decoder.push(part);
            while let Some(block) = decoder.next_block()? {
                blocks.push(block);
            }
        }
        decoder.finish()?;
        Ok(blocks)
    }

    #[test]
    fn a_flipped_bit_in_a_block_is_refused() {
        let mut bytes = car(&[b"hello world"]);
        *bytes.last_mut().unwrap() ^= 1;
        assert!(matches!(decode(&bytes, 7), Err(CarError::Mismatch(_))));
    }

    #[test]
    fn every_truncation_but_at_a_block_boundary_is_refused() {
        let (first, whole) = (car(&[b"one"]).len(), car(&[b"one", b"two"]));
        let header = encode_header(&[hash::identify(Codec::Raw, b"one")]).len();
        for cut in 0..whole.len() {
            let result = decode(&whole[..cut], 5);
            assert_eq!(result.is_ok(), cut == first || cut == header, "cut at {cut}: {result:?}");
        }
    }

    #[test]
    fn a_length_that_asks_for_gigabytes_is_refused_at_once() {
        let mut bytes = encode_header(&[hash::identify(Codec::Raw, b"x")]);
        bytes.extend(varint(5 << 30));
        assert!(matches!(decode(&bytes, 4096), Err(CarError::SectionLength(..))));
    }

    #[test]
    fn other_formats_are_refused() {
        assert!(decode(b"\0asm\x0d\0\x01\0", 100).is_err());
        let v2 = [0x0a, 0xa1, 0x67, b'v', b'e', b'r', b's', b'i', b'o', b'n', 0x02];
        assert!(matches!(decode(&v2, 100), Err(CarError::Header(_))));
    }

    proptest::proptest! {
        #[test]
        fn blocks_round_trip_in_chunks_of_any_size(
            blocks: Vec<Vec<u8>>, chunk in 1usize..300,
        ) {
            proptest::prop_assume!(!blocks.is_empty());
            let parts: Vec<&[u8]> = blocks.iter().map(Vec::as_slice).collect();
            let decoded = decode(&car(&parts), chunk).unwrap();
            proptest::prop_assert_eq!(decoded.iter().map(|b| b.bytes.to_vec()).collect::<Vec<_>>(), blocks);
        }

        #[test]
        fn any_bytes_are_blocks_that_match_or_an_error(bytes: Vec<u8>, chunk in 1usize..64) {
            for block in decode(&bytes, chunk).unwrap_or_default() {
                hash::verify(&block.id, &block.bytes).unwrap();
            }
        }
    }
}
