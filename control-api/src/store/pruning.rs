//! Deployments that may go: all but the newest, and those that a function needs.

use super::sql::{self, Connection};
use super::{Store, StoreError, deployments};

impl Store {
    /// Functions with more deployments than they keep of the newest, in the order of ids. `default`: where neither they nor their
    /// project say how many.
    pub(crate) async fn crowded(
        &self,
        default: i64,
        after: &str,
        limit: i64,
    ) -> Result<Vec<String>, StoreError> {
        let query = "select f.id from functions f join projects p on p.id = f.project_id
            where f.id > $2 and (select count(*) from deployments d where d.function_id = f.id)
                > coalesce(f.keep_newest, p.keep_newest, $1)
            order by f.id limit $3";
        Ok(sql::query_scalar(query).bind(default).bind(after).bind(limit).fetch_all(&self.reader).await?)
    }
}

/// Ids and numbers of a function's deployments beyond the newest `keep`, at least one, that were made before `cutoff`, oldest first. Not the active
/// one, the one that a rollback leads to, the one that is being rolled out, nor any that waits for an approval.
pub(crate) async fn prunable(
    db: &mut Connection,
    function: &str,
    keep: i64,
    cutoff: i64,
    limit: i64,
) -> Result<Vec<(String, i64)>, StoreError> {
    let query = format!(
        "select d.id, d.number from deployments d
        join functions f on f.id = d.function_id
        left join deployments a on a.id = f.current_deployment_id
        left join rollouts o on o.function_id = f.id and o.status = 'RUNNING'
        where d.function_id = $1 and d.created_at < $3
            and d.number < (select number from deployments where function_id = $1 order by number desc limit 1 offset $2)
            and (d.widens is null or d.approver_id is not null)
            and (a.id is null or d.id <> a.id)
            and (o.deployment_id is null or d.id <> o.deployment_id)
            and d.id <> coalesce({}, '')
        order by d.number limit $4",
        deployments::PREVIOUS
    );
    // The last one that is kept has this many before it.
    let before = keep.saturating_sub(1);
    let query =
        sql::query_as(sqlx::AssertSqlSafe(query)).bind(function).bind(before).bind(cutoff).bind(limit);
    Ok(query.fetch_all(db).await?)
}

/// Ids of a function's deployments that wait for an approval, beyond the newest `keep`.
pub(crate) async fn waiting(
    db: &mut Connection,
    function: &str,
    keep: i64,
) -> Result<Vec<String>, StoreError> {
    let query = "select d.id from deployments d
        join functions f on f.id = d.function_id
        left join rollouts o on o.function_id = f.id and o.status = 'RUNNING'
        where d.function_id = $1 and d.widens is not null and d.approver_id is null
            and d.number < (select number from deployments where function_id = $1
                and widens is not null and approver_id is null order by number desc limit 1 offset $2)
            and (f.current_deployment_id is null or d.id <> f.current_deployment_id)
            and (o.deployment_id is null or d.id <> o.deployment_id)
        order by d.number limit 100";
    // The last one that is kept has this many before it.
    let before = keep.saturating_sub(1);
    Ok(sql::query_scalar(query).bind(function).bind(before).fetch_all(db).await?)
}

/// Forgets a deployment, its settings and its key. Its blocks go with the next sweep, if nothing else needs them.
pub(crate) async fn delete(db: &mut Connection, deployment: &str) -> Result<(), StoreError> {
    sql::query("delete from builds where id = $1").bind(deployment).execute(&mut *db).await?;
    sql::query("delete from deployments where id = $1").bind(deployment).execute(db).await?;
    Ok(())
}
