//! What a function answers with, and what is about to replace it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use af_content::source::Fetcher;
use af_contract::{ContentId, DeploymentRef, FunctionState, FunctionStatus, RolloutFailure, Slug};
use http::HeaderMap;
use tokio::sync::OnceCell;

use super::tally::Arm;
use super::{Deployment, Rollout, RouteError, Routes};
use crate::artifact::{ArtifactError, ArtifactStore};
use crate::http::RequestError;
use crate::sandbox::Gate;

/// What a function answers with. Its deployment and routes never change; newer ones are a new entry.
pub struct Entry {
    function: Arc<str>,
    state: FunctionState,
    routes: Option<Arc<Routes>>,
    /// Read when it is first needed, so that a start does not read ten thousand manifests.
    deployment: OnceCell<Arc<Deployment>>,
    /// Made when they are first asked for, in the order of the state's.
    previews: Box<[OnceLock<Arc<Entry>>]>,
    rollout: Option<Arc<Rollout>>,
    next: Mutex<Next>,
    blocks: Fetcher,
    artifacts: ArtifactStore,
    gate: Gate,
    /// Whether a task is preparing it: one is enough.
    preparing: AtomicBool,
}

/// As long as this is there, nobody else prepares the entry.
pub(super) struct Preparing<'e>(&'e AtomicBool);

impl Drop for Preparing<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// What comes after this entry.
struct Next {
    revision: u64,
    pending: Option<ContentId>,
    failed: Option<(DeploymentRef, ArtifactError)>,
}

impl Entry {
    /// `known` is the entry before, if there is one.
    pub(super) fn new(
        function: &str,
        revision: u64,
        mut state: FunctionState,
        known: Option<&Self>,
        blocks: &Fetcher,
        artifacts: &ArtifactStore,
    ) -> Self {
        // With the same deployment, its instances and what is known of it go on.
        let same =
            known.zip(state.deployment.as_ref()).and_then(|(known, deployment)| known.with(deployment));
        let deployment = same.and_then(|known| known.deployment.get().cloned());
        let gate = known.map(|known| known.gate.clone()).unwrap_or_default();
        // With the same routes, what is known of their backends, and the connections to them, go on.
        let known_routes = known.and_then(|known| known.routes.as_ref());
        let routes = state.routes.take().map(|table| match known_routes {
            Some(known) if *known.table() == table => known.clone(),
            _ => Arc::new(Routes::compile(&table)),
        });
        let rollout = state.rollout.take().map(|rollout| {
            let deployment = Some(rollout.candidate.clone());
            let state = FunctionState { deployment, previews: Vec::new(), ..state.clone() };
            let before = known.and_then(|known| known.rollout.as_deref());
            let same = before.and_then(|before| before.entry_of(&rollout.candidate));
            let candidate = Self::new(function, revision, state, same, blocks, artifacts);
            Arc::new(Rollout::new(*rollout, Self { gate: gate.clone(), ..candidate }, before))
        });
        Self {
            function: function.into(),
            routes,
            rollout,
            deployment: OnceCell::new_with(deployment),
            previews: state.previews.iter().map(|_| OnceLock::new()).collect(),
            next: Mutex::new(Next { revision, pending: None, failed: None }),
            blocks: blocks.clone(),
            artifacts: artifacts.clone(),
            gate,
            preparing: AtomicBool::new(false),
            state,
        }
    }

    /// The same function with one of its newest deployments. `id` is lower case and without its prefix.
    pub(super) fn preview(&self, id: &str) -> Option<Arc<Self>> {
        let is_it = |reference: &DeploymentRef| {
            reference.id.strip_prefix("dep_").is_some_and(|known| known.eq_ignore_ascii_case(id))
        };
        let place = self.state.previews.iter().position(is_it)?;
        let entry = self.previews.get(place)?.get_or_init(|| {
            let deployment = self.state.previews.get(place).cloned();
            let state = FunctionState { deployment, previews: Vec::new(), ..self.state.clone() };
            let (blocks, artifacts) = (&self.blocks, &self.artifacts);
            let entry = Self::new(&self.function, self.latest(), state, None, blocks, artifacts);
            Arc::new(Self { routes: self.routes.clone(), gate: self.gate.clone(), ..entry })
        });
        Some(entry.clone())
    }

