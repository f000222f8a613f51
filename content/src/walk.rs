//! The blocks of a DAG out of a store, one after another: what a CAR of it has.

use std::collections::VecDeque;

use af_contract::ContentId;
use bytes::Bytes;

use crate::car::{self, Block};
use crate::disk::{DiskStore, FileReadError};
use crate::traversal::{DagBounds, Traversal, Visit};

/// Blocks of a DAG, each once, parents before children and in the order of links: as others can use them while they
/// arrive. Blocking, as the store is. Ends after an error.
#[derive(Debug)]
pub struct Walk {
    store: DiskStore,
    traversal: Traversal,
    over: bool,
}

impl DiskStore {
    /// The blocks of the file or directory under `root`, verified.
    #[must_use]
    pub fn walk(&self, root: ContentId) -> Walk {
        Walk { store: self.clone(), traversal: Traversal::new(root, DagBounds::STORED), over: false }
    }
}

impl Walk {
    fn block(&mut self, visit: Visit) -> Result<Block, FileReadError> {
        let id = visit.id;
        let bytes = self.store.block(&id)?.ok_or(FileReadError::Missing(id))?;
        self.traversal.arrived(visit, &bytes)?;
        Ok(Block { id, bytes })
    }
}

impl Iterator for Walk {
    type Item = Result<Block, FileReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.over {
            let visit = self.traversal.next()?;
            let block = self.block(visit);
            self.over = block.is_err();
            // A root may stand in its CID, and then there is no block of it.
            if !(visit.id.is_inline() && block.is_ok()) {
                return Some(block);
            }
        }
        None
    }
}

/// A walk as the pieces of a CAR.
#[derive(Debug)]
pub struct CarPieces {
    ready: VecDeque<Bytes>,
    walk: Walk,
}

impl CarPieces {
    /// Of the DAG under `root`.
    #[must_use]
    pub fn new(store: &DiskStore, root: ContentId) -> Self {
        let header = Bytes::from(car::encode_header(&[root]));
        Self { ready: VecDeque::from([header]), walk: store.walk(root) }
    }
}

impl Iterator for CarPieces {
    type Item = Result<Bytes, FileReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(piece) = self.ready.pop_front() {
            return Some(Ok(piece));
        }
        let block = match self.walk.next()? {
            Ok(block) => block,
            Err(error) => return Some(Err(error)),
        };
        let prefix = car::encode_block_prefix(&block.id, block.bytes.len());
        self.ready.push_back(block.bytes);
        Some(Ok(prefix.into()))
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use af_contract::Codec;

    use super::*;
    use crate::car::CarDecoder;
    use crate::unixfs::{self, Directory, Entry};

    #[test]
    fn a_car_has_each_block_once_and_parents_first() {
        let dir = tempfile::tempdir().unwrap();
        let store = DiskStore::open(dir.path()).unwrap();
        let staging = store.stage().unwrap();
        let mut put = |block: Block| staging.put(&block).map_err(io::Error::other);
        let mut file = vec![1; 1 << 20];
        file.extend(vec![2; 1 << 20]);
        file.extend(vec![1; 1 << 20]);
        let id = unixfs::import(&file[..], &mut put).unwrap().root;
        let entry = |name: &str| Entry { name: name.into(), id, size: file.len() as u64 };
        let (root, _) = Directory::write(&[entry("a"), entry("b")], &mut put).unwrap();
        let leaf = crate::identify(Codec::Raw, &file[..1 << 20]);
        staging.commit().unwrap().finish().unwrap();
        let mut decoder = CarDecoder::default();
        let mut ids = Vec::new();
        for piece in CarPieces::new(&store, root) {
            decoder.push(&piece.unwrap());
            while let Some(block) = decoder.next_block().unwrap() {
                ids.push(block.id);
            }
        }
        assert_eq!(decoder.roots(), Some(&[root][..]));
        decoder.finish().unwrap();
        assert_eq!((ids.len(), &ids[..3]), (4, &[root, id, leaf][..]));
        std::fs::remove_file(store.path(&leaf)).unwrap();
        let last = store.walk(root).last().unwrap();
        assert!(matches!(last, Err(FileReadError::Missing(missing)) if missing == leaf));
    }
}
