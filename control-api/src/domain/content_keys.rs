//! Keys of private content: a deployment's data key, or a pin's, is sealed with its project's key, which is sealed with the
//! master key. A deployment's is opened for the edges only, a pin's for the members of its project, and both to be sealed
//! anew.

use af_contract::ContentKey;
use zeroize::Zeroizing;

use super::access::{self, Noun};
use super::audit::{self, Event};
use super::sealing::Seal;
use super::{Actor, Error, State, now};
use crate::store::Connection;
use crate::store::content_keys::{self, ContentKeyRow};
use crate::store::pin_keys;

/// What a project's key is for, in the place that it is sealed for.
const PURPOSE: &str = "content keys";

/// Data keys that are sealed anew at a time.
const BATCH: i64 = 1000;

/// Stores a new deployment's data key. With its first one a project gets a key.
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
    let Some(sealed) = state.store.pin_key(pin).await? else { return Ok(None) };
    let mut db = state.store.read().await?;
    let Some(project_key) = content_keys::project_key(&mut db, project).await? else { return Ok(None) };
    let seal = open_project_key(state, project, &project_key)?;
    let key = seal.unseal_bytes(&[pin], &sealed).map_err(internal)?;
    Ok(Some(ContentKey::new(*exactly(&key)?)))
}

async fn seal(
    state: &State,
    db: &mut Connection,
    project: &str,
    owner: &str,
    key: &ContentKey,
) -> Result<Vec<u8>, Error> {
    let seal = match content_keys::project_key(db, project).await? {
        Some(sealed) => open_project_key(state, project, &sealed)?,
        None => new_project_key(state, db, project).await?,
    };
    seal.seal_bytes(&[owner], key.reveal()).map_err(internal)
}

/// Opens a deployment's data key.
pub(super) fn open(state: &State, row: &ContentKeyRow) -> Result<ContentKey, Error> {
    let seal = open_project_key(state, &row.project_id, &row.project_key)?;
    let key = seal.unseal_bytes(&[&row.deployment_id], &row.sealed).map_err(internal)?;
    Ok(ContentKey::new(*exactly(&key)?))
}

/// Data keys that were sealed anew.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rotated {
    /// Of deployments.
    pub deployments: u64,
    /// Of pins.
    pub pins: u64,
}

/// Makes a new key for a project and seals its data keys with it. Content, manifests and what edges know stay as they
/// are.
///
/// # Errors
/// When the actor is not a member of the project, or a key cannot be opened; then all stay as they were.
pub async fn rotate(state: &State, actor: &Actor, project: &str) -> Result<Rotated, Error> {
    access::project(state, actor, project, Noun::Projects.write()).await?;
    let mut db = state.store.begin().await?;
    let Some(sealed) = content_keys::project_key(&mut db, project).await? else {
        return Ok(Rotated::default());
    };
    let old = open_project_key(state, project, &sealed)?;
    let new = new_project_key(state, &mut db, project).await?;
    let again = |owner: &str, sealed: &[u8]| {
        let key = old.unseal_bytes(&[owner], sealed).map_err(internal)?;
        new.seal_bytes(&[owner], &key).map_err(internal)
    };
    let (mut after, mut count) = (String::new(), Rotated::default());
    loop {
        let batch = content_keys::of_project(&mut db, project, &after, BATCH).await?;
        let Some((last, _)) = batch.last() else { break };
        after.clone_from(last);
        for (deployment, sealed) in batch {
            content_keys::replace(&mut db, &deployment, &again(&deployment, &sealed)?).await?;
            count.deployments += 1;
        }
    }
    after.clear();
    loop {
        let batch = pin_keys::of_project(&mut db, project, &after, BATCH).await?;
        let Some((last, _)) = batch.last() else { break };
        after.clone_from(last);
        for (pin, sealed) in batch {
            pin_keys::replace(&mut db, &pin, &again(&pin, &sealed)?).await?;
            count.pins += 1;
        }
    }
    audit::commit(db, actor, Event::project("project.rotate_content_key", project, project)).await?;
    Ok(count)
}

async fn new_project_key(state: &State, db: &mut Connection, project: &str) -> Result<Seal, Error> {
    let mut key = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *key).map_err(internal)?;
    let sealed = state.seal.seal_bytes(&[project, PURPOSE], &*key).map_err(internal)?;
    content_keys::put_project_key(db, project, &sealed, now()).await?;
    Seal::new(&key).map_err(internal)
}

fn open_project_key(state: &State, project: &str, sealed: &[u8]) -> Result<Seal, Error> {
    let key = state.seal.unseal_bytes(&[project, PURPOSE], sealed).map_err(internal)?;
    Seal::new(exactly(&key)?).map_err(internal)
}

fn exactly(key: &[u8]) -> Result<&[u8; 32], Error> {
    key.try_into().map_err(internal)
}

fn internal(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Internal(Box::new(error))
}
