//! A file as a stream: its blocks are fetched ahead, verified, handed on in the order of the file, and not kept.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use af_contract::{Codec, ContentId};
use tokio::task::JoinHandle;

use super::dag::{DagSummary, Expected};
use super::fetcher::{FetchError, Fetcher};
use crate::car::Block;
use crate::pieces::Pieces;
use crate::traversal::DagBounds;
use crate::unixfs::{Exceeded, Export, ExportError, Node, NodeError};

/// Blocks on their way, or here before their turn: 6 MiB of the usual size.
const AHEAD: usize = 6;

/// Blocks that were there lately: a file often has the same one again and again, of zeros mostly.
const RECENT: usize = 2;

/// Why a stream ends early. What came before was verified.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// A block cannot be had.
    #[error(transparent)]
    Fetch(#[from] Arc<FetchError>),
    /// The blocks are no file, or not the file that its root says.
    #[error(transparent)]
    Export(#[from] ExportError),
}

/// A file's bytes, in order.
pub struct FileStream {
    fetcher: Fetcher,
    bounds: DagBounds,
    export: Export,
    /// Blocks to come, the next one first; those that are on their way, and behind them those that are not.
    coming: VecDeque<Coming>,
    recent: VecDeque<(ContentId, Pieces)>,
    seen: HashSet<ContentId>,
    summary: DagSummary,
    _expected: Expected,
}

struct Coming {
    id: ContentId,
    fetch: Option<JoinHandle<Result<Pieces, Arc<FetchError>>>>,
}

/// What nobody waits for is not fetched.
impl Drop for Coming {
    fn drop(&mut self) {
        if let Some(fetch) = &self.fetch {
            fetch.abort();
        }
    }
}

impl Fetcher {
    /// The file under `root`, unless what is there is none. What is in the store comes from there; nothing of a file is put
    /// into it.
    ///
    /// # Errors
    /// When the root cannot be had.
    pub async fn file(
        &self,
        root: ContentId,
        bounds: DagBounds,
    ) -> Result<Option<FileStream>, Arc<FetchError>> {
        let mut file = FileStream::new(self, root, bounds);
        match root.codec() {
            Codec::Raw => Ok(Some(file)),
            Codec::DagCbor => Ok(None),
            Codec::DagPb => {
                let pieces = self.pass(root).await?;
                let bytes = pieces.clone().join();
                let is_file = Node::decode(&root, &bytes).map_err(FetchError::from)?.file_size().is_some();
                if is_file {
                    file.recent.push_back((root, pieces));
                    return Ok(Some(file));
                }
                self.keep(Block { id: root, bytes }).await?;
                Ok(None)
            }
        }
    }
}

impl FileStream {
    fn new(fetcher: &Fetcher, root: ContentId, bounds: DagBounds) -> Self {
        Self {
            fetcher: fetcher.clone(),
            bounds,
            export: Export::new(root, bounds.bytes),
            coming: VecDeque::from([Coming { id: root, fetch: None }]),
            recent: VecDeque::with_capacity(RECENT),
            seen: HashSet::new(),
            summary: DagSummary::default(),
            _expected: Expected::new(fetcher, root),
        }
    }

    /// The next bytes of the file; some are none, of inner nodes. `None`: that was all.
    ///
    /// # Errors
    /// When a block cannot be had, or they are no file within the bounds.
    pub async fn next(&mut self) -> Result<Option<Pieces>, StreamError> {
        let Some(wanted) = self.export.wanted() else { return Ok(None) };
        self.look_ahead();
        let block = self.take(wanted).await?;
        if wanted.codec() == Codec::Raw {
            self.export.feed_raw(block.size() as u64)?;
            return Ok(Some(block));
        }
        let block = block.join();
        if wanted.codec() == Codec::DagPb {
            let node = Node::decode(&wanted, &block).map_err(not_a_node)?;
            let children: Vec<ContentId> = node.links().collect();
            for id in children.into_iter().rev() {
                self.coming.push_front(Coming { id, fetch: None });
            }
            // Every occurrence counts: a small DAG can say the same block a million times.
            if self.coming.len() > self.bounds.blocks {
                return Err(Arc::new(FetchError::from(Exceeded::Blocks(self.bounds.blocks))).into());
            }
        }
        Ok(Some(self.export.feed(&block)?.into()))
    }

    /// What came so far; a block that occurs several times counts once.
    #[must_use]
    pub const fn summary(&self) -> DagSummary {
        self.summary
    }

    /// Has the next blocks fetched that are not on their way yet.
    fn look_ahead(&mut self) {
        for place in 0..self.coming.len().min(AHEAD) {
            let before: Vec<ContentId> = self.coming.iter().take(place).map(|coming| coming.id).collect();
            let Some(coming) = self.coming.get_mut(place) else { return };
            let here = before.contains(&coming.id) || self.recent.iter().any(|(id, _)| *id == coming.id);
            if coming.fetch.is_none() && !here {
                let (fetcher, id) = (self.fetcher.clone(), coming.id);
                coming.fetch = Some(tokio::spawn(async move { fetcher.pass(id).await }));
            }
        }
    }

    async fn take(&mut self, wanted: ContentId) -> Result<Pieces, StreamError> {
        // The walk and the export could disagree on the order of a file that is none.
        let next = self.coming.pop_front().filter(|coming| coming.id == wanted);
        let fetch = next.and_then(|mut coming| coming.fetch.take());
        let recent = self.recent.iter().find(|(id, _)| *id == wanted).map(|(_, pieces)| pieces.clone());
        let pieces = match (recent, fetch) {
            (Some(pieces), _) => pieces,
            (None, Some(fetch)) => fetch.await.map_err(|error| Arc::new(FetchError::from(error)))??,
            (None, None) => self.fetcher.pass(wanted).await?,
        };
        if self.seen.insert(wanted) {
            self.summary.blocks += 1;
            self.summary.bytes += pieces.size() as u64;
            self.summary.fetched += 1;
        }
        if self.seen.len() > self.bounds.blocks {
            return Err(Arc::new(FetchError::from(Exceeded::Blocks(self.bounds.blocks))).into());
        }
        if !self.recent.iter().any(|(id, _)| *id == wanted) {
            if self.recent.len() == RECENT {
                self.recent.pop_front();
            }
            self.recent.push_back((wanted, pieces.clone()));
        }
        Ok(pieces)
    }
}

fn not_a_node(error: NodeError) -> StreamError {
    Arc::new(FetchError::from(error)).into()
}
