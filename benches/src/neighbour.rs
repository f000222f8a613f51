//! What a bad function does to the latency of a good one on the same server.

use std::time::Duration;

use crate::Compare;
use crate::load::{self, Accept, Load};
use crate::servers::Server;

/// What the bad function does all the time, each on so many connections.
const HOSTILE: &[&str] = &[
    "/spin",
    "/hostcalls",
    "/allocate",
    "/grow",
    "/recurse",
    "/trap",
    "/flood",
    "/chatter",
    "/handles",
    "/headers",
    "/sleep",
];
const CONNECTIONS: usize = 8;

/// Prints a table.
pub async fn run(options: &Compare) -> anyhow::Result<()> {
    println!(
        "\n| a good function (WASI 0.2, Rust, 4 connections), and a bad one's (8 connections) | requests/s | p50 ms | p99 ms | p99, quiet = 1 | server MiB |"
    );
    println!("|---|---|---|---|---|---|");
    let server = Server::af(&options.af, tempfile::tempdir()?)?;
    for name in ["hello-rust", "hostile"] {
        server.deploy(&options.af, name, &options.guests.join(format!("{name}.wasm")), &[])?;
    }
    let load = |request, connections, accept| Load {
        port: server.port,
        requests: vec![request],
        connections,
        time: Duration::from_secs(options.seconds),
        accept,
    };
    let good = || load::run(load(load::get("hello-rust.localhost", "/"), 4, Accept::Success));
    good().await?;
    let mut quiet = 0.0;
    for path in [None].into_iter().chain(HOSTILE.iter().map(Some)).chain([None]) {
        let bad = path.map(|path| {
            let request = load::get("hostile.localhost", path);
            tokio::spawn(load::run(load(request, CONNECTIONS, Accept::Anything)))
        });
        let figures = good().await?;
        if let Some(bad) = bad {
            // Requests of the last kind end with their wall time.
            bad.abort();
        }
        if quiet == 0.0 {
            quiet = figures.p99_millis;
        }
        println!(
            "| {} | {:.0} | {:.2} | {:.2} | {:.1} | {:.0} |",
            path.map_or("nothing", |path| path),
            figures.per_second,
            figures.p50_millis,
            figures.p99_millis,
            figures.p99_millis / quiet,
            server.resident_mib(),
        );
    }
    Ok(())
}
