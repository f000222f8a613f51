//! Who may do what: the one place that decides it. A member's role says what they may do in a project or an organization; a
//! token can do less than its owner, never more.

use std::fmt;
use std::str::FromStr;

use super::{Actor, Error, State, audit};
use crate::store::{DomainRow, FunctionRow, ProjectRow, SiteRow};

/// What members may do, the most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Sees, and changes nothing.
    Viewer,
    /// Sees what is used, and pays for it.
    Billing,
    /// Makes functions, sites and all that belongs to them.
    Developer,
    /// Also says who belongs to it.
    Admin,
    /// Also may end it.
    Owner,
}

/// What an operation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noun {
    /// Organizations.
    Organizations,
    /// Projects.
    Projects,
    /// Members and invitations.
    Members,
    /// Functions and their routes.
    Functions,
    /// Deployments of functions and sites.
    Deployments,
    /// What deployments may do beyond the ones before.
    Approvals,
    /// Sites.
    Sites,
    /// Domains and their certificates.
    Domains,
    /// Stored content.
    Storage,
    /// Settings and secrets.
    Secrets,
    /// A project's keys, and a user's tokens.
    Tokens,
    /// What was used, and bills.
    Usage,
    /// Who did what.
    Audit,
}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Looks.
    Read,
    /// Changes.
    Write,
    /// Gives away or ends.
    Own,
}

/// What an operation needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    noun: Noun,
    verb: Verb,
}

/// What a token may do, of what its owner may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// Nothing of other projects.
    pub project: Option<String>,
    /// Nothing of other functions.
    pub function: Option<String>,
    /// Nothing else; none: all.
    pub scopes: Option<Scopes>,
    /// A project's own key, which has this role there whoever made it.
    pub role: Option<Role>,
}

/// What a token is for: `functions:read`, `deployments:*` or `*`; a permission to write includes that to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scopes(Vec<(Option<Noun>, Verb)>);

const ROLES: [(Role, &str); 5] = [
    (Role::Owner, "owner"),
    (Role::Admin, "admin"),
    (Role::Developer, "developer"),
    (Role::Billing, "billing"),
    (Role::Viewer, "viewer"),
];

const NOUNS: [(Noun, &str); 13] = [
    (Noun::Organizations, "organizations"),
    (Noun::Projects, "projects"),
    (Noun::Members, "members"),
    (Noun::Functions, "functions"),
    (Noun::Deployments, "deployments"),
    (Noun::Approvals, "approvals"),
    (Noun::Sites, "sites"),
    (Noun::Domains, "domains"),
    (Noun::Storage, "storage"),
    (Noun::Secrets, "secrets"),
    (Noun::Tokens, "tokens"),
    (Noun::Usage, "usage"),
    (Noun::Audit, "audit"),
];

impl Noun {
    /// To see it.
    #[must_use]
    pub const fn read(self) -> Permission {
        Permission { noun: self, verb: Verb::Read }
    }

    /// To change it.
    #[must_use]
    pub const fn write(self) -> Permission {
        Permission { noun: self, verb: Verb::Write }
    }

    /// To give it away or end it.
    #[must_use]
    pub const fn own(self) -> Permission {
        Permission { noun: self, verb: Verb::Own }
    }

    fn name(self) -> &'static str {
        NOUNS.iter().find(|(noun, _)| *noun == self).map_or("", |(_, name)| name)
    }
}

impl Role {
    /// Whether members with this role may do this.
    #[must_use]
    pub fn may(self, Permission { noun, verb }: Permission) -> bool {
        let made_by_developers = matches!(
            noun,
            Noun::Functions | Noun::Deployments | Noun::Sites | Noun::Domains | Noun::Storage | Noun::Secrets
        );
        match self {
            Self::Owner => true,
            Self::Admin => verb < Verb::Own,
            Self::Developer => match verb {
                Verb::Read => !matches!(noun, Noun::Tokens | Noun::Audit),
                Verb::Write => made_by_developers,
                Verb::Own => false,
            },
            Self::Billing => match verb {
                Verb::Read => {
                    matches!(noun, Noun::Organizations | Noun::Projects | Noun::Members | Noun::Usage)
                }
                Verb::Write => noun == Noun::Usage,
                Verb::Own => false,
            },
            Self::Viewer => verb == Verb::Read && !matches!(noun, Noun::Tokens | Noun::Audit),
        }
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        ROLES.iter().find(|(role, _)| *role == self).map_or("", |(_, name)| name)
    }
}

