//! Verified content as people keep it: a file, a folder, or a CAR. Nothing is at its place before all of it is.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use af_content::car;
use af_content::private::{Cipher, Opening};
use af_content::traversal::{DagBounds, Traversal};
use af_content::unixfs::{Directory, Export, ExportError, Listing, Node};
use af_contract::{ContentId, limits};
use anyhow::{Context, anyhow, bail};
use bytes::{Buf, Bytes};

/// What is unpacked at most, bytes: a small DAG can say the same file a million times.
const UNPACKED_BYTES: u64 = 1 << 40;

/// Files and folders that are unpacked at most, for the same reason.
const ENTRIES: usize = 1_000_000;

/// Blocks, which were checked when they came.
pub type Blocks<'a> = &'a dyn Fn(&ContentId) -> anyhow::Result<Bytes>;

/// As what content is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The file or folder that it is.
    Plain,
    /// All its blocks.
    Car,
}

/// What becomes of something that is at a place already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and nothing is written.
    Kept,
    /// If it is a file, what is written takes its place.
    Replaced,
}

/// The path that means standard output.
pub const STANDARD: &str = "-";

/// Where content is to be. It is made in a directory beside it, which is gone with this, and then moved; what is to go to
/// standard output goes there, and has a temporary directory.
#[derive(Debug)]
pub struct Destination {
    path: PathBuf,
    existing: Existing,
    dir: tempfile::TempDir,
}

impl Destination {
    /// Makes the directory, if there may be something at the place.
    pub fn new(path: &Path, existing: Existing) -> anyhow::Result<Self> {
        if path == Path::new(STANDARD) {
            let dir = tempfile::tempdir().context("cannot make a temporary directory")?;
            return Ok(Self { path: path.to_owned(), existing, dir });
        }
        free(path, existing)?;
        let beside = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let dir = tempfile::Builder::new().prefix(".af-partial-").tempdir_in(beside);
        let dir = dir.map_err(|error| unwritable(beside, &error))?;
        Ok(Self { path: path.to_owned(), existing, dir })
    }

    /// Whether it goes to standard output, where nothing else may go then.
    pub fn is_standard(&self) -> bool {
        self.path == Path::new(STANDARD)
    }

    /// For what is needed until it is written.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Writes beside the place, then moves there; private content in clear, unless it is a CAR. Blocking.
    pub fn write(
        &self,
        blocks: Blocks<'_>,
        root: ContentId,
        form: Form,
        cipher: Option<&Cipher>,
    ) -> anyhow::Result<()> {
        if self.is_standard() {
            return standard(blocks, root, form, cipher);
        }
        let part = self.part();
        match form {
            Form::Plain => {
                Unpacking { blocks, bytes: UNPACKED_BYTES, entries: ENTRIES, cipher }.entry(root, &part, 0)
            }
            Form::Car => create(&part, |file| car(blocks, root, file)),
        }?;
        self.finish()
    }

    /// Where a file is written that [`Self::finish`] then moves.
    pub fn part(&self) -> PathBuf {
        self.dir.path().join("part")
    }

    /// What was written is at its place from now on. Blocking.
    pub fn finish(&self) -> anyhow::Result<()> {
        free(&self.path, self.existing)?;
        fs::rename(self.part(), &self.path).with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// Without the name of the directory in it that would have been made.
fn unwritable(dir: &Path, error: &io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::NotFound => anyhow!("there is no directory {}; make it first", dir.display()),
        kind => anyhow!("cannot write to {}: {}", dir.display(), io::Error::from(kind)),
    }
}

/// Writes to standard output.
fn standard(blocks: Blocks<'_>, root: ContentId, form: Form, cipher: Option<&Cipher>) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match form {
        Form::Plain => {
            let written = file(blocks, root, UNPACKED_BYTES, cipher, &mut stdout);
            written.map_err(|error| match error.downcast_ref() {
                Some(ExportError::NotAFile(id)) => {
                    anyhow!("{id} is a directory or another DAG, which has no bytes of its own; write a directory as a folder with -o NAME, or all of it as a CAR")
                }
                _ => error,
            })?;
        }
        Form::Car => car(blocks, root, &mut stdout)?,
    }
    Ok(stdout.flush()?)
}

