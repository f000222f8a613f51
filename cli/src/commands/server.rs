//! `af up`: the whole platform in one process. Composes the control API and the edge; owns neither.

use std::fs::{DirBuilder, File, TryLockError};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use af_content::DiskStore;
use af_contract::Limits;
use af_contract::trigger::{Answered, Tick};
use af_control_api::{Callee, Clock, ControlApi, ControlConfig};
use af_runtime::artifact::compile::Compiler;
use af_runtime::sandbox::SandboxConfig;
use af_runtime::{Edge, EdgeConfig};
use anyhow::{Context, bail};
use futures::future::BoxFuture;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

use crate::args::{COMPILE_WORKER, Up};
use crate::config::{Config, Environment, Server};
use crate::output::Output;

/// Compiled code kept in memory: 256 MiB are hundreds of Rust functions or a few JavaScript engines.
const ARTIFACT_MEMORY: u64 = 256 << 20;

/// How long control operations may go on after a stop. The edge has a deadline of its own.
const API_DRAIN: Duration = Duration::from_secs(10);

/// After the route feed failed.
const FEED_PAUSE: Duration = Duration::from_secs(1);

/// Runs until SIGTERM or SIGINT, then lets requests finish.
pub async fn up(options: Up, environment: &Environment, output: &Output) -> anyhow::Result<()> {
    start_log(environment)?;
    let data = match &options.data_dir {
        Some(dir) => dir.clone(),
        None => environment.data_dir()?,
    };
    let _lock = lock(&data)?;
    let edge_listener = listen(options.listen, "--listen").await?;
    let api_listener = listen(options.api_listen, "--api-listen").await?;
    let metrics_listener = match options.metrics_listen {
        Some(address) => Some(listen(address, "--metrics-listen").await?),
        None => None,
    };
    let metrics_url = metrics_listener.as_ref().map(TcpListener::local_addr).transpose()?.map(local_url);
    let api_url = local_url(api_listener.local_addr()?);
    let invoke_url = Edge::url_of(options.primary_domain(), "{slug}", edge_listener.local_addr()?);

    let program = std::env::current_exe().context("cannot find this program for its compile workers")?;
    let blocks = DiskStore::open(data.join("blocks"))?;
    let control = ControlApi::build(control_config(&options, &data, &invoke_url), blocks.clone()).await?;
    let edge = Edge::build(&edge_config(&options, &data, program), blocks)?;
    let signed_in = sign_in(&control, &options, environment, &api_url).await?;
    let known = follow(&control, &edge, 0).await?;

    let stop = CancellationToken::new();
    let feed = tokio::spawn(feed(control.clone(), edge.clone(), known, stop.clone()));
    let serving = tokio::spawn({
        let (edge, stop) = (edge.clone(), stop.clone());
        async move { edge.serve(edge_listener, stop).await }
    });
    let api = tokio::spawn({
        let (control, stop) = (control.clone(), stop.clone());
        async move { control.serve(api_listener, stop.cancelled_owned()).await }
    });
    let triggers = tokio::spawn({
        let (control, callee, stop) = (control.clone(), Arc::new(Triggered(edge.clone())), stop.clone());
        async move { control.run_triggers(callee, stop.cancelled_owned()).await }
    });
    let metrics = metrics_listener.map(|listener| {
        let (edge, stop) = (edge.clone(), stop.clone());
        tokio::spawn(async move { edge.serve_metrics(listener, stop).await })
    });
    let places = Places {
        functions: invoke_url.replace("{slug}", "<slug>"),
        api: api_url,
        metrics: metrics_url.map(|url| format!("{url}/metrics")),
        data,
        signed_in,
    };
    announce(output, &places);

    wait_for_signal().await?;
    info!("stopping; requests may finish");
    stop.cancel();
    if let Ok(api) = tokio::time::timeout(API_DRAIN, api).await {
        api??;
    } else {
        // Whoever holds a connection open must not hold the server: cut, nothing half done stays.
        warn!("control connections were cut because they did not finish in time");
    }
    serving.await??;
    if let Some(metrics) = metrics {
        metrics.await?;
    }
    triggers.await?;
    feed.await?;
    Ok(())
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
fn lock(data: &Path) -> anyhow::Result<File> {
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

async fn listen(address: SocketAddr, option: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}; choose another address with {option}"))
}

/// How a client on this machine reaches a listener.
fn local_url(address: SocketAddr) -> String {
    let ip = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, address.port()))
}

fn control_config(options: &Up, data: &Path, invoke_url: &str) -> ControlConfig {
    let limits = Limits {
        cpu_ms: options.cpu_limit_ms,
        wall_ms: options.wall_limit_ms,
        memory_bytes: options.memory_limit_mb << 20,
        ..Limits::default()
    };
    ControlConfig {
        database: data.join("af.sqlite"),
        master_key: data.join("master.key"),
        invoke_url: invoke_url.to_owned(),
        limits,
        clock: Clock::System,
    }
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

/// Hands all changes after `known` to the edge. Returns the newest revision.
async fn follow(control: &ControlApi, edge: &Edge, mut known: u64) -> anyhow::Result<u64> {
    loop {
        let updates = control.updates_since(known).await?;
        let Some(last) = updates.last() else { return Ok(known) };
        known = last.revision;
        edge.apply(updates);
    }
}

/// The route feed of one machine: the control API says that there is something new, the edge gets it.
async fn feed(control: ControlApi, edge: Edge, mut known: u64, stop: CancellationToken) {
    let mut revisions = control.revisions();
    loop {
        match follow(&control, &edge, known).await {
            Ok(newest) => known = newest,
            Err(error) => {
                error!(error = format!("{error:#}"), "the route feed failed; trying again");
                match tokio::time::timeout(FEED_PAUSE, stop.cancelled()).await {
                    Ok(()) => return,
                    Err(_elapsed) => continue,
                }
            }
        }
        tokio::select! {
            changed = revisions.changed() => if changed.is_err() { return },
            () = stop.cancelled() => return,
        }
    }
}

/// The edge as the schedule calls it.
struct Triggered(Edge);

impl Callee for Triggered {
    fn call(&self, tick: Tick) -> BoxFuture<'static, Answered> {
        let edge = self.0.clone();
        Box::pin(async move { edge.trigger(&tick).await })
    }
}

/// Where everything is.
struct Places {
    functions: String,
    api: String,
    metrics: Option<String>,
    data: PathBuf,
    signed_in: Option<PathBuf>,
}

fn announce(output: &Output, places: &Places) {
    let value = json!({
        "apiUrl": places.api,
        "functionsUrl": places.functions,
        "metricsUrl": places.metrics,
        "dataDir": places.data,
        "signedIn": places.signed_in,
    });
    let signed_in = match &places.signed_in {
        Some(path) => format!("with the token in {}", path.display()),
        None => "no; run `af login`, or start again with a new token in AF_BOOTSTRAP_TOKEN".to_owned(),
    };
    let mut fields = vec![("functions", places.functions.clone()), ("control API", places.api.clone())];
    fields.extend(places.metrics.clone().map(|url| ("metrics", url)));
    fields.push(("data", places.data.display().to_string()));
    fields.push(("signed in", signed_in));
    output.result(&value, &output.fields(&fields));
}

async fn wait_for_signal() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
