//! What edges say of deployments.

use super::sql::{self, Connection};
use super::{Store, StoreError};

/// What a deployment `d` of a function `f` is doing, beside a rollout `r` of it that is running, if there is one: what the edges
/// report, where they are to answer by it.
macro_rules! status {
    () => {
        "case when f.status = 'INACTIVE' or (f.current_deployment_id is distinct from d.id and r.id is null) then 'INACTIVE'
        else coalesce(nullif(d.reported, 'READY'), 'ACTIVE') end"
    };
}
pub(super) use status;

/// Why an edge cannot use a deployment `d`, where one is to: as for [`status`].
macro_rules! reason {
    () => {
        "case when f.status = 'INACTIVE' or (f.current_deployment_id is distinct from d.id and r.id is null) then null
        else d.report_reason end"
    };
}
pub(super) use reason;

/// The rollout that [`status`] needs.
macro_rules! rollout {
    () => {
        "left join rollouts r on r.function_id = d.function_id and r.deployment_id = d.id and r.status = 'RUNNING'"
    };
}
pub(super) use rollout;

/// What is known of a deployment at edges.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct ReportedRow {
    /// `DEPLOYING`, `READY` or `FAILED`; none: it was never asked. `DEPLOYING` with a reason: an edge goes on trying.
    pub reported: Option<String>,
    /// Why an edge cannot use it.
    pub report_reason: Option<String>,
    /// Which edge that is.
    pub report_edge: Option<String>,
}

impl Store {
    pub(crate) async fn reported(&self, deployment: &str) -> Result<Option<ReportedRow>, StoreError> {
        let query = "select reported, report_reason, report_edge from deployments where id = $1";
        Ok(sql::query_as(query).bind(deployment).fetch_optional(&self.reader).await?)
    }

    /// Functions and what they run or roll out, which no edge can use yet as far as is known, in the order of the deployments.
    pub(crate) async fn awaited(&self, after: &str, limit: i64) -> Result<Vec<(String, String)>, StoreError> {
        let query = concat!(
            "select f.id, d.id from deployments d join functions f on f.id = d.function_id ",
            rollout!(),
            " where d.reported = 'DEPLOYING' and (f.current_deployment_id = d.id or r.id is not null)
            and f.status = 'ACTIVE' and d.id > $1 order by d.id limit $2"
        );
        Ok(sql::query_as(query).bind(after).bind(limit).fetch_all(&self.reader).await?)
    }
}

/// As the transaction sees it.
pub(crate) async fn read(db: &mut Connection, deployment: &str) -> Result<Option<ReportedRow>, StoreError> {
    let query = "select reported, report_reason, report_edge from deployments where id = $1";
    Ok(sql::query_as(query).bind(deployment).fetch_optional(db).await?)
}

pub(crate) async fn put(db: &mut Connection, deployment: &str, row: &ReportedRow) -> Result<(), StoreError> {
    let query = "update deployments set reported = $2, report_reason = $3, report_edge = $4 where id = $1";
    let update = sql::query(query).bind(deployment).bind(&row.reported).bind(&row.report_reason);
    update.bind(&row.report_edge).execute(db).await?;
    Ok(())
}

/// Nobody waits any more for those of a function that no edge has reported on.
pub(crate) async fn forget_awaited(db: &mut Connection, function: &str) -> Result<(), StoreError> {
    let query = "update deployments set reported = null where function_id = $1 and reported = 'DEPLOYING'";
    sql::query(query).bind(function).execute(db).await?;
    Ok(())
}

/// Edges are told of a deployment now: what they said of it before counts no more.
pub(crate) async fn expect(db: &mut Connection, deployment: &str) -> Result<(), StoreError> {
    let query = "update deployments set reported = 'DEPLOYING', report_reason = null, report_edge = null
        where id = $1";
    sql::query(query).bind(deployment).execute(db).await?;
    Ok(())
}

/// An edge is no more: what it could not use, others may.
pub(crate) async fn forget_edge(db: &mut Connection, edge: &str) -> Result<(), StoreError> {
    let query = "update deployments set report_reason = null, report_edge = null,
        reported = case when reported = 'FAILED' then 'DEPLOYING' else reported end where report_edge = $1";
    sql::query(query).bind(edge).execute(db).await?;
    Ok(())
}
