//! A backup of either engine becomes a database of either, and answers the same.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use std::time::{SystemTime, UNIX_EPOCH};

use af_contract::edge::UsageBatch;
use af_contract::usage::{HOUR, Usage, UsageRecord};
use af_control_api::Database;
use af_control_api::store::backup::{BackupError, Form, Summary, dump};
use serde_json::{Value, json};
use support::{Engine, OWNER, STRANGER, Served, Stored, on};

/// Of rows and nothing else.
async fn load(database: &Database, from: &[u8]) -> Result<Summary, BackupError> {
    af_control_api::store::backup::load(database, from, |_| panic!("nothing follows the rows")).await
}

/// What a member of all sees.
async fn seen(served: &Served) -> Vec<Value> {
    let mut all = Vec::new();
    let (_, projects) = served.call("get", "/v1/projects", Some(OWNER), Value::Null).await;
    let project = projects["data"][0]["id"].as_str().unwrap().to_owned();
    for path in [
        "functions",
        "sites",
        "domains",
        "members",
        "keys",
        "audit",
        "storage",
        "settings",
        "secrets",
        "quotas",
        "usage",
    ] {
        let path = format!("/v1/projects/{project}/{path}");
        let (status, page) = served.call("get", &path, Some(OWNER), Value::Null).await;
        assert_eq!(status, 200, "{path} {page}");
        all.push(page);
    }
    all.push(projects);
    all
}

/// A server with something of most kinds, and its backup.
async fn backed_up() -> (Served, Vec<u8>) {
    let served = Served::start().await;
    let (_, projects) = served.call("get", "/v1/projects", Some(OWNER), Value::Null).await;
    let root = format!("/v1/projects/{}", projects["data"][0]["id"].as_str().unwrap());
    let made = async |path: String, body: Value| {
        let (status, made) = served.call("post", &path, Some(OWNER), body).await;
        assert_eq!(status, 201, "{made}");
        made
    };
    let function = made(format!("{root}/functions"), json!({ "name": "hello" })).await;
    made(format!("{root}/sites"), json!({ "name": "pages" })).await;
    let claim = json!({ "hostname": "www.example.com", "functionId": function["id"] });
    made(format!("{root}/domains"), claim).await;
    made(format!("{root}/keys"), json!({ "name": "ci", "role": "viewer" })).await;
    made("/v1/tokens/session".into(), json!({})).await;
    let plan = made("/v1/plans".into(), json!({ "name": "small", "limits": { "functions": 5 } })).await;
    let path = format!("/v1/organizations/{}/plan", projects["data"][0]["organizationId"].as_str().unwrap());
    let plan = json!({ "planId": plan["id"] });
    assert_eq!(served.call("put", &path, Some(OWNER), plan).await.0, 204);
    for (kind, value) in [("settings", "shown"), ("secrets", "never")] {
        let body = json!({ "values": { kind.to_uppercase(): value } });
        assert_eq!(served.call("patch", &format!("{root}/{kind}"), Some(OWNER), body).await.0, 200);
    }
    let id = function["id"].as_str().unwrap();
    // Functions and deployments refer to each other.
    let insert = "insert into deployments (id, function_id, number, manifest_cid, code_cid, blake3, size, world, author_id,
            created_at) select 'dep_1', id, 1, '-', '-', '-', 1, 'proxy', (select min(id) from users), 1 from functions;
        update functions set current_deployment_id = 'dep_1'";
    served.stored.script(insert).await;
    assert!(id.starts_with("fn_"));
    served.control.usage(&used(&function)).await.unwrap();
    let mut file = Vec::new();
    let summary = dump(&served.stored.database, Form::Rows, &mut file).await.unwrap();
    assert!(summary.rows > 15 && summary.tables > 20, "{summary:?}");
    (served, file)
}

/// What an edge counted.
fn used(function: &Value) -> UsageBatch {
    let hour = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 3_600;
    let usage = Usage { requests: 7, sent_bytes: 9, ..Usage::default() };
    let record = UsageRecord {
        subject: function["id"].as_str().unwrap().to_owned(),
        hour: i64::try_from(hour).unwrap() * HOUR,
        usage,
    };
    UsageBatch { source: "a".into(), number: 1, records: vec![record] }
}

