//! The database: the only place with SQL. Writes go one after another, on SQLite and on PostgreSQL.

pub(crate) mod audit;
pub mod backup;
pub(crate) mod builds;
pub(crate) mod content_keys;
pub(crate) mod deployments;
pub(crate) mod domains;
pub(crate) mod edges;
pub(crate) mod feed;
mod file;
pub(crate) mod functions;
pub(crate) mod idempotency;
pub(crate) mod left;
pub(crate) mod logins;
pub(crate) mod logs;
pub(crate) mod organizations;
pub(crate) mod pin_keys;
pub(crate) mod placements;
pub(crate) mod plans;
pub(crate) mod projects;
pub(crate) mod pruning;
pub(crate) mod reports;
pub(crate) mod rollouts;
pub(crate) mod settings;
pub(crate) mod signing_keys;
pub(crate) mod site_deployments;
pub(crate) mod sites;
pub(crate) mod slugs;
mod sql;
pub(crate) mod storage;
pub(crate) mod tokens;
pub(crate) mod triggers;
pub(crate) mod usage;
mod used_proofs;
pub(crate) mod users;

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection as _, PgConnection};

pub use self::audit::AuditRow;
pub use self::builds::{BuildRow, DeployedRow};
pub use self::deployments::DeploymentRow;
pub use self::domains::DomainRow;
pub use self::edges::{EdgeRow, FeedKeyRow};
pub use self::functions::FunctionRow;
pub use self::left::LeftRow;
pub use self::logins::{LoginBy, LoginRow};
pub use self::organizations::{InvitationRow, MemberRow, OrganizationRow};
pub use self::placements::PlacementRow;
pub(crate) use self::plans::PlanRateRow;
pub use self::plans::{OwnPlan, PlanLimits, PlanRow};
pub use self::projects::ProjectRow;
pub use self::reports::ReportedRow;
pub use self::rollouts::RolloutRow;
pub use self::settings::SettingRow;
pub use self::signing_keys::SigningKeyRow;
pub use self::site_deployments::SiteDeploymentRow;
pub use self::sites::SiteRow;
pub(crate) use self::sql::{Connection, Transaction};
pub use self::storage::{PinRow, Usage};
pub use self::tokens::{NewToken, TokenRow};
pub use self::users::UserRow;

/// Connections that read.
const SQLITE_READERS: u32 = 4;
const POSTGRES_READERS: u32 = 12;

/// Of the file, in the memory of each connection, as SQLite has it: what a page of the feed is joined with stays there.
const SQLITE_CACHE: &str = "-16384";

/// Connections that write, or wait for their turn to: others', so that whoever has the turn can read.
const POSTGRES_WRITERS: u32 = 4;

/// For the file's lock, which only another program can hold; and for a connection of the pool.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// For one's turn to write on PostgreSQL: as long as a statement may wait for the lock.
const TURN_TIMEOUT: Duration = Duration::from_secs(15);

/// No statement here takes as long: one that does is cut, on PostgreSQL, before it holds up others.
const STATEMENT_TIMEOUT: &str = "15s";

static SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("migrations/postgres");

/// Which database.
#[derive(Clone, Debug)]
pub enum Database {
    /// A file, made when it is missing.
    Sqlite(PathBuf),
    /// A server.
    Postgres(Box<PgConnectOptions>),
}

/// An address that is none.
#[derive(Debug, thiserror::Error)]
pub enum BadAddress {
    /// Of something else.
    #[error("the database's address begins with postgres://; leave it out for a SQLite file")]
    Scheme,
    /// No URL, or with options that there are not.
    #[error("the database's address cannot be used: {0}")]
    Options(#[from] sqlx::Error),
}

/// `postgres://USER:PASSWORD@HOST:PORT/NAME`, with `?sslmode=verify-full` and the like.
impl FromStr for Database {
    type Err = BadAddress;

    fn from_str(url: &str) -> Result<Self, BadAddress> {
        if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err(BadAddress::Scheme);
        }
        let options: PgConnectOptions = url.parse()?;
        let options = options.application_name("af").options([
            ("statement_timeout", STATEMENT_TIMEOUT),
            ("idle_in_transaction_session_timeout", "60s"),
            // What is joined is a page, and what belongs to it is looked up by key. Left to itself, the planner reads all
            // 100,000 functions to join one change of the feed with them: it takes a page for as large as it may be.
            ("enable_hashjoin", "off"),
            ("enable_mergejoin", "off"),
        ]);
        Ok(Self::Postgres(Box::new(options)))
    }
}

