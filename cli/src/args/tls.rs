//! The options of `af up` for encrypted connections.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args as Options, ValueEnum};

use super::values::whole;

#[derive(Debug, Options)]
#[command(next_help_heading = "TLS")]
pub struct Tls {
    /// Where functions answer over HTTPS [default: nowhere]
    #[arg(long, value_name = "ADDR")]
    pub tls_listen: Option<SocketAddr>,
    /// A certificate chain, PEM, which is read again when it changes, or on SIGHUP; may be given several times,
    /// each with --tls-key
    #[arg(long, value_name = "FILE", requires = "tls_listen")]
    pub tls_cert: Vec<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Vec<PathBuf>,
    /// A directory of certificates: NAME.crt with NAME.key, or directories with such files, or with fullchain.pem and
    /// privkey.pem
    #[arg(long, value_name = "DIR", requires = "tls_listen")]
    pub tls_dir: Option<PathBuf>,
    /// Get certificates by themselves: letsencrypt, letsencrypt-staging, or the URL of another ACME directory. You
    /// agree to its terms
    #[arg(long, value_name = "URL", requires = "tls_listen")]
    pub acme_directory: Option<String>,
    /// Where the authority may write to
    #[arg(long, value_name = "EMAIL", requires = "acme_directory")]
    pub acme_email: Option<String>,
    /// The root certificate, PEM, of an authority that the system does not trust
    #[arg(long, value_name = "FILE", requires = "acme_directory")]
    pub acme_ca: Option<PathBuf>,
    /// How names are proven: the first that works. The authority must reach --tls-listen at port 443 for tls-alpn-01,
    /// and --listen at port 80 for http-01 [default: both]
    #[arg(long, value_name = "KIND", requires = "acme_directory")]
    pub acme_challenge: Vec<Challenge>,
    /// Who has the zone of --domain, so that one certificate for *.<DOMAIN> is got by dns-01; credentials are in the
    /// environment: CLOUDFLARE_API_TOKEN, DESEC_TOKEN, GOOGLE_APPLICATION_CREDENTIALS (a file) and
    /// GOOGLE_CLOUD_PROJECT, or RFC2136_SERVER (host:port), RFC2136_ZONE, RFC2136_TSIG_NAME, RFC2136_TSIG_SECRET and
    /// RFC2136_TSIG_ALGORITHM
    #[arg(long, value_name = "PROVIDER", requires = "acme_directory")]
    pub acme_dns: Option<Dns>,
    /// How long the zone's servers take to know a record [default: as the provider says]
    #[arg(long, value_name = "SECONDS", requires = "acme_dns", value_parser = whole::<u64>(0..=3600))]
    pub acme_dns_wait: Option<u64>,
    /// Send plain requests to HTTPS
    #[arg(long, requires = "tls_listen")]
    pub https_redirect: bool,
    /// The port at which clients reach --tls-listen, where another is in front of it [default: its own]
    #[arg(long, value_name = "PORT", requires = "tls_listen", value_parser = whole::<u16>(1..=u16::MAX.into()))]
    pub https_port: Option<u16>,
    /// Tell browsers to use HTTPS only, for so long (Strict-Transport-Security)
    #[arg(long, value_name = "SECONDS", requires = "tls_listen", value_parser = whole::<u64>(0..=u32::MAX.into()))]
    pub hsts: Option<u64>,
}

/// How a name is proven.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Challenge {
    #[value(name = "tls-alpn-01")]
    TlsAlpn01,
    #[value(name = "http-01")]
    Http01,
}

/// Who has a zone.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Dns {
    Cloudflare,
    Desec,
    Google,
    Rfc2136,
}