impl FromStr for Role {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        ROLES.iter().find(|(_, name)| *name == text).map(|(role, _)| *role).ok_or_else(|| {
            let names: Vec<&str> = ROLES.iter().map(|(_, name)| *name).collect();
            Error::invalid("invalid_role", format!("a role is one of {}", names.join(", ")))
        })
    }
}

impl Scopes {
    fn allow(&self, permission: Permission) -> bool {
        self.0
            .iter()
            .any(|(noun, verb)| noun.is_none_or(|noun| noun == permission.noun) && *verb >= permission.verb)
    }

    /// Whether all that `other` allows is allowed.
    fn include(&self, other: &Self) -> bool {
        let all = NOUNS.iter().flat_map(|(noun, _)| [noun.read(), noun.write(), noun.own()]);
        all.filter(|permission| other.allow(*permission)).all(|permission| self.allow(permission))
    }
}

/// Separated by spaces or commas.
impl FromStr for Scopes {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |scope: &str| {
            let nouns: Vec<&str> = NOUNS.iter().map(|(_, name)| *name).collect();
            let detail = format!(
                "{scope:?} is no scope; a scope is * or NOUN:VERB, with a noun of {}, and read, write or *",
                nouns.join(", ")
            );
            Error::invalid("invalid_scope", detail)
        };
        let mut scopes = Vec::new();
        for scope in text.split([' ', ',']).filter(|scope| !scope.is_empty()) {
            if scope == "*" {
                scopes.push((None, Verb::Own));
                continue;
            }
            let (noun, verb) = scope.split_once(':').ok_or_else(|| bad(scope))?;
            let verb = match verb {
                "read" => Verb::Read,
                "write" => Verb::Write,
                "*" => Verb::Own,
                _ => return Err(bad(scope)),
            };
            let noun = match noun {
                "*" => None,
                noun => {
                    let found = NOUNS.iter().find(|(_, name)| *name == noun);
                    Some(found.map(|(noun, _)| *noun).ok_or_else(|| bad(scope))?)
                }
            };
            scopes.push((noun, verb));
        }
        match scopes.len() {
            0 => Err(bad("")),
            1..=39 => Ok(Self(scopes)),
            _ => Err(Error::invalid("invalid_scope", "these are more scopes than there are")),
        }
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (noun, verb)) in self.0.iter().enumerate() {
            let space = if number == 0 { "" } else { " " };
            let noun = noun.map_or("*", Noun::name);
            let verb = match verb {
                Verb::Read => "read",
                Verb::Write => "write",
                Verb::Own => "*",
            };
            write!(f, "{space}{noun}:{verb}")?;
        }
        Ok(())
    }
}

