//! What a connection is doing, as its driver has to know it to end it in time. Written by its stream and its handler,
//! which hyper holds, without a lock or a clock: a request costs a few stores.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::http::Watcher;

/// One connection's state.
#[derive(Debug, Default)]
pub struct Progress {
    /// Counts what shows that somebody is at work: requests, bytes, pieces of bodies.
    activity: AtomicU32,
    /// Requests whose response is not complete yet.
    active: AtomicU32,
    /// A header has begun; which one.
    in_head: AtomicBool,
    heads: AtomicU32,
    /// The client has not taken what was written.
    blocked: AtomicBool,
    writes: AtomicU32,
    /// It is no HTTP any more.
    upgraded: AtomicBool,
    /// An answer of HTTP/2 was reset, since the client did not take it.
    given_up: AtomicBool,
    /// A client of HTTP/2 sent too much that asks for nothing.
    flooded: AtomicBool,
}

/// What a deadline hangs on; another value is another deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A header is on its way; its number.
    Head(u32),
    /// The client does not read; what it took until then.
    Blocked(u32),
    /// Anything else.
    Quiet,
}

impl Progress {
    /// What it is doing.
    pub fn phase(&self) -> Phase {
        if self.blocked.load(Ordering::Relaxed) {
            Phase::Blocked(self.writes.load(Ordering::Relaxed))
        } else if self.in_head.load(Ordering::Relaxed) && !self.is_active() {
            Phase::Head(self.heads.load(Ordering::Relaxed))
        } else {
            Phase::Quiet
        }
    }

    /// Grows whenever something happens, and wraps around.
    pub fn activity(&self) -> u32 {
        self.activity.load(Ordering::Relaxed)
    }

    /// Whether a request has no complete response yet.
    pub fn is_active(&self) -> bool {
        self.active.load(Ordering::Relaxed) > 0
    }

    /// Whether a part of a response may be on its way.
    pub fn is_answering(&self) -> bool {
        self.is_active() || self.blocked.load(Ordering::Relaxed)
    }

    /// Something happened.
    pub fn act(&self) {
        // One writer at a time: all of a connection is one task. `fetch_add` would lock the bus.
        self.activity.store(self.activity().wrapping_add(1), Ordering::Relaxed);
    }

    /// The stream is to give bytes to hyper.
    pub fn read(&self, in_head: bool, heads: u32) {
        self.in_head.store(in_head, Ordering::Relaxed);
        self.heads.store(heads, Ordering::Relaxed);
    }

    /// The stream has, or has not, taken bytes from hyper.
    pub fn wrote(&self, some: bool) {
        self.blocked.store(!some, Ordering::Relaxed);
        if some {
            self.writes.store(self.writes.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        }
    }

    /// More came than anybody needs to send.
    pub fn flood(&self) {
        self.flooded.store(true, Ordering::Relaxed);
    }

    /// Whether that was so.
    pub fn is_flooded(&self) -> bool {
        self.flooded.load(Ordering::Relaxed)
    }

    /// An answer was reset, since the client did not take it.
    pub fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }

    /// Whether one was, and there is no other.
    pub fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed) && !self.is_active()
    }

    /// From now on the bytes are no HTTP.
    pub fn upgrade(&self) {
        self.upgraded.store(true, Ordering::Relaxed);
    }

    /// Whether they are none.
    pub fn is_upgraded(&self) -> bool {
        self.upgraded.load(Ordering::Relaxed)
    }
}

/// A request without a complete response.
pub struct Active(Arc<Progress>);

impl Active {
    /// Begins.
    pub fn begin(progress: &Arc<Progress>) -> Self {
        // HTTP/2 requests may end on another thread, when a guest has gone to the background.
        progress.active.fetch_add(1, Ordering::Relaxed);
        progress.act();
        Self(progress.clone())
    }
}

impl Watcher for Active {
    fn sent(&mut self, _: usize) {
        self.0.act();
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
        self.0.act();
    }
}
