//! Deployments that not every client gets: what the control plane says of them, and tells edges.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use af_contract::{Guard, RolloutFailure, Tally};
use serde_json::{Value, json};
use support::function::{Scene, share};
use support::{OWNER, STRANGER};

async fn a_candidate_is_rolled_out_step_by_step_and_promoted() {
    let scene = Scene::new().await;
    let (status, problem) = scene.deploy_as(OWNER, "&percent=5").await;
    assert_eq!((status, &problem["code"]), (409, &json!("function_not_deployed")));
    let first = scene.deploy("").await;
    assert_eq!(scene.call("get", "/rollout", Value::Null).await.0, 404);
    let second = scene.deploy("&percent=5&sticky=cookie:sid").await;
    let (_, rollout) = scene.call("get", "/rollout", Value::Null).await;
    assert_eq!((&rollout["deploymentId"], &rollout["percent"]), (&second["id"], &json!(5)));
    assert_eq!((&rollout["status"], &rollout["sticky"]), (&json!("RUNNING"), &json!("cookie:sid")));
    let told = scene.told().await;
    assert_eq!(json!(told.deployment.unwrap().id), first["id"], "the others go on");
    assert_eq!(json!(told.rollout.unwrap().candidate.id), second["id"]);

    let (_, raised) = scene.call("put", "/rollout", share(&second, 50)).await;
    assert_eq!((&raised["id"], &raised["percent"]), (&rollout["id"], &json!(50)));
    assert_eq!(raised["sticky"], "cookie:sid", "as before");
    let (status, promoted) = scene.call("post", "/promote", json!({})).await;
    assert_eq!((status, &promoted["id"]), (200, &second["id"]));
    let told = scene.told().await;
    assert_eq!((json!(told.deployment.unwrap().id), told.rollout), (second["id"].clone(), None));
    assert_eq!(scene.call("get", "/rollout", Value::Null).await.1["status"], "PROMOTED");
    assert_eq!(scene.code("post", "/promote", json!({})).await, "no_rollout");
    let actions = scene.actions().await;
    assert_eq!(actions[..2], ["deployment.promote", "deployment.rollout"], "{actions:?}");
}

async fn a_rollout_ends_when_another_deployment_becomes_active() {
    let scene = Scene::new().await;
    let first = scene.deploy("").await;
    let second = scene.deploy("&percent=100").await;
    let third = scene.deploy("&preview=true").await;
    assert_eq!(scene.code("put", "/rollout", share(&third, 5)).await, "rollout_running");
    assert_eq!(scene.code("post", "/promote", json!({ "deployment": third["id"] })).await, "200");
    let (_, ended) = scene.call("get", "/rollout", Value::Null).await;
    assert_eq!((&ended["deploymentId"], &ended["status"]), (&second["id"], &json!("ABORTED")));
    assert_eq!(ended["reason"], "another deployment was made active");
    assert!(scene.told().await.rollout.is_none());

    assert_eq!(scene.code("put", "/rollout", share(&first, 0)).await, "200", "an old one can come back");
    assert_eq!(scene.code("delete", "/rollout", Value::Null).await, "200");
    assert_eq!(scene.code("delete", "/rollout", Value::Null).await, "no_rollout");
    assert_eq!(json!(scene.told().await.deployment.unwrap().id), third["id"]);
    assert_eq!(scene.served.call("delete", &scene.path(""), Some(OWNER), Value::Null).await.0, 200);
}

async fn what_cannot_be_rolled_out_is_refused() {
    let scene = Scene::new().await;
    let first = scene.deploy("").await;
    assert_eq!(scene.code("put", "/rollout", share(&first, 5)).await, "deployment_active");
    let second = scene.deploy("&preview=true").await;
    assert_eq!(scene.code("put", "/rollout", share(&second, 101)).await, "invalid_percent");
    let keyed = json!({ "deployment": second["id"], "percent": 1, "sticky": "cookie" });
    assert_eq!(scene.code("put", "/rollout", keyed).await, "invalid_sticky");
    assert_eq!(
        scene.code("put", "/rollout", json!({ "deployment": "dep_1", "percent": 1 })).await,
        "not_found"
    );

    // Before anything is sent.
    assert_eq!(scene.code("put", "/rollout", share(&second, 5)).await, "200");
    let cid = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";
    let path = scene.path(&format!("/deployments?cid={cid}&blake3={}&percent=5", "0".repeat(64)));
    let (status, problem) = scene.served.upload(&path, OWNER, Vec::new()).await;
    assert_eq!((status, &problem["code"]), (409, &json!("rollout_running")), "{problem}");
    for query in ["&percent=5&preview=true", "&sticky=address", "&percent=101"] {
        let (status, problem) = scene.deploy_as(OWNER, query).await;
        assert_eq!((status, &problem["code"]), (400, &json!("invalid_percent")), "{query}");
    }
    let path = format!("/v1/projects/{}/functions", scene.project);
    let (_, other) = scene.served.call("post", &path, Some(OWNER), json!({ "name": "other" })).await;
    let path = format!("/v1/functions/{}/rollout", other["id"].as_str().unwrap());
    let (status, _) = scene.served.call("put", &path, Some(OWNER), share(&first, 5)).await;
    assert_eq!(status, 404, "a deployment of another function");
    let (status, _) =
        scene.served.call("put", &scene.path("/rollout"), Some(STRANGER), share(&second, 5)).await;
    assert_eq!(status, 404);
}

