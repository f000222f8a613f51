//! The servers that are compared: how each is started, reached and stopped.

use std::io::{BufRead, BufReader};
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
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

use crate::{Compare, fleet, load, peers};

/// One row of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// As the table names it.
    pub name: &'static str,
    software: Software,
    /// The component's name under the guests' directory.
    guest: &'static str,
    options: &'static [&'static str],
    ask: Ask,
}

/// What is asked of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A greeting.
    Hello,
    /// 1 MiB, to be sent back.
    Echo,
    /// Greetings of so many functions.
    Functions(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Software {
    /// hyper alone: the limit.
    Bare,
    /// This server; the options are those of `af functions deploy`.
    Af,
    /// `wasmtime serve`, with its options.
    Wasmtime,
    /// workerd, with a worker of its own.
    Workerd,
    /// `spin up`, with its options.
    Spin,
}

/// Pooling with warm slots: see `wasmtime serve -O help`.
macro_rules! best {
    ($($more:literal),*) => {
        &[
            "-O",
            "pooling-allocator=y,pooling-max-unused-warm-slots=1000,pooling-memory-keep-resident=33554432,\
             pooling-table-keep-resident=1048576,pooling-async-stack-keep-resident=131072,pooling-pagemap-scan=y",
            $($more),*
        ]
    };
}

const RUST_02: &str = "hello-rust";
const RUST_03: &str = "hello-rust-p3";
const JAVASCRIPT: &str = "hello-js";
const HOSTILE: &str = "hostile";

const fn row(
    name: &'static str,
    software: Software,
    guest: &'static str,
    options: &'static [&'static str],
) -> Row {
    Row { name, software, guest, options, ask: Ask::Hello }
}

const fn asking(row: Row, ask: Ask) -> Row {
    Row { ask, ..row }
}

/// Peers stand below the rows of this server that they compare with.
const ROWS: &[Row] = &[
    row("bare hyper", Software::Bare, RUST_02, &[]),
    row("af, WASI 0.2, fresh instance (default)", Software::Af, RUST_02, &[]),
    row("wasmtime serve, WASI 0.2, fresh (default)", Software::Wasmtime, RUST_02, &[]),
    row(
        "wasmtime serve, WASI 0.2, fresh, best flags",
        Software::Wasmtime,
        RUST_02,
        best!("--max-instance-reuse-count=1"),
    ),
    row("af, WASI 0.2, reused", Software::Af, RUST_02, &["--reuse", "128"]),
    row(
        "wasmtime serve, WASI 0.2, reused, best flags",
        Software::Wasmtime,
        RUST_02,
        best!("--max-instance-reuse-count=128"),
    ),
    row("af, WASI 0.3 (default: reused)", Software::Af, RUST_03, &[]),
    row("wasmtime serve, WASI 0.3 (default: reused)", Software::Wasmtime, RUST_03, &[]),
    row(
        "wasmtime serve, WASI 0.3, reused, best flags",
        Software::Wasmtime,
        RUST_03,
        best!("--max-instance-reuse-count=128", "--max-instance-concurrent-reuse-count=16"),
    ),
    row("af, WASI 0.3, fresh instance", Software::Af, RUST_03, &["--reuse", "1"]),
    row(
        "wasmtime serve, WASI 0.3, fresh, best flags",
        Software::Wasmtime,
        RUST_03,
        best!("--max-instance-reuse-count=1"),
    ),
    row("af, JavaScript, fresh instance (default)", Software::Af, JAVASCRIPT, &[]),
    row("wasmtime serve, JavaScript, fresh (default)", Software::Wasmtime, JAVASCRIPT, &[]),
    row(
        "wasmtime serve, JavaScript, fresh, best flags",
        Software::Wasmtime,
        JAVASCRIPT,
        best!("--max-instance-reuse-count=1"),
    ),
    row("workerd, JavaScript (V8, one isolate, one thread)", Software::Workerd, JAVASCRIPT, &[]),
    row("spin up, WASI 0.2, fresh", Software::Spin, RUST_02, &[]),
    row("spin up, WASI 0.3", Software::Spin, RUST_03, &[]),
    asking(row("af, 1 MiB echo, WASI 0.2, fresh", Software::Af, HOSTILE, &[]), Ask::Echo),
    asking(
        row("wasmtime serve, 1 MiB echo, WASI 0.2, fresh (default)", Software::Wasmtime, HOSTILE, &[]),
        Ask::Echo,
    ),
    asking(
        row(
            "wasmtime serve, 1 MiB echo, WASI 0.2, fresh, best flags",
            Software::Wasmtime,
            HOSTILE,
            best!("--max-instance-reuse-count=1"),
        ),
        Ask::Echo,
    ),
    asking(row("af, 50 functions at once, WASI 0.2, fresh", Software::Af, RUST_02, &[]), Ask::Functions(50)),
];

