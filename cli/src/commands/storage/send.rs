//! Sends the blocks that the project lacks. The first reading finds out which they are, the second one sends them; what
//! came before a connection broke is not sent again.

use std::collections::{HashMap, HashSet};
use std::io;
use std::time::Duration;

use af_content::car::{self, Block};
use af_contract::{ContentId, limits};
use anyhow::{Context, bail};
use bytes::Bytes;
use indicatif::ProgressBar;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::origin::{Contents, Origin};
use crate::client::{Api, ApiError, Upload};
use crate::output::Output;

/// Bytes of blocks in one request: what is made durable together.
const BATCH_BYTES: usize = 16 << 20;

/// Blocks in one request.
const BATCH_BLOCKS: usize = 1_000;

/// Blocks that were read and wait to be sent.
const READ_AHEAD: usize = 4;

/// Attempts at one request, with pauses that double between them: half a minute for a server that starts again.
const ATTEMPTS: u32 = 6;
const PAUSE: Duration = Duration::from_millis(500);

/// What was sent.
#[derive(Debug)]
pub struct Sent {
    pub roots: Vec<ContentId>,
    /// Blocks that the server did not have.
    pub blocks: usize,
    pub bytes: u64,
    /// Blocks that it had.
    pub known: usize,
    pub left_out: usize,
}

/// Sends what the project lacks of `origin`. `path` is that of its storage.
pub async fn send(api: &Api, path: &str, origin: &Origin, output: &Output) -> anyhow::Result<Sent> {
    if origin.is_private() {
        return send_once(api, path, origin, output).await;
    }
    let (contents, sizes) = sizes(origin.clone()).await?;
    let total: u64 = sizes.values().sum();
    let coming = contents.roots.first().map(|root| json!({ "cid": root, "bytes": total }));
    let missing = missing(api, path, &sizes, &coming.unwrap_or_default()).await?;
    let bytes = missing.iter().filter_map(|id| sizes.get(id)).sum();
    let bar = output.progress(bytes);
    let (blocks, known) = (missing.len(), sizes.len() - missing.len());
    if !missing.is_empty() {
        upload(api, path, origin.clone(), Wanted::These(missing), &bar).await?;
    }
    bar.finish_and_clear();
    Ok(Sent { roots: contents.roots, blocks, bytes, known, left_out: contents.left_out })
}

/// Sends all blocks in one reading: nobody has any of what is encrypted with a new key, and it has others when it is read again.
async fn send_once(api: &Api, path: &str, origin: &Origin, output: &Output) -> anyhow::Result<Sent> {
    let (reading, usage) = (origin.clone(), api.get(&format!("{path}/usage")).await?);
    let bytes = tokio::task::spawn_blocking(move || reading.estimate()).await??;
    let number = |field: &str| usage.get(field).and_then(Value::as_u64).unwrap_or_default();
    let (used, most) = (number("bytes"), number("mostBytes"));
    if used.saturating_add(bytes) > most {
        bail!(
            "this does not fit: {bytes} bytes more than the {used} that the project stores are over its limit of {most}; unpin something or delete a site first"
        );
    }
    let bar = output.progress(bytes);
    let (contents, blocks, bytes) =
        upload(api, path, origin.clone(), Wanted::All(HashSet::new()), &bar).await?;
    bar.finish_and_clear();
    Ok(Sent { roots: contents.roots, blocks, bytes, known: 0, left_out: contents.left_out })
}

/// Which blocks are sent, each once.
enum Wanted {
    /// Those that are left of these.
    These(HashSet<ContentId>),
    /// All but those that were.
    All(HashSet<ContentId>),
}

impl Wanted {
    fn take(&mut self, id: &ContentId) -> bool {
        match self {
            Self::These(left) => left.remove(id),
            Self::All(sent) => sent.insert(*id),
        }
    }
}

/// All blocks there are, and how long they are.
async fn sizes(origin: Origin) -> anyhow::Result<(Contents, HashMap<ContentId, u64>)> {
    let read = move || {
        let mut sizes = HashMap::new();
        let contents = origin.read(&mut |block| {
            sizes.insert(block.id, block.bytes.len() as u64);
            Ok(())
        })?;
        Ok((contents, sizes))
    };
    tokio::task::spawn_blocking(read).await?
}

