//! Compiled code on this node's disk. It is native code, so a file counts only when its tag, a keyed
//! BLAKE3 under a key that this node alone has, matches: who can write the files but not read the
//! key cannot make the node run anything.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use af_contract::Blake3Hash;
use memmap2::Mmap;
use tracing::warn;

use crate::sandbox::Host;

const TAG_BYTES: usize = 32;

/// Of the files' layout: those of another one are not authentic.
const FORMAT: u8 = 3;

/// More than this is hashed on all cores, bytes.
const PARALLEL: usize = 4 << 20;

/// A directory of artifacts.
pub struct ArtifactDir {
    dir: PathBuf,
    key: [u8; 32],
}

/// Names a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// What it holds.
    pub kind: Kind,
    /// For what, and for which engine.
    pub key: Key,
}

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A serialized component.
    Program,
    /// The initial memory of a component, and the hash of what was compiled without it.
    Memory,
}

/// For what, and for which engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Of a component, or of what is left of it without its memory.
    pub hash: Blake3Hash,
    /// The engine's version and settings: what was made under other ones is never found.
    pub compatibility: u64,
}

impl Key {
    /// For an engine.
    pub fn new(hash: Blake3Hash, host: &Host) -> Self {
        Self { hash, compatibility: host.compatibility }
    }
}

/// An authentic file.
pub struct Authentic {
    file: File,
    map: Mmap,
    length: usize,
}

impl Authentic {
    /// What it holds.
    pub fn bytes(&self) -> &[u8] {
        self.map.get(..self.length).unwrap_or_default()
    }

    /// Where it can be opened while this lives; what is there is the file that was checked, also when
    /// another one has its name by now.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }

    /// The file itself, to be mapped.
    pub fn into_file(self) -> File {
        self.file
    }
}

impl ArtifactDir {
    /// Opens or makes the directory, mode 0700, and its key, mode 0600.
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        fs::set_permissions(dir, Permissions::from_mode(0o700))?;
        let key = read_or_make_key(dir)?;
        Ok(Self { dir: dir.to_owned(), key })
    }

    /// A file, if it is here and authentic.
    pub fn load(&self, name: &Name) -> Option<Authentic> {
        let path = self.path(name);
        // SAFETY: these files are replaced, never written to.
        let opened = File::open(&path).and_then(|file| Ok((unsafe { Mmap::map(&file) }?, file)));
        let (map, file) = match opened {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                warn!(path = %path.display(), %error, "a compiled artifact cannot be read; compiling again");
                return None;
            }
        };
        let (bytes, tag) = map.split_last_chunk::<TAG_BYTES>()?;
        // blake3::Hash compares in constant time.
        if hash(self.hasher(name), bytes) != blake3::Hash::from_bytes(*tag) {
            warn!(path = %path.display(), "a compiled artifact is not authentic; compiling again");
            return None;
        }
        let length = bytes.len();
        Some(Authentic { file, map, length })
    }

    /// Keeps a file. Not durable on purpose: a lost or torn file is made again.
    pub fn save(&self, name: &Name, parts: &[&[u8]]) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        let mut hasher = self.hasher(name);
        for bytes in parts {
            hasher.update(bytes);
            file.write_all(bytes)?;
        }
        file.write_all(hasher.finalize().as_bytes())?;
        file.persist(self.path(name)).map_err(|error| error.error)?;
        Ok(())
    }

    fn path(&self, name: &Name) -> PathBuf {
        let kind = match name.kind {
            Kind::Program => "cwasm",
            Kind::Memory => "memory",
        };
        self.dir.join(format!("{}-{:016x}.{kind}", name.key.hash, name.key.compatibility))
    }

    /// Binds a file to its name, so that no authentic file stands for another.
    fn hasher(&self, name: &Name) -> blake3::Hasher {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&[FORMAT, name.kind as u8]);
        hasher.update(&name.key.hash.0).update(&name.key.compatibility.to_le_bytes());
        hasher
    }
}

fn hash(mut hasher: blake3::Hasher, bytes: &[u8]) -> blake3::Hash {
    if bytes.len() > PARALLEL {
        hasher.update_rayon(bytes)
    } else {
        hasher.update(bytes)
    };
    hasher.finalize()
}

fn read_or_make_key(dir: &Path) -> io::Result<[u8; 32]> {
    let path = dir.join("key");
    let mut key = [0; 32];
    match File::open(&path) {
        Ok(mut file) => {
            file.read_exact(&mut key)?;
            Ok(key)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            getrandom::fill(&mut key)?;
            let partial = dir.join("key.partial");
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
            file.write_all(&key)?;
            file.sync_all()?;
            fs::rename(&partial, &path)?;
            Ok(key)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key { hash: Blake3Hash([1; 32]), compatibility: 7 };
    const NAME: Name = Name { kind: Kind::Program, key: KEY };

    #[test]
    fn what_was_saved_is_found_again_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        ArtifactDir::open(dir.path()).unwrap().save(&NAME, &[b"native", b" code"]).unwrap();
        let artifacts = ArtifactDir::open(dir.path()).unwrap();
        let found = artifacts.load(&NAME).unwrap();
        fs::remove_file(artifacts.path(&NAME)).unwrap();
        assert_eq!(found.bytes(), b"native code");
        assert!(fs::read(found.path()).unwrap().starts_with(b"native code"));
    }

    #[test]
    fn a_tampered_swapped_or_foreign_file_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let artifacts = ArtifactDir::open(dir.path()).unwrap();
        artifacts.save(&NAME, &[b"native code"]).unwrap();
        let path = artifacts.path(&NAME);
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, bad).unwrap();
            assert!(artifacts.load(&NAME).is_none(), "byte {at}");
        }
        for other in [
            Name { kind: Kind::Memory, ..NAME },
            Name { key: Key { hash: Blake3Hash([2; 32]), ..KEY }, ..NAME },
            Name { key: Key { compatibility: 8, ..KEY }, ..NAME },
        ] {
            assert!(artifacts.load(&other).is_none(), "{other:?} was never saved");
            fs::write(artifacts.path(&other), &good).unwrap();
            assert!(artifacts.load(&other).is_none(), "{other:?} is another file");
        }
        let foreign = tempfile::tempdir().unwrap();
        let foreign = ArtifactDir::open(foreign.path()).unwrap();
        fs::write(foreign.path(&NAME), &good).unwrap();
        assert!(foreign.load(&NAME).is_none(), "another node's");
        fs::write(&path, b"short").unwrap();
        assert!(artifacts.load(&NAME).is_none());
        fs::write(&path, b"").unwrap();
        assert!(artifacts.load(&NAME).is_none());
    }

    #[test]
    fn the_key_is_for_this_user_only() {
        let dir = tempfile::tempdir().unwrap();
        ArtifactDir::open(dir.path()).unwrap();
        let mode = fs::metadata(dir.path().join("key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
