//! What a TLS handshake costs: nginx and this server with the same certificate, in turn. Each client connects, makes a whole
//! handshake of TLS 1.3, asks once and goes. Clients have the same cost with both, on the same cores, so the servers' own CPU
//! time is the figure that tells more.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::load::Figures;
use crate::peers::Certificate;
use crate::servers::Server;
use crate::{load, median, peers, proxy};

const HOST: &str = "hello.fn.localhost";
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: hello.fn.localhost\r\nConnection: close\r\n\r\n";

#[derive(clap::Args)]
pub struct Options {
    /// The `af` binary
    #[arg(long)]
    af: PathBuf,
    /// The `nginx` binary, which need not be installed
    #[arg(long, default_value = "nginx")]
    nginx: PathBuf,
    /// How long each is loaded in each round
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Rounds; the table has the medians
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Clients that connect one time after the other
    #[arg(long, default_value_t = 16)]
    clients: usize,
}

pub async fn run(options: &Options) -> anyhow::Result<()> {
    proxy::say_version(&options.nginx)?;
    let dir = tempfile::tempdir()?;
    let (files, trust) = certificate(dir.path())?;
    let cores = std::thread::available_parallelism()?.get();
    let mut measured = [("nginx", Vec::new()), ("af", Vec::new())];
    for round in 1..=options.rounds {
        for (name, figures) in &mut measured {
            eprintln!("round {round} of {}: {name}", options.rounds);
            let (server, port) = match *name {
                "nginx" => {
                    let server = peers::nginx_tls(&options.nginx, &files, cores)?;
                    let port = server.port;
                    (server, port)
                }
                _ => af(&options.af, &files).await?,
            };
            server.wait().await?;
            measure(options, port, &trust, 1).await?;
            let before = server.cpu_seconds();
            let mut figure = measure(options, port, &trust, options.seconds).await?;
            figure.cpu_micros = (server.cpu_seconds() - before) * 1e6 / figure.requests;
            figures.push(figure);
        }
    }
    print(cores, &measured);
    Ok(())
}

/// ECDSA on P-256, for the host.
fn certificate(dir: &Path) -> anyhow::Result<(Certificate, CertificateDer<'static>)> {
    let made = rcgen::generate_simple_self_signed(vec![HOST.to_owned()])?;
    let files = Certificate { chain: dir.join("hello.crt"), key: dir.join("hello.key") };
    std::fs::write(&files.chain, made.cert.pem())?;
    std::fs::write(&files.key, made.signing_key.serialize_pem())?;
    Ok((files, made.cert.der().clone()))
}

/// This server with a route that answers a text.
async fn af(af: &Path, files: &Certificate) -> anyhow::Result<(Server, u16)> {
    let text = |path: &Path| path.to_str().map(str::to_owned).context("the path is not UTF-8");
    let (chain, key) = (text(&files.chain)?, text(&files.key)?);
    let options =
        ["--domain", "fn.localhost", "--tls-listen", "127.0.0.1:0", "--tls-cert", &chain, "--tls-key", &key];
    // With TLS, its port is that of the encrypted listener.
    let server = Server::af_with(af, tempfile::tempdir()?, &options)?;
    server.wait().await?;
    let routes = r#"{"/*": {"response": {"body": "hello"}}}"#;
    server.command(af, &["functions", "create", "--name", "hello", "--routes", routes])?;
    let port = server.port;
    Ok((server, port))
}

async fn measure(
    options: &Options,
    port: u16,
    trust: &CertificateDer<'static>,
    seconds: u64,
) -> anyhow::Result<Figures> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trust.clone())?;
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.resumption = Resumption::disabled();
    let connector = TlsConnector::from(Arc::new(config));
    let clients = options.clients;
    // A thread of its own, as for other loads.
    let run = move || -> anyhow::Result<_> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(all(connector, port, clients, Duration::from_secs(seconds)))
    };
    let started = Instant::now();
    let mut times = tokio::task::spawn_blocking(run).await??;
    let took = started.elapsed().as_secs_f64();
    let count = f64::from(u32::try_from(times.len())?);
    let p99_millis = load::percentile(&mut times, 99);
    Ok(Figures { requests: count, per_second: count / took, p99_millis, ..Figures::default() })
}

async fn all(
    connector: TlsConnector,
    port: u16,
    clients: usize,
    time: Duration,
) -> anyhow::Result<Vec<Duration>> {
    let end = Instant::now() + time;
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        let connector = connector.clone();
        tasks.spawn(async move {
            let mut times = Vec::new();
            while Instant::now() < end {
                times.push(once(&connector, port).await?);
            }
            anyhow::Ok(times)
        });
    }
    let mut times = Vec::new();
    while let Some(done) = tasks.join_next().await {
        times.extend(done??);
    }
    Ok(times)
}

async fn once(connector: &TlsConnector, port: u16) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let mut stream = connector.connect(ServerName::try_from(HOST)?, stream).await?;
    stream.write_all(REQUEST).await?;
    let mut answer = Vec::new();
    // Some servers close without saying so in TLS; the answer is complete nonetheless.
    let _closed = stream.read_to_end(&mut answer).await;
    ensure!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    Ok(started.elapsed())
}

fn print(cores: usize, measured: &[(&str, Vec<Figures>); 2]) {
    let [(_, nginx), _] = measured;
    let limit = median(nginx, |f| f.per_second);
    println!(
        "| TLS handshakes, ECDSA P-256, {cores} threads or workers | connections/s | nginx = 1 | CPU us/connection | nginx = 1 | p99 ms |"
    );
    println!("|---|---|---|---|---|---|");
    let limit_cpu = median(nginx, |f| f.cpu_micros);
    for (name, figures) in measured {
        let (rate, cpu) = (median(figures, |f| f.per_second), median(figures, |f| f.cpu_micros));
        println!(
            "| {name} | {rate:.0} | {:.2} | {cpu:.0} | {:.2} | {:.2} |",
            rate / limit,
            cpu / limit_cpu,
            median(figures, |f| f.p99_millis),
        );
    }
}
