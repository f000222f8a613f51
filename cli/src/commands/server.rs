//! `af up`: the whole platform in one process. Composes the control API and the edge; owns neither.

#[cfg(feature = "bitswap")]
mod bitswap;
mod content;
mod entries;
mod listeners;
pub mod roles;
mod running;
mod storage;

use std::fs::{DirBuilder, File, TryLockError};
use std::future::Future;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use af_contract::Limits;
use af_control_api::{
    ApiConfig, Clock, ControlApi, ControlConfig, DomainConfig, GraphqlConfig, JavaScriptBuild, Quotas,
};
use af_runtime::artifact::compile::Compiler;
use af_runtime::sandbox::SandboxConfig;
use af_runtime::tls::Tls;
use af_runtime::usage::Carrier;
use af_runtime::{Edge, EdgeConfig, HttpConfig, ListenConfig};
use anyhow::{Context, bail};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;
use tracing_subscriber::EnvFilter;

use self::content::Content;
use self::entries::Entries;
use self::listeners::{Bound, Urls, bind_api};
use self::running::{CountedBy, Running, Triggered, catch_up};
use super::entries::file;
use super::{admin, master_key, tls};
use crate::args::COMPILE_WORKER;
use crate::args::server::{Clients, Controlling, Node, Serving, Up};
use crate::config::{Config, Environment, Server};
use crate::output::Output;

/// After a start, requests wait for so long until all routes are known. Then who is known is served while the rest is read: a
/// server with 100,000 functions reads for seconds.
const ROUTES: Duration = Duration::from_millis(500);

/// What is logged, unless `AF_LOG` says otherwise. What h2 warns of, any client can make it say for each frame.
const LOG: &str = "info,h2=error,libp2p_swarm=warn";

/// Compiled code kept in memory: 256 MiB are hundreds of Rust functions or a few JavaScript engines.
const ARTIFACT_MEMORY: u64 = 256 << 20;

/// Runs until SIGTERM or SIGINT, then lets requests finish.
pub async fn up(options: Up, environment: &Environment, output: &Output) -> anyhow::Result<()> {
    let Up { node, serving, controlling } = &options;
    start_log(environment)?;
    let data = data_dir(node, environment)?;
    let _lock = lock(&data)?;
    let bound = Bound::bind(serving).await?;
    let urls = bound.urls(node, serving)?;
    let (listener, api) = bind_api(controlling).await?;

    let content = Content::open(node, &data, &[], environment).await?;
    let mut config = edge_config(node, serving, &data, urls.https_port, environment)?;
    config.gateway = content.gateway.clone();
    let planned = control_config(node, controlling, &content, &data, &urls.functions, environment).await?;
    let control = ControlApi::build(planned, content.blocks.clone()).await?;
    let edge = Edge::build(&config, content.blocks.clone())?;
    if let Some(alone) = control.counted_alone() {
        edge.watch_rates(alone);
    }
    content.watch(&edge);
    let signed_in = sign_in(&control, controlling, environment, &api).await?;
    edge.tap_logs(control.logs());
    let mut running = Running::default();
    let mut bound = Some(bound);
    let known = {
        let mut following = std::pin::pin!(catch_up(&control, &edge));
        match tokio::time::timeout(ROUTES, &mut following).await {
            Ok(known) => known?,
            Err(_elapsed) => {
                bound.take().into_iter().for_each(|bound| running.edge(&edge, bound));
                following.await?
            }
        }
    };
    edge.routes_known();

    running.feed(&control, &edge, known);
    running.reports(&control, &edge);
    running.usage(usage(&edge, &data)?, Arc::new(CountedBy(control.clone())));
    running.entries(Entries::bind(&data, edge.keyvalue()));
    running.control(&control, listener, Arc::new(Triggered(edge.clone())));
    bound.into_iter().for_each(|bound| running.edge(&edge, bound));
    let said = Said {
        urls: Some(&urls),
        api: Some(&api),
        peer: content.described(),
        data: &data,
        signed_in: Some(signed_in.as_deref()),
        edge: None,
    };
    said.announce(output);
    let ended = wait_for_signal(edge.tls().map(AsRef::as_ref), running.died()).await;
    info!("stopping; requests may finish");
    let stopped = running.stop().await;
    content.stop().await;
    ended.and(stopped)
}

/// What functions use at an edge, with what an earlier process has not told.
fn usage(edge: &Edge, data: &Path) -> anyhow::Result<Carrier> {
    let named = || format!("cannot read what an earlier process counted of functions, in {}", data.display());
    edge.usage(data).with_context(named)
}

