//! All rows of a database as lines of JSON, and back into an empty database of either engine. Tables and columns are those
//! that the database has, which are the same in both.
//!
//! The first line says what it is; then, for each table, a line with its name and columns, and one for each of its rows; the
//! last line says how many rows there were, so that what was cut off is not taken for whole.

mod link;

use std::io::{BufRead, Read, Write};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use self::link::{Catalog, Kind, Link};
use super::{Database, POSTGRES, Store, StoreError};

/// What a backup has. One of another form has another number, which older versions refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The rows.
    Rows,
    /// Behind them, what the caller writes.
    Followed,
}

impl Form {
    fn number(self) -> u32 {
        match self {
            Self::Rows => 1,
            Self::Followed => 2,
        }
    }
}

/// The longest line, bytes: a certificate's chain, or an answer that is kept.
const LINE: u64 = 64 << 20;

/// A database that another program than ours has, or rows that are none.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file.
    #[error("the backup cannot be read or written")]
    File(#[from] std::io::Error),
    /// Something else, or damaged.
    #[error("this is no whole backup: {0}")]
    Damaged(String),
    /// Of a file that another program reads.
    #[error(
        "the backup has the form {0}, which this program does not know; restore it with the version that made it"
    )]
    Form(u32),
    /// The database is not as old as the backup.
    #[error(
        "the database has the schema {found} already, and the backup the schema {wanted}; restore into a database that is not there yet"
    )]
    Ahead {
        /// Of the database, which is empty.
        found: i64,
        /// Of the backup.
        wanted: i64,
    },
    /// Of a newer version.
    #[error(
        "the backup has the schema {found} of a newer version of this program, which knows {known} at most; restore it with the \
         version that made it, or a newer one"
    )]
    Schema {
        /// Of the backup.
        found: i64,
        /// Of this program.
        known: i64,
    },
    /// Rows are not all that there is.
    #[error("what follows the rows cannot be restored")]
    Behind(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// There is something.
    #[error("the database is not empty: it has {rows} rows in {table}; restore into a new one")]
    NotEmpty {
        /// The first table with rows.
        table: String,
        /// How many.
        rows: i64,
    },
}

/// What was written or read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The newest migration of the database.
    pub schema: i64,
    /// That of the database that the backup was made of.
    pub made_at: i64,
    /// Tables.
    pub tables: usize,
    /// Rows of all tables.
    pub rows: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    af_backup: u32,
    schema: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    table: String,
    columns: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    end_after_rows: u64,
}

/// Writes all rows, as they are at one moment, while others go on working. Of a form that has more, the caller writes that
/// behind them.
///
/// # Errors
/// When the database or the file fails.
pub async fn dump(database: &Database, form: Form, out: &mut impl Write) -> Result<Summary, BackupError> {
    let mut link = Link::open(database).await?;
    link.run("begin", "begin isolation level repeatable read read only").await?;
    let schema = link.count("select max(version) from _sqlx_migrations").await?;
    line(out, &Head { af_backup: form.number(), schema })?;
    let catalog = link.catalog().await?;
    let mut rows = 0;
    for (table, columns) in &catalog {
        let names = columns.iter().map(|(name, _)| name.clone()).collect();
        line(out, &Table { table: table.clone(), columns: names })?;
        rows += link.write(table, columns, out).await?;
    }
    line(out, &End { end_after_rows: rows })?;
    Ok(Summary { schema, made_at: schema, tables: catalog.len(), rows })
}

/// A few sealed keys of projects, of a database that is not changed for it.
pub(crate) async fn project_keys(database: &Database) -> Result<Vec<(String, Vec<u8>)>, BackupError> {
    let query = "select project_id, sealed from project_keys order by project_id limit 10";
    match Link::open(database).await? {
        Link::Sqlite(mut link) => sqlx::query_as(query).fetch_all(&mut link).await.map_err(sql),
        Link::Postgres(mut link) => sqlx::query_as(query).fetch_all(&mut link).await.map_err(sql),
    }
}

