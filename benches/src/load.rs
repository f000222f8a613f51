//! The load: connections that each send one request after the other and take the time of each.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

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
    let started = Instant::now();
    let end = started + time;
    let callers: Vec<_> = (0..connections)
        .map(|_| tokio::spawn(connection(server.port, server.host.clone(), server.path, end)))
        .collect();
    let mut latencies = Vec::new();
    for caller in callers {
        latencies.extend(caller.await??);
    }
    let elapsed = started.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let requests = f64::from(u32::try_from(latencies.len())?);
    let percentile = |hundredths: usize| {
        let at = (latencies.len() * hundredths / 100).min(latencies.len().saturating_sub(1));
        latencies.get(at).map_or(0.0, |latency| latency.as_secs_f64() * 1e3)
    };
    Ok(Figures {
        requests,
        per_second: requests / elapsed,
        p50_millis: percentile(50),
        p99_millis: percentile(99),
        ..Figures::default()
    })
}

async fn connection(
    port: u16,
    host: String,
    path: &'static str,
    end: Instant,
) -> anyhow::Result<Vec<Duration>> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.context("the server does not listen")?;
    stream.set_nodelay(true)?;
    let (mut sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(driver);
    let mut latencies = Vec::with_capacity(1 << 16);
    while Instant::now() < end {
        let request = Request::get(path).header("host", host.as_str()).body(Empty::<Bytes>::new())?;
        let sent = Instant::now();
        let response = sender.send_request(request).await?;
        ensure!(response.status().is_success(), "the server answered {}", response.status());
        response.into_body().collect().await?;
        latencies.push(sent.elapsed());
    }
    drop(sender);
    driver.await??;
    Ok(latencies)
}
