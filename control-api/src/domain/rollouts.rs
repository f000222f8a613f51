//! Gradual rollouts: a candidate answers some of a function's clients, until it is promoted or the rollout is aborted.

use af_contract::{Guard, RolloutFailure, Sticky};

use super::access::{self, Noun};
use super::audit::{self, Event};
use super::deployments::{self, Target};
use super::settings::Going;
use super::{Actor, Error, State, approvals, id, manifests, now};
use crate::store::feed::{self, Kind};
use crate::store::{Connection, DeploymentRow, FunctionRow, RolloutRow, functions, reports, rollouts};

const RUNNING: &str = "RUNNING";
const ROLLED_BACK: &str = "ROLLED_BACK";

/// Who is to get a candidate.
#[derive(Clone, Debug)]
pub struct Share {
    /// How many of a hundred clients.
    pub percent: u8,
    /// By what they are known; as before, where nothing is said, and at first by their address.
    pub sticky: Option<Sticky>,
    /// Of a hundred requests, so many more than to the active deployment may fail; as before, where nothing is said.
    pub max_errors: Option<u8>,
    /// Requests to the candidate before it is judged; as before, where nothing is said.
    pub min_requests: Option<u32>,
    /// Also where an edge has stopped the rollout of the same candidate.
    pub again: bool,
}

impl Share {
    fn check(&self) -> Result<(), Error> {
        if self.percent > 100 {
            let detail = format!("{} % of clients are more than all; say 0 to 100", self.percent);
            return Err(Error::invalid("invalid_percent", detail));
        }
        if self.max_errors.is_some_and(|most| most > 100) {
            let detail =
                "more than all requests cannot fail; say 0 to 100, where 100 never stops the rollout";
            return Err(Error::invalid("invalid_percent", detail));
        }
        Ok(())
    }
}

/// The function's newest rollout, running or ended.
///
/// # Errors
/// When there is no function that the actor may see, or it never had one.
pub async fn get(state: &State, actor: &Actor, function: &str) -> Result<RolloutRow, Error> {
    access::function(state, actor, function, Noun::Deployments.read()).await?;
    state.store.rollout(function).await?.ok_or_else(|| Error::not_found("rollout of function", function))
}

/// Begins to roll a deployment out, or changes who gets the one that is being rolled out.
///
/// # Errors
/// When there is no function that the actor may see, no such deployment of it, it is the active one, another one is being
/// rolled out, or an edge has stopped this one and it is not said that it is to begin again.
pub async fn put(
    state: &State,
    actor: &Actor,
    function: &str,
    deployment: &str,
    share: Share,
) -> Result<RolloutRow, Error> {
    let row = access::function(state, actor, function, Noun::Deployments.write()).await?;
    let concerned = row.current_deployment_id.into_iter().chain([deployment.to_owned()]);
    manifests::bring(state, concerned.collect()).await?;
    let mut db = state.store.begin().await?;
    let row = functions::read(&mut db, function).await?;
    let row = row.ok_or_else(|| Error::not_found("function", function))?;
    let candidate = deployments::of_function(&mut db, function, deployment).await?;
    approvals::check(&candidate)?;
    Box::pin(approvals::check_again(state, &mut db, &row, &candidate)).await?;
    let rollout = begin(&mut db, &row, &candidate, share).await?;
    let revision = feed::put(&mut db, Kind::Function, function).await?;
    audit::commit(db, actor, Event::project("deployment.rollout", deployment, &row.project_id)).await?;
    state.changes.announce(revision);
    Ok(rollout)
}

/// Makes a deployment the active one: the given one, or the candidate. A function that is switched off stays so.
///
/// # Errors
/// When there is no function that the actor may see, no such deployment of it, or no candidate.
pub async fn promote(
    state: &State,
    actor: &Actor,
    function: &str,
    deployment: Option<&str>,
) -> Result<DeploymentRow, Error> {
    let row = access::function(state, actor, function, Noun::Deployments.write()).await?;
    let target = deployment.map_or(Target::Candidate, Target::This);
    deployments::make_active(state, actor, row, target, Going::Forward).await
}

/// What is being rolled out, as the transaction sees it.
pub(super) async fn candidate(db: &mut Connection, function: &str) -> Result<String, Error> {
    Ok(running(rollouts::read(db, function).await?, function)?.deployment_id)
}

/// Ends the rollout: all clients get the active deployment again.
///
/// # Errors
/// When there is no function that the actor may see, or nothing is being rolled out.
pub async fn abort(state: &State, actor: &Actor, function: &str) -> Result<RolloutRow, Error> {
    let row = access::function(state, actor, function, Noun::Deployments.write()).await?;
    let mut db = state.store.begin().await?;
    let mut rollout = running(rollouts::read(&mut db, function).await?, function)?;
    end(&mut db, &mut rollout, "ABORTED", "it was aborted").await?;
    let revision = feed::put(&mut db, Kind::Function, function).await?;
    let event = Event::project("deployment.abort", &rollout.deployment_id, &row.project_id);
    audit::commit(db, actor, event).await?;
    state.changes.announce(revision);
    Ok(rollout)
}

