//! Gets content back. Blocks are checked as they come, and kept beside where the content is to be.

use std::path::Path;

use af_content::car::CarDecoder;
use af_content::private::Cipher;
use af_content::traversal::{DagBounds, Traversal};
use af_content::{DiskStore, Staging};
use af_contract::{ContentId, ContentKey};
use anyhow::{Context, bail};
use futures::StreamExt;
use indicatif::ProgressBar;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::args::storage::Get;
use crate::client::Api;
use crate::commands::unpack::{Destination, Existing, Form, STANDARD};
use crate::output::{Output, counted};

/// Chunks that wait for the disk.
const CHUNKS: usize = 8;

/// Blocks that are here.
struct Fetched {
    staging: Staging,
    blocks: usize,
    bytes: u64,
    /// As the control API shows it; null of what is deployed only.
    pin: Value,
    destination: Destination,
}

/// Gets content and writes it: what is private in clear, unless it is to be a CAR.
pub async fn get(api: &Api, options: &Get, form: Form, output: &Output) -> anyhow::Result<()> {
    let root = options.content.cid;
    let fetched = fetch(api, root, &options.output, output).await?;
    let counts = (fetched.blocks, fetched.bytes);
    let cipher = if form == Form::Plain { cipher(api, &fetched.pin, root).await? } else { None };
    let to_stdout = fetched.destination.is_standard();
    let write = move || fetched.destination.write(&|id| fetched.block(id), root, form, cipher.as_ref());
    tokio::task::spawn_blocking(write).await??;
    let (value, text) = told(options, counts, output);
    // Where the content itself goes to standard output, nothing else may.
    if to_stdout {
        output.notice(&value, &text)
    } else {
        output.result(&value, &text)
    }
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

fn told(options: &Get, (blocks, bytes): (usize, u64), output: &Output) -> (Value, String) {
    let (cid, path) = (options.content.cid, &options.output);
    let value = json!({ "cid": cid, "path": path, "blocks": blocks, "bytes": bytes });
    let path =
        if path == Path::new(STANDARD) { "to standard output".into() } else { path.display().to_string() };
    let (blocks, bytes) = (counted(blocks as u64, "block"), counted(bytes, "byte"));
    let fields = [("written", path), ("verified", format!("{blocks}, {bytes}: what {cid} says"))];
    (value, output.fields(&fields))
}

/// Gets all blocks that the server sends of a DAG.
async fn fetch(api: &Api, root: ContentId, path: &Path, output: &Output) -> anyhow::Result<Fetched> {
    let destination = Destination::new(path, Existing::Kept)?;
    let project = api.project().await?;
    let pin = api.get(&format!("/v1/projects/{project}/storage/{root}")).await.unwrap_or_default();
    let bar = output.progress_down(pin.get("bytes").and_then(Value::as_u64).unwrap_or_default());
    let response = api.download(&format!("/v1/projects/{project}/storage/{root}/car")).await?;
    let mut body = response.bytes_stream();
    let (sender, receiver) = mpsc::channel(CHUNKS);
    let keeping = tokio::task::spawn_blocking({
        let bar = bar.clone();
        move || keep(destination, root, pin, receiver, &bar)
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
    pin: Value,
    mut chunks: mpsc::Receiver<bytes::Bytes>,
    bar: &ProgressBar,
) -> anyhow::Result<Fetched> {
    let staging = DiskStore::open(destination.dir())?.stage()?;
    let mut fetched = Fetched { staging, blocks: 0, bytes: 0, pin, destination };
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
