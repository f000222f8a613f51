//! Gets content back. Blocks are checked as they come and kept beside where they are to be; nothing is at that place
//! before all of it is.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use af_content::car::{self, CarDecoder};
use af_content::unixfs::{Directory, Export, Listing, Node};
use af_content::{DiskStore, Staging};
use af_contract::{Codec, ContentId, limits};
use anyhow::{Context, bail};
use futures::StreamExt;
use indicatif::ProgressBar;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::free;
use crate::args::storage::Get;
use crate::client::Api;
use crate::output::Output;

/// Chunks that wait for the disk.
const CHUNKS: usize = 8;

/// What is unpacked at most, bytes: a small DAG can say the same file a million times.
const UNPACKED_BYTES: u64 = 1 << 40;

/// Files and folders that are unpacked at most, for the same reason.
const ENTRIES: usize = 1_000_000;

/// Blocks that are here.
struct Fetched {
    staging: Staging,
    blocks: usize,
    bytes: u64,
    /// Gone when this is.
    dir: tempfile::TempDir,
}

/// Writes a file or folder.
pub async fn get(api: &Api, options: &Get, output: &Output) -> anyhow::Result<()> {
    let root = options.content.cid;
    let fetched = fetch(api, root, &options.output, output).await?;
    let (path, counts) = (options.output.clone(), (fetched.blocks, fetched.bytes));
    tokio::task::spawn_blocking(move || write(&fetched, root, &path)).await??;
    report(options, counts, output);
    Ok(())
}

/// Writes a CAR.
pub async fn export(api: &Api, options: &Get, output: &Output) -> anyhow::Result<()> {
    let root = options.content.cid;
    let fetched = fetch(api, root, &options.output, output).await?;
    let (path, counts) = (options.output.clone(), (fetched.blocks, fetched.bytes));
    tokio::task::spawn_blocking(move || write_car(&fetched, root, &path)).await??;
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
    free(path)?;
    let beside = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let dir = tempfile::Builder::new().prefix(".af-storage-").tempdir_in(beside);
    let dir = dir.with_context(|| format!("cannot write to {}", beside.display()))?;
    let project = api.project().await?;
    let known = api.get(&format!("/v1/projects/{project}/storage/{root}")).await.unwrap_or_default();
    let bar = output.progress_down(known.get("bytes").and_then(Value::as_u64).unwrap_or_default());
    let response = api.download(&format!("/v1/projects/{project}/storage/{root}/car")).await?;
    let mut body = response.bytes_stream();
    let (sender, receiver) = mpsc::channel(CHUNKS);
    let keeping = tokio::task::spawn_blocking({
        let bar = bar.clone();
        move || keep(dir, root, receiver, &bar)
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
    dir: tempfile::TempDir,
    root: ContentId,
    mut chunks: mpsc::Receiver<bytes::Bytes>,
    bar: &ProgressBar,
) -> anyhow::Result<Fetched> {
    let staging = DiskStore::open(dir.path())?.stage()?;
    let mut fetched = Fetched { staging, blocks: 0, bytes: 0, dir };
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

/// Writes beside the place, then moves there.
fn write(fetched: &Fetched, root: ContentId, path: &Path) -> anyhow::Result<()> {
    let part = fetched.dir.path().join("part");
    let mut left = Left { bytes: UNPACKED_BYTES, entries: ENTRIES };
    write_entry(fetched, root, &part, 0, &mut left)?;
    free(path)?;
    fs::rename(&part, path).with_context(|| format!("cannot write {}", path.display()))
}

/// What may still be unpacked.
struct Left {
    bytes: u64,
    entries: usize,
}

fn write_entry(
    fetched: &Fetched,
    id: ContentId,
    path: &Path,
    depth: usize,
    left: &mut Left,
) -> anyhow::Result<()> {
    left.entries = left.entries.checked_sub(1).context("there are too many files in it")?;
    match Node::decode(&id, &fetched.block(&id)?)? {
        Node::Bytes(_) | Node::File(_) => write_file(fetched, id, path, left),
        Node::Directory(_) | Node::Shard(_) => {
            if depth > limits::ASSETS_DEPTH {
                bail!("there are folders more than {} deep", limits::ASSETS_DEPTH);
            }
            fs::create_dir(path).with_context(|| format!("cannot make {}", path.display()))?;
            for entry in directory(fetched, id)?.entries() {
                write_entry(fetched, entry.id, &path.join(&entry.name), depth + 1, left)?;
            }
            Ok(())
        }
    }
}

/// Its names are none that lead elsewhere.
fn directory(fetched: &Fetched, id: ContentId) -> anyhow::Result<Directory> {
    let mut listing = Listing::new(id);
    while let Some(id) = listing.wanted() {
        listing.feed(&fetched.block(&id)?)?;
    }
    Ok(listing.finish()?)
}

fn write_file(fetched: &Fetched, id: ContentId, path: &Path, left: &mut Left) -> anyhow::Result<()> {
    let writing = || format!("cannot write {}", path.display());
    let mut file = BufWriter::new(File::create_new(path).with_context(writing)?);
    let mut export = Export::new(id, left.bytes);
    while let Some(id) = export.wanted() {
        let bytes = export.feed(&fetched.block(&id)?)?;
        left.bytes = left.bytes.saturating_sub(bytes.len() as u64);
        file.write_all(&bytes).with_context(writing)?;
    }
    file.flush().with_context(writing)
}

/// All blocks in the order in which they are linked.
fn write_car(fetched: &Fetched, root: ContentId, path: &Path) -> anyhow::Result<()> {
    let part = fetched.dir.path().join("part");
    let mut file = BufWriter::new(File::create_new(&part)?);
    file.write_all(&car::encode_header(&[root]))?;
    let mut pending = vec![root];
    let mut seen = HashSet::new();
    while let Some(id) = pending.pop() {
        if !seen.insert(id) {
            continue;
        }
        let block = fetched.block(&id)?;
        file.write_all(&car::encode_block_prefix(&id, block.len()))?;
        file.write_all(&block)?;
        if id.codec() == Codec::DagPb {
            let links: Vec<ContentId> = Node::decode(&id, &block)?.links().collect();
            pending.extend(links.into_iter().rev());
        }
    }
    file.flush()?;
    free(path)?;
    fs::rename(&part, path).with_context(|| format!("cannot write {}", path.display()))
}
