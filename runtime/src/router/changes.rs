//! Takes over what the control plane tells.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use af_contract::edge::Awaited;
use af_contract::{
    Change, DomainName, DomainState, FunctionState, FunctionStatus, Owner, SiteState, Slug, Update,
};
use tracing::{error, info};

use super::hosts::Slot;
use super::{Answer, Entry, Inner, Rollout, RuntimeRouter, SiteEntry};
use crate::artifact::ArtifactError;
use crate::reports::Reports;

/// So many changes at once are news, whose code is compiled before anybody asks for it.
const AHEAD: usize = 16;

/// After an attempt to make a deployment ready that may end otherwise the next time; twice as long after each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Functions and sites by id, and what is known of each.
#[derive(Default)]
pub struct Owners {
    owners: HashMap<String, Owned>,
    /// How many of them may be gone.
    gone: usize,
}

/// So many that are gone are known at least, before they are looked for.
const GONE: usize = 64;

#[derive(Default)]
struct Owned {
    slot: Arc<Slot>,
    slug: Option<Slug>,
    revision: u64,
}

impl Owners {
    /// Forgets what is gone, unless a domain or a request has it still. Not each time: all have to be looked at for it.
    fn forget_gone(&mut self) {
        if self.gone < GONE || self.gone < self.owners.len() / 4 {
            return;
        }
        self.owners.retain(|_, owned| owned.slot.answer().is_some() || Arc::strong_count(&owned.slot) > 1);
        self.gone = 0;
    }
}

impl Inner {
    fn owners(&self) -> MutexGuard<'_, Owners> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn owned(&self, id: &str) -> Option<Arc<Slot>> {
        self.owners().owners.get(id).map(|owned| owned.slot.clone())
    }

    /// Gives an owner its slug's host. Returns its slot, or `None` where a newer revision is known.
    fn take(&self, owners: &mut Owners, id: &str, revision: u64, slug: Option<&Slug>) -> Option<Arc<Slot>> {
        let owned = owners.owners.entry(id.to_owned()).or_default();
        if owned.revision >= revision {
            return None;
        }
        owned.revision = revision;
        if owned.slug.as_ref() != slug {
            if let Some(old) = &owned.slug {
                self.hosts.remove_slug(old.as_str(), &owned.slot);
            }
            if let Some(new) = slug {
                self.hosts.put_slug(new.as_str(), owned.slot.clone());
            }
            owned.slug = slug.cloned();
        }
        Some(owned.slot.clone())
    }
}

impl RuntimeRouter {
    /// Takes over what is new or changed. Older revisions than the known ones are ignored.
    ///
    /// A function that answers goes on with its old deployment while another one is prepared, and
    /// keeps it if that fails. Everything else changes at once. Must be called within a runtime.
    pub fn apply(&self, updates: Vec<Update>) {
        let mut owners = self.inner.owners();
        // A start brings everything at once; most of it will not be asked for soon.
        let ahead = updates.len() <= AHEAD;
        for Update { revision, change } in updates {
            owners.gone += usize::from(!change.is_there());
            match change {
                Change::Function { id, state } => {
                    let slug = state.as_ref().map(|state| &state.slug);
                    if let Some(slot) = self.inner.take(&mut owners, &id, revision, slug) {
                        self.function(&slot, &id, revision, state, ahead);
                    }
                }
                Change::Site { id, state } => {
                    let slug = state.as_ref().map(|state| &state.slug);
                    if let Some(slot) = self.inner.take(&mut owners, &id, revision, slug) {
                        slot.set(state.map(|state| site(&id, state)));
                    }
                }
                Change::Domain { name, state } => self.domain(&mut owners, &name, state),
            }
        }
        owners.forget_gone();
    }

