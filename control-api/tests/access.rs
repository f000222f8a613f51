//! Who may do what: members by their roles, tokens by their scopes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use af_control_api::rest;
use serde_json::{Value, json};
use support::{OWNER, STRANGER, Served};

/// A control API, its first project, and a function of it.
struct Scene {
    served: Served,
    project: String,
    organization: String,
    function: String,
}

impl Scene {
    async fn new() -> Self {
        let served = Served::start().await;
        let (_, projects) = served.call("get", "/v1/projects", Some(OWNER), Value::Null).await;
        let project = text(&projects["data"][0]["id"]);
        let organization = text(&projects["data"][0]["organizationId"]);
        let path = format!("/v1/projects/{project}/functions");
        let (_, function) = served.call("post", &path, Some(OWNER), json!({ "name": "hello" })).await;
        Self { project, organization, function: text(&function["id"]), served }
    }

    async fn call(&self, token: &str, method: &str, path: &str, body: Value) -> (u16, Value) {
        let path = path.replace("{project}", &self.project).replace("{function}", &self.function);
        self.served.call(method, &path.replace("{organization}", &self.organization), Some(token), body).await
    }

    async fn made(&self, token: &str, path: &str, body: Value) -> Value {
        let (status, made) = self.call(token, "post", path, body).await;
        assert_eq!(status, 201, "{path} {made}");
        made
    }

