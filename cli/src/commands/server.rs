//! `af up`: the whole platform in one process. Composes the control API and the edge; owns neither.

#[cfg(feature = "bitswap")]
mod bitswap;
mod listeners;
mod running;
mod storage;

use std::fs::{DirBuilder, File, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use af_content::DiskStore;
#[cfg(feature = "bitswap")]
use af_content::bitswap::Bitswap;
use af_content::source::Fetcher;
use af_contract::Limits;
use af_control_api::{
    ApiConfig, Clock, ControlApi, ControlConfig, Database, DomainConfig, GraphqlConfig, JavaScriptBuild,
    Quotas, StorageConfig,
};
use af_runtime::artifact::compile::Compiler;
use af_runtime::sandbox::SandboxConfig;
use af_runtime::tls::Tls;
use af_runtime::{Edge, EdgeConfig, HttpConfig, ListenConfig};
use anyhow::{Context, bail};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;
use tracing_subscriber::EnvFilter;

use self::listeners::{Bound, Urls};
use self::running::{Running, follow};
use super::{gateway, sources, tls};
use crate::args::{COMPILE_WORKER, Clients, Up};
use crate::config::{Config, Environment, Server};
use crate::output::Output;

/// Compiled code kept in memory: 256 MiB are hundreds of Rust functions or a few JavaScript engines.
const ARTIFACT_MEMORY: u64 = 256 << 20;

/// Runs until SIGTERM or SIGINT, then lets requests finish.
pub async fn up(options: Up, environment: &Environment, output: &Output) -> anyhow::Result<()> {
    start_log(environment)?;
    let data = match &options.data_dir {
        Some(dir) => dir.clone(),
        None => environment.data_dir()?,
    };
    let _lock = lock(&data)?;
    let bound = Bound::bind(&options).await?;
    let urls = bound.urls(&options)?;

    let program = std::env::current_exe().context("cannot find this program for its compile workers")?;
    let mut config = edge_config(&options, &data, program);
    if let Some(port) = urls.https_port {
        config.tls = Some(tls::config(&options.tls, environment, &data, options.primary_domain(), port)?);
    }
    let blocks = DiskStore::open(data.join("blocks"))?;
    let stored = storage::config(&options.stored, environment, &blocks)?;
    let gateway = gateway::gateway(&blocks, &options.gateway, environment)?;
    config.gateway = gateway.clone();
    let others = sources::all(&options.content, &options.egress_allow, environment)?;
    #[cfg(feature = "bitswap")]
    let node = bitswap::start(&options.bitswap, &data, blocks.clone()).await?;
    #[cfg(feature = "bitswap")]
    let others = others.into_iter().chain(node.as_ref().map(Bitswap::source));
    let blocks = Fetcher::new(blocks, others);
    let javascript = javascript_build(&options, environment)?;
    let control =
        ControlConfig { gateway, javascript, ..control_config(&options, &data, &urls.functions, stored) };
    let control = ControlApi::build(control, blocks.clone()).await?;
    let edge = Edge::build(&config, blocks)?;
    if let Some(alone) = control.counted_alone() {
        edge.watch_rates(alone);
    }
    #[cfg(feature = "bitswap")]
    if let Some(node) = &node {
        edge.watch_peer(node.counters());
    }
    let signed_in = sign_in(&control, &options, environment, &urls.api).await?;
    let known = follow(&control, &edge, 0).await?;
    edge.routes_known();

    let running = Running::start(&control, &edge, bound, known);
    #[cfg(feature = "bitswap")]
    let peer = node.as_ref().map(bitswap::described).unwrap_or_default();
    #[cfg(not(feature = "bitswap"))]
    let peer = Vec::new();
    announce(output, &urls, &data, signed_in.as_deref(), &peer);
    wait_for_signal(edge.tls().map(AsRef::as_ref)).await?;
    info!("stopping; requests may finish");
    let stopped = running.stop().await;
    #[cfg(feature = "bitswap")]
    if let Some(node) = node {
        node.stop().await;
    }
    stopped
}

fn start_log(environment: &Environment) -> anyhow::Result<()> {
    let filter = environment.log.as_deref().unwrap_or("info");
    let filter =
        EnvFilter::try_new(filter).with_context(|| format!("AF_LOG={filter:?} is not a log filter"))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Only a second call in one process fails, and there is none.
    let _set = log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init();
    Ok(())
}

/// Keeps a second server out of the data directory, which is made for this user only if it is not there.
pub(super) fn lock(data: &Path) -> anyhow::Result<File> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(data);
    made.with_context(|| format!("cannot make the data directory {}", data.display()))?;
    let path = data.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!("another `af up` uses {}; stop it, or choose another --data-dir", data.display())
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

fn control_config(options: &Up, data: &Path, invoke_url: &str, storage: StorageConfig) -> ControlConfig {
    let limits = Limits {
        cpu_ms: options.cpu_limit_ms,
        wall_ms: options.wall_limit_ms,
        memory_bytes: options.memory_limit_mb << 20,
        ..Limits::default()
    };
    ControlConfig {
        database: options.database.clone().unwrap_or_else(|| Database::Sqlite(data.join("af.sqlite"))),
        master_key: data.join("master.key"),
        invoke_url: invoke_url.to_owned(),
        rate_limit: options.api_rate_limit,
        limits,
        domains: DomainConfig {
            platform: options.domains.clone(),
            edge_addresses: options.names.edge_addresses.clone(),
            dns_servers: options.names.dns_servers.clone(),
            check_interval: options.names.check_interval.into(),
        },
        clock: Clock::System,
        storage,
        gateway: None,
        api: ApiConfig {
            trusted_proxies: options.trusted_proxy.clone(),
            origins: options.sessions.api_cors_origins.clone(),
            sessions: options.sessions.config(),
            redis: options.redis.clone(),
            quotas: Quotas {
                functions: options.max_functions_per_project,
                sites: options.max_functions_per_project,
                projects: options.max_projects_per_organization,
                organizations: options.max_organizations_per_user,
            },
        },
        graphql: GraphqlConfig {
            introspection: !options.no_graphql_introspection,
            ..GraphqlConfig::default()
        },
        javascript: None,
    }
}

fn javascript_build(options: &Up, environment: &Environment) -> anyhow::Result<Option<JavaScriptBuild>> {
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

fn edge_config(options: &Up, data: &Path, program: PathBuf) -> EdgeConfig {
    let default = SandboxConfig::default();
    let memory = usize::try_from(options.memory_limit_mb << 20).unwrap_or(usize::MAX);
    EdgeConfig {
        artifact_dir: data.join("artifacts"),
        domains: options.domains.clone(),
        sandbox: SandboxConfig {
            instances: options.instances,
            max_memory_bytes: memory.max(default.max_memory_bytes),
            egress_allow: options.egress_allow.clone(),
            keyvalue: Some(data.join("keyvalue.redb")),
            ..default
        },
        compiler: Compiler::Worker { program, argument: COMPILE_WORKER },
        artifact_memory_bytes: ARTIFACT_MEMORY,
        listen: listen_config(&options.clients),
        http: http_config(&options.clients),
        trusted_proxies: options.trusted_proxy.clone(),
        proxy_protocol: options.proxy_protocol,
        gateway: None,
        tls: None,
    }
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
    options: &Up,
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

fn announce(output: &Output, urls: &Urls, data: &Path, signed_in: Option<&Path>, peer: &[String]) {
    let functions = urls.functions.replace("{slug}", "<slug>");
    let value = json!({
        "apiUrl": urls.api,
        "functionsUrl": functions,
        "httpUrl": urls.http,
        "metricsUrl": urls.metrics,
        "bitswap": peer,
        "dataDir": data,
        "signedIn": signed_in,
    });
    let signed_in = match signed_in {
        Some(path) => format!("with the token in {}", path.display()),
        None => "no; run `af login`, or start again with a new token in AF_BOOTSTRAP_TOKEN".to_owned(),
    };
    let mut fields = vec![("functions", functions)];
    fields.extend(urls.http.clone().map(|url| ("plain HTTP", url)));
    fields.push(("control API", urls.api.clone()));
    fields.extend(urls.metrics.clone().map(|url| ("metrics", url)));
    fields.extend(peer.iter().map(|address| ("IPFS peer", address.clone())));
    fields.push(("data", data.display().to_string()));
    fields.push(("signed in", signed_in));
    output.result(&value, &output.fields(&fields));
}

async fn wait_for_signal(tls: Option<&Tls>) -> anyhow::Result<()> {
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
    }
}
