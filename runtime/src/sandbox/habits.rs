//! What a deployment's calls are like: those of one that computed for long begin in the background, so that
//! a function that is always slow takes no time from those that are not.

use std::sync::atomic::{AtomicU32, Ordering};

/// Short calls in a row after which a deployment counts as quick again.
const FORGIVEN_AFTER: u32 = 16;

/// One deployment's.
#[derive(Debug, Default)]
pub struct Habits {
    /// Short calls that are still to come before it is trusted.
    distrust: AtomicU32,
}

impl Habits {
    /// Whether the next call is likely to compute for long.
    pub fn are_long(&self) -> bool {
        self.distrust.load(Ordering::Relaxed) > 0
    }

    /// A call has ended.
    pub fn note(&self, long: bool) {
        if long {
            self.distrust.store(FORGIVEN_AFTER, Ordering::Relaxed);
        } else if self.are_long() {
            let less = |distrust: u32| distrust.checked_sub(1);
            let _none_left = self.distrust.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_call_is_remembered_and_forgiven() {
        let habits = Habits::default();
        habits.note(false);
        assert!(!habits.are_long());
        habits.note(true);
        for _ in 0..FORGIVEN_AFTER {
            assert!(habits.are_long());
            habits.note(false);
        }
        assert!(!habits.are_long());
    }
}
