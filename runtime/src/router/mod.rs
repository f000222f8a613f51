//! RuntimeRouter: host -> function -> deployment. The table is immutable and swapped atomically; a
//! request that found its deployment keeps it to the end.

mod deployment;
mod entry;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use af_content::DiskStore;
use af_contract::{FunctionStatus, Route, Slug};
use arc_swap::ArcSwap;
use tracing::{error, info};

pub use self::deployment::Deployment;
pub use self::entry::Entry;
use crate::artifact::ArtifactStore;

/// No function answers at a host.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// Not a host of this platform.
    #[error("no site or function lives at {0:?}; functions answer at <slug>.<the platform's domain>")]
    UnknownHost(String),
    /// A slug that nobody has.
    #[error("there is no function with the slug {0:?}")]
    FunctionNotFound(String),
    /// Switched off.
    #[error(
        "the function {0:?} is switched off; its owner can switch it on with `af functions update --status ACTIVE`"
    )]
    Inactive(Slug),
    /// Created, but without code.
    #[error("the function {0:?} has no deployment yet; make one with `af functions deploy`")]
    NotDeployed(Slug),
}

/// So many routes at once are news, whose code is compiled before anybody asks for it.
const AHEAD: usize = 16;

type Table = HashMap<Slug, Arc<Entry>>;

/// Finds deployments by host. Cheap to clone.
#[derive(Clone)]
pub struct RuntimeRouter {
    inner: Arc<Inner>,
}

struct Inner {
    /// `.localhost`
    suffix: String,
    table: ArcSwap<Table>,
    /// Held while the table is replaced, never while anything is awaited or read.
    changing: Mutex<()>,
    blocks: DiskStore,
    artifacts: ArtifactStore,
}

impl RuntimeRouter {
    /// An empty table for hosts under `domain`.
    #[must_use]
    pub fn new(domain: &str, blocks: DiskStore, artifacts: ArtifactStore) -> Self {
        let inner = Inner {
            suffix: format!(".{}", domain.to_ascii_lowercase()),
            table: ArcSwap::default(),
            changing: Mutex::new(()),
            blocks,
            artifacts,
        };
        Self { inner: Arc::new(inner) }
    }

    /// The function at a lower-case host, with or without port.
    ///
    /// # Errors
    /// When the host is not the platform's, or its slug names no function.
    pub fn find(&self, host: &str) -> Result<Arc<Entry>, RouteError> {
        let name = host.rsplit_once(':').map_or(host, |(name, _port)| name);
        let slug = name
            .strip_suffix(self.inner.suffix.as_str())
            .filter(|slug| !slug.is_empty() && !slug.contains('.'))
            .ok_or_else(|| RouteError::UnknownHost(name.chars().take(255).collect()))?;
        let table = self.inner.table.load();
        table.get(slug).cloned().ok_or_else(|| RouteError::FunctionNotFound(slug.chars().take(63).collect()))
    }

    /// Takes over new and changed routes. Older revisions than the known ones are ignored.
    ///
    /// A function that answers goes on with its old deployment while the new one is prepared, and
    /// keeps it if that fails. Everything else changes at once. Must be called within a runtime.
    pub fn apply(&self, routes: Vec<Route>) {
        let _changing = self.inner.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = Table::clone(&self.inner.table.load());
        // A start brings all routes at once; most of them will not be asked for soon.
        let ahead = routes.len() <= AHEAD;
        for route in routes {
            let known = table.get(&route.slug).cloned();
            if known.as_ref().is_some_and(|known| known.latest() >= route.revision) {
                continue;
            }
            let Some(target) = &route.target else {
                table.remove(&route.slug);
                continue;
            };
            let active = target.status == FunctionStatus::Active;
            let gate = known.as_ref().map(|known| known.gate().clone()).unwrap_or_default();
            let entry = Entry::new(&route, target, gate, &self.inner.blocks, &self.inner.artifacts);
            let entry = Arc::new(entry);
            match known.filter(|known| active && entry.has_deployment() && known.answers()) {
                Some(known) => {
                    known.expect(route.revision, entry.manifest());
                    tokio::spawn(self.clone().replace(known, entry));
                }
                None => {
                    table.insert(route.slug.clone(), entry.clone());
                    if ahead && entry.answers() {
                        tokio::spawn(prepare(entry));
                    }
                }
            }
        }
        self.inner.table.store(Arc::new(table));
    }

    async fn replace(self, old: Arc<Entry>, new: Arc<Entry>) {
        let slug = new.slug().clone();
        if let Err(cause) = new.prepare().await {
            error!(%slug, manifest = ?new.manifest(), error = %cause, "a deployment cannot be used; the old one goes on");
            old.fail(&new, cause);
            return;
        }
        let _changing = self.inner.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = Table::clone(&self.inner.table.load());
        // A later change may have come while this one was prepared.
        if table
            .get(&slug)
            .is_some_and(|current| Arc::ptr_eq(current, &old) && current.latest() == new.latest())
        {
            info!(%slug, manifest = ?new.manifest(), "a deployment went live");
            table.insert(slug, new);
            self.inner.table.store(Arc::new(table));
        }
    }
}

/// Makes a function ready that does not answer yet. The first request would, too, and tells its failure.
async fn prepare(entry: Arc<Entry>) {
    if let Err(cause) = entry.prepare().await {
        error!(slug = %entry.slug(), manifest = ?entry.manifest(), error = %cause, "a deployment cannot be used");
    }
}
