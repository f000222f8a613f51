//! Whether a backend is worth a try: judged by what became of requests to it, never by requests of our own.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Failures in a row after which a backend is left out: one or two happen when it restarts.
const FAILURES: u32 = 5;

/// How long it is left out at first; twice as long each time that it fails again.
const EJECTION: Duration = Duration::from_secs(5);

/// The most that doubles: after 5 s × 2⁶, about five minutes, a backend that is repaired should be noticed.
const DOUBLINGS: u32 = 6;

/// Instants as numbers, for atomics.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// What is known of one backend, on this edge only.
#[derive(Debug, Default)]
pub struct Health {
    /// In a row.
    failures: AtomicU32,
    /// In a row, as well.
    ejections: AtomicU32,
    /// Milliseconds since [`START`].
    ejected_until: AtomicU64,
}

impl Health {
    /// Whether it is to be tried before others.
    pub fn is_good(&self) -> bool {
        // Most backends never fail: no clock for them.
        match self.ejected_until.load(Ordering::Relaxed) {
            0 => true,
            until => now() >= until,
        }
    }

    /// It answered.
    pub fn succeeded(&self) {
        // Read first: a write would take the line from the other cores with each request.
        if self.failures.load(Ordering::Relaxed) > 0 {
            self.failures.store(0, Ordering::Relaxed);
            self.ejections.store(0, Ordering::Relaxed);
            self.ejected_until.store(0, Ordering::Relaxed);
        }
    }

    /// It could not be connected to, did not answer in time, or said itself that it cannot.
    pub fn failed(&self) {
        if self.failures.fetch_add(1, Ordering::Relaxed) + 1 < FAILURES {
            return;
        }
        // Back in, it has one try.
        self.failures.store(FAILURES - 1, Ordering::Relaxed);
        let doublings = self.ejections.fetch_add(1, Ordering::Relaxed).min(DOUBLINGS);
        let pause = EJECTION.saturating_mul(1 << doublings);
        self.ejected_until.store(now().saturating_add(millis(pause)), Ordering::Relaxed);
    }
}

fn now() -> u64 {
    millis(START.elapsed())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_eject_for_longer_each_time() {
        let health = Health::default();
        (1..FAILURES).for_each(|_| health.failed());
        assert!(health.is_good());
        health.failed();
        assert!(!health.is_good());
        let first = health.ejected_until.load(Ordering::Relaxed);
        health.failed();
        let second = health.ejected_until.load(Ordering::Relaxed);
        assert!(second >= first + millis(EJECTION) / 2);
        (0..100).for_each(|_| health.failed());
        let bound = now() + millis(EJECTION) * (1 << DOUBLINGS);
        assert!(health.ejected_until.load(Ordering::Relaxed) <= bound);
        health.succeeded();
        assert!(health.is_good());
        (1..FAILURES).for_each(|_| health.failed());
        assert!(health.is_good(), "it starts anew");
    }

    #[test]
    fn failures_with_successes_between_them_eject_nobody() {
        let health = Health::default();
        for _ in 0..FAILURES * 3 {
            (1..FAILURES).for_each(|_| health.failed());
            health.succeeded();
        }
        assert!(health.is_good());
    }
}
