//! What `af up` is told about TLS, as the edge takes it. Faults are told before anything starts.

use std::path::Path;
use std::time::Duration;

use af_runtime::http::SecureConfig;
use af_runtime::tls::acme::dns::{DnsConfig, TsigAlgorithm, TsigKey};
use af_runtime::tls::acme::{AcmeConfig, Authority, ChallengeKind};
use af_runtime::tls::{CertificateFiles, TlsConfig};
use anyhow::{Context, bail};

use crate::args::tls::{Challenge, Dns, Tls};
use crate::config::Environment;

/// Authorities by their short names.
const DIRECTORIES: [(&str, &str); 2] = [
    ("letsencrypt", "https://acme-v02.api.letsencrypt.org/directory"),
    ("letsencrypt-staging", "https://acme-staging-v02.api.letsencrypt.org/directory"),
];

/// The edge's part, for a server whose encrypted listener clients reach at this port.
pub fn config(
    options: &Tls,
    environment: &Environment,
    data: &Path,
    domain: &str,
    port: u16,
) -> anyhow::Result<(TlsConfig, SecureConfig)> {
    if options.tls_cert.len() != options.tls_key.len() {
        bail!("each --tls-cert needs its --tls-key, in the same order");
    }
    let pairs = options.tls_cert.iter().cloned().zip(options.tls_key.iter().cloned()).collect();
    let files = CertificateFiles { pairs, dir: options.tls_dir.clone() };
    let acme = acme(options, environment, domain)?;
    if files.is_empty() && acme.is_none() {
        bail!("--tls-listen needs certificates: --tls-cert and --tls-key, --tls-dir, or --acme-directory");
    }
    let store_dir = data.join("certificates");
    let tls = TlsConfig { files, acme, store_dir, domains: vec![domain.to_owned()] };
    let redirect = options.https_redirect.then_some(port);
    Ok((tls, SecureConfig { redirect, hsts: options.hsts.map(Duration::from_secs) }))
}

fn acme(options: &Tls, environment: &Environment, domain: &str) -> anyhow::Result<Option<AcmeConfig>> {
    let Some(directory) = &options.acme_directory else { return Ok(None) };
    let known = DIRECTORIES.iter().find(|(name, _)| name == directory).map(|(_, url)| (*url).to_owned());
    let directory = known.unwrap_or_else(|| directory.clone());
    if !url::Url::parse(&directory).is_ok_and(|url| url.scheme() == "https" && url.has_host()) {
        bail!("--acme-directory {directory:?} is not letsencrypt, letsencrypt-staging or an https URL");
    }
    let email = options.acme_email.clone();
    let authority = Authority { directory, email, root: options.acme_ca.clone() };
    let mut challenges: Vec<_> = options.acme_challenge.iter().map(|challenge| kind(*challenge)).collect();
    if challenges.is_empty() {
        challenges = vec![ChallengeKind::TlsAlpn01, ChallengeKind::Http01];
    }
    let dns = options.acme_dns.map(|provider| dns(provider, environment, domain)).transpose()?;
    let dns_settle = options.acme_dns_wait.map(Duration::from_secs);
    Ok(Some(AcmeConfig { authority, challenges, dns, dns_settle }))
}

fn kind(challenge: Challenge) -> ChallengeKind {
    match challenge {
        Challenge::TlsAlpn01 => ChallengeKind::TlsAlpn01,
        Challenge::Http01 => ChallengeKind::Http01,
    }
}

fn dns(provider: Dns, environment: &Environment, domain: &str) -> anyhow::Result<DnsConfig> {
    let optional = |name: &str| environment.dns.get(name).map(str::to_owned);
    let needed =
        |name: &str| optional(name).with_context(|| format!("--acme-dns needs {name} in the environment"));
    Ok(match provider {
        Dns::Cloudflare => DnsConfig::Cloudflare { token: needed("CLOUDFLARE_API_TOKEN")? },
        Dns::Desec => DnsConfig::Desec { token: needed("DESEC_TOKEN")? },
        Dns::Google => DnsConfig::Google {
            credentials: needed("GOOGLE_APPLICATION_CREDENTIALS")?.into(),
            project: optional("GOOGLE_CLOUD_PROJECT"),
        },
        Dns::Rfc2136 => {
            let algorithm = optional("RFC2136_TSIG_ALGORITHM").map(|name| name.parse()).transpose()?;
            let key = TsigKey {
                name: needed("RFC2136_TSIG_NAME")?,
                algorithm: algorithm.unwrap_or(TsigAlgorithm::default()),
                secret: needed("RFC2136_TSIG_SECRET")?,
            };
            let zone = optional("RFC2136_ZONE").unwrap_or_else(|| domain.to_owned());
            DnsConfig::Rfc2136 { server: needed("RFC2136_SERVER")?, zone, key }
        }
    })
}