fn data_dir(node: &Node, environment: &Environment) -> anyhow::Result<PathBuf> {
    match &node.data_dir {
        Some(dir) => Ok(dir.clone()),
        None => environment.data_dir(),
    }
}

fn start_log(environment: &Environment) -> anyhow::Result<()> {
    let filter = environment.log.as_deref().unwrap_or(LOG);
    let filter =
        EnvFilter::try_new(filter).with_context(|| format!("AF_LOG={filter:?} is not a log filter"))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Only a second call in one process fails, and there is none.
    let _set = log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init();
    Ok(())
}

/// Keeps a second server out of the data directory, which is made for this user only if it is not there.
pub(super) fn lock(data: &Path) -> anyhow::Result<File> {
    match try_lock(data)? {
        Some(lock) => Ok(lock),
        None => bail!("another `af up` uses {}; stop it, or choose another --data-dir", data.display()),
    }
}

/// As [`lock`], or `None` where a server uses the data directory.
pub(super) fn try_lock(data: &Path) -> anyhow::Result<Option<File>> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(data);
    made.with_context(|| format!("cannot make the data directory {}", data.display()))?;
    let path = data.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

async fn control_config(
    node: &Node,
    options: &Controlling,
    content: &Content,
    data: &Path,
    invoke_url: &str,
    environment: &Environment,
) -> anyhow::Result<ControlConfig> {
    let limits = Limits {
        cpu_ms: options.cpu_limit_ms,
        wall_ms: options.wall_limit_ms,
        memory_bytes: node.memory_limit_mb << 20,
        ..Limits::default()
    };
    Ok(ControlConfig {
        database: admin::database(options.database.as_ref(), data),
        master_key: master_key::find(&options.master_key, environment, data).await?,
        invoke_url: invoke_url.to_owned(),
        rate_limit: options.api_rate_limit,
        limits,
        domains: DomainConfig {
            platform: node.domains.clone(),
            edge_addresses: options.names.edge_addresses.clone(),
            dns_servers: options.names.dns_servers.clone(),
            check_interval: options.names.check_interval.into(),
        },
        clock: Clock::System,
        storage: storage::config(&options.stored, environment, content.blocks.store(), content.reach(node))?,
        gateway: content.gateway.clone(),
        api: ApiConfig {
            trusted_proxies: node.trusted_proxy.clone(),
            origins: options.sessions.api_cors_origins.clone(),
            sessions: options.sessions.config(),
            redis: options.redis.clone(),
            quotas: Quotas {
                functions: options.max_functions_per_project,
                sites: options.max_functions_per_project,
                deployments: options.max_deployments_per_function,
                project_deployments: options.max_deployments_per_project,
                projects: options.max_projects_per_organization,
                organizations: options.max_organizations_per_user,
            },
        },
        graphql: GraphqlConfig {
            introspection: !options.no_graphql_introspection,
            ..GraphqlConfig::default()
        },
        javascript: javascript_build(options, environment)?,
    })
}

fn javascript_build(
    options: &Controlling,
    environment: &Environment,
) -> anyhow::Result<Option<JavaScriptBuild>> {
    let Some(dir) = &options.javascript_build else { return Ok(None) };
    let dir =
        dir.canonicalize().with_context(|| format!("--javascript-build {} is not there", dir.display()))?;
    for part in ["build.mjs", "node_modules"] {
        if !dir.join(part).exists() {
            bail!(
                "--javascript-build {} has no {part}; run `npm ci` in a copy of sdk-guest/js",
                dir.display()
            );
        }
    }
    Ok(Some(JavaScriptBuild { dir, path: environment.path.clone() }))
}

fn edge_config(
    node: &Node,
    options: &Serving,
    data: &Path,
    https_port: Option<u16>,
    environment: &Environment,
) -> anyhow::Result<EdgeConfig> {
    let program = std::env::current_exe().context("cannot find this program for its compile workers")?;
    let tls =
        https_port.map(|port| tls::config(&options.tls, environment, data, node.primary_domain(), port));
    let default = SandboxConfig::default();
    let memory = usize::try_from(node.memory_limit_mb << 20).unwrap_or(usize::MAX);
    Ok(EdgeConfig {
        artifact_dir: data.join("artifacts"),
        domains: node.domains.clone(),
        sandbox: SandboxConfig {
            instances: options.instances,
            max_memory_bytes: memory.max(default.max_memory_bytes),
            egress_allow: node.egress_allow.clone(),
            keyvalue: Some(file(data)),
            ..default
        },
        compiler: Compiler::Worker { program, argument: COMPILE_WORKER },
        artifact_memory_bytes: ARTIFACT_MEMORY,
        listen: listen_config(&options.clients),
        http: http_config(&options.clients),
        trusted_proxies: node.trusted_proxy.clone(),
        proxy_protocol: options.proxy_protocol,
        gateway: None,
        tls: tls.transpose()?,
    })
}

