//! A file as a stream: its blocks are fetched ahead, verified, handed on in the order of the file, and not kept.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use af_contract::{Blake3Hash, Codec, ContentId};
use tokio::task::JoinHandle;

use super::dag::{DagSummary, Expected};
use super::fetcher::{FetchError, Fetcher};
use crate::car::Block;
use crate::pieces::Pieces;
use crate::subtrees::{Joined, Subtree};
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
    /// Of the bytes that were handed on.
    blake3: Joined,
    /// Their number.
    handed_on: u64,
    seen: HashSet<ContentId>,
    summary: DagSummary,
    _expected: Expected,
}

struct Coming {
    id: ContentId,
    /// Where it is in the file, by what the node above it says.
    offset: u64,
    fetch: Option<JoinHandle<Result<Part, Arc<FetchError>>>>,
}

/// A block; with its subtree of the file's hash if it has bytes of the file where it was expected.
type Part = (Pieces, Option<Subtree>);

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
            coming: VecDeque::from([Coming { id: root, offset: 0, fetch: None }]),
            recent: VecDeque::with_capacity(RECENT),
            blake3: Joined::default(),
            handed_on: 0,
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
        let (block, subtree) = self.take(wanted).await?;
        if wanted.codec() == Codec::Raw {
            self.export.feed_raw(block.size() as u64)?;
            return Ok(Some(self.hand_on(block, subtree)));
        }
        let block = block.join();
        let bytes = self.export.feed(&block)?;
        if let Node::File(children) = Node::decode(&wanted, &block).map_err(not_a_node)? {
            // The export has checked that they are within the bounds.
            let begins = std::iter::once(0).chain(children.iter().map(|child| child.end));
            let offsets: Vec<u64> = begins.map(|begin| self.handed_on + begin).collect();
            for (child, offset) in children.into_iter().zip(offsets).rev() {
                self.coming.push_front(Coming { id: child.id, offset, fetch: None });
            }
            // Every occurrence counts: a small DAG can say the same block a million times.
            if self.coming.len() > self.bounds.blocks {
                return Err(Arc::new(FetchError::from(Exceeded::Blocks(self.bounds.blocks))).into());
            }
        }
        Ok(Some(self.hand_on(bytes.into(), None)))
    }

    fn hand_on(&mut self, bytes: Pieces, subtree: Option<Subtree>) -> Pieces {
        self.handed_on += bytes.size() as u64;
        self.blake3.push(bytes.clone(), subtree);
        bytes
    }

    /// What came, in which a block that occurs several times counts once, and the hash of what was handed on: of the file, after
    /// [`Self::next`] has said that this was all.
    #[must_use]
    pub fn finish(self) -> (DagSummary, Blake3Hash) {
        (self.summary, self.blake3.finish())
    }

    /// Has the next blocks fetched that are not on their way yet.
    fn look_ahead(&mut self) {
        for place in 0..self.coming.len().min(AHEAD) {
            let before: Vec<ContentId> = self.coming.iter().take(place).map(|coming| coming.id).collect();
            let Some(coming) = self.coming.get_mut(place) else { return };
            let here = before.contains(&coming.id) || self.recent.iter().any(|(id, _)| *id == coming.id);
            if coming.fetch.is_none() && !here {
                coming.fetch = Some(tokio::spawn(part(self.fetcher.clone(), coming.id, coming.offset)));
            }
        }
    }

    async fn take(&mut self, wanted: ContentId) -> Result<Part, StreamError> {
        // The walk and the export could disagree on the order of a file that is none.
        let next = self.coming.pop_front().filter(|coming| coming.id == wanted);
        let fetch = next.and_then(|mut coming| coming.fetch.take());
        let recent = self.recent.iter().find(|(id, _)| *id == wanted).map(|(_, pieces)| pieces.clone());
        let (pieces, subtree) = match (recent, fetch) {
            (Some(pieces), _) => (pieces, None),
            (None, Some(fetch)) => fetch.await.map_err(|error| Arc::new(FetchError::from(error)))??,
            (None, None) => (self.fetcher.pass(wanted).await?, None),
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
        Ok((pieces, subtree))
    }
}

/// Gets a block, and hashes it as a part of the file besides: several are hashed at once so.
async fn part(fetcher: Fetcher, id: ContentId, offset: u64) -> Result<Part, Arc<FetchError>> {
    let pieces = fetcher.pass(id).await?;
    tokio::task::yield_now().await;
    let subtree = if id.codec() == Codec::Raw { Subtree::new(offset, &pieces) } else { None };
    Ok((pieces, subtree))
}

fn not_a_node(error: NodeError) -> StreamError {
    Arc::new(FetchError::from(error)).into()
}
