//! Every endpoint, as the OpenAPI document lists them: what it is, and what strangers get.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use af_content::car::{self, Block};
use af_content::unixfs;
use af_content::{DiskStore, identify};
use af_contract::{Change, Codec, Limits, limits};
use af_control_api::{ApiConfig, Clock, ControlApi, ControlConfig, DomainConfig, StorageConfig, rest};
use serde_json::{Value, json};
use support::content::{car_of, directory};
use support::{OWNER, STRANGER, Served, Stored};

/// Method and path of every operation in the document.
fn operations() -> Vec<(String, String)> {
    let document = serde_json::to_value(rest::document()).unwrap();
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        operations.extend(methods.as_object().unwrap().keys().map(|method| (method.clone(), path.clone())));
    }
    operations
}

/// What generated clients call their functions: noun and verb, each once.
#[test]
fn operations_have_names_of_their_own() {
    let document = serde_json::to_value(rest::document()).unwrap();
    let items = document["paths"].as_object().unwrap().values();
    let mut names: Vec<&str> = items
        .flat_map(|item| item.as_object().unwrap().values())
        .map(|operation| operation["operationId"].as_str().unwrap())
        .collect();
    let nouns = [
        "audit",
        "block",
        "certificate",
        "content",
        "deployment",
        "domain",
        "edge",
        "function",
        "health",
        "invitation",
        "key",
        "log",
        "login",
        "organization",
        "pin",
        "plan",
        "project",
        "rollout",
        "session",
        "signing",
        "site",
        "storage",
        "token",
        "trigger",
        "upload",
        "usage",
        "user",
    ];
    for name in &names {
        let (noun, verb) =
            name.split_once('_').unwrap_or_else(|| panic!("say operation_id = \"NOUN_VERB\" of {name}"));
        assert!(nouns.contains(&noun) && !verb.is_empty(), "{name} is NOUN_VERB");
    }
    names.sort_unstable();
    let twice: Vec<&[&str]> = names.windows(2).filter(|pair| pair[0] == pair[1]).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

#[test]
fn the_openapi_document_is_the_published_one() {
    let document = serde_json::to_string_pretty(&rest::document()).unwrap();
    insta::with_settings!({ prepend_module_to_snapshot => false, snapshot_path => "golden", omit_expression => true }, {
        insta::assert_snapshot!("openapi", document);
    });
}

async fn nothing_but_what_is_public_answers_without_a_token() {
    let served = Served::start().await;
    for (method, path) in operations() {
        let concrete = path.replace(['{', '}'], "");
        for token in [None, Some("af_live_unknown"), Some("")] {
            let (status, problem) = served.call(&method, &concrete, token, json!({})).await;
            if ["/health", "/.well-known/jwks.json"].contains(&path.as_str()) {
                assert_eq!(status, 200);
            } else if path.ends_with("/validate") {
                assert_eq!((status, &problem["code"]), (400, &json!("invalid_request")), "there is no token");
            } else if path == "/auth/cli/start" {
                assert_eq!(status, 200, "who signs in has no token yet");
            } else if path == "/auth/cli/poll" {
                assert_eq!(status, 422, "nor there, but needs a secret");
            } else if path == "/v1/invitations/accept" && token.is_none() {
                assert_eq!(status, 422, "who is new has no token yet, but needs a code");
            } else {
                assert_eq!((status, &problem["code"]), (401, &json!("unauthenticated")), "{method} {path}");
            }
        }
    }
}

/// The page that shows the document: of this server alone, also where a script got into the document.
async fn the_documents_page_asks_nobody_else() {
    let served = Served::start().await;
    for (path, kind) in [
        ("/docs", "text/html; charset=utf-8"),
        ("/docs/script.js", "text/javascript; charset=utf-8"),
        ("/docs/style.css", "text/css; charset=utf-8"),
    ] {
        let answer = served.answer("get", path, None, &[], Value::Null).await;
        assert_eq!(answer.status(), 200, "{path}");
        assert_eq!(answer.headers()["content-type"], kind);
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
        let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
        let text = answer.text().await.unwrap();
        for outside in
            ["http:", "https:", "src=\"//", " url(", ":url(", "@import", "innerHTML", "<style", "onclick"]
        {
            assert!(!text.contains(outside), "{path} has {outside}");
        }
        for reference in text.split(['"', '\'']).filter(|part| part.starts_with("/docs/")) {
            assert_eq!(
                served.answer("get", reference, None, &[], Value::Null).await.status(),
                200,
                "{reference}"
            );
        }
    }
}

async fn lists_are_paged() {
    let served = Served::start().await;
    let (_, page) = served.call("get", "/v1/projects", Some(OWNER), Value::Null).await;
    let path = format!("/v1/projects/{}/functions", page["data"][0]["id"].as_str().unwrap());
    for number in 0..105 {
        let body = json!({ "name": format!("function-{number}") });
        assert_eq!(served.call("post", &path, Some(OWNER), body).await.0, 201);
    }
    let (_, first) = served.call("get", &path, Some(OWNER), Value::Null).await;
    assert_eq!(first["data"].as_array().unwrap().len(), 100);
    let after = first["next"].as_str().unwrap();
    let (_, second) = served.call("get", &format!("{path}?after={after}"), Some(OWNER), Value::Null).await;
    assert_eq!((second["data"].as_array().unwrap().len(), &second["next"]), (5, &Value::Null));
    let (_, named) = served.call("get", &format!("{path}?name=function-104"), Some(OWNER), Value::Null).await;
    assert_eq!(named["data"].as_array().unwrap().len(), 1);
}

async fn a_slug_belongs_to_one_function_on_the_platform() {
    let served = Served::start().await;
    let create = async |project: &str, token: &str, body: Value| {
        served.call("post", &format!("/v1/projects/{project}/functions"), Some(token), body).await
    };
    let (_, page) = served.call("get", "/v1/projects", Some(OWNER), Value::Null).await;
    let project = page["data"][0]["id"].as_str().unwrap();
    let (_, mine) = create(project, OWNER, json!({ "name": "Hello" })).await;
    assert_eq!(mine["slug"], "hello");
    let (status, theirs) = create("prj_2", STRANGER, json!({ "name": "hello" })).await;
    assert_eq!(status, 201);
    assert!(theirs["slug"].as_str().unwrap().starts_with("hello-"), "{theirs}");
    let (status, problem) = create("prj_2", STRANGER, json!({ "name": "mine", "slug": "hello" })).await;
    assert_eq!((status, &problem["code"]), (409, &json!("slug_taken")));
    let (status, problem) = create(project, OWNER, json!({ "name": "Hello" })).await;
    assert_eq!((status, &problem["code"]), (409, &json!("function_name_taken")));
}

async fn functions_and_sites_share_their_slugs() {
    let served = Served::start().await;
    let (_, page) = served.call("get", "/v1/projects", Some(OWNER), Value::Null).await;
    let project = page["data"][0]["id"].as_str().unwrap();
    let create = async |what: &str, body: Value| {
        served.call("post", &format!("/v1/projects/{project}/{what}"), Some(OWNER), body).await
    };
    let change = async |path: String, body: Value| served.call("patch", &path, Some(OWNER), body).await;
    let (status, function) = create("functions", json!({ "name": "hello" })).await;
    assert_eq!(status, 201);
    let (status, site) = create("sites", json!({ "name": "hello" })).await;
    assert_eq!(status, 201, "names are of a kind");
    assert!(site["slug"].as_str().unwrap().starts_with("hello-"), "{site}");
    let (_, other) = create("sites", json!({ "name": "Pages" })).await;
    assert_eq!((&other["slug"], &other["url"]), (&json!("pages"), &json!("http://pages.localhost:8080")));
    for (what, body) in [
        ("sites", json!({ "name": "mine", "slug": "hello" })),
        ("functions", json!({ "name": "mine", "slug": "pages" })),
    ] {
        let (status, problem) = create(what, body).await;
        assert_eq!((status, &problem["code"]), (409, &json!("slug_taken")), "{what}");
    }
    let function = format!("/v1/functions/{}", function["id"].as_str().unwrap());
    let path = format!("/v1/sites/{}", site["id"].as_str().unwrap());
    assert_eq!(change(function.clone(), json!({ "slug": "pages" })).await.1["code"], "slug_taken");
    assert_eq!(change(path.clone(), json!({ "slug": "hello" })).await.1["code"], "slug_taken");
    assert_eq!(change(path.clone(), json!({ "slug": "pages" })).await.1["code"], "slug_taken");
    assert_eq!(change(function, json!({ "slug": "free" })).await.0, 200);
    assert_eq!(change(path.clone(), json!({ "slug": "hello" })).await.1["slug"], "hello");
    for slug in ["bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e", "-x"] {
        assert_eq!(change(path.clone(), json!({ "slug": slug })).await.1["code"], "invalid_slug", "{slug}");
    }
    assert_eq!(create("sites", json!({ "name": "hello" })).await.1["code"], "site_name_taken");
    assert_eq!(create("sites", json!({ "name": "a/b" })).await.1["code"], "invalid_site_name");
    let remove = async |path: &str| served.call("delete", path, Some(OWNER), Value::Null).await;
    assert_eq!(remove(&path).await.0, 200);
    assert_eq!(create("functions", json!({ "name": "mine", "slug": "hello" })).await.0, 201, "it is free");
    let path = format!("/v1/projects/{project}");
    assert_eq!(remove(&path).await.1["code"], "project_not_empty");
}

async fn a_site_is_deployed_and_rolled_back() {
    let served = Served::start().await;
    let (_, page) = served.call("get", "/v1/projects", Some(OWNER), Value::Null).await;
    let project = page["data"][0]["id"].as_str().unwrap();
    let path = format!("/v1/projects/{project}/sites");
    let (_, site) = served.call("post", &path, Some(OWNER), json!({ "name": "pages" })).await;
    let path = format!("/v1/sites/{}", site["id"].as_str().unwrap());
    let upload = async |cid: String, car: Vec<u8>| {
        served.upload(&format!("{path}/deployments?cid={cid}"), OWNER, car).await
    };
    let (one, car) = directory(b"one");
    let (status, first) = upload(one.to_string(), car).await;
    assert_eq!(status, 201, "{first}");
    assert_eq!((&first["number"], &first["files"], &first["bytes"]), (&json!(1), &json!(1), &json!(3)));
    let (two, car) = directory(b"two");
    let (_, second) = upload(two.to_string(), car).await;
    assert_eq!((&second["number"], &second["cid"]), (&json!(2), &json!(two.to_string())));
    let current = async || served.call("get", &path, Some(OWNER), Value::Null).await.1["cid"].clone();
    assert_eq!(current().await, two.to_string());

    let back = async |body: Value| served.call("post", &format!("{path}/rollback"), Some(OWNER), body).await;
    assert_eq!(back(json!({})).await.1["id"], first["id"]);
    assert_eq!(current().await, one.to_string());
    assert_eq!(back(json!({})).await.1["code"], "nothing_to_roll_back_to");
    assert_eq!(back(json!({ "deployment": "sdp_unknown" })).await.0, 404);
    assert_eq!(back(json!({ "deployment": second["id"] })).await.0, 200);
    assert_eq!(current().await, two.to_string());
    let (_, list) = served.call("get", &format!("{path}/deployments"), Some(OWNER), Value::Null).await;
    let numbers: Vec<_> = list["data"].as_array().unwrap().iter().map(|row| row["number"].clone()).collect();
    assert_eq!(numbers, [2, 1]);
    let updates = served.control.changes_since(0).await.unwrap().updates;
    let Change::Site { id, state: Some(state) } = &updates.last().unwrap().change else {
        panic!("{updates:?}")
    };
    assert_eq!((json!(id), state.root), (site["id"].clone(), Some(two)));
    assert_eq!(served.call("delete", &path, Some(OWNER), Value::Null).await.0, 200);
    let known = served.control.changes_since(0).await.unwrap();
    assert!(
        known.updates.iter().all(|update| update.change.is_there()),
        "who knows nothing is told of nothing gone"
    );
    let gone = served.control.changes_since(known.until.unwrap() - 1).await.unwrap();
    assert!(matches!(&gone.updates.last().unwrap().change, Change::Site { state: None, .. }));
}

async fn what_is_no_site_is_refused() {
    let served = Served::start().await;
    let (_, page) = served.call("get", "/v1/projects", Some(OWNER), Value::Null).await;
    let project = page["data"][0]["id"].as_str().unwrap();
    let path = format!("/v1/projects/{project}/sites");
    let (_, site) = served.call("post", &path, Some(OWNER), json!({ "name": "pages" })).await;
    let path = format!("/v1/sites/{}", site["id"].as_str().unwrap());
    let (root, good) = directory(b"one");
    let (other, _) = directory(b"two");
    let file = Block { id: identify(Codec::Raw, b"file"), bytes: b"file"[..].into() };
    let mut rotten = good.clone();
    *rotten.last_mut().unwrap() ^= 1;
    let mut ballast = good.clone();
    ballast.extend(car::encode_block_prefix(&file.id, 4));
    ballast.extend(b"file");
    for (cid, car, status, code) in [
        (other, good.clone(), 422, "cid_mismatch"),
        (root, rotten, 422, "block_corrupt"),
        (root, good[..good.len() - 1].to_vec(), 422, "car_truncated"),
        (root, ballast, 422, "block_unused"),
        (root, car_of(&[root], &[]), 422, "block_missing"),
        (file.id, car_of(&[file.id], std::slice::from_ref(&file)), 422, "assets_invalid"),
    ] {
        let (found, problem) = served.upload(&format!("{path}/deployments?cid={cid}"), OWNER, car).await;
        assert_eq!((found, &problem["code"]), (status, &json!(code)), "{problem}");
    }
    let (status, problem) =
        served.upload(&format!("{path}/deployments?cid=nonsense"), OWNER, good.clone()).await;
    assert_eq!((status, &problem["code"]), (400, &json!("invalid_cid")));
    let (status, _) = served.upload(&format!("{path}/deployments?cid={root}"), STRANGER, good).await;
    assert_eq!(status, 404);
    assert_eq!(served.call("get", &path, Some(OWNER), Value::Null).await.1["cid"], Value::Null);
}

async fn a_sites_blocks_survive_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let stored = Stored::new(dir.path()).await;
    let build = async || {
        let config = ControlConfig {
            database: stored.database.clone(),
            master_key: dir.path().join("master.key").into(),
            invoke_url: "http://{slug}.localhost:8080".into(),
            limits: Limits::default(),
            clock: Clock::System,
            storage: StorageConfig::default(),
            gateway: None,
            api: ApiConfig::default(),
            graphql: af_control_api::GraphqlConfig::default(),
            javascript: None,
            rate_limit: limits::REQUESTS_PER_SECOND,
            domains: DomainConfig::default(),
        };
        let blocks = DiskStore::open(dir.path().join("blocks")).unwrap();
        (ControlApi::build(config, blocks.clone()).await.unwrap(), blocks)
    };
    let (control, blocks) = build().await;
    control.bootstrap(Some(OWNER)).await.unwrap();
    let other = tempfile::tempdir().unwrap();
    let served = Served::serve(control, Stored::new(other.path()).await, other).await;
    let (_, page) = served.call("get", "/v1/projects", Some(OWNER), Value::Null).await;
    let path = format!("/v1/projects/{}/sites", page["data"][0]["id"].as_str().unwrap());
    let (_, site) = served.call("post", &path, Some(OWNER), json!({ "name": "pages" })).await;
    let (root, car) = directory(b"kept");
    let path = format!("/v1/sites/{}/deployments?cid={root}", site["id"].as_str().unwrap());
    assert_eq!(served.upload(&path, OWNER, car).await.0, 201);
    // Another upload of the same, cut off between its blocks and its row, and one of something else.
    let staging = blocks.stage().unwrap();
    let mut put = |block: Block| staging.put(&block).map_err(std::io::Error::other);
    let lost = unixfs::import(&b"lost"[..], &mut put).unwrap().root;
    let kept = unixfs::import(&b"kept"[..], &mut put).unwrap().root;
    drop(staging.commit().unwrap());
    let (_control, blocks) = build().await;
    assert!(blocks.block(&lost).unwrap().is_none());
    assert!(blocks.block(&kept).unwrap().is_some() && blocks.block(&root).unwrap().is_some());
}

