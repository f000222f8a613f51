//! The two engines: they hold the same, and neither is used by a program that is older than what is in it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use af_content::DiskStore;
use af_contract::{Limits, limits};
use af_control_api::{
    ApiConfig, Clock, ControlApi, ControlConfig, ControlError, DomainConfig, StorageConfig,
};
use support::{Engine, Stored, on};

async fn build(dir: &std::path::Path, stored: &Stored) -> Result<ControlApi, ControlError> {
    let config = ControlConfig {
        database: stored.database.clone(),
        master_key: dir.join("master.key").into(),
        invoke_url: "http://{slug}.localhost:8080".into(),
        rate_limit: limits::REQUESTS_PER_SECOND,
        limits: Limits::default(),
        clock: Clock::System,
        storage: StorageConfig::default(),
        gateway: None,
        api: ApiConfig::default(),
        graphql: af_control_api::GraphqlConfig::default(),
        javascript: None,
        domains: DomainConfig::default(),
    };
    ControlApi::build(config, DiskStore::open(dir.join("blocks")).unwrap()).await
}

async fn a_newer_schema_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let stored = Stored::new(dir.path()).await;
    drop(build(dir.path(), &stored).await.unwrap());
    let newer = "insert into _sqlx_migrations (version, description, installed_on, success, checksum, execution_time)
        select 9999, 'of the future', installed_on, success, checksum, 0 from _sqlx_migrations order by version limit 1";
    stored.script(newer).await;
    let Err(error) = build(dir.path(), &stored).await else { panic!("it was used") };
    let text = std::error::Error::source(&error).unwrap().to_string();
    assert!(text.contains("9999") && text.contains("newer version"), "{text}");
}

/// On PostgreSQL, whose statements are cut after a while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_takes_as_long_as_it_takes() {
    on(Engine::Postgres, async {
        let dir = tempfile::tempdir().unwrap();
        let stored = Stored::new(dir.path()).await;
        let script = "create function look() returns event_trigger language plpgsql as $$ begin
                if current_setting('statement_timeout') <> '0' then raise 'a migration can be cut'; end if;
            end $$;
            create event trigger look on ddl_command_start execute function look();";
        stored.script(script).await;
        drop(build(dir.path(), &stored).await.unwrap());
        let cut = stored.try_script("create table other (id bigint)").await;
        assert!(cut.unwrap_err().contains("a migration can be cut"), "nobody looks");
    })
    .await;
}

/// Names of all tables and their columns.
async fn columns(engine: Engine) -> Vec<String> {
    let (found, hand_over) = tokio::sync::oneshot::channel();
    on(engine, async {
        let dir = tempfile::tempdir().unwrap();
        let stored = Stored::new(dir.path()).await;
        drop(build(dir.path(), &stored).await.unwrap());
        let query = match engine {
            Engine::Sqlite => {
                "select m.name || '.' || c.name, x'' from sqlite_master m join pragma_table_info(m.name) c
                where m.type = 'table' and m.name not like 'sqlite%' order by 1"
            }
            Engine::Postgres => {
                "select table_name || '.' || column_name, ''::bytea from information_schema.columns
                where table_schema = 'public' order by 1"
            }
        };
        let mut names: Vec<String> = stored.rows(query).await.into_iter().map(|(name, _)| name).collect();
        names.retain(|name| !name.starts_with("_sqlx"));
        names.sort();
        found.send(names).unwrap();
    })
    .await;
    hand_over.await.unwrap()
}

#[tokio::test]
async fn both_engines_have_the_same_tables_and_columns() {
    let sqlite = columns(Engine::Sqlite).await;
    assert!(sqlite.contains(&"functions.slug".to_owned()));
    assert_eq!(sqlite, columns(Engine::Postgres).await);
}

/// Each makes the schema, the master key's first use, the first user and a token, if nobody has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_start_at_once_on_an_empty_database_make_one_user() {
    on(Engine::Postgres, async {
        let dir = tempfile::tempdir().unwrap();
        let stored = Box::pin(Stored::new(dir.path())).await;
        // An operator gives all of them the same.
        std::fs::write(dir.path().join("master.key"), [7; 32]).unwrap();
        let start = async |token: Option<&'static str>| {
            let control = Box::pin(build(dir.path(), &stored)).await.unwrap();
            let made = control.bootstrap(token).await.unwrap();
            (control, made)
        };
        const GIVEN: &str = "af_live_given_to_each_of_them";
        let at_once = [None, Some(GIVEN), Some(GIVEN), None].map(|token| Box::pin(start(token)));
        let started = futures::future::join_all(at_once).await;
        let made: Vec<_> = started.iter().filter_map(|(_, made)| made.as_ref()).collect();
        assert_eq!(made.len(), 1, "one of them was first");
        for (control, _) in &started {
            assert!(control.accepts(&made[0].token).await);
            assert!(control.accepts(GIVEN).await);
        }
        for (what, count) in [("users", 1), ("organizations", 1), ("projects", 1)] {
            let rows = format!("select count(*)::text, ''::bytea from {what}");
            assert_eq!(stored.rows(&rows).await[0].0, count.to_string(), "{what}");
        }
    })
    .await;
}

crate::on_both!(a_newer_schema_is_refused_and_left_alone);
