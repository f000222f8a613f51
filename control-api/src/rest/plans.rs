//! `/v1/plans`, and `/v1/organizations/{organization}/plan`: what organizations may have and ask. For the operator.

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
use crate::domain::Actor;
use crate::domain::plans::{self, Change, Limit};
use crate::store::{PlanLimits, PlanRow};

/// What organizations that have it may have and ask.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Plan {
    /// `plan_…`
    id: String,
    name: String,
    limits: Limits,
    /// How many organizations have it.
    organizations: i64,
    /// Milliseconds since 1970 UTC.
    created_at: i64,
    /// Milliseconds since 1970 UTC.
    updated_at: i64,
}

/// What a plan says; null: what the server says to all.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = PlanLimits)]
pub(super) struct Limits {
    /// Of an organization.
    projects: Option<i64>,
    /// Of an organization and its projects, each once.
    members: Option<i64>,
    /// About an organization and what it has, of all its members and keys.
    requests_per_minute: Option<i64>,
    /// Of a project.
    functions: Option<i64>,
    /// Of a project.
    sites: Option<i64>,
    /// Of a project.
    domains: Option<i64>,
    /// Of all functions of a project.
    project_deployments: Option<i64>,
    /// Of all pins of a project.
    storage_bytes: Option<i64>,
    /// Of a project.
    pins: Option<i64>,
    /// Of a function.
    function_deployments: Option<i64>,
}

/// A new plan.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PlanInput {
    /// 1 to 64 letters, digits, dots, dashes and underscores; unique.
    name: String,
    #[serde(default)]
    limits: LimitsInput,
}

/// What is to change; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PlanChange {
    /// 1 to 64 letters, digits, dots, dashes and underscores; unique.
    name: Option<String>,
    #[serde(default)]
    limits: LimitsInput,
}

/// What a plan is to say; null: what the server says to all. What is left out stays as it is.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[schema(as = PlanLimitsInput)]
pub(super) struct LimitsInput {
    #[serde(deserialize_with = "given")]
    #[schema(maximum = 1_000_000_000)]
    projects: Option<Option<u64>>,
    #[serde(deserialize_with = "given")]
    #[schema(maximum = 1_000_000_000)]
    members: Option<Option<u64>>,
    #[serde(deserialize_with = "given")]
    #[schema(minimum = 1, maximum = 60_000_000)]
    requests_per_minute: Option<Option<u64>>,
    #[serde(deserialize_with = "given")]
    #[schema(maximum = 1_000_000_000)]
    functions: Option<Option<u64>>,
    #[serde(deserialize_with = "given")]
    #[schema(maximum = 1_000_000_000)]
    sites: Option<Option<u64>>,
    #[serde(deserialize_with = "given")]
    #[schema(maximum = 1_000_000_000)]
    domains: Option<Option<u64>>,
    #[serde(deserialize_with = "given")]
    #[schema(minimum = 3, maximum = 1_000_000_000)]
    project_deployments: Option<Option<u64>>,
    #[serde(deserialize_with = "given")]
    #[schema(maximum = 9_007_199_254_740_991_u64)]
    storage_bytes: Option<Option<u64>>,
    #[serde(deserialize_with = "given")]
    #[schema(maximum = 1_000_000_000)]
    pins: Option<Option<u64>>,
    #[serde(deserialize_with = "given")]
    #[schema(minimum = 3, maximum = 1_000_000_000)]
    function_deployments: Option<Option<u64>>,
}

/// Which plan.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct PlanAssignment {
    /// `plan_…`
    plan_id: String,
}

