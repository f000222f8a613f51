//! An answer's bytes, made one block after another.

use std::collections::VecDeque;
use std::ops::Range;

use af_contract::Cid;
use bytes::Bytes;

use super::error::DagError;
use super::walk::Walk;
use crate::car;

/// Where an answer's bytes come from.
#[derive(Debug)]
pub enum Pieces {
    /// They are here.
    Here(Option<Bytes>),
    /// These bytes of a file.
    File(Box<Walk>, Range<u64>),
    /// A CAR; its header goes first.
    Car(Option<Bytes>, Box<Walk>),
}

impl Pieces {
    /// A CAR with one root.
    pub fn car(root: &Cid, walk: Walk) -> Self {
        Self::Car(Some(car::encode_header_of(&[*root]).into()), Box::new(walk))
    }

    /// The next bytes, none of them empty; an empty list at the end.
    ///
    /// # Errors
    /// When a block cannot be sent. Nothing comes after that.
    pub fn next(&mut self) -> Result<VecDeque<Bytes>, DagError> {
        match self {
            Self::Here(bytes) => Ok(bytes.take().filter(|bytes| !bytes.is_empty()).into_iter().collect()),
            Self::File(walk, wanted) => {
                while let Some(visited) = walk.next()? {
                    let bytes = visited.content.map(|(begin, bytes)| cut(begin, &bytes, wanted));
                    if let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) {
                        return Ok(VecDeque::from([bytes]));
                    }
                }
                Ok(VecDeque::new())
            }
            Self::Car(header, walk) => {
                let mut pieces: VecDeque<Bytes> = header.take().into_iter().collect();
                // What stands in links is not sent besides.
                let mut next = walk.next()?;
                while next.as_ref().is_some_and(|visited| visited.id.is_inline()) {
                    next = walk.next()?;
                }
                if let Some(visited) = next {
                    pieces.push_back(car::encode_block_prefix(&visited.id, visited.block.len()).into());
                    pieces.push_back(visited.block);
                    pieces.retain(|piece| !piece.is_empty());
                }
                Ok(pieces)
            }
        }
    }
}

/// Of a part of a file that begins at `begin`, the bytes that are wanted.
fn cut(begin: u64, bytes: &Bytes, wanted: &Range<u64>) -> Bytes {
    let place = |at: u64| usize::try_from(at.saturating_sub(begin)).unwrap_or(usize::MAX).min(bytes.len());
    let (from, to) = (place(wanted.start), place(wanted.end));
    bytes.slice(from..to.max(from))
}
