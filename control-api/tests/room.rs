//! Room for deployments where there are as many as there may be, or as many bytes: what goes, what stays, and that no function is locked.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use af_control_api::Quotas;
use serde_json::{Value, json};
use support::content::directory;
use support::function::{Scene, numbers, share};
use support::{OWNER, Served};

/// With the smallest quotas that there can be.
async fn smallest(quotas: Quotas) -> Scene {
    Scene::on(Served::changed(|config| config.api.quotas = quotas).await).await
}

async fn of_function(deployments: u32) -> Scene {
    smallest(Quotas { deployments, ..Quotas::default() }).await
}

async fn refused(scene: &Scene, query: &str) -> String {
    let (status, problem) = scene.deploy_as(OWNER, query).await;
    assert_eq!((status, &problem["code"]), (409, &json!("quota_exceeded")), "{problem}");
    problem["detail"].as_str().unwrap().to_owned()
}

async fn used(scene: &Scene, name: &str) -> Value {
    let path = format!("/v1/projects/{}/quotas", scene.project);
    let (_, said) = scene.served.call("get", &path, Some(OWNER), Value::Null).await;
    let all = said["quotas"].as_array().unwrap();
    all.iter().find(|quota| quota["name"] == name).unwrap()["used"].clone()
}

async fn the_smallest_quota_locks_no_function() {
    let scene = of_function(3).await;
    for _ in 0..5 {
        scene.deploy("").await;
    }
    assert_eq!(numbers(&scene).await, [5, 4, 3]);
    scene.deploy("&preview=true").await;
    assert_eq!(numbers(&scene).await, [6, 5, 4]);
    scene.deploy("&percent=5").await;
    assert_eq!(numbers(&scene).await, [7, 5, 4], "the preview went");
    // All three are needed, so there is no room beside them.
    for query in ["&preview=true", "&preview=true&allow=true"] {
        let said = refused(&scene, query).await;
        assert!(
            said.starts_with("a function has at most 3 deployments, and this one has 3; remove"),
            "{said}"
        );
        assert!(said.contains("and what is being rolled out"), "{said}");
    }
    assert_eq!(numbers(&scene).await, [7, 5, 4], "who is refused loses nothing");
    // What becomes active ends the rollout, and what a rollback led to is needed no more.
    scene.deploy("").await;
    assert_eq!(numbers(&scene).await, [8, 7, 5]);
    let (_, back) = scene.call("post", "/rollback", json!({})).await;
    assert_eq!(back["number"], 5, "what ran before stays");
    scene.deploy("&percent=5").await;
    let promoted = scene.call("post", "/promote", json!({})).await;
    assert_eq!(promoted.0, 200);
    scene.deploy("").await;
    // As with a smaller quota than there can be.
    let scene = of_function(2).await;
    for _ in 0..3 {
        scene.deploy("").await;
    }
    assert_eq!(numbers(&scene).await, [3, 2]);
    refused(&scene, "&preview=true").await;
    scene.deploy("").await;
    assert_eq!(numbers(&scene).await, [4, 3]);
}

async fn a_policy_says_what_goes_for_another_one() {
    let scene = of_function(3).await;
    for _ in 0..3 {
        scene.deploy("").await;
    }
    scene.call("patch", "", json!({ "keep": 3 })).await;
    scene.deploy("").await;
    assert_eq!(numbers(&scene).await, [4, 3, 2], "the newest three stay");
    scene.call("patch", "", json!({ "keep": 4 })).await;
    assert!(refused(&scene, "").await.contains("af functions update --keep N"));
    scene.call("patch", "", json!({ "keep": 1, "keepForSeconds": 3_600 })).await;
    refused(&scene, "").await;
    scene
        .served
        .stored
        .script("update deployments set created_at = created_at - 7200000 where number = 2")
        .await;
    scene.deploy("").await;
    assert_eq!(numbers(&scene).await, [5, 4, 3]);
}

