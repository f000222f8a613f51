//! What a file, a folder or a CAR on this machine is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::Path;

use af_content::car::{Block, CarDecoder};
use af_content::unixfs::folder::{self, FolderTerms};
use af_content::unixfs::{self, Chunking, ExportError, Node};
use af_content::{DiskStore, Hashed};
use af_contract::limits::BLOCK_BYTES;
use af_contract::{Blake3Hash, Codec, ContentId, HashKind};
use anyhow::{Context, bail};
use bytes::Bytes;

use crate::args::content::Verify;
use crate::commands::unpack;

/// What is read of a CAR at a time.
const PIECE: usize = 256 << 10;

/// What was found at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Folder,
    Car,
}

/// What something here is.
#[derive(Debug)]
pub struct Found {
    pub kind: Kind,
    pub roots: Vec<ContentId>,
    /// What made the blocks; none where they are there already.
    pub chunking: Option<Chunking>,
    pub blocks: usize,
    pub bytes: u64,
    /// Of the file itself, also where that is a CAR; none of a folder.
    pub blake3: Option<Blake3Hash>,
    /// Of the file that a CAR has, where that was to be compared.
    pub of_file: Option<Blake3Hash>,
    /// Of a CAR: links that lead out of it.
    pub missing: usize,
    /// Names in a folder that begin with a dot.
    pub left_out: usize,
}

impl Found {
    /// Reads it: under the profile of the options, else as what gives the CID that is expected, else under the first profile.
    /// Blocking.
    pub fn read(options: &Verify) -> anyhow::Result<Self> {
        let path = Path::new(&options.what);
        let meta = path.metadata().with_context(|| format!("cannot read {}", path.display()))?;
        if meta.is_dir() {
            return read_as(options, &Chunking::known, |chunking| folder(path, chunking));
        }
        if !meta.is_file() {
            bail!("{} is neither a file nor a folder", path.display());
        }
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("car")) {
            let mut found = car(path, &mut |_| Ok(()))?;
            if options.blake3.is_some_and(|expected| found.blake3 != Some(expected)) {
                found.of_file = file_in(path, &found)?;
            }
            return Ok(found);
        }
        let known = |hash| Chunking::known_for(meta.len(), hash);
        let found = read_as(options, &known, |chunking| file(path, chunking))?;
        match options.cid {
            Some(expected) if options.profile.is_none() && !found.roots.contains(&expected) => {
                Ok(one_block(path, &expected, meta.len())?.unwrap_or(found))
            }
            _ => Ok(found),
        }
    }
}

fn read_as(
    options: &Verify,
    known: &dyn Fn(HashKind) -> Vec<Chunking>,
    read: impl Fn(Chunking) -> anyhow::Result<Found>,
) -> anyhow::Result<Found> {
    let chunking = Chunking::from(options.profile.unwrap_or_default());
    let found = read(chunking)?;
    let (None, Some(expected)) = (options.profile, options.cid) else { return Ok(found) };
    if found.roots.contains(&expected) {
        return Ok(found);
    }
    let mut others = expected.kind().map(known).unwrap_or_default();
    // One block is told apart without any.
    others.retain(|other| *other != chunking && expected.codec() == Codec::DagPb);
    for chunking in others {
        let other = read(chunking)?;
        if other.roots.contains(&expected) {
            return Ok(other);
        }
    }
    Ok(found)
}

fn file(path: &Path, chunking: Chunking) -> anyhow::Result<Found> {
    let open = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let (mut blocks, mut bytes) = (0, 0);
    let summary = unixfs::import_as(chunking, BufReader::new(open), |block| {
        blocks += 1;
        bytes += block.bytes.len() as u64;
        Ok(())
    })?;
    Ok(Found {
        kind: Kind::File,
        roots: vec![summary.root],
        chunking: Some(chunking),
        blocks,
        bytes,
        blake3: Some(summary.blake3),
        of_file: None,
        missing: 0,
        left_out: 0,
    })
}

fn folder(path: &Path, chunking: Chunking) -> anyhow::Result<Found> {
    let (mut blocks, mut bytes) = (0, 0);
    let mut count = |block: Block| {
        blocks += 1;
        bytes += block.bytes.len() as u64;
        Ok(())
    };
    let terms = FolderTerms { chunking, most_bytes: u64::MAX, cipher: None };
    let folder = folder::import_as(&terms, path, &mut count).context("the folder cannot be verified")?;
    Ok(Found {
        kind: Kind::Folder,
        roots: vec![folder.root],
        chunking: Some(chunking),
        blocks,
        bytes,
        blake3: None,
        of_file: None,
        missing: 0,
        left_out: folder.hidden,
    })
}

