//! Calls that edges of their own carry out for the scheduler. Whoever asks for work first gets a call, and nobody gets it twice:
//! what an edge was given and then knows nothing of is lost, and ends as a failure.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use af_contract::edge::{Awaited, Call, CallEnd, Work, WorkRequest};
use af_contract::trigger::{Answered, Tick};
use futures::future::BoxFuture;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::edges::{self, Known};
use super::scheduler::Callee;
use super::{Error, State, id, reports};

/// For so long a call waits for an edge that asks for work.
const PATIENCE: Duration = Duration::from_secs(60);

/// An edge that has not asked for work for so long is gone, with what it was given.
const GONE: Duration = Duration::from_secs(90);

/// Between two looks at either.
const LOOK: Duration = Duration::from_secs(5);

/// An edge waits for work at most for so long.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Calls that an edge is given at once; others may have the next ones.
const AT_ONCE: usize = 32;

/// Between two times that an edge is asked for deployments that nobody has reported on.
const OFFERS: Duration = Duration::from_secs(15);

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
}

/// A call that an edge has.
struct Given {
    edge: String,
    ended: oneshot::Sender<Answered>,
}

/// When an edge asked, and when it was asked for deployments.
struct Seen {
    asked: Instant,
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

impl Calls {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has an edge call a function.
    async fn call(&self, tick: Tick) -> Answered {
        let (ended, mut answered) = oneshot::channel();
        let place = Place { calls: self, id: id::new("call") };
        let call = Call { id: place.id.clone(), tick };
        self.inner().waiting.push_back((call, ended));
        self.waiting.send_modify(|count| *count += 1);
        let begun = Instant::now();
        loop {
            match tokio::time::timeout(LOOK, &mut answered).await {
                Ok(Ok(answered)) => return answered,
                Ok(Err(_dropped)) => return Answered::failed("the call was lost"),
                Err(_elapsed) => {}
            }
            if let Some(reason) = self.inner().hopeless(&place.id, begun) {
                return Answered::failed(reason);
            }
        }
    }

    /// Whether an edge of its own has asked lately.
    pub(super) fn has_edges(&self) -> bool {
        self.inner().edges.values().any(|seen| seen.asked.elapsed() < GONE)
    }

    /// An edge asked. What it was given and does not have is lost.
    fn seen(&self, edge: &str, running: &[String]) {
        let mut inner = self.inner();
        let running: HashSet<&str> = running.iter().map(String::as_str).collect();
        let is_lost = |id: &String, given: &mut Given| given.edge == edge && !running.contains(id.as_str());
        let lost: Vec<Given> = inner.given.extract_if(is_lost).map(|(_, given)| given).collect();
        let seen = inner
            .edges
            .entry(edge.to_owned())
            .or_insert_with(|| Seen { asked: Instant::now(), offered: None });
        seen.asked = Instant::now();
        drop(inner);
        for given in lost {
            // Whoever waited may have given up.
            let _gone = given
                .ended
                .send(Answered::failed("the edge that was to call it was restarted, or did not get to it"));
        }
    }

    /// Gives an edge what waits.
    fn take(&self, edge: &str) -> Vec<Call> {
        let mut inner = self.inner();
        let count = inner.waiting.len().min(AT_ONCE);
        let taken: Vec<_> = inner.waiting.drain(..count).collect();
        let given = taken.into_iter().map(|(call, ended)| {
            inner.given.insert(call.id.clone(), Given { edge: edge.to_owned(), ended });
            call
        });
        given.collect()
    }

    /// Ends a call that this edge was given.
    pub(super) fn end(&self, edge: &str, end: &CallEnd) {
        let mut inner = self.inner();
        if inner.given.get(&end.id).is_some_and(|given| given.edge == edge)
            && let Some(given) = inner.given.remove(&end.id)
        {
            let _gone = given.ended.send(end.answered.clone());
        }
    }

    /// An edge was removed: what it was given does not count.
    pub(super) fn forget(&self, edge: &str) {
        let mut inner = self.inner();
        inner.edges.remove(edge);
        inner.given.retain(|_, given| given.edge != edge);
    }

