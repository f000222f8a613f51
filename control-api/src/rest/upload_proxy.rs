//! The upload proxy of the older platforms, as their published SDKs call it: a file or folder comes in CARs of some of its
//! blocks, and is pinned when all are there. The paths are fixed: the SDKs replace the whole path of the URL that they are given.

use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::extract::State as Shared;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{delete, get, post};
use axum::{Json as Shown, Router};
use cid::Cid;
use cid::multihash::Multihash;
use futures::TryStreamExt;
use ring::digest::{Context, SHA256};
use serde::Deserialize;
use serde_json::{Value, json};

use super::problem::{Failure, Json, Path};
use super::storage::content_id;
use super::upload;
use crate::app::State;
use crate::domain::sessions::{self, Session};
use crate::domain::storage::NewPin;
use crate::domain::{Error, StorageError, storage, storage_upload};

/// Codes of a CAR, and of SHA-256, in the table of multicodecs.
const CAR_CODEC: u64 = 0x0202;
const SHA_256: u64 = 0x12;

pub(super) fn router() -> Router<Arc<State>> {
    Router::new()
        .route("/store", post(store))
        .route("/upload", post(finish))
        .route("/upload/private", post(private))
        .route("/duplicity/{cid}", get(duplicity))
        .route("/delete/{cid}", delete(unpin))
}

async fn project(state: &State, session: &Session, headers: &HeaderMap) -> Result<String, Error> {
    let said = headers.get("x-project-id").and_then(|value| value.to_str().ok());
    sessions::project(state, session, said).await
}

/// Some blocks of what is being uploaded. Answers the CID of the CAR.
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
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Finished {
    /// Name of the file or folder.
    basename: Option<String>,
    root_cid: String,
}

/// Pins what was sent.
async fn finish(
    Shared(state): Shared<Arc<State>>,
    session: Session,
    headers: HeaderMap,
    Json(input): Json<Finished>,
) -> Result<Shown<Value>, Failure> {
    let project = project(&state, &session, &headers).await?;
    let name = input.basename.filter(|name| !name.is_empty());
    let new = NewPin { cid: content_id(&input.root_cid)?, name, places: None, key: None };
    let kept = storage::pin(&state, &session.actor, &project, new).await?;
    Ok(Shown(pinned(&kept.pin.cid, kept.pin.bytes)))
}

/// A file as it is, that is held nowhere but here: `hash`, which the SDKs send too, is of no use, since the answer's CID is
/// made of the bytes.
async fn private(
    Shared(state): Shared<Arc<State>>,
    session: Session,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Shown<Value>), Failure> {
    let project = project(&state, &session, &headers).await?;
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
        return Ok((StatusCode::CREATED, Shown(pinned(&kept.pin.cid, kept.pin.bytes))));
    }
    Err(StorageError::NoFile.into())
}

/// The published SDK reads `cid`, the documentation says `pin`.
fn pinned(cid: &str, size: i64) -> Value {
    json!({ "cid": cid, "pin": { "cid": cid, "size": size }, "duplicate": false })
}

/// 409 where the project has it, so that it need not be sent.
async fn duplicity(
    Shared(state): Shared<Arc<State>>,
    session: Session,
    headers: HeaderMap,
    Path(cid): Path<String>,
) -> Result<(StatusCode, Shown<Value>), Failure> {
    let project = project(&state, &session, &headers).await?;
    match storage::get(&state, &session.actor, &project, &content_id(&cid)?).await {
        Ok(_) => Ok((StatusCode::CONFLICT, Shown(json!({ "duplicate": true })))),
        Err(Error::NotFound { .. }) => Ok((StatusCode::OK, Shown(json!({ "duplicate": false })))),
        Err(error) => Err(error.into()),
    }
}

/// Gives a pin up.
async fn unpin(
    Shared(state): Shared<Arc<State>>,
    session: Session,
    headers: HeaderMap,
    Path(cid): Path<String>,
) -> Result<Shown<Value>, Failure> {
    let project = project(&state, &session, &headers).await?;
    storage::unpin(&state, &session.actor, &project, &content_id(&cid)?).await?;
    Ok(Shown(json!({ "cid": cid })))
}
