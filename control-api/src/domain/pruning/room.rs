//! Room for one more deployment of a function, where there are as many as there may be: an old one goes for it, as far as anybody's policy
//! lets it. No quota locks a function that runs something.

use super::{Keep, policy};
use crate::domain::audit::{self, Event};
use crate::domain::plans::Limit;
use crate::domain::quotas::{self, Standing, Terms};
use crate::domain::{Actor, Error, State, StorageError};
use crate::store::pruning::{self, Going};
use crate::store::{Connection, DeploymentRow, FunctionRow, projects, storage};

/// What a deployment that is to come will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::domain) enum Place {
    /// What the function runs: then nothing else is rolled out, and a rollback leads to what it runs now.
    Active,
    /// A preview, or a candidate.
    Beside,
}

/// Refuses one more deployment of a function where there cannot be room for it. Whether there is, [`make_room`] says once it is entered.
///
/// # Errors
/// When the function or its project has as many as there may be, and none may go.
pub(in crate::domain) async fn check_room(
    state: &State,
    db: &mut Connection,
    function: &FunctionRow,
    place: Place,
) -> Result<(), Error> {
    let Some(full) = quotas::deployments(state, db, function, Standing::ToCome).await? else { return Ok(()) };
    let mut going = may_go(db, function).await?;
    // The one that comes is the newest then.
    going.keep -= 1;
    going.replaced = place == Place::Active;
    if pruning::prunable(db, &function.id, going).await?.is_empty() { Err(full) } else { Ok(()) }
}

/// Makes room for a deployment of a function that was just entered, if there is none: the oldest that may go does. Where a smaller plan leaves
/// more than there may be, they do not become more, and no fewer. Whoever calls gives the function another revision of the feed.
///
/// # Errors
/// When none may go.
pub(in crate::domain) async fn make_room(
    state: &State,
    db: &mut Connection,
    function: &FunctionRow,
) -> Result<(), Error> {
    let Some(full) = quotas::deployments(state, db, function, Standing::Entered).await? else {
        return Ok(());
    };
    let going = may_go(db, function).await?;
    if drop_one(db, function, going).await? { Ok(()) } else { Err(full) }
}

/// Makes room for what a deployment that was just entered has stored, where the project stored `before` bytes: the function's oldest go that
/// may. A project that stores more than it may stores no more after it, and what was stored already is never refused.
///
/// # Errors
/// When none may go, or it waits for an approval, for which none goes.
pub(in crate::domain) async fn make_bytes(
    state: &State,
    db: &mut Connection,
    function: &FunctionRow,
    made: &DeploymentRow,
    before: u64,
) -> Result<(), Error> {
    let terms = Terms::of_project(state, db, &function.project_id).await?;
    let most = terms.most_stored(Limit::StorageBytes);
    loop {
        let used = storage::usage(db, &function.project_id).await?.bytes;
        if used <= before.max(most) {
            return Ok(());
        }
        let going = may_go(db, function).await?;
        if made.is_waiting() || !drop_one(db, function, going).await? {
            let (more, by) = (used.saturating_sub(before), quotas::by(terms.plan_of(Limit::StorageBytes)));
            return Err(StorageError::Full { used: before, more, most, by }.into());
        }
    }
}

/// As [`make_room`], for what must not be refused, and whatever is to stay by a policy, so that they do not become more. `made` stays.
pub(in crate::domain) async fn make_room_in_any_case(
    state: &State,
    db: &mut Connection,
    function: &FunctionRow,
    made: &str,
) -> Result<(), Error> {
    if quotas::deployments(state, db, function, Standing::Entered).await?.is_some() {
        drop_one(db, function, Going { limit: 1, but: made, ..Going::default() }).await?;
    }
    Ok(())
}

async fn drop_one(db: &mut Connection, function: &FunctionRow, going: Going<'_>) -> Result<bool, Error> {
    let platform = Actor::without_token("platform");
    let found = pruning::prunable(db, &function.id, going).await?;
    for (id, _) in &found {
        pruning::delete(db, id).await?;
        audit::write(db, &platform, Event::project("deployment.prune", id, &function.project_id)).await?;
    }
    Ok(!found.is_empty())
}

/// One that may go without being asked for: by the policy of the function or its project, or the oldest where neither says anything.
async fn may_go(db: &mut Connection, function: &FunctionRow) -> Result<Going<'static>, Error> {
    let project = projects::read(db, &function.project_id).await?;
    let says = |newest: Option<i64>, seconds: Option<i64>| newest.is_some() || seconds.is_some();
    let is_said = says(function.keep_newest, function.keep_for_seconds)
        || project.is_some_and(|project| says(project.keep_newest, project.keep_for_seconds));
    let keep = if is_said { policy(db, function).await? } else { Keep { newest: 1, younger_than: None } };
    Ok(Going { limit: 1, ..keep.going() })
}
