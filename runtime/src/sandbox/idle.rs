//! Instances of one deployment that wait for a request: those that may answer another one, and one on
//! each core that was made ahead, fresh and never used, while nobody waited.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::Habits;
use super::instance::Instance;
use super::shared::{Doors, Shared};
use crate::core_number::{CoreNumber, SHELVES};

/// How long an instance waits.
const EXPIRY: Duration = Duration::from_secs(10);

/// Instances that may wait per deployment and core: more than a core works on at once.
const KEPT: usize = 8;

/// How many instances of all deployments may still wait: each holds memory. Clones are one.
#[derive(Clone)]
pub struct IdlePlaces(Arc<AtomicUsize>);

impl IdlePlaces {
    /// So many.
    #[must_use]
    pub fn new(places: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(places)))
    }

    fn take(&self) -> Option<Place> {
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        taken.is_ok().then(|| Place(self.clone()))
    }
}

/// One of them; given back when it is dropped.
struct Place(IdlePlaces);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// An instance that waits.
struct Waiting {
    since: Instant,
    instance: Instance,
    _place: Place,
}

/// The waiting instances of one deployment. Nobody else ever gets them.
pub struct IdleInstances {
    /// Requests that one instance may answer.
    uses: u32,
    places: IdlePlaces,
    /// Requests that one instance may work for at the same time.
    concurrency: u32,
    /// An instance waits on the core that has its memory in its cache.
    shelves: [Mutex<Vec<Waiting>>; SHELVES],
    /// Whether a task is about to set those back that are spent.
    rewinding: [AtomicBool; SHELVES],
    /// Those at work that others may join, by the core that drives them.
    doors: [Doors; SHELVES],
    /// Whether a task looks after expiry.
    watched: AtomicBool,
}

/// What becomes of an instance that has answered a request.
pub enum After {
    /// It waits for the next one, or there are enough.
    Kept,
    /// It has answered as many as it may and waits; whoever takes it has to set it back, which a task should do
    /// now.
    ToBeRewound,
    /// It has answered as many as it may, and should be replaced by a fresh one.
    Spent(Instance),
}

impl IdleInstances {
    /// With `uses` of 1 every request gets a fresh instance, with a `concurrency` of 1 one of its own.
    #[must_use]
    pub fn new(uses: u32, concurrency: u32, places: IdlePlaces) -> Self {
        Self {
            uses,
            concurrency,
            places,
            shelves: Default::default(),
            rewinding: Default::default(),
            doors: Default::default(),
            watched: AtomicBool::new(false),
        }
    }

    /// A new instance's door, if others may join it.
    pub(super) fn may_be_shared(&self, habits: &Habits) -> Option<Arc<Shared>> {
        let may = self.concurrency > 1 && self.uses > 1 && habits.are_sociable();
        may.then(|| Arc::new(Shared::new(self.concurrency, self.uses - 1)))
    }

    /// Takes a place in an instance that waits for something, unless there is one that waits for a request.
    pub(super) fn join(&self, core: CoreNumber, habits: &Habits) -> Option<Arc<Shared>> {
        if self.concurrency <= 1 || !habits.are_sociable() || !self.shelf(core).is_empty() {
            return None;
        }
        self.doors(core).join()
    }

    /// Lets others join.
    pub(super) fn open(&self, core: CoreNumber, shared: &Arc<Shared>) {
        self.doors(core).open(shared);
    }

    fn doors(&self, core: CoreNumber) -> &Doors {
        core.of(&self.doors)
    }

    /// The one that was put there last, since it is warm.
    pub(super) fn take(&self, core: CoreNumber) -> Option<Instance> {
        self.shelf(core).pop().map(|waiting| waiting.instance)
    }

    /// Whether an instance has answered as many requests as it may.
    pub(super) fn is_spent(&self, instance: &Instance) -> bool {
        instance.served() >= self.uses
    }

    /// One that has to be set back before it can be used again. Once there is none left, the next that comes
    /// asks for a task again.
    pub(super) fn take_spent(&self, core: CoreNumber) -> Option<Instance> {
        let mut shelf = self.shelf(core);
        let at = shelf.iter().rposition(|waiting| self.is_spent(&waiting.instance));
        if at.is_none() {
            self.rewinding(core).store(false, Ordering::Relaxed);
        }
        at.map(|at| shelf.remove(at).instance)
    }

    /// Keeps an instance that has answered a request, if it may answer another.
    pub(super) fn put(self: &Arc<Self>, core: CoreNumber, instance: Instance) -> After {
        if !self.is_spent(&instance) {
            self.keep(core, instance);
            return After::Kept;
        }
        if instance.can_rewind() {
            self.keep(core, instance);
            let asked = self.rewinding(core).swap(true, Ordering::Relaxed);
            return if asked { After::Kept } else { After::ToBeRewound };
        }
        let empty = self.shelf(core).is_empty();
        if empty { After::Spent(instance) } else { After::Kept }
    }

    /// Keeps an instance, if there is room. Must be called within a runtime.
    pub(super) fn keep(self: &Arc<Self>, core: CoreNumber, instance: Instance) {
        let Some(place) = self.places.take() else { return };
        let mut shelf = self.shelf(core);
        if shelf.len() >= KEPT {
            return;
        }
        shelf.push(Waiting { since: Instant::now(), instance, _place: place });
        drop(shelf);
        if !self.watched.load(Ordering::Relaxed) && !self.watched.swap(true, Ordering::Relaxed) {
            tokio::spawn(watch(Arc::downgrade(self)));
        }
    }

    /// Ends those that have waited too long. Whether any are left.
    fn expire(&self) -> bool {
        let now = Instant::now();
        let mut left = false;
        for shelf in &self.shelves {
            let mut shelf = lock(shelf);
            let old = shelf.iter().take_while(|waiting| now.duration_since(waiting.since) >= EXPIRY).count();
            let expired: Vec<_> = shelf.drain(..old).collect();
            left |= !shelf.is_empty();
            drop(shelf);
            expired.into_iter().for_each(|waiting| waiting.instance.discard());
        }
        if !left {
            self.watched.store(false, Ordering::Relaxed);
        }
        left
    }

    fn rewinding(&self, core: CoreNumber) -> &AtomicBool {
        core.of(&self.rewinding)
    }

    fn shelf(&self, core: CoreNumber) -> MutexGuard<'_, Vec<Waiting>> {
        lock(core.of(&self.shelves))
    }
}

fn lock(shelf: &Mutex<Vec<Waiting>>) -> MutexGuard<'_, Vec<Waiting>> {
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn watch(instances: Weak<IdleInstances>) {
    loop {
        tokio::time::sleep(EXPIRY / 4).await;
        if !instances.upgrade().is_some_and(|instances| instances.expire()) {
            return;
        }
    }
}
