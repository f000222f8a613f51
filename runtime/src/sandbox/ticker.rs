//! The clock that interrupts guests. It sleeps when no guest runs.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use wasmtime::{Engine, EngineWeak};

/// How often a running guest is asked what it has used. 2 ms: what a hostile loop takes beyond its
/// limit, at most, for 500 wake-ups a second of a thread that does next to nothing.
pub const TICK: Duration = Duration::from_millis(2);

/// Ticks without a call before the clock sleeps: half a second, so that a server in use never pays
/// for waking it.
const QUIET: u32 = 250;

/// Interrupts the guests of some engines while any run.
pub struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
}

struct Shared {
    /// Polls of guests that have begun.
    entered: AtomicU64,
    /// Polls of guests that have ended.
    left: AtomicU64,
    asleep: AtomicBool,
    stopped: AtomicBool,
}

impl Ticker {
    pub fn start(engines: &[&Engine]) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            entered: AtomicU64::new(0),
            left: AtomicU64::new(0),
            asleep: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
        });
        let engines: Vec<_> = engines.iter().map(|engine| engine.weak()).collect();
        let seen = shared.clone();
        let handle = thread::Builder::new().name("ticker".into()).spawn(move || seen.tick(&engines))?;
        Ok(Self { shared, thread: handle.thread().clone() })
    }

    /// Ticks while `guest` runs.
    pub fn during<R>(&self, guest: impl FnOnce() -> R) -> R {
        self.shared.entered.fetch_add(1, Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
        let result = guest();
        self.shared.left.fetch_add(1, Ordering::SeqCst);
        result
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

impl Shared {
    fn tick(&self, engines: &[EngineWeak]) {
        let (mut seen, mut quiet) = (0, 0);
        while !self.stopped.load(Ordering::SeqCst) {
            // In this order, so that what is between the two makes them differ.
            let left = self.left.load(Ordering::SeqCst);
            let entered = self.entered.load(Ordering::SeqCst);
            quiet = if entered == seen && left == entered { quiet + 1 } else { 0 };
            seen = entered;
            if quiet > QUIET {
                self.sleep(seen);
                quiet = 0;
            }
            for engine in engines.iter().filter_map(EngineWeak::upgrade) {
                engine.increment_epoch();
            }
            thread::sleep(TICK);
        }
    }

    /// Until a guest runs. Whoever lets one run looks at `asleep` after it was counted, and this at
    /// the count after `asleep`, so one of them notices.
    fn sleep(&self, seen: u64) {
        self.asleep.store(true, Ordering::SeqCst);
        while self.entered.load(Ordering::SeqCst) == seen && !self.stopped.load(Ordering::SeqCst) {
            thread::park();
        }
        self.asleep.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_sleeps_wakes_when_a_guest_runs() {
        let config = wasmtime::Config::new();
        let engine = Engine::new(&config).unwrap();
        let ticker = Ticker::start(&[&engine]).unwrap();
        while !ticker.shared.asleep.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        ticker.during(|| {
            while ticker.shared.asleep.load(Ordering::SeqCst) {
                thread::yield_now();
            }
        });
    }
}
