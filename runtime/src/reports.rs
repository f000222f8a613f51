//! What this edge has to tell the control plane, until somebody carries it there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use af_contract::RolloutFailure;
use af_contract::edge::{CallEnd, DeploymentReport, REASON, REPORTED, Report};
use serde::Serialize;
use tokio::sync::Notify;
use tracing::{error, warn};

use crate::artifact::ArtifactError;

/// Reports of each kind that wait while the control plane is away. The control plane asks again for what it misses.
const WAITING: usize = 10_000;

/// Bytes of one report: the control plane takes twice as many.
const BYTES: usize = 256 << 10;

/// A list of news. Cheap to clone.
#[derive(Clone, Default)]
pub struct Reports {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    waiting: Mutex<Waiting>,
    news: Notify,
}

#[derive(Default)]
struct Waiting {
    /// The last that is known of each.
    deployments: BTreeMap<String, DeploymentReport>,
    rollouts: Vec<RolloutFailure>,
    calls: Vec<CallEnd>,
}

impl Reports {
    /// A deployment answers, or would if somebody asked.
    pub fn ready(&self, deployment: &str) {
        self.deployment(DeploymentReport { deployment: deployment.into(), failure: None, may_pass: false });
    }

    /// A deployment cannot be used here. Tenants are told the code and a sentence; what is behind them, such as names of sources
    /// and paths of this node, stands in this edge's log only.
    pub fn failed(&self, deployment: &str, cause: &ArtifactError) {
        let source = std::error::Error::source(cause);
        warn!(deployment, error = %cause, ?source, "a deployment cannot be used here, and the control plane is told");
        let code = format!(" [{}]", cause.code());
        let mut reason: String = cause.to_string().chars().take(REASON - code.len()).collect();
        reason.push_str(&code);
        let (deployment, may_pass) = (deployment.into(), cause.may_pass());
        self.deployment(DeploymentReport { deployment, failure: Some(reason), may_pass });
    }

    fn deployment(&self, report: DeploymentReport) {
        let mut waiting = self.waiting();
        if waiting.deployments.len() >= WAITING && !waiting.deployments.contains_key(&report.deployment) {
            return;
        }
        waiting.deployments.insert(report.deployment.clone(), report);
        drop(waiting);
        self.inner.news.notify_one();
    }

    /// This edge gives a candidate to nobody any more. Waits for nobody: that is so in any case.
    pub fn stopped(&self, failure: RolloutFailure) {
        warn!(function = failure.function, rollout = failure.rollout, reason = %failure, "a rollout was stopped");
        let mut waiting = self.waiting();
        if waiting.rollouts.len() >= WAITING {
            error!(rollout = failure.rollout, "the control plane is not told that a rollout was stopped");
            return;
        }
        waiting.rollouts.push(failure);
        drop(waiting);
        self.inner.news.notify_one();
    }

    /// A call that the control plane wanted has ended.
    pub fn ended(&self, mut call: CallEnd) {
        call.answered.error = call.answered.error.map(|error| error.chars().take(REASON).collect());
        self.waiting().calls.push(call);
        self.inner.news.notify_one();
    }

    /// Takes the next news, once there are any.
    pub async fn next(&self) -> Report {
        loop {
            let report = self.take();
            if !report.is_empty() {
                return report;
            }
            self.inner.news.notified().await;
        }
    }

    /// Takes the next news; empty: there are none. What somebody waits for comes first.
    pub(crate) fn take(&self) -> Report {
        let mut waiting = self.waiting();
        let mut room = BYTES;
        let calls = waiting.calls.iter().take(REPORTED).take_while(|call| fits(call, &mut room)).count();
        let rollouts =
            waiting.rollouts.iter().take(REPORTED).take_while(|stop| fits(stop, &mut room)).count();
        let mut deployments = Vec::new();
        while let Some(next) = waiting.deployments.first_entry() {
            if deployments.len() == REPORTED || !fits(next.get(), &mut room) {
                break;
            }
            deployments.push(next.remove());
        }
        let report = Report {
            deployments,
            rollouts: waiting.rollouts.drain(..rollouts).collect(),
            calls: waiting.calls.drain(..calls).collect(),
        };
        if !waiting.is_empty() {
            self.inner.news.notify_one();
        }
        report
    }

