//! Certificates that appear by themselves (ACME, RFC 8555): ordered at the first handshake for a name that is
//! allowed to have one, once for all who wait, and renewed ahead of time.

mod account;
mod backoff;
mod challenges;
pub mod dns;
mod flights;
mod issue;
mod order;
mod renew;
mod schedule;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use instant_acme::Account;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::account::Authority;
use self::backoff::{Backoff, Wait};
pub use self::challenges::Challenges;
pub(super) use self::challenges::PROTOCOL;
use self::dns::{DnsConfig, DnsError, DnsProvider};
use self::flights::Flights;
use self::schedule::Schedule;
use super::{Allowed, CertificateError, CertificateStore, DnsName, Table};
use crate::metrics::Metrics;

/// How long a client waits for its certificate to be ordered. Authorities take 3 to 15 seconds; clients give up
/// after 30 or more.
const PATIENCE: Duration = Duration::from_secs(30);

/// Orders at the same time.
const ORDERS: usize = 8;

/// How certificates are ordered.
#[derive(Clone, Debug)]
pub struct AcmeConfig {
    /// Where, and by whom.
    pub authority: Authority,
    /// How a name is proven, the first that works.
    pub challenges: Vec<ChallengeKind>,
    /// Who has the platform's zones: with it, they get wildcard certificates.
    pub dns: Option<DnsConfig>,
    /// How long the zone's servers take to know a record, where it is not as the provider's documents say.
    pub dns_settle: Option<Duration>,
}

/// How an authority is convinced that a name is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChallengeKind {
    /// It makes a TLS handshake, at port 443.
    TlsAlpn01,
    /// It asks for a path, at port 80.
    Http01,
    /// It looks for a record in the zone.
    Dns01,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The authority looked, and was not convinced.
    #[error("the authority is not convinced: {0}")]
    Refused(String),
    /// The authority could not be reached, or answered with a problem.
    #[error(transparent)]
    Acme(#[from] instant_acme::Error),
    /// The authority does not offer this kind of proof for the name.
    #[error("the authority offers no {0:?} challenge for the name")]
    NoChallenge(ChallengeKind),
    /// The zone's provider failed.
    #[error(transparent)]
    Dns(#[from] DnsError),
    /// What came cannot be served.
    #[error("the authority's certificate cannot be used: {0}")]
    Certificate(#[from] CertificateError),
    /// A key or a certificate for a challenge cannot be made.
    #[error("cannot make a certificate for a challenge")]
    Challenge(#[from] rcgen::Error),
    /// The disk failed.
    #[error("cannot keep the certificate")]
    Store(#[from] std::io::Error),
    /// Not now.
    #[error(transparent)]
    Wait(#[from] Wait),
    /// The authority was reached, or not, and says nothing.
    #[error("the authority does not answer")]
    Silent,
    /// It took too long.
    #[error("the order took too long")]
    TimedOut,
    /// The server stops.
    #[error("the server stops")]
    Stopped,
}

/// Orders certificates.
pub struct Acme {
    authority: Authority,
    kinds: Vec<ChallengeKind>,
    /// Wildcards of the platform's domains that can be proven.
    wildcards: Vec<DnsName>,
    dns: Option<(Arc<dyn DnsProvider>, Duration)>,
    allowed: Allowed,
    store: CertificateStore,
    table: Arc<Table>,
    challenges: Arc<Challenges>,
    account: ArcSwapOption<Account>,
    /// Held while an account is made, so that there is only one.
    opening: Mutex<()>,
    backoff: Backoff,
    schedule: Schedule,
    flights: Flights,
    places: Semaphore,
    /// Orders go on when the handshake that they are for has been given up, in the runtime that outlives cores.
    runtime: Handle,
    tasks: TaskTracker,
    stop: CancellationToken,
    metrics: Arc<Metrics>,
}

/// What an [`Acme`] shares with the rest.
pub struct Surroundings {
    /// Who may have a certificate.
    pub allowed: Allowed,
    /// The platform's domains.
    pub domains: Vec<String>,
    /// Where certificates are kept.
    pub store: CertificateStore,
    /// Where they are served from.
    pub table: Arc<Table>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// Why a certificate is ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    /// A client waits for it.
    Missing,
    /// The one that there is will end.
    Renewal,
}

impl Acme {
    /// Orders nothing yet. Must be called within the runtime that is to do the work.
    ///
    /// # Errors
    /// When the store cannot be read or a provider's credentials are of no use.
    pub fn new(config: &AcmeConfig, around: Surroundings) -> Result<Self, IssueError> {
        let provider = config.dns.as_ref().map(DnsConfig::provider).transpose()?;
        let dns = provider.map(|provider| {
            let settle = config.dns_settle.unwrap_or(provider.settle());
            (provider, settle)
        });
        let wildcard = |domain: &String| DnsName::parse(&format!("*.{domain}")).ok();
        let wildcards = around.domains.iter().filter_map(wildcard).filter(|_| dns.is_some()).collect();
        Ok(Self {
            authority: config.authority.clone(),
            kinds: config.challenges.clone(),
            wildcards,
            dns,
            allowed: around.allowed,
            backoff: Backoff::open(around.store.clone())?,
            store: around.store,
            table: around.table,
            challenges: Arc::default(),
            account: ArcSwapOption::empty(),
            opening: Mutex::default(),
            schedule: Schedule::default(),
            flights: Flights::default(),
            places: Semaphore::new(ORDERS),
            runtime: Handle::current(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            metrics: around.metrics,
        })
    }

    /// Answers that running orders wait for.
    pub fn challenges(&self) -> &Arc<Challenges> {
        &self.challenges
    }

    /// The certificate that a name may have: the platform's wildcard where that covers it, else its own if it is
    /// allowed to have one.
    pub fn wanted(&self, name: &DnsName) -> Option<DnsName> {
        let wildcard = self.wildcards.iter().find(|wildcard| wildcard.covers(name));
        wildcard.or_else(|| Some(name).filter(|name| (self.allowed)(name.key()))).cloned()
    }

    /// Returns when the certificate can be served: a stored one, or one that is ordered now.
    ///
    /// # Errors
    /// When it cannot be had, or not in time.
    pub async fn obtain(self: &Arc<Self>, name: &DnsName) -> Result<(), Arc<IssueError>> {
        let mut outcome = self.fly(name, Reason::Missing).map_err(|wait| Arc::new(wait.into()))?;
        let landed = tokio::time::timeout(PATIENCE, outcome.wait_for(Option::is_some)).await;
        let landed = landed.map_err(|_| IssueError::TimedOut)?;
        landed.ok().and_then(|outcome| outcome.clone()).unwrap_or(Err(Arc::new(IssueError::Stopped)))
    }
}
