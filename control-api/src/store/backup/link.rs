//! A connection that backups read all of a database with, or fill one: what each engine calls its tables, and values as JSON has them.

use std::collections::BTreeMap;
use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures::TryStreamExt;
use serde_json::Value;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteRow};
use sqlx::{Arguments, AssertSqlSafe, Connection as _, PgConnection, Row, SqliteConnection};

use super::super::{BUSY_TIMEOUT, Database};
use super::{BackupError, damaged, line, sql};

/// Tables of what servers tell each other at the moment.
const PASSING: [&str; 3] = ["log_batches", "log_servers", "used_proofs"];

#[derive(Clone, Copy)]
pub(super) enum Kind {
    Integer,
    Text,
    Bytes,
}

/// Names and kinds of the columns of each table.
pub(super) type Catalog = BTreeMap<String, Vec<(String, Kind)>>;

/// A connection of its own, which sees one moment of the database.
pub(super) enum Link {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Link {
    pub(super) async fn open(database: &Database) -> Result<Self, BackupError> {
        Ok(match database {
            Database::Sqlite(path) => {
                let options = SqliteConnectOptions::new().filename(path).busy_timeout(BUSY_TIMEOUT);
                Self::Sqlite(SqliteConnection::connect_with(&options).await.map_err(sql)?)
            }
            Database::Postgres(options) => {
                let mut link = PgConnection::connect_with(options).await.map_err(sql)?;
                // A large table takes longer than any statement of the server may.
                sqlx::query("set statement_timeout = 0").execute(&mut link).await.map_err(sql)?;
                Self::Postgres(link)
            }
        })
    }

    pub(super) async fn run(
        &mut self,
        sqlite: &'static str,
        postgres: &'static str,
    ) -> Result<(), BackupError> {
        match self {
            Self::Sqlite(link) => sqlx::query(sqlite).execute(link).await.map(|_| ()).map_err(sql),
            Self::Postgres(link) => sqlx::query(postgres).execute(link).await.map(|_| ()).map_err(sql),
        }
    }

    pub(super) async fn count(&mut self, query: &str) -> Result<i64, BackupError> {
        let query = AssertSqlSafe(query.to_owned());
        match self {
            Self::Sqlite(link) => sqlx::query_scalar(query).fetch_one(link).await.map_err(sql),
            Self::Postgres(link) => sqlx::query_scalar(query).fetch_one(link).await.map_err(sql),
        }
    }

    pub(super) async fn catalog(&mut self) -> Result<Catalog, BackupError> {
        let columns: Vec<(String, String, String)> = match self {
            Self::Sqlite(link) => {
                let query = "select m.name, c.name, lower(c.type) from sqlite_master m
                    join pragma_table_info(m.name) c
                    where m.type = 'table' and m.name not like 'sqlite%' order by m.name, c.cid";
                sqlx::query_as(query).fetch_all(link).await.map_err(sql)?
            }
            Self::Postgres(link) => {
                let query = "select table_name::text, column_name::text, data_type::text
                    from information_schema.columns where table_schema = current_schema()
                    order by table_name, ordinal_position";
                sqlx::query_as(query).fetch_all(link).await.map_err(sql)?
            }
        };
        let mut catalog = Catalog::new();
        let is_kept = |table: &str| !table.starts_with('_') && !PASSING.contains(&table);
        for (table, column, kind) in columns.into_iter().filter(|(table, ..)| is_kept(table)) {
            let kind = match kind.as_str() {
                "integer" | "bigint" => Kind::Integer,
                "text" => Kind::Text,
                "blob" | "bytea" => Kind::Bytes,
                other => return Err(damaged(&format!("{table}.{column} is {other}"))),
            };
            catalog.entry(table).or_default().push((column, kind));
        }
        Ok(catalog)
    }

    pub(super) async fn write(
        &mut self,
        table: &str,
        columns: &[(String, Kind)],
        out: &mut impl Write,
    ) -> Result<u64, BackupError> {
        let names: Vec<String> = columns.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        let query = AssertSqlSafe(format!("select {} from \"{table}\"", names.join(", ")));
        let mut count = 0;
        match self {
            Self::Sqlite(link) => {
                let mut rows = sqlx::query(query).fetch(link);
                while let Some(row) = rows.try_next().await.map_err(sql)? {
                    line(out, &of_sqlite(&row, columns)?)?;
                    count += 1;
                }
            }
            Self::Postgres(link) => {
                let mut rows = sqlx::query(query).fetch(link);
                while let Some(row) = rows.try_next().await.map_err(sql)? {
                    line(out, &of_postgres(&row, columns)?)?;
                    count += 1;
                }
            }
        }
        Ok(count)
    }

