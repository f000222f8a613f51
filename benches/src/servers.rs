//! The servers that are compared: how each is started, reached and stopped.

use std::io::{BufRead, BufReader};
use std::net::TcpListener as StdListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

use crate::Compare;

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// hyper alone.
    Bare,
    /// This server with a WASI 0.2 component; every request has a fresh instance.
    Af02,
    /// This server with a WASI 0.3 component; likewise.
    Af03,
    /// This server with a JavaScript component; likewise.
    AfJs,
    /// `wasmtime serve` as it is, with the same components.
    Wasmtime02,
    /// With the best flags that were found for fresh instances.
    Wasmtime02Best,
    /// WASI 0.3, one request an instance, best flags.
    Wasmtime03Best,
    /// JavaScript, best flags.
    WasmtimeJsBest,
}

/// Pooling with warm slots: see `wasmtime serve -O help`.
const BEST: &[&str] = &[
    "-O",
    "pooling-allocator=y,pooling-max-unused-warm-slots=1000,pooling-memory-keep-resident=33554432,\
     pooling-table-keep-resident=1048576,pooling-async-stack-keep-resident=131072,pooling-pagemap-scan=y",
    "--max-instance-reuse-count=1",
];

impl Kind {
    /// As the table names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare hyper",
            Self::Af02 => "af, WASI 0.2, fresh instance, all limits",
            Self::Af03 => "af, WASI 0.3, fresh instance, all limits",
            Self::AfJs => "af, JavaScript, fresh instance, all limits",
            Self::Wasmtime02 => "wasmtime serve, WASI 0.2, defaults (fresh)",
            Self::Wasmtime02Best => "wasmtime serve, WASI 0.2, fresh, best flags",
            Self::Wasmtime03Best => "wasmtime serve, WASI 0.3, fresh, best flags",
            Self::WasmtimeJsBest => "wasmtime serve, JavaScript, fresh, best flags",
        }
    }

    fn guest(self) -> &'static str {
        match self {
            Self::Af03 | Self::Wasmtime03Best => "hello-rust-p3",
            Self::AfJs | Self::WasmtimeJsBest => "hello-js",
            _ => "hello-rust",
        }
    }
}

/// Every kind that can run here; says what is left out and why.
pub fn available(wasmtime: &Path) -> Vec<Kind> {
    let mut kinds = vec![Kind::Bare, Kind::Af02, Kind::Af03, Kind::AfJs];
    match Command::new(wasmtime).arg("--version").output() {
        Ok(output) => {
            eprintln!("peer: {}", String::from_utf8_lossy(&output.stdout).trim());
            let peers = [Kind::Wasmtime02, Kind::Wasmtime02Best, Kind::Wasmtime03Best, Kind::WasmtimeJsBest];
            kinds.extend(peers);
        }
        Err(error) => eprintln!(
            "left out: wasmtime serve, because {} cannot be run ({error}); \
             `cargo install wasmtime-cli --version 48.0.8 --locked` installs it",
            wasmtime.display()
        ),
    }
    kinds
}

/// A server process, stopped when it is dropped.
pub struct Server {
    child: Child,
    pub port: u16,
    pub host: String,
    pub path: &'static str,
    _dir: tempfile::TempDir,
}

impl Server {
    /// Starts a server and waits until it answers.
    pub async fn start(kind: Kind, options: &Compare) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let component = options.guests.join(format!("{}.wasm", kind.guest()));
        if !component.exists() {
            bail!("{} is missing; run examples/build", component.display());
        }
        let server = match kind {
            Kind::Bare => start_bare(dir)?,
            Kind::Af02 | Kind::Af03 | Kind::AfJs => start_af(&options.af, &component, dir)?,
            _ => start_wasmtime(kind, &options.wasmtime, &component, dir)?,
        };
        server.wait().await?;
        Ok(server)
    }

    /// CPU time that the process has used, seconds.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        // utime and stime are fields 14 and 15, counted after the name, which may hold spaces.
        let fields: Vec<&str> =
            stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        let ticks =
            |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
        (ticks(11) + ticks(12))
            / f64::from(u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100))
    }

    /// Resident memory, MiB.
    pub fn resident_mib(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok()).unwrap_or_default()
            / 1024.0
    }

    /// A JavaScript component takes half a minute to compile on a slow machine.
    async fn wait(&self) -> anyhow::Result<()> {
        let answers = async {
            while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), answers).await.context("the server does not answer")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _already_reaped = self.child.wait();
    }
}

fn start_bare(dir: tempfile::TempDir) -> anyhow::Result<Server> {
    let mut child = Command::new(std::env::current_exe()?).arg("bare").stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
    Ok(Server { child, port: line.trim().parse()?, host: "localhost".into(), path: "/", _dir: dir })
}

fn start_af(af: &Path, component: &Path, dir: tempfile::TempDir) -> anyhow::Result<Server> {
    let command = || {
        let mut command = Command::new(af);
        command.env("XDG_CONFIG_HOME", dir.path()).env_remove("RUST_BACKTRACE").stdin(Stdio::null());
        command.env_remove("AF_TOKEN").env_remove("AF_API_URL").env_remove("AF_PROJECT_ID");
        command
    };
    let mut up = command();
    up.args(["--json", "up", "--listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0", "--data-dir"]);
    let mut child =
        up.arg(dir.path().join("data")).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().context("af")?;
    let mut stdout = BufReader::new(child.stdout.take().context("no output")?);
    let mut text = String::new();
    let said: Value = loop {
        if stdout.read_line(&mut text)? == 0 {
            bail!("af up did not start: {text}");
        }
        if let Ok(said) = serde_json::from_str(&text) {
            break said;
        }
    };
    let url = said.get("functionsUrl").and_then(Value::as_str).unwrap_or_default();
    let port = url.rsplit_once(':').context("no port")?.1.parse()?;
    let deploy =
        command().args(["functions", "deploy", "--create", "-n", "hello", "-p"]).arg(component).output()?;
    if !deploy.status.success() {
        bail!("deploying failed: {}", String::from_utf8_lossy(&deploy.stderr));
    }
    Ok(Server { child, port, host: "hello.localhost".into(), path: "/", _dir: dir })
}

fn start_wasmtime(
    kind: Kind,
    wasmtime: &Path,
    component: &Path,
    dir: tempfile::TempDir,
) -> anyhow::Result<Server> {
    // A port that was free a moment ago: wasmtime serve prints no port that it chose itself.
    let port = StdListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut command = Command::new(wasmtime);
    command.arg("serve").env_remove("RUST_BACKTRACE").args(["-S", "cli", "--addr"]);
    command.arg(format!("127.0.0.1:{port}"));
    if kind != Kind::Wasmtime02 {
        command.args(BEST);
    }
    command.arg(component).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(Server { child: command.spawn()?, port, host: "localhost".into(), path: "/", _dir: dir })
}

/// The limit: hyper on all cores, answering as the guests do.
pub async fn bare() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let answer = service_fn(async |_request| {
                let body = Full::new(Bytes::from_static(b"Hello from Rust and WASI 0.2!\n"));
                Response::builder().header("content-type", "text/plain").body(body)
            });
            http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await
        });
    }
}
