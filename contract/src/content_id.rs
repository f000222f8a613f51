//! Content ids: which bytes are meant, independent of where they lie. Hashing bytes is af-content's.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What kind of node a block holds (multicodec table).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Codec {
    /// `raw` (0x55): the block is file bytes.
    Raw,
    /// `dag-pb` (0x70): a UnixFS node.
    DagPb,
    /// `dag-cbor` (0x71): a document, such as a manifest.
    DagCbor,
}

impl Codec {
    const fn code(self) -> u8 {
        match self {
            Self::Raw => 0x55,
            Self::DagPb => 0x70,
            Self::DagCbor => 0x71,
        }
    }
}

/// The longest content that may stand in an id itself, bytes: what Kubo and Helia take.
pub const INLINE_BYTES: usize = 128;

/// A CID of any codec and hash, with room for content that stands in it.
pub type Cid = cid::CidGeneric<INLINE_BYTES>;

/// A CID's hash.
pub type Multihash = cid::multihash::Multihash<INLINE_BYTES>;

/// `identity` (multihash table): the digest is the content.
const IDENTITY: u64 = 0x00;

/// The hash function of a content id. Both give 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HashKind {
    /// `sha2-256` (0x12), the IPFS default.
    Sha2_256,
    /// `blake3` (0x1e), twenty times faster to check.
    Blake3,
}

impl HashKind {
    const fn code(self) -> u8 {
        match self {
            Self::Sha2_256 => 0x12,
            Self::Blake3 => 0x1e,
        }
    }
}

/// A CIDv1 of a codec and hash that the platform handles. Shown as base32, like `bafkrei…`.
///
/// One may be *inline*: its content stands in it instead of a hash (`identity`, up to [`INLINE_BYTES`]), and there is no
/// block of it to store or fetch. In JSON an id is that string; in DAG-CBOR it is a link (tag 42).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentId {
    codec: Codec,
    digest: Digest,
}

/// What names the bytes. In place, so that an id can be copied: 131 bytes where a hash alone took 34.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Digest {
    Hash(HashKind, [u8; 32]),
    Inline(Inline),
}

/// Up to [`INLINE_BYTES`]; those behind `size` are zero, so that equal content is equal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Inline {
    size: u8,
    bytes: [u8; INLINE_BYTES],
}

impl Inline {
    fn new(content: &[u8]) -> Option<Self> {
        let mut bytes = [0; INLINE_BYTES];
        bytes.get_mut(..content.len())?.copy_from_slice(content);
        Some(Self { size: u8::try_from(content.len()).ok()?, bytes })
    }

    fn content(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.size)).unwrap_or_default()
    }
}

/// Why a text or a CID is not a content id that the platform handles.
#[derive(Debug, thiserror::Error)]
pub enum ContentIdError {
    /// Not a CID at all.
    #[error(
        "{text:?} is not a CID; one looks like bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
    )]
    Syntax {
        /// What was given, cut to 100 characters.
        text: String,
        /// What the parser said.
        source: cid::Error,
    },
    /// A codec other than raw, dag-pb and dag-cbor.
    #[error("codec 0x{0:x} is not supported; use raw (0x55), dag-pb (0x70) or dag-cbor (0x71)")]
    Codec(u64),
    /// A hash other than sha2-256 and BLAKE3, or a digest that is not 32 bytes long.
    #[error(
        "multihash 0x{code:x} of {size} bytes is not supported; use sha2-256 or blake3 with 32 bytes, or identity with up to {INLINE_BYTES}"
    )]
    Hash {
        /// Multihash code.
        code: u64,
        /// Digest length in bytes.
        size: u8,
    },
}

impl ContentId {
    /// The id of a block whose `kind` hash is `digest`.
    #[must_use]
    pub const fn new(codec: Codec, kind: HashKind, digest: [u8; 32]) -> Self {
        Self { codec, digest: Digest::Hash(kind, digest) }
    }

    /// The id that `content` stands in; none of what is too long for that.
    #[must_use]
    pub fn inline(codec: Codec, content: &[u8]) -> Option<Self> {
        Some(Self { codec, digest: Digest::Inline(Inline::new(content)?) })
    }

    /// Reads a CIDv1 in any multibase, or a CIDv0, which names the same block as the CIDv1 that is shown from then on.
    ///
    /// # Errors
    /// When the text is no CID, or names a codec or hash that is not supported.
    pub fn parse(text: &str) -> Result<Self, ContentIdError> {
        let cid = Cid::try_from(text)
            .map_err(|source| ContentIdError::Syntax { text: text.chars().take(100).collect(), source })?;
        Self::try_from(cid)
    }

    /// What the block holds.
    #[must_use]
    pub const fn codec(&self) -> Codec {
        self.codec
    }

    /// The hash function; none where the content stands in the id.
    #[must_use]
    pub const fn kind(&self) -> Option<HashKind> {
        match &self.digest {
            Digest::Hash(kind, _) => Some(*kind),
            Digest::Inline(_) => None,
        }
    }

