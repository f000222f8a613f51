//! Receives a component and its assets, or a site, as a CAR: every hash is recomputed here, nothing that the client claims
//! is believed.

use std::collections::BTreeSet;
use std::time::Duration;

use af_content::car::{Block, CarDecoder};
use af_content::private::{self, Cipher};
use af_content::source::{DagBounds, FetchError};
use af_content::traversal::TraversalError;
use af_content::unixfs::{self, Tree};
use af_content::{DiskStore, FileReadError, Inspection, Staging, StoreError};
use af_contract::private::{FORMAT, Private};
use af_contract::{Blake3Hash, Code, ContentId, ContentKey, limits};
use bytes::Bytes;
use tokio::sync::mpsc;

use super::blocks::blocking;
use super::component::{self, Judged};
pub use super::upload_error::{Broken, UploadError};
use super::{Error, State, StorageError, foreign};

/// What a CAR may have beyond the files themselves: headers, a CID for each block, and the nodes that link a
/// component's leaves.
const OVERHEAD_BYTES: u64 = 1 << 20;

/// What a CAR may have when there are assets: their files and nodes, and a CID for each of those.
const ASSETS_BYTES: u64 = limits::ASSETS_BYTES + limits::ASSETS_NODE_BYTES + (2 << 20);

/// Blocks that are fetched for one deployment at most: those of its assets, each at least a file or directory, and of its
/// component in pieces of 4 KiB.
const FETCHED_BLOCKS: usize = 2 * limits::ASSETS_ENTRIES + (1 << 14);

/// Fetching all of them may take so long: whoever deploys waits for it, and others for their place.
pub(super) const FETCH_TIME: Duration = Duration::from_secs(600);

/// The most that any upload may have, bytes.
pub const MOST_BYTES: u64 = limits::CODE_BYTES + OVERHEAD_BYTES + ASSETS_BYTES;

/// An upload's body, as it comes.
pub type Chunks = mpsc::Receiver<Result<Bytes, Broken>>;

/// Where what is deployed comes from.
#[derive(Debug)]
pub enum Origin {
    /// Its client sends it.
    Client(Chunks),
    /// This server's sources of content have it.
    Sources,
    /// This server has built the component.
    Built(Bytes),
}

/// What the client says that it sends.
#[derive(Clone, Debug)]
pub struct Claim {
    /// UnixFS root of the component.
    pub cid: ContentId,
    /// BLAKE3 of the component; nothing where whoever deploys it knows its CID only.
    pub blake3: Option<Blake3Hash>,
    /// The directory of its assets, if there is one.
    pub assets: Option<ContentId>,
    /// What both are encrypted with, if they are; what is claimed of them is then claimed of the encrypted bytes.
    pub key: Option<ContentKey>,
}

impl Claim {
    /// What the CAR must name as its roots.
    fn roots(&self) -> impl Iterator<Item = ContentId> {
        std::iter::once(self.cid).chain(self.assets)
    }

    /// What the CAR may have.
    const fn most_bytes(&self) -> u64 {
        if self.assets.is_some() { MOST_BYTES } else { MOST_BYTES - ASSETS_BYTES }
    }
}

/// What a deployment is made of.
#[derive(Debug)]
pub struct Content {
    /// The component.
    pub code: Code,
    /// The directory of files that it may read.
    pub assets: Option<ContentId>,
    /// How both are encrypted, if they are.
    pub private: Option<Private>,
    /// The interfaces that the component needs.
    pub imports: Vec<String>,
}

/// A component that is what was claimed and can be run. Its blocks are staged, not stored.
#[derive(Debug)]
pub struct Received {
    /// For the manifest.
    pub content: Content,
    /// Of all blocks, each once.
    pub bytes: u64,
    /// To be committed with the deployment.
    pub staging: Staging,
}

/// A directory that a site may be. Its blocks are staged, not stored.
#[derive(Debug)]
pub struct ReceivedSite {
    /// What is in it.
    pub tree: Tree,
    /// Of all its blocks, each once.
    pub bytes: u64,
    /// To be committed with the deployment.
    pub staging: Staging,
}

