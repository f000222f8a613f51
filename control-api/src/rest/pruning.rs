//! `/v1/functions/{function}/prune`

use std::sync::Arc;

use axum::extract::State as Shared;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problem::{Failure, Json, Path, ProblemDocument};
use crate::app::State;
use crate::domain::pruning::{self, Keep};
use crate::domain::sweep::Mode;
use crate::domain::{Actor, Error};

/// Which deployments stay.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct PruneInput {
    /// So many of the newest; 1 or more. Left out: as the function's policy says, or its project's.
    #[schema(minimum = 1)]
    keep: Option<u32>,
    /// And all that are younger than this; only with `keep`.
    younger_than_seconds: Option<u64>,
    /// `true`: says what would go.
    #[serde(default)]
    dry_run: bool,
}

/// What went, or would.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct PrunedDeployments {
    /// Oldest first, at most 100; ask again until there are fewer.
    pruned: Vec<PrunedDeployment>,
    dry_run: bool,
}

/// A deployment that went, or would.
#[derive(Serialize, ToSchema)]
pub(super) struct PrunedDeployment {
    /// `dep_…`
    id: String,
    /// Within the function.
    number: i64,
}

/// Removes a function's old deployments; never the active one, the one before it, a candidate, or one that waits for an approval.
#[utoipa::path(post, path = "/v1/functions/{function}/prune", operation_id = "deployment_prune", tag = "deployments",
    params(("function" = String, Path)), request_body = PruneInput, responses(
    (status = 200, body = PrunedDeployments), (status = 400, body = ProblemDocument), (status = 401, body = ProblemDocument),
    (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn prune(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(function): Path<String>,
    Json(input): Json<PruneInput>,
) -> Result<axum::Json<PrunedDeployments>, Failure> {
    let PruneInput { keep, younger_than_seconds, dry_run } = input;
    let younger_than = younger_than_seconds.map(|seconds| seconds.saturating_mul(1_000));
    let mode = if dry_run { Mode::DryRun } else { Mode::Remove };
    let keep = match (keep, younger_than) {
        (Some(newest), younger_than) => Some(Keep { newest, younger_than }),
        (None, None) => None,
        (None, Some(_)) => {
            let detail =
                "say also how many of the newest stay (keep), or leave out both, for the function's policy";
            return Err(Error::invalid("invalid_keep", detail).into());
        }
    };
    let pruned = pruning::prune(&state, &actor, &function, keep, mode).await?;
    let pruned =
        pruned.into_iter().map(|gone| PrunedDeployment { id: gone.id, number: gone.number }).collect();
    Ok(axum::Json(PrunedDeployments { pruned, dry_run }))
}
