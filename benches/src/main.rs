//! Loads this server and its peers in turn with the same client and component, and prints the ratios.

mod load;
mod servers;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::load::Figures;
use crate::servers::{Row, Server};

#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start every server in turn, load it, and print a table
    Compare(Compare),
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

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Args::parse().command {
        Command::Compare(options) => compare(&options).await,
        Command::Bare => servers::bare().await,
    }
}

async fn compare(options: &Compare) -> anyhow::Result<()> {
    let rows = servers::available(&options.wasmtime, &options.only);
    let mut rows: Vec<(Row, Vec<Figures>)> = rows.into_iter().map(|row| (row, Vec::new())).collect();
    for round in 1..=options.rounds {
        for (row, figures) in &mut rows {
            eprintln!("round {round} of {}: {}", options.rounds, row.name);
            let server = Server::start(row, options).await?;
            load::run(&server, Duration::from_secs(1), options.connections).await?;
            let before = server.cpu_seconds();
            let mut measured =
                load::run(&server, Duration::from_secs(options.seconds), options.connections).await?;
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
