//! What one call has used, and which limit it broke first.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use af_contract::Limits;

use super::clock::Span;

/// A guest that computes longer than this in one go is somebody else's latency: it goes on in the
/// [`super::background`]. A StarlingMonkey "hello" takes 0.2 ms, 1 MiB of echo 2.5 ms; in the background, where each
/// chunk of a body crosses threads, the echo has a third of the throughput.
const LONG: Duration = Duration::from_millis(4);

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
    /// The client was too slow with its body.
    #[error("the request body did not arrive in time")]
    RequestSlow,
    /// The client's body is none.
    #[error("the request body is malformed")]
    RequestMalformed,
    /// The function's body.
    #[error("the function's response is larger than its limit allows")]
    ResponseBody,
    /// CPU time to instantiate.
    #[error("the function needs more CPU time to start than its limit allows")]
    Startup,
    /// Handles of host resources.
    #[error("the function held more handles than it may")]
    Handles,
    /// The size of a set of headers.
    #[error("the function made larger headers than it may")]
    Fields,
    /// Random bytes of one call.
    #[error("the function asked for more random bytes at once than it may")]
    Random,
    /// Data of one call of a host function.
    #[error("the function gave its host more data at once than it may")]
    Hostcall,
}

impl Exceeded {
    const ALL: [Self; 12] = [
        Self::Cpu,
        Self::Wall,
        Self::Memory,
        Self::RequestBody,
        Self::RequestSlow,
        Self::RequestMalformed,
        Self::ResponseBody,
        Self::Startup,
        Self::Handles,
        Self::Fields,
        Self::Random,
        Self::Hostcall,
    ];

    /// Stable, for problem documents and metrics.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Cpu => "cpu_limit_exceeded",
            Self::Wall => "wall_limit_exceeded",
            Self::Memory => "memory_limit_exceeded",
            Self::RequestBody => "request_body_too_large",
            Self::RequestSlow => "request_body_timeout",
            Self::RequestMalformed => "malformed_request",
            Self::ResponseBody => "response_body_too_large",
            Self::Startup => "startup_limit_exceeded",
            Self::Handles => "handle_limit_exceeded",
            Self::Fields => "header_limit_exceeded",
            Self::Random => "random_limit_exceeded",
            Self::Hostcall => "hostcall_limit_exceeded",
        }
    }
}

/// Shared by all parts of one call, or, where an instance serves several calls at once, of one instance.
pub struct Meter {
    /// Of one call.
    cpu_limit: Duration,
    /// Of all calls together, nanoseconds.
    cpu_budget: AtomicU64,
    began: Instant,
    /// When the last call has to end, nanoseconds after `began`.
    deadline: AtomicU64,
    startup_limit: Duration,
    started: AtomicBool,
    /// CPU time, nanoseconds, of the polls that have ended.
    spent: AtomicU64,
    /// The poll that is going on.
    span: Mutex<Option<Span>>,
    long: AtomicBool,
    exceeded: AtomicU8,
    memory_denied: AtomicBool,
}

