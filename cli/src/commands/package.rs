//! What a deploy sends: a component and a folder of assets, or a site, as one CAR.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;

use af_content::car::{self, Block};
use af_content::private::{Cipher, Layout, Sealing};
use af_content::unixfs::folder::{self, Folder};
use af_content::unixfs::{self, FileSummary};
use af_contract::{Blake3Hash, ContentId, limits};
use anyhow::{Context, bail};
use bytes::Bytes;
use indicatif::ProgressBar;

/// Bytes that the progress bar counts at a time.
const PIECE: usize = 64 << 10;

/// What a function's package has.
pub struct Contents {
    /// The component.
    pub code: ContentId,
    /// Its BLAKE3, where its bytes are here.
    pub blake3: Option<Blake3Hash>,
    /// Its assets, if it has any.
    pub assets: Option<Folder>,
}

/// Blocks to be sent, and what they are of.
pub struct Package {
    roots: Vec<ContentId>,
    blocks: Vec<Block>,
}

impl Package {
    /// Reads a component and its assets into memory, encrypted where there is a cipher: at most 50 MiB and 100 MiB.
    pub fn read(
        component: &Path,
        assets: Option<&Path>,
        cipher: Option<&Cipher>,
    ) -> anyhow::Result<(Contents, Self)> {
        let mut blocks = Blocks::default();
        let code = code(component, cipher, &mut |block| blocks.add(block))?;
        let assets =
            assets.map(|dir| self::assets(dir, cipher, &mut |block| blocks.add(block))).transpose()?;
        let roots = std::iter::once(code.root).chain(assets.as_ref().map(|assets| assets.root)).collect();
        let contents = Contents { code: code.root, blake3: Some(code.blake3), assets };
        Ok((contents, Self { roots, blocks: blocks.blocks }))
    }

    /// Nothing: the server fetches the component.
    pub fn elsewhere(code: ContentId) -> (Contents, Self) {
        (Contents { code, blake3: None, assets: None }, Self { roots: vec![code], blocks: Vec::new() })
    }

    /// Reads a site into memory: at most 100 MiB.
    pub fn read_site(dir: &Path) -> anyhow::Result<(Folder, Self)> {
        if !dir.is_dir() {
            bail!("--path {} is not a folder; give the one that holds the site", dir.display());
        }
        let mut blocks = Blocks::default();
        let folder = folder::import(dir, &mut |block| blocks.add(block));
        let folder = folder.context("the site cannot be deployed")?;
        let roots = vec![folder.root];
        Ok((folder, Self { roots, blocks: blocks.blocks }))
    }

    /// What will be sent, bytes.
    pub fn size(&self) -> u64 {
        self.blocks.iter().map(|block| block.bytes.len() as u64).sum()
    }

    /// As a CAR, in pieces that the progress bar can count.
    pub fn into_body(self, bar: ProgressBar) -> reqwest::Body {
        let header = Bytes::from(car::encode_header(&self.roots));
        let pieces = self.blocks.into_iter().flat_map(move |block| {
            let prefix = Bytes::from(car::encode_block_prefix(&block.id, block.bytes.len()));
            let size = block.bytes.len();
            let bar = bar.clone();
            let body = (0..size).step_by(PIECE).map(move |from| {
                let piece = block.bytes.slice(from..size.min(from + PIECE));
                bar.inc(piece.len() as u64);
                piece
            });
            std::iter::once(prefix).chain(body)
        });
        let pieces = std::iter::once(header).chain(pieces).map(Ok::<_, io::Error>);
        reqwest::Body::wrap_stream(futures::stream::iter(pieces))
    }
}

/// What occurs twice is sent once.
#[derive(Default)]
struct Blocks {
    blocks: Vec<Block>,
    known: HashSet<ContentId>,
}

impl Blocks {
    fn add(&mut self, block: Block) -> io::Result<()> {
        if self.known.insert(block.id) {
            self.blocks.push(block);
        }
        Ok(())
    }
}

fn code(
    path: &Path,
    cipher: Option<&Cipher>,
    collect: &mut dyn FnMut(Block) -> io::Result<()>,
) -> anyhow::Result<FileSummary> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("cannot open {shown}"))?;
    let meta = file.metadata().with_context(|| format!("cannot read {shown}"))?;
    if meta.is_dir() {
        bail!("{shown} is a directory; give the .wasm file that was built in it");
    }
    let stored = if cipher.is_some() { Layout::new(meta.len()).stored() } else { meta.len() };
    if stored > limits::CODE_BYTES {
        bail!(
            "{shown} has {} MiB; a component may have at most {} MiB",
            meta.len() >> 20,
            limits::CODE_BYTES >> 20
        );
    }
    let file = BufReader::new(file);
    let imported = match cipher {
        Some(cipher) => unixfs::import(Sealing::new(cipher, file)?, collect),
        None => unixfs::import(file, collect),
    };
    imported.with_context(|| format!("cannot read {shown}"))
}

fn assets(
    dir: &Path,
    cipher: Option<&Cipher>,
    collect: &mut dyn FnMut(Block) -> io::Result<()>,
) -> anyhow::Result<Folder> {
    if !dir.is_dir() {
        bail!("--assets {} is not a folder; give the one that holds the files", dir.display());
    }
    let imported = match cipher {
        Some(cipher) => folder::import_private(dir, cipher, collect),
        None => folder::import(dir, collect),
    };
    imported.context("the assets cannot be deployed")
}
