//! What it takes to read a private deployment: its key, and what its code is in clear.

use std::sync::Arc;

use af_content::private::{self, Cipher, PrivateError};
use af_contract::private::FORMAT;
use af_contract::{Blake3Hash, Code, ContentKey, Manifest};

use super::ArtifactError;

/// A private deployment's secrets. Cheap to clone.
#[derive(Clone)]
pub struct Secrets {
    cipher: Cipher,
    clear: Code,
}

impl Secrets {
    /// Of a deployment, with the key that this node was told; none where it is not private.
    ///
    /// # Errors
    /// When the key is missing, or not the one that the manifest says.
    pub fn of(manifest: &Manifest, key: Option<&ContentKey>) -> Result<Option<Self>, ArtifactError> {
        let Some(private) = &manifest.private else { return Ok(None) };
        let key = key.ok_or(ArtifactError::NoKey)?;
        if private.format != FORMAT {
            return Err(ArtifactError::Manifest(format!("its encryption {} is not known", private.format)));
        }
        let cipher = Cipher::new(key);
        if *cipher.id() != private.key {
            return Err(PrivateError::Key { expected: *cipher.id(), found: private.key }.into());
        }
        let clear = cipher.open_code(&private.code, &manifest.code.cid)?;
        Ok(Some(Self { cipher, clear }))
    }

    /// For its files.
    pub fn cipher(&self) -> &Cipher {
        &self.cipher
    }

    /// The component in clear, of its encrypted bytes.
    pub(super) fn open(&self, stored: &[u8]) -> Result<Vec<u8>, PrivateError> {
        let clear = private::open(&self.cipher, stored)?;
        let (expected, found) = (self.clear.blake3, Blake3Hash::from(blake3::hash(&clear)));
        if expected == found { Ok(clear) } else { Err(PrivateError::Blake3 { expected, found }) }
    }
}

impl From<PrivateError> for ArtifactError {
    fn from(error: PrivateError) -> Self {
        Self::Private(Arc::new(error))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use af_content::private::{Sealing, new_key};
    use af_content::unixfs;
    use af_contract::{Limits, Private, World};

    use super::*;

    fn code(bytes: &[u8]) -> Code {
        let summary = unixfs::import(bytes, |_| Ok(())).unwrap();
        Code { cid: summary.root, blake3: summary.blake3, size: summary.size, world: World::Proxy02 }
    }

    fn manifest(key: &ContentKey, clear: &Code, stored: &[u8]) -> Manifest {
        let public = code(stored);
        let code = Cipher::new(key).seal_code(clear, &public.cid).unwrap();
        let private = Some(Private { format: FORMAT, key: key.id(), code });
        Manifest {
            version: 1,
            function: "fn_1".into(),
            code: public,
            assets: None,
            limits: Limits::default(),
            reuse: None,
            concurrency: None,
            egress: None,
            stores: Vec::new(),
            cors: None,
            compress: false,
            settings: Default::default(),
            private,
            triggers: Vec::new(),
            parent: None,
            author: "usr_1".into(),
            created_at: 1,
        }
    }

    #[test]
    fn code_is_opened_with_its_own_key_only() {
        let key = new_key().unwrap();
        let mut stored = Vec::new();
        Sealing::new(&Cipher::new(&key), &b"component"[..]).unwrap().read_to_end(&mut stored).unwrap();
        let manifest = self::manifest(&key, &code(b"component"), &stored);
        let secrets = Secrets::of(&manifest, Some(&key)).unwrap().unwrap();
        assert_eq!(secrets.open(&stored).unwrap(), b"component");
        stored.pop();
        assert!(secrets.open(&stored).is_err(), "cut");

        let error = Secrets::of(&manifest, None).err().unwrap();
        assert_eq!(error.code(), "content_key_missing");
        let error = Secrets::of(&manifest, Some(&new_key().unwrap())).err().unwrap();
        assert_eq!(error.code(), "content_undecryptable");
        let unknown = Manifest {
            private: manifest.private.clone().map(|private| Private { format: 2, ..private }),
            ..manifest
        };
        assert_eq!(Secrets::of(&unknown, Some(&key)).err().unwrap().code(), "manifest_invalid");
        let public = Manifest { private: None, ..unknown };
        assert!(Secrets::of(&public, None).unwrap().is_none());
    }

    #[test]
    fn well_encrypted_code_that_is_not_the_recorded_one_is_refused() {
        let key = new_key().unwrap();
        let mut stored = Vec::new();
        Sealing::new(&Cipher::new(&key), &b"another"[..]).unwrap().read_to_end(&mut stored).unwrap();
        let manifest = manifest(&key, &code(b"component"), &stored);
        let secrets = Secrets::of(&manifest, Some(&key)).unwrap().unwrap();
        assert!(matches!(secrets.open(&stored), Err(PrivateError::Blake3 { .. })));
    }
}
