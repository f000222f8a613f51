//! `af functions deploy`: hash, send, and wait until the function answers with the new code.

use std::fs::File;
use std::io::{self, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use af_content::car::{self, Block};
use af_content::unixfs::{self, FileSummary};
use af_contract::limits;
use anyhow::{Context, bail};
use bytes::Bytes;
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::functions::{find, lookup, new, unsupported};
use super::settings;
use crate::args::Deploy;
use crate::client::{Api, Upload, text};
use crate::output::Output;

/// How long a new deployment may take to answer: compiling a JavaScript engine takes 15 s on 2 cores.
const READY: Duration = Duration::from_secs(120);

/// Between two questions whether it answers.
const PAUSE: Duration = Duration::from_millis(50);

/// Sends a component and returns when it answers.
pub async fn deploy(api: &Api, options: Deploy, output: &Output) -> anyhow::Result<()> {
    refuse_unsupported(&options)?;
    let settings = settings::read(&options.env, options.env_file.as_deref())?;
    let settings = settings::header(&settings)?;
    let mut steps = Steps::default();
    let (summary, blocks) = steps.time("hash", read(&options.path))?;
    let function = function(api, &options).await?;
    let bar = output.progress(summary.size);
    let body = car_body(&summary, blocks, bar.clone());
    let path = format!("/v1/functions/{}/deployments", text(&function, "id"));
    let uploaded = api.upload(Upload { path, query: query(&summary, &options), settings, body }).await;
    bar.finish_and_clear();
    let deployment = steps.time("upload", uploaded)?;
    let ready = wait_until_live(&function, &deployment).await;
    steps
        .time("ready", ready)
        .with_context(|| format!("deployment {} is stored, but does not answer", text(&deployment, "id")))?;

    let url = text(&function, "invokeUrl");
    let value = json!({ "url": url, "deployment": deployment, "milliseconds": steps.millis() });
    let fields = [
        ("URL", url.to_owned()),
        ("CID", summary.root.to_string()),
        ("BLAKE3", summary.blake3.to_string()),
        ("deployment", text(&deployment, "id").to_owned()),
        ("time", steps.to_string()),
    ];
    output.result(&value, &output.fields(&fields));
    Ok(())
}

/// Asks the edge until it runs this deployment, or says that it cannot.
pub async fn wait_until_live(function: &Value, deployment: &Value) -> anyhow::Result<()> {
    let url = format!("{}/.well-known/af-deployment", text(function, "invokeUrl"));
    let http = edge_client(&url)?;
    let wanted = text(deployment, "manifestCid");
    let manifest = |state: &Value, key: &str| state.get(key).is_some_and(|v| text(v, "manifest") == wanted);
    let deadline = Instant::now() + READY;
    let mut last = String::from("it did not answer in time");
    while Instant::now() < deadline {
        match http.get(&url).send().await {
            Ok(response) => {
                let state: Value = response.json().await.unwrap_or_default();
                if manifest(&state, "live") {
                    return Ok(());
                }
                if let Some(failed) = state.get("failed").filter(|_| manifest(&state, "failed")) {
                    bail!("{} [{}]", text(failed, "detail"), text(failed, "code"));
                }
                last = format!("{url} still answers with another deployment");
            }
            Err(error) => last = format!("{url} cannot be reached: {}", error.without_url()),
        }
        tokio::time::sleep(PAUSE).await;
    }
    bail!(last)
}

async fn function(api: &Api, options: &Deploy) -> anyhow::Result<Value> {
    if !options.create {
        let advice =
            || format!("make it first with `af functions create --name {}`, or add --create", options.name);
        return find(api, &options.name).await.with_context(advice);
    }
    match lookup(api, &options.name).await? {
        Some(function) => Ok(function),
        None => new(api, &options.name, None).await,
    }
}

fn refuse_unsupported(options: &Deploy) -> anyhow::Result<()> {
    unsupported(options.private, "--private", "content is not encrypted yet, so it cannot be kept private")?;
    unsupported(options.assets.is_some(), "--assets", "functions have no files of their own yet")?;
    unsupported(options.sgx, "--sgx", "no edge runs in an SGX enclave")
}

fn read(path: &Path) -> anyhow::Result<(FileSummary, Vec<Block>)> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("cannot open {shown}"))?;
    let meta = file.metadata().with_context(|| format!("cannot read {shown}"))?;
    if meta.is_dir() {
        bail!("{shown} is a directory; give the .wasm file that was built in it");
    }
    if meta.len() > limits::CODE_BYTES {
        bail!(
            "{shown} has {} MiB; a component may have at most {} MiB",
            meta.len() >> 20,
            limits::CODE_BYTES >> 20
        );
    }
    let mut blocks = Vec::new();
    let collect = |block| {
        blocks.push(block);
        Ok(())
    };
    let summary =
        unixfs::import(BufReader::new(file), collect).with_context(|| format!("cannot read {shown}"))?;
    Ok((summary, blocks))
}

