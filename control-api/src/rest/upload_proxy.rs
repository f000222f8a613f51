//! The upload proxy of the older platforms, as their published SDKs call it: a file or folder comes in CARs of some of its
//! blocks, and is pinned when all are there. The paths are fixed: the SDKs replace the whole path of the URL that they are given.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Json as Shown;
use axum::body::Body;
use axum::extract::State as Shared;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use cid::Cid;
use cid::multihash::Multihash;
use futures::TryStreamExt;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::problem::{Failure, Json, Path, ProblemDocument};
use super::storage::content_id;
use super::upload;
use crate::app::State;
use crate::domain::sessions::{self, Session};
use crate::domain::storage::NewPin;
use crate::domain::{Error, StorageError, storage, storage_upload};

/// Codes of a CAR, and of SHA-256, in the table of multicodecs.
const CAR_CODEC: u64 = 0x0202;
const SHA_256: u64 = 0x12;

pub(super) fn router() -> OpenApiRouter<Arc<State>> {
    OpenApiRouter::new()
        .routes(routes!(store))
        .routes(routes!(finish))
        .routes(routes!(private))
        .routes(routes!(duplicity))
        .routes(routes!(unpin))
}

async fn project(state: &State, session: &Session, headers: &HeaderMap) -> Result<String, Error> {
    let said = headers.get("x-project-id").and_then(|value| value.to_str().ok());
    sessions::project(state, session, said).await
}

/// Receives some blocks of a file or folder, as a CAR (version 1). Answers the CID of the CAR.
#[utoipa::path(post, path = "/store", operation_id = "upload_store", tag = "upload proxy",
    request_body(content = Vec<u8>, content_type = "application/vnd.ipld.car"), responses(
    (status = 200, body = String), (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument),
    (status = 404, body = ProblemDocument), (status = 413, body = ProblemDocument),
    (status = 503, body = ProblemDocument)))]
async fn store(
    Shared(state): Shared<Arc<State>>,
    session: Session,
    headers: HeaderMap,
    body: Body,
) -> Result<String, Failure> {
    let project = project(&state, &session, &headers).await?;
    let hash = Arc::new(Mutex::new(Context::new(&SHA256)));
    let hashing = hash.clone();
    let body = Body::from_stream(body.into_data_stream().inspect_ok(move |chunk| {
        hashing.lock().unwrap_or_else(PoisonError::into_inner).update(chunk);
    }));
    let actor = session.actor;
    upload::receive(body, move |chunks| async move {
        storage_upload::receive(&state, &actor, &project, chunks).await
    })
    .await?;
    let digest = hash.lock().unwrap_or_else(PoisonError::into_inner).clone().finish();
    let hash =
        Multihash::<64>::wrap(SHA_256, digest.as_ref()).map_err(|error| Error::Internal(Box::new(error)))?;
    Ok(Cid::new_v1(CAR_CODEC, hash).to_string())
}

/// All blocks are there.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Finished {
    /// Name of the file or folder.
    basename: Option<String>,
    /// CID of its root.
    root_cid: String,
}

/// What is pinned.
#[derive(Serialize, ToSchema)]
struct Uploaded {
    /// Of its root: the published SDK reads this, the older platform's documentation says `pin`.
    cid: String,
    pin: UploadedPin,
    /// Always false.
    duplicate: bool,
}

#[derive(Serialize, ToSchema)]
struct UploadedPin {
    cid: String,
    /// Of all its blocks, each once, bytes.
    size: i64,
}

/// Whether content need not be sent.
#[derive(Serialize, ToSchema)]
struct Duplicity {
    duplicate: bool,
}

/// What is pinned no more.
#[derive(Serialize, ToSchema)]
struct Unpinned {
    cid: String,
}

impl Uploaded {
    fn of(cid: String, size: i64) -> Shown<Self> {
        Shown(Self { pin: UploadedPin { cid: cid.clone(), size }, cid, duplicate: false })
    }
}

/// Pins a file or folder, all of whose blocks were sent.
#[utoipa::path(post, path = "/upload", operation_id = "upload_finish",
    tag = "upload proxy", request_body = Finished, responses(
    (status = 200, body = Uploaded), (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument),
    (status = 404, body = ProblemDocument)))]
