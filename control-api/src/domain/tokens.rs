//! Tokens: of a user, or of a project. Shown once, kept as SHA-256, checked at every request.

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use tokio::sync::Semaphore;
use tracing::warn;

use super::access::{self, Grant, Noun, Role};
use super::audit::{self, Event};
use super::{Actor, Call, Error, PAGE, Page, State, id, now, sessions};
use crate::store::{Connection, NewToken, StoreError, TokenRow, UserRow, tokens};

/// What every token that is made here starts with.
const PREFIX: &str = "af_live_";

/// Base62 characters after the prefix: 190 bits.
const SECRET: usize = 32;

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

/// A use is recorded once in this time: one write a minute, not one a request.
const TOUCH: Duration = Duration::from_secs(60);

/// Uses that are being recorded. What is beyond is recorded with the next one.
const TOUCHING: usize = 64;

/// How long a token is believed to be what it was: so long, at most, one that was revoked by another server works on this
/// one. What is revoked here is refused at once.
const BELIEVED: Duration = Duration::from_secs(3);

/// Tokens that are remembered for that long.
const REMEMBERED: u64 = 10_000;

/// Tokens that were shown lately.
pub(crate) struct Known {
    /// By the SHA-256 of their secrets.
    believed: Cache<[u8; 32], Arc<Believed>>,
    /// Those whose use was recorded lately, by their ids.
    touched: Cache<String, ()>,
    touching: Arc<Semaphore>,
}

struct Believed {
    actor: Actor,
    expires_at: Option<i64>,
    last_used_at: i64,
}

/// What is known of the secret that was shown, of those that a token has had and the short-lived ones of each.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shown {
    /// Of a short-lived token: when it ends, milliseconds.
    pub until: Option<i64>,
    /// How often its token had been rotated when it was made.
    pub rotations: i64,
}

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

impl Default for Known {
    fn default() -> Self {
        Self {
            believed: Cache::builder().max_capacity(REMEMBERED).time_to_live(BELIEVED).build(),
            touched: Cache::builder().max_capacity(REMEMBERED).time_to_live(TOUCH).build(),
            touching: Arc::new(Semaphore::new(TOUCHING)),
        }
    }
}

/// Whoever shows this token. Accepts any prefix, since older tokens had others.
///
/// # Errors
/// When the token is unknown or expired.
pub async fn authenticate(state: &State, secret: &str) -> Result<Actor, Error> {
    Ok(look(state, secret).await?.actor.clone())
}

/// Looks again at the token of whoever has been let in before: it may be gone by now, or have another secret. That a short-lived
/// one ends meanwhile ends nothing that has begun.
///
/// # Errors
/// When the token is gone or expired, or the secret was replaced.
pub(crate) async fn recheck(state: &State, actor: &Actor) -> Result<(), Error> {
    if sessions::is_foreign(&actor.token) {
        return owner(state, actor).await.map(drop);
    }
    let row = state.store.token(&actor.token).await?.ok_or(Error::Unauthenticated)?;
    let ends = [row.expires_at, replaced(&row, actor.shown.rotations)?];
    if ends.into_iter().flatten().any(|end| end <= now()) {
        return Err(Error::Unauthenticated);
    }
    Ok(())
}

/// As [`recheck`], for what goes on and on: it ends with a short-lived token.
///
/// # Errors
/// As for [`recheck`]; and when the short-lived token that was shown has ended.
pub(crate) async fn still(state: &State, actor: &Actor) -> Result<(), Error> {
    if actor.shown.until.is_some_and(|until| sessions::has_ended(until, state.scheduler.clock.now())) {
        return Err(Error::Unauthenticated);
    }
    recheck(state, actor).await
}

/// When the secrets that a token had after so many rotations end, milliseconds; none: they are those that it has.
pub(super) fn replaced(row: &TokenRow, rotations: i64) -> Result<Option<i64>, Error> {
    match row.rotations.saturating_sub(rotations) {
        0 => Ok(None),
        1 => row.previous_until.map(Some).ok_or(Error::Unauthenticated),
        _ => Err(Error::Unauthenticated),
    }
}

/// Whoever has this token, and until when it works, milliseconds; none: for ever. For others who were shown it.
///
/// # Errors
/// As for [`authenticate`].
pub async fn inspect(state: &State, secret: &str) -> Result<(Actor, Option<i64>), Error> {
    let believed = look(state, secret).await?;
    Ok((believed.actor.clone(), believed.expires_at))
}

async fn look(state: &State, secret: &str) -> Result<Arc<Believed>, Error> {
    let (hash, now) = (hash(secret), now());
    let believed = match state.tokens.believed.get(&hash) {
        Some(believed) => believed,
        None => {
            let believed = Arc::new(read(state, secret, &hash, now).await?);
            state.tokens.believed.insert(hash, believed.clone());
            believed
        }
    };
    if believed.expires_at.is_some_and(|expiry| expiry <= now) {
        return Err(Error::Unauthenticated);
    }
    let minute = i64::try_from(TOUCH.as_millis()).unwrap_or(i64::MAX);
    if believed.last_used_at.saturating_add(minute) <= now {
        touch(state, &believed.actor.token, now);
    }
    Ok(believed)
}

