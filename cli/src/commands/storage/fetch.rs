//! Gets content back. Blocks are checked as they come, and kept beside where the content is to be.

use std::collections::HashSet;
use std::path::Path;

use af_content::car::CarDecoder;
use af_content::unixfs::Node;
use af_content::{DiskStore, Staging};
use af_contract::{Codec, ContentId};
use anyhow::{Context, bail};
use futures::StreamExt;
use indicatif::ProgressBar;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::args::storage::Get;
use crate::client::Api;
use crate::commands::unpack::{Destination, Existing, Form};
use crate::output::Output;

/// Chunks that wait for the disk.
const CHUNKS: usize = 8;

/// Blocks that are here.
struct Fetched {
    staging: Staging,
    blocks: usize,
    bytes: u64,
    destination: Destination,
}

/// Gets content and writes it.
pub async fn get(api: &Api, options: &Get, form: Form, output: &Output) -> anyhow::Result<()> {
    let root = options.content.cid;
    let fetched = fetch(api, root, &options.output, output).await?;
    let counts = (fetched.blocks, fetched.bytes);
    let write = move || fetched.destination.write(&|id| fetched.block(id), root, form);
    tokio::task::spawn_blocking(write).await??;
    report(options, counts, output);
    Ok(())
}

fn report(options: &Get, (blocks, bytes): (usize, u64), output: &Output) {
    let (cid, path) = (options.content.cid, &options.output);
    let value = json!({ "cid": cid, "path": path, "blocks": blocks, "bytes": bytes });
    let fields = [
        ("written", path.display().to_string()),
        ("verified", format!("{blocks} blocks, {bytes} bytes, which are what {cid} says")),
    ];
    output.result(&value, &output.fields(&fields));
}

/// Gets all blocks that the server sends of a DAG.
async fn fetch(api: &Api, root: ContentId, path: &Path, output: &Output) -> anyhow::Result<Fetched> {
    let destination = Destination::new(path, Existing::Kept)?;
    let project = api.project().await?;
    let known = api.get(&format!("/v1/projects/{project}/storage/{root}")).await.unwrap_or_default();
    let bar = output.progress_down(known.get("bytes").and_then(Value::as_u64).unwrap_or_default());
    let response = api.download(&format!("/v1/projects/{project}/storage/{root}/car")).await?;
    let mut body = response.bytes_stream();
    let (sender, receiver) = mpsc::channel(CHUNKS);
    let keeping = tokio::task::spawn_blocking({
        let bar = bar.clone();
        move || keep(destination, root, receiver, &bar)
    });
    while let Some(chunk) = body.next().await {
        let chunk =
            chunk.map_err(reqwest::Error::without_url).context("the server broke the transfer off")?;
        if sender.send(chunk).await.is_err() {
            break;
        }
    }
    drop(sender);
    let fetched = keeping.await?;
    bar.finish_and_clear();
    fetched
}

/// Keeps the blocks that make up the DAG, which is complete then. What is no part of it has no room here.
fn keep(
    destination: Destination,
    root: ContentId,
    mut chunks: mpsc::Receiver<bytes::Bytes>,
    bar: &ProgressBar,
) -> anyhow::Result<Fetched> {
    let staging = DiskStore::open(destination.dir())?.stage()?;
    let mut fetched = Fetched { staging, blocks: 0, bytes: 0, destination };
    let (mut wanted, mut known) = (HashSet::from([root]), HashSet::from([root]));
    let mut decoder = CarDecoder::default();
    while let Some(chunk) = chunks.blocking_recv() {
        bar.inc(chunk.len() as u64);
        decoder.push(&chunk);
        while let Some(block) = decoder.next_block().context("the server sent something else")? {
            if !wanted.remove(&block.id) {
                bail!("the server sent block {}, which is no part of {root}", block.id);
            }
            if block.id.codec() == Codec::DagPb {
                let links = Node::decode(&block.id, &block.bytes)?;
                wanted.extend(links.links().filter(|link| known.insert(*link)));
            }
            fetched.staging.put(&block)?;
            fetched.blocks += 1;
            fetched.bytes += block.bytes.len() as u64;
        }
    }
    decoder.finish().context("the server broke the transfer off")?;
    match wanted.iter().next() {
        Some(id) => bail!("the server left block {id} out"),
        None => Ok(fetched),
    }
}

impl Fetched {
    /// A block, which was checked when it came.
    fn block(&self, id: &ContentId) -> anyhow::Result<bytes::Bytes> {
        let block = self.staging.block(id)?;
        block.with_context(|| format!("the server left block {id} out"))
    }
}
