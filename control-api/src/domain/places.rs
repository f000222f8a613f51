//! Other places that hold content: what they are to hold follows from pins and deployments, and each of them is asked
//! until it does. A row remembers how far it is, so that a restart goes on where the last one stopped.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use af_content::sink::{Held, Pin, Sink, SinkError, State as HeldState};
use af_contract::ContentId;
use tokio::sync::watch;
use tokio::task::{self, JoinSet};
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

use super::projects::commit;
use super::{Error, State, now};
use crate::store::placements::PlaceKind;
use crate::store::{PlacementRow, placements};

/// Requests to one place at the same time: each may send a whole DAG.
const AT_ONCE: usize = 4;

/// Rows read at a time: more than those at work, which are among them.
const BATCH: i64 = 50;

/// After the first failure, milliseconds; then twice as long each time.
const FIRST_RETRY: i64 = 2_000;

/// Between two attempts at most: a place that was away for a day is found again within the hour.
const LAST_RETRY: i64 = 3_600_000;

/// The same while a place says that it is on its way.
const FIRST_LOOK: i64 = 1_000;
const LAST_LOOK: i64 = 300_000;

/// Until a place is asked whether it still has what it had.
const CONFIRM: i64 = 24 * 3_600_000;

/// One attempt, whatever the place does: ten gigabytes at half a megabyte per second.
const ATTEMPT: Duration = Duration::from_secs(6 * 3_600);

/// How long another server of the same database waits after this one has said that it is at work on a row.
const LEASE: Duration = Duration::from_secs(60);

/// After the database failed.
const PAUSE: Duration = Duration::from_secs(2);

/// Without a change, the longest sleep, and the time between two comparisons: the clock may be set, and another server of the same
/// database may have deployed something.
const LOOK: Duration = Duration::from_secs(60);

/// How many times as long as a comparison took there is none, whatever is deployed: a tenth of one core at most.
const SHARE: u32 = 9;

/// The places, and how their worker is woken.
#[derive(Debug)]
pub struct Places {
    sinks: Vec<Arc<dyn Sink>>,
    changed: watch::Sender<()>,
}

impl Places {
    pub(crate) fn new(sinks: Vec<Arc<dyn Sink>>) -> Self {
        Self { sinks, changed: watch::Sender::new(()) }
    }

    /// What they are called.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.sinks.iter().map(|sink| sink.name())
    }

    /// Queues the content if it is to be held now, or no longer, and has it done.
    pub(super) async fn reconcile(&self, state: &State, cid: String) -> Result<(), Error> {
        if self.sinks.is_empty() {
            return Ok(());
        }
        let (mut db, cids) = (state.store.begin().await?, [cid]);
        for sink in &self.sinks {
            placements::reconcile(&mut db, kind(sink.as_ref()), &cids, now()).await?;
        }
        commit(db).await?;
        self.changed.send_replace(());
        Ok(())
    }
}

/// Has content held, for ever. What is cut off is done again after the next start: nothing is lost by that.
pub(crate) async fn hold(state: &Arc<State>) {
    let sinks = &state.storage.places.sinks;
    if sinks.is_empty() {
        return std::future::pending().await;
    }
    futures::future::join_all(sinks.iter().map(|sink| at_place(state, sink))).await;
}

