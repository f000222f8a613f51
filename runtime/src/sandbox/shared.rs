//! What several requests know of the one instance that works for all of them. Only guests of WASI 0.3 can, and
//! only while they wait for something: one that computes keeps its instance to itself.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use af_contract::Limits;
use http::Request;
use wasmtime_wasi_http::WasiBody;

use super::GuestError;
use super::instance::Responder;
use crate::host::log::GuestLog;

/// A request that the instance has to take up.
pub struct Job {
    pub request: Request<WasiBody>,
    pub responder: Responder,
    pub limits: Limits,
    pub log: GuestLog,
}

/// The door to an instance. Shared by its requests and by what drives it.
pub struct Shared {
    /// Requests at the same time.
    most: u32,
    inner: Mutex<Inner>,
}

struct Inner {
    jobs: VecDeque<Job>,
    /// Of what drives the instance.
    driver: Option<Waker>,
    /// Requests at work, the jobs included.
    live: u32,
    /// Requests that may still be taken up.
    left: u32,
    /// Somebody left before the guest was done with the request, and a guest cannot be told to stop.
    deserted: bool,
    ended: bool,
    failure: Option<GuestError>,
}

impl Shared {
    /// Of an instance that works for one request, and may work for `most` at once and `left` more in all.
    pub fn new(most: u32, left: u32) -> Self {
        let inner = Inner {
            jobs: VecDeque::new(),
            driver: None,
            live: 1,
            left,
            deserted: false,
            ended: false,
            failure: None,
        };
        Self { most, inner: Mutex::new(inner) }
    }

    /// Takes a place for one more request, which has to be given up with [`Self::leave`].
    pub fn join(&self) -> bool {
        let mut inner = self.lock();
        let open = !inner.ended && !inner.deserted && inner.live < self.most && inner.left > 0;
        if open {
            inner.live += 1;
            inner.left -= 1;
        }
        open
    }

    /// Whether nobody will ever join again.
    pub fn is_closed(&self) -> bool {
        let inner = self.lock();
        inner.ended || inner.deserted || inner.left == 0
    }

    /// Nobody joins any more.
    pub fn shut(&self) {
        self.lock().left = 0;
    }

    /// Hands over a request whose place was taken.
    pub fn give(&self, job: Job) {
        let mut inner = self.lock();
        // Otherwise the job's responder is dropped, and its request learns of the failure.
        if !inner.ended {
            inner.jobs.push_back(job);
            let driver = inner.driver.take();
            drop(inner);
            driver.into_iter().for_each(Waker::wake);
        }
    }

    /// The next job.
    pub fn take(&self) -> Option<Job> {
        self.lock().jobs.pop_front()
    }

    /// A request is over.
    pub fn leave(&self, how: Leaving) {
        let mut inner = self.lock();
        inner.live = inner.live.saturating_sub(1);
        inner.deserted |= how == Leaving::Early;
        let driver = if inner.live == 0 { inner.driver.take() } else { None };
        drop(inner);
        driver.into_iter().for_each(Waker::wake);
    }

    /// Whether nobody waits for the instance any more; else the driver is woken when that may have changed.
    pub fn poll_unused(&self, cx: &Context<'_>) -> Unused {
        let mut inner = self.lock();
        if inner.live == 0 && inner.deserted {
            return Unused::Deserted;
        }
        if !inner.driver.as_ref().is_some_and(|driver| driver.will_wake(cx.waker())) {
            inner.driver = Some(cx.waker().clone());
        }
        if inner.live == 0 { Unused::Done } else { Unused::Used }
    }

    /// Ends it, unless there is another job.
    pub fn close(&self) -> bool {
        let mut inner = self.lock();
        inner.ended |= inner.jobs.is_empty();
        inner.ended
    }

    /// The instance has ended.
    pub fn end(&self, failure: Option<GuestError>) {
        let mut inner = self.lock();
        inner.ended = true;
        inner.failure = inner.failure.take().or(failure);
        // What was not taken up is told by its responder's end.
        let jobs = std::mem::take(&mut inner.jobs);
        drop(inner);
        drop(jobs);
    }

    /// How the instance ended, if it has.
    pub fn ended(&self) -> Option<Result<(), GuestError>> {
        let inner = self.lock();
        inner.ended.then(|| inner.failure.clone().map_or(Ok(()), Err))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a request leaves its instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// Its response is complete.
    Done,
    /// Its client has gone or its time is over.
    Early,
}

/// Whether any request has to do with an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unused {
    /// One has.
    Used,
    /// All are answered; the guest may have something left to do.
    Done,
    /// None has, and the guest may work for one that left.
    Deserted,
}

/// Requests of one deployment on one core look here for an instance that they may join.
#[derive(Default)]
pub struct Doors(Mutex<Vec<Arc<Shared>>>);

impl Doors {
    /// Others may join from here on.
    pub fn open(&self, shared: &Arc<Shared>) {
        let mut doors = self.lock();
        doors.retain(|shared| !shared.is_closed());
        doors.push(shared.clone());
    }

    /// Takes a place in an instance that has one.
    pub fn join(&self) -> Option<Arc<Shared>> {
        let mut doors = self.lock();
        if doors.is_empty() {
            return None;
        }
        doors.retain(|shared| !shared.is_closed());
        doors.iter().find(|shared| shared.join()).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Shared>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_takes_so_many_at_once_and_so_many_in_all() {
        let shared = Shared::new(2, 3);
        assert!(shared.join());
        assert!(!shared.join(), "two are at work");
        shared.leave(Leaving::Done);
        assert!(shared.join());
        shared.leave(Leaving::Done);
        assert!(shared.join());
        shared.leave(Leaving::Done);
        assert!(shared.is_closed() && !shared.join(), "four have been taken up");
    }

    #[test]
    fn who_leaves_early_closes_the_door() {
        let doors = Doors::default();
        let shared = Arc::new(Shared::new(9, 9));
        doors.open(&shared);
        assert!(doors.join().is_some());
        shared.leave(Leaving::Early);
        assert!(doors.join().is_none());
        let cx = Context::from_waker(Waker::noop());
        assert_eq!(shared.poll_unused(&cx), Unused::Used);
        shared.leave(Leaving::Done);
        assert_eq!(shared.poll_unused(&cx), Unused::Deserted);
    }

    #[test]
    fn doors_that_closed_are_forgotten() {
        let doors = Doors::default();
        for _ in 0..100 {
            let shared = Arc::new(Shared::new(2, 2));
            doors.open(&shared);
            shared.end(None);
        }
        assert_eq!(doors.lock().len(), 1);
    }

    #[test]
    fn all_learn_of_the_first_failure() {
        let shared = Shared::new(2, 2);
        assert!(shared.ended().is_none());
        shared.end(Some(GuestError::NoResponse));
        shared.end(None);
        assert!(matches!(shared.ended(), Some(Err(GuestError::NoResponse))));
        assert!(!shared.join());
    }
}
