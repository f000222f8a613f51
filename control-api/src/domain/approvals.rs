//! Approval of wider capabilities: a deployment that may reach more than the active one does not run before somebody allows it
//! who may do more than deploy.

use af_contract::{Manifest, StoreName, limits};

use super::access::{self, Noun};
use super::audit::{self, Event};
use super::{Actor, Error, State, deployments, manifests, now, pruning, settings};
use crate::store::feed::{self, Kind};
use crate::store::{Connection, DeploymentRow, FunctionRow, StoreError, deployments as store, functions};

/// Things that one approval can name: more than a deployment can want.
const NAMED: usize = 4 * limits::CAPABILITIES;

/// Allows a deployment what it wants, which is `shown`: what the approver was shown, or where that is none what its document says. One that
/// waited becomes active, unless it was made as a preview or a candidate, or a later one is. One that did not, but may do more than the
/// deployment that is active now, can be promoted then.
///
/// # Errors
/// When there is none that the actor may see, the actor may not allow it, it needs no approval, it would be allowed what was not shown, or it
/// would run with settings that the function has no more.
pub async fn approve(
    state: &State,
    actor: &Actor,
    id: &str,
    shown: Option<&[String]>,
) -> Result<DeploymentRow, Error> {
    let not_found = || Error::not_found("deployment", id);
    let function = state.store.deployment(id).await?.ok_or_else(not_found)?.function_id;
    let row =
        access::function(state, actor, &function, Noun::Approvals.write()).await.map_err(
            |error| match error {
                Error::NotFound { .. } => not_found(),
                error => error,
            },
        )?;
    if shown.is_some_and(|shown| shown.len() > NAMED) {
        let detail = format!("an approval names at most {NAMED} things");
        return Err(Error::invalid("invalid_capability", detail));
    }
    manifests::bring(state, row.current_deployment_id.into_iter().chain([id.to_owned()]).collect()).await?;
    let mut db = state.store.begin().await?;
    let mut deployment = store::read(&mut db, id).await?.ok_or_else(not_found)?;
    let row = functions::read(&mut db, &function).await?.ok_or_else(not_found)?;
    let waited = deployment.is_waiting();
    let more = unallowed(state, &mut db, &row, &deployment).await?;
    if !waited && more.is_empty() {
        let detail = "this deployment does not wait for an approval, and may do no more than the active one";
        return Err(Error::conflict("not_awaiting_approval", detail));
    }
    // What it wanted when it was made, and what it would do more than what is active now.
    let known = widens(&deployment)?;
    let mut allowed = known.clone();
    allowed.extend(more.iter().filter(|what| !known.contains(what)).cloned());
    // What was allowed before is no question any more.
    let asked = if waited { &allowed } else { &more };
    check_shown(&row, &deployment, asked, shown.unwrap_or(&known))?;
    deployment.widens = Some(serde_json::json!(allowed).to_string());
    deployment.approver_id = Some(actor.user.clone());
    store::approve(&mut db, &deployment, now()).await?;
    let (project, before) = (row.project_id.clone(), row.clone());
    let revision =
        if waited && deployment.activates != 0 && deployments::is_newer(&mut db, &row, &deployment).await? {
            settings::check_current(&mut db, &row, &deployment).await?;
            deployments::activate(state, &mut db, row, &deployment).await?
        } else {
            feed::put(&mut db, Kind::Function, &function).await?
        };
    if waited {
        // It counts from now on.
        pruning::make_room_in_any_case(state, &mut db, &before, id).await?;
    }
    audit::commit(db, actor, Event::project("deployment.approve", id, &project)).await?;
    state.changes.announce(revision);
    deployments::seen(state, deployment).await
}

/// That nothing is allowed which was not shown: another deployment may have become active since.
fn check_shown(
    function: &FunctionRow,
    deployment: &DeploymentRow,
    asked: &[String],
    shown: &[String],
) -> Result<(), Error> {
    if asked.iter().all(|what| shown.contains(what)) {
        return Ok(());
    }
    let detail = format!(
        "deployment {} may do more than the active one that you have not named: {}; if all of it is meant, allow it with `{}` (`allows` over HTTP)",
        deployment.id,
        asked.iter().filter(|what| !shown.contains(what)).cloned().collect::<Vec<_>>().join(", "),
        command(function, deployment, asked)
    );
    Err(Error::conflict("capabilities_changed", detail))
}

