//! Every endpoint, as the OpenAPI document lists them: what it is, and what strangers get.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use af_control_api::rest;
use serde_json::{Value, json};
use support::{OWNER, STRANGER, Served};

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
    let claim = json!({ "hostname": "www.example.com", "functionId": function });
    let (_, domain) =
        served.call("post", &format!("/v1/projects/{project}/domains"), Some(OWNER), claim.clone()).await;
    let domain = domain["id"].as_str().unwrap();

    let bodies = |method: &str, path: &str| match (method, path) {
        ("post", path) if path.ends_with("/domains") => claim.clone(),
        ("patch", "/v1/domains/{domain}") => json!({ "verificationMethod": "CNAME" }),
        ("put", path) if path.ends_with("/certificate") => json!({ "chain": "", "key": "" }),
        ("post", path) if path.ends_with("/rollback") => json!({}),
        ("patch" | "post", _) => json!({ "name": "taken-over" }),
        _ => Value::Null,
    };
    let mut tried = 0;
    for (method, path) in operations().into_iter().filter(|(_, path)| path.contains('{')) {
        let concrete = path.replace("{project}", &project).replace("{function}", function);
        let concrete = concrete.replace("{token}", &token).replace("{deployment}", "dep_1");
        let concrete = concrete.replace("{domain}", domain);
        let upload = path.ends_with("/deployments") && method == "post";
        let query = if upload { CLAIM } else { "" };
        let body = bodies(&method, &path);
        let (status, problem) =
            served.call(&method, &format!("{concrete}{query}"), Some(STRANGER), body).await;
        assert_eq!((status, &problem["code"]), (404, &json!("not_found")), "{method} {path}: {problem}");
        tried += 1;
    }
    assert!(tried >= 21, "{tried}");
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
