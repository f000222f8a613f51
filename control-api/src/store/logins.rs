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

/// Where a terminal asks from, as it is counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct From {
    /// An IPv4 address, or an IPv6 network of 64 bits.
    pub network: Option<String>,
    /// An IPv4 address, or an IPv6 network of 48 bits.
    pub prefix: Option<String>,
}

/// How many there are.
pub(crate) struct Crowd {
    /// Of those that may still be approved, or come for their token.
    pub open: i64,
    /// Of one network, used and old ones, too.
    pub of_network: i64,
    /// The same of its prefix.
    pub of_prefix: i64,
}

/// Counts those that were made after `since`; open are those of them that were made after `opened` and are not used.
pub(crate) async fn count(
    db: &mut Connection,
    from: &From,
    (since, opened): (i64, i64),
) -> Result<Crowd, StoreError> {
    let open = "select count(*) from logins where created_at > $1 and used_at is null";
    let open = sql::query_scalar(open).bind(opened).fetch_one(&mut *db).await?;
    let query = "select count(*) from logins where network = $1 and created_at > $2";
    let of_network = match from.network.as_deref() {
        Some(network) => sql::query_scalar(query).bind(network).bind(since).fetch_one(&mut *db).await?,
        None => 0,
    };
    let query = "select count(*) from logins where prefix = $1 and created_at > $2";
    let of_prefix = match from.prefix.as_deref() {
        Some(prefix) => sql::query_scalar(query).bind(prefix).bind(since).fetch_one(db).await?,
        None => 0,
    };
    Ok(Crowd { open, of_network, of_prefix })
}

/// Removes the oldest one made after `opened` that nobody has approved. Returns whether there was one.
pub(crate) async fn drop_oldest(db: &mut Connection, opened: i64) -> Result<bool, StoreError> {
    let query =
        "delete from logins where id = (select id from logins where created_at > $1 and used_at is null
        and user_id is null order by created_at, id limit 1)";
    Ok(sql::query(query).bind(opened).execute(db).await? > 0)
}

/// `session` and where it asks from are told by no row again.
pub(crate) async fn insert(
    db: &mut Connection,
    row: &LoginRow,
    session: &[u8; 32],
    from: &From,
) -> Result<(), StoreError> {
    let query = "insert into logins (id, session_hash, secret_hash, code, name, address, network, prefix, created_at, expires_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    let insert = sql::query(query).bind(&row.id).bind(session.as_slice()).bind(row.secret_hash.clone());
    let insert = insert.bind(&row.code).bind(&row.name).bind(row.address.as_deref());
    let insert = insert.bind(from.network.as_deref()).bind(from.prefix.as_deref());
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