    /// Keeps what could not be told; what has come since is newer.
    pub fn put_back(&self, report: Report) {
        let mut waiting = self.waiting();
        for deployment in report.deployments {
            waiting.deployments.entry(deployment.deployment.clone()).or_insert(deployment);
        }
        waiting.rollouts.splice(0..0, report.rollouts);
        waiting.calls.splice(0..0, report.calls);
        drop(waiting);
        self.inner.news.notify_one();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.inner.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.deployments.is_empty() && self.rollouts.is_empty() && self.calls.is_empty()
    }
}

/// Whether there is room for this, too; then there is less.
fn fits(item: &impl Serialize, room: &mut usize) -> bool {
    // What has no form as JSON is told to nobody, and takes no room.
    let bytes = serde_json::to_vec(item).map_or(0, |text| text.len() + 1);
    let left = room.checked_sub(bytes);
    *room = left.unwrap_or(*room);
    left.is_some()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failure here is the test's failure")]

    use af_contract::trigger::Answered;
    use futures::FutureExt;

    use super::*;

    fn now(reports: &Reports) -> Option<Report> {
        reports.next().now_or_never()
    }

    #[test]
    fn the_last_word_on_a_deployment_is_told_once() {
        let reports = Reports::default();
        assert_eq!(now(&reports), None);
        reports.failed("dep_1", &ArtifactError::NoKey);
        reports.ready("dep_1");
        let told = now(&reports).unwrap();
        assert_eq!(
            told.deployments,
            [DeploymentReport { deployment: "dep_1".into(), failure: None, may_pass: false }]
        );
        assert_eq!(now(&reports), None);
        // It did not arrive, and meanwhile there is news.
        reports.failed("dep_1", &ArtifactError::Manifest("x".repeat(9000)));
        reports.put_back(told);
        let told = now(&reports).unwrap();
        assert_eq!(told.deployments.len(), 1);
        assert_eq!(told.deployments.first().unwrap().failure.as_ref().unwrap().len(), REASON);
    }

    #[test]
    fn what_is_inside_an_edge_is_not_told_and_what_may_pass_is_said_to() {
        let reports = Reports::default();
        let inside = std::io::Error::other("/var/lib/af/blocks: peer http://10.0.0.7 is away");
        reports.failed("dep_1", &ArtifactError::Storage(Arc::new(inside)));
        reports.failed("dep_2", &ArtifactError::NoKey);
        let told = now(&reports).unwrap().deployments;
        let [passing, lasting] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!(passing.failure.as_deref(), Some("this node's storage failed [storage_failed]"));
        assert!(passing.may_pass && !lasting.may_pass);
    }

    #[test]
    fn many_are_told_in_parts_and_none_is_lost() {
        let reports = Reports::default();
        for number in 0..REPORTED + 5 {
            reports.ready(&format!("dep_{number:05}"));
        }
        assert_eq!(now(&reports).unwrap().deployments.len(), REPORTED);
        assert_eq!(now(&reports).unwrap().deployments.len(), 5);
        assert_eq!(now(&reports), None);
    }

    #[test]
    fn a_report_has_room_at_the_control_plane_and_what_somebody_waits_for_comes_first() {
        let reports = Reports::default();
        for number in 0..REPORTED {
            // Each character is six bytes of JSON.
            reports.failed(&format!("dep_{number:05}"), &ArtifactError::Manifest("\u{1}".repeat(REASON)));
        }
        let error = Some("\u{1}".repeat(100_000));
        reports.ended(CallEnd { id: "run_1".into(), answered: Answered { status: None, error } });
        let mut told = 0;
        let first = now(&reports).unwrap();
        assert_eq!(first.calls.len(), 1);
        for report in std::iter::successors(Some(first), |_| now(&reports)) {
            assert!(serde_json::to_vec(&report).unwrap().len() <= BYTES + 100);
            told += report.deployments.len();
        }
        assert_eq!(told, REPORTED);
    }
}
