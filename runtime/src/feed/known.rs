//! What an edge knows of the feed, and what a page of it changes. Without I/O.

use std::collections::{HashMap, HashSet};

use af_contract::edge::{FeedPage, FeedRequest};
use af_contract::{Change, DomainName, Update};
use zeroize::Zeroizing;

/// For so long the control plane keeps a request that has no answer yet, milliseconds.
const WAIT: u64 = 50_000;

/// What is known.
#[derive(Default)]
pub struct Known {
    epoch: Option<String>,
    after: u64,
    /// Revisions of this history begin here, as the router counts them: it takes over nothing that is older than what it has.
    base: u64,
    /// The newest, as the router counts.
    newest: u64,
    things: HashSet<Thing>,
    /// All comes anew, and this is what has come of it.
    coming: Option<Vec<Told>>,
    complete: bool,
}

/// Something that answers requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Thing {
    Function(String),
    Site(String),
    Domain(DomainName),
}

/// A page, and its text as it came, in which there may be more than this version reads.
pub struct Told {
    pub page: FeedPage,
    pub text: Text,
}

/// JSON of a page, with settings in the clear.
pub type Text = Zeroizing<Vec<u8>>;

/// What follows from a page.
#[derive(Default)]
pub struct Taken {
    /// For the router.
    pub updates: Vec<Update>,
    /// For the disk.
    pub keep: Keep,
}

/// What is to be kept of what was told.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// There is nothing new.
    #[default]
    Nothing,
    /// All pages of what is known, which replace those before.
    Whole(Vec<Text>),
    /// A page, after those before.
    News(Text),
}

impl Known {
    /// What to ask for next.
    pub fn request(&self) -> FeedRequest {
        let anew = self.coming.is_some();
        FeedRequest {
            epoch: self.epoch.clone(),
            after: self.after,
            anew,
            wait_ms: if anew { 0 } else { WAIT },
        }
    }

    /// Everything up to this revision is known.
    pub const fn after(&self) -> u64 {
        self.after
    }

    /// Whether what is known is whole: what was once, and all that was told since.
    pub const fn has_all(&self) -> bool {
        self.complete
    }

    /// Has all told anew with the next page.
    pub fn forget_place(&mut self) {
        self.epoch = None;
        self.after = 0;
    }

    /// Takes a page over.
    pub fn take(&mut self, told: Told) -> Taken {
        let Told { page, text } = told;
        let goes_on = self.epoch.as_ref() == Some(&page.epoch) && page.after == self.after;
        if !goes_on {
            self.coming = Some(Vec::new());
        }
        self.epoch = Some(page.epoch.clone());
        self.after = page.until;
        match &mut self.coming {
            Some(pages) => {
                let is_last = !page.more;
                pages.push(Told { page, text });
                if is_last { self.begin_anew() } else { Taken::default() }
            }
            None => {
                let is_news = !(page.updates.is_empty() && page.skipped.is_empty());
                let updates = page.updates.into_iter().map(|update| self.change(update)).collect();
                Taken { updates, keep: if is_news { Keep::News(text) } else { Keep::Nothing } }
            }
        }
    }

    /// All has come: what is not in it is gone.
    fn begin_anew(&mut self) -> Taken {
        let pages = self.coming.take().unwrap_or_default();
        let mut gone = std::mem::take(&mut self.things);
        self.base = self.newest;
        let (mut updates, mut texts) = (Vec::new(), Vec::with_capacity(pages.len()));
        for Told { page, text } in pages {
            texts.push(text);
            for update in page.updates {
                gone.remove(&thing(&update.change));
                updates.push(self.change(update));
            }
        }
        self.newest += 1;
        let revision = self.newest;
        updates.extend(gone.into_iter().map(|thing| Update { revision, change: thing.gone() }));
        self.complete = true;
        Taken { updates, keep: Keep::Whole(texts) }
    }

    /// As the router counts.
    fn change(&mut self, update: Update) -> Update {
        let thing = thing(&update.change);
        if update.change.is_there() {
            self.things.insert(thing);
        } else {
            self.things.remove(&thing);
        }
        let revision = self.base.saturating_add(update.revision);
        self.newest = self.newest.max(revision);
        Update { revision, ..update }
    }
}

impl Thing {
    fn gone(self) -> Change {
        match self {
            Self::Function(id) => Change::Function { id, state: None },
            Self::Site(id) => Change::Site { id, state: None },
            Self::Domain(name) => Change::Domain { name, state: None },
        }
    }
}

/// The last of each thing, oldest first.
pub fn newest(updates: Vec<Update>) -> Vec<Update> {
    let mut last: HashMap<Thing, Update> = HashMap::new();
    for update in updates {
        last.insert(thing(&update.change), update);
    }
    let mut newest: Vec<_> = last.into_values().collect();
    newest.sort_by_key(|update| update.revision);
    newest
}

