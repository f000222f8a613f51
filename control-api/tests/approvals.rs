//! Deployments that may do more than the active one: who allows them, and what waits.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use serde_json::{Value, json};
use support::function::{Scene, numbers, share};
use support::{OWNER, STRANGER};

async fn what_widens_waits_for_somebody_who_may_allow_it() {
    let scene = Scene::new().await;
    let path = format!("/v1/projects/{}/keys", scene.project);
    let key = json!({ "name": "ci", "role": "developer" });
    let (_, key) = scene.served.call("post", &path, Some(OWNER), key).await;
    let developer = key["token"].as_str().unwrap();
    let (_, first) = scene.deploy_as(developer, "&stores=orders").await;
    assert_eq!(
        (&first["approval"], &first["widens"]),
        (&json!("AWAITING_APPROVAL"), &json!(["store orders"]))
    );
    assert!(scene.told().await.deployment.is_none());
    assert!(scene.told().await.previews.is_empty(), "its preview host does not answer either");
    let approve = format!("/v1/deployments/{}/approve", first["id"].as_str().unwrap());
    let (status, problem) = scene.served.call("post", &approve, Some(developer), json!({})).await;
    assert_eq!((status, &problem["code"]), (403, &json!("forbidden")));
    assert_eq!(scene.served.call("post", &approve, Some(STRANGER), json!({})).await.0, 404);
    let (status, approved) = scene.served.call("post", &approve, Some(OWNER), json!({})).await;
    assert_eq!((status, &approved["approval"]), (200, &json!("APPROVED")), "{approved}");
    assert_eq!(json!(scene.told().await.deployment.unwrap().id), first["id"]);
    let (_, again) = scene.served.call("post", &approve, Some(OWNER), json!({})).await;
    assert_eq!(again["code"], "not_awaiting_approval");
    assert_eq!(scene.actions().await[0], "deployment.approve");

    let (_, same) = scene.deploy_as(developer, "&stores=orders&egress=a.example").await;
    assert_eq!((&same["approval"], &same["widens"]), (&Value::Null, &json!([])), "any host narrows to one");
    let wider = "&stores=orders,bills&egress=a.example,b.example";
    let (status, refused) = scene.deploy_as(developer, &format!("{wider}&allow=true")).await;
    assert_eq!((status, &refused["code"]), (403, &json!("forbidden")), "it would wait, whatever they allow");
    let (_, more) = scene.deploy_as(developer, wider).await;
    assert_eq!(more["approval"], "AWAITING_APPROVAL", "a developer cannot allow it");
    assert_eq!(more["widens"], json!(["egress to b.example", "store bills"]));
    assert_eq!(json!(scene.told().await.deployment.unwrap().id), same["id"]);
    for (method, what, body) in [
        ("post", "/promote", json!({ "deployment": more["id"] })),
        ("post", "/rollback", json!({ "deployment": more["id"] })),
        ("put", "/rollout", share(&more, 1)),
    ] {
        assert_eq!(scene.code(method, what, body).await, "awaiting_approval", "{what}");
    }
    let any = scene.deploy("&stores=orders").await;
    assert_eq!(any["widens"], json!(["egress to any host of the public internet"]));
    assert_eq!(any["approval"], "AWAITING_APPROVAL", "also an owner says so");
    let newest = scene.deploy("&stores=orders&allow=true").await;
    assert_eq!((&newest["approval"], &newest["widens"]), (&json!("APPROVED"), &any["widens"]));
    assert_eq!(json!(scene.told().await.deployment.unwrap().id), newest["id"]);
    let approve = format!("/v1/deployments/{}/approve", more["id"].as_str().unwrap());
    assert_eq!(scene.served.call("post", &approve, Some(OWNER), json!({})).await.0, 200);
    assert_eq!(json!(scene.told().await.deployment.unwrap().id), newest["id"], "a later one is active");
    let (_, back) = scene.call("post", "/rollback", json!({})).await;
    assert_eq!(back["id"], same["id"], "what it ran, not what was only allowed, or still waits");
}

