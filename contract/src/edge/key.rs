//! Ed25519 keys.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::EdgeError;

/// Bytes of a public key.
pub const PUBLIC_BYTES: usize = 32;

/// A public key; as text, base64url.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct PublicKey([u8; PUBLIC_BYTES]);

/// A key pair.
pub struct KeyPair(Ed25519KeyPair);

impl KeyPair {
    /// A new one, as PKCS #8.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn generate() -> Result<Zeroizing<Vec<u8>>, EdgeError> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| EdgeError::Random)?;
        Ok(Zeroizing::new(document.as_ref().to_vec()))
    }

    /// Of what [`Self::generate`] made.
    ///
    /// # Errors
    /// When it is something else.
    pub fn from_pkcs8(document: &[u8]) -> Result<Self, EdgeError> {
        Ed25519KeyPair::from_pkcs8(document).map(Self).map_err(|_| EdgeError::Form)
    }

    /// Its public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        let mut public = [0; PUBLIC_BYTES];
        public.copy_from_slice(self.0.public_key().as_ref());
        PublicKey(public)
    }

    pub(super) fn sign(&self, message: &[u8]) -> ring::signature::Signature {
        self.0.sign(message)
    }
}

impl PublicKey {
    /// Of its bytes.
    ///
    /// # Errors
    /// When they are more or fewer.
    pub fn new(bytes: &[u8]) -> Result<Self, EdgeError> {
        bytes.try_into().map(Self).map_err(|_| EdgeError::Form)
    }

    /// Its bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; PUBLIC_BYTES] {
        &self.0
    }

    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), EdgeError> {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature).map_err(|_| EdgeError::Signature)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = EdgeError;

    fn from_str(text: &str) -> Result<Self, EdgeError> {
        Self::new(&BASE64.decode(text).map_err(|_| EdgeError::Form)?)
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

impl TryFrom<String> for PublicKey {
    type Error = EdgeError;

    fn try_from(text: String) -> Result<Self, EdgeError> {
        text.parse()
    }
}
