//! The operator's own certificates: PEM files that are read again when they change.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Certificate, CertificateError};

/// Files that are looked at in a directory and those directly below it.
const FILES: usize = 10_000;

/// Largest file.
const FILE_BYTES: u64 = 1 << 20;

/// Endings of a chain; the key is beside it.
const CHAINS: [&str; 3] = ["crt", "pem", "cer"];

/// Where the operator's own certificates are.
#[derive(Clone, Debug, Default)]
pub struct CertificateFiles {
    /// Chain and key of each.
    pub pairs: Vec<(PathBuf, PathBuf)>,
    /// A directory of `NAME.crt` (or `.pem`, `.cer`) with `NAME.key`, or of directories with such files, or with
    /// `fullchain.pem` and `privkey.pem`, as certbot makes them.
    pub dir: Option<PathBuf>,
}

/// Why the operator's certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// A file or directory cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is in it is not a certificate with its key.
    #[error("{} cannot be used", path.display())]
    Certificate {
        /// The chain's file.
        path: PathBuf,
        /// Why.
        source: CertificateError,
    },
    /// More than [`FILES`].
    #[error("{} has more than {FILES} files", .0.display())]
    TooMany(PathBuf),
    /// A directory without any.
    #[error("{} has no certificate: a NAME.crt with a NAME.key, or a fullchain.pem with a privkey.pem", .0.display())]
    Empty(PathBuf),
}

/// What files were like when they were read: a change of it means that they are to be read again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint(Vec<(PathBuf, Option<(SystemTime, u64)>)>);

impl CertificateFiles {
    /// Whether there are any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty() && self.dir.is_none()
    }

    /// What the files are like now. Blocks.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn fingerprint(&self) -> Result<Fingerprint, FilesError> {
        let paths = self.all()?.into_iter().flat_map(|(chain, key)| [chain, key]);
        // Links are followed: certbot and Kubernetes replace what they point to.
        let state = |path: &PathBuf| {
            let found = fs::metadata(path).ok()?;
            Some((found.modified().ok()?, found.len()))
        };
        Ok(Fingerprint(paths.map(|path| (path.clone(), state(&path))).collect()))
    }

    /// Reads them all, or none. Blocks.
    ///
    /// # Errors
    /// When one of them cannot be used: a server that lacks a certificate is not what was asked for.
    pub fn load(&self) -> Result<Vec<Certificate>, FilesError> {
        self.all()?.iter().map(|(chain, key)| load(chain, key)).collect()
    }

    fn all(&self) -> Result<Vec<(PathBuf, PathBuf)>, FilesError> {
        let mut all = self.pairs.clone();
        if let Some(dir) = &self.dir {
            let found = pairs_below(dir)?;
            if found.is_empty() {
                return Err(FilesError::Empty(dir.clone()));
            }
            all.extend(found);
        }
        Ok(all)
    }
}

fn load(chain: &Path, key: &Path) -> Result<Certificate, FilesError> {
    let certificate = Certificate::from_pem(&read(chain)?, &read(key)?);
    certificate.map_err(|source| FilesError::Certificate { path: chain.to_owned(), source })
}

fn read(path: &Path) -> Result<Vec<u8>, FilesError> {
    let bytes = fs::metadata(path).and_then(|found| {
        if found.len() > FILE_BYTES { Err(io::ErrorKind::FileTooLarge.into()) } else { fs::read(path) }
    });
    bytes.map_err(|source| FilesError::Read { path: path.to_owned(), source })
}

fn pairs_below(dir: &Path) -> Result<Vec<(PathBuf, PathBuf)>, FilesError> {
    let mut files = Vec::new();
    for path in entries(dir)? {
        if path.is_dir() {
            files.extend(entries(&path)?)
        } else {
            files.push(path)
        }
        if files.len() > FILES {
            return Err(FilesError::TooMany(dir.to_owned()));
        }
    }
    Ok(files.into_iter().filter_map(|chain| key_of(&chain).map(|key| (chain, key))).collect())
}

/// In the order of their names, without hidden ones: Kubernetes keeps what it replaces in those.
fn entries(dir: &Path) -> Result<Vec<PathBuf>, FilesError> {
    let failed = |source| FilesError::Read { path: dir.to_owned(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
        if paths.len() > FILES {
            return Err(FilesError::TooMany(dir.to_owned()));
        }
    }
    paths.sort();
    Ok(paths)
}

/// The key beside a chain, where there is one.
fn key_of(chain: &Path) -> Option<PathBuf> {
    if chain.file_name().is_some_and(|name| name == "fullchain.pem") {
        return Some(chain.with_file_name("privkey.pem")).filter(|key| key.exists());
    }
    let ending = chain.extension()?.to_str()?;
    Some(chain.with_extension("key")).filter(|key| CHAINS.contains(&ending) && key.exists())
}

#[cfg(test)]
mod tests {
    use super::super::certificate::tests::self_signed;
    use super::*;

    #[test]
    fn a_directory_is_read_in_the_layouts_that_others_write() {
        let dir = tempfile::tempdir().unwrap();
        let write = |chain: &str, key: &str, name: &str| {
            let (chain_pem, key_pem) = self_signed(&[name]);
            let chain = dir.path().join(chain);
            fs::create_dir_all(chain.parent().unwrap()).unwrap();
            fs::write(chain, chain_pem).unwrap();
            fs::write(dir.path().join(key), key_pem).unwrap();
        };
        let files = CertificateFiles { pairs: Vec::new(), dir: Some(dir.path().to_owned()) };
        assert!(matches!(files.load(), Err(FilesError::Empty(_))));
        write("one.crt", "one.key", "one.test");
        write("certbot/fullchain.pem", "certbot/privkey.pem", "two.test");
        write("kubernetes/tls.crt", "kubernetes/tls.key", "three.test");
        fs::write(dir.path().join("README"), "not a certificate").unwrap();
        fs::write(dir.path().join("certbot/chain.pem"), "no key beside it").unwrap();
        fs::create_dir(dir.path().join(".old")).unwrap();
        fs::write(dir.path().join(".old/torn.crt"), "torn").unwrap();
        fs::write(dir.path().join(".old/torn.key"), "torn").unwrap();
        let names: Vec<_> = files.load().unwrap().iter().map(|c| c.names[0].to_string()).collect();
        assert_eq!(names, ["two.test", "three.test", "one.test"]);

        let before = files.fingerprint().unwrap();
        assert_eq!(files.fingerprint().unwrap(), before);
        write("four.pem", "four.key", "four.test");
        assert_ne!(files.fingerprint().unwrap(), before);
        fs::write(dir.path().join("four.pem"), "torn").unwrap();
        assert!(matches!(files.load(), Err(FilesError::Certificate { .. })), "all or none");
    }

    #[test]
    fn a_missing_file_is_named() {
        let missing = PathBuf::from("/nowhere/a.crt");
        let files = CertificateFiles { pairs: vec![(missing.clone(), missing)], dir: None };
        assert_eq!(files.load().unwrap_err().to_string(), "cannot read /nowhere/a.crt");
    }
}
