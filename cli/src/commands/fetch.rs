//! `af fetch`: gets content by its CID, block by block, from whoever has it, and says who that was.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use af_content::DiskStore;
#[cfg(feature = "bitswap")]
use af_content::bitswap::{Bitswap, Config, Identity, Serve};
use af_content::pieces::Pieces;
use af_content::source::{DagBounds, DagSummary, Fetcher, FileStream, Progress};
use af_content::unixfs::ExportError;
use af_contract::{Blake3Hash, Codec, ContentId};
use anyhow::{Context, bail};
use bytes::Bytes;
use indicatif::ProgressBar;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::sources;
use super::unpack::{self, Destination, Existing, Form};
use crate::args::content::Fetch;
use crate::client::Finding;
use crate::config::Environment;
use crate::output::{Output, counted};

/// Blocks of one DAG: a million of them is a file of a terabyte.
const BLOCKS: usize = 1 << 20;

/// Blocks of a file between whoever fetches them and whoever writes them.
const BLOCKS_TO_WRITE: usize = 2;

/// Fetches, verifies, and writes.
pub async fn fetch(options: Fetch, environment: &Environment, output: &Output) -> anyhow::Result<()> {
    let out = options.output.as_deref().map(Out::new).transpose()?;
    let fetched = Fetched::get(&options, environment, output, out.as_ref()).await?;
    let form = if options.car { Form::Car } else { Form::Plain };
    let to_stdout = matches!(out, Some(Out::Standard));
    if let Some(out) = out.filter(|_| !fetched.written) {
        let (id, is_file) = (options.cid, fetched.blake3.is_some());
        if form == Form::Plain && !is_file && (to_stdout || id.codec() != Codec::DagPb) {
            let folder = if to_stdout { ", or a directory as a folder with -o NAME" } else { "" };
            bail!("{id} is no file, but a directory or another DAG; write it as a CAR with --car{folder}");
        }
        let store = fetched.fetcher.store().clone();
        tokio::task::spawn_blocking(move || out.write(&store, id, form)).await??;
    }
    let (value, text) = fetched.told(output);
    // Where the content itself goes to standard output, nothing else may.
    if to_stdout {
        output.notice(&value, &text)
    } else {
        output.result(&value, &text)
    }
    Ok(())
}

/// Where content goes.
enum Out {
    Standard,
    Place(PathBuf),
}

impl Out {
    fn new(path: &Path) -> anyhow::Result<Self> {
        if path == Path::new(unpack::STANDARD) {
            return Ok(Self::Standard);
        }
        unpack::free(path, Existing::Replaced)?;
        Ok(Self::Place(path.to_owned()))
    }

    fn write(&self, store: &DiskStore, id: ContentId, form: Form) -> anyhow::Result<()> {
        let path = match self {
            Self::Standard => Path::new(unpack::STANDARD),
            Self::Place(path) => path,
        };
        Destination::new(path, Existing::Replaced)?.write(&|id| block(store, id), id, form, None)
    }
}

/// What was fetched, all of it verified.
pub struct Fetched {
    pub fetcher: Fetcher,
    pub blake3: Option<Blake3Hash>,
    id: ContentId,
    dag: DagSummary,
    /// When somebody asked for it.
    began: Instant,
    /// It was written as it came, and is not in the store.
    written: bool,
    _temporary: Option<tempfile::TempDir>,
}

impl Fetched {
    /// Fetches, and looks at it only.
    pub async fn new(options: &Fetch, environment: &Environment, output: &Output) -> anyhow::Result<Self> {
        Self::get(options, environment, output, None).await
    }

    async fn get(
        options: &Fetch,
        environment: &Environment,
        output: &Output,
        out: Option<&Out>,
    ) -> anyhow::Result<Self> {
        let began = Instant::now();
        let (dir, temporary) = match &options.blocks {
            Some(dir) => (dir.clone(), None),
            None => {
                let dir = tempfile::tempdir()
                    .context("cannot make a temporary directory; give one with --blocks")?;
                (dir.path().to_owned(), Some(dir))
            }
        };
        let store = DiskStore::open(dir)?;
        let others = sources::all(&options.sources, &[], environment)?;
        #[cfg(feature = "bitswap")]
        let node = peers(options, &store).await?;
        #[cfg(feature = "bitswap")]
        let others = others.into_iter().chain(node.as_ref().map(Bitswap::source));
        let fetcher = Fetcher::new(store, others);
        if !fetcher.has_sources() && options.blocks.is_none() {
            bail!(
                "say whom to ask: --source gateway=https://trustless-gateway.link, or another one of --help"
            );
        }
        let bar = output.spinner("fetching");
        let stream = if options.blocks.is_none() && !options.car {
            let file = fetcher.file(options.cid, bounds(options)).await;
            file.map_err(|error| failed(error, &fetcher, output))?
        } else {
            None
        };
        let written = stream.is_some();
        let (dag, blake3) = if let Some(file) = stream {
            let (dag, blake3) = streamed(&fetcher, file, &bar, out, output).await?;
            (dag, Some(blake3))
        } else {
            let progress = &mut |progress: Progress| bar.inc(progress.size as u64);
            let fetched = fetcher.dag(options.cid, bounds(options), progress).await;
            (fetched.map_err(|error| failed(error, &fetcher, output))?, None)
        };
        bar.finish_and_clear();
        let blake3 = if written {
            blake3
        } else {
            let (store, id, most) = (fetcher.store().clone(), options.cid, bounds(options).bytes);
            tokio::task::spawn_blocking(move || blake3_of(&store, id, most)).await??
        };
        #[cfg(feature = "bitswap")]
        if let Some(node) = node {
            node.stop().await;
        }
        Ok(Self { fetcher, blake3, id: options.cid, dag, began, written, _temporary: temporary })
    }

