//! Loads this server and its peers in turn with the same client and component, and prints tables.

mod cold;
mod control;
mod fetch;
mod fleet;
mod idle;
mod load;
mod neighbour;
mod peers;
mod proxy;
mod scale;
mod servers;
mod tls;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;

use crate::load::{Accept, Figures, Load};
use crate::servers::{Row, Server};

/// As `af` has it.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Everything
    All(Compare),
    /// Start every server in turn, load it, and print a table
    Compare(Compare),
    /// What first requests cost
    Cold(Compare),
    /// What many functions cost
    Scale(Compare),
    /// What idle connections cost
    Idle(Compare),
    /// What a bad function costs a good one
    Neighbour(Compare),
    /// What passing a request on costs, compared with nginx
    Proxy(proxy::Options),
    /// What a TLS handshake costs, compared with nginx
    Tls(tls::Options),
    /// What the control API takes
    Control(control::Options),
    /// What verified content costs, compared with curl
    Fetch(fetch::Options),
    /// A gateway for that
    #[command(hide = true)]
    Gateway(fetch::Gateway),
    /// The limit: a hyper server that answers a constant text
    Bare,
}

#[derive(clap::Args)]
struct Compare {
    /// The `af` binary
    #[arg(long)]
    af: PathBuf,
    /// Directory of the built guests
    #[arg(long)]
    guests: PathBuf,
    /// The `wasmtime` binary (version 48); its rows are left out where there is none
    #[arg(long, default_value = "wasmtime")]
    wasmtime: PathBuf,
    /// The `workerd` binary, likewise
    #[arg(long, default_value = "workerd")]
    workerd: PathBuf,
    /// The `spin` binary, likewise
    #[arg(long, default_value = "spin")]
    spin: PathBuf,
    /// How long each server is loaded in each round
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Rounds; the table has the medians
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Connections that send one request after the other
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Only rows whose name has this text in it, and bare hyper
    #[arg(long, default_value = "")]
    only: String,
}

fn main() -> anyhow::Result<()> {
    tokio::runtime::Runtime::new()?.block_on(run(Args::parse().command))
}

async fn run(command: Command) -> anyhow::Result<()> {
    // Of this process: the servers are processes of their own.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    match command {
        Command::All(options) => {
            compare(&options).await?;
            cold::run(&options).await?;
            scale::run(&options).await?;
            idle::run(&options).await?;
            neighbour::run(&options).await
        }
        Command::Compare(options) => compare(&options).await,
        Command::Cold(options) => cold::run(&options).await,
        Command::Scale(options) => scale::run(&options).await,
        Command::Idle(options) => idle::run(&options).await,
        Command::Neighbour(options) => neighbour::run(&options).await,
        Command::Proxy(options) => proxy::run(&options).await,
        Command::Tls(options) => tls::run(&options).await,
        Command::Control(options) => control::run(&options).await,
        Command::Fetch(options) => fetch::run(&options).await,
        Command::Gateway(options) => fetch::serve(&options).await,
        Command::Bare => servers::bare().await,
    }
}

async fn compare(options: &Compare) -> anyhow::Result<()> {
    let rows = servers::available(options);
    let mut rows: Vec<(Row, Vec<Figures>)> = rows.into_iter().map(|row| (row, Vec::new())).collect();
    for round in 1..=options.rounds {
        for (row, figures) in &mut rows {
            eprintln!("round {round} of {}: {}", options.rounds, row.name);
            let server = Server::start(row, options).await?;
            let load = |seconds| Load {
                port: server.port,
                requests: server.requests.clone(),
                connections: options.connections,
                time: Duration::from_secs(seconds),
                accept: Accept::Success,
            };
            load::run(load(1)).await?;
            let before = server.cpu_seconds();
            let mut measured = load::run(load(options.seconds)).await?;
            let cpu = server.cpu_seconds() - before;
            measured.cpu_micros = cpu * 1e6 / measured.requests.max(1.0);
            measured.resident_mib = server.resident_mib();
            figures.push(measured);
        }
    }
    print(&rows);
    Ok(())
}

fn print(rows: &[(Row, Vec<Figures>)]) {
    let limit = rows.iter().find(|(row, _)| row.is_limit());
    let limit = limit.map_or(1.0, |(_, figures)| median(figures, |f| f.per_second));
    println!("| server | requests/s | bare hyper = 1 | CPU us/request | p50 ms | p99 ms | resident MiB |");
    println!("|---|---|---|---|---|---|---|");
    for (row, figures) in rows {
        let figure = |of: fn(&Figures) -> f64| median(figures, of);
        let rate = figure(|f| f.per_second);
        println!(
            "| {} | {rate:.0} | {:.2} | {:.0} | {:.2} | {:.2} | {:.0} |",
            row.name,
            rate / limit,
            figure(|f| f.cpu_micros),
            figure(|f| f.p50_millis),
            figure(|f| f.p99_millis),
            figure(|f| f.resident_mib),
        );
    }
}

fn median(figures: &[Figures], of: impl Fn(&Figures) -> f64) -> f64 {
    let mut values: Vec<f64> = figures.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
