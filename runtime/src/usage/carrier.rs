//! Gathers what is used, writes it down, and tells it to the control plane, batch after batch.

use std::error::Error as StdError;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use af_contract::edge::{USAGE_PAUSE, UsageBatch, UsageTaken};
use af_contract::usage::hour_of;
use futures::future::BoxFuture;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

use super::Book;
use super::waiting::Waiting;
use crate::metrics::Metrics;

/// How often what is used is gathered, and written down: a process that is killed loses that of the last one.
const TURN: Duration = Duration::from_secs(1);

/// After it was written down it is left alone for so many times as long as that took: a file of megabytes, while the control plane is
/// away, does not keep the disk busy.
const REST: u32 = 20;

/// A control plane that has not answered by then is asked again.
const PATIENCE: Duration = Duration::from_secs(15);

/// Likewise where this process ends: what is not told then is told after its next start.
const LAST_PATIENCE: Duration = Duration::from_secs(5);

/// After a batch that was not taken; twice as long after each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// No control plane has a reason to ask for more.
const LONGEST_WANTED: Duration = Duration::from_secs(300);

/// Who takes batches, each once, however often it is told.
pub trait Taker: Send + Sync + 'static {
    /// Takes one.
    fn take(&self, batch: UsageBatch) -> BoxFuture<'static, Result<UsageTaken, Refused>>;
}

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It is to be told again.
    #[error("the control plane has not taken it yet")]
    Yet(#[source] Box<dyn StdError + Send + Sync>),
    /// This edge is none to it (any more). Who asks often is taken for somebody who guesses.
    #[error("the control plane does not know this edge")]
    Stranger(#[source] Box<dyn StdError + Send + Sync>),
    /// It would not be taken later, either.
    #[error("the control plane refuses it")]
    ForGood(#[source] Box<dyn StdError + Send + Sync>),
}

/// A batch on its way.
type Telling = AbortOnDropHandle<Result<UsageTaken, Refused>>;

/// Carries what is used to the control plane.
pub struct Carrier {
    book: Book,
    dir: PathBuf,
    waiting: Waiting,
    metrics: Arc<Metrics>,
    /// Since when what is in the book was used.
    since: i64,
    /// When it may be written down again.
    rested: Instant,
    /// When the next batch may be told, and how long the pause is if that fails.
    next: Instant,
    pause: Duration,
    /// The operator was told that it is not taken, or not written down.
    away: bool,
    unwritten: bool,
}

impl Carrier {
    /// Goes on with what an earlier process left in a directory.
    ///
    /// # Errors
    /// When that cannot be read.
    pub(crate) fn open(dir: &Path, book: Book, metrics: Arc<Metrics>) -> io::Result<Self> {
        let now = Instant::now();
        Ok(Self {
            book,
            dir: dir.to_owned(),
            waiting: Waiting::open(dir)?,
            metrics,
            since: clock(),
            rested: now,
            next: now,
            pause: FIRST_PAUSE,
            away: false,
            unwritten: false,
        })
    }

    /// Carries until `stop`, when nothing is used any more; then tells one more batch, and leaves the rest in the file.
    pub async fn carry(mut self, taker: Arc<dyn Taker>, stop: CancellationToken) {
        let mut telling: Option<Telling> = None;
        loop {
            let stops = tokio::time::timeout(TURN, stop.cancelled()).await.is_ok();
            self.gather();
            if let Some(told) = telling.take_if(|telling| stops || telling.is_finished()) {
                self.told(told).await;
            }
            if telling.is_none() && (stops || Instant::now() >= self.next) {
                telling = self.tell(&*taker).await;
            }
            if stops {
                if let Some(last) = telling {
                    self.told(last).await;
                }
                return self.write().await;
            }
            if Instant::now() >= self.rested {
                self.write().await;
            }
        }
    }

    fn gather(&mut self) {
        let hour = hour_of(self.since);
        self.since = clock();
        for (subject, usage) in self.book.take() {
            self.waiting.add(subject, hour, &usage);
        }
        self.metrics.usage_waits(self.waiting.len());
    }

    /// Begins to tell a batch, if anything waits. What is used meanwhile is gathered and written down.
    async fn tell(&mut self, taker: &dyn Taker) -> Option<Telling> {
        let batch = self.waiting.batch()?.clone();
        // Whoever dies now must not forget that somebody may have taken it.
        self.write().await;
        let taking = tokio::time::timeout(PATIENCE, taker.take(batch));
        let telling = async { taking.await.unwrap_or_else(|elapsed| Err(Refused::Yet(Box::new(elapsed)))) };
        Some(AbortOnDropHandle::new(tokio::spawn(telling)))
    }

    /// A batch was told, or is to be by now.
    async fn told(&mut self, telling: Telling) {
        let told = tokio::time::timeout(LAST_PATIENCE, telling).await;
        let taken = match told {
            Ok(Ok(taken)) => taken,
            Ok(Err(broken)) => Err(Refused::Yet(Box::new(broken))),
            Err(elapsed) => Err(Refused::Yet(Box::new(elapsed))),
        };
        let pause = match taken {
            Ok(UsageTaken { pause_ms }) => {
                self.waiting.told();
                self.pause = FIRST_PAUSE;
                if std::mem::take(&mut self.away) {
                    info!("the control plane takes again what functions use here");
                }
                Duration::from_millis(pause_ms).clamp(USAGE_PAUSE, LONGEST_WANTED)
            }
            Err(Refused::ForGood(cause)) => {
                let batch = self.waiting.told();
                let records = batch.as_ref().map_or(0, |batch| batch.records.len());
                error!(
                    error = cause,
                    ?batch,
                    "the control plane refuses what functions used here, which counts for nobody"
                );
                self.metrics.usage_lost(records);
                USAGE_PAUSE
            }
            Err(error) => {
                if !std::mem::replace(&mut self.away, true) {
                    let cause = error.source().map(ToString::to_string);
                    warn!(%error, cause, "what functions use here waits until the control plane takes it");
                }
                if matches!(error, Refused::Stranger(_)) {
                    self.pause = LONGEST_PAUSE;
                }
                let pause = self.pause;
                self.pause = (pause * 2).min(LONGEST_PAUSE);
                pause
            }
        };
        self.next = Instant::now() + pause;
        self.metrics.usage_waits(self.waiting.len());
    }

    async fn write(&mut self) {
        let Some(writing) = self.waiting.changes(&self.dir) else { return };
        let began = Instant::now();
        let written = tokio::task::spawn_blocking(move || writing.write()).await;
        self.rested = Instant::now() + began.elapsed() * REST;
        match written.map_err(io::Error::other).flatten() {
            Ok(()) => self.unwritten = false,
            Err(error) => {
                self.waiting.unwritten();
                // Once for each time that the disk is full, not for each attempt.
                if !std::mem::replace(&mut self.unwritten, true) {
                    error!(%error, dir = %self.dir.display(), "what functions use here cannot be written down; until it can, a crash loses it");
                }
            }
        }
    }
}

/// Milliseconds since 1970 UTC.
fn clock() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::{Mutex, PoisonError};

    use super::*;

    /// A control plane: what it answers to each request in turn, and what it has taken.
    #[derive(Default)]
    struct Control {
        inner: Mutex<Inner>,
    }

    #[derive(Default)]
    struct Inner {
        answers: Vec<Answer>,
        told: Vec<Instant>,
        taken: BTreeSet<(String, u64)>,
        requests: u64,
    }

    #[derive(Clone, Copy)]
    enum Answer {
        Taken {
            pause_ms: u64,
        },
        /// It is written down, and nobody learns of it.
        Lost,
        Away,
        Stranger,
        Refused,
        Silent,
    }

    impl Control {
        fn answering(answers: impl IntoIterator<Item = Answer>) -> Arc<Self> {
            let mut answers: Vec<_> = answers.into_iter().collect();
            answers.reverse();
            Arc::new(Self { inner: Mutex::new(Inner { answers, ..Inner::default() }) })
        }

        fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
            self.inner.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    impl Taker for Control {
        fn take(&self, batch: UsageBatch) -> BoxFuture<'static, Result<UsageTaken, Refused>> {
            let mut inner = self.inner();
            inner.told.push(Instant::now());
            let answer = inner.answers.pop().unwrap_or(Answer::Taken { pause_ms: 0 });
            let is_taken = matches!(answer, Answer::Taken { .. } | Answer::Lost);
            if is_taken && inner.taken.insert((batch.source, batch.number)) {
                inner.requests += batch.records.iter().map(|record| record.usage.requests).sum::<u64>();
            }
            let cause = || Box::new(io::Error::other("of the test"));
            Box::pin(async move {
                match answer {
                    Answer::Taken { pause_ms } => Ok(UsageTaken { pause_ms }),
                    Answer::Lost | Answer::Away => Err(Refused::Yet(cause())),
                    Answer::Stranger => Err(Refused::Stranger(cause())),
                    Answer::Refused => Err(Refused::ForGood(cause())),
                    Answer::Silent => std::future::pending().await,
                }
            })
        }
    }

    struct Running {
        dir: tempfile::TempDir,
        book: Book,
        metrics: Arc<Metrics>,
    }

    impl Running {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            Self { dir, book: Book::default(), metrics: Arc::default() }
        }

        /// Carries for so long, and to a good end or none.
        async fn carry(&self, control: &Arc<Control>, time: Duration, ends: bool) {
            let carrier = Carrier::open(self.dir.path(), self.book.clone(), self.metrics.clone()).unwrap();
            let stop = CancellationToken::new();
            let carrying = tokio::spawn(carrier.carry(control.clone(), stop.clone()));
            tokio::time::sleep(time).await;
            if ends {
                stop.cancel();
                carrying.await.unwrap();
            } else {
                carrying.abort();
                assert!(carrying.await.unwrap_err().is_cancelled());
            }
        }

        fn requested(&self, times: usize) {
            let counters = self.book.of("fn_1");
            (0..times).for_each(|_| counters.requested());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_used_is_told_soon_then_in_turns_and_at_the_end() {
        let (running, control) = (Running::new(), Control::answering([Answer::Taken { pause_ms: 30_000 }]));
        running.requested(3);
        let began = Instant::now();
        running.carry(&control, Duration::from_secs(5), true).await;
        let told = control.inner().told.clone();
        assert!(told.len() == 1 && told[0] - began < Duration::from_secs(2), "{told:?}");
        assert_eq!(control.inner().requests, 3);
        running.requested(4);
        let control = Control::answering([Answer::Taken { pause_ms: 30_000 }]);
        let used = async {
            tokio::time::sleep(Duration::from_secs(10)).await;
            running.requested(5);
            tokio::time::sleep(Duration::from_secs(10)).await;
            running.requested(6);
        };
        tokio::join!(running.carry(&control, Duration::from_secs(50), true), used);
        let inner = control.inner();
        assert_eq!((inner.requests, inner.told.len()), (15, 2), "as long as the control plane wants");
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_whose_answer_is_lost_counts_once_also_where_the_process_dies() {
        let (running, control) = (Running::new(), Control::answering([Answer::Lost, Answer::Silent]));
        running.requested(3);
        running.carry(&control, Duration::from_secs(8), false).await;
        assert_eq!(control.inner().told.len(), 2);
        running.requested(4);
        running.carry(&control, Duration::from_secs(30), true).await;
        let inner = control.inner();
        assert_eq!((inner.requests, inner.taken.len(), inner.told.len()), (7, 2, 4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_control_plane_that_is_away_is_asked_less_and_less_and_nothing_is_lost() {
        let (running, control) = (Running::new(), Control::answering([Answer::Away; 100]));
        for _ in 0..3 {
            running.requested(1);
            // Killed each time, after it was written down.
            running.carry(&control, Duration::from_secs(70), false).await;
        }
        assert!(control.inner().told.len() < 25, "{}", control.inner().told.len());
        let control = Control::answering([]);
        running.carry(&control, Duration::from_secs(60), true).await;
        assert_eq!(control.inner().requests, 3);
        assert!(running.metrics.encode().unwrap().contains("af_usage_waiting 0"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_control_plane_that_does_not_know_this_edge_is_asked_once_a_minute() {
        let (running, control) = (Running::new(), Control::answering([Answer::Stranger; 5]));
        running.requested(1);
        running.carry(&control, Duration::from_secs(150), false).await;
        let told = control.inner().told.clone();
        assert_eq!(told.len(), 3, "{told:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_for_good_is_counted_as_lost_and_others_go_on() {
        let (running, control) = (Running::new(), Control::answering([Answer::Refused]));
        running.requested(3);
        let used = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            running.requested(4);
        };
        tokio::join!(running.carry(&control, Duration::from_secs(30), true), used);
        assert_eq!(control.inner().requests, 4);
        assert!(running.metrics.encode().unwrap().contains("af_usage_lost_total 1"));
    }
}
