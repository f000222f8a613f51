//! `/v1/organizations/{organization}/quotas` and `/v1/projects/{project}/quotas`: what there may be, and what there is.

use std::sync::Arc;

use axum::extract::State as Shared;
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::{Failure, Path, ProblemDocument};
use crate::app::State;
use crate::domain::Actor;
use crate::domain::quotas::{self, Terms};

/// A plan, and what counts where it does.
#[derive(Serialize, ToSchema)]
pub(super) struct Quotas {
    /// The organization's; null: what the server says to all counts.
    plan: Option<QuotaPlan>,
    quotas: Vec<Quota>,
}

/// Which plan.
#[derive(Serialize, ToSchema)]
pub(super) struct QuotaPlan {
    /// `plan_…`
    id: String,
    name: String,
}

/// How many there may be, and how many there are.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Quota {
    /// As plans call it, such as `functions`.
    name: &'static str,
    /// For each `organization`, `project` or `function`.
    per: &'static str,
    /// Null: any number.
    limit: Option<i64>,
    /// Whether the plan says so, and not the server to all.
    by_plan: bool,
    /// Null where it counts for each of several; ask those. Of requests, `RateLimit` says what is left.
    used: Option<i64>,
}

fn shape((terms, all): (Terms, Vec<quotas::Quota>)) -> axum::Json<Quotas> {
    let shown = |quota: quotas::Quota| Quota {
        name: quota.limit.name(),
        per: quota.limit.per(),
        limit: quota.most,
        by_plan: quota.by_plan,
        used: quota.used,
    };
    let plan = terms.plan.map(|plan| QuotaPlan { id: plan.id, name: plan.name });
    axum::Json(Quotas { plan, quotas: all.into_iter().map(shown).collect() })
}

/// An organization's plan, its limits, and what is used of those that are its own.
#[utoipa::path(get, path = "/v1/organizations/{organization}/quotas", operation_id = "organization_quota_list",
    tag = "organizations",
    params(("organization" = String, Path)), responses((status = 200, body = Quotas), (status = 401, body = ProblemDocument),
    (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn of_organization(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(organization): Path<String>,
) -> Result<axum::Json<Quotas>, Failure> {
    Ok(shape(quotas::of_organization(&state, &actor, &organization).await?))
}

/// The plan of a project's organization, the limits of the project, and what is used of them.
#[utoipa::path(get, path = "/v1/projects/{project}/quotas", operation_id = "project_quota_list", tag = "projects",
    params(("project" = String, Path)), responses((status = 200, body = Quotas), (status = 401, body = ProblemDocument),
    (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn of_project(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(project): Path<String>,
) -> Result<axum::Json<Quotas>, Failure> {
    Ok(shape(quotas::of_project(&state, &actor, &project).await?))
}
