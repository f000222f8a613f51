//! Content that is here because other projects have sent or deployed it. Nobody gets it for knowing its CID: it is as if it were
//! not here, and has to come from this server's sources, which have it for everybody.

use std::collections::BTreeSet;
use std::sync::Arc;

use af_content::DiskStore;
use af_content::source::{DagBounds, FetchError};
use af_contract::ContentId;
use futures::{StreamExt, TryStreamExt, stream};

use super::{Error, State, blocks};
use crate::store::storage;

/// Blocks that the sources are asked for at a time.
const AT_ONCE: usize = 8;

/// Of a project's deployments, so many roots are looked under for a block, so many at a time; what is not found there, the
/// sources are asked for.
const ROOTS: u32 = 1000;
const STEP: u32 = 100;

/// Has all blocks under a root here, as far as the project may have them: those that are its own, and those that anybody gets.
///
/// # Errors
/// The outer one when the database fails; the inner one when a block cannot be had.
pub(super) async fn fetch(
    state: &State,
    project: &str,
    root: ContentId,
    bounds: DagBounds,
) -> Result<Result<(), Arc<FetchError>>, Error> {
    let text = root.to_string();
    let own =
        state.store.pin(project, &text).await?.is_some() || state.store.is_deployed(project, &text).await?;
    if own {
        return Ok(state.sources.dag(root, bounds, &mut |_| {}).await.map(drop));
    }
    // Before anything under it is looked at: neither whether it is here can be told from the answer, nor what it is.
    if let Err(error) = ask(state, project, BTreeSet::from([root])).await? {
        return Ok(Err(error));
    }
    let mut were_here = BTreeSet::new();
    let mut note = |progress: af_content::source::Progress| {
        if !progress.fetched && progress.id != root {
            were_here.insert(progress.id);
        }
    };
    if let Err(error) = state.sources.dag(root, bounds, &mut note).await {
        return Ok(Err(error));
    }
    ask(state, project, were_here).await
}

/// Asks the sources for those of these blocks that are here and not the project's.
async fn ask(
    state: &State,
    project: &str,
    ids: BTreeSet<ContentId>,
) -> Result<Result<(), Arc<FetchError>>, Error> {
    let others = others(state, project, ids).await?;
    let asked = stream::iter(others).map(|id| state.sources.block(id)).buffer_unordered(AT_ONCE);
    Ok(asked.try_for_each(|_bytes| std::future::ready(Ok(()))).await)
}

/// Without those that the project has sent, and those under what it has deployed. Whose the others are is not asked: blocks
/// within others' deployments are in no list.
async fn others(
    state: &State,
    project: &str,
    ids: BTreeSet<ContentId>,
) -> Result<BTreeSet<ContentId>, Error> {
    let here = move |blocks: &DiskStore| {
        let mut here = BTreeSet::new();
        for id in ids {
            if !id.is_inline() && blocks.has(&id)? {
                here.insert(id);
            }
        }
        Ok(here)
    };
    let mut others = blocks::disk(state, here).await?;
    let asked: Vec<ContentId> = others.iter().copied().collect();
    let sent = {
        let mut db = state.store.read().await?;
        storage::known(&mut db, project, &asked).await?
    };
    for (id, _) in sent {
        others.remove(&id);
    }
    let mut after = String::new();
    for _ in 0..ROOTS / STEP {
        if others.is_empty() {
            break;
        }
        let roots = state.store.roots_of(project, &after, i64::from(STEP)).await?;
        let Some(last) = roots.last() else { break };
        after = last.to_string();
        let blocks = state.blocks.clone();
        let walk = move || {
            for root in &roots {
                let mut under = BTreeSet::new();
                if let Err(error) = blocks.dag(root, &mut under) {
                    tracing::warn!(%root, %error, "content of a deployment is not whole; what is left of it counts as the project's");
                }
                others = others.difference(&under).copied().collect();
            }
            others
        };
        others = blocks::blocking(walk).await?;
    }
    Ok(others)
}
