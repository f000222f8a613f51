//! `/v1/functions/{function}/triggers`

use std::sync::Arc;

use af_contract::Trigger;
use axum::extract::State as Shared;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problem::{Failure, Json, Path, ProblemDocument};
use crate::app::State;
use crate::domain::{Actor, triggers};
use crate::store::triggers::{RunRow, ScheduledRow};

/// When a deployment's function is called without a request, and where.
#[derive(Serialize, ToSchema)]
#[schema(as = Trigger)]
pub(super) struct TriggerDocument {
    /// Five fields in UTC, or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`.
    cron: String,
    /// The path, with an optional query.
    path: String,
}

/// A function's schedule, and how its newest runs went.
#[derive(Serialize, ToSchema)]
pub(super) struct Schedule {
    /// Of what it runs now; empty while it is switched off.
    triggers: Vec<Scheduled>,
    /// Newest first, at most 100.
    runs: Vec<Run>,
}

/// A trigger and its next time.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Scheduled {
    cron: String,
    path: String,
    /// Milliseconds since 1970 UTC; null: no moment is left.
    next_run_at: Option<i64>,
}

/// What became of a tick.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Run {
    /// `run_…`
    id: String,
    deployment_id: String,
    cron: String,
    path: String,
    /// The moment that it was for, milliseconds since 1970 UTC.
    scheduled_at: i64,
    /// Milliseconds since 1970 UTC.
    started_at: i64,
    /// Null while it runs, and when it did not.
    duration_ms: Option<i64>,
    /// `running`; `succeeded`; `failed`: the function failed or answered with a status of 500 or more; `skipped`:
    /// the run before was still going, or the time had passed; `interrupted`: the platform stopped.
    outcome: String,
    /// Of the function's response.
    status: Option<i64>,
    /// Why it did not succeed.
    error: Option<String>,
}

/// What to run.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RunInput {
    /// The path of one of the function's triggers; left out: its only one.
    path: Option<String>,
}

impl From<Trigger> for TriggerDocument {
    fn from(trigger: Trigger) -> Self {
        Self { cron: trigger.cron.into(), path: trigger.path.into() }
    }
}

impl From<ScheduledRow> for Scheduled {
    fn from(row: ScheduledRow) -> Self {
        Self { cron: row.cron, path: row.path, next_run_at: row.next_at }
    }
}

impl From<RunRow> for Run {
    fn from(row: RunRow) -> Self {
        Self {
            id: row.id,
            deployment_id: row.deployment_id,
            cron: row.cron,
            path: row.path,
            scheduled_at: row.scheduled_at,
            started_at: row.started_at,
            duration_ms: row.duration_ms,
            outcome: row.outcome,
            status: row.status,
            error: row.error,
        }
    }
}

/// A function's triggers, when they run next, and how their newest runs went.
#[utoipa::path(get, path = "/v1/functions/{function}/triggers", operation_id = "trigger_list", tag = "triggers",
    params(("function" = String, Path)), responses((status = 200, body = Schedule),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn get(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(function): Path<String>,
) -> Result<axum::Json<Schedule>, Failure> {
    let triggers::Schedule { triggers, runs } = triggers::get(&state, &actor, &function).await?;
    let triggers = triggers.into_iter().map(Scheduled::from).collect();
    Ok(axum::Json(Schedule { triggers, runs: runs.into_iter().map(Run::from).collect() }))
}

/// Runs a trigger now, and answers when the function has.
#[utoipa::path(post, path = "/v1/functions/{function}/triggers/run", operation_id = "trigger_run", tag = "triggers",
    params(("function" = String, Path)), request_body = RunInput, responses((status = 200, body = Run),
    (status = 400, body = ProblemDocument), (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument),
    (status = 404, body = ProblemDocument), (status = 409, body = ProblemDocument)))]
pub(super) async fn run(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(function): Path<String>,
    Json(input): Json<RunInput>,
) -> Result<axum::Json<Run>, Failure> {
    let run = triggers::run(&state, &actor, &function, input.path.as_deref()).await?;
    Ok(axum::Json(run.into()))
}
