//! Certificates, the ACME account and what failed, on this node's disk: written whole or not at all, and readable
//! by this user only.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tracing::warn;

use super::{Certificate, DnsName};

/// Of a file that holds a chain and its key.
const CERTIFICATE: &str = "pem";

/// Of a file that says when a name may be tried again.
const FAILURE: &str = "failed";

/// Longest file that is read; a chain with RSA keys is about 8 KiB.
const FILE_BYTES: u64 = 256 << 10;

/// A directory of certificates. Cheap to clone. All of it blocks.
#[derive(Clone, Debug)]
pub struct CertificateStore {
    dir: PathBuf,
}

impl CertificateStore {
    /// Opens or makes the directory, mode 0700.
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        fs::set_permissions(dir, Permissions::from_mode(0o700))?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// The certificate for exactly this name. One that cannot be used is told and counts as none.
    #[must_use]
    pub fn load(&self, name: &DnsName) -> Option<Certificate> {
        let path = self.dir.join(name.file_name(CERTIFICATE));
        let bytes = self.read(&path)?;
        match Certificate::from_pem(&bytes, &bytes) {
            Ok(certificate) if certificate.names.contains(name) => Some(certificate),
            Ok(_) => {
                warn!(path = %path.display(), "a stored certificate is for another name; it is not used");
                None
            }
            Err(error) => {
                warn!(path = %path.display(), %error, "a stored certificate cannot be used");
                None
            }
        }
    }

    /// Keeps a certificate and its key, in one file, so that there is never one without the other.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, name: &DnsName, chain: &str, key: &str) -> io::Result<()> {
        self.write(&name.file_name(CERTIFICATE), format!("{key}\n{chain}").as_bytes())
    }

    /// Removes a certificate that is of no use any more.
    pub fn remove(&self, name: &DnsName) {
        self.delete(&name.file_name(CERTIFICATE));
    }

    /// All names that have a certificate here.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn names(&self) -> io::Result<Vec<DnsName>> {
        self.list(CERTIFICATE)
    }

    /// Remembers, also for the next start, that a name failed.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save_failure(&self, name: &DnsName, text: &str) -> io::Result<()> {
        self.write(&name.file_name(FAILURE), text.as_bytes())
    }

    /// Forgets that a name failed.
    pub fn remove_failure(&self, name: &DnsName) {
        self.delete(&name.file_name(FAILURE));
    }

    /// What failed, and the text that was kept with it.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn failures(&self) -> io::Result<Vec<(DnsName, String)>> {
        let names = self.list(FAILURE)?;
        let text =
            |name: &DnsName| String::from_utf8(self.read(&self.dir.join(name.file_name(FAILURE)))?).ok();
        Ok(names.into_iter().filter_map(|name| text(&name).map(|text| (name, text))).collect())
    }

    /// The ACME account, if there is one.
    #[must_use]
    pub fn account(&self) -> Option<Vec<u8>> {
        self.read(&self.dir.join("account.json"))
    }

    /// Keeps the ACME account.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save_account(&self, json: &[u8]) -> io::Result<()> {
        self.write("account.json", json)
    }

    fn list(&self, ending: &str) -> io::Result<Vec<DnsName>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            names.extend(entry?.file_name().to_str().and_then(|file| DnsName::of_file(file, ending)));
        }
        Ok(names)
    }

    fn read(&self, path: &Path) -> Option<Vec<u8>> {
        match fs::metadata(path).and_then(|found| {
            if found.len() > FILE_BYTES { Err(io::ErrorKind::FileTooLarge.into()) } else { fs::read(path) }
        }) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                warn!(path = %path.display(), %error, "a file of the certificate store cannot be read");
                None
            }
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        // Temporary files are made with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(self.dir.join(name)).map_err(|error| error.error)?;
        // Only then does the name last, too: a lost certificate costs one of the few that a week allows.
        fs::File::open(&self.dir)?.sync_all()
    }

    fn delete(&self, name: &str) {
        let path = self.dir.join(name);
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            warn!(path = %path.display(), %error, "a file of the certificate store cannot be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::certificate::tests::self_signed;
    use super::*;

    #[test]
    fn what_was_saved_is_found_again_by_its_name_and_by_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let store = CertificateStore::open(dir.path()).unwrap();
        let (name, wild) = (DnsName::parse("a.test").unwrap(), DnsName::parse("*.a.test").unwrap());
        let (chain, key) = self_signed(&["a.test"]);
        assert!(store.load(&name).is_none());
        store.save(&name, &chain, &key).unwrap();
        store.save(&wild, &chain, &key).unwrap();
        store.save_account(b"{}").unwrap();
        store.save_failure(&wild, "{}").unwrap();
        let store = CertificateStore::open(dir.path()).unwrap();
        assert!(store.load(&name).is_some());
        assert!(store.load(&wild).is_none(), "the certificate is for another name");
        let mut names = store.names().unwrap();
        names.sort();
        assert_eq!(names, [wild.clone(), name.clone()]);
        assert_eq!(store.failures().unwrap(), [(wild, "{}".to_owned())]);
        for entry in fs::read_dir(dir.path()).unwrap() {
            assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::metadata(dir.path()).unwrap().permissions().mode() & 0o777, 0o700);
        fs::write(dir.path().join("a.test.pem"), "torn").unwrap();
        assert!(store.load(&name).is_none());
        store.remove(&name);
        store.remove(&name);
        assert_eq!(store.names().unwrap().len(), 1);
    }
}
