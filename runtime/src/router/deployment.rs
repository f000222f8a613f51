//! A deployment as the edge uses it: its verified manifest and the way to its compiled code.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use af_content::source::Fetcher;
use af_contract::{ContentId, DeploymentRef, Limits, Manifest, World};
use bytes::Bytes;
use http::HeaderValue;

use crate::artifact::{Artifact, ArtifactError, ArtifactStore, Secrets};
use crate::host::{Given, Grants};
use crate::http::Terms;
use crate::logs::Logger;
use crate::sandbox::{Callee, Habits, IdleInstances};
use crate::usage::Counters;

/// One immutable version of a function.
pub struct Deployment {
    id: String,
    manifest_id: ContentId,
    manifest: Manifest,
    header: HeaderValue,
    terms: Terms,
    logger: Arc<Logger>,
    usage: Arc<Counters>,
    idle: Arc<IdleInstances>,
    habits: Arc<Habits>,
    grants: Arc<Grants>,
    /// Where it is private.
    secrets: Option<Secrets>,
    artifacts: ArtifactStore,
    /// Whether somebody has used it.
    used: AtomicBool,
}

/// Requests that one instance answers, one after another, unless the deployment says otherwise. WASI 0.2
/// guests are made for one; guests of 0.3 are told that there may be more.
const fn default_uses(world: World) -> u32 {
    match world {
        World::Proxy02 => 1,
        World::Service03 => 128,
    }
}

/// Requests that one instance works for at the same time, unless the deployment says otherwise: as many as
/// `wasmtime serve` lets into one.
const fn default_concurrency(world: World) -> u32 {
    match world {
        World::Proxy02 => 1,
        World::Service03 => 16,
    }
}

impl Deployment {
    /// Reads the manifest and checks it against its CID and the function that it must be of, in a project.
    pub(super) async fn load(
        reference: &DeploymentRef,
        (function, project): (&str, &str),
        blocks: &Fetcher,
        artifacts: &ArtifactStore,
    ) -> Result<Arc<Self>, ArtifactError> {
        let id = reference.manifest;
        let bytes = manifest(id, blocks).await?;
        let manifest =
            Manifest::decode(&bytes).map_err(|error| ArtifactError::Manifest(error.to_string()))?;
        if manifest.function != function {
            let reason = format!("it is of {}, not of {function}", manifest.function);
            return Err(ArtifactError::Manifest(reason));
        }
        let header = HeaderValue::try_from(id.to_string());
        let header = header.map_err(|error| ArtifactError::Manifest(error.to_string()))?;
        let artifacts = artifacts.clone();
        // Without a value that it needs a function would do something else than its owner wants.
        if !manifest.settings.keys().eq(reference.settings.keys()) {
            return Err(ArtifactError::Manifest("its settings are not those that it names".into()));
        }
        let secrets = Secrets::of(&manifest, reference.content_key.as_ref())?;
        let given = Given {
            project: project.to_owned(),
            settings: reference.settings.clone(),
            assets: manifest.assets,
            cipher: secrets.as_ref().map(|secrets| secrets.cipher().clone()),
            stores: manifest.stores.clone(),
            egress: manifest.egress.clone(),
        };
        let grants = Grants::new(artifacts.sandbox().services(), given);
        let world = manifest.code.world;
        let concurrency = manifest.concurrency.unwrap_or(default_concurrency(world));
        let uses = manifest.reuse.unwrap_or(default_uses(world));
        Ok(Arc::new(Self {
            id: reference.id.clone(),
            manifest_id: id,
            terms: Terms::of(&manifest),
            logger: Arc::new(Logger::new(function, &reference.id, artifacts.sandbox().tap())),
            usage: artifacts.sandbox().usage().of(function),
            manifest,
            header,
            idle: Arc::new(IdleInstances::new(uses, concurrency, artifacts.sandbox().idle().clone())),
            habits: Arc::default(),
            grants: Arc::new(grants),
            secrets,
            artifacts,
            used: AtomicBool::new(false),
        }))
    }

    /// The compiled code, from memory, this node's disk, or the content that it is made of.
    ///
    /// # Errors
    /// When the content is missing or corrupt, or the component cannot be compiled or linked.
    pub async fn artifact(&self) -> Result<Arc<Artifact>, ArtifactError> {
        self.artifacts.artifact(&self.manifest.code, self.secrets.as_ref()).await
    }

    /// Whether its code is used for the first time, which is news to the control plane. To be asked once it can be.
    pub(crate) fn is_first_use(&self) -> bool {
        !self.used.load(Ordering::Relaxed) && !self.used.swap(true, Ordering::Relaxed)
    }

    /// `dep_…`
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// All that a call needs.
    ///
    /// # Errors
    /// As [`Self::artifact`].
    pub async fn callee(&self) -> Result<Callee, ArtifactError> {
        Ok(Callee {
            logger: self.logger.clone(),
            usage: self.usage.clone(),
            artifact: self.artifact().await?,
            limits: self.manifest.limits,
            idle: self.idle.clone(),
            habits: self.habits.clone(),
            grants: self.grants.clone(),
        })
    }

    /// Where what its function uses is counted.
    pub(crate) fn usage(&self) -> Arc<Counters> {
        self.usage.clone()
    }

    /// The manifest's CID.
    #[must_use]
    pub fn manifest_id(&self) -> &ContentId {
        &self.manifest_id
    }

    /// The manifest.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What it says about its requests besides how they are answered.
    pub(crate) fn terms(&self) -> &Terms {
        &self.terms
    }

    /// What one request may use.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.manifest.limits
    }

    /// The manifest's CID for the response header that names who answered.
    pub(crate) fn header(&self) -> HeaderValue {
        self.header.clone()
    }
}

/// The manifest with this id, from this node's disk or whoever has it.
async fn manifest(id: ContentId, blocks: &Fetcher) -> Result<Bytes, ArtifactError> {
    let store = blocks.store().clone();
    let here =
        tokio::task::spawn_blocking(move || store.block(&id)).await.map_err(ArtifactError::interrupted)?;
    match here {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) if !blocks.has_sources() => Err(ArtifactError::Missing(id)),
        Err(error) if !blocks.has_sources() => Err(error.into()),
        _ => blocks.block(id).await.map_err(|error| ArtifactError::Unfetched(id, error)),
    }
}