async fn what_is_promoted_later_is_compared_with_what_is_active_then() {
    let scene = Scene::new().await;
    let wide = scene.deploy("&egress=a.example,b.example&stores=orders").await;
    let preview = scene.deploy("&egress=a.example,b.example&stores=orders&preview=true").await;
    assert_eq!(preview["approval"], Value::Null, "it may do no more than what is active");
    let narrow = scene.deploy("&egress=a.example").await;
    for (method, what, body) in [
        ("post", "/promote", json!({ "deployment": preview["id"] })),
        ("post", "/rollback", json!({ "deployment": preview["id"] })),
        ("put", "/rollout", share(&preview, 1)),
    ] {
        let (status, problem) = scene.call(method, what, body).await;
        assert_eq!((status, &problem["code"]), (409, &json!("awaiting_approval")), "{what}: {problem}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("egress to b.example, store orders; an admin"), "{detail}");
    }
    assert_eq!(json!(scene.told().await.deployment.unwrap().id), narrow["id"]);
    assert_eq!(scene.told().await.previews.len(), 3, "its preview host goes on");

    let approve = format!("/v1/deployments/{}/approve", preview["id"].as_str().unwrap());
    let allows = json!({ "allows": ["egress to b.example", "store orders"] });
    let (status, approved) = scene.served.call("post", &approve, Some(OWNER), allows).await;
    assert_eq!((status, &approved["approval"]), (200, &json!("APPROVED")), "{approved}");
    assert_eq!(approved["widens"], json!(["egress to b.example", "store orders"]));
    assert_eq!(
        json!(scene.told().await.deployment.unwrap().id),
        narrow["id"],
        "promoting it is another thing"
    );
    let (_, again) = scene.served.call("post", &approve, Some(OWNER), json!({})).await;
    assert_eq!(again["code"], "not_awaiting_approval");
    let promote = json!({ "deployment": preview["id"] });
    assert_eq!(scene.code("post", "/promote", promote).await, "200");
    assert_eq!(json!(scene.told().await.deployment.unwrap().id), preview["id"]);
    // What was active may be so again, also if it may do more.
    let back = json!({ "deployment": narrow["id"] });
    assert_eq!(scene.code("post", "/rollback", back).await, "200");
    let back = json!({ "deployment": wide["id"] });
    assert_eq!(scene.code("post", "/rollback", back).await, "200");
}

async fn nobody_allows_what_they_were_not_shown() {
    let scene = Scene::new().await;
    scene.deploy("&stores=orders").await;
    let waiting = scene.deploy("&stores=orders,bills").await;
    assert_eq!(waiting["widens"], json!(["store bills"]));
    scene.deploy("").await;
    let approve = format!("/v1/deployments/{}/approve", waiting["id"].as_str().unwrap());
    let ask = async |body: Value| scene.served.call("post", &approve, Some(OWNER), body).await;
    for shown in [json!({}), json!({ "allows": [] }), json!({ "allows": ["store bills", "store x"] })] {
        let (status, refused) = ask(shown.clone()).await;
        assert_eq!((status, &refused["code"]), (409, &json!("capabilities_changed")), "{shown}: {refused}");
        let detail = refused["detail"].as_str().unwrap();
        assert!(detail.contains("--allow 'store bills' --allow 'store orders'`"), "{detail}");
    }
    let (_, seen) =
        scene.served.call("get", approve.trim_end_matches("/approve"), Some(OWNER), Value::Null).await;
    assert_eq!(seen["approval"], "AWAITING_APPROVAL");
    let (status, approved) = ask(json!({ "allows": ["store orders", "store bills"] })).await;
    assert_eq!((status, &approved["widens"]), (200, &json!(["store bills", "store orders"])), "{approved}");
}

async fn what_an_upgrade_took_for_active_is_compared_too() {
    let scene = Scene::new().await;
    let wide = scene.deploy("&stores=orders").await;
    let preview = scene.deploy("&stores=orders&preview=true").await;
    scene.deploy("").await;
    // As migration 0021 has it of what is older.
    scene.served.stored.script("update deployments set activated_at = created_at where number < 3").await;
    for what in ["/promote", "/rollback"] {
        let body = json!({ "deployment": preview["id"] });
        assert_eq!(scene.code("post", what, body).await, "awaiting_approval", "{what}");
    }
    // This one was made to be active.
    assert_eq!(scene.code("post", "/rollback", json!({ "deployment": wide["id"] })).await, "200");
}

async fn clients_of_graphql_are_told_what_a_deploy_waits_for() {
    let scene = Scene::new().await;
    let first = scene.deploy("&egress=a.example").await;
    let query = "mutation($id: ID!, $cid: String!) {
        triggerFleekFunctionDeployment(where: { functionId: $id, cid: $cid }, data: {}) { id status statusReason } }";
    let body = json!({ "query": query, "variables": { "id": scene.function, "cid": first["cid"] } });
    let headers = [("x-project-id", scene.project.as_str())];
    let (_, answer) = scene.served.call_with("/graphql", OWNER, &headers, body).await;
    let made = &answer["data"]["triggerFleekFunctionDeployment"];
    assert_eq!(made["status"], "INACTIVE", "{answer}");
    let reason = made["statusReason"].as_str().unwrap();
    assert!(
        reason.ends_with("(af functions approve): egress to any host of the public internet"),
        "{reason}"
    );
    let approve = format!("/v1/deployments/{}/approve", made["id"].as_str().unwrap());
    assert_eq!(scene.served.call("post", &approve, Some(OWNER), json!({})).await.0, 200);
    let query = "query($id: ID!) { fleekFunctionDeployment(where: { id: $id }) { status statusReason } }";
    let body = json!({ "query": query, "variables": { "id": made["id"] } });
    let (_, answer) = scene.served.call_with("/graphql", OWNER, &headers, body).await;
    let told = json!({ "status": "DEPLOYING", "statusReason": null });
    assert_eq!(answer["data"]["fleekFunctionDeployment"], told, "{answer}");
}