    /// The 32 bytes of the hash, or the content that stands in the id.
    #[must_use]
    pub fn digest(&self) -> &[u8] {
        match &self.digest {
            Digest::Hash(_, digest) => digest,
            Digest::Inline(inline) => inline.content(),
        }
    }

    /// The content that stands in the id, where it does.
    #[must_use]
    pub fn content(&self) -> Option<&[u8]> {
        match &self.digest {
            Digest::Hash(..) => None,
            Digest::Inline(inline) => Some(inline.content()),
        }
    }

    /// Whether the content stands in the id, so that there is no block of it.
    #[must_use]
    pub const fn is_inline(&self) -> bool {
        matches!(self.digest, Digest::Inline(_))
    }

    /// The same id as the `cid` crate's type, for codecs.
    #[must_use]
    pub fn to_cid(&self) -> Cid {
        let code = self.kind().map_or(IDENTITY, |kind| u64::from(kind.code()));
        let hash = Multihash::wrap(code, self.digest()).unwrap_or_default();
        Cid::new_v1(u64::from(self.codec.code()), hash)
    }

    /// The same block's CID of version 0, which only a dag-pb node under sha2-256 has.
    #[must_use]
    pub fn to_cid_v0(&self) -> Option<Cid> {
        match (self.codec, self.kind()) {
            (Codec::DagPb, Some(HashKind::Sha2_256)) => Cid::new_v0(*self.to_cid().hash()).ok(),
            _ => None,
        }
    }
}

impl<const SIZE: usize> TryFrom<cid::CidGeneric<SIZE>> for ContentId {
    type Error = ContentIdError;

    fn try_from(cid: cid::CidGeneric<SIZE>) -> Result<Self, ContentIdError> {
        let codec = match cid.codec() {
            0x55 => Codec::Raw,
            0x70 => Codec::DagPb,
            0x71 => Codec::DagCbor,
            other => return Err(ContentIdError::Codec(other)),
        };
        let unsupported = || ContentIdError::Hash { code: cid.hash().code(), size: cid.hash().size() };
        let digest = cid.hash().digest();
        let kind = match cid.hash().code() {
            0x12 => HashKind::Sha2_256,
            0x1e => HashKind::Blake3,
            IDENTITY => return Self::inline(codec, digest).ok_or_else(unsupported),
            _ => return Err(unsupported()),
        };
        Ok(Self::new(codec, kind, digest.try_into().map_err(|_| unsupported())?))
    }
}

impl FromStr for ContentId {
    type Err = ContentIdError;

    fn from_str(text: &str) -> Result<Self, ContentIdError> {
        Self::parse(text)
    }
}

/// The multibase prefix and base32 (RFC 4648, lower case, without padding) of version, codec, hash function, length
/// and digest. Written here, since a response names several ids and the crate's way allocates for each.
impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Digest::Hash(kind, digest) = &self.digest else { return fmt::Display::fmt(&self.to_cid(), f) };
        let head = [1, self.codec.code(), kind.code(), 32];
        let mut text = [b'b'; TEXT_BYTES];
        let mut places = text.iter_mut().skip(1);
        // What was read and not written yet; its last `held` bits.
        let (mut bits, mut held) = (0_u16, 0);
        for &byte in head.iter().chain(digest) {
            bits = bits << 8 | u16::from(byte);
            held += 8;
            while held >= 5 {
                held -= 5;
                places.next().into_iter().for_each(|place| *place = symbol(bits >> held));
            }
        }
        places.next().into_iter().for_each(|place| *place = symbol(bits << (5 - held)));
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

/// 36 bytes, five bits each, and the prefix.
const TEXT_BYTES: usize = 59;

/// Of the last five bits.
const fn symbol(bits: u16) -> u8 {
    let [low, _] = (bits & 31).to_le_bytes();
    if low < 26 { b'a' + low } else { b'2' + (low - 26) }
}

impl fmt::Debug for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ContentId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.to_cid().serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for ContentId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            Self::parse(&text).map_err(D::Error::custom)
        } else {
            Self::try_from(Cid::deserialize(deserializer)?).map_err(D::Error::custom)
        }
    }
}

/// BLAKE3 of a whole file, 32 bytes. Shown as 64 lower-case hex digits.
///
/// In JSON it is that string; in DAG-CBOR a byte string.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Blake3Hash(pub [u8; 32]);

/// The text is not 64 hex digits.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a BLAKE3 hash; one is 64 hex digits, as `b3sum FILE` prints")]
pub struct Blake3HashError(String);

impl FromStr for Blake3Hash {
    type Err = Blake3HashError;

    fn from_str(text: &str) -> Result<Self, Blake3HashError> {
        blake3::Hash::from_hex(text)
            .map(|hash| Self(*hash.as_bytes()))
            .map_err(|_| Blake3HashError(text.chars().take(100).collect()))
    }
}

impl From<blake3::Hash> for Blake3Hash {
    fn from(hash: blake3::Hash) -> Self {
        Self(*hash.as_bytes())
    }
}

impl fmt::Display for Blake3Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for Blake3Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Blake3Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Blake3Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
        } else {
            deserializer.deserialize_bytes(BytesVisitor)
        }
    }
}

