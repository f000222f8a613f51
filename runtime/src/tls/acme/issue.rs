//! One certificate: from the store, or from the authority, into the table and the store.

use std::sync::Arc;

use tracing::{error, info, warn};

use super::account::blocking;
use super::backoff::Blame;
use super::order::{self, Issued, Proof};
use super::{Acme, ChallengeKind, IssueError, Reason, renew, schedule};
use crate::tls::{Certificate, DnsName};

impl Acme {
    /// Gets a certificate that is missing or is to be renewed.
    pub(super) async fn supply(self: &Arc<Self>, name: &DnsName, reason: Reason) -> Result<(), IssueError> {
        let stored = self.stored(name).await?;
        if reason == Reason::Missing
            && let Some(stored) = &stored
            && !stored.is_expired()
        {
            self.serve(name, stored);
            return Ok(());
        }
        let issued = self.order(name, stored.as_ref()).await;
        let acme = self.clone();
        let owned = name.clone();
        match issued {
            Ok((issued, certificate)) => {
                self.metrics.certificate("issued");
                self.serve(name, &certificate);
                info!(%name, "got a certificate");
                let kept = blocking(move || {
                    acme.backoff.succeeded(&owned);
                    acme.store.save(&owned, &issued.chain, &issued.key)
                });
                // It is served all the same, until the next start.
                if let Err(error) = kept.await? {
                    error!(%name, %error, "cannot keep a certificate");
                }
                Ok(())
            }
            // Nobody has been asked, so nothing counts against the name.
            Err(error @ (IssueError::Wait(_) | IssueError::Stopped)) => Err(error),
            Err(error) => {
                self.metrics.certificate("failed");
                let blame = error.blame();
                let rest = blocking(move || acme.backoff.failed(&owned, blame)).await?;
                warn!(%name, %error, rest_seconds = rest.as_secs(), "cannot get a certificate");
                Err(error)
            }
        }
    }

    fn serve(&self, name: &DnsName, certificate: &Certificate) {
        self.table.issue(name.clone(), certificate.key.clone());
        self.schedule.set(name.clone(), schedule::renewal(certificate, None));
    }

    async fn order(
        &self,
        name: &DnsName,
        old: Option<&Certificate>,
    ) -> Result<(Issued, Certificate), IssueError> {
        let _place = self.places.acquire().await.map_err(|_| IssueError::Stopped)?;
        self.backoff.take()?;
        let mut account = self.account().await?;
        let own = if name.is_wildcard() { &[ChallengeKind::Dns01][..] } else { self.kinds.as_slice() };
        let mut result = Err(IssueError::Refused("no way to prove the name is configured".to_owned()));
        for kind in own {
            let proof = Proof { kind: *kind, challenges: self.challenges.clone(), dns: self.dns.clone() };
            result = order::run(&account, name, renew::identifier(old), &proof).await;
            if result.as_ref().is_err_and(IssueError::is_unknown_account) {
                account = self.renew_account().await?;
                result = order::run(&account, name, None, &proof).await;
            }
            if !matches!(result, Err(IssueError::Refused(_) | IssueError::NoChallenge(_))) {
                break;
            }
        }
        let issued = result?;
        let certificate = Certificate::from_pem(issued.chain.as_bytes(), issued.key.as_bytes())?;
        Ok((issued, certificate))
    }

    /// What the disk has.
    pub(super) async fn stored(&self, name: &DnsName) -> Result<Option<Certificate>, IssueError> {
        let (store, name) = (self.store.clone(), name.clone());
        blocking(move || store.load(&name)).await
    }
}

impl IssueError {
    fn blame(&self) -> Blame {
        match self {
            Self::Acme(instant_acme::Error::Api(_))
            | Self::Refused(_)
            | Self::NoChallenge(_)
            | Self::Dns(_)
            | Self::Certificate(_)
            | Self::TimedOut => Blame::Refused,
            _ => Blame::Unreached,
        }
    }

    pub(super) fn is_unknown_account(&self) -> bool {
        let Self::Acme(instant_acme::Error::Api(problem)) = self else { return false };
        problem.r#type.as_deref().is_some_and(|kind| kind.ends_with(":accountDoesNotExist"))
    }
}