/// The file as the one block that `expected` names, which then says all there is to know. None where a block is a node, or the
/// file is larger than blocks are.
fn one_block(path: &Path, expected: &ContentId, size: u64) -> anyhow::Result<Option<Found>> {
    if expected.codec() == Codec::DagPb || size > BLOCK_BYTES as u64 {
        return Ok(None);
    }
    let bytes = Bytes::from(fs::read(path).with_context(|| format!("cannot read {}", path.display()))?);
    let inline = if expected.is_inline() { ContentId::inline(expected.codec(), &bytes) } else { None };
    let (blake3, bytes_here) = (blake3::hash(&bytes).into(), bytes.len() as u64);
    let root = inline.unwrap_or_else(|| Hashed::as_asked(expected, bytes).id());
    Ok(Some(Found {
        kind: Kind::File,
        roots: vec![root],
        chunking: None,
        blocks: 1,
        bytes: bytes_here,
        blake3: Some(blake3),
        of_file: None,
        missing: 0,
        left_out: 0,
    }))
}

fn car(path: &Path, keep: &mut dyn FnMut(&Block) -> anyhow::Result<()>) -> anyhow::Result<Found> {
    let mut open = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let (mut decoder, mut hasher, mut piece) = (CarDecoder::default(), blake3::Hasher::new(), vec![0; PIECE]);
    let (mut have, mut linked) = (BTreeMap::new(), BTreeSet::new());
    loop {
        let read = open.read(&mut piece)?;
        let Some(read) = piece.get(..read).filter(|read| !read.is_empty()) else { break };
        hasher.update(read);
        decoder.push(read);
        while let Some(block) = decoder.next_block().context("WRONG")? {
            if block.id.codec() == Codec::DagPb {
                linked.extend(Node::decode(&block.id, &block.bytes).context("WRONG")?.links());
            }
            have.insert(block.id, block.bytes.len() as u64);
            keep(&block)?;
        }
    }
    let Some(roots) = decoder.roots().map(<[ContentId]>::to_vec) else {
        bail!("{} is no CAR, or only the beginning of one", path.display());
    };
    decoder.finish().context("WRONG")?;
    linked.extend(&roots);
    // What stands in a link is no block, and may link to some.
    let mut inline: Vec<ContentId> = linked.iter().filter(|id| id.is_inline()).copied().collect();
    while let Some(id) = inline.pop() {
        if let (Codec::DagPb, Some(content)) = (id.codec(), id.content()) {
            let node = Node::decode(&id, &Bytes::copy_from_slice(content)).context("WRONG")?;
            inline.extend(node.links().filter(|link| linked.insert(*link) && link.is_inline()));
        }
    }
    let missing = linked.iter().filter(|id| !id.is_inline() && !have.contains_key(id)).count();
    Ok(Found {
        kind: Kind::Car,
        roots,
        chunking: None,
        blocks: have.len(),
        bytes: have.values().sum(),
        blake3: Some(hasher.finalize().into()),
        of_file: None,
        missing,
        left_out: 0,
    })
}

/// The BLAKE3 of the file that a CAR has; none where it has something else, or not all of it. Its blocks are kept meanwhile:
/// they may stand there in any order.
fn file_in(path: &Path, found: &Found) -> anyhow::Result<Option<Blake3Hash>> {
    let ([root], 0) = (found.roots.as_slice(), found.missing) else { return Ok(None) };
    let dir = tempfile::tempdir().context("cannot make a temporary directory")?;
    let staging = DiskStore::open(dir.path().to_owned())?.stage()?;
    car(path, &mut |block| Ok(staging.put(block)?))?;
    let block = |id: &ContentId| staging.block(id)?.with_context(|| format!("block {id} is gone"));
    let mut hasher = blake3::Hasher::new();
    match unpack::file(&block, *root, u64::MAX, None, &mut hasher) {
        Ok(_) => Ok(Some(hasher.finalize().into())),
        Err(error) if matches!(error.downcast_ref(), Some(ExportError::NotAFile(_))) => Ok(None),
        Err(error) => Err(error),
    }
}
