//! What edges report: whether deployments can be used, which rollouts they stopped, and how calls ended.

use std::time::Duration;

use af_contract::edge::{Awaited, DeploymentReport, REASON, REPORTED, Report};
use tokio::time::Instant;
use tracing::{info, warn};

use super::projects::commit;
use super::{Error, State, calls, rollouts};
use crate::store::{ReportedRow, reports};

/// Deployments that an edge is asked for at once: what it prepares ahead at most.
const AWAITED: i64 = 16;

/// For so long a client waits for edges, which mostly need less than a second.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks at what other servers were told.
const OTHERS: Duration = Duration::from_millis(250);

/// Who reports.
#[derive(Clone, Copy, Debug)]
pub struct Reporter<'e> {
    /// `edge_…`
    pub id: &'e str,
    /// As its operator calls it.
    pub name: &'e str,
}

/// The edge of a control plane's own process. All servers of one database are the same.
pub const HERE: Reporter<'static> = Reporter { id: "here", name: "this server" };

/// Writes down what an edge says. Nothing of it counts twice, and nothing of it keeps anything else from being written down.
///
/// # Errors
/// When it is too much, or something of it was not written down: it may be said again, unless the database refuses what it says
/// ([`Error::is_final`]).
pub async fn take(state: &State, edge: Reporter<'_>, report: &Report) -> Result<(), Error> {
    let Report { deployments, rollouts, calls } = report;
    if deployments.len().max(rollouts.len()).max(calls.len()) > REPORTED {
        let detail = format!("a report has at most {REPORTED} deployments, rollouts and calls each");
        return Err(Error::invalid("report_too_large", detail));
    }
    let mut failed = Failed::default();
    for call in calls {
        failed.note(&call.id, calls::end(state, edge.id, call).await);
    }
    for failure in rollouts {
        failed.note(&failure.rollout, rollouts::fail(state, failure).await);
    }
    let mut changed = false;
    for deployment in deployments {
        changed |=
            failed.note(&deployment.deployment, note(state, edge, deployment).await).unwrap_or_default();
    }
    if changed {
        state.builds.announce();
    }
    failed.0.map_or(Ok(()), Err)
}

/// Why something was not written down: what may pass comes before what will not.
#[derive(Default)]
struct Failed(Option<Error>);

impl Failed {
    fn note<T>(&mut self, what: &str, done: Result<T, Error>) -> Option<T> {
        match done {
            Ok(done) => Some(done),
            Err(error) => {
                if error.is_final() {
                    let source = std::error::Error::source(&error).map(ToString::to_string);
                    warn!(what, %error, source, "the database refuses what an edge reports");
                }
                if self.0.as_ref().is_none_or(Error::is_final) {
                    self.0 = Some(error);
                }
                None
            }
        }
    }
}

/// Returns once an edge has reported on a deployment that is to answer, if one is connected that may, and in any case after a while.
///
/// # Errors
/// When the database fails.
pub async fn settled(state: &State, deployment: &str) -> Result<(), Error> {
    let mut reported = state.builds.subscribe();
    let until = Instant::now() + PATIENCE;
    while state.changes.has_edge() || state.calls.has_edges() {
        reported.mark_unchanged();
        let known = state.store.reported(deployment).await?;
        if known.is_none_or(|known| {
            known.reported.as_deref() != Some("DEPLOYING") || known.report_reason.is_some()
        }) {
            break;
        }
        // Another server may be told.
        let look = if state.store.is_shared() { until.min(Instant::now() + OTHERS) } else { until };
        if tokio::time::timeout_at(look, reported.changed()).await.is_err() && Instant::now() >= until {
            break;
        }
    }
    Ok(())
}

/// Deployments that functions run, or give to some clients, and that no edge can use yet: the next ones for an edge, round and round.
///
/// # Errors
/// When the database fails.
pub async fn awaited(state: &State, edge: &str) -> Result<Vec<Awaited>, Error> {
    let after = state.calls.asked_for(edge);
    let rows = state.store.awaited(&after, AWAITED).await?;
    let is_last = i64::try_from(rows.len()).is_ok_and(|count| count < AWAITED);
    let last = rows.last().filter(|_| !is_last).map(|(_, deployment)| deployment.clone());
    state.calls.ask_for(edge, last.unwrap_or_default());
    Ok(rows.into_iter().map(|(function, deployment)| Awaited { function, deployment }).collect())
}