impl Row {
    /// Whether it is the limit that all others are compared with.
    pub fn is_limit(&self) -> bool {
        self.software == Software::Bare
    }
}

/// Every row that can be measured here and whose name has `only`; says what is left out and why.
pub fn available(options: &Compare) -> Vec<Row> {
    let here = |peer: &Path, install: &str| {
        let said = Command::new(peer).arg("--version").output();
        match &said {
            Ok(output) => eprintln!("peer: {}", String::from_utf8_lossy(&output.stdout).trim()),
            Err(error) => eprintln!("left out: {} cannot be run ({error}); {install}", peer.display()),
        }
        said.is_ok()
    };
    let wasmtime =
        here(&options.wasmtime, "`cargo install wasmtime-cli --version 48.0.8 --locked` installs it");
    let workerd = here(&options.workerd, "`npm install workerd` has it in node_modules/.bin");
    let spin = here(&options.spin, "see https://spinframework.dev");
    let runs = |row: &&Row| match row.software {
        Software::Bare | Software::Af => true,
        Software::Wasmtime => wasmtime,
        Software::Workerd => workerd,
        Software::Spin => spin,
    };
    let wanted = |row: &&Row| row.is_limit() || row.name.contains(&options.only);
    ROWS.iter().filter(wanted).filter(runs).cloned().collect()
}

/// A server process, stopped when it is dropped.
pub struct Server {
    child: Child,
    pub port: u16,
    /// What the row asks.
    pub requests: Vec<Vec<u8>>,
    dir: tempfile::TempDir,
}

