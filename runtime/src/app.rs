//! Builds an edge from its configuration and runs it. The only place where its parts meet.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use af_content::DiskStore;
use af_contract::Update;
use af_contract::trigger::{Answered, Tick};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::artifact::compile::Compiler;
use crate::artifact::{ArtifactStore, ArtifactStoreError};
use crate::http::Service;
use crate::metrics::Metrics;
use crate::router::RuntimeRouter;
use crate::sandbox::{Sandbox, SandboxConfig};
use crate::{admin, listen};

/// Everything that an edge needs to be told.
#[derive(Clone, Debug)]
pub struct EdgeConfig {
    /// Where compiled code is cached; readable by this user only.
    pub artifact_dir: PathBuf,
    /// `localhost` makes functions answer at `<slug>.localhost`.
    pub domains: Vec<String>,
    /// The sandbox's size.
    pub sandbox: SandboxConfig,
    /// Where components are compiled.
    pub compiler: Compiler,
    /// Compiled code kept in memory, bytes.
    pub artifact_memory_bytes: u64,
}

/// Why an edge cannot start.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// Wasmtime refused the configuration or the system lacks memory for the pool.
    #[error("cannot set up the sandbox; fewer instances need less address space: {0}")]
    Sandbox(String),
    /// The directory for compiled code is unusable.
    #[error(transparent)]
    Artifacts(#[from] ArtifactStoreError),
}

/// The edge: routes requests to functions and runs them. Cheap to clone.
#[derive(Clone)]
pub struct Edge {
    service: Arc<Service>,
    metrics: Arc<Metrics>,
}

impl Edge {
    /// Builds an edge that serves content out of `blocks`.
    ///
    /// # Errors
    /// When the sandbox cannot be set up or the artifact directory is unusable.
    pub fn build(config: &EdgeConfig, blocks: DiskStore) -> Result<Self, EdgeError> {
        let sandbox = SandboxConfig { blocks: Some(blocks.clone()), ..config.sandbox.clone() };
        let sandbox = Sandbox::new(&sandbox).map_err(|error| EdgeError::Sandbox(format!("{error:#}")))?;
        let artifacts = ArtifactStore::open(
            &config.artifact_dir,
            config.artifact_memory_bytes,
            sandbox.clone(),
            blocks.clone(),
            config.compiler.clone(),
        )?;
        let router = RuntimeRouter::new(&config.domains, blocks, artifacts);
        let metrics = sandbox.metrics().clone();
        Ok(Self { metrics, service: Arc::new(Service::new(router, sandbox)) })
    }

    /// Takes over what is new or changed. A function that already answers keeps answering with
    /// its old deployment until the new one is fetched, verified and compiled.
    pub fn apply(&self, updates: Vec<Update>) {
        self.service.router().apply(updates);
    }

    /// Calls a function because its time has come, and returns what it answered. No client can cause such a call:
    /// the headers that tell the function of it are taken out of every request.
    pub async fn trigger(&self, tick: &Tick) -> Answered {
        self.service.trigger(tick).await
    }

    /// Serves HTTP until `stop` is cancelled, then lets requests finish. Returns once drained.
    ///
    /// # Errors
    /// When the threads that serve cannot be started.
    pub async fn serve(&self, listener: TcpListener, stop: CancellationToken) -> std::io::Result<()> {
        listen::serve(listener, self.service.clone(), stop).await
    }

    /// Serves metrics until `stop` is cancelled.
    pub async fn serve_metrics(&self, listener: TcpListener, stop: CancellationToken) {
        admin::serve(listener, self.metrics.clone(), stop).await;
    }

    /// Where the function with this slug answers.
    #[must_use]
    pub fn url_of(domain: &str, slug: &str, address: SocketAddr) -> String {
        format!("http://{slug}.{domain}:{}", address.port())
    }
}
