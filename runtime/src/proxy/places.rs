//! How many connections to backends are open, of all routes together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::metrics::Metrics;

/// Open connections to backends: as many as clients may have, and half as many that wait or are shared.
const OPEN: usize = 15_000;

/// With more open than this, none is kept waiting for another request: files are short.
const KEEPING: usize = 5_000;

/// The count. Cheap to clone; clones are one.
#[derive(Clone)]
pub(super) struct Places(Arc<Counted>);

struct Counted {
    open: AtomicUsize,
    metrics: Arc<Metrics>,
}

/// One of them; given back when it is dropped.
pub(super) struct Place(Places);

impl Places {
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self(Arc::new(Counted { open: AtomicUsize::new(0), metrics }))
    }

    /// For a new connection; none if too many are open.
    pub fn take(&self) -> Option<Place> {
        let Counted { open, metrics } = &*self.0;
        let more = |count: usize| (count < OPEN).then_some(count + 1);
        open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        metrics.upstream_opened();
        Some(Place(self.clone()))
    }
}

impl Place {
    /// Whether a connection may wait for another request.
    pub fn may_wait(&self) -> bool {
        self.0.0.open.load(Ordering::Relaxed) <= KEEPING
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.open.fetch_sub(1, Ordering::Relaxed);
        self.0.0.metrics.upstream_closed();
    }
}
