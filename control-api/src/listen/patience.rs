//! How long a client may keep its connection waiting.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

const LEAST_BYTES_PER_SECOND: u64 = af_contract::limits::LEAST_BYTES_PER_SECOND as u64;

/// What is left of it.
pub(super) struct Patience {
    left: Duration,
    most: Duration,
    /// Since when it waits, and until when.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Patience {
    /// So long, and for as much longer as what moves is worth.
    pub(super) const fn new(most: Duration) -> Self {
        Self { left: most, most, waiting: None }
    }

    /// So many bytes went on.
    pub(super) fn earn(&mut self, bytes: usize) {
        let waited = self.waiting.take().map_or(Duration::ZERO, |(since, _)| since.elapsed());
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let earned = Duration::from_millis(bytes.saturating_mul(1000) / LEAST_BYTES_PER_SECOND);
        self.left = self.left.saturating_sub(waited).saturating_add(earned).min(self.most);
    }

    /// Nothing goes on. Ready when that was so for too long.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let left = self.left;
        let (_, timer) = self.waiting.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(left))));
        timer.as_mut().poll(cx)
    }
}
