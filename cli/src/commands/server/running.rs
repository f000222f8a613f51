//! What runs while a server does: listeners, the feed between the planes, checks of domains, stored content, and the
//! schedule.

use std::sync::Arc;
use std::time::Duration;

use af_contract::trigger::{Answered, Tick};
use af_control_api::{Callee, ControlApi};
use af_runtime::Edge;
use af_runtime::listen::Listeners;
use futures::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::listeners::Bound;

/// How long control operations may go on after a stop. The edge has a deadline of its own.
const API_DRAIN: Duration = Duration::from_secs(10);

/// After the route feed failed.
const FEED_PAUSE: Duration = Duration::from_secs(1);

/// The tasks of a server.
pub struct Running {
    stop: CancellationToken,
    /// Operators are answered until the last request is.
    drained: CancellationToken,
    serving: JoinHandle<std::io::Result<()>>,
    api: JoinHandle<()>,
    metrics: Option<JoinHandle<()>>,
    /// The feed, checks of domains, stored content, the schedule, and stopped rollouts.
    others: [JoinHandle<()>; 5],
}

impl Running {
    /// Starts all of them. The edge knows the feed up to `known`.
    pub fn start(control: &ControlApi, edge: &Edge, bound: Bound, known: u64) -> Self {
        let (stop, drained) = (CancellationToken::new(), CancellationToken::new());
        let listeners = Listeners { plain: bound.plain, tls: bound.tls };
        let feed = tokio::spawn({
            let (control, edge, stop) = (control.clone(), edge.clone(), stop.clone());
            async move {
                feed(&control, &edge, known, stop).await;
                // What still changes while requests finish waits for nobody.
                control.applied(None);
            }
        });
        let watching = tokio::spawn({
            let (control, stop) = (control.clone(), stop.clone());
            async move { control.watch_domains(stop.cancelled()).await }
        });
        let storage = tokio::spawn({
            let (control, stop) = (control.clone(), stop.clone());
            async move { control.watch_storage(stop.cancelled()).await }
        });
        let triggers = tokio::spawn({
            let (control, callee, stop) = (control.clone(), Arc::new(Triggered(edge.clone())), stop.clone());
            async move { control.run_triggers(callee, stop.cancelled_owned()).await }
        });
        let rollouts = tokio::spawn({
            let (control, edge, stop) = (control.clone(), edge.clone(), stop.clone());
            async move { rollouts(&control, &edge, stop).await }
        });
        let serving = tokio::spawn({
            let (edge, stop) = (edge.clone(), stop.clone());
            async move { edge.serve(listeners, stop).await }
        });
        let api = tokio::spawn({
            let (control, stop) = (control.clone(), stop.clone());
            async move { control.serve(bound.api, stop.cancelled_owned()).await }
        });
        let metrics = bound.metrics.map(|listener| {
            let (edge, drained) = (edge.clone(), drained.clone());
            tokio::spawn(async move { edge.serve_metrics(listener, drained).await })
        });
        Self { stop, drained, serving, api, metrics, others: [feed, watching, storage, triggers, rollouts] }
    }

    /// Lets requests finish, and returns when all is done.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        if let Ok(api) = tokio::time::timeout(API_DRAIN, self.api).await {
            api?;
        } else {
            // Whoever holds a connection open must not hold the server: cut, nothing half done stays.
            warn!("control connections were cut because they did not finish in time");
        }
        self.serving.await??;
        self.drained.cancel();
        for task in self.metrics.into_iter().chain(self.others) {
            task.await?;
        }
        Ok(())
    }
}

/// Hands all changes after `known` to the edge. Returns the newest revision.
pub async fn follow(control: &ControlApi, edge: &Edge, mut known: u64) -> anyhow::Result<u64> {
    loop {
        let updates = control.updates_since(known).await?;
        let Some(last) = updates.last() else { break };
        known = last.revision;
        edge.apply(updates);
    }
    control.applied(Some(known));
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

/// Tells the control API which rollouts the edge has stopped.
async fn rollouts(control: &ControlApi, edge: &Edge, stop: CancellationToken) {
    let telling = async {
        while let Some(failure) = edge.stopped_rollout().await {
            while let Err(error) = control.rollout_failed(&failure).await {
                error!(%error, "a stopped rollout is not ended yet; trying again");
                tokio::time::sleep(FEED_PAUSE).await;
            }
        }
    };
    // After the next start the candidate is judged anew.
    tokio::select! {
        () = telling => {}
        () = stop.cancelled() => {}
    }
}

/// The edge as the schedule calls it.
struct Triggered(Edge);

impl Callee for Triggered {
    fn call(&self, tick: Tick) -> BoxFuture<'static, Answered> {
        let edge = self.0.clone();
        Box::pin(async move { edge.trigger(&tick).await })
    }
}
