//! `af fetch`: gets content by its CID, block by block, from whoever has it, and says who that was.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use af_content::source::{DagBounds, DagSummary, Fetcher};
use af_content::unixfs::{Export, ExportError};
use af_content::{CarPieces, DiskStore};
use af_contract::{Blake3Hash, ContentId};
use anyhow::{Context, bail};
use serde_json::json;

use super::sources;
use crate::args::content::Fetch;
use crate::config::Environment;
use crate::output::Output;

/// Blocks of one DAG: a million of them is a file of a terabyte.
const BLOCKS: usize = 1 << 20;

/// Fetches, verifies, and writes.
pub async fn fetch(options: Fetch, environment: &Environment, output: &Output) -> anyhow::Result<()> {
    let fetched = Fetched::new(&options, environment, output).await?;
    let (id, car) = (options.cid, options.car);
    let (store, blake3) = (fetched.fetcher.store().clone(), fetched.blake3);
    if let Some(path) = options.output.clone() {
        if blake3.is_none() && !car {
            bail!("{id} is no file, but a directory or another DAG; write it as a CAR with --car");
        }
        tokio::task::spawn_blocking(move || write(&store, &id, &path, car)).await??;
    }
    // Where the content itself goes to standard output, nothing else may.
    if options.output.as_deref() != Some(Path::new("-")) {
        fetched.report(output);
    }
    Ok(())
}

/// What is here now, all of it verified.
pub struct Fetched {
    pub fetcher: Fetcher,
    pub blake3: Option<Blake3Hash>,
    id: ContentId,
    dag: DagSummary,
    /// Until all was here and verified.
    took: Duration,
    _temporary: Option<tempfile::TempDir>,
}

impl Fetched {
    /// Gets all blocks.
    pub async fn new(options: &Fetch, environment: &Environment, output: &Output) -> anyhow::Result<Self> {
        let (dir, temporary) = match &options.blocks {
            Some(dir) => (dir.clone(), None),
            None => {
                let dir = tempfile::tempdir()
                    .context("cannot make a temporary directory; give one with --blocks")?;
                (dir.path().to_owned(), Some(dir))
            }
        };
        let fetcher = Fetcher::new(DiskStore::open(dir)?, sources::all(&options.sources, &[], environment)?);
        if !fetcher.has_sources() && options.blocks.is_none() {
            bail!("say whom to ask with --source, such as --source gateway=https://trustless-gateway.link");
        }
        let began = Instant::now();
        let bar = output.spinner("fetching");
        let bounds = DagBounds { bytes: options.max_mb << 20, blocks: BLOCKS };
        let fetched = fetcher.dag(options.cid, bounds, &mut |progress| bar.inc(progress.size as u64)).await;
        bar.finish_and_clear();
        let dag = match fetched {
            Ok(dag) => dag,
            Err(error) => bail!("{error}{}", advice(&fetcher)),
        };
        let took = began.elapsed();
        let (store, id) = (fetcher.store().clone(), options.cid);
        let most = bounds.bytes;
        let blake3 = tokio::task::spawn_blocking(move || blake3_of(&store, &id, most)).await??;
        Ok(Self { fetcher, blake3, id, dag, took, _temporary: temporary })
    }

    /// Who gave what, and what it is.
    pub fn report(&self, output: &Output) {
        let reports = self.fetcher.reports();
        let (sources, values) = sources::reported(&reports);
        let DagSummary { blocks, bytes, fetched } = self.dag;
        let verdict = "every block is what its CID says";
        let mut fields = vec![
            ("CID", self.id.to_string()),
            ("blocks", format!("{blocks} ({fetched} fetched), {bytes} bytes")),
        ];
        fields.extend(self.blake3.map(|blake3| ("BLAKE3", blake3.to_string())));
        fields.push(("time", format!("{} ms", self.took.as_millis())));
        fields.extend(sources);
        fields.push(("verdict", verdict.to_owned()));
        let value = json!({
            "cid": self.id, "blocks": blocks, "bytes": bytes, "fetched": fetched, "blake3Hash": self.blake3,
            "milliseconds": u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX), "sources": values, "verified": true,
        });
        output.result(&value, &output.fields(&fields));
    }
}

/// What may be done about a fetch that failed.
fn advice(fetcher: &Fetcher) -> String {
    let lied: Vec<String> =
        fetcher.reports().into_iter().filter(|report| report.lies > 0).map(|report| report.name).collect();
    if lied.is_empty() { String::new() } else { format!("; wrong bytes came from {}", lied.join(", ")) }
}

/// Of a file; nothing of what is none.
fn blake3_of(store: &DiskStore, id: &ContentId, most: u64) -> anyhow::Result<Option<Blake3Hash>> {
    let mut hasher = blake3::Hasher::new();
    match export(store, id, most, |bytes| {
        hasher.update(bytes);
        Ok(())
    }) {
        Ok(()) => Ok(Some(hasher.finalize().into())),
        Err(error) if matches!(error.downcast_ref(), Some(ExportError::NotAFile(_))) => Ok(None),
        Err(error) => Err(error),
    }
}

fn export(
    store: &DiskStore,
    id: &ContentId,
    most: u64,
    mut write: impl FnMut(&[u8]) -> io::Result<()>,
) -> anyhow::Result<()> {
    let mut export = Export::new(*id, most);
    while let Some(wanted) = export.wanted() {
        let block = store.block(&wanted)?.with_context(|| format!("block {wanted} is gone"))?;
        write(&export.feed(&block)?)?;
    }
    Ok(())
}

/// Writes beside the file and renames, so that there is a whole one or none.
fn write(store: &DiskStore, id: &ContentId, path: &Path, car: bool) -> anyhow::Result<()> {
    if path == Path::new("-") {
        return write_to(store, id, &mut io::stdout().lock(), car);
    }
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let cannot = || format!("cannot write {}", path.display());
    let mut partial = tempfile::NamedTempFile::new_in(dir).with_context(cannot)?;
    write_to(store, id, &mut io::BufWriter::new(partial.as_file_mut()), car)?;
    // As any new file of the user's, and not as a temporary one.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    partial.as_file().set_permissions(mode).with_context(cannot)?;
    let _file: File = partial.persist(path).with_context(cannot)?;
    Ok(())
}

fn write_to(store: &DiskStore, id: &ContentId, file: &mut impl Write, car: bool) -> anyhow::Result<()> {
    if !car {
        // It was found to be a file within the bounds.
        export(store, id, u64::MAX, |bytes| file.write_all(bytes))?;
        return Ok(file.flush()?);
    }
    for piece in CarPieces::new(store, *id) {
        file.write_all(&piece?)?;
    }
    Ok(file.flush()?)
}
