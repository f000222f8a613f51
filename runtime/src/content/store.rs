//! Content on a node: read by CID, verified, decoded, and kept in memory for a while.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

use af_content::StoreError;
use af_content::source::{FetchError, Fetcher};
use af_content::unixfs::{Directory, DirectoryError, Listing, Node, NodeError};
use af_contract::ContentId;
use bytes::Bytes;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinHandle};

use crate::sandbox::{Meter, Span};

/// Blocks and directories in memory. Verifying 1 MiB takes 1 ms with SHA extensions and 4 ms without, so what
/// is asked for often stays: the small files of some hundred functions, or 64 large blocks.
const CACHE_BYTES: u64 = 64 << 20;

/// What an entry of the cache costs besides its bytes.
const ENTRY_BYTES: usize = 256;

/// Files and directories on this node. Cheap to clone.
#[derive(Clone)]
pub struct ContentStore {
    inner: Arc<Inner>,
    /// Whether what is not on this node may be fetched.
    fetches: bool,
}

struct Inner {
    blocks: Fetcher,
    cache: Cache<ContentId, Loaded>,
    /// Verifying is work: half of the cores may do it at once, so that the rest is left to requests.
    readers: Semaphore,
}

/// Something that has been verified and decoded. Cheap to clone.
#[derive(Clone)]
pub enum Loaded {
    /// A file, or a part of one.
    File(Arc<Node>),
    /// A directory with all its shards.
    Directory(Arc<Directory>),
}

/// What came of reading.
enum Read {
    Whole(Loaded),
    /// A block cannot be used, and what was read of the directory until then.
    Lacks(Box<(ContentId, ReadError)>, Option<Box<Listing>>),
}

