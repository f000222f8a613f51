//! Who may have an instance now, who waits for one, and who is refused: a cap for all, a cap for each
//! function, and a short queue that serves the waiting functions in turn.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

/// How long a request waits for an instance before it is refused.
const PATIENCE: Duration = Duration::from_secs(1);

/// Requests that may wait for one function, and for all.
const WAITING_EACH: usize = 64;
const WAITING_ALL: usize = 1024;

/// A request has to come again: everything is busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Overloaded {
    /// The function's own share is.
    #[error("the function has as many requests at work as it may have; try again in a moment")]
    Function,
    /// The server is.
    #[error("the server has no free instance; try again in a moment")]
    Server,
}

/// The door to the pool. Cheap to clone.
#[derive(Clone)]
pub struct Admission {
    shared: Arc<Shared>,
}

struct Shared {
    each: usize,
    free: AtomicUsize,
    waiting: AtomicUsize,
    queue: Mutex<Queue>,
}

/// One function's share. Its deployments have it in common.
#[derive(Clone, Default)]
pub struct Gate {
    running: Arc<AtomicUsize>,
}

impl Gate {
    fn key(&self) -> usize {
        Arc::as_ptr(&self.running).addr()
    }

    /// Requests of the function that have an instance.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }
}

/// The right to one instance; dropping it lets the next one in.
pub struct Permit {
    shared: Arc<Shared>,
    gate: Gate,
}

#[derive(Default)]
struct Queue {
    next_ticket: u64,
    lines: HashMap<usize, Line>,
    /// Keys of the lines, the one whose turn is next first.
    turns: VecDeque<usize>,
}

/// Those that wait for one function.
struct Line {
    gate: Gate,
    waiters: VecDeque<(u64, oneshot::Sender<Permit>)>,
}

impl Admission {
    /// At most `all` at the same time, and `each` of one function.
    #[must_use]
    pub fn new(all: usize, each: usize) -> Self {
        let (free, waiting) = (AtomicUsize::new(all), AtomicUsize::new(0));
        Self { shared: Arc::new(Shared { each, free, waiting, queue: Mutex::default() }) }
    }

    /// The right to an instance for the function of this gate.
    ///
    /// # Errors
    /// When there is none in time, or too many wait already.
    pub async fn admit(&self, gate: &Gate) -> Result<Permit, Overloaded> {
        // Nobody overtakes those that wait.
        if self.shared.waiting.load(Ordering::SeqCst) == 0
            && let Some(permit) = self.shared.take(gate)
        {
            return Ok(permit);
        }
        let (mut receiver, _place) = self.shared.enqueue(gate)?;
        match tokio::time::timeout(PATIENCE, &mut receiver).await {
            Ok(Ok(permit)) => Ok(permit),
            _ if gate.running() >= self.shared.each => Err(Overloaded::Function),
            _ => Err(Overloaded::Server),
        }
    }
}

impl Shared {
    fn take(self: &Arc<Self>, gate: &Gate) -> Option<Permit> {
        if !below(&gate.running, self.each) {
            return None;
        }
        let taken = self.free.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |free| free.checked_sub(1));
        if taken.is_err() {
            gate.running.fetch_sub(1, Ordering::SeqCst);
            return None;
        }
        Some(Permit { shared: self.clone(), gate: gate.clone() })
    }

    fn enqueue(self: &Arc<Self>, gate: &Gate) -> Result<(oneshot::Receiver<Permit>, Place<'_>), Overloaded> {
        let mut queue = self.lock();
        if self.waiting.load(Ordering::SeqCst) >= WAITING_ALL {
            return Err(Overloaded::Server);
        }
        let key = gate.key();
        let ticket = queue.next_ticket;
        queue.next_ticket += 1;
        let Queue { lines, turns, .. } = &mut *queue;
        let line = lines.entry(key).or_insert_with(|| {
            turns.push_back(key);
            Line { gate: gate.clone(), waiters: VecDeque::new() }
        });
        if line.waiters.len() >= WAITING_EACH {
            return Err(Overloaded::Function);
        }
        let (sender, receiver) = oneshot::channel();
        line.waiters.push_back((ticket, sender));
        self.waiting.fetch_add(1, Ordering::SeqCst);
        // A permit may have come back since it was asked for.
        let unwanted = self.serve(&mut queue);
        drop(queue);
        drop(unwanted);
        Ok((receiver, Place { shared: self, key, ticket }))
    }

    /// Gives what is free to those that wait, one per function and turn. Returns permits that nobody
    /// wanted any more, to be dropped without the lock.
    fn serve(self: &Arc<Self>, queue: &mut Queue) -> Vec<Permit> {
        let (mut unwanted, mut in_vain) = (Vec::new(), 0);
        while in_vain < queue.turns.len() {
            let Some(key) = queue.turns.pop_front() else { break };
            let Some(line) = queue.lines.get_mut(&key) else { continue };
            if let Some(permit) = self.take(&line.gate) {
                in_vain = 0;
                if let Some((_, waiter)) = line.waiters.pop_front() {
                    self.waiting.fetch_sub(1, Ordering::SeqCst);
                    unwanted.extend(waiter.send(permit).err());
                } else {
                    unwanted.push(permit);
                }
            } else {
                in_vain += 1;
            }
            if line.waiters.is_empty() {
                queue.lines.remove(&key);
            } else {
                queue.turns.push_back(key);
            }
        }
        unwanted
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn below(count: &AtomicUsize, limit: usize) -> bool {
    let more = |count| (count < limit).then_some(count + 1);
    count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gate.running.fetch_sub(1, Ordering::SeqCst);
        self.shared.free.fetch_add(1, Ordering::SeqCst);
        if self.shared.waiting.load(Ordering::SeqCst) > 0 {
            let unwanted = self.shared.serve(&mut self.shared.lock());
            drop(unwanted);
        }
    }
}

