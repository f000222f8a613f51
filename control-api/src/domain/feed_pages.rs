//! Pages of the feed that edges share: who waits at the same place is told the same, which is read and written down once. Only
//! sealing and signing is each edge's own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use af_contract::edge::FeedPage;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::feed::{self, Changes, Reader};
use super::{Error, State};

/// Pages that are kept: edges that follow are at the same place, and a few are elsewhere.
const PAGES: usize = 32;

/// Bytes of all of them, which are mostly a few thousand each; one that is larger is shared only by those that wait for it now.
const BYTES: usize = 64 << 20;

/// For so long a page is kept: it has settings in the clear, and those that waited for it have asked by then.
const KEPT: Duration = Duration::from_secs(10);

/// Kibibytes of answers that are sealed, or on their way to edges, at the same time; further edges wait.
const ANSWERS: u32 = 256 << 10;

/// Answers on their way to one edge; its further ones wait. The second is of an edge that has begun anew, while the connection of the
/// one before is not known to be dead. So no edge can hold more than two pages, whatever it does.
const OF_EDGE: usize = 2;

/// A page as edges are told it, before it is sealed.
pub(super) struct Page {
    /// JSON of a [`FeedPage`].
    pub text: Zeroizing<Vec<u8>>,
    /// Whether there is anything in it that its reader did not know.
    pub is_news: bool,
}

/// The revision that a page follows, and who asks for it.
type At = (u64, Reader);

/// What was read of the feed lately.
pub(crate) struct FeedPages {
    kept: Mutex<HashMap<At, Kept>>,
    answers: Arc<Semaphore>,
    of_edges: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// An answer's place among all that may be on their way.
pub(super) struct Place {
    _of_edge: OwnedSemaphorePermit,
    _answers: OwnedSemaphorePermit,
}

struct Kept {
    /// What was committed when it was begun.
    committed: u64,
    since: Instant,
    page: Arc<OnceCell<Arc<Page>>>,
}

impl Default for FeedPages {
    fn default() -> Self {
        let answers = Arc::new(Semaphore::new(ANSWERS as usize));
        Self { kept: Mutex::default(), answers, of_edges: Mutex::default() }
    }
}

impl FeedPages {
    /// The page at a place, with all that was committed up to `committed`. Whoever asks for the same meanwhile gets the same.
    pub(super) async fn get(
        &self,
        state: &State,
        epoch: &str,
        at: At,
        committed: u64,
    ) -> Result<Arc<Page>, Error> {
        let cell = self.cell(at, committed);
        // Where its reader goes away, the next one reads it.
        let page = cell.get_or_try_init(|| async { Box::pin(read(state, epoch, at)).await }).await?.clone();
        self.forget();
        Ok(page)
    }

    /// A place for an answer of so many bytes to an edge, which holds it until it is sent. A client that does not read is cut off
    /// (`listen.rs`).
    pub(super) async fn place(&self, edge: &str, bytes: usize) -> Result<Place, Error> {
        let kibibytes = u32::try_from(bytes / 1024).unwrap_or(ANSWERS).clamp(1, ANSWERS);
        let of_edge = self.of_edge(edge).acquire_many_owned(1).await;
        let answers = self.answers.clone().acquire_many_owned(kibibytes);
        let internal = |closed| Error::Internal(Box::new(closed));
        Ok(Place { _of_edge: of_edge.map_err(internal)?, _answers: answers.await.map_err(internal)? })
    }

    /// An edge was removed.
    pub(super) fn forget_edge(&self, edge: &str) {
        self.of_edges.lock().unwrap_or_else(PoisonError::into_inner).remove(edge);
    }

    fn of_edge(&self, edge: &str) -> Arc<Semaphore> {
        let mut of_edges = self.of_edges.lock().unwrap_or_else(PoisonError::into_inner);
        of_edges.entry(edge.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(OF_EDGE))).clone()
    }

    fn cell(&self, at: At, committed: u64) -> Arc<OnceCell<Arc<Page>>> {
        let mut kept = self.kept();
        if let Some(known) = kept.get(&at).filter(|known| known.committed >= committed) {
            return known.page.clone();
        }
        let page = Arc::<OnceCell<_>>::default();
        kept.insert(at, Kept { committed, since: Instant::now(), page: page.clone() });
        page
    }

