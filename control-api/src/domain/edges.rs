//! Edges that take the feed over HTTP: who is one, and what it is told.

pub(crate) mod seen;

use std::time::Duration;

use af_contract::ContentId;
use af_contract::edge::{
    EdgeError, FeedRequest, JoinAnswer, JoinRequest, JoinToken, KeyPair, Proof, PublicKey, SILENCE, Shown,
    seal,
};
use bytes::Bytes;
use serde::Serialize;
use tokio::sync::{OnceCell, watch};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::access;
use super::audit::{self, Event};
use super::feed::Reader;
use super::feed_pages::{self, FeedPages};
use super::projects::commit;
use super::reports::Reporter;
use super::used_proofs::{Refused, UsedProofs};
use super::{Actor, Call, Error, Page, Start, State, blocks, id, now};
use crate::store::{EdgeRow, FeedKeyRow, edges, reports, usage};

/// A token to join counts for so long, milliseconds: an hour.
const JOIN_TIME: i64 = 60 * 60 * 1000;

/// An edge waits for news at most for so long.
const LONGEST_WAIT: Duration = Duration::from_secs(55);

const _: () = assert!(LONGEST_WAIT.as_secs() < SILENCE.as_secs());

/// Of one installation: each holds two connections, and others must be let in beside them (`listen.rs`). So many learn of a change
/// within a second (`tests/waiting_edges.rs`).
const EDGES: i64 = 1000;

/// The id of the one key of the feed.
const FEED: &str = "feed";

/// Seconds for which the database knows proofs beyond their end.
const FORGOTTEN: i64 = 300;

/// Bytes of an edge's name.
const NAME: usize = 64;

/// What this server knows of edges without asking the database.
#[derive(Default)]
pub(crate) struct Edges {
    key: OnceCell<FeedKey>,
    pages: FeedPages,
    seen: seen::Seen,
    used: UsedProofs,
    /// Changes whenever an edge is removed.
    removed: watch::Sender<u64>,
}

/// What the feed is signed with.
struct FeedKey {
    pair: KeyPair,
    public: PublicKey,
    epoch: String,
}

/// An edge that was made, and the token that it joins with.
pub struct NewEdge {
    /// The edge.
    pub row: EdgeRow,
    /// Shown once.
    pub token: Zeroizing<String>,
}

/// An edge that has proven itself by a request.
pub struct Known {
    row: EdgeRow,
    shown: Shown,
}

/// The request that a proof came with.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'r> {
    /// Its method.
    pub method: &'r str,
    /// Its path and query.
    pub target: &'r str,
}

impl Known {
    /// `edge_…`
    #[must_use]
    pub fn id(&self) -> &str {
        &self.row.id
    }

    /// As it reports.
    #[must_use]
    pub fn reporter(&self) -> Reporter<'_> {
        Reporter { id: &self.row.id, name: &self.row.name }
    }

    /// Checks that its request has this body.
    ///
    /// # Errors
    /// When it was sent with another one.
    pub fn check_body(&self, body: &[u8]) -> Result<(), Error> {
        let checked = self.shown.bound.check_body(body);
        checked.map_err(|error| Error::invalid("invalid_proof", error.to_string()))
    }
}

/// All edges, by name.
///
/// # Errors
/// When the actor is no operator.
pub async fn list(state: &State, actor: &Actor, start: Start<'_>) -> Result<Page<EdgeRow>, Error> {
    access::operator(state, actor, "edges").await?;
    let (after, limit) = start.by_name()?;
    let rows = state.store.edges(after, limit).await?;
    Ok(Page::of(rows, limit, |row| row.name.clone()))
}

