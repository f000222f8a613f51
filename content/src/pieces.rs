//! A block's bytes as they came. Most are passed on, hashed or written piece by piece, so they need not be copied together.

use bytes::{Bytes, BytesMut};

/// A piece that is shorter is copied to its neighbours: whoever sends single bytes must not make this node keep a list of them.
const SHORT: usize = 32 << 10;

/// Bytes in pieces, in order.
#[derive(Clone, Debug, Default)]
pub struct Pieces(Vec<Bytes>);

impl Pieces {
    /// Bytes in all.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    /// The pieces.
    pub fn iter(&self) -> impl Iterator<Item = &Bytes> {
        self.0.iter()
    }

    /// All in one, copied if there are several.
    #[must_use]
    pub fn join(mut self) -> Bytes {
        if self.0.len() <= 1 {
            return self.0.pop().unwrap_or_default();
        }
        let mut joined = BytesMut::with_capacity(self.size());
        self.0.iter().for_each(|piece| joined.extend_from_slice(piece));
        joined.freeze()
    }
}

impl From<Bytes> for Pieces {
    fn from(bytes: Bytes) -> Self {
        Self(vec![bytes])
    }
}

/// The same bytes are equal, however they came.
impl PartialEq for Pieces {
    fn eq(&self, other: &Self) -> bool {
        self.clone().join() == other.clone().join()
    }
}

impl Eq for Pieces {}

/// Pieces that are still coming.
#[derive(Debug, Default)]
pub(crate) struct Gathering {
    pieces: Vec<Bytes>,
    short: BytesMut,
    size: usize,
}

impl Gathering {
    pub fn push(&mut self, piece: Bytes) {
        self.size += piece.len();
        if piece.len() < SHORT {
            self.short.extend_from_slice(&piece);
        } else {
            self.flush();
            self.pieces.push(piece);
        }
    }

    pub const fn size(&self) -> usize {
        self.size
    }

    pub fn finish(mut self) -> Pieces {
        self.flush();
        Pieces(self.pieces)
    }

    fn flush(&mut self) {
        if !self.short.is_empty() {
            self.pieces.push(std::mem::take(&mut self.short).freeze());
        }
    }
}