fn listen_config(clients: &Clients) -> ListenConfig {
    let count = |count| usize::try_from(count).unwrap_or(usize::MAX);
    ListenConfig {
        header_timeout: Duration::from_millis(clients.header_timeout_ms),
        idle_timeout: Duration::from_millis(clients.idle_timeout_ms),
        write_timeout: Duration::from_millis(clients.write_timeout_ms),
        connections: count(clients.max_connections),
        connections_per_client: count(clients.max_connections_per_client),
        ..ListenConfig::default()
    }
}

fn http_config(clients: &Clients) -> HttpConfig {
    HttpConfig {
        body_timeout: Duration::from_millis(clients.body_timeout_ms),
        rate_limit: clients.rate_limit,
        access_log: clients.access_log.clone(),
        server_timing: clients.server_timing,
    }
}

/// Signs this machine's client in: on the first start with the token that is made then, later with a
/// stored one that is good here, since the server may have moved to another address. Returns the
/// file that says so.
async fn sign_in(
    control: &ControlApi,
    options: &Controlling,
    environment: &Environment,
    api_url: &str,
) -> anyhow::Result<Option<PathBuf>> {
    if let Some(made) = control.bootstrap(options.bootstrap_token.as_deref()).await? {
        let server = Server { token: made.token.clone(), project_id: Some(made.project) };
        let stored = Config::sign_in(environment, api_url, server);
        // It is shown here or lost: the database has its hash only.
        return stored
            .map(Some)
            .with_context(|| format!("the first token could not be stored; it is {}", made.token));
    }
    for server in Config::load(environment)?.servers.into_values() {
        if control.accepts(&server.token).await {
            return Config::sign_in(environment, api_url, server).map(Some);
        }
    }
    Ok(None)
}

/// What a server says when it has started.
struct Said<'a> {
    urls: Option<&'a Urls>,
    api: Option<&'a str>,
    peer: Vec<String>,
    data: &'a Path,
    /// Of a control plane: whether this machine's client is signed in.
    signed_in: Option<Option<&'a Path>>,
    /// Of an edge: who it is.
    edge: Option<&'a str>,
}

impl Said<'_> {
    fn announce(&self, output: &Output) {
        let functions = self.urls.map(|urls| urls.functions.replace("{slug}", "<slug>"));
        let http = self.urls.and_then(|urls| urls.http.clone());
        let metrics = self.urls.and_then(|urls| urls.metrics.clone());
        let value = json!({
            "apiUrl": self.api,
            "functionsUrl": functions,
            "httpUrl": http,
            "metricsUrl": metrics,
            "bitswap": self.peer,
            "dataDir": self.data,
            "signedIn": self.signed_in.flatten(),
            "edge": self.edge,
        });
        let mut fields = Vec::new();
        fields.extend(functions.map(|url| ("functions", url)));
        fields.extend(http.map(|url| ("plain HTTP", url)));
        fields.extend(self.api.map(|url| ("control API", url.to_owned())));
        fields.extend(metrics.map(|url| ("metrics", url)));
        fields.extend(self.peer.iter().map(|address| ("IPFS peer", address.clone())));
        fields.extend(self.edge.map(|edge| ("edge", edge.to_owned())));
        fields.push(("data", self.data.display().to_string()));
        fields.extend(self.signed_in.map(|path| {
            let said = match path {
                Some(path) => format!("with the token in {}", path.display()),
                None => {
                    "no; run `af login`, or start again with a new token in AF_BOOTSTRAP_TOKEN".to_owned()
                }
            };
            ("signed in", said)
        }));
        output.result(&value, &output.fields(&fields));
    }
}

/// Returns when the server is to end, and with an error where a part of it has ended already.
async fn wait_for_signal(tls: Option<&Tls>, died: impl Future<Output = ()>) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let reload = async {
        let Some(tls) = tls else { return std::future::pending().await };
        let mut hangup = signal(SignalKind::hangup())?;
        while hangup.recv().await.is_some() {
            tls.reload();
        }
        std::future::pending::<anyhow::Result<()>>().await
    };
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        failed = reload => failed,
        () = died => bail!("a part of the server has ended by itself; its log says which"),
    }
}
