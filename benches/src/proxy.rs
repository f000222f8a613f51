//! What passing a request on costs: nginx and our reverse proxy in front of the same backend, in turn.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;

use crate::load::{Accept, Figures, Load};
use crate::servers::{self, Server};
use crate::{load, median, peers};

/// An edge learns of a route within a moment.
const LEARNED: Duration = Duration::from_secs(10);

#[derive(clap::Args)]
pub struct Options {
    /// The `af` binary
    #[arg(long)]
    af: PathBuf,
    /// The `nginx` binary. It need not be installed: `apt-get download nginx` and `dpkg -x` the package
    #[arg(long, default_value = "nginx")]
    nginx: PathBuf,
    /// How long each is loaded in each round
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Rounds; the table has the medians
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Connections that send one request after the other
    #[arg(long, default_value_t = 32)]
    connections: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Row {
    Backend,
    Nginx,
    Af,
}

const ROWS: [(Row, &str); 3] =
    [(Row::Backend, "the backend itself (bare hyper)"), (Row::Nginx, "nginx"), (Row::Af, "af, a route")];

impl Row {
    async fn start(
        self,
        options: &Options,
        cores: usize,
        backend: &Server,
    ) -> anyhow::Result<Option<Server>> {
        let dir = tempfile::tempdir()?;
        let port = backend.port.to_string();
        Ok(match self {
            Self::Backend => None,
            Self::Nginx => Some(peers::nginx(&options.nginx, backend.port, cores, dir)?),
            Self::Af => Some(af(&options.af, &port, dir).await?),
        })
    }
}

pub async fn run(options: &Options) -> anyhow::Result<()> {
    say_version(&options.nginx)?;
    // As this server has threads.
    let cores = std::thread::available_parallelism()?.get();
    let mut measured = ROWS.map(|(row, name)| (row, name, Vec::new()));
    for round in 1..=options.rounds {
        for (row, name, figures) in &mut measured {
            eprintln!("round {round} of {}: {name}", options.rounds);
            let backend = servers::own(&["bare"], tempfile::tempdir()?)?;
            backend.wait().await?;
            let proxy = row.start(options, cores, &backend).await?;
            figures.push(measure(options, proxy.as_ref().unwrap_or(&backend)).await?);
        }
    }
    print(cores, &measured);
    Ok(())
}

/// This server with a function whose only route leads to the backend.
async fn af(af: &Path, port: &str, dir: tempfile::TempDir) -> anyhow::Result<Server> {
    let server = Server::af_with(af, dir, &["--egress-allow", "127.0.0.0/8"])?;
    server.wait().await?;
    let routes = format!(r#"{{"/*": "http://127.0.0.1:{port}"}}"#);
    server.command(af, &["functions", "create", "--name", "shop", "--routes", &routes])?;
    let learned = async {
        while load::once(server.port, &load::get("shop.localhost", "/")).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LEARNED, learned).await.context("the edge does not learn of the route")?;
    Ok(server)
}

pub fn say_version(nginx: &Path) -> anyhow::Result<()> {
    let said = Command::new(nginx).arg("-v").output();
    let hint = "`apt-get download nginx` and `dpkg -x nginx_*.deb DIR` give one: --nginx DIR/usr/sbin/nginx";
    let said = said.with_context(|| format!("{} cannot be run; {hint}", nginx.display()))?;
    eprintln!("peer: {}", String::from_utf8_lossy(&said.stderr).trim());
    Ok(())
}

async fn measure(options: &Options, server: &Server) -> anyhow::Result<Figures> {
    server.wait().await?;
    let load = |seconds| Load {
        port: server.port,
        requests: vec![load::get("shop.localhost", "/")],
        connections: options.connections,
        time: Duration::from_secs(seconds),
        accept: Accept::Success,
    };
    load::run(load(1)).await?;
    let before = server.cpu_seconds();
    let mut figures = load::run(load(options.seconds)).await?;
    figures.cpu_micros = (server.cpu_seconds() - before) * 1e6 / figures.requests.max(1.0);
    Ok(figures)
}

fn print(cores: usize, measured: &[(Row, &str, Vec<Figures>)]) {
    let nginx = measured.iter().find(|(row, ..)| *row == Row::Nginx);
    let nginx = nginx.map_or(1.0, |(_, _, figures)| median(figures, |f| f.per_second));
    println!("| {cores} threads or workers | requests/s | nginx = 1 | CPU us/request | p50 ms | p99 ms |");
    println!("|---|---|---|---|---|---|");
    for (_, name, figures) in measured {
        let rate = median(figures, |f| f.per_second);
        println!(
            "| {name} | {rate:.0} | {:.2} | {:.1} | {:.2} | {:.2} |",
            rate / nginx,
            median(figures, |f| f.cpu_micros),
            median(figures, |f| f.p50_millis),
            median(figures, |f| f.p99_millis),
        );
    }
}
