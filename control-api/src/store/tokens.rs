//! Personal access tokens, by the SHA-256 of the secret.

use sqlx::AssertSqlSafe;

use super::sql::{self, Connection};
use super::{Store, StoreError, taken};

/// A token as its owner sees it later.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct TokenRow {
    /// `tok_…`
    pub id: String,
    /// `usr_…`
    pub user_id: String,
    /// Unique for its user.
    pub name: String,
    /// The first characters.
    pub masked: String,
    /// Nothing of other projects.
    pub project_id: Option<String>,
    /// Nothing of other functions.
    pub function_id: Option<String>,
    /// Nothing else.
    pub scopes: Option<String>,
    /// Of a project's own key.
    pub role: Option<String>,
    /// Milliseconds; none: never.
    pub expires_at: Option<i64>,
    /// Milliseconds, to the minute.
    pub last_used_at: Option<i64>,
    /// Milliseconds.
    pub created_at: i64,
    /// How often it got another secret.
    pub rotations: i64,
    /// Until when the secret before works, milliseconds.
    pub previous_until: Option<i64>,
}

/// A token to be stored.
pub struct NewToken<'a> {
    /// Everything but the secret.
    pub row: &'a TokenRow,
    /// SHA-256 of the secret.
    pub hash: [u8; 32],
}

const COLUMNS: &str =
    "id, user_id, name, masked, project_id, function_id, scopes, role, expires_at, last_used_at,
    created_at, rotations, previous_until";

impl Store {
    /// The token with this secret, or with this one before it was rotated; and how often it had been rotated when it got it.
    pub(crate) async fn token_by_hash(
        &self,
        hash: &[u8; 32],
        now: i64,
    ) -> Result<Option<(TokenRow, i64)>, StoreError> {
        #[derive(sqlx::FromRow)]
        struct Found {
            #[sqlx(flatten)]
            row: TokenRow,
            found_rotations: i64,
        }
        // Each half by its index.
        let query = format!(
            "select {COLUMNS}, rotations as found_rotations from tokens where hash = $1
             union all select {COLUMNS}, rotations - 1 as found_rotations from tokens where previous_hash = $1 and previous_until > $2"
        );
        let query = sql::query_as(AssertSqlSafe(query)).bind(hash.as_slice()).bind(now);
        let found: Option<Found> = query.fetch_optional(&self.reader).await?;
        Ok(found.map(|found| (found.row, found.found_rotations)))
    }

    /// A user's own tokens.
    pub(crate) async fn tokens_of(
        &self,
        user: &str,
        after: &str,
        limit: i64,
    ) -> Result<Vec<TokenRow>, StoreError> {
        let query = format!(
            "select {COLUMNS} from tokens where user_id = $1 and role is null and id > $2 order by id limit $3"
        );
        let query = sql::query_as(AssertSqlSafe(query));
        Ok(query.bind(user).bind(after).bind(limit).fetch_all(&self.reader).await?)
    }

    /// A project's own keys.
    pub(crate) async fn keys_of(
        &self,
        project: &str,
        after: &str,
        limit: i64,
    ) -> Result<Vec<TokenRow>, StoreError> {
        let query = format!(
            "select {COLUMNS} from tokens where project_id = $1 and role is not null and id > $2 order by id limit $3"
        );
        let query = sql::query_as(AssertSqlSafe(query));
        Ok(query.bind(project).bind(after).bind(limit).fetch_all(&self.reader).await?)
    }

    pub(crate) async fn token(&self, id: &str) -> Result<Option<TokenRow>, StoreError> {
        let query = format!("select {COLUMNS} from tokens where id = $1");
        Ok(sql::query_as(AssertSqlSafe(query)).bind(id).fetch_optional(&self.reader).await?)
    }

    pub(crate) async fn touch_token(&self, id: &str, now: i64) -> Result<(), StoreError> {
        let query = "update tokens set last_used_at = $2 where id = $1";
        sql::query(query).bind(id).bind(now).execute(&self.writer).await?;
        Ok(())
    }
}

pub(crate) async fn count(db: &mut Connection, user: &str, now: i64) -> Result<i64, StoreError> {
    let query = "select count(*) from tokens where user_id = $1 and (expires_at is null or expires_at > $2)";
    Ok(sql::query_scalar(query).bind(user).bind(now).fetch_one(db).await?)
}

/// Whether a user has a token of that name.
pub(crate) async fn is_named(db: &mut Connection, user: &str, name: &str) -> Result<bool, StoreError> {
    let query = "select id from tokens where user_id = $1 and name = $2";
    let found: Option<String> = sql::query_scalar(query).bind(user).bind(name).fetch_optional(db).await?;
    Ok(found.is_some())
}

/// Counts one more token that a user made on a day.
pub(crate) async fn count_made(db: &mut Connection, user: &str, day: i64) -> Result<(), StoreError> {
    let query = "update users set tokens_day = $2,
            tokens_made = case when tokens_day = $2 then tokens_made + 1 else 1 end
        where id = $1";
    sql::query(query).bind(user).bind(day).execute(db).await?;
    Ok(())
}

/// How many tokens a user made on a day.
pub(crate) async fn made(db: &mut Connection, user: &str, day: i64) -> Result<i64, StoreError> {
    let query = "select tokens_made from users where id = $1 and tokens_day = $2";
    Ok(sql::query_scalar(query).bind(user).bind(day).fetch_optional(db).await?.unwrap_or_default())
}

pub(crate) async fn insert(db: &mut Connection, token: NewToken<'_>) -> Result<(), StoreError> {
    let query = "insert into tokens (id, user_id, name, hash, masked, project_id, function_id, scopes, role,
            expires_at, created_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
    let row = token.row;
    let insert = sql::query(query).bind(&row.id).bind(&row.user_id).bind(&row.name);
    let insert = insert.bind(token.hash.to_vec()).bind(&row.masked).bind(&row.project_id);
    let insert = insert.bind(&row.function_id).bind(&row.scopes).bind(&row.role).bind(row.expires_at);
    insert.bind(row.created_at).execute(db).await.map_err(taken)?;
    Ok(())
}

/// Gives a token another secret; the old one works until `overlap_end`.
pub(crate) async fn rotate(
    db: &mut Connection,
    id: &str,
    hash: &[u8; 32],
    masked: &str,
    overlap_end: i64,
) -> Result<(), StoreError> {
    let query =
        "update tokens set previous_hash = hash, previous_until = $4, hash = $2, masked = $3, rotations = rotations + 1
        where id = $1";
    let update = sql::query(query).bind(id).bind(hash.as_slice()).bind(masked).bind(overlap_end);
    update.execute(db).await?;
    Ok(())
}

pub(crate) async fn delete(db: &mut Connection, id: &str) -> Result<(), StoreError> {
    sql::query("delete from tokens where id = $1").bind(id).execute(db).await?;
    Ok(())
}