/// Has content held at one place. A slow attempt holds up no other one.
async fn at_place(state: &Arc<State>, sink: &Arc<dyn Sink>) {
    let mut deployed = state.changes.subscribe();
    let mut changed = state.storage.places.changed.subscribe();
    // Tasks of their own: one that has the database's only writer goes on while it is waited for here. Dropped, they end.
    let mut running = JoinSet::new();
    let mut busy = HashMap::new();
    let (mut compare_at, mut took) = (Instant::now(), Duration::ZERO);
    loop {
        changed.mark_unchanged();
        let began = Instant::now();
        if began >= compare_at {
            deployed.mark_unchanged();
            match Box::pin(compare(state, sink.as_ref())).await {
                Ok(()) => (compare_at, took) = (Instant::now() + LOOK, began.elapsed()),
                Err(error) => {
                    told(&error);
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            }
        }
        let next = look(state, sink.as_ref(), &busy, AT_ONCE - running.len()).await.unwrap_or_else(|error| {
            told(&error);
            Next { due: Vec::new(), at: Some(now() + FIRST_RETRY) }
        });
        for row in next.due {
            let (cid, state, sink) = (row.cid.clone(), Arc::clone(state), Arc::clone(sink));
            let task = running.spawn(async move { Box::pin(leased(&state, sink.as_ref(), row)).await });
            busy.insert(task.id(), cid);
        }
        let left = next.at.map_or(LOOK, |at| {
            Duration::from_millis(u64::try_from(at - now()).unwrap_or_default()).min(LOOK)
        });
        let left = left.min(compare_at.saturating_duration_since(Instant::now()));
        tokio::select! {
            Some(ended) = running.join_next_with_id() => {
                busy.remove(&ended.as_ref().map_or_else(task::JoinError::id, |(id, _)| *id));
                let done = ended.map_err(|error| Error::Internal(Box::new(error))).and_then(|(_, done)| done);
                if let Err(error) = done {
                    told(&error);
                    // Its row is still due.
                    tokio::time::sleep(PAUSE).await;
                }
            }
            () = tokio::time::sleep(left), if running.len() < AT_ONCE => {}
            _ = changed.changed() => {}
            // A deployment is a reason to hold something, or to hold it no longer.
            gone = deployed.changed() => {
                if gone.is_err() {
                    return;
                }
                compare_at = compare_at.min(Instant::now() + took.saturating_mul(SHARE));
            }
        }
    }
}

/// What to do at a place.
struct Next {
    due: Vec<PlacementRow>,
    /// When there is more to do.
    at: Option<i64>,
}

/// The CIDs at work, by their tasks.
type Busy = HashMap<task::Id, String>;

/// Brings what a place is to hold in line with pins and deployments, whenever these were made: also with those from before it was
/// configured. Reads page by page, and takes the turn to write only for a page with something in it to be changed.
async fn compare(state: &State, sink: &dyn Sink) -> Result<(), Error> {
    let place = kind(sink);
    for found in [Found::Lacking, Found::Unwanted] {
        let mut after = String::new();
        loop {
            let page = match found {
                Found::Lacking => state.store.lacking(place, &after).await?,
                Found::Unwanted => state.store.unwanted(place, &after).await?,
            };
            if !page.cids.is_empty() {
                let mut db = state.store.begin().await?;
                placements::reconcile(&mut db, place, &page.cids, now()).await?;
                commit(db).await?;
            }
            let Some(next) = page.next else { break };
            after = next;
        }
    }
    Ok(())
}

/// What is looked for at a place.
#[derive(Clone, Copy)]
enum Found {
    /// It is wanted there, and not known there.
    Lacking,
    /// It is there, and nobody wants it.
    Unwanted,
}

async fn look(state: &State, sink: &dyn Sink, busy: &Busy, room: usize) -> Result<Next, Error> {
    let now = now();
    let mut due = state.store.due_placements(sink.name(), now, BATCH).await?;
    due.retain(|row| !busy.values().any(|cid| *cid == row.cid));
    due.truncate(room);
    Ok(Next { due, at: state.store.next_placement(sink.name(), now).await? })
}

fn kind(sink: &dyn Sink) -> PlaceKind<'_> {
    PlaceKind { name: sink.name(), documents: sink.holds_documents() }
}

fn told(error: &Error) {
    let source = std::error::Error::source(error);
    error!(%error, ?source, "other places cannot be looked after; trying again");
}

/// One step of one row, unless another server of the database is at it: what is sent twice is paid for twice.
async fn leased(state: &Arc<State>, sink: &dyn Sink, row: PlacementRow) -> Result<(), Error> {
    if !state.store.is_shared() {
        return Box::pin(attempt(state, sink, row)).await;
    }
    let now = now();
    let until = lease_from(now);
    let mut db = state.store.begin().await?;
    let taken = placements::take(&mut db, &row, now, until).await?;
    commit(db).await?;
    if !taken {
        return Ok(());
    }
    let lease = Arc::new(AtomicI64::new(until));
    // A task of its own, because the attempt may have the turn to write that it waits for.
    let keeping = tokio::spawn(keep(Arc::clone(state), row.clone(), Arc::clone(&lease)));
    let mut keeping = AbortOnDropHandle::new(keeping);
    let done = tokio::select! {
        done = Box::pin(attempt(state, sink, row.clone())) => done,
        _lost = &mut keeping => return Ok(()),
    };
    drop(keeping);
    let mut db = state.store.begin().await?;
    placements::keep(&mut db, &row, lease.load(Ordering::Relaxed), 0).await?;
    commit(db).await?;
    done
}

