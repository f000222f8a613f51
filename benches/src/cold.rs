//! What a first request costs: with compiled code on the disk, and with nothing but the content.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::load::{self, percentile};
use crate::servers::{Server, host};
use crate::{Compare, fleet};

/// Functions with code of their own.
const RUST: usize = 200;

/// Of them, those whose compiled code is taken away.
const COMPILED: usize = 20;

/// JavaScript functions are large: one, and so many starts.
const STARTS: usize = 20;

/// A start with fewer functions prepares them before anybody asks.
const MANY: usize = 20;

/// Prints a table.
pub async fn run(options: &Compare) -> anyhow::Result<()> {
    println!("\n| first request of a function, new connection included | requests | p50 ms | p99 ms |");
    println!("|---|---|---|---|");
    let component = options.guests.join("hello-rust.wasm");
    let mut server = Server::af(&options.af, tempfile::tempdir()?)?;
    fleet::deploy(&server, &component, RUST, true).await?;
    ask(&server, RUST).await?;
    server = Server::af(&options.af, server.stop()?)?;
    print("WASI 0.2, Rust: compiled code from the disk", ask(&server, RUST).await?);
    let dir = server.stop()?;
    std::fs::remove_dir_all(dir.path().join("data/artifacts"))?;
    server = Server::af(&options.af, dir)?;
    print("WASI 0.2, Rust: compiled from blocks on the disk", ask(&server, COMPILED).await?);
    drop(server);

    let mut server = Server::af(&options.af, tempfile::tempdir()?)?;
    fleet::deploy(&server, &component, MANY, false).await?;
    server.deploy(&options.af, "script", &options.guests.join("hello-js.wasm"), &[])?;
    let script = load::get("script.localhost", "/");
    let mut times = Vec::new();
    for _ in 0..STARTS {
        server = Server::af(&options.af, server.stop()?)?;
        ask(&server, 1).await?;
        times.push(load::once(server.port, &script).await?);
    }
    print("JavaScript: compiled code from the disk", times);
    let dir = server.stop()?;
    std::fs::remove_dir_all(dir.path().join("data/artifacts"))?;
    server = Server::af(&options.af, dir)?;
    let time = load::once(server.port, &script).await?;
    print("JavaScript: compiled from blocks on the disk", vec![time]);
    let started = Instant::now();
    server.deploy(&options.af, "second", &second(&options.guests, server.dir())?, &[])?;
    print("JavaScript: another script, the whole of `af functions deploy`", vec![started.elapsed()]);
    Ok(())
}

/// The example with another greeting.
fn second(guests: &Path, dir: &Path) -> anyhow::Result<PathBuf> {
    let (from, to) = (b"Hello from JavaScript!", b"Hello from JavaScripts");
    let mut component = std::fs::read(guests.join("hello-js.wasm"))?;
    while let Some(at) = component.windows(from.len()).position(|text| text == from) {
        component.get_mut(at..at + to.len()).context("no greeting")?.copy_from_slice(to);
    }
    let path = dir.join("second.wasm");
    std::fs::write(&path, component)?;
    Ok(path)
}

/// Asks each function once.
async fn ask(server: &Server, functions: usize) -> anyhow::Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(functions);
    for number in 0..functions {
        times.push(load::once(server.port, &load::get(&host(number), "/")).await?);
    }
    Ok(times)
}

fn print(name: &str, mut times: Vec<Duration>) {
    let (p50, p99) = (percentile(&mut times, 50), percentile(&mut times, 99));
    println!("| {name} | {} | {p50:.2} | {p99:.2} |", times.len());
}
