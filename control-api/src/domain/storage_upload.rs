//! Receives what projects store: blocks in a CAR, some or all of a DAG, or a file as it is. Blocks that came before an
//! upload broke off are kept, so that the next one need not send them again.

use std::io::{self, Read};

use af_content::car::{Block, CarDecoder};
use af_content::unixfs::{self, Profile};
use af_content::{DiskStore, Staging};
use af_contract::ContentId;
use bytes::{Buf, Bytes};

use super::access::{self, Noun};
use super::audit::{self, Event};
use super::plans::Limit;
use super::quotas::Terms;
use super::storage::{self as pins, Kept, NewPin, room_in};
use super::upload::{Broken, Chunks, UploadError};
use super::{Actor, Error, State, StorageError, blocks, now};
use crate::store::storage;

/// Blocks of one upload: those of the largest pin.
const BLOCKS: usize = pins::BLOCKS;

/// Roots of a CAR that are pinned.
const ROOTS: usize = 100;

/// Blocks that are not pinned may take as much as those that are: what is being sent, and what waits for the sweep.
const LOOSE: u64 = 2;

/// Headers and CIDs in a CAR, and blocks that are sent again.
const OVERHEAD_BYTES: u64 = 64 << 20;

/// What came.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// Blocks.
    pub blocks: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Blocks that came, staged.
struct Incoming {
    staging: Staging,
    /// With their lengths, each once.
    blocks: Vec<(ContentId, u64)>,
    /// What they are of.
    roots: Vec<ContentId>,
    /// The connection broke after them.
    broken: Option<Broken>,
}

/// Refuses whoever may send nothing to a project, before anything of theirs is read.
///
/// # Errors
/// When the actor is not a member.
pub async fn allowed(state: &State, actor: &Actor, project: &str) -> Result<(), Error> {
    access::project(state, actor, project, Noun::Storage.write()).await.map(drop)
}

/// Receives blocks of a project. What they are of is said by pinning it.
///
/// # Errors
/// When the actor is not a member, a block is not what its CID says, or the project has no room.
pub async fn receive(state: &State, actor: &Actor, project: &str, chunks: Chunks) -> Result<Received, Error> {
    access::project(state, actor, project, Noun::Storage.write()).await?;
    let incoming = incoming(state, actor, project, chunks, car).await?;
    Ok(keep(state, actor, project, incoming).await?.0)
}

/// Receives a whole CAR and pins its roots.
///
/// # Errors
/// As [`receive`]; and when a block is missing.
pub async fn receive_car(
    state: &State,
    actor: &Actor,
    project: &str,
    chunks: Chunks,
) -> Result<Vec<Kept>, Error> {
    access::project(state, actor, project, Noun::Storage.write()).await?;
    let incoming = incoming(state, actor, project, chunks, car).await?;
    let (_, roots) = keep(state, actor, project, incoming).await?;
    if roots.is_empty() {
        return Err(StorageError::NoRoot.into());
    }
    let mut kept = Vec::new();
    for cid in roots {
        kept.push(
            pins::pin(state, actor, project, NewPin { cid, name: None, places: None, key: None }).await?,
        );
    }
    Ok(kept)
}

/// Receives a file as it is, makes blocks of it under this profile, and pins it.
///
/// # Errors
/// As [`receive`].
pub async fn receive_file(
    state: &State,
    actor: &Actor,
    project: &str,
    (name, profile): (Option<String>, Profile),
    chunks: Chunks,
) -> Result<Kept, Error> {
    access::project(state, actor, project, Noun::Storage.write()).await?;
    let new = NewFile { name, profile, places: None };
    Box::pin(receive_file_for(state, actor, project, new, chunks)).await
}

/// Receives a file that is held here only, and pins it.
///
/// # Errors
/// As [`receive`].
pub async fn receive_private_file(
    state: &State,
    actor: &Actor,
    project: &str,
    name: Option<String>,
    chunks: Chunks,
) -> Result<Kept, Error> {
    access::project(state, actor, project, Noun::Storage.write()).await?;
    let new = NewFile { name, profile: Profile::default(), places: Some(Vec::new()) };
    Box::pin(receive_file_for(state, actor, project, new, chunks)).await
}

/// How a file is kept.
struct NewFile {
    name: Option<String>,
    profile: Profile,
    places: Option<Vec<String>>,
}

async fn receive_file_for(
    state: &State,
    actor: &Actor,
    project: &str,
    new: NewFile,
    chunks: Chunks,
) -> Result<Kept, Error> {
    let profile = new.profile;
    let read = move |blocks: &DiskStore, chunks| file(profile, blocks, chunks);
    let incoming = incoming(state, actor, project, chunks, read).await?;
    let (_, roots) = keep(state, actor, project, incoming).await?;
    let cid = *roots.first().ok_or(StorageError::NoFile)?;
    let new = NewPin { cid, name: new.name, places: new.places, key: None };
    pins::pin(state, actor, project, new).await
}

