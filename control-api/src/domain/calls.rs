//! Calls that edges of their own carry out for the scheduler. Whoever asks for work first gets a call, and nobody gets it twice:
//! what an edge was given and then knows nothing of is lost, and ends as a failure. A call's id is its run's, whose row says which edge
//! has it, so that an edge may ask one server of a database and tell another one how it went.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use af_contract::edge::{Awaited, Call, CallEnd, PAUSE, SILENCE, Work, WorkRequest};
use af_contract::trigger::{Answered, Tick};
use futures::future::BoxFuture;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tracing::error;

use super::edges::{self, Known, seen};
use super::projects::commit;
use super::scheduler::{self, Callee};
use super::{Error, State, now, reports};
use crate::store::{Store, StoreError, triggers};

/// For so long a call waits for an edge that asks for work.
const PATIENCE: Duration = Duration::from_secs(60);

/// An edge that no server has heard of for so long is gone, with what it was given: 100 seconds. One that is there gives up on an
/// answer after 70 and asks again within 10; of another server, that is written down within 10 more. The rest is for connecting and
/// writing, and for clocks of servers that differ.
const GONE: Duration =
    Duration::from_secs(SILENCE.as_secs() + PAUSE.as_secs() + seen::WRITTEN.as_secs() + SPARE.as_secs());
const SPARE: Duration = Duration::from_secs(10);

/// A call that has not ended after so long is over, whatever its edge says: no function may take longer, and it may have waited for an
/// edge, and for that to be told of what is to be called.
const OVERDUE: Duration =
    Duration::from_millis(scheduler::LONGEST.unsigned_abs() + 2_000 * PATIENCE.as_secs());

/// An edge that has not asked for work for so long is not likely to do so now: what is due is left to the server that it does ask. Its
/// longest wait, and a while to come back.
const ASKS: Duration = Duration::from_secs(40);

/// Between two looks at either.
const LOOK: Duration = Duration::from_secs(5);

/// Between two looks at what other servers were told.
const OTHERS: Duration = Duration::from_secs(1);

/// An edge waits for work at most for so long.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

const _: () = assert!(
    LONGEST_WAIT.as_secs() < SILENCE.as_secs() && ASKS.as_secs() >= LONGEST_WAIT.as_secs() + PAUSE.as_secs()
);

/// Calls that an edge is given at once; others may have the next ones.
const AT_ONCE: usize = 32;

/// Between two times that an edge is asked for deployments that nobody has reported on.
const OFFERS: Duration = Duration::from_secs(15);

/// Calls of one edge that are looked through for lost ones: as many as run at all.
const OF_EDGE: i64 = 256;

const NEVER: &str = "the edge that was to call it did not say in time how it went";

const LOST: &str = "the edge that was to call it was restarted, or did not get to it";

/// Calls that wait or run.
#[derive(Default)]
pub(crate) struct Calls {
    inner: Mutex<Inner>,
    /// Changes whenever one begins to wait.
    waiting: watch::Sender<u64>,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<(Call, oneshot::Sender<Answered>)>,
    given: HashMap<String, Given>,
    edges: HashMap<String, Seen>,
    /// The last deployment that an edge was asked for.
    asked_for: HashMap<String, String>,
}

/// A call that an edge has.
struct Given {
    edge: String,
    ended: oneshot::Sender<Answered>,
}

/// When an edge asked, how often it has, and when it was asked for deployments.
struct Seen {
    asked: Instant,
    number: u64,
    offered: Option<Instant>,
}

/// A call that is over once this is dropped, whatever became of it.
struct Place<'c> {
    calls: &'c Calls,
    id: String,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut inner = self.calls.inner();
        inner.given.remove(&self.id);
        inner.waiting.retain(|(call, _)| call.id != self.id);
    }
}

