//! Sending content to a project: block by block, as a CAR, or as a form with files.

use std::sync::Arc;

use af_content::unixfs::Profile;
use af_contract::ContentId;
use axum::body::Body;
use axum::extract::State as Shared;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::problem::{Failure, Json, Path, ProblemDocument, Query};
use super::storage::{CAR, Pin, content_id};
use super::upload;
use crate::app::State;
use crate::domain::{Actor, Error, StorageError, storage, storage_upload};

/// Files of one form.
const FILES: usize = 100;

/// Which blocks are to be sent.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MissingInput {
    /// At most 2,000.
    cids: Vec<String>,
    /// What is to be pinned then: refused where there is no room for it.
    coming: Option<Coming>,
}

/// What is to be pinned.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Coming {
    /// CID of its root.
    cid: String,
    /// Of all its blocks, each once.
    bytes: u64,
}

/// Blocks that the project has to send.
#[derive(Serialize, ToSchema)]
pub(super) struct Missing {
    missing: Vec<String>,
}

/// What came.
#[derive(Serialize, ToSchema)]
pub(super) struct ReceivedBlocks {
    blocks: usize,
    bytes: u64,
}

/// What was stored and pinned.
#[derive(Serialize, ToSchema)]
pub(super) struct Stored {
    pins: Vec<Pin>,
}

/// How a form's files are stored.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct StoreTerms {
    /// How they become blocks, and so which CIDs they have: `unixfs-v1-2025`, `unixfs-v0-2015` or `unixfs-v1-2025-blake3`.
    /// Left out: the first. A CAR has its blocks already.
    profile: Option<String>,
}

/// Which of these blocks the project has to send. The others are kept for a while.
#[utoipa::path(post, path = "/v1/projects/{project}/storage/missing", operation_id = "block_list_missing",
    tag = "storage",
    params(("project" = String, Path)), request_body = MissingInput, responses((status = 200, body = Missing),
    (status = 400, body = ProblemDocument), (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument),
    (status = 404, body = ProblemDocument), (status = 409, body = ProblemDocument)))]
pub(super) async fn missing(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(project): Path<String>,
    Json(input): Json<MissingInput>,
) -> Result<axum::Json<Missing>, Failure> {
    let ids = input.cids.iter().map(|cid| content_id(cid)).collect::<Result<Vec<_>, _>>()?;
    let coming = input.coming.map(|coming| Ok::<_, Error>((content_id(&coming.cid)?, coming.bytes)));
    let missing = storage::missing(&state, &actor, &project, &ids, coming.transpose()?).await?;
    Ok(axum::Json(Missing { missing: missing.iter().map(ContentId::to_string).collect() }))
}

/// Receives blocks, sent as a CAR (version 1) with any roots. They go again unless what they are of is pinned.
#[utoipa::path(post, path = "/v1/projects/{project}/storage/blocks", operation_id = "block_send", tag = "storage",
    params(("project" = String, Path)),
    request_body(content = Vec<u8>, content_type = "application/vnd.ipld.car"), responses(
    (status = 200, body = ReceivedBlocks), (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument),
    (status = 404, body = ProblemDocument), (status = 409, body = ProblemDocument),
    (status = 413, body = ProblemDocument), (status = 422, body = ProblemDocument),
    (status = 503, body = ProblemDocument)))]
pub(super) async fn blocks(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(project): Path<String>,
    body: Body,
) -> Result<axum::Json<ReceivedBlocks>, Failure> {
    let work = |chunks| async move { storage_upload::receive(&state, &actor, &project, chunks).await };
    let received = upload::receive(body, work).await?;
    Ok(axum::Json(ReceivedBlocks { blocks: received.blocks, bytes: received.bytes }))
}

/// Stores and pins what is sent whole: the roots of a CAR (version 1), or each file of a form.
#[utoipa::path(post, path = "/v1/projects/{project}/storage", operation_id = "pin_store", tag = "storage",
    params(("project" = String, Path), StoreTerms),
    request_body(content((Vec<u8> = "application/vnd.ipld.car"), (Vec<u8> = "multipart/form-data"))), responses(
    (status = 201, body = Stored), (status = 400, body = ProblemDocument),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument),
    (status = 409, body = ProblemDocument), (status = 413, body = ProblemDocument),
    (status = 422, body = ProblemDocument), (status = 503, body = ProblemDocument)))]
pub(super) async fn store(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(project): Path<String>,
    Query(terms): Query<StoreTerms>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, axum::Json<Stored>), Failure> {
    let profile = match terms.profile.as_deref().map(str::parse::<Profile>).transpose() {
        Ok(profile) => profile,
        Err(error) => return Err(upload::refuse(body, Error::invalid("invalid_profile", error)).await),
    };
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or(CAR);
    let pins = match multer::parse_boundary(kind) {
        Ok(boundary) => form(&state, &actor, &project, profile.unwrap_or_default(), (body, boundary)).await?,
        Err(_) if profile.is_some() => {
            let detail = "a CAR has its blocks already; leave profile out, or send the files as a form";
            return Err(upload::refuse(body, Error::invalid("invalid_profile", detail)).await);
        }
        Err(_) => {
            let work =
                |chunks| async move { storage_upload::receive_car(&state, &actor, &project, chunks).await };
            upload::receive(body, work).await?.into_iter().map(Pin::from).collect()
        }
    };
    Ok((StatusCode::CREATED, axum::Json(Stored { pins })))
}

/// Each file of a form; fields without a file are nobody's concern.
async fn form(
    state: &Arc<State>,
    actor: &Actor,
    project: &str,
    profile: Profile,
    (body, boundary): (Body, String),
) -> Result<Vec<Pin>, Failure> {
    let mut form = multer::Multipart::new(body.into_data_stream(), boundary);
    let mut pins = Vec::new();
    while let Some(field) = form.next_field().await.map_err(unreadable)? {
        let Some(name) = field.file_name().map(str::to_owned) else { continue };
        if pins.len() >= FILES {
            return Err(StorageError::Form(format!("it has more than {FILES} files")).into());
        }
        let (state, actor, project) = (state.clone(), actor.clone(), project.to_owned());
        let work = |chunks| async move {
            let name = Some(name).filter(|name| !name.is_empty());
            storage_upload::receive_file(&state, &actor, &project, (name, profile), chunks).await
        };
        pins.push(upload::receive(Body::from_stream(field), work).await?.into());
    }
    if pins.is_empty() { Err(StorageError::NoFile.into()) } else { Ok(pins) }
}

fn unreadable(error: multer::Error) -> Error {
    StorageError::Form(error.to_string()).into()
}
