//! From a content id to code that can be instantiated: verified, compiled once, kept in memory and on disk.

pub mod compile;
mod disk;
pub(crate) mod image;
mod rewind;
mod secrets;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use af_content::private::PrivateError;
use af_content::source::{DagBounds, FetchError, Fetcher};
use af_content::{FileReadError, StoreError};
use af_contract::{Blake3Hash, Code, ContentId, World, limits};
use moka::future::Cache;
use tokio::sync::Semaphore;
use tracing::{info, warn};
use wasmtime::component::{Component, ComponentExportIndex, TypedFunc};
use wasmtime::{Engine, Store};
use wasmtime_wasi_http::handler::{Proxy, ProxyPre};
use wasmtime_wasi_http::{p2, p3};

use self::compile::{CompileError, Compiler};
use self::disk::{ArtifactDir, Key, Kind, Name};
pub use self::secrets::Secrets;
use crate::sandbox::{Host, HostKind, Image, Sandbox, State};

/// Components compiled at the same time. Cranelift itself spreads one over all cores.
const COMPILATIONS: usize = 1;

/// What is fetched of a component at most: its bytes and what links them, in blocks of 1 KiB and more.
const CODE_BOUNDS: DagBounds = DagBounds { bytes: limits::CODE_BYTES + (4 << 20), blocks: 1 << 16 };

/// A component that can be instantiated, shared by every deployment that has this code.
pub struct Artifact {
    pub(crate) program: Arc<Program>,
    /// What was taken out of the component and is lent to its instances.
    pub(crate) image: Option<Arc<Image>>,
    size: u32,
}

/// Compiled and linked code. Components that differ in their initial memory only, such as JavaScript
/// functions, which are one engine with different scripts in its memory, have it in common.
pub(crate) struct Program {
    /// Everything of an instantiation that can be done ahead.
    pub(crate) pre: ProxyPre<State>,
    /// Where the exports of a WASI 0.2 component are.
    indices: Option<p2::bindings::ProxyIndices>,
    /// What sets an instance's globals back; nothing where that cannot be done.
    rewind: Vec<ComponentExportIndex>,
    pub(crate) engine: Engine,
    /// Of the mapped file, bytes.
    size: usize,
}

impl Program {
    /// A new instance, and the functions that set it back to how it is now, if it has them.
    pub(crate) async fn instantiate(
        &self,
        store: &mut Store<State>,
    ) -> wasmtime::Result<(Proxy, Vec<TypedFunc<(), ()>>)> {
        let (ProxyPre::P2(pre), Some(indices)) = (&self.pre, &self.indices) else {
            return Ok((self.pre.instantiate_async(store).await?, Vec::new()));
        };
        let instance = pre.instance_pre().instantiate_async(&mut *store).await?;
        let proxy = Proxy::P2(indices.load(&mut *store, &instance)?);
        let rewind = self.rewind.iter().map(|index| instance.get_typed_func(&mut *store, index));
        Ok((proxy, rewind.collect::<Result<_, _>>()?))
    }
}

/// Why a deployment's code cannot be had or used. Cheap to clone, since all that wait for it get it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ArtifactError {
    /// No source has the content.
    #[error("content {0} is missing")]
    Missing(ContentId),
    /// No source has the content, or none answers.
    #[error("content {0} cannot be fetched")]
    Unfetched(ContentId, #[source] Arc<FetchError>),
    /// The content is not what the deployment recorded.
    #[error("the function's content is corrupt on this node")]
    Corrupt(#[source] Arc<FileReadError>),
    /// The manifest is not one, or of another function.
    #[error("the deployment's manifest is invalid: {0}")]
    Manifest(String),
    /// It is private, and the control plane told no key for it.
    #[error("this node was not told the key of the function's content")]
    NoKey,
    /// It is encrypted with another key, or damaged.
    #[error("the function's content cannot be decrypted")]
    Private(#[source] Arc<PrivateError>),
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
            Self::Unfetched(..) => "content_unavailable",
            Self::Corrupt(_) => "content_corrupt",
            Self::Manifest(_) => "manifest_invalid",
            Self::NoKey => "content_key_missing",
            Self::Private(_) => "content_undecryptable",
            Self::Refused(_) => "component_refused",
            Self::Storage(_) => "storage_failed",
        }
    }

    /// Whether a later attempt may end otherwise: a source was away, or this node was too full.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Missing(_) | Self::Unfetched(..) | Self::Storage(_))
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
    memory: Cache<Key, Arc<Artifact>>,
    /// Those that any artifact uses.
    programs: Mutex<HashMap<Key, Weak<Program>>>,
    dir: ArtifactDir,
    sandbox: Sandbox,
    blocks: Fetcher,
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
        blocks: Fetcher,
        compiler: Compiler,
    ) -> Result<Self, ArtifactStoreError> {
        let opened = ArtifactDir::open(dir);
        let dir = opened.map_err(|source| ArtifactStoreError { path: dir.display().to_string(), source })?;
        let memory = Cache::builder()
            .max_capacity(memory_bytes)
            .weigher(|_, artifact: &Arc<Artifact>| artifact.size)
            .build();
        let compiling = Semaphore::new(COMPILATIONS);
        let programs = Mutex::default();
        Ok(Self { inner: Arc::new(Inner { memory, programs, dir, sandbox, blocks, compiler, compiling }) })
    }

    /// What the artifacts run in.
    #[must_use]
    pub fn sandbox(&self) -> &Sandbox {
        &self.inner.sandbox
    }

    /// The artifact of a component, which is encrypted where there are secrets; made by one caller while all others wait
    /// for it. It is known by the BLAKE3 of what is stored.
    ///
    /// # Errors
    /// When its content cannot be had or used.
    pub async fn artifact(
        &self,
        code: &Code,
        secrets: Option<&Secrets>,
    ) -> Result<Arc<Artifact>, ArtifactError> {
        let key = Key::new(code.blake3, self.inner.sandbox.host(code.world));
        if let Some(artifact) = self.inner.memory.get(&key).await {
            return Ok(artifact);
        }
        let (inner, wanted, secrets) = (self.inner.clone(), code.clone(), secrets.cloned());
        // In a task of its own: a client that goes away must not stop what others wait for.
        let make = async move {
            tokio::spawn(inner.make(wanted, secrets)).await.map_err(ArtifactError::interrupted)?
        };
        let made = self.inner.memory.try_get_with(key, make).await;
        made.map_err(|error| ArtifactError::clone(&error))
    }
}