impl Meter {
    /// Starts the wall clock.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let cpu_limit = Duration::from_millis(limits.cpu_ms);
        Self {
            cpu_limit,
            cpu_budget: AtomicU64::new(nanos(cpu_limit)),
            began: Instant::now(),
            deadline: AtomicU64::new(nanos(Duration::from_millis(limits.wall_ms))),
            startup_limit: Duration::from_millis(limits.startup_ms),
            started: AtomicBool::new(false),
            spent: AtomicU64::new(0),
            span: Mutex::new(None),
            long: AtomicBool::new(false),
            exceeded: AtomicU8::new(0),
            memory_denied: AtomicBool::new(false),
        }
    }

    /// When the call, or the first of them, began.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// When the wall time ends.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.began + Duration::from_nanos(self.deadline.load(Ordering::Relaxed))
    }

    /// Another call joins those of this instance. Whose CPU time it is cannot be told then, so they may use
    /// together what each may use, and none of them more than that without waiting for anything.
    pub fn admit(&self, limits: &Limits) {
        self.cpu_budget.fetch_add(nanos(Duration::from_millis(limits.cpu_ms)), Ordering::Relaxed);
        let deadline = self.began.elapsed().saturating_add(Duration::from_millis(limits.wall_ms));
        self.deadline.fetch_max(nanos(deadline), Ordering::Relaxed);
    }

    /// The guest is instantiated: from here on its start-up time does not matter.
    pub fn start(&self) {
        self.started.store(true, Ordering::Relaxed);
    }

    /// Counts the CPU time that `poll` takes on this thread.
    pub fn measure<R>(&self, poll: impl FnOnce() -> R) -> R {
        let span = Span::begin();
        self.set_span(Some(span));
        let result = poll();
        self.set_span(None);
        self.spend(span.used(Instant::now()));
        result
    }

    /// Counts CPU time that another thread has spent for this call.
    pub fn charge(&self, used: Duration) {
        self.spend(used);
        if self.cpu_time() > self.cpu_budget() {
            self.exceed(Exceeded::Cpu);
        }
    }

    fn cpu_budget(&self) -> Duration {
        Duration::from_nanos(self.cpu_budget.load(Ordering::Relaxed))
    }

    /// CPU time of all polls that have ended.
    #[must_use]
    pub fn cpu_time(&self) -> Duration {
        Duration::from_nanos(self.spent.load(Ordering::Relaxed))
    }

    /// Checks the limits from within [`Self::measure`], on the thread that it measures.
    pub fn check(&self) -> Verdict {
        let now = Instant::now();
        let span = *self.span.lock().unwrap_or_else(PoisonError::into_inner);
        let used = span.map_or(Duration::ZERO, |span| span.used(now));
        let cpu = self.cpu_time().saturating_add(used);
        if cpu > self.cpu_budget() || used > self.cpu_limit {
            self.exceed(Exceeded::Cpu);
        } else if now >= self.deadline() {
            self.exceed(Exceeded::Wall);
        } else if cpu > self.startup_limit && !self.started.load(Ordering::Relaxed) {
            self.exceed(Exceeded::Startup);
        }
        if self.exceeded().is_some() {
            return Verdict::Stop;
        }
        if used < LONG {
            return Verdict::GoOn;
        }
        self.long.store(true, Ordering::Relaxed);
        Verdict::Yield
    }

    /// Whether the guest was made to yield because it computes for long.
    pub fn is_long(&self) -> bool {
        self.long.load(Ordering::Relaxed)
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

    fn set_span(&self, span: Option<Span>) {
        *self.span.lock().unwrap_or_else(PoisonError::into_inner) = span;
    }

    fn spend(&self, used: Duration) {
        self.spent.fetch_add(nanos(used), Ordering::Relaxed);
    }
}

/// Enough for 584 years.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What becomes of a guest that the clock interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has not computed for long.
    GoOn,
    /// Others come first.
    Yield,
    /// It broke a limit.
    Stop,
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
        assert_eq!(meter.measure(|| meter.check()), Verdict::GoOn);
        assert!(!meter.is_long());
        meter.measure(|| while meter.check() != Verdict::Stop {});
        assert_eq!(meter.exceeded(), Some(Exceeded::Cpu));
        assert!(meter.is_long());
        assert!(meter.cpu_time() > Duration::from_millis(15));
    }

    #[test]
    fn calls_that_share_an_instance_may_use_together_what_each_may() {
        let limits = Limits { cpu_ms: 20, ..Limits::default() };
        let meter = Meter::new(&limits);
        meter.start();
        let work = |time| {
            meter.measure(|| {
                let began = Instant::now();
                while began.elapsed() < Duration::from_millis(time) {}
                meter.check()
            })
        };
        meter.admit(&limits);
        work(12);
        assert_ne!(work(12), Verdict::Stop, "two calls may use 40 ms");
        meter.measure(|| while meter.check() != Verdict::Stop {});
        assert_eq!(meter.exceeded(), Some(Exceeded::Cpu));
        let meter = Meter::new(&limits);
        (0..100).for_each(|_| meter.admit(&limits));
        meter.measure(|| while meter.check() != Verdict::Stop {});
        assert!(meter.cpu_time() < Duration::from_secs(1), "one alone may not use what is for all");
    }

    #[test]
    fn work_of_other_threads_counts() {
        let meter = Meter::new(&Limits { cpu_ms: 20, ..Limits::default() });
        meter.charge(Duration::from_millis(15));
        assert_eq!(meter.exceeded(), None);
        meter.charge(Duration::from_millis(15));
        assert_eq!((meter.exceeded(), meter.cpu_time()), (Some(Exceeded::Cpu), Duration::from_millis(30)));
    }

    #[test]
    fn a_slow_start_is_told_from_a_slow_request() {
        let limits = Limits { startup_ms: 0, ..Limits::default() };
        let slow = Meter::new(&limits);
        slow.measure(|| while slow.check() != Verdict::Stop {});
        assert_eq!(slow.exceeded(), Some(Exceeded::Startup));
        let started = Meter::new(&limits);
        started.start();
        assert_eq!(started.check(), Verdict::GoOn);
    }
}
