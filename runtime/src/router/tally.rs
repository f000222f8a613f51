//! How a candidate and the active deployment do beside each other, in the last minute.

use std::time::{Duration, Instant};

use af_contract::Tally;

/// Of a minute: what is older than this is forgotten, sixth by sixth.
const SLOT: Duration = Duration::from_secs(10);

const SLOTS: usize = 6;

/// Whose request it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arm {
    /// The active deployment's.
    Active,
    /// The candidate's.
    Candidate,
}

/// A sliding window of both.
pub struct Window {
    since: Instant,
    /// Number of the slot that is written to, counted from the beginning.
    current: u64,
    slots: [[Tally; 2]; SLOTS],
}

impl Window {
    /// Nothing was counted yet.
    pub fn new(now: Instant) -> Self {
        Self { since: now, current: 0, slots: Default::default() }
    }

    /// Counts a request.
    pub fn count(&mut self, now: Instant, arm: Arm, failed: bool) {
        let slot = now.saturating_duration_since(self.since).as_secs() / SLOT.as_secs();
        for old in self.current + 1..=slot.min(self.current + SLOTS as u64) {
            *self.slot(old) = Default::default();
        }
        self.current = self.current.max(slot);
        let [active, candidate] = self.slot(self.current);
        let tally = if arm == Arm::Active { active } else { candidate };
        tally.requests = tally.requests.saturating_add(1);
        tally.failures = tally.failures.saturating_add(u32::from(failed));
    }

    /// The active deployment's, and the candidate's.
    pub fn sums(&self) -> [Tally; 2] {
        let mut sums = [Tally::default(); 2];
        for slot in &self.slots {
            for (sum, tally) in sums.iter_mut().zip(slot) {
                sum.requests = sum.requests.saturating_add(tally.requests);
                sum.failures = sum.failures.saturating_add(tally.failures);
            }
        }
        sums
    }

    fn slot(&mut self, number: u64) -> &mut [Tally; 2] {
        let [a, b, c, d, e, f] = &mut self.slots;
        match number % SLOTS as u64 {
            0 => a,
            1 => b,
            2 => c,
            3 => d,
            4 => e,
            _ => f,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_is_remembered() {
        let start = Instant::now();
        let mut window = Window::new(start);
        for second in [0, 5, 15, 59] {
            window.count(start + Duration::from_secs(second), Arm::Candidate, second == 0);
        }
        window.count(start, Arm::Active, false);
        assert_eq!(window.sums(), [Tally { requests: 1, failures: 0 }, Tally { requests: 4, failures: 1 }]);
        window.count(start + Duration::from_secs(61), Arm::Candidate, false);
        assert_eq!(window.sums()[1], Tally { requests: 3, failures: 0 }, "the first ten seconds are gone");
        window.count(start + Duration::from_secs(9_999), Arm::Active, true);
        assert_eq!(window.sums(), [Tally { requests: 1, failures: 1 }, Tally::default()]);
    }
}
