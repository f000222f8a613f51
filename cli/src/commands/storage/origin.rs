//! What is sent, read as often as it is needed: a gigabyte does not fit into memory.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use af_content::car::{Block, CarDecoder};
use af_content::unixfs::{self, folder};
use af_contract::ContentId;
use anyhow::{Context, bail};

/// Of a CAR, read at a time.
const CHUNK: usize = 256 << 10;

/// Where blocks are made from.
#[derive(Clone, Debug)]
pub enum Origin {
    File(PathBuf),
    Folder(PathBuf),
    Car(PathBuf),
}

/// What was read.
#[derive(Debug)]
pub struct Contents {
    pub roots: Vec<ContentId>,
    /// Names in a folder that begin with a dot.
    pub left_out: usize,
}

impl Origin {
    /// Of a file or folder.
    pub fn path(path: &Path) -> anyhow::Result<Self> {
        let meta = path.metadata().with_context(|| format!("cannot read {}", path.display()))?;
        match meta {
            meta if meta.is_dir() => Ok(Self::Folder(path.to_owned())),
            meta if meta.is_file() => Ok(Self::File(path.to_owned())),
            _ => bail!("{} is neither a file nor a folder", path.display()),
        }
    }

    /// Of a CAR.
    pub fn car(path: &Path) -> Self {
        Self::Car(path.to_owned())
    }

    /// As the file is called.
    pub fn name(&self) -> Option<String> {
        let (Self::File(path) | Self::Folder(path) | Self::Car(path)) = self;
        // The name of "." or ".." says nothing.
        path.file_name().and_then(|name| name.to_str()).map(str::to_owned)
    }

    /// Makes all blocks. Blocking.
    pub fn read(&self, sink: &mut dyn FnMut(Block) -> io::Result<()>) -> anyhow::Result<Contents> {
        match self {
            Self::File(path) => {
                let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
                let summary = unixfs::import(BufReader::new(file), sink);
                let summary = summary.with_context(|| format!("cannot read {}", path.display()))?;
                Ok(Contents { roots: vec![summary.root], left_out: 0 })
            }
            Self::Folder(path) => {
                let folder = folder::import_within(path, u64::MAX, sink);
                let folder = folder.context("the folder cannot be stored")?;
                Ok(Contents { roots: vec![folder.root], left_out: folder.hidden })
            }
            Self::Car(path) => {
                let roots = car(path, sink).with_context(|| format!("cannot read {}", path.display()))?;
                if roots.is_empty() {
                    bail!("{} does not say what it is of: it has no root", path.display());
                }
                Ok(Contents { roots, left_out: 0 })
            }
        }
    }
}

fn car(path: &Path, sink: &mut dyn FnMut(Block) -> io::Result<()>) -> anyhow::Result<Vec<ContentId>> {
    let mut file = File::open(path)?;
    let mut decoder = CarDecoder::default();
    let mut chunk = vec![0; CHUNK];
    loop {
        let size = file.read(&mut chunk)?;
        if size == 0 {
            break;
        }
        decoder.push(chunk.get(..size).unwrap_or_default());
        while let Some(block) = decoder.next_block()? {
            sink(block)?;
        }
    }
    let roots = decoder.roots().unwrap_or_default().to_vec();
    decoder.finish()?;
    Ok(roots)
}
