//! Manifests of deployments, which rules read in transactions: from this server's disk, where those were brought before that another server
//! of the same database has stored.

use af_content::FileReadError;
use af_contract::{ContentId, Manifest};
use futures::{StreamExt, stream};
use tracing::debug;

use super::project_keys::internal;
use super::{Error, State, blocks};

/// Manifests that the sources are asked for at a time.
const AT_ONCE: usize = 16;

/// Has the manifests of these deployments here, as far as this server's sources have them: nobody waits for a source while others wait to
/// write.
///
/// # Errors
/// When the database or the disk fails.
pub(super) async fn bring(state: &State, deployments: Vec<String>) -> Result<(), Error> {
    if !state.sources.has_sources() {
        return Ok(());
    }
    let mut manifests = Vec::new();
    for id in deployments {
        if let Some(deployment) = state.store.deployment(&id).await? {
            manifests.push(deployment.manifest()?);
        }
    }
    let here = blocks::disk(state, move |store| {
        manifests.into_iter().map(|id| Ok((id, store.has(&id)?))).collect::<Result<Vec<_>, _>>()
    });
    let away: Vec<ContentId> = here.await?.into_iter().filter(|(_, here)| !here).map(|(id, _)| id).collect();
    let asked = stream::iter(away).map(|id| async move { (id, state.sources.block(id).await) });
    let mut asked = asked.buffer_unordered(AT_ONCE).boxed();
    while let Some((id, brought)) = asked.next().await {
        if let Err(error) = brought {
            debug!(manifest = %id, %error, "no source has a manifest that is needed");
        }
    }
    Ok(())
}

/// What the manifest of a deployment says.
///
/// # Errors
/// When it is not here.
pub(super) async fn read(state: &State, id: ContentId) -> Result<Manifest, Error> {
    let bytes = blocks::disk(state, move |store| store.block(&id)).await?;
    Manifest::decode(&bytes.ok_or(FileReadError::Missing(id))?).map_err(internal)
}
