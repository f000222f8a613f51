//! Settings and secrets in the control plane alone: how they are changed, inherited, sealed, told to edges, and never shown.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use af_contract::{FunctionStatus, limits};
use serde_json::{Value, json};
use support::OWNER;
use support::settings::{
    DEPLOYMENTS, FUNCTION_SECRETS, FUNCTION_SETTINGS, PROJECT_SECRETS, PROJECT_SETTINGS, Scene, VALUE,
    contains, names, told,
};

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
    // As a NUL anywhere.
    let (status, said) = scene.tried(FUNCTION_SECRETS, json!({ "A": "\u{0}" })).await;
    assert_eq!((status, &said["code"]), (422, &json!("invalid_request")));
    for values in [json!({ "A": "x".repeat(6000) }), json!({ "1A": "x" }), json!({})] {
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

crate::on_both!(
    a_rollback_shows_no_secret_and_is_written_down,
    a_promotion_brings_no_replaced_secret_back,
    a_promotion_leaves_what_was_changed_since,
    what_is_allowed_runs_with_no_old_secret,
    a_change_is_a_deployment_and_rolls_back_with_it,
    functions_inherit_from_their_project_and_may_have_their_own,
    settings_are_shown_and_secrets_stay_secret,
    too_much_is_refused_as_a_whole,
    a_deployment_says_why_it_was_made_and_what_it_may,
    who_may_deploy_may_not_always_change_secrets,
);
