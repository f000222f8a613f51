//! Which deployments a function keeps, by its own policy or its project's, how many it can have, and what becomes of the content of those
//! that went.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use std::time::Duration;

use af_content::car::{self, Block};
use af_content::{DiskStore, unixfs};
use af_contract::ContentId;
use af_control_api::StorageConfig;
use serde_json::{Value, json};
use support::{OWNER, STRANGER, Served};

/// A control API with a function.
struct Scene {
    served: Served,
    project: String,
    function: String,
}

/// A component that has these bytes at its end.
fn component(padding: &str) -> Vec<u8> {
    wat::parse_str(format!(
        "(component (component $c) (instance $i (instantiate $c))
            (export \"wasi:http/incoming-handler@0.2.3\" (instance $i)) (@custom \"padding\" \"{padding}\"))"
    ))
    .unwrap()
}

fn file(bytes: &[u8]) -> (unixfs::FileSummary, Vec<Block>) {
    let mut blocks = Vec::new();
    let file = unixfs::import(bytes, |block| {
        blocks.push(block);
        Ok(())
    });
    (file.unwrap(), blocks)
}

impl Scene {
    async fn new() -> Self {
        let grace = Duration::ZERO;
        Self::on(Served::storing(StorageConfig { grace, ..StorageConfig::default() }).await).await
    }

    async fn on(served: Served) -> Self {
        let (_, projects) = served.call("get", "/v1/projects", Some(OWNER), Value::Null).await;
        let project = format!("/v1/projects/{}", projects["data"][0]["id"].as_str().unwrap());
        let mut scene = Self { served, project, function: String::new() };
        scene.function = scene.function("hello").await;
        scene
    }

    /// The path of a new one.
    async fn function(&self, name: &str) -> String {
        let path = format!("{}/functions", self.project);
        let (_, made) = self.served.call("post", &path, Some(OWNER), json!({ "name": name })).await;
        format!("/v1/functions/{}", made["id"].as_str().unwrap())
    }

    async fn try_deploy(&self, function: &str, bytes: &[u8]) -> (u16, Value) {
        let (file, blocks) = file(bytes);
        let mut body = car::encode_header(&[file.root]);
        for block in &blocks {
            body.extend(car::encode_block_prefix(&block.id, block.bytes.len()));
            body.extend_from_slice(&block.bytes);
        }
        let path = format!("{function}/deployments?cid={}&blake3={}", file.root, file.blake3);
        self.served.upload(&path, OWNER, body).await
    }

    async fn deploy(&self, function: &str, bytes: &[u8]) -> Value {
        let (status, deployment) = self.try_deploy(function, bytes).await;
        assert_eq!(status, 201, "{deployment}");
        deployment
    }

    async fn call(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, said) = self.served.call(method, path, Some(OWNER), body).await;
        assert_eq!(status, 200, "{method} {path}: {said}");
        said
    }

    async fn code(&self, method: &str, path: &str, body: Value) -> Value {
        self.served.call(method, path, Some(OWNER), body).await.1["code"].take()
    }

    /// Numbers of the deployments that went by the policy, or would.
    async fn prune(&self, dry_run: bool) -> Vec<i64> {
        let path = format!("{}/prune", self.function);
        let said = self.call("post", &path, json!({ "dryRun": dry_run })).await;
        let gone = said["pruned"].as_array().unwrap();
        gone.iter().map(|gone| gone["number"].as_i64().unwrap()).collect()
    }

    /// Makes deployments older.
    async fn age(&self, numbers: &str, days: u32) {
        let script = format!(
            "update deployments set created_at = created_at - {} where number in ({numbers})",
            i64::from(days) * 86_400_000
        );
        self.served.stored.script(&script).await;
    }
}

