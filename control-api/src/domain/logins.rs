//! Signing in from a terminal: it asks, whoever is signed in elsewhere approves, and it gets a token of theirs, once (as in
//! RFC 8628). Until then it is nobody, so that asking and coming back need no permission.

use ring::hmac;

use super::access::{self, Grant, Noun};
use super::audit::{self, Event};
use super::rates::{network, prefix};
use super::tokens::{self, Wanted, hash};
use super::{Actor, Call, Error, State, id, now, projects};
use crate::store::logins::{self, Crowd, From};
use crate::store::{LoginBy, LoginRow};

/// For so long a terminal may be approved and come for its token, milliseconds: as long as clients of the platform wait.
pub const LIFE: i64 = 600_000;

/// A terminal comes back after so many seconds.
pub const INTERVAL: u64 = 2;

/// What was asked is known for so long, milliseconds: Fleek's client, which names its session itself, comes back with that
/// name for 17 minutes, and must not begin another one by it.
const KEPT: i64 = 30 * 60 * 1000;

/// Terminals that wait, or may come for their token. Those who ask are nobody yet, so that this is what bounds the table. Who asks when
/// there are so many takes the place of the one that waits longest: whoever has many addresses keeps nobody out.
const MOST: i64 = 10_000;

/// Those of one address, as rates count them, that are known: an office or a build machine.
const MOST_OF_NETWORK: i64 = 50;

/// The same of an IPv6 network of 48 bits.
const MOST_OF_PREFIX: i64 = 500;

/// A token that is got so lives as long, milliseconds, unless it is said otherwise: 30 days.
const TOKEN_LIFE: i64 = 30 * 24 * 3600 * 1000;

/// What a token is called where nobody says it.
const NAME: &str = "CLI login";

/// Letters of codes (RFC 8628, 6.1): none is taken for another one, and they make no words.
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";

/// Letters of a code: 35 bits, which 30 guesses a minute do not find in ten minutes.
const CODE: usize = 8;

/// A session's name that others have chosen must be one that nobody finds.
const CHOSEN: std::ops::RangeInclusive<usize> = 32..=128;

/// A terminal that asks. The secret is shown to nobody else.
pub struct Started {
    /// The session's name, which is part of the page's address.
    pub session: String,
    /// What the terminal comes back with.
    pub secret: String,
    /// What the terminal and the page show, with a dash.
    pub code: String,
}

