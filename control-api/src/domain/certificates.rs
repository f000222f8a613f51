//! Certificates that projects bring for their domains. What is accepted here works on an edge.

use af_contract::{Certificate, DomainName};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use super::access::{self, Noun};
use super::audit::{self, Event};
use super::{Actor, Error, State, domains as rules, now, proof, versions};
use crate::store::DomainRow;
use crate::store::domains::{self, StoredCertificate};

/// Bytes of a chain in PEM. Ten RSA certificates have half of it.
const CHAIN_BYTES: usize = 64 << 10;

/// Certificates of a chain. Public authorities send two or three.
const CHAIN: usize = 10;

/// Bytes of a key in PEM. One of RSA with 8,192 bits has half of it.
const KEY_BYTES: usize = 16 << 10;

/// Why a certificate is refused.
#[derive(Debug, thiserror::Error)]
enum CertificateError {
    #[error(
        "the chain or the key is too large; a chain has at most 10 certificates and 64 KiB, a key 16 KiB"
    )]
    Size,
    #[error("the chain holds no certificate in PEM (-----BEGIN CERTIFICATE-----)")]
    Chain,
    #[error("certificate {0} of the chain cannot be read")]
    Certificate(usize),
    #[error(
        "certificate {0} of the chain did not sign the one before it; the order is: yours, then who signed it, and so on"
    )]
    Order(usize),
    #[error("the key is no private key in PEM that can be used (-----BEGIN PRIVATE KEY-----)")]
    Key,
    #[error("the key is not the one of the first certificate")]
    Mismatch,
    #[error("the first certificate does not cover {name}; it covers: {covered}")]
    Name { name: DomainName, covered: String },
    #[error("the first certificate has expired")]
    Expired,
    #[error("the first certificate is not valid yet")]
    Early,
}

/// Gives a domain a certificate of its own, which edges use instead of getting one.
///
/// # Errors
/// When there is no domain that the actor may see, or the certificate would not work for it now.
pub async fn put(
    state: &State,
    actor: &Actor,
    id: &str,
    certificate: Certificate,
) -> Result<DomainRow, Error> {
    let domain = access::domain(state, actor, id, Noun::Domains.write()).await?;
    let name = proof::parse_stored(&domain.hostname)?;
    let not_after =
        check(&name, &certificate, now()).map_err(|error| Error::invalid("invalid_certificate", error))?;
    replace(state, actor, id, Some((certificate, not_after))).await
}

/// Takes a domain's own certificate away, so that edges get one.
///
/// # Errors
/// When there is no domain that the actor may see.
pub async fn delete(state: &State, actor: &Actor, id: &str) -> Result<DomainRow, Error> {
    access::domain(state, actor, id, Noun::Domains.write()).await?;
    replace(state, actor, id, None).await
}

/// A stored certificate with its key.
pub(super) fn open(
    state: &State,
    domain: &str,
    chain: String,
    sealed_key: &[u8],
) -> Result<Certificate, Error> {
    let key = state.keys.unseal(&place(domain), sealed_key);
    let key = key.map_err(|error| Error::Internal(Box::new(error)))?;
    Ok(Certificate { chain, key })
}

async fn replace(
    state: &State,
    actor: &Actor,
    id: &str,
    certificate: Option<(Certificate, i64)>,
) -> Result<DomainRow, Error> {
    let mut db = state.store.begin().await?;
    let internal = |error| Error::Internal(Box::new(error));
    let seal = |(certificate, not_after): (Certificate, i64)| {
        let sealed_key = state.keys.seal_bytes(&place(id), certificate.key.as_bytes()).map_err(internal)?;
        Ok::<_, Error>(StoredCertificate { chain: certificate.chain, sealed_key, not_after })
    };
    let certificate = certificate.map(seal).transpose()?;
    let domain = domains::read(&mut db, id).await?.ok_or_else(|| Error::not_found("domain", id))?;
    versions::check(actor, &rules::shown(&domain))?;
    domains::put_certificate(&mut db, id, certificate.as_ref(), now()).await?;
    let revision = rules::changed(&mut db, &domain).await?;
    let action = if certificate.is_some() { "certificate.put" } else { "certificate.delete" };
    audit::commit(db, actor, Event::project(action, id, &domain.project_id)).await?;
    state.changes.announce(revision.unwrap_or_default());
    rules::get(state, actor, id).await
}

/// Where the key of a domain's certificate can be opened.
pub(super) fn place(domain: &str) -> [&str; 2] {
    [domain, "certificate"]
}

/// Until when a certificate works for a name, milliseconds.
fn check(name: &DomainName, certificate: &Certificate, now: i64) -> Result<i64, CertificateError> {
    if certificate.chain.len() > CHAIN_BYTES || certificate.key.len() > KEY_BYTES {
        return Err(CertificateError::Size);
    }
    let pem = CertificateDer::pem_slice_iter(certificate.chain.as_bytes()).take(CHAIN + 1);
    let chain = pem.collect::<Result<Vec<_>, _>>().map_err(|_| CertificateError::Chain)?;
    if chain.len() > CHAIN {
        return Err(CertificateError::Size);
    }
    let parsed = parse(&chain)?;
    let leaf = parsed.first().ok_or(CertificateError::Chain)?;
    let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes()).map_err(|_| CertificateError::Key)?;
    let provider = ring::default_provider();
    let key = provider.key_provider.load_private_key(key).map_err(|_| CertificateError::Key)?;
    CertifiedKey::new(chain.clone(), key).keys_match().map_err(|_| CertificateError::Mismatch)?;
    check_names(name, leaf)?;
    let millis = |time: x509_parser::time::ASN1Time| time.timestamp().saturating_mul(1000);
    let validity = leaf.validity();
    if millis(validity.not_before) > now {
        return Err(CertificateError::Early);
    }
    let not_after = millis(validity.not_after);
    if not_after <= now { Err(CertificateError::Expired) } else { Ok(not_after) }
}

