//! From a content id to code that can be instantiated: verified, compiled once, kept in memory and on disk.

mod disk;

use std::path::Path;
use std::sync::Arc;

use af_content::{DiskStore, FileReadError, StoreError};
use af_contract::{Blake3Hash, Code, ContentId, World, limits};
use moka::future::Cache;
use tokio::sync::Semaphore;
use tracing::{info, warn};
use wasmtime::component::Component;
use wasmtime_wasi_http::handler::ProxyPre;
use wasmtime_wasi_http::{p2, p3};

use self::disk::ArtifactDir;
use crate::sandbox::{Sandbox, State};

/// Components compiled at the same time. Cranelift itself spreads one over all cores.
const COMPILATIONS: usize = 1;

/// Compiled and linked code of one component, shared by every deployment that has this code.
pub struct Artifact {
    /// Everything of an instantiation that can be done ahead.
    pub(crate) pre: ProxyPre<State>,
    size: u32,
}

/// Why a deployment's code cannot be had or used. Cheap to clone, since all that wait for it get it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ArtifactError {
    /// No source has the content.
    #[error("content {0} is missing")]
    Missing(ContentId),
    /// The content is not what the deployment recorded.
    #[error("the function's content is corrupt on this node")]
    Corrupt(#[source] Arc<FileReadError>),
    /// The manifest is not one, or of another function.
    #[error("the deployment's manifest is invalid: {0}")]
    Manifest(String),
    /// Wasmtime cannot compile or link it.
    #[error("the component cannot be run: {0}")]
    Refused(String),
    /// This node's disk or memory failed.
    #[error("this node's storage failed")]
    Storage(#[source] Arc<dyn std::error::Error + Send + Sync>),
}

impl ArtifactError {
    /// A blocking task that panicked or was cancelled.
    pub(crate) fn interrupted(error: tokio::task::JoinError) -> Self {
        Self::Storage(Arc::new(error))
    }
}

impl From<StoreError> for ArtifactError {
    fn from(error: StoreError) -> Self {
        FileReadError::from(error).into()
    }
}

impl From<FileReadError> for ArtifactError {
    fn from(error: FileReadError) -> Self {
        match error {
            FileReadError::Missing(id) => Self::Missing(id),
            FileReadError::Store(error @ StoreError::Io { .. }) => Self::Storage(Arc::new(error)),
            error => Self::Corrupt(Arc::new(error)),
        }
    }
}

/// The artifact directory is unusable.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {path} for compiled code")]
pub struct ArtifactStoreError {
    path: String,
    source: std::io::Error,
}

/// All artifacts of a node. Cheap to clone.
#[derive(Clone)]
pub struct ArtifactStore {
    inner: Arc<Inner>,
}

struct Inner {
    memory: Cache<Blake3Hash, Arc<Artifact>>,
    dir: ArtifactDir,
    sandbox: Sandbox,
    blocks: DiskStore,
    compiling: Semaphore,
}

impl ArtifactStore {
    /// Opens the cache in `dir`, keeping at most `memory_bytes` of compiled code in memory.
    ///
    /// # Errors
    /// When the directory cannot be made or its key cannot be read.
    pub fn open(
        dir: &Path,
        memory_bytes: u64,
        sandbox: Sandbox,
        blocks: DiskStore,
    ) -> Result<Self, ArtifactStoreError> {
        let opened = ArtifactDir::open(dir, sandbox.compatibility());
        let dir = opened.map_err(|source| ArtifactStoreError { path: dir.display().to_string(), source })?;
        let memory = Cache::builder()
            .max_capacity(memory_bytes)
            .weigher(|_, artifact: &Arc<Artifact>| artifact.size)
            .build();
        let compiling = Semaphore::new(COMPILATIONS);
        Ok(Self { inner: Arc::new(Inner { memory, dir, sandbox, blocks, compiling }) })
    }

    /// The artifact of a component; made by one caller while all others wait for it.
    ///
    /// # Errors
    /// When its content cannot be had or used.
    pub async fn artifact(&self, code: &Code) -> Result<Arc<Artifact>, ArtifactError> {
        if let Some(artifact) = self.inner.memory.get(&code.blake3).await {
            return Ok(artifact);
        }
        let (inner, wanted) = (self.inner.clone(), code.clone());
        // In a task of its own: a client that goes away must not stop what others wait for.
        let make = async move { tokio::spawn(inner.make(wanted)).await.map_err(ArtifactError::interrupted)? };
        let made = self.inner.memory.try_get_with(code.blake3, make).await;
        made.map_err(|error| ArtifactError::clone(&error))
    }
}

impl Inner {
    async fn make(self: Arc<Self>, code: Code) -> Result<Arc<Artifact>, ArtifactError> {
        let _permit =
            self.compiling.acquire().await.map_err(|error| ArtifactError::Storage(Arc::new(error)))?;
        let inner = self.clone();
        tokio::task::spawn_blocking(move || inner.make_blocking(&code))
            .await
            .map_err(ArtifactError::interrupted)?
            .map(Arc::new)
    }

    fn make_blocking(&self, code: &Code) -> Result<Artifact, ArtifactError> {
        if let Some(component) = self.load(code) {
            return self.link(&component, code.world);
        }
        let wasm = self.blocks.file(&code.cid, &code.blake3, limits::CODE_BYTES)?;
        let started = std::time::Instant::now();
        let component = Component::from_binary(self.sandbox.engine(), &wasm).map_err(refused)?;
        info!(code = %code.cid, bytes = wasm.len(), time = ?started.elapsed(), "compiled a component");
        let artifact = self.link(&component, code.world)?;
        let saved = component.serialize().map_err(std::io::Error::other);
        if let Err(error) = saved.and_then(|bytes| self.dir.save(&code.blake3, &bytes)) {
            warn!(code = %code.cid, %error, "compiled code is kept in memory only");
        }
        Ok(artifact)
    }

    fn load(&self, code: &Code) -> Option<Component> {
        let bytes = self.dir.load(&code.blake3)?;
        // SAFETY: the bytes carry a tag under this node's own key, so they are what `serialize` made
        // on this node, for this component and these engine settings.
        match unsafe { Component::deserialize(self.sandbox.engine(), &bytes) } {
            Ok(component) => Some(component),
            Err(error) => {
                warn!(code = %code.cid, %error, "a compiled artifact does not load; compiling again");
                None
            }
        }
    }

    fn link(&self, component: &Component, world: World) -> Result<Artifact, ArtifactError> {
        let image = component.image_range();
        let size = (image.end as usize).saturating_sub(image.start as usize);
        let pre = self.sandbox.linker().instantiate_pre(component).map_err(refused)?;
        let pre = match world {
            World::Proxy02 => ProxyPre::P2(p2::bindings::ProxyPre::new(pre).map_err(refused)?),
            World::Service03 => ProxyPre::P3(p3::bindings::ServicePre::new(pre).map_err(refused)?),
        };
        Ok(Artifact { pre, size: u32::try_from(size).unwrap_or(u32::MAX) })
    }
}

fn refused(error: wasmtime::Error) -> ArtifactError {
    ArtifactError::Refused(format!("{error:#}"))
}
