//! The load: one thread with connections that each send one request after the other and take the time
//! of each. It writes requests as bytes and reads no more of a response than its length, because
//! what it costs is taken from the servers, which run on the same cores.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// What is asked for, of whom.
#[derive(Clone, Debug)]
pub struct Load {
    pub port: u16,
    /// Each connection asks these in turn.
    pub requests: Vec<Vec<u8>>,
    pub connections: usize,
    pub time: Duration,
    pub accept: Accept,
}

/// Which responses are fine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// Status 200 only, else the run fails.
    Success,
    /// Any, also a connection that breaks: it is opened again.
    Anything,
}

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

/// A request without a body.
pub fn get(host: &str, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes()
}

/// A request with a body.
pub fn post(host: &str, path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// Loads a server from a thread of its own.
pub async fn run(load: Load) -> anyhow::Result<Figures> {
    tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(all(load))
    })
    .await?
}

/// The time of one request on a connection of its own.
pub async fn once(port: u16, request: &[u8]) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let mut connection = Connection::open(port).await?;
    connection.ask(request, Accept::Success).await?;
    Ok(started.elapsed())
}

/// Of times, in milliseconds: that which so many hundredths do not exceed.
pub fn percentile(times: &mut [Duration], hundredths: usize) -> f64 {
    times.sort_unstable();
    let at = (times.len() * hundredths / 100).min(times.len().saturating_sub(1));
    times.get(at).map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

async fn all(load: Load) -> anyhow::Result<Figures> {
    let started = Instant::now();
    let end = started + load.time;
    let mut callers = JoinSet::new();
    for number in 0..load.connections {
        let mut requests = load.requests.clone();
        // Not all the same one at the same time.
        let shift = number % requests.len().max(1);
        requests.rotate_left(shift);
        callers.spawn(connection(load.port, requests, end, load.accept));
    }
    let mut latencies = Vec::new();
    while let Some(called) = callers.join_next().await {
        latencies.extend(called??);
    }
    let elapsed = started.elapsed().as_secs_f64();
    let requests = f64::from(u32::try_from(latencies.len())?);
    Ok(Figures {
        requests,
        per_second: requests / elapsed,
        p50_millis: percentile(&mut latencies, 50),
        p99_millis: percentile(&mut latencies, 99),
        ..Figures::default()
    })
}

async fn connection(
    port: u16,
    requests: Vec<Vec<u8>>,
    end: Instant,
    accept: Accept,
) -> anyhow::Result<Vec<Duration>> {
    let mut connection = Connection::open(port).await?;
    let mut latencies = Vec::with_capacity(1 << 14);
    let mut sent = Instant::now();
    for request in requests.iter().cycle() {
        if sent >= end {
            break;
        }
        let asked = connection.ask(request, accept).await;
        match (asked, accept) {
            (Ok(()), _) => {}
            (Err(error), Accept::Success) => return Err(error),
            (Err(_), Accept::Anything) => connection = Connection::open(port).await?,
        }
        let done = Instant::now();
        latencies.push(done - sent);
        sent = done;
    }
    Ok(latencies)
}

/// A connection to a server.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// One that has been answered once. What it has read is given back.
    pub async fn answered(port: u16, request: &[u8]) -> anyhow::Result<Self> {
        let mut connection = Self::open(port).await?;
        connection.ask(request, Accept::Success).await?;
        connection.buffer = Vec::new();
        Ok(connection)
    }

    async fn open(port: u16) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.context("the server does not listen")?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(16 << 10) })
    }

    /// Writes and reads at the same time: a server may answer before it has read everything.
    async fn ask(&mut self, request: &[u8], accept: Accept) -> anyhow::Result<()> {
        let Self { stream, buffer } = self;
        let (mut reader, mut writer) = stream.split();
        buffer.clear();
        let read = async {
            while !complete(buffer, accept)? {
                ensure!(reader.read_buf(buffer).await? > 0, "the server closed the connection");
            }
            Ok(())
        };
        let write = async { writer.write_all(request).await.map_err(anyhow::Error::from) };
        tokio::try_join!(write, read)?;
        Ok(())
    }
}

/// Whether a response is all there: the servers here say its length or send it in chunks.
fn complete(response: &[u8], accept: Accept) -> anyhow::Result<bool> {
    let Some(end) = find(response, b"\r\n\r\n") else { return Ok(false) };
    let (head, body) = response.split_at(end + 4);
    let head = std::str::from_utf8(head)?;
    if accept == Accept::Success {
        ensure!(head.starts_with("HTTP/1.1 200"), "the server answered {:?}", head.lines().next());
    }
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
