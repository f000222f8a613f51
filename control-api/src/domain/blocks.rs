//! Blocks of what is deployed or stored: visible in one step with the rows that need them, or not at all.

use std::collections::BTreeSet;

use af_content::source::Fetcher;
use af_content::{DiskStore, FileReadError, Staging, StoreError};
use af_contract::ContentId;
use tokio::sync::MutexGuard;

use super::{Error, State, projects};
use crate::store::{Store, Transaction};

/// Deployments read at a time when all are needed.
const BATCH: i64 = 1000;

/// Makes an upload's blocks visible and commits the transaction that needs them. `_held` is
/// [`State::committing`]'s, which keeps others from needing blocks that are removed here when that fails.
///
/// # Errors
/// When the disk or the database fails; then neither is there.
pub(super) async fn commit(
    state: &State,
    db: Transaction,
    staging: Staging,
    _held: &MutexGuard<'_, ()>,
) -> Result<(), Error> {
    let sweeper = state.sweeper.clone();
    let committed = blocking(move || {
        sweeper.protect(&staging.ids()?);
        staging.commit()
    });
    let committed = committed.await??;
    if let Err(error) = projects::commit(db).await {
        let live = live(&state.store, &state.blocks).await?;
        blocking(move || committed.undo(&live)).await??;
        return Err(error);
    }
    // The deployment stands. A list of its blocks that stays behind is cleared at the next start.
    if let Err(error) = blocking(move || committed.finish()).await? {
        tracing::warn!(%error, "an upload's directory was left behind");
    }
    Ok(())
}

/// Undoes uploads that a crash cut off. Called once, before anything is served. Where a rotten or missing
/// block hides what is still needed, nothing is removed: a few blocks too many harm less than one too few.
///
/// # Errors
/// When the block store's directory cannot be used.
pub async fn recover(store: &Store, blocks: &DiskStore) -> Result<(), crate::ControlError> {
    if !blocks.needs_recovery()? {
        return Ok(());
    }
    match live(store, blocks).await {
        Ok(live) => {
            let removed = blocks.recover(&live)?;
            tracing::info!(removed, "removed the blocks of uploads that a crash had cut off");
        }
        Err(error) => tracing::error!(%error, "blocks of uploads that a crash had cut off stay for now"),
    }
    Ok(())
}

/// Runs what waits for the disk.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::Internal(Box::new(error)))
}

/// Does something with the block store.
pub(super) async fn disk<T: Send + 'static>(
    state: &State,
    work: impl FnOnce(&DiskStore) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Error> {
    let blocks = state.blocks.clone();
    Ok(blocking(move || work(&blocks)).await??)
}

/// Every block that a deployment needs, and every one that a project has sent.
async fn live(store: &Store, blocks: &DiskStore) -> Result<BTreeSet<ContentId>, Error> {
    // Whoever waits for this waits for no other server.
    let mut live = deployed(store, &blocks.clone().into()).await?;
    let mut after = String::new();
    loop {
        let batch = store.all_sent(&after, BATCH).await?;
        let Some(last) = batch.last() else { return Ok(live) };
        after = last.to_string();
        live.extend(batch);
    }
}

/// Every block that a deployment of a function or site needs. Nodes that are not here, since another server of the database has them, are
/// brought.
///
/// # Errors
/// When one of them cannot be had: then it is not known what is under it.
pub(super) async fn deployed(store: &Store, blocks: &Fetcher) -> Result<BTreeSet<ContentId>, Error> {
    let mut live = BTreeSet::new();
    let mut after = String::new();
    loop {
        let batch = store.contents(&after, BATCH).await?;
        let Some(last) = batch.last() else { break };
        after.clone_from(&last.deployment);
        live.extend(batch.iter().map(|contents| contents.manifest));
        let roots = batch.iter().flat_map(|contents| std::iter::once(contents.code).chain(contents.assets));
        live = walked(blocks, roots.collect(), live).await?;
    }
    after.clear();
    loop {
        let batch = store.site_roots(&after, BATCH).await?;
        let Some((last, _)) = batch.last() else { return Ok(live) };
        after.clone_from(last);
        live = walked(blocks, batch.into_iter().map(|(_, root)| root).collect(), live).await?;
    }
}

/// With all blocks under these roots, as [`deployed`].
pub(super) async fn walked(
    blocks: &Fetcher,
    mut roots: Vec<ContentId>,
    mut live: BTreeSet<ContentId>,
) -> Result<BTreeSet<ContentId>, Error> {
    loop {
        let store = blocks.store().clone();
        let walk = move || {
            let mut missing = BTreeSet::new();
            for root in &roots {
                missing.extend(store.dag_here(root, &mut live)?);
            }
            Ok::<_, FileReadError>((live, Vec::from_iter(missing)))
        };
        (live, roots) = blocking(walk).await??;
        if roots.is_empty() {
            return Ok(live);
        }
        for node in &roots {
            if let Err(error) = blocks.block(*node).await {
                tracing::debug!(%node, %error, "no source has a node that is needed");
                return Err(FileReadError::Missing(*node).into());
            }
        }
    }
}