/// Which terminal is approved.
#[derive(Clone, Copy, Debug)]
pub enum Which<'a> {
    /// By its session's name.
    Session(&'a str),
    /// By its code, in any case, with or without the dash.
    Code(&'a str),
}

/// What an approved terminal gets.
#[derive(Clone, Debug, Default)]
pub struct Approval {
    /// What its token is called, if not as the terminal says.
    pub name: Option<String>,
    /// Milliseconds; 30 days from now, if it is not said.
    pub expires_at: Option<i64>,
}

/// Begins to sign a terminal in.
///
/// # Errors
/// When the name is none of a token, or too many ask.
pub async fn start(state: &State, call: &Call, name: Option<&str>) -> Result<Started, Error> {
    let (session, secret) = (tokens::random_letters()?, tokens::random_letters()?);
    let row = begin(state, call, &session, &secret, name).await?;
    Ok(Started { session, secret, code: shown(&row.code) })
}

/// A terminal comes for its token: once approved it gets it, with this answer only. None: nobody has approved it yet.
///
/// # Errors
/// When there is no such session, the secret is another one's, it is used or too old; or its user can make no more tokens.
pub async fn poll(state: &State, call: &Call, session: &str, secret: &str) -> Result<Option<String>, Error> {
    match state.store.login(&hash(session)).await? {
        Some(row) if has_secret(&row, session, secret) => redeem(state, call, row).await,
        _ => Err(missed(state, call).await?),
    }
}

/// The same for a client that chooses the session's name itself and has no secret besides: its first question begins it.
///
/// # Errors
/// As for [`start`] and [`poll`].
pub async fn ask(
    state: &State,
    call: &Call,
    session: &str,
    name: Option<&str>,
) -> Result<Option<String>, Error> {
    let plain = session.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if !plain || !CHOSEN.contains(&session.len()) {
        let detail =
            "a session that a client names has 32 to 128 random letters, digits, dashes and underscores";
        return Err(Error::invalid("invalid_login", detail));
    }
    match state.store.login(&hash(session)).await? {
        Some(row) if has_secret(&row, session, session) => redeem(state, call, row).await,
        Some(_) => Err(missed(state, call).await?),
        None => begin(state, call, session, session, name).await.map(|_| None),
    }
}

/// A terminal that waits to be approved, for whoever has the address of its page.
///
/// # Errors
/// When there is none, or it waits no more.
pub async fn look(state: &State, session: &str) -> Result<LoginRow, Error> {
    let row = state.store.login(&hash(session)).await?;
    row.filter(|row| is_open(state, row) && row.user_id.is_none()).ok_or_else(unknown)
}

/// Makes a terminal the actor's: it gets a token that may all that they may. Returns what asked.
///
/// # Errors
/// When the actor's own token may less than that, no such terminal waits for them, or they can make no more tokens.
pub async fn approve(
    state: &State,
    actor: &Actor,
    which: Which<'_>,
    approval: &Approval,
) -> Result<LoginRow, Error> {
    access::own(actor, Noun::Tokens.write())?;
    tokens::lasting(actor)?;
    if !actor.grant.is_whole() {
        let detail =
            "a terminal gets a token that is for everything, and yours is not; approve it with one that is";
        return Err(Error::forbidden("insufficient_scope", detail));
    }
    let expires_at = approval.expires_at.unwrap_or_else(|| now() + TOKEN_LIFE);
    let name = approval.name.as_deref();
    tokens::check(name.unwrap_or(NAME), Some(expires_at))?;
    let by = match which {
        Which::Session(session) => LoginBy::Session(hash(session)),
        Which::Code(code) => LoginBy::Code(letters(code)),
    };
    let mut db = state.store.begin().await?;
    let found = logins::read(&mut db, &by).await?.filter(|row| {
        is_open(state, row) && row.user_id.as_ref().is_none_or(|approver| *approver == actor.user)
    });
    let Some(mut row) = found else {
        drop(db);
        // Who tries codes would sign terminals of others in as themselves.
        return Err(missed(state, &actor.call).await?);
    };
    tokens::check_room(&mut db, &actor.user).await?;
    row.user_id = Some(actor.user.clone());
    // A session of another service is no token of ours.
    row.token_id = Some(actor.token.clone()).filter(|token| token.starts_with("tok_"));
    row.token_expires_at = Some(expires_at);
    if let Some(name) = name {
        name.clone_into(&mut row.name);
    }
    logins::approve(&mut db, &row).await?;
    audit::commit(db, actor, Event::maybe("login.approve", &row.id, None)).await?;
    Ok(row)
}

/// A code as people are shown it: `WDJB-MJHT`.
#[must_use]
pub fn shown(code: &str) -> String {
    let (one, two) = code.split_at_checked(CODE / 2).unwrap_or((code, ""));
    format!("{one}-{two}")
}

async fn begin(
    state: &State,
    call: &Call,
    session: &str,
    secret: &str,
    name: Option<&str>,
) -> Result<LoginRow, Error> {
    let name = name.unwrap_or(NAME);
    tokens::check(name, None)?;
    let now = state.scheduler.clock.now();
    let from = From {
        network: call.address.and_then(network).map(|network| network.to_string()),
        prefix: call.address.and_then(prefix).map(|prefix| prefix.to_string()),
    };
    let hashed = hash(session);
    // All of this is anybody's to ask, so who is to be refused is refused before the only turn to write is taken.
    if let Some(address) = call.address {
        state.rates.login(address).await?;
    }
    let ages = (now - KEPT, now - LIFE);
    check_room(&logins::count(&mut state.store.read().await?, &from, ages).await?)?;
    let mut db = state.store.begin().await?;
    logins::forget(&mut db, now - KEPT).await?;
    // Of two questions at once, the first has begun it.
    if let Some(row) = logins::read(&mut db, &LoginBy::Session(hashed)).await? {
        return Ok(row);
    }
    let crowd = logins::count(&mut db, &from, ages).await?;
    check_room(&crowd)?;
    if crowd.open >= MOST && !logins::drop_oldest(&mut db, now - LIFE).await? {
        return Err(too_many());
    }
    let mut code = random_code()?;
    while logins::read(&mut db, &LoginBy::Code(code.clone())).await?.is_some() {
        code = random_code()?;
    }
    let row = LoginRow {
        id: id::new("lgn"),
        secret_hash: hmac::sign(&key(session), secret.as_bytes()).as_ref().to_vec(),
        code,
        name: name.to_owned(),
        address: call.address.map(|address| address.to_string()),
        user_id: None,
        token_id: None,
        token_expires_at: None,
        created_at: now,
        expires_at: now + LIFE,
        used_at: None,
    };
    logins::insert(&mut db, &row, &hashed, &from).await?;
    projects::commit(db).await?;
    Ok(row)
}

/// That where a terminal asks from does not ask for too many.
fn check_room(crowd: &Crowd) -> Result<(), Error> {
    if crowd.of_network >= MOST_OF_NETWORK || crowd.of_prefix >= MOST_OF_PREFIX {
        return Err(too_many());
    }
    Ok(())
}

fn too_many() -> Error {
    let detail =
        "too many terminals ask to be signed in; try again in half an hour, or use a token: af login --token"
            .into();
    let seconds = u64::try_from(KEPT / 1000).unwrap_or_default();
    Error::Limit { code: "too_many_logins", detail, seconds }
}

/// Of whoever has shown the secret.
async fn redeem(state: &State, call: &Call, row: LoginRow) -> Result<Option<String>, Error> {
    if !is_open(state, &row) {
        return Err(unknown());
    }
    let Some(user) = row.user_id else { return Ok(None) };
    let mut db = state.store.begin().await?;
    if !logins::use_up(&mut db, &row.id, state.scheduler.clock.now()).await? {
        return Err(unknown());
    }
    let mut name = row.name;
    if tokens::is_named(&mut db, &user, &name).await? {
        // Clients call all of theirs alike.
        name.truncate(90);
        name = format!("{name} {}", shown(&row.code));
    }
    let wanted = Wanted { name, expires_at: row.token_expires_at, ..Wanted::default() };
    let (token, secret) = tokens::add(&mut db, &user, &wanted, &Grant::default()).await?;
    // By which token it was approved.
    let token_id = row.token_id.unwrap_or_default();
    let actor = Actor { token: token_id, call: call.clone(), ..Actor::without_token(&user) };
    audit::commit(db, &actor, Event::maybe("token.create", &token.id, None)).await?;
    Ok(Some(secret))
}

fn is_open(state: &State, row: &LoginRow) -> bool {
    row.used_at.is_none() && row.expires_at > state.scheduler.clock.now()
}

/// In the same time whatever is shown.
fn has_secret(row: &LoginRow, session: &str, secret: &str) -> bool {
    hmac::verify(&key(session), secret.as_bytes(), &row.secret_hash).is_ok()
}

/// The secret is hashed by it, so that two sessions with one secret do not show that.
fn key(session: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, session.as_bytes())
}

