//! Proofs of edges that count once, at all servers of a database. What this one knows of needs no question, and bounds how many there
//! are; others are known by the database, where there may be others. On SQLite, a restart forgets those of the last minutes.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use af_contract::edge::Shown;
use ring::digest::{SHA256, digest};

/// Of one edge: within the three minutes that a proof may count, an edge that reports all the time sends a few thousand.
const MOST: usize = 8192;

/// Proofs that have expired are forgotten at most so often, seconds.
const OFTEN: i64 = 10;

/// Proofs that were used.
#[derive(Default)]
pub(super) struct UsedProofs {
    edges: Mutex<HashMap<String, Used>>,
}

#[derive(Default)]
struct Used {
    /// Hashes of their ids, and until when they count.
    proofs: HashMap<[u8; 16], i64>,
    forgotten: i64,
}

/// A proof that this server has not seen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) hash: [u8; 16],
    /// Not at each proof.
    pub(super) forgets: bool,
}

/// Why a proof cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It was used before.
    Again,
    /// So many were used that no further one can be remembered.
    TooMany,
}

impl UsedProofs {
    /// Uses an edge's proof, which was verified at this second. Returns what the database knows it by, and whether it is time to forget
    /// old ones there.
    pub(super) fn take(&self, edge: &str, proof: &Shown, now: i64) -> Result<Taken, Refused> {
        let mut id = [0; 16];
        // Ids of edges have no such byte.
        let hash = digest(&SHA256, format!("{edge}\0{}", proof.id).as_bytes());
        id.iter_mut().zip(hash.as_ref()).for_each(|(byte, hash)| *byte = *hash);
        let mut forgets = false;
        let mut edges = self.edges();
        let used = edges.entry(edge.to_owned()).or_default();
        if now.saturating_sub(used.forgotten) >= OFTEN {
            used.proofs.retain(|_, until| *until >= now);
            used.forgotten = now;
            forgets = true;
        }
        if used.proofs.contains_key(&id) {
            return Err(Refused::Again);
        }
        if used.proofs.len() >= MOST {
            return Err(Refused::TooMany);
        }
        used.proofs.insert(id, proof.until);
        Ok(Taken { hash: id, forgets })
    }

    /// An edge was removed.
    pub(super) fn forget(&self, edge: &str) {
        self.edges().remove(edge);
    }

    fn edges(&self) -> MutexGuard<'_, HashMap<String, Used>> {
        self.edges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use af_contract::edge::Bound;

    use super::*;

    fn proof(id: impl ToString, until: i64) -> Shown {
        Shown { bound: Bound::to("POST", "/"), id: id.to_string(), until, version: None }
    }

    #[test]
    fn a_proof_counts_once_for_as_long_as_it_counts() {
        let used = UsedProofs::default();
        assert!(used.take("one", &proof("a", 100), 0).is_ok());
        for now in [0, 50, 100] {
            assert_eq!(used.take("one", &proof("a", 100), now), Err(Refused::Again), "{now}");
        }
        assert!(used.take("one", &proof("b", 100), 100).is_ok());
        assert!(used.take("two", &proof("a", 100), 100).is_ok(), "each edge has its own");
        used.forget("one");
        assert_eq!(used.edges().len(), 1);
    }

    #[test]
    fn what_is_remembered_of_an_edge_is_bounded() {
        let used = UsedProofs::default();
        for id in 0..MOST {
            assert!(used.take("one", &proof(id, 100), 50).is_ok());
        }
        assert_eq!(used.take("one", &proof("more", 100), 50), Err(Refused::TooMany));
        assert_eq!(used.take("one", &proof(0, 100), 50), Err(Refused::Again), "none is forgotten for it");
        assert!(used.take("one", &proof("more", 200), 101).is_ok());
        assert_eq!(used.edges().values().map(|used| used.proofs.len()).sum::<usize>(), 1);
    }
}