/// Reads what comes on a blocking thread.
async fn incoming(
    state: &State,
    actor: &Actor,
    project: &str,
    chunks: Chunks,
    read: impl FnOnce(&DiskStore, Limited) -> Result<Incoming, UploadError> + Send + 'static,
) -> Result<Incoming, Error> {
    let _place = state.uploads.take(&actor.user).ok_or(Error::Busy)?;
    let left = most_loose(&room_in(state, project, 0).await?).saturating_add(OVERHEAD_BYTES);
    let store = state.blocks.clone();
    Ok(blocks::blocking(move || read(&store, Limited { chunks, left })).await??)
}

fn most_loose(terms: &Terms) -> u64 {
    terms.most_stored(Limit::StorageBytes).saturating_mul(LOOSE)
}

/// Makes the blocks the project's, and visible.
async fn keep(
    state: &State,
    actor: &Actor,
    project: &str,
    incoming: Incoming,
) -> Result<(Received, Vec<ContentId>), Error> {
    let Incoming { staging, blocks: came, roots, broken } = incoming;
    let held = state.committing.lock().await;
    let mut db = state.store.begin().await?;
    let bytes = came.iter().fold(0_u64, |sum, (_, bytes)| sum.saturating_add(*bytes));
    storage::put_blocks(&mut db, project, &came, now()).await?;
    let terms = Terms::of_project(state, &mut db, project).await?;
    if storage::sent_bytes(&mut db, project).await? > most_loose(&terms) {
        return Err(StorageError::TooManyLoose.into());
    }
    // What a client says that they are of.
    let target = roots.first().map(ContentId::to_string).unwrap_or_default();
    audit::write(&mut db, actor, Event::project("blocks.create", &target, project)).await?;
    blocks::commit(state, db, staging, &held).await?;
    match broken {
        Some(broken) => Err(UploadError::Broken(broken).into()),
        None => Ok((Received { blocks: came.len(), bytes }, roots)),
    }
}

fn car(blocks: &DiskStore, mut chunks: Limited) -> Result<Incoming, UploadError> {
    let mut incoming = Incoming::new(blocks)?;
    let mut decoder = CarDecoder::default();
    while let Some(chunk) = chunks.next() {
        match chunk {
            Ok(chunk) => decoder.push(&chunk),
            Err(UploadError::Broken(broken)) => {
                incoming.broken = Some(broken);
                break;
            }
            Err(error) => return Err(error),
        }
        while let Some(block) = decoder.next_block()? {
            incoming.put(&block)?;
        }
    }
    incoming.roots = decoder.roots().unwrap_or_default().iter().take(ROOTS).copied().collect();
    if incoming.broken.is_none() {
        decoder.finish()?;
    }
    incoming.staging.sync().map_err(UploadError::Storage)?;
    Ok(incoming)
}

fn file(profile: Profile, blocks: &DiskStore, chunks: Limited) -> Result<Incoming, UploadError> {
    let mut incoming = Incoming::new(blocks)?;
    let mut reader = Reader { chunks, chunk: Bytes::new(), failed: None };
    let mut failed = None;
    let imported = unixfs::import_as(profile, &mut reader, |block| {
        incoming.put(&block).map_err(|error| {
            failed = Some(error);
            io::Error::other("the block could not be stored")
        })
    });
    match imported {
        Ok(summary) => incoming.roots.push(summary.root),
        // Half a file has other blocks than the whole one at its end only, but no CID: nobody would ask for them.
        Err(error) => {
            let broken = || UploadError::Broken(Broken(Box::new(error)));
            return Err(failed.or(reader.failed).unwrap_or_else(broken));
        }
    }
    incoming.staging.sync().map_err(UploadError::Storage)?;
    Ok(incoming)
}

impl Incoming {
    fn new(blocks: &DiskStore) -> Result<Self, UploadError> {
        let staging = blocks.stage().map_err(UploadError::Storage)?;
        Ok(Self { staging, blocks: Vec::new(), roots: Vec::new(), broken: None })
    }

    fn put(&mut self, block: &Block) -> Result<(), UploadError> {
        if self.blocks.len() >= BLOCKS {
            return Err(UploadError::TooMuch);
        }
        self.staging.put(block).map_err(UploadError::Storage)?;
        self.blocks.push((block.id, block.bytes.len() as u64));
        Ok(())
    }
}

/// A body that may have so many bytes.
struct Limited {
    chunks: Chunks,
    left: u64,
}

impl Limited {
    fn next(&mut self) -> Option<Result<Bytes, UploadError>> {
        let chunk = match self.chunks.blocking_recv()? {
            Ok(chunk) => chunk,
            Err(broken) => return Some(Err(broken.into())),
        };
        match self.left.checked_sub(chunk.len() as u64) {
            Some(left) => self.left = left,
            None => return Some(Err(UploadError::TooMuch)),
        }
        Some(Ok(chunk))
    }
}

/// A body as a file is read.
struct Reader {
    chunks: Limited,
    chunk: Bytes,
    failed: Option<UploadError>,
}

impl Read for Reader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.chunks.next() {
                None => return Ok(0),
                Some(Ok(chunk)) => self.chunk = chunk,
                Some(Err(error)) => {
                    self.failed = Some(error);
                    return Err(io::Error::other("the upload failed"));
                }
            }
        }
        let size = (&*self.chunk).read(into)?;
        self.chunk.advance(size);
        Ok(size)
    }
}