async fn a_smaller_quota_takes_nothing_away_and_adds_nothing() {
    let scene = Scene::new().await;
    for _ in 0..5 {
        scene.deploy("").await;
    }
    scene.deploy("&percent=5").await;
    scene.deploy("&preview=true").await;
    let (_, plan) = scene
        .served
        .call(
            "post",
            "/v1/plans",
            Some(OWNER),
            json!({ "name": "small", "limits": { "functionDeployments": 3 } }),
        )
        .await;
    let (_, project) =
        scene.served.call("get", &format!("/v1/projects/{}", scene.project), Some(OWNER), Value::Null).await;
    let path = format!("/v1/organizations/{}/plan", project["organizationId"].as_str().unwrap());
    assert!(scene.served.call("put", &path, Some(OWNER), json!({ "planId": plan["id"] })).await.0 < 300);
    assert_eq!(numbers(&scene).await, [7, 6, 5, 4, 3, 2, 1]);
    scene.deploy("&preview=true").await;
    assert_eq!(numbers(&scene).await, [8, 7, 6, 5, 4, 3, 2], "one goes for one that comes");
    scene.call("patch", "", json!({ "keep": 10 })).await;
    let said = refused(&scene, "").await;
    assert!(
        said.starts_with("a function has at most 3 deployments by the plan small, and this one has 7;"),
        "{said}"
    );
    scene.call("patch", "", json!({ "keep": null })).await;
    scene.call("post", "/prune", json!({ "keep": 1 })).await;
    assert_eq!(numbers(&scene).await, [8, 6, 5, 4], "no more can be pruned, and that is one too many");
    scene.deploy("").await;
    assert_eq!(numbers(&scene).await, [9, 8, 6, 5]);
    scene.call("post", "/prune", json!({ "keep": 1 })).await;
    assert_eq!(numbers(&scene).await, [9, 5]);
    scene.deploy("&preview=true").await;
    assert_eq!(numbers(&scene).await, [10, 9, 5]);
}