/// Edges refuse a page that is too large, and whoever makes it must not keep others' changes from them.
async fn what_edges_are_told_comes_in_pages_that_they_can_take() {
    let served = Served::start().await;
    let (_, projects) = served.call("get", "/v1/projects", Some(OWNER), Value::Null).await;
    let project = projects["data"][0]["id"].as_str().unwrap();
    let path = format!("/v1/projects/{project}/functions");
    let routes: serde_json::Map<_, _> =
        (0..500).map(|n| (format!("/{n}"), json!(format!("https://t/{}", "a".repeat(400))))).collect();
    let (status, large) =
        served.call("post", &path, Some(OWNER), json!({ "name": "large", "routes": routes })).await;
    assert_eq!(status, 201, "{large}");
    let large = large["id"].as_str().unwrap();
    let many = format!(
        "with recursive n(i) as (select 100 union all select i + 1 from n where i < 199)
            insert into functions (id, project_id, name, slug, status, routes, created_at, updated_at)
            select 'fn_' || i, '{project}', 'many-' || i, 'many-' || i, 'ACTIVE', f.routes, 0, 0 from n, functions f
            where f.id = '{large}';
        with recursive n(i) as (select 100 union all select i + 1 from n where i < 199)
            insert into feed (kind, id, revision) select 'function', 'fn_' || i, 1000 + i from n;"
    );
    served.stored.script(&many).await;
    let (mut known, mut pages, mut told) = (0, 0, 0);
    loop {
        let changes = served.control.changes_since(known).await.unwrap();
        let Some(until) = changes.until else { break };
        assert!(changes.updates.len() <= 40, "200 KB each: {}", changes.updates.len());
        assert_eq!(changes.more, served.control.changes_since(until).await.unwrap().until.is_some());
        (known, pages, told) = (until, pages + 1, told + changes.updates.len());
    }
    assert_eq!((known, told), (1199, 101));
    assert!(pages > 2, "{pages}");
}

crate::on_both!(
    what_edges_are_told_comes_in_pages_that_they_can_take,
    nothing_but_what_is_public_answers_without_a_token,
    lists_are_paged,
    the_documents_page_asks_nobody_else,
    a_slug_belongs_to_one_function_on_the_platform,
    functions_and_sites_share_their_slugs,
    a_site_is_deployed_and_rolled_back,
    what_is_no_site_is_refused,
    a_sites_blocks_survive_the_next_start,
);
