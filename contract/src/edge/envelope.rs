//! An answer to one request of an edge: sealed to a key that was made for that request, and signed by the control plane.
//!
//! It is the public half of the control plane's key for this answer (X25519, 32 bytes), the signature (Ed25519, 64 bytes), and the
//! text under ChaCha20-Poly1305. The cipher's key is HKDF-SHA256 of what both keys agree on, salted with the hash of the proof, so
//! it seals one text only. What is signed has that hash in it: an answer counts for the request that it was given to.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral};
use ring::digest::{SHA256, digest};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::SystemRandom;
use zeroize::Zeroizing;

use super::{EdgeError, KeyPair, PUBLIC_BYTES, PublicKey};

const CONTEXT: &[u8] = b"af edge feed 1\0";

const SIGNATURE_BYTES: usize = 64;

/// What stands before the text.
const HEAD_BYTES: usize = PUBLIC_BYTES + SIGNATURE_BYTES;

/// An edge's key for one answer.
pub struct Share {
    private: EphemeralPrivateKey,
    public: PublicKey,
}

impl Share {
    /// A new one.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn new() -> Result<Self, EdgeError> {
        let private = EphemeralPrivateKey::generate(&X25519, &SystemRandom::new());
        let private = private.map_err(|_| EdgeError::Random)?;
        let public = private.compute_public_key().map_err(|_| EdgeError::Random)?;
        Ok(Self { private, public: PublicKey::new(public.as_ref())? })
    }

    /// What goes into the proof.
    #[must_use]
    pub const fn public(&self) -> PublicKey {
        self.public
    }

    /// Opens the answer to the request with this proof, if the control plane with this feed key gave it.
    ///
    /// # Errors
    /// When it is another one's, or another request's.
    pub fn open(
        self,
        proof: &str,
        control: &PublicKey,
        answer: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, EdgeError> {
        let (theirs, rest) = answer.split_first_chunk::<PUBLIC_BYTES>().ok_or(EdgeError::Form)?;
        let (signature, sealed) = rest.split_first_chunk::<SIGNATURE_BYTES>().ok_or(EdgeError::Form)?;
        control.verify(&signed(proof, theirs, sealed), signature)?;
        let mut text = Zeroizing::new(sealed.to_vec());
        let key = cipher(self.private, theirs, proof)?;
        let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
        let length =
            key.open_in_place(nonce, Aad::empty(), &mut text).map_err(|_| EdgeError::Signature)?.len();
        text.truncate(length);
        Ok(text)
    }
}

/// Seals an answer to the request with this proof, which was verified. Of a long text there is one copy more then, and no other meanwhile.
///
/// # Errors
/// When the share in the proof is no key, or the system has no randomness.
pub fn seal(signer: &KeyPair, proof: &str, share: &PublicKey, text: &[u8]) -> Result<Vec<u8>, EdgeError> {
    let own = Share::new()?;
    let public = own.public;
    let key = cipher(own.private, share.bytes(), proof)?;
    let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
    // As long as it is not sealed, none of it is left behind.
    let mut sealed =
        Zeroizing::new(Vec::with_capacity(HEAD_BYTES + text.len() + CHACHA20_POLY1305.tag_len()));
    sealed.extend_from_slice(&[0; HEAD_BYTES]);
    sealed.extend_from_slice(text);
    let (_, body) = sealed.split_at_mut_checked(HEAD_BYTES).ok_or(EdgeError::Form)?;
    let tag = key.seal_in_place_separate_tag(nonce, Aad::empty(), body).map_err(|_| EdgeError::Form)?;
    sealed.extend_from_slice(tag.as_ref());
    let (head, body) = sealed.split_at_mut_checked(HEAD_BYTES).ok_or(EdgeError::Form)?;
    let signature = signer.sign(&signed(proof, public.bytes(), body));
    let said = public.bytes().iter().chain(signature.as_ref());
    head.iter_mut().zip(said).for_each(|(byte, said)| *byte = *said);
    Ok(std::mem::take(&mut *sealed))
}

fn signed(proof: &str, public: &[u8], sealed: &[u8]) -> Vec<u8> {
    let proof = digest(&SHA256, proof.as_bytes());
    let sealed = digest(&SHA256, sealed);
    [CONTEXT, proof.as_ref(), public, sealed.as_ref()].concat()
}

fn cipher(own: EphemeralPrivateKey, theirs: &[u8], proof: &str) -> Result<LessSafeKey, EdgeError> {
    let salt = Salt::new(HKDF_SHA256, digest(&SHA256, proof.as_bytes()).as_ref());
    let theirs = UnparsedPublicKey::new(&X25519, theirs);
    let key = agree_ephemeral(own, &theirs, |shared| {
        let derived = salt.extract(shared);
        let key = derived.expand(&[CONTEXT], &CHACHA20_POLY1305).map(UnboundKey::from);
        key.map(LessSafeKey::new)
    });
    key.map_err(|_| EdgeError::Form)?.map_err(|_| EdgeError::Form)
}