async fn moved(from: Engine, to: Engine) {
    let (sent, received) = tokio::sync::oneshot::channel();
    let story = async {
        let (served, file) = backed_up().await;
        let key = std::fs::read(served.dir().join("master.key")).unwrap();
        assert!(sent.send((seen(&served).await, file, key)).is_ok());
    };
    Box::pin(on(from, story)).await;
    let (before, file, key) = received.await.unwrap();
    let story = async {
        let dir = tempfile::tempdir().unwrap();
        let stored = Stored::new(dir.path()).await;
        load(&stored.database, &file[..]).await.unwrap();
        let mut again = Vec::new();
        dump(&stored.database, Form::Rows, &mut again).await.unwrap();
        assert_eq!(lines(&file), lines(&again), "row for row");
        std::fs::write(dir.path().join("master.key"), key).unwrap();
        let served = Served::restored(stored, dir).await;
        assert_eq!(seen(&served).await, before);
        assert!(before.iter().any(|page| page["total"]["requests"] == 7), "what was used is there");
        let function = before.iter().find(|page| page["data"][0]["name"] == "hello").unwrap();
        served.control.usage(&used(&function["data"][0])).await.unwrap();
        assert_eq!(seen(&served).await, before, "a batch that was taken before the backup counts no more");
        assert!(before.iter().any(|page| page["data"][0]["value"] == "shown"), "settings can be opened");
        assert_eq!(served.call("get", "/v1/projects", Some(STRANGER), Value::Null).await.0, 200);
        let Err(BackupError::NotEmpty { .. }) = load(&served.stored.database, &file[..]).await else {
            panic!("it went into a database that is not empty")
        };
        // References and the log are guarded as before.
        let refused = served.stored.try_script("delete from audit").await.unwrap_err();
        assert!(refused.contains("only added to"));
        served.stored.try_script("update functions set project_id = 'prj_unknown'").await.unwrap_err();
    };
    Box::pin(on(to, story)).await;
}

