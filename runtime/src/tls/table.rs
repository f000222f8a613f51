//! Which certificate a client gets for the name that it asks for. Looking one up takes no lock.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use moka::sync::Cache;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::name::parent;
use super::{Certificate, DnsName};

/// Issued certificates in memory, each about 5 KiB; the store has the others.
const ISSUED: u64 = 20_000;

/// Uploaded certificates: their owners' only copy here is this one.
const INSTALLED: u64 = 100_000;

type Keys = HashMap<DnsName, Arc<CertifiedKey>>;

/// All certificates that can be served without waiting.
#[derive(Debug)]
pub struct Table {
    /// The operator's own, replaced together.
    files: ArcSwap<Keys>,
    /// Uploaded by owners of domains.
    installed: Cache<DnsName, Arc<CertifiedKey>>,
    /// Ordered by this node.
    issued: Cache<DnsName, Arc<CertifiedKey>>,
}

impl Default for Table {
    fn default() -> Self {
        Self { files: ArcSwap::default(), installed: Cache::new(INSTALLED), issued: Cache::new(ISSUED) }
    }
}

impl Table {
    /// The certificate for a name: an exact one before a wildcard's, and within these the operator's own before
    /// uploaded before issued ones. Names are compared in lower case.
    pub fn find(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        if name.bytes().any(|b| b.is_ascii_uppercase()) {
            return self.lookup(&name.to_ascii_lowercase());
        }
        self.lookup(name)
    }

    fn lookup(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        // A wildcard's key begins with a dot, which no name does that a client may send.
        self.at(name).or_else(|| self.at(parent(name)?))
    }

    /// The certificate for all names below one.
    pub fn find_wildcard(&self, wildcard: &DnsName) -> Option<Arc<CertifiedKey>> {
        self.at(wildcard.key())
    }

    fn at(&self, key: &str) -> Option<Arc<CertifiedKey>> {
        let own = self.files.load().get(key).cloned();
        own.or_else(|| self.installed.get(key)).or_else(|| self.issued.get(key))
    }

    /// Replaces all of the operator's own.
    pub fn set_files(&self, certificates: &[Certificate]) {
        let mut keys = Keys::new();
        for certificate in certificates {
            for name in &certificate.names {
                // The first one stays, so that the order of options decides.
                keys.entry(name.clone()).or_insert_with(|| certificate.key.clone());
            }
        }
        self.files.store(Arc::new(keys));
    }

    /// Serves an uploaded certificate for a name. False when there are too many.
    pub fn install(&self, name: DnsName, key: Arc<CertifiedKey>) -> bool {
        let room = self.installed.entry_count() < INSTALLED || self.installed.contains_key(&name);
        if room {
            self.installed.insert(name, key);
        }
        room
    }

    /// Forgets uploaded and issued certificates for a name.
    pub fn remove(&self, name: &DnsName) {
        self.installed.invalidate(name);
        self.issued.invalidate(name);
    }

    /// Serves an issued certificate.
    pub fn issue(&self, name: DnsName, key: Arc<CertifiedKey>) {
        self.issued.insert(name, key);
    }
}

impl ResolvesServerCert for Table {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(hello.server_name()?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::certificate::tests::self_signed;
    use super::*;

    fn certificate(names: &[&str]) -> Certificate {
        let (chain, key) = self_signed(names);
        Certificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap()
    }

    #[test]
    fn exact_names_come_before_wildcards_and_the_operators_before_others() {
        let table = Table::default();
        let [wild, own, uploaded, issued] =
            [&["*.a.test"], &["a.a.test"], &["b.a.test"], &["b.a.test"]].map(|n| certificate(n));
        let name = |text: &str| DnsName::parse(text).unwrap();
        let finds = |asked: &str, expected: Option<&Certificate>| {
            let found = table.find(asked);
            assert_eq!(found.map(|key| Arc::as_ptr(&key)), expected.map(|c| Arc::as_ptr(&c.key)), "{asked}");
        };
        finds("a.a.test", None);
        table.set_files(&[wild.clone(), own.clone()]);
        table.issue(name("b.a.test"), issued.key.clone());
        finds("a.a.test", Some(&own));
        finds("A.a.TEST", Some(&own));
        finds("b.a.test", Some(&issued));
        finds("c.a.test", Some(&wild));
        for unknown in ["a.test", "c.c.a.test", "", ".", ".a.test.", "test"] {
            finds(unknown, None);
        }
        assert!(table.install(name("b.a.test"), uploaded.key.clone()));
        finds("b.a.test", Some(&uploaded));
        table.remove(&name("b.a.test"));
        finds("b.a.test", Some(&wild));
        table.set_files(&[]);
        finds("a.a.test", None);
    }
}