/// A place in a line, given up when dropped.
struct Place<'a> {
    shared: &'a Shared,
    key: usize,
    ticket: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        let Some(line) = queue.lines.get_mut(&self.key) else { return };
        let before = line.waiters.len();
        line.waiters.retain(|(ticket, _)| *ticket != self.ticket);
        self.shared.waiting.fetch_sub(before - line.waiters.len(), Ordering::SeqCst);
        if line.waiters.is_empty() {
            queue.lines.remove(&self.key);
            queue.turns.retain(|key| *key != self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn a_function_has_its_share_and_no_more() {
        let admission = Admission::new(10, 2);
        let (one, other) = (Gate::default(), Gate::default());
        let first = admission.admit(&one).await.unwrap();
        let _second = admission.admit(&one).await.unwrap();
        let mut third = pin!(admission.admit(&one));
        assert!(poll(third.as_mut()).is_pending(), "8 are free, and none of them for this function");
        let _others = admission.admit(&other).await.unwrap();
        drop(first);
        let Poll::Ready(Ok(_third)) = poll(third.as_mut()) else { panic!("it is next") };
        assert_eq!((one.running(), other.running()), (2, 1));
    }

    #[tokio::test]
    async fn functions_that_wait_take_turns() {
        let admission = Admission::new(1, 10);
        let (greedy, modest) = (Gate::default(), Gate::default());
        let held = admission.admit(&greedy).await.unwrap();
        let mut first = pin!(admission.admit(&greedy));
        let mut second = pin!(admission.admit(&greedy));
        let mut third = pin!(admission.admit(&modest));
        assert!(poll(first.as_mut()).is_pending());
        assert!(poll(second.as_mut()).is_pending());
        assert!(poll(third.as_mut()).is_pending());
        drop(held);
        let Poll::Ready(Ok(first)) = poll(first.as_mut()) else { panic!("the first is next") };
        drop(first);
        assert!(poll(second.as_mut()).is_pending(), "the other function has its turn");
        assert!(matches!(poll(third.as_mut()), Poll::Ready(Ok(_))));
        assert!(matches!(poll(second.as_mut()), Poll::Ready(Ok(_))));
        assert!(admission.shared.lock().lines.is_empty());
    }

    #[tokio::test]
    async fn whoever_goes_away_leaves_no_place_behind() {
        let admission = Admission::new(1, 1);
        let gate = Gate::default();
        let held = admission.admit(&gate).await.unwrap();
        {
            let mut gone = pin!(admission.admit(&gate));
            assert!(poll(gone.as_mut()).is_pending());
            drop(held);
        }
        assert_eq!(admission.shared.waiting.load(Ordering::SeqCst), 0);
        assert_eq!(admission.shared.free.load(Ordering::SeqCst), 1);
        assert_eq!(gate.running(), 0);
    }

    #[tokio::test]
    async fn a_line_has_an_end() {
        let admission = Admission::new(1, 1);
        let gate = Gate::default();
        let _held = admission.admit(&gate).await.unwrap();
        let mut waiting: Vec<_> = (0..WAITING_EACH).map(|_| Box::pin(admission.admit(&gate))).collect();
        assert!(waiting.iter_mut().all(|waiting| poll(waiting.as_mut()).is_pending()));
        assert!(matches!(poll(pin!(admission.admit(&gate))), Poll::Ready(Err(Overloaded::Function))));
    }
}
