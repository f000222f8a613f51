//! What is known of one source: how fast it is, whether it may be asked now, and what it has done.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::SourceError;

/// Failures in a row after which a source is left alone for a while.
const FAILURES: u32 = 3;

/// For how long, at first; twice as long after each failed probe.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// For how long a source is not asked that sent bytes which are not what the id says.
const BAN: Duration = Duration::from_secs(10 * 60);

/// Times that others overtook it, after which it is asked last; once is enough for one that has given nothing yet.
const OVERTAKEN: u32 = 2;

/// A source that was overtaken so often gets another chance after this.
const DEMOTION: Duration = Duration::from_secs(15);

/// How long a source is waited for before the next one is asked as well, within these bounds.
const SHORTEST_WAIT: Duration = Duration::from_millis(20);
const LONGEST_WAIT: Duration = Duration::from_millis(1000);
/// Before anything is known of it: little, since another request costs less than a source that never answers.
const FIRST_WAIT: Duration = Duration::from_millis(5);

/// Whether, and when, a source is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Turn {
    /// In its place.
    InOrder,
    /// After those that are faster.
    Late,
    /// Not now.
    Never,
}

/// What a source has done so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceReport {
    /// As [`super::Source::name`].
    pub name: String,
    /// Times that it was asked, for one block or for all of a DAG. Who did not answer has fewer of what follows.
    pub asked: u64,
    /// Blocks that it gave and that were what they should be.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Times that it had no block.
    pub missing: u64,
    /// Times that it could not be reached, took too long, or answered something else.
    pub failures: u64,
    /// Times that it sent bytes which are not what the id says.
    pub lies: u64,
    /// Whether it is left alone now, because it failed or lied.
    pub paused: bool,
    /// What was wrong the last time that it failed or lied, for people.
    pub said: Option<String>,
    /// The peers that it asked in turn, if it is several.
    pub peers: Vec<SourceReport>,
}

#[derive(Debug, Default)]
pub(super) struct Standing {
    state: Mutex<State>,
    asked: AtomicU64,
    blocks: AtomicU64,
    bytes: AtomicU64,
    missing: AtomicU64,
    failures: AtomicU64,
    lies: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// Seconds that a block takes, smoothed.
    latency: Option<f64>,
    failed: u32,
    pauses: u32,
    overtaken: u32,
    late_until: Option<Instant>,
    /// After failures, until it gives a block.
    paused_until: Option<Instant>,
    /// As it asked for; what other requests come to changes nothing about that.
    busy_until: Option<Instant>,
    banned_until: Option<Instant>,
    /// The last error, which it is, or was, left alone for.
    reason: String,
}

impl State {
    /// Until when it is left alone.
    fn left_until(&self, now: Instant) -> Option<Instant> {
        let until = [self.paused_until, self.busy_until, self.banned_until].into_iter().flatten().max();
        until.filter(|until| now < *until)
    }
}

impl Standing {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub fn turn(&self) -> Turn {
        let (state, now) = (self.state(), Instant::now());
        match (state.left_until(now), state.late_until) {
            (Some(_), _) => Turn::Never,
            (None, Some(until)) if now < until => Turn::Late,
            _ => Turn::InOrder,
        }
    }

    /// Why it is not asked now.
    pub fn left_alone(&self) -> Option<SourceError> {
        let (state, now) = (self.state(), Instant::now());
        let left = state.left_until(now)?.duration_since(now);
        Some(SourceError::LeftAlone { left, reason: state.reason.clone() })
    }

    /// When it may be asked again, if that is so because it failed, or was busy, and not because it lied.
    pub fn back_at(&self) -> Option<Instant> {
        let (state, now) = (self.state(), Instant::now());
        let banned = state.banned_until.is_some_and(|until| now < until);
        state.left_until(now).filter(|_| !banned)
    }

    /// How long it is waited for before another one is asked as well: twice what it usually takes.
    pub fn patience(&self) -> Duration {
        let usual = self.state().latency.map(|seconds| Duration::from_secs_f64(2.0 * seconds));
        usual.map_or(FIRST_WAIT, |usual| usual.clamp(SHORTEST_WAIT, LONGEST_WAIT))
    }

    /// It is being asked.
    pub fn asked(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
    }

    /// It gave a block.
    pub fn gave(&self, bytes: usize, took: Duration) {
        self.blocks.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let mut state = self.state();
        let seconds = took.as_secs_f64();
        let latency = state.latency.map_or(seconds, |before| before * 0.8 + seconds * 0.2);
        let (busy_until, banned_until) = (state.busy_until, state.banned_until);
        let reason = std::mem::take(&mut state.reason);
        *state = State { latency: Some(latency), busy_until, banned_until, reason, ..State::default() };
    }

