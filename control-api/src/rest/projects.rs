//! `/v1/projects`

use std::sync::Arc;

use axum::extract::State as Shared;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::etag::Tagged;
use super::problem::{Failure, Json, Path, ProblemDocument, Query};
use super::{Cursor, List};
use crate::app::State;
use crate::domain::{Actor, project_keys, projects};
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

/// A project's new name.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ProjectChange {
    /// 1 to 60 characters.
    name: String,
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
        let ProjectRow { id, organization_id, name, created_at, updated_at } = row;
        Self { id, organization_id, name, created_at, updated_at }
    }
}

/// Your projects, oldest first.
#[utoipa::path(get, path = "/v1/projects", tag = "projects", params(Cursor), responses(
    (status = 200, body = List<Project>), (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument)))]
pub(super) async fn list(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Query(cursor): Query<Cursor>,
) -> Result<axum::Json<List<Project>>, Failure> {
    let page = projects::list(&state, &actor, &cursor.after.unwrap_or_default()).await?;
    Ok(List::of(page, Project::from))
}

/// Makes a project of an organization of yours.
#[utoipa::path(post, path = "/v1/projects", tag = "projects", request_body = ProjectInput, responses(
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
#[utoipa::path(get, path = "/v1/projects/{project}", tag = "projects", params(("project" = String, Path)),
    responses((status = 200, body = Project), (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument),
    (status = 404, body = ProblemDocument)))]
pub(super) async fn get(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<Tagged<Project>, Failure> {
    Ok(Tagged::of(projects::get(&state, &actor, &id).await?, Project::from))
}

/// Renames a project.
#[utoipa::path(patch, path = "/v1/projects/{project}", tag = "projects", request_body = ProjectChange,
    params(("project" = String, Path)), responses((status = 200, body = Project),
    (status = 400, body = ProblemDocument), (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument),
    (status = 404, body = ProblemDocument)))]
pub(super) async fn rename(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(id): Path<String>,
    Json(input): Json<ProjectChange>,
) -> Result<Tagged<Project>, Failure> {
    Ok(Tagged::of(projects::rename(&state, &actor, &id, &input.name).await?, Project::from))
}

/// Deletes a project that has no functions.
#[utoipa::path(delete, path = "/v1/projects/{project}", tag = "projects",
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
#[utoipa::path(post, path = "/v1/projects/{project}/rotate-content-key", tag = "projects",
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
