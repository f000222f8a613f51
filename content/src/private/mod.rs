//! Private content: files and names that only who has a deployment's key can read, wherever their blocks lie.
//! Without I/O.
//!
//! A file is a header of [`HEADER_BYTES`] (what it is, the id of the key, 19 random bytes) and segments: up to
//! [`SEGMENT_BYTES`] each, encrypted by XChaCha20-Poly1305, with a tag. The header is every segment's associated data, and a
//! segment's nonce is the random bytes, its number and whether it is the last (STREAM, <https://eprint.iacr.org/2015/189>).
//! ARCHITECTURE.md ("Private content") says what that hides, and what it does not.

mod cipher;
mod layout;
mod name;
mod opening;
mod sealing;
mod segments;
mod tree;

pub use self::cipher::{Cipher, new_key};
pub use self::layout::{Layout, Segment};
pub use self::name::NAME_BYTES;
pub use self::opening::{Opening, open};
pub use self::sealing::Sealing;
pub use self::segments::FileCipher;
pub use self::tree::{PrivateTreeError, check_root, check_tree};

use af_contract::{Blake3Hash, ContentId};

/// Bytes of a file in one segment. A guest reads at most as much at once, so little is decrypted for nothing; tags
/// make a file 0.02 % longer.
pub const SEGMENT_BYTES: usize = 64 << 10;

/// What makes a segment's changes known.
pub const TAG_BYTES: usize = 16;

/// What a file begins with: 8 bytes that say what it is, 32 of the key's id, 19 of the nonce.
pub const HEADER_BYTES: usize = 8 + 32 + PREFIX_BYTES;

/// The part of a segment's nonce that a file's have in common; 4 bytes are its number, and one is whether it is the last.
const PREFIX_BYTES: usize = 24 - 4 - 1;

/// Why content cannot be encrypted or decrypted.
#[derive(Debug, thiserror::Error)]
pub enum PrivateError {
    /// It begins with something else.
    #[error("it is not encrypted in a way that this platform knows")]
    Format,
    /// Under another key than the deployment's.
    #[error("it is encrypted with the key {found}, not with the deployment's, which is {expected}")]
    Key {
        /// Id of the key at hand.
        expected: Blake3Hash,
        /// Id of the key that it says.
        found: Blake3Hash,
    },
    /// No encrypted file is so long.
    #[error("it has {0} bytes, as no encrypted file can have; a part of it is missing")]
    Length(u64),
    /// A segment's tag is another one.
    #[error("segment {0} of the encrypted file is corrupt, or not where it belongs")]
    Segment(u32),
    /// A file with more segments than can be numbered.
    #[error("a file of more than 256 TiB cannot be encrypted")]
    TooLarge,
    /// A directory's entry is not sealed, or not with this key; or it is no name at all.
    #[error("the name {0:?} is none, or not encrypted with the deployment's key")]
    Name(String),
    /// It would be too long when it is sealed.
    #[error("the name {0:?} is longer than the {NAME_BYTES} bytes that a private file's may have")]
    NameTooLong(String),
    /// What a manifest says of the code is not sealed with this key, or of other code.
    #[error("what the manifest has sealed of the code {0} cannot be opened")]
    Sealed(ContentId),
    /// It is well encrypted, and not what the deployment recorded.
    #[error("the decrypted file has BLAKE3 {found}, not {expected}")]
    Blake3 {
        /// As it was recorded.
        expected: Blake3Hash,
        /// As it is.
        found: Blake3Hash,
    },
    /// The system.
    #[error("the system has no random numbers")]
    Random(#[from] getrandom::Error),
}
