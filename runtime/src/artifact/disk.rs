//! Compiled code on this node's disk. It is native code, so a file counts only when its tag, a keyed
//! BLAKE3 under a key that this node alone has, matches: who can write the files but not read the
//! key cannot make the node run anything.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use af_contract::Blake3Hash;
use tracing::warn;

const TAG_BYTES: usize = 32;

/// A directory of artifacts for one engine version and configuration.
pub struct ArtifactDir {
    dir: PathBuf,
    key: [u8; 32],
    compatibility: u64,
}

impl ArtifactDir {
    /// Opens or makes the directory, mode 0700, and its key, mode 0600. `compatibility` stands for the
    /// engine's version and settings: code compiled under another value is never found.
    pub fn open(dir: &Path, compatibility: u64) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        fs::set_permissions(dir, Permissions::from_mode(0o700))?;
        let key = read_or_make_key(dir)?;
        Ok(Self { dir: dir.to_owned(), key, compatibility })
    }

    /// The serialized artifact of a component, if it is here and authentic.
    pub fn load(&self, code: &Blake3Hash) -> Option<Vec<u8>> {
        let path = self.path(code);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                warn!(path = %path.display(), %error, "a compiled artifact cannot be read; compiling again");
                return None;
            }
        };
        let (artifact, tag) = bytes.split_last_chunk::<TAG_BYTES>()?;
        // blake3::Hash compares in constant time.
        if self.tag(code, artifact) != blake3::Hash::from_bytes(*tag) {
            warn!(path = %path.display(), "a compiled artifact is not authentic; compiling again");
            return None;
        }
        let size = artifact.len();
        let mut bytes = bytes;
        bytes.truncate(size);
        Some(bytes)
    }

    /// Keeps an artifact. Not durable on purpose: a lost or torn file is compiled again.
    pub fn save(&self, code: &Blake3Hash, artifact: &[u8]) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        file.write_all(artifact)?;
        file.write_all(self.tag(code, artifact).as_bytes())?;
        file.persist(self.path(code)).map_err(|error| error.error)?;
        Ok(())
    }

    fn path(&self, code: &Blake3Hash) -> PathBuf {
        self.dir.join(format!("{code}-{:016x}.cwasm", self.compatibility))
    }

    /// Binds the artifact to its component and engine, so that no authentic file stands for another.
    fn tag(&self, code: &Blake3Hash, artifact: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&code.0).update(&self.compatibility.to_le_bytes()).update(artifact);
        hasher.finalize()
    }
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

    const CODE: Blake3Hash = Blake3Hash([1; 32]);

    #[test]
    fn what_was_saved_is_found_again_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        ArtifactDir::open(dir.path(), 7).unwrap().save(&CODE, b"native code").unwrap();
        assert_eq!(ArtifactDir::open(dir.path(), 7).unwrap().load(&CODE).unwrap(), b"native code");
        assert!(ArtifactDir::open(dir.path(), 8).unwrap().load(&CODE).is_none(), "another engine");
    }

    #[test]
    fn a_tampered_swapped_or_foreign_file_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let artifacts = ArtifactDir::open(dir.path(), 7).unwrap();
        artifacts.save(&CODE, b"native code").unwrap();
        let path = artifacts.path(&CODE);
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, bad).unwrap();
            assert!(artifacts.load(&CODE).is_none(), "byte {at}");
        }
        let other = Blake3Hash([2; 32]);
        fs::write(artifacts.path(&other), &good).unwrap();
        assert!(artifacts.load(&other).is_none(), "another component's artifact");
        let foreign = tempfile::tempdir().unwrap();
        let foreign = ArtifactDir::open(foreign.path(), 7).unwrap();
        fs::write(foreign.path(&CODE), &good).unwrap();
        assert!(foreign.load(&CODE).is_none(), "another node's artifact");
        fs::write(&path, b"short").unwrap();
        assert!(artifacts.load(&CODE).is_none());
    }

    #[test]
    fn the_key_is_for_this_user_only() {
        let dir = tempfile::tempdir().unwrap();
        ArtifactDir::open(dir.path(), 7).unwrap();
        let mode = fs::metadata(dir.path().join("key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
