//! What functions log here, on its way to the control plane: in batches, one a second at most, and none where nobody logs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use af_contract::edge::{LOGS_BYTES, LOGS_LINES, LOGS_PAUSE, Logs};
use af_contract::logs::{Bounds, Outbox, SentLine};
use af_contract::{LogLine, LogSink};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::client::Client;
use super::{Backoff, FeedError};
use crate::metrics::Metrics;
use crate::request_id::RequestId;

/// What waits while the control plane is away: for a function, four requests that log as much as they may.
const BOUNDS: Bounds = Bounds { function: 256 << 10, all: 2 << 20 };

/// After a batch that was refused: the control plane may be of an older version.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);

/// Lines that wait. Clones are one.
#[derive(Clone)]
pub struct Waiting {
    inner: Arc<Inner>,
}

struct Inner {
    outbox: Mutex<Outbox>,
    news: Notify,
    metrics: Arc<Metrics>,
}

impl Waiting {
    pub fn new(metrics: Arc<Metrics>) -> Self {
        let (outbox, news) = (Mutex::new(Outbox::new(BOUNDS)), Notify::new());
        Self { inner: Arc::new(Inner { outbox, news, metrics }) }
    }

    /// Carries lines to the control plane until `stop`. What waits then is in this edge's own log.
    pub async fn carry(&self, client: &Client, stop: &CancellationToken) {
        let mut refused = false;
        while let Some(lines) = stop.run_until_cancelled(self.next()).await {
            let batch = Logs {
                batch: RequestId::next().to_string(),
                lines: lines.iter().map(SentLine::from).collect(),
            };
            match self.send(client, &batch, stop).await {
                Some(Ok(())) => refused = false,
                Some(Err(error)) => {
                    // Once, and not for each batch.
                    if !refused {
                        warn!(%error, "the control plane does not want what functions log here; it stays in this log");
                    }
                    refused = true;
                    self.lose(lines);
                }
                None => return,
            }
            let pause = if refused { REFUSED_PAUSE } else { LOGS_PAUSE };
            if tokio::time::timeout(pause, stop.cancelled()).await.is_ok() {
                return;
            }
        }
    }

    /// Sends a batch until it is answered. An error: it is refused for good. `None`: `stop` came first.
    async fn send(
        &self,
        client: &Client,
        batch: &Logs,
        stop: &CancellationToken,
    ) -> Option<Result<(), FeedError>> {
        let mut backoff = Backoff::default();
        loop {
            match stop.run_until_cancelled(client.logs(batch)).await? {
                Err(error) if !error.is_for_good() && !error.is_unknown_path() => {
                    // The feed says that the control plane is away.
                    backoff.heed(&error);
                    if !backoff.pause(stop).await {
                        return None;
                    }
                }
                answered => return Some(answered),
            }
        }
    }

    /// The oldest lines, once there are any.
    async fn next(&self) -> Vec<LogLine> {
        loop {
            let lines = self.outbox().take(LOGS_BYTES, LOGS_LINES);
            if !lines.is_empty() {
                return lines;
            }
            self.inner.news.notified().await;
        }
    }

    fn lose(&self, lines: Vec<LogLine>) {
        self.inner.metrics.function_lines_lost(lines.len() as u64);
        self.outbox().lost(lines);
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.inner.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogSink for Waiting {
    fn take(&self, line: LogLine) {
        let mut outbox = self.outbox();
        let was_empty = outbox.is_empty();
        let dropped = outbox.push(line);
        drop(outbox);
        if was_empty {
            self.inner.news.notify_one();
        }
        if dropped > 0 {
            self.inner.metrics.function_lines_lost(dropped);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn line(function: &str, text: &str) -> LogLine {
        LogLine {
            function: function.into(),
            deployment: "dep_1".into(),
            request: "01".into(),
            at: 1,
            stream: "stdout",
            text: text.into(),
            edge: None,
            missed: 0,
        }
    }

    #[test]
    fn a_batch_fits_whatever_functions_write() {
        let waiting = Waiting::new(Arc::default());
        assert_eq!(waiting.next().now_or_never(), None, "nobody logs");
        for number in 0..40 {
            waiting.take(line(&format!("fn_{number}"), &"\u{1}\"\\".repeat(2_700)));
        }
        let mut lines = 0;
        while let Some(taken) = waiting.next().now_or_never() {
            lines += taken.len();
            let batch = Logs { batch: "01".into(), lines: taken.iter().map(SentLine::from).collect() };
            assert!(serde_json::to_vec(&batch).unwrap().len() <= LOGS_BYTES);
        }
        assert_eq!(lines, 40);
    }

    #[test]
    fn a_control_plane_that_is_away_costs_bounded_memory_and_lines_are_counted() {
        let metrics = Arc::<Metrics>::default();
        let waiting = Waiting::new(metrics.clone());
        for number in 0..2_000 {
            waiting.take(line("fn_1", &format!("{number} {}", "x".repeat(1_000))));
        }
        let first = waiting.next().now_or_never().unwrap().swap_remove(0);
        assert!(first.missed > 1_700 && first.text.starts_with(&format!("{} ", first.missed)), "{first:?}");
        let told = format!("af_function_log_lines_lost_total {}", first.missed);
        assert!(metrics.encode().unwrap().contains(&told));
        // What is refused is counted by the line that comes next.
        waiting.lose(vec![line("fn_2", "refused")]);
        waiting.take(line("fn_2", "taken"));
        while let Some(lines) = waiting.next().now_or_never() {
            if let Some(line) = lines.iter().find(|line| &*line.function == "fn_2") {
                assert_eq!(line.missed, 1);
                return;
            }
        }
        panic!("it never came");
    }
}