    /// A new user's token, and their id.
    async fn join(&self, group: &str, role: &str) -> (String, String) {
        let invited = self.made(OWNER, &format!("{group}/invitations"), json!({ "role": role })).await;
        let body = json!({ "code": invited["code"], "name": role });
        let (status, joined) = self.served.call("post", "/v1/invitations/accept", None, body.clone()).await;
        assert_eq!((status, &joined["role"]), (200, &json!(role)), "{joined}");
        let (status, again) = self.served.call("post", "/v1/invitations/accept", None, body).await;
        assert_eq!((status, &again["code"]), (400, &json!("invalid_invitation")), "a code works once");
        (text(&joined["token"]), text(&joined["userId"]))
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

const CID: &str = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";

const PROJECT: &str = "/v1/projects/{project}";
const ORGANIZATION: &str = "/v1/organizations/{organization}";

async fn members_do_what_their_roles_say() {
    let scene = Scene::new().await;
    let (viewer, _) = scene.join(PROJECT, "viewer").await;
    let (developer, _) = scene.join(PROJECT, "developer").await;
    let (admin, _) = scene.join(ORGANIZATION, "admin").await;
    let (billing, _) = scene.join(ORGANIZATION, "billing").await;
    let rename = json!({ "name": "another" });
    let settings = json!({ "status": "INACTIVE" });
    for (method, path, body, allowed) in [
        ("get", "/v1/functions/{function}", &Value::Null, [true, true, true, false]),
        ("patch", "/v1/functions/{function}", &settings, [false, true, true, false]),
        ("patch", PROJECT, &rename, [false, false, true, false]),
        ("get", "/v1/projects/{project}/members", &Value::Null, [true, true, true, true]),
        ("get", "/v1/projects/{project}/invitations", &Value::Null, [false, false, true, false]),
        ("get", "/v1/projects/{project}/keys", &Value::Null, [false, false, true, false]),
        ("delete", PROJECT, &Value::Null, [false; 4]),
    ] {
        for (token, allowed) in [&viewer, &developer, &admin, &billing].into_iter().zip(allowed) {
            let (status, said) = scene.call(token, method, path, body.clone()).await;
            assert_eq!(status, if allowed { 200 } else { 403 }, "{method} {path} {said}");
            if !allowed {
                assert_eq!(said["code"], "forbidden");
            }
        }
        assert_eq!(scene.call(STRANGER, method, path, body.clone()).await.0, 404, "{method} {path}");
    }
    let (_, theirs) = scene.call(&viewer, "get", "/v1/projects", Value::Null).await;
    assert_eq!(theirs["data"][0]["id"], scene.project);
    let (_, theirs) = scene.call(&billing, "get", "/v1/projects", Value::Null).await;
    assert_eq!(theirs["data"][0]["id"], scene.project, "by the organization");
}

/// Whatever the document has of a project: a viewer changes nothing.
async fn a_viewer_changes_nothing() {
    let scene = Scene::new().await;
    let (viewer, _) = scene.join(PROJECT, "viewer").await;
    let document = serde_json::to_value(rest::document()).unwrap();
    let mut tried = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        let ours = ["/v1/projects/{project}", "/v1/functions/{function}"];
        if !ours.iter().any(|prefix| path.starts_with(prefix)) {
            continue;
        }
        for method in methods.as_object().unwrap().keys().filter(|method| *method != "get") {
            let path = path.replace("{user}", "usr_2").replace("{cid}", CID);
            let body = match path.rsplit('/').next().unwrap() {
                "functions" | "sites" | "{project}" => json!({ "name": "another" }),
                "domains" => json!({ "hostname": "www.example.com", "functionId": scene.function }),
                "keys" => json!({ "name": "key" }),
                "invitations" | "usr_2" => json!({ "role": "viewer" }),
                "pins" => json!({ "cid": CID }),
                "secrets" | "settings" => json!({ "values": { "NAME": "value" } }),
                _ => json!({}),
            };
            let (status, said) = scene.call(&viewer, method, &path, body).await;
            // What cannot be read is refused before anybody asks who wants it.
            assert!(matches!(status, 403 | 400 | 415 | 422), "{method} {path} {status} {said}");
            tried += usize::from(status == 403);
        }
    }
    assert!(tried >= 12, "{tried}");
}

async fn nobody_gives_what_they_do_not_have() {
    let scene = Scene::new().await;
    let (admin, admin_id) = scene.join(ORGANIZATION, "admin").await;
    let invite = |role: &str| json!({ "role": role });
    let path = format!("{ORGANIZATION}/invitations");
    assert_eq!(scene.call(&admin, "post", &path, invite("owner")).await.0, 403);
    assert_eq!(scene.call(&admin, "post", &path, invite("king")).await.1["code"], "invalid_role");
    let invited = scene.made(&admin, &path, json!({ "role": "admin", "email": "a@example.com" })).await;
    let (_, open) = scene.call(OWNER, "get", &path, Value::Null).await;
    assert_eq!(open["data"][0]["email"], "a@example.com");
    assert!(open["data"][0].get("code").is_none());
    let id = text(&invited["id"]);
    assert_eq!(scene.call(STRANGER, "delete", &format!("/v1/invitations/{id}"), Value::Null).await.0, 404);
    assert_eq!(scene.call(OWNER, "delete", &format!("/v1/invitations/{id}"), Value::Null).await.0, 204);
    let accept = json!({ "code": invited["code"] });
    assert_eq!(scene.call(STRANGER, "post", "/v1/invitations/accept", accept).await.0, 400);

    let (_, me) = scene.call(OWNER, "get", "/v1/me", Value::Null).await;
    let owner = format!("{ORGANIZATION}/members/{}", text(&me["id"]));
    assert_eq!(scene.call(&admin, "delete", &owner, Value::Null).await.0, 403);
    assert_eq!(scene.call(&admin, "put", &owner, invite("viewer")).await.0, 403);
    let (status, said) = scene.call(OWNER, "delete", &owner, Value::Null).await;
    assert_eq!((status, &said["code"]), (409, &json!("last_owner")));
    let admin_path = format!("{ORGANIZATION}/members/{admin_id}");
    assert_eq!(scene.call(OWNER, "put", &admin_path, invite("owner")).await.0, 204);
    assert_eq!(scene.call(OWNER, "delete", &owner, Value::Null).await.0, 204, "another one is left");
    assert_eq!(scene.call(OWNER, "get", PROJECT, Value::Null).await.0, 404);
    assert_eq!(scene.call(&admin, "delete", &admin_path, Value::Null).await.0, 409);
}

async fn a_token_does_what_it_is_for() {
    let scene = Scene::new().await;
    let second = scene.made(OWNER, "/v1/projects/{project}/functions", json!({ "name": "second" })).await;
    let second = text(&second["id"]);
    let wanted = json!({ "name": "ci", "scopes": "deployments:write", "functionId": scene.function });
    let token = text(&scene.made(OWNER, "/v1/tokens", wanted).await["token"]);
    let functions = "/v1/projects/{project}/functions";
    let (_, seen) = scene.call(&token, "get", functions, Value::Null).await;
    assert_eq!(seen["data"].as_array().unwrap().len(), 1, "it finds its function and no other");
    assert_eq!(scene.call(&token, "get", "/v1/functions/{function}/deployments", Value::Null).await.0, 200);
    let (status, said) = scene.call(&token, "patch", "/v1/functions/{function}", json!({})).await;
    assert_eq!((status, &said["code"]), (403, &json!("insufficient_scope")));
    assert!(text(&said["detail"]).contains("functions:write"), "{said}");
    for beside in ["logs?follow=false", "logs", "triggers"] {
        let path = format!("/v1/functions/{{function}}/{beside}");
        let (status, said) = scene.call(&token, "get", &path, Value::Null).await;
        assert_eq!((status, &said["code"]), (403, &json!("insufficient_scope")), "{beside}: {said}");
        assert!(text(&said["detail"]).contains("functions:read"), "{said}");
    }
    assert_eq!(scene.call(&token, "get", &format!("/v1/functions/{second}"), Value::Null).await.0, 404);
    assert_eq!(scene.call(&token, "post", functions, json!({ "name": "third" })).await.0, 403);
    assert_eq!(scene.call(&token, "get", "/v1/projects/{project}/sites", Value::Null).await.0, 403);
    let more = json!({ "name": "more" });
    assert_eq!(scene.call(&token, "post", "/v1/tokens", more.clone()).await.0, 403);
    let (status, said) =
        scene.call(OWNER, "post", "/v1/tokens", json!({ "name": "x", "scopes": "x:read" })).await;
    assert_eq!((status, &said["code"]), (400, &json!("invalid_scope")));

    let limited = json!({ "name": "tokens", "scopes": "tokens:write functions:read" });
    let limited = text(&scene.made(OWNER, "/v1/tokens", limited).await["token"]);
    assert_eq!(scene.call(&limited, "post", "/v1/tokens", more).await.0, 403);
    let same = json!({ "name": "same", "scopes": "functions:read" });
    scene.made(&limited, "/v1/tokens", same).await;
}

async fn a_projects_key_stays_when_its_maker_goes() {
    let scene = Scene::new().await;
    let (admin, admin_id) = scene.join(ORGANIZATION, "admin").await;
    let keys = "/v1/projects/{project}/keys";
    assert_eq!(scene.call(&admin, "post", keys, json!({ "name": "k", "role": "owner" })).await.0, 403);
    let made = scene.made(&admin, keys, json!({ "name": "deploys" })).await;
    let (key, id) = (text(&made["token"]), text(&made["id"]));
    assert_eq!(made["role"], "developer");
    let member = format!("{ORGANIZATION}/members/{admin_id}");
    assert_eq!(scene.call(OWNER, "delete", &member, Value::Null).await.0, 204);
    assert_eq!(scene.call(&admin, "get", PROJECT, Value::Null).await.0, 404);
    assert_eq!(scene.call(&key, "get", PROJECT, Value::Null).await.0, 200);
    assert_eq!(scene.call(&key, "patch", "/v1/functions/{function}", json!({})).await.0, 200);
    assert_eq!(scene.call(&key, "patch", PROJECT, json!({ "name": "x" })).await.0, 403);
    assert_eq!(scene.call(&key, "get", "/v1/tokens", Value::Null).await.0, 403, "they are its maker's");
    assert_eq!(scene.call(&key, "get", ORGANIZATION, Value::Null).await.0, 404);
    let (_, projects) = scene.call(&key, "get", "/v1/projects", Value::Null).await;
    assert_eq!(projects["data"].as_array().unwrap().len(), 1);
    assert_eq!(scene.call(&admin, "delete", &format!("/v1/tokens/{id}"), Value::Null).await.0, 404);
    assert_eq!(scene.call(OWNER, "delete", &format!("/v1/tokens/{id}"), Value::Null).await.0, 204);
    assert_eq!(scene.call(&key, "get", PROJECT, Value::Null).await.0, 401, "at once");
}

async fn a_rotated_token_works_on_as_long_as_it_is_told() {
    let scene = Scene::new().await;
    let made = scene.made(OWNER, "/v1/tokens", json!({ "name": "rotated" })).await;
    let (first, path) = (text(&made["token"]), format!("/v1/tokens/{}/rotate", text(&made["id"])));
    let rotate =
        async |seconds: i64| scene.call(OWNER, "post", &path, json!({ "overlapSeconds": seconds })).await;
    let second = text(&rotate(3600).await.1["token"]);
    for token in [&first, &second] {
        assert_eq!(scene.call(token, "get", PROJECT, Value::Null).await.0, 200);
    }
    let third = text(&rotate(0).await.1["token"]);
    for (token, status) in [(&first, 401), (&second, 401), (&third, 200)] {
        assert_eq!(scene.call(token, "get", PROJECT, Value::Null).await.0, status);
    }
    assert_eq!(rotate(-1).await.1["code"], "invalid_overlap");
    assert_eq!(rotate(8 * 24 * 3600).await.1["code"], "invalid_overlap");
}

async fn fifty_tokens_a_day_are_enough() {
    let scene = Scene::new().await;
    for number in 0..50 {
        let made = scene.made(OWNER, "/v1/tokens", json!({ "name": format!("n{number}") })).await;
        let path = format!("/v1/tokens/{}", text(&made["id"]));
        assert_eq!(scene.call(OWNER, "delete", &path, Value::Null).await.0, 204);
    }
    let (status, said) = scene.call(OWNER, "post", "/v1/tokens", json!({ "name": "one more" })).await;
    assert_eq!((status, &said["code"]), (429, &json!("RATE_LIMIT_EXCEEDED")));
}

async fn a_token_changes_none_that_may_more() {
    let scene = Scene::new().await;
    let (_, tokens) = scene.call(OWNER, "get", "/v1/tokens", Value::Null).await;
    let whole = text(&tokens["data"][0]["id"]);
    let narrow = scene
        .made(OWNER, "/v1/tokens", json!({ "name": "narrow", "scopes": "tokens:write projects:read" }))
        .await;
    let keys = format!("{PROJECT}/keys");
    let key = json!({ "name": "key", "role": "admin", "scopes": "tokens:write projects:read" });
    let key = scene.made(OWNER, &keys, key).await;
    let wide = text(&scene.made(OWNER, &keys, json!({ "name": "wide", "role": "developer" })).await["id"]);
    for (asks, other) in [(&narrow, &whole), (&narrow, &wide), (&key, &wide)] {
        let (asks, other) = (text(&asks["token"]), format!("/v1/tokens/{other}"));
        for (method, path) in [("post", format!("{other}/rotate")), ("delete", other)] {
            let (status, said) = scene.call(&asks, method, &path, json!({})).await;
            assert_eq!((status, &said["code"]), (403, &json!("insufficient_scope")), "{method} {path}");
        }
    }
    for itself in [narrow, key] {
        let path = format!("/v1/tokens/{}/rotate", text(&itself["id"]));
        let (status, rotated) = scene.call(&text(&itself["token"]), "post", &path, json!({})).await;
        assert!(status < 300 && rotated["token"].is_string(), "{rotated}");
    }
    assert_eq!(scene.call(OWNER, "get", PROJECT, Value::Null).await.0, 200);
}

/// Ids have the time in them, which may have been wrong when the first one was made.
async fn the_operator_is_whom_the_first_start_made() {
    let scene = Scene::new().await;
    const EARLIER: &str = "af_live_of_a_user_with_a_smaller_id";
    let stored = &scene.served.stored;
    stored.script("insert into users (id, name, created_at) values ('usr_0', 'earlier', 0);").await;
    let hash = ring::digest::digest(&ring::digest::SHA256, EARLIER.as_bytes());
    let token = "insert into tokens (id, user_id, name, hash, masked, created_at)
        values ('tok_0', 'usr_0', 'own', $1, 'af…', 0)";
    stored.write(token, hash.as_ref()).await;
    let sweep = json!({ "dryRun": true });
    for (token, status) in [(EARLIER, 404), (STRANGER, 404), (OWNER, 200)] {
        assert_eq!(scene.call(token, "get", "/v1/edges", Value::Null).await.0, status);
        assert_eq!(scene.call(token, "post", "/v1/gc", sweep.clone()).await.0, status);
    }
    let body = json!({ "name": "narrow", "projectId": scene.project });
    let narrow = text(&scene.made(OWNER, "/v1/tokens", body).await["token"]);
    for (method, path) in [("get", "/v1/edges"), ("post", "/v1/gc")] {
        assert_eq!(scene.call(&narrow, method, path, sweep.clone()).await.0, 403, "{path}");
    }
}

/// Whoever asks has not come to write, and does not wait for those who do.
async fn that_a_token_was_used_is_written_down_by_and_by() {
    let scene = Scene::new().await;
    let made = scene.made(OWNER, "/v1/tokens", json!({ "name": "ci" })).await;
    let held = scene.served.stored.hold().await;
    assert_eq!(scene.call(&text(&made["token"]), "get", "/v1/me", Value::Null).await.0, 200);
    drop(held);
    let used = format!(
        "select id, hash from tokens where last_used_at is not null and id = '{}'",
        text(&made["id"])
    );
    while scene.served.stored.rows(&used).await.is_empty() {
        tokio::task::yield_now().await;
    }
}

crate::on_both!(
    a_token_changes_none_that_may_more,
    the_operator_is_whom_the_first_start_made,
    that_a_token_was_used_is_written_down_by_and_by,
    members_do_what_their_roles_say,
    a_viewer_changes_nothing,
    nobody_gives_what_they_do_not_have,
    a_token_does_what_it_is_for,
    a_projects_key_stays_when_its_maker_goes,
    a_rotated_token_works_on_as_long_as_it_is_told,
    fifty_tokens_a_day_are_enough,
);
