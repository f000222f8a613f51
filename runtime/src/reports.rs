//! What this edge has to tell the control plane, until somebody carries it there.

use std::collections::BTreeMap;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use af_contract::RolloutFailure;
use af_contract::edge::{CallEnd, DeploymentReport, REASON, REPORTED, Report};
use tokio::sync::Notify;
use tracing::{error, warn};

use crate::artifact::ArtifactError;

/// Reports of each kind that wait while the control plane is away. The control plane asks again for what it misses.
const WAITING: usize = 10_000;

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
    deployments: BTreeMap<String, Option<String>>,
    rollouts: Vec<RolloutFailure>,
    calls: Vec<CallEnd>,
}

impl Reports {
    /// A deployment answers, or would if somebody asked.
    pub fn ready(&self, deployment: &str) {
        self.deployment(deployment, None);
    }

    /// A deployment cannot be used here.
    pub fn failed(&self, deployment: &str, cause: &ArtifactError) {
        let mut reason = cause.to_string();
        let mut source = std::error::Error::source(cause);
        while let Some(error) = source {
            reason = format!("{reason}: {error}");
            source = error.source();
        }
        self.deployment(deployment, Some(reason.chars().take(REASON).collect()));
    }

    fn deployment(&self, deployment: &str, failure: Option<String>) {
        let mut waiting = self.waiting();
        if waiting.deployments.len() >= WAITING && !waiting.deployments.contains_key(deployment) {
            return;
        }
        waiting.deployments.insert(deployment.to_owned(), failure);
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
    pub fn ended(&self, call: CallEnd) {
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

    fn take(&self) -> Report {
        let mut waiting = self.waiting();
        let mut deployments = mem::take(&mut waiting.deployments);
        let rest = deployments.keys().nth(REPORTED).cloned().map(|first| deployments.split_off(&first));
        waiting.deployments = rest.unwrap_or_default();
        let deployments = deployments.into_iter();
        let few = |count: usize| count.min(REPORTED);
        let (rollouts, calls) = (few(waiting.rollouts.len()), few(waiting.calls.len()));
        let report = Report {
            deployments: deployments
                .map(|(deployment, failure)| DeploymentReport { deployment, failure })
                .collect(),
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
        for DeploymentReport { deployment, failure } in report.deployments {
            waiting.deployments.entry(deployment).or_insert(failure);
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failure here is the test's failure")]

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
        assert_eq!(told.deployments, [DeploymentReport { deployment: "dep_1".into(), failure: None }]);
        assert_eq!(now(&reports), None);
        // It did not arrive, and meanwhile there is news.
        reports.failed("dep_1", &ArtifactError::Manifest("x".repeat(9000)));
        reports.put_back(told);
        let told = now(&reports).unwrap();
        assert_eq!(told.deployments.len(), 1);
        assert_eq!(told.deployments.first().unwrap().failure.as_ref().unwrap().len(), REASON);
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
}