impl Grant {
    /// Whether it is all that its owner may do.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a token with this grant may make one with the other.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        let same = |mine: &Option<String>, theirs: &Option<String>| mine.is_none() || mine == theirs;
        same(&self.project, &other.project)
            && same(&self.function, &other.function)
            && match (&self.scopes, &other.scopes) {
                (None, _) => true,
                (Some(mine), Some(theirs)) => mine.include(theirs),
                (Some(_), None) => false,
            }
    }

    fn allows(&self, permission: Permission) -> Result<(), Error> {
        match &self.scopes {
            Some(scopes) if !scopes.allow(permission) => {
                let detail = format!("this token is for {scopes} only, and this needs {permission}");
                Err(Error::forbidden("insufficient_scope", detail))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.verb {
            Verb::Read => "read",
            Verb::Write => "write",
            Verb::Own => "*",
        };
        write!(f, "{}:{verb}", self.noun.name())
    }
}

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
pub async fn operator(state: &State, actor: &Actor, what: &str) -> Result<(), Error> {
    own_whole(actor, Noun::Organizations.own())?;
    match state.store.first_user().await? {
        Some(operator) if operator.id == actor.user => Ok(()),
        _ => Err(Error::not_found("operation", what)),
    }
}

/// The actor's role in a project, if it allows this.
///
/// # Errors
/// When the actor is no member, for whom there is no such project; or may not do this.
pub async fn project(state: &State, actor: &Actor, id: &str, needed: Permission) -> Result<Role, Error> {
    one(state, actor, id, None, needed).await?.ok_or_else(|| Error::not_found("project", id))
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
    one(state, actor, &site.project_id, None, needed).await?.ok_or_else(not_found)?;
    Ok(site)
}

/// The domain, if the actor may do this to it.
///
/// # Errors
/// As for [`project`].
pub async fn domain(state: &State, actor: &Actor, id: &str, needed: Permission) -> Result<DomainRow, Error> {
    let not_found = || Error::not_found("domain", id);
    let domain = state.store.domain(id).await?.ok_or_else(not_found)?;
    one(state, actor, &domain.project_id, None, needed).await?.ok_or_else(not_found)?;
    Ok(domain)
}

/// None: for this actor there is nothing here. A token for one function sees its project, and that function only.
async fn one(
    state: &State,
    actor: &Actor,
    project: &str,
    function: Option<&str>,
    needed: Permission,
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
    if let Some(only) = &grant.function {
        let looks = needed == Noun::Projects.read() || needed == Noun::Functions.read();
        match function {
            Some(function) if function != only => return Ok(None),
            None if !looks => {
                let detail = format!("this token is for the function {only} only");
                Box::pin(audit::refused(state, actor, needed, Some(project), None)).await?;
                return Err(Error::forbidden("insufficient_scope", detail));
            }
            // Whoever may do something to a function may see that it is there.
            _ if looks => return Ok(Some(role)),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_build_on_each_other() {
        for (noun, _) in NOUNS {
            for permission in [noun.read(), noun.write(), noun.own()] {
                assert!(Role::Owner.may(permission));
                assert!(Role::Admin.may(permission) || permission.verb == Verb::Own);
                assert!(Role::Admin.may(permission) || !Role::Developer.may(permission));
                assert!(Role::Developer.may(permission) || !Role::Viewer.may(permission));
            }
        }
        assert!(Role::Developer.may(Noun::Secrets.write()) && !Role::Developer.may(Noun::Members.write()));
        assert!(!Role::Billing.may(Noun::Functions.read()) && Role::Billing.may(Noun::Usage.write()));
    }

    #[test]
    fn scopes_say_what_they_allow() {
        let scopes: Scopes = "functions:read, deployments:write".parse().unwrap();
        assert_eq!(scopes.to_string(), "functions:read deployments:write");
        assert!(scopes.allow(Noun::Deployments.read()) && scopes.allow(Noun::Deployments.write()));
        assert!(!scopes.allow(Noun::Functions.write()) && !scopes.allow(Noun::Sites.read()));
        for bad in ["", "functions", "functions:", "function:read", "functions:delete", "*:own", ":read"] {
            assert!(bad.parse::<Scopes>().is_err(), "{bad}");
        }
        let all: Scopes = "*".parse().unwrap();
        assert!(all.include(&scopes) && !scopes.include(&all) && all.allow(Noun::Projects.own()));
    }

    #[test]
    fn a_token_makes_none_that_may_more() {
        let whole = Grant::default();
        let of = |scopes: &str, project: Option<&str>| Grant {
            project: project.map(str::to_owned),
            scopes: Some(scopes.parse().unwrap()),
            ..Grant::default()
        };
        assert!(whole.includes(&of("*", None)));
        let one = of("functions:*", Some("prj_1"));
        assert!(one.includes(&of("functions:read", Some("prj_1"))));
        assert!(!one.includes(&of("functions:read", Some("prj_2"))) && !one.includes(&whole));
        assert!(
            !one.includes(&of("functions:read", None)) && !one.includes(&of("sites:read", Some("prj_1")))
        );
    }
}
