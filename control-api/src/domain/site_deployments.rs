//! Deployments of sites: blocks, row and site become visible in one step, or not at all.

use af_contract::ContentId;

use super::access::{self, Noun};
use super::audit::{self, Event};
use super::upload::{self, Chunks, ReceivedSite};
use super::{Actor, Error, Page, Start, State, blocks, id, now, sites, storage, tokens};
use crate::store::{
    Connection, SiteDeploymentRow, SiteRow, site_deployments, sites as rows, storage as stored,
};

/// Deployments that a site keeps besides what it serves and the one before that; older ones go with the next one.
const KEPT: i64 = 100;

/// Deployments of a site that are shown with it.
const NEWEST: i64 = 10;

/// A site's deployments, newest first. The cursor is a deployment's number.
///
/// # Errors
/// When there is no site that the actor may see.
pub async fn list(
    state: &State,
    actor: &Actor,
    site: &str,
    start: Start<'_>,
) -> Result<Page<SiteDeploymentRow>, Error> {
    access::site(state, actor, site, Noun::Deployments.read()).await?;
    let (before, limit) = start.by_number()?;
    let items = state.store.site_deployments_of(site, before, limit).await?;
    Ok(Page::of(items, limit, |deployment| deployment.number.to_string()))
}

/// One deployment of a site.
///
/// # Errors
/// When there is none that the actor may see.
pub async fn get(state: &State, actor: &Actor, id: &str) -> Result<SiteDeploymentRow, Error> {
    let not_found = || Error::not_found("deployment", id);
    let deployment = state.store.site_deployment(id).await?.ok_or_else(not_found)?;
    let needed = Noun::Deployments.read();
    access::site(state, actor, &deployment.site_id, needed).await.map_err(|error| match error {
        Error::NotFound { .. } => not_found(),
        error => error,
    })?;
    Ok(deployment)
}

/// The ten newest deployments of each of a project's sites, newest first.
///
/// # Errors
/// When the actor may not see the project's deployments.
pub async fn newest(
    state: &State,
    actor: &Actor,
    project: &str,
    sites: &[String],
) -> Result<Vec<SiteDeploymentRow>, Error> {
    access::project(state, actor, project, Noun::Deployments.read()).await?;
    Ok(state.store.newest_site_deployments(project, sites, NEWEST).await?)
}

/// Receives a directory, or fetches it where nothing is sent, and makes it what the site serves.
///
/// # Errors
/// When there is no site that the actor may see, or the upload is refused; nothing is kept then.
pub async fn create(
    state: &State,
    actor: &Actor,
    site: &str,
    root: ContentId,
    chunks: Option<Chunks>,
) -> Result<SiteDeploymentRow, Error> {
    let project = access::site(state, actor, site, Noun::Deployments.write()).await?.project_id;
    // Before anything is sent; what counts is what is there when it is entered.
    storage::site_has_room(state, &project, site, &root).await?;
    let _place = state.uploads.take(&actor.user).ok_or(Error::Busy)?;
    let ReceivedSite { tree, bytes, staging } = match chunks {
        Some(chunks) => Box::pin(upload::receive_site(state, root, chunks)).await?,
        None => Box::pin(upload::fetch_site(state, &project, root)).await?,
    };

    let committing = state.committing.lock().await;
    // Receiving takes minutes, in which somebody may have been removed.
    tokens::recheck(state, actor).await?;
    access::site(state, actor, site, Noun::Deployments.write()).await?;
    let mut db = state.store.begin().await?;
    let row = rows::read(&mut db, site).await?.ok_or_else(|| Error::not_found("site", site))?;
    let deployment = SiteDeploymentRow {
        id: id::new("sdp"),
        site_id: row.id.clone(),
        number: site_deployments::last_number(&mut db, site).await? + 1,
        root_cid: root.to_string(),
        files: i64::try_from(tree.files).unwrap_or(i64::MAX),
        bytes: i64::try_from(tree.bytes).unwrap_or(i64::MAX),
        stored_bytes: Some(i64::try_from(bytes).unwrap_or(i64::MAX)),
        author_id: actor.user.clone(),
        created_at: now(),
    };
    let project = row.project_id.clone();
    let is_new = stored::counted(&mut db, &project, &deployment.root_cid).await?.is_none();
    site_deployments::insert(&mut db, &deployment).await?;
    let revision = activate(&mut db, row, &deployment).await?;
    let mut gone = site_deployments::prune(&mut db, site, KEPT).await?;
    // What is there takes no more room.
    if is_new {
        gone.extend(storage::make_for_site(state, &mut db, (&project, site), bytes).await?);
    }
    for pruned in gone {
        audit::write(&mut db, actor, Event::project("site_deployment.prune", &pruned, &project)).await?;
    }
    audit::write(&mut db, actor, Event::project("site_deployment.create", &deployment.id, &project)).await?;
    blocks::commit(state, db, staging, &committing).await?;
    state.changes.announce(revision);
    Ok(deployment)
}

/// Makes an older deployment what the site serves: the given one, or the one before the current.
///
/// # Errors
/// When there is no site that the actor may see, no such deployment of it, or no older one.
pub async fn rollback(
    state: &State,
    actor: &Actor,
    site: &str,
    to: Option<&str>,
) -> Result<SiteDeploymentRow, Error> {
    let current = access::site(state, actor, site, Noun::Deployments.write()).await?.current_deployment_id;
    let target = match to {
        Some(id) => state.store.site_deployment(id).await?.filter(|found| found.site_id == site),
        None => Some(previous(state, site, current.as_deref()).await?),
    };
    let target = target.ok_or_else(|| Error::not_found("deployment", to.unwrap_or_default()))?;
    let mut db = state.store.begin().await?;
    let row = rows::read(&mut db, site).await?.ok_or_else(|| Error::not_found("site", site))?;
    // A deploy may have pruned it meanwhile.
    let there = site_deployments::read(&mut db, &target.id).await?;
    let target = there.ok_or_else(|| Error::not_found("deployment", &target.id))?;
    let project = row.project_id.clone();
    let revision = activate(&mut db, row, &target).await?;
    audit::commit(db, actor, Event::project("site_deployment.rollback", &target.id, &project)).await?;
    state.changes.announce(revision);
    Ok(target)
}

async fn previous(state: &State, site: &str, current: Option<&str>) -> Result<SiteDeploymentRow, Error> {
    let none = |detail: &str| Error::Conflict { code: "nothing_to_roll_back_to", detail: detail.into() };
    let current = current.ok_or_else(|| none("the site has no deployment yet"))?;
    let current = state.store.site_deployment(current).await?;
    let current = current.ok_or_else(|| Error::not_found("site", site))?;
    let older = state.store.site_deployments_of(site, current.number, 1).await?;
    older.into_iter().next().ok_or_else(|| none("the site has no older deployment"))
}

/// Points the site at a deployment. Returns the revision, to be announced.
async fn activate(
    db: &mut Connection,
    mut site: SiteRow,
    deployment: &SiteDeploymentRow,
) -> Result<u64, Error> {
    site.current_deployment_id = Some(deployment.id.clone());
    site.updated_at = now();
    rows::update(db, &site).await?;
    sites::publish(db, &site.id).await
}
