//! Members: who belongs to an organization or a project, and as what.

use super::access::{self, Noun, Permission, Role};
use super::audit::{self, Event};
use super::plans::Limit;
use super::quotas::Terms;
use super::{Actor, Error, Page, Start, State, now, versions};
use crate::store::organizations::{self, Group, parse_role};
use crate::store::{Connection, MemberRow, plans, projects};

/// What has members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Of {
    /// By `org_…`.
    Organization(String),
    /// By `prj_…`.
    Project(String),
}

impl Of {
    pub(super) fn group(&self) -> Group<'_> {
        match self {
            Self::Organization(id) => Group::Organization(id),
            Self::Project(id) => Group::Project(id),
        }
    }

    pub(super) fn event<'a>(&'a self, action: &'static str, target: &'a str) -> Event<'a> {
        match self {
            Self::Organization(id) => Event::organization(action, target, id),
            Self::Project(id) => Event::project(action, target, id),
        }
    }

    /// The actor's role there, if it allows this.
    pub(super) async fn role(&self, state: &State, actor: &Actor, needed: Permission) -> Result<Role, Error> {
        match self {
            Self::Organization(id) => access::organization(state, actor, id, needed).await,
            Self::Project(id) => access::project(state, actor, id, needed).await,
        }
    }
}

/// All members, in the order of their ids. Those of a project are its own, without those of its organization.
///
/// # Errors
/// When the actor may not see them.
pub async fn list(
    state: &State,
    actor: &Actor,
    of: &Of,
    start: impl Into<Start<'_>>,
) -> Result<Page<MemberRow>, Error> {
    let start = start.into();
    of.role(state, actor, Noun::Members.read()).await?;
    let (after, limit) = start.by_id("usr")?;
    let members = state.store.members(of.group(), after, limit).await?;
    Ok(Page::of(members, limit, |member| member.user_id.clone()))
}

/// One of them.
///
/// # Errors
/// When the actor may not see them, or there is no such member.
pub async fn get(state: &State, actor: &Actor, of: &Of, user: &str) -> Result<MemberRow, Error> {
    of.role(state, actor, Noun::Members.read()).await?;
    state.store.member(of.group(), user).await?.ok_or_else(|| Error::not_found("member", user))
}

/// Gives a member another role.
///
/// # Errors
/// When the actor may not or has seen another one, there is no such member, either role is above the actor's own, or no owner would be left.
pub async fn change(state: &State, actor: &Actor, of: &Of, user: &str, role: &str) -> Result<(), Error> {
    let own = of.role(state, actor, Noun::Members.write()).await?;
    let role: Role = role.parse()?;
    let mut db = state.store.begin().await?;
    let before = seen(&mut db, actor, of, user).await?;
    not_above(own, before.max(role))?;
    if role < Role::Owner {
        leave_an_owner(&mut db, of, before).await?;
    }
    organizations::put_member(&mut db, of.group(), user, role, now()).await?;
    audit::commit(db, actor, of.event("member.update", user)).await
}

/// Makes somebody no member any more. Everybody may leave.
///
/// # Errors
/// When the actor may not or has seen another one, there is no such member, their role is above the actor's own, or no owner would be left.
pub async fn remove(state: &State, actor: &Actor, of: &Of, user: &str) -> Result<(), Error> {
    let leaves = user == actor.user && actor.grant.is_whole();
    let needed = if leaves { Noun::Members.read() } else { Noun::Members.write() };
    let own = of.role(state, actor, needed).await?;
    let mut db = state.store.begin().await?;
    let before = seen(&mut db, actor, of, user).await?;
    if !leaves {
        not_above(own, before)?;
    }
    leave_an_owner(&mut db, of, before).await?;
    organizations::remove_member(&mut db, of.group(), user).await?;
    audit::commit(db, actor, of.event("member.delete", user)).await
}

/// Refuses one more member of an organization and its projects than its plan allows.
///
/// # Errors
/// When there are as many; who is one already, elsewhere in the organization, is no more.
pub(super) async fn admit(state: &State, db: &mut Connection, of: &Of, user: &str) -> Result<(), Error> {
    let organization = match of {
        Of::Organization(id) => Some(id.clone()),
        Of::Project(id) => projects::read(db, id).await?.and_then(|project| project.organization_id),
    };
    let Some(organization) = organization else { return Ok(()) };
    let terms = Terms::of_organization(state, db, &organization).await?;
    let others = plans::count_members(db, &organization, user).await?;
    terms.check(Limit::Members, others, "remove one of them")
}

/// The role of a member, if it is the member that the actor has seen.
async fn seen(db: &mut Connection, actor: &Actor, of: &Of, user: &str) -> Result<Role, Error> {
    let member = organizations::member(db, of.group(), user).await?;
    let member = member.ok_or_else(|| Error::not_found("member", user))?;
    versions::check(actor, &member)?;
    Ok(parse_role(&member.role)?)
}

/// Nobody gives or takes what they do not have.
pub(super) fn not_above(own: Role, theirs: Role) -> Result<(), Error> {
    if theirs <= own {
        return Ok(());
    }
    let detail = format!("you are {} here; only an owner can do this to or for an owner", own.as_str());
    Err(Error::forbidden("forbidden", detail))
}

/// A project without owners has those of its organization.
async fn leave_an_owner(db: &mut Connection, of: &Of, leaving: Role) -> Result<(), Error> {
    match of {
        Of::Organization(id) if leaving == Role::Owner && organizations::owners(db, id).await? <= 1 => {
            let detail = "this is the organization's last owner; make somebody else an owner first";
            Err(Error::conflict("last_owner", detail))
        }
        _ => Ok(()),
    }
}
