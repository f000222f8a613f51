//! Where what is used is counted: a few additions for each request. Deployments have their counters; sites and routes find theirs by a
//! name, under a lock that only a new name is written under.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use af_contract::Usage;

/// Of one function or site. Everything is added once, so that whatever is taken out is told once.
#[derive(Default)]
pub struct Counters {
    requests: AtomicU64,
    errors: AtomicU64,
    /// Nanoseconds.
    cpu: AtomicU64,
    /// Nanoseconds.
    wall: AtomicU64,
    sent: AtomicU64,
}

/// The counters of all functions and sites that this node has been asked for. Clones are one.
#[derive(Clone, Default)]
pub struct Book {
    counters: Arc<RwLock<HashMap<Arc<str>, Arc<Counters>>>>,
}

impl Counters {
    /// A request was asked of it.
    pub fn requested(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// One of them ended with its failure.
    pub fn failed(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// An instance has used so much.
    pub fn computed(&self, cpu: Duration) {
        self.cpu.fetch_add(nanos(cpu), Ordering::Relaxed);
    }

    /// Its code was at work for a request for so long.
    pub fn worked(&self, wall: Duration) {
        self.wall.fetch_add(nanos(wall), Ordering::Relaxed);
    }

    /// So many bytes went to its clients.
    pub fn sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Takes out what was counted. What is less than a microsecond stays.
    fn take(&self) -> Usage {
        let whole = |nanos: &AtomicU64| {
            let micros = nanos.load(Ordering::Relaxed) / 1_000;
            nanos.fetch_sub(micros * 1_000, Ordering::Relaxed);
            micros
        };
        Usage {
            requests: self.requests.swap(0, Ordering::Relaxed),
            errors: self.errors.swap(0, Ordering::Relaxed),
            cpu_us: whole(&self.cpu),
            wall_us: whole(&self.wall),
            sent_bytes: self.sent.swap(0, Ordering::Relaxed),
        }
    }

    /// Whether there is nothing to take out. Less than a microsecond is nothing.
    fn is_empty(&self) -> bool {
        [&self.requests, &self.errors, &self.sent].iter().all(|count| count.load(Ordering::Relaxed) == 0)
            && [&self.cpu, &self.wall].iter().all(|nanos| nanos.load(Ordering::Relaxed) < 1_000)
    }
}

impl Book {
    /// The counters of a function or a site.
    #[must_use]
    pub fn of(&self, subject: &str) -> Arc<Counters> {
        let known = self.counters.read().unwrap_or_else(PoisonError::into_inner).get(subject).cloned();
        known.unwrap_or_else(|| {
            let mut counters = self.counters.write().unwrap_or_else(PoisonError::into_inner);
            counters.entry(subject.into()).or_default().clone()
        })
    }

    /// Takes out what was used since the last time. Only one task does.
    pub(crate) fn take(&self) -> Vec<(Arc<str>, Usage)> {
        let mut used = Vec::new();
        let mut unused = false;
        for (subject, counters) in &*self.counters.read().unwrap_or_else(PoisonError::into_inner) {
            let usage = counters.take();
            if usage.is_empty() {
                unused |= Arc::strong_count(counters) == 1;
            } else {
                used.push((subject.clone(), usage));
            }
        }
        if unused {
            // Nobody has them, and nobody can get them meanwhile.
            let mut counters = self.counters.write().unwrap_or_else(PoisonError::into_inner);
            counters.retain(|_, counters| {
                let is_held = Arc::strong_count(counters) > 1;
                // What somebody added before they let go of it is seen.
                fence(Ordering::Acquire);
                is_held || !counters.is_empty()
            });
        }
        used
    }
}

/// Enough for 584 years.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_taken_out_once_and_nothing_of_it_is_lost() {
        let book = Book::default();
        let counters = book.of("fn_1");
        counters.requested();
        counters.failed();
        counters.sent(7);
        // Four requests of 700 ns each are 2.8 µs, of which 0.8 come later.
        (0..4).for_each(|_| counters.computed(Duration::from_nanos(700)));
        counters.worked(Duration::from_millis(3));
        let usage = Usage { requests: 1, errors: 1, cpu_us: 2, wall_us: 3_000, sent_bytes: 7 };
        assert_eq!(book.take(), [("fn_1".into(), usage)]);
        assert_eq!(book.take(), []);
        counters.computed(Duration::from_nanos(200));
        assert_eq!(book.take(), [("fn_1".into(), Usage { cpu_us: 1, ..Usage::default() })]);
    }

    #[test]
    fn counters_that_nobody_has_any_more_are_forgotten_once_they_were_told() {
        let book = Book::default();
        let held = book.of("fn_held");
        book.of("fn_gone").requested();
        assert_eq!(book.take().len(), 1);
        assert_eq!(book.take().len(), 0);
        assert_eq!(book.counters.read().unwrap().len(), 1);
        held.requested();
        assert_eq!(book.take().len(), 1);
    }

    #[test]
    fn many_at_once_are_all_counted() {
        let book = Book::default();
        // What is forgotten takes less than a microsecond with it.
        let _held = book.of("fn_1");
        let mut told = Usage::default();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    let book = book.clone();
                    scope.spawn(move || {
                        for _ in 0..10_000 {
                            let counters = book.of("fn_1");
                            counters.requested();
                            counters.computed(Duration::from_nanos(100));
                        }
                    })
                })
                .collect();
            while threads.iter().any(|thread| !thread.is_finished()) {
                book.take().iter().for_each(|(_, usage)| told.add(usage));
            }
        });
        book.take().iter().for_each(|(_, usage)| told.add(usage));
        assert_eq!((told.requests, told.cpu_us), (40_000, 4_000));
    }
}