fn thing(change: &Change) -> Thing {
    match change {
        Change::Function { id, .. } => Thing::Function(id.clone()),
        Change::Site { id, .. } => Thing::Site(id.clone()),
        Change::Domain { name, .. } => Thing::Domain(name.clone()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failure here is the test's failure")]

    use af_contract::{SiteState, Slug};

    use super::*;

    fn site(id: &str, revision: u64, there: bool) -> Update {
        let state = SiteState { slug: Slug::parse(id).unwrap(), project: "prj_1".into(), root: None };
        Update { revision, change: Change::Site { id: id.into(), state: there.then_some(state) } }
    }

    fn page(epoch: &str, after: u64, until: u64, more: bool, updates: Vec<Update>) -> Told {
        let page = FeedPage { epoch: epoch.into(), after, until, more, updates, skipped: Vec::new() };
        Told { page, text: text(until) }
    }

    fn text(until: u64) -> Text {
        Zeroizing::new(until.to_string().into_bytes())
    }

    fn said(taken: &Taken) -> Vec<(u64, String, bool)> {
        let said = taken.updates.iter().map(|update| match &update.change {
            Change::Site { id, state } => (update.revision, id.clone(), state.is_some()),
            _ => unreachable!(),
        });
        said.collect()
    }

    #[test]
    fn pages_are_taken_whole_first_and_then_one_by_one() {
        let mut known = Known::default();
        assert_eq!(known.request(), FeedRequest { epoch: None, after: 0, anew: false, wait_ms: WAIT });
        let first = known.take(page("a", 0, 3, true, vec![site("one", 3, true)]));
        assert!(first.updates.is_empty() && first.keep == Keep::Nothing && !known.has_all());
        assert_eq!(
            known.request(),
            FeedRequest { epoch: Some("a".into()), after: 3, anew: true, wait_ms: 0 }
        );
        let second = known.take(page("a", 3, 5, false, vec![site("two", 5, true)]));
        assert_eq!(said(&second), [(3, "one".into(), true), (5, "two".into(), true)]);
        assert!(second.keep == Keep::Whole(vec![text(3), text(5)]) && known.has_all());
        let newest = known.newest;
        let news = known.take(page("a", 5, 9, false, vec![site("one", 9, false)]));
        assert_eq!((said(&news), news.keep), (vec![(9, "one".into(), false)], Keep::News(text(9))));
        assert!(9 > newest);
        let nothing = known.take(page("a", 9, 9, false, Vec::new()));
        assert!(nothing.updates.is_empty() && nothing.keep == Keep::Nothing);
        // What this version skips is kept for one that does not.
        let mut strange = page("a", 9, 10, false, Vec::new());
        strange.page.skipped.push("tunnel".into());
        let strange = known.take(strange);
        assert!(strange.updates.is_empty() && strange.keep == Keep::News(text(10)));
    }

    #[test]
    fn of_what_was_told_before_only_the_newest_counts() {
        let told =
            vec![site("one", 1, true), site("two", 2, true), site("one", 3, false), site("three", 4, true)];
        let newest: Vec<_> = newest(told).iter().map(|update| update.revision).collect();
        assert_eq!(newest, [2, 3, 4]);
    }

    #[test]
    fn another_history_replaces_all_and_counts_on() {
        let mut known = Known::default();
        known.take(page("a", 0, 50, false, vec![site("one", 40, true), site("two", 50, true)]));
        let before = known.newest;
        let restored = known.take(page("b", 0, 7, false, vec![site("two", 7, true), site("three", 6, true)]));
        let mut said = said(&restored);
        assert!(said.iter().all(|(revision, ..)| *revision > before), "{said:?}");
        said.sort_by(|one, other| one.1.cmp(&other.1));
        let there: Vec<_> = said.iter().map(|(_, id, there)| (id.as_str(), *there)).collect();
        assert_eq!(there, [("one", false), ("three", true), ("two", true)]);
        let newest = known.newest;
        let news = known.take(page("b", 7, 8, false, vec![site("two", 8, false)]));
        assert!(news.updates[0].revision > before);
        assert!(newest >= before);
    }

    #[test]
    fn a_later_change_counts_also_after_all_came_anew() {
        let mut known = Known::default();
        known.take(page("a", 0, 50, false, vec![site("one", 50, true)]));
        known.forget_place();
        let again = known.take(page("a", 0, 50, false, vec![site("one", 50, true)]));
        let revision = again.updates[0].revision;
        let news = known.take(page("a", 50, 51, false, vec![site("one", 51, false)]));
        assert!(news.updates[0].revision > revision);
    }
}
