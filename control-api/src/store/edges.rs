//! Edges, and the key that their feed is signed with.

use sqlx::AssertSqlSafe;

use super::sql::{self, Connection};
use super::{Store, StoreError};

/// An edge.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct EdgeRow {
    /// `edge_…`
    pub id: String,
    /// As its operator calls it.
    pub name: String,
    /// Ed25519, 32 bytes; none: nobody has joined yet.
    pub public_key: Option<Vec<u8>>,
    /// The secret of its token to join, sealed with the master key; none: somebody has, and knows it.
    pub join_sealed: Option<Vec<u8>>,
    /// Until then the token counts, milliseconds.
    pub join_expires_at: i64,
    /// Milliseconds.
    pub created_at: i64,
    /// Milliseconds.
    pub joined_at: Option<i64>,
    /// When it asked last, to within ten seconds, milliseconds.
    pub seen_at: Option<i64>,
    /// The newest revision that it said it knows.
    pub revision: i64,
    /// Of its program, as it said itself.
    pub version: Option<String>,
}

/// When an edge asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EdgeSeen {
    /// Milliseconds.
    pub at: i64,
    /// The newest revision that it said it knows, if it has said so.
    pub revision: Option<i64>,
    /// Of its program, as it said itself.
    pub version: Option<String>,
}

/// The key of the feed.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct FeedKeyRow {
    /// Which history the revisions are of.
    pub epoch: String,
    /// Ed25519, 32 bytes.
    pub public: Vec<u8>,
    /// PKCS #8, sealed with the master key.
    pub sealed: Vec<u8>,
}

const COLUMNS: &str =
    "id, name, public_key, join_sealed, join_expires_at, created_at, joined_at, seen_at, revision, version";

impl Store {
    /// All edges, by their names.
    pub(crate) async fn edges(&self, after: &str, limit: i64) -> Result<Vec<EdgeRow>, StoreError> {
        let query = format!("select {COLUMNS} from edges where name > $1 order by name limit $2");
        Ok(sql::query_as(AssertSqlSafe(query)).bind(after).bind(limit).fetch_all(&self.reader).await?)
    }

    pub(crate) async fn edge(&self, id: &str) -> Result<Option<EdgeRow>, StoreError> {
        let query = format!("select {COLUMNS} from edges where id = $1");
        Ok(sql::query_as(AssertSqlSafe(query)).bind(id).fetch_optional(&self.reader).await?)
    }

    pub(crate) async fn feed_key(&self) -> Result<Option<FeedKeyRow>, StoreError> {
        let query = "select epoch, public, sealed from feed_keys where id = 'feed'";
        Ok(sql::query_as(query).fetch_optional(&self.reader).await?)
    }
}

pub(crate) async fn count(db: &mut Connection) -> Result<i64, StoreError> {
    Ok(sql::query_scalar("select count(*) from edges").fetch_one(db).await?)
}

pub(crate) async fn is_name_taken(db: &mut Connection, name: &str) -> Result<bool, StoreError> {
    let query = "select count(*) from edges where name = $1";
    let found: i64 = sql::query_scalar(query).bind(name).fetch_one(db).await?;
    Ok(found > 0)
}

pub(crate) async fn insert(db: &mut Connection, row: &EdgeRow) -> Result<(), StoreError> {
    let query = "insert into edges (id, name, join_sealed, join_expires_at, created_at)
        values ($1, $2, $3, $4, $5)";
    let insert = sql::query(query).bind(&row.id).bind(&row.name).bind(&row.join_sealed);
    insert.bind(row.join_expires_at).bind(row.created_at).execute(db).await?;
    Ok(())
}

pub(crate) async fn read(db: &mut Connection, id: &str) -> Result<Option<EdgeRow>, StoreError> {
    let query = format!("select {COLUMNS} from edges where id = $1");
    Ok(sql::query_as(AssertSqlSafe(query)).bind(id).fetch_optional(db).await?)
}

/// It has joined with this key; its token counts for that one only, until the edge asks for more.
pub(crate) async fn joined(db: &mut Connection, id: &str, key: &[u8], at: i64) -> Result<(), StoreError> {
    let query = "update edges set public_key = $2, joined_at = $3 where id = $1";
    sql::query(query).bind(id).bind(key).bind(at).execute(db).await?;
    Ok(())
}

/// It asked. Another server may have seen it later, and not know what it said here.
pub(crate) async fn seen(db: &mut Connection, id: &str, seen: &EdgeSeen) -> Result<(), StoreError> {
    let query = "update edges set seen_at = case when seen_at > $2 then seen_at else $2 end,
        revision = coalesce($3, revision), version = $4, join_sealed = null where id = $1";
    let update = sql::query(query).bind(id).bind(seen.at).bind(seen.revision).bind(&seen.version);
    update.execute(db).await?;
    Ok(())
}

pub(crate) async fn delete(db: &mut Connection, id: &str) -> Result<bool, StoreError> {
    let deleted = sql::query("delete from edges where id = $1").bind(id).execute(db).await?;
    Ok(deleted > 0)
}

/// Keeps the key, unless another server was faster.
pub(crate) async fn insert_feed_key(
    db: &mut Connection,
    row: &FeedKeyRow,
    at: i64,
) -> Result<(), StoreError> {
    let query =
        "insert into feed_keys (id, epoch, public, sealed, created_at) values ('feed', $1, $2, $3, $4)
        on conflict (id) do nothing";
    let insert = sql::query(query).bind(&row.epoch).bind(&row.public).bind(&row.sealed);
    insert.bind(at).execute(db).await?;
    Ok(())
}

/// The key of the feed, sealed, by its id.
pub(crate) async fn sealed_feed_keys(
    db: &mut Connection,
    after: &str,
    limit: i64,
) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    let query = "select id, sealed from feed_keys where id > $1 order by id limit $2";
    Ok(sql::query_as(query).bind(after).bind(limit).fetch_all(db).await?)
}

/// The same key, sealed otherwise.
pub(crate) async fn replace_feed_key(db: &mut Connection, id: &str, sealed: &[u8]) -> Result<(), StoreError> {
    sql::query("update feed_keys set sealed = $2 where id = $1").bind(id).bind(sealed).execute(db).await?;
    Ok(())
}

/// Secrets of tokens to join, sealed, in the order of the edges' ids.
pub(crate) async fn join_secrets(
    db: &mut Connection,
    after: &str,
    limit: i64,
) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    let query = "select id, join_sealed from edges
        where join_sealed is not null and id > $1 order by id limit $2";
    Ok(sql::query_as(query).bind(after).bind(limit).fetch_all(db).await?)
}

/// The same secret, sealed otherwise.
pub(crate) async fn replace_join_secret(
    db: &mut Connection,
    id: &str,
    sealed: &[u8],
) -> Result<(), StoreError> {
    let query = "update edges set join_sealed = $2 where id = $1 and join_sealed is not null";
    sql::query(query).bind(id).bind(sealed).execute(db).await?;
    Ok(())
}
