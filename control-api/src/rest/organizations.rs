//! `/v1/organizations`

use std::sync::Arc;

use axum::extract::State as Shared;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::etag::Tagged;
use super::problem::{Failure, Json, Path, ProblemDocument, Query};
use super::{Cursor, List};
use crate::app::State;
use crate::domain::{Actor, organizations};
use crate::store::OrganizationRow;

/// An organization: who owns projects.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Organization {
    /// `org_…`
    id: String,
    name: String,
    /// Its plan's name; null: what the server says to all counts.
    plan: Option<String>,
    /// Milliseconds since 1970 UTC.
    created_at: i64,
    /// Milliseconds since 1970 UTC.
    updated_at: i64,
}

/// An organization's name.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OrganizationInput {
    /// 1 to 60 characters.
    name: String,
}

impl From<OrganizationRow> for Organization {
    fn from(row: OrganizationRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            plan: row.plan,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// Your organizations, oldest first.
#[utoipa::path(get, path = "/v1/organizations", operation_id = "organization_list",
    tag = "organizations", params(Cursor), responses(
    (status = 200, body = List<Organization>), (status = 401, body = ProblemDocument),
    (status = 403, body = ProblemDocument)))]
pub(super) async fn list(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Query(cursor): Query<Cursor>,
) -> Result<axum::Json<List<Organization>>, Failure> {
    let page = organizations::list(&state, &actor, cursor.start()).await?;
    Ok(List::of(page, Organization::from))
}

/// Makes an organization with you as its owner.
#[utoipa::path(post, path = "/v1/organizations", operation_id = "organization_create",
    tag = "organizations", request_body = OrganizationInput,
    responses((status = 201, body = Organization), (status = 400, body = ProblemDocument),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument),
    (status = 409, body = ProblemDocument)))]
pub(super) async fn create(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Json(input): Json<OrganizationInput>,
) -> Result<(StatusCode, Tagged<Organization>), Failure> {
    let organization = organizations::create(&state, &actor, &input.name).await?;
    Ok((StatusCode::CREATED, Tagged::of(organization, Organization::from)))
}

/// One organization.
#[utoipa::path(get, path = "/v1/organizations/{organization}", operation_id = "organization_get", tag = "organizations",
    params(("organization" = String, Path)), responses((status = 200, body = Organization),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument),
    (status = 404, body = ProblemDocument)))]
pub(super) async fn get(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<Tagged<Organization>, Failure> {
    Ok(Tagged::of(organizations::get(&state, &actor, &id).await?, Organization::from))
}

/// Renames an organization.
#[utoipa::path(patch, path = "/v1/organizations/{organization}", operation_id = "organization_update",
    tag = "organizations",
    request_body = OrganizationInput, params(("organization" = String, Path)),
    responses((status = 200, body = Organization), (status = 400, body = ProblemDocument),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument),
    (status = 404, body = ProblemDocument)))]
pub(super) async fn rename(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(id): Path<String>,
    Json(input): Json<OrganizationInput>,
) -> Result<Tagged<Organization>, Failure> {
    Ok(Tagged::of(organizations::rename(&state, &actor, &id, &input.name).await?, Organization::from))
}

/// Deletes an organization that has no projects.
#[utoipa::path(delete, path = "/v1/organizations/{organization}", operation_id = "organization_delete",
    tag = "organizations",
    params(("organization" = String, Path)), responses((status = 204), (status = 401, body = ProblemDocument),
    (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument),
    (status = 409, body = ProblemDocument)))]
pub(super) async fn delete(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<StatusCode, Failure> {
    organizations::delete(&state, &actor, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
