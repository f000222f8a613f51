//! What is sent, read as often as it is needed: a gigabyte does not fit into memory.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use af_content::car::{Block, CarDecoder};
use af_content::private::{Cipher, Layout, Sealing};
use af_content::unixfs::folder::{self, FolderTerms};
use af_content::unixfs::{self, Profile};
use af_contract::ContentId;
use anyhow::{Context, bail};

/// Of a CAR, read at a time.
const CHUNK: usize = 256 << 10;

/// Where blocks are made from, and how.
#[derive(Clone, Debug)]
pub struct Origin {
    from: From,
    profile: Profile,
    cipher: Option<Cipher>,
}

#[derive(Clone, Debug)]
enum From {
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
    /// Of a file or folder, which is encrypted where there is a cipher: then it has other blocks each time that it is read.
    pub fn path(path: &Path, profile: Profile, cipher: Option<Cipher>) -> anyhow::Result<Self> {
        let meta = path.symlink_metadata().with_context(|| format!("cannot read {}", path.display()))?;
        let from = match meta {
            // As in folders, and as `ipfs add`, which does not follow it either.
            meta if meta.is_symlink() => {
                bail!("{} is a symbolic link, which is not followed; give what it leads to", path.display())
            }
            meta if meta.is_dir() => From::Folder(path.to_owned()),
            meta if meta.is_file() => From::File(path.to_owned()),
            _ => bail!("{} is neither a file nor a folder", path.display()),
        };
        Ok(Self { from, profile, cipher })
    }

    /// Of a CAR.
    pub fn car(path: &Path) -> Self {
        Self { from: From::Car(path.to_owned()), profile: Profile::default(), cipher: None }
    }

    /// As the file is called.
    pub fn name(&self) -> Option<String> {
        let (From::File(path) | From::Folder(path) | From::Car(path)) = &self.from;
        // The name of "." or ".." says nothing.
        path.file_name().and_then(|name| name.to_str()).map(str::to_owned)
    }

    /// How what is read becomes blocks.
    pub const fn profile(&self) -> Profile {
        self.profile
    }

    /// Whether it has the same blocks each time that it is read.
    pub const fn is_private(&self) -> bool {
        self.cipher.is_some()
    }

    /// About how many bytes will be sent of what is encrypted.
    pub fn estimate(&self) -> anyhow::Result<u64> {
        let (From::File(path) | From::Folder(path) | From::Car(path)) = &self.from;
        stored_bytes(path)
    }

    /// Makes all blocks. Blocking.
    pub fn read(&self, sink: &mut dyn FnMut(Block) -> io::Result<()>) -> anyhow::Result<Contents> {
        match &self.from {
            From::File(path) => {
                let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
                let file: Box<dyn Read> = match &self.cipher {
                    Some(cipher) => Box::new(Sealing::new(cipher, BufReader::new(file))?),
                    None => Box::new(BufReader::new(file)),
                };
                let summary = unixfs::import_as(self.profile, file, sink);
                let summary = summary.with_context(|| format!("cannot read {}", path.display()))?;
                Ok(Contents { roots: vec![summary.root], left_out: 0 })
            }
            From::Folder(path) => {
                let (profile, cipher) = (self.profile, self.cipher.as_ref());
                let terms = FolderTerms { chunking: profile.into(), most_bytes: u64::MAX, cipher };
                let folder = folder::import_as(&terms, path, sink).context("the folder cannot be stored")?;
                Ok(Contents { roots: vec![folder.root], left_out: folder.hidden })
            }
            From::Car(path) => {
                let roots = car(path, sink).with_context(|| format!("cannot read {}", path.display()))?;
                if roots.is_empty() {
                    bail!("{} does not say what it is of: it has no root", path.display());
                }
                Ok(Contents { roots, left_out: 0 })
            }
        }
    }
}

/// Of all files at a path, encrypted. What cannot be read is told when it is.
fn stored_bytes(path: &Path) -> anyhow::Result<u64> {
    let reading = || format!("cannot read {}", path.display());
    let meta = path.symlink_metadata().with_context(reading)?;
    if !meta.is_dir() {
        return Ok(Layout::new(meta.len()).stored());
    }
    let mut bytes = 0_u64;
    for entry in fs::read_dir(path).with_context(reading)? {
        bytes = bytes.saturating_add(stored_bytes(&entry.with_context(reading)?.path())?);
    }
    Ok(bytes)
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
            // What stands in its CID need not be sent.
            if !block.id.is_inline() {
                sink(block)?;
            }
        }
    }
    let Some(roots) = decoder.roots().map(<[ContentId]>::to_vec) else {
        bail!("it is no CAR, or only the beginning of one");
    };
    decoder.finish()?;
    Ok(roots)
}
