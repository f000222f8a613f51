//! One slug's place in the table: what answers there, and what is about to.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use af_content::DiskStore;
use af_contract::route::Target;
use af_contract::{ContentId, DeploymentRef, FunctionStatus, Route, Slug};
use tokio::sync::OnceCell;

use super::{Deployment, RouteError};
use crate::artifact::{ArtifactError, ArtifactStore};
use crate::http::RequestError;
use crate::sandbox::Gate;

/// What the table holds for a slug. Its deployment never changes; a newer one is a new entry.
pub struct Entry {
    slug: Slug,
    target: Target,
    /// Read when it is first needed, so that a start does not read ten thousand manifests.
    deployment: OnceCell<Arc<Deployment>>,
    next: Mutex<Next>,
    blocks: DiskStore,
    artifacts: ArtifactStore,
    gate: Gate,
}

/// What comes after this entry.
struct Next {
    revision: u64,
    pending: Option<ContentId>,
    failed: Option<(ContentId, ArtifactError)>,
}

impl Entry {
    /// `gate` is the one of the entry before, if there is one.
    pub(super) fn new(
        route: &Route,
        target: &Target,
        gate: Gate,
        blocks: &DiskStore,
        artifacts: &ArtifactStore,
    ) -> Self {
        Self {
            slug: route.slug.clone(),
            target: target.clone(),
            deployment: OnceCell::new(),
            next: Mutex::new(Next { revision: route.revision, pending: None, failed: None }),
            blocks: blocks.clone(),
            artifacts: artifacts.clone(),
            gate,
        }
    }

    /// The function's share of the server.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// What answers here.
    ///
    /// # Errors
    /// When the function is switched off or has no deployment, or its manifest cannot be read.
    pub async fn deployment(&self) -> Result<&Arc<Deployment>, RequestError> {
        if self.target.status == FunctionStatus::Inactive {
            return Err(RouteError::Inactive(self.slug.clone()).into());
        }
        let reference = self.reference().ok_or_else(|| RouteError::NotDeployed(self.slug.clone()))?;
        let load = || Deployment::load(reference, &self.target, &self.blocks, &self.artifacts);
        Ok(self.deployment.get_or_try_init(load).await?)
    }

    /// The manifest that will answer here once it is prepared.
    pub fn pending(&self) -> Option<ContentId> {
        self.next().pending
    }

    /// The newer manifest that could not be prepared, and why.
    pub fn failure(&self) -> Option<(ContentId, ArtifactError)> {
        self.next().failed.clone()
    }

    /// Loads, verifies and compiles.
    pub(super) async fn prepare(&self) -> Result<(), ArtifactError> {
        match self.deployment().await {
            Ok(deployment) => deployment.artifact().await.map(drop),
            Err(RequestError::Artifact(error)) => Err(error),
            // Switched off or empty: there is nothing to prepare.
            Err(_) => Ok(()),
        }
    }

    pub(super) fn slug(&self) -> &Slug {
        &self.slug
    }

    /// The manifest of what answers here, if there is one.
    pub fn manifest(&self) -> Option<ContentId> {
        self.reference().map(|reference| reference.manifest)
    }

    fn reference(&self) -> Option<&DeploymentRef> {
        self.target.deployment.as_ref()
    }

    pub(super) fn has_deployment(&self) -> bool {
        self.reference().is_some()
    }

    pub(super) fn answers(&self) -> bool {
        self.target.status == FunctionStatus::Active && self.has_deployment()
    }

    /// The newest revision that is known for this slug.
    pub(super) fn latest(&self) -> u64 {
        self.next().revision
    }

    pub(super) fn expect(&self, revision: u64, manifest: Option<ContentId>) {
        *self.next() = Next { revision, pending: manifest, failed: None };
    }

    pub(super) fn fail(&self, successor: &Self, error: ArtifactError) {
        let mut next = self.next();
        if next.revision == successor.latest() {
            next.pending = None;
            next.failed = successor.manifest().map(|manifest| (manifest, error));
        }
    }

    fn next(&self) -> MutexGuard<'_, Next> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
