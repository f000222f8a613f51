//! Sealing of settings and keys: what the database holds is of no use without the master key.

use std::io;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

/// The master key, or a key that is sealed with it.
pub struct Seal {
    key: LessSafeKey,
}

/// The master key, or what was sealed with it, is not what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a sealed value cannot be opened with this master key")]
pub struct Sealed;

impl Seal {
    /// Of a key that is at hand.
    ///
    /// # Errors
    /// Never, for a key of this length.
    pub fn new(key: &[u8; 32]) -> io::Result<Self> {
        let key = UnboundKey::new(&CHACHA20_POLY1305, key).map_err(unspecified)?;
        Ok(Self { key: LessSafeKey::new(key) })
    }

    /// Seals a value for one place: it cannot be opened at another.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn seal(&self, place: &[&str], value: &str) -> io::Result<Vec<u8>> {
        self.seal_bytes(place, value.as_bytes())
    }

    /// How long the value is.
    #[must_use]
    pub fn length(sealed: &[u8]) -> usize {
        sealed.len().saturating_sub(NONCE_LEN + CHACHA20_POLY1305.tag_len())
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
        let seal = Seal::new(&[1; 32]).unwrap();
        let sealed = seal.seal(&["fn_1", "KEY"], "secret").unwrap();
        assert_eq!(seal.unseal(&["fn_1", "KEY"], &sealed).as_deref(), Ok("secret"));
        assert_eq!(seal.unseal(&["fn_2", "KEY"], &sealed), Err(Sealed));
        assert_eq!(seal.unseal(&["fn_1", "OTHER"], &sealed), Err(Sealed));
        let other = Seal::new(&[2; 32]).unwrap();
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
