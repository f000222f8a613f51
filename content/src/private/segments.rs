//! The segments of one file: encrypted and decrypted one at a time, each for its place in this file only.

use chacha20poly1305::XNonce;
use chacha20poly1305::aead::AeadInOut;

use super::{Cipher, HEADER_BYTES, PREFIX_BYTES, PrivateError};
use af_contract::Blake3Hash;

/// What an encrypted file of version 1 begins with.
const MAGIC: [u8; 8] = *b"af-priv\x01";

/// What encrypts or decrypts the segments of one file.
#[derive(Clone, Debug)]
pub struct FileCipher {
    cipher: Cipher,
    header: [u8; HEADER_BYTES],
    prefix: [u8; PREFIX_BYTES],
}

impl FileCipher {
    /// For a new file.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn create(cipher: &Cipher) -> Result<Self, PrivateError> {
        // 152 random bits: no two files of a key will ever have the same.
        let mut prefix = [0; PREFIX_BYTES];
        getrandom::fill(&mut prefix)?;
        let mut header = [0; HEADER_BYTES];
        let parts = MAGIC.iter().chain(&cipher.id().0).chain(&prefix);
        header.iter_mut().zip(parts).for_each(|(to, from)| *to = *from);
        Ok(Self { cipher: cipher.clone(), header, prefix })
    }

    /// For the file that begins with this header.
    ///
    /// # Errors
    /// When it is of no encrypted file, or of one that is encrypted with another key.
    pub fn read(cipher: &Cipher, header: &[u8; HEADER_BYTES]) -> Result<Self, PrivateError> {
        let parts = header.strip_prefix(&MAGIC).and_then(|rest| rest.split_first_chunk::<32>());
        let (id, prefix) = parts.ok_or(PrivateError::Format)?;
        let prefix = prefix.try_into().map_err(|_| PrivateError::Format)?;
        let (expected, found) = (*cipher.id(), Blake3Hash(*id));
        if expected != found {
            return Err(PrivateError::Key { expected, found });
        }
        Ok(Self { cipher: cipher.clone(), header: *header, prefix })
    }

    /// What the file begins with.
    #[must_use]
    pub const fn header(&self) -> &[u8; HEADER_BYTES] {
        &self.header
    }

    /// Encrypts a segment in its place, and adds its tag.
    ///
    /// # Errors
    /// When it is longer than a segment can be, by gigabytes.
    pub fn seal(&self, number: u32, last: bool, segment: &mut Vec<u8>) -> Result<(), PrivateError> {
        let sealed = self.cipher.files().encrypt_in_place(&self.nonce(number, last), &self.header, segment);
        sealed.map_err(|_| PrivateError::TooLarge)
    }

    /// Decrypts a segment in its place, and takes its tag off.
    ///
    /// # Errors
    /// When it was changed, or is another segment or another file's.
    pub fn open(&self, number: u32, last: bool, segment: &mut Vec<u8>) -> Result<(), PrivateError> {
        let opened = self.cipher.files().decrypt_in_place(&self.nonce(number, last), &self.header, segment);
        opened.map_err(|_| PrivateError::Segment(number))
    }

    fn nonce(&self, number: u32, last: bool) -> XNonce {
        let mut nonce = [0; 24];
        let parts = self.prefix.into_iter().chain(number.to_be_bytes()).chain([u8::from(last)]);
        nonce.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
        XNonce::from(nonce)
    }
}
