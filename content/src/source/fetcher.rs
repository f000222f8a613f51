//! Gets blocks that are not on this node from whoever has them, and keeps them.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use af_contract::ContentId;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, WeakShared};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::race::{self, Candidate, Tried};
use super::standing::{SourceReport, Turn};
use super::{Source, SourceError};
use crate::car::Block;
use crate::disk::{DiskStore, StoreError};
use crate::pieces::Pieces;
use crate::traversal::TraversalError;
use crate::unixfs::{Exceeded, NodeError};

/// Blocks that are fetched at the same time, of 1 MiB mostly: what others wait for, not what memory is for.
const FLIGHTS: usize = 32;

/// How often all sources are asked for one block, when some of them failed: four seconds of them, where nobody answers.
const ROUNDS: u32 = 5;

/// Before the second round; twice as long before the third, and up to twice as long by chance.
const PAUSE: Duration = Duration::from_millis(200);

/// No round begins later after the first one. Who says that it is busy for longer is not waited for.
const PATIENCE: Duration = Duration::from_secs(15);

/// Why content cannot be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// There is nobody to be asked.
    #[error("block {0} is not here, and no source of content is configured")]
    NoSource(ContentId),
    /// Nobody has it, or nobody answers.
    #[error("block {id} cannot be had: {}", said(tried))]
    Nowhere {
        /// The block.
        id: ContentId,
        /// What each source said, in the last round.
        tried: Vec<Tried>,
    },
    /// Our disk.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A block is what its id says, and no node.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// More than was allowed.
    #[error("it is not fetched: {0}")]
    Exceeded(#[from] Exceeded),
    /// This node stops.
    #[error("the fetch was interrupted")]
    Interrupted(#[from] tokio::task::JoinError),
}

type Flight = BoxFuture<'static, Result<Bytes, Arc<FetchError>>>;

/// Fetches blocks. Cheap to clone.
#[derive(Clone)]
pub struct Fetcher {
    inner: Arc<Inner>,
}

struct Inner {
    store: DiskStore,
    candidates: Vec<Arc<Candidate>>,
    flights: Mutex<HashMap<ContentId, WeakShared<Flight>>>,
    places: Semaphore,
}

impl Fetcher {
    /// Asks `sources`, in this order as long as they are equally good, for what `store` lacks.
    #[must_use]
    pub fn new(store: DiskStore, sources: impl IntoIterator<Item = Arc<dyn Source>>) -> Self {
        let candidates = sources.into_iter().map(|source| Arc::new(Candidate::new(source))).collect();
        let inner = Inner { store, candidates, flights: Mutex::default(), places: Semaphore::new(FLIGHTS) };
        Self { inner: Arc::new(inner) }
    }

    /// Where fetched blocks are kept.
    #[must_use]
    pub fn store(&self) -> &DiskStore {
        &self.inner.store
    }

    /// Whether there is anybody to be asked.
    #[must_use]
    pub fn has_sources(&self) -> bool {
        !self.inner.candidates.is_empty()
    }

    /// What each source has done so far, in their order.
    #[must_use]
    pub fn reports(&self) -> Vec<SourceReport> {
        self.inner.candidates.iter().map(|candidate| candidate.report()).collect()
    }

    /// A block that is not here, verified, and here from now on. Whoever asks for the same at the same time waits for the
    /// same fetch, which ends when nobody waits for it any more.
    ///
    /// # Errors
    /// When nobody has it, or nobody answers.
    pub async fn block(&self, id: ContentId) -> Result<Bytes, Arc<FetchError>> {
        if let Some(content) = id.content() {
            return Ok(Bytes::copy_from_slice(content));
        }
        let flight = {
            let mut flights = self.inner.flights.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(flight) = flights.get(&id).and_then(WeakShared::upgrade) {
                flight
            } else {
                let flight: Flight = Box::pin(fly(self.inner.clone(), id));
                let flight = flight.shared();
                flights.retain(|_, others| others.upgrade().is_some());
                flights.extend(flight.downgrade().map(|weak| (id, weak)));
                flight
            }
        };
        flight.await
    }

    /// A block from the store, or from whoever has it; then it is not kept.
    pub(super) async fn pass(&self, id: ContentId) -> Result<Pieces, Arc<FetchError>> {
        if let Some(content) = id.content() {
            return Ok(Bytes::copy_from_slice(content).into());
        }
        if let Ok(true) = self.inner.store.has(&id) {
            return Ok(self.had(id).await?.0.into());
        }
        get(&self.inner, id).await
    }

    pub(super) fn candidates(&self) -> &[Arc<Candidate>] {
        &self.inner.candidates
    }

    /// A block that somebody sent is here from now on.
    pub(super) async fn keep(&self, block: Block) -> Result<(), FetchError> {
        let store = self.inner.store.clone();
        Ok(tokio::task::spawn_blocking(move || store.keep(&block)).await??)
    }
}

async fn fly(inner: Arc<Inner>, id: ContentId) -> Result<Bytes, Arc<FetchError>> {
    let bytes = get(&inner, id).await?.join();
    let (store, block) = (inner.store.clone(), Block { id, bytes: bytes.clone() });
    let kept = tokio::task::spawn_blocking(move || store.keep(&block)).await;
    match kept.map_err(|error| Arc::new(FetchError::from(error)))? {
        Ok(()) => {}
        // It can be used nonetheless, and is fetched again when it is needed again.
        Err(error) => tracing::warn!(%error, block = %id, "a fetched block could not be kept"),
    }
    Ok(bytes)
}

/// From whoever has it.
async fn get(inner: &Inner, id: ContentId) -> Result<Pieces, Arc<FetchError>> {
    if inner.candidates.is_empty() {
        return Err(Arc::new(FetchError::NoSource(id)));
    }
    let mut place = inner.places.acquire().await;
    let latest = Instant::now() + PATIENCE;
    let mut round = 1;
    loop {
        let (allowed, mut left) = race::in_turn(&inner.candidates);
        let mut tried = match race::race(&allowed, id).await {
            Ok(pieces) => return Ok(pieces),
            Err(tried) => tried,
        };
        let back = inner.candidates.iter().filter_map(|candidate| candidate.standing.back_at()).min();
        let back = back.map(|back| back + pause(1));
        let next =
            back.into_iter().chain(again(&allowed, &tried).then(|| Instant::now() + pause(round))).min();
        let Some(next) = next.filter(|next| round < ROUNDS && *next <= latest) else {
            tried.append(&mut left);
            return Err(Arc::new(FetchError::Nowhere { id, tried }));
        };
        // Others need not wait for those who fail.
        drop(place);
        tokio::time::sleep_until(next).await;
        place = inner.places.acquire().await;
        round += 1;
    }
}

/// Whether one that failed may be asked again at once.
fn again(asked: &[Arc<Candidate>], tried: &[Tried]) -> bool {
    asked.iter().zip(tried).any(|(candidate, tried)| {
        let failed = tried.outcome.as_ref().is_some_and(SourceError::is_temporary);
        failed && candidate.standing.turn() != Turn::Never
    })
}

/// With jitter, so that a thousand requests that failed together do not come back together.
fn pause(round: u32) -> Duration {
    let chance = getrandom::u32().map_or(0.5, |number| f64::from(number) / f64::from(u32::MAX));
    PAUSE.saturating_mul(1 << (round - 1)).mul_f64(1.0 + chance)
}

fn said(tried: &[Tried]) -> String {
    let one = |tried: &Tried| match &tried.outcome {
        Some(error) => format!("{}: {error}", tried.source),
        None => format!("{}: no answer yet", tried.source),
    };
    tried.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// Nobody but this node's own disk is asked.
impl From<TraversalError> for FetchError {
    fn from(error: TraversalError) -> Self {
        match error {
            TraversalError::Node(error) => error.into(),
            TraversalError::Exceeded(error) => error.into(),
        }
    }
}

impl From<DiskStore> for Fetcher {
    fn from(store: DiskStore) -> Self {
        Self::new(store, [])
    }
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources: Vec<_> = self.inner.candidates.iter().map(|candidate| candidate.source.name()).collect();
        f.debug_struct("Fetcher").field("sources", &sources).finish_non_exhaustive()
    }
}
