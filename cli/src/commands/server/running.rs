//! What runs while a server does: listeners, the feed between the planes, checks of domains, stored content, and the
//! schedule.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use af_contract::Update;
use af_contract::edge::{UsageBatch, UsageTaken};
use af_contract::trigger::{Answered, Tick};
use af_control_api::{Callee, ControlApi, ControlError};
use af_runtime::Edge;
use af_runtime::feed::Feed;
use af_runtime::listen::Listeners;
use af_runtime::usage::{Carrier, Refused, Taker};
use futures::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, warn};

use super::entries::Entries;
use super::listeners::Bound;

/// How long control operations may go on after a stop. The edge has a deadline of its own.
const API_DRAIN: Duration = Duration::from_secs(10);

/// After the route feed failed.
const FEED_PAUSE: Duration = Duration::from_secs(1);

/// A report may be refused for what it says so often.
const REPORT_TRIES: u32 = 3;

/// Between two looks for deployments that no edge has reported on.
const AWAITED_PAUSE: Duration = Duration::from_secs(15);

/// The tasks of a server.
#[derive(Default)]
pub struct Running {
    stop: CancellationToken,
    died: CancellationToken,
    /// Operators are answered until the last request is.
    drained: CancellationToken,
    serving: Option<JoinHandle<std::io::Result<()>>>,
    api: Option<JoinHandle<()>>,
    metrics: Option<JoinHandle<()>>,
    /// The feed, checks of domains, stored content, builds, and the schedule.
    others: Vec<JoinHandle<()>>,
}

/// Notices the end of a task that ends before the server does.
struct Watched {
    what: &'static str,
    stop: CancellationToken,
    died: CancellationToken,
}

impl Drop for Watched {
    fn drop(&mut self) {
        if !self.stop.is_cancelled() {
            error!(what = self.what, "a part of the server has ended by itself; the server ends, too");
            self.died.cancel();
        }
    }
}

impl Running {
    /// Runs a part of the server. A server without it would seem well and not be.
    fn task<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        let watched = Watched { what, stop: self.stop.clone(), died: self.died.clone() };
        tokio::spawn(async move {
            let _watched = watched;
            work.await
        })
    }

    /// Returns when a part of the server has ended before it was to.
    pub fn died(&self) -> impl Future<Output = ()> + use<> {
        self.died.clone().cancelled_owned()
    }

    /// Starts the control API, and what it does by itself. `callee`: who runs functions when their time comes.
    pub fn control(&mut self, control: &ControlApi, listener: TcpListener, callee: Arc<dyn Callee>) {
        let cancelled = || self.stop.clone().cancelled_owned();
        let (watching, stop) = (control.clone(), cancelled());
        let watching = self.task("checks of domains", async move { watching.watch_domains(stop).await });
        let (storage, stop) = (control.clone(), cancelled());
        let storage = self.task("stored content", async move { storage.watch_storage(stop).await });
        let (builds, stop) = (control.clone(), cancelled());
        let builds = self.task("builds", async move { builds.watch_builds(stop).await });
        let (triggers, stop) = (control.clone(), cancelled());
        let triggers = self.task("the schedule", async move { triggers.run_triggers(callee, stop).await });
        let (others, stop) = (control.clone(), cancelled());
        let others = self.task("what other servers commit", async move { others.follow_others(stop).await });
        let (api, stop) = (control.clone(), cancelled());
        self.api = Some(self.task("the control API", async move { api.serve(listener, stop).await }));
        self.others.extend([watching, storage, builds, triggers, others]);
    }

    /// Starts to answer requests.
    pub fn edge(&mut self, edge: &Edge, bound: Bound) {
        let listeners = Listeners { plain: bound.plain, tls: bound.tls };
        let (serving, stop) = (edge.clone(), self.stop.clone());
        self.serving = Some(self.task("the edge", async move { serving.serve(listeners, stop).await }));
        self.metrics = bound.metrics.map(|listener| {
            let (edge, drained) = (edge.clone(), self.drained.clone());
            tokio::spawn(async move { edge.serve_metrics(listener, drained).await })
        });
    }

    /// Keeps the edge of this process at what the control API of this process knows; it knows the feed up to `known`.
    pub fn feed(&mut self, control: &ControlApi, edge: &Edge, known: u64) {
        let (control, edge, stop) = (control.clone(), edge.clone(), self.stop.clone());
        self.others.push(self.task("the feed", async move {
            feed(&control, &edge, known, stop).await;
            // What still changes while requests finish waits for nobody.
            control.applied(None);
        }));
    }

    /// Tells the control API of this process what happens at the edge of this process.
    pub fn reports(&mut self, control: &ControlApi, edge: &Edge) {
        let (control, edge, stop) = (control.clone(), edge.clone(), self.stop.clone());
        self.others.push(self.task("reports", async move {
            // What is not told then is asked for, or judged anew, after the next start.
            tokio::select! {
                () = report(&control, &edge) => {}
                () = prepare(&control, &edge) => {}
                () = stop.cancelled() => {}
            }
        }));
    }

    /// Keeps the edge at what its control plane tells.
    pub fn remote_feed(&mut self, feed: Feed, edge: &Edge) {
        let (edge, stop) = (edge.clone(), self.stop.clone());
        self.others.push(self.task("the feed", async move { feed.run(edge, stop).await }));
    }

    /// Has what functions and sites use told to the control plane, until the last request is over.
    pub fn usage(&mut self, carrier: Carrier, taker: Arc<dyn Taker>) {
        let drained = self.drained.clone();
        self.others.push(self.task("usage", async move { carrier.carry(taker, drained).await }));
    }

    /// Hands out to backups what functions keep.
    pub fn entries(&mut self, entries: Option<Entries>) {
        let stop = self.stop.clone();
        self.others.extend(entries.map(|entries| self.task("the socket for backups", entries.serve(stop))));
    }

    /// Lets requests finish, and returns when all is done.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        if let Some(api) = self.api {
            if let Ok(api) = tokio::time::timeout(API_DRAIN, api).await {
                api?;
            } else {
                // Whoever holds a connection open must not hold the server: cut, nothing half done stays.
                warn!("control connections were cut because they did not finish in time");
            }
        }
        if let Some(serving) = self.serving {
            serving.await??;
        }
        self.drained.cancel();
        for task in self.metrics.into_iter().chain(self.others) {
            task.await?;
        }
        Ok(())
    }
}

