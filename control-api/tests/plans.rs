//! Every statement that a broad use of the API sends is answered out of an index, with 100,000 functions in the database.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use support::{Engine, OWNER, STRANGER, Served, on};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// What is as large as the platform.
const LARGE: [&str; 13] = [
    "functions",
    "deployments",
    "sites",
    "site_deployments",
    "projects",
    "organizations",
    "tokens",
    "domains",
    "feed",
    "pins",
    "project_blocks",
    "schedule",
    "rollouts",
];

/// The statements that sqlx was given.
#[derive(Clone, Default)]
struct Statements(Arc<Mutex<BTreeSet<String>>>);

#[derive(Default)]
struct Said {
    summary: String,
    statement: String,
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "summary" => value.clone_into(&mut self.summary),
            "db.statement" => value.trim().clone_into(&mut self.statement),
            _ => {}
        }
    }
}

impl<S: Subscriber> Layer<S> for Statements {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() != "sqlx::query" {
            return;
        }
        let mut said = Said::default();
        event.record(&mut said);
        let statement = if said.statement.is_empty() { said.summary } else { said.statement };
        self.0.lock().unwrap().insert(statement);
    }
}

/// 100,000 functions of 1,000 projects, each with a deployment and a place in the feed, and 10,000 tokens.
const MANY: &str = "
    with recursive n(i) as (select 0 union all select i + 1 from n where i < 999)
        insert into organizations (id, name, created_at, updated_at) select 'org_' || (100000 + i), 'o', 0, 0 from n;
    with recursive n(i) as (select 0 union all select i + 1 from n where i < 999)
        insert into projects (id, organization_id, name, created_at, updated_at)
        select 'prj_' || (100000 + i), 'org_' || (100000 + i), 'p', 0, 0 from n;
    with recursive n(i) as (select 0 union all select i + 1 from n where i < 99999)
        insert into functions (id, project_id, name, slug, status, created_at, updated_at)
        select 'fn_' || (100000 + i), 'prj_' || (100000 + i % 1000), 'f' || i, 'slug-' || i, 'ACTIVE', 0, 0 from n;
    with recursive n(i) as (select 0 union all select i + 1 from n where i < 999)
        insert into users (id, name, created_at) select 'usr_' || (100000 + i), 'u', 0 from n;
    with recursive n(i) as (select 0 union all select i + 1 from n where i < 9999)
        insert into tokens (id, user_id, name, hash, masked, created_at)
        select 'tok_' || (100000 + i), 'usr_' || (100000 + i % 1000), 't' || i, randomblob(32), 'af', 0 from n;
    insert into deployments (id, function_id, number, manifest_cid, code_cid, blake3, size, world, author_id, created_at)
        select 'dep_' || substr(id, 4), id, 1, 'bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e',
        'bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e', 'd7', 1, 'wasi:http/proxy@0.2', 'usr_2', 0
        from functions where id like 'fn_1%';
    insert into feed (kind, id, revision)
        select 'function', id, 1000 + row_number() over (order by id) from functions where id like 'fn_1%';
    analyze;";

/// What may look at everything: what is done once, at a start or a sweep.
fn looks_at_all(statement: &str) -> bool {
    // Whether there is anybody yet.
    statement.contains("from users order by id limit 1")
}

