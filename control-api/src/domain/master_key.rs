//! The master key: what the keys of projects and of domains' certificates are sealed with. It is in a file of its own, or
//! given by whoever starts the program. While it is rotated there are two: one seals, both open.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

use super::sealing::{Seal, Sealed};

/// A key of 32 bytes, which is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Zeroizing<[u8; 32]>);

/// A text that is no key.
#[derive(Debug, thiserror::Error)]
#[error(
    "a master key is 32 random bytes, written as 64 hex digits or in base64, such as `openssl rand -hex 32` prints"
)]
pub struct BadKey;

/// Where the master key comes from.
#[derive(Clone, Debug)]
pub enum MasterKey {
    /// A file, made on the first start. While the key is rotated, the next one is beside it.
    File(PathBuf),
    /// Somebody has it.
    Given {
        /// What seals.
        key: Key,
        /// What opens, too: the one before, until everything is sealed with this one.
        previous: Option<Key>,
    },
}

/// Whether keys are where a server looks for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// There are none.
    Missing,
    /// All of these.
    These,
    /// There are others.
    Others,
}

/// The keys in use.
#[derive(Debug)]
pub(crate) struct Keyring {
    file: Option<PathBuf>,
    ring: RwLock<Arc<Ring>>,
}

struct Ring {
    seals: Seal,
    opens: Option<Seal>,
}

impl Key {
    /// A new one.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn random() -> io::Result<Self> {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *key)?;
        Ok(Self(key))
    }

    /// Of bytes that are at hand.
    pub(crate) fn of(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn seal(&self) -> io::Result<Seal> {
        Seal::new(&self.0)
    }

    fn read(path: &Path) -> io::Result<Option<Self>> {
        let mut key = Zeroizing::new([0; 32]);
        match File::open(path) {
            Ok(mut file) => file.read_exact(&mut *key)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
        Ok(Some(Self(key)))
    }

    /// Whole or not at all, readable by this user only.
    fn write(&self, path: &Path) -> io::Result<()> {
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
        file.write_all(&*self.0)?;
        file.sync_all()?;
        fs::rename(&partial, path)?;
        sync_directory(path)
    }
}

impl FromStr for Key {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        let text = text.trim();
        let mut key = Zeroizing::new([0; 32]);
        if text.len() == 64 && text.is_ascii() {
            for (at, byte) in key.iter_mut().enumerate() {
                let digits = text.get(2 * at..2 * at + 2).ok_or(BadKey)?;
                *byte = u8::from_str_radix(digits, 16).map_err(|_| BadKey)?;
            }
            return Ok(Self(key));
        }
        let decoded = Zeroizing::new(BASE64_STANDARD.decode(text).map_err(|_| BadKey)?);
        key.copy_from_slice(<&[u8; 32]>::try_from(decoded.as_slice()).map_err(|_| BadKey)?);
        Ok(Self(key))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl From<PathBuf> for MasterKey {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl fmt::Display for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "in {}", path.display()),
            Self::Given { .. } => f.write_str("that was given"),
        }
    }
}

impl MasterKey {
    /// The keys that there are: first what seals, then what opens, too.
    ///
    /// # Errors
    /// When the file cannot be read, or is not there.
    pub fn keys(&self) -> io::Result<Vec<Key>> {
        let keys: Vec<Key> = match self {
            // In this order, as the next one takes the other's place.
            Self::File(path) => [Key::read(&next(path))?, Key::read(path)?].into_iter().flatten().collect(),
            Self::Given { key, previous } => Some(key).into_iter().chain(previous).cloned().collect(),
        };
        if keys.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(keys) }
    }

    /// Whether all these keys are here.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn presence(&self, keys: &[Key]) -> io::Result<Presence> {
        match self.keys() {
            Ok(here) if keys.iter().all(|key| here.contains(key)) => Ok(Presence::These),
            Ok(_) => Ok(Presence::Others),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Presence::Missing),
            Err(error) => Err(error),
        }
    }

    /// Writes keys, as [`Self::keys`] has them, where there are none: to the file, and beside it.
    ///
    /// # Errors
    /// When the file cannot be written, or this is no file.
    pub fn restore(&self, keys: &[Key]) -> io::Result<()> {
        let Self::File(path) = self else { return Err(io::ErrorKind::Unsupported.into()) };
        match keys {
            [key] => key.write(path),
            [seals, opens] => opens.write(path).and_then(|()| seals.write(&next(path))),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }
}

impl Keyring {
    /// Reads the key; one in a file is made if there is none.
    pub(crate) fn open(key: &MasterKey) -> io::Result<Self> {
        let (file, ring) = match key {
            MasterKey::File(path) => {
                if Key::read(path)?.is_none() && Key::read(&next(path))?.is_none() {
                    Key::random()?.write(path)?;
                }
                (Some(path.clone()), Ring::read(path)?)
            }
            MasterKey::Given { key, previous } => {
                let opens = previous.as_ref().map(Key::seal).transpose()?;
                (None, Ring { seals: key.seal()?, opens })
            }
        };
        Ok(Self { file, ring: RwLock::new(Arc::new(ring)) })
    }

    /// Whether there is a key, so that opening makes none.
    pub(crate) fn is_there(key: &MasterKey) -> bool {
        match key {
            MasterKey::File(path) => path.exists() || next(path).exists(),
            MasterKey::Given { .. } => true,
        }
    }

