//! Every statement that a broad use of the API sends is answered out of an index, with 100,000 functions in the database.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use std::collections::BTreeSet;

use af_contract::edge::UsageBatch;
use af_contract::usage::{HOUR, Usage, UsageRecord};
use serde_json::{Value, json};
use support::statements::Statements;
use support::{Engine, OWNER, STRANGER, Served, on};

/// What is as large as the platform. PostgreSQL scans small tables, as it should: of these only what `MANY` makes large counts
/// there.
const LARGE: [&str; 19] = [
    "usage_days",
    "usage_hours",
    "usage_sources",
    "functions",
    "deployments",
    "tokens",
    "feed",
    "sites",
    "domains",
    "pins",
    "site_deployments",
    "projects",
    "organizations",
    "project_blocks",
    "schedule",
    "settings",
    "deployment_settings",
    "project_keys",
    "rollouts",
];

/// The first of them.
const LARGE_IN_POSTGRES: usize = 10;

/// 100,000 functions of 1,000 projects, each with a deployment and a place in the feed, and 10,000 tokens; 10,000 of them were used, also
/// in ten hours and on ten days.
/// `HASH` is another one in each row, as the engine makes it.
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
        select 'tok_' || (100000 + i), 'usr_' || (100000 + i % 1000), 't' || i, HASH, 'af', 0 from n;
    insert into deployments (id, function_id, number, manifest_cid, code_cid, blake3, size, world, author_id, created_at)
        select 'dep_' || substr(id, 4), id, 1, 'bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e',
        'bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e', 'd7', 1, 'wasi:http/proxy@0.2', 'usr_2', 0
        from functions where id like 'fn_1%';
    with recursive n(i) as (select 0 union all select i + 1 from n where i < 9999)
        insert into sites (id, project_id, name, slug, created_at, updated_at)
        select 'site_' || (100000 + i), 'prj_' || (100000 + i % 1000), 's' || i, 'site-' || i, 0, 0 from n;
    with recursive n(i) as (select 0 union all select i + 1 from n where i < 9999)
        insert into domains (id, project_id, hostname, owner_kind, owner_id, method, token, status, created_at, updated_at)
        select 'dom_' || (100000 + i), 'prj_' || (100000 + i % 1000), 's' || i || '.example.org', 'site', 'site_' || (100000 + i),
        'TXT', 't', 'VERIFIED', 0, 0 from n;
    with recursive n(i) as (select 0 union all select i + 1 from n where i < 9999)
        insert into pins (id, project_id, cid, bytes, blocks, author_id, created_at)
        select 'pin_' || (100000 + i), 'prj_' || (100000 + i % 1000), 'cid' || i, 1, 1, 'usr_2', 0 from n;
    with recursive n(i) as (select 0 union all select i + 1 from n where i < 99999)
        insert into usage_hours (subject, hour, requests, errors, cpu_us, wall_us, sent_bytes)
        select 'fn_' || (100000 + i % 10000), cast(720000 + i / 10000 as bigint) * 3600000, 1, 1, 1, 1, 1 from n;
    insert into usage_days (subject, day, project_id, organization_id, requests, errors, cpu_us, wall_us, sent_bytes)
        select subject, (hour / 3600000 - 690000) * 86400000, 'prj_100000', 'org_100000', 1, 1, 1, 1, 1 from usage_hours;
    with recursive n(i) as (select 0 union all select i + 1 from n where i < 9999)
        insert into usage_sources (edge, source, number, taken_at) select 'edge_' || i / 10, 's' || i, 1, 3000000000000 + i from n;
    insert into feed (kind, id, revision)
        select 'function', id, 1000 + row_number() over (order by id) from functions where id like 'fn_1%';
    analyze;";

/// What may look at everything: what is done once, at a start or a sweep.
fn looks_at_all(statement: &str) -> bool {
    // Whether there is anybody yet.
    statement.contains("from users order by id limit 1")
}

