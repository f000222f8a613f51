//! `/v1/projects/{project}/storage`: what a project keeps. Sending it: `storage_upload.rs`.

use std::sync::Arc;

use af_content::CarPieces;
use af_contract::{ContentId, ContentKey};
use axum::body::Body;
use axum::extract::State as Shared;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use utoipa::ToSchema;

use super::deployments::content_key;
use super::problem::{Failure, Json, Path, ProblemDocument, Query};
use super::{Cursor, List};
use crate::app::State;
use crate::domain::storage::{self, Kept, NewPin};
use crate::domain::sweep::{self, Mode};
use crate::domain::{Actor, Error};
use crate::store::PlacementRow;

/// Of CARs.
pub(super) const CAR: &str = "application/vnd.ipld.car";

/// Pieces of a CAR that wait for the client.
const PIECES: usize = 4;

/// Content that a project keeps.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Pin {
    /// `pin_…`
    id: String,
    project_id: String,
    /// CID of its root.
    cid: String,
    name: Option<String>,
    /// Whether its files and names are encrypted, with a key that `…/key` gives; the CID is of what is stored.
    private: bool,
    /// Of all its blocks, each once.
    bytes: i64,
    blocks: i64,
    /// Other places that hold it, or are to.
    places: Vec<Placement>,
    /// `usr_…`
    author_id: String,
    /// Milliseconds since 1970 UTC.
    created_at: i64,
}

/// Where content is held besides here.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Placement {
    /// What it is called.
    place: String,
    /// `QUEUED`, `PINNING` (it is getting the blocks), `PINNED`, `FAILED` (and tried again), `REMOVING` or `LEFT`
    /// (nobody wants it there any more, and it cannot be removed).
    state: String,
    /// What the place says of it: the name under which it is found there, the deals by which it is held.
    detail: Option<String>,
    /// Whether nobody can have it removed there any more.
    permanent: bool,
    /// In a row that failed.
    attempts: i64,
    /// What the last attempt found amiss.
    error: Option<String>,
    /// When it is looked at next, milliseconds since 1970 UTC.
    next_at: i64,
}

impl From<PlacementRow> for Placement {
    fn from(row: PlacementRow) -> Self {
        let PlacementRow { place, state, detail, permanent, attempts, error, next_at, .. } = row;
        Self { place, state, detail, permanent, attempts, error, next_at }
    }
}

/// Content of a deployment.
#[derive(Serialize, ToSchema)]
pub(super) struct HeldContent {
    /// CID of its root.
    cid: String,
    /// Other places that hold it, or are to.
    places: Vec<Placement>,
}

impl HeldContent {
    /// Of each of these roots.
    pub(super) async fn of(state: &State, roots: impl Iterator<Item = &str>) -> Result<Vec<Self>, Error> {
        let mut held = Vec::new();
        for cid in roots {
            let places = storage::placements(state, cid).await?.into_iter().map(Placement::from).collect();
            held.push(Self { cid: cid.to_owned(), places });
        }
        Ok(held)
    }
}

impl From<Kept> for Pin {
    fn from(kept: Kept) -> Self {
        let Kept { pin, places, private } = kept;
        Self {
            id: pin.id,
            project_id: pin.project_id,
            cid: pin.cid,
            name: pin.name,
            private,
            bytes: pin.bytes,
            blocks: pin.blocks,
            places: places.into_iter().map(Placement::from).collect(),
            author_id: pin.author_id,
            created_at: pin.created_at,
        }
    }
}

/// What is to be pinned.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PinInput {
    /// CIDv1 of its root.
    cid: String,
    /// 1 to 255 characters.
    name: Option<String>,
    /// Where else than here it is to be held; left out: at all places there are, and will be.
    places: Option<Vec<String>>,
}

/// A private pin's key.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct PinKey {
    /// 64 hex digits (ARCHITECTURE.md, "Private content").
    #[schema(value_type = String)]
    content_key: ContentKey,
}

/// What a project stores, and what it may.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct StorageUsage {
    /// Of all pins, of all directories that sites have deployed and that are not pinned, and of what functions have deployed; a block of
    /// several of them counts in each.
    bytes: u64,
    /// Of them, those of functions: each component with its files, once in a function.
    function_bytes: u64,
    /// Of them, those of sites.
    site_bytes: u64,
    most_bytes: u64,
    pins: u64,
    most_pins: u64,
}

/// How to sweep.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct SweepInput {
    /// Say what would go, and remove nothing.
    #[serde(default)]
    dry_run: bool,
}

/// What a sweep removed, or would.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Swept {
    /// Blocks removed.
    blocks: u64,
    /// Their bytes.
    bytes: u64,
    /// Blocks that stay.
    kept: u64,
    /// Of them, those that nobody needs and that are too young to go.
    young: u64,
    /// CIDs of the first hundred that were removed.
    cids: Vec<String>,
}

