//! Who may do what: the one place that decides it. A member's role says what they may do in a project or an organization; a
//! token can do less than its owner, never more.

mod grant;
mod permission;
mod role;
mod scopes;

pub use self::grant::Grant;
pub use self::permission::{Noun, Permission, Verb};
pub use self::role::Role;
pub use self::scopes::Scopes;
use super::plans::rate::{self, About};
use super::{Actor, Error, State, audit};
use crate::store::{DomainRow, FunctionRow, ProjectRow, SiteRow};

/// What belongs to the actor alone: their tokens, and what they are members of.
///
/// # Errors
/// When the token is for something else only.
pub fn own(actor: &Actor, permission: Permission) -> Result<(), Error> {
    if permission.verb > Verb::Read && (actor.grant.project.is_some() || actor.grant.role.is_some()) {
        return Err(Error::forbidden("insufficient_scope", "this token is for one project only"));
    }
    actor.grant.allows(permission)
}

/// What the actor alone sees of all that they do, wherever that is.
///
/// # Errors
/// As for [`own`], also to look.
pub fn own_whole(actor: &Actor, permission: Permission) -> Result<(), Error> {
    if actor.grant.project.is_some() || actor.grant.role.is_some() {
        return Err(Error::forbidden("insufficient_scope", "this token is for one project only"));
    }
    actor.grant.allows(permission)
}

/// What belongs to the platform and not to a project: for the operator, the user that the first start made. `what` names it.
///
/// # Errors
/// When the token is for something else only; for others there is no such operation.
pub async fn operator(state: &State, actor: &Actor, what: &'static str) -> Result<(), Error> {
    own_whole(actor, Noun::Organizations.own())?;
    match state.store.first_user().await? {
        Some(operator) if operator.id == actor.user => Ok(()),
        _ => Err(Error::OperatorOnly { what }),
    }
}

/// Whether a permission is needed, or something only has to be there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    /// A token that may do anything to a function may see that it and its project are there.
    ToSee,
    /// The token's scopes and its owner's role have to allow it.
    ToDo,
}

/// The actor's role in a project, if it allows this.
///
/// # Errors
/// When the actor is no member, for whom there is no such project; or may not do this.
pub async fn project(state: &State, actor: &Actor, id: &str, needed: Permission) -> Result<Role, Error> {
    one(state, actor, id, None, (needed, Need::ToDo)).await?.ok_or_else(|| Error::not_found("project", id))
}

/// That there is a project, for whoever may see it or do something to one of its functions. `what` is what is looked for there.
///
/// # Errors
/// As for [`project`].
pub async fn see_project(state: &State, actor: &Actor, id: &str, what: Noun) -> Result<(), Error> {
    let seen = one(state, actor, id, None, (what.read(), Need::ToSee)).await?;
    seen.map(drop).ok_or_else(|| Error::not_found("project", id))
}

/// A function, for whoever may see it or do something to it.
///
/// # Errors
/// As for [`project`].
pub async fn see_function(state: &State, actor: &Actor, id: &str) -> Result<FunctionRow, Error> {
    the_function(state, actor, id, (Noun::Functions.read(), Need::ToSee)).await
}

/// The project, if the actor may do this there.
///
/// # Errors
/// As for [`project`].
pub async fn the_project(
    state: &State,
    actor: &Actor,
    id: &str,
    needed: Permission,
) -> Result<ProjectRow, Error> {
    project(state, actor, id, needed).await?;
    state.store.project(id).await?.ok_or_else(|| Error::not_found("project", id))
}

/// The actor's role in an organization, if it allows this.
///
/// # Errors
/// As for [`project`].
pub async fn organization(state: &State, actor: &Actor, id: &str, needed: Permission) -> Result<Role, Error> {
    let not_found = || Error::not_found("organization", id);
    if actor.grant.project.is_some() {
        return Err(not_found());
    }
    let role = state.store.organization_role(&actor.user, id).await?.ok_or_else(not_found)?;
    rate::count(state, actor, About::Organization(id)).await?;
    if let Err(refusal) = permit(actor, &[role], needed) {
        Box::pin(audit::refused(state, actor, needed, None, Some(id))).await?;
        return Err(refusal);
    }
    Ok(role)
}

