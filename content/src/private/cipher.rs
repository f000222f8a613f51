//! What is derived from a deployment's key, and the small things that are sealed with it: what a manifest says of code.

use std::fmt;
use std::sync::Arc;

use af_contract::private::Sealed;
use af_contract::{Blake3Hash, Code, ContentId, ContentKey};
use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use super::PrivateError;

/// What each key is for. Never to be changed: they decide what stored content is read as.
const FILES: &str = "alternate-futures 2026-11-25 private content v1: files";
const NAMES: &str = "alternate-futures 2026-11-25 private content v1: names";
const NAME_NONCES: &str = "alternate-futures 2026-11-25 private content v1: nonces of names";
const MANIFESTS: &str = "alternate-futures 2026-11-25 private content v1: manifests";

const NONCE_BYTES: usize = 24;

/// A new data key.
///
/// # Errors
/// When the system has no randomness.
pub fn new_key() -> Result<ContentKey, PrivateError> {
    let mut key = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *key)?;
    Ok(ContentKey::new(*key))
}

/// A data key, ready for use. Cheap to clone; its keys are wiped with the last clone.
#[derive(Clone)]
pub struct Cipher(Arc<Keys>);

struct Keys {
    id: Blake3Hash,
    files: XChaCha20Poly1305,
    names: XChaCha20Poly1305,
    name_nonces: Zeroizing<[u8; 32]>,
    manifests: XChaCha20Poly1305,
}

impl Cipher {
    /// Of a deployment's key.
    #[must_use]
    pub fn new(key: &ContentKey) -> Self {
        let derived = |context| Zeroizing::new(blake3::derive_key(context, key.reveal()));
        let cipher = |context| XChaCha20Poly1305::new((&*derived(context)).into());
        Self(Arc::new(Keys {
            id: key.id(),
            files: cipher(FILES),
            names: cipher(NAMES),
            name_nonces: derived(NAME_NONCES),
            manifests: cipher(MANIFESTS),
        }))
    }

    /// The key's id.
    #[must_use]
    pub fn id(&self) -> &Blake3Hash {
        &self.0.id
    }

    /// Seals what code is in clear, for the manifest of a deployment whose code is `public` when it is encrypted.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn seal_code(&self, code: &Code, public: &ContentId) -> Result<Sealed, PrivateError> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce)?;
        let bytes = serde_ipld_dagcbor::to_vec(code).map_err(|_| PrivateError::Sealed(*public))?;
        let place = public.to_string();
        let sealed = seal(&self.0.manifests, &nonce, place.as_bytes(), bytes);
        sealed.map(Sealed::new).ok_or(PrivateError::Sealed(*public))
    }

    /// What the code under `public` is when it is decrypted.
    ///
    /// # Errors
    /// When it was sealed with another key, or for other code.
    pub fn open_code(&self, sealed: &Sealed, public: &ContentId) -> Result<Code, PrivateError> {
        let place = public.to_string();
        let opened = open(&self.0.manifests, place.as_bytes(), sealed.as_bytes());
        opened
            .and_then(|bytes| serde_ipld_dagcbor::from_slice(&bytes).ok())
            .ok_or(PrivateError::Sealed(*public))
    }

    pub(super) fn files(&self) -> &XChaCha20Poly1305 {
        &self.0.files
    }

    /// Seals a name, always to the same bytes. Two names have two nonces, so none is used for two things.
    pub(super) fn seal_name(&self, name: Vec<u8>) -> Option<Vec<u8>> {
        let hash = blake3::keyed_hash(&self.0.name_nonces, &name);
        let (nonce, _) = hash.as_bytes().split_first_chunk()?;
        seal(&self.0.names, nonce, &[], name)
    }

    pub(super) fn open_name(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        open(&self.0.names, &[], sealed)
    }
}

/// The nonce, the encrypted bytes, and their tag.
fn seal(
    cipher: &XChaCha20Poly1305,
    nonce: &[u8; NONCE_BYTES],
    place: &[u8],
    mut bytes: Vec<u8>,
) -> Option<Vec<u8>> {
    cipher.encrypt_in_place(&XNonce::from(*nonce), place, &mut bytes).ok()?;
    Some([nonce.as_slice(), &bytes].concat())
}

fn open(cipher: &XChaCha20Poly1305, place: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, encrypted) = sealed.split_first_chunk::<NONCE_BYTES>()?;
    let mut bytes = encrypted.to_vec();
    cipher.decrypt_in_place(&XNonce::from(*nonce), place, &mut bytes).ok()?;
    Some(bytes)
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cipher").field("id", &self.0.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use af_contract::World;

    use super::*;

    fn code(bytes: &[u8]) -> Code {
        let cid = crate::identify(af_contract::Codec::Raw, bytes);
        Code { cid, blake3: blake3::hash(bytes).into(), size: bytes.len() as u64, world: World::Proxy02 }
    }

    #[test]
    fn what_is_sealed_of_code_opens_with_its_key_and_at_its_place_only() {
        let (clear, public, other) = (code(b"clear"), code(b"public").cid, code(b"other").cid);
        let cipher = Cipher::new(&new_key().unwrap());
        let sealed = cipher.seal_code(&clear, &public).unwrap();
        assert_eq!(cipher.open_code(&sealed, &public).unwrap(), clear);
        assert_ne!(cipher.seal_code(&clear, &public).unwrap(), sealed, "no two are alike");
        assert!(matches!(cipher.open_code(&sealed, &other), Err(PrivateError::Sealed(id)) if id == other));
        assert!(Cipher::new(&new_key().unwrap()).open_code(&sealed, &public).is_err());
        for at in 0..sealed.as_bytes().len() {
            let mut damaged = sealed.as_bytes().to_vec();
            damaged[at] ^= 1;
            assert!(cipher.open_code(&Sealed::new(damaged), &public).is_err(), "byte {at}");
            assert!(cipher.open_code(&Sealed::new(sealed.as_bytes()[..at].to_vec()), &public).is_err());
        }
    }

    #[test]
    fn a_cipher_shows_its_id_and_nothing_else() {
        let key = ContentKey::new([7; 32]);
        assert_eq!(format!("{:?}", Cipher::new(&key)), format!("Cipher {{ id: {}, .. }}", key.id()));
    }
}
