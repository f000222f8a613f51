//! Projects: who owns functions and sites.

use super::{Actor, Error, PAGE, Page, State, id, now};
use crate::store::{ProjectRow, Transaction, projects};

/// Characters of a project's name.
const NAME: std::ops::RangeInclusive<usize> = 1..=60;

/// The project, if the actor is a member.
///
/// # Errors
/// When there is none, or the actor is not a member; the two look the same.
pub async fn get(state: &State, actor: &Actor, id: &str) -> Result<ProjectRow, Error> {
    state.store.project_of(&actor.user, id).await?.ok_or_else(|| Error::not_found("project", id))
}

/// The actor's projects, oldest first.
///
/// # Errors
/// When the database fails.
pub async fn list(state: &State, actor: &Actor, after: &str) -> Result<Page<ProjectRow>, Error> {
    let projects = state.store.projects_of(&actor.user, after, PAGE).await?;
    Ok(Page::of(projects, |project| project.id.clone()))
}

/// Makes a project with the actor as its member.
///
/// # Errors
/// When the name is empty or too long.
pub async fn create(state: &State, actor: &Actor, name: &str) -> Result<ProjectRow, Error> {
    let project = new(name)?;
    let mut db = state.store.begin().await?;
    projects::insert(&mut db, &project, &actor.user).await?;
    commit(db).await?;
    Ok(project)
}

/// Renames a project.
///
/// # Errors
/// When the actor is not a member, or the name is empty or too long.
pub async fn rename(state: &State, actor: &Actor, id: &str, name: &str) -> Result<ProjectRow, Error> {
    get(state, actor, id).await?;
    let name = checked(name)?;
    let mut db = state.store.begin().await?;
    projects::rename(&mut db, id, &name, now()).await?;
    commit(db).await?;
    get(state, actor, id).await
}

/// Deletes a project that has no functions, no sites and no pins.
///
/// # Errors
/// When the actor is not a member, or functions, sites or pins are left.
pub async fn delete(state: &State, actor: &Actor, id: &str) -> Result<(), Error> {
    get(state, actor, id).await?;
    let mut db = state.store.begin().await?;
    if !projects::delete_empty(&mut db, id).await? {
        let detail = "the project still has functions, sites or pins; delete them first".to_owned();
        return Err(Error::Conflict { code: "project_not_empty", detail });
    }
    commit(db).await
}

pub(super) fn new(name: &str) -> Result<ProjectRow, Error> {
    let (name, now) = (checked(name)?, now());
    Ok(ProjectRow { id: id::new("prj"), name, created_at: now, updated_at: now })
}

fn checked(name: &str) -> Result<String, Error> {
    let name = name.trim();
    if NAME.contains(&name.chars().count()) && !name.chars().any(char::is_control) {
        return Ok(name.to_owned());
    }
    Err(Error::invalid("invalid_project_name", "a project's name has 1 to 60 characters"))
}

pub(super) async fn commit(db: Transaction) -> Result<(), Error> {
    db.commit().await.map_err(|error| Error::Store(error.into()))
}
