//! Keys of private content: a deployment's data key is sealed with its project's key. They are opened for the edges only, and
//! to be sealed anew.

use af_contract::ContentKey;

use super::project_keys::{self, exactly, internal};
use super::{Error, State};
use crate::store::Connection;
use crate::store::content_keys::{self, ContentKeyRow};

/// Stores a new deployment's data key.
pub(super) async fn put(
    state: &State,
    db: &mut Connection,
    project: &str,
    deployment: &str,
    key: &ContentKey,
) -> Result<(), Error> {
    let seal = project_keys::of(&state.keys, db, project).await?;
    let sealed = seal.seal_bytes(&[deployment], key.reveal()).map_err(internal)?;
    Ok(content_keys::insert(db, deployment, &sealed).await?)
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
