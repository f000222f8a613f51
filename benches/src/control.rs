//! What the control API takes: for deploys until the function answers, for reads with a token, and for a start with many
//! functions.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};

use crate::fleet::Api;
use crate::load::{self, Accept, Load, percentile};
use crate::servers::Server;

/// Deploys of one function, one after another.
const DEPLOYS: usize = 100;

/// What is deployed, bytes: the component with a custom section that makes it so large.
const SIZE: usize = 2_000_000;

/// Functions of the start.
const FUNCTIONS: usize = 100_000;

/// Of the API: no token is held up.
const RATE: &str = "1000000";

#[derive(clap::Args)]
pub struct Options {
    /// The `af` binary
    #[arg(long)]
    af: PathBuf,
    /// Directory of the built guests
    #[arg(long)]
    guests: PathBuf,
    /// A PostgreSQL database that is empty, postgres://…; SQLite when left out
    #[arg(long)]
    database: Option<String>,
    /// How long reads are asked for
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Functions at the start
    #[arg(long, default_value_t = FUNCTIONS)]
    functions: usize,
}

/// Prints a table.
pub async fn run(options: &Options) -> anyhow::Result<()> {
    let start = |dir| {
        let mut arguments = vec!["--api-rate-limit", RATE, "--max-functions-per-project", "4000000000"];
        if let Some(database) = &options.database {
            arguments.extend(["--database", database]);
        }
        Server::af_with(&options.af, dir, &arguments)
    };
    let mut server = start(tempfile::tempdir()?)?;
    let api = Api::of(server.dir())?;
    let component = std::fs::read(options.guests.join("hello-rust.wasm"))?;
    let id = api.create("deployed").await?;
    println!("| the control API on {} | |", if options.database.is_some() { "PostgreSQL" } else { "SQLite" });
    println!("|---|---|");
    let mut times = Vec::new();
    for number in 0..DEPLOYS {
        let file = padded(&component, number)?;
        let started = Instant::now();
        let manifest = api.upload(&id, "deployed", &file).await?;
        api.live(server.port, "deployed", &manifest).await?;
        load::once(server.port, &load::get("deployed.localhost", "/")).await?;
        times.push(started.elapsed());
    }
    print("deploy of 2 MB until it answers, compiled anew, p50, ms", percentile(&mut times, 50));
    print("... p99, ms", percentile(&mut times, 99));
    let known = [padded(&component, 0)?, padded(&component, 1)?];
    let mut times = Vec::new();
    for same in known.iter().cycle().take(DEPLOYS) {
        let started = Instant::now();
        let manifest = api.upload(&id, "deployed", same).await?;
        api.live(server.port, "deployed", &manifest).await?;
        load::once(server.port, &load::get("deployed.localhost", "/")).await?;
        times.push(started.elapsed());
    }
    print("... of code that was compiled before, p50, ms", percentile(&mut times, 50));
    print("... p99, ms", percentile(&mut times, 99));

    let port = api.url.rsplit_once(':').context("no port")?.1.parse()?;
    let request = |path: &str| {
        let token = &api.token;
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n")
            .into_bytes()
    };
    for (name, path) in [
        ("a function, with a token", format!("/v1/functions/{id}")),
        ("health, which needs none", "/health".to_owned()),
    ] {
        let (before, time) = (server.cpu_seconds(), Duration::from_secs(options.seconds));
        let load =
            Load { port, requests: vec![request(&path)], connections: 16, time, accept: Accept::Success };
        let figures = load::run(load).await?;
        let cpu = (server.cpu_seconds() - before) / figures.requests * 1e6;
        print(&format!("reads of {name}, per second"), figures.per_second);
        print("... CPU, us", cpu);
        print("... p99, ms", figures.p99_millis);
    }

    let started = Instant::now();
    let names = (0..options.functions).map(|number| format!("many-{number}"));
    let creating = futures::stream::iter(names.map(|name| {
        let api = &api;
        async move { api.create(&name).await }
    }));
    creating.buffer_unordered(8).try_for_each(|_| std::future::ready(Ok(()))).await?;
    print(&format!("making {} functions, s", options.functions), started.elapsed().as_secs_f64());
    let dir = server.stop()?;
    let started = Instant::now();
    server = start(dir)?;
    load::once(server.port, &load::get("deployed.localhost", "/")).await?;
    print("process start with them to the first answer, ms", started.elapsed().as_secs_f64() * 1e3);
    print("resident then, MiB", server.resident_mib());
    Ok(())
}

/// The component with a custom section behind it, which means nothing, another one for each number.
fn padded(component: &[u8], number: usize) -> anyhow::Result<Bytes> {
    let padding = SIZE.saturating_sub(component.len()).max(16);
    let mut section = vec![0];
    let mut left = u32::try_from(padding + 1)?;
    // A length as LEB128.
    loop {
        let byte = u8::try_from(left & 0x7f)?;
        left >>= 7;
        if left == 0 {
            section.push(byte);
            break;
        }
        section.push(byte | 0x80);
    }
    section.push(0);
    let mut filling = format!("{number:016}").into_bytes();
    filling.resize(padding, 0);
    Ok(Bytes::from([component, &section, &filling].concat()))
}

fn print(what: &str, value: f64) {
    println!("| {what} | {value:.2} |");
}
