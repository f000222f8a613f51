//! Requests that are sent twice and done once: whoever gives a key gets the first answer again
//! (draft-ietf-httpapi-idempotency-key-header). Only what was done is remembered: what failed has changed nothing, and may
//! be tried again with the same key.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;
use zeroize::Zeroizing;

use super::idempotency_key::Key;
use super::project_keys::internal;
use super::projects::commit;
use super::{Actor, Error, State, now};
use crate::store::idempotency::{self, KeyRow};

/// For so long an answer is given again, milliseconds: a day.
const KEPT: i64 = 24 * 3600 * 1000;

/// Whoever is at a request says so every third of this. Where nobody has, a crash cut it, and its key is free again.
const LEASE: Duration = Duration::from_secs(60);

/// Keys of one token that are remembered.
const MOST: i64 = 10_000;

/// Bytes of a fingerprint from before they were sealed. The last of them is forgotten a day after that.
const FORMER: usize = 32;

/// An answer that was given before.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Of the body.
    pub content_type: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

/// What is to be done.
pub enum Begun {
    /// It is the first request; whoever does it ends with [`finish`].
    First(Working),
    /// It was done.
    Done(Answer),
}

/// The first request with a key.
pub struct Working {
    token: String,
    key: String,
    created_at: i64,
    _said: AbortOnDropHandle<()>,
}

/// Looks whether this was asked before. `fingerprint` is of all that was asked.
///
/// # Errors
/// When something else was asked with this key, the first request is at work, or the token has too many keys.
pub async fn begin(state: &Arc<State>, actor: &Actor, key: Key, fingerprint: &[u8]) -> Result<Begun, Error> {
    let (Key(key), now) = (key, now());
    let mut db = state.store.begin().await?;
    idempotency::prune(&mut db, now - KEPT).await?;
    if let Some(row) = idempotency::read(&mut db, &actor.token, &key).await? {
        if *asked(state, &actor.token, &key, &row.fingerprint)? != fingerprint {
            return Err(Error::Reused);
        }
        if let (Some(status), Some(sealed)) = (row.status, &row.answer) {
            let body = state.keys.unseal_bytes(&place(&actor.token, &key), sealed);
            let body = body.map_err(internal)?.to_vec();
            let status = u16::try_from(status).unwrap_or(500);
            return Ok(Begun::Done(Answer { status, content_type: row.content_type, body }));
        }
        if row.leased_until > Some(now) {
            let detail =
                "the first request with this Idempotency-Key is at work; ask again when it has ended";
            return Err(Error::conflict("idempotency_key_in_use", detail));
        }
        idempotency::forget(&mut db, &actor.token, &key, row.created_at).await?;
    } else if idempotency::count(&mut db, &actor.token).await? >= MOST {
        let detail =
            format!("{MOST} Idempotency-Keys of this token are remembered, each for a day; leave it out");
        return Err(Error::Limit { code: "too_many_idempotency_keys", detail, seconds: 3600 });
    }
    // Sealed, because a short secret in the request could be guessed from it.
    let sealed =
        state.keys.seal_bytes(&place_of_request(&actor.token, &key), fingerprint).map_err(internal)?;
    idempotency::put(&mut db, &actor.token, &key, &sealed, now, leased()).await?;
    commit(db).await?;
    let token = actor.token.clone();
    let said = tokio::spawn(at_work(state.clone(), token.clone(), key.clone(), now));
    Ok(Begun::First(Working { token, key, created_at: now, _said: AbortOnDropHandle::new(said) }))
}

/// Says that somebody is at a request, until it ends: an upload takes hours on a poor line.
async fn at_work(state: Arc<State>, token: String, key: String, created_at: i64) {
    loop {
        tokio::time::sleep(LEASE / 3).await;
        let said = async {
            let mut db = state.store.begin().await?;
            idempotency::extend(&mut db, &token, &key, created_at, leased()).await?;
            commit(db).await
        };
        if let Err(error) = said.await {
            let source = std::error::Error::source(&error);
            tracing::error!(%error, ?source, "a request cannot be said to be at work; trying again");
        }
    }
}

fn leased() -> i64 {
    now().saturating_add(i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX))
}

/// Remembers the answer; none: nothing was done, and the key is free again.
///
/// # Errors
/// When the database fails.
pub async fn finish(state: &State, working: Working, answer: Option<&Answer>) -> Result<(), Error> {
    let Working { token, key, created_at, _said } = working;
    let mut db = state.store.begin().await?;
    match answer {
        Some(answer) => {
            // It may show a token, of which the database has its hash only.
            let sealed = state.keys.seal_bytes(&place(&token, &key), &answer.body);
            let row = KeyRow {
                fingerprint: Vec::new(),
                status: Some(answer.status.into()),
                content_type: answer.content_type.clone(),
                answer: Some(sealed.map_err(internal)?),
                created_at,
                leased_until: None,
            };
            idempotency::answer(&mut db, &token, &key, &row).await?;
        }
        None => idempotency::forget(&mut db, &token, &key, created_at).await?,
    }
    commit(db).await
}

/// The fingerprint of the request that came first.
fn asked(state: &State, token: &str, key: &str, stored: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    if stored.len() == FORMER {
        return Ok(Zeroizing::new(stored.to_vec()));
    }
    state.keys.unseal_bytes(&place_of_request(token, key), stored).map_err(internal)
}

/// Where the fingerprint of a token's request can be opened.
pub(super) fn place_of_request<'a>(token: &'a str, key: &'a str) -> [&'a str; 3] {
    [token, "idempotency-request", key]
}

/// Where the answer to a token's request can be opened.
pub(super) fn place<'a>(token: &'a str, key: &'a str) -> [&'a str; 3] {
    [token, "idempotency", key]
}
