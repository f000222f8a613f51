//! Terminals that ask to be signed in, by the SHA-256 of their session's name.

use sqlx::AssertSqlSafe;

use super::sql::{self, Connection};
use super::{Store, StoreError};

/// A terminal that asks, or has asked.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct LoginRow {
    /// `lgn_…`
    pub id: String,
    /// A hash of what the terminal shows to be the one that asked.
    pub secret_hash: Vec<u8>,
    /// Eight letters, for people.
    pub code: String,
    /// What its token is to be called.
    pub name: String,
    /// Where it asks from.
    pub address: Option<String>,
    /// Who has approved it.
    pub user_id: Option<String>,
    /// By which token, where it is one of ours.
    pub token_id: Option<String>,
    /// Milliseconds; of the token that it gets.
    pub token_expires_at: Option<i64>,
    /// Milliseconds.
    pub created_at: i64,
    /// Milliseconds; until when it may be approved, and come for its token.
    pub expires_at: i64,
    /// Milliseconds; when it got its token.
    pub used_at: Option<i64>,
}

/// Which terminal.
#[derive(Clone, Debug)]
pub enum LoginBy {
    /// The SHA-256 of its session's name.
    Session([u8; 32]),
    /// What it shows to people.
    Code(String),
}

const COLUMNS: &str = "id, secret_hash, code, name, address, user_id, token_id, token_expires_at, created_at,
    expires_at, used_at";

impl Store {
    pub(crate) async fn login(&self, session: &[u8; 32]) -> Result<Option<LoginRow>, StoreError> {
        let query = format!("select {COLUMNS} from logins where session_hash = $1");
        let query = sql::query_as(AssertSqlSafe(query)).bind(session.as_slice());
        Ok(query.fetch_optional(&self.reader).await?)
    }
}

/// The same, within a transaction.
pub(crate) async fn read(db: &mut Connection, by: &LoginBy) -> Result<Option<LoginRow>, StoreError> {
    let query = |column: &str| {
        sql::query_as(AssertSqlSafe(format!("select {COLUMNS} from logins where {column} = $1")))
    };
    let query = match by {
        LoginBy::Session(hash) => query("session_hash").bind(hash.as_slice()),
        LoginBy::Code(code) => query("code").bind(code),
    };
    Ok(query.fetch_optional(db).await?)
}

/// Removes what was asked up to a moment.
pub(crate) async fn forget(db: &mut Connection, until: i64) -> Result<(), StoreError> {
    sql::query("delete from logins where created_at <= $1").bind(until).execute(db).await?;
    Ok(())
}

/// How many there are, and how many of them of one network.
pub(crate) async fn count(db: &mut Connection, network: Option<&str>) -> Result<(i64, i64), StoreError> {
    let all = sql::query_scalar("select count(*) from logins").fetch_one(&mut *db).await?;
    let query = "select count(*) from logins where network = $1";
    let near = match network {
        Some(network) => sql::query_scalar(query).bind(network).fetch_one(db).await?,
        None => 0,
    };
    Ok((all, near))
}

/// `session` and `network` are told by no row again.
pub(crate) async fn insert(
    db: &mut Connection,
    row: &LoginRow,
    session: &[u8; 32],
    network: Option<&str>,
) -> Result<(), StoreError> {
    let query = "insert into logins (id, session_hash, secret_hash, code, name, address, network, created_at, expires_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    let insert = sql::query(query).bind(&row.id).bind(session.as_slice()).bind(row.secret_hash.clone());
    let insert = insert.bind(&row.code).bind(&row.name).bind(row.address.as_deref()).bind(network);
    insert.bind(row.created_at).bind(row.expires_at).execute(db).await?;
    Ok(())
}

/// Writes down who has approved it, and what it gets.
pub(crate) async fn approve(db: &mut Connection, row: &LoginRow) -> Result<(), StoreError> {
    let query =
        "update logins set user_id = $2, token_id = $3, name = $4, token_expires_at = $5 where id = $1";
    let update = sql::query(query).bind(&row.id).bind(row.user_id.as_deref()).bind(row.token_id.as_deref());
    update.bind(&row.name).bind(row.token_expires_at).execute(db).await?;
    Ok(())
}

/// Whether it was there and had not been used before.
pub(crate) async fn use_up(db: &mut Connection, id: &str, now: i64) -> Result<bool, StoreError> {
    let query = "update logins set used_at = $2 where id = $1 and used_at is null";
    Ok(sql::query(query).bind(id).bind(now).execute(db).await? == 1)
}
