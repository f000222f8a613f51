//! Keys of private content in the control plane alone: how they are stored, sealed anew, told to edges, and lost.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use af_content::private::{Cipher, Sealing, new_key};
use af_content::{car, unixfs};
use af_contract::{Change, ContentKey, DeploymentRef};
use serde_json::{Value, json};
use support::content::COMPONENT;
use support::{OWNER, STRANGER, Served};

/// Sealed keys as they are stored.
type Rows = Vec<(String, Vec<u8>)>;

async fn project_keys(served: &Served) -> Rows {
    served.stored.rows("select project_id, sealed from project_keys order by 1").await
}

async fn content_keys(served: &Served) -> Rows {
    served.stored.rows("select deployment_id, sealed from content_keys order by 1").await
}

/// The first project, and a function of it.
async fn function(served: &Served) -> (String, String) {
    let (_, projects) = served.call("get", "/v1/projects", Some(OWNER), Value::Null).await;
    let project = projects["data"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/projects/{project}/functions");
    let (_, function) = served.call("post", &path, Some(OWNER), json!({ "name": "hello" })).await;
    (project, function["id"].as_str().unwrap().to_owned())
}

/// Deploys with a new key.
async fn deploy(served: &Served, function: &str) -> (ContentKey, Value) {
    let key = new_key().unwrap();
    let component = wat::parse_str(COMPONENT).unwrap();
    let mut blocks = Vec::new();
    let keep = |block| {
        blocks.push(block);
        Ok(())
    };
    let file = unixfs::import(Sealing::new(&Cipher::new(&key), &component[..]).unwrap(), keep).unwrap();
    let mut body = car::encode_header(&[file.root]);
    for block in &blocks {
        body.extend(car::encode_block_prefix(&block.id, block.bytes.len()));
        body.extend_from_slice(&block.bytes);
    }
    let path = format!("/v1/functions/{function}/deployments?cid={}&blake3={}", file.root, file.blake3);
    let (status, said) = served.upload_private(&path, OWNER, Some(&key), body).await;
    assert_eq!(status, 201, "{said}");
    assert_eq!(said["private"], true);
    (key, said)
}

/// The newest deployments as edges are told them, newest first.
async fn told(served: &Served) -> Vec<DeploymentRef> {
    let updates = served.control.changes_since(0).await.unwrap().updates;
    let mut states = updates.into_iter().filter_map(|update| match update.change {
        Change::Function { state, .. } => state,
        _ => None,
    });
    states.next().map(|state| state.previews).unwrap_or_default()
}

async fn rotating_seals_all_keys_anew_and_changes_nothing_else() {
    let served = Served::start().await;
    let (project, function) = function(&served).await;
    let rotate = async |project: &str, token: &str| {
        let path = format!("/v1/projects/{project}/rotate-content-key");
        served.call("post", &path, Some(token), json!({})).await
    };
    assert_eq!(
        rotate(&project, OWNER).await,
        (200, json!({ "deployments": 0, "pins": 0 })),
        "there is no key yet"
    );
    let (first, _) = deploy(&served, &function).await;
    let (second, _) = deploy(&served, &function).await;
    let list = format!("/v1/functions/{function}/deployments");
    let before = (
        project_keys(&served).await,
        content_keys(&served).await,
        served.call("get", &list, Some(OWNER), Value::Null).await,
        told(&served).await,
    );
    assert_eq!((before.0.len(), before.1.len()), (1, 2), "one key of the project");
    let keys: Vec<_> = before.3.iter().map(|deployment| deployment.content_key.clone()).collect();
    assert_eq!(keys, [Some(second.clone()), Some(first.clone())]);
    let shown = format!("{:?}", before.3);
    assert!(!shown.contains(&first.to_hex()) && shown.contains("***"), "{shown}");
    for (_, sealed) in before.0.iter().chain(&before.1) {
        for key in [&first, &second] {
            assert!(!sealed.windows(8).any(|window| key.reveal().windows(8).any(|part| part == window)));
        }
    }

    assert_eq!(rotate(&project, OWNER).await, (200, json!({ "deployments": 2, "pins": 0 })));
    assert_eq!(rotate("prj_2", STRANGER).await, (200, json!({ "deployments": 0, "pins": 0 })));
    let changed = |before: &Rows, after: &Rows| {
        before.len() == after.len()
            && before.iter().zip(after).all(|(before, after)| before.0 == after.0 && before.1 != after.1)
    };
    assert!(changed(&before.0, &project_keys(&served).await));
    assert!(changed(&before.1, &content_keys(&served).await));
    assert_eq!(served.call("get", &list, Some(OWNER), Value::Null).await, before.2);
    assert_eq!(told(&served).await, before.3);
    deploy(&served, &function).await;
    assert_eq!(told(&served).await.len(), 3);
}

async fn a_key_that_was_moved_or_lost_is_not_told() {
    let served = Served::start().await;
    let (_, function) = function(&served).await;
    let (_, first) = deploy(&served, &function).await;
    let (second, _) = deploy(&served, &function).await;
    // The second one's key for the first one's content.
    let keys = content_keys(&served).await;
    let (of_first, of_others): (Vec<_>, Vec<_>) =
        keys.into_iter().partition(|(deployment, _)| first["id"] == deployment.as_str());
    let moved = format!("update content_keys set sealed = $1 where deployment_id = '{}'", of_first[0].0);
    served.stored.write(&moved, &of_others[0].1).await;
    let keys: Vec<_> = told(&served).await.into_iter().map(|deployment| deployment.content_key).collect();
    assert_eq!(keys, [Some(second), None]);
    served.stored.script("delete from project_keys").await;
    assert!(told(&served).await.iter().all(|deployment| deployment.content_key.is_none()));
}

async fn a_function_that_is_deleted_takes_its_keys_along() {
    let served = Served::start().await;
    let (_, function) = function(&served).await;
    deploy(&served, &function).await;
    let path = format!("/v1/functions/{function}");
    assert_eq!(served.call("delete", &path, Some(OWNER), Value::Null).await.0, 200);
    assert!(content_keys(&served).await.is_empty());
}

async fn a_pins_key_is_kept_for_members_and_sealed_anew() {
    let served = Served::start().await;
    let (project, _) = function(&served).await;
    let storage = format!("/v1/projects/{project}/storage");
    let (key, other) = (new_key().unwrap(), new_key().unwrap());
    let mut body = car::encode_header(&[]);
    let mut keep = |block: car::Block| {
        body.extend(car::encode_block_prefix(&block.id, block.bytes.len()));
        body.extend_from_slice(&block.bytes);
        Ok(())
    };
    let file = unixfs::import(Sealing::new(&Cipher::new(&key), &b"secret"[..]).unwrap(), &mut keep).unwrap();
    let clear = unixfs::import(&b"in clear"[..], &mut keep).unwrap();
    assert_eq!(served.upload(&format!("{storage}/blocks"), OWNER, body).await.0, 200);
    let pin = async |cid: &af_contract::ContentId, key: Option<&ContentKey>| {
        let body = json!({ "cid": cid.to_string() }).to_string().into_bytes();
        served.upload_json(&format!("{storage}/pins"), OWNER, key, body).await
    };
    for (cid, key) in [(&file.root, &other), (&clear.root, &key)] {
        let (status, problem) = pin(cid, Some(key)).await;
        assert_eq!((status, &problem["code"]), (422, &json!("private_content_invalid")), "{problem}");
    }
    assert_eq!(pin(&clear.root, None).await.1["private"], false);
    assert_eq!(pin(&file.root, Some(&key)).await.1["private"], true);
    // Who pins it again without the key does not take it away.
    assert_eq!(pin(&file.root, None).await.1["private"], true);

    let path = format!("{storage}/{}/key", file.root);
    let of = async |path: &str, token| served.call("get", path, Some(token), Value::Null).await;
    assert_eq!(of(&path, OWNER).await, (200, json!({ "contentKey": key.to_hex() })));
    assert_eq!(of(&path, STRANGER).await.0, 404);
    assert_eq!(of(&format!("/v1/projects/prj_2/storage/{}/key", file.root), STRANGER).await.0, 404);
    assert_eq!(served.call("get", &path, None, Value::Null).await.0, 401);
    assert_eq!(of(&format!("{storage}/{}/key", clear.root), OWNER).await.0, 404, "it is not private");
    let before = served.stored.rows("select pin_id, sealed from pin_keys order by 1").await;
    assert!(!before[0].1.windows(8).any(|window| key.reveal().windows(8).any(|part| part == window)));
    let rotate = format!("/v1/projects/{project}/rotate-content-key");
    let rotated = served.call("post", &rotate, Some(OWNER), json!({}));
    assert_eq!(rotated.await, (200, json!({ "deployments": 0, "pins": 1 })));
    assert_ne!(served.stored.rows("select pin_id, sealed from pin_keys order by 1").await, before);
    assert_eq!(of(&path, OWNER).await, (200, json!({ "contentKey": key.to_hex() })));
    assert_eq!(
        served.call("delete", &format!("{storage}/{}", file.root), Some(OWNER), Value::Null).await.0,
        204
    );
    assert!(served.stored.rows("select pin_id, sealed from pin_keys order by 1").await.is_empty());
}

crate::on_both!(
    rotating_seals_all_keys_anew_and_changes_nothing_else,
    a_key_that_was_moved_or_lost_is_not_told,
    a_function_that_is_deleted_takes_its_keys_along,
    a_pins_key_is_kept_for_members_and_sealed_anew,
);
