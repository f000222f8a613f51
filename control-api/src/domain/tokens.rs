//! Tokens: of a user, or of a project. Shown once, kept as SHA-256, checked at every request.

mod known;
mod secret;

pub(crate) use self::known::{Known, recheck, still};
pub use self::known::{Shown, authenticate, inspect};
pub(super) use self::known::{actor, replaced};
use self::secret::masked;
pub(super) use self::secret::{hash, random_letters, random_secret};
use super::access::{self, Grant, Noun, Role};
use super::audit::{self, Event};
use super::{Actor, Error, Page, Start, State, id, now, sessions};
use crate::store::{Connection, NewToken, StoreError, TokenRow, UserRow, tokens};

/// Tokens that one user may have.
const ACTIVE: i64 = 500;

/// Tokens that one user may make in a day (UTC).
const A_DAY: i64 = 50;

/// Milliseconds.
const DAY: i64 = 24 * 3600 * 1000;

/// The longest life, milliseconds: 10 years.
const LONGEST: i64 = 3653 * DAY;

/// The longest time that the secret before a rotation works, milliseconds: a week.
const LONGEST_OVERLAP: i64 = 7 * DAY;

/// What a new token is made of.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// 1 to 100 letters, digits, spaces, dashes, underscores and dots; unique for whoever makes it.
    pub name: String,
    /// Milliseconds; none: never.
    pub expires_at: Option<i64>,
    /// Nothing of other projects.
    pub project: Option<String>,
    /// Nothing of other functions.
    pub function: Option<String>,
    /// Nothing else: `functions:read deployments:write`.
    pub scopes: Option<String>,
}

fn grant_of(row: &TokenRow) -> Result<Grant, Error> {
    Ok(Grant {
        project: row.project_id.clone(),
        function: row.function_id.clone(),
        scopes: row.scopes.as_deref().map(str::parse).transpose()?,
        role: row.role.as_deref().map(str::parse).transpose()?,
    })
}

/// The user behind the actor.
///
/// # Errors
/// When the user is gone.
pub async fn owner(state: &State, actor: &Actor) -> Result<UserRow, Error> {
    state.store.user(&actor.user).await?.ok_or(Error::Unauthenticated)
}

/// The actor's tokens, oldest first, without secrets.
///
/// # Errors
/// When the token is for something else.
pub async fn list(
    state: &State,
    actor: &Actor,
    start: impl Into<Start<'_>>,
) -> Result<Page<TokenRow>, Error> {
    let start = start.into();
    of_a_user(actor, Noun::Tokens.read())?;
    let (after, limit) = start.by_id("tok")?;
    let tokens = state.store.tokens_of(&actor.user, after, limit).await?;
    Ok(Page::of(tokens, limit, |token| token.id.clone()))
}

/// A project's own keys, oldest first, without secrets.
///
/// # Errors
/// When the actor may not see them.
pub async fn keys(
    state: &State,
    actor: &Actor,
    project: &str,
    start: Start<'_>,
) -> Result<Page<TokenRow>, Error> {
    access::project(state, actor, project, Noun::Tokens.read()).await?;
    let (after, limit) = start.by_id("tok")?;
    let keys = state.store.keys_of(project, after, limit).await?;
    Ok(Page::of(keys, limit, |key| key.id.clone()))
}

/// Makes a token of the actor's. The second value is the secret, which is not kept.
///
/// # Errors
/// When the name is taken or has other characters, the expiry is past or too far, there are too many, or the actor's own
/// token may less.
pub async fn create(state: &State, actor: &Actor, wanted: &Wanted) -> Result<(TokenRow, String), Error> {
    of_a_user(actor, Noun::Tokens.write())?;
    lasting(actor)?;
    let grant = grant(state, actor, wanted, None).await?;
    make(state, actor, wanted, &grant).await
}

/// Makes a key of a project, which is there as a member with a role, whoever made it.
///
/// # Errors
/// As for [`create`]; and when the role is above the actor's own.
pub async fn create_key(
    state: &State,
    actor: &Actor,
    project: &str,
    role: &str,
    wanted: &Wanted,
) -> Result<(TokenRow, String), Error> {
    let own = access::project(state, actor, project, Noun::Tokens.write()).await?;
    lasting(actor)?;
    let role: Role = role.parse()?;
    if role > own || role == Role::Owner {
        let detail = format!("a key is at most what you are here, {}, and never owner", own.as_str());
        return Err(Error::forbidden("forbidden", detail));
    }
    let wanted = Wanted { project: Some(project.to_owned()), ..wanted.clone() };
    let grant = grant(state, actor, &wanted, Some(role)).await?;
    make(state, actor, &wanted, &grant).await
}

