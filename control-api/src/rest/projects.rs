//! `/v1/projects`

use std::sync::Arc;

use axum::extract::State as Shared;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::etag::Tagged;
use super::functions::given;
use super::problem::{Failure, Json, Path, ProblemDocument, Query};
use super::{Cursor, List};
use crate::app::State;
use crate::domain::projects::{self, Change};
use crate::domain::pruning::KeepChange;
use crate::domain::{Actor, project_keys};
use crate::store::ProjectRow;

/// A project: who owns functions.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Project {
    /// `prj_…`
    id: String,
    /// `org_…`: whose it is.
    organization_id: Option<String>,
    name: String,
    /// Deployments that stay, of the newest; null: 100, for functions that say nothing themselves.
    keep: Option<i64>,
    /// How old other deployments stay; null: no longer than that.
    keep_for_seconds: Option<i64>,
    /// Milliseconds since 1970 UTC.
    created_at: i64,
    /// Milliseconds since 1970 UTC.
    updated_at: i64,
}

/// What a new project is made of.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ProjectInput {
    /// 1 to 60 characters.
    name: String,
    /// Whose it is to be (`org_…`); your own organization's when left out.
    organization_id: Option<String>,
}

/// What is to change; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ProjectChange {
    /// 1 to 60 characters.
    name: Option<String>,
    /// How many of the newest deployments stay, 1 to 1000; null: 100, for functions that say nothing themselves.
    #[serde(default, deserialize_with = "given")]
    #[schema(minimum = 1, maximum = 1_000)]
    keep: Option<Option<u32>>,
    /// How old other deployments stay, ten years at most; null: no longer than that.
    #[serde(default, deserialize_with = "given")]
    #[schema(maximum = 315_360_000)]
    keep_for_seconds: Option<Option<u64>>,
}

/// What became of a project's key.
#[derive(Serialize, ToSchema)]
pub(super) struct Rotated {
    /// Keys of private deployments that are sealed with the new one.
    deployments: u64,
    /// Keys of private pins that are.
    pins: u64,
}

impl From<ProjectRow> for Project {
    fn from(row: ProjectRow) -> Self {
        Self {
            id: row.id,
            organization_id: row.organization_id,
            name: row.name,
            keep: row.keep_newest,
            keep_for_seconds: row.keep_for_seconds,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// Your projects, oldest first.
#[utoipa::path(get, path = "/v1/projects", operation_id = "project_list", tag = "projects", params(Cursor), responses(
    (status = 200, body = List<Project>), (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument)))]
pub(super) async fn list(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Query(cursor): Query<Cursor>,
) -> Result<axum::Json<List<Project>>, Failure> {
    let page = projects::list(&state, &actor, cursor.start()).await?;
    Ok(List::of(page, Project::from))
}

/// Makes a project of an organization of yours.
#[utoipa::path(post, path = "/v1/projects", operation_id = "project_create",
    tag = "projects", request_body = ProjectInput, responses(
    (status = 201, body = Project), (status = 400, body = ProblemDocument),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument),
    (status = 409, body = ProblemDocument)))]
pub(super) async fn create(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Json(input): Json<ProjectInput>,
) -> Result<(StatusCode, Tagged<Project>), Failure> {
    let project = projects::create(&state, &actor, input.organization_id.as_deref(), &input.name).await?;
    Ok((StatusCode::CREATED, Tagged::of(project, Project::from)))
}

/// One project.
#[utoipa::path(get, path = "/v1/projects/{project}", operation_id = "project_get",
    tag = "projects", params(("project" = String, Path)),
    responses((status = 200, body = Project), (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument),
    (status = 404, body = ProblemDocument)))]
pub(super) async fn get(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<Tagged<Project>, Failure> {
    Ok(Tagged::of(projects::get(&state, &actor, &id).await?, Project::from))
}

/// Changes a project's name, and which deployments its functions keep.
#[utoipa::path(patch, path = "/v1/projects/{project}", operation_id = "project_update",
    tag = "projects", request_body = ProjectChange,
    params(("project" = String, Path)), responses((status = 200, body = Project),
    (status = 400, body = ProblemDocument), (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument),
    (status = 404, body = ProblemDocument)))]
pub(super) async fn update(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(id): Path<String>,
    Json(input): Json<ProjectChange>,
) -> Result<Tagged<Project>, Failure> {
    let keep = KeepChange { newest: input.keep, seconds: input.keep_for_seconds };
    let change = Change { name: input.name, keep };
    Ok(Tagged::of(projects::update(&state, &actor, &id, change).await?, Project::from))
}

/// Deletes a project that has no functions.
#[utoipa::path(delete, path = "/v1/projects/{project}", operation_id = "project_delete", tag = "projects",
    params(("project" = String, Path)), responses((status = 204), (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument),
    (status = 404, body = ProblemDocument), (status = 409, body = ProblemDocument)))]
pub(super) async fn delete(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<StatusCode, Failure> {
    projects::delete(&state, &actor, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes a new key for the project and seals the keys of its private deployments and pins with it. Their content, and how they
/// answer, stays as it is.
#[utoipa::path(post, path = "/v1/projects/{project}/rotate-content-key", operation_id = "content_key_rotate",
    tag = "projects",
    params(("project" = String, Path)), responses((status = 200, body = Rotated),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument),
    (status = 409, body = ProblemDocument)))]
pub(super) async fn rotate_content_key(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<axum::Json<Rotated>, Failure> {
    let rotated = project_keys::rotate(&state, &actor, &id).await?;
    Ok(axum::Json(Rotated { deployments: rotated.deployments, pins: rotated.pins }))
}
