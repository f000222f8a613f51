//! Personal access tokens: shown once, kept as SHA-256, checked at every request.

use super::projects::commit;
use super::{Actor, Error, PAGE, Page, State, id, now};
use crate::store::{NewToken, TokenRow, UserRow, tokens};

/// What every token that is made here starts with.
const PREFIX: &str = "af_live_";

/// Base62 characters after the prefix: 190 bits.
const SECRET: usize = 32;

/// Tokens that one user may have.
const ACTIVE: i64 = 500;

/// The longest life, milliseconds: 10 years.
const LONGEST: i64 = 3653 * 24 * 3600 * 1000;

/// A use is recorded once in this time, milliseconds: one write a minute, not one a request.
const TOUCH: i64 = 60_000;

/// Whoever shows this token. Accepts any prefix, since older tokens had others.
///
/// # Errors
/// When the token is unknown or expired.
pub async fn authenticate(state: &State, secret: &str) -> Result<Actor, Error> {
    let token = state.store.token_by_hash(&hash(secret)).await?.ok_or(Error::Unauthenticated)?;
    let now = now();
    if token.expires_at.is_some_and(|expiry| expiry <= now) {
        return Err(Error::Unauthenticated);
    }
    if token.last_used_at.is_none_or(|last| last.saturating_add(TOUCH) <= now) {
        state.store.touch_token(&token.id, now).await?;
    }
    Ok(Actor { user: token.user_id, token: token.id })
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
/// When the database fails.
pub async fn list(state: &State, actor: &Actor, after: &str) -> Result<Page<TokenRow>, Error> {
    let tokens = state.store.tokens_of(&actor.user, after, PAGE).await?;
    Ok(Page::of(tokens, |token| token.id.clone()))
}

/// Makes a token. The second value is the secret, which is not kept.
///
/// # Errors
/// When the name is taken or has other characters, the expiry is past or too far, or there are too many.
pub async fn create(
    state: &State,
    actor: &Actor,
    name: &str,
    expires_at: Option<i64>,
) -> Result<(TokenRow, String), Error> {
    check_name(name)?;
    let now = now();
    if expires_at.is_some_and(|at| at <= now || at > now.saturating_add(LONGEST)) {
        return Err(Error::invalid("invalid_expiry", "a token expires in the future, within 10 years"));
    }
    if state.store.count_tokens(&actor.user).await? >= ACTIVE {
        let detail = format!("you have {ACTIVE} tokens; delete one first");
        return Err(Error::invalid("MAX_TOKENS_EXCEEDED", detail));
    }
    let secret = random_secret()?;
    let row = new(&actor.user, name, &secret, expires_at);
    let mut db = state.store.begin().await?;
    tokens::insert(&mut db, NewToken { row: &row, hash: hash(&secret) }).await.map_err(duplicate)?;
    commit(db).await?;
    Ok((row, secret))
}

/// Deletes a token; whoever still shows it is refused from now on.
///
/// # Errors
/// When the actor has no such token.
pub async fn delete(state: &State, actor: &Actor, id: &str) -> Result<(), Error> {
    if state.store.delete_token(&actor.user, id).await? {
        return Ok(());
    }
    Err(Error::not_found("token", id))
}

pub(super) fn new(user: &str, name: &str, secret: &str, expires_at: Option<i64>) -> TokenRow {
    TokenRow {
        id: id::new("tok"),
        user_id: user.to_owned(),
        name: name.to_owned(),
        masked: format!("{}…", secret.chars().take(12).collect::<String>()),
        expires_at,
        last_used_at: None,
        created_at: now(),
    }
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

fn duplicate(error: crate::store::StoreError) -> Error {
    match error {
        crate::store::StoreError::Taken(_) => Error::Conflict {
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
