//! The only place that decides whether bytes match a content id.

use af_contract::{Codec, ContentId, HashKind};
use bytes::Bytes;

use crate::abreast;
use crate::pieces::{Gathering, Pieces};
use crate::sha256::Sha256;

/// Bytes that are not what their content id says.
#[derive(Debug, thiserror::Error)]
#[error("block {expected} has bytes that hash to {found}")]
pub struct Mismatch {
    /// The id that was asked for or claimed.
    pub expected: ContentId,
    /// The id that the bytes have.
    pub found: Box<ContentId>,
}

/// Bytes that somebody sent, and the id that they have, whatever was asked for. Only hashing makes one, and only who names
/// that id gets the bytes: so they are hashed once, by whoever receives them, and nothing unverified passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hashed {
    id: ContentId,
    pieces: Pieces,
}

impl Hashed {
    /// Hashes bytes as a block of this kind. Large ones take milliseconds.
    #[must_use]
    pub fn new(codec: Codec, kind: HashKind, bytes: Bytes) -> Self {
        Self { id: identify_with(codec, kind, &bytes), pieces: bytes.into() }
    }

    /// Hashes bytes that were asked for by this id, as it was made. One that has its content in itself is never asked
    /// for, and no bytes are it.
    #[must_use]
    pub fn as_asked(id: &ContentId, bytes: Bytes) -> Self {
        Self::new(id.codec(), id.kind().unwrap_or(HashKind::Sha2_256), bytes)
    }

    /// The id that the bytes have.
    #[must_use]
    pub const fn id(&self) -> ContentId {
        self.id
    }

    /// Bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.pieces.size()
    }

    /// Checks that this is the block that `expected` names.
    ///
    /// # Errors
    /// When it is another one.
    pub fn check(&self, expected: &ContentId) -> Result<(), Mismatch> {
        if self.id == *expected {
            Ok(())
        } else {
            Err(Mismatch { expected: *expected, found: Box::new(self.id) })
        }
    }

    /// The bytes of the block that `expected` names.
    ///
    /// # Errors
    /// When they are another one's.
    pub fn expect(self, expected: &ContentId) -> Result<Bytes, Mismatch> {
        self.expect_pieces(expected).map(Pieces::join)
    }

    /// The same, as they came.
    ///
    /// # Errors
    /// When they are another one's.
    pub fn expect_pieces(self, expected: &ContentId) -> Result<Pieces, Mismatch> {
        self.check(expected).map(|()| self.pieces)
    }
}

/// Hashes a block while it comes, and keeps what has come.
pub struct Hashing {
    codec: Codec,
    state: State,
    pieces: Gathering,
}

#[expect(
    clippy::large_enum_variant,
    reason = "the one that is used for almost every block is not worth an allocation"
)]
enum State {
    Sha2_256(Sha256),
    Blake3(Box<blake3::Hasher>),
}

impl Hashing {
    /// Of a block that is asked for by this id, as [`Hashed::as_asked`].
    #[must_use]
    pub fn as_asked(id: &ContentId) -> Self {
        Self {
            codec: id.codec(),
            state: State::new(id.kind().unwrap_or(HashKind::Sha2_256)),
            pieces: Gathering::default(),
        }
    }

    /// The next bytes. 64 KiB take 40 microseconds where the processor can hash.
    pub fn push(&mut self, bytes: Bytes) {
        self.state.update(&bytes);
        self.pieces.push(bytes);
    }

    /// The next bytes. Others have their turn in between, and the bytes of another block are hashed side by side with them, where
    /// two take hardly longer than one.
    pub async fn push_in_turn(&mut self, bytes: Bytes) {
        let mut left = bytes.clone();
        while !left.is_empty() {
            let piece = left.split_to(left.len().min(self.state.at_once()));
            match &mut self.state {
                State::Sha2_256(hash) => abreast::update(hash, piece).await,
                State::Blake3(hasher) => {
                    hasher.update(&piece);
                    tokio::task::yield_now().await;
                }
            }
        }
        self.pieces.push(bytes);
    }

    /// Bytes so far.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.pieces.size()
    }

    /// All has come.
    #[must_use]
    pub fn finish(self) -> Hashed {
        Hashed { id: self.state.finish(self.codec), pieces: self.pieces.finish() }
    }
}

