//! Settings and secrets in the control plane alone: how they are changed, inherited, sealed, told to edges, and never shown.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use af_content::{DiskStore, car, unixfs};
use af_contract::{Change, ContentId, FunctionState, FunctionStatus, Manifest, limits};
use af_control_api::domain::rotation::{Rotation, RotationError};
use af_control_api::domain::sealing::Seal;
use af_control_api::{ControlApi, ControlConfig, ControlError, Key, MasterKey};
use serde_json::{Value, json};
use support::{OWNER, Served};

/// In no other test and no other value, so that whatever has it has the secret.
const VALUE: &str = "correct horse battery staple";

struct Scene {
    served: Served,
    project: String,
    function: String,
}

impl Scene {
    async fn new() -> Self {
        let served = Served::start().await;
        let (_, projects) = served.call("get", "/v1/projects", Some(OWNER), Value::Null).await;
        let project = projects["data"][0]["id"].as_str().unwrap().to_owned();
        let mut scene = Self { served, project, function: String::new() };
        scene.function = scene.create("hello").await;
        scene
    }

    async fn restart(self) -> Self {
        Self { served: self.served.restart().await, ..self }
    }

    async fn create(&self, name: &str) -> String {
        let path = format!("/v1/projects/{}/functions", self.project);
        let (_, function) = self.served.call("post", &path, Some(OWNER), json!({ "name": name })).await;
        function["id"].as_str().unwrap().to_owned()
    }

    async fn deploy(&self, function: &str) -> Value {
        self.deploy_as(OWNER, function, "", &json!({})).await.1
    }