    /// Who gave what, and what it is.
    pub fn report(&self, output: &Output) {
        let (value, text) = self.told(output);
        output.result(&value, &text);
    }

    /// The same, for programs and for people.
    fn told(&self, output: &Output) -> (Value, String) {
        let took = self.began.elapsed();
        let reports = self.fetcher.reports();
        let (sources, values) = sources::reported(&reports);
        let DagSummary { blocks, bytes, fetched } = self.dag;
        let verdict = "every block is what its CID says";
        let mut fields = vec![
            ("CID", self.id.to_string()),
            ("blocks", format!("{blocks} ({fetched} fetched), {}", counted(bytes, "byte"))),
        ];
        fields.extend(self.blake3.map(|blake3| ("BLAKE3", blake3.to_string())));
        fields.push(("time", format!("{} ms", took.as_millis())));
        fields.extend(sources);
        fields.push(("verdict", verdict.to_owned()));
        let value = json!({
            "cid": self.id, "blocks": blocks, "bytes": bytes, "fetched": fetched, "blake3Hash": self.blake3,
            "milliseconds": took.as_secs_f64() * 1e3, "sources": values, "verified": true,
        });
        (value, output.fields(&fields))
    }
}

/// A peer that asks those of the options, and gives nothing to anybody.
#[cfg(feature = "bitswap")]
async fn peers(options: &Fetch, store: &DiskStore) -> anyhow::Result<Option<Bitswap>> {
    if options.peers.bitswap_peer.is_empty() {
        return Ok(None);
    }
    let mut config = Config::new(Identity::ephemeral());
    config.peers.clone_from(&options.peers.bitswap_peer);
    config.serve = Serve::Nobody;
    Ok(Some(Bitswap::start(config, store.clone()).await?))
}

fn bounds(options: &Fetch) -> DagBounds {
    DagBounds { bytes: options.max_mb << 20, blocks: BLOCKS }
}

/// Writes a file as it comes: each piece is verified before, and nothing is kept besides.
async fn streamed(
    fetcher: &Fetcher,
    mut file: FileStream,
    bar: &ProgressBar,
    out: Option<&Out>,
    output: &Output,
) -> anyhow::Result<(DagSummary, Blake3Hash)> {
    let destination = match out {
        Some(Out::Place(path)) => Some(Destination::new(path, Existing::Replaced)?),
        _ => None,
    };
    let writer: Option<Box<dyn Write + Send>> = match (out, &destination) {
        (_, Some(destination)) => Some(Box::new(File::create_new(destination.part())?)),
        (Some(Out::Standard), None) => Some(Box::new(io::stdout())),
        _ => None,
    };
    let (sender, blocks) = mpsc::channel(BLOCKS_TO_WRITE);
    let writing = writer.map(|writer| tokio::task::spawn_blocking(move || write(blocks, writer)));
    while let Some(block) = file.next().await.map_err(|error| failed(error, fetcher, output))? {
        bar.inc(block.size() as u64);
        if writing.is_some() && sender.send(block).await.is_err() {
            break;
        }
    }
    drop(sender);
    if let Some(writing) = writing {
        writing.await??;
    }
    if let Some(destination) = destination {
        tokio::task::spawn_blocking(move || destination.finish()).await??;
    }
    Ok(file.finish())
}

fn write(mut blocks: mpsc::Receiver<Pieces>, mut out: impl Write) -> anyhow::Result<()> {
    while let Some(block) = blocks.blocking_recv() {
        for piece in block.iter() {
            out.write_all(piece).context("cannot write the file")?;
        }
    }
    out.flush().context("cannot write the file")
}

/// Why a fetch failed, with what each source did.
fn failed(error: impl std::fmt::Display, fetcher: &Fetcher, output: &Output) -> anyhow::Error {
    let reports = fetcher.reports();
    let all = reports.iter().flat_map(|report| std::iter::once(report).chain(&report.peers));
    let lied: Vec<&str> = all.filter(|report| report.lies > 0).map(|report| report.name.as_str()).collect();
    let lied =
        if lied.is_empty() { String::new() } else { format!("; wrong bytes came from {}", lied.join(", ")) };
    let (fields, values) = sources::reported(&reports);
    Finding::new("not_fetched", format!("{error}{lied}"))
        .with("sources", values)
        .with_table(output.fields(&fields))
        .into()
}

/// Of a file; nothing of what is none.
fn blake3_of(store: &DiskStore, id: ContentId, most: u64) -> anyhow::Result<Option<Blake3Hash>> {
    let mut hasher = blake3::Hasher::new();
    match unpack::file(&|id| block(store, id), id, most, None, &mut hasher) {
        Ok(_) => Ok(Some(hasher.finalize().into())),
        Err(error) if matches!(error.downcast_ref(), Some(ExportError::NotAFile(_))) => Ok(None),
        Err(error) => Err(error),
    }
}

fn block(store: &DiskStore, id: &ContentId) -> anyhow::Result<Bytes> {
    store.block(id)?.with_context(|| format!("block {id} is gone"))
}
