//! The master key in a backup: sealed under a passphrase, so that the file alone opens nothing.

use std::io;
use std::num::NonZeroU32;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::pbkdf2::{PBKDF2_HMAC_SHA256, derive};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::sealing::Seal;

/// What OWASP recommends for PBKDF2 with HMAC-SHA-256: half a second of work for each guess.
const ROUNDS: NonZeroU32 = NonZeroU32::MIN.saturating_add(599_999);

/// Bytes.
const SALT: usize = 16;

/// Where a key is sealed for.
const PLACE: [&str; 2] = ["backup", "master-key"];

/// Characters of a passphrase, at least.
const SHORTEST: usize = 12;

/// A master key that a passphrase opens.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedKey {
    salt: String,
    sealed: String,
}

impl SealedKey {
    /// Seals the key in a file.
    ///
    /// # Errors
    /// When the passphrase is short, or the file cannot be read or is no key.
    pub fn of(file: &Path, passphrase: &str) -> io::Result<Self> {
        if passphrase.chars().count() < SHORTEST {
            return Err(io::Error::other(format!("a passphrase has at least {SHORTEST} characters")));
        }
        let key = Zeroizing::new(std::fs::read(file)?);
        if key.len() != 32 {
            return Err(io::Error::other("the master key's file is none"));
        }
        let mut salt = [0; SALT];
        getrandom::fill(&mut salt)?;
        let sealed = seal(passphrase, &salt)?.seal_bytes(&PLACE, &key)?;
        Ok(Self { salt: BASE64.encode(salt), sealed: BASE64.encode(sealed) })
    }

    /// The key.
    ///
    /// # Errors
    /// When the passphrase is another one, or the backup was changed.
    pub fn open(&self, passphrase: &str) -> io::Result<Zeroizing<Vec<u8>>> {
        let salt = BASE64.decode(&self.salt).map_err(io::Error::other)?;
        let sealed = BASE64.decode(&self.sealed).map_err(io::Error::other)?;
        let key = seal(passphrase, &salt)?.unseal_bytes(&PLACE, &sealed);
        key.map_err(|_| io::Error::other("the passphrase is another one, or the backup was changed"))
    }
}

fn seal(passphrase: &str, salt: &[u8]) -> io::Result<Seal> {
    let mut key = Zeroizing::new([0; 32]);
    derive(PBKDF2_HMAC_SHA256, ROUNDS, salt, passphrase.as_bytes(), &mut *key);
    Seal::new(&key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_passphrase_opens_a_key() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("master.key");
        std::fs::write(&file, [7; 32]).unwrap();
        let sealed = SealedKey::of(&file, "correct horse battery").unwrap();
        assert_eq!(*sealed.open("correct horse battery").unwrap(), [7; 32]);
        assert!(sealed.open("correct horse batterz").is_err());
        assert!(SealedKey::of(&file, "short").is_err());
        std::fs::write(&file, [7; 31]).unwrap();
        assert!(SealedKey::of(&file, "correct horse battery").is_err());
    }
}
