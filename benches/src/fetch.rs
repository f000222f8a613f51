//! What it costs to fetch a file by its CID and to verify every block, compared with curl, which gets the same bytes from the same
//! server and verifies nothing; what sources cost that stall or lie; and what it costs to read a function again from the disk.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use af_content::car::Block;
use af_content::source::{DagBounds, Fetcher, Gateway as GatewaySource, Source};
use af_content::{DiskStore, unixfs};
use af_contract::{ContentId, limits};
use anyhow::{Context, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Either, Empty, Full, StreamBody};
use hyper::body::Frame;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::servers::{self, Server};

/// The sizes that are fetched, MB.
const SIZES: [u64; 2] = [5, 100];

/// A large function, MB, and how often it is read.
const FUNCTION: u64 = 5;
const READS: usize = 51;

/// Who fetches.
const STARTED: &str = "`af fetch`, started for it";
const RUNS: &str = "a node that runs already";

/// Fetches by a node that runs already, in each round.
const FETCHES: u32 = 5;

#[derive(clap::Args)]
pub struct Options {
    /// The `af` binary
    #[arg(long)]
    af: PathBuf,
    /// The `curl` binary
    #[arg(long, default_value = "curl")]
    curl: PathBuf,
    /// Rounds; the table has the medians
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The size of the file whose fetch's memory is measured, MB
    #[arg(long, default_value_t = 1000)]
    large: u64,
}

/// A gateway with one file of pseudo-random bytes.
#[derive(clap::Args)]
pub struct Gateway {
    /// The file's size, MB
    #[arg(long)]
    megabytes: u64,
    /// Whether it answers, lies or stalls
    #[arg(long, value_enum, default_value_t = Manner::Honest)]
    manner: Manner,
}

/// What a gateway does when it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Manner {
    Honest,
    Lies,
    Stalls,
}