/// Why the database did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Something with this unique value exists already.
    #[error("{0} is taken")]
    Taken(&'static str),
    /// A newer program has been here.
    #[error(
        "the database has the schema {found} of a newer version of this program, which knows {known} at most; use that \
         version, or restore a backup that was made before"
    )]
    Newer {
        /// What it has.
        found: i64,
        /// What this program knows.
        known: i64,
    },
    /// There is no server, or it wants somebody else.
    #[error("PostgreSQL at {host}:{port} cannot be used: {error}")]
    Unreachable {
        /// Its host.
        host: String,
        /// Its port.
        port: u16,
        /// What came instead.
        error: sqlx::Error,
    },
    /// The schema is damaged, or another program's.
    #[error("the database's schema cannot be brought up to date")]
    Migrate(#[from] MigrateError),
    /// Anything else: disk full, file locked, a bug.
    #[error("the database failed")]
    Sql(#[from] sqlx::Error),
    /// A stored value has lost its form.
    #[error("the database holds a {what} that is none: {value}")]
    Value {
        /// What it should be.
        what: &'static str,
        /// What it is.
        value: String,
    },
}

impl StoreError {
    /// A text has a NUL, which PostgreSQL takes none of ("character not in repertoire").
    #[must_use]
    pub fn is_no_text(&self) -> bool {
        matches!(self, Self::Sql(sqlx::Error::Database(error)) if error.code().as_deref() == Some("22021"))
    }

    /// Whether the database refuses a value or a row for what it is, and so would again: of PostgreSQL the classes "data exception",
    /// "integrity constraint violation" and what functions raise, of SQLite the results TOOBIG, CONSTRAINT, MISMATCH and RANGE.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Taken(_) | Self::Value { .. } | Self::Sql(sqlx::Error::Encode(_)) => true,
            Self::Sql(sqlx::Error::Database(error)) => {
                let Some(code) = error.code() else { return false };
                match code.len() {
                    5 => ["22", "23", "P0"].iter().any(|class| code.starts_with(class)),
                    // The lower byte is the result, the others say more of it.
                    _ => code.parse::<u32>().is_ok_and(|code| [18, 19, 20, 25].contains(&(code & 0xff))),
                }
            }
            _ => false,
        }
    }
}

/// Open connections. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    writer: sql::Pool,
    reader: sql::Pool,
}

impl Store {
    /// Whether other servers may use the same database.
    pub(crate) const fn is_shared(&self) -> bool {
        matches!(self.writer, sql::Pool::Postgres(_))
    }

    /// Opens or makes the database and applies the migrations that it lacks.
    ///
    /// # Errors
    /// When it cannot be used, or its schema is newer than this program.
    pub async fn open(database: &Database) -> Result<Self, StoreError> {
        Self::migrated(database, None).await
    }

    /// As [`Self::open`], with migrations up to this one only.
    pub(crate) async fn migrated(database: &Database, to: Option<i64>) -> Result<Self, StoreError> {
        match database {
            Database::Sqlite(path) => {
                file::for_its_owner(path).map_err(sqlx::Error::Io)?;
                let options = SqliteConnectOptions::new()
                    .filename(path)
                    .create_if_missing(true)
                    .journal_mode(SqliteJournalMode::Wal)
                    // A commit is on the disk when it returns: what was answered survives a power cut.
                    .synchronous(SqliteSynchronous::Full)
                    .foreign_keys(true)
                    .pragma("cache_size", SQLITE_CACHE)
                    .busy_timeout(BUSY_TIMEOUT);
                let writer =
                    SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await?;
                let migrated = match to {
                    Some(to) => SQLITE.run_to(to, &writer).await,
                    None => SQLITE.run(&writer).await,
                };
                migrated.map_err(newer(&SQLITE))?;
                let reader = SqlitePoolOptions::new().max_connections(SQLITE_READERS);
                let reader = reader.connect_with(options.read_only(true)).await?;
                Ok(Self { writer: sql::Pool::Sqlite(writer), reader: sql::Pool::Sqlite(reader) })
            }
            Database::Postgres(options) => {
                // Once by itself: the pool would try again and again, and not say why in the end.
                let first = PgConnection::connect_with(options).await;
                let mut first = first.map_err(unreachable(options))?;
                // A migration of large tables takes longer than any statement of the server may, and so may another server's that is
                // waited for.
                sqlx::query("set statement_timeout = 0").execute(&mut first).await?;
                let migrated = match to {
                    Some(to) => POSTGRES.run_to(to, &mut first).await,
                    None => POSTGRES.run(&mut first).await,
                };
                migrated.map_err(newer(&POSTGRES))?;
                first.close().await?;
                let writer = PgPoolOptions::new().max_connections(POSTGRES_WRITERS);
                let writer =
                    writer.acquire_timeout(TURN_TIMEOUT).connect_with(options.as_ref().clone()).await?;
                let reader = PgPoolOptions::new().max_connections(POSTGRES_READERS);
                let reader =
                    reader.acquire_timeout(BUSY_TIMEOUT).connect_with(options.as_ref().clone()).await?;
                Ok(Self { writer: sql::Pool::Postgres(writer), reader: sql::Pool::Postgres(reader) })
            }
        }
    }