    /// Whether an edge is to be asked for deployments now.
    fn offers(&self, edge: &str) -> bool {
        let mut inner = self.inner();
        let Some(seen) = inner.edges.get_mut(edge) else { return false };
        let due = seen.offered.is_none_or(|offered| offered.elapsed() >= OFFERS);
        if due {
            seen.offered = Some(Instant::now());
        }
        due
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

/// Edges of their own as the scheduler calls them.
pub(crate) struct Remote(pub(crate) Arc<Calls>);

impl Callee for Remote {
    fn call(&self, tick: Tick) -> BoxFuture<'static, Answered> {
        let calls = self.0.clone();
        Box::pin(async move { calls.call(tick).await })
    }
}

/// What an edge is to do, sealed to it, once there is anything or its time is over.
///
/// # Errors
/// When the edge is removed meanwhile, or the database fails.
pub async fn work(state: &State, edge: &Known, proof: &str, wanted: &WorkRequest) -> Result<Vec<u8>, Error> {
    let calls = &state.calls;
    calls.seen(edge.id(), &wanted.running);
    let mut waiting = calls.waiting.subscribe();
    let mut removed = state.edges.removals();
    let mut stopping = state.stopping.subscribe();
    let awaited: Vec<Awaited> =
        if calls.offers(edge.id()) { reports::awaited(state).await? } else { Vec::new() };
    let until = Instant::now() + Duration::from_millis(wanted.wait_ms).min(LONGEST_WAIT);
    let mut over = !awaited.is_empty();
    loop {
        waiting.mark_unchanged();
        removed.mark_unchanged();
        let idle = calls.inner().waiting.is_empty();
        if over || !idle {
            break;
        }
        tokio::select! {
            // The senders are in the state.
            _changed = waiting.changed() => {}
            _changed = removed.changed() => over = true,
            _stopping = stopping.wait_for(|stopping| *stopping) => over = true,
            () = tokio::time::sleep_until(until) => over = true,
        }
    }
    edges::check(state, edge).await?;
    let revision = state.store.latest_revision().await?;
    let work = Work { revision, calls: calls.take(edge.id()), awaited };
    edges::sealed(state, edge, proof, &work).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failure here is the test's failure")]

    use super::*;

    fn tick() -> Tick {
        Tick { function: "fn_1".into(), deployment: "dep_1".into(), url: String::new(), scheduled_at: 0 }
    }

    fn begun(calls: &Arc<Calls>) -> tokio::task::JoinHandle<Answered> {
        let calls = calls.clone();
        tokio::spawn(async move { calls.call(tick()).await })
    }

    /// The one call, once it waits.
    async fn taken(calls: &Calls, edge: &str) -> Call {
        let mut waiting = calls.waiting.subscribe();
        loop {
            calls.seen(edge, &[]);
            if let Some(call) = calls.take(edge).pop() {
                return call;
            }
            waiting.changed().await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_given_once_and_ended_by_who_has_it() {
        let calls = Arc::new(Calls::default());
        let answer = begun(&calls);
        let call = taken(&calls, "one").await;
        assert!(calls.take("two").is_empty());
        let end = CallEnd { id: call.id, answered: Answered { status: Some(204), error: None } };
        calls.end("two", &end);
        calls.end("one", &end);
        assert_eq!(answer.await.unwrap(), end.answered);
        assert!(calls.inner().given.is_empty() && calls.inner().waiting.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_nobody_has_ends_as_a_failure() {
        let calls = Arc::new(Calls::default());
        // Nobody asks.
        let answered = calls.call(tick()).await;
        assert!(answered.error.unwrap().contains("no edge has asked"));
        assert!(calls.inner().waiting.is_empty());
        // The edge was restarted: it knows nothing of what it was given.
        let answer = begun(&calls);
        let call = taken(&calls, "one").await;
        calls.seen("one", &[call.id]);
        calls.seen("one", &[]);
        assert!(answer.await.unwrap().error.unwrap().contains("restarted"));
        // It never asked again.
        let answer = begun(&calls);
        taken(&calls, "one").await;
        assert!(answer.await.unwrap().error.unwrap().contains("gone away"));
        // It was removed.
        let answer = begun(&calls);
        taken(&calls, "one").await;
        calls.forget("one");
        assert!(answer.await.unwrap().error.unwrap().contains("lost"));
    }
}