async fn finish(
    Shared(state): Shared<Arc<State>>,
    session: Session,
    headers: HeaderMap,
    Json(input): Json<Finished>,
) -> Result<Shown<Uploaded>, Failure> {
    let project = project(&state, &session, &headers).await?;
    let name = input.basename.filter(|name| !name.is_empty());
    let new = NewPin { cid: content_id(&input.root_cid)?, name, places: None, key: None };
    let kept = storage::pin(&state, &session.actor, &project, new).await?;
    Ok(Uploaded::of(kept.pin.cid, kept.pin.bytes))
}

/// Stores and pins a file, sent as a form, that is held here only; it is not encrypted. `hash`, which the SDKs send too, is of no
/// use, since the answer's CID is made of the bytes.
#[utoipa::path(post, path = "/upload/private", operation_id = "upload_store_private", tag = "upload proxy",
    request_body(content = Vec<u8>, content_type = "multipart/form-data"), responses(
    (status = 201, body = Uploaded), (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument),
    (status = 404, body = ProblemDocument), (status = 413, body = ProblemDocument),
    (status = 503, body = ProblemDocument)))]
async fn private(
    Shared(state): Shared<Arc<State>>,
    session: Session,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Shown<Uploaded>), Failure> {
    let project = project(&state, &session, &headers).await?;
    if let Err(error) = storage_upload::allowed(&state, &session.actor, &project).await {
        return Err(upload::refuse(body, error).await);
    }
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let unreadable = |error: multer::Error| Error::from(StorageError::Form(error.to_string()));
    let boundary = multer::parse_boundary(kind).map_err(unreadable)?;
    let mut form = multer::Multipart::new(body.into_data_stream(), boundary);
    while let Some(field) = form.next_field().await.map_err(unreadable)? {
        let Some(name) = field.file_name().map(str::to_owned) else { continue };
        let (state, actor) = (state.clone(), session.actor.clone());
        let kept = upload::receive(Body::from_stream(field), move |chunks| async move {
            let name = Some(name).filter(|name| !name.is_empty());
            storage_upload::receive_private_file(&state, &actor, &project, name, chunks).await
        })
        .await?;
        return Ok((StatusCode::CREATED, Uploaded::of(kept.pin.cid, kept.pin.bytes)));
    }
    Err(StorageError::NoFile.into())
}

/// Says by 409 that the project has the content, so that it need not be sent.
#[utoipa::path(get, path = "/duplicity/{cid}", operation_id = "upload_find",
    tag = "upload proxy", params(("cid" = String, Path)), responses(
    (status = 200, body = Duplicity), (status = 409, body = Duplicity), (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument),
    (status = 404, body = ProblemDocument)))]
async fn duplicity(
    Shared(state): Shared<Arc<State>>,
    session: Session,
    headers: HeaderMap,
    Path(cid): Path<String>,
) -> Result<(StatusCode, Shown<Duplicity>), Failure> {
    let project = project(&state, &session, &headers).await?;
    match storage::get(&state, &session.actor, &project, &content_id(&cid)?).await {
        Ok(_) => Ok((StatusCode::CONFLICT, Shown(Duplicity { duplicate: true }))),
        // Not the project.
        Err(Error::NotFound { what: "pin", .. }) => {
            Ok((StatusCode::OK, Shown(Duplicity { duplicate: false })))
        }
        Err(error) => Err(error.into()),
    }
}

/// Gives a pin up.
#[utoipa::path(delete, path = "/delete/{cid}", operation_id = "upload_delete",
    tag = "upload proxy", params(("cid" = String, Path)), responses(
    (status = 200, body = Unpinned), (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument),
    (status = 404, body = ProblemDocument)))]
async fn unpin(
    Shared(state): Shared<Arc<State>>,
    session: Session,
    headers: HeaderMap,
    Path(cid): Path<String>,
) -> Result<Shown<Unpinned>, Failure> {
    let project = project(&state, &session, &headers).await?;
    storage::unpin(&state, &session.actor, &project, &content_id(&cid)?).await?;
    Ok(Shown(Unpinned { cid }))
}