    /// Starts a transaction that may write.
    pub(crate) async fn begin(&self) -> Result<Transaction, StoreError> {
        Ok(self.writer.begin().await?)
    }

    /// Starts a transaction that only reads, all of it as it was at one moment.
    pub(crate) async fn snapshot(&self) -> Result<Transaction, StoreError> {
        Ok(self.reader.snapshot().await?)
    }

    /// A connection for several statements that only read.
    pub(crate) async fn read(&self) -> Result<Connection, StoreError> {
        Ok(self.reader.acquire().await?)
    }
}

fn unreachable(options: &PgConnectOptions) -> impl Fn(sqlx::Error) -> StoreError {
    let (host, port) = (options.get_host().to_owned(), options.get_port());
    move |error| StoreError::Unreachable { host: host.clone(), port, error }
}

/// Nothing is changed where a newer program has been.
fn newer(migrator: &Migrator) -> impl Fn(MigrateError) -> StoreError {
    let known = migrator.iter().map(|migration| migration.version).max().unwrap_or_default();
    move |error| match error {
        MigrateError::VersionMissing(found) => StoreError::Newer { found, known },
        error => error.into(),
    }
}

/// Names the unique value that an insert or update collided with.
fn taken(error: sqlx::Error) -> StoreError {
    let sqlx::Error::Database(database) = &error else { return error.into() };
    let text = database.message();
    // Of a trigger, which is how functions and sites share their slugs.
    if text.starts_with("slug is taken by ") {
        return StoreError::Taken("slug");
    }
    if !database.is_unique_violation() {
        return error.into();
    }
    // PostgreSQL names the constraint, SQLite the columns.
    let what = database.constraint().unwrap_or(text);
    let any = |names: &[&str]| names.iter().any(|name| what.contains(name));
    if any(&["functions.slug", "functions_slug_key", "sites.slug", "sites_slug_key"]) {
        StoreError::Taken("slug")
    } else if any(&["domains.hostname", "domains_project_id_hostname_key", "domains_verified"]) {
        StoreError::Taken("hostname")
    } else if any(&["functions.name", "sites.name", "tokens.name", "_name_key"]) {
        StoreError::Taken("name")
    } else {
        error.into()
    }
}

/// Seals what a table has otherwise: rows by their keys, and what is sealed now, a thousand at a time.
async fn replace_sealed<'v, const KEYS: usize>(
    db: &mut Connection,
    table: &str,
    keys: [&str; KEYS],
    values: impl Iterator<Item = ([&'v String; KEYS], &'v Vec<u8>)>,
) -> Result<(), StoreError> {
    let values: Vec<_> = values.collect();
    for values in values.chunks(1000) {
        let same: Vec<String> =
            keys.iter().zip(1..).map(|(key, number)| format!("t.{key} = v.column{number}")).collect();
        let query = format!(
            "update {table} as t set sealed = v.column{} from (values {}) as v where {}",
            KEYS + 1,
            sql::rows(values.len(), KEYS + 1),
            same.join(" and ")
        );
        let mut query = sql::query(sqlx::AssertSqlSafe(query));
        for (keys, sealed) in values {
            query = query.bind_each(keys).bind(sealed.as_slice());
        }
        query.execute(&mut *db).await?;
    }
    Ok(())
}

fn parse<T: std::str::FromStr>(what: &'static str, text: &str) -> Result<T, StoreError> {
    text.parse().map_err(|_| StoreError::Value { what, value: text.to_owned() })
}

fn unsigned(what: &'static str, value: i64) -> Result<u64, StoreError> {
    u64::try_from(value).map_err(|_| StoreError::Value { what, value: value.to_string() })
}