/// Reads all rows into an empty database, which is made where it is missing. Nothing is in it unless all is. A backup of an older
/// schema is read into that one, which is then brought up to date as that of a server is that a newer version is started on.
/// `behind` reads what follows the rows, where something does, before the database keeps any of them.
///
/// # Errors
/// When the database is not empty, or the backup is not whole or of a newer version, and those of `behind`.
pub async fn load<R: BufRead>(
    database: &Database,
    mut from: R,
    behind: impl FnOnce(&mut R) -> Result<(), BackupError>,
) -> Result<Summary, BackupError> {
    let known = POSTGRES.iter().map(|migration| migration.version).max().unwrap_or_default();
    let head: Head = parse(next(&mut from)?)?;
    let forms = [Form::Rows, Form::Followed];
    let form = forms.into_iter().find(|form| form.number() == head.af_backup);
    let form = form.ok_or(BackupError::Form(head.af_backup))?;
    if head.schema > known {
        return Err(BackupError::Schema { found: head.schema, known });
    }
    if !POSTGRES.version_exists(head.schema) {
        return Err(damaged(&format!("no version of this program had the schema {}", head.schema)));
    }
    drop(Store::migrated(database, Some(head.schema)).await?);
    let mut link = Link::open(database).await?;
    let catalog = link.catalog().await?;
    // Outside of a transaction, where SQLite takes notice of it.
    link.run("pragma foreign_keys = off", "select 1").await?;
    link.run("begin immediate", "begin").await?;
    for table in catalog.keys() {
        let rows = link.count(&format!("select count(*) from \"{table}\"")).await?;
        if rows > 0 {
            return Err(BackupError::NotEmpty { table: table.clone(), rows });
        }
    }
    let found = link.count("select max(version) from _sqlx_migrations").await?;
    if found != head.schema {
        return Err(BackupError::Ahead { found, wanted: head.schema });
    }
    let constraints = link.loosen().await?;
    let rows = fill(&mut link, &catalog, &mut from).await?;
    link.tighten(constraints).await?;
    if form == Form::Followed {
        behind(&mut from)?;
    }
    // Its checksum stands at the end of the file.
    if from.read(&mut [0])? > 0 {
        return Err(damaged("something follows its end"));
    }
    // Revisions go on from those of the backup: edges that know later ones must not take the new ones for theirs.
    if catalog.contains_key("feed_keys") {
        link.run(
            "update feed_keys set epoch = 'epoch_' || lower(hex(randomblob(16)))",
            "update feed_keys set epoch = 'epoch_' || md5(random()::text)",
        )
        .await?;
    }
    link.run("commit", "commit").await?;
    drop(link);
    if head.schema < known {
        // All rows are there. Where this fails, the next start of a server tries it again.
        drop(Store::open(database).await?);
    }
    Ok(Summary { schema: known, made_at: head.schema, tables: catalog.len(), rows })
}

async fn fill(link: &mut Link, catalog: &Catalog, from: &mut impl BufRead) -> Result<u64, BackupError> {
    let (mut rows, mut current) = (0, None::<(String, Vec<Kind>)>);
    loop {
        let text = next(from)?;
        if text.starts_with(b"[") {
            let values: Vec<Value> = parse(text)?;
            let (insert, kinds) = current.as_ref().ok_or_else(|| damaged("a row is of no table"))?;
            if values.len() != kinds.len() {
                return Err(damaged("a row has other columns than its table"));
            }
            link.insert(insert, kinds, &values).await?;
            rows += 1;
            continue;
        }
        let fields: Map<String, Value> = parse(text.clone())?;
        if fields.contains_key("end_after_rows") {
            let End { end_after_rows } = parse(text)?;
            return if end_after_rows == rows { Ok(rows) } else { Err(damaged("rows are missing")) };
        }
        current = Some(statement(catalog, &parse(text)?)?);
    }
}

/// How rows of a table come in. Names are compared with those that there are before they become SQL.
fn statement(catalog: &Catalog, table: &Table) -> Result<(String, Vec<Kind>), BackupError> {
    let columns = catalog.get(&table.table).ok_or_else(|| damaged("it has a table that is unknown"))?;
    if columns.len() != table.columns.len() {
        return Err(damaged("a table has other columns"));
    }
    let kind = |wanted: &String| {
        let found = columns.iter().find(|(name, _)| name == wanted);
        found.map(|(_, kind)| *kind).ok_or_else(|| damaged("a table has other columns"))
    };
    let kinds = table.columns.iter().map(kind).collect::<Result<_, _>>()?;
    let names: Vec<String> = table.columns.iter().map(|name| format!("\"{name}\"")).collect();
    let places = super::sql::places(1, names.len());
    Ok((format!("insert into \"{}\" ({}) values ({places})", table.table, names.join(", ")), kinds))
}

fn line(out: &mut impl Write, value: &impl Serialize) -> Result<(), BackupError> {
    serde_json::to_writer(&mut *out, value).map_err(std::io::Error::from)?;
    Ok(out.write_all(b"\n")?)
}

fn next(from: &mut impl BufRead) -> Result<Vec<u8>, BackupError> {
    let mut text = Vec::new();
    from.by_ref().take(LINE).read_until(b'\n', &mut text)?;
    match text.pop() {
        Some(b'\n') => Ok(text),
        _ => Err(damaged("it ends early")),
    }
}

fn parse<T: for<'de> Deserialize<'de>>(text: Vec<u8>) -> Result<T, BackupError> {
    serde_json::from_slice(&text).map_err(|_| damaged("it has a line that is none"))
}

fn damaged(what: &str) -> BackupError {
    BackupError::Damaged(what.to_owned())
}

fn sql(error: sqlx::Error) -> BackupError {
    BackupError::Store(error.into())
}
