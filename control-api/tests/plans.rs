//! Every statement that a broad use of the API sends is answered out of an index, with 100,000 functions in the database.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use support::statements::Statements;
use support::{Engine, OWNER, STRANGER, Served, on};

/// What is as large as the platform.
const LARGE: [&str; 12] = [
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
];

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

/// What is recorded is the whole program's, so one after another.
#[tokio::test]
async fn statements_are_few_and_look_at_little() {
    let statements = Statements::recorded();
    for engine in [Engine::Sqlite, Engine::Postgres] {
        on(engine, Box::pin(a_list_sends_as_many_statements_whatever_its_length(&statements))).await;
    }
    on(Engine::Sqlite, Box::pin(nothing_looks_at_all_functions(&statements))).await;
}

async fn nothing_looks_at_all_functions(statements: &Statements) {
    let served = Served::start().await;
    served.stored.script(MANY).await;
    statements.take();
    use_everything(&served).await;
    let statements = BTreeSet::from_iter(statements.take());
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
}

/// Everything that an item of a list may ask for besides.
const NESTED: &str = "{
    afFunctions { data { status currentDeployment { cid } deployments { cid status } invokeUrl routes } }
    sites(where: {}) { data { domains { hostname zone { id } } primaryDomain { hostname } deployments { cid } zones { id } } }
    domains { data { zone { id status } dnsConfigs { value } } }
    projects { data { id name } } personalAccessTokens { data { id } } pins { data { cid } }
}";

async fn a_list_sends_as_many_statements_whatever_its_length(statements: &Statements) {
    let served = Served::start().await;
    let asked = async || {
        statements.take();
        let (status, answer) = served.call("post", "/graphql", Some(OWNER), json!({ "query": NESTED })).await;
        assert_eq!((status, &answer["errors"]), (200, &Value::Null), "{answer}");
        (statements.take(), answer["data"].clone())
    };
    let make = async |numbers: std::ops::Range<u32>| {
        for number in numbers {
            let mutation = format!(
                "mutation {{ f: createAFFunction(data: {{ name: \"f-{number}\" }}) {{ id }} s: createSite(data: {{ name: \"s-{number}\" }}) {{ id }} }}"
            );
            let made = served.call("post", "/graphql", Some(OWNER), json!({ "query": mutation })).await.1;
            let (function, site) = (&made["data"]["f"]["id"], &made["data"]["s"]["id"]);
            let domain = format!(
                "mutation {{ createDomain(input: {{ hostname: \"s{number}.example.com\", siteId: {site} }}) {{ id }} }}"
            );
            let made = served.call("post", "/graphql", Some(OWNER), json!({ "query": domain })).await.1;
            assert!(made["data"]["createDomain"]["id"].is_string(), "{made}");
            // Deployed, as far as lists see it.
            let function = function.as_str().unwrap();
            let cid = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";
            let rows = format!(
                "insert into deployments (id, function_id, number, manifest_cid, code_cid, blake3, size, world, author_id, created_at)
                    values ('dep_{number}', '{function}', 1, '{cid}', '{cid}', 'd7', 1, 'wasi:http/proxy@0.2', 'usr_2', 0);
                 update functions set current_deployment_id = 'dep_{number}' where id = '{function}';"
            );
            served.stored.script(&rows).await;
        }
    };
    make(10..12).await;
    asked().await;
    let (few, shown) = asked().await;
    assert_eq!(shown["afFunctions"]["data"].as_array().unwrap().len(), 2);
    make(12..42).await;
    asked().await;
    let (many, shown) = asked().await;
    let function = &shown["afFunctions"]["data"][31];
    assert!(
        function["currentDeployment"]["cid"].is_string() && function["deployments"][0]["cid"].is_string()
    );
    assert_eq!(shown["sites"]["data"][31]["domains"][0]["hostname"], "s41.example.com");
    assert_eq!(few.len(), many.len(), "{few:#?} {many:#?}");
    assert!(many.len() < 30, "{many:#?}");
}

/// Whether a plan's name of a table is that of a large one, or an alias of it.
fn names_large(statement: &str, name: &str) -> bool {
    let alias = |large: &&&str| statement.contains(&format!("{large} {name}"));
    LARGE.contains(&name) || LARGE.iter().find(alias).is_some()
}