/// The function, if the actor may do this to it.
///
/// # Errors
/// As for [`project`].
pub async fn function(
    state: &State,
    actor: &Actor,
    id: &str,
    needed: Permission,
) -> Result<FunctionRow, Error> {
    the_function(state, actor, id, (needed, Need::ToDo)).await
}

async fn the_function(
    state: &State,
    actor: &Actor,
    id: &str,
    needed: (Permission, Need),
) -> Result<FunctionRow, Error> {
    let not_found = || Error::not_found("function", id);
    let function = state.store.function(id).await?.ok_or_else(not_found)?;
    one(state, actor, &function.project_id, Some(id), needed).await?.ok_or_else(not_found)?;
    Ok(function)
}

/// Whether whoever may do something to a function may also do this to it. Says and notes nothing.
///
/// # Errors
/// When the database fails.
pub(super) async fn may(
    state: &State,
    actor: &Actor,
    function: &FunctionRow,
    needed: Permission,
) -> Result<bool, Error> {
    let roles = match actor.grant.role {
        Some(role) => vec![role],
        None => state.store.project_roles(&actor.user, &function.project_id).await?,
    };
    Ok(permit(actor, &roles, needed).is_ok())
}

/// The site, if the actor may do this to it.
///
/// # Errors
/// As for [`project`].
pub async fn site(state: &State, actor: &Actor, id: &str, needed: Permission) -> Result<SiteRow, Error> {
    let not_found = || Error::not_found("site", id);
    let site = state.store.site(id).await?.ok_or_else(not_found)?;
    one(state, actor, &site.project_id, None, (needed, Need::ToDo)).await?.ok_or_else(not_found)?;
    Ok(site)
}

/// The domain, if the actor may do this to it.
///
/// # Errors
/// As for [`project`].
pub async fn domain(state: &State, actor: &Actor, id: &str, needed: Permission) -> Result<DomainRow, Error> {
    let not_found = || Error::not_found("domain", id);
    let domain = state.store.domain(id).await?.ok_or_else(not_found)?;
    one(state, actor, &domain.project_id, None, (needed, Need::ToDo)).await?.ok_or_else(not_found)?;
    Ok(domain)
}

/// None: for this actor there is nothing here. A token for one function sees its project, and that function only.
async fn one(
    state: &State,
    actor: &Actor,
    project: &str,
    function: Option<&str>,
    (needed, need): (Permission, Need),
) -> Result<Option<Role>, Error> {
    let grant = &actor.grant;
    if grant.project.as_deref().is_some_and(|only| only != project) {
        return Ok(None);
    }
    let roles = match grant.role {
        Some(role) => vec![role],
        None => state.store.project_roles(&actor.user, project).await?,
    };
    // The most of them, for those that are shown one.
    let Some(role) = roles.iter().max().copied() else { return Ok(None) };
    rate::count(state, actor, About::Project(project)).await?;
    if let Some(only) = &grant.function {
        match function {
            Some(function) if function != only => return Ok(None),
            None if need == Need::ToDo => {
                let detail = format!("this token is for the function {only} only");
                Box::pin(audit::refused(state, actor, needed, Some(project), None)).await?;
                return Err(Error::forbidden("insufficient_scope", detail));
            }
            _ if need == Need::ToSee => return Ok(Some(role)),
            _ => {}
        }
    }
    if let Err(refusal) = permit(actor, &roles, needed) {
        Box::pin(audit::refused(state, actor, needed, Some(project), None)).await?;
        return Err(refusal);
    }
    Ok(Some(role))
}

fn permit(actor: &Actor, roles: &[Role], needed: Permission) -> Result<(), Error> {
    actor.grant.allows(needed)?;
    if roles.iter().any(|role| role.may(needed)) {
        return Ok(());
    }
    let roles: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
    let detail = format!("you are {} here, which does not allow {needed}; ask an owner", roles.join(" and "));
    Err(Error::forbidden("forbidden", detail))
}
