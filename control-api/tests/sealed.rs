//! What is sealed with the master key: all of it is sealed anew when that is rotated, wherever the rotation is cut off, and
//! nobody notices. And what is written down of a change: never a value.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use af_content::private::{Cipher, Sealing, new_key};
use af_content::{car, unixfs};
use af_control_api::MasterKey;
use af_control_api::domain::rotation::Rotation;
use af_control_api::domain::sealing::Seal;
use serde_json::{Value, json};
use support::{OWNER, STRANGER, Served};

/// In no other value, so that whatever has it has the secret.
const VALUE: &str = "correct horse battery staple";

const KEY: &str = "8e03978e-40d5-43dd-bc93-6894a57f9324";

/// The server's table and column, how a row's name is made of it, and what it is sealed for besides.
const SEALED: [(&str, &str, &str, &str); 7] = [
    ("project_keys", "sealed", "project_id", "content keys"),
    ("domains", "certificate_key", "id", "certificate"),
    ("signing_keys", "sealed", "id", "signing-key"),
    ("feed_keys", "sealed", "id", "feed-key"),
    ("edges", "join_sealed", "id", "edge-join"),
    ("idempotency_keys", "answer", "token_id || ' ' || key", "idempotency"),
    ("idempotency_keys", "fingerprint", "token_id || ' ' || key", "idempotency-request"),
];

/// Columns of bytes that are sealed with a project's key, or are hashes or public: whoever adds one says here what it is, or
/// adds it to what is sealed anew.
const OTHERS: [&str; 17] = [
    "content_keys.sealed",
    "deployment_settings.digest",
    "deployment_settings.sealed",
    "edges.public_key",
    "feed_keys.public",
    "invitations.hash",
    // What functions log, for a minute, where there are several servers.
    "log_batches.lines",
    "logins.secret_hash",
    "logins.session_hash",
    "pin_keys.sealed",
    "settings.digest",
    "settings.sealed",
    "signing_keys.public",
    "tokens.hash",
    "tokens.previous_hash",
    // Of what edges have shown, which counts no more.
    "used_proofs.hash",
    "_sqlx_migrations.checksum",
];

/// A server with something of everything that is sealed.
struct Scene {
    served: Served,
    project: String,
    function: String,
    pin: String,
    content_key: Value,
    session: String,
    token: Value,
}

impl Scene {
    async fn new() -> Self {
        let served = Served::start().await;
        let (_, projects) = served.call("get", "/v1/projects", Some(OWNER), Value::Null).await;
        let project = projects["data"][0]["id"].as_str().unwrap().to_owned();
        let root = format!("/v1/projects/{project}");
        let made = async |path: String, body: Value| {
            let (status, made) = served.call("post", &path, Some(OWNER), body).await;
            assert_eq!(status, 201, "{made}");
            made
        };
        let function = made(format!("{root}/functions"), json!({ "name": "hello" })).await;
        let function = function["id"].as_str().unwrap().to_owned();
        let claim = json!({ "hostname": "www.example.com", "functionId": function });
        let domain = made(format!("{root}/domains"), claim).await;
        let path = format!("/v1/domains/{}/certificate", domain["id"].as_str().unwrap());
        let pair = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["www.example.com".to_owned()]).unwrap();
        let certificate =
            json!({ "chain": params.self_signed(&pair).unwrap().pem(), "key": pair.serialize_pem() });
        assert_eq!(served.call("put", &path, Some(OWNER), certificate).await.0, 200);
        let session =
            made("/v1/tokens/session".into(), json!({})).await["token"].as_str().unwrap().to_owned();
        made("/v1/edges".into(), json!({ "name": "first" })).await;
        let (pin, content_key) = pin(&served, &root).await;
        let mut scene = Self { served, project, function, pin, content_key, session, token: Value::Null };
        scene.token = scene.keyed().await.1;
        assert_eq!(scene.change(OWNER, &[], json!({ "SECRET": VALUE })).await.0, 200);
        scene
    }

    /// A token that is made once, with an Idempotency-Key.
    async fn keyed(&self) -> (bool, Value) {
        let headers = [("idempotency-key", KEY)];
        let body = json!({ "name": "ci" });
        let answer = self.served.answer("post", "/v1/tokens", Some(OWNER), &headers, body).await;
        assert_eq!(answer.status(), 201);
        (answer.headers().contains_key("idempotency-replayed"), answer.json().await.unwrap())
    }

    async fn change(&self, token: &str, headers: &[(&str, &str)], values: Value) -> (u16, Value) {
        let path = format!("/v1/functions/{}/secrets", self.function);
        let body = json!({ "values": values });
        let answer = self.served.answer("patch", &path, Some(token), headers, body).await;
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// All that was sealed is opened by this server.
    async fn assert_works(&self, when: &str) {
        let (again, token) = self.keyed().await;
        assert!(again && token == self.token, "{when}: an answer is given again");
        let get =
            async |path: &str, token: &str| self.served.call("get", path, Some(token), Value::Null).await;
        assert_eq!(get("/v1/projects", &self.session).await.0, 200, "{when}: a session goes on");
        let made = self.served.call("post", "/v1/tokens/session", Some(OWNER), json!({})).await;
        assert_eq!(made.0, 201, "{when}: another one begins: {}", made.1);
        let edge = json!({ "name": when.replace(' ', "-") });
        let made = self.served.call("post", "/v1/edges", Some(OWNER), edge).await;
        assert_eq!(made.0, 201, "{when}: an edge may join: {}", made.1);
        let path = format!("/v1/projects/{}/storage/{}/key", self.project, self.pin);
        assert_eq!(get(&path, OWNER).await, (200, self.content_key.clone()), "{when}: a pin's key is given");
        let path = format!("/v1/functions/{}/settings", self.function);
        assert_eq!(get(&path, OWNER).await.0, 200, "{when}");
    }

    /// What is sealed with the master key, and for which place.
    async fn sealed(&self) -> Vec<(String, Vec<String>, Vec<u8>)> {
        let mut all = Vec::new();
        for (table, column, id, purpose) in SEALED {
            let query = format!("select {id}, {column} from {table} where {column} is not null");
            for (id, sealed) in self.served.stored.rows(&query).await {
                let place = match id.split_once(' ') {
                    Some((token, key)) => vec![token.to_owned(), purpose.to_owned(), key.to_owned()],
                    None => vec![id.clone(), purpose.to_owned()],
                };
                all.push((format!("{table}.{column} of {id}"), place, sealed));
            }
        }
        all
    }

    fn key(&self) -> Vec<u8> {
        std::fs::read(self.served.dir().join("master.key")).unwrap()
    }
}