impl From<PlanRow> for Plan {
    fn from(row: PlanRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            limits: row.limits.into(),
            organizations: row.organizations,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

impl From<PlanLimits> for Limits {
    fn from(limits: PlanLimits) -> Self {
        Self {
            projects: limits.projects,
            members: limits.members,
            requests_per_minute: limits.requests_per_minute,
            functions: limits.functions,
            sites: limits.sites,
            domains: limits.domains,
            project_deployments: limits.project_deployments,
            storage_bytes: limits.storage_bytes,
            pins: limits.pins,
            function_deployments: limits.function_deployments,
        }
    }
}

impl LimitsInput {
    fn change(self) -> Vec<(Limit, Option<u64>)> {
        let all = [
            (Limit::Projects, self.projects),
            (Limit::Members, self.members),
            (Limit::RequestsPerMinute, self.requests_per_minute),
            (Limit::Functions, self.functions),
            (Limit::Sites, self.sites),
            (Limit::Domains, self.domains),
            (Limit::ProjectDeployments, self.project_deployments),
            (Limit::StorageBytes, self.storage_bytes),
            (Limit::Pins, self.pins),
            (Limit::FunctionDeployments, self.function_deployments),
        ];
        all.into_iter().filter_map(|(limit, value)| Some((limit, value?))).collect()
    }
}

/// All plans, by name. For the operator: the user that the first start made.
#[utoipa::path(get, path = "/v1/plans", operation_id = "plan_list",
    tag = "plans", params(Cursor), responses((status = 200, body = List<Plan>),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn list(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Query(cursor): Query<Cursor>,
) -> Result<axum::Json<List<Plan>>, Failure> {
    let page = plans::list(&state, &actor, cursor.start()).await?;
    Ok(List::of(page, Plan::from))
}

/// Makes a plan. For the operator.
#[utoipa::path(post, path = "/v1/plans", operation_id = "plan_create",
    tag = "plans", request_body = PlanInput, responses(
    (status = 201, body = Plan), (status = 400, body = ProblemDocument), (status = 401, body = ProblemDocument),
    (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument), (status = 409, body = ProblemDocument)))]
pub(super) async fn create(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Json(input): Json<PlanInput>,
) -> Result<(StatusCode, Tagged<Plan>), Failure> {
    let change = Change { name: Some(input.name), limits: input.limits.change() };
    let plan = plans::create(&state, &actor, change).await?;
    Ok((StatusCode::CREATED, Tagged::of(plan, Plan::from)))
}

/// One plan. For the operator.
#[utoipa::path(get, path = "/v1/plans/{plan}", operation_id = "plan_get",
    tag = "plans", params(("plan" = String, Path)), responses(
    (status = 200, body = Plan), (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument),
    (status = 404, body = ProblemDocument)))]
pub(super) async fn get(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(plan): Path<String>,
) -> Result<Tagged<Plan>, Failure> {
    Ok(Tagged::of(plans::get(&state, &actor, &plan).await?, Plan::from))
}

/// Changes a plan, for all organizations that have it; nothing that they have is taken away. For the operator.
#[utoipa::path(patch, path = "/v1/plans/{plan}", operation_id = "plan_update",
    tag = "plans", params(("plan" = String, Path)), request_body = PlanChange,
    responses((status = 200, body = Plan), (status = 400, body = ProblemDocument), (status = 401, body = ProblemDocument),
    (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument), (status = 409, body = ProblemDocument)))]
pub(super) async fn update(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(plan): Path<String>,
    Json(input): Json<PlanChange>,
) -> Result<Tagged<Plan>, Failure> {
    let change = Change { name: input.name, limits: input.limits.change() };
    Ok(Tagged::of(plans::update(&state, &actor, &plan, change).await?, Plan::from))
}

/// Removes a plan that no organization has. For the operator.
#[utoipa::path(delete, path = "/v1/plans/{plan}", operation_id = "plan_delete",
    tag = "plans", params(("plan" = String, Path)), responses(
    (status = 204), (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument),
    (status = 404, body = ProblemDocument), (status = 409, body = ProblemDocument)))]
pub(super) async fn delete(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(plan): Path<String>,
) -> Result<StatusCode, Failure> {
    plans::delete(&state, &actor, &plan).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Gives an organization a plan; nothing that it has is taken away. For the operator.
#[utoipa::path(put, path = "/v1/organizations/{organization}/plan", operation_id = "plan_assign",
    tag = "plans", request_body = PlanAssignment,
    params(("organization" = String, Path)), responses((status = 204), (status = 400, body = ProblemDocument),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn assign(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(organization): Path<String>,
    Json(input): Json<PlanAssignment>,
) -> Result<StatusCode, Failure> {
    plans::assign(&state, &actor, &organization, Some(&input.plan_id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes an organization's plan, so that what the server says to all counts. For the operator.
#[utoipa::path(delete, path = "/v1/organizations/{organization}/plan", operation_id = "plan_unassign", tag = "plans",
    params(("organization" = String, Path)), responses((status = 204), (status = 401, body = ProblemDocument),
    (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn unassign(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(organization): Path<String>,
) -> Result<StatusCode, Failure> {
    plans::assign(&state, &actor, &organization, None).await?;
    Ok(StatusCode::NO_CONTENT)
}
