//! Builds of several servers that have one database.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use serde_json::{Value, json};
use support::{OWNER, Served};

async fn only_builds_of_servers_that_died_are_ended() {
    let served = Served::start().await;
    let (_, projects) = served.call("get", "/v1/projects", Some(OWNER), Value::Null).await;
    let path = format!("/v1/projects/{}/functions", projects["data"][0]["id"].as_str().unwrap());
    let (_, me) = served.call("get", "/v1/me", Some(OWNER), Value::Null).await;
    // One was never leased, as those that are older than leases; one was for too long not; one still is.
    for (name, leased) in [("old", "null"), ("dead", "1"), ("alive", "9000000000000")] {
        let (_, function) = served.call("post", &path, Some(OWNER), json!({ "name": name })).await;
        let (function, me) = (function["id"].as_str().unwrap(), me["id"].as_str().unwrap());
        let row = format!(
            "insert into builds (id, function_id, source_cid, status, author_id, created_at, updated_at, server_id,
                leased_until) values ('dep_{name}', '{function}', 'cid', 'DEPLOYING', '{me}', 0, 0, 'srv_{name}', {leased})"
        );
        served.stored.script(&row).await;
    }
    let status = async |name: &str| {
        let query = format!("query {{ fleekFunctionByName(where: {{ name: \"{name}\" }}) {{ status }} }}");
        let (_, said) = served.call("post", "/graphql", Some(OWNER), json!({ "query": query })).await;
        said["data"]["fleekFunctionByName"]["status"].as_str().unwrap().to_owned()
    };
    assert_eq!(status("dead").await, "DEPLOYING");
    let control = served.control.clone();
    let watching = tokio::spawn(async move { control.watch_builds(std::future::pending()).await });
    let ended = async { while status("dead").await == "DEPLOYING" {} };
    tokio::time::timeout(std::time::Duration::from_secs(30), ended).await.expect("nobody ended it");
    // In one transaction.
    assert_eq!(status("dead").await, "FAILED");
    assert_eq!(status("old").await, "FAILED");
    assert_eq!(status("alive").await, "DEPLOYING");
    watching.abort();
}

on_both! { only_builds_of_servers_that_died_are_ended }
