//! Answers to requests with an `Idempotency-Key`, sealed.

use super::StoreError;
use super::sql::{self, Connection};

/// What is known of a key.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct KeyRow {
    /// Of the request, sealed.
    pub fingerprint: Vec<u8>,
    /// None: the first request is at work.
    pub status: Option<i64>,
    /// Of the answer.
    pub content_type: Option<String>,
    /// Sealed.
    pub answer: Option<Vec<u8>>,
    /// Milliseconds.
    pub created_at: i64,
    /// Somebody is at the request, and has said so until then.
    pub leased_until: Option<i64>,
}

pub(crate) async fn read(db: &mut Connection, token: &str, key: &str) -> Result<Option<KeyRow>, StoreError> {
    let query = "select fingerprint, status, content_type, answer, created_at, leased_until
        from idempotency_keys where token_id = $1 and key = $2";
    Ok(sql::query_as(query).bind(token).bind(key).fetch_optional(db).await?)
}

pub(crate) async fn count(db: &mut Connection, token: &str) -> Result<i64, StoreError> {
    let query = "select count(*) from idempotency_keys where token_id = $1";
    Ok(sql::query_scalar(query).bind(token).fetch_one(db).await?)
}

/// A request is at work.
pub(crate) async fn put(
    db: &mut Connection,
    token: &str,
    key: &str,
    fingerprint: &[u8],
    now: i64,
    until: i64,
) -> Result<(), StoreError> {
    let query = "insert into idempotency_keys (token_id, key, fingerprint, created_at, leased_until)
        values ($1, $2, $3, $4, $5)";
    sql::query(query).bind(token).bind(key).bind(fingerprint).bind(now).bind(until).execute(db).await?;
    Ok(())
}

/// It is still at work.
pub(crate) async fn extend(
    db: &mut Connection,
    token: &str,
    key: &str,
    created_at: i64,
    until: i64,
) -> Result<(), StoreError> {
    let query = "update idempotency_keys set leased_until = $4
        where token_id = $1 and key = $2 and created_at = $3 and status is null";
    sql::query(query).bind(token).bind(key).bind(created_at).bind(until).execute(db).await?;
    Ok(())
}

/// Its answer, if it is still that request's key: `created_at` says so.
pub(crate) async fn answer(
    db: &mut Connection,
    token: &str,
    key: &str,
    row: &KeyRow,
) -> Result<(), StoreError> {
    let query = "update idempotency_keys set status = $3, content_type = $4, answer = $5
        where token_id = $1 and key = $2 and created_at = $6 and status is null";
    let update = sql::query(query).bind(token).bind(key).bind(row.status).bind(row.content_type.as_deref());
    update.bind(row.answer.as_deref()).bind(row.created_at).execute(db).await?;
    Ok(())
}

pub(crate) async fn forget(
    db: &mut Connection,
    token: &str,
    key: &str,
    created_at: i64,
) -> Result<(), StoreError> {
    let query = "delete from idempotency_keys where token_id = $1 and key = $2 and created_at = $3";
    sql::query(query).bind(token).bind(key).bind(created_at).execute(db).await?;
    Ok(())
}

/// Forgets keys that are older than a moment.
pub(crate) async fn prune(db: &mut Connection, before: i64) -> Result<(), StoreError> {
    sql::query("delete from idempotency_keys where created_at < $1").bind(before).execute(db).await?;
    Ok(())
}

/// Token, key and sealed fingerprint of requests, in that order; those from before, which are not sealed, have 32 bytes.
pub(crate) async fn fingerprints(
    db: &mut Connection,
    after: (&str, &str),
    limit: i64,
) -> Result<Vec<(String, String, Vec<u8>)>, StoreError> {
    let query = "select token_id, key, fingerprint from idempotency_keys
        where (token_id, key) > ($1, $2) and length(fingerprint) > 32 order by token_id, key limit $3";
    Ok(sql::query_as(query).bind(after.0).bind(after.1).bind(limit).fetch_all(db).await?)
}

/// The same fingerprint, sealed otherwise.
pub(crate) async fn replace_fingerprint(
    db: &mut Connection,
    token: &str,
    key: &str,
    sealed: &[u8],
) -> Result<(), StoreError> {
    let query = "update idempotency_keys set fingerprint = $3 where token_id = $1 and key = $2";
    sql::query(query).bind(token).bind(key).bind(sealed).execute(db).await?;
    Ok(())
}

/// Token, key and sealed answer of what was done, in that order.
pub(crate) async fn answers(
    db: &mut Connection,
    after: (&str, &str),
    limit: i64,
) -> Result<Vec<(String, String, Vec<u8>)>, StoreError> {
    let query = "select token_id, key, answer from idempotency_keys
        where (token_id, key) > ($1, $2) and answer is not null order by token_id, key limit $3";
    Ok(sql::query_as(query).bind(after.0).bind(after.1).bind(limit).fetch_all(db).await?)
}

/// The same answer, sealed otherwise.
pub(crate) async fn replace_answer(
    db: &mut Connection,
    token: &str,
    key: &str,
    sealed: &[u8],
) -> Result<(), StoreError> {
    let query = "update idempotency_keys set answer = $3 where token_id = $1 and key = $2";
    sql::query(query).bind(token).bind(key).bind(sealed).execute(db).await?;
    Ok(())
}
