//! What projects keep: files and directories, pinned by their roots. A project gets no block for knowing its CID: only
//! those that it has sent, or deployed.

mod room;

use std::collections::{BTreeMap, BTreeSet};

use af_content::private::{self, Cipher};
use af_content::traversal::{DagBounds, Traversal, Visit};
use af_content::{CarPieces, DiskStore};
use af_contract::{Codec, ContentId, ContentKey};

use self::room::{admit, room_for};
pub(super) use self::room::{make_for_site, room_in, site_has_room};
use super::access::{self, Noun};
use super::audit::{self, Event};
use super::plans::Limit;
use super::projects::{commit, misleads};
use super::quotas::Terms;
use super::{Actor, Error, Page, Start, State, StorageError, blocks, content_keys, id, now, upload};
use crate::store::placements::EVERYWHERE;
use crate::store::{Connection, left, storage};
use crate::store::{PinRow, PlacementRow, Usage};

/// Blocks of one pin: a quarter of a terabyte, in blocks of the usual size. The set of them is in memory while it is made.
pub(super) const BLOCKS: usize = 1 << 18;

/// Blocks that a project may ask for at once.
const ASKED: usize = af_contract::limits::BLOCK_IDS;

/// Characters of a pin's name; of the pinning services' API.
const NAME: usize = 255;

/// Blocks looked at in one step of a walk.
const STEP: usize = 1_000;

/// What is to be pinned.
#[derive(Clone, Debug)]
pub struct NewPin {
    /// Its root.
    pub cid: ContentId,
    /// As the project calls it.
    pub name: Option<String>,
    /// Where else than here it is to be held; none: at all places there are, and will be.
    pub places: Option<Vec<String>>,
    /// What its files and names are encrypted with, if they are.
    pub key: Option<ContentKey>,
}

/// A pin, and where it is held.
#[derive(Debug)]
pub struct Kept {
    /// The pin.
    pub pin: PinRow,
    /// Other places than this one.
    pub places: Vec<PlacementRow>,
    /// Whether its files and names are encrypted, and their key is here.
    pub private: bool,
}

/// What a project keeps, and what it may.
#[derive(Clone, Copy, Debug)]
pub struct Used {
    /// What it keeps.
    pub usage: Usage,
    /// The most bytes of all pins and sites.
    pub most_bytes: u64,
    /// The most pins.
    pub most_pins: u64,
}

/// Whose the blocks of a DAG must be.
#[derive(Clone, Copy)]
enum Source {
    /// Sent by the project.
    Sent,
    /// Of a deployment of the project, so all that is under its root.
    Deployed,
    /// This server's sources gave to the project what it had not sent.
    Fetched,
}

/// A project's pins, oldest first.
///
/// # Errors
/// When the actor is not a member of the project.
pub async fn list(
    state: &State,
    actor: &Actor,
    project: &str,
    start: impl Into<Start<'_>>,
) -> Result<Page<Kept>, Error> {
    let start = start.into();
    access::project(state, actor, project, Noun::Storage.read()).await?;
    let (after, limit) = start.by_id("pin")?;
    let mut kept = Vec::new();
    for pin in state.store.pins_of(project, after, limit).await? {
        kept.push(kept_as(state, pin).await?);
    }
    Ok(Page::of(kept, limit, |kept| kept.pin.id.clone()))
}

/// One pin.
///
/// # Errors
/// When the actor is not a member, or the project has no such pin.
pub async fn get(state: &State, actor: &Actor, project: &str, cid: &ContentId) -> Result<Kept, Error> {
    access::project(state, actor, project, Noun::Storage.read()).await?;
    let text = cid.to_string();
    let pin = state.store.pin(project, &text).await?.ok_or_else(|| Error::not_found("pin", &text))?;
    kept_as(state, pin).await
}

async fn kept_as(state: &State, pin: PinRow) -> Result<Kept, Error> {
    let places = state.store.placements(&pin.cid).await?;
    let private = state.store.pin_key(&pin.project_id, &pin.id).await?.is_some();
    Ok(Kept { pin, places, private })
}