/// Stores something private.
async fn pin(served: &Served, root: &str) -> (String, Value) {
    let key = new_key().unwrap();
    let mut body = car::encode_header(&[]);
    let keep = |block: car::Block| {
        body.extend(car::encode_block_prefix(&block.id, block.bytes.len()));
        body.extend_from_slice(&block.bytes);
        Ok(())
    };
    let file = unixfs::import(Sealing::new(&Cipher::new(&key), &b"secret"[..]).unwrap(), keep).unwrap();
    assert_eq!(served.upload(&format!("{root}/storage/blocks"), OWNER, body).await.0, 200);
    let body = json!({ "cid": file.root.to_string() }).to_string().into_bytes();
    let (status, said) = served.upload_json(&format!("{root}/storage/pins"), OWNER, Some(&key), body).await;
    assert_eq!((status, &said["private"]), (201, &json!(true)), "{said}");
    (file.root.to_string(), json!({ "contentKey": key.to_hex() }))
}

fn opens(key: &[u8], place: &[String], sealed: &[u8]) -> bool {
    let seal = Seal::new(key.try_into().unwrap()).unwrap();
    let place: Vec<&str> = place.iter().map(String::as_str).collect();
    seal.unseal_bytes(&place, sealed).is_ok()
}

async fn after_a_rotation_the_old_key_opens_nothing_and_the_new_one_everything() {
    let scene = Box::pin(Scene::new()).await;
    let old = scene.key();
    let before = scene.sealed().await;
    let mut kinds: Vec<&str> = before.iter().map(|(what, ..)| what.split(' ').next().unwrap()).collect();
    kinds.dedup();
    assert_eq!(kinds.len(), SEALED.len(), "one of each: {kinds:?}");
    for (what, place, sealed) in &before {
        assert!(opens(&old, place, sealed), "{what}");
    }
    let key = MasterKey::File(scene.served.dir().join("master.key"));
    let database = scene.served.stored.database.clone();
    // Cut off after each kind.
    for steps in 0..10 {
        let mut rotation = Rotation::begin(&database, &key).await.unwrap();
        for _ in 0..steps {
            rotation.step().await.unwrap();
        }
        drop(rotation);
        assert_eq!(scene.key(), old, "both keys are there until all is done");
        scene.assert_works(&format!("after {steps} steps")).await;
    }
    Rotation::begin(&database, &key).await.unwrap().finish().await.unwrap();
    let new = scene.key();
    let after = scene.sealed().await;
    assert!(new != old && after.len() >= before.len());
    for (what, place, sealed) in &after {
        assert!(!opens(&old, place, sealed), "the old key opens {what}");
        assert!(opens(&new, place, sealed), "the new key does not open {what}");
    }
    scene.assert_works("with the new key").await;
    let Scene { served, project, function, pin, content_key, session, token } = scene;
    let served = served.restart().await;
    let scene = Scene { served, project, function, pin, content_key, session, token };
    scene.assert_works("after a restart").await;
}

