//! Sealing of settings and keys: what the database holds is of no use without the master key, which is in a file of
//! its own.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use zeroize::Zeroizing;

/// The master key, or a key that is sealed with it.
pub struct Seal {
    key: LessSafeKey,
    sessions: hmac::Key,
}

/// The master key, or what was sealed with it, is not what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a sealed value cannot be opened with this master key")]
pub struct Sealed;

impl Seal {
    /// Reads the key, or makes it on the first start, mode 0600.
    ///
    /// # Errors
    /// When the file cannot be read or made, or is no key.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut key = Zeroizing::new([0; 32]);
        match File::open(path) {
            Ok(mut file) => file.read_exact(&mut *key)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                getrandom::fill(&mut *key)?;
                let partial = path.with_extension("partial");
                let mut options = OpenOptions::new();
                let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
                file.write_all(&*key)?;
                file.sync_all()?;
                fs::rename(&partial, path)?;
            }
            Err(error) => return Err(error),
        }
        Self::new(&key)
    }

    /// Of a key that is at hand.
    ///
    /// # Errors
    /// Never, for a key of this length.
    pub fn new(key: &[u8; 32]) -> io::Result<Self> {
        let unbound = UnboundKey::new(&CHACHA20_POLY1305, key).map_err(unspecified)?;
        // A key of its own: nothing that is signed says anything about what is sealed.
        let sessions = Zeroizing::new(blake3::derive_key("af control-api 2026-11-26 sessions", key));
        Ok(Self { key: LessSafeKey::new(unbound), sessions: hmac::Key::new(hmac::HMAC_SHA256, &*sessions) })
    }

    /// What sessions are signed with.
    pub(crate) fn session_key(&self) -> &hmac::Key {
        &self.sessions
    }

    /// Seals a value for one place: it cannot be opened at another.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn seal(&self, place: &[&str], value: &str) -> io::Result<Vec<u8>> {
        self.seal_bytes(place, value.as_bytes())
    }

    /// As [`Self::seal`], of any bytes.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn seal_bytes(&self, place: &[&str], value: &[u8]) -> io::Result<Vec<u8>> {
        // Random nonces of 96 bits are safe for four billion values.
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce)?;
        let mut sealed = value.to_vec();
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad(place), &mut sealed)
            .map_err(unspecified)?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// Opens what [`Self::seal`] made for this place.
    ///
    /// # Errors
    /// When it was changed, or sealed with another key or for another place.
    pub fn unseal(&self, place: &[&str], sealed: &[u8]) -> Result<String, Sealed> {
        String::from_utf8(self.unseal_bytes(place, sealed)?.to_vec()).map_err(|_| Sealed)
    }

    /// Opens what [`Self::seal_bytes`] made for this place.
    ///
    /// # Errors
    /// As [`Self::unseal`].
    pub fn unseal_bytes(&self, place: &[&str], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Sealed> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(Sealed)?;
        let mut value = Zeroizing::new(sealed.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = self.key.open_in_place(nonce, aad(place), &mut value).map_err(|_| Sealed)?.len();
        value.truncate(length);
        Ok(value)
    }
}

fn unspecified(error: ring::error::Unspecified) -> io::Error {
    io::Error::other(error.to_string())
}

/// Names have no NUL in them.
fn aad(place: &[&str]) -> Aad<Vec<u8>> {
    Aad::from(place.join("\0").into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_opens_where_it_was_sealed_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        let sealed = Seal::open(&path).unwrap().seal(&["fn_1", "KEY"], "secret").unwrap();
        let seal = Seal::open(&path).unwrap();
        assert_eq!(seal.unseal(&["fn_1", "KEY"], &sealed).as_deref(), Ok("secret"));
        assert_eq!(seal.unseal(&["fn_2", "KEY"], &sealed), Err(Sealed));
        assert_eq!(seal.unseal(&["fn_1", "OTHER"], &sealed), Err(Sealed));
        let other = Seal::open(&dir.path().join("other.key")).unwrap();
        assert_eq!(other.unseal(&["fn_1", "KEY"], &sealed), Err(Sealed));
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert_eq!(seal.unseal(&["fn_1", "KEY"], &damaged), Err(Sealed));
            assert_eq!(seal.unseal(&["fn_1", "KEY"], &sealed[..at]), Err(Sealed));
        }
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
    }
}
