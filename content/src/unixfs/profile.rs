//! Import profiles (IPIP-499): names for how files and directories become blocks, and so which CIDs they have.

use std::fmt;
use std::str::FromStr;

use af_contract::{Cid, ContentId, HashKind};

use super::chunking::Chunking;

/// How files and directories become blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// `unixfs-v1-2025`: CIDv1, raw leaves, 1 MiB chunks, 1,024 links a node; a directory whose node would have more than
    /// 256 KiB is sharded.
    #[default]
    V1,
    /// `unixfs-v0-2015`: CIDv0, dag-pb leaves, 256 KiB chunks, 174 links a node; a directory is sharded when its names and
    /// CIDs have more than 256 KiB. What Kubo makes by itself.
    V0,
    /// `unixfs-v1-2025` with BLAKE3 as the hash of blocks. Not of the IPIP: its blocks are verified twenty times as fast.
    V1Blake3,
}

/// The text names no profile.
#[derive(Debug, thiserror::Error)]
#[error("there is no profile {name:?}; the profiles are {}", Profile::ALL.map(Profile::name).join(", "))]
pub struct ProfileError {
    name: String,
}

impl Profile {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::V1, Self::V0, Self::V1Blake3];

    /// As the IPIP calls it, where it does.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V1 => "unixfs-v1-2025",
            Self::V0 => "unixfs-v0-2015",
            Self::V1Blake3 => "unixfs-v1-2025-blake3",
        }
    }

    /// The CID of a block as this profile has it: the one that its links to the block are, and that others show.
    #[must_use]
    pub fn cid(self, id: &ContentId) -> Cid {
        Chunking::from(self).cid(id)
    }

    /// The hash of its blocks.
    #[must_use]
    pub const fn hash(self) -> HashKind {
        match self {
            Self::V1 | Self::V0 => HashKind::Sha2_256,
            Self::V1Blake3 => HashKind::Blake3,
        }
    }
}

impl FromStr for Profile {
    type Err = ProfileError;

    fn from_str(text: &str) -> Result<Self, ProfileError> {
        let found = Self::ALL.into_iter().find(|profile| profile.name() == text);
        found.ok_or_else(|| ProfileError { name: text.chars().take(100).collect() })
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_profiles_and_others_are_told_which_there_are() {
        for profile in Profile::ALL {
            assert_eq!(profile.name().parse::<Profile>().unwrap(), profile);
        }
        let error = "unixfs-v2".parse::<Profile>().unwrap_err().to_string();
        assert!(error.contains("unixfs-v0-2015, unixfs-v1-2025-blake3"), "{error}");
    }
}