/// Receives, verifies and judges a function.
///
/// # Errors
/// When what comes is not what was claimed, or is no function. Nothing is kept then.
pub async fn receive(state: &State, claim: Claim, chunks: Chunks) -> Result<Received, Error> {
    let roots = claim.roots().collect();
    let limit = Limit { bytes: claim.most_bytes(), error: || UploadError::TooLarge };
    let staging = staged(state, roots, limit, chunks).await?;
    in_turn(state, move |_| function(&claim, staging)).await
}

/// Fetches, verifies and judges a function whose content the project or this server's sources have. What was fetched stays for another attempt.
///
/// # Errors
/// When it cannot be had, is not what was claimed, or is no function.
pub async fn fetch(state: &State, project: &str, claim: Claim) -> Result<Received, Error> {
    let bounds = DagBounds { bytes: claim.most_bytes(), blocks: FETCHED_BLOCKS };
    let fetched = async {
        for root in claim.roots() {
            foreign::fetch(state, project, root, bounds).await?.map_err(UploadError::from)?;
        }
        Ok::<_, Error>(())
    };
    in_time(FETCH_TIME, fetched).await?;
    in_turn(state, move |store| stored(store, &claim)).await
}

async fn in_time<T>(time: Duration, fetched: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::time::timeout(time, Box::pin(fetched)).await.map_err(|_elapsed| UploadError::TooSlow)?
}

/// Judges a function whose blocks are all here. They are staged, so that they are needed from the same moment as its row.
fn stored(blocks: &DiskStore, claim: &Claim) -> Result<Received, UploadError> {
    let mut ids = BTreeSet::new();
    for root in claim.roots() {
        blocks.dag(&root, &mut ids)?;
    }
    let staging = blocks.stage().map_err(UploadError::Storage)?;
    restage(blocks, &staging, ids)?;
    function(claim, staging)
}

/// Stages blocks that are here.
pub(super) fn restage(
    blocks: &DiskStore,
    staging: &Staging,
    ids: BTreeSet<ContentId>,
) -> Result<(), UploadError> {
    for id in ids {
        let bytes = blocks.block(&id).map_err(UploadError::Storage)?.ok_or(FileReadError::Missing(id))?;
        staging.put(&Block { id, bytes }).map_err(UploadError::Storage)?;
    }
    Ok(())
}

/// Judges a function that was built here, and whose assets are here.
///
/// # Errors
/// When it is no function.
pub async fn built(state: &State, claim: Claim, component: Bytes) -> Result<Received, Error> {
    in_turn(state, move |store| stage_built(store, &claim, &component)).await
}

fn stage_built(blocks: &DiskStore, claim: &Claim, component: &Bytes) -> Result<Received, UploadError> {
    let staging = blocks.stage().map_err(UploadError::Storage)?;
    if let Some(assets) = &claim.assets {
        let mut ids = BTreeSet::new();
        blocks.dag(assets, &mut ids)?;
        restage(blocks, &staging, ids)?;
    }
    let staged = unixfs::import(&component[..], |block| staging.put(&block).map_err(std::io::Error::other));
    staged.map_err(|source| {
        UploadError::Storage(StoreError::Io { action: "staging", path: claim.cid.to_string().into(), source })
    })?;
    function(claim, staging)
}

/// Judges a function whose blocks are staged.
fn function(claim: &Claim, staging: Staging) -> Result<Received, UploadError> {
    let content = inspect(&staging, claim)?;
    // Here, where nothing waits for it: committing holds up all other deployments.
    staging.sync().map_err(UploadError::Storage)?;
    let bytes = staging.bytes().map_err(UploadError::Storage)?;
    Ok(Received { content, bytes, staging })
}

/// Has all blocks of what is to be pinned here, at most so many bytes, from whoever has them.
///
/// # Errors
/// When it cannot be had, or is larger.
pub(super) async fn fetch_pin(
    state: &State,
    project: &str,
    root: ContentId,
    bounds: DagBounds,
) -> Result<(), Error> {
    let fetched = in_time(FETCH_TIME, foreign::fetch(state, project, root, bounds));
    fetched.await?.map_err(|error| match *error {
        FetchError::Exceeded(exceeded) => StorageError::from(TraversalError::Exceeded(exceeded)).into(),
        _ => UploadError::from(error).into(),
    })
}

