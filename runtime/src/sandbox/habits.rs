//! What a deployment's calls are like, and so where the next one begins: on the core, which is quick, or in the
//! background, where a function that is slow or fails takes no time from those that are not.

use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Calls in a row without an occasion for it, after which a deployment is trusted again.
const FORGIVEN_AFTER: u32 = 16;

/// More CPU time than this, on average, is not spent on a core where another function is called, too. A
/// StarlingMonkey "hello" takes 0.4 ms, and a neighbour's request that comes behind it waits as long.
const HEAVY: Duration = Duration::from_millis(1);

/// How long a function is a neighbour after a call.
const NEIGHBOUR: Duration = Duration::from_millis(100);

/// The average follows the last calls: each counts for a sixteenth.
const WEIGHT: u64 = 16;

thread_local! {
    /// The deployment that was called last on this thread, by address, and when another one was.
    static CALLED: Cell<(usize, Option<Instant>)> = const { Cell::new((0, None)) };
}

/// One deployment's.
#[derive(Debug, Default)]
pub struct Habits {
    long: Distrust,
    failing: Distrust,
    /// CPU time of a call, nanoseconds.
    average: AtomicU64,
}

impl Habits {
    /// Whether the call that begins now on this thread had better work in the background.
    pub fn belong_away(&self, now: Instant) -> bool {
        let neighbours = self.has_neighbours(now);
        self.long.stands() || self.failing.stands() || (neighbours && self.average() > HEAVY)
    }

    /// Whether the next call may have an instance together with others.
    pub fn are_sociable(&self) -> bool {
        !self.long.stands() && !self.failing.stands()
    }

    /// A call has ended after so much CPU time. It was long if it computed for long without waiting.
    pub fn note(&self, cpu: Duration, long: bool, failed: bool) {
        self.long.note(long);
        self.failing.note(failed);
        let cpu = u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX);
        let average = self.average.load(Ordering::Relaxed);
        // Calls that end at the same time may overwrite each other: it is an estimate.
        self.average.store(average - average / WEIGHT + cpu / WEIGHT, Ordering::Relaxed);
    }

    fn average(&self) -> Duration {
        Duration::from_nanos(self.average.load(Ordering::Relaxed))
    }

    fn has_neighbours(&self, now: Instant) -> bool {
        let this = ptr::from_ref(self).addr();
        let (last, mut other) = CALLED.get();
        if last != this {
            other = (last != 0).then_some(now);
            CALLED.set((this, other));
        }
        other.is_some_and(|other| now.saturating_duration_since(other) < NEIGHBOUR)
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

    const SHORT: Duration = Duration::from_micros(20);

    #[test]
    fn a_long_call_or_a_failure_is_remembered_and_forgiven() {
        for (long, failed) in [(true, false), (false, true)] {
            let (habits, now) = (Habits::default(), Instant::now());
            habits.note(SHORT, false, false);
            assert!(!habits.belong_away(now) && habits.are_sociable());
            habits.note(SHORT, long, failed);
            for _ in 0..FORGIVEN_AFTER {
                assert!(habits.belong_away(now) && !habits.are_sociable());
                habits.note(SHORT, false, false);
            }
            assert!(!habits.belong_away(now) && habits.are_sociable());
        }
    }

    #[test]
    fn heavy_calls_go_away_where_they_have_neighbours() {
        let (heavy, light, now) = (Habits::default(), Habits::default(), Instant::now());
        for _ in 0..100 {
            heavy.note(2 * HEAVY, false, false);
            light.note(SHORT, false, false);
        }
        assert!(!heavy.belong_away(now), "alone it may stay");
        assert!(!light.belong_away(now));
        assert!(heavy.belong_away(now));
        assert!(heavy.belong_away(now + NEIGHBOUR / 2));
        assert!(!heavy.belong_away(now + 2 * NEIGHBOUR), "the neighbour has gone");
    }
}
