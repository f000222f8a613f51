//! The audit log: whatever is changed is told of, and so is what a member was refused.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use af_control_api::ApiConfig;
use serde_json::{Value, json};
use support::{OWNER, STRANGER, Served};

const CID: &str = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";

async fn start() -> (Served, String, String) {
    let api = ApiConfig { trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()], ..ApiConfig::default() };
    let served = Served::asked_through(api).await;
    let (_, projects) = served.call("get", "/v1/projects", Some(OWNER), Value::Null).await;
    let text = |field: &str| projects["data"][0][field].as_str().unwrap().to_owned();
    let (project, organization) = (text("id"), text("organizationId"));
    (served, project, organization)
}

async fn made(served: &Served, path: &str, body: Value) -> String {
    let (status, made) = served.call("post", path, Some(OWNER), body).await;
    assert_eq!(status, 201, "{path} {made}");
    made["id"].as_str().unwrap().to_owned()
}

async fn entries(served: &Served, path: &str) -> Vec<Value> {
    let (status, page) = served.call("get", path, Some(OWNER), Value::Null).await;
    assert_eq!(status, 200, "{page}");
    page["data"].as_array().unwrap().clone()
}

fn actions(entries: &[Value]) -> Vec<&str> {
    entries.iter().map(|entry| entry["action"].as_str().unwrap()).collect()
}

async fn every_change_is_told_of() {
    let (served, first, organization) = start().await;
    let body = json!({ "name": "second", "organizationId": organization });
    let project = made(&served, "/v1/projects", body).await;
    let root = format!("/v1/projects/{project}");
    let function = made(&served, &format!("{root}/functions"), json!({ "name": "hello" })).await;
    let site = made(&served, &format!("{root}/sites"), json!({ "name": "pages" })).await;
    let claim = json!({ "hostname": "www.example.com", "functionId": function });
    let domain = made(&served, &format!("{root}/domains"), claim).await;
    let key = made(&served, &format!("{root}/keys"), json!({ "name": "ci" })).await;
    let invitation = made(&served, &format!("{root}/invitations"), json!({ "role": "viewer" })).await;
    let (status, joined) = {
        let path = format!("{root}/invitations");
        let (_, invited) = served.call("post", &path, Some(OWNER), json!({ "role": "viewer" })).await;
        let body = json!({ "code": invited["code"], "name": "new" });
        served.call("post", "/v1/invitations/accept", None, body).await
    };
    assert_eq!(status, 200, "{joined}");
    let member = joined["userId"].as_str().unwrap();
    for (method, path, body) in [
        ("patch", format!("/v1/functions/{function}"), json!({ "status": "INACTIVE" })),
        ("patch", format!("/v1/sites/{site}"), json!({ "name": "other" })),
        ("patch", format!("/v1/domains/{domain}"), json!({ "verificationMethod": "TXT" })),
        ("delete", format!("/v1/domains/{domain}/certificate"), Value::Null),
        ("post", format!("/v1/tokens/{key}/rotate"), json!({})),
        ("put", format!("{root}/members/{member}"), json!({ "role": "developer" })),
        ("delete", format!("{root}/members/{member}"), Value::Null),
        ("delete", format!("/v1/invitations/{invitation}"), Value::Null),
        ("delete", format!("/v1/tokens/{key}"), Value::Null),
        ("delete", format!("/v1/domains/{domain}"), Value::Null),
        ("delete", format!("/v1/sites/{site}"), Value::Null),
        ("delete", format!("/v1/functions/{function}"), Value::Null),
        ("patch", root.clone(), json!({ "name": "renamed" })),
    ] {
        let (status, said) = served.call(method, &path, Some(OWNER), body).await;
        assert!((200..300).contains(&status), "{method} {path} {status} {said}");
    }
    let found = entries(&served, &format!("{root}/audit")).await;
    let expected = "
    project.update
    function.delete
    site.delete
    domain.delete
    token.delete
    invitation.delete
    member.delete
    member.update
    token.rotate
    certificate.delete
    domain.update
    site.update
    function.update
    invitation.accept
    invitation.create
    invitation.create
    token.create
    domain.create
    site.create
    function.create
    project.create";
    assert_eq!(actions(&found), expected.split_whitespace().collect::<Vec<_>>());
    assert!(found.iter().all(|entry| entry["outcome"] == "done" && entry["projectId"] == project));
    assert!(found.iter().all(|entry| entry["address"] == "127.0.0.1"));

    // What was done stays known when the project is gone, to its organization.
    let (status, _) = served.call("delete", &root, Some(OWNER), Value::Null).await;
    assert_eq!(status, 204);
    assert_eq!(served.call("get", &format!("{root}/audit"), Some(OWNER), Value::Null).await.0, 404);
    let found = entries(&served, &format!("/v1/organizations/{organization}/audit")).await;
    assert_eq!(actions(&found)[..2], ["project.delete", "project.update"]);
    assert_eq!(found.len(), 22);
    assert!(entries(&served, &format!("/v1/projects/{first}/audit")).await.is_empty());
    // The first change that failed is not told of.
    let taken = served.call("post", "/v1/tokens", Some(OWNER), json!({ "name": "first start" })).await;
    assert_eq!(taken.0, 409);
    let own = entries(&served, "/v1/audit").await;
    assert!(!actions(&own).contains(&"invitation.accept"), "somebody else's");
    assert_eq!(own.len(), 22);
}

