//! Places of which everybody has a few, and all together some more: of subscriptions, of connections, and of uploads.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// How many are taken, and by whom. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    each: usize,
    all: usize,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by: HashMap<String, usize>,
}

/// Given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Places,
    who: String,
}

impl Places {
    pub(crate) fn new(each: usize, all: usize) -> Self {
        Self { each, all, taken: Arc::default() }
    }

    /// `None`: whoever asks has as many as anybody may have, or all are taken.
    pub(crate) fn take(&self, who: &str) -> Option<Place> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = taken.by.get(who).copied().unwrap_or_default();
        if mine >= self.each || taken.all >= self.all {
            return None;
        }
        taken.all += 1;
        taken.by.insert(who.to_owned(), mine + 1);
        Some(Place { places: self.clone(), who: who.to_owned() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        if let Some(mine) = taken.by.get_mut(&self.who) {
            *mine -= 1;
            if *mine == 0 {
                taken.by.remove(&self.who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_a_few_and_all_have_some() {
        let places = Places::new(2, 3);
        let (first, _second) = (places.take("one").unwrap(), places.take("one").unwrap());
        assert!(places.take("one").is_none());
        let third = places.take("two").unwrap();
        assert!(places.take("three").is_none());
        drop(third);
        assert!(places.take("one").is_none() && places.take("three").is_some());
        drop(first);
        assert!(places.take("one").is_some());
    }
}
