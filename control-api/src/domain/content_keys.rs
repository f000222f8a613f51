//! Keys of private content: a deployment's data key, or a pin's, is sealed with its project's key. A deployment's is opened for
//! the edges only, a pin's for the members of its project, and both to be sealed anew.

use af_contract::ContentKey;

use super::project_keys::{self, exactly, internal};
use super::{Error, State};
use crate::store::Connection;
use crate::store::content_keys::{self, ContentKeyRow};
use crate::store::pin_keys;

/// Stores a new deployment's data key.
pub(super) async fn put(
    state: &State,
    db: &mut Connection,
    project: &str,
    deployment: &str,
    key: &ContentKey,
) -> Result<(), Error> {
    let sealed = seal(state, db, project, deployment, key).await?;
    Ok(content_keys::insert(db, deployment, &sealed).await?)
}

/// Stores a pin's data key, unless it has one: that one opens the same content.
pub(super) async fn put_of_pin(
    state: &State,
    db: &mut Connection,
    project: &str,
    pin: &str,
    key: &ContentKey,
) -> Result<(), Error> {
    if pin_keys::has(db, pin).await? {
        return Ok(());
    }
    let sealed = seal(state, db, project, pin, key).await?;
    Ok(pin_keys::insert(db, pin, &sealed).await?)
}

/// Opens a pin's data key, where it has one.
pub(super) async fn of_pin(state: &State, project: &str, pin: &str) -> Result<Option<ContentKey>, Error> {
    let Some(row) = state.store.pin_key(project, pin).await? else { return Ok(None) };
    let seal = project_keys::open(&state.keys, project, &row.project_key)?;
    let key = seal.unseal_bytes(&[pin], &row.sealed).map_err(internal)?;
    Ok(Some(ContentKey::new(*exactly(&key)?)))
}

async fn seal(
    state: &State,
    db: &mut Connection,
    project: &str,
    owner: &str,
    key: &ContentKey,
) -> Result<Vec<u8>, Error> {
    let seal = project_keys::of(&state.keys, db, project).await?;
    seal.seal_bytes(&[owner], key.reveal()).map_err(internal)
}

/// Gives a deployment the data key of another one, which has the same code and files. Nothing where that is not private.
pub(super) async fn copy(
    state: &State,
    db: &mut Connection,
    project: &str,
    from: &str,
    to: &str,
) -> Result<(), Error> {
    let Some(sealed) = content_keys::of_deployment(db, from).await? else { return Ok(()) };
    let seal = project_keys::of(&state.keys, db, project).await?;
    let key = seal.unseal_bytes(&[from], &sealed).map_err(internal)?;
    let sealed = seal.seal_bytes(&[to], &key).map_err(internal)?;
    Ok(content_keys::insert(db, to, &sealed).await?)
}

/// Opens a deployment's data key.
pub(super) fn open(state: &State, row: &ContentKeyRow) -> Result<ContentKey, Error> {
    let seal = project_keys::open(&state.keys, &row.project_id, &row.project_key)?;
    let key = seal.unseal_bytes(&[&row.deployment_id], &row.sealed).map_err(internal)?;
    Ok(ContentKey::new(*exactly(&key)?))
}
