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
            if said["data"].as_array().unwrap().iter().any(|one| one["id"] == next && one["number"].is_i64())
            {
                return said["data"].clone();
            }
        }
    };
    let deployed = tokio::time::timeout(std::time::Duration::from_secs(60), deployed).await.expect("it ends");
    let numbers = deployed.as_array().unwrap().iter().map(|one| (&one["id"], &one["number"]));
    assert_eq!(
        numbers.collect::<Vec<_>>(),
        [(&json!(next), &json!(1)), (&json!(late), &Value::Null)],
        "{late} is none"
    );
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

async fn a_user_has_two_builds_at_a_time_in_all_projects() {
    let served = Served::start().await;
    for name in ["one", "two"] {
        triggered(&served, name).await;
    }
    let elsewhere = "update functions set project_id = 'prj_2';
        update builds set status = 'DEPLOYING', leased_until = 9000000000000;";
    served.stored.script(elsewhere).await;
    let refused = triggered(&served, "three").await;
    assert_eq!(refused["errors"][0]["extensions"]["code"], "too_many_builds", "{refused}");
    served.stored.script("update builds set author_id = 'usr_2'").await;
    let made = triggered(&served, "four").await;
    assert!(made["data"]["triggerFleekFunctionDeployment"]["id"].is_string(), "of somebody else: {made}");
}

async fn of_builds_that_failed_the_newest_ten_stay() {
    let served = Served::start().await;
    let first = triggered(&served, "one").await;
    let rows = async || {
        let none = if served.stored.is_postgres() { "''::bytea" } else { "x''" };
        let query =
            format!("select id || ' ' || function_id || ' ' || source_cid, {none} from builds order by id");
        served.stored.rows(&query).await.into_iter().map(|(row, _)| row).collect::<Vec<String>>()
    };
    let known = rows().await.remove(0);
    let [id, function, cid] = known.split(' ').collect::<Vec<_>>()[..] else { panic!("{known}") };
    assert_eq!(first["data"]["triggerFleekFunctionDeployment"]["id"], id);
    let mut newest = String::new();
    for _ in 0..10 {
        let answer = trigger(&served, &json!({ "functionId": function, "cid": cid })).await;
        newest = answer["data"]["triggerFleekFunctionDeployment"]["id"].as_str().unwrap().to_owned();
    }
    let left = rows().await;
    assert_eq!(left.len(), 10);
    assert!(!left.contains(&known) && left.iter().any(|row| row.starts_with(&newest)), "{left:?}");
}

async fn a_build_finds_room_as_any_deploy_does_when_it_begins_and_when_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (build, mut gate) = gated(dir.path());
    let served = Served::changed(|config| {
        config.javascript = Some(build);
        config.api.quotas.deployments = 3;
    })
    .await;
    let wanted = source(&served, "slow").await;
    let function = format!("/v1/functions/{}", wanted["functionId"].as_str().unwrap());
    let begin = async || {
        let said = trigger(&served, &wanted).await;
        said["data"]["triggerFleekFunctionDeployment"]["id"]
            .as_str()
            .unwrap_or_else(|| panic!("{said}"))
            .to_owned()
    };
    let ended = async |id: &str| {
        let query =
            format!("{{ fleekFunctionDeployment(where: {{ id: \"{id}\" }}) {{ status statusReason }} }}");
        let building = async {
            loop {
                let (_, said) = served.call("post", "/graphql", Some(OWNER), json!({ "query": query })).await;
                let said = said["data"]["fleekFunctionDeployment"].clone();
                let path = format!("{function}/deployments");
                let (_, list) = served.call("get", &path, Some(OWNER), Value::Null).await;
                let numbers: Vec<i64> = list["data"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter_map(|one| one["number"].as_i64())
                    .collect();
                let listed = list["data"].as_array().unwrap();
                let one = listed.iter().find(|one| one["id"] == id).unwrap_or_else(|| panic!("{list}"));
                // Both layers show what is built and what could not be.
                if said["status"] == "FAILED" {
                    assert_eq!(one["statusReason"], said["statusReason"], "{one}");
                    let path = format!("/v1/deployments/{id}");
                    let (status, one) = served.call("get", &path, Some(OWNER), Value::Null).await;
                    assert_eq!(
                        (status, &one["status"], &one["number"]),
                        (200, &json!("FAILED"), &Value::Null)
                    );
                }
                let is_there = one["number"].is_i64();
                if is_there || said["status"] == "FAILED" {
                    return (said["statusReason"].clone(), numbers);
                }
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), building).await.expect("it ends")
    };
    let mut last = Vec::new();
    for _ in 0..4 {
        let id = begin().await;
        gate.write_all(b"go\n").unwrap();
        last = ended(&id).await.1;
    }
    assert_eq!(last, [4, 3, 2], "the oldest went");
    // There is room when it begins, and none any more when it ends.
    let id = begin().await;
    let (status, _) = served.call("patch", &function, Some(OWNER), json!({ "keep": 10 })).await;
    assert_eq!(status, 200);
    gate.write_all(b"go\n").unwrap();
    let (reason, left) = ended(&id).await;
    assert!(reason.as_str().unwrap().starts_with("a function has at most 3 deployments"), "{reason}");
    assert_eq!(left, [4, 3, 2], "nothing was lost for it");
    // Nothing is built for nothing, and the next one is not locked out.
    let refused = trigger(&served, &wanted).await;
    assert_eq!(refused["errors"][0]["extensions"]["code"], "quota_exceeded", "{refused}");
    served.call("patch", &function, Some(OWNER), json!({ "keep": 2 })).await;
    let id = begin().await;
    gate.write_all(b"go\n").unwrap();
    assert_eq!(ended(&id).await.1, [5, 4, 3]);
}

on_both! {
    a_build_finds_room_as_any_deploy_does_when_it_begins_and_when_it_ends,
    of_builds_that_failed_the_newest_ten_stay,
    a_user_has_two_builds_at_a_time_in_all_projects,
    only_builds_of_servers_that_died_are_ended,
    a_build_that_nothing_is_at_is_ended_also_by_its_own_server,
    a_project_has_two_builds_at_a_time,
    what_is_built_by_a_server_that_was_taken_for_dead_is_not_deployed,
}