/// Makes an edge, which joins with the token that is returned.
///
/// # Errors
/// When the actor is no operator, or the name is unusable or taken.
pub async fn create(state: &State, actor: &Actor, name: &str) -> Result<NewEdge, Error> {
    access::operator(state, actor, "edges").await?;
    let usable = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if name.is_empty() || name.len() > NAME || !name.bytes().all(usable) {
        let detail = format!("an edge's name has 1 to {NAME} letters, digits, dots, dashes and underscores");
        return Err(Error::invalid("invalid_edge_name", detail));
    }
    let key = feed_key(state).await?;
    let edge = id::new("edge");
    let token = JoinToken::new(&edge, &key.public).map_err(internal)?;
    let mut db = state.store.begin().await?;
    let sealed = state.keys.seal_bytes(&place(&edge), token.secret()).map_err(internal)?;
    let row = EdgeRow {
        id: edge,
        name: name.to_owned(),
        public_key: None,
        join_sealed: Some(sealed),
        join_expires_at: now() + JOIN_TIME,
        created_at: now(),
        joined_at: None,
        seen_at: None,
        revision: 0,
        version: None,
    };
    if edges::is_name_taken(&mut db, name).await? {
        let detail = format!("there is an edge {name}; remove it first, or choose another name");
        return Err(Error::Conflict { code: "edge_name_taken", detail });
    }
    if edges::count(&mut db).await? >= EDGES {
        let detail = format!("there are {EDGES} edges already");
        return Err(Error::Conflict { code: "too_many_edges", detail });
    }
    edges::insert(&mut db, &row).await?;
    audit::commit(db, actor, Event::maybe("edge.create", &row.id, None)).await?;
    Ok(NewEdge { row, token: token.reveal() })
}

/// Removes an edge: from now on it is told nothing more.
///
/// # Errors
/// When the actor is no operator, or there is no such edge.
pub async fn delete(state: &State, actor: &Actor, edge: &str) -> Result<(), Error> {
    access::operator(state, actor, "edges").await?;
    let mut db = state.store.begin().await?;
    if !edges::delete(&mut db, edge).await? {
        return Err(Error::not_found("edge", edge));
    }
    reports::forget_edge(&mut db, edge).await?;
    usage::forget_edge(&mut db, edge).await?;
    audit::commit(db, actor, Event::maybe("edge.delete", edge, None)).await?;
    state.edges.seen.forget(edge);
    state.edges.used.forget(edge);
    state.edges.pages.forget_edge(edge);
    state.calls.forget(edge);
    state.logs.forget_edge(edge);
    state.edges.removed.send_modify(|count| *count += 1);
    Ok(())
}

/// Makes the key of whoever has an edge's token that edge's.
///
/// # Errors
/// When there is no such token, or it was used or is too old.
pub async fn join(state: &State, call: Call, request: &JoinRequest) -> Result<JoinAnswer, Error> {
    // One answer for all of it: strangers learn nothing.
    let refused = || Error::Unauthenticated;
    let row = named(state, &request.edge).await?.ok_or_else(refused)?;
    let sealed = row.join_sealed.filter(|_| row.join_expires_at > now()).ok_or_else(refused)?;
    let secret = state.keys.unseal_bytes(&place(&row.id), &sealed).map_err(internal)?;
    request.verify(&secret).map_err(|_| refused())?;
    let key = feed_key(state).await?;
    let mut db = state.store.begin().await?;
    let still = edges::read(&mut db, &row.id).await?;
    let still = still.filter(|row| row.join_sealed.is_some()).ok_or_else(refused)?;
    match &still.public_key {
        None => edges::joined(&mut db, &row.id, request.public_key.bytes(), now()).await?,
        // It did not get the answer.
        Some(known) if known == request.public_key.bytes() => {
            return Ok(JoinAnswer { feed_key: key.public });
        }
        Some(_) => return Err(refused()),
    }
    // No user does this.
    let edge = Actor { call, ..Actor::without_token(&row.id) };
    audit::commit(db, &edge, Event::maybe("edge.join", &row.id, None)).await?;
    tracing::info!(edge = row.id, name = row.name, "an edge has joined");
    Ok(JoinAnswer { feed_key: key.public })
}

