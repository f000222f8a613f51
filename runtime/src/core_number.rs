//! Which core a thread is: what waits for a core's own use (instances, connections to backends) stands on a shelf of
//! its own.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Cores that have a shelf of their own; the seventeenth shares the first one's.
pub const SHELVES: usize = 16;

/// A thread that serves requests.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CoreNumber(usize);

impl CoreNumber {
    /// This thread's, given when it first asks.
    #[must_use]
    pub fn here() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static NUMBER: Cell<Option<usize>> = const { Cell::new(None) };
        }
        let number = NUMBER.get().unwrap_or_else(|| {
            let number = NEXT.fetch_add(1, Ordering::Relaxed) % SHELVES;
            NUMBER.set(Some(number));
            number
        });
        Self(number)
    }

    /// This core's of all shelves.
    #[must_use]
    pub fn of<T>(self, shelves: &[T; SHELVES]) -> &T {
        let [first, ..] = shelves;
        shelves.get(self.0).unwrap_or(first)
    }
}