/// What there is to be read below a project.
const OF_A_PROJECT: [&str; 13] = [
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
    "storage/left",
    "settings",
    "secrets",
];

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
    for path in OF_A_PROJECT {
        call("get", &format!("{project}/{path}"), Value::Null).await;
    }
    for owner in [&project, &function] {
        for (kind, value) in [("settings", json!("a")), ("secrets", json!("b")), ("secrets", Value::Null)] {
            let name = if kind == "settings" { "MODE" } else { "KEY" };
            call("patch", &format!("{owner}/{kind}"), json!({ "values": { name: value } })).await;
        }
        call("get", &format!("{owner}/settings"), Value::Null).await;
    }
    call("post", &format!("{project}/rotate-content-key"), json!({})).await;
    for path in [&function, &site, &domain, &organization, &project] {
        call("get", path, Value::Null).await;
        served.call("get", path, Some(STRANGER), Value::Null).await;
    }
    for path in ["deployments", "triggers"] {
        call("get", &format!("{function}/{path}"), Value::Null).await;
    }
    call("get", &format!("{site}/deployments"), Value::Null).await;
    look_for_room(served, &function, &site).await;
    let token = call("post", "/v1/tokens", json!({ "name": "one" })).await;
    call("get", "/v1/tokens", Value::Null).await;
    let token = format!("/v1/tokens/{}", token["id"].as_str().unwrap());
    call("post", &format!("{token}/rotate"), json!({})).await;
    for _ in 0..2 {
        let asks = served.call("post", "/auth/cli/start", None, json!({})).await.1;
        call("post", "/auth/cli/approve", json!({ "userCode": asks["userCode"] })).await;
        let poll = json!({ "verificationSessionId": asks["verificationSessionId"], "pollSecret": asks["pollSecret"] });
        let (status, said) = served.call("post", "/auth/cli/poll", None, poll).await;
        assert_eq!(status, 200, "{said}");
    }
    let key = call("post", &format!("{project}/keys"), json!({ "name": "two" })).await;
    served.call("get", &project, key["token"].as_str(), Value::Null).await;
    let invited = call("post", &format!("{organization}/invitations"), json!({ "role": "viewer" })).await;
    let accept = json!({ "code": invited["code"], "name": "somebody" });
    served.call("post", "/v1/invitations/accept", None, accept).await;
    call("get", &format!("{organization}/members"), Value::Null).await;
    use_plans(served, &organization, &project).await;
    count_usage(served, id, [&organization, &project, &function, &site]).await;
    served.control.changes_since(0).await.unwrap();
    served.control.changes_since(50_000).await.unwrap();
    served.control.awaited().await.unwrap();
    for path in [&token, &domain, &function, &site] {
        call("delete", path, Value::Null).await;
    }
}

async fn look_for_room(served: &Served, function: &str, site: &str) {
    // Nobody has it, which is found out after what there is room for.
    let cid = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";
    for owner in [function, site] {
        let path = format!("{owner}/deployments?cid={cid}&fetch=true");
        served.call("post", &path, Some(OWNER), Value::Null).await;
    }
    let keep = json!({ "keep": 1, "dryRun": true });
    served.call("post", &format!("{function}/prune"), Some(OWNER), keep).await;
}

/// Also of a function that is gone.
async fn count_usage(served: &Served, function: &str, [organization, project, one, site]: [&str; 4]) {
    let hour = 480_000 * HOUR;
    let usage = Usage { requests: 1, ..Usage::default() };
    let record = |subject: &str, at: i64| UsageRecord { subject: subject.to_owned(), hour: at, usage };
    let records = |at: i64| ["fn_gone", function, "site_gone"].map(|subject| record(subject, at)).to_vec();
    for (number, at) in [(1, i64::MAX / HOUR * HOUR), (2, hour)] {
        let batch = UsageBatch { source: "a".into(), number, records: records(at) };
        served.control.usage(&batch).await.unwrap();
    }
    served.control.compact_usage().await.unwrap();
    let paths = [
        format!("{organization}/usage"),
        format!("{organization}/usage/projects"),
        format!("{project}/usage"),
        format!("{project}/usage/functions"),
        format!("{project}/usage/sites"),
        format!("{one}/usage"),
        format!("{one}/usage?per=hour"),
        format!("{site}/usage"),
    ];
    for path in paths {
        let (status, said) = served.call("get", &path, Some(OWNER), Value::Null).await;
        assert_eq!(status, 200, "{path}: {said}");
    }
}

async fn use_plans(served: &Served, organization: &str, project: &str) {
    let call =
        async |method: &str, path: &str, body: Value| served.call(method, path, Some(OWNER), body).await.1;
    let plan =
        call("post", "/v1/plans", json!({ "name": "small", "limits": { "requestsPerMinute": 1_000_000 } }))
            .await;
    call("put", &format!("{organization}/plan"), json!({ "planId": plan["id"] })).await;
    let plan = format!("/v1/plans/{}", plan["id"].as_str().unwrap());
    call("patch", &plan, json!({ "limits": { "members": 10 } })).await;
    for path in ["/v1/plans", &plan, &format!("{organization}/quotas"), &format!("{project}/quotas")] {
        call("get", path, Value::Null).await;
    }
    call("delete", &format!("{organization}/plan"), Value::Null).await;
    call("delete", &plan, Value::Null).await;
}

