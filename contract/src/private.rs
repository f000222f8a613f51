//! Private content: the key of a deployment's code and files, and what a manifest says of them.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroize;

use crate::Blake3Hash;

/// The one format that there is: what `af_content::private` writes.
pub const FORMAT: u64 = 1;

/// The most that a sealed identity may have, bytes: a code's is about 150.
const SEALED_BYTES: usize = 1024;

/// Makes a key's id, which is public, of the key. Never to be changed: manifests and files have the ids.
const ID: &str = "alternate-futures 2026-11-25 private content v1: key id";

/// What encrypts a deployment's code and files. Wiped when it is dropped, and never shown.
#[derive(Clone)]
pub struct ContentKey([u8; 32]);

/// The text is not 64 hex digits. It is not repeated: it may be a key with a slip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a content key is 64 hex digits")]
pub struct ContentKeyError;

/// What a manifest says of a deployment whose code and files are encrypted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Private {
    /// How: [`FORMAT`].
    pub format: u64,
    /// Id of the data key.
    pub key: Blake3Hash,
    /// What the code is when it is decrypted ([`crate::Code`]), sealed with the data key.
    pub code: Sealed,
}

/// Bytes that only who has the key can read.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(Vec<u8>);

impl ContentKey {
    /// Of 32 random bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// For who encrypts with it, or seals it.
    #[must_use]
    pub const fn reveal(&self) -> &[u8; 32] {
        &self.0
    }

    /// As text, for who sends it: 64 hex digits.
    #[must_use]
    pub fn to_hex(&self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }

    /// Names the key in public. Nobody can find another key with the same one.
    #[must_use]
    pub fn id(&self) -> Blake3Hash {
        Blake3Hash(blake3::derive_key(ID, &self.0))
    }
}

impl FromStr for ContentKey {
    type Err = ContentKeyError;

    fn from_str(text: &str) -> Result<Self, ContentKeyError> {
        blake3::Hash::from_hex(text).map(|bytes| Self(*bytes.as_bytes())).map_err(|_| ContentKeyError)
    }
}

impl PartialEq for ContentKey {
    fn eq(&self, other: &Self) -> bool {
        // blake3::Hash compares in constant time.
        blake3::Hash::from_bytes(self.0) == blake3::Hash::from_bytes(other.0)
    }
}

impl Eq for ContentKey {}

impl Drop for ContentKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for ContentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for ContentKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_hex())
    }
}

impl<'de> Deserialize<'de> for ContentKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Sealed {
    /// What was sealed.
    #[must_use]
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// For who opens it.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sealed bytes", self.0.len())
    }
}

impl Serialize for Sealed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Sealed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(SealedVisitor)
    }
}

struct SealedVisitor;

impl serde::de::Visitor<'_> for SealedVisitor {
    type Value = Sealed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {SEALED_BYTES} bytes")
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Sealed, E> {
        if bytes.len() > SEALED_BYTES {
            return Err(E::invalid_length(bytes.len(), &self));
        }
        Ok(Sealed(bytes.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_never_shown_but_to_who_sends_it() {
        let key = ContentKey::new([0xab; 32]);
        assert_eq!(format!("{key:?}"), "***");
        assert_eq!(key.to_hex().parse(), Ok(key.clone()));
        assert_eq!(serde_json::from_str::<ContentKey>(&serde_json::to_string(&key).unwrap()).unwrap(), key);
        let slip = format!("{}x", "ab".repeat(31));
        assert!(!slip.parse::<ContentKey>().unwrap_err().to_string().contains("abab"));
    }

    #[test]
    fn an_id_never_changes_and_is_not_the_key() {
        let id = ContentKey::new([7; 32]).id();
        assert_eq!(id.to_string(), "a18aa665aaa60f083f3ac7a90eb4e5d1ba947b0f9400d789f3e11e18d26d10aa");
        assert_ne!(id, ContentKey::new([8; 32]).id());
    }
}