    pub(super) async fn insert(
        &mut self,
        insert: &str,
        kinds: &[Kind],
        values: &[Value],
    ) -> Result<(), BackupError> {
        let query = AssertSqlSafe(insert.to_owned());
        match self {
            Self::Sqlite(link) => {
                let mut arguments = SqliteArguments::default();
                for (kind, value) in kinds.iter().zip(values) {
                    match Cell::of(*kind, value)? {
                        Cell::Integer(value) => arguments.add(value),
                        Cell::Text(value) => arguments.add(value),
                        Cell::Bytes(value) => arguments.add(value),
                    }
                    .map_err(|error| sql(sqlx::Error::Encode(error)))?;
                }
                sqlx::query_with(query, arguments).execute(link).await.map_err(sql)?;
            }
            Self::Postgres(link) => {
                let mut arguments = PgArguments::default();
                for (kind, value) in kinds.iter().zip(values) {
                    match Cell::of(*kind, value)? {
                        Cell::Integer(value) => arguments.add(value),
                        Cell::Text(value) => arguments.add(value),
                        Cell::Bytes(value) => arguments.add(value),
                    }
                    .map_err(|error| sql(sqlx::Error::Encode(error)))?;
                }
                sqlx::query_with(query, arguments).execute(link).await.map_err(sql)?;
            }
        }
        Ok(())
    }

    /// Takes the references between tables away, since functions and deployments refer to each other. Returns how they are
    /// made again.
    pub(super) async fn loosen(&mut self) -> Result<Vec<String>, BackupError> {
        let Self::Postgres(link) = self else { return Ok(Vec::new()) };
        let query = "select c.conrelid::regclass::text, quote_ident(c.conname), pg_get_constraintdef(c.oid)
            from pg_constraint c join pg_namespace n on n.oid = c.connamespace
            where c.contype = 'f' and n.nspname = current_schema()";
        let found: Vec<(String, String, String)> =
            sqlx::query_as(query).fetch_all(&mut *link).await.map_err(sql)?;
        let mut again = Vec::new();
        for (table, name, definition) in found {
            let statement = AssertSqlSafe(format!("alter table {table} drop constraint {name}"));
            sqlx::query(statement).execute(&mut *link).await.map_err(sql)?;
            again.push(format!("alter table {table} add constraint {name} {definition}"));
        }
        Ok(again)
    }

    /// Checks that all references lead somewhere.
    pub(super) async fn tighten(&mut self, constraints: Vec<String>) -> Result<(), BackupError> {
        match self {
            Self::Sqlite(_) => {
                let lost = self.count("select count(*) from pragma_foreign_key_check").await?;
                if lost > 0 {
                    return Err(damaged(&format!("{lost} rows refer to rows that are not there")));
                }
            }
            Self::Postgres(link) => {
                for statement in constraints {
                    sqlx::query(AssertSqlSafe(statement)).execute(&mut *link).await.map_err(sql)?;
                }
            }
        }
        Ok(())
    }
}

enum Cell {
    Integer(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
}

impl Cell {
    fn of(kind: Kind, value: &Value) -> Result<Self, BackupError> {
        let lost = || damaged("a value is none of its column's");
        Ok(match (kind, value) {
            (Kind::Integer, Value::Null) => Self::Integer(None),
            (Kind::Text, Value::Null) => Self::Text(None),
            (Kind::Bytes, Value::Null) => Self::Bytes(None),
            (Kind::Integer, value) => Self::Integer(Some(value.as_i64().ok_or_else(lost)?)),
            (Kind::Text, value) => Self::Text(Some(value.as_str().ok_or_else(lost)?.to_owned())),
            (Kind::Bytes, value) => {
                Self::Bytes(Some(BASE64.decode(value.as_str().ok_or_else(lost)?).map_err(|_| lost())?))
            }
        })
    }

    fn shape(self) -> Value {
        match self {
            Self::Integer(value) => value.into(),
            Self::Text(value) => value.into(),
            Self::Bytes(value) => value.map(|bytes| BASE64.encode(bytes)).into(),
        }
    }
}

macro_rules! shape_of {
    ($name:ident, $row:ty) => {
        fn $name(row: &$row, columns: &[(String, Kind)]) -> Result<Vec<Value>, BackupError> {
            let cell = |(at, (_, kind)): (usize, &(String, Kind))| {
                Ok(match kind {
                    Kind::Integer => Cell::Integer(row.try_get(at).map_err(sql)?),
                    Kind::Text => Cell::Text(row.try_get(at).map_err(sql)?),
                    Kind::Bytes => Cell::Bytes(row.try_get(at).map_err(sql)?),
                }
                .shape())
            };
            columns.iter().enumerate().map(cell).collect()
        }
    };
}

shape_of!(of_sqlite, SqliteRow);
shape_of!(of_postgres, PgRow);
