//! Projects: who owns functions and sites.

use super::access::{self, Noun};
use super::audit::{self, Event};
use super::plans::Limit;
use super::pruning::KeepChange;
use super::quotas::Terms;
use super::{Actor, Error, Page, Start, State, id, now, versions};
use crate::store::{ProjectRow, Transaction, projects};

/// Characters of a name.
const NAME: std::ops::RangeInclusive<usize> = 1..=60;

/// What is to change; what is none stays as it is.
#[derive(Debug, Default)]
pub struct Change {
    /// Free text.
    pub name: Option<String>,
    /// Which deployments its functions keep, where they say nothing themselves.
    pub keep: KeepChange,
}

/// The project, if the actor is a member.
///
/// # Errors
/// When there is none, or the actor is not a member; the two look the same.
pub async fn get(state: &State, actor: &Actor, id: &str) -> Result<ProjectRow, Error> {
    access::see_project(state, actor, id, Noun::Projects).await?;
    state.store.project(id).await?.ok_or_else(|| Error::not_found("project", id))
}

/// The actor's projects, oldest first; those of their organizations, too.
///
/// # Errors
/// When the database fails.
pub async fn list(
    state: &State,
    actor: &Actor,
    start: impl Into<Start<'_>>,
) -> Result<Page<ProjectRow>, Error> {
    let start = start.into();
    if let Some(only) = &actor.grant.project {
        let project = get(state, actor, only).await?;
        return Ok(Page {
            items: start.after.is_empty().then_some(project).into_iter().collect(),
            next: None,
        });
    }
    access::own(actor, Noun::Projects.read())?;
    let (after, limit) = start.by_id("prj")?;
    let projects = state.store.projects_of(&actor.user, after, limit).await?;
    Ok(Page::of(projects, limit, |project| project.id.clone()))
}

/// Makes a project of an organization: the given one, or the actor's own.
///
/// # Errors
/// When the name is empty or too long, or the actor may not make projects there.
pub async fn create(
    state: &State,
    actor: &Actor,
    organization: Option<&str>,
    name: &str,
) -> Result<ProjectRow, Error> {
    access::own(actor, Noun::Projects.write())?;
    let organization = match organization {
        Some(id) => id.to_owned(),
        None => state.store.own_organization(&actor.user).await?.ok_or_else(|| {
            Error::invalid(
                "organization_required",
                "you own no organization that the project could be of; say which, or make one",
            )
        })?,
    };
    access::organization(state, actor, &organization, Noun::Projects.write()).await?;
    let project = new(&organization, name)?;
    let mut db = state.store.begin().await?;
    let count = projects::count(&mut db, &organization).await?;
    let terms = Terms::of_organization(state, &mut db, &organization).await?;
    terms.check(Limit::Projects, count, "delete one that is not used")?;
    projects::insert(&mut db, &project).await?;
    audit::commit(db, actor, Event::project("project.create", &project.id, &project.id)).await?;
    Ok(project)
}

/// Changes a project's name, and which deployments its functions keep.
///
/// # Errors
/// When the actor may not, the name is empty or too long, or too much is to be kept.
pub async fn update(state: &State, actor: &Actor, id: &str, change: Change) -> Result<ProjectRow, Error> {
    access::project(state, actor, id, Noun::Projects.write()).await?;
    if change.keep.is_some() {
        access::project(state, actor, id, Noun::Deployments.write()).await?;
    }
    let name = change.name.map(|name| checked_name("project", &name)).transpose()?;
    change.keep.check()?;
    let mut db = state.store.begin().await?;
    let found = projects::read(&mut db, id).await?;
    let mut project = found.ok_or_else(|| Error::not_found("project", id))?;
    versions::check(actor, &project)?;
    project.name = name.unwrap_or(project.name);
    change.keep.apply(&mut project.keep_newest, &mut project.keep_for_seconds);
    project.updated_at = now();
    projects::update(&mut db, &project).await?;
    audit::commit(db, actor, Event::project("project.update", id, id)).await?;
    Ok(project)
}

/// Deletes a project that has no functions, no sites and no pins.
///
/// # Errors
/// When the actor is no owner, or functions, sites or pins are left.
pub async fn delete(state: &State, actor: &Actor, id: &str) -> Result<(), Error> {
    access::project(state, actor, id, Noun::Projects.own()).await?;
    let mut db = state.store.begin().await?;
    let project = projects::read(&mut db, id).await?.ok_or_else(|| Error::not_found("project", id))?;
    versions::check(actor, &project)?;
    // While it is known whose it was.
    audit::write(&mut db, actor, Event::project("project.delete", id, id)).await?;
    if !projects::delete_empty(&mut db, id).await? {
        let detail = "the project still has functions, sites or pins; delete them first";
        return Err(Error::conflict("project_not_empty", detail));
    }
    commit(db).await
}

pub(super) fn new(organization: &str, name: &str) -> Result<ProjectRow, Error> {
    let (name, now) = (checked_name("project", name)?, now());
    let organization_id = Some(organization.to_owned());
    Ok(ProjectRow {
        id: id::new("prj"),
        organization_id,
        name,
        keep_newest: None,
        keep_for_seconds: None,
        created_at: now,
        updated_at: now,
    })
}

/// A name for people, of an organization or a project.
pub(super) fn checked_name(what: &str, name: &str) -> Result<String, Error> {
    let name = name.trim();
    let code = if what == "project" { "invalid_project_name" } else { "invalid_name" };
    if name.chars().any(misleads) {
        let detail = format!(
            "the name of a {what} has no characters that change the direction of text or cannot be seen"
        );
        return Err(Error::invalid(code, detail));
    }
    if NAME.contains(&name.chars().count()) && !name.chars().any(char::is_control) {
        return Ok(name.to_owned());
    }
    Err(Error::invalid(code, format!("the name of a {what} has 1 to 60 characters")))
}

/// Characters that show what comes after them in another order (Unicode, UAX #9): a name would look like another one, or change
/// what stands beside it. And those that nobody sees, without those that join letters and emojis.
pub(super) fn misleads(character: char) -> bool {
    let reorders = matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    let hides = matches!(
        character,
        '\u{ad}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}' | '\u{2028}' | '\u{2029}' | '\u{2060}'..='\u{2064}'
            | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{e0000}'..='\u{e007f}'
    );
    reorders || hides
}

pub(super) async fn commit(db: Transaction) -> Result<(), Error> {
    db.commit().await.map_err(|error| Error::Store(error.into()))
}