/// Gives a token another secret, which is returned. The one that it had works for `overlap` milliseconds more.
///
/// # Errors
/// When the actor has no such token, their own is short-lived or may less, or the overlap is too long.
pub async fn rotate(
    state: &State,
    actor: &Actor,
    id: &str,
    overlap: i64,
) -> Result<(TokenRow, String), Error> {
    if !(0..=LONGEST_OVERLAP).contains(&overlap) {
        let detail = "the old secret works for at most a week (604800 seconds) more";
        return Err(Error::invalid("invalid_overlap", detail));
    }
    let mut row = own(state, actor, id).await?;
    lasting(actor)?;
    let secret = random_secret()?;
    row.masked = masked(&secret);
    let mut db = state.store.begin().await?;
    tokens::rotate(&mut db, id, &hash(&secret), &row.masked, now() + overlap).await?;
    audit::commit(db, actor, Event::maybe("token.rotate", id, row.project_id.as_deref())).await?;
    state.tokens.forget();
    Ok((row, secret))
}

/// Deletes a token; whoever still shows it is refused from now on. Returns what it was.
///
/// # Errors
/// When the actor has no such token, or their own may less.
pub async fn delete(state: &State, actor: &Actor, id: &str) -> Result<TokenRow, Error> {
    let row = own(state, actor, id).await?;
    let mut db = state.store.begin().await?;
    tokens::delete(&mut db, id).await?;
    audit::commit(db, actor, Event::maybe("token.delete", id, row.project_id.as_deref())).await?;
    state.tokens.forget();
    Ok(row)
}

/// What a user may still make.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    /// Tokens that may be made in a day (UTC).
    pub a_day: i64,
    /// Of those, how many are left.
    pub left: i64,
    /// When the next day begins, milliseconds.
    pub next_day: i64,
    /// Tokens there are.
    pub active: i64,
    /// Tokens that there may be.
    pub most_active: i64,
}

/// What the actor may still make.
///
/// # Errors
/// When the token is for something else.
pub async fn allowance(state: &State, actor: &Actor) -> Result<Allowance, Error> {
    of_a_user(actor, Noun::Tokens.read())?;
    let now = now();
    let mut db = state.store.read().await?;
    let active = tokens::count(&mut db, &actor.user, now).await?;
    let made = tokens::made(&mut db, &actor.user, now / DAY).await?;
    let next_day = (now / DAY + 1) * DAY;
    Ok(Allowance { a_day: A_DAY, left: (A_DAY - made).max(0), next_day, active, most_active: ACTIVE })
}

/// A token that the actor may change: one of theirs, or a key of a project whose keys they may change, that may no more than
/// what they show.
async fn own(state: &State, actor: &Actor, id: &str) -> Result<TokenRow, Error> {
    let not_found = || Error::not_found("token", id);
    let row = state.store.token(id).await?.ok_or_else(not_found)?;
    match (&row.role, &row.project_id) {
        (Some(_), Some(project)) => {
            let may = access::project(state, actor, project, Noun::Tokens.write()).await;
            may.map_err(|error| match error {
                Error::NotFound { .. } => not_found(),
                error => error,
            })?;
        }
        // For a project's key, tokens of whoever made it are not there.
        _ if row.user_id == actor.user && actor.grant.role.is_none() => {
            of_a_user(actor, Noun::Tokens.write())?
        }
        _ => return Err(not_found()),
    }
    if !actor.grant.includes(&grant_of(&row)?) {
        let detail = "a token changes none that may do more than itself; sign in with another one";
        return Err(Error::forbidden("insufficient_scope", detail));
    }
    Ok(row)
}

/// What a token was exchanged for makes nothing that outlives it, or whoever has it for minutes has it for ever. For all that
/// gives a token or key.
///
/// # Errors
/// When the actor shows a short-lived token.
pub(super) fn lasting(actor: &Actor) -> Result<(), Error> {
    if actor.shown.until.is_none() || sessions::is_foreign(&actor.token) {
        return Ok(());
    }
    let detail = "a short-lived token makes and rotates none; show the one that it was exchanged for";
    Err(Error::forbidden("insufficient_scope", detail))
}

/// A project's key has no tokens of its own, though somebody made it.
fn of_a_user(actor: &Actor, needed: access::Permission) -> Result<(), Error> {
    if actor.grant.role.is_some() {
        return Err(Error::forbidden("insufficient_scope", "this is a project's key, and no user's token"));
    }
    access::own(actor, needed)
}

