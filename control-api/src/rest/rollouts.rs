//! `/v1/functions/{function}/rollout` and `/v1/functions/{function}/promote`

use std::sync::Arc;

use af_contract::Sticky;
use axum::extract::State as Shared;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::deployments::Deployment;
use super::problem::{Failure, Json, Path, ProblemDocument};
use crate::app::State;
use crate::domain::rollouts::{self, Share};
use crate::domain::{Actor, Error};
use crate::store::RolloutRow;

/// A gradual rollout: a candidate answers some of a function's clients.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Rollout {
    /// `rol_…`
    id: String,
    function_id: String,
    /// The candidate.
    deployment_id: String,
    /// How many of a hundred clients get it, 0 to 100.
    percent: i64,
    /// By what clients are known: `address`, `header:NAME` or `cookie:NAME`.
    sticky: String,
    /// Of a hundred requests to the candidate, so many more than to the active deployment may fail within a minute; 100: it is never stopped.
    max_errors: i64,
    /// Requests to the candidate before it is judged.
    min_requests: i64,
    /// `RUNNING`, `PROMOTED`, `ABORTED` or `ROLLED_BACK`.
    status: String,
    /// Why it ended; null while it runs.
    reason: Option<String>,
    /// Milliseconds since 1970 UTC.
    created_at: i64,
    /// Milliseconds since 1970 UTC.
    updated_at: i64,
}

/// Which deployment is to be rolled out, and to whom.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RolloutInput {
    /// `dep_…`
    deployment: String,
    /// How many of a hundred clients get it. Raising it takes clients to the candidate and none away from it.
    #[schema(maximum = 100)]
    percent: u8,
    /// By what clients are known: `address` (their IPv4 address, or IPv6 network of 64 bits), `header:NAME` or
    /// `cookie:NAME`; who lacks that is known by address. Left out: as before, at first `address`.
    sticky: Option<String>,
    /// Of a hundred requests to the candidate, so many more than to the active deployment may fail within a minute before an edge stops
    /// the rollout; 100: it is never stopped. Left out: as before, at first 10.
    #[schema(maximum = 100)]
    max_errors: Option<u8>,
    /// Requests to the candidate before it is judged. Left out: as before, at first 20.
    min_requests: Option<u32>,
    /// Also where an edge has stopped the rollout of this deployment; it begins anew, with what it had. Left out: refused.
    #[serde(default)]
    again: bool,
}

/// What is to become active.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PromoteInput {
    /// `dep_…`; left out: the candidate.
    deployment: Option<String>,
}

impl From<RolloutRow> for Rollout {
    fn from(row: RolloutRow) -> Self {
        Self {
            id: row.id,
            function_id: row.function_id,
            deployment_id: row.deployment_id,
            percent: row.percent,
            sticky: row.sticky,
            max_errors: row.max_errors,
            min_requests: row.min_requests,
            status: row.status,
            reason: row.reason,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// The function's newest rollout, running or ended.
#[utoipa::path(get, path = "/v1/functions/{function}/rollout", operation_id = "rollout_get", tag = "deployments",
    params(("function" = String, Path)), responses((status = 200, body = Rollout),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn get(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(function): Path<String>,
) -> Result<axum::Json<Rollout>, Failure> {
    Ok(axum::Json(rollouts::get(&state, &actor, &function).await?.into()))
}

/// Begins to roll a deployment out, or changes how many clients get it.
#[utoipa::path(put, path = "/v1/functions/{function}/rollout", operation_id = "rollout_put", tag = "deployments",
    params(("function" = String, Path)), request_body = RolloutInput, responses(
    (status = 200, body = Rollout), (status = 400, body = ProblemDocument), (status = 401, body = ProblemDocument),
    (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument), (status = 409, body = ProblemDocument)))]
pub(super) async fn put(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(function): Path<String>,
    Json(input): Json<RolloutInput>,
) -> Result<axum::Json<Rollout>, Failure> {
    let share = Share {
        percent: input.percent,
        sticky: sticky(input.sticky.as_deref())?,
        max_errors: input.max_errors,
        min_requests: input.min_requests,
        again: input.again,
    };
    let rollout = rollouts::put(&state, &actor, &function, &input.deployment, share).await?;
    Ok(axum::Json(rollout.into()))
}

/// Ends the rollout: all clients get the active deployment again.
#[utoipa::path(delete, path = "/v1/functions/{function}/rollout", operation_id = "rollout_abort", tag = "deployments",
    params(("function" = String, Path)), responses((status = 200, body = Rollout),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument),
    (status = 409, body = ProblemDocument)))]
pub(super) async fn abort(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(function): Path<String>,
) -> Result<axum::Json<Rollout>, Failure> {
    Ok(axum::Json(rollouts::abort(&state, &actor, &function).await?.into()))
}

/// Makes a deployment the active one: the candidate, or any other.
#[utoipa::path(post, path = "/v1/functions/{function}/promote", operation_id = "deployment_promote",
    tag = "deployments",
    params(("function" = String, Path)), request_body = PromoteInput, responses(
    (status = 200, body = Deployment), (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument),
    (status = 404, body = ProblemDocument), (status = 409, body = ProblemDocument)))]
pub(super) async fn promote(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(function): Path<String>,
    Json(input): Json<PromoteInput>,
) -> Result<axum::Json<Deployment>, Failure> {
    let deployment = rollouts::promote(&state, &actor, &function, input.deployment.as_deref()).await?;
    Ok(axum::Json(Deployment::of(&state, deployment).await?))
}

/// As clients write it.
pub(super) fn sticky(text: Option<&str>) -> Result<Option<Sticky>, Error> {
    text.map(|text| text.parse().map_err(|error| Error::invalid("invalid_sticky", error))).transpose()
}
