//! Reads blocks of this node for one request, and no more of them than one request may cause.

use af_contract::ContentId;
use bytes::Bytes;

use super::error::DagError;
use crate::DiskStore;
use crate::car::Block;

/// What finding the end of a path, or listing a directory, may read: a path's 64 names through blocks of a megabyte. Each is
/// verified, which takes a quarter of a second on a core without SHA extensions.
const BYTES: u64 = 64 << 20;

/// A store, and what may still be read of it.
#[derive(Debug)]
pub struct Reading {
    store: DiskStore,
    left: u64,
    /// The last block: what ends a path is mostly what is sent first.
    last: Option<Block>,
}

impl Reading {
    /// What a request may read before it is answered.
    pub fn bounded(store: DiskStore) -> Self {
        Self { store, left: BYTES, last: None }
    }

    /// What an answer's client pays for by taking it.
    pub fn unbounded(self) -> Self {
        Self { left: u64::MAX, ..self }
    }

    /// A block, verified.
    ///
    /// # Errors
    /// When it is not here or corrupt, or too much was read.
    pub fn block(&mut self, id: &ContentId) -> Result<Bytes, DagError> {
        if let Some(last) = self.last.as_ref().filter(|last| last.id == *id) {
            return Ok(last.bytes.clone());
        }
        let bytes = self.store.block(id)?.ok_or(DagError::Missing(*id))?;
        self.left = self.left.checked_sub(bytes.len() as u64).ok_or(DagError::TooMuch("bytes on the way"))?;
        self.last = Some(Block { id: *id, bytes: bytes.clone() });
        Ok(bytes)
    }
}