    /// What has this deployment already: this entry, or its candidate.
    fn with(&self, deployment: &DeploymentRef) -> Option<&Self> {
        if self.reference() == Some(deployment) {
            return Some(self);
        }
        self.rollout.as_deref()?.entry_of(deployment)
    }

    /// Who answers a client's request: the function as it is, or its candidate.
    pub(crate) fn chosen(&self, client: IpAddr, headers: &HeaderMap) -> &Self {
        let Some(rollout) = &self.rollout else { return self };
        rollout.candidate_for(client, headers).unwrap_or(self)
    }

    /// Counts how a request went that `chosen` of this function answered, while something is being rolled out. What is to be
    /// reported, if that stopped it.
    pub(crate) fn count(&self, chosen: &Self, failed: impl FnOnce() -> bool) -> Option<RolloutFailure> {
        let rollout = self.rollout.as_deref()?;
        let arm = if std::ptr::eq(self, chosen) { Arm::Active } else { Arm::Candidate };
        rollout.count(&self.function, arm, failed())
    }

    /// The gradual rollout of a candidate, if there is one.
    pub fn rollout(&self) -> Option<&Arc<Rollout>> {
        self.rollout.as_ref()
    }

    /// Whether a deployment is the candidate, and clients get it already.
    pub(super) fn is_rolled_out(&self, deployment: Option<&DeploymentRef>) -> bool {
        let ready = self.rollout.as_deref().filter(|rollout| rollout.is_ready());
        ready.zip(deployment).is_some_and(|(rollout, deployment)| rollout.entry_of(deployment).is_some())
    }

    /// The function's route table, if it has one.
    #[must_use]
    pub fn routes(&self) -> Option<&Arc<Routes>> {
        self.routes.as_ref()
    }

    /// Whether the function may answer.
    ///
    /// # Errors
    /// When it is switched off.
    pub fn check_active(&self) -> Result<(), RouteError> {
        match self.state.status {
            FunctionStatus::Active => Ok(()),
            FunctionStatus::Inactive => Err(RouteError::Inactive(self.state.slug.clone())),
        }
    }

    /// `fn_…`
    pub(crate) fn id(&self) -> &str {
        &self.function
    }

    /// Whose it is (`prj_…`).
    #[must_use]
    pub fn project(&self) -> &str {
        &self.state.project
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
        self.check_active()?;
        let reference = self.reference().ok_or_else(|| RouteError::NotDeployed(self.state.slug.clone()))?;
        let owner = (&*self.function, self.project());
        let load = || Deployment::load(reference, owner, &self.blocks, &self.artifacts);
        Ok(self.deployment.get_or_try_init(load).await?)
    }

    /// The manifest that will answer here once it is prepared.
    pub fn pending(&self) -> Option<ContentId> {
        self.next().pending
    }

    /// The newer manifest that could not be prepared, and why.
    pub fn failure(&self) -> Option<(ContentId, ArtifactError)> {
        self.next().failed.clone().map(|(deployment, error)| (deployment.manifest, error))
    }

    /// Why a newer deployment could not be prepared, if that is it.
    pub(super) fn failure_of(&self, deployment: &str) -> Option<ArtifactError> {
        self.next()
            .failed
            .as_ref()
            .filter(|(failed, _)| failed.id == deployment)
            .map(|(_, error)| error.clone())
    }

    /// Whoever is to prepare it, unless somebody is at it already.
    pub(super) fn begin_preparing(&self) -> Option<Preparing<'_>> {
        // Not `then_some`: one that is dropped says that nobody is at it.
        (!self.preparing.swap(true, Ordering::AcqRel)).then(|| Preparing(&self.preparing))
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
        &self.state.slug
    }

    /// The manifest of what answers here, if there is one.
    pub fn manifest(&self) -> Option<ContentId> {
        self.reference().map(|reference| reference.manifest)
    }

    pub(super) fn reference(&self) -> Option<&DeploymentRef> {
        self.state.deployment.as_ref()
    }

    pub(super) fn has_deployment(&self) -> bool {
        self.reference().is_some()
    }

    pub(super) fn answers(&self) -> bool {
        self.state.status == FunctionStatus::Active && self.has_deployment()
    }

    /// The newest revision that is known for this function.
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
            next.failed = successor.reference().map(|deployment| (deployment.clone(), error));
        }
    }

    fn next(&self) -> MutexGuard<'_, Next> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
