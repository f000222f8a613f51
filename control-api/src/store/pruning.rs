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

/// Which of a function's deployments may go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Going<'a> {
    /// Those beyond so many of the newest.
    pub keep: i64,
    /// Those that were made before this, milliseconds.
    pub cutoff: i64,
    /// Another one is about to become active, so that neither what a rollback leads to now nor what is being rolled out is needed.
    pub replaced: bool,
    /// Not this one (`dep_…`).
    pub but: &'a str,
    /// At most so many, the oldest first.
    pub limit: i64,
}

impl Default for Going<'_> {
    /// All but the newest that are not needed.
    fn default() -> Self {
        Self { keep: 1, cutoff: i64::MAX, replaced: false, but: "", limit: i64::MAX }
    }
}

/// Ids and numbers of a function's deployments that may go, oldest first. Not the active one, the one that a rollback leads to, the one
/// that is being rolled out, nor any that waits for an approval.
pub(crate) async fn prunable(
    db: &mut Connection,
    function: &str,
    going: Going<'_>,
) -> Result<Vec<(String, i64)>, StoreError> {
    let query = format!(
        "select d.id, d.number from deployments d
        join functions f on f.id = d.function_id
        left join deployments a on a.id = f.current_deployment_id
        left join rollouts o on o.function_id = f.id and o.status = 'RUNNING'
        where d.function_id = $1 and d.created_at < $3 and d.id <> $5
            and ($7 = 0 or d.number < (select number from deployments where function_id = $1 order by number desc limit 1 offset $2))
            and (d.widens is null or d.approver_id is not null)
            and (a.id is null or d.id <> a.id)
            and ($6 = 1 or o.deployment_id is null or d.id <> o.deployment_id)
            and ($6 = 1 or d.id <> coalesce({}, ''))
        order by d.number limit $4",
        deployments::PREVIOUS
    );
    // The last one that is kept has this many before it.
    let before = going.keep.saturating_sub(1).max(0);
    let query = sql::query_as(sqlx::AssertSqlSafe(query)).bind(function).bind(before).bind(going.cutoff);
    let query = query.bind(going.limit).bind(going.but).bind(i64::from(going.replaced));
    Ok(query.bind(i64::from(going.keep > 0)).fetch_all(db).await?)
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
    // What no other deployment of the function has does not count any more.
    let query = "select d.function_id, coalesce(d.stored_bytes, d.size) from deployments d where d.id = $1
        and not exists (select 1 from deployments o where o.function_id = d.function_id and o.code_cid = d.code_cid
            and coalesce(o.assets_cid, '') = coalesce(d.assets_cid, '') and o.id <> d.id)";
    let alone: Option<(String, i64)> = sql::query_as(query).bind(deployment).fetch_optional(&mut *db).await?;
    if let Some((function, bytes)) = alone {
        let query = "update functions set stored_bytes = case when stored_bytes > $2 then stored_bytes - $2 else 0 end
            where id = $1";
        sql::query(query).bind(function).bind(bytes).execute(&mut *db).await?;
    }
    sql::query("delete from deployments where id = $1").bind(deployment).execute(db).await?;
    Ok(())
}