impl Inner {
    async fn make(
        self: Arc<Self>,
        code: Code,
        secrets: Option<Secrets>,
    ) -> Result<Arc<Artifact>, ArtifactError> {
        let (inner, wanted) = (self.clone(), code.clone());
        let loaded = tokio::task::spawn_blocking(move || inner.load(&wanted)).await;
        if let Some(artifact) = loaded.map_err(ArtifactError::interrupted)? {
            self.sandbox.metrics().loaded();
            return Ok(Arc::new(artifact));
        }
        let _permit =
            self.compiling.acquire().await.map_err(|error| ArtifactError::Storage(Arc::new(error)))?;
        let mut made = self.clone().compile_apart(code.clone(), secrets.clone()).await;
        if let Err(ArtifactError::Missing(_) | ArtifactError::Corrupt(_)) = &made
            && self.blocks.has_sources()
        {
            made = match self.blocks.dag(code.cid, CODE_BOUNDS, &mut |_| {}).await {
                Ok(_) => self.clone().compile_apart(code, secrets).await,
                Err(error) => Err(ArtifactError::Unfetched(code.cid, error)),
            };
        }
        made.map(Arc::new).inspect_err(|error| self.sandbox.metrics().compiled(error.code()))
    }

    /// On a thread of its own.
    async fn compile_apart(
        self: Arc<Self>,
        code: Code,
        secrets: Option<Secrets>,
    ) -> Result<Artifact, ArtifactError> {
        let made = tokio::task::spawn_blocking(move || self.compile(&code, secrets.as_ref())).await;
        made.map_err(ArtifactError::interrupted)?
    }

    /// From this node's disk.
    fn load(&self, code: &Code) -> Option<Artifact> {
        self.sandbox.hosts(code.world).find_map(|host| {
            if host.kind != HostKind::Imaged {
                return Some(Artifact::new(self.program(code.blake3, host, code.world)?, None));
            }
            let memory = self.dir.load(&Name { kind: Kind::Memory, key: Key::new(code.blake3, host) })?;
            // The hash of what was compiled stands behind the memory.
            let (_, program) = memory.bytes().split_last_chunk()?;
            let program = self.program(Blake3Hash(*program), host, code.world)?;
            let size = memory.bytes().len() - size_of::<Blake3Hash>();
            let image = Image::of(memory.into_file(), 0, size);
            let image =
                image.inspect_err(|error| warn!(code = %code.cid, %error, "a memory cannot be mapped"));
            Some(Artifact::new(program, Some(image.ok()?)))
        })
    }

    /// A program that is in use, or on this node's disk.
    fn program(&self, hash: Blake3Hash, host: &Host, world: World) -> Option<Arc<Program>> {
        let key = Key::new(hash, host);
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(program) = programs.get(&key).and_then(Weak::upgrade) {
            return Some(program);
        }
        let file = self.dir.load(&Name { kind: Kind::Program, key })?;
        // SAFETY: the file carries a tag under this node's own key, so it is what `serialize` made
        // on this node, for this component and these engine settings; it is replaced, never written to.
        let loaded = unsafe { Component::deserialize_file(&host.engine, file.path()) };
        let program = loaded.map_err(refused).and_then(|component| link(&component, world, host));
        let warn = |error: &_| warn!(%hash, %error, "compiled code does not load; compiling again");
        let program = Arc::new(program.inspect_err(warn).ok()?);
        programs.retain(|_, program| program.strong_count() > 0);
        programs.insert(key, Arc::downgrade(&program));
        Some(program)
    }