struct BytesVisitor;

impl serde::de::Visitor<'_> for BytesVisitor {
    type Value = Blake3Hash;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("32 bytes")
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Blake3Hash, E> {
        bytes.try_into().map(Blake3Hash).map_err(|_| E::invalid_length(bytes.len(), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAW: &str = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";

    #[test]
    fn text_round_trips() {
        let id = ContentId::parse(RAW).unwrap();
        assert_eq!((id.codec(), id.kind()), (Codec::Raw, Some(HashKind::Sha2_256)));
        assert_eq!(id.to_string(), RAW);
        assert_eq!(serde_json::from_str::<ContentId>(&serde_json::to_string(&id).unwrap()).unwrap(), id);
    }

    #[test]
    fn a_cidv0_is_the_cidv1_of_the_same_block() {
        let id = ContentId::parse("Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD").unwrap();
        assert_eq!(id.to_string(), "bafybeihykld7uyxzogax6vgyvag42y7464eywpf55gxi5qpoisibh3c5wa");
        let other = ContentId::parse("bafybeihykld7uyxzogax6vgyvag42y7464eywpf55gxi5qpoisibh3c5wa").unwrap();
        assert_eq!((id, id.codec()), (other, Codec::DagPb));
        let v0 = id.to_cid_v0().unwrap().to_string();
        assert_eq!(v0, "Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD");
        assert_eq!(ContentId::parse(RAW).unwrap().to_cid_v0(), None, "a raw block has none");
        assert_eq!(ContentId::new(Codec::DagPb, HashKind::Blake3, [1; 32]).to_cid_v0(), None);
    }

    #[test]
    fn content_may_stand_in_an_id() {
        let id = ContentId::parse("bafkqabtimvwgy3yk").unwrap();
        assert_eq!((id.content(), id.codec(), id.kind()), (Some(&b"hello\n"[..]), Codec::Raw, None));
        assert_eq!(ContentId::parse("bafkqaaa").unwrap().content(), Some(&b""[..]));
        assert_eq!(ContentId::parse(RAW).unwrap().content(), None);
        let most = ContentId::inline(Codec::DagCbor, &[7; INLINE_BYTES]).unwrap();
        assert_eq!(ContentId::parse(&most.to_string()).unwrap(), most);
        assert_eq!(ContentId::inline(Codec::Raw, &[7; INLINE_BYTES + 1]), None);
        let long =
            cid::CidGeneric::<256>::new_v1(0x55, cid::multihash::Multihash::wrap(0, &[7; 129]).unwrap());
        assert!(ContentId::parse(&long.to_string()).is_err());
    }

    #[test]
    fn other_codecs_and_hashes_are_refused() {
        let digest = Multihash::wrap(0x12, &[0; 32]).unwrap();
        assert!(matches!(ContentId::try_from(Cid::new_v1(0x129, digest)), Err(ContentIdError::Codec(0x129))));
        for hash in [Multihash::wrap(0x12, &[0; 31]), Multihash::wrap(0x13, &[0; 64])] {
            assert!(matches!(
                ContentId::try_from(Cid::new_v1(0x55, hash.unwrap())),
                Err(ContentIdError::Hash { .. })
            ));
        }
    }

    #[test]
    fn in_dag_cbor_an_id_is_a_link() {
        let id = ContentId::parse(RAW).unwrap();
        let bytes = serde_ipld_dagcbor::to_vec(&id).unwrap();
        assert_eq!(&bytes[..2], [0xd8, 42]);
        assert_eq!(serde_ipld_dagcbor::from_slice::<ContentId>(&bytes).unwrap(), id);
    }

    proptest::proptest! {
        #[test]
        fn an_id_is_shown_as_everybody_shows_it(digest: [u8; 32]) {
            for codec in [Codec::Raw, Codec::DagPb, Codec::DagCbor] {
                for kind in [HashKind::Sha2_256, HashKind::Blake3] {
                    let id = ContentId::new(codec, kind, digest);
                    proptest::prop_assert_eq!(id.to_string(), id.to_cid().to_string());
                }
            }
        }

        #[test]
        fn any_content_that_fits_stands_in_an_id(content in proptest::collection::vec(proptest::num::u8::ANY, 0..=INLINE_BYTES)) {
            for codec in [Codec::Raw, Codec::DagPb, Codec::DagCbor] {
                let id = ContentId::inline(codec, &content).unwrap();
                proptest::prop_assert_eq!(id.content(), Some(content.as_slice()));
                proptest::prop_assert_eq!(ContentId::parse(&id.to_string()).unwrap(), id);
                let bytes = serde_ipld_dagcbor::to_vec(&id).unwrap();
                proptest::prop_assert_eq!(serde_ipld_dagcbor::from_slice::<ContentId>(&bytes).unwrap(), id);
            }
        }

        #[test]
        fn any_text_parses_or_is_refused(text in ".{0,80}") {
            if let Ok(id) = ContentId::parse(&text) {
                assert_eq!(ContentId::parse(&id.to_string()).unwrap(), id);
            }
        }
    }
}