async fn a_function_keeps_what_its_policy_or_its_projects_says() {
    let scene = Scene::new().await;
    let (function, project) = (scene.function.clone(), scene.project.clone());
    for number in 0..6 {
        scene.deploy(&function, &component(&number.to_string())).await;
    }
    assert!(scene.prune(true).await.is_empty(), "few by default");
    let said = scene.call("patch", &project, json!({ "keep": 3 })).await;
    assert_eq!((&said["keep"], &said["keepForSeconds"]), (&json!(3), &Value::Null));
    assert_eq!(scene.prune(true).await, [1, 2, 3]);
    let said = scene.call("patch", &function, json!({ "keep": 2, "keepForSeconds": 30 * 86_400 })).await;
    assert_eq!((&said["keep"], &said["keepForSeconds"]), (&json!(2), &json!(2_592_000)));
    assert!(scene.prune(true).await.is_empty(), "all are young");
    scene.age("1, 2, 4", 31).await;
    assert_eq!(scene.prune(true).await, [1, 2, 4]);
    scene.call("patch", &function, json!({ "keep": null })).await;
    assert_eq!(scene.prune(true).await, [1, 2], "the project's number, the function's time");
    scene.call("patch", &project, json!({ "keepForSeconds": 0, "name": "renamed" })).await;
    scene.call("patch", &function, json!({ "keepForSeconds": null })).await;
    assert_eq!(scene.prune(true).await, [1, 2, 3]);
    scene.call("patch", &function, json!({ "keep": 4 })).await;
    let said = scene.call("patch", &function, json!({ "name": "other" })).await;
    assert_eq!(said["keep"], 4, "what is not given stays");
    assert_eq!(scene.prune(false).await, [1, 2]);
    assert!(scene.prune(false).await.is_empty());

    for keep in [json!({ "keep": 0 }), json!({ "keep": 1_001 }), json!({ "keepForSeconds": 315_360_001 })] {
        for path in [&function, &project] {
            assert_eq!(scene.code("patch", path, keep.clone()).await, "invalid_keep", "{keep}");
        }
    }
    let age = json!({ "youngerThanSeconds": 1 });
    assert_eq!(scene.code("post", &format!("{function}/prune"), age).await, "invalid_keep");
    let (status, _) = scene.served.call("patch", &function, Some(STRANGER), json!({ "keep": 1 })).await;
    assert_eq!(status, 404);
}

async fn a_policy_is_not_overwritten_by_who_has_not_seen_it() {
    let scene = Scene::new().await;
    for path in [&scene.function, &scene.project] {
        let ask = async |method: &str, tag: &str, body: Value| {
            let headers = [("if-match", tag)];
            scene.served.answer(method, path, Some(OWNER), &headers, body).await
        };
        let seen = ask("get", "*", Value::Null).await.headers()["etag"].to_str().unwrap().to_owned();
        assert_eq!(ask("patch", &seen, json!({ "keep": 7 })).await.status(), 200);
        assert_eq!(ask("patch", &seen, json!({ "keep": 8 })).await.status(), 412);
        let now = ask("get", "*", Value::Null).await.json::<Value>().await.unwrap();
        assert_eq!(now["keep"], 7);
    }
    let actions = scene.call("get", &format!("{}/audit", scene.project), Value::Null).await;
    assert_eq!(actions["data"][0]["action"], "project.update");
    assert_eq!(actions["data"][1]["action"], "function.update");
}

async fn the_daily_pruning_obeys_each_policy() {
    let scene = Scene::new().await;
    let (strict, loose) = (scene.function.clone(), scene.function("loose").await);
    for number in 0..4 {
        for function in [&strict, &loose] {
            scene.deploy(function, &component(&number.to_string())).await;
        }
    }
    assert_eq!(scene.served.control.prune_deployments().await.unwrap().pruned, 0);
    scene.call("patch", &strict, json!({ "keep": 1 })).await;
    assert_eq!(
        scene.served.control.prune_deployments().await.unwrap().pruned,
        2,
        "1 and 2; 3 is for a rollback"
    );
    scene.call("patch", &scene.project, json!({ "keep": 1, "keepForSeconds": 3600 })).await;
    assert_eq!(scene.served.control.prune_deployments().await.unwrap().pruned, 0, "the others are young");
    scene.age("1", 1).await;
    assert_eq!(scene.served.control.prune_deployments().await.unwrap().pruned, 1);
    let left = scene.call("get", &format!("{loose}/deployments"), Value::Null).await;
    assert_eq!(left["data"].as_array().unwrap().len(), 3);
}

async fn one_function_that_cannot_be_pruned_keeps_no_other_one_from_it() {
    let scene = Scene::new().await;
    let (first, second) = (scene.function.clone(), scene.function("second").await);
    for number in 0..4 {
        for function in [&first, &second] {
            scene.deploy(function, &component(&number.to_string())).await;
        }
    }
    scene.call("patch", &scene.project, json!({ "keep": 1 })).await;
    let broken = first.rsplit_once('/').unwrap().1;
    let (function, trigger) = if scene.served.stored.is_postgres() {
        let function =
            "create function refuse() returns trigger language plpgsql as $$ begin raise 'no'; end $$";
        let trigger = format!("for each row when (old.function_id = '{broken}') execute function refuse()");
        (function, trigger)
    } else {
        let trigger = format!("when old.function_id = '{broken}' begin select raise(abort, 'no'); end");
        ("", trigger)
    };
    let script = format!("{function}; create trigger refused before delete on deployments {trigger};");
    scene.served.stored.script(script.trim_start_matches(';')).await;
    let done = scene.served.control.prune_deployments().await.unwrap();
    assert_eq!((done.pruned, done.failed), (2, 1));
    let left = scene.call("get", &format!("{second}/deployments"), Value::Null).await;
    assert_eq!(left["data"].as_array().unwrap().len(), 2);
}