    /// From the content, without its initial memory where the component allows it.
    fn compile(&self, code: &Code, secrets: Option<&Secrets>) -> Result<Artifact, ArtifactError> {
        let stored = self.blocks.store().file(&code.cid, &code.blake3, limits::CODE_BYTES)?;
        let wasm = match secrets {
            Some(secrets) => secrets.open(&stored)?,
            None => stored,
        };
        let imaged = self.sandbox.hosts(code.world).find(|host| host.kind == HostKind::Imaged);
        let Some((host, split)) = imaged.and_then(|host| Some((host, image::split(&wasm)?))) else {
            let host = self.sandbox.host(code.world);
            return Ok(Artifact::new(self.compiled(code, code.blake3, &wasm, host)?, None));
        };
        let component = rewind::add(&split.component).unwrap_or(split.component);
        let hash = Blake3Hash(*blake3::hash(&component).as_bytes());
        let program = self.compiled(code, hash, &component, host)?;
        let name = Name { kind: Kind::Memory, key: Key::new(code.blake3, host) };
        self.save(code, &name, &[&split.memory, &hash.0]);
        let image = match self.dir.load(&name) {
            // Mapped from its file, it costs memory only while it is used.
            Some(memory) => Image::of(memory.into_file(), 0, split.memory.len()),
            None => Image::new(&split.memory),
        };
        let image = image.map_err(|error| ArtifactError::Storage(Arc::new(error)))?;
        Ok(Artifact::new(program, Some(image)))
    }

    /// The program that becomes of some Wasm; another component may have made it before.
    fn compiled(
        &self,
        code: &Code,
        hash: Blake3Hash,
        wasm: &[u8],
        host: &Host,
    ) -> Result<Arc<Program>, ArtifactError> {
        if let Some(program) = self.program(hash, host, code.world) {
            return Ok(program);
        }
        let started = std::time::Instant::now();
        let native = self.compiler.compile(host.kind, &host.engine, wasm).map_err(|error| match error {
            CompileError::Worker(error) => ArtifactError::Storage(Arc::new(error)),
            error => ArtifactError::Refused(error.to_string()),
        })?;
        self.sandbox.metrics().compiled("compiled");
        info!(code = %code.cid, bytes = wasm.len(), time = ?started.elapsed(), kind = ?host.kind, "compiled a component");
        self.save(code, &Name { kind: Kind::Program, key: Key::new(hash, host) }, &[&native]);
        if let Some(program) = self.program(hash, host, code.world) {
            return Ok(program);
        }
        // SAFETY: it comes from our own compiler, for this engine's settings.
        let component = unsafe { Component::deserialize(&host.engine, &native) }.map_err(refused)?;
        link(&component, code.world, host).map(Arc::new)
    }

    fn save(&self, code: &Code, name: &Name, parts: &[&[u8]]) {
        if let Err(error) = self.dir.save(name, parts) {
            warn!(code = %code.cid, %error, "compiled code is kept in memory only");
        }
    }
}

impl Artifact {
    fn new(program: Arc<Program>, image: Option<Image>) -> Self {
        // A program that others use is not paid for twice. An image is mapped from its file, and costs what
        // its instances have written, about a sixteenth: a hundred scripts on one engine fit.
        let own = if Arc::strong_count(&program) > 1 { 0 } else { program.size };
        let size = own.saturating_add(image.as_ref().map_or(0, |image| image.size() / 16));
        Self { program, image: image.map(Arc::new), size: u32::try_from(size).unwrap_or(u32::MAX) }
    }
}

fn link(component: &Component, world: World, host: &Host) -> Result<Program, ArtifactError> {
    let range = component.image_range();
    let size = (range.end as usize).saturating_sub(range.start as usize);
    let pre = host.linker.instantiate_pre(component).map_err(refused)?;
    let indices = (world == World::Proxy02).then(|| p2::bindings::ProxyIndices::new(&pre));
    let indices = indices.transpose().map_err(refused)?;
    let pre = match world {
        World::Proxy02 => ProxyPre::P2(p2::bindings::ProxyPre::new(pre).map_err(refused)?),
        World::Service03 => ProxyPre::P3(p3::bindings::ServicePre::new(pre).map_err(refused)?),
    };
    let rewind = if host.kind == HostKind::Imaged {
        (0..).map_while(|number| component.get_export_index(None, rewind::export(number).as_str())).collect()
    } else {
        Vec::new()
    };
    Ok(Program { pre, indices, rewind, engine: host.engine.clone(), size })
}

fn refused(error: wasmtime::Error) -> ArtifactError {
    ArtifactError::Refused(format!("{error:#}"))
}
