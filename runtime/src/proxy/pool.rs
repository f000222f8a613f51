//! Connections of one backend that wait for another request. Each stays on the core whose runtime it belongs to.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use super::connection::{Connection, Http1, Http2};
use super::upstreams::Member;
use crate::core_number::{CoreNumber, SHELVES};

/// How long a connection waits: a little less than the minute after which many servers close it.
const IDLE: Duration = Duration::from_secs(55);

/// How often those are looked for that have waited too long or were closed by the backend.
const SWEEP: Duration = Duration::from_secs(5);

/// HTTP/1.1 connections of a backend and core that may wait: more requests than a core has in hand at once.
const WAITING: usize = 64;

/// HTTP/2 connections of a backend and core: each has some hundred streams.
const SHARED: usize = 4;

/// The connections of one core.
#[derive(Default)]
struct Shelf {
    waiting: Vec<(Instant, Box<Http1>)>,
    shared: Vec<(Instant, Http2)>,
}

/// Those of all cores, which never take each other's. Made for the first connection: most backends that an edge knows
/// of are never asked.
#[derive(Default)]
pub(super) struct Pool {
    shelves: OnceLock<Box<[Mutex<Shelf>; SHELVES]>>,
    swept: [AtomicBool; SHELVES],
}

impl Pool {
    fn shelf(&self, core: CoreNumber) -> MutexGuard<'_, Shelf> {
        // Only another core of more than sixteen could hold it, and never while it waits for something.
        core.of(self.shelves.get_or_init(Box::default)).lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that was used before.
    pub fn take(&self) -> Option<Connection> {
        self.shelves.get()?;
        let mut shelf = self.shelf(CoreNumber::here());
        // The last one is warm, and the first ones can be let go.
        if let Some((_since, connection)) = shelf.waiting.pop() {
            return Some(Connection::Http1(connection));
        }
        shelf.shared.retain(|(_, shared)| shared.is_open());
        let (used, shared) = shelf.shared.iter_mut().find(|(_, shared)| shared.has_room())?;
        *used = Instant::now();
        Some(Connection::Http2(shared.clone()))
    }

    /// Shares a new HTTP/2 connection.
    pub fn share(member: &Arc<Member>, connection: &Http2) {
        let core = CoreNumber::here();
        let mut shelf = member.pool.shelf(core);
        if shelf.shared.len() < SHARED {
            shelf.shared.push((Instant::now(), connection.clone()));
            drop(shelf);
            member.pool.sweep(core, member);
        }
    }

    /// Keeps a connection whose exchange is complete, unless enough wait already.
    pub fn put(member: &Arc<Member>, connection: Box<Http1>) {
        let core = CoreNumber::here();
        let mut shelf = member.pool.shelf(core);
        if shelf.waiting.len() < WAITING {
            shelf.waiting.push((Instant::now(), connection));
            drop(shelf);
            member.pool.sweep(core, member);
        }
    }

    /// Sees to it that a task looks after this core's shelf. It ends with the last connection or with the route.
    fn sweep(&self, core: CoreNumber, member: &Arc<Member>) {
        let swept = core.of(&self.swept);
        // Read first: each request comes here.
        if !swept.load(Ordering::Relaxed) && !swept.swap(true, Ordering::Relaxed) {
            tokio::spawn(sweep(Arc::downgrade(member), core));
        }
    }

    /// Whether any are left.
    fn expire(&self, core: CoreNumber) -> bool {
        let expired = |since: &Instant| since.elapsed() >= IDLE;
        let mut shelf = self.shelf(core);
        let gone = shelf.waiting.extract_if(.., |(since, connection)| {
            connection.drive(&mut Context::from_waker(Waker::noop()));
            expired(since) || !connection.is_idle()
        });
        let gone: Vec<_> = gone.collect();
        shelf.shared.retain(|(used, shared)| shared.is_open() && !(expired(used) && shared.is_unused()));
        let left = !(shelf.waiting.is_empty() && shelf.shared.is_empty());
        if !left {
            core.of(&self.swept).store(false, Ordering::Relaxed);
        }
        // Closed outside of the lock.
        drop(shelf);
        drop(gone);
        left
    }
}

async fn sweep(member: Weak<Member>, core: CoreNumber) {
    loop {
        tokio::time::sleep(SWEEP).await;
        if !member.upgrade().is_some_and(|member| member.pool.expire(core)) {
            return;
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}
