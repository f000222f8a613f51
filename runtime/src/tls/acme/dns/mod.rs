//! Records for DNS-01 challenges, with those who have the platform's zones.

mod client;
mod cloudflare;
mod desec;
mod google;
mod rfc2136;

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

pub use self::rfc2136::{TsigAlgorithm, TsigKey};

/// A text at a name, such as `_acme-challenge.example.com`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxtRecord {
    /// Without a dot at the end.
    pub name: String,
    /// At most 255 bytes; digests are 43.
    pub value: String,
}

/// What a provider's answer is awaited as.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<(), DnsError>> + Send + 'a>>;

/// Who can write into a zone.
pub trait DnsProvider: Send + Sync {
    /// Adds a record, beside others at that name.
    fn set_txt<'a>(&'a self, record: &'a TxtRecord) -> Answer<'a>;

    /// Removes exactly this record; others at that name stay.
    fn remove_txt<'a>(&'a self, record: &'a TxtRecord) -> Answer<'a>;

    /// How long all of the zone's servers take to know a record that was set.
    fn settle(&self) -> Duration;
}

/// Why a record cannot be written. Texts are for the operator.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// Credentials that cannot be used.
    #[error("the DNS provider's credentials cannot be used: {0}")]
    Credentials(String),
    /// Not reached, or not in time.
    #[error("the DNS provider cannot be reached: {0}")]
    Unreachable(String),
    /// It said no.
    #[error("the DNS provider refused with {status}: {detail}")]
    Refused {
        /// Of the HTTP response, or the DNS response code.
        status: String,
        /// What it said, cut.
        detail: String,
    },
    /// Its answer is not what its documents say.
    #[error("the DNS provider's answer is not understood: {0}")]
    Answer(String),
    /// It has no zone for the name.
    #[error("the DNS provider has no zone for {0}")]
    NoZone(String),
}

/// Which provider, and how it knows us. Its `Debug` shows no secret.
#[derive(Clone)]
pub enum DnsConfig {
    /// Cloudflare, by an API token that may edit the zone.
    Cloudflare {
        /// The token.
        token: String,
    },
    /// deSEC, by a token.
    Desec {
        /// The token.
        token: String,
    },
    /// Google Cloud DNS, by a service account's key.
    Google {
        /// The JSON file of the key.
        credentials: PathBuf,
        /// Where the zone is, unless it is the account's own project.
        project: Option<String>,
    },
    /// A name server that takes updates (RFC 2136).
    Rfc2136 {
        /// Its host and port.
        server: String,
        /// The zone.
        zone: String,
        /// What signs updates (RFC 8945).
        key: TsigKey,
    },
}

impl DnsConfig {
    /// Ready to be asked.
    ///
    /// # Errors
    /// When the credentials cannot be used.
    pub fn provider(&self) -> Result<Arc<dyn DnsProvider>, DnsError> {
        Ok(match self {
            Self::Cloudflare { token } => Arc::new(cloudflare::Cloudflare::new(cloudflare::API, token)?),
            Self::Desec { token } => Arc::new(desec::Desec::new(desec::API, token)?),
            Self::Google { credentials, project } => {
                Arc::new(google::Google::open(google::API, credentials, project.as_deref())?)
            }
            Self::Rfc2136 { server, zone, key } => Arc::new(rfc2136::Rfc2136::new(server, zone, key)?),
        })
    }
}

impl fmt::Debug for DnsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cloudflare { .. } => "Cloudflare(***)",
            Self::Desec { .. } => "Desec(***)",
            Self::Google { .. } => "Google(***)",
            Self::Rfc2136 { .. } => "Rfc2136(***)",
        })
    }
}

/// `example.com` and above, of `_acme-challenge.example.com`: where a zone may begin, longest first.
fn candidates(name: &str) -> impl Iterator<Item = &str> {
    let starts = std::iter::once(0).chain(name.match_indices('.').map(|(at, _)| at + 1));
    starts.filter_map(|at| name.get(at..)).filter(|zone| zone.contains('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_looked_for_from_the_name_upwards() {
        let found: Vec<_> = candidates("_acme-challenge.a.example.com").collect();
        assert_eq!(found, ["_acme-challenge.a.example.com", "a.example.com", "example.com"]);
    }

    #[test]
    fn secrets_are_not_shown() {
        let config = DnsConfig::Cloudflare { token: "secret".into() };
        assert!(!format!("{config:?}").contains("secret"));
    }
}
