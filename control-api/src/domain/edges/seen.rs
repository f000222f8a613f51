//! When edges asked last: noted in memory with each request, and written down for all of them together, which is one write each ten
//! seconds for an edge, and not one for each request.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::warn;

use super::super::projects::commit;
use super::super::{Error, State, now};
use super::Known;
use crate::store::edges::{self, EdgeSeen};

/// After so long at most it is written down that an edge has asked, for other servers and `af edges list`. That an edge is gone is
/// concluded from that (`domain/calls.rs`).
pub(in crate::domain) const WRITTEN: Duration = Duration::from_secs(10);

/// Which edges have asked, as far as that is not written down yet.
#[derive(Default)]
pub(super) struct Seen(Mutex<HashMap<String, EdgeSeen>>);

impl Seen {
    fn note(&self, edge: &str, seen: EdgeSeen) {
        let mut noted = self.noted();
        let before = noted.get(edge).and_then(|before| before.revision);
        noted.insert(edge.to_owned(), EdgeSeen { revision: seen.revision.or(before), ..seen });
    }

    fn all(&self) -> HashMap<String, EdgeSeen> {
        self.noted().clone()
    }

    /// What is written down now, and was not noted anew meanwhile.
    fn written(&self, noted: &HashMap<String, EdgeSeen>) {
        self.noted().retain(|edge, seen| noted.get(edge) != Some(seen));
    }

    /// An edge was removed.
    pub(super) fn forget(&self, edge: &str) {
        self.noted().remove(edge);
    }

    fn noted(&self) -> MutexGuard<'_, HashMap<String, EdgeSeen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes that an edge has asked, and up to where it knows the feed, if it has said so.
pub(super) async fn note(state: &State, edge: &Known, revision: Option<u64>) -> Result<(), Error> {
    let Known { row: edge, shown } = edge;
    let revision = revision.map(|revision| i64::try_from(revision).unwrap_or(i64::MAX));
    let seen = EdgeSeen { at: now(), revision, version: shown.version.clone() };
    if edge.join_sealed.is_none() {
        state.edges.seen.note(&edge.id, seen);
        return Ok(());
    }
    // Its token to join counts no more from now on: that is no note.
    let mut db = state.store.begin().await?;
    edges::seen(&mut db, &edge.id, &seen).await?;
    commit(db).await
}

/// Writes down what is noted.
///
/// # Errors
/// When the database fails; then it stays noted.
pub(crate) async fn write(state: &State) -> Result<(), Error> {
    let noted = state.edges.seen.all();
    if noted.is_empty() {
        return Ok(());
    }
    let mut db = state.store.begin().await?;
    for (edge, seen) in &noted {
        edges::seen(&mut db, edge, seen).await?;
    }
    commit(db).await?;
    state.edges.seen.written(&noted);
    Ok(())
}

/// Writes down what is noted again and again, for ever.
pub(crate) async fn follow(state: &State) {
    loop {
        tokio::time::sleep(WRITTEN).await;
        if let Err(error) = write(state).await {
            warn!(%error, "it is not written down which edges have asked; trying again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(at: i64, revision: Option<i64>) -> EdgeSeen {
        EdgeSeen { at, revision, version: None }
    }

    #[test]
    fn of_an_edge_there_is_one_note_until_it_is_written_down() {
        let noted = Seen::default();
        noted.note("one", seen(1, Some(7)));
        noted.note("one", seen(2, None));
        noted.note("two", seen(1, None));
        let written = noted.all();
        assert_eq!((written.len(), written.get("one")), (2, Some(&seen(2, Some(7)))));
        // It asks while that is written down.
        noted.note("two", seen(3, None));
        noted.written(&written);
        assert_eq!(noted.all(), HashMap::from([("two".to_owned(), seen(3, None))]));
        noted.forget("two");
        assert!(noted.all().is_empty());
    }
}