    /// With settings as `af functions deploy --env` sends them.
    async fn deploy_as(&self, token: &str, function: &str, query: &str, settings: &Value) -> (u16, Value) {
        let component = wat::parse_str(
            "(component (import \"wasi:random/random@0.2.3\" (instance (export \"get-random-u64\" (func (result u64)))))
            (component $c) (instance $i (instantiate $c))
            (export \"wasi:http/incoming-handler@0.2.3\" (instance $i)))",
        );
        let mut blocks = Vec::new();
        let keep = |block| {
            blocks.push(block);
            Ok(())
        };
        let file = unixfs::import(&component.unwrap()[..], keep).unwrap();
        let mut body = car::encode_header(&[file.root]);
        for block in &blocks {
            body.extend(car::encode_block_prefix(&block.id, block.bytes.len()));
            body.extend_from_slice(&block.bytes);
        }
        let path =
            format!("/v1/functions/{function}/deployments?cid={}&blake3={}{query}", file.root, file.blake3);
        self.served.upload_with(&path, token, settings, body).await
    }

    async fn get(&self, path: &str) -> Value {
        let path = path.replace("{function}", &self.function).replace("{project}", &self.project);
        let (status, said) = self.served.call("get", &path, Some(OWNER), Value::Null).await;
        assert_eq!(status, 200, "{said}");
        said
    }

    async fn tried(&self, path: &str, values: Value) -> (u16, Value) {
        let path = path.replace("{function}", &self.function).replace("{project}", &self.project);
        self.served.call("patch", &path, Some(OWNER), json!({ "values": values })).await
    }

    async fn change(&self, path: &str, values: Value) -> Value {
        let (status, said) = self.tried(path, values).await;
        assert_eq!(status, 200, "{said}");
        said
    }

    async fn rollback(&self, function: &str) {
        let path = format!("/v1/functions/{function}/rollback");
        assert_eq!(self.served.call("post", &path, Some(OWNER), json!({})).await.0, 200);
    }

    /// What edges are told of a function.
    async fn state(&self, function: &str) -> FunctionState {
        let updates = self.served.control.changes_since(0).await.unwrap().updates;
        let found = updates.into_iter().find_map(|update| match update.change {
            Change::Function { id, state } if id == function => state,
            _ => None,
        });
        found.unwrap()
    }

    /// What it is told by them.
    async fn told(&self, function: &str) -> BTreeMap<String, String> {
        let settings = self.state(function).await.deployment.unwrap().settings;
        settings.into_iter().map(|(name, value)| (name.to_string(), value.reveal().to_owned())).collect()
    }

    /// Every sealed value and key that the database has.
    async fn sealed(&self) -> Vec<(String, Vec<u8>)> {
        let query = "select owner_id, sealed from settings union all
            select deployment_id, sealed from deployment_settings union all
            select project_id, sealed from project_keys order by 1, 2";
        self.served.stored.rows(query).await
    }

    fn manifest(&self, deployment: &Value) -> Manifest {
        let blocks = DiskStore::open(self.served.dir().join("blocks")).unwrap();
        let cid = ContentId::parse(deployment["manifestCid"].as_str().unwrap()).unwrap();
        Manifest::decode(&blocks.block(&cid).unwrap().unwrap()).unwrap()
    }
}

fn told(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn names(list: &Value) -> Vec<&str> {
    list["data"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
}

const FUNCTION_SECRETS: &str = "/v1/functions/{function}/secrets";
const FUNCTION_SETTINGS: &str = "/v1/functions/{function}/settings";
const PROJECT_SECRETS: &str = "/v1/projects/{project}/secrets";
const PROJECT_SETTINGS: &str = "/v1/projects/{project}/settings";
const DEPLOYMENTS: &str = "/v1/functions/{function}/deployments";

async fn a_change_is_a_deployment_and_rolls_back_with_it() {
    let scene = Scene::new().await;
    let before = scene.change(FUNCTION_SECRETS, json!({ "DATABASE_URL": "first" })).await;
    assert_eq!(before["deployments"], json!([]), "it runs nothing yet");
    let first = scene.deploy(&scene.function).await;
    assert_eq!(scene.told(&scene.function).await, told(&[("DATABASE_URL", "first")]));

    let changed = scene.change(FUNCTION_SECRETS, json!({ "DATABASE_URL": "second", "KEY": "k" })).await;
    assert_eq!(changed["changed"], json!(["DATABASE_URL", "KEY"]));
    let scene = scene.restart().await;
    let list = scene.get(DEPLOYMENTS).await;
    let second = &list["data"][0];
    assert_eq!(second["id"], changed["deployments"][0]["id"]);
    assert_eq!((&second["number"], &second["message"]), (&json!(2), &json!("secrets DATABASE_URL, KEY set")));
    for same in ["cid", "blake3Hash", "size", "world", "imports", "capabilities"] {
        assert_eq!(first[same], second[same], "{same}");
    }
    let (one, two) = (scene.manifest(&first), scene.manifest(second));
    assert_eq!(two.parent.unwrap().to_string(), first["manifestCid"].as_str().unwrap());
    assert_eq!((&one.code, one.settings.len(), two.settings.len()), (&two.code, 1, 2));
    assert_ne!(one.settings["DATABASE_URL"], two.settings["DATABASE_URL"]);
    assert_eq!(scene.told(&scene.function).await, told(&[("DATABASE_URL", "second"), ("KEY", "k")]));

    scene.rollback(&scene.function).await;
    assert_eq!(scene.told(&scene.function).await, told(&[("DATABASE_URL", "first")]));
    assert_eq!(names(&scene.get(FUNCTION_SECRETS).await), ["DATABASE_URL"]);
    scene.deploy(&scene.function).await;
    assert_eq!(
        scene.told(&scene.function).await,
        told(&[("DATABASE_URL", "first")]),
        "it goes on from there"
    );
    scene.change(FUNCTION_SECRETS, json!({ "DATABASE_URL": null })).await;
    assert_eq!(scene.get(DEPLOYMENTS).await["data"][0]["message"], "secret DATABASE_URL unset");
    assert!(scene.told(&scene.function).await.is_empty());
    let (status, said) = scene.tried(FUNCTION_SECRETS, json!({ "DATABASE_URL": null })).await;
    assert_eq!((status, &said["code"]), (404, &json!("not_found")));
}

async fn a_rollback_shows_no_secret_and_is_written_down() {
    let scene = Scene::new().await;
    scene.deploy(&scene.function).await;
    scene.change(FUNCTION_SETTINGS, json!({ "MODE": "fast", "GONE": "g" })).await;
    scene.change(FUNCTION_SETTINGS, json!({ "MODE": null, "GONE": null })).await;
    scene.change(FUNCTION_SECRETS, json!({ "MODE": "hidden", "LATER": "l" })).await;
    let path = format!("/v1/functions/{}/rollback", scene.function);
    let list = scene.get(DEPLOYMENTS).await;
    let body = json!({ "deployment": list["data"][2]["id"] });
    assert_eq!(scene.served.call("post", &path, Some(OWNER), body).await.0, 200);
    assert_eq!(scene.told(&scene.function).await, told(&[("GONE", "g"), ("MODE", "fast")]));
    assert_eq!(names(&scene.get(FUNCTION_SECRETS).await), ["MODE"], "it is one by now");
    assert_eq!(names(&scene.get(FUNCTION_SETTINGS).await), ["GONE"]);
    let audit = scene.get("/v1/projects/{project}/audit").await;
    let entries = audit["data"].as_array().unwrap()[..4].iter();
    let mut entries: Vec<_> = entries.map(|entry| entry["action"].as_str().unwrap()).collect();
    entries.sort_unstable();
    assert_eq!(entries, ["deployment.rollback", "secret.set", "secret.unset", "setting.set"]);
}

async fn a_promotion_brings_no_replaced_secret_back() {
    let scene = Scene::new().await;
    let function = &scene.function;
    scene.deploy(function).await;
    scene.change(FUNCTION_SECRETS, json!({ "KEY": "old" })).await;
    let (status, preview) =
        scene.deploy_as(OWNER, function, "&preview=true", &json!({ "ITS_OWN": "p" })).await;
    assert_eq!(status, 201, "{preview}");
    let (status, said) = scene.deploy_as(OWNER, function, "&percent=5", &json!({ "KEY": "new" })).await;
    assert_eq!(status, 201, "{said}");
    let path = format!("/v1/functions/{function}/promote");
    let body = json!({ "deployment": preview["id"] });
    assert_eq!(scene.served.call("post", &path, Some(OWNER), body).await.0, 200);
    assert_eq!(scene.told(function).await, told(&[("ITS_OWN", "p"), ("KEY", "old")]), "as it was made");
    scene.deploy(function).await;
    assert_eq!(scene.told(function).await, told(&[("ITS_OWN", "p"), ("KEY", "new")]));
}

async fn a_promotion_leaves_what_was_changed_since() {
    let scene = Scene::new().await;
    let function = &scene.function;
    scene.deploy(function).await;
    scene.change(FUNCTION_SECRETS, json!({ "KEY": "old", "GONE": "g" })).await;
    let preview = async |settings: &Value| {
        let (status, preview) = scene.deploy_as(OWNER, function, "&preview=true", settings).await;
        assert_eq!(status, 201, "{preview}");
        preview
    };
    let promote = async |deployment: &Value| {
        let body = json!({ "deployment": deployment["id"] });
        scene.served.call("post", &format!("/v1/functions/{function}/promote"), Some(OWNER), body).await
    };
    let made = preview(&json!({ "ITS_OWN": "p", "BOTH": "early" })).await;
    // Each of these is a deployment that is newer than the preview.
    scene.change(FUNCTION_SECRETS, json!({ "KEY": "new", "BOTH": "late" })).await;
    scene.change(FUNCTION_SECRETS, json!({ "GONE": null })).await;
    // Of what was made before an upgrade nobody knows whether it brought this.
    scene.served.stored.script("update deployment_settings set brought = null").await;
    let (status, refused) = promote(&made).await;
    assert_eq!((status, &refused["code"]), (409, &json!("settings_changed")), "{refused}");
    let of_preview = format!(
        "update deployment_settings set brought = case when name in ('ITS_OWN', 'BOTH') then 1 else 0 end
            where deployment_id = '{}'",
        made["id"].as_str().unwrap()
    );
    scene.served.stored.script(&of_preview).await;
    let (status, said) = promote(&made).await;
    assert_eq!(status, 200, "{said}");
    scene.deploy(function).await;
    let kept = told(&[("BOTH", "late"), ("ITS_OWN", "p"), ("KEY", "new")]);
    assert_eq!(scene.told(function).await, kept, "and what was unset stays so");

    let made = preview(&json!({ "LAST": "one" })).await;
    scene.change(FUNCTION_SECRETS, json!({ "KEY": null })).await;
    let (status, said) = promote(&made).await;
    assert_eq!(status, 200, "{said}");
    scene.deploy(function).await;
    assert_eq!(
        scene.told(function).await,
        told(&[("BOTH", "late"), ("ITS_OWN", "p"), ("LAST", "one")]),
        "as it was written down"
    );

    // Both together are not more than a function may have.
    let many = |letter: &str| {
        Value::Object((0..limits::SETTINGS - 3).map(|n| (format!("{letter}{n}"), json!("x"))).collect())
    };
    let made = preview(&many("A")).await;
    scene.change(FUNCTION_SECRETS, many("B")).await;
    let (status, refused) = promote(&made).await;
    assert_eq!((status, &refused["code"]), (400, &json!("invalid_settings")), "{refused}");
}

async fn what_is_allowed_runs_with_no_old_secret() {
    let scene = Scene::new().await;
    let deploy = async |value: &str| {
        scene.deploy_as(OWNER, &scene.function, "&stores=orders", &json!({ "KEY": value })).await.1
    };
    scene.deploy(&scene.function).await;
    let (one, two) = (deploy("one").await, deploy("two").await);
    let approve = async |deployment: &Value| {
        let path = format!("/v1/deployments/{}/approve", deployment["id"].as_str().unwrap());
        scene.served.call("post", &path, Some(OWNER), json!({})).await
    };
    let (status, refused) = approve(&one).await;
    assert_eq!((status, &refused["code"]), (409, &json!("settings_changed")), "{refused}");
    assert!(scene.told(&scene.function).await.is_empty());
    assert_eq!(approve(&two).await.0, 200);
    assert_eq!(scene.told(&scene.function).await, told(&[("KEY", "two")]));
}

async fn functions_inherit_from_their_project_and_may_have_their_own() {
    let scene = Scene::new().await;
    let other = scene.create("other").await;
    let off = scene.create("off").await;
    for function in [&scene.function, &other, &off] {
        scene.deploy(function).await;
    }
    let path = format!("/v1/functions/{off}");
    scene.served.call("patch", &path, Some(OWNER), json!({ "status": "INACTIVE" })).await;
    scene.change(FUNCTION_SECRETS, json!({ "KEY": "own" })).await;
    let changed = scene.change(PROJECT_SECRETS, json!({ "KEY": "shared" })).await;
    let mut concerned: Vec<&str> = changed["deployments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["functionName"].as_str().unwrap())
        .collect();
    concerned.sort_unstable();
    assert_eq!(concerned, ["off", "other"], "the third one has its own");
    assert_eq!(scene.told(&scene.function).await, told(&[("KEY", "own")]));
    assert_eq!(scene.told(&other).await, told(&[("KEY", "shared")]));
    assert_eq!(scene.state(&off).await.status, FunctionStatus::Inactive, "it stays off");
    let list = scene.get(&format!("/v1/functions/{other}/secrets")).await;
    assert_eq!(
        (&list["data"][0]["ownerId"], &list["data"][0]["author"]),
        (&json!(scene.project), &json!("owner"))
    );
    let list = scene.get(&format!("/v1/functions/{other}/deployments")).await;
    assert_eq!(list["data"][0]["message"], "project secret KEY set");

    scene.change(FUNCTION_SECRETS, json!({ "KEY": null })).await;
    assert_eq!(scene.told(&scene.function).await, told(&[("KEY", "shared")]), "it has the project's again");
    let changed = scene.change(PROJECT_SETTINGS, json!({ "MODE": "fast" })).await;
    assert_eq!(changed["deployments"].as_array().unwrap().len(), 3);
    assert_eq!(scene.told(&other).await, told(&[("KEY", "shared"), ("MODE", "fast")]));
    let changed = scene.change(PROJECT_SETTINGS, json!({ "MODE": "fast" })).await;
    assert_eq!(changed, json!({ "changed": [], "deployments": [] }), "nothing is another one now");
}

async fn settings_are_shown_and_secrets_stay_secret() {
    let scene = Scene::new().await;
    scene.change(FUNCTION_SETTINGS, json!({ "MODE": "fast" })).await;
    scene.change(FUNCTION_SECRETS, json!({ "KEY": VALUE })).await;
    scene.change(PROJECT_SECRETS, json!({ "SHARED": VALUE })).await;
    assert_eq!(scene.get(FUNCTION_SETTINGS).await["data"][0]["value"], "fast");
    assert_eq!(names(&scene.get(FUNCTION_SETTINGS).await), ["MODE"]);
    assert_eq!(names(&scene.get(FUNCTION_SECRETS).await), ["KEY", "SHARED"]);
    // A value that comes without saying what it is takes no secret's place in the open.
    for name in ["KEY", "SHARED"] {
        scene.change(FUNCTION_SETTINGS, json!({ name: VALUE })).await;
    }
    assert_eq!(scene.deploy_as(OWNER, &scene.function, "", &json!({ "SENT": VALUE })).await.0, 201);
    assert_eq!(names(&scene.get(FUNCTION_SETTINGS).await), ["MODE"]);
    assert_eq!(names(&scene.get(FUNCTION_SECRETS).await), ["KEY", "SENT", "SHARED"]);
    assert_eq!(scene.tried(FUNCTION_SETTINGS, json!({ "KEY": null })).await.0, 404, "it is no setting");
    scene.change(FUNCTION_SECRETS, json!({ "MODE": "slow" })).await;
    assert_eq!(names(&scene.get(FUNCTION_SETTINGS).await), Vec::<&str>::new());

    for path in [FUNCTION_SECRETS, FUNCTION_SETTINGS, PROJECT_SECRETS, PROJECT_SETTINGS, DEPLOYMENTS] {
        assert!(!scene.get(path).await.to_string().contains(VALUE), "{path}");
    }
    let (status, said) = scene.tried(FUNCTION_SECRETS, json!({ "KEY": [VALUE] })).await;
    assert!(status == 400 && !said.to_string().contains(VALUE), "{said}");
    assert!(!contains(scene.served.dir(), VALUE.as_bytes()), "a file has the secret");
    for (row, sealed) in scene.sealed().await {
        assert!(
            !sealed.windows(8).any(|window| VALUE.as_bytes().windows(8).any(|part| part == window)),
            "{row}"
        );
    }
    assert_eq!(scene.told(&scene.function).await["SENT"], VALUE);
}

/// Whether a file under a directory has these bytes.
fn contains(dir: &Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(dir).unwrap().map(Result::unwrap).any(|entry| match entry.file_type().unwrap() {
        kind if kind.is_dir() => contains(&entry.path(), bytes),
        kind if kind.is_file() => {
            std::fs::read(entry.path()).unwrap().windows(bytes.len()).any(|window| window == bytes)
        }
        _ => false,
    })
}

async fn too_much_is_refused_as_a_whole() {
    let scene = Scene::new().await;
    scene.deploy(&scene.function).await;
    let long = "x".repeat(5000);
    let own: Value = (0..4).map(|number| (format!("OWN{number}"), json!(long))).collect();
    scene.change(FUNCTION_SECRETS, own).await;
    let shared: Value = (0..4).map(|number| (format!("SHARED{number}"), json!(long))).collect();
    let (status, said) = scene.tried(PROJECT_SECRETS, shared).await;
    assert_eq!((status, &said["code"]), (400, &json!("invalid_settings")));
    assert!(said["detail"].as_str().unwrap().starts_with("of hello: "), "{said}");
    assert_eq!(names(&scene.get(PROJECT_SECRETS).await), Vec::<&str>::new());
    for values in [json!({ "A": "x".repeat(6000) }), json!({ "A": "\u{0}" }), json!({ "1A": "x" }), json!({})]
    {
        assert_eq!(scene.tried(FUNCTION_SECRETS, values).await.1["code"], "invalid_settings");
    }
    let many: Value = (0..257).map(|number| (format!("N{number}"), Value::Null)).collect();
    let (status, said) = scene.tried(FUNCTION_SECRETS, many).await;
    assert_eq!((status, &said["code"]), (400, &json!("invalid_settings")), "before it is looked for: {said}");
    assert_eq!(scene.get(DEPLOYMENTS).await["data"].as_array().unwrap().len(), 2);
}

async fn a_deployment_says_why_it_was_made_and_what_it_may() {
    let scene = Scene::new().await;
    let query = "&message=first%20try&sourceHash=sha256:0abc&egress=api.example.com&stores=sessions";
    let (status, made) = scene.deploy_as(OWNER, &scene.function, query, &json!({})).await;
    assert_eq!(status, 201, "{made}");
    assert_eq!((&made["message"], &made["sourceHash"]), (&json!("first try"), &json!("sha256:0abc")));
    assert_eq!(made["imports"], json!(["wasi:random/random@0.2.3"]));
    assert_eq!(made["capabilities"], json!({ "egress": ["api.example.com"], "stores": ["sessions"] }));
    assert_eq!(made["author"], "owner");
    scene.change(FUNCTION_SETTINGS, json!({ "A": "a" })).await;
    let again = &scene.get(DEPLOYMENTS).await["data"][0];
    assert_eq!((&again["sourceHash"], &again["message"]), (&json!("sha256:0abc"), &json!("setting A set")));
    assert_eq!((&again["imports"], &again["capabilities"]), (&made["imports"], &made["capabilities"]));
    for (query, code) in [
        ("&message=", "invalid_message"),
        ("&message=%1b%5b31m", "invalid_message"),
        ("&sourceHash=a%20b", "invalid_source_hash"),
    ] {
        assert_eq!(scene.deploy_as(OWNER, &scene.function, query, &json!({})).await.1["code"], code);
    }
}

async fn who_may_deploy_may_not_always_change_secrets() {
    let scene = Scene::new().await;
    let wanted = json!({ "name": "ci", "scopes": "deployments:write" });
    let (_, token) = scene.served.call("post", "/v1/tokens", Some(OWNER), wanted).await;
    let token = token["token"].as_str().unwrap();
    assert_eq!(scene.deploy_as(token, &scene.function, "", &json!({})).await.0, 201);
    let (status, said) = scene.deploy_as(token, &scene.function, "", &json!({ "KEY": VALUE })).await;
    assert_eq!((status, &said["code"]), (403, &json!("insufficient_scope")));
}

async fn values_from_before_are_sealed_with_the_projects_key() {
    let scene = Scene::new().await;
    let deployment = scene.deploy(&scene.function).await;
    let master = std::fs::read(scene.served.dir().join("master.key")).unwrap();
    let master = Seal::new(master.as_slice().try_into().unwrap()).unwrap();
    let sealed = master.seal(&[&scene.function, "KEY"], VALUE).unwrap();
    let row = |name: &str| {
        format!(
            "insert into deployment_settings (deployment_id, name, sealed) values ('{}', '{name}', $1)",
            deployment["id"].as_str().unwrap()
        )
    };
    scene.served.stored.write(&row("KEY"), &sealed).await;
    scene.served.stored.write(&row("ROTTEN"), &sealed).await;
    assert_eq!(scene.told(&scene.function).await, told(&[("KEY", VALUE)]), "also before a start");
    let scene = scene.restart().await;
    assert_eq!(scene.told(&scene.function).await, told(&[("KEY", VALUE)]));
    assert_eq!(names(&scene.get(FUNCTION_SECRETS).await), ["KEY"]);
    let stored = scene.served.stored.rows("select owner_id, sealed from settings").await;
    assert_eq!(stored[0].0, scene.function);
    assert!(master.unseal(&[&scene.function, "KEY"], &stored[0].1).is_err(), "not with the master key");
    let digests = scene.served.stored.rows("select name, digest from settings").await;
    assert_eq!(digests[0].1, blake3::hash(&sealed).as_bytes(), "manifests name it as before");
    scene.change(FUNCTION_SECRETS, json!({ "OTHER": "o" })).await;
    assert_eq!(scene.told(&scene.function).await, told(&[("KEY", VALUE), ("OTHER", "o")]));
}

async fn a_projects_new_key_changes_no_value() {
    let scene = Scene::new().await;
    scene.deploy(&scene.function).await;
    scene.change(PROJECT_SECRETS, json!({ "SHARED": "s" })).await;
    scene.change(FUNCTION_SECRETS, json!({ "OWN": "o" })).await;
    let (list, before) = (scene.get(DEPLOYMENTS).await, scene.sealed().await);
    let path = format!("/v1/projects/{}/rotate-content-key", scene.project);
    assert_eq!(scene.served.call("post", &path, Some(OWNER), json!({})).await.0, 200);
    let after = scene.sealed().await;
    assert_eq!(before.len(), after.len());
    assert!(before.iter().all(|row| !after.contains(row)), "all is sealed anew");
    assert_eq!(scene.told(&scene.function).await, told(&[("OWN", "o"), ("SHARED", "s")]));
    assert_eq!(scene.get(DEPLOYMENTS).await, list);
    scene.rollback(&scene.function).await;
    assert_eq!(scene.told(&scene.function).await, told(&[("SHARED", "s")]));

    let rotate = async || scene.served.call("post", &path, Some(OWNER), json!({})).await.1["code"].clone();
    assert_eq!(rotate().await, "rotated_recently");
    let many = format!(
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < 10000)
        insert into settings (owner_id, name, project_id, secret, sealed, digest, author_id, updated_at)
        select '{0}', 'N' || i, '{0}', 0, $1, $1, (select id from users where id <> 'usr_2'), 0 from n",
        scene.project
    );
    scene.served.stored.write(&many, b"sealed").await;
    assert_eq!(rotate().await, "too_many_sealed", "before any of it is looked at");
}

async fn a_master_key_that_is_lost_for_good_costs_what_it_sealed_and_no_more() {
    let scene = Scene::new().await;
    scene.deploy(&scene.function).await;
    scene.change(FUNCTION_SECRETS, json!({ "KEY": VALUE })).await;
    scene.change(FUNCTION_SETTINGS, json!({ "MODE": "fast" })).await;
    let file = scene.served.dir().join("master.key");
    std::fs::remove_file(&file).unwrap();
    let blocks = DiskStore::open(scene.served.dir().join("blocks")).unwrap();
    let refused = ControlApi::build(support::config(scene.served.dir(), &scene.served.stored), blocks).await;
    assert!(matches!(refused, Err(ControlError::OtherMasterKey(_))));
    assert!(!file.exists(), "none is made in its place");

    scene.served.stored.script("delete from project_keys").await;
    let scene = scene.restart().await;
    assert!(scene.told(&scene.function).await.is_empty());
    scene.change(FUNCTION_SETTINGS, json!({ "MODE": null })).await;
    scene.change(FUNCTION_SETTINGS, json!({ "MODE": "slow" })).await;
    scene.change(FUNCTION_SECRETS, json!({ "KEY": null })).await;
    scene.change(FUNCTION_SECRETS, json!({ "KEY": "another" })).await;
    assert_eq!(scene.told(&scene.function).await, told(&[("KEY", "another"), ("MODE", "slow")]));
}

/// Projects with a key each, more than are sealed anew in one step.
async fn with_many_keys() -> Scene {
    let scene = Scene::new().await;
    scene.deploy(&scene.function).await;
    scene.change(FUNCTION_SECRETS, json!({ "KEY": VALUE })).await;
    for number in 0..120 {
        let (_, project) = scene
            .served
            .call("post", "/v1/projects", Some(OWNER), json!({ "name": format!("p{number}") }))
            .await;
        let path = format!("/v1/projects/{}/secrets", project["id"].as_str().unwrap());
        scene.change(&path, json!({ "KEY": "k" })).await;
    }
    scene
}

async fn a_rotation_may_be_cut_off_at_any_point() {
    let mut scene = with_many_keys().await;
    let key = MasterKey::File(scene.served.dir().join("master.key"));
    let database = scene.served.stored.database.clone();
    let file = || std::fs::read(scene.served.dir().join("master.key")).unwrap();
    let (old, keys) = (file(), scene.sealed().await);

    // Cut off after each step, while a server goes on and seals.
    for steps in 0..3 {
        let mut rotation = Rotation::begin(&database, &key).await.unwrap();
        let second = Rotation::begin(&database, &key).await;
        assert!(matches!(second, Err(RotationError::Running)), "{second:?}");
        for _ in 0..steps {
            assert!(rotation.step().await.unwrap());
        }
        drop(rotation);
        assert_eq!(
            std::fs::read(scene.served.dir().join("master.key")).unwrap(),
            old,
            "not before all is done"
        );
        assert_eq!(scene.told(&scene.function).await["KEY"], VALUE, "after {steps} steps");
        scene.change(FUNCTION_SECRETS, json!({ "OTHER": format!("{steps}") })).await;
        let (_, project) =
            scene.served.call("post", "/v1/projects", Some(OWNER), json!({ "name": "another" })).await;
        let path = format!("/v1/projects/{}/settings", project["id"].as_str().unwrap());
        scene.change(&path, json!({ "A": "a" })).await;
    }
    // A start goes on with it.
    scene = scene.restart().await;
    let new = std::fs::read(scene.served.dir().join("master.key")).unwrap();
    assert_ne!(new, old);
    assert!(!scene.served.dir().join("master.key.next").exists());
    assert_eq!(scene.told(&scene.function).await, told(&[("KEY", VALUE), ("OTHER", "2")]));
    let master = Seal::new(new.as_slice().try_into().unwrap()).unwrap();
    let keys_now = scene.served.stored.rows("select project_id, sealed from project_keys").await;
    assert_eq!(keys_now.len(), 124);
    for (project, sealed) in &keys_now {
        assert!(master.unseal_bytes(&[project, "content keys"], sealed).is_ok(), "{project}");
        assert!(!keys.contains(&(project.clone(), sealed.clone())));
    }

    // And once more, while a server has the key of before in its memory.
    let count = Rotation::begin(&database, &key).await.unwrap().finish().await.unwrap();
    assert_eq!(count, 124);
    assert_eq!(scene.told(&scene.function).await["KEY"], VALUE);
    // Three that were cut off and went on with a start, and one that was not.
    let (_, log) = scene.served.call("get", "/v1/audit", Some(OWNER), Value::Null).await;
    let entries = log["data"].as_array().unwrap();
    let actions = entries.iter().map(|entry| entry["action"].as_str().unwrap());
    let actions: Vec<&str> = actions.filter(|action| action.starts_with("master_key")).collect();
    let (begun, ended) = ("master_key.rotate", "master_key.finish");
    assert_eq!(actions, [ended, begun, ended, begun, begun, begun]);
    scene.change(FUNCTION_SECRETS, json!({ "OTHER": "last" })).await;
    let scene = scene.restart().await;
    assert_eq!(scene.told(&scene.function).await, told(&[("KEY", VALUE), ("OTHER", "last")]));
}

async fn a_rotation_that_cannot_end_keeps_no_server_from_starting() {
    let scene = Scene::new().await;
    scene.deploy(&scene.function).await;
    scene.change(FUNCTION_SECRETS, json!({ "KEY": VALUE })).await;
    let (_, other) =
        scene.served.call("post", "/v1/projects", Some(OWNER), json!({ "name": "rotten" })).await;
    let other = other["id"].as_str().unwrap();
    scene.change(&format!("/v1/projects/{other}/secrets"), json!({ "KEY": "k" })).await;
    let key = MasterKey::File(scene.served.dir().join("master.key"));
    drop(Rotation::begin(&scene.served.stored.database, &key).await.unwrap());
    let rotten = format!("update project_keys set sealed = $1 where project_id = '{other}'");
    scene.served.stored.write(&rotten, b"rotten").await;
    let scene = scene.restart().await;
    assert!(scene.served.dir().join("master.key.next").exists(), "both stay");
    assert_eq!(scene.told(&scene.function).await["KEY"], VALUE);
    scene.change(FUNCTION_SECRETS, json!({ "KEY": "next" })).await;
    assert_eq!(scene.told(&scene.function).await["KEY"], "next");
}

async fn a_key_that_is_given_is_rotated_with_both() {
    let scene = with_many_keys().await;
    let file = std::fs::read(scene.served.dir().join("master.key")).unwrap();
    let hex: String = file.iter().map(|byte| format!("{byte:02x}")).collect();
    let (old, new): (Key, Key) = (hex.parse().unwrap(), "ab".repeat(32).parse().unwrap());
    let given = |key: &Key, previous: Option<&Key>| MasterKey::Given {
        key: key.clone(),
        previous: previous.cloned(),
    };
    let start = async |scene: &Scene, key: MasterKey| {
        let blocks = DiskStore::open(scene.served.dir().join("blocks")).unwrap();
        let config = support::config(scene.served.dir(), &scene.served.stored);
        Box::pin(ControlApi::build(ControlConfig { master_key: key, ..config }, blocks)).await
    };
    assert!(matches!(start(&scene, given(&new, None)).await, Err(ControlError::OtherMasterKey(_))));
    let database = scene.served.stored.database.clone();
    let alone = Rotation::begin(&database, &given(&old, None)).await;
    assert!(matches!(alone, Err(RotationError::OneKey)), "{alone:?}");
    for other in [given(&new, None), MasterKey::File(scene.served.dir().join("elsewhere.key"))] {
        let refused = Rotation::begin(&database, &other).await;
        assert!(matches!(refused, Err(RotationError::OtherKey)), "{refused:?}");
    }
    assert!(!scene.served.dir().join("elsewhere.key").exists(), "none is made");
    start(&scene, given(&new, Some(&old))).await.unwrap();
    let count = Rotation::begin(&database, &given(&new, Some(&old))).await.unwrap().finish().await.unwrap();
    assert_eq!(count, 121);
    assert!(matches!(start(&scene, given(&old, None)).await, Err(ControlError::OtherMasterKey(_))));
    let scene = Scene { served: scene.served.restart_with(given(&new, None)).await, ..scene };
    assert_eq!(scene.told(&scene.function).await["KEY"], VALUE);
}

crate::on_both!(
    a_rollback_shows_no_secret_and_is_written_down,
    a_promotion_brings_no_replaced_secret_back,
    a_promotion_leaves_what_was_changed_since,
    what_is_allowed_runs_with_no_old_secret,
    a_rotation_that_cannot_end_keeps_no_server_from_starting,
    a_change_is_a_deployment_and_rolls_back_with_it,
    functions_inherit_from_their_project_and_may_have_their_own,
    settings_are_shown_and_secrets_stay_secret,
    too_much_is_refused_as_a_whole,
    a_deployment_says_why_it_was_made_and_what_it_may,
    who_may_deploy_may_not_always_change_secrets,
    values_from_before_are_sealed_with_the_projects_key,
    a_projects_new_key_changes_no_value,
    a_master_key_that_is_lost_for_good_costs_what_it_sealed_and_no_more,
    a_rotation_may_be_cut_off_at_any_point,
    a_key_that_is_given_is_rotated_with_both,
);