/// Rows have no order that matters, nor have columns.
fn lines(file: &[u8]) -> Vec<String> {
    let mut table = (String::new(), Vec::new());
    let mut lines = Vec::new();
    for line in std::str::from_utf8(file).unwrap().lines() {
        let value: Value = serde_json::from_str(line).unwrap();
        if let Some(name) = value["table"].as_str() {
            let columns = value["columns"].as_array().unwrap();
            table = (name.into(), columns.iter().map(|column| column.as_str().unwrap().to_owned()).collect());
        } else if let Some(values) = value.as_array() {
            let mut cells: Vec<String> =
                table.1.iter().zip(values).map(|(name, value)| format!("{name}={value}")).collect();
            cells.sort();
            lines.push(format!("{}: {}", table.0, cells.join(" ")));
        }
    }
    lines.sort();
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_becomes_postgres() {
    moved(Engine::Sqlite, Engine::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_becomes_sqlite() {
    moved(Engine::Postgres, Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_becomes_sqlite() {
    moved(Engine::Sqlite, Engine::Sqlite).await;
}

/// Whatever is wrong with it, nothing of it is in the database.
async fn what_is_no_whole_backup_leaves_nothing() {
    let (_served, file) = backed_up().await;
    let text = String::from_utf8(file.clone()).unwrap();
    let all: Vec<&str> = text.lines().collect();
    let user = all.iter().position(|line| line.contains("\"users\"")).unwrap() + 1;
    let without = |at: usize| {
        let kept: Vec<&str> =
            all.iter().enumerate().filter(|(number, _)| *number != at).map(|(_, line)| *line).collect();
        format!("{}\n", kept.join("\n")).into_bytes()
    };
    let dir = tempfile::tempdir().unwrap();
    let stored = Stored::new(dir.path()).await;
    for (what, bad) in [
        ("cut", file[..file.len() / 2].to_vec()),
        ("cut at a line", format!("{}\n", all[..all.len() - 1].join("\n")).into_bytes()),
        ("a row is missing", without(user)),
        ("a table is missing", without(user - 1)),
        ("an unknown table", text.replace("\"users\"", "\"users\\\"; drop table users; --\"").into_bytes()),
        ("an unknown column", text.replace("\"created_at\"", "\"createdAt\"").into_bytes()),
        (
            "a reference to nothing",
            text.replacen("\"org_2\",\"usr_2\"", "\"org_2\",\"usr_9\"", 1).into_bytes(),
        ),
        ("nothing", Vec::new()),
        ("no JSON", text.replace('[', "{").into_bytes()),
    ] {
        assert!(what == "nothing" || bad != file, "{what}");
        assert!(load(&stored.database, &bad[..]).await.is_err(), "{what}");
        let users = stored.rows("select id, hash from tokens").await;
        assert!(users.is_empty(), "{what}");
    }
    let other = text.replacen("\"schema\":", "\"schema\":9", 1);
    let Err(BackupError::Schema { .. }) = load(&stored.database, other.as_bytes()).await else {
        panic!("of another version")
    };
    load(&stored.database, &file[..]).await.unwrap();
}

/// A backup as the version made it whose newest migration this is.
async fn made_at(schema: i64) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let stored = Stored::new(dir.path()).await;
    stored.migrate_to(schema).await;
    let rows = "insert into users (id, name, created_at) values ('usr_1', 'owner', 1);
        insert into projects (id, name, created_at, updated_at) values ('prj_1', 'old', 1, 1);
        insert into project_members (project_id, user_id) values ('prj_1', 'usr_1');
        insert into functions (id, project_id, name, slug, status, routes, created_at, updated_at)
            values ('fn_1', 'prj_1', 'hello', 'hello', 'ACTIVE', '{\"/a\":\"https://example.com\"}', 1, 1);
        insert into deployments (id, function_id, number, manifest_cid, code_cid, blake3, size, world, author_id, created_at)
            values ('dep_1', 'fn_1', 1, '-', '-', '-', 1, 'proxy', 'usr_1', 1);
        update functions set current_deployment_id = 'dep_1';
        insert into sites (id, project_id, name, slug, created_at, updated_at) values ('site_1', 'prj_1', 'pages', 'pages', 1, 1);";
    stored.script(rows).await;
    let token = "insert into tokens (id, user_id, name, hash, masked, created_at)
        values ('tok_1', 'usr_1', 'old', $1, 'af…', 1)";
    stored.write(token, ring::digest::digest(&ring::digest::SHA256, OWNER.as_bytes()).as_ref()).await;
    let mut file = Vec::new();
    let summary = dump(&stored.database, Form::Rows, &mut file).await.unwrap();
    assert_eq!((summary.schema, summary.rows), (schema, expected_rows(&file)));
    file
}

fn expected_rows(file: &[u8]) -> u64 {
    u64::try_from(lines(file).len()).unwrap()
}

async fn is_brought_up_to_date(file: &[u8], schema: i64) {
    let dir = tempfile::tempdir().unwrap();
    let stored = Stored::new(dir.path()).await;
    let summary = load(&stored.database, file).await.unwrap();
    assert_eq!((summary.made_at, summary.rows), (schema, expected_rows(file)));
    assert!(summary.schema > schema);
    let served = Served::restored(stored, dir).await;
    let get = async |path: &str| served.call("get", path, Some(OWNER), Value::Null).await.1;
    let function = get("/v1/functions/fn_1").await;
    assert_eq!((&function["name"], &function["currentDeploymentId"]), (&json!("hello"), &json!("dep_1")));
    assert_eq!(function["routes"]["/a"], "https://example.com");
    assert_eq!(get("/v1/projects/prj_1/sites").await["data"][0]["slug"], "pages");
    let (status, said) = served.call("patch", "/v1/projects/prj_1", Some(OWNER), json!({ "keep": 5 })).await;
    assert_eq!((status, &said["keep"]), (200, &json!(5)), "what is newer than the backup works");
    let mut again = Vec::new();
    assert_eq!(dump(&served.stored.database, Form::Rows, &mut again).await.unwrap().schema, summary.schema);
}

async fn from_older(from: Engine, to: Engine) {
    // Before organizations, before the feed had a key, and the last one.
    for schema in [9, 15, 19] {
        let (sent, received) = tokio::sync::oneshot::channel();
        Box::pin(on(from, async { drop(sent.send(made_at(schema).await)) })).await;
        let file = received.await.unwrap();
        Box::pin(on(to, is_brought_up_to_date(&file, schema))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_backup_of_sqlite_is_brought_up_to_date_in_postgres() {
    from_older(Engine::Sqlite, Engine::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_backup_of_postgres_is_brought_up_to_date_in_sqlite() {
    from_older(Engine::Postgres, Engine::Sqlite).await;
}

async fn a_backup_goes_into_no_schema_but_its_own() {
    let file = made_at(15).await;
    let text = String::from_utf8(file.clone()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let stored = Stored::new(dir.path()).await;
    for (schema, said) in [
        ("9999", "the schema 9999 of a newer version of this program"),
        ("0", "no version of this program had the schema 0"),
        ("-1", "no version of this program had the schema -1"),
    ] {
        let other = text.replacen("\"schema\":15", &format!("\"schema\":{schema}"), 1);
        let refused = load(&stored.database, other.as_bytes()).await.unwrap_err().to_string();
        assert!(refused.contains(said), "{refused}");
    }
    let form = text.replacen("\"af_backup\":1", "\"af_backup\":3", 1);
    let Err(BackupError::Form(3)) = load(&stored.database, form.as_bytes()).await else {
        panic!("of another form")
    };
    // Rows of one schema that say that they are of another.
    let other = text.replacen("\"schema\":15", "\"schema\":9", 1);
    let Err(BackupError::Damaged(_)) = load(&stored.database, other.as_bytes()).await else {
        panic!("it fits")
    };
    assert!(stored.rows("select id, hash from tokens").await.is_empty());
    // What was refused has left an empty database of schema 9, which is no obstacle.
    load(&stored.database, &file[..]).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let stored = Stored::new(dir.path()).await;
    stored.migrate_to(19).await;
    let Err(BackupError::Ahead { found: 19, wanted: 15 }) = load(&stored.database, &file[..]).await else {
        panic!("it went into a newer schema")
    };
}

on_both!(what_is_no_whole_backup_leaves_nothing, a_backup_goes_into_no_schema_but_its_own);
