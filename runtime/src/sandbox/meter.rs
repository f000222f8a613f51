//! What one call has used, and which limit it broke first.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use af_contract::Limits;
use rustix::time::{ClockId, clock_gettime};

/// A limit that a call broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Exceeded {
    /// CPU time.
    #[error("the function used more CPU time than its limit allows")]
    Cpu,
    /// Wall time.
    #[error("the function took longer than its limit allows")]
    Wall,
    /// Memory.
    #[error("the function needed more memory than its limit allows")]
    Memory,
    /// The client's body.
    #[error("the request body is larger than this function accepts")]
    RequestBody,
    /// The function's body.
    #[error("the function's response is larger than its limit allows")]
    ResponseBody,
}

impl Exceeded {
    const ALL: [Self; 5] = [Self::Cpu, Self::Wall, Self::Memory, Self::RequestBody, Self::ResponseBody];
}

/// Shared by all parts of one call.
#[derive(Debug)]
pub struct Meter {
    cpu_limit: u64,
    deadline: Instant,
    /// Thread CPU time, nanoseconds, of the polls that have ended.
    spent: AtomicU64,
    /// The thread's clock when the poll that is going on began.
    entered: AtomicU64,
    exceeded: AtomicU8,
    memory_denied: AtomicBool,
}

impl Meter {
    /// Starts the wall clock.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            cpu_limit: limits.cpu_ms.saturating_mul(1_000_000),
            deadline: Instant::now() + Duration::from_millis(limits.wall_ms),
            spent: AtomicU64::new(0),
            entered: AtomicU64::new(0),
            exceeded: AtomicU8::new(0),
            memory_denied: AtomicBool::new(false),
        }
    }

    /// When the wall time ends.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Counts the CPU time that `poll` takes on this thread.
    pub fn measure<R>(&self, poll: impl FnOnce() -> R) -> R {
        let before = thread_cpu_time();
        self.entered.store(before, Ordering::Relaxed);
        let result = poll();
        let used = thread_cpu_time().saturating_sub(before);
        self.spent.fetch_add(used, Ordering::Relaxed);
        result
    }

    /// Checks the limits from within [`Self::measure`], on the thread that it measures.
    #[must_use]
    pub fn check(&self) -> Option<Exceeded> {
        let now = thread_cpu_time().saturating_sub(self.entered.load(Ordering::Relaxed));
        if self.spent.load(Ordering::Relaxed).saturating_add(now) > self.cpu_limit {
            self.exceed(Exceeded::Cpu);
        } else if Instant::now() >= self.deadline {
            self.exceed(Exceeded::Wall);
        }
        self.exceeded()
    }

    /// Notes that a limit was broken. The first one stays.
    pub fn exceed(&self, limit: Exceeded) {
        let code = limit as u8 + 1;
        let _first = self.exceeded.compare_exchange(0, code, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The limit that was broken first, if any.
    #[must_use]
    pub fn exceeded(&self) -> Option<Exceeded> {
        let code = usize::from(self.exceeded.load(Ordering::Relaxed));
        code.checked_sub(1).and_then(|index| Exceeded::ALL.get(index)).copied()
    }

    /// Notes that memory was refused. Not a failure yet: a guest may cope.
    pub fn deny_memory(&self) {
        self.memory_denied.store(true, Ordering::Relaxed);
    }

    /// The limit to blame for a guest that failed.
    #[must_use]
    pub fn blame(&self) -> Option<Exceeded> {
        let denied = self.memory_denied.load(Ordering::Relaxed).then_some(Exceeded::Memory);
        self.exceeded().or(denied)
    }
}

/// CPU time of this thread, nanoseconds.
fn thread_cpu_time() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec));
    seconds.unwrap_or(0).saturating_mul(1_000_000_000).saturating_add(nanos.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_told_apart_and_the_first_stays() {
        for limit in Exceeded::ALL {
            let meter = Meter::new(&Limits::default());
            assert_eq!(meter.exceeded(), None);
            meter.exceed(limit);
            meter.exceed(Exceeded::Wall);
            assert_eq!(meter.exceeded(), Some(limit));
        }
    }

    #[test]
    fn work_counts_and_waiting_does_not() {
        let meter = Meter::new(&Limits { cpu_ms: 20, ..Limits::default() });
        meter.measure(|| std::thread::park_timeout(Duration::from_millis(60)));
        assert_eq!(meter.measure(|| meter.check()), None);
        let found = meter.measure(|| {
            loop {
                if let Some(limit) = meter.check() {
                    return limit;
                }
            }
        });
        assert_eq!(found, Exceeded::Cpu);
        assert!(meter.spent.load(Ordering::Relaxed) > 20_000_000);
    }
}