/// What a private pin's files and names are encrypted with.
///
/// # Errors
/// When the actor is not a member, or the project has no such pin, or it is not private.
pub async fn key(state: &State, actor: &Actor, project: &str, cid: &ContentId) -> Result<ContentKey, Error> {
    let kept = get(state, actor, project, cid).await?;
    let key = content_keys::of_pin(state, project, &kept.pin.id).await?;
    key.ok_or_else(|| Error::not_found("content key", &kept.pin.cid))
}

/// What the project keeps.
///
/// # Errors
/// When the actor is not a member of the project.
pub async fn usage(state: &State, actor: &Actor, project: &str) -> Result<Used, Error> {
    access::project(state, actor, project, Noun::Storage.read()).await?;
    let mut db = state.store.read().await?;
    let terms = Terms::of_project(state, &mut db, project).await?;
    let usage = storage::usage(&mut db, project).await?;
    let [most_bytes, most_pins] = [Limit::StorageBytes, Limit::Pins].map(|limit| terms.most_stored(limit));
    Ok(Used { usage, most_bytes, most_pins })
}

/// Pins content whose blocks the project has sent, or deployed, or that the server's sources have. Who pins again may rename it, and add places.
///
/// # Errors
/// When the actor is not a member, a block cannot be had, or the project's limits do not allow it.
pub async fn pin(state: &State, actor: &Actor, project: &str, new: NewPin) -> Result<Kept, Error> {
    access::project(state, actor, project, Noun::Storage.write()).await?;
    let name = new.name.as_deref().map(checked_name).transpose()?;
    let places = chosen(state, new.places)?;
    let (dag, source) = Box::pin(whole(state, project, &new.cid)).await?;
    if let Some(key) = &new.key {
        let (cipher, blocks, root) = (Cipher::new(key), state.blocks.clone(), new.cid);
        let check = move || private::check_root(&cipher, &root, |id| blocks.read(id));
        blocks::blocking(check).await?.map_err(StorageError::from)?;
    }

    let held = state.committing.lock().await;
    let mut db = state.store.begin().await?;
    confirm(state, &mut db, project, &dag, source).await?;
    let text = new.cid.to_string();
    let pin = match storage::read_pin(&mut db, project, &text).await? {
        Some(pin) => pin,
        None => {
            let pin = row(actor, project, &text, name.clone(), &dag);
            admit(state, &mut db, &pin).await?;
            storage::insert_pin(&mut db, &pin).await?;
            left::forget(&mut db, project, &text).await?;
            pin
        }
    };
    if let Some(name) = &name {
        storage::rename_pin(&mut db, &pin.id, name).await?;
    }
    for place in &places {
        storage::add_place(&mut db, &pin.id, place).await?;
    }
    if let Some(key) = &new.key {
        content_keys::put_of_pin(state, &mut db, project, &pin.id, key).await?;
    }
    state.sweeper.protect(dag.keys());
    audit::commit(db, actor, Event::project("pin.create", &text, project)).await?;
    drop(held);
    state.storage.places.reconcile(state, text).await?;
    get(state, actor, project, &new.cid).await
}

/// Gives a pin up. Its blocks stay until the next sweep.
///
/// # Errors
/// When the actor is not a member, or the project has no such pin.
pub async fn unpin(state: &State, actor: &Actor, project: &str, cid: &ContentId) -> Result<(), Error> {
    access::project(state, actor, project, Noun::Storage.write()).await?;
    let mut db = state.store.begin().await?;
    let text = cid.to_string();
    left::remember(&mut db, project, &text, now()).await?;
    if !storage::delete_pin(&mut db, project, &text).await? {
        return Err(Error::not_found("pin", &text));
    }
    audit::commit(db, actor, Event::project("pin.delete", &text, project)).await?;
    state.storage.places.reconcile(state, text).await
}

