//! CPU time of this thread. Asking the kernel costs half a microsecond, as much as a twentieth of a
//! small request, so short spans are charged by the wall clock, which is never less than what they used.

use std::cell::Cell;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Spans up to this length are charged by the wall clock: what another thread took of one is too
/// little to matter against limits of milliseconds.
const SHORT: Duration = Duration::from_micros(250);

/// How old a thread's last reading may be: the most that a span can be charged for others' work.
const FRESH: Duration = Duration::from_micros(200);

thread_local! {
    static LAST: Cell<Option<Reading>> = const { Cell::new(None) };
}

/// Both clocks at the same moment.
#[derive(Clone, Copy)]
struct Reading {
    wall: Instant,
    cpu: Duration,
}

impl Reading {
    fn take(wall: Instant) -> Self {
        let cpu = clock_gettime(ClockId::ThreadCPUTime);
        let reading = Self { wall, cpu: Duration::try_from(cpu).unwrap_or_default() };
        LAST.set(Some(reading));
        reading
    }

    fn recent(now: Instant) -> Self {
        LAST.get().filter(|last| now.duration_since(last.wall) < FRESH).unwrap_or_else(|| Self::take(now))
    }
}

/// Work that has begun on this thread.
#[derive(Clone, Copy)]
pub struct Span {
    began: Instant,
    base: Reading,
}

impl Span {
    /// Begins now.
    pub fn begin() -> Self {
        let began = Instant::now();
        Self { began, base: Reading::recent(began) }
    }

    /// CPU time until `now`; must be called on the thread that began it. At most `FRESH` too much.
    pub fn used(&self, now: Instant) -> Duration {
        let elapsed = now.duration_since(self.began);
        if elapsed < SHORT {
            return elapsed;
        }
        // The thread cannot have used more than this, nor more than the time that passed.
        elapsed.min(Reading::take(now).cpu.saturating_sub(self.base.cpu))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_not_work_and_work_is() {
        let span = Span::begin();
        std::thread::park_timeout(Duration::from_millis(60));
        assert!(span.used(Instant::now()) < Duration::from_millis(30));
        let span = Span::begin();
        while span.began.elapsed() < Duration::from_millis(40) || span.used(Instant::now()).is_zero() {
            std::hint::spin_loop();
        }
        assert!(span.used(Instant::now()) <= span.began.elapsed());
    }
}
