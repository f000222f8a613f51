//! From a content id to code that can be instantiated: verified, compiled once, kept in memory and on disk.

pub mod compile;
mod disk;
pub(crate) mod image;

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use af_content::{DiskStore, FileReadError, StoreError};
use af_contract::{Code, ContentId, World, limits};
use moka::future::Cache;
use tokio::sync::Semaphore;
use tracing::{info, warn};
use wasmtime::Engine;
use wasmtime::component::Component;
use wasmtime_wasi_http::handler::ProxyPre;
use wasmtime_wasi_http::{p2, p3};

use self::compile::{CompileError, Compiler};
use self::disk::{ArtifactDir, ArtifactKey, Parts};
use crate::sandbox::{Host, HostKind, Image, Sandbox, State};

/// Components compiled at the same time. Cranelift itself spreads one over all cores.
const COMPILATIONS: usize = 1;

/// Compiled and linked code of one component, shared by every deployment that has this code.
pub struct Artifact {
    /// Everything of an instantiation that can be done ahead.
    pub(crate) pre: ProxyPre<State>,
    pub(crate) engine: Engine,
    /// What was taken out of it and is lent to its instances.
    pub(crate) image: Option<Arc<Image>>,
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
    /// Stable.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing(_) => "content_missing",
            Self::Corrupt(_) => "content_corrupt",
            Self::Manifest(_) => "manifest_invalid",
            Self::Refused(_) => "component_refused",
            Self::Storage(_) => "storage_failed",
        }
    }

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
    memory: Cache<ArtifactKey, Arc<Artifact>>,
    dir: ArtifactDir,
    sandbox: Sandbox,
    blocks: DiskStore,
    compiler: Compiler,
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
        compiler: Compiler,
    ) -> Result<Self, ArtifactStoreError> {
        let opened = ArtifactDir::open(dir);
        let dir = opened.map_err(|source| ArtifactStoreError { path: dir.display().to_string(), source })?;
        let memory = Cache::builder()
            .max_capacity(memory_bytes)
            .weigher(|_, artifact: &Arc<Artifact>| artifact.size)
            .build();
        let compiling = Semaphore::new(COMPILATIONS);
        Ok(Self { inner: Arc::new(Inner { memory, dir, sandbox, blocks, compiler, compiling }) })
    }

    /// What the artifacts run in.
    #[must_use]
    pub fn sandbox(&self) -> &Sandbox {
        &self.inner.sandbox
    }

    /// The artifact of a component; made by one caller while all others wait for it.
    ///
    /// # Errors
    /// When its content cannot be had or used.
    pub async fn artifact(&self, code: &Code) -> Result<Arc<Artifact>, ArtifactError> {
        let key = key(code, self.inner.sandbox.host(code.world));
        if let Some(artifact) = self.inner.memory.get(&key).await {
            return Ok(artifact);
        }
        let (inner, wanted) = (self.inner.clone(), code.clone());
        // In a task of its own: a client that goes away must not stop what others wait for.
        let make = async move { tokio::spawn(inner.make(wanted)).await.map_err(ArtifactError::interrupted)? };
        let made = self.inner.memory.try_get_with(key, make).await;
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
        for host in self.sandbox.hosts(code.world) {
            if let Some(compiled) = self.load(code, host) {
                self.sandbox.metrics().loaded();
                return link(compiled, code.world, host);
            }
        }
        let wasm = self.blocks.file(&code.cid, &code.blake3, limits::CODE_BYTES)?;
        let started = std::time::Instant::now();
        let compiled = self.compile(&wasm, code.world);
        self.sandbox.metrics().compiled(compiled.as_ref().map_or_else(ArtifactError::code, |_| "compiled"));
        let (native, memory, host) = compiled?;
        info!(code = %code.cid, bytes = wasm.len(), time = ?started.elapsed(), kind = ?host.kind, "compiled a component");
        let parts = Parts { native: &native, memory: &memory };
        match self.dir.save(&key(code, host), &parts) {
            // Mapped from its file, it costs memory only while it is used.
            Ok(()) => {
                if let Some(compiled) = self.load(code, host) {
                    return link(compiled, code.world, host);
                }
            }
            Err(error) => warn!(code = %code.cid, %error, "compiled code is kept in memory only"),
        }
        // SAFETY: it comes from our own compiler, for this engine's settings.
        let component = unsafe { Component::deserialize(&host.engine, &native) }.map_err(refused)?;
        let image = (host.kind == HostKind::Imaged).then(|| Image::new(&memory)).transpose();
        let image = image.map_err(|error| ArtifactError::Storage(Arc::new(error)))?;
        link(Compiled { component, image }, code.world, host)
    }

    /// Without its initial memory, where the component allows it.
    fn compile(&self, wasm: &[u8], world: World) -> Result<(Vec<u8>, Vec<u8>, &Host), ArtifactError> {
        let imaged = self.sandbox.hosts(world).find(|host| host.kind == HostKind::Imaged);
        let split = imaged.and_then(|host| Some((host, image::split(wasm)?)));
        let (host, wasm, memory) = match split {
            Some((host, split)) => (host, Cow::Owned(split.component), split.memory),
            None => (self.sandbox.host(world), Cow::Borrowed(wasm), Vec::new()),
        };
        let native = self.compiler.compile(host.kind, &host.engine, &wasm).map_err(|error| match error {
            CompileError::Worker(error) => ArtifactError::Storage(Arc::new(error)),
            error => ArtifactError::Refused(error.to_string()),
        })?;
        Ok((native, memory, host))
    }

    fn load(&self, code: &Code, host: &Host) -> Option<Compiled> {
        let file = self.dir.load(&key(code, host))?;
        // SAFETY: the file carries a tag under this node's own key, so it is what `serialize` made
        // on this node, for this component and these engine settings; it is replaced, never written to.
        let loaded = unsafe { Component::deserialize_file(&host.engine, file.path()) };
        let loaded = loaded.map_err(|error| error.to_string()).and_then(|component| {
            let (file, offset, size) = file.memory();
            let image = (host.kind == HostKind::Imaged).then(|| Image::of(file, offset, size)).transpose();
            Ok(Compiled { component, image: image.map_err(|error| error.to_string())? })
        });
        loaded
            .inspect_err(|error| {
                warn!(code = %code.cid, error, "a compiled artifact does not load; compiling again");
            })
            .ok()
    }
}

/// A component's code, and the memory that was taken out of it, if it was.
struct Compiled {
    component: Component,
    image: Option<Image>,
}

fn key(code: &Code, host: &Host) -> ArtifactKey {
    ArtifactKey { code: code.blake3, compatibility: host.compatibility }
}

fn link(compiled: Compiled, world: World, host: &Host) -> Result<Artifact, ArtifactError> {
    let Compiled { component, image } = compiled;
    let range = component.image_range();
    let size = (range.end as usize).saturating_sub(range.start as usize);
    let pre = host.linker.instantiate_pre(&component).map_err(refused)?;
    let pre = match world {
        World::Proxy02 => ProxyPre::P2(p2::bindings::ProxyPre::new(pre).map_err(refused)?),
        World::Service03 => ProxyPre::P3(p3::bindings::ServicePre::new(pre).map_err(refused)?),
    };
    let size = u32::try_from(size).unwrap_or(u32::MAX);
    Ok(Artifact { pre, engine: host.engine.clone(), image: image.map(Arc::new), size })
}

fn refused(error: wasmtime::Error) -> ArtifactError {
    ArtifactError::Refused(format!("{error:#}"))
}
