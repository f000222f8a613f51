//! The load: one thread with connections that each send one request after the other and take the time
//! of each. It writes the request as bytes and reads no more of a response than its length, because
//! what it costs is taken from the servers, which run on the same cores.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::servers::Server;

/// What one run measured.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub requests: f64,
    pub per_second: f64,
    pub p50_millis: f64,
    pub p99_millis: f64,
    pub cpu_micros: f64,
    pub resident_mib: f64,
}

/// Loads a server; every response must be a success.
pub async fn run(server: &Server, time: Duration, connections: usize) -> anyhow::Result<Figures> {
    let (port, request) = (server.port, request(server));
    let load = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(load(port, &request, time, connections))
    };
    tokio::task::spawn_blocking(load).await?
}

fn request(server: &Server) -> Vec<u8> {
    format!("GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", server.path, server.host).into_bytes()
}

async fn load(port: u16, request: &[u8], time: Duration, connections: usize) -> anyhow::Result<Figures> {
    let started = Instant::now();
    let end = started + time;
    let mut callers = JoinSet::new();
    for _ in 0..connections {
        callers.spawn(connection(port, request.to_vec(), end));
    }
    let mut latencies = Vec::new();
    while let Some(called) = callers.join_next().await {
        latencies.extend(called??);
    }
    let elapsed = started.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let requests = f64::from(u32::try_from(latencies.len())?);
    let percentile = |hundredths: usize| {
        let at = (latencies.len() * hundredths / 100).min(latencies.len().saturating_sub(1));
        latencies.get(at).map_or(0.0, |latency: &Duration| latency.as_secs_f64() * 1e3)
    };
    Ok(Figures {
        requests,
        per_second: requests / elapsed,
        p50_millis: percentile(50),
        p99_millis: percentile(99),
        ..Figures::default()
    })
}

async fn connection(port: u16, request: Vec<u8>, end: Instant) -> anyhow::Result<Vec<Duration>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.context("the server does not listen")?;
    stream.set_nodelay(true)?;
    let mut latencies = Vec::with_capacity(1 << 14);
    let mut buffer = Vec::with_capacity(16 << 10);
    let mut sent = Instant::now();
    while sent < end {
        stream.write_all(&request).await?;
        buffer.clear();
        while !complete(&buffer)? {
            ensure!(stream.read_buf(&mut buffer).await? > 0, "the server closed the connection");
        }
        let done = Instant::now();
        latencies.push(done - sent);
        sent = done;
    }
    Ok(latencies)
}

/// Whether a response is all there: the servers here say its length or send it in chunks.
fn complete(response: &[u8]) -> anyhow::Result<bool> {
    let Some(end) = find(response, b"\r\n\r\n") else { return Ok(false) };
    let (head, body) = response.split_at(end + 4);
    let head = std::str::from_utf8(head)?;
    ensure!(head.starts_with("HTTP/1.1 200"), "the server answered {:?}", head.lines().next());
    for line in head.lines().skip(1) {
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("content-length") {
            return Ok(body.len() >= value.trim().parse::<usize>()?);
        }
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return Ok(body.ends_with(b"\r\n0\r\n\r\n"));
        }
    }
    bail!("the response has no length: {head:?}")
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}