async fn use_everything(served: &Served) {
    let call =
        async |method: &str, path: &str, body: Value| served.call(method, path, Some(OWNER), body).await.1;
    let projects = call("get", "/v1/projects", Value::Null).await;
    let project = format!("/v1/projects/{}", projects["data"][0]["id"].as_str().unwrap());
    let organization =
        format!("/v1/organizations/{}", projects["data"][0]["organizationId"].as_str().unwrap());
    call("post", "/v1/projects", json!({ "name": "second" })).await;
    call("patch", &project, json!({ "name": "renamed" })).await;
    call("get", "/v1/me", Value::Null).await;
    call("get", "/v1/organizations", Value::Null).await;
    let function = call("post", &format!("{project}/functions"), json!({ "name": "hello" })).await;
    let id = function["id"].as_str().unwrap();
    let function = format!("/v1/functions/{id}");
    call("patch", &function, json!({ "routes": { "/a": "https://example.com" } })).await;
    let site = call("post", &format!("{project}/sites"), json!({ "name": "pages" })).await;
    let site = format!("/v1/sites/{}", site["id"].as_str().unwrap());
    call("patch", &site, json!({ "slug": "other-pages" })).await;
    let claim = json!({ "hostname": "www.example.com", "functionId": id });
    let domain = call("post", &format!("{project}/domains"), claim).await;
    let domain = format!("/v1/domains/{}", domain["id"].as_str().unwrap());
    call("patch", &domain, json!({ "verificationMethod": "CNAME" })).await;
    for path in [
        "functions",
        "functions?name=hello",
        "sites",
        "domains",
        "domains?hostname=www.example.com",
        "keys",
        "members",
        "invitations",
        "storage",
        "storage/usage",
    ] {
        call("get", &format!("{project}/{path}"), Value::Null).await;
    }
    for path in [&function, &site, &domain, &organization, &project] {
        call("get", path, Value::Null).await;
        served.call("get", path, Some(STRANGER), Value::Null).await;
    }
    for path in ["deployments", "triggers"] {
        call("get", &format!("{function}/{path}"), Value::Null).await;
    }
    call("get", &format!("{site}/deployments"), Value::Null).await;
    let token = call("post", "/v1/tokens", json!({ "name": "one" })).await;
    call("get", "/v1/tokens", Value::Null).await;
    let token = format!("/v1/tokens/{}", token["id"].as_str().unwrap());
    call("post", &format!("{token}/rotate"), json!({})).await;
    let key = call("post", &format!("{project}/keys"), json!({ "name": "two" })).await;
    served.call("get", &project, key["token"].as_str(), Value::Null).await;
    let invited = call("post", &format!("{organization}/invitations"), json!({ "role": "viewer" })).await;
    let accept = json!({ "code": invited["code"], "name": "somebody" });
    served.call("post", "/v1/invitations/accept", None, accept).await;
    call("get", &format!("{organization}/members"), Value::Null).await;
    served.control.updates_since(0).await.unwrap();
    served.control.updates_since(50_000).await.unwrap();
    for path in [&token, &domain, &function, &site] {
        call("delete", path, Value::Null).await;
    }
}

#[tokio::test]
async fn nothing_looks_at_all_functions() {
    let statements = Statements::default();
    let subscriber = tracing_subscriber::registry().with(statements.clone());
    let _set = tracing::subscriber::set_global_default(subscriber);
    on(
        Engine::Sqlite,
        Box::pin(async {
            let served = Served::start().await;
            served.stored.script(MANY).await;
            statements.0.lock().unwrap().clear();
            use_everything(&served).await;
            let statements = statements.0.lock().unwrap().clone();
            assert!(statements.len() > 60, "{}", statements.len());
            let mut slow = Vec::new();
            for statement in statements.iter().filter(|statement| !looks_at_all(statement)) {
                for step in served.stored.plan(statement).await {
                    let scanned = step.strip_prefix("SCAN ").and_then(|rest| rest.split_whitespace().next());
                    if scanned.is_some_and(|table| names_large(statement, table)) {
                        slow.push(format!("{step}: {statement}"));
                    }
                }
            }
            assert!(slow.is_empty(), "{slow:#?}");
        }),
    )
    .await;
}

/// Whether a plan's name of a table is that of a large one, or an alias of it.
fn names_large(statement: &str, name: &str) -> bool {
    let alias = |large: &&&str| statement.contains(&format!("{large} {name}"));
    LARGE.contains(&name) || LARGE.iter().find(alias).is_some()
}