/// Calls on their way to an edge. Where the answer cannot be given, others may have them.
struct Taken<'c> {
    calls: &'c Calls,
    taken: Vec<Call>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if self.taken.is_empty() {
            return;
        }
        let mut inner = self.calls.inner();
        for call in self.taken.drain(..).rev() {
            if let Some(given) = inner.given.remove(&call.id) {
                inner.waiting.push_front((call, given.ended));
            }
        }
        drop(inner);
        self.calls.waiting.send_modify(|count| *count += 1);
    }
}

impl Calls {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has an edge call a function.
    async fn call(&self, store: &Store, run: String, tick: Tick) -> Answered {
        let (ended, mut answered) = oneshot::channel();
        let place = Place { calls: self, id: run };
        let call = Call { id: place.id.clone(), tick };
        self.inner().waiting.push_back((call, ended));
        self.waiting.send_modify(|count| *count += 1);
        let begun = Instant::now();
        let look = if store.is_shared() { OTHERS } else { LOOK };
        loop {
            match tokio::time::timeout(look, &mut answered).await {
                Ok(Ok(answered)) => return answered,
                Ok(Err(_dropped)) => return Answered::failed("the call was lost"),
                Err(_elapsed) => {}
            }
            match self.look(store, &place.id, begun).await {
                Ok(Some(answered)) => return answered,
                Ok(None) => {}
                Err(error) => {
                    error!(%error, run = place.id, "it is not known how a call went; looking again")
                }
            }
        }
    }

    /// What other servers were told of a call, or why nobody will end it.
    async fn look(&self, store: &Store, run: &str, begun: Instant) -> Result<Option<Answered>, StoreError> {
        let edge = self.inner().given.get(run).map(|given| given.edge.clone());
        if store.is_shared()
            && edge.is_some()
            && let Some(answered) = told(store, run).await?
        {
            return Ok(Some(answered));
        }
        if begun.elapsed() > OVERDUE {
            return Ok(Some(Answered::failed(NEVER)));
        }
        let Some(reason) = self.inner().hopeless(run, begun) else { return Ok(None) };
        if let Some(edge) = edge
            && store.is_shared()
            && is_seen(store, &edge).await?
        {
            // It asks another server.
            return Ok(None);
        }
        Ok(Some(Answered::failed(reason)))
    }

    /// Whether an edge of its own has asked lately.
    pub(super) fn has_edges(&self) -> bool {
        self.inner().edges.values().any(|seen| seen.asked.elapsed() < GONE)
    }

    /// Whether an edge is likely to ask for what is due now.
    fn is_asked(&self) -> bool {
        self.inner().edges.values().any(|seen| seen.asked.elapsed() < ASKS)
    }

    /// An edge asked. What it was given and does not have is lost. Returns the number of its question.
    async fn seen(&self, store: &Store, edge: &str, running: &[String]) -> Result<u64, StoreError> {
        let number = {
            let mut inner = self.inner();
            let first = || Seen { asked: Instant::now(), number: 0, offered: None };
            let seen = inner.edges.entry(edge.to_owned()).or_insert_with(first);
            seen.asked = Instant::now();
            seen.number += 1;
            seen.number
        };
        let running: HashSet<&str> = running.iter().map(String::as_str).collect();
        if store.is_shared() {
            // Also what another server has given it.
            for run in store.given(edge, OF_EDGE).await? {
                if !running.contains(run.as_str()) {
                    store.lose_call(&run, edge, LOST).await?;
                }
            }
        }
        let is_lost = |(id, given): (&String, &Given)| {
            (given.edge == edge && !running.contains(id.as_str())).then(|| id.clone())
        };
        let lost: Vec<String> = self.inner().given.iter().filter_map(is_lost).collect();
        for id in lost {
            // It may have told another server how it went.
            let known = if store.is_shared() { told(store, &id).await? } else { None };
            if let Some(given) = self.inner().given.remove(&id) {
                // Whoever waited may have given up.
                let _gone = given.ended.send(known.unwrap_or_else(|| Answered::failed(LOST)));
            }
        }
        Ok(number)
    }

