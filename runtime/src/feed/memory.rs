//! What an edge knows of the feed, in memory and on its disk: a page is kept before it is in use, so that a crash in between repeats it.

use std::path::Path;

use af_contract::Update;
use af_contract::edge::{FeedPage, FeedRequest};

use super::FeedError;
use super::known::{Keep, Known, Text, Told};
use super::saved::Saved;

/// Changes on the disk may have so many bytes more than what they are changes of, before all is asked for anew.
const GROWTH: u64 = 4 << 20;

/// Both.
pub struct Memory {
    known: Known,
    saved: Saved,
}

/// What follows from a page.
pub struct News {
    /// For the router.
    pub updates: Vec<Update>,
    /// Everything up to this revision is known.
    pub after: u64,
    /// Whether the disk has it.
    pub kept: Result<(), FeedError>,
}

impl Memory {
    /// What an earlier process was told, and the pages of that, as far as they are well.
    pub fn open(dir: &Path, secret: &[u8]) -> Result<(Self, Vec<FeedPage>), FeedError> {
        let (saved, pages) = Saved::open(dir, secret)?;
        Ok((Self { known: Known::default(), saved }, pages))
    }

    /// Takes over a page that is on the disk.
    pub fn recall(&mut self, page: FeedPage) -> Vec<Update> {
        self.known.take(Told { page, text: Text::default() }).updates
    }

    /// What to ask for next.
    pub fn request(&self) -> FeedRequest {
        self.known.request()
    }

    /// Everything up to this revision is known.
    pub const fn after(&self) -> u64 {
        self.known.after()
    }

    /// Whether what is known is whole.
    pub const fn has_all(&self) -> bool {
        self.known.has_all()
    }

    /// Takes over a page that was told.
    pub fn take(&mut self, told: Told) -> News {
        let taken = self.known.take(told);
        let is_news = matches!(taken.keep, Keep::News(_));
        let kept = match taken.keep {
            Keep::Whole(pages) => self.saved.replace(&pages),
            Keep::News(page) => self.saved.append(page),
            Keep::Nothing => Ok(()),
        };
        let after = self.known.after();
        // What the disk lacks would be missing at the next start: it gets all anew, once it can. All that comes in pages takes its place
        // with the last of them, and must not be begun anew by each before that.
        if kept.is_err() || (is_news && self.saved.has_grown(GROWTH)) {
            self.known.forget_place();
        }
        News { updates: taken.updates, after, kept }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failure here is the test's failure")]

    use af_contract::{Change, SiteState, Slug};
    use zeroize::Zeroizing;

    use super::*;

    /// A page with one site, and so many bytes beside it.
    fn page(after: u64, more: bool, bytes: usize) -> Told {
        let revision = after + 1;
        let state = SiteState { slug: Slug::parse("a-site").unwrap(), project: "prj_1".into(), root: None };
        let change = Change::Site { id: format!("site_{revision}"), state: Some(state) };
        let updates = vec![Update { revision, change }];
        let page =
            FeedPage { epoch: "a".into(), after, until: revision, more, updates, ..FeedPage::default() };
        let mut text = serde_json::to_vec(&page).unwrap();
        text.extend(vec![b' '; bytes]);
        Told { page, text: Zeroizing::new(text) }
    }

    fn revisions(news: &News) -> usize {
        assert!(news.kept.is_ok());
        news.updates.len()
    }

    #[test]
    fn a_snapshot_of_several_pages_comes_to_an_end_after_what_is_kept_has_grown() {
        let dir = tempfile::tempdir().unwrap();
        let (mut memory, _) = Memory::open(dir.path(), b"secret").unwrap();
        let asked = |memory: &Memory| {
            let FeedRequest { epoch, after, anew, .. } = memory.request();
            (epoch.is_some(), after, anew)
        };
        assert_eq!(revisions(&memory.take(page(0, false, 0))), 1);
        assert_eq!(asked(&memory), (true, 1, false));
        let grown = memory.take(page(1, false, usize::try_from(2 * GROWTH).unwrap()));
        assert_eq!((revisions(&grown), grown.after), (1, 2));
        assert_eq!(asked(&memory), (false, 0, false), "all is asked for anew");
        // The file is as it was until the last page has come, and that is nothing to begin anew for.
        assert_eq!(revisions(&memory.take(page(0, true, 0))), 0);
        assert_eq!(asked(&memory), (true, 1, true));
        assert_eq!(revisions(&memory.take(page(1, true, 0))), 0);
        assert_eq!(asked(&memory), (true, 2, true));
        let whole = memory.take(page(2, false, 0));
        assert_eq!((revisions(&whole), whole.after, memory.has_all()), (3, 3, true));
        assert_eq!(asked(&memory), (true, 3, false));
        assert!(dir.path().join("feed.log").metadata().unwrap().len() < GROWTH);
        // It goes on from there, also after a restart.
        assert_eq!(revisions(&memory.take(page(3, false, 0))), 1);
        assert_eq!(asked(&memory), (true, 4, false));
        let (mut memory, pages) = Memory::open(dir.path(), b"secret").unwrap();
        let recalled: Vec<_> = pages.into_iter().map(|page| memory.recall(page).len()).collect();
        assert_eq!((recalled, memory.after(), memory.has_all()), (vec![0, 0, 3, 1], 4, true));
    }
}
