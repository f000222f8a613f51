//! Tokens that are shown: what is believed of them, for how long, and that they were used.

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use tokio::sync::Semaphore;
use tracing::warn;

use super::{grant_of, hash, owner};
use crate::domain::{Actor, Call, Error, State, now, sessions};
use crate::store::TokenRow;

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

impl Default for Known {
    fn default() -> Self {
        Self {
            believed: Cache::builder().max_capacity(REMEMBERED).time_to_live(BELIEVED).build(),
            touched: Cache::builder().max_capacity(REMEMBERED).time_to_live(TOUCH).build(),
            touching: Arc::new(Semaphore::new(TOUCHING)),
        }
    }
}

impl Known {
    /// A token is gone here, or has another secret.
    pub(super) fn forget(&self) {
        self.believed.invalidate_all();
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
pub(in crate::domain) fn replaced(row: &TokenRow, rotations: i64) -> Result<Option<i64>, Error> {
    match row.rotations.saturating_sub(rotations) {
        0 => Ok(None),
        1 => row.previous_until.map(Some).ok_or(Error::Unauthenticated),
        _ => Err(Error::Unauthenticated),
    }
}

/// Whoever has this token, and until when it works, milliseconds; none: for ever. For others who were shown it: of a short-lived
/// one what it says itself, without what this server allows for clocks that differ.
///
/// # Errors
/// As for [`authenticate`].
pub async fn inspect(state: &State, secret: &str) -> Result<(Actor, Option<i64>), Error> {
    let believed = look(state, secret).await?;
    let ends = [believed.expires_at, believed.actor.shown.until];
    Ok((believed.actor.clone(), ends.into_iter().flatten().min()))
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

pub(in crate::domain) fn actor(row: TokenRow, shown: Shown) -> Result<Actor, Error> {
    let grant = grant_of(&row)?;
    Ok(Actor { user: row.user_id, token: row.id, shown, grant, call: Call::default(), about: None })
}