async fn missing(
    api: &Api,
    path: &str,
    sizes: &HashMap<ContentId, u64>,
    coming: &Value,
) -> anyhow::Result<HashSet<ContentId>> {
    let ids: Vec<&ContentId> = sizes.keys().collect();
    let mut missing = HashSet::new();
    for ids in ids.chunks(limits::BLOCK_IDS) {
        let body = json!({ "cids": ids, "coming": coming });
        let answer = api.send(Method::POST, &format!("{path}/missing"), &body).await?;
        let Some(Value::Array(cids)) = answer.get("missing") else {
            bail!("the control API did not say which blocks it lacks; is it of another version?");
        };
        let cids = cids.iter().filter_map(Value::as_str).map(ContentId::parse);
        missing.extend(cids.collect::<Result<Vec<_>, _>>()?);
    }
    Ok(missing)
}

/// Reads everything, on a thread of its own, and sends what is wanted in batches: how many blocks, and their bytes.
async fn upload(
    api: &Api,
    path: &str,
    origin: Origin,
    mut wanted: Wanted,
    bar: &ProgressBar,
) -> anyhow::Result<(Contents, usize, u64)> {
    let (sender, mut blocks) = mpsc::channel::<Block>(READ_AHEAD);
    let reading = tokio::task::spawn_blocking(move || {
        origin.read(&mut |block| {
            if wanted.take(&block.id) && sender.blocking_send(block).is_err() {
                return Err(io::Error::other("nothing more is sent"));
            }
            Ok(())
        })
    });
    let mut batch = Vec::new();
    let mut size = 0;
    let (mut sent, mut sent_bytes) = (0, 0);
    while let Some(block) = blocks.recv().await {
        size += block.bytes.len();
        sent += 1;
        sent_bytes += block.bytes.len() as u64;
        batch.push(block);
        if size >= BATCH_BYTES || batch.len() >= BATCH_BLOCKS {
            send_batch(api, path, &batch, bar).await?;
            batch.clear();
            size = 0;
        }
    }
    if !batch.is_empty() {
        send_batch(api, path, &batch, bar).await?;
    }
    Ok((reading.await??, sent, sent_bytes))
}

async fn send_batch(api: &Api, path: &str, blocks: &[Block], bar: &ProgressBar) -> anyhow::Result<()> {
    let before = bar.position();
    let (mut attempt, mut pause) = (1, PAUSE);
    loop {
        let body = body(blocks, bar);
        let upload = Upload {
            path: format!("{path}/blocks"),
            query: Vec::new(),
            settings: None,
            content_key: None,
            body,
        };
        match api.upload(upload).await {
            Ok(_) => return Ok(()),
            Err(error) if attempt < ATTEMPTS && is_passing(&error) => {}
            Err(error) => {
                return Err(error).context("the upload broke off; the same command goes on where it stopped");
            }
        }
        tokio::time::sleep(pause).await;
        bar.set_position(before);
        attempt += 1;
        pause *= 2;
    }
}

fn is_passing(error: &ApiError) -> bool {
    match error {
        ApiError::Unreachable { .. } => true,
        ApiError::Problem(problem) => problem.code == "busy",
        _ => false,
    }
}

/// As a CAR, whose blocks the progress bar counts.
fn body(blocks: &[Block], bar: &ProgressBar) -> reqwest::Body {
    let header = Bytes::from(car::encode_header(&[]));
    let (blocks, bar) = (blocks.to_vec(), bar.clone());
    let pieces = blocks.into_iter().flat_map(move |block| {
        bar.inc(block.bytes.len() as u64);
        [Bytes::from(car::encode_block_prefix(&block.id, block.bytes.len())), block.bytes]
    });
    let pieces = std::iter::once(header).chain(pieces).map(Ok::<_, io::Error>);
    reqwest::Body::wrap_stream(futures::stream::iter(pieces))
}
