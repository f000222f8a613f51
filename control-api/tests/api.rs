//! Every endpoint, as the OpenAPI document lists them: what it is, and what strangers get.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

use std::path::Path;

use af_content::DiskStore;
use af_contract::Limits;
use af_control_api::{Clock, ControlApi, ControlConfig, rest};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::net::TcpListener;

const OWNER: &str = "af_live_owner_of_the_first_project";
const STRANGER: &str = "af_live_member_of_another_project";

/// A control API on a free port, and a token of its owner.
struct Served {
    url: String,
    _dir: tempfile::TempDir,
}

impl Served {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = ControlConfig {
            database: dir.path().join("af.sqlite"),
            master_key: dir.path().join("master.key"),
            invoke_url: "http://{slug}.localhost:8080".into(),
            limits: Limits::default(),
            clock: Clock::System,
        };
        let blocks = DiskStore::open(dir.path().join("blocks")).unwrap();
        let control = ControlApi::build(config, blocks).await.unwrap();
        control.bootstrap(Some(OWNER)).await.unwrap();
        add_stranger(&dir.path().join("af.sqlite")).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { control.serve(listener, std::future::pending()).await });
        Self { url, _dir: dir }
    }

    async fn call(&self, method: &str, path: &str, token: Option<&str>, body: Value) -> (u16, Value) {
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().no_proxy().build().unwrap();
        let method: Method = method.to_uppercase().parse().unwrap();
        let mut request = client.request(method, format!("{}{path}", self.url)).json(&body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }
}

/// A second user with a project of their own. There is no sign-up yet, so the test writes the rows.
async fn add_stranger(database: &Path) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(database);
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    let hash = ring::digest::digest(&ring::digest::SHA256, STRANGER.as_bytes());
    sqlx::query("insert into users values ('usr_2', 'stranger', 0)").execute(&pool).await.unwrap();
    sqlx::query("insert into projects values ('prj_2', 'other', 0, 0)").execute(&pool).await.unwrap();
    sqlx::query("insert into project_members values ('prj_2', 'usr_2')").execute(&pool).await.unwrap();
    sqlx::query("insert into tokens values ('tok_2', 'usr_2', 'their own', $1, 'af…', null, null, 0)")
        .bind(hash.as_ref().to_vec())
        .execute(&pool)
        .await
        .unwrap();
    pool.close().await;
}

/// Method and path of every operation in the document.
fn operations() -> Vec<(String, String)> {
    let document = serde_json::to_value(rest::document()).unwrap();
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        operations.extend(methods.as_object().unwrap().keys().map(|method| (method.clone(), path.clone())));
    }
    operations
}

#[test]
fn the_openapi_document_is_the_published_one() {
    let document = serde_json::to_string_pretty(&rest::document()).unwrap();
    insta::with_settings!({ prepend_module_to_snapshot => false, snapshot_path => "golden", omit_expression => true }, {
        insta::assert_snapshot!("openapi", document);
    });
}

#[tokio::test]
async fn nothing_but_health_answers_without_a_token() {
    let served = Served::start().await;
    for (method, path) in operations() {
        let concrete = path.replace(['{', '}'], "");
        for token in [None, Some("af_live_unknown"), Some("")] {
            let (status, problem) = served.call(&method, &concrete, token, json!({})).await;
            if path == "/health" {
                assert_eq!(status, 200);
            } else {
                assert_eq!((status, &problem["code"]), (401, &json!("unauthenticated")), "{method} {path}");
            }
        }
    }
}

#[tokio::test]
async fn a_member_of_another_project_finds_nothing_here() {
    let served = Served::start().await;
    let get = async |path: &str| served.call("get", path, Some(OWNER), Value::Null).await.1;
    let project = get("/v1/projects").await["data"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/projects/{project}/functions");
    let (_, function) = served.call("post", &path, Some(OWNER), json!({ "name": "hello" })).await;
    let function = function["id"].as_str().unwrap();
    let token = get("/v1/tokens").await["data"][0]["id"].as_str().unwrap().to_owned();

    let bodies = |method: &str, path: &str| match (method, path) {
        ("post", path) if path.ends_with("/rollback") || path.ends_with("/run") => json!({}),
        ("patch" | "post", _) => json!({ "name": "taken-over" }),
        _ => Value::Null,
    };
    let mut tried = 0;
    for (method, path) in operations().into_iter().filter(|(_, path)| path.contains('{')) {
        let concrete = path.replace("{project}", &project).replace("{function}", function);
        let concrete = concrete.replace("{token}", &token).replace("{deployment}", "dep_1");
        let upload = path.ends_with("/deployments") && method == "post";
        let query = if upload { CLAIM } else { "" };
        let body = bodies(&method, &path);
        let (status, problem) =
            served.call(&method, &format!("{concrete}{query}"), Some(STRANGER), body).await;
        assert_eq!((status, &problem["code"]), (404, &json!("not_found")), "{method} {path}: {problem}");
        tried += 1;
    }
    assert!(tried >= 13, "{tried}");
    let (_, page) = served.call("get", "/v1/projects", Some(STRANGER), Value::Null).await;
    assert_eq!(page["data"].as_array().unwrap().len(), 1, "only their own");
    assert_eq!(get(&format!("/v1/functions/{function}")).await["name"], "hello");
}

const CLAIM: &str = "?cid=bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e\
                     &blake3=d74981efa70a0c880b8d8c1985d075dbcbf679b99a5f9914e5aaf96b831a9e24";

#[tokio::test]
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

#[tokio::test]
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
