//! The way back: this edge tells the control plane what happened here, and does what that wants of one edge.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use af_contract::edge::{Call, CallEnd, Report, Work, WorkRequest};
use af_contract::trigger::Answered;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::Backoff;
use super::client::Client;
use crate::Edge;

/// For so long the control plane keeps a request for work that has no answer yet, milliseconds.
const WAIT: u64 = 25_000;

/// For so long a call waits until this edge has been told of what is to be called.
const BEHIND: Duration = Duration::from_secs(10);

/// How long calls may go on after a stop: as the control plane's scheduler lets them.
const DRAIN: Duration = Duration::from_secs(35);

/// How long the control plane may take to be told the last things.
const LAST: Duration = Duration::from_secs(5);

/// An edge that tells and works. Cheap to clone.
#[derive(Clone)]
pub struct Worker {
    client: Arc<Client>,
    edge: Edge,
    /// Calls that were given to this edge and whose end the control plane has not heard of.
    running: Arc<Mutex<BTreeSet<String>>>,
    /// The feed is known up to here.
    known: watch::Receiver<u64>,
    /// Calls that go on.
    calls: TaskTracker,
}

impl Worker {
    pub fn new(client: Arc<Client>, edge: Edge, known: watch::Receiver<u64>) -> Self {
        Self { client, edge, running: Arc::default(), known, calls: TaskTracker::new() }
    }

    /// Tells and works until `stop`; then lets calls finish, and tells how they did.
    pub async fn run(self, stop: CancellationToken) {
        let finished = CancellationToken::new();
        let work = async {
            self.follow(&stop).await;
            self.calls.close();
            if tokio::time::timeout(DRAIN, self.calls.wait()).await.is_err() {
                warn!(running = self.calls.len(), "calls were cut because they did not finish in time");
            }
            finished.cancel();
        };
        tokio::join!(self.tell(&finished), work);
        if tokio::time::timeout(LAST, self.tell_rest()).await.is_err() {
            warn!("the control plane was not told in time how the last calls went; it takes them for lost");
        }
    }

    /// Tells what there is, and gives up where nobody listens.
    async fn tell_rest(&self) {
        loop {
            let report = self.edge.reports().take();
            if report.is_empty() {
                return;
            }
            if let Err(error) = self.client.report(&report).await {
                warn!(%error, "the control plane was not told what happened here last");
                return;
            }
        }
    }

    async fn tell(&self, stop: &CancellationToken) {
        let mut backoff = Backoff::default();
        while let Some(report) = stop.run_until_cancelled(self.edge.reports().next()).await {
            let told = stop.run_until_cancelled(self.client.report(&report)).await;
            match told {
                Some(Ok(())) => {
                    self.forget(&report);
                    backoff = Backoff::default();
                }
                // A server that does not take it would not take it later either.
                Some(Err(error)) if error.is_for_good() => {
                    warn!(%error, "the control plane does not take a report of what happened here; it is dropped");
                    self.edge.report_dropped();
                    self.forget(&report);
                }
                Some(Err(error)) => {
                    // The feed says that the control plane is away.
                    self.edge.reports().put_back(report);
                    backoff.heed(&error);
                    if !backoff.pause(stop).await {
                        return;
                    }
                }
                // Whether it arrived is not known; nothing of it counts twice.
                None => return self.edge.reports().put_back(report),
            }
        }
    }

    fn forget(&self, report: &Report) {
        let mut running = self.running();
        for call in &report.calls {
            running.remove(&call.id);
        }
    }

    async fn follow(&self, stop: &CancellationToken) {
        let mut backoff = Backoff::default();
        loop {
            let wanted = WorkRequest { running: self.running().iter().cloned().collect(), wait_ms: WAIT };
            match stop.run_until_cancelled(self.client.work(&wanted)).await {
                Some(Ok(work)) => {
                    backoff = Backoff::default();
                    self.take(work);
                }
                // The feed says that the control plane is away.
                Some(Err(error)) => {
                    backoff.heed(&error);
                    if !backoff.pause(stop).await {
                        return;
                    }
                }
                None => return,
            }
        }
    }

    fn take(&self, work: Work) {
        self.edge.prepare(work.awaited);
        for call in work.calls {
            self.running().insert(call.id.clone());
            self.calls.spawn(self.clone().call(call, work.revision));
        }
    }

    async fn call(self, call: Call, revision: u64) {
        let Call { id, tick } = call;
        info!(function = tick.function, deployment = tick.deployment, "called by the control plane");
        let mut known = self.known.clone();
        // Told or not: what it has is what it can call.
        drop(tokio::time::timeout(BEHIND, known.wait_for(|known| *known >= revision)).await);
        let edge = self.edge.clone();
        // A task, so that a panic is an end like any other.
        let answered = tokio::spawn(async move { edge.trigger(&tick).await }).await;
        let answered = answered.unwrap_or_else(|_| Answered::failed("the call was interrupted"));
        self.edge.reports().ended(CallEnd { id, answered });
    }

    fn running(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::FeedError;

    #[test]
    fn only_what_no_server_takes_is_thrown_away() {
        let refused = |status, code: Option<&str>| {
            FeedError::Refused { status, code: code.map(Into::into), said: String::new() }.is_for_good()
        };
        assert!(refused(400, Some("invalid_report")) && refused(413, None) && refused(422, None));
        assert!(refused(409, Some("report_refused")) && refused(409, Some("usage_refused")));
        assert!(!refused(409, Some("another")));
        assert!(!refused(400, Some("edge_clock")) && !refused(400, None), "who is between says no code");
        assert!(!refused(400, Some("invalid_proof")), "who is between has changed it");
        for status in [401, 403, 404, 408, 425, 429, 500, 502, 503] {
            assert!(!refused(status, None), "{status}");
        }
        assert!(!FeedError::Unreadable(String::new()).is_for_good());
    }
}