impl Server {
    /// Starts a server and waits until it answers.
    pub async fn start(row: &Row, options: &Compare) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let component = options.guests.join(format!("{}.wasm", row.guest));
        if !component.exists() {
            bail!("{} is missing; run examples/build", component.display());
        }
        let mut server = match row.software {
            Software::Bare => own(&["bare"], dir)?,
            Software::Af => Self::af(&options.af, dir)?,
            Software::Wasmtime => peers::wasmtime(&options.wasmtime, &component, row.options, dir)?,
            Software::Workerd => peers::workerd(&options.workerd, dir)?,
            Software::Spin => peers::spin(&options.spin, &component, row.options, dir)?,
        };
        server.wait().await?;
        if row.software == Software::Af {
            server.deploy(&options.af, "hello", &component, row.options)?;
        }
        server.requests = match row.ask {
            Ask::Hello => vec![load::get("hello.localhost", "/")],
            Ask::Echo => vec![load::post("hello.localhost", "/echo", &vec![7; 1 << 20])],
            Ask::Functions(count) => {
                fleet::deploy(&server, &component, count, false).await?;
                (0..count).map(|number| load::get(&host(number), "/")).collect()
            }
        };
        Ok(server)
    }

    /// A process that listens on a port.
    pub fn of(mut command: Command, port: u16, dir: tempfile::TempDir) -> anyhow::Result<Self> {
        let child = command.env_remove("RUST_BACKTRACE").stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.with_context(|| format!("{:?} cannot be run", command.get_program()))?;
        Ok(Self { child, port, requests: Vec::new(), dir })
    }

    /// This server, on directories that may have been used before.
    pub fn af(af: &Path, dir: tempfile::TempDir) -> anyhow::Result<Self> {
        Self::af_with(af, dir, &[])
    }

    /// The same with options of `af up`.
    pub fn af_with(af: &Path, dir: tempfile::TempDir, options: &[&str]) -> anyhow::Result<Self> {
        let mut up = command(af, dir.path());
        up.args(["--json", "up", "--listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0", "--data-dir"]);
        let up = up.arg(dir.path().join("data")).args(options).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = up.spawn().context("af")?;
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
        Ok(Self { child, port, requests: Vec::new(), dir })
    }

    /// Deploys a component to this server.
    pub fn deploy(&self, af: &Path, name: &str, component: &Path, options: &[&str]) -> anyhow::Result<()> {
        let component = component.to_str().context("the component's path is not UTF-8")?;
        let deploy = ["functions", "deploy", "--create", "-n", name, "-p", component];
        self.command(af, &[&deploy, options].concat())
    }

    /// Runs a command of its client.
    pub fn command(&self, af: &Path, arguments: &[&str]) -> anyhow::Result<()> {
        let said = command(af, self.dir.path()).args(arguments).output()?;
        if !said.status.success() {
            bail!("{arguments:?} failed: {}", String::from_utf8_lossy(&said.stderr));
        }
        Ok(())
    }

    /// Where its configuration and data are.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Stops it and keeps its directories.
    pub fn stop(mut self) -> anyhow::Result<tempfile::TempDir> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(std::mem::replace(&mut self.dir, tempfile::tempdir()?))
    }

    /// Processes that it has started.
    fn workers(&self) -> Vec<u32> {
        let id = self.child.id();
        let workers = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        workers.split_whitespace().filter_map(|worker| worker.parse().ok()).collect()
    }

    /// CPU time that the process and its workers have used, seconds.
    pub fn cpu_seconds(&self) -> f64 {
        let id = self.child.id();
        std::iter::once(id).chain(self.workers()).map(cpu_seconds).sum()
    }

    /// Resident memory, MiB.
    pub fn resident_mib(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok()).unwrap_or_default()
            / 1024.0
    }

    /// A JavaScript component takes half a minute to compile on a slow machine.
    pub async fn wait(&self) -> anyhow::Result<()> {
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
        let workers = self.workers();
        let _already_gone = self.child.kill();
        // nginx's serve on when it is killed.
        for worker in workers {
            let worker = i32::try_from(worker).ok().and_then(Pid::from_raw);
            let _already_gone = worker.map(|worker| kill_process(worker, Signal::KILL));
        }
        let _already_reaped = self.child.wait();
    }
}

/// This program as another server, which prints its port.
pub fn own(arguments: &[&str], dir: tempfile::TempDir) -> anyhow::Result<Server> {
    let mut own = Command::new(std::env::current_exe()?);
    let mut child = own.args(arguments).env_remove("RUST_BACKTRACE").stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
    Ok(Server { child, port: line.trim().parse()?, requests: Vec::new(), dir })
}

/// The host of a function of [`fleet::deploy`].
pub fn host(number: usize) -> String {
    format!("{}.localhost", fleet::slug(number))
}

fn command(af: &Path, dir: &Path) -> Command {
    let mut command = Command::new(af);
    command.env("XDG_CONFIG_HOME", dir).env_remove("RUST_BACKTRACE").stdin(Stdio::null());
    command.env_remove("AF_TOKEN").env_remove("AF_API_URL").env_remove("AF_PROJECT_ID");
    command
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

fn cpu_seconds(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // utime and stime are fields 14 and 15, counted after the name, which may hold spaces.
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
    (ticks(11) + ticks(12)) / f64::from(u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100))
}