    /// Seals within a transaction that may write: the key that is in the file then is the one to seal with, because whoever
    /// rotates it ends that in such a transaction, too.
    pub(crate) fn seal_bytes(&self, place: &[&str], value: &[u8]) -> io::Result<Vec<u8>> {
        self.refresh()?;
        self.ring().seals.seal_bytes(place, value)
    }

    /// Opens what was sealed with any of the keys.
    pub(crate) fn unseal_bytes(&self, place: &[&str], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Sealed> {
        let opened = self.ring().unseal(place, sealed);
        match &self.file {
            // Another process may have rotated it.
            Some(_) if opened.is_err() && self.refresh().is_ok() => self.ring().unseal(place, sealed),
            _ => opened,
        }
    }

    /// As [`Self::unseal_bytes`], of text.
    pub(crate) fn unseal(&self, place: &[&str], sealed: &[u8]) -> Result<String, Sealed> {
        String::from_utf8(self.unseal_bytes(place, sealed)?.to_vec()).map_err(|_| Sealed)
    }

    /// Whether it was sealed with the key that seals now.
    pub(crate) fn is_current(&self, place: &[&str], sealed: &[u8]) -> bool {
        self.ring().seals.unseal_bytes(place, sealed).is_ok()
    }

    /// Whether there is another key that opens.
    pub(crate) fn is_rotating(&self) -> bool {
        self.ring().opens.is_some()
    }

    /// Makes the next key, which seals from now on, unless there is one already.
    pub(crate) fn begin(&self) -> io::Result<()> {
        let Some(path) = &self.file else { return Ok(()) };
        if Key::read(&next(path))?.is_none() {
            Key::random()?.write(&next(path))?;
        }
        self.refresh()
    }

    /// Makes the next key the only one.
    pub(crate) fn finish(&self) -> io::Result<()> {
        let Some(path) = &self.file else { return Ok(()) };
        fs::rename(next(path), path)?;
        sync_directory(path)?;
        self.refresh()
    }

    fn refresh(&self) -> io::Result<()> {
        let Some(path) = &self.file else { return Ok(()) };
        let ring = Arc::new(Ring::read(path)?);
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = ring;
        Ok(())
    }

    fn ring(&self) -> Arc<Ring> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Ring {
    fn read(path: &Path) -> io::Result<Self> {
        // The next one first: it takes the other's place between the two reads at worst, and then nothing is sealed with
        // the old one any more.
        let next = Key::read(&next(path))?;
        let current = Key::read(path)?;
        match (next, current) {
            (Some(next), current) => {
                let opens = current.as_ref().map(Key::seal).transpose()?;
                Ok(Self { seals: next.seal()?, opens })
            }
            (None, Some(current)) => Ok(Self { seals: current.seal()?, opens: None }),
            (None, None) => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn unseal(&self, place: &[&str], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Sealed> {
        let opened = self.seals.unseal_bytes(place, sealed);
        match &self.opens {
            Some(other) if opened.is_err() => other.unseal_bytes(place, sealed),
            _ => opened,
        }
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where the next key is while the master key is rotated.
fn next(path: &Path) -> PathBuf {
    let mut next = path.as_os_str().to_owned();
    next.push(".next");
    next.into()
}

fn sync_directory(path: &Path) -> io::Result<()> {
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: [&str; 2] = ["prj_1", "key"];

    #[test]
    fn a_key_is_hex_or_base64_and_nothing_else() {
        let hex: Key = "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20".parse().unwrap();
        let base64: Key = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=\n".parse().unwrap();
        assert_eq!(*hex.0, *base64.0);
        for bad in ["", "secret", "AQID", &"0g".repeat(32), &"ä".repeat(32), &"00".repeat(33)] {
            let error = bad.parse::<Key>().unwrap_err().to_string();
            assert!(bad.is_empty() || !error.contains(bad), "{error}");
        }
        assert_eq!(format!("{hex:?}"), "***");
    }

    #[test]
    fn a_program_that_runs_follows_the_file_through_a_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let path = MasterKey::File(dir.path().join("master.key"));
        let serving = Keyring::open(&path).unwrap();
        let old = serving.seal_bytes(&PLACE, b"secret").unwrap();
        let rotating = Keyring::open(&path).unwrap();
        rotating.begin().unwrap();
        rotating.begin().unwrap();
        assert!(rotating.is_rotating() && !rotating.is_current(&PLACE, &old));
        let new = rotating.seal_bytes(&PLACE, b"secret").unwrap();
        for keys in [&serving, &rotating] {
            assert_eq!(keys.unseal(&PLACE, &old).as_deref(), Ok("secret"));
            assert_eq!(keys.unseal(&PLACE, &new).as_deref(), Ok("secret"));
        }
        let late = serving.seal_bytes(&PLACE, b"secret").unwrap();
        rotating.finish().unwrap();
        let restarted = Keyring::open(&path).unwrap();
        assert!(!restarted.is_rotating() && restarted.is_current(&PLACE, &late));
        assert_eq!(restarted.unseal(&PLACE, &old), Err(Sealed));
        let after = serving.seal_bytes(&PLACE, b"secret").unwrap();
        assert!(restarted.is_current(&PLACE, &after), "it has read the file again");
    }
}