pub async fn run(options: &Options) -> anyhow::Result<()> {
    println!(
        "| a file from a gateway on this machine | MB/s | curl, unverified | of curl | of one core's SHA-256 | of one core's SHA-256 and BLAKE3 in turn |"
    );
    println!("|---|---|---|---|---|---|");
    let (sha256, blake3) = (hashing(sha256), hashing(blake3));
    let both = 1.0 / (1.0 / sha256 + 1.0 / blake3);
    for megabytes in SIZES {
        let server = gateway(megabytes, Manner::Honest)?;
        let node = Node::new(megabytes, std::slice::from_ref(&server))?;
        let (mut started, mut runs, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..options.rounds {
            theirs.push(rate(megabytes, curl(options, &server)?));
            started.push(rate(megabytes, fetch(options, megabytes, std::slice::from_ref(&server))?.0));
            for _ in 0..FETCHES {
                runs.push(rate(megabytes, node.fetch().await?));
            }
        }
        let theirs = middle(&mut theirs);
        for (who, mut ours) in [(STARTED, started), (RUNS, runs)] {
            let ours = middle(&mut ours);
            println!(
                "| {megabytes} MB, {who} | {ours:.0} | {theirs:.0} | {:.2} | {:.2} | {:.2} |",
                ours / theirs,
                ours / sha256,
                ours / both
            );
        }
    }
    println!("\n| SHA-256 on this machine | |\n|---|---|");
    println!("| of one thread, MB/s | {sha256:.0} |");
    println!("| of two threads at once, one thread = 1 | {:.2} |", together(sha256)?);
    let megabytes = SIZES[1];
    let honest = || gateway(megabytes, Manner::Honest);
    let alone = [honest()?];
    let (stalls, lies) = (|| gateway(megabytes, Manner::Stalls), || gateway(megabytes, Manner::Lies));
    let five = [stalls()?, lies()?, stalls()?, honest()?, honest()?];
    let (mut started, mut runs) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
    for _ in 0..options.rounds {
        started.0.push(fetch(options, megabytes, &alone)?.0.as_secs_f64());
        started.1.push(fetch(options, megabytes, &five)?.0.as_secs_f64());
        // Another one each time: it knows none of them yet.
        runs.0.push(Node::new(megabytes, &alone)?.fetch().await?.as_secs_f64());
        runs.1.push(Node::new(megabytes, &five)?.fetch().await?.as_secs_f64());
    }
    println!("\n| {megabytes} MB from five sources, of which the first three stall or lie | |");
    println!("|---|---|");
    for (who, (mut one, mut all)) in [(STARTED, started), (RUNS, runs)] {
        println!("| {who}: time, an honest source alone = 1 | {:.2} |", middle(&mut all) / middle(&mut one));
    }
    print_memory(options)?;
    let read = warm_read()?;
    println!("\n| a function of {FUNCTION} MB that is on the disk | ms, median of {READS} |");
    println!("|---|---|");
    println!("| read and verified by its BLAKE3, warm (aim: < 10) | {read:.2} |");
    Ok(())
}

fn print_memory(options: &Options) -> anyhow::Result<()> {
    let megabytes = options.large;
    let (_, peak) = fetch(options, megabytes, &[gateway(megabytes, Manner::Honest)?])?;
    // The same process with nothing to do.
    let (_, idle) = fetch(options, 0, &[gateway(0, Manner::Honest)?])?;
    println!("| peak memory of fetching {megabytes} MB, MiB, the program itself included | {peak:.0} |");
    println!("| ... above that of fetching an empty file, MiB (aim: < 64) | {:.0} |", peak - idle);
    Ok(())
}

/// What fetches a file again and again, as an edge does: it has its connections and its memory, and keeps nothing of the file.
#[derive(Clone)]
struct Node {
    fetcher: Fetcher,
    root: ContentId,
    size: u64,
    _store: Arc<tempfile::TempDir>,
}

impl Node {
    fn new(megabytes: u64, servers: &[Server]) -> anyhow::Result<Self> {
        let store = tempfile::tempdir()?;
        let mut sources: Vec<Arc<dyn Source>> = Vec::new();
        for server in servers {
            let base = format!("http://127.0.0.1:{}/", server.port).parse()?;
            sources.push(Arc::new(GatewaySource::new(base, None)?));
        }
        let fetcher = Fetcher::new(DiskStore::open(store.path())?, sources);
        Ok(Self { fetcher, root: root(megabytes)?, size: megabytes * 1_000_000, _store: Arc::new(store) })
    }

    /// How long one fetch takes, by a task as requests have it.
    async fn fetch(&self) -> anyhow::Result<Duration> {
        tokio::spawn(self.clone().fetched()).await?
    }

    async fn fetched(self) -> anyhow::Result<Duration> {
        let (began, mut size) = (Instant::now(), 0);
        let bounds = DagBounds { bytes: self.size, blocks: 1 << 20 };
        let mut file = self.fetcher.file(self.root, bounds).await?.context("it is no file")?;
        while let Some(block) = file.next().await? {
            size += block.size() as u64;
        }
        std::hint::black_box(file.finish());
        let took = began.elapsed();
        ensure!(size == self.size, "another file came");
        Ok(took)
    }
}

/// Milliseconds, as an edge reads a function that it has no compiled code of.
fn warm_read() -> anyhow::Result<f64> {
    let dir = tempfile::tempdir()?;
    let store = DiskStore::open(dir.path())?;
    let keep = |block: Block| store.keep(&block).map_err(std::io::Error::other);
    let file = unixfs::import(File::new(FUNCTION), keep)?;
    let mut times = Vec::with_capacity(READS);
    for _ in 0..READS {
        let began = Instant::now();
        let bytes = store.file(&file.root, &file.blake3, limits::CODE_BYTES)?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
        ensure!(bytes.len() as u64 == file.size, "another file came back");
    }
    Ok(middle(&mut times))
}

fn gateway(megabytes: u64, manner: Manner) -> anyhow::Result<Server> {
    let manner = format!("{manner:?}").to_lowercase();
    let megabytes = megabytes.to_string();
    servers::own(&["gateway", "--megabytes", &megabytes, "--manner", &manner], tempfile::tempdir()?)
}

fn curl(options: &Options, server: &Server) -> anyhow::Result<Duration> {
    let url = format!("http://127.0.0.1:{}/file", server.port);
    let said =
        Command::new(&options.curl).args(["-sf", "-o", "/dev/null", "-w", "%{time_total}", &url]).output();
    let said = said.with_context(|| format!("{} cannot be run", options.curl.display()))?;
    ensure!(said.status.success(), "curl failed");
    Ok(Duration::from_secs_f64(String::from_utf8(said.stdout)?.trim().parse()?))
}

/// The time by its own account, without the start of the process, and the most memory that it had, MiB.
fn fetch(options: &Options, megabytes: u64, servers: &[Server]) -> anyhow::Result<(Duration, f64)> {
    let mut fetch = Command::new(&options.af);
    fetch.args(["--json", "fetch", &root(megabytes)?.to_string()]).env_remove("RUST_BACKTRACE");
    for server in servers {
        fetch.args(["--source", &format!("gateway=http://127.0.0.1:{}", server.port)]);
    }
    let child = fetch.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let peak = std::thread::spawn({
        let status = format!("/proc/{}/status", child.id());
        move || {
            let mut most = 0.0;
            while let Some(now) = peak(&status) {
                most = now;
                std::thread::sleep(Duration::from_millis(5));
            }
            most
        }
    });
    let said = child.wait_with_output()?;
    ensure!(said.status.success(), "af fetch failed");
    let said: Value = serde_json::from_slice(&said.stdout)?;
    let millis = said.get("milliseconds").and_then(Value::as_f64).context("no time")?;
    Ok((Duration::from_secs_f64(millis / 1e3), peak.join().unwrap_or_default()))
}

fn peak(status: &str) -> Option<f64> {
    let status = std::fs::read_to_string(status).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<f64>().ok()? / 1024.0)
}