/// What somebody is told who has shown what is none, once that is counted as a token that is none is.
async fn missed(state: &State, call: &Call) -> Result<Error, Error> {
    if let Some(address) = call.address {
        state.rates.failed(address).await?;
    }
    Ok(unknown())
}

/// One text for all of it: whoever guesses learns nothing.
fn unknown() -> Error {
    Error::invalid(
        "invalid_login",
        "no terminal waits for this: it is unknown, used or too old; start again with `af login`",
    )
}

/// Of what people type.
fn letters(code: &str) -> String {
    let letters = code.chars().filter(char::is_ascii_alphanumeric).take(CODE + 1);
    letters.map(|letter| letter.to_ascii_uppercase()).collect()
}

fn random_code() -> Result<String, Error> {
    let mut code = String::new();
    while code.len() < CODE {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| Error::Internal(Box::new(error)))?;
        // Bytes from 240 on would make the first letters likelier.
        let fair = random.iter().filter(|byte| **byte < 240);
        let left = CODE - code.len();
        let found = fair.filter_map(|byte| LETTERS.get(usize::from(byte % 20)));
        code.extend(found.take(left).map(|letter| char::from(*letter)));
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_typed_in_any_way() {
        let code = random_code().unwrap();
        assert!(code.len() == CODE && code.bytes().all(|letter| LETTERS.contains(&letter)), "{code}");
        let shown = shown(&code);
        assert_eq!((shown.len(), &letters(&shown)), (CODE + 1, &code));
        assert_eq!(letters(&format!(" {} ", shown.to_lowercase())), code);
        // Nothing that is longer is cut to one.
        assert_ne!(letters(&format!("{code}B")), code);
    }
}