async fn a_token_allows_only_what_it_is_for() {
    let scene = Scene::new().await;
    let token = json!({ "name": "ci", "scopes": "deployments:write" });
    let (_, token) = scene.served.call("post", "/v1/tokens", Some(OWNER), token).await;
    let token = token["token"].as_str().unwrap();
    let (status, refused) = scene.deploy_as(token, "&stores=orders&allow=true").await;
    assert_eq!((status, &refused["code"]), (403, &json!("insufficient_scope")), "{refused}");
    let (_, first) = scene.deploy_as(token, "&stores=orders").await;
    assert_eq!(first["approval"], "AWAITING_APPROVAL");
    let token = json!({ "name": "approvals", "scopes": "approvals:write" });
    let (_, token) = scene.served.call("post", "/v1/tokens", Some(OWNER), token).await;
    let approve = format!("/v1/deployments/{}/approve", first["id"].as_str().unwrap());
    let approved = scene.served.call("post", &approve, token["token"].as_str(), json!({})).await;
    assert_eq!((approved.0, &approved.1["approval"]), (200, &json!("APPROVED")));
}

async fn what_nobody_allows_does_not_pile_up() {
    let scene = Scene::new().await;
    scene.deploy("").await;
    for _ in 0..12 {
        assert_eq!(scene.deploy("&stores=orders").await["approval"], "AWAITING_APPROVAL");
    }
    assert_eq!(numbers(&scene).await, [13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 1]);
    assert_eq!(scene.actions().await[..2], ["deployment.prune", "deployment.create"]);
}

crate::on_both!(
    what_widens_waits_for_somebody_who_may_allow_it,
    what_is_promoted_later_is_compared_with_what_is_active_then,
    nobody_allows_what_they_were_not_shown,
    what_an_upgrade_took_for_active_is_compared_too,
    clients_of_graphql_are_told_what_a_deploy_waits_for,
    a_token_allows_only_what_it_is_for,
    what_nobody_allows_does_not_pile_up,
);