/// What one thread hashes, MB/s.
fn hashing(hash: fn(&[u8])) -> f64 {
    let block = vec![7; 1 << 20];
    let (began, rounds) = (Instant::now(), 400);
    for _ in 0..rounds {
        hash(&block);
    }
    f64::from(rounds) * 1.048_576 / began.elapsed().as_secs_f64()
}

fn sha256(block: &[u8]) {
    std::hint::black_box(af_content::identify(af_contract::Codec::Raw, block));
}

fn blake3(block: &[u8]) {
    std::hint::black_box(blake3::hash(block));
}

/// What two threads hash at once, as a part of what one does by itself: less than two where both processors are one core's.
fn together(one: f64) -> anyhow::Result<f64> {
    let other = std::thread::spawn(|| hashing(sha256));
    let both = hashing(sha256) + other.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?;
    Ok(both / one)
}

fn rate(megabytes: u64, time: Duration) -> f64 {
    megabytes as f64 / time.as_secs_f64()
}

fn middle(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// The file, which is the same each time.
struct File {
    left: u64,
    state: u64,
}

impl File {
    const fn new(megabytes: u64) -> Self {
        Self { left: megabytes * 1_000_000, state: 1 }
    }
}

impl std::io::Read for File {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let size = usize::try_from(self.left).unwrap_or(usize::MAX).min(out.len());
        for piece in out.get_mut(..size).unwrap_or_default().chunks_mut(8) {
            self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            for (byte, random) in piece.iter_mut().zip((self.state >> 3).to_be_bytes()) {
                *byte = random;
            }
        }
        self.left -= size as u64;
        Ok(size)
    }
}

fn root(megabytes: u64) -> anyhow::Result<ContentId> {
    Ok(unixfs::import(File::new(megabytes), |_| Ok(()))?.root)
}

/// Serves the blocks of the file and, at `/file`, the file.
pub async fn serve(options: &Gateway) -> anyhow::Result<()> {
    let (mut blocks, mut leaves) = (BTreeMap::new(), Vec::new());
    unixfs::import(File::new(options.megabytes), |block| {
        if block.id.codec() == af_contract::Codec::Raw {
            leaves.push(block.bytes.clone());
        }
        blocks.insert(format!("/ipfs/{}", block.id), block.bytes);
        Ok(())
    })?;
    let (blocks, leaves, manner) = (Arc::new(blocks), Arc::new(leaves), options.manner);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (blocks, leaves) = (blocks.clone(), leaves.clone());
        tokio::spawn(async move {
            let answer = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                let (blocks, leaves) = (blocks.clone(), leaves.clone());
                async move {
                    if request.uri().path() == "/file" {
                        let leaves = leaves.as_ref().clone().into_iter();
                        let frames = leaves.map(|leaf| Ok::<_, std::convert::Infallible>(Frame::data(leaf)));
                        let body = StreamBody::new(futures::stream::iter(frames));
                        return Response::builder().body(Either::Left(body));
                    }
                    let Some(block) = blocks.get(request.uri().path()) else {
                        let nothing = Either::Right(Empty::new().boxed());
                        return Response::builder().status(StatusCode::NOT_FOUND).body(nothing);
                    };
                    let block = match manner {
                        Manner::Honest => block.clone(),
                        Manner::Lies => Bytes::from(vec![0; block.len()]),
                        Manner::Stalls => std::future::pending().await,
                    };
                    Response::builder().body(Either::Right(Full::new(block).boxed()))
                }
            });
            http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await
        });
    }
}
