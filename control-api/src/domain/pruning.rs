//! Pruning: a function's old deployments go, by hand or by the policy of the function, its project or the platform.

mod room;

use std::time::Duration;

use af_contract::limits;
use tracing::{error, info};

use super::access::{self, Noun};
use super::audit::{self, Event};
use super::sweep::Mode;
use super::{Actor, Error, State, now, projects, usage};
use crate::store::feed::{self, Kind};
use crate::store::pruning::Going;
use crate::store::{Connection, FunctionRow, ProjectRow, functions, pruning};

pub(super) use self::room::{Place, check_room, make_bytes, make_room, make_room_in_any_case};

/// Deployments that go in one transaction, and by one request.
const STEP: i64 = 100;

/// Functions read at a time.
const BATCH: i64 = 100;

/// After a start, at most.
const FIRST: Duration = Duration::from_secs(900);

/// The longest that a policy can keep deployments: ten years, seconds.
const LONGEST_KEPT: u64 = 10 * 365 * 86_400;

/// Which deployments stay.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// So many of the newest.
    pub newest: u32,
    /// And all that are younger than this, milliseconds.
    pub younger_than: Option<u64>,
}

/// What is to change in a policy; what is none stays as it is, and `Some(None)` is what it is by default: as the project says, or the
/// platform.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeepChange {
    /// So many of the newest deployments.
    pub newest: Option<Option<u32>>,
    /// And all that are younger than this, seconds.
    pub seconds: Option<Option<u64>>,
}

/// A deployment that went, or would.
#[derive(Clone, Debug)]
pub struct Pruned {
    /// `dep_…`
    pub id: String,
    /// Within the function.
    pub number: i64,
}

impl Keep {
    /// What may go.
    fn going(self) -> Going<'static> {
        let younger = self.younger_than.map(|age| i64::try_from(age).unwrap_or(i64::MAX));
        let cutoff = younger.map_or(i64::MAX, |age| now().saturating_sub(age));
        Going { keep: i64::from(self.newest), cutoff, ..Going::default() }
    }
}

impl KeepChange {
    pub(super) fn check(&self) -> Result<(), Error> {
        let newest =
            self.newest.flatten().is_none_or(|newest| (1..=limits::DEPLOYMENTS_KEPT).contains(&newest));
        let seconds = self.seconds.flatten().is_none_or(|seconds| seconds <= LONGEST_KEPT);
        if newest && seconds {
            return Ok(());
        }
        let most = limits::DEPLOYMENTS_KEPT;
        let detail = format!(
            "a function keeps 1 to {most} of its newest deployments, and others for ten years at most"
        );
        Err(Error::invalid("invalid_keep", detail))
    }

    /// Whether there is any: who changes what is kept may remove the rest.
    pub(super) const fn is_some(&self) -> bool {
        self.newest.is_some() || self.seconds.is_some()
    }

    /// After a check.
    pub(super) fn apply(&self, newest: &mut Option<i64>, seconds: &mut Option<i64>) {
        if let Some(change) = self.newest {
            *newest = change.map(i64::from);
        }
        if let Some(change) = self.seconds {
            *seconds = change.map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX));
        }
    }
}

/// Removes a function's old deployments, at most 100; without `keep`, by its policy. Never the active one, the one before it, a
/// candidate, or one that waits for an approval.
///
/// # Errors
/// When there is no function that the actor may see, or none is to stay.
pub async fn prune(
    state: &State,
    actor: &Actor,
    function: &str,
    keep: Option<Keep>,
    mode: Mode,
) -> Result<Vec<Pruned>, Error> {
    access::function(state, actor, function, Noun::Deployments.write()).await?;
    if keep.is_some_and(|keep| keep.newest == 0) {
        let detail = "the newest deployment always stays; keep 1 or more";
        return Err(Error::invalid("invalid_keep", detail));
    }
    step(state, actor, function, keep, mode).await
}

