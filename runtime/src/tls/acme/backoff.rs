//! How often the authority is asked: rarely again for a name that failed, also after a restart, and not too often
//! for all names together.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::tls::{CertificateStore, DnsName};

/// After the first, second, ... failure in a row. Let's Encrypt allows five failed validations per name and hour,
/// and one attempt here may fail twice, once with each kind of challenge.
const REFUSED: [Duration; 4] = [minutes(10), minutes(60), minutes(6 * 60), minutes(24 * 60)];

/// After a failure that the authority has not counted, such as one that it was not reached by.
const UNREACHED: Duration = Duration::from_secs(30);

/// Orders at once, and how fast that fills again: Let's Encrypt allows 300 in three hours.
const BURST: NonZeroU32 = NonZeroU32::new(100).expect("not zero");
const REFILL: Duration = Duration::from_secs(36);

/// Names whose failures are remembered. More are not ordered for until some may be tried again.
const REMEMBERED: usize = 100_000;

/// What counts against a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The authority looked at it, and said no.
    Refused,
    /// Anything else.
    Unreached,
}

/// Why the authority is not asked now.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Wait {
    /// This name failed a moment ago.
    #[error("getting a certificate failed; it is tried again in {} s", .0.as_secs())]
    Failed(Duration),
    /// Too many orders, of all names.
    #[error("too many certificates are being ordered")]
    Busy,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
struct Failure {
    /// In a row.
    count: usize,
    /// Seconds since 1970.
    until: u64,
}

/// What failed, and how many orders there were.
#[derive(Debug)]
pub struct Backoff {
    store: CertificateStore,
    failures: Mutex<HashMap<DnsName, Failure>>,
    /// Starts full after a restart: names that failed stay remembered, and those that did not are stored, so that
    /// starting over and over does not order more.
    orders: DefaultDirectRateLimiter,
}

impl Backoff {
    /// With what was remembered.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn open(store: CertificateStore) -> std::io::Result<Self> {
        let mut failures = HashMap::new();
        for (name, text) in store.failures()? {
            match serde_json::from_str(&text) {
                Ok(failure) => drop(failures.insert(name, failure)),
                Err(error) => {
                    info!(%name, %error, "a remembered failure is unreadable and forgotten");
                    store.remove_failure(&name);
                }
            }
        }
        let quota = Quota::with_period(REFILL).unwrap_or(Quota::per_hour(BURST)).allow_burst(BURST);
        Ok(Self { store, failures: Mutex::new(failures), orders: RateLimiter::direct(quota) })
    }

    /// Whether a name may be tried.
    ///
    /// # Errors
    /// When it failed a moment ago.
    pub fn check(&self, name: &DnsName) -> Result<(), Wait> {
        let failures = self.failures();
        match failures.get(name).map(|failure| failure.until.saturating_sub(now())) {
            Some(0) => Ok(()),
            Some(left) => Err(Wait::Failed(Duration::from_secs(left))),
            None if failures.len() >= REMEMBERED => Err(Wait::Busy),
            None => Ok(()),
        }
    }

    /// Takes an order's place among all.
    ///
    /// # Errors
    /// When there were too many.
    pub fn take(&self) -> Result<(), Wait> {
        self.orders.check().map_err(|_| Wait::Busy)
    }

    /// Remembers a failure. Returns for how long the name rests. Blocks.
    pub fn failed(&self, name: &DnsName, blame: Blame) -> Duration {
        let count = self.failures().get(name).map_or(0, |failure| failure.count);
        let (count, rest) = match blame {
            Blame::Refused => (count.saturating_add(1), REFUSED.get(count).or(REFUSED.last()).copied()),
            Blame::Unreached => (count, Some(UNREACHED)),
        };
        let rest = rest.unwrap_or(UNREACHED);
        let failure = Failure { count, until: now().saturating_add(rest.as_secs()) };
        self.failures().insert(name.clone(), failure);
        // Two numbers always have a JSON form.
        let text = serde_json::to_string(&failure).unwrap_or_default();
        if let Err(error) = self.store.save_failure(name, &text) {
            warn!(%name, %error, "a failure cannot be remembered for the next start");
        }
        rest
    }

    /// Forgets a name's failures. Blocks if there were any.
    pub fn succeeded(&self, name: &DnsName) {
        if self.failures().remove(name).is_some() {
            self.store.remove_failure(name);
        }
    }

    /// Forgets those that nobody has asked for again. Blocks.
    pub fn sweep(&self) {
        let old = now().saturating_sub(REFUSED.last().map_or(0, Duration::as_secs));
        let expired: Vec<_> = {
            let failures = self.failures();
            failures.iter().filter(|(_, f)| f.until < old).map(|(name, _)| name.clone()).collect()
        };
        expired.iter().for_each(|name| self.succeeded(name));
    }

    fn failures(&self) -> MutexGuard<'_, HashMap<DnsName, Failure>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

const fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_failed_rests_longer_each_time_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Backoff::open(CertificateStore::open(dir.path()).unwrap()).unwrap();
        let (name, other) = (DnsName::parse("*.a.test").unwrap(), DnsName::parse("a.test").unwrap());
        let backoff = open();
        assert!(backoff.check(&name).is_ok());
        assert_eq!(backoff.failed(&name, Blame::Unreached), UNREACHED);
        for rest in REFUSED.iter().chain(REFUSED.last()) {
            assert_eq!(backoff.failed(&name, Blame::Refused), *rest);
        }
        let again = open();
        assert!(matches!(again.check(&name), Err(Wait::Failed(left)) if left > minutes(23 * 60)));
        assert!(again.check(&other).is_ok());
        assert_eq!(again.failed(&name, Blame::Refused), *REFUSED.last().unwrap());
        again.sweep();
        assert!(again.check(&name).is_err(), "still resting");
        again.succeeded(&name);
        assert!(again.check(&name).is_ok());
        assert!(open().check(&name).is_ok());
    }

    #[test]
    fn orders_of_all_names_are_limited() {
        let dir = tempfile::tempdir().unwrap();
        let backoff = Backoff::open(CertificateStore::open(dir.path()).unwrap()).unwrap();
        assert!((0..BURST.get()).all(|_| backoff.take().is_ok()));
        assert!(matches!(backoff.take(), Err(Wait::Busy)));
    }
}
