//! Into which blocks files and directories are cut: what a [`Profile`] decides, and what other tools are known to do.

use std::fmt;

use af_contract::{Cid, ContentId, HashKind};
use cid::Version;
use multihash_codetable::Code;

use super::profile::Profile;

/// Links of a node that Kubo and js-ipfs make by themselves.
const KUBO_LINKS: usize = 174;

/// Links of a node under `unixfs-v1-2025`, which Helia and what makes CARs for uploads had before it.
const WIDE_LINKS: usize = 1024;

/// How files and directories become blocks. Made of a [`Profile`], or one of [`Self::known`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunking {
    pub(super) chunk_bytes: usize,
    pub(super) links_per_node: usize,
    pub(super) raw_leaves: bool,
    pub(super) version: Version,
    pub(super) hash: HashKind,
    pub(super) sharded_by: ShardedBy,
}

/// What decides that a directory is sharded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ShardedBy {
    /// Its node, bytes.
    Node,
    /// Its names and CIDs, bytes.
    Names,
}

impl Default for Chunking {
    fn default() -> Self {
        Profile::default().into()
    }
}

impl From<Profile> for Chunking {
    fn from(profile: Profile) -> Self {
        let hash = profile.hash();
        match profile {
            Profile::V1 | Profile::V1Blake3 => Self::new(1 << 20, WIDE_LINKS, true, Version::V1, hash),
            Profile::V0 => Self::new(256 << 10, KUBO_LINKS, false, Version::V0, hash),
        }
    }
}

impl Chunking {
    const fn new(
        chunk_bytes: usize,
        links_per_node: usize,
        raw_leaves: bool,
        version: Version,
        hash: HashKind,
    ) -> Self {
        let sharded_by = if links_per_node == KUBO_LINKS { ShardedBy::Names } else { ShardedBy::Node };
        Self { chunk_bytes, links_per_node, raw_leaves, version, hash, sharded_by }
    }

    /// All that tools are known to use with this hash, the likely ones first: chunks of 256 KiB and 1 MiB, 174 and 1,024
    /// links a node, leaves that are raw or nodes, CIDs of both versions.
    #[must_use]
    pub fn known(hash: HashKind) -> Vec<Self> {
        let mut all: Vec<Self> =
            Profile::ALL.into_iter().filter(|profile| profile.hash() == hash).map(Self::from).collect();
        // CIDv0 is of SHA-256 only. Version 1 with raw leaves is what `ipfs add --cid-version=1` makes.
        let versions: &[Version] =
            if hash == HashKind::Sha2_256 { &[Version::V1, Version::V0] } else { &[Version::V1] };
        for (chunk_bytes, links) in
            [(256 << 10, KUBO_LINKS), (1 << 20, KUBO_LINKS), (1 << 20, WIDE_LINKS), (256 << 10, WIDE_LINKS)]
        {
            for version in versions {
                for raw_leaves in [true, false] {
                    let next = Self::new(chunk_bytes, links, raw_leaves, *version, hash);
                    if !all.contains(&next) {
                        all.push(next);
                    }
                }
            }
        }
        all
    }

    /// Those of [`Self::known`] that give a file of `size` bytes different roots: a small one needs no second reading.
    #[must_use]
    pub fn known_for(size: u64, hash: HashKind) -> Vec<Self> {
        let mut seen = Vec::new();
        let differs = |chunking: &Self| {
            let outcome = chunking.outcome(size);
            let new = !seen.contains(&outcome);
            if new {
                seen.push(outcome);
            }
            new
        };
        Self::known(hash).into_iter().filter(differs).collect()
    }

    /// As it is where what makes no difference to a file of this size is always the same.
    fn outcome(mut self, size: u64) -> Self {
        let chunks = size.div_ceil(self.chunk_bytes as u64);
        if chunks <= KUBO_LINKS as u64 {
            self.links_per_node = KUBO_LINKS;
            // The links of the only node lead to leaves, and raw ones have CIDs of version 1 anyway.
            if self.raw_leaves {
                self.version = Version::V1;
            }
        }
        if chunks <= 1 {
            (self.chunk_bytes, self.version) = (0, Version::V1);
        }
        Self { sharded_by: ShardedBy::Node, ..self }
    }

    /// The CID of a block as this chunking's links to it are.
    #[must_use]
    pub fn cid(self, id: &ContentId) -> Cid {
        match self.version {
            Version::V0 => id.to_cid_v0().unwrap_or_else(|| id.to_cid()),
            Version::V1 => id.to_cid(),
        }
    }

    pub(super) const fn hasher(self) -> Code {
        match self.hash {
            HashKind::Sha2_256 => Code::Sha2_256,
            HashKind::Blake3 => Code::Blake3_256,
        }
    }
}

impl fmt::Display for Chunking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(profile) = Profile::ALL.into_iter().find(|profile| Self::from(*profile) == *self) {
            return write!(f, "{profile}");
        }
        let (kib, links) = (self.chunk_bytes >> 10, self.links_per_node);
        let leaves = if self.raw_leaves { "raw leaves" } else { "leaves that are nodes" };
        let version = if self.version == Version::V0 { 0 } else { 1 };
        write!(f, "chunks of {kib} KiB, {links} links a node, {leaves}, CIDs of version {version}")?;
        if self.hash == HashKind::Blake3 { f.write_str(", BLAKE3") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::import_as;
    use super::*;

    #[test]
    fn all_that_is_known_is_there_once() {
        let of = |hash| Chunking::known(hash);
        assert_eq!((of(HashKind::Sha2_256).len(), of(HashKind::Blake3).len()), (16, 8));
        assert_eq!(of(HashKind::Sha2_256)[..2], [Profile::V1.into(), Profile::V0.into()]);
        assert_eq!(of(HashKind::Blake3)[0], Profile::V1Blake3.into());
    }

    #[test]
    fn what_is_left_out_for_a_size_would_give_no_other_root() {
        for size in [0, 1, 256 << 10, (256 << 10) + 1, 1 << 20, (1 << 20) + 1, 174 * (256 << 10) + 1] {
            let file = vec![7; size];
            let roots = |all: Vec<Chunking>| {
                let root = |chunking| import_as(chunking, &file[..], |_| Ok(())).unwrap().root;
                all.into_iter().map(root).collect::<BTreeSet<_>>()
            };
            let tried = Chunking::known_for(size as u64, HashKind::Sha2_256);
            assert!(size > 1 << 20 || tried.len() <= 5, "{size}: {}", tried.len());
            assert_eq!(roots(tried), roots(Chunking::known(HashKind::Sha2_256)), "{size}");
        }
    }
}
