//! Invitations: whoever has the code becomes a member, as somebody who is known or as a new user.

use super::access::{Grant, Noun, Role};
use super::audit;
use super::members::{self, Of};
use super::projects::checked_name;
use super::tokens::{hash, random_letters};
use super::{Actor, Call, Error, Page, Start, State, id, now, organizations as rules, tokens};
use crate::store::organizations;
use crate::store::{Connection, InvitationRow, NewToken, tokens as token_rows, users};

/// For so long a code works, milliseconds: a week.
const LIFE: i64 = 7 * 24 * 3600 * 1000;

/// Open invitations of one organization or project.
const MOST: i64 = 100;

/// What the code starts with.
const PREFIX: &str = "af_invite_";

/// What somebody became by an invitation.
#[derive(Debug)]
pub struct Joined {
    /// `usr_…`
    pub user: String,
    /// What they are a member of now.
    pub of: Of,
    /// As what.
    pub role: Role,
    /// Of a new user: their first token, shown only now.
    pub token: Option<String>,
}

/// Open invitations, oldest first.
///
/// # Errors
/// When the actor may not invite.
pub async fn list(
    state: &State,
    actor: &Actor,
    of: &Of,
    start: impl Into<Start<'_>>,
) -> Result<Page<InvitationRow>, Error> {
    let start = start.into();
    of.role(state, actor, Noun::Members.write()).await?;
    let (after, limit) = start.by_id("inv")?;
    let invitations = state.store.invitations(of.group(), after, limit).await?;
    Ok(Page::of(invitations, limit, |invitation| invitation.id.clone()))
}

/// Invites whoever gets the code, which is shown only now. `email` is a note for people: nothing is sent.
///
/// # Errors
/// When the actor may not invite, the role is above the actor's own, or there are too many open invitations.
pub async fn create(
    state: &State,
    actor: &Actor,
    of: &Of,
    role: &str,
    email: Option<&str>,
) -> Result<(InvitationRow, String), Error> {
    let own = of.role(state, actor, Noun::Members.write()).await?;
    let role: Role = role.parse()?;
    members::not_above(own, role)?;
    let email = email.map(checked_email).transpose()?;
    let code = format!("{PREFIX}{}", random_letters()?);
    let now = now();
    let (organization_id, project_id) = match of {
        Of::Organization(id) => (Some(id.clone()), None),
        Of::Project(id) => (None, Some(id.clone())),
    };
    let invitation = InvitationRow {
        id: id::new("inv"),
        organization_id,
        project_id,
        role: role.as_str().into(),
        email,
        inviter_id: actor.user.clone(),
        expires_at: now + LIFE,
        created_at: now,
    };
    let mut db = state.store.begin().await?;
    if organizations::count_invitations(&mut db, of.group()).await? >= MOST {
        let detail = format!("there are {MOST} open invitations; delete some first");
        return Err(Error::conflict("too_many_invitations", detail));
    }
    organizations::insert_invitation(&mut db, &invitation, &hash(&code)).await?;
    audit::commit(db, actor, of.event("invitation.create", &invitation.id)).await?;
    Ok((invitation, code))
}

/// Takes an invitation back.
///
/// # Errors
/// When there is none that the actor may see.
pub async fn delete(state: &State, actor: &Actor, id: &str) -> Result<(), Error> {
    let not_found = || Error::not_found("invitation", id);
    let invitation = state.store.invitation(id).await?.ok_or_else(not_found)?;
    let of = invited_to(&invitation)?;
    of.role(state, actor, Noun::Members.write()).await.map_err(|error| match error {
        Error::NotFound { .. } => not_found(),
        error => error,
    })?;
    let mut db = state.store.begin().await?;
    organizations::delete_invitation(&mut db, id).await?;
    audit::commit(db, actor, of.event("invitation.delete", id)).await
}

/// Makes whoever has the code a member: the actor, or a new user with an organization and a token of their own.
///
/// # Errors
/// When the code is unknown, used or too old, or a new user has no usable name.
pub async fn accept(
    state: &State,
    actor: Option<&Actor>,
    call: &Call,
    code: &str,
    name: Option<&str>,
) -> Result<Joined, Error> {
    if actor.is_some_and(|actor| !actor.grant.is_whole()) {
        let detail = "this token is for something else; sign in with one that is for everything";
        return Err(Error::forbidden("insufficient_scope", detail));
    }
    let unknown = || {
        Error::invalid(
            "invalid_invitation",
            "this invitation is unknown, used or too old; ask for another one",
        )
    };
    let now = now();
    let mut db = state.store.begin().await?;
    let invitation = organizations::invitation_by_hash(&mut db, &hash(code)).await?.ok_or_else(unknown)?;
    if invitation.expires_at <= now {
        return Err(unknown());
    }
    let (of, role) = (invited_to(&invitation)?, invitation.role.parse::<Role>()?);
    let (user, token) = match actor {
        Some(actor) => (actor.user.clone(), None),
        None => {
            let name = checked_name("user", name.unwrap_or_default())?;
            let (user, token) = add_user(&mut db, &name, invitation.email.as_deref()).await?;
            (user, Some(token))
        }
    };
    // Nobody loses anything by accepting.
    let before = organizations::member_role(&mut db, of.group(), &user).await?;
    if before.is_none() {
        members::admit(state, &mut db, &of, &user).await?;
    }
    if before.is_none_or(|before| before < role) {
        organizations::put_member(&mut db, of.group(), &user, role, now).await?;
    }
    organizations::delete_invitation(&mut db, &invitation.id).await?;
    let who = match actor {
        Some(actor) => actor.clone(),
        // Whose first request this is.
        None => Actor {
            user: user.clone(),
            token: String::new(),
            shown: Default::default(),
            grant: Grant::default(),
            call: call.clone(),
            about: None,
        },
    };
    audit::commit(db, &who, of.event("invitation.accept", &invitation.id)).await?;
    Ok(Joined { user, of, role, token })
}

/// A user with an organization of their own and a token, whose secret is returned.
pub(super) async fn add_user(
    db: &mut Connection,
    name: &str,
    email: Option<&str>,
) -> Result<(String, String), Error> {
    let (user, secret, organization) = (id::new("usr"), tokens::random_secret()?, rules::new(name)?);
    users::insert(db, &user, name, email, now()).await?;
    organizations::insert(db, &organization, &user).await?;
    let row = tokens::row(&user, "first", &secret, None, &Grant::default());
    token_rows::insert(db, NewToken { row: &row, hash: hash(&secret) }).await?;
    Ok((user, secret))
}

fn invited_to(invitation: &InvitationRow) -> Result<Of, Error> {
    match (&invitation.organization_id, &invitation.project_id) {
        (Some(id), _) => Ok(Of::Organization(id.clone())),
        (None, Some(id)) => Ok(Of::Project(id.clone())),
        (None, None) => Err(Error::not_found("invitation", &invitation.id)),
    }
}

fn checked_email(email: &str) -> Result<String, Error> {
    let (user, host) = email.trim().rsplit_once('@').unwrap_or_default();
    let plain = |part: &str| !part.is_empty() && !part.chars().any(|c| c.is_whitespace() || c.is_control());
    if plain(user) && plain(host) && email.len() <= 254 {
        return Ok(email.trim().to_owned());
    }
    Err(Error::invalid("invalid_email", "an e-mail address looks like name@example.com"))
}
