//! `/v1/projects/{project}/sites` and `/v1/sites`

use std::sync::Arc;

use axum::extract::State as Shared;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::etag::Tagged;
use super::problem::{Failure, Json, Path, ProblemDocument, Query};
use super::{Deleted, List};
use crate::app::State;
use crate::domain::sites::{self, Change, NewSite};
use crate::domain::{Actor, Start};
use crate::store::SiteRow;

/// A directory of files that is served as it is.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Site {
    /// `site_…`
    id: String,
    project_id: String,
    name: String,
    /// The first label of its host name.
    slug: String,
    /// Where it answers.
    url: String,
    /// What is served; null before the first deploy.
    current_deployment_id: Option<String>,
    /// CID of its directory; null before the first deploy.
    cid: Option<String>,
    /// Milliseconds since 1970 UTC.
    created_at: i64,
    /// Milliseconds since 1970 UTC.
    updated_at: i64,
}

/// What a new site is made of.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SiteInput {
    /// 3 to 30 letters, digits and dashes; unique in the project.
    name: String,
    /// Made of the name when it is left out; unique on the platform, functions' slugs included.
    slug: Option<String>,
}

/// What is to change; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SiteChange {
    name: Option<String>,
    slug: Option<String>,
}

/// Which sites.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct SiteFilter {
    /// Only the one with this name.
    name: Option<String>,
    /// `next` of the page before.
    after: Option<String>,
    /// Items of the page; left out: 100.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
}

impl SiteFilter {
    fn start(&self) -> Start<'_> {
        super::start(self.after.as_deref(), self.limit)
    }
}

impl Site {
    fn of(state: &State, row: SiteRow) -> Self {
        Self {
            url: state.invoke_url(&row.slug),
            id: row.id,
            project_id: row.project_id,
            name: row.name,
            slug: row.slug,
            current_deployment_id: row.current_deployment_id,
            cid: row.root_cid,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// A project's sites, oldest first.
#[utoipa::path(get, path = "/v1/projects/{project}/sites", operation_id = "site_list", tag = "sites",
    params(("project" = String, Path), SiteFilter), responses((status = 200, body = List<Site>),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn list(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(project): Path<String>,
    Query(filter): Query<SiteFilter>,
) -> Result<axum::Json<List<Site>>, Failure> {
    let page = sites::list(&state, &actor, &project, filter.name.as_deref(), filter.start()).await?;
    Ok(List::of(page, |row| Site::of(&state, row)))
}

/// Makes a site. It answers once it has a deployment.
#[utoipa::path(post, path = "/v1/projects/{project}/sites", operation_id = "site_create", tag = "sites",
    params(("project" = String, Path)), request_body = SiteInput, responses(
    (status = 201, body = Site), (status = 400, body = ProblemDocument),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument),
    (status = 409, body = ProblemDocument)))]
pub(super) async fn create(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(project): Path<String>,
    Json(input): Json<SiteInput>,
) -> Result<(StatusCode, Tagged<Site>), Failure> {
    let new = NewSite { name: input.name, slug: input.slug };
    let site = sites::create(&state, &actor, &project, &new).await?;
    Ok((StatusCode::CREATED, Tagged::of(site, |row| Site::of(&state, row))))
}

/// One site.
#[utoipa::path(get, path = "/v1/sites/{site}", operation_id = "site_get", tag = "sites",
    params(("site" = String, Path)), responses((status = 200, body = Site),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn get(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<Tagged<Site>, Failure> {
    let site = sites::get(&state, &actor, &id).await?;
    Ok(Tagged::of(site, |row| Site::of(&state, row)))
}

/// Changes a site's name or slug.
#[utoipa::path(patch, path = "/v1/sites/{site}", operation_id = "site_update", tag = "sites",
    params(("site" = String, Path)), request_body = SiteChange, responses(
    (status = 200, body = Site), (status = 400, body = ProblemDocument),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument),
    (status = 409, body = ProblemDocument)))]
pub(super) async fn update(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(id): Path<String>,
    Json(input): Json<SiteChange>,
) -> Result<Tagged<Site>, Failure> {
    let change = Change { name: input.name, slug: input.slug };
    let site = sites::update(&state, &actor, &id, &change).await?;
    Ok(Tagged::of(site, |row| Site::of(&state, row)))
}

/// Deletes a site, its deployments and its domains.
#[utoipa::path(delete, path = "/v1/sites/{site}", operation_id = "site_delete", tag = "sites",
    params(("site" = String, Path)), responses((status = 200, body = Deleted),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn delete(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<axum::Json<Deleted>, Failure> {
    let domains = sites::delete(&state, &actor, &id).await?;
    Ok(axum::Json(Deleted { deleted: id, domains }))
}