/// Records a use, unless one was lately. Nobody waits for it: whoever asks has not come to write, and others may be writing.
fn touch(state: &State, token: &str, now: i64) {
    let known = &state.tokens;
    if sessions::is_foreign(token) || known.touched.contains_key(token) {
        return;
    }
    let Ok(place) = known.touching.clone().try_acquire_owned() else { return };
    if !known.touched.entry_by_ref(token).or_insert(()).is_fresh() {
        return;
    }
    let (store, token) = (state.store.clone(), token.to_owned());
    tokio::spawn(async move {
        let _place = place;
        if let Err(error) = store.touch_token(&token, now).await {
            let source = std::error::Error::source(&error);
            warn!(%error, ?source, token, "it is not written down that a token was used");
        }
    });
}

async fn read(state: &State, secret: &str, hash: &[u8; 32], now: i64) -> Result<Believed, Error> {
    if sessions::is_jwt(secret) {
        let (actor, until) = sessions::check(state, secret).await?;
        return Ok(Believed { actor, expires_at: Some(until), last_used_at: 0 });
    }
    let (row, rotations) = state.store.token_by_hash(hash, now).await?.ok_or(Error::Unauthenticated)?;
    let ends = [row.expires_at, replaced(&row, rotations)?];
    let last_used_at = row.last_used_at.unwrap_or_default();
    let actor = actor(row, Shown { until: None, rotations })?;
    Ok(Believed { actor, expires_at: ends.into_iter().flatten().min(), last_used_at })
}

pub(super) fn actor(row: TokenRow, shown: Shown) -> Result<Actor, Error> {
    let grant = grant_of(&row)?;
    Ok(Actor { user: row.user_id, token: row.id, shown, grant, call: Call::default(), about: None })
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
pub async fn list(state: &State, actor: &Actor, after: &str) -> Result<Page<TokenRow>, Error> {
    of_a_user(actor, Noun::Tokens.read())?;
    let tokens = state.store.tokens_of(&actor.user, after, PAGE).await?;
    Ok(Page::of(tokens, |token| token.id.clone()))
}

/// A project's own keys, oldest first, without secrets.
///
/// # Errors
/// When the actor may not see them.
pub async fn keys(state: &State, actor: &Actor, project: &str, after: &str) -> Result<Page<TokenRow>, Error> {
    access::project(state, actor, project, Noun::Tokens.read()).await?;
    let keys = state.store.keys_of(project, after, PAGE).await?;
    Ok(Page::of(keys, |key| key.id.clone()))
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
    state.tokens.believed.invalidate_all();
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
    state.tokens.believed.invalidate_all();
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

fn masked(secret: &str) -> String {
    format!("{}…", secret.chars().take(12).collect::<String>())
}

/// SHA-256: the secret has 190 bits, so there is nothing to slow a guesser down for.
pub(super) fn hash(secret: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, secret.as_bytes()).as_ref());
    hash
}

pub(super) fn random_secret() -> Result<String, Error> {
    Ok(format!("{PREFIX}{}", random_letters()?))
}

/// 32 letters and digits that cannot be guessed.
pub(super) fn random_letters() -> Result<String, Error> {
    const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut secret = String::new();
    while secret.len() < SECRET {
        let mut random = [0; 64];
        getrandom::fill(&mut random).map_err(|error| Error::Internal(Box::new(error)))?;
        // Bytes from 248 on would make the first characters likelier.
        let fair = random.iter().filter(|byte| **byte < 248);
        let left = SECRET - secret.len();
        let letters = fair.filter_map(|byte| BASE62.get(usize::from(byte % 62)));
        secret.extend(letters.take(left).map(|letter| char::from(*letter)));
    }
    Ok(secret)
}

fn check_name(name: &str) -> Result<(), Error> {
    let fits = (1..=100).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b" -_.".contains(&byte));
    if fits {
        return Ok(());
    }
    let detail = "a token's name has 1 to 100 letters, digits, spaces, dashes, underscores and dots";
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
    fn secrets_are_long_and_differ() {
        let (one, two) = (random_secret().unwrap(), random_secret().unwrap());
        assert_ne!(one, two);
        let letters = one.strip_prefix(PREFIX).unwrap();
        assert_eq!(letters.len(), SECRET);
        assert!(letters.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }

    #[test]
    fn names_follow_the_published_rule() {
        assert!(check_name("CI of main_v1.2").is_ok());
        for bad in ["", "a/b", "ü", &"x".repeat(101)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
