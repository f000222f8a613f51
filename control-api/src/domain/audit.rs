//! Who did what. A rule that changes something ends with [`commit`], so that no change is without its entry.

use super::access::{self, Noun, Permission};
use super::projects;
use super::{Actor, Error, Page, Start, State, id, now};
use crate::store::{AuditRow, Connection, Transaction, audit};

/// What was done, to what.
pub(super) struct Event<'a> {
    action: &'static str,
    target: &'a str,
    project: Option<&'a str>,
    organization: Option<&'a str>,
}

/// Whose entries.
#[derive(Clone, Copy, Debug)]
pub enum Of<'a> {
    /// What was done in a project.
    Project(&'a str),
    /// What was done in an organization and its projects, those that are gone included.
    Organization(&'a str),
    /// What the actor did.
    Own,
}

impl<'a> Event<'a> {
    /// In a project. `action` is NOUN.VERB, `target` an id or a name.
    pub(super) fn project(action: &'static str, target: &'a str, project: &'a str) -> Self {
        Self { action, target, project: Some(project), organization: None }
    }

    /// In an organization.
    pub(super) fn organization(action: &'static str, target: &'a str, organization: &'a str) -> Self {
        Self { action, target, project: None, organization: Some(organization) }
    }

    /// Of a project, if there is one; else of the actor alone.
    pub(super) fn maybe(action: &'static str, target: &'a str, project: Option<&'a str>) -> Self {
        Self { action, target, project, organization: None }
    }
}

/// Entries, newest first.
///
/// # Errors
/// When the actor may not see them.
pub async fn list(
    state: &State,
    actor: &Actor,
    of: Of<'_>,
    start: Start<'_>,
) -> Result<Page<AuditRow>, Error> {
    let needed = Noun::Audit.read();
    let (column, value) = match of {
        Of::Project(id) => {
            access::project(state, actor, id, needed).await?;
            (audit::By::Project, id)
        }
        Of::Organization(id) => {
            access::organization(state, actor, id, needed).await?;
            (audit::By::Organization, id)
        }
        Of::Own => {
            access::own_whole(actor, needed)?;
            (audit::By::User, actor.user.as_str())
        }
    };
    let (before, limit) = start.by_id("aud")?;
    let before = Some(before).filter(|before| !before.is_empty());
    let rows = state.store.audit(column, value, before, limit).await?;
    Ok(Page::of(rows, limit, |row| row.id.clone()))
}

/// Commits a change with its entry.
pub(super) async fn commit(mut db: Transaction, actor: &Actor, event: Event<'_>) -> Result<(), Error> {
    write(&mut db, actor, event).await?;
    projects::commit(db).await
}

/// Writes an entry, where somebody else commits.
pub(super) async fn write(db: &mut Connection, actor: &Actor, event: Event<'_>) -> Result<(), Error> {
    let row = row(actor, event.action, "done", event.target, event.project, event.organization);
    // Every rule has this at its end; the rules' futures stay small.
    Box::pin(add(db, row)).await
}

/// Writes down that a member was not allowed something: so many a minute and token, for the log is not theirs to fill.
pub(super) async fn refused(
    state: &State,
    actor: &Actor,
    needed: Permission,
    project: Option<&str>,
    organization: Option<&str>,
) -> Result<(), Error> {
    if !state.rates.is_noted(&actor.token).await {
        return Ok(());
    }
    let target = project.or(organization).unwrap_or_default();
    let needed = needed.to_string();
    let action = actor.call.action.as_deref().unwrap_or(&needed);
    let row = row(actor, action, "refused", target, project, organization);
    let mut db = state.store.begin().await?;
    add(&mut db, row).await?;
    projects::commit(db).await
}

/// Entries have the order of their commits: each is at least a millisecond younger than the one before.
async fn add(db: &mut Connection, mut row: AuditRow) -> Result<(), Error> {
    let latest = audit::latest(db).await?;
    row.at = latest.map_or(row.at, |latest| row.at.max(latest.saturating_add(1)));
    row.id = id::at("aud", row.at);
    Ok(audit::insert(db, &row).await?)
}

fn row(
    actor: &Actor,
    action: &str,
    outcome: &str,
    target: &str,
    project: Option<&str>,
    organization: Option<&str>,
) -> AuditRow {
    AuditRow {
        id: String::new(),
        at: now(),
        user_id: actor.user.clone(),
        token_id: actor.token.clone(),
        action: action.to_owned(),
        outcome: outcome.to_owned(),
        target: target.to_owned(),
        project_id: project.map(str::to_owned),
        organization_id: organization.map(str::to_owned),
        address: actor.call.address.map(|address| address.to_string()),
        request_id: actor.call.request.clone(),
    }
}
