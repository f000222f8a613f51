//! Builds an edge from its configuration and runs it. The only place where its parts meet.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

#[cfg(feature = "bitswap")]
use af_content::bitswap::Counters;
use af_content::gateway::Gateway;
use af_content::source::Fetcher;
use af_contract::edge::Awaited;
use af_contract::trigger::{Answered, Tick};
use af_contract::{Change, DomainName, DomainState, LogSink, Update};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::admin::Health;
use crate::artifact::compile::Compiler;
use crate::artifact::{ArtifactStore, ArtifactStoreError};
use crate::content::ContentStore;
use crate::host::KeyValue;
use crate::host::egress::IpNet;
use crate::http::{self, Exchanges, HttpConfig, Secure, SecureConfig, Service};
use crate::listen::{ListenConfig, Listeners, ProxyProtocol, Server, TrustedProxies};
use crate::metrics::Metrics;
use crate::proxy::Proxy;
use crate::reports::Reports;
use crate::router::RuntimeRouter;
use crate::sandbox::{Sandbox, SandboxConfig};
use crate::site::Sites;
use crate::tls::{Tls, TlsConfig, TlsError};
use crate::usage::Carrier;
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
    /// What clients may do with connections.
    pub listen: ListenConfig,
    /// What is done for all requests.
    pub http: HttpConfig,
    /// Networks of proxies whose word on who asks is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether their connections begin with a PROXY header.
    pub proxy_protocol: bool,
    /// Content by CID for others, where it is served.
    pub gateway: Option<Gateway>,
    /// Certificates, and what else encrypted connections need.
    pub tls: Option<(TlsConfig, SecureConfig)>,
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
    /// The access log.
    #[error("cannot write the access log")]
    AccessLog(#[source] std::io::Error),
    /// Connections cannot be encrypted.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The edge: routes requests to functions and runs them. Cheap to clone.
#[derive(Clone)]
pub struct Edge {
    service: Arc<Service>,
    metrics: Arc<Metrics>,
    listen: ListenConfig,
    health: Arc<Health>,
    tls: Option<Arc<Tls>>,
}

impl Edge {
    /// Builds an edge that serves content out of `blocks`, and fetches what is not there. With TLS, it must be called within the runtime that is to
    /// order certificates.
    ///
    /// # Errors
    /// When the sandbox cannot be set up, the artifact directory is unusable, or certificates are.
    pub fn build(config: &EdgeConfig, blocks: impl Into<Fetcher>) -> Result<Self, EdgeError> {
        let blocks = blocks.into();
        let content = ContentStore::new(blocks.clone());
        let sources = blocks.clone();
        let sandbox = SandboxConfig { content: Some(content.clone()), ..config.sandbox.clone() };
        let sandbox = Sandbox::new(&sandbox).map_err(|error| EdgeError::Sandbox(format!("{error:#}")))?;
        let artifacts = ArtifactStore::open(
            &config.artifact_dir,
            config.artifact_memory_bytes,
            sandbox.clone(),
            blocks.clone(),
            config.compiler.clone(),
        )?;
        let reports = Reports::default();
        let router = RuntimeRouter::new(&config.domains, blocks, artifacts, reports.clone());
        let metrics = sandbox.metrics().clone();
        metrics.watch(sources);
        let tls = config.tls.as_ref().map(|(tls, secure)| -> Result<_, TlsError> {
            let router = router.clone();
            let allowed = Arc::new(move |host: &str| router.may_have_certificate(host));
            Ok((Tls::build(tls, allowed, metrics.clone())?, *secure))
        });
        let tls = tls.transpose()?;
        let secure = tls.as_ref().map(|(tls, secure)| Secure::new(tls.clone(), *secure));
        let trusted = TrustedProxies::new(&config.trusted_proxies);
        let proxy_protocol = if config.proxy_protocol {
            ProxyProtocol::from(trusted.clone())
        } else {
            ProxyProtocol::default()
        };
        // Tenants choose backends as their functions choose whom to ask: by the same policy.
        let services = sandbox.services();
        let (egress, trust) = (services.egress.clone(), services.trust.clone());
        let proxy = Proxy::new(egress, trust, trusted.clone(), metrics.clone());
        let listen = ListenConfig { trusted: trusted.clone(), proxy_protocol, ..config.listen.clone() };
        let exchanges = Exchanges::new(&config.http, trusted, &metrics).map_err(EdgeError::AccessLog)?;
        let health = Arc::<Health>::default();
        Ok(Self {
            metrics,
            listen,
            health: health.clone(),
            tls: tls.map(|(tls, _)| tls),
            service: Arc::new(Service {
                router,
                sandbox,
                proxy,
                exchanges,
                secure,
                sites: Sites::new(content),
                gateway: config.gateway.clone(),
                health,
                reports,
            }),
        })
    }

    /// Takes over what is new or changed. A function that already answers keeps answering with
    /// its old deployment until the new one is fetched, verified and compiled.
    pub fn apply(&self, updates: Vec<Update>) {
        if let Some(tls) = &self.tls {
            for update in &updates {
                if let Change::Domain { name, state } = &update.change {
                    certify(tls, name, state.as_ref());
                }
            }
        }
        self.service.router().apply(updates);
    }

    /// All routes that there were at the start have been applied: this edge can answer what it should.
    pub fn routes_known(&self) {
        self.health.routes_known();
    }

    /// The control plane has told everything up to this revision.
    pub fn feed_known(&self, revision: u64) {
        self.metrics.feed_known(revision);
    }

    /// The control plane has told of something that this version does not know and may do without.
    pub fn feed_skipped(&self) {
        self.metrics.feed_skipped();
    }

    /// The control plane does not take a report, which is dropped.
    pub fn report_dropped(&self) {
        self.metrics.report_dropped();
    }

    /// The control plane has not told what it should.
    pub fn feed_failed(&self) {
        self.metrics.feed_failed();
    }

    /// Calls a function because its time has come, and returns what it answered. No client can cause such a call:
    /// the headers that tell the function of it are taken out of every request.
    pub async fn trigger(&self, tick: &Tick) -> Answered {
        self.service.trigger(tick).await
    }

    /// Makes deployments ready that the control plane has heard nothing of yet, and reports what became of each.
    pub fn prepare(&self, awaited: Vec<Awaited>) {
        self.service.router().prepare(awaited);
    }

    /// What this edge has to tell the control plane.
    #[must_use]
    pub fn reports(&self) -> &Reports {
        &self.service.reports
    }

    /// What this edge counts.
    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// From now on, `sink` gets each line that functions log; this server's own log has them in any case. Only the first sink does.
    pub fn tap_logs(&self, sink: Arc<dyn LogSink>) {
        self.service.sandbox.tap().open(sink);
    }

    /// What functions and sites use here, for whoever carries it to the control plane; what an earlier process left in `dir` comes first.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn usage(&self, dir: &Path) -> std::io::Result<Carrier> {
        Carrier::open(dir, self.service.sandbox.usage().clone(), self.metrics.clone())
    }

    /// What functions keep, of all projects. Its file is free when no clone is left.
    pub fn keyvalue(&self) -> KeyValue {
        self.service.sandbox.services().keyvalue.clone()
    }

    /// Serves HTTP until `stop` is cancelled, then lets requests finish. Returns once drained.
    ///
    /// # Errors
    /// When the threads that serve cannot be started.
    pub async fn serve(&self, listeners: Listeners, stop: CancellationToken) -> std::io::Result<()> {
        self.health.serving(&stop);
        let certificates = self.tls.clone().map(|tls| tokio::spawn(tls.run(stop.clone())));
        let server =
            Server { service: self.service.clone(), config: self.listen.clone(), tls: self.tls.clone() };
        listen::serve(server, listeners, stop).await?;
        match certificates {
            Some(certificates) => certificates.await.map_err(std::io::Error::other),
            None => Ok(()),
        }
    }

    /// Certificates, where this edge has any.
    #[must_use]
    pub fn tls(&self) -> Option<&Arc<Tls>> {
        self.tls.as_ref()
    }

    /// Tells in the metrics also what this node does as an IPFS peer.
    #[cfg(feature = "bitswap")]
    pub fn watch_peer(&self, counters: Arc<Counters>) {
        self.metrics.watch_peer(counters);
    }

    /// Tells in the metrics also how often the control API of this process counted rates alone that it shares with others.
    pub fn watch_rates(&self, alone: Arc<AtomicU64>) {
        self.metrics.watch_rates(alone);
    }

    /// Serves metrics and this edge's health until `stop` is cancelled.
    pub async fn serve_metrics(&self, listener: TcpListener, stop: CancellationToken) {
        admin::serve(listener, self.metrics.clone(), self.health.clone(), stop).await;
    }

    /// Where the function with this slug answers: `https` or `http`, at a listener's address.
    #[must_use]
    pub fn url_of(scheme: &str, domain: &str, slug: &str, address: SocketAddr) -> String {
        http::origin(scheme, &format!("{slug}.{domain}"), address)
    }
}

/// Serves the certificate that a project brought for its domain, or none of its any more.
fn certify(tls: &Tls, name: &DomainName, state: Option<&DomainState>) {
    let Some(own) = state.and_then(|state| state.certificate.as_ref()) else {
        tls.remove(name.as_str());
        return;
    };
    if let Err(error) = tls.install(&[name.as_str()], own.chain.as_bytes(), own.key.as_bytes()) {
        // The control plane has checked it, so it has expired since, or there are too many.
        error!(domain = %name, %error, "a domain's own certificate cannot be served");
    }
}