    fn function(&self, slot: &Arc<Slot>, id: &str, revision: u64, state: Option<FunctionState>, ahead: bool) {
        let Some(state) = state else {
            slot.set(None);
            return;
        };
        let known = match slot.answer().as_deref() {
            Some(Answer::Function(entry)) => Some(entry.clone()),
            _ => None,
        };
        let active = state.status == FunctionStatus::Active;
        let (blocks, artifacts) = (&self.inner.blocks, &self.inner.artifacts);
        let new = |state, known| Entry::new(id, revision, state, known, blocks, artifacts);
        let entry = Arc::new(new(state.clone(), known.as_deref()));
        let replaced = known.as_ref().filter(|known| {
            active && known.answers() && entry.has_deployment() && known.manifest() != entry.manifest()
                // What answers some clients already answers all of them at once.
                && !known.is_rolled_out(entry.reference())
        });
        match replaced {
            Some(known) => {
                // Its routes and previews count at once, also where the new deployment turns out to be unusable.
                let state = FunctionState { deployment: known.reference().cloned(), ..state };
                let old = Arc::new(new(state, Some(known)));
                old.expect(revision, entry.manifest());
                slot.set(Some(Arc::new(Answer::Function(old.clone()))));
                self.begin(slot, &old);
                tokio::spawn(self.clone().replace(slot.clone(), old, entry));
            }
            None => {
                slot.set(Some(Arc::new(Answer::Function(entry.clone()))));
                self.begin(slot, &entry);
                if ahead && entry.answers() {
                    tokio::spawn(self.clone().prepare_first(slot.clone(), entry));
                }
            }
        }
    }

    fn domain(&self, owners: &mut Owners, name: &DomainName, state: Option<DomainState>) {
        match state {
            Some(state) => {
                let (Owner::Function(id) | Owner::Site(id)) = state.owner;
                let slot = owners.owners.entry(id).or_default().slot.clone();
                self.inner.hosts.put_domain(name, slot);
            }
            None => self.inner.hosts.remove_domain(name),
        }
    }

    /// Has `old` replaced once `new` is ready.
    async fn replace(self, slot: Arc<Slot>, old: Arc<Entry>, new: Arc<Entry>) {
        let slug = new.slug();
        let is_next = || match slot.answer().as_deref() {
            Some(Answer::Function(current)) => Arc::ptr_eq(current, &old) && current.latest() == new.latest(),
            _ => false,
        };
        let prepared = self.make_ready(&new, &is_next, |cause| {
            error!(%slug, manifest = ?new.manifest(), error = %cause, "a deployment cannot be used; the old one goes on");
            old.fail(&new, cause.clone());
        });
        if !prepared.await {
            return;
        }
        let changing = self.inner.owners();
        // A later change may have come while this one was prepared.
        if is_next() {
            info!(%slug, manifest = ?new.manifest(), "a deployment went live");
            slot.set(Some(Arc::new(Answer::Function(new.clone()))));
            self.begin(&slot, &new);
        }
        drop(changing);
        report(&new, &self.inner.reports);
    }

    /// Makes a function ready that does not answer yet. The first request would, too, and tells its failure.
    async fn prepare_first(self, slot: Arc<Slot>, entry: Arc<Entry>) {
        let is_current = || match slot.answer().as_deref() {
            Some(Answer::Function(current)) => Arc::ptr_eq(current, &entry),
            _ => false,
        };
        let prepared = self.make_ready(&entry, &is_current, |cause| {
            error!(slug = %entry.slug(), manifest = ?entry.manifest(), error = %cause, "a deployment cannot be used");
        });
        if prepared.await {
            report(&entry, &self.inner.reports);
        }
    }

    /// Has the candidate of a rollout get its requests once it is ready.
    fn begin(&self, slot: &Arc<Slot>, entry: &Entry) {
        if let Some(rollout) = entry.rollout().filter(|rollout| !rollout.is_ready()) {
            tokio::spawn(self.clone().candidate(slot.clone(), rollout.clone()));
        }
    }