    /// It sent a block among many, so that nothing is known of how long one takes.
    pub fn sent(&self, bytes: usize) {
        self.blocks.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Another one was asked later and was faster.
    pub fn was_overtaken(&self) {
        let mut state = self.state();
        state.overtaken += 1;
        if state.overtaken >= OVERTAKEN || state.latency.is_none() {
            state.overtaken = 0;
            state.late_until = Some(Instant::now() + DEMOTION);
        }
    }

    /// It gave no block.
    pub fn failed(&self, error: &SourceError) {
        if error.is_lie() {
            self.lies.fetch_add(1, Ordering::Relaxed);
            let mut state = self.state();
            state.banned_until = Some(Instant::now() + BAN);
            state.reason = error.to_string();
            return;
        }
        if matches!(error, SourceError::NotFound | SourceError::Barred(_)) {
            self.missing.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.failures.fetch_add(1, Ordering::Relaxed);
        let (mut state, now) = (self.state(), Instant::now());
        let left_alone = state.left_until(now).is_some();
        if let SourceError::Busy { after: Some(after), .. } = error {
            let until = now + (*after).min(LONGEST_PAUSE);
            state.busy_until = state.busy_until.max(Some(until));
        }
        if state.banned_until.is_none_or(|until| until <= now) {
            state.reason = error.to_string();
        }
        // Other requests that were on their way when it failed tell nothing new.
        if left_alone {
            return;
        }
        state.failed += 1;
        if state.failed >= FAILURES {
            let pause = PAUSE.saturating_mul(1 << state.pauses.min(8)).min(LONGEST_PAUSE);
            state.pauses += 1;
            // One request tells whether it is back.
            state.failed = FAILURES - 1;
            state.paused_until = Some(now + pause);
        }
    }

    pub fn report(&self, name: &str) -> SourceReport {
        SourceReport {
            name: name.to_owned(),
            asked: self.asked.load(Ordering::Relaxed),
            blocks: self.blocks.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            missing: self.missing.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            lies: self.lies.load(Ordering::Relaxed),
            paused: self.turn() == Turn::Never,
            said: Some(self.state().reason.clone()).filter(|reason| !reason.is_empty()),
            peers: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unreachable() -> SourceError {
        SourceError::Unreachable("refused".into())
    }

    #[test]
    fn a_source_that_lies_once_is_not_asked_for_a_while() {
        let standing = Standing::default();
        standing.failed(&SourceError::TooLarge);
        assert_eq!(standing.turn(), Turn::Never);
        assert_eq!(standing.report("x").lies, 1);
    }

    #[test]
    fn a_source_that_fails_thrice_in_a_row_is_left_alone() {
        let standing = Standing::default();
        for _ in 0..2 {
            standing.failed(&unreachable());
        }
        standing.gave(1, Duration::from_millis(1));
        for _ in 0..2 {
            standing.failed(&unreachable());
            assert_eq!(standing.turn(), Turn::InOrder);
        }
        standing.failed(&SourceError::NotFound);
        assert_eq!(standing.turn(), Turn::InOrder, "not to have a block is no failure");
        standing.failed(&unreachable());
        assert_eq!(standing.turn(), Turn::Never);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_fail_together_are_one_failure_more() {
        let standing = Standing::default();
        for _ in 0..40 {
            standing.failed(&unreachable());
        }
        tokio::time::advance(PAUSE).await;
        assert_eq!(standing.turn(), Turn::InOrder);
    }

    #[tokio::test(start_paused = true)]
    async fn who_wants_to_be_asked_later_is_asked_later_whatever_else_comes() {
        let standing = Standing::default();
        let after = Some(Duration::from_secs(7));
        standing.failed(&SourceError::Busy { status: Some(429), after });
        standing.gave(1, Duration::from_millis(1));
        standing.failed(&unreachable());
        assert_eq!(standing.back_at(), after.map(|after| Instant::now() + after));
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!(standing.turn(), Turn::InOrder);
    }

    #[test]
    fn a_source_that_is_overtaken_is_asked_later() {
        let standing = Standing::default();
        standing.gave(1, Duration::from_millis(1));
        standing.was_overtaken();
        assert_eq!(standing.turn(), Turn::InOrder, "that happens");
        standing.was_overtaken();
        assert_eq!(standing.turn(), Turn::Late);
        let silent = Standing::default();
        silent.was_overtaken();
        assert_eq!(silent.turn(), Turn::Late);
    }
}
