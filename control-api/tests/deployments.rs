//! A function's deployments: what edges say of them, where a rollback leads, and which ones go.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use af_contract::edge::{Awaited, DeploymentReport, Report};
use serde_json::{Value, json};
use support::OWNER;
use support::function::{Scene, numbers};

async fn a_rollback_leads_to_what_was_active_before() {
    let scene = Scene::new().await;
    let back = async || {
        let (status, said) = scene.call("post", "/rollback", json!({})).await;
        if status == 200 { said["number"].clone() } else { said["code"].clone() }
    };
    scene.deploy("").await;
    scene.deploy("&preview=true").await;
    assert_eq!(back().await, "nothing_to_roll_back_to");
    scene.deploy("").await;
    scene.deploy("&percent=5").await;
    assert_eq!(back().await, 1, "neither the preview nor the candidate");
    scene.deploy("").await;
    assert_eq!(back().await, 1, "not the one that was left");
    assert_eq!(back().await, 5, "and forth");
}

async fn who_goes_to_another_deployment_of_what_is_switched_off_leaves_it_off() {
    let scene = Scene::new().await;
    let status = async || scene.call("get", "", Value::Null).await.1["status"].clone();
    assert_eq!(status().await, "INACTIVE", "nothing is there to answer");
    scene.deploy("&preview=true").await;
    assert_eq!(status().await, "INACTIVE", "but at a preview host");
    scene.deploy("").await;
    scene.deploy("").await;
    assert_eq!(status().await, "DEPLOYING");
    scene.call("patch", "", json!({ "status": "INACTIVE" })).await;
    let (code, back) = scene.call("post", "/rollback", json!({})).await;
    assert_eq!((code, &back["number"], &back["status"]), (200, &json!(2), &json!("INACTIVE")));
    assert_eq!(status().await, "INACTIVE");
    let (_, forth) = scene.call("post", "/promote", json!({ "deployment": back["id"] })).await;
    assert_eq!((&forth["number"], &forth["status"]), (&json!(2), &json!("INACTIVE")));
    let (_, on) = scene.call("patch", "", json!({ "status": "ACTIVE" })).await;
    assert_eq!((&on["currentDeploymentId"], on["status"] != "INACTIVE"), (&back["id"], true), "{on}");
}

async fn those_who_wait_to_write_keep_nobody_from_reading() {
    let scene = Scene::new().await;
    scene.deploy("").await;
    let (path, secrets) = (scene.path(""), scene.path("/secrets"));
    let calls = (0..60).map(async |place| {
        let (path, body) = match place % 10 {
            0 => (&secrets, json!({ "values": { "KEY": place.to_string() } })),
            _ => (&path, json!({ "name": format!("hello-{place}") })),
        };
        scene.served.call("patch", path, Some(OWNER), body).await
    });
    for (status, said) in futures::future::join_all(calls).await {
        assert_eq!(status, 200, "{said}");
    }
}