/// What allows that. Names of hosts and stores have no quotes.
fn command(function: &FunctionRow, deployment: &DeploymentRow, asked: &[String]) -> String {
    let named: Vec<String> = asked.iter().map(|what| format!(" --allow '{what}'")).collect();
    format!("af functions approve {} {}{}", function.name, deployment.id, named.concat())
}

/// That a deployment may run.
///
/// # Errors
/// When it waits for an approval.
pub(super) fn check(deployment: &DeploymentRow) -> Result<(), Error> {
    if !deployment.is_waiting() {
        return Ok(());
    }
    let detail = format!(
        "deployment {} may do more than the active one and waits for an approval: {}; an admin or owner allows it with `af functions approve`",
        deployment.id,
        widens(deployment)?.join(", ")
    );
    Err(Error::conflict("awaiting_approval", detail))
}

/// That a deployment which did not wait when it was made may run in place of what is active now, which may be another one than then.
/// What has been active before may be so again: a rollback waits for nobody.
///
/// # Errors
/// When it may do more, and nobody has allowed that.
pub(super) async fn check_again(
    state: &State,
    db: &mut Connection,
    function: &FunctionRow,
    deployment: &DeploymentRow,
) -> Result<(), Error> {
    // First, so that a rollback needs nothing of the disk.
    if store::was_active(db, &deployment.id).await? {
        return Ok(());
    }
    let more = unallowed(state, db, function, deployment).await?;
    if more.is_empty() {
        return Ok(());
    }
    let detail = format!(
        "deployment {} may do more than the one that is active now, which is another than when it was made: {}; an admin or owner \
         allows it with `{}`, then try again",
        deployment.id,
        more.join(", "),
        command(function, deployment, &more),
    );
    Err(Error::conflict("awaiting_approval", detail))
}

/// What it may do that what is active now may not, and that nobody has allowed it.
async fn unallowed(
    state: &State,
    db: &mut Connection,
    function: &FunctionRow,
    deployment: &DeploymentRow,
) -> Result<Vec<String>, Error> {
    let Some(active) = &function.current_deployment_id else { return Ok(Vec::new()) };
    if *active == deployment.id {
        return Ok(Vec::new());
    }
    let Some(active) = store::read(db, active).await? else { return Ok(Vec::new()) };
    let active = manifests::read(state, active.manifest()?).await?;
    let mut more = compare(Some(&active), &manifests::read(state, deployment.manifest()?).await?);
    let allowed = if deployment.is_waiting() { Vec::new() } else { widens(deployment)? };
    more.retain(|what| !allowed.contains(what));
    Ok(more)
}

/// What a deployment could do, when it was made or approved, that the active one could not.
///
/// # Errors
/// When what is stored is no list.
pub fn widens(deployment: &DeploymentRow) -> Result<Vec<String>, Error> {
    let Some(text) = &deployment.widens else { return Ok(Vec::new()) };
    let lost =
        |_| StoreError::Value { what: "list of capabilities", value: text.chars().take(200).collect() };
    Ok(serde_json::from_str(text).map_err(lost)?)
}

/// What a manifest allows beyond what the active deployment may. What every function may do is no widening of anything: to
/// ask any host of the public internet, and to open the default store.
pub(super) async fn widening(state: &State, next: &Manifest) -> Result<Vec<String>, Error> {
    let active = match next.parent {
        Some(parent) => Some(manifests::read(state, parent).await?),
        None => None,
    };
    Ok(compare(active.as_ref(), next))
}

fn compare(active: Option<&Manifest>, next: &Manifest) -> Vec<String> {
    let mut widens = Vec::new();
    if let Some(known) = active.and_then(|active| active.egress.as_ref()) {
        match &next.egress {
            None => widens.push("egress to any host of the public internet".to_owned()),
            Some(hosts) => {
                let names = hosts.iter().map(ToString::to_string);
                let new = names.filter(|host| !known.iter().any(|pattern| pattern.matches(host)));
                widens.extend(new.map(|host| format!("egress to {host}")));
            }
        }
    }
    let known = active.map_or(&[][..], |active| &active.stores);
    let new =
        next.stores.iter().filter(|store| store.as_str() != StoreName::DEFAULT && !known.contains(store));
    widens.extend(new.map(|store| format!("store {store}")));
    widens
}
