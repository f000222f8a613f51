//! The database: the only place with SQL. SQLite with one writer, so that no write ever waits for a lock.

pub(crate) mod content_keys;
pub(crate) mod deployments;
pub(crate) mod domains;
pub(crate) mod feed;
pub(crate) mod functions;
pub(crate) mod pin_keys;
pub(crate) mod placements;
pub(crate) mod projects;
pub(crate) mod settings;
pub(crate) mod site_deployments;
pub(crate) mod sites;
pub(crate) mod storage;
pub(crate) mod tokens;
pub(crate) mod triggers;
pub(crate) mod users;

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqlitePool, Transaction};

pub use self::deployments::DeploymentRow;
pub use self::domains::DomainRow;
pub use self::functions::FunctionRow;
pub use self::placements::PlacementRow;
pub use self::projects::ProjectRow;
pub use self::site_deployments::SiteDeploymentRow;
pub use self::sites::SiteRow;
pub use self::storage::{PinRow, Usage};
pub use self::tokens::{NewToken, TokenRow};
pub use self::users::UserRow;

const READERS: u32 = 4;
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the database did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Something with this unique value exists already.
    #[error("{0} is taken")]
    Taken(&'static str),
    /// The schema is newer than this program, or damaged.
    #[error("the database's schema cannot be brought up to date")]
    Migrate(#[from] sqlx::migrate::MigrateError),
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

/// Open connections. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    writer: SqlitePool,
    reader: SqlitePool,
}

impl Store {
    /// Opens or makes the database and applies the migrations that it lacks.
    ///
    /// # Errors
    /// When the file cannot be used, or its schema is newer than this program.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A commit is on the disk when it returns: what was answered survives a power cut.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let writer = SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await?;
        sqlx::migrate!().run(&writer).await?;
        let reader = SqlitePoolOptions::new().max_connections(READERS);
        let reader = reader.connect_with(options.read_only(true)).await?;
        Ok(Self { writer, reader })
    }

    /// Starts a transaction that may write.
    pub(crate) async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.writer.begin_with("begin immediate").await?)
    }

    /// A connection for several statements that only read.
    pub(crate) async fn read(&self) -> Result<sqlx::pool::PoolConnection<Sqlite>, StoreError> {
        Ok(self.reader.acquire().await?)
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
    match text {
        text if text.contains("functions.slug") || text.contains("sites.slug") => StoreError::Taken("slug"),
        text if text.contains("functions.name") || text.contains("sites.name") => StoreError::Taken("name"),
        text if text.contains("tokens.name") => StoreError::Taken("name"),
        text if text.contains("domains.hostname") => StoreError::Taken("hostname"),
        _ => error.into(),
    }
}

fn parse<T: std::str::FromStr>(what: &'static str, text: &str) -> Result<T, StoreError> {
    text.parse().map_err(|_| StoreError::Value { what, value: text.to_owned() })
}

fn unsigned(what: &'static str, value: i64) -> Result<u64, StoreError> {
    u64::try_from(value).map_err(|_| StoreError::Value { what, value: value.to_string() })
}