/// A project's pins, oldest first.
#[utoipa::path(get, path = "/v1/projects/{project}/storage", operation_id = "pin_list", tag = "storage",
    params(("project" = String, Path), Cursor), responses((status = 200, body = List<Pin>),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn list(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(project): Path<String>,
    Query(cursor): Query<Cursor>,
) -> Result<axum::Json<List<Pin>>, Failure> {
    let page = storage::list(&state, &actor, &project, cursor.start()).await?;
    Ok(List::of(page, Pin::from))
}

/// What the project stores, and what it may.
#[utoipa::path(get, path = "/v1/projects/{project}/storage/usage", operation_id = "storage_usage_get", tag = "storage",
    params(("project" = String, Path)), responses((status = 200, body = StorageUsage),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn usage(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(project): Path<String>,
) -> Result<axum::Json<StorageUsage>, Failure> {
    let used = storage::usage(&state, &actor, &project).await?;
    Ok(axum::Json(StorageUsage {
        bytes: used.usage.bytes,
        function_bytes: used.usage.function_bytes,
        site_bytes: used.usage.site_bytes,
        most_bytes: used.most_bytes,
        pins: used.usage.pins,
        most_pins: used.most_pins,
    }))
}

/// Pins content whose blocks the project has sent, or that it has deployed.
#[utoipa::path(post, path = "/v1/projects/{project}/storage/pins", operation_id = "pin_create", tag = "storage",
    params(("project" = String, Path), ("af-content-key" = Option<String>, Header,
        description = "The key that files and names are encrypted with (ARCHITECTURE.md, \"Private content\"), 64 hex digits; left out: they are not")),
    request_body = PinInput, responses((status = 201, body = Pin),
    (status = 400, body = ProblemDocument), (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument),
    (status = 404, body = ProblemDocument), (status = 409, body = ProblemDocument),
    (status = 422, body = ProblemDocument)))]
pub(super) async fn pin(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(project): Path<String>,
    headers: HeaderMap,
    Json(input): Json<PinInput>,
) -> Result<(StatusCode, axum::Json<Pin>), Failure> {
    let (cid, key) = (content_id(&input.cid)?, content_key(&headers)?);
    let new = NewPin { cid, name: input.name, places: input.places, key };
    let kept = storage::pin(&state, &actor, &project, new).await?;
    Ok((StatusCode::CREATED, axum::Json(kept.into())))
}

/// One pin.
#[utoipa::path(get, path = "/v1/projects/{project}/storage/{cid}", operation_id = "pin_get", tag = "storage",
    params(("project" = String, Path), ("cid" = String, Path)), responses((status = 200, body = Pin),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn get(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path((project, cid)): Path<(String, String)>,
) -> Result<axum::Json<Pin>, Failure> {
    Ok(axum::Json(storage::get(&state, &actor, &project, &named(&cid)?).await?.into()))
}

/// What a private pin's files and names are encrypted with.
#[utoipa::path(get, path = "/v1/projects/{project}/storage/{cid}/key", operation_id = "pin_key_get", tag = "storage",
    params(("project" = String, Path), ("cid" = String, Path)), responses((status = 200, body = PinKey),
    (status = 401, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn key(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path((project, cid)): Path<(String, String)>,
) -> Result<([(HeaderName, HeaderValue); 1], axum::Json<PinKey>), Failure> {
    let content_key = storage::key(&state, &actor, &project, &named(&cid)?).await?;
    let alone = [(CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((alone, axum::Json(PinKey { content_key })))
}

/// Gives a pin up. Its blocks go with a later sweep, unless something else needs them.
#[utoipa::path(delete, path = "/v1/projects/{project}/storage/{cid}", operation_id = "pin_delete", tag = "storage",
    params(("project" = String, Path), ("cid" = String, Path)), responses((status = 204),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn unpin(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path((project, cid)): Path<(String, String)>,
) -> Result<StatusCode, Failure> {
    storage::unpin(&state, &actor, &project, &named(&cid)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// All blocks of what is pinned, or deployed, as a CAR (version 1): parents before children, each once.
#[utoipa::path(get, path = "/v1/projects/{project}/storage/{cid}/car", operation_id = "pin_export", tag = "storage",
    params(("project" = String, Path), ("cid" = String, Path)), responses(
    (status = 200, body = Vec<u8>, content_type = "application/vnd.ipld.car"),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn car(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path((project, cid)): Path<(String, String)>,
) -> Result<Response, Failure> {
    let pieces = storage::car(&state, &actor, &project, &named(&cid)?).await?;
    let mut response = Response::new(stream(pieces));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(CAR));
    Ok(response)
}

/// Removes blocks that no deployment, site or pin needs. For the operator: the user that the first start made.
#[utoipa::path(post, path = "/v1/gc", operation_id = "block_sweep",
    tag = "storage", request_body = SweepInput, responses(
    (status = 200, body = Swept), (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument),
    (status = 404, body = ProblemDocument), (status = 409, body = ProblemDocument)))]
pub(super) async fn gc(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Json(input): Json<SweepInput>,
) -> Result<axum::Json<Swept>, Failure> {
    let mode = if input.dry_run { Mode::DryRun } else { Mode::Remove };
    let swept = sweep::by_operator(&state, &actor, mode).await?;
    Ok(axum::Json(Swept {
        blocks: swept.blocks,
        bytes: swept.bytes,
        kept: swept.kept,
        young: swept.young,
        cids: swept.named.iter().map(ContentId::to_string).collect(),
    }))
}

/// Reads the disk as the client takes it. What cannot be read breaks the response off.
fn stream(pieces: CarPieces) -> Body {
    let (sender, receiver) = mpsc::channel(PIECES);
    tokio::task::spawn_blocking(move || {
        for piece in pieces {
            if let Err(error) = &piece {
                tracing::error!(%error, "stored content cannot be sent");
            }
            let failed = piece.is_err();
            if sender.blocking_send(piece).is_err() || failed {
                return;
            }
        }
    });
    Body::from_stream(futures::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|piece| (piece, receiver))
    }))
}

pub(super) fn content_id(text: &str) -> Result<ContentId, Error> {
    ContentId::parse(text).map_err(|error| Error::invalid("invalid_cid", error))
}

/// Of a path: what is no CID leads nowhere.
fn named(text: &str) -> Result<ContentId, Error> {
    ContentId::parse(text).map_err(|_| Error::not_found("pin", text))
}
