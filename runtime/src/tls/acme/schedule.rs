//! When which certificate is looked at again.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;

use crate::tls::{Certificate, DnsName};

/// Never renewed sooner than this after it began, whatever the authority suggests, so that one that always
/// suggests "now" is not asked without end.
const MINIMUM_AGE: Duration = Duration::from_secs(3600);

/// One time for each name.
#[derive(Debug, Default)]
pub struct Schedule {
    times: Mutex<Times>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Times {
    by_time: BTreeSet<(SystemTime, DnsName)>,
    by_name: HashMap<DnsName, SystemTime>,
}

impl Schedule {
    /// Looks at a name at this time, not at the one that was set before.
    pub fn set(&self, name: DnsName, at: SystemTime) {
        let mut times = self.times();
        times.forget(&name);
        times.by_time.insert((at, name.clone()));
        times.by_name.insert(name, at);
        drop(times);
        self.changed.notify_one();
    }

    /// Takes the next name out when its time has come.
    pub async fn next(&self) -> DnsName {
        loop {
            let wait = match self.due(SystemTime::now()) {
                Ok(name) => return name,
                Err(wait) => wait,
            };
            tokio::select! {
                () = self.changed.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// The next name whose time has come, or how long to wait.
    fn due(&self, now: SystemTime) -> Result<DnsName, Duration> {
        // The clock may be set, so that a long wait is not waited for at once.
        const LONGEST: Duration = Duration::from_secs(3600);
        let mut times = self.times();
        let Some((at, name)) = times.by_time.first().cloned() else { return Err(LONGEST) };
        match at.duration_since(now) {
            Ok(left) if !left.is_zero() => Err(left.min(LONGEST)),
            _ => {
                times.forget(&name);
                Ok(name)
            }
        }
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Times {
    fn forget(&mut self, name: &DnsName) {
        if let Some(at) = self.by_name.remove(name) {
            self.by_time.remove(&(at, name.clone()));
        }
    }
}

/// When a certificate is to be renewed: at a point of the authority's window (RFC 9773), or else at about two
/// thirds of its life. The point is the same each time that it is computed, and another one for each certificate,
/// so that a thousand that were made together are not renewed together.
pub fn renewal(certificate: &Certificate, window: Option<(SystemTime, SystemTime)>) -> SystemTime {
    let life = certificate.lifetime();
    let (start, end) = window.unwrap_or_else(|| {
        let third = life / 3;
        (certificate.not_after - third - third / 8, certificate.not_after - third)
    });
    let span = end.duration_since(start).unwrap_or_default();
    let chosen = start + span.mul_f64(fraction(certificate));
    let earliest = certificate.not_before + MINIMUM_AGE.min(life / 2);
    let latest = certificate.not_after - life / 6;
    // Not `clamp`, which panics at a certificate that ends before it begins.
    chosen.min(latest).max(earliest)
}

/// From 0 to 1, by the certificate's hash.
fn fraction(certificate: &Certificate) -> f64 {
    let hash = blake3::hash(certificate.leaf().map_or(&[][..], |leaf| leaf.as_ref()));
    let [a, b, ..] = *hash.as_bytes();
    f64::from(u16::from_be_bytes([a, b])) / f64::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::certificate::tests::self_signed;

    fn certificate(days: u64) -> Certificate {
        let (chain, key) = self_signed(&["a.test"]);
        let mut made = Certificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
        made.not_before = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        made.not_after = made.not_before + day() * u32::try_from(days).unwrap();
        made
    }

    const fn day() -> Duration {
        Duration::from_secs(86_400)
    }

    #[test]
    fn renewal_is_ahead_of_time_and_not_for_all_at_once() {
        let mut points = BTreeSet::new();
        for _ in 0..20 {
            let certificate = certificate(90);
            let at = renewal(&certificate, None);
            assert_eq!(at, renewal(&certificate, None), "always the same");
            let age = at.duration_since(certificate.not_before).unwrap();
            assert!((day() * 56..=day() * 60).contains(&age), "{age:?}");
            points.insert(at);
        }
        assert!(points.len() > 15, "{points:?}");
    }

    #[test]
    fn the_authoritys_window_is_kept_within_reason() {
        let certificate = certificate(90);
        let begin = certificate.not_before;
        let at = |from: Duration, to: Duration| {
            renewal(&certificate, Some((begin + from, begin + to))).duration_since(begin).unwrap()
        };
        assert!((day() * 30..=day() * 31).contains(&at(day() * 30, day() * 31)));
        assert_eq!(at(Duration::ZERO, Duration::ZERO), MINIMUM_AGE, "never without end");
        assert_eq!(at(day() * 200, day() * 201), day() * 75, "never after its end");
        assert_eq!(at(day() * 40, day() * 30), day() * 40, "a window that ends before it starts");
    }

    #[tokio::test(start_paused = true)]
    async fn names_come_when_their_time_has_come() {
        let schedule = Schedule::default();
        let name = |text: &str| DnsName::parse(text).unwrap();
        let now = SystemTime::now();
        schedule.set(name("late.test"), now + day());
        schedule.set(name("b.test"), now - day());
        schedule.set(name("a.test"), now - day() * 2);
        schedule.set(name("late.test"), now + day() * 2);
        assert_eq!(schedule.next().await, name("a.test"));
        assert_eq!(schedule.next().await, name("b.test"));
        assert!(schedule.due(now + day()).is_err());
        assert_eq!(schedule.due(now + day() * 2).unwrap(), name("late.test"));
        assert!(schedule.due(now + day() * 9).is_err());
    }
}
