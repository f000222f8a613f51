//! Deployments that not every client gets: what the control plane says of them, and tells edges.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use af_content::{car, unixfs};
use af_contract::edge::{Awaited, DeploymentReport, Report};
use af_contract::{Change, FunctionState, Guard, RolloutFailure, Tally};
use serde_json::{Value, json};
use support::content::COMPONENT;
use support::{OWNER, STRANGER, Served};

/// A control API with a function.
struct Scene {
    served: Served,
    project: String,
    function: String,
}

impl Scene {
    /// The edge of this process says so.
    async fn stopped(&self, failure: &RolloutFailure) {
        let report = Report { rollouts: vec![failure.clone()], ..Report::default() };
        self.served.control.report(&report).await.unwrap();
    }

    async fn new() -> Self {
        let served = Served::start().await;
        let (_, projects) = served.call("get", "/v1/projects", Some(OWNER), Value::Null).await;
        let project = projects["data"][0]["id"].as_str().unwrap().to_owned();
        let path = format!("/v1/projects/{project}/functions");
        let (_, function) = served.call("post", &path, Some(OWNER), json!({ "name": "hello" })).await;
        let function = function["id"].as_str().unwrap().to_owned();
        Self { served, project, function }
    }

    fn path(&self, what: &str) -> String {
        format!("/v1/functions/{}{what}", self.function)
    }

    async fn deploy_as(&self, token: &str, query: &str) -> (u16, Value) {
        let component = wat::parse_str(COMPONENT).unwrap();
        let mut blocks = Vec::new();
        let file = unixfs::import(component.as_slice(), |block| {
            blocks.push(block);
            Ok(())
        });
        let file = file.unwrap();
        let mut body = car::encode_header(&[file.root]);
        for block in &blocks {
            body.extend(car::encode_block_prefix(&block.id, block.bytes.len()));
            body.extend_from_slice(&block.bytes);
        }
        let path = format!("/deployments?cid={}&blake3={}{query}", file.root, file.blake3);
        self.served.upload(&self.path(&path), token, body).await
    }

    async fn deploy(&self, query: &str) -> Value {
        let (status, deployment) = self.deploy_as(OWNER, query).await;
        assert_eq!(status, 201, "{deployment}");
        deployment
    }

    async fn call(&self, method: &str, what: &str, body: Value) -> (u16, Value) {
        self.served.call(method, &self.path(what), Some(OWNER), body).await
    }

    /// The status code where it is an answer, the problem's code where it is none.
    async fn code(&self, method: &str, what: &str, body: Value) -> String {
        let (status, said) = self.call(method, what, body).await;
        if status == 200 { "200".into() } else { said["code"].as_str().unwrap().to_owned() }
    }

    /// What edges are told of the function.
    async fn told(&self) -> FunctionState {
        let updates = self.served.control.changes_since(0).await.unwrap().updates;
        match updates.into_iter().next_back().unwrap().change {
            Change::Function { state: Some(state), .. } => state,
            other => panic!("{other:?}"),
        }
    }

    async fn actions(&self) -> Vec<String> {
        let path = format!("/v1/projects/{}/audit", self.project);
        let (_, page) = self.served.call("get", &path, Some(OWNER), Value::Null).await;
        let entries = page["data"].as_array().unwrap();
        entries.iter().map(|entry| entry["action"].as_str().unwrap().to_owned()).collect()
    }
}

fn share(deployment: &Value, percent: u32) -> Value {
    json!({ "deployment": deployment["id"], "percent": percent })
}

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
    let (_, more) =
        scene.deploy_as(developer, "&stores=orders,bills&egress=a.example,b.example&allow=true").await;
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
    let (_, first) = scene.deploy_as(token["token"].as_str().unwrap(), "&stores=orders&allow=true").await;
    assert_eq!(first["approval"], "AWAITING_APPROVAL");
    let token = json!({ "name": "approvals", "scopes": "approvals:write" });
    let (_, token) = scene.served.call("post", "/v1/tokens", Some(OWNER), token).await;
    let approve = format!("/v1/deployments/{}/approve", first["id"].as_str().unwrap());
    let approved = scene.served.call("post", &approve, token["token"].as_str(), json!({})).await;
    assert_eq!((approved.0, &approved.1["approval"]), (200, &json!("APPROVED")));
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

/// Numbers of the deployments that there are, newest first.
async fn numbers(scene: &Scene) -> Vec<i64> {
    let (_, page) = scene.call("get", "/deployments", Value::Null).await;
    page["data"].as_array().unwrap().iter().map(|row| row["number"].as_i64().unwrap()).collect()
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

async fn what_nobody_allows_does_not_pile_up() {
    let scene = Scene::new().await;
    scene.deploy("").await;
    for _ in 0..12 {
        assert_eq!(scene.deploy("&stores=orders").await["approval"], "AWAITING_APPROVAL");
    }
    assert_eq!(numbers(&scene).await, [13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 1]);
    assert_eq!(scene.actions().await[..2], ["deployment.prune", "deployment.create"]);
}

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

const CID: &str = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";

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
    what_nobody_allows_does_not_pile_up,
    a_rollback_leads_to_what_was_active_before,
    those_who_wait_to_write_keep_nobody_from_reading,
    a_status_is_what_edges_report,
    old_deployments_go_and_what_is_needed_stays,
    a_function_has_a_hundred_deployments_and_loses_the_oldest,
    an_edge_ends_the_rollout_that_it_has_stopped_and_no_other,
    what_is_promoted_while_an_edge_stops_it_ends_one_way_or_the_other,
    what_widens_waits_for_somebody_who_may_allow_it,
    what_is_promoted_later_is_compared_with_what_is_active_then,
    nobody_allows_what_they_were_not_shown,
    what_an_upgrade_took_for_active_is_compared_too,
    clients_of_graphql_are_told_what_a_deploy_waits_for,
    a_token_allows_only_what_it_is_for,
    a_candidate_is_rolled_out_step_by_step_and_promoted,
    a_rollout_ends_when_another_deployment_becomes_active,
    what_cannot_be_rolled_out_is_refused,
);