async fn a_change_is_written_down_by_name_and_done_once_for_each_key() {
    let scene = Box::pin(Scene::new()).await;
    let keyed = [("idempotency-key", "once")];
    // A session may what its token may.
    let first = scene.change(&scene.session, &keyed, json!({ "SHORT": "hunter2", "SECRET": null })).await;
    assert_eq!((first.0, &first.1["changed"]), (200, &json!(["SECRET", "SHORT"])), "{}", first.1);
    assert_eq!(
        scene.change(&scene.session, &keyed, json!({ "SHORT": "hunter2", "SECRET": null })).await,
        first
    );
    let (status, said) =
        scene.change(&scene.session, &keyed, json!({ "SHORT": "hunter3", "SECRET": null })).await;
    assert_eq!((status, &said["code"]), (422, &json!("idempotency_key_reused")));
    // Neither the answer nor the request can be guessed from what is kept.
    let kept = "select key, fingerprint from idempotency_keys union all
        select key, answer from idempotency_keys where answer is not null";
    for (key, bytes) in scene.served.stored.rows(kept).await {
        assert!(bytes.len() > 32, "the fingerprint of {key} is sealed");
        assert!(!bytes.windows(8).any(|window| VALUE.as_bytes().windows(8).any(|part| part == window)));
    }
    let path = format!("/v1/functions/{}/settings", scene.function);
    let body = json!({ "values": { "MODE": "fast" } });
    assert_eq!(scene.served.call("patch", &path, Some(OWNER), body).await.0, 200);
    let body = json!({ "values": { "MODE": null } });
    assert_eq!(scene.served.call("patch", &path, Some(OWNER), body).await.0, 200);
    let path = format!("/v1/projects/{}/secrets", scene.project);
    let body = json!({ "values": { "SHARED": VALUE } });
    assert_eq!(scene.served.call("patch", &path, Some(OWNER), body).await.0, 200);

    let audit = format!("/v1/projects/{}/audit", scene.project);
    let (_, log) = scene.served.call("get", &audit, Some(OWNER), Value::Null).await;
    assert!(!log.to_string().contains(VALUE) && !log.to_string().contains("hunter2"));
    let told = log["data"].as_array().unwrap().iter().filter_map(|entry| {
        let action = entry["action"].as_str().unwrap();
        let about = action.starts_with("secret.") || action.starts_with("setting.");
        about.then(|| (action, entry["target"].as_str().unwrap().split_once('/').unwrap()))
    });
    let told: Vec<_> = told.map(|(action, (owner, name))| (action, owner, name)).collect();
    let (function, project) = (scene.function.as_str(), scene.project.as_str());
    assert_eq!(
        told,
        [
            ("secret.set", project, "SHARED"),
            ("setting.unset", function, "MODE"),
            ("setting.set", function, "MODE"),
            ("secret.set", function, "SHORT"),
            ("secret.unset", function, "SECRET"),
            ("secret.set", function, "SECRET"),
        ]
    );
    assert_eq!(scene.served.call("get", &audit, Some(STRANGER), Value::Null).await.0, 404);
    assert_eq!(scene.change(STRANGER, &[], json!({ "SHORT": "theirs" })).await.0, 404);
}

#[tokio::test]
async fn whatever_is_stored_as_bytes_is_accounted_for() {
    let served = Served::start().await;
    let query = "select m.name || '.' || c.name, x'' from sqlite_master m join pragma_table_info(m.name) c
        where m.type = 'table' and lower(c.type) = 'blob' order by 1";
    let found: Vec<String> = served.stored.rows(query).await.into_iter().map(|(name, _)| name).collect();
    let sealed = SEALED.map(|(table, column, ..)| format!("{table}.{column}"));
    let mut known: Vec<String> = sealed.into_iter().chain(OTHERS.map(str::to_owned)).collect();
    known.sort();
    assert_eq!(found, known);
}

crate::on_both!(
    after_a_rotation_the_old_key_opens_nothing_and_the_new_one_everything,
    a_change_is_written_down_by_name_and_done_once_for_each_key,
);