/// Receives, verifies and judges a site.
///
/// # Errors
/// When what comes is not the directory under `root`, or no site may be like it. Nothing is kept then.
pub async fn receive_site(state: &State, root: ContentId, chunks: Chunks) -> Result<ReceivedSite, Error> {
    let limit = Limit { bytes: ASSETS_BYTES, error: || UploadError::SiteTooLarge };
    let staging = staged(state, vec![root], limit, chunks).await?;
    in_turn(state, move |_| site(&root, staging)).await
}

/// Fetches, verifies and judges a site that others have. What was fetched stays for another attempt.
///
/// # Errors
/// When it cannot be had, is no directory, or no site may be like it.
pub async fn fetch_site(state: &State, project: &str, root: ContentId) -> Result<ReceivedSite, Error> {
    let bounds = DagBounds { bytes: ASSETS_BYTES, blocks: FETCHED_BLOCKS };
    let fetched = in_time(FETCH_TIME, foreign::fetch(state, project, root, bounds));
    fetched.await?.map_err(|error| match *error {
        FetchError::Exceeded(_) => UploadError::SiteTooLarge,
        _ => UploadError::from(error),
    })?;
    in_turn(state, move |store| stored_site(store, &root)).await
}

/// Has it done on a thread of its own, once few others are at such work: each may hold a component in memory.
async fn in_turn<T: Send + 'static>(
    state: &State,
    work: impl FnOnce(&DiskStore) -> Result<T, UploadError> + Send + 'static,
) -> Result<T, Error> {
    let _turn = state.judging.acquire().await.map_err(|closed| Error::Internal(Box::new(closed)))?;
    let store = state.blocks.clone();
    Ok(blocking(move || work(&store)).await??)
}

/// Verifies what comes as it comes, and keeps it on the disk: however slow its client is, it holds nobody up.
async fn staged(
    state: &State,
    roots: Vec<ContentId>,
    limit: Limit,
    chunks: Chunks,
) -> Result<Staging, Error> {
    let store = state.blocks.clone();
    Ok(blocking(move || stage(&store, &roots, &limit, chunks)).await??)
}

/// Judges a site whose blocks are all here, and stages them.
fn stored_site(blocks: &DiskStore, root: &ContentId) -> Result<ReceivedSite, UploadError> {
    let mut ids = BTreeSet::new();
    blocks.dag(root, &mut ids)?;
    let staging = blocks.stage().map_err(UploadError::Storage)?;
    restage(blocks, &staging, ids)?;
    site(root, staging)
}

fn site(root: &ContentId, staging: Staging) -> Result<ReceivedSite, UploadError> {
    let mut inspection = staging.inspect().map_err(UploadError::Storage)?;
    let tree = inspection.tree(root)?;
    inspection.finish()?;
    staging.sync().map_err(UploadError::Storage)?;
    let bytes = staging.bytes().map_err(UploadError::Storage)?;
    Ok(ReceivedSite { tree, bytes, staging })
}

/// What an upload may have.
struct Limit {
    bytes: u64,
    error: fn() -> UploadError,
}

/// Verifies each block and stages it.
fn stage(
    blocks: &DiskStore,
    roots: &[ContentId],
    limit: &Limit,
    mut chunks: Chunks,
) -> Result<Staging, UploadError> {
    let staging = blocks.stage().map_err(UploadError::Storage)?;
    let mut decoder = CarDecoder::default();
    let mut left = limit.bytes;
    while let Some(chunk) = chunks.blocking_recv() {
        let chunk = chunk?;
        left = left.checked_sub(chunk.len() as u64).ok_or_else(limit.error)?;
        decoder.push(&chunk);
        while let Some(block) = decoder.next_block()? {
            check_roots(&decoder, roots)?;
            staging.put(&block).map_err(UploadError::Storage)?;
        }
    }
    check_roots(&decoder, roots)?;
    decoder.finish()?;
    Ok(staging)
}

