//! Lines that edges of their own send: within bounds, of functions that there are, and each batch once.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use af_contract::edge::{LOGS_LINES, LOGS_PAUSE, Logs as Batch};
use af_contract::{LogLine, LogSink};
use tokio::time::Instant;

use super::super::reports::Reporter;
use super::super::{Error, State, now};

/// Characters of a batch's id.
const ID: usize = 64;

/// What is remembered of edges that have sent lines to this server.
#[derive(Default)]
pub(super) struct Shipped(Mutex<HashMap<String, Last>>);

/// Of one edge.
struct Last {
    /// When a batch came that was not known.
    at: Instant,
    /// The last one that was taken.
    batch: Option<String>,
}

/// Takes what functions logged at an edge.
///
/// # Errors
/// When it is no batch of lines, comes too early, or the database fails; then it may be sent again.
pub async fn take(state: &State, edge: Reporter<'_>, batch: Batch) -> Result<(), Error> {
    let invalid = || {
        let detail = format!("a batch has an id, and at most {LOGS_LINES} lines as functions log them");
        Error::invalid("invalid_logs", detail)
    };
    let Batch { batch, lines } = batch;
    if batch.is_empty() || batch.len() > ID || lines.len() > LOGS_LINES {
        return Err(invalid());
    }
    if !state.logs.shipped.is_new(edge.id, &batch)? {
        return Ok(());
    }
    let (name, now): (Arc<str>, _) = (edge.name.into(), now());
    let lines = lines.into_iter().map(|line| line.read(Some(name.clone()), now));
    let lines: Vec<LogLine> = lines.collect::<Option<_>>().ok_or_else(invalid)?;
    let deployments: BTreeSet<String> = lines.iter().map(|line| line.deployment.to_string()).collect();
    let deployments: Vec<String> = deployments.into_iter().collect();
    let of: HashMap<String, String> =
        state.store.functions_of_deployments(&deployments).await?.into_iter().collect();
    for line in lines {
        // What is gone was removed a moment ago, and nobody may read it.
        if of.get(&*line.deployment).is_some_and(|function| **function == *line.function) {
            state.logs.take(line);
        }
    }
    state.logs.shipped.took(edge.id, batch);
    Ok(())
}

impl Shipped {
    /// An edge was removed.
    pub(super) fn forget(&self, edge: &str) {
        self.of().remove(edge);
    }

    /// Whether a batch was not taken yet.
    fn is_new(&self, edge: &str, batch: &str) -> Result<bool, Error> {
        let mut of = self.of();
        let now = Instant::now();
        if let Some(last) = of.get_mut(edge) {
            if last.batch.as_deref() == Some(batch) {
                return Ok(false);
            }
            // Half of the pause: the network has its own.
            if last.at.elapsed() < LOGS_PAUSE / 2 {
                let detail = "an edge sends what functions log once a second at most".to_owned();
                return Err(Error::Limit { code: "too_many_batches", detail, seconds: 1 });
            }
            last.at = now;
        } else {
            of.insert(edge.to_owned(), Last { at: now, batch: None });
        }
        Ok(true)
    }

    fn took(&self, edge: &str, batch: String) {
        if let Some(last) = self.of().get_mut(edge) {
            last.batch = Some(batch);
        }
    }

    fn of(&self) -> MutexGuard<'_, HashMap<String, Last>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failure here is the test's failure")]

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_edge_that_sends_too_often_is_put_off_and_a_batch_that_is_known_is_not() {
        let shipped = Shipped::default();
        assert!(shipped.is_new("one", "a").unwrap());
        shipped.took("one", "a".into());
        assert!(!shipped.is_new("one", "a").unwrap());
        let early = shipped.is_new("one", "b").unwrap_err();
        assert_eq!((early.code(), early.fault()), ("too_many_batches", crate::domain::Fault::TooOften));
        assert!(shipped.is_new("two", "b").unwrap(), "others are nobody's business");
        tokio::time::advance(LOGS_PAUSE).await;
        assert!(shipped.is_new("one", "b").unwrap());
        // The database failed: it was not taken.
        tokio::time::advance(LOGS_PAUSE).await;
        assert!(shipped.is_new("one", "b").unwrap());
        shipped.forget("one");
        assert!(shipped.is_new("one", "c").unwrap());
    }
}
