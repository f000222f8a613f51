//! A certificate chain with its key: parsed, checked against each other, and ready to be served.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;

use super::DnsName;

/// Certificates of one chain; real ones have two to four.
const CHAIN: usize = 16;

/// Names of one certificate: no public authority puts more into one.
const NAMES: usize = 100;

/// A certificate that can be served.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// Chain and key, as rustls takes them.
    pub key: Arc<CertifiedKey>,
    /// The host names that it is for.
    pub names: Vec<DnsName>,
    /// When it begins to be valid.
    pub not_before: SystemTime,
    /// When it ends.
    pub not_after: SystemTime,
}

/// Why a chain and a key cannot be served. The texts go to who brought them.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// Not PEM, or none of what was looked for in it.
    #[error("the {0} cannot be read as PEM")]
    Pem(&'static str),
    /// No certificate, or too many.
    #[error("the chain has {0} certificates; 1 to {CHAIN} are allowed")]
    Chain(usize),
    /// The first certificate is malformed.
    #[error("the certificate is malformed")]
    Malformed,
    /// An unknown kind of key, or not the certificate's.
    #[error("the key cannot be used, or is not the certificate's: {0}")]
    Key(rustls::Error),
    /// No host name, or too many.
    #[error("the certificate is for {0} host names; 1 to {NAMES} are allowed")]
    Names(usize),
}

impl Certificate {
    /// From PEM. Both may be the same text.
    ///
    /// # Errors
    /// When they are malformed, do not belong together, or name no host.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        let chain = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| CertificateError::Pem("certificate"))?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| CertificateError::Pem("key"))?;
        let leaf = chain.first().filter(|_| chain.len() <= CHAIN);
        let leaf = leaf.ok_or(CertificateError::Chain(chain.len()))?;
        let (names, not_before, not_after) = facts(leaf)?;
        let provider = rustls::crypto::ring::default_provider();
        let key = CertifiedKey::from_der(chain, key, &provider).map_err(CertificateError::Key)?;
        Ok(Self { key: Arc::new(key), names, not_before, not_after })
    }

    /// The certificate itself.
    #[must_use]
    pub fn leaf(&self) -> Option<&CertificateDer<'static>> {
        self.key.cert.first()
    }

    /// For how long it was made.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        self.not_after.duration_since(self.not_before).unwrap_or_default()
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        self.not_after <= SystemTime::now()
    }
}

type Facts = (Vec<DnsName>, SystemTime, SystemTime);

fn facts(leaf: &CertificateDer<'_>) -> Result<Facts, CertificateError> {
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| CertificateError::Malformed)?;
    let alternative = parsed.subject_alternative_name().map_err(|_| CertificateError::Malformed)?;
    let general = alternative.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    let names: Vec<_> = general
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => DnsName::parse(name).ok(),
            _ => None,
        })
        .collect();
    if names.is_empty() || names.len() > NAMES {
        return Err(CertificateError::Names(names.len()));
    }
    let validity = parsed.validity();
    Ok((names, time(validity.not_before), time(validity.not_after)))
}

fn time(time: ASN1Time) -> SystemTime {
    let seconds = u64::try_from(time.timestamp()).unwrap_or_default();
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A certificate for some names that nobody but its maker trusts, and its key, in PEM.
    pub fn self_signed(names: &[&str]) -> (String, String) {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn chain_and_key_must_belong_together_and_name_a_host() {
        let (chain, key) = self_signed(&["a.example.com", "*.Example.com"]);
        let made = Certificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
        let names: Vec<_> = made.names.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["a.example.com", "*.example.com"]);
        assert!(!made.is_expired());
        let both = format!("{key}{chain}");
        assert!(Certificate::from_pem(both.as_bytes(), both.as_bytes()).is_ok(), "one file for both");

        let (other, other_key) = self_signed(&["127.0.0.1"]);
        let refused =
            |chain: &str, key: &str| Certificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap_err();
        assert!(matches!(refused(&chain, &other_key), CertificateError::Key(_)));
        assert!(matches!(refused(&other, &other_key), CertificateError::Names(0)));
        assert!(matches!(refused("", &key), CertificateError::Chain(0)));
        assert!(matches!(refused(&chain, ""), CertificateError::Pem("key")));
        assert!(matches!(refused(&chain.repeat(CHAIN + 1), &key), CertificateError::Chain(_)));
        let torn = chain.lines().take(4).collect::<Vec<_>>().join("\n");
        assert!(matches!(refused(&torn, &key), CertificateError::Pem("certificate")));
    }
}