    async fn candidate(self, slot: Arc<Slot>, rollout: Arc<Rollout>) {
        let manifest = rollout.manifest();
        let is_current = || match slot.answer().as_deref() {
            Some(Answer::Function(current)) => {
                current.rollout().is_some_and(|current| Arc::ptr_eq(current, &rollout))
            }
            _ => false,
        };
        let prepared = self.make_ready(rollout.candidate(), &is_current, |cause| {
            error!(%manifest, error = %cause, "a candidate cannot be used and gets no requests");
        });
        if prepared.await {
            rollout.open();
            info!(%manifest, percent = rollout.state().percent, "a candidate gets requests");
            report(rollout.candidate(), &self.inner.reports);
        }
    }

    /// Tries until it is done, nobody wants it any more, or it is certain never to be. What fails is reported at once. Nothing is
    /// done where another task does it.
    async fn make_ready(
        &self,
        entry: &Entry,
        is_wanted: &(impl Fn() -> bool + Sync),
        failed: impl Fn(&ArtifactError) + Sync,
    ) -> bool {
        let Some(_preparing) = entry.begin_preparing() else { return false };
        let mut pause = FIRST_PAUSE;
        while is_wanted() {
            let Err(cause) = entry.prepare().await else { return true };
            if !is_wanted() {
                break;
            }
            failed(&cause);
            if let Some(deployment) = entry.reference() {
                self.inner.reports.failed(&deployment.id, &cause);
            }
            if !cause.may_pass() {
                break;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        false
    }

    /// Makes deployments ready and reports on them, as far as they are what their functions run here, or are to.
    pub fn prepare(&self, awaited: Vec<Awaited>) {
        for Awaited { function, deployment } in awaited {
            let Some(slot) = self.inner.owned(&function) else { continue };
            let answer = slot.answer();
            let Some(Answer::Function(entry)) = answer.as_deref() else { continue };
            let is_it = |entry: &Entry| {
                entry.answers() && entry.reference().is_some_and(|current| current.id == deployment)
            };
            if is_it(entry) {
                tokio::spawn(self.clone().prepare_first(slot.clone(), entry.clone()));
            } else if let Some(rollout) = entry.rollout().filter(|rollout| is_it(rollout.candidate())) {
                tokio::spawn(self.clone().candidate(slot.clone(), rollout.clone()));
            } else if let Some(cause) = entry.failure_of(&deployment) {
                self.inner.reports.failed(&deployment, &cause);
            }
        }
    }
}

/// Says that a deployment is ready.
fn report(entry: &Entry, reports: &Reports) {
    if let Some(deployment) = entry.reference().filter(|_| entry.answers()) {
        reports.ready(&deployment.id);
    }
}

fn site(id: &str, state: SiteState) -> Arc<Answer> {
    Arc::new(Answer::Site(SiteEntry::Named { id: id.into(), slug: state.slug, root: state.root }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failure here is the test's failure")]

    use super::*;

    #[test]
    fn what_is_gone_is_forgotten_unless_somebody_has_it_still() {
        let mut owners = Owners::default();
        let mut add = |id: &str| owners.owners.entry(id.to_owned()).or_default().slot.clone();
        add("there").set(Some(site(
            "there",
            SiteState { slug: Slug::parse("there").unwrap(), project: "prj_1".into(), root: None },
        )));
        // A domain leads to it.
        let held = add("held");
        for number in 0..GONE {
            drop(add(&number.to_string()));
        }
        owners.gone = GONE - 1;
        owners.forget_gone();
        assert_eq!(owners.owners.len(), GONE + 2, "not each time");
        owners.gone = GONE;
        owners.forget_gone();
        let mut known: Vec<_> = owners.owners.keys().cloned().collect();
        known.sort();
        assert_eq!((known, owners.gone), (vec!["held".to_owned(), "there".to_owned()], 0));
        drop(held);
        owners.gone = GONE;
        owners.forget_gone();
        assert_eq!(owners.owners.len(), 1);
    }
}