/// Why content cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is not on this node.
    #[error("block {0} is missing")]
    Missing(ContentId),
    /// The disk failed, or the block is corrupt.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is not on this node, and no source has it.
    #[error(transparent)]
    Fetch(#[from] Arc<FetchError>),
    /// It is no node.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// It is no directory.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// This node stops.
    #[error("the read was interrupted")]
    Interrupted(#[from] JoinError),
    /// Likewise.
    #[error("the read was not begun")]
    Stopped(#[from] AcquireError),
}

impl ContentStore {
    /// Reads from `blocks`, and fetches what is not there.
    #[must_use]
    pub fn new(blocks: impl Into<Fetcher>) -> Self {
        let cache = Cache::builder().max_capacity(CACHE_BYTES).weigher(|_, loaded: &Loaded| loaded.weight());
        // Not by how often: a body that streams asks for its block again for each piece, and must find it there.
        let cache = cache.eviction_policy(EvictionPolicy::lru());
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let inner =
            Inner { blocks: blocks.into(), cache: cache.build(), readers: Semaphore::new(cores.div_ceil(2)) };
        Self { inner: Arc::new(inner), fetches: true }
    }

    /// The same without what would have to be fetched: for those who may not make this node ask others.
    #[must_use]
    pub fn here(&self) -> Self {
        Self { inner: self.inner.clone(), fetches: false }
    }

    /// What is in memory.
    pub fn cached(&self, id: &ContentId) -> Option<Loaded> {
        self.inner.cache.get(id)
    }

    /// From the disk, or whoever has it, on another thread, at the cost of `meter` if there is one. The permit is given back when
    /// that is done.
    ///
    /// # Errors
    /// When it is missing or corrupt.
    pub async fn fetch(
        &self,
        id: ContentId,
        meter: Option<Arc<Meter>>,
        permit: OwnedSemaphorePermit,
    ) -> Result<Loaded, ReadError> {
        self.fetching(id, meter, permit).await?
    }

    /// As [`Self::fetch`], for somebody who will ask for it soon, and be told what is wrong with it then.
    pub fn fetch_ahead(&self, id: ContentId, permit: OwnedSemaphorePermit) {
        drop(self.fetching(id, None, permit));
    }

    fn fetching(
        &self,
        id: ContentId,
        meter: Option<Arc<Meter>>,
        permit: OwnedSemaphorePermit,
    ) -> JoinHandle<Result<Loaded, ReadError>> {
        let store = self.clone();
        // A task of its own: a guest that nobody polls, since its client does not read, must not hold up the
        // reads of others, and one that does not wait for what it asked for pays nonetheless.
        tokio::spawn(async move {
            let _permit = permit;
            let loaded = store.load(id, meter).await?;
            store.inner.cache.insert(id, loaded.clone());
            Ok(loaded)
        })
    }

    async fn load(&self, id: ContentId, meter: Option<Arc<Meter>>) -> Result<Loaded, ReadError> {
        let mut listing = None;
        loop {
            let turn = self.inner.readers.acquire().await;
            // Whoever was before may have read the same.
            if let Some(loaded) = self.cached(&id) {
                return Ok(loaded);
            }
            let (reading, meter) = (self.clone(), meter.clone());
            let work = move || {
                let span = Span::begin();
                let read = reading.read(&id, listing);
                if let Some(meter) = meter {
                    meter.charge(span.used(Instant::now()));
                }
                read
            };
            let (lacking, error) = match tokio::task::spawn_blocking(work).await?? {
                Read::Whole(loaded) => return Ok(loaded),
                Read::Lacks(lacking, so_far) => {
                    listing = so_far;
                    *lacking
                }
            };
            if !self.fetches || !self.inner.blocks.has_sources() {
                return Err(error);
            }
            // Others may read in the meantime.
            drop(turn);
            self.inner.blocks.block(lacking).await?;
        }
    }

    fn read(&self, id: &ContentId, so_far: Option<Box<Listing>>) -> Result<Read, ReadError> {
        let mut listing = if let Some(listing) = so_far {
            listing
        } else {
            let block = match self.block(id) {
                Ok(block) => block,
                Err(error) => return lacking(*id, error, None),
            };
            let node = Node::decode(id, &block)?;
            if let Node::Bytes(_) | Node::File(_) = node {
                return Ok(Read::Whole(Loaded::File(Arc::new(node))));
            }
            let mut listing = Box::new(Listing::new(*id));
            listing.feed(&block)?;
            listing
        };
        while let Some(id) = listing.wanted() {
            match self.block(&id) {
                Ok(block) => listing.feed(&block)?,
                Err(error) => return lacking(id, error, Some(listing)),
            }
        }
        Ok(Read::Whole(Loaded::Directory(Arc::new(listing.finish()?))))
    }

    fn block(&self, id: &ContentId) -> Result<Bytes, ReadError> {
        self.inner.blocks.store().block(id)?.ok_or(ReadError::Missing(*id))
    }
}

/// Whether another copy would do.
fn lacking(id: ContentId, error: ReadError, listing: Option<Box<Listing>>) -> Result<Read, ReadError> {
    match error {
        ReadError::Missing(_) | ReadError::Store(StoreError::Mismatch(_) | StoreError::TooLarge(_)) => {
            Ok(Read::Lacks(Box::new((id, error)), listing))
        }
        error => Err(error),
    }
}

impl fmt::Debug for ContentStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContentStore").field("blocks", &self.inner.blocks).finish_non_exhaustive()
    }
}

impl Loaded {
    fn weight(&self) -> u32 {
        let bytes = match self {
            Self::File(node) => match node.as_ref() {
                Node::File(children) => size_of_val(children.as_slice()),
                Node::Bytes(bytes) => bytes.len(),
                Node::Directory(_) | Node::Shard(_) => 0,
            },
            Self::Directory(directory) => {
                let entries = directory.entries();
                size_of_val(entries) + entries.iter().map(|entry| entry.name.len()).sum::<usize>()
            }
        };
        u32::try_from(bytes.saturating_add(ENTRY_BYTES)).unwrap_or(u32::MAX)
    }
}