/// Refuses to write over something else than may be replaced.
pub fn free(path: &Path, existing: Existing) -> anyhow::Result<()> {
    match (path.symlink_metadata(), existing) {
        (Err(_), _) => Ok(()),
        (Ok(meta), Existing::Replaced) if meta.is_file() => Ok(()),
        (Ok(_), Existing::Replaced) => {
            bail!(
                "{} is there already, and no file that could be replaced; choose another name",
                path.display()
            )
        }
        (Ok(_), Existing::Kept) => {
            bail!("{} is there already; choose another name, or remove it first", path.display())
        }
    }
}

fn create(path: &Path, write: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let write = || -> anyhow::Result<()> {
        let mut file = BufWriter::new(File::create_new(path)?);
        write(&mut file)?;
        Ok(file.flush()?)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Writes a file's bytes, `most` of them, in clear where there is a cipher, and returns their number.
pub fn file(
    blocks: Blocks<'_>,
    root: ContentId,
    most: u64,
    cipher: Option<&Cipher>,
    out: &mut dyn Write,
) -> anyhow::Result<u64> {
    let mut stored = Stored { blocks, export: Export::new(root, most), block: Bytes::new() };
    let copied = match cipher {
        Some(cipher) => io::copy(&mut Opening::new(cipher, stored), out),
        None => io::copy(&mut stored, out),
    };
    // What is wrong with the blocks is told as itself.
    copied.map_err(|error| match error.downcast::<Unreadable>() {
        Ok(Unreadable(error)) => error,
        Err(error) => error.into(),
    })
}

/// A file's bytes as they are stored, block by block.
struct Stored<'a> {
    blocks: Blocks<'a>,
    export: Export,
    block: Bytes,
}

/// Why no more can be read, on its way through `io`.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Unreadable(anyhow::Error);

impl Read for Stored<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let broken = |error| io::Error::other(Unreadable(error));
        while self.block.is_empty() {
            let Some(id) = self.export.wanted() else { return Ok(0) };
            let block = (self.blocks)(&id).map_err(broken)?;
            self.block = self.export.feed(&block).map_err(|error| broken(error.into()))?;
        }
        let taken = self.block.len().min(into.len());
        self.block.copy_to_slice(into.get_mut(..taken).unwrap_or_default());
        Ok(taken)
    }
}

/// Writes all blocks, each once, parents before children and in the order of links. Those that their ids hold are in
/// none.
pub fn car(blocks: Blocks<'_>, root: ContentId, out: &mut dyn Write) -> anyhow::Result<()> {
    out.write_all(&car::encode_header(&[root]))?;
    let mut traversal = Traversal::new(root, DagBounds::STORED);
    while let Some(visit) = traversal.next() {
        let block = blocks(&visit.id)?;
        if !visit.id.is_inline() {
            out.write_all(&car::encode_block_prefix(&visit.id, block.len()))?;
            out.write_all(&block)?;
        }
        traversal.arrived(visit, &block)?;
    }
    Ok(())
}

/// What may still be unpacked, and of what.
struct Unpacking<'a> {
    blocks: Blocks<'a>,
    bytes: u64,
    entries: usize,
    /// Of private content.
    cipher: Option<&'a Cipher>,
}

impl Unpacking<'_> {
    fn entry(&mut self, id: ContentId, path: &Path, depth: usize) -> anyhow::Result<()> {
        self.entries = self.entries.checked_sub(1).context("there are too many files in it")?;
        match Node::decode(&id, &(self.blocks)(&id)?)? {
            Node::Bytes(_) | Node::File(_) => create(path, |out| {
                let size = file(self.blocks, id, self.bytes, self.cipher, out)?;
                self.bytes = self.bytes.saturating_sub(size);
                Ok(())
            }),
            Node::Directory(_) | Node::Shard(_) => {
                if depth > limits::ASSETS_DEPTH {
                    bail!("there are folders more than {} deep", limits::ASSETS_DEPTH);
                }
                fs::create_dir(path).with_context(|| format!("cannot make {}", path.display()))?;
                for entry in self.directory(id)?.entries() {
                    let name = match self.cipher {
                        Some(cipher) => cipher.open_entry(&entry.name)?,
                        None => entry.name.clone(),
                    };
                    self.entry(entry.id, &path.join(name), depth + 1)?;
                }
                Ok(())
            }
        }
    }

    /// Its names are none that lead elsewhere.
    fn directory(&self, id: ContentId) -> anyhow::Result<Directory> {
        let mut listing = Listing::new(id);
        while let Some(id) = listing.wanted() {
            listing.feed(&(self.blocks)(&id)?)?;
        }
        Ok(listing.finish()?)
    }
}