async fn what_waits_for_an_approval_does_not_count_until_it_is_allowed() {
    let scene = of_function(3).await;
    scene.deploy("").await;
    let mut waiting = Vec::new();
    for _ in 0..4 {
        waiting.push(scene.deploy("&stores=orders").await);
        assert_eq!(waiting.last().unwrap()["approval"], "AWAITING_APPROVAL");
    }
    assert_eq!(used(&scene, "projectDeployments").await, 1);
    scene.deploy("").await;
    scene.deploy("").await;
    assert_eq!(numbers(&scene).await, [7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(used(&scene, "projectDeployments").await, 3);
    let approve = async |deployment: &Value| {
        let path = format!("/v1/deployments/{}/approve", deployment["id"].as_str().unwrap());
        let (status, said) = scene.served.call("post", &path, Some(OWNER), json!({})).await;
        assert_eq!((status, &said["approval"]), (200, &json!("APPROVED")), "{said}");
    };
    // It is older than what runs, so it is one more beside it; for it, the oldest goes.
    approve(&waiting[3]).await;
    assert_eq!(numbers(&scene).await, [7, 6, 5, 4, 3, 2]);
    assert_eq!(used(&scene, "projectDeployments").await, 3);
    // Nobody is refused an approval: where all others are needed, there is one more.
    let (status, _) = scene.call("put", "/rollout", share(&waiting[3], 5)).await;
    assert_eq!(status, 200);
    approve(&waiting[2]).await;
    assert_eq!(used(&scene, "projectDeployments").await, 4);
    let newest = scene.deploy("&stores=orders,bills").await;
    assert_eq!(newest["approval"], "AWAITING_APPROVAL");
    approve(&newest).await;
    assert_eq!(
        numbers(&scene).await,
        [8, 7, 6, 5, 3, 2],
        "it runs, so nothing is rolled out, and 4 went for it"
    );
}

async fn a_full_project_locks_none_of_its_functions() {
    let scene = smallest(Quotas { project_deployments: 3, ..Quotas::default() }).await;
    let path = format!("/v1/projects/{}/functions", scene.project);
    let mut functions = vec![scene.function.clone()];
    for name in ["two", "three", "four"] {
        let (_, made) = scene.served.call("post", &path, Some(OWNER), json!({ "name": name })).await;
        functions.push(made["id"].as_str().unwrap().to_owned());
    }
    let mut scene = scene;
    for function in &functions[..3] {
        scene.function.clone_from(function);
        scene.deploy("").await;
    }
    scene.function.clone_from(&functions[3]);
    let said = refused(&scene, "").await;
    assert!(said.starts_with("a project has at most 3 deployments, and this one has 3; remove"), "{said}");
    assert!(said.contains("those of its other functions"), "{said}");
    for function in &functions[..3] {
        scene.function.clone_from(function);
        for _ in 0..3 {
            scene.deploy("").await;
        }
        assert_eq!(numbers(&scene).await, [4, 3], "what runs, and what ran before it");
        refused(&scene, "&preview=true").await;
        scene.call("patch", "/settings", json!({ "values": { "MODE": "fast" } })).await;
        assert_eq!(numbers(&scene).await, [5, 4]);
    }
}

/// The bytes that a project's sites and pins have.
async fn stored(scene: &Scene) -> (u64, u64) {
    let path = format!("/v1/projects/{}/storage/usage", scene.project);
    let (_, said) = scene.served.call("get", &path, Some(OWNER), Value::Null).await;
    assert_eq!(used(scene, "storageBytes").await, said["bytes"]);
    (said["bytes"].as_u64().unwrap(), said["siteBytes"].as_u64().unwrap())
}

async fn what_functions_deployed_counts_as_stored() {
    let served = Served::changed(|config| config.storage.bytes_per_project = 35_000).await;
    let scene = Scene::on(served).await;
    let deploy = async |seed: char, query: &str| scene.deploy_of(seed, 10_000, query).await;
    let of_functions = async || {
        let path = format!("/v1/projects/{}/storage/usage", scene.project);
        let (_, said) = scene.served.call("get", &path, Some(OWNER), Value::Null).await;
        assert_eq!(said["bytes"], said["functionBytes"]);
        said["bytes"].as_u64().unwrap()
    };
    assert_eq!(deploy('a', "").await.0, 201);
    let one = of_functions().await;
    assert!((10_001..10_500).contains(&one), "{one}");
    // The same code is there once, however often it was deployed.
    assert_eq!(deploy('a', "").await.0, 201);
    scene.call("patch", "/settings", json!({ "values": { "MODE": "fast" } })).await;
    assert_eq!(of_functions().await, one);
    assert_eq!(deploy('b', "").await.0, 201);
    assert_eq!(deploy('c', "").await.0, 201);
    assert_eq!(of_functions().await, 3 * one);
    // The oldest go, until this fits: those that have the same code go together.
    assert_eq!(deploy('d', "").await.0, 201);
    assert_eq!(numbers(&scene).await, [6, 5, 4]);
    assert_eq!(of_functions().await, 3 * one);
    // What is larger than all that may go is refused, and takes nothing with it.
    let (status, said) = scene.deploy_of('e', 30_000, "").await;
    assert_eq!((status, &said["code"]), (409, &json!("storage_full")), "{said}");
    assert!(said["detail"].as_str().unwrap().contains("prune deployments"), "{said}");
    assert_eq!(numbers(&scene).await, [6, 5, 4]);
    // Whoever stores as much as there may be can go on changing settings, and go back.
    let (status, _) = scene.call("patch", "/settings", json!({ "values": { "MODE": "slow" } })).await;
    assert_eq!(status, 200);
    let (status, said) = scene.call("post", "/rollback", json!({})).await;
    assert_eq!(status, 200, "{said}");
    // What a policy keeps does not go by itself.
    scene.call("patch", "", json!({ "keep": 10 })).await;
    assert_eq!(deploy('f', "").await.1["code"], "storage_full");
    let (status, said) = scene.call("post", "/prune", json!({ "keep": 1 })).await;
    assert_eq!(status, 200, "{said}");
    let (status, said) = deploy('f', "").await;
    assert_eq!(status, 201, "{said}");
    // A function that goes takes all that it stores with it.
    assert_eq!(scene.call("delete", "", Value::Null).await.0, 200);
    assert_eq!(of_functions().await, 0);
}

async fn what_sites_deployed_counts_as_stored() {
    let served = Served::changed(|config| config.storage.bytes_per_project = 35_000).await;
    let scene = Scene::on(served).await;
    let path = format!("/v1/projects/{}/sites", scene.project);
    let mut sites = Vec::new();
    for name in ["one", "two"] {
        let (_, site) = scene.served.call("post", &path, Some(OWNER), json!({ "name": name })).await;
        sites.push(format!("/v1/sites/{}", site["id"].as_str().unwrap()));
    }
    let deploy = async |site: &str, text: &str, size: usize| {
        let (root, car) = directory(text.repeat(size).as_bytes());
        let path = format!("{site}/deployments?cid={root}");
        (root, scene.served.upload(&path, OWNER, car).await)
    };
    let numbers = async |site: &str| {
        let (_, said) =
            scene.served.call("get", &format!("{site}/deployments"), Some(OWNER), Value::Null).await;
        said["data"].as_array().unwrap().iter().map(|one| one["number"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    let full = |(status, said): (u16, Value), begin: &str| {
        assert_eq!((status, &said["code"]), (409, &json!("storage_full")), "{said}");
        let detail = said["detail"].as_str().unwrap();
        assert!(detail.starts_with(begin) && detail.contains("its limit"), "{detail}");
        assert!(detail.contains("delete a site or a function"), "{detail}");
    };
    let (root, made) = deploy(&sites[0], "a", 10_000).await;
    assert_eq!(made.0, 201, "{}", made.1);
    let (bytes, of_sites) = stored(&scene).await;
    // The file, and the directory's node.
    assert!((10_001..10_100).contains(&bytes) && of_sites == bytes, "{bytes}");
    // The same directory is there once, however often it was deployed or pinned.
    assert_eq!(deploy(&sites[0], "a", 10_000).await.1.0, 201);
    assert_eq!(deploy(&sites[1], "a", 10_000).await.1.0, 201);
    assert_eq!(stored(&scene).await, (bytes, bytes));
    let pins = format!("/v1/projects/{}/storage", scene.project);
    let pin = json!({ "cid": root.to_string() });
    let (status, said) = scene.served.call("post", &format!("{pins}/pins"), Some(OWNER), pin).await;
    assert_eq!(status, 201, "{said}");
    assert_eq!(stored(&scene).await, (bytes, 0));
    assert_eq!(scene.served.call("delete", &format!("{pins}/{root}"), Some(OWNER), Value::Null).await.0, 204);
    assert_eq!(stored(&scene).await, (bytes, bytes));

    assert_eq!(deploy(&sites[0], "b", 10_000).await.1.0, 201);
    assert_eq!(deploy(&sites[0], "c", 10_000).await.1.0, 201);
    assert_eq!(numbers(&sites[0]).await, [4, 3, 2, 1]);
    // The oldest go: the other site has what they had, so another one goes, too. What is served, and what was before, stays.
    assert_eq!(deploy(&sites[0], "d", 10_000).await.1.0, 201);
    assert_eq!(numbers(&sites[0]).await, [5, 4]);
    let (used, _) = stored(&scene).await;
    assert!((30_000..30_300).contains(&used), "{used}");
    full(deploy(&sites[0], "e", 20_000).await.1, "this does not fit: 20");
    assert_eq!(numbers(&sites[0]).await, [5, 4], "what is refused takes nothing away");
    assert_eq!(stored(&scene).await.0, used);
    full(deploy(&sites[1], "f", 10_000).await.1, "this does not fit: 10");
    // What is there can be served again.
    assert_eq!(deploy(&sites[1], "c", 10_000).await.1.0, 201);
    let (status, said) =
        scene.served.call("post", &format!("{}/rollback", sites[0]), Some(OWNER), json!({})).await;
    assert_eq!(status, 200, "{said}");
    // Pins and sites share what there is.
    let car = directory("x".repeat(10_000).as_bytes()).1;
    full(scene.served.upload(&pins, OWNER, car).await, "this does not fit: 10");
}

async fn a_site_without_room_is_told_before_anything_is_sent() {
    let served = Served::changed(|config| config.storage.bytes_per_project = 0).await;
    let scene = Scene::on(served).await;
    let path = format!("/v1/projects/{}/sites", scene.project);
    let (_, site) = scene.served.call("post", &path, Some(OWNER), json!({ "name": "one" })).await;
    let (root, _) = directory(b"hello");
    let path = format!("/v1/sites/{}/deployments?cid={root}", site["id"].as_str().unwrap());
    let (status, said) = scene.served.upload(&path, OWNER, Vec::new()).await;
    assert_eq!((status, &said["code"]), (409, &json!("storage_full")), "{said}");
    assert!(
        said["detail"].as_str().unwrap().starts_with("there is no room for this: the project stores 0 bytes")
    );
    let query = "mutation($data: CreateCustomIpfsDeploymentDataInput!) { createCustomIpfsDeployment(data: $data) { id } }";
    let data = json!({ "data": { "siteId": site["id"], "cid": root.to_string() } });
    let body = json!({ "query": query, "variables": data });
    let (_, said) = scene.served.call("post", "/graphql", Some(OWNER), body).await;
    assert_eq!(said["errors"][0]["extensions"]["code"], "storage_full", "{said}");
}

crate::on_both!(
    the_smallest_quota_locks_no_function,
    a_policy_says_what_goes_for_another_one,
    a_smaller_quota_takes_nothing_away_and_adds_nothing,
    what_waits_for_an_approval_does_not_count_until_it_is_allowed,
    a_full_project_locks_none_of_its_functions,
    what_functions_deployed_counts_as_stored,
    what_sites_deployed_counts_as_stored,
    a_site_without_room_is_told_before_anything_is_sent,
);