/// Removes what functions do not keep, and has the feed forget what has been gone for long, again and again, for ever.
pub(crate) async fn watch(state: &State) {
    let interval = state.storage.config.sweep_interval;
    let mut wait = interval.min(FIRST);
    loop {
        tokio::time::sleep(std::mem::replace(&mut wait, interval)).await;
        match all(state).await {
            Ok(PrunedAll { pruned: 0, failed: 0 }) => {}
            Ok(PrunedAll { pruned, failed: 0 }) => info!(pruned, "removed old deployments"),
            Ok(PrunedAll { pruned, failed }) => {
                error!(pruned, failed, "old deployments of some functions stay until the next time");
            }
            Err(error) => error!(%error, "old deployments stay until the next time"),
        }
        match Box::pin(super::feed::compact(state)).await {
            Ok(0) => {}
            Ok(forgotten) => info!(forgotten, "the feed forgot what has been gone for a week"),
            Err(error) => error!(%error, "the feed keeps what has been gone for long until the next time"),
        }
        Box::pin(usage::tidy(state)).await;
    }
}

/// What came of pruning all functions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrunedAll {
    /// Deployments that went.
    pub pruned: usize,
    /// Functions of which some had to stay; the log says why.
    pub failed: usize,
}

/// Removes what functions do not keep, by the policy of each. One that cannot be pruned keeps no other one from it.
pub(crate) async fn all(state: &State) -> Result<PrunedAll, Error> {
    // No user does what the platform does by itself.
    let actor = Actor::without_token("platform");
    let (mut after, mut done) = (String::new(), PrunedAll::default());
    loop {
        let crowded = state.store.crowded(i64::from(limits::DEPLOYMENTS), &after, BATCH).await?;
        let Some(last) = crowded.last() else { return Ok(done) };
        after.clone_from(last);
        for function in crowded {
            loop {
                let gone = match step(state, &actor, &function, None, Mode::Remove).await {
                    Ok(gone) => gone,
                    // The function is gone meanwhile.
                    Err(Error::NotFound { .. }) => break,
                    Err(error) => {
                        let source = std::error::Error::source(&error);
                        error!(%function, %error, ?source, "a function's old deployments cannot be removed");
                        done.failed += 1;
                        break;
                    }
                };
                done.pruned += gone.len();
                if i64::try_from(gone.len()).unwrap_or(STEP) < STEP {
                    break;
                }
            }
        }
    }
}

async fn step(
    state: &State,
    actor: &Actor,
    function: &str,
    keep: Option<Keep>,
    mode: Mode,
) -> Result<Vec<Pruned>, Error> {
    let mut db = state.store.begin().await?;
    let row = functions::read(&mut db, function).await?;
    let row = row.ok_or_else(|| Error::not_found("function", function))?;
    let keep = match keep {
        Some(keep) => keep,
        None => policy(&mut db, &row).await?,
    };
    let found = pruning::prunable(&mut db, function, Going { limit: STEP, ..keep.going() }).await?;
    let found: Vec<Pruned> = found.into_iter().map(|(id, number)| Pruned { id, number }).collect();
    if mode == Mode::DryRun || found.is_empty() {
        return Ok(found);
    }
    for Pruned { id, .. } in &found {
        pruning::delete(&mut db, id).await?;
        audit::write(&mut db, actor, Event::project("deployment.prune", id, &row.project_id)).await?;
    }
    // Some may have had preview hosts.
    let revision = feed::put(&mut db, Kind::Function, function).await?;
    projects::commit(db).await?;
    state.changes.announce(revision);
    Ok(found)
}

/// What a function keeps where nobody says otherwise: what it says itself, else its project, else the platform.
async fn policy(db: &mut Connection, function: &FunctionRow) -> Result<Keep, Error> {
    let project = crate::store::projects::read(db, &function.project_id).await?;
    let of_project = |part: fn(&ProjectRow) -> Option<i64>| project.as_ref().and_then(part);
    let newest = function.keep_newest.or_else(|| of_project(|project| project.keep_newest));
    let seconds = function.keep_for_seconds.or_else(|| of_project(|project| project.keep_for_seconds));
    let newest = newest.and_then(|newest| u32::try_from(newest).ok()).unwrap_or(limits::DEPLOYMENTS);
    let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok());
    Ok(Keep { newest, younger_than: seconds.map(|seconds| seconds.saturating_mul(1_000)) })
}