impl State {
    fn new(kind: HashKind) -> Self {
        match kind {
            HashKind::Sha2_256 => Self::Sha2_256(Sha256::default()),
            HashKind::Blake3 => Self::Blake3(Box::default()),
        }
    }

    /// Bytes that are hashed before others have their turn: 90 to 250 microseconds of work.
    const fn at_once(&self) -> usize {
        match self {
            Self::Sha2_256(hash) if !hash.is_faster_in_pairs() => 64 << 10,
            Self::Sha2_256(_) | Self::Blake3(_) => 256 << 10,
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha2_256(hash) => hash.update(bytes),
            Self::Blake3(hasher) => {
                hasher.update(bytes);
            }
        }
    }

    fn finish(self, codec: Codec) -> ContentId {
        match self {
            Self::Sha2_256(hash) => ContentId::new(codec, HashKind::Sha2_256, hash.finish()),
            Self::Blake3(hasher) => ContentId::new(codec, HashKind::Blake3, *hasher.finalize().as_bytes()),
        }
    }
}

/// The id of a block under sha2-256.
#[must_use]
pub fn identify(codec: Codec, bytes: &[u8]) -> ContentId {
    identify_with(codec, HashKind::Sha2_256, bytes)
}

/// Checks that `bytes` are the block that `expected` names.
///
/// # Errors
/// When they hash to another id.
pub fn verify(expected: &ContentId, bytes: &[u8]) -> Result<(), Mismatch> {
    if expected.content().is_some_and(|content| content == bytes) {
        return Ok(());
    }
    let found = identify_with(expected.codec(), expected.kind().unwrap_or(HashKind::Sha2_256), bytes);
    if found == *expected { Ok(()) } else { Err(Mismatch { expected: *expected, found: Box::new(found) }) }
}

fn identify_with(codec: Codec, kind: HashKind, bytes: &[u8]) -> ContentId {
    let mut state = State::new(kind);
    state.update(bytes);
    state.finish(codec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_cid_of_hello_world() {
        let id = ContentId::parse("bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e").unwrap();
        assert_eq!(identify(Codec::Raw, b"hello world"), id);
        verify(&id, b"hello world").unwrap();
    }

    #[test]
    fn bytes_are_had_under_the_id_that_they_have() {
        let id = identify_with(Codec::Raw, HashKind::Blake3, b"hello world");
        let sent = |bytes| Hashed::new(Codec::Raw, HashKind::Blake3, Bytes::from_static(bytes));
        assert_eq!(sent(b"hello world").expect(&id).unwrap(), &b"hello world"[..]);
        let error = sent(b"hello worle").expect(&id).unwrap_err();
        assert_eq!((error.expected, *error.found), (id, sent(b"hello worle").id()));
        let other = Hashed::new(Codec::DagPb, HashKind::Blake3, Bytes::from_static(b"hello world"));
        other.expect(&id).unwrap_err();
    }

    #[test]
    fn a_block_that_comes_in_pieces_has_the_same_id() {
        for kind in [HashKind::Sha2_256, HashKind::Blake3] {
            let block: Vec<u8> = (0..200_000_u32).map(|number| (number % 251) as u8).collect();
            let id = identify_with(Codec::Raw, kind, &block);
            for piece in [1, 1000, 40_000, 70_000, 200_000] {
                let mut hashing = Hashing::as_asked(&id);
                block.chunks(piece).for_each(|piece| hashing.push(Bytes::copy_from_slice(piece)));
                assert_eq!(
                    (hashing.size(), hashing.finish().expect(&id).unwrap()),
                    (block.len(), block.clone().into())
                );
            }
            let mut other = Hashing::as_asked(&id);
            other.push(Bytes::from(block).slice(1..));
            other.finish().expect(&id).unwrap_err();
        }
    }

    #[test]
    fn one_flipped_bit_is_noticed_under_both_hashes() {
        for kind in [HashKind::Sha2_256, HashKind::Blake3] {
            let id = identify_with(Codec::Raw, kind, b"hello world");
            let error = verify(&id, b"hello worle").unwrap_err();
            assert_eq!(error.expected, id);
        }
    }

    #[test]
    fn content_within_an_id_is_compared_with_it() {
        let id = ContentId::inline(Codec::Raw, b"hello").unwrap();
        verify(&id, b"hello").unwrap();
        assert_eq!(verify(&id, b"hell").unwrap_err().expected, id);
    }
}
