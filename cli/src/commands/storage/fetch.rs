//! Gets content back. Blocks are checked as they come and kept beside where they are to be; nothing is at that place
//! before all of it is.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use af_content::car::{self, CarDecoder};
use af_content::private::{Cipher, Opening};
use af_content::traversal::{DagBounds, Traversal};
use af_content::unixfs::{Directory, Export, Listing, Node};
use af_content::{DiskStore, Staging};
use af_contract::{ContentId, ContentKey, limits};
use anyhow::{Context, bail};
use bytes::Buf;
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
    /// As the control API shows it; null of what is deployed only.
    pin: Value,
    /// Gone when this is.
    dir: tempfile::TempDir,
}

/// Writes a file or folder.
pub async fn get(api: &Api, options: &Get, output: &Output) -> anyhow::Result<()> {
    let root = options.content.cid;
    let fetched = fetch(api, root, &options.output, output).await?;
    let (path, counts) = (options.output.clone(), (fetched.blocks, fetched.bytes));
    let cipher = cipher(api, &fetched.pin, root).await?;
    tokio::task::spawn_blocking(move || write(&fetched, root, &path, cipher)).await??;
    report(options, counts, output);
    Ok(())
}

/// What a private pin is decrypted with.
async fn cipher(api: &Api, pin: &Value, root: ContentId) -> anyhow::Result<Option<Cipher>> {
    if pin.get("private").and_then(Value::as_bool) != Some(true) {
        return Ok(None);
    }
    let project = api.project().await?;
    let answer = api.get(&format!("/v1/projects/{project}/storage/{root}/key")).await?;
    let key = answer.get("contentKey").and_then(Value::as_str);
    let key = key.context("the control API did not give the key; is it of another version?")?;
    Ok(Some(Cipher::new(&key.parse::<ContentKey>()?)))
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
    let pin = api.get(&format!("/v1/projects/{project}/storage/{root}")).await.unwrap_or_default();
    let bar = output.progress_down(pin.get("bytes").and_then(Value::as_u64).unwrap_or_default());
    let response = api.download(&format!("/v1/projects/{project}/storage/{root}/car")).await?;
    let mut body = response.bytes_stream();
    let (sender, receiver) = mpsc::channel(CHUNKS);
    let keeping = tokio::task::spawn_blocking({
        let bar = bar.clone();
        move || keep(dir, root, pin, receiver, &bar)
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
    pin: Value,
    mut chunks: mpsc::Receiver<bytes::Bytes>,
    bar: &ProgressBar,
) -> anyhow::Result<Fetched> {
    let staging = DiskStore::open(dir.path())?.stage()?;
    let mut fetched = Fetched { staging, blocks: 0, bytes: 0, pin, dir };
    let mut traversal = Traversal::new(root, DagBounds::STORED);
    if let Some(content) = root.content() {
        let visit = traversal.take(&root).context("nothing is known yet")?;
        traversal.arrived(visit, &bytes::Bytes::copy_from_slice(content))?;
    }
    let mut decoder = CarDecoder::default();
    while let Some(chunk) = chunks.blocking_recv() {
        bar.inc(chunk.len() as u64);
        decoder.push(&chunk);
        while let Some(block) = decoder.next_block().context("the server sent something else")? {
            let Some(visit) = traversal.take(&block.id) else {
                bail!("the server sent block {}, which is no part of {root}", block.id);
            };
            traversal.arrived(visit, &block.bytes)?;
            fetched.staging.put(&block)?;
            fetched.blocks += 1;
            fetched.bytes += block.bytes.len() as u64;
        }
    }
    decoder.finish().context("the server broke the transfer off")?;
    match traversal.peek() {
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
fn write(fetched: &Fetched, root: ContentId, path: &Path, cipher: Option<Cipher>) -> anyhow::Result<()> {
    let part = fetched.dir.path().join("part");
    let mut left = Left { bytes: UNPACKED_BYTES, entries: ENTRIES, cipher };
    write_entry(fetched, root, &part, 0, &mut left)?;
    free(path)?;
    fs::rename(&part, path).with_context(|| format!("cannot write {}", path.display()))
}

/// What may still be unpacked, and how.
struct Left {
    bytes: u64,
    entries: usize,
    /// Of private content.
    cipher: Option<Cipher>,
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
                let name = match &left.cipher {
                    Some(cipher) => cipher.open_entry(&entry.name)?,
                    None => entry.name.clone(),
                };
                write_entry(fetched, entry.id, &path.join(name), depth + 1, left)?;
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
    let mut stored = Stored { fetched, export: Export::new(id, left.bytes), block: bytes::Bytes::new() };
    let copied = match &left.cipher {
        Some(cipher) => io::copy(&mut Opening::new(cipher, stored), &mut file),
        None => io::copy(&mut stored, &mut file),
    };
    left.bytes = left.bytes.saturating_sub(copied.with_context(writing)?);
    file.flush().with_context(writing)
}

/// A file's bytes as they are stored, block by block.
struct Stored<'a> {
    fetched: &'a Fetched,
    export: Export,
    block: bytes::Bytes,
}

impl Read for Stored<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.block.is_empty() {
            let Some(id) = self.export.wanted() else { return Ok(0) };
            let block = self.fetched.block(&id).map_err(io::Error::other)?;
            self.block = self.export.feed(&block).map_err(io::Error::other)?;
        }
        let taken = self.block.len().min(into.len());
        self.block.copy_to_slice(into.get_mut(..taken).unwrap_or_default());
        Ok(taken)
    }
}

/// All blocks in the order in which they are linked.
fn write_car(fetched: &Fetched, root: ContentId, path: &Path) -> anyhow::Result<()> {
    let part = fetched.dir.path().join("part");
    let mut file = BufWriter::new(File::create_new(&part)?);
    file.write_all(&car::encode_header(&[root]))?;
    let mut traversal = Traversal::new(root, DagBounds::STORED);
    while let Some(visit) = traversal.next() {
        let block = fetched.block(&visit.id)?;
        if !visit.id.is_inline() {
            file.write_all(&car::encode_block_prefix(&visit.id, block.len()))?;
            file.write_all(&block)?;
        }
        traversal.arrived(visit, &block)?;
    }
    file.flush()?;
    free(path)?;
    fs::rename(&part, path).with_context(|| format!("cannot write {}", path.display()))
}