async fn a_sweep_removes_what_only_pruned_deployments_needed() {
    let scene = Scene::new().await;
    // All begin with the same block, and end with one of their own.
    let shared = "s".repeat(3 << 19);
    let code = |own: &str| component(&format!("{shared}{own}"));
    let mut manifests = Vec::new();
    for own in ["one", "two", "six", "ten"] {
        manifests.push(scene.deploy(&scene.function, &code(own)).await["manifestCid"].clone());
    }
    let other = scene.function("other").await;
    scene.deploy(&other, &code("two")).await;
    scene.call("patch", &scene.function, json!({ "keep": 1 })).await;
    assert_eq!(scene.prune(false).await, [1, 2]);

    let swept = scene.call("post", "/v1/gc", json!({})).await;
    assert_eq!(swept["blocks"], 4, "two manifests, the root of the first code and its last block: {swept}");
    let blocks = DiskStore::open(scene.served.dir().join("blocks")).unwrap();
    let there = |id: &ContentId| blocks.has(id).unwrap();
    for manifest in &manifests[..2] {
        assert!(!there(&manifest.as_str().unwrap().parse().unwrap()));
    }
    let of_first: Vec<bool> = file(&code("one")).1.iter().map(|block| there(&block.id)).collect();
    assert_eq!(of_first, [true, false, false], "the shared block stays");
    for own in ["two", "six", "ten"] {
        assert!(file(&code(own)).1.iter().all(|block| there(&block.id)), "{own}");
    }
    let (status, _) =
        scene.served.call("post", &format!("{}/rollback", scene.function), Some(OWNER), json!({})).await;
    assert_eq!(status, 200, "what a rollback leads to is whole");
}

async fn a_deploy_beyond_the_quota_is_refused_until_old_ones_are_pruned() {
    let served = Served::changed(|config| {
        config.api.quotas.deployments = 3;
        config.api.quotas.project_deployments = 4;
    });
    let scene = Scene::on(served.await).await;
    let (function, other) = (scene.function.clone(), scene.function("other").await);
    for _ in 0..3 {
        scene.deploy(&function, &component("a")).await;
    }
    let refused = async |function: &str, said: &str| {
        let (status, problem) = scene.try_deploy(function, &component("b")).await;
        assert_eq!((status, &problem["code"]), (409, &json!("quota_exceeded")), "{problem}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(said) && detail.contains("af functions prune fn_"), "{detail}");
    };
    // Nobody has said which stay, so the oldest goes.
    scene.deploy(&function, &component("a")).await;
    let numbers = scene.call("get", &format!("{function}/deployments"), Value::Null).await;
    let numbers: Vec<_> = numbers["data"].as_array().unwrap().iter().map(|one| &one["number"]).collect();
    assert_eq!(numbers, [4, 3, 2]);
    scene.call("patch", &function, json!({ "keep": 4 })).await;
    refused(&function, "a function has at most 3 deployments").await;
    // A change of settings makes one in any case: a secret that has leaked is to be replaced.
    // The oldest goes for it, whatever is to stay.
    scene.call("patch", &format!("{function}/settings"), json!({ "values": { "MODE": "fast" } })).await;
    let numbers = scene.call("get", &format!("{function}/deployments"), Value::Null).await;
    assert_eq!(numbers["data"][2]["number"], 3);
    scene.deploy(&other, &component("a")).await;
    let third = scene.function("third").await;
    refused(&third, "a project has at most 4 deployments, and this one has 4").await;

    scene.call("post", &format!("{function}/prune"), json!({ "keep": 1 })).await;
    scene.deploy(&third, &component("a")).await;
    let left = scene.call("get", &format!("{third}/deployments"), Value::Null).await;
    assert_eq!(left["data"].as_array().unwrap().len(), 1, "what was refused left nothing");
}

crate::on_both!(
    a_deploy_beyond_the_quota_is_refused_until_old_ones_are_pruned,
    a_function_keeps_what_its_policy_or_its_projects_says,
    a_policy_is_not_overwritten_by_who_has_not_seen_it,
    the_daily_pruning_obeys_each_policy,
    one_function_that_cannot_be_pruned_keeps_no_other_one_from_it,
    a_sweep_removes_what_only_pruned_deployments_needed,
);
