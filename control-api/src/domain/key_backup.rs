//! The master key in a backup: sealed under a passphrase, so that the file alone opens nothing.

use std::io;
use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::pbkdf2::{PBKDF2_HMAC_SHA256, derive};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::master_key::Key;
use super::sealing::Seal;

/// What OWASP recommends for PBKDF2 with HMAC-SHA-256: half a second of work for each guess.
const ROUNDS: NonZeroU32 = NonZeroU32::MIN.saturating_add(599_999);

/// Bytes.
const SALT: usize = 16;

/// Where a key is sealed for.
const PLACE: [&str; 2] = ["backup", "master-key"];

/// Characters of a passphrase, at least.
const SHORTEST: usize = 12;

/// Keys: while it is rotated there are two.
const KEYS: std::ops::RangeInclusive<usize> = 1..=2;

/// A master key that a passphrase opens.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedKey {
    salt: String,
    sealed: String,
}

impl SealedKey {
    /// Seals the key, and the one before while it is rotated.
    ///
    /// # Errors
    /// When the passphrase is short.
    pub fn of(keys: &[Key], passphrase: &str) -> io::Result<Self> {
        if passphrase.chars().count() < SHORTEST {
            return Err(io::Error::other(format!("a passphrase has at least {SHORTEST} characters")));
        }
        let keys = Zeroizing::new(keys.iter().flat_map(Key::bytes).copied().collect::<Vec<u8>>());
        let mut salt = [0; SALT];
        getrandom::fill(&mut salt)?;
        let sealed = seal(passphrase, &salt)?.seal_bytes(&PLACE, &keys)?;
        Ok(Self { salt: BASE64.encode(salt), sealed: BASE64.encode(sealed) })
    }

    /// The keys, in the same order.
    ///
    /// # Errors
    /// When the passphrase is another one, or the backup was changed.
    pub fn open(&self, passphrase: &str) -> io::Result<Vec<Key>> {
        let salt = BASE64.decode(&self.salt).map_err(io::Error::other)?;
        let sealed = BASE64.decode(&self.sealed).map_err(io::Error::other)?;
        let bad = || io::Error::other("the passphrase is another one, or the backup was changed");
        let keys = seal(passphrase, &salt)?.unseal_bytes(&PLACE, &sealed).map_err(|_| bad())?;
        match keys.as_chunks() {
            (keys, []) if KEYS.contains(&keys.len()) => Ok(keys.iter().copied().map(Key::of).collect()),
            _ => Err(bad()),
        }
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
        let keys = [Key::of([7; 32]), Key::of([8; 32])];
        for keys in [&keys[..1], &keys] {
            let sealed = SealedKey::of(keys, "correct horse battery").unwrap();
            assert_eq!(sealed.open("correct horse battery").unwrap(), keys);
            assert!(sealed.open("correct horse batterz").is_err());
            assert!(SealedKey::of(keys, "short").is_err());
        }
    }
}
