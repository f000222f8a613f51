//! Answers to challenges of running orders, for those who look for them: a handshake (TLS-ALPN-01, RFC 8737) and a
//! request (HTTP-01, RFC 8555 section 8.3).

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::tls::DnsName;

/// Where authorities look for an answer.
pub const PATH: &str = "/.well-known/acme-challenge/";

/// The protocol that authorities speak to look for one.
pub const PROTOCOL: &[u8] = b"acme-tls/1";

/// All answers. No more than there are running orders.
#[derive(Debug, Default)]
pub struct Challenges {
    keys: RwLock<HashMap<DnsName, Arc<CertifiedKey>>>,
    texts: RwLock<HashMap<String, String>>,
}

/// An answer that stands as long as this lives.
#[derive(Debug)]
pub struct Standing {
    challenges: Arc<Challenges>,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Key(DnsName),
    Text(String),
}

impl Challenges {
    /// Answers at [`PATH`].
    pub fn answer_by_http(self: &Arc<Self>, token: &str, text: &str) -> Standing {
        let mut texts = self.texts.write().unwrap_or_else(PoisonError::into_inner);
        texts.insert(token.to_owned(), text.to_owned());
        Standing { challenges: self.clone(), place: Place::Text(token.to_owned()) }
    }

    /// Answers in handshakes, with a certificate that has the key authorization's SHA-256 in it.
    ///
    /// # Errors
    /// When the certificate cannot be made.
    pub fn answer_by_tls(
        self: &Arc<Self>,
        name: &DnsName,
        digest: &[u8; 32],
    ) -> Result<Standing, rcgen::Error> {
        let key = Arc::new(certificate(name, digest)?);
        self.keys.write().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), key);
        Ok(Standing { challenges: self.clone(), place: Place::Key(name.clone()) })
    }

    /// The answer at a path, if an order waits for it.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<String> {
        let token = path.strip_prefix(PATH)?;
        self.texts.read().unwrap_or_else(PoisonError::into_inner).get(token).cloned()
    }
}

impl ResolvesServerCert for Challenges {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name()?.to_ascii_lowercase();
        self.keys.read().unwrap_or_else(PoisonError::into_inner).get(name.as_str()).cloned()
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        match &self.place {
            Place::Key(name) => {
                self.challenges.keys.write().unwrap_or_else(PoisonError::into_inner).remove(name);
            }
            Place::Text(token) => {
                self.challenges.texts.write().unwrap_or_else(PoisonError::into_inner).remove(token);
            }
        }
    }
}

fn certificate(name: &DnsName, digest: &[u8; 32]) -> Result<CertifiedKey, rcgen::Error> {
    let mut parameters = CertificateParams::new([name.to_string()])?;
    parameters.custom_extensions.push(CustomExtension::new_acme_identifier(digest));
    let key = KeyPair::generate()?;
    let certificate = parameters.self_signed(&key)?;
    let der = PrivateKeyDer::try_from(key.serialize_der()).map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;
    let signing = rustls::crypto::ring::sign::any_supported_type(&der);
    let signing = signing.map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;
    Ok(CertifiedKey::new(vec![certificate.der().clone()], signing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_stands_until_its_order_ends() {
        let challenges = Arc::new(Challenges::default());
        let path = format!("{PATH}token");
        let standing = challenges.answer_by_http("token", "token.thumb");
        assert_eq!(challenges.text(&path).as_deref(), Some("token.thumb"));
        for other in [PATH, "/.well-known/acme-challenge", "/token", "/.well-known/acme-challenge/token/"] {
            assert_eq!(challenges.text(other), None);
        }
        drop(standing);
        assert_eq!(challenges.text(&path), None);
        let name = DnsName::parse("a.test").unwrap();
        let standing = challenges.answer_by_tls(&name, &[7; 32]).unwrap();
        assert_eq!(challenges.keys.read().unwrap().len(), 1);
        drop(standing);
        assert!(challenges.keys.read().unwrap().is_empty());
    }
}
