//! Builds of several servers that have one database.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use af_control_api::JavaScriptBuild;
use serde_json::{Value, json};
use support::content::COMPONENT;
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

/// JavaScript that is stored, and a function to deploy it to.
async fn source(served: &Served, name: &str) -> Value {
    let form = "--x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"function.js\"\r\n\r\nexport const main = () => 'hello';\r\n--x--\r\n";
    let kind = "multipart/form-data; boundary=x";
    let (_, stored) = served.upload_as("/upload/private", OWNER, kind, form.into()).await;
    let make = format!("mutation {{ createFleekFunction(data: {{ name: \"{name}\" }}) {{ id }} }}");
    let (_, made) = served.call("post", "/graphql", Some(OWNER), json!({ "query": make })).await;
    json!({ "functionId": made["data"]["createFleekFunction"]["id"], "cid": stored["cid"] })
}

/// Without a build, a deployment's row says that it failed.
async fn trigger(served: &Served, wanted: &Value) -> Value {
    let trigger = "mutation($where: TriggerFleekFunctionDeploymentWhereInput!) {
        triggerFleekFunctionDeployment(where: $where, data: {}) { id } }";
    let asked = json!({ "query": trigger, "variables": { "where": wanted } });
    served.call("post", "/graphql", Some(OWNER), asked).await.1
}

async fn triggered(served: &Served, name: &str) -> Value {
    trigger(served, &source(served, name).await).await
}

/// A build that waits for a line in what this returns, and then makes the smallest component.
fn gated(dir: &Path) -> (JavaScriptBuild, File) {
    std::fs::write(dir.join("component.wasm"), wat::parse_str(COMPONENT).unwrap()).unwrap();
    let gate = dir.join("gate");
    assert!(std::process::Command::new("mkfifo").arg(&gate).status().unwrap().success());
    // node --max-old-space-size=… BUILD INPUT OUTPUT
    let script = "#!/bin/sh\ndir=${2%/*}\nread -r _ <$dir/gate && exec /bin/cp $dir/component.wasm $4\n";
    std::fs::write(dir.join("node"), script).unwrap();
    std::fs::set_permissions(dir.join("node"), std::fs::Permissions::from_mode(0o755)).unwrap();
    // Both ends, so that opening it waits for nobody.
    let gate = File::options().read(true).write(true).open(gate).unwrap();
    (JavaScriptBuild { dir: dir.to_owned(), path: dir.as_os_str().to_owned() }, gate)
}

async fn what_is_built_by_a_server_that_was_taken_for_dead_is_not_deployed() {
    let dir = tempfile::tempdir().unwrap();
    let (build, mut gate) = gated(dir.path());
    let served = Served::changed(|config| config.javascript = Some(build)).await;
    let wanted = source(&served, "slow").await;
    let id = |made: Value| made["data"]["triggerFleekFunctionDeployment"]["id"].as_str().unwrap().to_owned();
    let late = id(trigger(&served, &wanted).await);
    // As by another server that has not heard of this one for a lease.
    served.stored.script("update builds set status = 'FAILED', reason = 'taken for dead'").await;
    gate.write_all(b"go\n").unwrap();
    // One is built at a time, so the first has been built when this one is.
    let next = id(trigger(&served, &wanted).await);
    gate.write_all(b"go\n").unwrap();

    let path = format!("/v1/functions/{}/deployments", wanted["functionId"].as_str().unwrap());
    let deployed = async {
        loop {
            let (_, said) = served.call("get", &path, Some(OWNER), Value::Null).await;
            if said["data"].as_array().unwrap().iter().any(|one| one["id"] == next) {
                return said["data"].clone();
            }
        }
    };
    let deployed = tokio::time::timeout(std::time::Duration::from_secs(60), deployed).await.expect("it ends");
    let numbers = deployed.as_array().unwrap().iter().map(|one| (&one["id"], &one["number"]));
    assert_eq!(numbers.collect::<Vec<_>>(), [(&json!(next), &json!(1))], "{late} is none");
    let query =
        format!("{{ fleekFunctionDeployment(where: {{ id: \"{late}\" }}) {{ status statusReason }} }}");
    let (_, said) = served.call("post", "/graphql", Some(OWNER), json!({ "query": query })).await;
    let said = &said["data"]["fleekFunctionDeployment"];
    assert_eq!((&said["status"], &said["statusReason"]), (&json!("FAILED"), &json!("taken for dead")));
}

async fn a_build_that_nothing_is_at_is_ended_also_by_its_own_server() {
    let served = Served::start().await;
    let made = triggered(&served, "one").await;
    let id = made["data"]["triggerFleekFunctionDeployment"]["id"].as_str().unwrap();
    // As if its end could not have been written down.
    let lost = "update builds set status = 'DEPLOYING', reason = null, leased_until = 1";
    served.stored.script(lost).await;
    let status = async || {
        let query = "select id, cast(status as bytea) from builds";
        let query = if served.stored.is_postgres() {
            query.replace("cast(status as bytea)", "convert_to(status, 'UTF8')")
        } else {
            query.replace("bytea", "blob")
        };
        let rows = served.stored.rows(&query).await;
        assert_eq!(rows[0].0, id);
        String::from_utf8(rows[0].1.clone()).unwrap()
    };
    assert_eq!(status().await, "DEPLOYING");
    let control = served.control.clone();
    let watching = tokio::spawn(async move { control.watch_builds(std::future::pending()).await });
    let ended = async { while status().await == "DEPLOYING" {} };
    tokio::time::timeout(std::time::Duration::from_secs(30), ended).await.expect("nobody ended it");
    assert_eq!(status().await, "FAILED");
    watching.abort();
}

async fn a_project_has_two_builds_at_a_time() {
    let served = Served::start().await;
    for name in ["one", "two"] {
        triggered(&served, name).await;
    }
    served.stored.script("update builds set status = 'DEPLOYING', leased_until = 9000000000000").await;
    let refused = triggered(&served, "three").await;
    assert_eq!(refused["errors"][0]["extensions"]["code"], "too_many_builds", "{refused}");
}

on_both! {
    only_builds_of_servers_that_died_are_ended,
    a_build_that_nothing_is_at_is_ended_also_by_its_own_server,
    a_project_has_two_builds_at_a_time,
    what_is_built_by_a_server_that_was_taken_for_dead_is_not_deployed,
}