    /// Whether an edge has not asked again since: an answer to an older question reaches nobody.
    fn is_newest(&self, edge: &str, number: u64) -> bool {
        self.inner().edges.get(edge).is_some_and(|seen| seen.number == number)
    }

    /// Gives an edge what waits, if this is its newest question.
    fn take(&self, edge: &str, number: u64) -> Taken<'_> {
        let mut inner = self.inner();
        if inner.edges.get(edge).is_none_or(|seen| seen.number != number) {
            return Taken { calls: self, taken: Vec::new() };
        }
        let count = inner.waiting.len().min(AT_ONCE);
        let taken: Vec<_> = inner.waiting.drain(..count).collect();
        let given = taken.into_iter().map(|(call, ended)| {
            inner.given.insert(call.id.clone(), Given { edge: edge.to_owned(), ended });
            call
        });
        Taken { taken: given.collect(), calls: self }
    }

    /// Ends a call that this edge was given here. Returns whether it was.
    fn end(&self, edge: &str, end: &CallEnd) -> bool {
        let mut inner = self.inner();
        if inner.given.get(&end.id).is_some_and(|given| given.edge == edge)
            && let Some(given) = inner.given.remove(&end.id)
        {
            let _gone = given.ended.send(end.answered.clone());
            return true;
        }
        false
    }

    /// An edge was removed: what it was given does not count.
    pub(super) fn forget(&self, edge: &str) {
        let mut inner = self.inner();
        inner.edges.remove(edge);
        inner.asked_for.remove(edge);
        inner.given.retain(|_, given| given.edge != edge);
    }

    /// The last deployment that an edge was asked for.
    pub(super) fn asked_for(&self, edge: &str) -> String {
        self.inner().asked_for.get(edge).cloned().unwrap_or_default()
    }

    /// An edge was asked for deployments, up to this one.
    pub(super) fn ask_for(&self, edge: &str, last: String) {
        self.inner().asked_for.insert(edge.to_owned(), last);
    }

    /// When an edge is to be asked for deployments next.
    fn offer_at(&self, edge: &str) -> Instant {
        let offered = self.inner().edges.get(edge).and_then(|seen| seen.offered);
        offered.map_or_else(Instant::now, |offered| offered + OFFERS)
    }

    /// An edge is asked for deployments.
    fn offer(&self, edge: &str) {
        if let Some(seen) = self.inner().edges.get_mut(edge) {
            seen.offered = Some(Instant::now());
        }
    }
}

impl Inner {
    /// Why nobody will end this call.
    fn hopeless(&self, id: &str, begun: Instant) -> Option<&'static str> {
        match self.given.get(id) {
            Some(given) => {
                let asked = self.edges.get(&given.edge).map(|seen| seen.asked);
                let gone = asked.is_none_or(|asked| asked.elapsed() > GONE);
                gone.then_some("the edge that was to call it has gone away")
            }
            None => {
                let late = begun.elapsed() > PATIENCE;
                late.then_some("no edge has asked for work; is one connected? `af edges list` shows them")
            }
        }
    }
}

/// How a call ended, if it has, as far as the database knows.
async fn told(store: &Store, run: &str) -> Result<Option<Answered>, StoreError> {
    let row = store.run(run).await?.filter(|row| row.outcome != "running");
    Ok(row.map(|row| Answered {
        status: row.status.and_then(|status| u16::try_from(status).ok()),
        error: row.error,
    }))
}

/// Whether some server has heard of an edge lately.
async fn is_seen(store: &Store, edge: &str) -> Result<bool, StoreError> {
    let gone = now() - i64::try_from(GONE.as_millis()).unwrap_or(i64::MAX);
    Ok(store.edge(edge).await?.and_then(|row| row.seen_at).is_some_and(|seen| seen > gone))
}