/// Which of these blocks the project has to send. Those that it need not are kept for the grace period from now on.
/// `coming`, where it is known, is what is to be pinned then, and its length.
///
/// # Errors
/// When the actor is not a member, asks for too many, or has no room for what is to come.
pub async fn missing(
    state: &State,
    actor: &Actor,
    project: &str,
    ids: &[ContentId],
    coming: Option<(ContentId, u64)>,
) -> Result<Vec<ContentId>, Error> {
    access::project(state, actor, project, Noun::Storage.write()).await?;
    if ids.len() > ASKED {
        let detail = format!("{} blocks are asked for at once; {ASKED} are the most", ids.len());
        return Err(Error::invalid("too_many_blocks", detail));
    }
    if let Some((cid, bytes)) = coming
        && state.store.pin(project, &cid.to_string()).await?.is_none()
    {
        room_for(state, project, &cid.to_string(), bytes).await?;
    }
    // What stands in its CID is never sent.
    let ids: Vec<ContentId> = ids.iter().filter(|id| !id.is_inline()).copied().collect();
    let mut db = state.store.begin().await?;
    let known = storage::known(&mut db, project, &ids).await?;
    state.sweeper.protect(known.iter().map(|(id, _)| id));
    storage::put_blocks(&mut db, project, &known, now()).await?;
    commit(db).await?;
    let known: BTreeSet<ContentId> = known.into_iter().map(|(id, _)| id).collect();
    Ok(ids.into_iter().filter(|id| !known.contains(id)).collect())
}

/// Where content of a deployment is held besides here. For callers that have found out whose it is.
///
/// # Errors
/// When the database fails.
pub async fn placements(state: &State, cid: &str) -> Result<Vec<PlacementRow>, Error> {
    Ok(state.store.placements(cid).await?)
}

/// The content as a CAR, for whoever may see it: it is pinned, or deployed, by the project.
///
/// # Errors
/// When the actor is not a member, or the project has no such content.
pub async fn car(state: &State, actor: &Actor, project: &str, cid: &ContentId) -> Result<CarPieces, Error> {
    access::project(state, actor, project, Noun::Storage.read()).await?;
    let text = cid.to_string();
    if state.store.pin(project, &text).await?.is_none() && !state.store.is_deployed(project, &text).await? {
        return Err(Error::not_found("pin", &text));
    }
    Ok(CarPieces::new(&state.blocks, *cid))
}

fn row(
    actor: &Actor,
    project: &str,
    cid: &str,
    name: Option<String>,
    dag: &BTreeMap<ContentId, u64>,
) -> PinRow {
    let bytes = dag.values().fold(0_u64, |sum, bytes| sum.saturating_add(*bytes));
    PinRow {
        id: id::new("pin"),
        project_id: project.to_owned(),
        cid: cid.to_owned(),
        name,
        bytes: i64::try_from(bytes).unwrap_or(i64::MAX),
        blocks: i64::try_from(dag.len()).unwrap_or(i64::MAX),
        author_id: actor.user.clone(),
        created_at: now(),
    }
}

fn checked_name(name: &str) -> Result<String, Error> {
    let unusable = |char: char| char.is_control() || misleads(char);
    if (1..=NAME).contains(&name.chars().count()) && !name.chars().any(unusable) {
        return Ok(name.to_owned());
    }
    let detail = format!("a pin's name has 1 to {NAME} characters, all of which can be seen, in their order");
    Err(Error::invalid("invalid_pin_name", detail))
}

/// The places that were asked for, which there must be.
fn chosen(state: &State, asked: Option<Vec<String>>) -> Result<Vec<String>, StorageError> {
    let Some(asked) = asked else { return Ok(vec![EVERYWHERE.to_owned()]) };
    let known: Vec<String> = state.storage.places.names().map(str::to_owned).collect();
    match asked.iter().find(|place| !known.contains(place)) {
        Some(place) => Err(StorageError::Place { name: place.chars().take(100).collect(), known }),
        None => Ok(asked),
    }
}

async fn source(state: &State, project: &str, cid: &ContentId) -> Result<Source, Error> {
    let deployed = state.store.is_deployed(project, &cid.to_string()).await?;
    Ok(if deployed { Source::Deployed } else { Source::Sent })
}

