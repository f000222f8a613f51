//! What a deployment's calls are like: those of one that computed for long begin in the background, so that
//! a function that is always slow takes no time from those that are not; those of one that failed have
//! instances of their own, so that they take nobody else with them.

use std::sync::atomic::{AtomicU32, Ordering};

/// Calls in a row without an occasion for it, after which a deployment is trusted again.
const FORGIVEN_AFTER: u32 = 16;

/// One deployment's.
#[derive(Debug, Default)]
pub struct Habits {
    long: Distrust,
    failing: Distrust,
}

impl Habits {
    /// Whether the next call is likely to compute for long.
    pub fn are_long(&self) -> bool {
        self.long.stands()
    }

    /// Whether the next call may have an instance together with others.
    pub fn are_sociable(&self) -> bool {
        !self.long.stands() && !self.failing.stands()
    }

    /// A call has ended.
    pub fn note(&self, long: bool, failed: bool) {
        self.long.note(long);
        self.failing.note(failed);
    }
}

/// Calls that are still to come before it is over.
#[derive(Debug, Default)]
struct Distrust(AtomicU32);

impl Distrust {
    fn stands(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    fn note(&self, occasion: bool) {
        if occasion {
            self.0.store(FORGIVEN_AFTER, Ordering::Relaxed);
        } else if self.stands() {
            let less = |distrust: u32| distrust.checked_sub(1);
            let _none_left = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_call_is_remembered_and_forgiven() {
        let habits = Habits::default();
        habits.note(false, false);
        assert!(!habits.are_long());
        habits.note(true, false);
        for _ in 0..FORGIVEN_AFTER {
            assert!(habits.are_long());
            habits.note(false, false);
        }
        assert!(!habits.are_long() && habits.are_sociable());
    }

    #[test]
    fn a_failure_makes_it_work_apart_and_not_slower() {
        let habits = Habits::default();
        assert!(habits.are_sociable());
        habits.note(false, true);
        assert!(!habits.are_sociable() && !habits.are_long());
    }
}
