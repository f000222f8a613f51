//! Keys of projects and the master key: what is sealed with which, how they are replaced, and what is lost without them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use af_content::DiskStore;
use af_control_api::domain::rotation::{Rotation, RotationError};
use af_control_api::domain::sealing::Seal;
use af_control_api::{ControlApi, ControlConfig, ControlError, Key, MasterKey};
use serde_json::{Value, json};
use support::OWNER;
use support::settings::{
    DEPLOYMENTS, FUNCTION_SECRETS, FUNCTION_SETTINGS, PROJECT_SECRETS, Scene, VALUE, names, told,
};

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
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < 100000)
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
    a_rotation_that_cannot_end_keeps_no_server_from_starting,
    values_from_before_are_sealed_with_the_projects_key,
    a_projects_new_key_changes_no_value,
    a_master_key_that_is_lost_for_good_costs_what_it_sealed_and_no_more,
    a_rotation_may_be_cut_off_at_any_point,
    a_key_that_is_given_is_rotated_with_both,
);