/// All blocks under a root, as the project may have them: fetched from this server's sources, if it has not sent them.
async fn whole(
    state: &State,
    project: &str,
    root: &ContentId,
) -> Result<(BTreeMap<ContentId, u64>, Source), Error> {
    let source = source(state, project, root).await?;
    match dag(state, project, root, source).await {
        Err(Error::Storage(StorageError::Missing(_))) if state.sources.has_sources() => {
            let bounds = DagBounds { bytes: room::left(state, project).await?, blocks: BLOCKS };
            upload::fetch_pin(state, project, *root, bounds).await?;
            Ok((dag(state, project, root, Source::Fetched).await?, Source::Fetched))
        }
        found => Ok((found?, source)),
    }
}

/// All blocks under a root and their lengths. Blocks that are not the project's are not looked at: not even whether
/// they are there can be told from the answer.
async fn dag(
    state: &State,
    project: &str,
    root: &ContentId,
    source: Source,
) -> Result<BTreeMap<ContentId, u64>, Error> {
    let mut db = state.store.read().await?;
    let mut found = BTreeMap::new();
    let mut traversal = Traversal::new(*root, DagBounds { bytes: u64::MAX, blocks: BLOCKS });
    loop {
        let step: Vec<Visit> = std::iter::from_fn(|| traversal.next()).take(STEP).collect();
        if step.is_empty() {
            return Ok(found);
        }
        let ids: Vec<ContentId> = step.iter().map(|visit| visit.id).filter(|id| !id.is_inline()).collect();
        let sizes: BTreeMap<ContentId, u64> = match source {
            Source::Sent => storage::known(&mut db, project, &ids).await?.into_iter().collect(),
            Source::Deployed | Source::Fetched => sizes(state, &ids).await?,
        };
        if let Some(id) = ids.iter().find(|id| !sizes.contains_key(id)) {
            return Err(StorageError::Missing(*id).into());
        }
        found.extend(sizes);
        let blocks = state.blocks.clone();
        traversal = blocks::blocking(move || follow(&blocks, traversal, step)).await??;
    }
}

/// Follows what these blocks link to. Of files' bytes it is not looked at whether they are well.
fn follow(blocks: &DiskStore, mut traversal: Traversal, step: Vec<Visit>) -> Result<Traversal, StorageError> {
    for visit in step {
        match visit.id.codec() {
            Codec::Raw => {}
            Codec::DagCbor => return Err(StorageError::Document(visit.id)),
            Codec::DagPb => {
                let block = blocks.block(&visit.id)?.ok_or(StorageError::Missing(visit.id))?;
                traversal.arrived(visit, &block)?;
            }
        }
    }
    Ok(traversal)
}

async fn sizes(state: &State, ids: &[ContentId]) -> Result<BTreeMap<ContentId, u64>, Error> {
    let (blocks, ids) = (state.blocks.clone(), ids.to_vec());
    let sizes = move || ids.into_iter().filter_map(|id| Some((id, blocks.size(&id)?))).collect();
    blocks::blocking(sizes).await
}

/// That all blocks are still there, now that none can be swept, and the project's from now on.
async fn confirm(
    state: &State,
    db: &mut Connection,
    project: &str,
    dag: &BTreeMap<ContentId, u64>,
    source: Source,
) -> Result<(), Error> {
    let ids: Vec<ContentId> = dag.keys().copied().collect();
    let there: BTreeSet<ContentId> = match source {
        Source::Sent => storage::known(db, project, &ids).await?.into_iter().map(|(id, _)| id).collect(),
        Source::Deployed | Source::Fetched => sizes(state, &ids).await?.into_keys().collect(),
    };
    if let Some(id) = ids.iter().find(|id| !there.contains(id)) {
        return Err(StorageError::Missing(*id).into());
    }
    let blocks: Vec<(ContentId, u64)> = dag.iter().map(|(id, bytes)| (*id, *bytes)).collect();
    Ok(storage::put_blocks(db, project, &blocks, now()).await?)
}