/// Says again and again that this server is at work on a row. Ends when it was away for so long that another one is.
async fn keep(state: Arc<State>, row: PlacementRow, lease: Arc<AtomicI64>) {
    loop {
        tokio::time::sleep(LEASE / 3).await;
        let next = lease_from(now());
        let kept = async {
            let mut db = state.store.begin().await?;
            let kept = placements::keep(&mut db, &row, lease.load(Ordering::Relaxed), next).await?;
            commit(db).await?;
            Ok::<_, Error>(kept)
        };
        match kept.await {
            Ok(true) => lease.store(next, Ordering::Relaxed),
            Ok(false) => return,
            Err(error) => told(&error),
        }
    }
}

fn lease_from(now: i64) -> i64 {
    now.saturating_add(i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX))
}

/// One step of one row.
async fn attempt(state: &State, sink: &dyn Sink, mut row: PlacementRow) -> Result<(), Error> {
    let before = row.state.clone();
    let root = ContentId::parse(&row.cid).map_err(|error| Error::Internal(Box::new(error)))?;
    let name = state.store.pin_name(&row.cid).await?.unwrap_or_else(|| row.cid.clone());
    let mut pin = Pin { root, name, request: row.request.clone() };
    if before == "REMOVING" && row.permanent {
        return leave(state, row).await;
    }
    if matches!(before.as_str(), "QUEUED" | "FAILED") {
        match tokio::time::timeout(ATTEMPT, sink.prepare(&pin)).await {
            Ok(Ok(request)) => remember(state, &mut row, &mut pin, request).await?,
            Ok(Err(error)) => return written(state, fail(at_now(row), &error), &before).await,
            Err(_elapsed) => return written(state, fail(at_now(row), &too_long()), &before).await,
        }
    }
    let asked = async {
        match before.as_str() {
            "REMOVING" => sink.remove(&pin).await.map(|()| None),
            "PINNING" | "PINNED" => sink.status(&pin).await.map(Some),
            _ => sink.put(&pin).await.map(Some),
        }
    };
    let answer = tokio::time::timeout(ATTEMPT, asked).await;
    let row = at_now(row);
    let row = match answer {
        Ok(Ok(None)) => {
            let mut db = state.store.begin().await?;
            placements::delete(&mut db, &row).await?;
            return commit(db).await;
        }
        Ok(Ok(Some(held))) => settle(row, held),
        Ok(Err(error)) => fail(row, &error),
        Err(_elapsed) => fail(row, &too_long()),
    };
    written(state, row, &before).await
}

/// What an attempt came to. Somebody may have unpinned it meanwhile; then it has to be known what to remove.
async fn written(state: &State, row: PlacementRow, before: &str) -> Result<(), Error> {
    let mut db = state.store.begin().await?;
    placements::remember(&mut db, &row).await?;
    placements::update(&mut db, &row, before).await?;
    commit(db).await
}

/// What it will be called there is known before anything is sent.
async fn remember(
    state: &State,
    row: &mut PlacementRow,
    pin: &mut Pin,
    request: Option<String>,
) -> Result<(), Error> {
    if request == row.request {
        return Ok(());
    }
    (row.request, pin.request) = (request.clone(), request);
    let mut db = state.store.begin().await?;
    placements::remember(&mut db, row).await?;
    commit(db).await
}

/// Nobody wants it any more, and nobody can remove it. Who wants it again finds it there.
async fn leave(state: &State, mut row: PlacementRow) -> Result<(), Error> {
    warn!(
        cid = row.cid,
        place = row.place,
        "content that was unpinned stays where it cannot be removed from"
    );
    row.state = "LEFT".into();
    (row.error, row.updated_at, row.next_at) = (None, now(), i64::MAX);
    written(state, row, "REMOVING").await
}

fn at_now(row: PlacementRow) -> PlacementRow {
    PlacementRow { updated_at: now(), ..row }
}

fn too_long() -> SinkError {
    SinkError::Unexpected("nothing for six hours".into())
}

