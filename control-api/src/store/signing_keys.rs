//! Keys that short-lived tokens are signed with.

use super::sql::{self, Connection};
use super::{Store, StoreError};

/// A key.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct SigningKeyRow {
    /// `key_…`, the `kid` of tokens.
    pub id: String,
    /// Its public half, 32 bytes.
    pub public: Vec<u8>,
    /// PKCS #8, sealed with the master key.
    pub sealed: Vec<u8>,
    /// Milliseconds.
    pub created_at: i64,
}

impl Store {
    /// All keys, newest first.
    pub(crate) async fn signing_keys(&self) -> Result<Vec<SigningKeyRow>, StoreError> {
        let query =
            "select id, public, sealed, created_at from signing_keys order by created_at desc limit 100";
        Ok(sql::query_as(query).fetch_all(&self.reader).await?)
    }
}

/// When the newest was made.
pub(crate) async fn newest(db: &mut Connection) -> Result<Option<i64>, StoreError> {
    let query = "select created_at from signing_keys order by created_at desc limit 1";
    Ok(sql::query_scalar(query).fetch_optional(db).await?)
}

pub(crate) async fn insert(db: &mut Connection, row: &SigningKeyRow) -> Result<(), StoreError> {
    let query = "insert into signing_keys (id, public, sealed, created_at) values ($1, $2, $3, $4)";
    let insert = sql::query(query).bind(&row.id).bind(&row.public).bind(&row.sealed);
    insert.bind(row.created_at).execute(db).await?;
    Ok(())
}

/// Removes those that were made before a moment.
pub(crate) async fn prune(db: &mut Connection, before: i64) -> Result<(), StoreError> {
    sql::query("delete from signing_keys where created_at < $1").bind(before).execute(db).await?;
    Ok(())
}

/// Sealed keys, in the order of their ids.
pub(crate) async fn sealed(
    db: &mut Connection,
    after: &str,
    limit: i64,
) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    let query = "select id, sealed from signing_keys where id > $1 order by id limit $2";
    Ok(sql::query_as(query).bind(after).bind(limit).fetch_all(db).await?)
}

/// The same key, sealed otherwise.
pub(crate) async fn replace(db: &mut Connection, id: &str, sealed: &[u8]) -> Result<(), StoreError> {
    sql::query("update signing_keys set sealed = $2 where id = $1").bind(id).bind(sealed).execute(db).await?;
    Ok(())
}
