//! Keys of private content: a deployment's data key is sealed with its project's key, which is sealed with the master key.
//! They are opened for the edges only, and to be sealed anew.

use af_contract::ContentKey;
use zeroize::Zeroizing;

use super::access::{self, Noun};
use super::audit::{self, Event};
use super::sealing::Seal;
use super::{Actor, Error, State, now};
use crate::store::Connection;
use crate::store::content_keys::{self, ContentKeyRow};

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
    let seal = match content_keys::project_key(db, project).await? {
        Some(sealed) => open_project_key(state, project, &sealed)?,
        None => new_project_key(state, db, project).await?,
    };
    let sealed = seal.seal_bytes(&[deployment], key.reveal()).map_err(internal)?;
    Ok(content_keys::insert(db, deployment, &sealed).await?)
}

/// Opens a deployment's data key.
pub(super) fn open(state: &State, row: &ContentKeyRow) -> Result<ContentKey, Error> {
    let seal = open_project_key(state, &row.project_id, &row.project_key)?;
    let key = seal.unseal_bytes(&[&row.deployment_id], &row.sealed).map_err(internal)?;
    Ok(ContentKey::new(*exactly(&key)?))
}

/// Makes a new key for a project and seals its data keys with it. Content, manifests and what edges know stay as they
/// are. Returns how many data keys there are.
///
/// # Errors
/// When the actor is not a member of the project, or a key cannot be opened; then all stay as they were.
pub async fn rotate(state: &State, actor: &Actor, project: &str) -> Result<u64, Error> {
    access::project(state, actor, project, Noun::Projects.write()).await?;
    let mut db = state.store.begin().await?;
    let Some(sealed) = content_keys::project_key(&mut db, project).await? else { return Ok(0) };
    let old = open_project_key(state, project, &sealed)?;
    let new = new_project_key(state, &mut db, project).await?;
    let (mut after, mut count) = (String::new(), 0);
    loop {
        let batch = content_keys::of_project(&mut db, project, &after, BATCH).await?;
        let Some((last, _)) = batch.last() else { break };
        after.clone_from(last);
        for (deployment, sealed) in batch {
            let key = old.unseal_bytes(&[&deployment], &sealed).map_err(internal)?;
            let sealed = new.seal_bytes(&[&deployment], &key).map_err(internal)?;
            content_keys::replace(&mut db, &deployment, &sealed).await?;
            count += 1;
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
