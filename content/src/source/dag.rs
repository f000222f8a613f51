//! Gets whole DAGs: parents before children, many blocks at once, and only what is not here yet.

use std::sync::Arc;
use std::time::Duration;

use af_contract::ContentId;
use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;

use super::SourceError;
use super::fetcher::{FetchError, Fetcher};
use super::race::{self, Candidate};
use crate::traversal::{DagBounds, Traversal, Visit};

/// Blocks of one DAG that are fetched at the same time: 8 MiB of the usual size, which is 160 MB/s at a distance of 50 ms.
const WINDOW: usize = 8;

/// A source that sends a whole DAG and then nothing for so long is left, and the rest is asked for block by block.
const STALL: Duration = Duration::from_secs(2);

/// Blocks that a source may send without being asked: some send a block as often as it occurs.
const UNASKED: u32 = 64;

/// What a DAG has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DagSummary {
    /// All blocks, each once.
    pub blocks: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Those that were fetched.
    pub fetched: usize,
}

/// One block of a DAG, as it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Which.
    pub id: ContentId,
    /// Bytes.
    pub size: usize,
    /// Whether it was fetched, and not here before.
    pub fetched: bool,
}

struct Walk<'a> {
    fetcher: &'a Fetcher,
    progress: &'a mut (dyn FnMut(Progress) + Send),
    traversal: Traversal,
    summary: DagSummary,
}

impl Fetcher {
    /// All blocks under `root` are here from now on. What was fetched before an error stays, so that another call goes on
    /// from there.
    ///
    /// # Errors
    /// When a block cannot be had, is no node, or there are too many.
    pub async fn dag(
        &self,
        root: ContentId,
        bounds: DagBounds,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<DagSummary, Arc<FetchError>> {
        let traversal = Traversal::new(root, bounds);
        let mut walk = Walk { fetcher: self, progress, traversal, summary: DagSummary::default() };
        let Some(visit) = walk.traversal.next() else { return Ok(walk.summary) };
        let _expected = Expected::new(self, root);
        let (bytes, fetched) = self.had(root).await?;
        let is_file = walk.arrived(visit, &bytes, fetched)?;
        // Where some are here already, all would be sent again.
        let first = walk.traversal.peek();
        if !is_file && first.is_some_and(|child| matches!(self.store().has(&child), Ok(false))) {
            // Many small blocks: one request for all of them.
            walk.in_bulk(root).await?;
        }
        walk.one_by_one().await?;
        Ok(walk.summary)
    }

    /// What is here, or else fetched; and whether it was.
    pub(super) async fn had(&self, id: ContentId) -> Result<(Bytes, bool), Arc<FetchError>> {
        let store = self.store().clone();
        let here = tokio::task::spawn_blocking(move || store.block(&id)).await;
        match here.map_err(|error| Arc::new(FetchError::from(error)))? {
            Ok(Some(bytes)) => Ok((bytes, false)),
            Ok(None) => Ok((self.block(id).await?, true)),
            // It rotted: another copy takes its place.
            Err(error) if self.has_sources() => {
                tracing::warn!(%error, block = %id, "a block on the disk cannot be used; fetching it again");
                Ok((self.block(id).await?, true))
            }
            Err(error) => Err(Arc::new(error.into())),
        }
    }
}

impl Walk<'_> {
    async fn one_by_one(&mut self) -> Result<(), Arc<FetchError>> {
        type Had = (Visit, Result<(Bytes, bool), Arc<FetchError>>);
        let mut coming: FuturesUnordered<BoxFuture<'_, Had>> = FuturesUnordered::new();
        let fetcher = self.fetcher;
        loop {
            while coming.len() < WINDOW
                && let Some(visit) = self.traversal.next()
            {
                coming.push(Box::pin(async move { (visit, fetcher.had(visit.id).await) }));
            }
            let Some((visit, had)) = coming.next().await else { return Ok(()) };
            let (bytes, fetched) = had?;
            self.arrived(visit, &bytes, fetched)?;
        }
    }

    /// By one request, as far as that leads.
    async fn in_bulk(&mut self, root: ContentId) -> Result<(), Arc<FetchError>> {
        for candidate in race::in_turn(self.fetcher.candidates()).0 {
            let Some(mut blocks) = candidate.source.dag(root) else { continue };
            candidate.standing.asked();
            let mut unasked = 0;
            loop {
                let block = match tokio::time::timeout(STALL, blocks.next()).await {
                    Ok(Some(Ok(block))) => block,
                    Ok(None) => return Ok(()),
                    Ok(Some(Err(error))) => break candidate.standing.failed(&error),
                    Err(_stalled) => break candidate.standing.was_overtaken(),
                };
                let Some(visit) = self.traversal.take(&block.id) else {
                    unasked += 1;
                    if unasked > UNASKED {
                        break give_up(&candidate);
                    }
                    continue;
                };
                candidate.standing.sent(block.bytes.len());
                self.arrived(visit, &block.bytes, true)?;
                self.fetcher.keep(block).await.map_err(Arc::new)?;
            }
            return Ok(());
        }
        Ok(())
    }

    /// Whether it is a file, or a part of one.
    fn arrived(&mut self, visit: Visit, bytes: &Bytes, fetched: bool) -> Result<bool, Arc<FetchError>> {
        self.summary.blocks += 1;
        self.summary.bytes += bytes.len() as u64;
        self.summary.fetched += usize::from(fetched);
        let node = self.traversal.arrived(visit, bytes).map_err(|error| Arc::new(error.into()))?;
        (self.progress)(Progress { id: visit.id, size: bytes.len(), fetched });
        Ok(node.is_none_or(|node| node.file_size().is_some()))
    }
}

/// Sources know of a DAG that it is fetched, for as long as this lives.
pub(super) struct Expected(Fetcher, ContentId);

impl Expected {
    pub(super) fn new(fetcher: &Fetcher, root: ContentId) -> Self {
        fetcher.candidates().iter().for_each(|candidate| candidate.source.expect(root));
        Self(fetcher.clone(), root)
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.0.candidates().iter().for_each(|candidate| candidate.source.done(self.1));
    }
}

fn give_up(candidate: &Candidate) {
    candidate.standing.failed(&SourceError::Unexpected("blocks that nobody asked for".to_owned()));
}
