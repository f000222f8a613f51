//! Personal access tokens, by the SHA-256 of the secret.

use super::sql::{self, Connection};
use super::{Store, StoreError, taken};

/// A token as its owner sees it later.
#[derive(Debug, sqlx::FromRow)]
pub struct TokenRow {
    /// `tok_…`
    pub id: String,
    /// `usr_…`
    pub user_id: String,
    /// Unique per user.
    pub name: String,
    /// The first characters.
    pub masked: String,
    /// Milliseconds; none: never.
    pub expires_at: Option<i64>,
    /// Milliseconds, to the minute.
    pub last_used_at: Option<i64>,
    /// Milliseconds.
    pub created_at: i64,
}

/// A token to be stored.
pub struct NewToken<'a> {
    /// Everything but the secret.
    pub row: &'a TokenRow,
    /// SHA-256 of the secret.
    pub hash: [u8; 32],
}

const COLUMNS: &str = "id, user_id, name, masked, expires_at, last_used_at, created_at";

impl Store {
    pub(crate) async fn token_by_hash(&self, hash: &[u8; 32]) -> Result<Option<TokenRow>, StoreError> {
        let query = format!("select {COLUMNS} from tokens where hash = $1");
        let query = sql::query_as(sqlx::AssertSqlSafe(query));
        Ok(query.bind(hash.as_slice()).fetch_optional(&self.reader).await?)
    }

    pub(crate) async fn tokens_of(
        &self,
        user: &str,
        after: &str,
        limit: i64,
    ) -> Result<Vec<TokenRow>, StoreError> {
        let query =
            format!("select {COLUMNS} from tokens where user_id = $1 and id > $2 order by id limit $3");
        let query = sql::query_as(sqlx::AssertSqlSafe(query));
        Ok(query.bind(user).bind(after).bind(limit).fetch_all(&self.reader).await?)
    }

    pub(crate) async fn count_tokens(&self, user: &str) -> Result<i64, StoreError> {
        let query = "select count(*) from tokens where user_id = $1";
        Ok(sql::query_scalar(query).bind(user).fetch_one(&self.reader).await?)
    }

    pub(crate) async fn touch_token(&self, id: &str, now: i64) -> Result<(), StoreError> {
        let query = "update tokens set last_used_at = $2 where id = $1";
        sql::query(query).bind(id).bind(now).execute(&self.writer).await?;
        Ok(())
    }

    /// Returns whether there was such a token.
    pub(crate) async fn delete_token(&self, user: &str, id: &str) -> Result<bool, StoreError> {
        let query = "delete from tokens where user_id = $1 and id = $2";
        Ok(sql::query(query).bind(user).bind(id).execute(&self.writer).await? == 1)
    }
}

pub(crate) async fn insert(db: &mut Connection, token: NewToken<'_>) -> Result<(), StoreError> {
    let query = "insert into tokens (id, user_id, name, hash, masked, expires_at, created_at)
        values ($1, $2, $3, $4, $5, $6, $7)";
    let row = token.row;
    let insert = sql::query(query).bind(&row.id).bind(&row.user_id).bind(&row.name);
    let insert = insert.bind(token.hash.to_vec()).bind(&row.masked).bind(row.expires_at).bind(row.created_at);
    insert.execute(db).await.map_err(taken)?;
    Ok(())
}