async fn an_edge_ends_the_rollout_that_it_has_stopped_and_no_other() {
    let scene = Scene::new().await;
    scene.deploy("").await;
    let second = scene.deploy("&percent=50&maxErrors=5&minRequests=7").await;
    let told = scene.told().await.rollout.unwrap();
    assert_eq!(told.guard, Guard { max_errors: 5, min_requests: 7 });
    let failure = RolloutFailure {
        function: scene.function.clone(),
        rollout: told.id.clone(),
        candidate: Tally { requests: 8, failures: 4 },
        active: Tally { requests: 9, failures: 0 },
    };
    let other = RolloutFailure { rollout: "rol_1".into(), ..failure.clone() };
    scene.stopped(&other).await;
    assert!(scene.told().await.rollout.is_some());
    scene.stopped(&failure).await;
    assert!(scene.told().await.rollout.is_none());
    let (_, ended) = scene.call("get", "/rollout", Value::Null).await;
    assert_eq!(ended["status"], "ROLLED_BACK");
    assert_eq!(
        ended["reason"],
        "4 of 8 requests to it failed within a minute, and 0 of 9 to the active deployment"
    );
    assert_eq!(scene.actions().await[0], "deployment.roll_back");
    scene.stopped(&failure).await;
    assert_eq!(scene.actions().await[1], "deployment.create", "it is told once");
    assert_eq!(scene.code("put", "/rollout", share(&second, 60)).await, "rollout_stopped");
    assert!(scene.told().await.rollout.is_none());
    let again = json!({ "deployment": second["id"], "percent": 1, "again": true });
    let (_, anew) = scene.call("put", "/rollout", again).await;
    assert_ne!(anew["id"], ended["id"]);
    assert_eq!((&anew["maxErrors"], &anew["minRequests"]), (&json!(5), &json!(7)), "as before");
    let wrong = json!({ "deployment": second["id"], "percent": 1, "maxErrors": 101 });
    assert_eq!(scene.code("put", "/rollout", wrong).await, "invalid_percent");
}

/// Whoever is first: the rollout ends once, one deployment is active, and edges are told that.
async fn what_is_promoted_while_an_edge_stops_it_ends_one_way_or_the_other() {
    let scene = Scene::new().await;
    let mut active = scene.deploy("").await["id"].clone();
    for round in 0..12 {
        let candidate = scene.deploy("&percent=50").await["id"].clone();
        let failure = RolloutFailure {
            function: scene.function.clone(),
            rollout: scene.told().await.rollout.unwrap().id,
            candidate: Tally { requests: 8, failures: 4 },
            active: Tally { requests: 9, failures: 0 },
        };
        // By its name it becomes active also where it is no candidate any more: its operator says so.
        let promote = if round % 2 == 0 { json!({}) } else { json!({ "deployment": candidate }) };
        let promote = scene.code("post", "/promote", promote);
        let (code, ()) = tokio::join!(promote, scene.stopped(&failure));
        let (_, rollout) = scene.call("get", "/rollout", Value::Null).await;
        let end = rollout["status"].as_str().unwrap();
        match (code.as_str(), end) {
            ("200", "PROMOTED") => active = candidate,
            ("200", "ROLLED_BACK") if round % 2 == 1 => active = candidate,
            ("no_rollout", "ROLLED_BACK") if round % 2 == 0 => {}
            other => panic!("{other:?}"),
        }
        let told = scene.told().await;
        assert_eq!((json!(told.deployment.unwrap().id), told.rollout), (active.clone(), None));
        // What the edge says again changes nothing.
        let until = async || scene.served.control.changes_since(0).await.unwrap().until;
        let before = until().await;
        scene.stopped(&failure).await;
        assert_eq!(until().await, before);
    }
}

crate::on_both!(
    a_candidate_is_rolled_out_step_by_step_and_promoted,
    a_rollout_ends_when_another_deployment_becomes_active,
    what_cannot_be_rolled_out_is_refused,
    an_edge_ends_the_rollout_that_it_has_stopped_and_no_other,
    what_is_promoted_while_an_edge_stops_it_ends_one_way_or_the_other,
);