/// What the new token may do, which is nothing that the actor's own may not.
async fn grant(state: &State, actor: &Actor, wanted: &Wanted, role: Option<Role>) -> Result<Grant, Error> {
    let mut project = wanted.project.clone();
    if let Some(function) = &wanted.function {
        let of = access::see_function(state, actor, function).await?.project_id;
        if project.as_ref().is_some_and(|project| *project != of) {
            return Err(Error::not_found("function", function));
        }
        project = Some(of);
    } else if let Some(project) = &project {
        access::see_project(state, actor, project, Noun::Projects).await?;
    }
    let scopes = wanted.scopes.as_deref().map(str::parse).transpose()?;
    let grant = Grant { project, function: wanted.function.clone(), scopes, role };
    if actor.grant.includes(&grant) {
        return Ok(grant);
    }
    let detail = "a token makes none that may do more than itself; sign in with another one";
    Err(Error::forbidden("insufficient_scope", detail))
}

async fn make(
    state: &State,
    actor: &Actor,
    wanted: &Wanted,
    grant: &Grant,
) -> Result<(TokenRow, String), Error> {
    check(&wanted.name, wanted.expires_at)?;
    let mut db = state.store.begin().await?;
    let (row, secret) = add(&mut db, &actor.user, wanted, grant).await?;
    audit::commit(db, actor, Event::maybe("token.create", &row.id, row.project_id.as_deref())).await?;
    Ok((row, secret))
}

/// Makes a token of a user's, where somebody else commits. The second value is the secret.
///
/// # Errors
/// As for [`create`].
pub(super) async fn add(
    db: &mut Connection,
    user: &str,
    wanted: &Wanted,
    grant: &Grant,
) -> Result<(TokenRow, String), Error> {
    check(&wanted.name, wanted.expires_at)?;
    let secret = random_secret()?;
    let row = row(user, &wanted.name, &secret, wanted.expires_at, grant);
    check_room(db, user).await?;
    tokens::count_made(db, user, now() / DAY).await?;
    tokens::insert(db, NewToken { row: &row, hash: hash(&secret) }).await.map_err(duplicate)?;
    Ok((row, secret))
}

/// Whether a user has a token of that name.
pub(super) async fn is_named(db: &mut Connection, user: &str, name: &str) -> Result<bool, Error> {
    Ok(tokens::is_named(db, user, name).await?)
}

/// Refuses what a token cannot have: a name with other characters, an expiry that is past or too far.
pub(super) fn check(name: &str, expires_at: Option<i64>) -> Result<(), Error> {
    check_name(name)?;
    let now = now();
    if expires_at.is_some_and(|at| at <= now || at > now.saturating_add(LONGEST)) {
        return Err(Error::invalid("invalid_expiry", "a token expires in the future, within 10 years"));
    }
    Ok(())
}

/// Refuses a user who has, or has made today, as many tokens as there may be.
pub(super) async fn check_room(db: &mut Connection, user: &str) -> Result<(), Error> {
    let now = now();
    if tokens::count(db, user, now).await? >= ACTIVE {
        let detail = format!("you have {ACTIVE} tokens; delete one first");
        return Err(Error::invalid("MAX_TOKENS_EXCEEDED", detail));
    }
    if tokens::made(db, user, now / DAY).await? >= A_DAY {
        let seconds = u64::try_from((DAY - now % DAY) / 1000).unwrap_or_default() + 1;
        let detail = format!("you have made {A_DAY} tokens today; make the next one tomorrow (UTC)");
        return Err(Error::Limit { code: "RATE_LIMIT_EXCEEDED", detail, seconds });
    }
    Ok(())
}

pub(super) fn row(user: &str, name: &str, secret: &str, expires_at: Option<i64>, grant: &Grant) -> TokenRow {
    TokenRow {
        id: id::new("tok"),
        user_id: user.to_owned(),
        name: name.to_owned(),
        masked: masked(secret),
        project_id: grant.project.clone(),
        function_id: grant.function.clone(),
        scopes: grant.scopes.as_ref().map(ToString::to_string),
        role: grant.role.map(|role| role.as_str().to_owned()),
        expires_at,
        last_used_at: None,
        created_at: now(),
        rotations: 0,
        previous_until: None,
    }
}

fn check_name(name: &str) -> Result<(), Error> {
    let fits = (1..=100).contains(&name.len())
        && !name.trim().is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b" -_.".contains(&byte));
    if fits {
        return Ok(());
    }
    let detail = "a token's name has 1 to 100 letters, digits, spaces, dashes, underscores and dots, and not spaces alone";
    Err(Error::invalid("INVALID_TOKEN_NAME", detail))
}

fn duplicate(error: StoreError) -> Error {
    match error {
        StoreError::Taken(_) => Error::Conflict {
            code: "DUPLICATE_TOKEN_NAME",
            detail: "you have a token with this name; choose another name, or delete that token".into(),
        },
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_published_rule() {
        assert!(check_name("CI of main_v1.2").is_ok());
        for bad in ["", "a/b", "ü", &"x".repeat(101)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