/// Hands everything to the edge, as after a start. The newer half is read beside the older one, as reading takes longer than taking
/// over, and handed on behind it: who has a slug or a domain now may have got it from somebody who still has it in an older page.
/// Returns the newest revision.
pub async fn catch_up(control: &ControlApi, edge: &Edge) -> anyhow::Result<u64> {
    let middle = *control.revisions().borrow() / 2;
    let mut behind = Vec::new();
    let older = read(control, 0, middle, |updates| edge.apply(updates));
    let newer = read(control, middle, u64::MAX, |updates| behind.push(updates));
    let (older, newer) = tokio::try_join!(older, newer)?;
    for updates in behind {
        edge.apply(updates);
        // Others have their turn between two pages.
        tokio::task::yield_now().await;
    }
    let known = older.max(newer);
    control.applied(Some(known));
    Ok(known)
}

/// Hands all changes after `known` to the edge. Returns the newest revision.
async fn follow(control: &ControlApi, edge: &Edge, known: u64) -> anyhow::Result<u64> {
    let known = read(control, known, u64::MAX, |updates| edge.apply(updates)).await?;
    control.applied(Some(known));
    Ok(known)
}

/// Reads the changes after `known`, those up to `end` at least. Returns up to which.
async fn read(
    control: &ControlApi,
    mut known: u64,
    end: u64,
    mut take: impl FnMut(Vec<Update>),
) -> anyhow::Result<u64> {
    let page_after = |known| {
        let control = control.clone();
        AbortOnDropHandle::new(tokio::spawn(async move { control.changes_since(known).await }))
    };
    let mut page = (known < end).then(|| page_after(known));
    while let Some(reading) = page.take() {
        let changes = reading.await??;
        let Some(until) = changes.until else { break };
        known = until;
        // The next page is read while this one is taken over.
        page = (known < end).then(|| page_after(known));
        take(changes.updates);
    }
    Ok(known)
}

/// The route feed of one machine: the control API says that there is something new, the edge gets it.
async fn feed(control: &ControlApi, edge: &Edge, mut known: u64, stop: CancellationToken) {
    let mut revisions = control.revisions();
    loop {
        match follow(control, edge, known).await {
            Ok(newest) => known = newest,
            Err(error) => {
                error!(error = format!("{error:#}"), "the route feed failed; trying again");
                match tokio::time::timeout(FEED_PAUSE, stop.cancelled()).await {
                    Ok(()) => return,
                    Err(_elapsed) => continue,
                }
            }
        }
        tokio::select! {
            changed = revisions.changed() => if changed.is_err() { return },
            () = stop.cancelled() => return,
        }
    }
}

