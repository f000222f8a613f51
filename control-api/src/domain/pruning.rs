//! Pruning: a function's old deployments go, by hand or when there are more than a function may have.

use std::time::Duration;

use af_contract::limits;
use tracing::{error, info};

use super::access::{self, Grant, Noun};
use super::audit::{self, Event};
use super::sweep::Mode;
use super::{Actor, Call, Error, State, now, projects};
use crate::store::feed::{self, Kind};
use crate::store::{functions, pruning};

/// Deployments that go in one transaction, and by one request.
const STEP: i64 = 100;

/// Functions read at a time.
const BATCH: i64 = 100;

/// After a start, at most.
const FIRST: Duration = Duration::from_secs(900);

/// Which deployments stay.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// So many of the newest.
    pub newest: u32,
    /// And all that are younger than this, milliseconds.
    pub younger_than: Option<u64>,
}

/// A deployment that went, or would.
#[derive(Clone, Debug)]
pub struct Pruned {
    /// `dep_…`
    pub id: String,
    /// Within the function.
    pub number: i64,
}

/// Removes a function's old deployments, at most 100. Never the active one, the one before it, a candidate, or one that waits for
/// an approval.
///
/// # Errors
/// When there is no function that the actor may see, or none is to stay.
pub async fn prune(
    state: &State,
    actor: &Actor,
    function: &str,
    keep: Keep,
    mode: Mode,
) -> Result<Vec<Pruned>, Error> {
    access::function(state, actor, function, Noun::Deployments.write()).await?;
    if keep.newest == 0 {
        let detail = "the newest deployment always stays; keep 1 or more";
        return Err(Error::invalid("invalid_keep", detail));
    }
    step(state, actor, function, keep, mode).await
}

/// Removes what functions have beyond the most, again and again, for ever.
pub(crate) async fn watch(state: &State) {
    let interval = state.storage.config.sweep_interval;
    let mut wait = interval.min(FIRST);
    loop {
        tokio::time::sleep(std::mem::replace(&mut wait, interval)).await;
        match all(state).await {
            Ok(0) => {}
            Ok(pruned) => info!(pruned, "removed old deployments"),
            Err(error) => error!(%error, "old deployments stay until the next time"),
        }
    }
}

/// Removes what functions have beyond the most.
pub(crate) async fn all(state: &State) -> Result<usize, Error> {
    let keep = Keep { newest: limits::DEPLOYMENTS, younger_than: None };
    let actor = platform();
    let (mut after, mut pruned) = (String::new(), 0);
    loop {
        let crowded = state.store.crowded(i64::from(keep.newest), &after, BATCH).await?;
        let Some(last) = crowded.last() else { return Ok(pruned) };
        after.clone_from(last);
        for function in crowded {
            loop {
                let gone = match step(state, &actor, &function, keep, Mode::Remove).await {
                    // The function is gone meanwhile.
                    Err(Error::NotFound { .. }) => break,
                    gone => gone?,
                };
                pruned += gone.len();
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
    keep: Keep,
    mode: Mode,
) -> Result<Vec<Pruned>, Error> {
    let younger = keep.younger_than.map(|age| i64::try_from(age).unwrap_or(i64::MAX));
    let cutoff = younger.map_or(i64::MAX, |age| now().saturating_sub(age));
    let mut db = state.store.begin().await?;
    let row = functions::read(&mut db, function).await?;
    let row = row.ok_or_else(|| Error::not_found("function", function))?;
    let found = pruning::prunable(&mut db, function, i64::from(keep.newest), cutoff, STEP).await?;
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

/// No user does what the platform does by itself.
fn platform() -> Actor {
    Actor {
        user: "platform".into(),
        token: String::new(),
        shown: Default::default(),
        grant: Grant::default(),
        call: Call::default(),
        about: None,
    }
}