async fn tokens_that_a_start_makes_are_told_of() {
    let (served, ..) = start().await;
    let own = entries(&served, "/v1/audit").await;
    let first = own.last().unwrap();
    assert_eq!((&first["action"], &first["tokenId"]), (&json!("token.bootstrap"), &json!("")));
    let (_, tokens) = served.call("get", "/v1/tokens", Some(OWNER), Value::Null).await;
    assert_eq!(tokens["data"][0]["id"], first["target"], "the token of the first start");
    // A start with that token makes none, one with another does.
    let started = async |token: &str| {
        served.control.bootstrap(Some(token)).await.unwrap();
        let own = entries(&served, "/v1/audit").await;
        own.iter().filter(|entry| entry["action"] == "token.bootstrap").count()
    };
    assert_eq!(started(OWNER).await, 1);
    assert_eq!(started("a_token_for_a_scripted_set_up").await, 2);
}

async fn an_entry_has_the_request_and_where_it_came_from() {
    let (served, project, _) = start().await;
    let path = format!("/v1/projects/{project}/functions");
    let forwarded = [("x-forwarded-for", "203.0.113.9, 198.51.100.7")];
    let answer = served.answer("post", &path, Some(OWNER), &forwarded, json!({ "name": "hello" })).await;
    let request = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
    let found = entries(&served, &format!("/v1/projects/{project}/audit")).await;
    assert_eq!((&found[0]["address"], &found[0]["requestId"]), (&json!("198.51.100.7"), &json!(request)));
    let (_, me) = served.call("get", "/v1/me", Some(OWNER), Value::Null).await;
    assert_eq!((&found[0]["userId"], &found[0]["tokenId"]), (&me["id"], &me["tokenId"]));
}

async fn what_a_member_was_refused_is_told_of_but_not_without_end() {
    let (served, project, _) = start().await;
    let root = format!("/v1/projects/{project}");
    let path = format!("{root}/invitations");
    let (_, invited) = served.call("post", &path, Some(OWNER), json!({ "role": "viewer" })).await;
    let body = json!({ "code": invited["code"], "name": "new" });
    let (_, joined) = served.call("post", "/v1/invitations/accept", None, body).await;
    let viewer = joined["token"].as_str().unwrap();
    let before = entries(&served, &format!("{root}/audit")).await.len();
    for _ in 0..40 {
        let (status, _) =
            served.call("post", &format!("{root}/functions"), Some(viewer), json!({ "name": "mine" })).await;
        assert_eq!(status, 403);
    }
    assert_eq!(served.call("get", &format!("{root}/audit"), Some(viewer), Value::Null).await.0, 403);
    let (status, _) = served.call("get", &format!("{root}/audit"), Some(STRANGER), Value::Null).await;
    assert_eq!(status, 404, "for strangers there is nothing, and they leave nothing");
    let found = entries(&served, &format!("{root}/audit")).await;
    let told = found.len() - before;
    assert!((30..40).contains(&told), "{told}");
    assert_eq!((&found[0]["outcome"], &found[0]["action"]), (&json!("refused"), &json!("function.create")));
    assert_eq!(found[0]["userId"], joined["userId"]);
}

async fn the_log_is_exported_whole_and_cannot_be_changed() {
    let (served, project, _) = start().await;
    let path = format!("/v1/projects/{project}/functions");
    for number in 0..105 {
        made(&served, &path, json!({ "name": format!("function-{number}") })).await;
    }
    let path = format!("/v1/projects/{project}/audit");
    let (_, first) = served.call("get", &path, Some(OWNER), Value::Null).await;
    let after = first["next"].as_str().unwrap();
    let second = entries(&served, &format!("{path}?after={after}")).await;
    assert_eq!((first["data"].as_array().unwrap().len(), second.len()), (100, 5));
    let accept = [("accept", "application/x-ndjson")];
    let answer = served.answer("get", &path, Some(OWNER), &accept, Value::Null).await;
    assert_eq!(answer.headers()["content-type"], "application/x-ndjson");
    let text = answer.text().await.unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[..100], first["data"].as_array().unwrap()[..]);
    assert_eq!(lines[100..], second[..]);
    for statement in ["update audit set user_id = 'usr_2'", "delete from audit"] {
        let refused = served.stored.try_script(statement).await.unwrap_err();
        assert!(refused.contains("only added to"), "{refused}");
    }
}

/// Of the document: whatever a project has is refused to a stranger without a trace.
async fn strangers_leave_nothing_in_others_logs() {
    let (served, project, organization) = start().await;
    let pin = format!("/v1/projects/{project}/storage/pins");
    let tries =
        [("post", pin, json!({ "cid": CID })), ("delete", format!("/v1/projects/{project}"), Value::Null)];
    for (method, path, body) in tries {
        assert_eq!(served.call(method, &path, Some(STRANGER), body).await.0, 404);
    }
    assert!(entries(&served, &format!("/v1/organizations/{organization}/audit")).await.is_empty());
}

on_both!(
    tokens_that_a_start_makes_are_told_of,
    every_change_is_told_of,
    an_entry_has_the_request_and_where_it_came_from,
    what_a_member_was_refused_is_told_of_but_not_without_end,
    the_log_is_exported_whole_and_cannot_be_changed,
    strangers_leave_nothing_in_others_logs,
);
