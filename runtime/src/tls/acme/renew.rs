//! Renewal ahead of time: every certificate in the store is looked at when its time comes, and renewed while the
//! old one is still served.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use instant_acme::CertificateIdentifier;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

use super::account::{blocking, in_time};
use super::{Acme, IssueError, Reason, schedule};
use crate::tls::{Certificate, DnsName};

/// How often the authority is asked at most when a certificate is to be renewed: it can bring that forward when
/// it has to revoke many.
const ASK: Duration = Duration::from_secs(86_400);

/// After a renewal that failed, if nothing says when to try again.
const RETRY: Duration = Duration::from_secs(60);

impl Acme {
    /// Renews until `stop`, then ends running orders.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        if let Err(error) = self.begin().await {
            error!(%error, "stored certificates cannot be listed; they are renewed when they are asked for");
        }
        while let Some(name) = stop.run_until_cancelled(self.schedule.next()).await {
            // One after another: asking for a window takes a fraction of a second, orders are tasks of their own.
            if stop.run_until_cancelled(self.review(&name)).await.is_none() {
                break;
            }
        }
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Serves what is stored, and orders the platform's wildcards.
    async fn begin(self: &Arc<Self>) -> Result<(), IssueError> {
        let acme = self.clone();
        let found = blocking(move || -> std::io::Result<_> {
            acme.backoff.sweep();
            let mut found = 0;
            for name in acme.store.names()? {
                let Some(certificate) = acme.store.load(&name) else { continue };
                acme.schedule.set(name.clone(), schedule::renewal(&certificate, None));
                acme.table.issue(name, certificate.key);
                found += 1;
            }
            Ok(found)
        });
        let certificates = found.await??;
        info!(certificates, "read the stored certificates");
        for wildcard in &self.wildcards {
            if self.table.find_wildcard(wildcard).is_none() {
                self.schedule.set(wildcard.clone(), SystemTime::now());
            }
        }
        Ok(())
    }

    /// Looks at one certificate: renews it, or says when to look again.
    async fn review(self: &Arc<Self>, name: &DnsName) {
        let now = SystemTime::now();
        let wanted = self.wildcards.contains(name) || (!name.is_wildcard() && (self.allowed)(name.key()));
        let stored = self.stored(name).await.ok().flatten();
        let again = match stored {
            None if wanted => self.replace(name, now),
            None => return,
            Some(stored) if !wanted && stored.is_expired() => return self.discard(name).await,
            // It may be wanted again: a domain moves from one function to another.
            Some(stored) if !wanted => stored.not_after,
            Some(stored) => {
                let (window, ask) = self.window(&stored).await;
                let at = schedule::renewal(&stored, window);
                if at <= now { self.replace(name, now) } else { at.min(now + ask) }
            }
        };
        self.schedule.set(name.clone(), again);
    }

    /// Starts a renewal. Returns when to look again, unless it succeeds, which sets a time of its own.
    fn replace(self: &Arc<Self>, name: &DnsName, now: SystemTime) -> SystemTime {
        match self.fly(name, Reason::Renewal) {
            Ok(_flight) => now + RETRY,
            Err(super::Wait::Failed(left)) => now + left.max(RETRY),
            Err(super::Wait::Busy) => now + RETRY,
        }
    }

    async fn discard(&self, name: &DnsName) {
        let (store, owned) = (self.store.clone(), name.clone());
        // Only a stop keeps it from being removed; the next start finds it again.
        if blocking(move || store.remove(&owned)).await.is_ok() {
            self.table.remove(name);
            info!(%name, "removed a certificate that ended and that nobody is to have any more");
        }
    }

    /// When the authority wants this certificate to be renewed, and when to ask again.
    async fn window(&self, stored: &Certificate) -> (Option<(SystemTime, SystemTime)>, Duration) {
        let (Some(identifier), Ok(account)) = (identifier(Some(stored)), self.account().await) else {
            return (None, ASK);
        };
        match in_time(async { Ok(account.renewal_info(&identifier).await?) }).await {
            Ok((info, again)) => {
                let window = info.suggested_window;
                (Some((window.start.into(), window.end.into())), again.max(ASK))
            }
            Err(error) => {
                debug!(%error, "the authority does not say when to renew");
                (None, ASK)
            }
        }
    }
}

/// How authorities call a certificate (RFC 9773 section 4.1).
pub fn identifier(certificate: Option<&Certificate>) -> Option<CertificateIdentifier<'static>> {
    let leaf = certificate?.leaf()?;
    CertificateIdentifier::try_from(leaf).ok().map(CertificateIdentifier::into_owned)
}