/// Who has sent this proof.
///
/// # Errors
/// When it is nobody who is an edge here.
pub async fn authenticate(state: &State, proof: &str, asked: Asked<'_>) -> Result<Known, Error> {
    let refused = |error: EdgeError| {
        tracing::debug!(%error, "an edge's proof does not count");
        match error {
            EdgeError::Time => Error::invalid("edge_clock", error.to_string()),
            // It is an edge's, and the edge is told what is wrong.
            EdgeError::Request => Error::invalid("invalid_proof", error.to_string()),
            _ => Error::Unauthenticated,
        }
    };
    let read = Proof::read(proof).map_err(refused)?;
    let row = named(state, read.edge()).await?.ok_or(Error::Unauthenticated)?;
    let public = row.public_key.as_deref().ok_or(Error::Unauthenticated)?;
    let public = PublicKey::new(public).map_err(internal)?;
    let key = feed_key(state).await?;
    let shown = read.verify(&public, &key.public, now() / 1000).map_err(refused)?;
    shown.bound.check_request(asked.method, asked.target).map_err(refused)?;
    let known = Known { row, shown };
    Box::pin(seen::note(state, &known, None)).await?;
    Ok(known)
}

/// Has the proof of a request that changes something count this once, at all servers of the database. The edge makes another one to
/// try again.
///
/// # Errors
/// When it was used before, the edge uses too many, or the database fails.
pub async fn use_up(state: &State, edge: &Known) -> Result<(), Error> {
    let again = || {
        tracing::warn!(edge = edge.row.id, "an edge's proof came again; somebody repeats its requests");
        Error::Unauthenticated
    };
    let now = now() / 1000;
    let taken = state.edges.used.take(&edge.row.id, &edge.shown, now).map_err(|refused| match refused {
        Refused::Again => again(),
        Refused::TooMany => Error::TooOften { seconds: 60 },
    })?;
    if taken.forgets {
        // The clock of another server may be a little behind.
        state.store.forget_proofs(now - FORGOTTEN).await?;
    }
    if state.store.use_proof(&taken.hash, edge.shown.until).await? { Ok(()) } else { Err(again()) }
}

/// What an edge is told: the next page, sealed to it and signed; where there is none, once there is one or its time is over.
///
/// # Errors
/// When the edge is removed meanwhile, or the database fails.
pub async fn page(state: &State, edge: &Known, proof: &str, wanted: &FeedRequest) -> Result<Bytes, Error> {
    let key = feed_key(state).await?;
    let mut revisions = state.changes.subscribe();
    let mut removed = state.edges.removed.subscribe();
    let mut stopping = state.stopping.subscribe();
    let until = Instant::now() + Duration::from_millis(wanted.wait_ms).min(LONGEST_WAIT);
    // Who knows another history, or more than there is, begins anew. Another server may have committed what is news here.
    if wanted.after > *revisions.borrow() {
        state.changes.announce(state.store.latest_revision().await?);
    }
    let same = wanted.epoch.as_deref() == Some(&key.epoch) && wanted.after <= *revisions.borrow();
    let after = if same { wanted.after } else { 0 };
    let place = (after, if wanted.anew && same { Reader::Here } else { Reader::Back });
    seen::note(state, edge, Some(after)).await?;
    let mut over = wanted.wait_ms == 0;
    let page = loop {
        removed.mark_unchanged();
        if over {
            // What nobody has announced: another server's, or whose request was cut off as it was committed.
            state.changes.announce(state.store.latest_revision().await?);
        }
        let committed = *revisions.borrow_and_update();
        if committed > after || !same || over {
            let page = state.edges.pages.get(state, &key.epoch, place, committed).await?;
            if page.is_news || !same || over {
                break page;
            }
        }
        tokio::select! {
            // The senders are in the state.
            _changed = revisions.changed() => {}
            _changed = removed.changed() => over = true,
            _stopping = stopping.wait_for(|stopping| *stopping) => over = true,
            () = tokio::time::sleep_until(until) => over = true,
        }
    };
    let place = state.edges.pages.place(edge.id(), page.text.len()).await?;
    check(state, edge).await?;
    let sealed = sealed_text(state, edge, proof, &page.text).await?;
    Ok(Bytes::from_owner(Answer { sealed, _place: place }))
}

/// An answer on its way, and its place among those that may be.
struct Answer {
    sealed: Vec<u8>,
    _place: feed_pages::Place,
}

impl AsRef<[u8]> for Answer {
    fn as_ref(&self) -> &[u8] {
        &self.sealed
    }
}