fn parse<'c>(chain: &'c [CertificateDer<'static>]) -> Result<Vec<X509Certificate<'c>>, CertificateError> {
    let mut parsed: Vec<X509Certificate<'c>> = Vec::new();
    for (at, der) in chain.iter().enumerate() {
        let Ok((rest, certificate)) = x509_parser::parse_x509_certificate(der) else {
            return Err(CertificateError::Certificate(at + 1));
        };
        if !rest.is_empty() {
            return Err(CertificateError::Certificate(at + 1));
        }
        if parsed.last().is_some_and(|before| before.issuer().as_raw() != certificate.subject().as_raw()) {
            return Err(CertificateError::Order(at + 1));
        }
        parsed.push(certificate);
    }
    Ok(parsed)
}

/// Clients look at the alternative names only (RFC 9525, section 6.3).
fn check_names(name: &DomainName, leaf: &X509Certificate<'_>) -> Result<(), CertificateError> {
    let names = leaf.subject_alternative_name().ok().flatten();
    let names = names.iter().flat_map(|names| &names.value.general_names);
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(text) => DomainName::parse(text).ok(),
        _ => None,
    });
    let covered: Vec<DomainName> = names.collect();
    if covered.iter().any(|covered| covered == name || covered.covers(name.as_str())) {
        return Ok(());
    }
    let shown = covered.iter().take(5).map(DomainName::as_str).collect::<Vec<_>>().join(", ");
    Err(CertificateError::Name {
        name: name.clone(),
        covered: if shown.is_empty() { "nothing".into() } else { shown },
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failure here is the test's failure")]

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};

    use super::*;

    const NOW: i64 = 1_800_000_000_000;

    fn params(names: &[&str]) -> CertificateParams {
        CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    fn signed(params: &CertificateParams) -> Certificate {
        let key = KeyPair::generate().unwrap();
        Certificate { chain: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
    }

    fn refusal(name: &str, certificate: &Certificate) -> String {
        let name = DomainName::parse(name).unwrap();
        check(&name, certificate, NOW).map_or_else(|error| error.to_string(), |_| "accepted".into())
    }

    #[test]
    fn a_certificate_has_to_cover_the_name() {
        let one = signed(&params(&["WWW.example.com", "example.org"]));
        let all = signed(&params(&["*.example.com"]));
        for (name, certificate) in [
            ("www.example.com", &one),
            ("example.org", &one),
            ("www.example.com", &all),
            ("*.example.com", &all),
        ] {
            assert_eq!(refusal(name, certificate), "accepted", "{name}");
        }
        for (name, certificate) in [
            ("*.example.com", &one),
            ("api.example.com", &one),
            ("example.com", &all),
            ("a.b.example.com", &all),
        ] {
            assert!(refusal(name, certificate).contains("does not cover"), "{name}");
        }
        assert!(refusal("example.com", &signed(&params(&[]))).contains("covers: nothing"));
    }

    #[test]
    fn a_certificate_has_to_be_valid_now() {
        let mut late = params(&["example.com"]);
        late.not_after = date_time_ymd(2026, 1, 1);
        assert!(refusal("example.com", &signed(&late)).contains("expired"));
        let mut early = params(&["example.com"]);
        early.not_before = date_time_ymd(2050, 1, 1);
        assert!(refusal("example.com", &signed(&early)).contains("not valid yet"));
    }

    #[test]
    fn a_key_has_to_be_the_certificates() {
        let mine = signed(&params(&["example.com"]));
        let other = signed(&params(&["example.com"]));
        let with = |chain: &str, key: &str| {
            refusal("example.com", &Certificate { chain: chain.to_owned(), key: key.to_owned() })
        };
        assert!(with(&mine.chain, &other.key).contains("not the one of the first"));
        assert!(with(&mine.chain, "").contains("no private key"));
        assert!(with(&mine.chain, &mine.chain).contains("no private key"));
        assert!(with("", &mine.key).contains("no certificate"));
        assert!(with(&mine.key, &mine.key).contains("no certificate"));
        let rotten = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(with(rotten, &mine.key).contains("certificate 1 of the chain cannot be read"));
        assert!(with(&mine.chain.repeat(11), &mine.key).contains("too large"));
        assert!(with(&format!("{}{rotten}", mine.chain), &mine.key).contains("certificate 2"));
        let debug = format!("{:?}", mine);
        assert!(!debug.contains("PRIVATE"), "{debug}");
    }

    #[test]
    fn a_chain_has_an_order() {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(rcgen::DnType::CommonName, "authority");
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = params(&["example.com"]).signed_by(&key, &authority).unwrap();
        let with = |chain: String| refusal("example.com", &Certificate { chain, key: key.serialize_pem() });
        assert_eq!(with(leaf.pem()), "accepted");
        assert_eq!(with(format!("{}{}", leaf.pem(), authority.pem())), "accepted");
        assert!(with(format!("{}{}", leaf.pem(), leaf.pem())).contains("did not sign"));
        assert!(with(format!("{}{}", authority.pem(), leaf.pem())).contains("did not sign"));
    }
}