/// What is recorded is the whole program's, so one after another.
#[tokio::test]
async fn statements_are_few_and_look_at_little() {
    let statements = Statements::recorded();
    for engine in [Engine::Sqlite, Engine::Postgres] {
        on(engine, Box::pin(a_list_sends_as_many_statements_whatever_its_length(&statements))).await;
    }
    on(Engine::Sqlite, Box::pin(nothing_looks_at_all_functions(&statements, "randomblob(32)"))).await;
    let hash = "sha256(('t' || i)::bytea)";
    on(Engine::Postgres, Box::pin(nothing_looks_at_all_functions(&statements, hash))).await;
    on(Engine::Postgres, Box::pin(every_reference_has_an_index())).await;
}

async fn nothing_looks_at_all_functions(statements: &Statements, hash: &str) {
    let served = Served::start().await;
    let many = MANY.replace("HASH", hash);
    // PostgreSQL analyses by itself; SQLite knows nothing of its tables.
    let many = if served.stored.is_postgres() { many } else { many.replace("analyze;", "") };
    served.stored.script(&many).await;
    statements.take();
    use_everything(&served).await;
    let statements = BTreeSet::from_iter(statements.take());
    let planned = |statement: &&String| {
        let verb = statement.split_whitespace().next().unwrap_or_default();
        ["select", "insert", "update", "delete", "with"].contains(&verb) && !looks_at_all(statement)
    };
    let statements: Vec<&String> = statements.iter().filter(planned).collect();
    assert!(statements.len() > 60, "{}", statements.len());
    let mut slow = Vec::new();
    for statement in &statements {
        for step in served.stored.plan(statement).await {
            let scanned = step.strip_prefix("SCAN ").or_else(|| step.split("Seq Scan on ").nth(1));
            let scanned = scanned.map(|rest| rest.split_whitespace().next().unwrap_or_default());
            let all_of_a_kind = step.starts_with("SEARCH ") && step.ends_with("(kind=?)");
            if all_of_a_kind || scanned.is_some_and(|table| served.stored.is_large(statement, table)) {
                slow.push(format!("{step}: {statement}"));
            }
        }
    }
    assert!(slow.is_empty(), "{slow:#?}");
    // These read all deployments in the order of an index that finds nothing, or all of a function's, where theirs is missing.
    for (part, index) in [
        ("where d.reported = 'DEPLOYING' and", "deployments_awaited_by_id"),
        ("select (select count(*) from functions f join deployments", "deployments_waiting"),
    ] {
        let found: Vec<&&String> = statements.iter().filter(|statement| statement.contains(part)).collect();
        assert!(!found.is_empty(), "nothing has asked for {part}");
        for statement in found {
            let plan = served.stored.plan(statement).await;
            assert!(plan.iter().any(|step| step.contains(index)), "{statement}: {plan:#?}");
        }
    }
    // What is read of a subject is its rows, and not all of its days' or hours'.
    let is_read = |statement: &&&String| {
        let of = ["subject = $1 and day >=", "subject = $1 and hour >=", "day < $2 and subject in ("];
        statement.starts_with("select") && of.iter().any(|part| statement.contains(part))
    };
    let read: Vec<&&String> = statements.iter().filter(is_read).collect();
    assert!(read.len() >= 5, "{read:#?}");
    for statement in read {
        let plan = served.stored.plan(statement).await;
        let by_key = ["_pkey", "USING PRIMARY KEY (subject=?"];
        assert!(
            plan.iter().any(|step| by_key.iter().any(|key| step.contains(key))),
            "{statement}: {plan:#?}"
        );
    }
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

impl support::Stored {
    /// Whether a plan's name of a table is that of a large one, or an alias of it.
    fn is_large(&self, statement: &str, name: &str) -> bool {
        let large = if self.is_postgres() { &LARGE[..LARGE_IN_POSTGRES] } else { &LARGE[..] };
        let alias = |large: &&&str| statement.contains(&format!("{large} {name}"));
        large.contains(&name) || large.iter().find(alias).is_some()
    }
}

/// What refers to a row that is deleted is found by an index: no plan shows that it is looked for. Users are never deleted.
async fn every_reference_has_an_index() {
    let served = Served::start().await;
    let query = "select c.conrelid::regclass::text || ' ' || c.conname, ''::bytea from pg_constraint c
        where c.contype = 'f' and c.confrelid <> 'users'::regclass and not exists (
            select 1 from pg_index i where i.indrelid = c.conrelid
            and coalesce(pg_get_expr(i.indpred, i.indrelid) like '%IS NOT NULL)', true)
            and (i.indkey::smallint[])[0:cardinality(c.conkey) - 1] @> c.conkey)";
    let lacking: Vec<String> =
        served.stored.rows(query).await.into_iter().map(|(reference, _)| reference).collect();
    assert_eq!(lacking, Vec::<String>::new());
}
