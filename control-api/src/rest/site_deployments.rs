//! `/v1/sites/{site}/deployments`

use std::sync::Arc;

use af_contract::ContentId;
use axum::body::Body;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use futures::future::try_join_all;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::problem::{Failure, Json, Path, ProblemDocument, Query};
use super::storage::HeldContent;
use super::{Cursor, List, upload};
use crate::app::State;
use crate::domain::{Actor, Error, site_deployments};
use crate::store::SiteDeploymentRow;

/// One immutable version of a site.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SiteDeployment {
    /// `sdp_…`
    id: String,
    site_id: String,
    /// Counts up from 1 within the site.
    number: i64,
    /// CID of the directory: the deployment's identity.
    cid: String,
    /// In the directory and those in it.
    files: i64,
    /// Of all files together.
    bytes: i64,
    /// Where they are held besides here.
    held: Vec<HeldContent>,
    /// `usr_…`
    author_id: String,
    /// Milliseconds since 1970 UTC.
    created_at: i64,
}

/// What the body is claimed to be; it is recomputed.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct SiteClaim {
    /// CID of the directory: the root of the CAR.
    cid: String,
    /// `true`: there is no body; the server fetches the directory from its sources.
    #[serde(default)]
    fetch: bool,
}

/// Where to go back to.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SiteRollbackInput {
    /// `sdp_…`; left out: the one before the current.
    deployment: Option<String>,
}

impl SiteDeployment {
    async fn of(state: &State, row: SiteDeploymentRow) -> Result<Self, Failure> {
        Ok(Self {
            held: HeldContent::of(state, std::iter::once(row.root_cid.as_str())).await?,
            id: row.id,
            site_id: row.site_id,
            number: row.number,
            cid: row.root_cid,
            files: row.files,
            bytes: row.bytes,
            author_id: row.author_id,
            created_at: row.created_at,
        })
    }
}

/// A site's deployments, newest first.
#[utoipa::path(get, path = "/v1/sites/{site}/deployments", operation_id = "site_deployment_list", tag = "sites",
    params(("site" = String, Path), Cursor), responses((status = 200, body = List<SiteDeployment>),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn list(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(site): Path<String>,
    Query(cursor): Query<Cursor>,
) -> Result<axum::Json<List<SiteDeployment>>, Failure> {
    let page = site_deployments::list(&state, &actor, &site, cursor.start()).await?;
    let shaped = page.items.into_iter().map(|row| SiteDeployment::of(&state, row));
    Ok(axum::Json(List { data: try_join_all(shaped).await?, next: page.next }))
}

/// Deploys a directory, sent as a CAR (version 1) with its UnixFS blocks, or fetched by the server.
#[utoipa::path(post, path = "/v1/sites/{site}/deployments", operation_id = "site_deployment_create", tag = "sites",
    params(("site" = String, Path), SiteClaim),
    request_body(content = Vec<u8>, content_type = "application/vnd.ipld.car"), responses(
    (status = 201, body = SiteDeployment), (status = 400, body = ProblemDocument),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument),
    (status = 409, body = ProblemDocument), (status = 413, body = ProblemDocument), (status = 422, body = ProblemDocument),
    (status = 503, body = ProblemDocument)))]
pub(super) async fn create(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(site): Path<String>,
    Query(claim): Query<SiteClaim>,
    body: Body,
) -> Result<(StatusCode, axum::Json<SiteDeployment>), Failure> {
    let root = match ContentId::parse(&claim.cid) {
        Ok(root) => root,
        Err(error) => return Err(upload::refuse(body, Error::invalid("invalid_cid", error)).await),
    };
    let work = {
        let state = state.clone();
        move |chunks| async move {
            let chunks = (!claim.fetch).then_some(chunks);
            Box::pin(site_deployments::create(&state, &actor, &site, root, chunks)).await
        }
    };
    let deployment = upload::receive(body, work).await?;
    Ok((StatusCode::CREATED, axum::Json(SiteDeployment::of(&state, deployment).await?)))
}

/// Makes an older deployment the current one; as quick and as atomic as a deploy.
#[utoipa::path(post, path = "/v1/sites/{site}/rollback", operation_id = "site_rollback", tag = "sites",
    params(("site" = String, Path)), request_body = SiteRollbackInput, responses(
    (status = 200, body = SiteDeployment), (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument),
    (status = 404, body = ProblemDocument), (status = 409, body = ProblemDocument)))]
pub(super) async fn rollback(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(site): Path<String>,
    Json(input): Json<SiteRollbackInput>,
) -> Result<axum::Json<SiteDeployment>, Failure> {
    let deployment = site_deployments::rollback(&state, &actor, &site, input.deployment.as_deref()).await?;
    Ok(axum::Json(SiteDeployment::of(&state, deployment).await?))
}