/// Writes down how a call ended, whichever server has given it.
///
/// # Errors
/// When the database fails; then it may be said again.
pub(super) async fn end(state: &State, edge: &str, end: &CallEnd) -> Result<(), Error> {
    let Answered { status, error } = &end.answered;
    let answered = Answered { status: *status, error: error.as_deref().map(reports::bounded) };
    let end = CallEnd { id: end.id.clone(), answered };
    // Before the edge is told that it is: it forgets it then.
    state.store.end_call(&end.id, edge, &end.answered, state.scheduler.clock.now()).await?;
    let _is_ours = state.calls.end(edge, &end);
    Ok(())
}

/// Edges of their own as the scheduler calls them.
pub(crate) struct Remote {
    pub(crate) calls: Arc<Calls>,
    pub(crate) store: Store,
}

impl Callee for Remote {
    fn call(&self, run: &str, tick: Tick) -> BoxFuture<'static, Answered> {
        let (calls, store, run) = (self.calls.clone(), self.store.clone(), run.to_owned());
        Box::pin(async move { calls.call(&store, run, tick).await })
    }

    fn can_call(&self) -> bool {
        self.calls.is_asked()
    }
}

/// What an edge is to do, sealed to it, once there is anything or its time is over.
///
/// # Errors
/// When the edge is removed meanwhile, or the database fails.
pub async fn work(state: &State, edge: &Known, proof: &str, wanted: &WorkRequest) -> Result<Vec<u8>, Error> {
    let calls = &state.calls;
    let number = calls.seen(&state.store, edge.id(), &wanted.running).await?;
    let until = Instant::now() + Duration::from_millis(wanted.wait_ms).min(LONGEST_WAIT);
    let awaited = wait(state, edge, number, until).await?;
    edges::check(state, edge).await?;
    let taken = calls.take(edge.id(), number);
    // After that: what is to be called may be as new as this.
    let revision = state.store.latest_revision().await?;
    let work = Work { revision, calls: taken.taken.clone(), awaited };
    let answer = edges::sealed(state, edge, proof, &work).await?;
    give(state, edge, taken).await?;
    Ok(answer)
}

/// Returns once an edge has something to do: the deployments that it is asked for.
async fn wait(state: &State, edge: &Known, number: u64, until: Instant) -> Result<Vec<Awaited>, Error> {
    let calls = &state.calls;
    let mut waiting = calls.waiting.subscribe();
    let mut removed = state.edges.removals();
    let mut stopping = state.stopping.subscribe();
    let mut over = false;
    loop {
        waiting.mark_unchanged();
        removed.mark_unchanged();
        // Also of an edge that was removed meanwhile.
        if over || !calls.is_newest(edge.id(), number) {
            return Ok(Vec::new());
        }
        let offer = calls.offer_at(edge.id());
        if offer <= Instant::now() {
            calls.offer(edge.id());
            let awaited = reports::awaited(state, edge.id()).await?;
            if !awaited.is_empty() {
                return Ok(awaited);
            }
            continue;
        }
        if !calls.inner().waiting.is_empty() {
            return Ok(Vec::new());
        }
        tokio::select! {
            // The senders are in the state.
            _changed = waiting.changed() => {}
            _changed = removed.changed() => over = true,
            _stopping = stopping.wait_for(|stopping| *stopping) => over = true,
            () = tokio::time::sleep_until(until.min(offer)) => over = Instant::now() >= until,
        }
    }
}

/// Writes down which edge has calls. From then on they are its.
async fn give(state: &State, edge: &Known, mut taken: Taken<'_>) -> Result<(), Error> {
    if taken.taken.is_empty() {
        return Ok(());
    }
    let mut db = state.store.begin().await?;
    for call in &taken.taken {
        triggers::give(&mut db, &call.id, edge.id()).await?;
    }
    commit(db).await?;
    taken.taken.clear();
    Ok(())
}

#[cfg(test)]
mod tests;