async fn old_deployments_go_and_what_is_needed_stays() {
    let scene = Scene::new().await;
    for _ in 0..3 {
        scene.deploy("").await;
    }
    let waiting = scene.deploy("&stores=orders").await;
    assert_eq!(waiting["approval"], "AWAITING_APPROVAL");
    let candidate = scene.deploy("&percent=5").await;
    for _ in 0..3 {
        scene.deploy("&preview=true").await;
    }
    let prune = async |body: Value| {
        let (status, said) = scene.call("post", "/prune", body).await;
        assert_eq!(status, 200, "{said}");
        let gone = said["pruned"].as_array().unwrap();
        gone.iter().map(|gone| gone["number"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(scene.code("post", "/prune", json!({ "keep": 0 })).await, "invalid_keep");
    assert!(prune(json!({ "keep": 1, "youngerThanSeconds": 3600 })).await.is_empty());
    let kept = json!({ "keep": 1, "dryRun": true });
    assert_eq!(prune(kept).await, [1, 6, 7]);
    assert_eq!(numbers(&scene).await.len(), 8);
    assert_eq!(prune(json!({ "keep": 2 })).await, [1, 6]);
    assert_eq!(numbers(&scene).await, [8, 7, 5, 4, 3, 2], "active, the one before, candidate, waiting");
    assert_eq!(scene.told().await.previews.len(), 5, "and edges know");
    assert_eq!(scene.actions().await[..2], ["deployment.prune", "deployment.prune"]);
    let (_, back) = scene.call("post", "/rollback", json!({})).await;
    assert_eq!(back["number"], 2);
    let (_, promoted) = scene.call("post", "/promote", json!({ "deployment": candidate["id"] })).await;
    assert_eq!(promoted["number"], 5);
    assert_eq!(prune(json!({ "keep": 1 })).await, [3, 7], "2 was active before");
    let next = scene.deploy("").await;
    assert_eq!(next["number"], 9, "numbers are not given again");
    assert_eq!(scene.served.control.prune_deployments().await.unwrap().pruned, 0, "there are few");
}

const CID: &str = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";

async fn a_function_has_a_hundred_deployments_and_loses_the_oldest() {
    let scene = Scene::new().await;
    let rows = format!(
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < 103)
        insert into deployments (id, function_id, number, manifest_cid, code_cid, blake3, size, world, author_id, created_at)
        select 'dep_' || i, '{}', i, '{CID}', '{CID}', '', 0, 'wasi:http/proxy@0.2', (select id from users where id <> 'usr_2'), 0 from n",
        scene.function
    );
    scene.served.stored.script(&rows).await;
    assert_eq!(scene.served.control.prune_deployments().await.unwrap().pruned, 3);
    assert_eq!(scene.served.control.prune_deployments().await.unwrap().pruned, 0);
    let (_, problem) = scene.served.call("get", "/v1/deployments/dep_3", Some(OWNER), Value::Null).await;
    assert_eq!(problem["code"], "not_found");
    assert_eq!(scene.served.call("get", "/v1/deployments/dep_4", Some(OWNER), Value::Null).await.0, 200);
    assert_eq!(scene.actions().await[..3], ["deployment.prune"; 3]);
}

async fn a_status_is_what_edges_report() {
    let scene = Scene::new().await;
    let report = async |deployment: &Value, failure: Option<&str>| {
        let deployment = deployment["id"].as_str().unwrap().to_owned();
        let deployments =
            vec![DeploymentReport { deployment, failure: failure.map(Into::into), may_pass: false }];
        scene.served.control.report(&Report { deployments, ..Report::default() }).await.unwrap();
    };
    // Of the function, its newest and its first deployment, for clients of REST and GraphQL.
    let statuses = async || {
        let (_, function) = scene.call("get", "", Value::Null).await;
        let (_, list) = scene.call("get", "/deployments", Value::Null).await;
        let query = format!(
            "query {{ afFunction(where: {{ id: \"{}\" }}) {{ status deployments {{ status statusReason }} }} }}",
            scene.function
        );
        let (_, said) = scene.served.call("post", "/graphql", Some(OWNER), json!({ "query": query })).await;
        let other = &said["data"]["afFunction"];
        assert_eq!(other["status"], function["status"], "{said}");
        let deployments = list["data"].as_array().unwrap();
        for (one, other) in deployments.iter().zip(other["deployments"].as_array().unwrap()) {
            assert_eq!((&one["status"], &one["statusReason"]), (&other["status"], &other["statusReason"]));
        }
        let of = |row: &Value| row["status"].as_str().unwrap().to_owned();
        [of(&function), of(&deployments[0]), of(deployments.last().unwrap())]
    };
    let first = scene.deploy("").await;
    assert_eq!(first["status"], "DEPLOYING", "nobody can run it yet");
    assert_eq!(statuses().await, ["DEPLOYING"; 3]);
    let (function, deployment) = (scene.function.clone(), first["id"].as_str().unwrap().to_owned());
    let awaited = scene.served.control.awaited().await.unwrap();
    assert_eq!(awaited, [Awaited { function, deployment }], "edges are asked for it");
    report(&first, Some("content is missing")).await;
    assert_eq!(statuses().await, ["FAILED"; 3]);
    let (_, list) = scene.call("get", "/deployments", Value::Null).await;
    assert_eq!(list["data"][0]["statusReason"], "this server: content is missing");
    // It could later, and that is what counts.
    report(&first, None).await;
    assert_eq!(statuses().await, ["ACTIVE"; 3]);
    assert!(scene.served.control.awaited().await.unwrap().is_empty());
    report(&json!({ "id": "dep_1" }), None).await;
    let second = scene.deploy("&percent=10").await;
    assert_eq!(statuses().await, ["ACTIVE", "DEPLOYING", "ACTIVE"]);
    report(&second, None).await;
    assert_eq!(statuses().await, ["ACTIVE", "ACTIVE", "ACTIVE"], "some clients get it");
    scene.call("post", "/promote", json!({ "deployment": null })).await;
    assert_eq!(statuses().await, ["DEPLOYING", "DEPLOYING", "INACTIVE"], "edges say it once more");
    // What was never ready is not waited for any more once another one is to answer.
    scene.call("post", "/rollback", json!({ "deployment": null })).await;
    assert_eq!(scene.served.control.awaited().await.unwrap().len(), 1);
    report(&first, None).await;
    report(&second, Some("late")).await;
    assert_eq!(statuses().await, ["ACTIVE", "INACTIVE", "ACTIVE"]);
    scene.call("patch", "", json!({ "status": "INACTIVE" })).await;
    assert_eq!(statuses().await, ["INACTIVE"; 3]);
}

crate::on_both!(
    a_rollback_leads_to_what_was_active_before,
    who_goes_to_another_deployment_of_what_is_switched_off_leaves_it_off,
    those_who_wait_to_write_keep_nobody_from_reading,
    old_deployments_go_and_what_is_needed_stays,
    a_function_has_a_hundred_deployments_and_loses_the_oldest,
    a_status_is_what_edges_report,
);
