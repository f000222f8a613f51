//! Content that is here because other projects have sent or deployed it. Nobody gets it for knowing its CID: it is as if it were
//! not here, and has to come from this server's sources, which have it for everybody.

use std::collections::BTreeSet;
use std::sync::Arc;

use af_content::source::{DagBounds, FetchError};
use af_contract::ContentId;
use futures::{StreamExt, TryStreamExt, stream};

use super::{Error, State};
use crate::store::storage;

/// Blocks that the sources are asked for at a time.
const AT_ONCE: usize = 8;

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
    if let Err(error) = ask(state, project, vec![root]).await? {
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
    ask(state, project, were_here.into_iter().collect()).await
}

/// Asks the sources for those blocks that are others'.
async fn ask(
    state: &State,
    project: &str,
    ids: Vec<ContentId>,
) -> Result<Result<(), Arc<FetchError>>, Error> {
    let others = {
        let mut db = state.store.read().await?;
        storage::only_others(&mut db, project, &ids).await?
    };
    let asked = stream::iter(others).map(|id| state.sources.block(id)).buffer_unordered(AT_ONCE);
    Ok(asked.try_for_each(|_bytes| std::future::ready(Ok(()))).await)
}
