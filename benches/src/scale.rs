//! What many functions cost one server: memory, start, and requests that go to many of them.

use std::time::{Duration, Instant};

use crate::load::{self, Accept, Load, percentile};
use crate::servers::{Server, host};
use crate::{Compare, fleet};

const FUNCTIONS: usize = 10_000;
const HOT: usize = 100;
const JAVASCRIPT: usize = 100;
const STARTS: usize = 5;

/// Instances that wait for something.
const LIVE: usize = 200;

/// Longer than an idle instance is kept.
const IDLE: Duration = Duration::from_secs(14);

/// Prints a table.
pub async fn run(options: &Compare) -> anyhow::Result<()> {
    println!("\n| {FUNCTIONS} deployed functions (one component, WASI 0.2, Rust) | |");
    println!("|---|---|");
    let component = options.guests.join("hello-rust.wasm");
    let mut server = Server::af(&options.af, tempfile::tempdir()?)?;
    let started = Instant::now();
    fleet::deploy(&server, &component, FUNCTIONS, false).await?;
    print("deploying them, 4 at a time, s", started.elapsed().as_secs_f64());
    let any = load::get(&host(FUNCTIONS - 1), "/");
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        let dir = server.stop()?;
        let started = Instant::now();
        server = Server::af(&options.af, dir)?;
        load::once(server.port, &any).await?;
        starts.push(started.elapsed());
    }
    print("process start to first answer, ms (median of 5)", percentile(&mut starts, 50));
    print("resident then, MiB", server.resident_mib());
    for number in 0..FUNCTIONS {
        load::once(server.port, &load::get(&host(number), "/")).await?;
    }
    tokio::time::sleep(IDLE).await;
    print("resident when each was called once and all are idle, MiB", server.resident_mib());
    let (one, hot) = (rate(options, &server, 1).await?, rate(options, &server, HOT).await?);
    print("requests/s to 100 of them, as a part of those to one", hot / one);
    drop(server);

    println!("\n| memory | MiB |");
    println!("|---|---|");
    let server = Server::af(&options.af, tempfile::tempdir()?)?;
    print("server without functions", server.resident_mib());
    fleet::deploy(&server, &options.guests.join("hello-js.wasm"), JAVASCRIPT, false).await?;
    for number in 0..JAVASCRIPT {
        load::once(server.port, &load::get(&host(number), "/")).await?;
    }
    print("100 JavaScript functions, each called once", server.resident_mib());
    tokio::time::sleep(IDLE).await;
    print("... and idle", server.resident_mib());
    drop(server);

    let server = Server::af(&options.af, tempfile::tempdir()?)?;
    server.deploy(&options.af, "hostile", &options.guests.join("hostile.wasm"), &[])?;
    let before = server.resident_mib();
    let sleep = load::get("hostile.localhost", "/sleep");
    let requests = vec![sleep];
    let time = Duration::from_secs(1);
    let load = Load { port: server.port, requests, connections: LIVE, time, accept: Accept::Anything };
    let loading = tokio::spawn(load::run(load));
    tokio::time::sleep(Duration::from_secs(2)).await;
    print("a live instance (WASI 0.2, Rust)", (server.resident_mib() - before) / LIVE as f64);
    loading.abort();
    Ok(())
}

async fn rate(options: &Compare, server: &Server, functions: usize) -> anyhow::Result<f64> {
    let requests: Vec<_> = (0..functions).map(|number| load::get(&host(number), "/")).collect();
    let load = |seconds| Load {
        port: server.port,
        requests: requests.clone(),
        connections: options.connections,
        time: Duration::from_secs(seconds),
        accept: Accept::Success,
    };
    load::run(load(1)).await?;
    Ok(load::run(load(options.seconds)).await?.per_second)
}

fn print(name: &str, value: f64) {
    println!("| {name} | {value:.2} |");
}
