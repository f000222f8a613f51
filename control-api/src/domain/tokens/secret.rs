//! The secrets of tokens: long enough that nobody guesses one, and kept as a hash.

use crate::domain::Error;

/// What every token that is made here starts with.
const PREFIX: &str = "af_live_";

/// Base62 characters after the prefix: 190 bits.
const SECRET: usize = 32;

pub(super) fn masked(secret: &str) -> String {
    format!("{}…", secret.chars().take(12).collect::<String>())
}

/// SHA-256: the secret has 190 bits, so there is nothing to slow a guesser down for.
pub(in crate::domain) fn hash(secret: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, secret.as_bytes()).as_ref());
    hash
}

pub(in crate::domain) fn random_secret() -> Result<String, Error> {
    Ok(format!("{PREFIX}{}", random_letters()?))
}

/// 32 letters and digits that cannot be guessed.
pub(in crate::domain) fn random_letters() -> Result<String, Error> {
    const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut secret = String::new();
    while secret.len() < SECRET {
        let mut random = [0; 64];
        getrandom::fill(&mut random).map_err(|error| Error::Internal(Box::new(error)))?;
        // Bytes from 248 on would make the first characters likelier.
        let fair = random.iter().filter(|byte| **byte < 248);
        let left = SECRET - secret.len();
        let letters = fair.filter_map(|byte| BASE62.get(usize::from(byte % 62)));
        secret.extend(letters.take(left).map(|letter| char::from(*letter)));
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_long_and_differ() {
        let (one, two) = (random_secret().unwrap(), random_secret().unwrap());
        assert_ne!(one, two);
        let letters = one.strip_prefix(PREFIX).unwrap();
        assert_eq!(letters.len(), SECRET);
        assert!(letters.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }
}