/// The component and its assets must be complete, what was claimed, and all that came.
fn inspect(staging: &Staging, claim: &Claim) -> Result<Content, UploadError> {
    let mut inspection = staging.inspect().map_err(UploadError::Storage)?;
    let file = inspection.file(&claim.cid, limits::CODE_BYTES)?;
    if let Some(assets) = &claim.assets {
        inspection.tree(assets)?;
    }
    let found = Blake3Hash::from(blake3::hash(&file));
    if let Some(claimed) = claim.blake3.filter(|claimed| *claimed != found) {
        return Err(UploadError::Blake3 { claimed, found });
    }
    let code = |world| Code { cid: claim.cid, blake3: found, size: file.len() as u64, world };
    let (judged, private) = match &claim.key {
        None => (component::judge(&file)?, None),
        Some(key) => {
            let (judged, private) = inspect_private(&mut inspection, claim, &file, key)?;
            (judged, Some(private))
        }
    };
    inspection.finish()?;
    Ok(Content { code: code(judged.world), assets: claim.assets, private, imports: judged.imports })
}

/// Decrypts the component, in memory only, to judge it as any other, and reads each of its files once. Returns what it
/// is, and the code in clear, sealed.
fn inspect_private(
    inspection: &mut Inspection<'_>,
    claim: &Claim,
    file: &[u8],
    key: &ContentKey,
) -> Result<(Judged, Private), UploadError> {
    let cipher = Cipher::new(key);
    let clear = private::open(&cipher, file).map_err(UploadError::Private)?;
    let judged = component::judge(&clear)?;
    let summary = unixfs::import(&clear[..], |_| Ok(()));
    // Never, from memory to nowhere.
    let summary = summary.map_err(|source| {
        UploadError::Storage(StoreError::Io { action: "hashing", path: claim.cid.to_string().into(), source })
    })?;
    let code = Code { cid: summary.root, blake3: summary.blake3, size: summary.size, world: judged.world };
    let sealed = cipher.seal_code(&code, &claim.cid).map_err(UploadError::Private)?;
    if let Some(assets) = &claim.assets {
        let checked = private::check_tree(&cipher, assets, |id| inspection.read(id));
        checked.map_err(UploadError::PrivateAssets)?;
    }
    Ok((judged, Private { format: FORMAT, key: key.id(), code: sealed }))
}

/// As early as the header is there: a wrong CAR need not be sent to its end.
fn check_roots(decoder: &CarDecoder, claimed: &[ContentId]) -> Result<(), UploadError> {
    match decoder.roots() {
        Some(roots) if roots != claimed => {
            Err(UploadError::Cid { claimed: listed(claimed), found: listed(roots) })
        }
        _ => Ok(()),
    }
}

fn listed(ids: &[ContentId]) -> String {
    let ids: Vec<String> = ids.iter().map(ContentId::to_string).collect();
    if ids.is_empty() { "none".to_owned() } else { ids.join(", ") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failure here is the test's failure")]

    use std::sync::Arc;

    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::domain::Fault;

    #[tokio::test(start_paused = true)]
    async fn a_fetch_that_takes_ten_minutes_ends_and_is_let_go() {
        let begun = Instant::now();
        let wanted = Arc::new(());
        let fetching = wanted.clone();
        let never = async move {
            std::future::pending::<()>().await;
            drop(fetching);
            Ok(())
        };
        let error = in_time(FETCH_TIME, never).await.unwrap_err();
        assert_eq!(begun.elapsed().as_secs(), 600);
        assert_eq!((error.code(), error.fault()), ("content_unavailable", Fault::Refused));
        assert!(error.to_string().contains("within 10 minutes"), "{error}");
        assert_eq!(Arc::strong_count(&wanted), 1, "nothing goes on for it");
        let slow = async {
            sleep(FETCH_TIME - Duration::from_millis(1)).await;
            Ok(7)
        };
        assert_eq!(in_time(FETCH_TIME, slow).await.unwrap(), 7);
    }
}
