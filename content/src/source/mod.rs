//! Where blocks come from. No source is trusted: what it sends is hashed, and counts as the block whose id that is.

mod arweave;
mod dag;
mod error;
mod fetcher;
mod gateway;
mod http;
mod kubo;
mod race;
mod routing;
mod standing;
mod stream;
#[cfg(test)]
mod tests;

use std::fmt;

use af_contract::ContentId;
use futures::future::BoxFuture;
use futures::stream::BoxStream;

pub use self::arweave::Arweave;
pub use self::dag::{DagSummary, Progress};
pub use self::error::SourceError;
pub use self::fetcher::{FetchError, Fetcher};
pub use self::gateway::Gateway;
pub use self::kubo::Kubo;
pub use self::race::Tried;
pub use self::routing::{Allowed, Routing};
pub use self::standing::SourceReport;
pub use self::stream::{FileStream, StreamError};
use crate::car::Block;
use crate::hash::Hashed;
pub use crate::traversal::DagBounds;

/// Blocks of a DAG, as they arrive.
pub type Blocks<'a> = BoxStream<'a, Result<Block, SourceError>>;

/// Somebody who may have blocks: a gateway, an IPFS node, a peer. It bounds what it reads to a block's size; how long it may
/// take, how often it is asked, and what becomes of it when it lies, is decided by whoever asks.
pub trait Source: fmt::Debug + Send + Sync {
    /// As people know it: its kind, and its address without secrets.
    fn name(&self) -> &str;

    /// What the source sends for one block, hashed by whoever reads it. It may be another one.
    ///
    /// # Errors
    /// When it has none, or none can be had from it.
    fn block(&self, id: ContentId) -> BoxFuture<'_, Result<Hashed, SourceError>>;

    /// Blocks of the DAG under `root` will be asked for until [`Self::done`] says otherwise. For sources that find blocks by
    /// their root only.
    fn expect(&self, root: ContentId) {
        let _ = root;
    }

    /// No more blocks of the DAG under `root` will be asked for by whoever said [`Self::expect`].
    fn done(&self, root: ContentId) {
        let _ = root;
    }

    /// The blocks of the DAG under `root`, parents before children, from a source that can send many at once. It may end
    /// early: the rest is asked for block by block.
    fn dag(&self, root: ContentId) -> Option<Blocks<'_>> {
        let _ = root;
        None
    }

    /// What those did whom this source asked in turn, if it is several: a bounded number of lines.
    fn peers(&self) -> Vec<SourceReport> {
        Vec::new()
    }
}