fn query(summary: &FileSummary, options: &Deploy) -> Vec<(&'static str, String)> {
    fn joined<T: ToString>(name: &'static str, names: &[T]) -> Option<(&'static str, String)> {
        let names: Vec<String> = names.iter().map(T::to_string).collect();
        (!names.is_empty()).then(|| (name, names.join(",")))
    }
    let mut query = vec![("cid", summary.root.to_string()), ("blake3", summary.blake3.to_string())];
    query.extend(options.reuse.map(|reuse| ("reuse", reuse.to_string())));
    query.extend(options.concurrency.map(|many| ("concurrency", many.to_string())));
    query.extend(joined("egress", &options.egress));
    query.extend(joined("stores", &options.stores));
    query
}

/// The blocks as a CAR, in pieces that the progress bar can count.
fn car_body(summary: &FileSummary, blocks: Vec<Block>, bar: ProgressBar) -> reqwest::Body {
    const PIECE: usize = 64 << 10;
    let header = Bytes::from(car::encode_header(&summary.root));
    let pieces = blocks.into_iter().flat_map(move |block| {
        let prefix = Bytes::from(car::encode_block_prefix(&block.id, block.bytes.len()));
        let size = block.bytes.len();
        let bar = bar.clone();
        let body = (0..size).step_by(PIECE).map(move |from| {
            let piece = block.bytes.slice(from..size.min(from + PIECE));
            bar.inc(piece.len() as u64);
            piece
        });
        std::iter::once(prefix).chain(body)
    });
    let pieces = std::iter::once(header).chain(pieces).map(Ok::<_, io::Error>);
    reqwest::Body::wrap_stream(futures::stream::iter(pieces))
}

/// A client that finds `*.localhost` on this machine, as browsers do (RFC 6761 section 6.3), whatever
/// the system's resolver thinks of such names.
fn edge_client(url: &str) -> anyhow::Result<reqwest::Client> {
    let url = url::Url::parse(url).context("the control API told a URL that is none")?;
    let mut client = reqwest::Client::builder().timeout(READY);
    if let Some(host) = url.host_str().filter(|host| host.ends_with(".localhost")) {
        let port = url.port_or_known_default().unwrap_or(80);
        client = client.resolve(host, SocketAddr::from((Ipv4Addr::LOCALHOST, port))).no_proxy();
    }
    Ok(client.build()?)
}

/// How long each step took.
struct Steps {
    since: Instant,
    done: Vec<(&'static str, Duration)>,
}

impl Default for Steps {
    fn default() -> Self {
        Self { since: Instant::now(), done: Vec::new() }
    }
}

impl Steps {
    fn time<T>(&mut self, step: &'static str, result: T) -> T {
        self.done.push((step, self.since.elapsed()));
        self.since = Instant::now();
        result
    }

    fn millis(&self) -> Value {
        self.done
            .iter()
            .map(|(step, time)| ((*step).to_owned(), json!(time.as_secs_f64() * 1000.0)))
            .collect()
    }
}

impl std::fmt::Display for Steps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, (step, time)) in self.done.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{step} {:.0} ms", time.as_secs_f64() * 1000.0)?;
        }
        Ok(())
    }
}
