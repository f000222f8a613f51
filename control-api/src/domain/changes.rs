//! How far the changes are that edges must know of: committed, and answered by the edge of this process.

use std::time::Duration;

use tokio::sync::watch;
use tracing::{debug, warn};

use super::State;

/// For so long an answer waits for the edge of this process, which needs microseconds. Longer: something is wrong with
/// it, and what is committed stays committed.
const PATIENCE: Duration = Duration::from_secs(2);

/// Revisions of the feed.
pub(crate) struct Changes {
    committed: watch::Sender<u64>,
    /// `None`: there is no edge in this process.
    live: watch::Sender<Option<u64>>,
}

impl Changes {
    /// Everything up to `revision` was committed before.
    pub(crate) fn new(revision: u64) -> Self {
        Self { committed: watch::Sender::new(revision), live: watch::Sender::new(None) }
    }

    /// Changes whenever something was committed.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.committed.subscribe()
    }

    /// Changes up to this revision are committed.
    pub(crate) fn announce(&self, revision: u64) {
        self.committed.send_if_modified(|known| {
            let newer = revision > *known;
            *known = revision.max(*known);
            newer
        });
    }

    /// The edge of this process answers by everything up to this revision. `None`: it takes over nothing any more.
    pub(crate) fn applied(&self, revision: Option<u64>) {
        self.live.send_replace(revision);
    }

    /// Whether there is an edge in this process.
    pub(crate) fn has_edge(&self) -> bool {
        self.live.borrow().is_some()
    }

    /// Returns once the edge of this process knows what is committed now, so that whoever asked for a change and is
    /// answered sees it at once.
    pub(crate) async fn settle(&self) {
        let committed = *self.committed.borrow();
        let mut live = self.live.subscribe();
        let settled = live.wait_for(|live| live.is_none_or(|live| live >= committed));
        if tokio::time::timeout(PATIENCE, settled).await.is_err() {
            warn!(committed, "the edge has not taken over a change yet");
        }
    }
}

/// How often the database is asked what other servers have committed.
const OTHERS: Duration = Duration::from_millis(250);

/// Announces what other servers commit, for ever. An embedded database has no other servers.
pub(crate) async fn follow(state: &State) {
    if !state.store.is_shared() {
        return std::future::pending().await;
    }
    loop {
        tokio::time::sleep(OTHERS).await;
        match state.store.latest_revision().await {
            Ok(revision) => state.changes.announce(revision),
            Err(error) => debug!(%error, "the database does not say what others have committed"),
        }
    }
}
