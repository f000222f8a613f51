//! Uploads that take their time: whoever is removed meanwhile deploys nothing, and nobody keeps others from it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use af_content::unixfs;
use serde_json::{Value, json};
use support::content::{COMPONENT, car_of, directory};
use support::{OWNER, STRANGER, Served};

async fn made(served: &Served, token: &str, path: &str, body: Value) -> Value {
    let (status, made) = served.call("post", path, Some(token), body).await;
    assert_eq!(status, 201, "{path} {made}");
    made
}

/// A new site, and a developer's token and id.
async fn site(served: &Served) -> (String, String, String, String) {
    let (_, projects) = served.call("get", "/v1/projects", Some(OWNER), Value::Null).await;
    let project = format!("/v1/projects/{}", projects["data"][0]["id"].as_str().unwrap());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let site =
        text(&made(served, OWNER, &format!("{project}/sites"), json!({ "name": "hello" })).await["id"]);
    let invite = format!("{project}/invitations");
    let code = made(served, OWNER, &invite, json!({ "role": "developer" })).await["code"].clone();
    let accept = json!({ "code": code, "name": "developer" });
    let (_, joined) = served.call("post", "/v1/invitations/accept", None, accept).await;
    (project, site, text(&joined["token"]), text(&joined["userId"]))
}

async fn whoever_is_removed_while_they_send_deploys_nothing() {
    let served = Served::start().await;
    let (project, site, developer, id) = site(&served).await;
    let (root, car) = directory(b"hello");
    let path = format!("/v1/sites/{site}/deployments?cid={root}");
    let (_, token) = served.call("post", "/v1/tokens", Some(&developer), json!({ "name": "ci" })).await;
    let upload = served.begin_upload(&path, token["token"].as_str().unwrap(), &car).await;
    let revoke = format!("/v1/tokens/{}", token["id"].as_str().unwrap());
    assert_eq!(served.call("delete", &revoke, Some(&developer), Value::Null).await.0, 204);
    assert_eq!(upload.finish().await.0, 401);

    let upload = served.begin_upload(&path, &developer, &car).await;
    let member = format!("{project}/members/{id}");
    assert_eq!(served.call("delete", &member, Some(OWNER), Value::Null).await.0, 204);
    assert_eq!(upload.finish().await.0, 404);
    let (_, deployments) =
        served.call("get", &format!("/v1/sites/{site}/deployments"), Some(OWNER), Value::Null).await;
    assert_eq!(deployments["data"], json!([]));
    let upload = served.begin_upload(&path, OWNER, &car).await;
    assert_eq!(upload.finish().await.0, 201);
}

async fn whoever_is_removed_while_they_send_deploys_no_function() {
    let served = Served::start().await;
    let (project, _, developer, id) = site(&served).await;
    let function = made(&served, OWNER, &format!("{project}/functions"), json!({ "name": "hello" })).await;
    let component = wat::parse_str(COMPONENT).unwrap();
    let mut blocks = Vec::new();
    let keep = |block| {
        blocks.push(block);
        Ok(())
    };
    let file = unixfs::import(&component[..], keep).unwrap();
    let path = format!("/v1/functions/{}/deployments", function["id"].as_str().unwrap());
    let query = format!("{path}?cid={}&blake3={}", file.root, file.blake3);
    let upload = served.begin_upload(&query, &developer, &car_of(&[file.root], &blocks)).await;
    let member = format!("{project}/members/{id}");
    assert_eq!(served.call("delete", &member, Some(OWNER), Value::Null).await.0, 204);
    assert_eq!(upload.finish().await.0, 404);
    let upload = served.begin_upload(&query, OWNER, &car_of(&[file.root], &blocks)).await;
    assert_eq!(upload.finish().await.0, 201);
}

async fn nobody_keeps_all_others_from_deploying() {
    let served = Served::start().await;
    let (_, site, ..) = site(&served).await;
    let (root, car) = directory(b"hello");
    let path = format!("/v1/sites/{site}/deployments?cid={root}");
    let mut slow = Vec::new();
    let mut status = 201;
    for _ in 0..100 {
        for _ in 0..8 {
            slow.push(served.begin_upload(&path, OWNER, &car).await);
        }
        status = served.upload(&path, OWNER, car.clone()).await.0;
        if status == 503 {
            break;
        }
        // It was faster than one of them, and had its place.
        for slow in slow.drain(..) {
            let _refused = slow.end().await;
        }
    }
    assert_eq!(status, 503);
    let theirs = made(&served, STRANGER, "/v1/projects/prj_2/sites", json!({ "name": "theirs" })).await;
    let theirs = format!("/v1/sites/{}/deployments?cid={root}", theirs["id"].as_str().unwrap());
    assert_eq!(served.upload(&theirs, STRANGER, car.clone()).await.0, 201);
    for slow in slow {
        assert_eq!(slow.finish().await.0, 201);
    }
    assert_eq!(served.upload(&path, OWNER, car).await.0, 201);
}

async fn a_site_keeps_its_newest_deployments() {
    let served = Served::start().await;
    let (_, site, ..) = site(&served).await;
    let (root, car) = directory(b"hello");
    let path = format!("/v1/sites/{site}/deployments?cid={root}");
    let (status, first) = served.upload(&path, OWNER, car.clone()).await;
    assert_eq!(status, 201, "{first}");
    let many = format!(
        "with recursive n(i) as (select 2 union all select i + 1 from n where i < 150)
            insert into site_deployments (id, site_id, number, root_cid, files, bytes, author_id, created_at)
            select 'sdp_' || i, site_id, i, root_cid, files, bytes, author_id, 0 from n, site_deployments
            where id = '{}'",
        first["id"].as_str().unwrap()
    );
    served.stored.script(&many).await;
    assert_eq!(served.upload(&path, OWNER, car.clone()).await.0, 201);
    let list = async |after: &str| {
        let path = format!("/v1/sites/{site}/deployments{after}");
        served.call("get", &path, Some(OWNER), Value::Null).await.1
    };
    let left = list("").await;
    assert_eq!((left["data"].as_array().unwrap().len(), &left["data"][99]["id"]), (100, &json!("sdp_52")));
    let rest = list(&format!("?after={}", left["next"].as_str().unwrap())).await;
    assert_eq!(rest["data"], json!([]));
}

on_both!(
    a_site_keeps_its_newest_deployments,
    whoever_is_removed_while_they_send_deploys_nothing,
    whoever_is_removed_while_they_send_deploys_no_function,
    nobody_keeps_all_others_from_deploying,
);
