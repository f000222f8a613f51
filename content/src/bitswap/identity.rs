//! Who this node is among peers: a key in a file of its own, made on the first start.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use libp2p_identity::Keypair;
use libp2p_identity::PeerId;

/// A key as other implementations write it takes 68 bytes. What is larger is another file.
const KEY_BYTES: u64 = 4096;

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The disk failed.
    #[error("{action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file holds something else.
    #[error("{} is no key; move it away to become another peer", .0.display())]
    NoKey(PathBuf),
}

/// The node's key.
#[derive(Clone, Debug)]
pub struct Identity(pub(super) Keypair);

impl Identity {
    /// Reads the key, or makes one that only this user can read.
    ///
    /// # Errors
    /// When the file can neither be read nor made, or holds no key.
    pub fn load_or_create(path: &Path) -> Result<Self, IdentityError> {
        match fs::metadata(path) {
            Ok(meta) if meta.len() > KEY_BYTES => Err(IdentityError::NoKey(path.to_owned())),
            Ok(_) => {
                let bytes = fs::read(path).map_err(at("reading", path))?;
                let key = Keypair::from_protobuf_encoding(&bytes);
                key.map(Self).map_err(|_| IdentityError::NoKey(path.to_owned()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::create(path),
            Err(error) => Err(at("reading", path)(error)),
        }
    }

    fn create(path: &Path) -> Result<Self, IdentityError> {
        let identity = Self::ephemeral();
        let bytes = identity.0.to_protobuf_encoding().map_err(|_| IdentityError::NoKey(path.to_owned()))?;
        // A crash leaves no half of a key: written whole under another name, then renamed.
        let partial = path.with_extension("partial");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&partial).map_err(at("writing", &partial))?;
        file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(at("writing", &partial))?;
        fs::rename(&partial, path).map_err(at("writing", path))?;
        Ok(identity)
    }

    /// One that nobody will know again.
    #[must_use]
    pub fn ephemeral() -> Self {
        Self(Keypair::generate_ed25519())
    }

    /// The name that goes with the key.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.0.public().to_peer_id()
    }
}

fn at<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> IdentityError + 'a {
    move |source| IdentityError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_for_this_user_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bitswap.key");
        let made = Identity::load_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Identity::load_or_create(&path).unwrap().peer_id(), made.peer_id());
    }

    #[test]
    fn another_file_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bitswap.key");
        for other in [&b"no key"[..], &[0; 5000]] {
            fs::write(&path, other).unwrap();
            assert!(matches!(Identity::load_or_create(&path), Err(IdentityError::NoKey(_))));
            assert_eq!(fs::read(&path).unwrap(), other);
        }
    }
}
