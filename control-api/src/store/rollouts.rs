//! Gradual rollouts: the newest of each function.

use af_contract::Guard;

use super::sql::{self, Connection};
use super::{Store, StoreError};

/// A rollout.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct RolloutRow {
    /// `fn_…`
    pub function_id: String,
    /// `rol_…`
    pub id: String,
    /// The candidate.
    pub deployment_id: String,
    /// Of clients, 0 to 100.
    pub percent: i64,
    /// By what clients are known.
    pub sticky: String,
    /// Of a hundred requests to the candidate, so many more than to the active deployment may fail.
    pub max_errors: i64,
    /// Requests to the candidate before it is judged.
    pub min_requests: i64,
    /// `RUNNING`, `PROMOTED`, `ABORTED` or `ROLLED_BACK`.
    pub status: String,
    /// Why it ended, where that was not its end.
    pub reason: Option<String>,
    /// Milliseconds.
    pub created_at: i64,
    /// Milliseconds.
    pub updated_at: i64,
}

const SELECT: &str =
    "select function_id, id, deployment_id, percent, sticky, max_errors, min_requests, status, reason,
    created_at, updated_at from rollouts where function_id = $1";

impl Store {
    pub(crate) async fn rollout(&self, function: &str) -> Result<Option<RolloutRow>, StoreError> {
        Ok(sql::query_as(SELECT).bind(function).fetch_optional(&self.reader).await?)
    }
}

/// The function's newest rollout as the transaction sees it.
pub(crate) async fn read(db: &mut Connection, function: &str) -> Result<Option<RolloutRow>, StoreError> {
    Ok(sql::query_as(SELECT).bind(function).fetch_optional(db).await?)
}

/// Writes all of it, in place of the one before.
pub(crate) async fn put(db: &mut Connection, row: &RolloutRow) -> Result<(), StoreError> {
    let query = "insert into rollouts
        (function_id, id, deployment_id, percent, sticky, max_errors, min_requests, status, reason, created_at, updated_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        on conflict (function_id) do update set id = excluded.id, deployment_id = excluded.deployment_id,
            percent = excluded.percent, sticky = excluded.sticky,
            max_errors = excluded.max_errors, min_requests = excluded.min_requests, status = excluded.status,
            reason = excluded.reason, created_at = excluded.created_at, updated_at = excluded.updated_at";
    let put = sql::query(query).bind(&row.function_id).bind(&row.id).bind(&row.deployment_id);
    let put = put.bind(row.percent).bind(&row.sticky).bind(row.max_errors).bind(row.min_requests);
    let put = put.bind(&row.status).bind(&row.reason);
    put.bind(row.created_at).bind(row.updated_at).execute(db).await?;
    Ok(())
}

/// When an edge stops it.
pub(crate) fn guard(max_errors: i64, min_requests: i64) -> Result<Guard, StoreError> {
    let lost = |_| StoreError::Value { what: "number of requests", value: min_requests.to_string() };
    Ok(Guard { max_errors: percent(max_errors)?, min_requests: u32::try_from(min_requests).map_err(lost)? })
}

/// A stored percentage.
pub(crate) fn percent(percent: i64) -> Result<u8, StoreError> {
    let lost = |_| StoreError::Value { what: "percentage", value: percent.to_string() };
    u8::try_from(percent).map_err(lost)
}
