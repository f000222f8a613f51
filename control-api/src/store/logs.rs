//! Whose lines edges send, and lines that servers of one database hand on to each other.

use sqlx::AssertSqlSafe;

use super::sql::{self, Connection};
use super::{Store, StoreError};

/// Ids in one statement.
const IDS: usize = 200;

impl Store {
    /// These deployments, as far as they are there, and the functions that they are of.
    pub(crate) async fn functions_of_deployments(
        &self,
        deployments: &[String],
    ) -> Result<Vec<(String, String)>, StoreError> {
        let mut found = Vec::new();
        for ids in deployments.chunks(IDS) {
            let places = sql::places(1, ids.len());
            let query = format!("select id, function_id from deployments where id in ({places})");
            let query = ids.iter().fold(sql::query_as(AssertSqlSafe(query)), |query, id| query.bind(id));
            found.extend(query.fetch_all(&self.reader).await?);
        }
        Ok(found)
    }

    /// Whether another server has said since then that it is there.
    pub(crate) async fn has_other_servers(&self, server: &str, since: i64) -> Result<bool, StoreError> {
        let query = "select id from log_servers where id <> $1 and seen_at > $2 limit 1";
        let found: Option<String> =
            sql::query_scalar(query).bind(server).bind(since).fetch_optional(&self.reader).await?;
        Ok(found.is_some())
    }

    /// The number of the newest batch; 0 where there is none.
    pub(crate) async fn newest_log_batch(&self) -> Result<i64, StoreError> {
        let query = "select id from log_batches order by id desc limit 1";
        let found: Option<i64> = sql::query_scalar(query).fetch_optional(&self.reader).await?;
        Ok(found.unwrap_or_default())
    }

    /// Batches of other servers after this one, oldest first.
    pub(crate) async fn log_batches(
        &self,
        server: &str,
        after: i64,
        limit: i64,
    ) -> Result<Vec<(i64, Vec<u8>)>, StoreError> {
        let query =
            "select id, lines from log_batches where id > $1 and server_id <> $2 order by id limit $3";
        let query = sql::query_as(query).bind(after).bind(server).bind(limit);
        Ok(query.fetch_all(&self.reader).await?)
    }
}

/// A server is there; one that has not said so since `forgotten` is gone, and batches from before `old`.
pub(crate) async fn seen(
    db: &mut Connection,
    server: &str,
    now: i64,
    forgotten: i64,
    old: i64,
) -> Result<(), StoreError> {
    let query = "delete from log_servers where seen_at < $1";
    sql::query(query).bind(forgotten).execute(&mut *db).await?;
    // Where there is one server left, nobody adds any.
    let query = "delete from log_batches where created_at < $1";
    sql::query(query).bind(old).execute(&mut *db).await?;
    let query = "insert into log_servers (id, seen_at) values ($1, $2)
        on conflict (id) do update set seen_at = excluded.seen_at";
    sql::query(query).bind(server).bind(now).execute(db).await?;
    Ok(())
}

/// Adds a batch, and removes those from before `old`.
pub(crate) async fn insert(
    db: &mut Connection,
    server: &str,
    lines: &[u8],
    now: i64,
    old: i64,
) -> Result<(), StoreError> {
    let query = "delete from log_batches where created_at < $1";
    sql::query(query).bind(old).execute(&mut *db).await?;
    let query = "insert into log_batches (server_id, lines, created_at) values ($1, $2, $3)";
    sql::query(query).bind(server).bind(lines).bind(now).execute(db).await?;
    Ok(())
}
