//! Host -> what answers there. Lookups take no lock and wait for nobody; a change replaces one entry.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use af_contract::DomainName;
use arc_swap::ArcSwapOption;

use super::Answer;

/// A function or site that hosts lead to. What answers changes; the slot stays, so hosts need not be touched then.
#[derive(Default)]
pub struct Slot {
    answer: ArcSwapOption<Answer>,
}

/// All hosts that are known: slugs, which have no dot, and custom domains, which have one at least.
#[derive(Default)]
pub struct HostTable {
    slots: papaya::HashMap<Box<str>, Arc<Slot>>,
    /// Wildcard domains in it: while there are none, nobody looks for one.
    wildcards: AtomicUsize,
}

impl Slot {
    /// What answers now.
    pub fn answer(&self) -> Option<Arc<Answer>> {
        self.answer.load_full()
    }

    pub(super) fn set(&self, answer: Option<Arc<Answer>>) {
        self.answer.store(answer);
    }
}

impl HostTable {
    /// What is under a slug.
    pub fn slug(&self, slug: &str) -> Option<Arc<Slot>> {
        self.slots.pin().get(slug).cloned()
    }

    /// What is under a domain: exactly this name, or a wildcard that covers it.
    pub fn domain(&self, host: &str) -> Option<Arc<Slot>> {
        let slots = self.slots.pin();
        let exact = slots.get(host);
        if exact.is_some() || self.wildcards.load(Ordering::Relaxed) == 0 {
            return exact.cloned();
        }
        // A wildcard's key begins with its dot.
        slots.get(host.get(host.find('.')?..)?).cloned()
    }

    pub(super) fn put_slug(&self, slug: &str, slot: Arc<Slot>) {
        self.slots.pin().insert(slug.into(), slot);
    }

    /// Unless somebody else has it by now.
    pub(super) fn remove_slug(&self, slug: &str, slot: &Arc<Slot>) {
        let _another = self.slots.pin().remove_if(slug, |_, known| Arc::ptr_eq(known, slot));
    }

    pub(super) fn put_domain(&self, name: &DomainName, slot: Arc<Slot>) {
        let new = self.slots.pin().insert(key(name).into(), slot).is_none();
        if new && name.wildcard_base().is_some() {
            self.wildcards.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn remove_domain(&self, name: &DomainName) {
        let gone = self.slots.pin().remove(key(name)).is_some();
        if gone && name.wildcard_base().is_some() {
            self.wildcards.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// `*.example.com` is found by what a host has behind its first label.
fn key(name: &DomainName) -> &str {
    name.as_str().strip_prefix('*').unwrap_or(name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_that_changed_hands_stays_with_its_new_owner() {
        let hosts = HostTable::default();
        let [one, other] = [Arc::new(Slot::default()), Arc::new(Slot::default())];
        hosts.put_slug("foo", one.clone());
        // Changes come in the order of their revisions, and only the newest of each: the new owner's may be first.
        hosts.put_slug("foo", other.clone());
        hosts.remove_slug("foo", &one);
        assert!(Arc::ptr_eq(&hosts.slug("foo").unwrap(), &other));
        hosts.remove_slug("foo", &other);
        assert!(hosts.slug("foo").is_none());
    }

    #[test]
    fn an_exact_name_comes_before_a_wildcard() {
        let hosts = HostTable::default();
        let [exact, wildcard] = [Arc::new(Slot::default()), Arc::new(Slot::default())];
        let name = |text| DomainName::parse(text).unwrap();
        hosts.put_domain(&name("www.example.com"), exact.clone());
        assert!(hosts.domain("api.example.com").is_none());
        hosts.put_domain(&name("*.example.com"), wildcard.clone());
        assert!(Arc::ptr_eq(&hosts.domain("www.example.com").unwrap(), &exact));
        assert!(Arc::ptr_eq(&hosts.domain("api.example.com").unwrap(), &wildcard));
        for other in ["example.com", "a.api.example.com", "example.org", ".example.com"] {
            assert!(hosts.domain(other).is_none_or(|_| other == ".example.com"), "{other}");
        }
        hosts.remove_domain(&name("*.example.com"));
        assert!(hosts.domain("api.example.com").is_none());
        assert!(hosts.domain("www.example.com").is_some());
    }
}
