//! Names of private files: sealed, so that a directory tells none, and always to the same text, so that one is found.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use super::{Cipher, PrivateError};
use crate::unixfs::is_name;

/// The longest name: sealed and as text it has 246 of the 255 bytes that a name may have.
pub const NAME_BYTES: usize = 144;

/// Names are made as long as a multiple of this, so that they do not tell their length.
const PAD_BYTES: usize = 16;

impl Cipher {
    /// The name under which a directory has a private file or directory.
    ///
    /// # Errors
    /// When it is none, or too long.
    pub fn seal_entry(&self, name: &str) -> Result<String, PrivateError> {
        if !is_name(name) {
            return Err(PrivateError::Name(name.to_owned()));
        }
        if name.len() > NAME_BYTES {
            return Err(PrivateError::NameTooLong(name.to_owned()));
        }
        let mut padded = name.as_bytes().to_vec();
        // Names have no NUL in them.
        padded.resize(name.len().next_multiple_of(PAD_BYTES), 0);
        let sealed = self.seal_name(padded).ok_or_else(|| PrivateError::Name(name.to_owned()))?;
        Ok(BASE64_URL_SAFE_NO_PAD.encode(sealed))
    }

    /// What an entry of a private directory is called.
    ///
    /// # Errors
    /// When it was not sealed with this key.
    pub fn open_entry(&self, sealed: &str) -> Result<String, PrivateError> {
        let opened = BASE64_URL_SAFE_NO_PAD.decode(sealed).ok();
        let padded = opened.and_then(|sealed| self.open_name(&sealed));
        let name = padded.and_then(|padded| {
            let name = String::from_utf8(padded).ok()?;
            Some(name.trim_end_matches('\0').to_owned())
        });
        // One that is sealed otherwise would not be found by its name.
        name.filter(|name| self.seal_entry(name).is_ok_and(|again| again == sealed))
            .ok_or_else(|| PrivateError::Name(sealed.chars().take(300).collect()))
    }
}

#[cfg(test)]
mod tests {
    use af_contract::limits;

    use super::super::new_key;
    use super::*;

    #[test]
    fn names_that_cannot_be_sealed_are_refused() {
        let cipher = Cipher::new(&new_key().unwrap());
        let longest = cipher.seal_entry(&"x".repeat(NAME_BYTES)).unwrap();
        assert!(longest.len() <= limits::ASSETS_NAME_BYTES, "{}", longest.len());
        for name in ["", ".", "..", "a/b", "a\0", &"x".repeat(NAME_BYTES + 1)] {
            assert!(cipher.seal_entry(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_length_shows_in_steps_only() {
        let cipher = Cipher::new(&new_key().unwrap());
        let length = |name: &str| cipher.seal_entry(name).unwrap().len();
        assert_eq!(length("a"), length("index.html.bakup"));
        assert!(length("a") < length("index.html.backup"));
    }

    proptest::proptest! {
        #[test]
        fn any_name_round_trips_and_shows_nothing(name in "[^/\0]{1,36}", other in "[^/\0]{1,36}") {
            let name = if is_name(&name) { name } else { "x".to_owned() };
            let cipher = Cipher::new(&new_key().unwrap());
            let sealed = cipher.seal_entry(&name).unwrap();
            proptest::prop_assert!(is_name(&sealed) && sealed.is_ascii());
            proptest::prop_assert_eq!(cipher.open_entry(&sealed).unwrap(), name.as_str());
            proptest::prop_assert_eq!(cipher.seal_entry(&name).unwrap(), sealed.as_str());
            proptest::prop_assert!(Cipher::new(&new_key().unwrap()).open_entry(&sealed).is_err());
            proptest::prop_assert!(cipher.open_entry(&other).is_err());
        }

        #[test]
        fn any_changed_name_is_refused(name in "[a-z]{1,40}", at: usize, to in "[A-Za-z0-9_-]") {
            let cipher = Cipher::new(&new_key().unwrap());
            let sealed = cipher.seal_entry(&name).unwrap();
            let at = at % sealed.len();
            let changed = format!("{}{to}{}", &sealed[..at], &sealed[at + 1..]);
            proptest::prop_assert!(changed == sealed || cipher.open_entry(&changed).is_err());
        }
    }
}