/// Carries what the edge reports to the control API, for ever.
async fn report(control: &ControlApi, edge: &Edge) {
    loop {
        let report = edge.reports().next().await;
        if tell(|| control.report(&report), ControlError::is_final).await == Told::Dropped {
            edge.report_dropped();
        }
    }
}

/// What became of a report.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Written,
    Dropped,
}

/// Tries until a report is written down, or was refused for what it says as often as it may be: others wait behind it.
async fn tell<E: std::error::Error, F: Future<Output = Result<(), E>>>(
    mut told: impl FnMut() -> F,
    is_final: fn(&E) -> bool,
) -> Told {
    let mut refused = 0;
    loop {
        let Err(error) = told().await else { return Told::Written };
        let source = error.source().map(ToString::to_string);
        refused += u32::from(is_final(&error));
        if refused >= REPORT_TRIES {
            error!(%error, source, "what the edge reports is refused, and dropped");
            return Told::Dropped;
        }
        error!(%error, source, "what the edge reports is not written down yet; trying again");
        tokio::time::sleep(FEED_PAUSE).await;
    }
}

/// Has the edge look at deployments that no edge has reported on, for ever: at the start everything comes at once, and is not
/// looked at until somebody asks for it.
async fn prepare(control: &ControlApi, edge: &Edge) {
    loop {
        match control.awaited().await {
            Ok(awaited) => edge.prepare(awaited),
            Err(error) => {
                error!(error = format!("{error:#}"), "it is not known which deployments nobody has looked at")
            }
        }
        tokio::time::sleep(AWAITED_PAUSE).await;
    }
}

/// The control API of this process, as it takes what the edge of this process counted.
pub struct CountedBy(pub ControlApi);

impl Taker for CountedBy {
    fn take(&self, batch: UsageBatch) -> BoxFuture<'static, Result<UsageTaken, Refused>> {
        let control = self.0.clone();
        Box::pin(async move {
            control.usage(&batch).await.map_err(|error| {
                if error.is_final() {
                    Refused::ForGood(Box::new(error))
                } else {
                    Refused::Yet(Box::new(error))
                }
            })
        })
    }
}

/// The edge as the schedule calls it.
pub struct Triggered(pub Edge);

impl Callee for Triggered {
    fn call(&self, _run: &str, tick: Tick) -> BoxFuture<'static, Answered> {
        let edge = self.0.clone();
        Box::pin(async move { edge.trigger(&tick).await })
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Failure {
        #[error("the database is away")]
        Away,
        #[error("the database does not take this")]
        Refused,
    }

    /// What becomes of a report, and how often it was told.
    async fn told(outcomes: impl IntoIterator<Item = Failure>) -> (Told, usize) {
        let (mut outcomes, mut tries) = (outcomes.into_iter(), 0);
        let told = tell(
            || {
                tries += 1;
                std::future::ready(outcomes.next().map_or(Ok(()), Err))
            },
            |failure| matches!(failure, Failure::Refused),
        )
        .await;
        (told, tries)
    }

    #[tokio::test(start_paused = true)]
    async fn a_report_that_is_refused_is_dropped_after_a_few_tries() {
        assert_eq!(told([]).await, (Told::Written, 1));
        assert_eq!(told([Failure::Refused]).await, (Told::Written, 2));
        let for_ever = std::iter::repeat_with(|| Failure::Refused);
        assert_eq!(told(for_ever).await, (Told::Dropped, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_report_waits_for_a_database_that_is_away() {
        let away = std::iter::repeat_with(|| Failure::Away).take(1000);
        assert_eq!(told(away).await, (Told::Written, 1001));
    }

    #[tokio::test]
    async fn a_part_that_ends_by_itself_ends_the_server() {
        let running = Running::default();
        let mut died = Box::pin(running.died());
        assert!((&mut died).now_or_never().is_none());
        running.task("a part", async {}).await.unwrap_or_else(|error| panic!("{error}"));
        died.await;
        // So does one that panics.
        let running = Running::default();
        let died = running.died();
        assert!(running.task("a part", async { panic!("of the test") }).await.is_err());
        died.await;
    }

    #[tokio::test]
    async fn parts_that_end_with_the_server_are_well() {
        let running = Running::default();
        let (died, stop) = (running.died(), running.stop.clone());
        let part = running.task("a part", async move { stop.cancelled().await });
        assert!(running.stop().await.is_ok());
        assert!(part.await.is_ok());
        assert!(died.now_or_never().is_none());
    }
}
