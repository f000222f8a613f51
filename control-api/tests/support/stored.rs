//! The database of a test, of the engine that its story is told with.

use std::cell::Cell;
use std::path::Path;

use af_control_api::Database;
use sqlx::{AssertSqlSafe, PgPool, Row, SqlitePool};

use super::postgres::Postgres;
use super::{ENGINE, Engine, STRANGER};

/// A database of the story's engine.
pub struct Stored {
    pub database: Database,
    pool: Pool,
    _postgres: Option<Postgres>,
}

/// The place of the one who writes.
pub enum Held {
    Sqlite(sqlx::Transaction<'static, sqlx::Sqlite>),
    Postgres(sqlx::Transaction<'static, sqlx::Postgres>),
}

#[derive(Clone)]
enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Stored {
    pub async fn new(dir: &Path) -> Self {
        match ENGINE.try_with(Cell::get).unwrap_or(Engine::Sqlite) {
            Engine::Sqlite => {
                let file = dir.join("af.sqlite");
                let options =
                    sqlx::sqlite::SqliteConnectOptions::new().filename(&file).create_if_missing(true);
                let pool = Pool::Sqlite(SqlitePool::connect_lazy_with(options));
                Self { database: Database::Sqlite(file), pool, _postgres: None }
            }
            Engine::Postgres => {
                let postgres = tokio::task::spawn_blocking(Postgres::new).await.unwrap();
                let database: Database = postgres.url.parse().unwrap();
                let Database::Postgres(options) = &database else { panic!() };
                let pool = Pool::Postgres(PgPool::connect_lazy_with((**options).clone()));
                Self { database, pool, _postgres: Some(postgres) }
            }
        }
    }

    /// The same one, for another server.
    pub(super) fn shared(&self) -> Self {
        Self { database: self.database.clone(), pool: self.pool.clone(), _postgres: None }
    }

    pub fn is_postgres(&self) -> bool {
        matches!(self.pool, Pool::Postgres(_))
    }

    /// Rows of a text and bytes.
    pub async fn rows(&self, query: &str) -> Vec<(String, Vec<u8>)> {
        let query = AssertSqlSafe(query.to_owned());
        match &self.pool {
            Pool::Sqlite(pool) => sqlx::query_as(query).fetch_all(pool).await.unwrap(),
            Pool::Postgres(pool) => sqlx::query_as(query).fetch_all(pool).await.unwrap(),
        }
    }

    /// With one value, of bytes.
    pub async fn write(&self, statement: &str, bytes: &[u8]) {
        let statement = AssertSqlSafe(statement.to_owned());
        match &self.pool {
            Pool::Sqlite(pool) => drop(sqlx::query(statement).bind(bytes).execute(pool).await.unwrap()),
            Pool::Postgres(pool) => drop(sqlx::query(statement).bind(bytes).execute(pool).await.unwrap()),
        }
    }

    /// How the database would answer a statement, whatever its values are, step by step.
    pub async fn plan(&self, statement: &str) -> Vec<String> {
        match &self.pool {
            Pool::Sqlite(pool) => {
                let query = AssertSqlSafe(format!("explain query plan {statement}"));
                let steps: Vec<(i64, i64, i64, String)> =
                    sqlx::query_as(query).fetch_all(pool).await.unwrap();
                steps.into_iter().map(|(_, _, _, step)| step).collect()
            }
            Pool::Postgres(pool) => {
                let values = (1..2000).rev().find(|place| statement.contains(&format!("${place}")));
                let values = vec!["null"; values.unwrap_or_default()].join(", ");
                let values = if values.is_empty() { values } else { format!("({values})") };
                let mut db = pool.acquire().await.unwrap();
                // The program says which type such a value has.
                let statement = (1..9).fold(statement.to_owned(), |said, place| {
                    said.replace(&format!("${place} is null"), &format!("${place}::text is null")).replace(
                        &format!("sealed = v.column{place}"),
                        &format!("sealed = v.column{place}::bytea"),
                    )
                });
                let prepare =
                    format!("set plan_cache_mode = force_generic_plan; prepare planned as {statement}");
                let prepared = sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut *db).await;
                prepared.unwrap_or_else(|error| panic!("{statement}: {error}"));
                let query = AssertSqlSafe(format!("explain execute planned{values}"));
                let steps = sqlx::raw_sql(query).fetch_all(&mut *db).await.unwrap();
                sqlx::raw_sql("deallocate planned").execute(&mut *db).await.unwrap();
                steps.iter().map(|step| step.get::<String, _>(0).trim().to_owned()).collect()
            }
        }
    }

    /// Keeps everybody else from writing until it is dropped.
    pub async fn hold(&self) -> Held {
        match &self.pool {
            Pool::Sqlite(pool) => Held::Sqlite(pool.begin_with("begin immediate").await.unwrap()),
            Pool::Postgres(pool) => {
                let mut held = pool.begin().await.unwrap();
                let lock = "select pg_advisory_xact_lock(4702394921427289928)";
                sqlx::query(lock).execute(&mut *held).await.unwrap();
                Held::Postgres(held)
            }
        }
    }

    /// Makes it as a version of the program did that had no later migration.
    pub async fn migrate_to(&self, version: i64) {
        let engine = if self.is_postgres() { "postgres" } else { "sqlite" };
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(engine);
        let migrator = sqlx::migrate::Migrator::new(dir).await.unwrap();
        match &self.pool {
            Pool::Sqlite(pool) => migrator.run_to(version, pool).await.unwrap(),
            Pool::Postgres(pool) => migrator.run_to(version, pool).await.unwrap(),
        }
    }

    /// Several statements without values.
    pub async fn script(&self, script: &str) {
        let script = sqlx::raw_sql(AssertSqlSafe(script.to_owned()));
        match &self.pool {
            Pool::Sqlite(pool) => drop(script.execute(pool).await.unwrap()),
            Pool::Postgres(pool) => drop(script.execute(pool).await.unwrap()),
        }
    }

    /// What the database says to statements that it refuses.
    pub async fn try_script(&self, script: &str) -> Result<(), String> {
        let script = sqlx::raw_sql(AssertSqlSafe(script.to_owned()));
        let done = match &self.pool {
            Pool::Sqlite(pool) => script.execute(pool).await.map(drop),
            Pool::Postgres(pool) => script.execute(pool).await.map(drop),
        };
        done.map_err(|error| error.to_string())
    }

    /// A second user with a project of their own. There is no sign-up yet, so the test writes the rows.
    pub(super) async fn add_stranger(&self) {
        let hash = ring::digest::digest(&ring::digest::SHA256, STRANGER.as_bytes());
        self.script(
            "insert into users (id, name, created_at) values ('usr_2', 'stranger', 0);
             insert into organizations (id, name, created_at, updated_at) values ('org_2', 'other', 0, 0);
             insert into organization_members values ('org_2', 'usr_2', 'owner', 0);
             insert into projects (id, organization_id, name, created_at, updated_at)
                values ('prj_2', 'org_2', 'other', 0, 0);",
        )
        .await;
        let token = "insert into tokens (id, user_id, name, hash, masked, created_at)
            values ('tok_2', 'usr_2', 'their own', $1, 'af…', 0)";
        self.write(token, hash.as_ref()).await;
    }
}