/// Whether that is news.
async fn note(state: &State, edge: Reporter<'_>, report: &DeploymentReport) -> Result<bool, Error> {
    let id = &report.deployment;
    // Mostly it is known already, and then nothing is to be written.
    let known = state.store.reported(id).await?;
    if known.is_none_or(|known| next(&known, edge, report).is_none()) {
        return Ok(false);
    }
    let mut db = state.store.begin().await?;
    let known = reports::read(&mut db, id).await?;
    let Some(next) = known.and_then(|known| next(&known, edge, report)) else { return Ok(false) };
    reports::put(&mut db, id, &next).await?;
    commit(db).await?;
    match &report.failure {
        None => info!(deployment = id, edge = edge.name, "an edge can use a deployment"),
        Some(reason) => warn!(deployment = id, edge = edge.name, reason, "an edge cannot use a deployment"),
    }
    Ok(true)
}

/// What follows from a report; none: nothing does. One edge that can use it is enough.
fn next(known: &ReportedRow, edge: Reporter<'_>, report: &DeploymentReport) -> Option<ReportedRow> {
    // Edges were never told of it, or are not any more.
    let before = known.reported.as_deref()?;
    let is_its = known.report_edge.as_deref() == Some(edge.id);
    let next = match &report.failure {
        None => ReportedRow {
            reported: Some("READY".into()),
            report_reason: known.report_reason.clone().filter(|_| !is_its),
            report_edge: known.report_edge.clone().filter(|_| !is_its),
        },
        Some(reason) => ReportedRow {
            reported: Some(
                match before {
                    "READY" => "READY",
                    // That edge goes on trying.
                    _ if report.may_pass => "DEPLOYING",
                    // Another one does.
                    "DEPLOYING" if known.report_edge.is_some() && !is_its => return None,
                    _ => "FAILED",
                }
                .into(),
            ),
            report_reason: Some(said(edge, reason)),
            report_edge: Some(edge.id.into()),
        },
    };
    (next != *known).then_some(next)
}

fn said(edge: Reporter<'_>, reason: &str) -> String {
    format!("{}: {}", edge.name, bounded(reason))
}

/// What an edge says, as tenants may be shown it: edges of this program say no more.
pub(super) fn bounded(reason: &str) -> String {
    reason.chars().filter(|char| !char.is_control()).take(REASON).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(reported: Option<&str>, edge: Option<&str>) -> ReportedRow {
        let reason = edge.map(|edge| format!("{edge}: no"));
        ReportedRow {
            reported: reported.map(Into::into),
            report_reason: reason,
            report_edge: edge.map(Into::into),
        }
    }

    fn told(known: &ReportedRow, edge: &str, failure: Option<&str>) -> Option<ReportedRow> {
        let report = DeploymentReport {
            deployment: "dep_1".into(),
            failure: failure.map(Into::into),
            may_pass: failure == Some("not yet"),
        };
        next(known, Reporter { id: edge, name: edge }, &report)
    }

    #[test]
    fn one_edge_that_can_use_it_is_enough() {
        let ready = row(Some("READY"), None);
        assert_eq!(told(&row(None, None), "a", None), None, "nobody asked");
        assert_eq!(told(&row(Some("DEPLOYING"), None), "a", None), Some(ready.clone()));
        assert_eq!(told(&ready, "b", None), None);
        let failed = row(Some("FAILED"), Some("a"));
        assert_eq!(told(&row(Some("DEPLOYING"), None), "a", Some("no")), Some(failed.clone()));
        assert_eq!(told(&failed, "a", Some("no")), None);
        // Another one can: it answers, and the reason stays until that edge can, too.
        let partly = row(Some("READY"), Some("a"));
        assert_eq!(told(&failed, "b", None), Some(partly.clone()));
        assert_eq!(told(&ready, "a", Some("no")), Some(partly.clone()));
        assert_eq!(told(&partly, "b", None), None);
        assert_eq!(told(&partly, "a", None), Some(ready.clone()));
        // What may pass is not over.
        let trying =
            ReportedRow { report_reason: Some("a: not yet".into()), ..row(Some("DEPLOYING"), Some("a")) };
        assert_eq!(told(&row(Some("DEPLOYING"), None), "a", Some("not yet")), Some(trying.clone()));
        assert_eq!(told(&trying, "a", Some("not yet")), None);
        assert_eq!(told(&trying, "a", None), Some(ready));
    }
}
