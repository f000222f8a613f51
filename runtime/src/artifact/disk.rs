//! Compiled code on this node's disk. It is native code, so a file counts only when its tag, a keyed
//! BLAKE3 under a key that this node alone has, matches: who can write the files but not read the
//! key cannot make the node run anything.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use af_contract::Blake3Hash;
use memmap2::Mmap;
use tracing::warn;

const TAG_BYTES: usize = 32;

const LENGTH_BYTES: usize = 8;

/// Of the files' layout: those of another one are not authentic.
const FORMAT: u8 = 2;

/// The memory begins at a multiple of this, which is one of every page size, so that it can be mapped.
const ALIGNMENT: usize = 64 << 10;

/// More than this is hashed on all cores, bytes.
const PARALLEL: usize = 1 << 20;

/// A directory of artifacts.
pub struct ArtifactDir {
    dir: PathBuf,
    key: [u8; 32],
}

/// What a file holds: native code, then the memory at the next multiple of [`ALIGNMENT`], the length
/// of the native code, and the tag of all.
pub struct Parts<'a> {
    /// A serialized component.
    pub native: &'a [u8],
    /// The memory that was taken out of it; empty if none was.
    pub memory: &'a [u8],
}

/// An authentic file.
pub struct Artifact {
    file: File,
    memory: Range<usize>,
}

impl Artifact {
    /// Where it can be opened while this lives; what is there is the file that was checked, also when
    /// another one has its name by now. It begins with the serialized component.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }

    /// The memory that was taken out of the component, to be mapped: its file, offset and size.
    pub fn memory(self) -> (File, u64, usize) {
        (self.file, self.memory.start as u64, self.memory.len())
    }
}

/// Names an artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ArtifactKey {
    /// The component.
    pub code: Blake3Hash,
    /// The engine's version and settings: code compiled under other ones is never found.
    pub compatibility: u64,
}

impl ArtifactDir {
    /// Opens or makes the directory, mode 0700, and its key, mode 0600.
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        fs::set_permissions(dir, Permissions::from_mode(0o700))?;
        let key = read_or_make_key(dir)?;
        Ok(Self { dir: dir.to_owned(), key })
    }

    /// The artifact of a component, if it is here and authentic.
    pub fn load(&self, key: &ArtifactKey) -> Option<Artifact> {
        let path = self.path(key);
        // SAFETY: files of artifacts are replaced, never written to.
        let opened = File::open(&path).and_then(|file| Ok((unsafe { Mmap::map(&file) }?, file)));
        let (bytes, file) = match opened {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                warn!(path = %path.display(), %error, "a compiled artifact cannot be read; compiling again");
                return None;
            }
        };
        let (artifact, tag) = bytes.split_last_chunk::<TAG_BYTES>()?;
        // blake3::Hash compares in constant time.
        if hash(self.hasher(key), artifact) != blake3::Hash::from_bytes(*tag) {
            warn!(path = %path.display(), "a compiled artifact is not authentic; compiling again");
            return None;
        }
        let (rest, length) = artifact.split_last_chunk::<LENGTH_BYTES>()?;
        let native = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        let memory = native.checked_next_multiple_of(ALIGNMENT)?..rest.len();
        (memory.start <= memory.end).then_some(Artifact { file, memory })
    }

    /// Keeps an artifact. Not durable on purpose: a lost or torn file is compiled again.
    pub fn save(&self, key: &ArtifactKey, parts: &Parts) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        let mut hasher = self.hasher(key);
        let native = parts.native.len();
        let padding = vec![0; native.next_multiple_of(ALIGNMENT) - native];
        for bytes in [parts.native, &padding, parts.memory, &(native as u64).to_le_bytes()] {
            hasher.update(bytes);
            file.write_all(bytes)?;
        }
        file.write_all(hasher.finalize().as_bytes())?;
        file.persist(self.path(key)).map_err(|error| error.error)?;
        Ok(())
    }

    fn path(&self, key: &ArtifactKey) -> PathBuf {
        self.dir.join(format!("{}-{:016x}.cwasm", key.code, key.compatibility))
    }

    /// Binds an artifact to its component and engine, so that no authentic file stands for another.
    fn hasher(&self, key: &ArtifactKey) -> blake3::Hasher {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&[FORMAT]).update(&key.code.0).update(&key.compatibility.to_le_bytes());
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

    const CODE: ArtifactKey = ArtifactKey { code: Blake3Hash([1; 32]), compatibility: 7 };

    const PARTS: Parts = Parts { native: b"native code", memory: b"memory" };

    #[test]
    fn what_was_saved_is_found_again_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        ArtifactDir::open(dir.path()).unwrap().save(&CODE, &PARTS).unwrap();
        let artifacts = ArtifactDir::open(dir.path()).unwrap();
        let found = artifacts.load(&CODE).unwrap();
        fs::remove_file(artifacts.path(&CODE)).unwrap();
        assert!(fs::read(found.path()).unwrap().starts_with(PARTS.native));
        let (file, offset, size) = found.memory();
        // SAFETY: nobody has the file any more.
        let memory = unsafe { memmap2::MmapOptions::new().offset(offset).len(size).map(&file) }.unwrap();
        assert_eq!(&memory[..], PARTS.memory);
        assert!(artifacts.load(&ArtifactKey { compatibility: 8, ..CODE }).is_none(), "another engine");
    }

    #[test]
    fn a_tampered_swapped_or_foreign_file_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let artifacts = ArtifactDir::open(dir.path()).unwrap();
        artifacts.save(&CODE, &PARTS).unwrap();
        let path = artifacts.path(&CODE);
        let good = fs::read(&path).unwrap();
        for at in (0..good.len()).filter(|at| *at < 64 || good.len() - *at < 64 || at % 1000 == 0) {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, bad).unwrap();
            assert!(artifacts.load(&CODE).is_none(), "byte {at}");
        }
        let other = ArtifactKey { code: Blake3Hash([2; 32]), ..CODE };
        fs::write(artifacts.path(&other), &good).unwrap();
        assert!(artifacts.load(&other).is_none(), "another component's artifact");
        let foreign = tempfile::tempdir().unwrap();
        let foreign = ArtifactDir::open(foreign.path()).unwrap();
        fs::write(foreign.path(&CODE), &good).unwrap();
        assert!(foreign.load(&CODE).is_none(), "another node's artifact");
        fs::write(&path, b"short").unwrap();
        assert!(artifacts.load(&CODE).is_none());
    }

    #[test]
    fn the_key_is_for_this_user_only() {
        let dir = tempfile::tempdir().unwrap();
        ArtifactDir::open(dir.path()).unwrap();
        let mode = fs::metadata(dir.path().join("key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