    /// Lets go of what is old, and of the oldest where there is too much.
    fn forget(&self) {
        let mut kept = self.kept();
        kept.retain(|_, page| page.since.elapsed() < KEPT);
        let mut ages: Vec<_> = kept.iter().map(|(at, page)| (page.since, *at, page.bytes())).collect();
        ages.sort_unstable_by_key(|(since, (after, _), _)| (*since, *after));
        let mut bytes = 0_usize;
        for (place, (_, at, size)) in ages.into_iter().rev().enumerate() {
            bytes = bytes.saturating_add(size);
            if place >= PAGES || bytes > BYTES {
                kept.remove(&at);
            }
        }
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<At, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn bytes(&self) -> usize {
        self.page.get().map_or(0, |page| page.text.len())
    }
}

async fn read(state: &State, epoch: &str, (after, reader): At) -> Result<Arc<Page>, Error> {
    let Changes { after, updates, until, more } = feed::since(state, after, reader).await?;
    let page = FeedPage {
        epoch: epoch.to_owned(),
        after,
        until: until.unwrap_or(after),
        more,
        updates,
        skipped: Vec::new(),
    };
    let text = serde_json::to_vec(&page).map_err(|error| Error::Internal(Box::new(error)))?;
    Ok(Arc::new(Page { text: Zeroizing::new(text), is_news: until.is_some() }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failure here is the test's failure")]

    use super::*;

    async fn put(pages: &FeedPages, after: u64, committed: u64, bytes: usize) {
        let page = Page { text: Zeroizing::new(vec![0; bytes]), is_news: true };
        let cell = pages.cell((after, Reader::Back), committed);
        cell.get_or_init(|| async { Arc::new(page) }).await;
        pages.forget();
    }

    fn kept(pages: &FeedPages) -> Vec<u64> {
        let mut kept: Vec<_> = pages.kept().keys().map(|(after, _)| *after).collect();
        kept.sort_unstable();
        kept
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_at_the_same_place_gets_the_same_until_there_is_more() {
        let pages = FeedPages::default();
        let first = pages.cell((5, Reader::Back), 7);
        assert!(Arc::ptr_eq(&first, &pages.cell((5, Reader::Back), 7)));
        assert!(
            Arc::ptr_eq(&first, &pages.cell((5, Reader::Back), 6)),
            "it has what was committed before, too"
        );
        assert!(!Arc::ptr_eq(&first, &pages.cell((4, Reader::Back), 7)));
        assert!(!Arc::ptr_eq(&first, &pages.cell((5, Reader::Here), 7)));
        let second = pages.cell((5, Reader::Back), 8);
        assert!(!Arc::ptr_eq(&first, &second), "something was committed since");
        assert!(Arc::ptr_eq(&second, &pages.cell((5, Reader::Back), 7)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_is_bounded_in_number_bytes_and_time() {
        let pages = FeedPages::default();
        for after in 0..100 {
            put(&pages, after, 1, 10).await;
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(kept(&pages), (100 - PAGES as u64..100).collect::<Vec<_>>());
        put(&pages, 200, 1, BYTES - 20).await;
        assert_eq!(kept(&pages), [98, 99, 200]);
        tokio::time::advance(Duration::from_millis(1)).await;
        put(&pages, 300, 1, BYTES + 1).await;
        assert_eq!(kept(&pages), Vec::<u64>::new(), "one that is too large is not kept at all");
        put(&pages, 1, 1, 1).await;
        tokio::time::advance(KEPT).await;
        put(&pages, 2, 1, 1).await;
        assert_eq!(kept(&pages), [2]);
    }

    #[tokio::test]
    async fn answers_wait_for_their_place() {
        let pages = FeedPages::default();
        let all = pages.place("one", usize::MAX).await.unwrap();
        let mut next = Box::pin(pages.place("two", 1));
        assert!(futures::poll!(&mut next).is_pending());
        drop(all);
        drop(next.await.unwrap());
    }

    #[tokio::test]
    async fn an_edge_that_does_not_read_keeps_nobody_else_waiting() {
        let pages = FeedPages::default();
        let first = pages.place("one", 1).await.unwrap();
        let _second = pages.place("one", 1).await.unwrap();
        let mut third = Box::pin(pages.place("one", 1));
        assert!(futures::poll!(&mut third).is_pending());
        drop(pages.place("two", 1).await.unwrap());
        drop(first);
        drop(third.await.unwrap());
    }
}
