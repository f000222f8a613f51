//! One way to say SQL to either engine. The statements are the same for both: SQLite and PostgreSQL agree on what is used
//! here, `$1` and `on conflict` included. Shaped as sqlx's own functions, which each speak to one engine only.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{
    Arguments, Encode, FromRow, PgConnection, PgPool, Postgres, SqlSafeStr, SqlStr, Sqlite, SqliteConnection,
    SqlitePool, Type,
};

/// One writer at a time on PostgreSQL, as SQLite has it by itself: revisions of the feed count up in the order of
/// commits, and what a transaction has looked at stays so until it ends.
const WRITER: &str = "select pg_advisory_xact_lock(4702394921427289928)";

/// Open connections to either engine. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// A connection to either engine, within a transaction or without.
pub(crate) enum Connection {
    Sqlite(PoolConnection<Sqlite>),
    Postgres(PoolConnection<Postgres>),
    SqliteTransaction(sqlx::Transaction<'static, Sqlite>),
    PostgresTransaction(sqlx::Transaction<'static, Postgres>),
}

/// Undone when it is dropped before [`Transaction::commit`].
pub(crate) struct Transaction(Connection);

/// Where a statement goes.
pub(crate) enum Target<'c> {
    SqlitePool(&'c SqlitePool),
    PostgresPool(&'c PgPool),
    Sqlite(&'c mut SqliteConnection),
    Postgres(&'c mut PgConnection),
}

/// What comes out of either engine.
pub(crate) trait Row:
    for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin
{
}

/// What goes into either engine.
pub(crate) trait Bind<'q>:
    Encode<'q, Sqlite> + Type<Sqlite> + Encode<'q, Postgres> + Type<Postgres> + Clone
{
}

impl<R> Row for R where R: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin {}

impl<'q, B> Bind<'q> for B where
    B: Encode<'q, Sqlite> + Type<Sqlite> + Encode<'q, Postgres> + Type<Postgres> + Clone
{
}

/// A statement with its values, and what its rows are.
pub(crate) struct Query<R> {
    text: SqlStr,
    values: Result<(SqliteArguments, PgArguments), sqlx::Error>,
    row: PhantomData<fn() -> R>,
}

/// A statement whose rows have one column each.
pub(crate) struct Scalar<T>(Query<(T,)>);

/// A statement without rows.
pub(crate) fn query(text: impl SqlSafeStr) -> Query<()> {
    query_as(text)
}

/// A statement with rows.
pub(crate) fn query_as<R>(text: impl SqlSafeStr) -> Query<R> {
    let values = Ok((SqliteArguments::default(), PgArguments::default()));
    Query { text: text.into_sql_str(), values, row: PhantomData }
}

/// A statement with rows of one column.
pub(crate) fn query_scalar<T>(text: impl SqlSafeStr) -> Scalar<T> {
    Scalar(query_as(text))
}

/// `$from, $from+1, …`, so many.
pub(crate) fn places(from: usize, count: usize) -> String {
    let places: Vec<String> = (from..from + count).map(|place| format!("${place}")).collect();
    places.join(", ")
}

/// `($1, $2), ($3, $4), …`, so many of so many columns.
pub(crate) fn rows(count: usize, columns: usize) -> String {
    let rows: Vec<String> =
        (0..count).map(|row| format!("({})", places(1 + row * columns, columns))).collect();
    rows.join(", ")
}

impl Pool {
    /// A connection that is in no transaction.
    pub(super) async fn acquire(&self) -> Result<Connection, sqlx::Error> {
        match self {
            Self::Sqlite(pool) => Ok(Connection::Sqlite(pool.acquire().await?)),
            Self::Postgres(pool) => Ok(Connection::Postgres(pool.acquire().await?)),
        }
    }

    /// Starts a transaction that may write; there is no other one meanwhile.
    pub(super) async fn begin(&self) -> Result<Transaction, sqlx::Error> {
        match self {
            Self::Sqlite(pool) => {
                let transaction = pool.begin_with("begin immediate").await?;
                Ok(Transaction(Connection::SqliteTransaction(transaction)))
            }
            Self::Postgres(pool) => {
                let mut transaction = pool.begin().await?;
                sqlx::query(WRITER).execute(&mut *transaction).await?;
                Ok(Transaction(Connection::PostgresTransaction(transaction)))
            }
        }
    }

    /// Starts a transaction that may write, on PostgreSQL beside others that do.
    pub(super) async fn begin_without_turn(&self) -> Result<Transaction, sqlx::Error> {
        match self {
            Self::Sqlite(_) => self.begin().await,
            Self::Postgres(pool) => Ok(Transaction(Connection::PostgresTransaction(pool.begin().await?))),
        }
    }
}

impl Pool {
    /// Starts a transaction that reads, and sees one moment.
    pub(super) async fn snapshot(&self) -> Result<Transaction, sqlx::Error> {
        match self {
            Self::Sqlite(pool) => Ok(Transaction(Connection::SqliteTransaction(pool.begin().await?))),
            Self::Postgres(pool) => {
                let transaction = pool.begin_with("begin isolation level repeatable read read only").await?;
                Ok(Transaction(Connection::PostgresTransaction(transaction)))
            }
        }
    }
}

impl Transaction {
    /// Makes it durable and seen by all.
    pub(crate) async fn commit(self) -> Result<(), sqlx::Error> {
        match self.0 {
            Connection::SqliteTransaction(transaction) => transaction.commit().await,
            Connection::PostgresTransaction(transaction) => transaction.commit().await,
            // Not made by `begin`.
            Connection::Sqlite(_) | Connection::Postgres(_) => Err(sqlx::Error::BeginFailed),
        }
    }
}

impl Deref for Transaction {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.0
    }
}

impl<'c> From<&'c Pool> for Target<'c> {
    fn from(pool: &'c Pool) -> Self {
        match pool {
            Pool::Sqlite(pool) => Self::SqlitePool(pool),
            Pool::Postgres(pool) => Self::PostgresPool(pool),
        }
    }
}

impl<'c> From<&'c mut Connection> for Target<'c> {
    fn from(connection: &'c mut Connection) -> Self {
        match connection {
            Connection::Sqlite(connection) => Self::Sqlite(&mut *connection),
            Connection::Postgres(connection) => Self::Postgres(&mut *connection),
            Connection::SqliteTransaction(transaction) => Self::Sqlite(&mut *transaction),
            Connection::PostgresTransaction(transaction) => Self::Postgres(&mut *transaction),
        }
    }
}

/// Sends a statement to where it goes.
macro_rules! send {
    ($query:expr, $db:expr, $make:ident, $fetch:ident) => {{
        let Query { text, values, .. } = $query;
        let (sqlite, postgres) = values?;
        match $db.into() {
            Target::SqlitePool(db) => sqlx::$make(text, sqlite).$fetch(db).await?.into(),
            Target::Sqlite(db) => sqlx::$make(text, sqlite).$fetch(db).await?.into(),
            Target::PostgresPool(db) => sqlx::$make(text, postgres).$fetch(db).await?.into(),
            Target::Postgres(db) => sqlx::$make(text, postgres).$fetch(db).await?.into(),
        }
    }};
}

/// Rows that a statement changed.
struct Changed(u64);

impl From<sqlx::sqlite::SqliteQueryResult> for Changed {
    fn from(result: sqlx::sqlite::SqliteQueryResult) -> Self {
        Self(result.rows_affected())
    }
}

impl From<sqlx::postgres::PgQueryResult> for Changed {
    fn from(result: sqlx::postgres::PgQueryResult) -> Self {
        Self(result.rows_affected())
    }
}

impl<R> Query<R> {
    /// The next value.
    pub(crate) fn bind<'q>(mut self, value: impl Bind<'q>) -> Self {
        self.values = self.values.and_then(|(mut sqlite, mut postgres)| {
            sqlite.add(value.clone()).map_err(sqlx::Error::Encode)?;
            postgres.add(value).map_err(sqlx::Error::Encode)?;
            Ok((sqlite, postgres))
        });
        self
    }

    /// The next values, of a list.
    pub(crate) fn bind_each<T: ToString>(self, values: &[T]) -> Self {
        values.iter().fold(self, |query, value| query.bind(value.to_string()))
    }

    /// Returns how many rows it changed.
    pub(crate) async fn execute<'c>(self, db: impl Into<Target<'c>>) -> Result<u64, sqlx::Error> {
        let Changed(rows) = send!(self, db, query_with, execute);
        Ok(rows)
    }
}

