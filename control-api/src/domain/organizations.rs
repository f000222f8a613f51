//! Organizations: who owns projects. Everybody has one of their own.

use super::access::{self, Noun};
use super::audit::{self, Event};
use super::projects::checked_name;
use super::{Actor, Error, Page, Start, State, id, now, quotas, versions};
use crate::store::{Connection, OrganizationRow, organizations, usage};

/// The organization, if the actor is a member.
///
/// # Errors
/// When there is none that the actor may see.
pub async fn get(state: &State, actor: &Actor, id: &str) -> Result<OrganizationRow, Error> {
    access::organization(state, actor, id, Noun::Organizations.read()).await?;
    state.store.organization(id).await?.ok_or_else(|| Error::not_found("organization", id))
}

/// Those that the actor is a member of, oldest first.
///
/// # Errors
/// When the token is for something else.
pub async fn list(
    state: &State,
    actor: &Actor,
    start: impl Into<Start<'_>>,
) -> Result<Page<OrganizationRow>, Error> {
    let start = start.into();
    access::own(actor, Noun::Organizations.read())?;
    let (after, limit) = start.by_id("org")?;
    if actor.grant.project.is_some() {
        return Ok(Page { items: Vec::new(), next: None });
    }
    let organizations = state.store.organizations_of(&actor.user, after, limit).await?;
    Ok(Page::of(organizations, limit, |organization| organization.id.clone()))
}

/// Makes an organization with the actor as its owner.
///
/// # Errors
/// When the name is empty or too long.
pub async fn create(state: &State, actor: &Actor, name: &str) -> Result<OrganizationRow, Error> {
    access::own(actor, Noun::Organizations.write())?;
    let organization = new(name)?;
    let mut db = state.store.begin().await?;
    let count = organizations::count_owned(&mut db, &actor.user).await?;
    quotas::organizations(state, count)?;
    organizations::insert(&mut db, &organization, &actor.user).await?;
    let event = Event::organization("organization.create", &organization.id, &organization.id);
    audit::commit(db, actor, event).await?;
    Ok(organization)
}

/// Renames an organization.
///
/// # Errors
/// When the actor may not, or the name is empty or too long.
pub async fn rename(state: &State, actor: &Actor, id: &str, name: &str) -> Result<OrganizationRow, Error> {
    access::organization(state, actor, id, Noun::Organizations.write()).await?;
    let name = checked_name("organization", name)?;
    let mut db = state.store.begin().await?;
    check_seen(&mut db, actor, id).await?;
    organizations::rename(&mut db, id, &name, now()).await?;
    audit::commit(db, actor, Event::organization("organization.update", id, id)).await?;
    get(state, actor, id).await
}

/// Deletes an organization that has no projects.
///
/// # Errors
/// When the actor is no owner, or projects are left.
pub async fn delete(state: &State, actor: &Actor, id: &str) -> Result<(), Error> {
    access::organization(state, actor, id, Noun::Organizations.own()).await?;
    let mut db = state.store.begin().await?;
    check_seen(&mut db, actor, id).await?;
    if !organizations::delete_empty(&mut db, id).await? {
        let detail = "the organization still has projects; delete them first";
        return Err(Error::conflict("organization_not_empty", detail));
    }
    usage::forget_organization(&mut db, id).await?;
    audit::commit(db, actor, Event::organization("organization.delete", id, id)).await
}

async fn check_seen(db: &mut Connection, actor: &Actor, id: &str) -> Result<(), Error> {
    let organization = organizations::read(db, id).await?;
    versions::check(actor, &organization.ok_or_else(|| Error::not_found("organization", id))?)
}

pub(super) fn new(name: &str) -> Result<OrganizationRow, Error> {
    let (name, now) = (checked_name("organization", name)?, now());
    Ok(OrganizationRow { id: id::new("org"), name, plan: None, created_at: now, updated_at: now })
}