/// The edge that somebody says to be. PostgreSQL takes no text with a zero byte.
async fn named(state: &State, id: &str) -> Result<Option<EdgeRow>, Error> {
    let is_id = id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if is_id { Ok(state.store.edge(id).await?) } else { Ok(None) }
}

/// Checks that an edge still is one: it may have been removed while it waited.
///
/// # Errors
/// When it is none any more.
pub(super) async fn check(state: &State, edge: &Known) -> Result<(), Error> {
    match state.store.edge(&edge.row.id).await? {
        Some(row) if row.public_key == edge.row.public_key => Ok(()),
        _ => Err(Error::Unauthenticated),
    }
}

/// An answer to the request with this proof, signed, and sealed to the edge.
///
/// # Errors
/// When the proof has no key to seal it to.
pub(super) async fn sealed(
    state: &State,
    edge: &Known,
    proof: &str,
    answer: &impl Serialize,
) -> Result<Vec<u8>, Error> {
    let text = serde_json::to_vec(answer).map_err(|error| internal(std::io::Error::other(error)))?;
    sealed_text(state, edge, proof, &Zeroizing::new(text)).await
}

async fn sealed_text(state: &State, edge: &Known, proof: &str, text: &[u8]) -> Result<Vec<u8>, Error> {
    let refused = |detail: &str| Error::invalid("invalid_proof", detail);
    let share = edge.shown.bound.share().ok_or_else(|| {
        refused("the proof of a request whose answer is sealed has the key that it is sealed to")
    })?;
    let key = feed_key(state).await?;
    seal(&key.pair, proof, share, text).map_err(|error| refused(&error.to_string()))
}

/// Has a block here that an edge asks for, if this server's sources have it.
///
/// # Errors
/// When the disk fails.
pub async fn fetch(state: &State, block: ContentId) -> Result<(), Error> {
    if !state.sources.has_sources() || blocks::disk(state, move |store| store.has(&block)).await? {
        return Ok(());
    }
    if let Err(error) = state.sources.block(block).await {
        tracing::debug!(%block, %error, "an edge asks for what no source has");
    }
    Ok(())
}

impl Edges {
    /// Changes whenever an edge is removed.
    pub(super) fn removals(&self) -> watch::Receiver<u64> {
        self.removed.subscribe()
    }
}

/// The key of the feed, made when it is first needed.
async fn feed_key(state: &State) -> Result<&FeedKey, Error> {
    state.edges.key.get_or_try_init(|| async { Box::pin(open(state)).await }).await
}

async fn open(state: &State) -> Result<FeedKey, Error> {
    let row = match state.store.feed_key().await? {
        Some(row) => row,
        None => make(state).await?,
    };
    let document = state.keys.unseal_bytes(&place_of_feed_key(FEED), &row.sealed).map_err(internal)?;
    let pair = KeyPair::from_pkcs8(&document).map_err(internal)?;
    Ok(FeedKey { public: pair.public(), pair, epoch: row.epoch })
}

async fn make(state: &State) -> Result<FeedKeyRow, Error> {
    let document = KeyPair::generate().map_err(internal)?;
    let public = KeyPair::from_pkcs8(&document).map_err(internal)?.public();
    let mut db = state.store.begin().await?;
    let sealed = state.keys.seal_bytes(&place_of_feed_key(FEED), &document).map_err(internal)?;
    let row = FeedKeyRow { epoch: id::new("epoch"), public: public.bytes().to_vec(), sealed };
    edges::insert_feed_key(&mut db, &row, now()).await?;
    commit(db).await?;
    let there = state.store.feed_key().await?;
    there.ok_or_else(|| internal(std::io::Error::other("the feed's key is gone")))
}

/// Where the secret of an edge's token to join can be opened.
pub(super) fn place(edge: &str) -> [&str; 2] {
    [edge, "edge-join"]
}

/// Where the key of the feed can be opened.
pub(super) fn place_of_feed_key(id: &str) -> [&str; 2] {
    [id, "feed-key"]
}

fn internal(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Internal(Box::new(error))
}
