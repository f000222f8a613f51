//! The BLAKE3 of bytes whose parts are hashed where they come, several at once, and joined in their order.

use af_contract::Blake3Hash;
use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, max_subtree_len, merge_subtrees_non_root, merge_subtrees_root,
};

use crate::pieces::Pieces;

/// BLAKE3 hashes chunks of so many bytes, and joins the hashes in a binary tree.
const CHUNK: u64 = blake3::CHUNK_LEN as u64;

/// A part of some bytes that is a subtree of their hash by itself.
#[derive(Clone, Copy, Debug)]
pub struct Subtree {
    /// Where it begins.
    offset: u64,
    /// Bytes.
    size: u64,
    value: ChainingValue,
}

impl Subtree {
    /// The part that begins at `offset`; `None` if it is no subtree there. A mebibyte takes 200 microseconds.
    #[must_use]
    pub fn new(offset: u64, part: &Pieces) -> Option<Self> {
        let size = part.size() as u64;
        if !offset.is_multiple_of(CHUNK)
            || size == 0
            || max_subtree_len(offset).is_some_and(|most| size > most)
        {
            return None;
        }
        let mut hasher = hasher_at(offset);
        for piece in part.iter() {
            hasher.update(piece);
        }
        Some(Self { offset, size, value: hasher.finalize_non_root() })
    }
}

/// A hash of the parts that were joined so far.
#[derive(Default)]
pub struct Joined {
    /// From the left, each larger than the next one, but for the last two: they may be as large as each other.
    subtrees: Vec<(ChainingValue, u64)>,
    /// Bytes in them.
    size: u64,
    /// What follows them, and is no subtree yet, with its size.
    open: Option<(blake3::Hasher, u64)>,
    /// The newest part: what it is depends on whether another one follows.
    newest: Option<(Pieces, Option<Subtree>)>,
}

impl Joined {
    /// The next part. It is hashed here if it comes without a subtree, or with that of another place.
    pub fn push(&mut self, part: Pieces, subtree: Option<Subtree>) {
        if part.size() == 0 {
            return;
        }
        if let Some((part, subtree)) = self.newest.take() {
            match self.subtree_here(&part, subtree).filter(|subtree| is_whole(subtree.offset, subtree.size)) {
                Some(Subtree { value, size, .. }) => self.join(value, size),
                None => self.hash(&part),
            }
        }
        self.newest = Some((part, subtree));
    }

    /// The hash of all parts.
    #[must_use]
    pub fn finish(mut self) -> Blake3Hash {
        if let Some((part, subtree)) = self.newest.take() {
            // The only part is the whole tree, and has another hash than a subtree.
            match self.subtree_here(&part, subtree).filter(|subtree| subtree.offset > 0) {
                Some(Subtree { value, size, .. }) => self.join(value, size),
                None => self.hash(&part),
            }
        }
        match self.open.take() {
            Some((hasher, _)) if self.subtrees.is_empty() => return hasher.finalize().into(),
            Some((hasher, size)) => self.join(hasher.finalize_non_root(), size),
            None => {}
        }
        let Some((mut right, _)) = self.subtrees.pop() else { return blake3::hash(b"").into() };
        while let Some((left, _)) = self.subtrees.pop() {
            if self.subtrees.is_empty() {
                return merge_subtrees_root(&left, &right, Mode::Hash).into();
            }
            right = merge_subtrees_non_root(&left, &right, Mode::Hash);
        }
        unreachable!("a subtree is joined only where another part follows it or was before it")
    }

    /// The subtree that this part is after those before it, if all of them can be subtrees.
    fn subtree_here(&mut self, part: &Pieces, subtree: Option<Subtree>) -> Option<Subtree> {
        let open = self.open.as_ref().map_or(0, |(_, size)| *size);
        let is_here =
            |subtree: &Subtree| subtree.offset == self.size + open && subtree.size == part.size() as u64;
        let subtree = subtree.filter(is_here)?;
        if open > 0 {
            is_whole(self.size, open).then(|| self.close())?;
        }
        Some(subtree)
    }

    fn hash(&mut self, part: &Pieces) {
        for piece in part.iter() {
            let mut piece = &piece[..];
            while !piece.is_empty() {
                let most = max_subtree_len(self.size).unwrap_or(u64::MAX);
                let (hasher, size) = self.open.get_or_insert_with(|| (hasher_at(self.size), 0));
                let now = usize::try_from(most - *size).unwrap_or(usize::MAX).min(piece.len());
                let (bytes, later) = piece.split_at(now);
                hasher.update(bytes);
                *size += now as u64;
                piece = later;
                if *size == most {
                    self.close();
                }
            }
        }
    }

    /// What is open is a subtree.
    fn close(&mut self) {
        if let Some((hasher, size)) = self.open.take() {
            self.join(hasher.finalize_non_root(), size);
        }
    }

    fn join(&mut self, value: ChainingValue, size: u64) {
        while let [.., (left, one), (right, other)] = self.subtrees[..]
            && one == other
        {
            let both = merge_subtrees_non_root(&left, &right, Mode::Hash);
            self.subtrees.truncate(self.subtrees.len() - 2);
            self.subtrees.push((both, one + other));
        }
        self.subtrees.push((value, size));
        self.size += size;
    }
}

fn hasher_at(offset: u64) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(offset);
    hasher
}

/// Whether more can follow what is there: a subtree that has room is the last one.
const fn is_whole(offset: u64, size: u64) -> bool {
    size >= CHUNK && size.is_power_of_two() && offset.is_multiple_of(size)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    /// Parts of these sizes, each with its subtree where it is said.
    fn joined(parts: &[(usize, bool)], wrong: u64) -> (Blake3Hash, Blake3Hash) {
        let size = parts.iter().map(|(size, _)| size).sum();
        let mut bytes = vec![0; size];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        let (mut joined, mut rest, mut offset) = (Joined::default(), Bytes::from(bytes), 0);
        let whole = blake3::hash(&rest).into();
        for (size, is_hashed) in parts {
            let part = Pieces::from(rest.split_to(*size));
            let subtree = if *is_hashed { Subtree::new(offset + wrong, &part) } else { None };
            joined.push(part, subtree);
            offset += *size as u64;
        }
        (joined.finish(), whole)
    }

    #[test]
    fn parts_that_are_hashed_where_they_come_are_the_hash_of_the_whole() {
        let mebibyte = (1 << 20, true);
        for parts in [
            &[][..],
            &[(0, true)],
            &[(5, true)],
            &[mebibyte],
            &[mebibyte, (0, true)],
            &[mebibyte, (1, true)],
            &[mebibyte, mebibyte],
            &[mebibyte, mebibyte, mebibyte, mebibyte, (800_000, true)],
            &[(1 << 20, false), mebibyte, (1 << 20, false), mebibyte, (1024, true)],
            &[(1000, true), (24, true), (1024, true), (2048, true)],
            &[(262_158, true), (262_158, true), (5, true)],
        ] {
            let (found, expected) = joined(parts, 0);
            assert_eq!(found, expected, "{parts:?}");
        }
    }

    proptest! {
        #[test]
        fn any_parts_are_the_hash_of_the_whole(
            parts in prop::collection::vec(
                (prop_oneof![0usize..5000, (0u32..15).prop_map(|power| 1 << power)], any::<bool>()), 0..40),
            wrong in prop_oneof![4 => Just(0), 1 => prop::sample::select(vec![1024, 4096, 1 << 20])],
        ) {
            let (found, expected) = joined(&parts, wrong);
            prop_assert_eq!(found, expected);
        }
    }
}