/// What a place says becomes the row's.
fn settle(mut row: PlacementRow, held: Held) -> PlacementRow {
    row.request = held.request.or(row.request.take());
    row.detail = held.detail;
    row.permanent |= held.permanent;
    match held.state {
        HeldState::Pinned => {
            if row.state != "PINNED" {
                info!(cid = row.cid, place = row.place, "content is held at another place");
            }
            (row.attempts, row.error) = (0, None);
            row.state = "PINNED".into();
            row.next_at = row.updated_at + jittered(CONFIRM);
        }
        HeldState::Queued | HeldState::Pinning => {
            row.attempts = if row.state == "PINNING" { row.attempts.saturating_add(1) } else { 0 };
            row.error = None;
            row.state = "PINNING".into();
            row.next_at = row.updated_at + backoff(row.attempts, FIRST_LOOK, LAST_LOOK);
        }
        HeldState::Failed(reason) => return failed(row, reason, None),
        HeldState::Absent => {
            row.request = None;
            return failed(row, "it is not held there any more".into(), None);
        }
    }
    row
}

fn fail(row: PlacementRow, error: &SinkError) -> PlacementRow {
    let wait = match error {
        SinkError::Busy(wait) => *wait,
        _ => None,
    };
    failed(row, error.to_string(), wait)
}

/// It is tried again, later and later.
fn failed(mut row: PlacementRow, reason: String, wait: Option<Duration>) -> PlacementRow {
    warn!(
        cid = row.cid,
        place = row.place,
        attempts = row.attempts,
        reason,
        "content could not be held elsewhere"
    );
    let wait = wait.map_or(0, |wait| i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)).min(LAST_RETRY);
    row.next_at = row.updated_at + backoff(row.attempts, FIRST_RETRY, LAST_RETRY).max(wait);
    row.attempts = row.attempts.saturating_add(1);
    row.error = Some(reason);
    // What cannot be removed yet is still to be removed, and what cannot be looked at may still be there.
    if row.state != "REMOVING" {
        row.state = "FAILED".into();
    }
    row
}

/// Twice as long each time, and not all at once.
fn backoff(attempts: i64, first: i64, last: i64) -> i64 {
    let doublings = u32::try_from(attempts).unwrap_or(u32::MAX).min(30);
    jittered(first.saturating_mul(1_i64 << doublings).min(last))
}

/// Half of it to all of it.
fn jittered(millis: i64) -> i64 {
    let mut random = [0; 4];
    // Without randomness all come at once, which is no reason not to come.
    if getrandom::fill(&mut random).is_err() {
        random = [0; 4];
    }
    let half = millis / 2;
    half + i64::from(u32::from_le_bytes(random)) * half / i64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> PlacementRow {
        PlacementRow {
            cid: "cid".into(),
            place: "place".into(),
            state: "QUEUED".into(),
            request: None,
            detail: None,
            permanent: false,
            attempts: 0,
            error: None,
            next_at: 0,
            updated_at: 0,
        }
    }

    #[test]
    fn failures_are_tried_again_later_and_later() {
        let mut row = row();
        for attempts in 1..40 {
            row = fail(row, &SinkError::Unexpected("nothing".into()));
            let most = FIRST_RETRY.saturating_mul(1 << (attempts - 1).min(30)).min(LAST_RETRY);
            assert!((most / 2..=most).contains(&row.next_at), "{attempts}: {}", row.next_at);
            assert_eq!((row.state.as_str(), row.attempts), ("FAILED", attempts));
        }
        row = fail(row, &SinkError::Busy(Some(Duration::from_secs(86_400))));
        assert!(row.next_at <= LAST_RETRY, "nobody can have it put off for ever");
        row = settle(row, Held::new(HeldState::Queued, Some("one".into())));
        assert_eq!((row.state.as_str(), row.error.as_deref(), row.attempts), ("PINNING", None, 0));
        row = settle(row, Held::new(HeldState::Pinned, None));
        assert_eq!((row.state.as_str(), row.request.as_deref()), ("PINNED", Some("one")));
        row = settle(row, Held::new(HeldState::Absent, None));
        assert_eq!((row.state.as_str(), row.request.as_deref()), ("FAILED", None), "it is put there again");
    }

    #[test]
    fn what_cannot_be_removed_yet_stays_to_be_removed() {
        let mut row = row();
        row.state = "REMOVING".into();
        row = fail(row, &SinkError::Busy(None));
        assert_eq!(row.state, "REMOVING");
    }
}
