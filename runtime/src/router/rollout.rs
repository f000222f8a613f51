//! A function's candidate beside its active deployment: which requests it answers.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use af_contract::{ContentId, DeploymentRef, RolloutFailure, RolloutState, Sticky};
use http::HeaderMap;
use http::header::COOKIE;

use super::Entry;
use super::tally::{Arm, Window};
use crate::artifact::ArtifactError;
use crate::listen::Client;

/// A gradual rollout. Another percentage is another one, with the same candidate.
pub struct Rollout {
    state: RolloutState,
    candidate: Arc<Entry>,
    /// Its code is compiled. Until then nobody waits for it: the active deployment answers.
    ready: AtomicBool,
    health: Arc<Health>,
}

/// How it goes.
struct Health {
    window: Mutex<Window>,
    /// It failed too often: nobody gets the candidate here any more.
    stopped: AtomicBool,
}

impl Rollout {
    /// `known` is the function's rollout before, if there is one.
    pub(super) fn new(state: RolloutState, candidate: Entry, known: Option<&Self>) -> Self {
        let same = known.filter(|known| known.state.candidate == state.candidate);
        let ready = same.is_some_and(Self::is_ready);
        let same = known.filter(|known| known.state.id == state.id);
        let health = same.map(|known| known.health.clone()).unwrap_or_else(|| {
            let window = Mutex::new(Window::new(Instant::now()));
            Arc::new(Health { window, stopped: AtomicBool::new(false) })
        });
        Self { state, candidate: Arc::new(candidate), ready: AtomicBool::new(ready), health }
    }

    /// The candidate, if a request is one that it gets. Allocates nothing.
    pub(super) fn candidate_for(&self, client: IpAddr, headers: &HeaderMap) -> Option<&Entry> {
        if !self.is_ready() || self.health.stopped.load(Ordering::Relaxed) {
            return None;
        }
        let given = match &self.state.sticky {
            Sticky::Address => None,
            Sticky::Header(name) => headers.get(name).map(http::HeaderValue::as_bytes),
            Sticky::Cookie(name) => cookie(headers, name),
        };
        let takes = match given {
            Some(key) => self.state.takes(key),
            None => self.state.takes(&Client::from(client).key()),
        };
        takes.then_some(&self.candidate)
    }

    /// Counts how a request went. What is to be reported, if this one was too much.
    pub(super) fn count(&self, function: &str, arm: Arm, failed: bool) -> Option<RolloutFailure> {
        let mut window = self.health.window.lock().unwrap_or_else(PoisonError::into_inner);
        window.count(Instant::now(), arm, failed);
        if arm == Arm::Active || !failed {
            return None;
        }
        let [active, candidate] = window.sums();
        if !self.state.guard.stops(candidate, active) || self.health.stopped.swap(true, Ordering::Relaxed) {
            return None;
        }
        let (function, rollout) = (function.to_owned(), self.state.id.clone());
        Some(RolloutFailure { function, rollout, candidate, active })
    }

    /// Makes the candidate ready to answer.
    ///
    /// # Errors
    /// When its code cannot be had or used: then it gets no requests.
    pub async fn prepare(&self) -> Result<(), ArtifactError> {
        self.candidate.prepare().await?;
        self.open();
        Ok(())
    }

    /// The candidate is prepared: from now on it gets requests.
    pub(super) fn open(&self) {
        // What is switched off was not compiled.
        self.ready.store(self.candidate.check_active().is_ok(), Ordering::Relaxed);
    }

    /// What is to become active.
    pub(super) fn candidate(&self) -> &Entry {
        &self.candidate
    }

    /// Whether it gets requests.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// Of its manifest.
    pub fn manifest(&self) -> ContentId {
        self.state.candidate.manifest
    }

    /// What the control plane says of it.
    pub fn state(&self) -> &RolloutState {
        &self.state
    }

    /// The candidate, if it is this deployment.
    pub(super) fn entry_of(&self, deployment: &DeploymentRef) -> Option<&Entry> {
        (self.state.candidate == *deployment).then_some(&self.candidate)
    }
}

/// The first cookie of this name (RFC 6265, section 5.4).
fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    let pairs = headers.get_all(COOKIE).into_iter().flat_map(|line| line.as_bytes().split(|b| *b == b';'));
    pairs.map(<[u8]>::trim_ascii).find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failure here is the test's failure")]

    use super::*;

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        let mut headers = HeaderMap::new();
        assert_eq!(cookie(&headers, "sid"), None);
        headers.append(COOKIE, "asid=1; sidx=2;sid=3; sid=4".parse().unwrap());
        headers.append(COOKIE, "late=5".parse().unwrap());
        assert_eq!(cookie(&headers, "sid"), Some(&b"3"[..]));
        assert_eq!(cookie(&headers, "late"), Some(&b"5"[..]));
        assert_eq!(cookie(&headers, "id"), None);
    }
}