/// Ends a rollout that an edge has stopped, unless it has ended meanwhile.
///
/// # Errors
/// When the database fails.
pub(crate) async fn fail(state: &State, failure: &RolloutFailure) -> Result<(), Error> {
    let mut db = state.store.begin().await?;
    let rollout = rollouts::read(&mut db, &failure.function).await?;
    let is_it = |rollout: &RolloutRow| rollout.status == RUNNING && rollout.id == failure.rollout;
    let Some(mut rollout) = rollout.filter(is_it) else { return Ok(()) };
    let Some(row) = functions::read(&mut db, &failure.function).await? else { return Ok(()) };
    end(&mut db, &mut rollout, ROLLED_BACK, &failure.to_string()).await?;
    let revision = feed::put(&mut db, Kind::Function, &row.id).await?;
    let event = Event::project("deployment.roll_back", &rollout.deployment_id, &row.project_id);
    // No user does what an edge does by itself.
    audit::commit(db, &Actor::without_token("edge"), event).await?;
    state.changes.announce(revision);
    Ok(())
}

/// Refuses a candidate that a function cannot have now, before anything of it is sent.
///
/// # Errors
/// When the share is none, or the function runs nothing, or rolls another deployment out.
pub(super) async fn check(db: &mut Connection, function: &FunctionRow, share: &Share) -> Result<(), Error> {
    share.check()?;
    is_free(function, rollouts::read(db, &function.id).await?.as_ref(), None)
}

fn is_free(
    function: &FunctionRow,
    newest: Option<&RolloutRow>,
    candidate: Option<&str>,
) -> Result<(), Error> {
    if function.current_deployment_id.is_none() {
        let detail = "the function runs nothing yet that a candidate could be compared with; deploy it without a percentage first";
        return Err(Error::conflict("function_not_deployed", detail));
    }
    let running = newest.filter(|newest| newest.status == RUNNING);
    if running.is_some_and(|running| candidate != Some(running.deployment_id.as_str())) {
        let detail = "another deployment is being rolled out; promote it with `af functions promote`, or end that with `af functions abort`";
        return Err(Error::conflict("rollout_running", detail));
    }
    Ok(())
}

/// Makes a deployment the function's candidate. Whoever commits this tells the feed.
pub(super) async fn begin(
    db: &mut Connection,
    function: &FunctionRow,
    candidate: &DeploymentRow,
    share: Share,
) -> Result<RolloutRow, Error> {
    share.check()?;
    let newest = rollouts::read(db, &function.id).await?;
    is_free(function, newest.as_ref(), Some(&candidate.id))?;
    if function.current_deployment_id.as_ref() == Some(&candidate.id) {
        let detail = "this deployment is the active one, which all clients get";
        return Err(Error::conflict("deployment_active", detail));
    }
    approvals::check(candidate)?;
    let (mut known, mut stopped) = (None, None);
    match newest {
        Some(newest) if newest.status == RUNNING => known = Some(newest),
        Some(newest) if newest.status == ROLLED_BACK && newest.deployment_id == candidate.id => {
            stopped = Some(newest);
        }
        _ => {}
    }
    if let Some(stopped) = stopped.as_ref().filter(|_| !share.again) {
        let detail = format!(
            "an edge has stopped the rollout of this deployment: {}; deploy one that is mended, or begin again with `af functions rollout --again` (`again` over HTTP)",
            stopped.reason.as_deref().unwrap_or("it failed")
        );
        return Err(Error::conflict("rollout_stopped", detail));
    }
    let now = now();
    let is_new = known.is_none();
    let mut rollout = known.unwrap_or_else(|| first(function, candidate, now));
    if let Some(stopped) = stopped {
        rollout.sticky = stopped.sticky;
        (rollout.max_errors, rollout.min_requests) = (stopped.max_errors, stopped.min_requests);
    }
    rollout.percent = i64::from(share.percent);
    rollout.sticky = share.sticky.map_or(rollout.sticky, |sticky| sticky.to_string());
    rollout.max_errors = share.max_errors.map_or(rollout.max_errors, i64::from);
    rollout.min_requests = share.min_requests.map_or(rollout.min_requests, i64::from);
    rollout.updated_at = now;
    rollouts::put(db, &rollout).await?;
    if is_new {
        reports::expect(db, &candidate.id).await?;
    }
    Ok(rollout)
}

fn first(function: &FunctionRow, candidate: &DeploymentRow, now: i64) -> RolloutRow {
    RolloutRow {
        function_id: function.id.clone(),
        id: id::new("rol"),
        deployment_id: candidate.id.clone(),
        percent: 0,
        sticky: Sticky::default().to_string(),
        max_errors: i64::from(Guard::default().max_errors),
        min_requests: i64::from(Guard::default().min_requests),
        status: RUNNING.into(),
        reason: None,
        created_at: now,
        updated_at: now,
    }
}

/// A deployment becomes active, which ends what is being rolled out.
pub(super) async fn settle(db: &mut Connection, function: &str, active: &str) -> Result<(), Error> {
    let rollout = rollouts::read(db, function).await?;
    let Some(mut rollout) = rollout.filter(|rollout| rollout.status == RUNNING) else { return Ok(()) };
    if rollout.deployment_id == active {
        rollout.percent = 100;
        end(db, &mut rollout, "PROMOTED", "it was promoted").await
    } else {
        end(db, &mut rollout, "ABORTED", "another deployment was made active").await
    }
}

async fn end(db: &mut Connection, rollout: &mut RolloutRow, status: &str, reason: &str) -> Result<(), Error> {
    rollout.status = status.to_owned();
    rollout.reason = Some(reason.to_owned());
    rollout.updated_at = now();
    Ok(rollouts::put(db, rollout).await?)
}

fn running(rollout: Option<RolloutRow>, function: &str) -> Result<RolloutRow, Error> {
    rollout.filter(|rollout| rollout.status == RUNNING).ok_or_else(|| {
        let detail = format!("nothing is being rolled out of {function}; `af functions rollout` begins it");
        Error::conflict("no_rollout", detail)
    })
}