impl<R: Row> Query<R> {
    pub(crate) async fn fetch_all<'c>(self, db: impl Into<Target<'c>>) -> Result<Vec<R>, sqlx::Error> {
        let rows: Vec<R> = send!(self, db, query_as_with, fetch_all);
        Ok(rows)
    }

    pub(crate) async fn fetch_optional<'c>(
        self,
        db: impl Into<Target<'c>>,
    ) -> Result<Option<R>, sqlx::Error> {
        let row: Option<R> = send!(self, db, query_as_with, fetch_optional);
        Ok(row)
    }

    pub(crate) async fn fetch_one<'c>(self, db: impl Into<Target<'c>>) -> Result<R, sqlx::Error> {
        self.fetch_optional(db).await?.ok_or(sqlx::Error::RowNotFound)
    }
}

impl<T> Scalar<T>
where
    (T,): Row,
{
    /// The next value.
    pub(crate) fn bind<'q>(self, value: impl Bind<'q>) -> Self {
        Self(self.0.bind(value))
    }

    pub(crate) async fn fetch_all<'c>(self, db: impl Into<Target<'c>>) -> Result<Vec<T>, sqlx::Error> {
        Ok(self.0.fetch_all(db).await?.into_iter().map(|(value,)| value).collect())
    }

    pub(crate) async fn fetch_optional<'c>(
        self,
        db: impl Into<Target<'c>>,
    ) -> Result<Option<T>, sqlx::Error> {
        Ok(self.0.fetch_optional(db).await?.map(|(value,)| value))
    }

    pub(crate) async fn fetch_one<'c>(self, db: impl Into<Target<'c>>) -> Result<T, sqlx::Error> {
        Ok(self.0.fetch_one(db).await?.0)
    }
}
