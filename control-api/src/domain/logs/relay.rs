//! Lines for other servers of the same database, whom clients may ask as well: in batches that lie in the database for a minute, once
//! a second at most, and only while there are other servers.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use af_contract::LogLine;
use af_contract::logs::{Bounds, Outbox, SentLine};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::super::projects::commit;
use super::super::{Error, State, now};
use crate::store::{StoreError, logs};

/// Between two batches, and between two looks for those of others.
const PAUSE: Duration = Duration::from_secs(1);

/// Between two times that a server says that it is there. Until then, others hand nothing on to it.
const SEEN: Duration = Duration::from_secs(5);

/// A server that has not said so for so long is gone, milliseconds. Clocks of servers may differ by some of it.
const GONE: i64 = 30 * 1000;

/// Batches are kept for so long, milliseconds.
const KEPT: i64 = 60 * 1000;

/// What waits to be handed on.
const BOUNDS: Bounds = Bounds { function: 256 << 10, all: 2 << 20 };

/// A batch: what all edges of a server log in a second, as far as others are told.
const BATCH_BYTES: usize = 1 << 20;
const BATCH_LINES: usize = 8_192;

/// Batches that are read at once.
const READ: i64 = 4;

/// Lines that wait; none while there is no other server.
#[derive(Default)]
pub(super) struct Relay(Mutex<Option<Outbox>>);

/// A line, and the edge of its own that it is from.
type Relayed = (Option<String>, SentLine);

/// What this server knows of the others.
#[derive(Default)]
struct Others {
    /// When it was last said that this one is there.
    seen: Option<Instant>,
    /// Whether there were any then.
    are_there: bool,
    /// Of the last batch that was read.
    after: i64,
}

impl Relay {
    pub(super) fn push(&self, line: &LogLine) {
        if let Some(outbox) = &mut *self.outbox() {
            outbox.push(line.clone());
        }
    }

    fn outbox(&self) -> MutexGuard<'_, Option<Outbox>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hands lines on to other servers, and takes theirs, for ever. An embedded database has no other servers.
pub(crate) async fn follow(state: &State) {
    if !state.store.is_shared() {
        return std::future::pending().await;
    }
    let mut others = Others::default();
    loop {
        if let Err(error) = Box::pin(others.turn(state)).await {
            debug!(%error, "what functions log is not handed on to other servers; trying again");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

impl Others {
    async fn turn(&mut self, state: &State) -> Result<(), Error> {
        if self.seen.is_none_or(|seen| seen.elapsed() >= SEEN) {
            // At the start, what others have of the last minute is read in any case.
            let is_first = self.seen.is_none();
            self.are_there = greet(state).await? || is_first;
            self.seen = Some(Instant::now());
        }
        if self.are_there {
            hand_on(state).await?;
            self.read(state).await?;
        }
        Ok(())
    }

    async fn read(&mut self, state: &State) -> Result<(), StoreError> {
        let newest = state.store.newest_log_batch().await?;
        // Numbers begin anew where the database had to drop the table after a crash.
        self.after = self.after.min(newest);
        while self.after < newest {
            let batches = state.store.log_batches(state.builds.server(), self.after, READ).await?;
            if batches.is_empty() {
                self.after = newest;
            }
            for (number, lines) in batches {
                self.after = number;
                take(state, &lines);
            }
        }
        Ok(())
    }
}

/// Says that this server is there, and looks whether others are.
async fn greet(state: &State) -> Result<bool, Error> {
    let (server, now) = (state.builds.server(), now());
    let mut db = state.store.begin().await?;
    logs::seen(&mut db, server, now, now - 2 * GONE, now - KEPT).await?;
    commit(db).await?;
    let has_others = state.store.has_other_servers(server, now - GONE).await?;
    let mut outbox = state.logs.relay.outbox();
    if !has_others {
        *outbox = None;
    } else if outbox.is_none() {
        *outbox = Some(Outbox::new(BOUNDS));
    }
    Ok(has_others)
}

async fn hand_on(state: &State) -> Result<(), Error> {
    let taken = state.logs.relay.outbox().as_mut().map(|outbox| outbox.take(BATCH_BYTES, BATCH_LINES));
    let Some(lines) = taken.filter(|lines| !lines.is_empty()) else { return Ok(()) };
    let inserted = insert(state, &lines).await;
    if inserted.is_err()
        && let Some(outbox) = &mut *state.logs.relay.outbox()
    {
        outbox.lost(lines);
    }
    inserted
}

async fn insert(state: &State, lines: &[LogLine]) -> Result<(), Error> {
    let relayed = |line: &LogLine| (line.edge.as_deref().map(Into::into), line.into());
    let lines: Vec<Relayed> = lines.iter().map(relayed).collect();
    let json = serde_json::to_vec(&lines).map_err(|error| Error::Internal(error.into()))?;
    let now = now();
    let mut db = state.store.begin().await?;
    logs::insert(&mut db, state.builds.server(), &json, now, now - KEPT).await?;
    commit(db).await
}

/// Takes lines of another server, which has checked them.
fn take(state: &State, json: &[u8]) {
    match serde_json::from_slice::<Vec<Relayed>>(json) {
        Ok(lines) => {
            let read = |(edge, line): Relayed| line.read(edge.map(Into::into), i64::MAX);
            for line in lines.into_iter().filter_map(read) {
                state.logs.kept.push(line);
            }
        }
        Err(error) => warn!(%error, "lines of another server cannot be read; is it of another version?"),
    }
}
