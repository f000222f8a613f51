//! The keys that short-lived tokens are signed with: made as they are needed, and replaced in time.

use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair, Signature};
use serde_json::{Value, json};

use super::project_keys::internal;
use super::projects::commit;
use super::{Error, State, id, now, sessions};
use crate::store::SigningKeyRow;
use crate::store::signing_keys;

/// A key is replaced by the next one after so long, milliseconds: a week.
const TURN: i64 = 7 * 24 * 3600 * 1000;

/// A key is published for so long before it signs, milliseconds: whoever keeps the published ones for as long as they are
/// told knows it by then.
const LEAD: i64 = 10 * 60 * 1000;

/// A key is published for so long after it was made, milliseconds: until all that it signed has ended.
const LIFE: i64 = 2 * TURN;

/// A key signs for so long after it was made at most, milliseconds.
const SIGNS: i64 = LIFE - LEAD - sessions::LONGEST * 1000;

/// Keys are read again after so long, milliseconds, as other servers make some, too.
const FRESH: i64 = 60 * 1000;

/// An unknown key is looked for at most once in so long, milliseconds.
const PAUSE: i64 = 1000;

/// Keys that were read lately.
#[derive(Default)]
pub(crate) struct Known(Mutex<(i64, Arc<Vec<SigningKeyRow>>)>);

/// A key to sign with.
pub(super) struct Signer(Ed25519KeyPair);

impl Signer {
    pub(super) fn sign(&self, message: &[u8]) -> Signature {
        self.0.sign(message)
    }
}

/// The key to sign with now, and its id. Makes the first one, and the next one when it is time.
pub(super) async fn current(state: &State) -> Result<(String, Signer), Error> {
    let now = now();
    let mut keys = read(state, FRESH).await?;
    if keys.first().is_none_or(|newest| newest.created_at <= now - TURN) {
        make(state).await?;
        keys = read(state, 0).await?;
    }
    // The newest that everybody can know; of the first ones, the one that was published first. None that is forgotten before
    // what it signs now has ended: where nothing was signed for long, the newest of before is that old.
    let newest = |keys: &[SigningKeyRow]| {
        let lasting: Vec<_> = keys.iter().filter(|key| key.created_at > now - SIGNS).collect();
        let known = lasting.iter().find(|key| key.created_at <= now - LEAD);
        known.or(lasting.last()).map(|key| SigningKeyRow::clone(key))
    };
    let none = || internal(std::io::Error::other("there is no signing key"));
    let mut key = newest(&keys).ok_or_else(none)?;
    let mut document = state.keys.unseal_bytes(&place(&key.id), &key.sealed);
    if document.is_err() {
        // What was read lately may be sealed with the master key of before.
        key = newest(&read(state, 0).await?).ok_or_else(none)?;
        document = state.keys.unseal_bytes(&place(&key.id), &key.sealed);
    }
    let pair = Ed25519KeyPair::from_pkcs8(&document.map_err(internal)?);
    Ok((key.id, Signer(pair.map_err(|error| internal(std::io::Error::other(error.to_string())))?)))
}

/// The public key with an id, unless it is too old.
pub(super) async fn public(state: &State, kid: &str) -> Result<Option<Vec<u8>>, Error> {
    for age in [FRESH, PAUSE] {
        if let Some(key) = read(state, age).await?.iter().find(|key| key.id == kid) {
            return Ok((key.created_at > now() - LIFE).then(|| key.public.clone()));
        }
    }
    Ok(None)
}

/// All public keys, as a JSON Web Key Set (RFC 7517, RFC 8037).
///
/// # Errors
/// When the database fails.
pub async fn published(state: &State) -> Result<Value, Error> {
    let keys = read(state, FRESH).await?;
    let keys: Vec<Value> = keys
        .iter()
        .filter(|key| key.created_at > now() - LIFE)
        .map(|key| {
            let x = BASE64.encode(&key.public);
            json!({ "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": key.id, "x": x })
        })
        .collect();
    Ok(json!({ "keys": keys }))
}

/// The keys, newest first, read in the last `age` milliseconds.
async fn read(state: &State, age: i64) -> Result<Arc<Vec<SigningKeyRow>>, Error> {
    let now = now();
    {
        let (at, keys) = &*state.signing_keys.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *at > now - age {
            return Ok(keys.clone());
        }
    }
    let keys = Arc::new(state.store.signing_keys().await?);
    *state.signing_keys.0.lock().unwrap_or_else(PoisonError::into_inner) = (now, keys.clone());
    Ok(keys)
}

async fn make(state: &State) -> Result<(), Error> {
    let unspecified = |error: ring::error::Unspecified| internal(std::io::Error::other(error.to_string()));
    let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(unspecified)?;
    let pair = Ed25519KeyPair::from_pkcs8(document.as_ref());
    let pair = pair.map_err(|error| internal(std::io::Error::other(error.to_string())))?;
    let (id, now) = (id::new("key"), now());
    let public = pair.public_key().as_ref().to_vec();
    let mut db = state.store.begin().await?;
    let sealed = state.keys.seal_bytes(&place(&id), document.as_ref()).map_err(internal)?;
    let row = SigningKeyRow { id, public, sealed, created_at: now };
    // Another server may have been faster.
    if signing_keys::newest(&mut db).await?.is_none_or(|newest| newest <= now - TURN) {
        signing_keys::insert(&mut db, &row).await?;
        signing_keys::prune(&mut db, now - LIFE).await?;
    }
    commit(db).await
}

/// Where a signing key can be opened.
pub(super) fn place(id: &str) -> [&str; 2] {
    [id, "signing-key"]
}
