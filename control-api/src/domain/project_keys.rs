//! Keys of projects: each project has one, which is random and sealed with the master key. Its settings and secrets and the
//! data keys of its private deployments and pins are sealed with it.

use zeroize::Zeroizing;

use super::access::{self, Noun};
use super::audit::{self, Event};
use super::master_key::Keyring;
use super::sealing::Seal;
use super::{Actor, Error, State, now};
use crate::store::content_keys::{self, project_key, put_project_key};
use crate::store::{Connection, pin_keys, settings};

/// What the key is for, in the place that it is sealed for. From before it had other uses.
const PURPOSE: &str = "content keys";

/// Values that are sealed anew at a time.
const BATCH: i64 = 1000;

/// What is sealed anew while nobody else writes: a few seconds.
const SEALED: i64 = 100_000;

/// Between two rotations of a project, milliseconds.
const PAUSE: i64 = 3_600_000;

/// Data keys of private content that were sealed anew.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rotated {
    /// Of deployments.
    pub deployments: u64,
    /// Of pins.
    pub pins: u64,
}

/// A project's key, made when it is needed first. Within a transaction.
pub(super) async fn of(keys: &Keyring, db: &mut Connection, project: &str) -> Result<Seal, Error> {
    match project_key(db, project).await? {
        Some(sealed) => open(keys, project, &sealed),
        None => make(keys, db, project).await,
    }
}

/// Opens a project's key.
pub(super) fn open(keys: &Keyring, project: &str, sealed: &[u8]) -> Result<Seal, Error> {
    let key = keys.unseal_bytes(&place(project), sealed).map_err(internal)?;
    Seal::new(exactly(&key)?).map_err(internal)
}

/// Where a project's key can be opened.
pub(super) fn place(project: &str) -> [&str; 2] {
    [project, PURPOSE]
}

/// Makes a new key for a project and seals with it what was sealed with the old one. Values, content, manifests and what edges
/// know stay as they are.
///
/// # Errors
/// When the actor may not change the project, it has too much that is sealed, was given a key within the hour, or something cannot be
/// opened; then all stay as they were.
pub async fn rotate(state: &State, actor: &Actor, project: &str) -> Result<Rotated, Error> {
    access::project(state, actor, project, Noun::Projects.write()).await?;
    let mut db = state.store.begin().await?;
    let Some(sealed) = project_key(&mut db, project).await? else { return Ok(Rotated::default()) };
    bounded(&mut db, project).await?;
    let old = open(&state.keys, project, &sealed)?;
    let new = make(&state.keys, &mut db, project).await?;
    let deployments = seal_content_keys(&mut db, project, &old, &new).await?;
    let pins = seal_pin_keys(&mut db, project, &old, &new).await?;
    seal_settings(&mut db, project, &old, &new).await?;
    audit::commit(db, actor, Event::project("project.rotate_content_key", project, project)).await?;
    Ok(Rotated { deployments, pins })
}

/// Nobody else writes meanwhile, so that it is neither long nor often.
async fn bounded(db: &mut Connection, project: &str) -> Result<(), Error> {
    let many = content_keys::sealed(db, project).await?;
    if many > SEALED {
        let detail = format!(
            "{many} values and keys are sealed with the project's key, and {SEALED} at most are sealed anew at once; remove old deployments with `af functions prune` first"
        );
        return Err(Error::conflict("too_many_sealed", detail));
    }
    let now = now();
    if content_keys::rotated(db, project, now - PAUSE, now).await? {
        return Ok(());
    }
    let detail = "the project was given a new key within the last hour; wait until that is over";
    Err(Error::conflict("rotated_recently", detail))
}

async fn seal_content_keys(db: &mut Connection, project: &str, old: &Seal, new: &Seal) -> Result<u64, Error> {
    let (mut after, mut count) = (String::new(), 0);
    loop {
        let batch = content_keys::of_project(db, project, &after, BATCH).await?;
        let Some((last, _)) = batch.last() else { return Ok(count) };
        after.clone_from(last);
        let anew = batch.into_iter().map(|(id, sealed)| {
            let sealed = again(old, new, &[&id], &sealed)?;
            Ok((id, sealed))
        });
        let anew = anew.collect::<Result<Vec<_>, Error>>()?;
        content_keys::replace(db, &anew).await?;
        count += anew.len() as u64;
    }
}

async fn seal_pin_keys(db: &mut Connection, project: &str, old: &Seal, new: &Seal) -> Result<u64, Error> {
    let (mut after, mut count) = (String::new(), 0);
    loop {
        let batch = pin_keys::of_project(db, project, &after, BATCH).await?;
        let Some((last, _)) = batch.last() else { return Ok(count) };
        after.clone_from(last);
        let anew = batch.into_iter().map(|(id, sealed)| {
            let sealed = again(old, new, &[&id], &sealed)?;
            Ok((id, sealed))
        });
        let anew = anew.collect::<Result<Vec<_>, Error>>()?;
        pin_keys::replace(db, &anew).await?;
        count += anew.len() as u64;
    }
}

/// Of the project, its functions, and all their deployments.
async fn seal_settings(db: &mut Connection, project: &str, old: &Seal, new: &Seal) -> Result<(), Error> {
    let mut after = (String::new(), String::new());
    loop {
        let batch = settings::of_project(db, project, (&after.0, &after.1), BATCH).await?;
        let Some((owner, name, _)) = batch.last() else { break };
        after = (owner.clone(), name.clone());
        let anew = batch.into_iter().map(|(owner, name, sealed)| {
            let sealed = again(old, new, &[&owner, &name], &sealed)?;
            Ok((owner, name, sealed))
        });
        settings::replace(db, &anew.collect::<Result<Vec<_>, Error>>()?).await?;
    }
    let mut after = (String::new(), String::new());
    loop {
        let batch = settings::of_deployments(db, project, (&after.0, &after.1), BATCH).await?;
        let Some((deployment, name, ..)) = batch.last() else { return Ok(()) };
        after = (deployment.clone(), name.clone());
        let anew = batch.into_iter().map(|(deployment, name, owner, sealed)| {
            let sealed = again(old, new, &[&owner, &name], &sealed)?;
            Ok((deployment, name, sealed))
        });
        settings::replace_in_deployments(db, &anew.collect::<Result<Vec<_>, Error>>()?).await?;
    }
}

fn again(old: &Seal, new: &Seal, place: &[&str], sealed: &[u8]) -> Result<Vec<u8>, Error> {
    let value = old.unseal_bytes(place, sealed).map_err(internal)?;
    new.seal_bytes(place, &value).map_err(internal)
}

async fn make(keys: &Keyring, db: &mut Connection, project: &str) -> Result<Seal, Error> {
    let mut key = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *key).map_err(internal)?;
    let sealed = keys.seal_bytes(&place(project), &*key).map_err(internal)?;
    put_project_key(db, project, &sealed, now()).await?;
    Seal::new(&key).map_err(internal)
}

pub(super) fn exactly(key: &[u8]) -> Result<&[u8; 32], Error> {
    key.try_into().map_err(internal)
}

pub(super) fn internal(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Internal(Box::new(error))
}
