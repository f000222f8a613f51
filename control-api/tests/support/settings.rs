//! A function with settings and secrets, and what is told and stored of them.

use std::collections::BTreeMap;
use std::path::Path;

use af_content::{DiskStore, car, unixfs};
use af_contract::{Change, ContentId, FunctionState, Manifest};
use serde_json::{Value, json};

use super::{OWNER, Served};

/// In no other test and no other value, so that whatever has it has the secret.
pub const VALUE: &str = "correct horse battery staple";

/// A control API, its first project, and a function of it.
pub struct Scene {
    pub served: Served,
    pub project: String,
    pub function: String,
}

impl Scene {
    pub async fn new() -> Self {
        let served = Served::start().await;
        let (_, projects) = served.call("get", "/v1/projects", Some(OWNER), Value::Null).await;
        let project = projects["data"][0]["id"].as_str().unwrap().to_owned();
        let mut scene = Self { served, project, function: String::new() };
        scene.function = scene.create("hello").await;
        scene
    }

    pub async fn restart(self) -> Self {
        Self { served: self.served.restart().await, ..self }
    }

    pub async fn create(&self, name: &str) -> String {
        let path = format!("/v1/projects/{}/functions", self.project);
        let (_, function) = self.served.call("post", &path, Some(OWNER), json!({ "name": name })).await;
        function["id"].as_str().unwrap().to_owned()
    }

    pub async fn deploy(&self, function: &str) -> Value {
        self.deploy_as(OWNER, function, "", &json!({})).await.1
    }

    /// With settings as `af functions deploy --env` sends them.
    pub async fn deploy_as(
        &self,
        token: &str,
        function: &str,
        query: &str,
        settings: &Value,
    ) -> (u16, Value) {
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

    pub async fn get(&self, path: &str) -> Value {
        let path = path.replace("{function}", &self.function).replace("{project}", &self.project);
        let (status, said) = self.served.call("get", &path, Some(OWNER), Value::Null).await;
        assert_eq!(status, 200, "{said}");
        said
    }

    pub async fn tried(&self, path: &str, values: Value) -> (u16, Value) {
        let path = path.replace("{function}", &self.function).replace("{project}", &self.project);
        self.served.call("patch", &path, Some(OWNER), json!({ "values": values })).await
    }

    pub async fn change(&self, path: &str, values: Value) -> Value {
        let (status, said) = self.tried(path, values).await;
        assert_eq!(status, 200, "{said}");
        said
    }

    pub async fn rollback(&self, function: &str) {
        let path = format!("/v1/functions/{function}/rollback");
        assert_eq!(self.served.call("post", &path, Some(OWNER), json!({})).await.0, 200);
    }

    /// What edges are told of a function.
    pub async fn state(&self, function: &str) -> FunctionState {
        let updates = self.served.control.changes_since(0).await.unwrap().updates;
        let found = updates.into_iter().find_map(|update| match update.change {
            Change::Function { id, state } if id == function => state,
            _ => None,
        });
        found.unwrap()
    }

    /// What it is told by them.
    pub async fn told(&self, function: &str) -> BTreeMap<String, String> {
        let settings = self.state(function).await.deployment.unwrap().settings;
        settings.into_iter().map(|(name, value)| (name.to_string(), value.reveal().to_owned())).collect()
    }

    /// Every sealed value and key that the database has.
    pub async fn sealed(&self) -> Vec<(String, Vec<u8>)> {
        let query = "select owner_id, sealed from settings union all
            select deployment_id, sealed from deployment_settings union all
            select project_id, sealed from project_keys order by 1, 2";
        self.served.stored.rows(query).await
    }

    pub fn manifest(&self, deployment: &Value) -> Manifest {
        let blocks = DiskStore::open(self.served.dir().join("blocks")).unwrap();
        let cid = ContentId::parse(deployment["manifestCid"].as_str().unwrap()).unwrap();
        Manifest::decode(&blocks.block(&cid).unwrap().unwrap()).unwrap()
    }
}

pub fn told(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

pub fn names(list: &Value) -> Vec<&str> {
    list["data"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
}

pub const FUNCTION_SECRETS: &str = "/v1/functions/{function}/secrets";
pub const FUNCTION_SETTINGS: &str = "/v1/functions/{function}/settings";
pub const PROJECT_SECRETS: &str = "/v1/projects/{project}/secrets";
pub const PROJECT_SETTINGS: &str = "/v1/projects/{project}/settings";
pub const DEPLOYMENTS: &str = "/v1/functions/{function}/deployments";

/// Whether a file under a directory has these bytes.
pub fn contains(dir: &Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(dir).unwrap().map(Result::unwrap).any(|entry| match entry.file_type().unwrap() {
        kind if kind.is_dir() => contains(&entry.path(), bytes),
        kind if kind.is_file() => {
            std::fs::read(entry.path()).unwrap().windows(bytes.len()).any(|window| window == bytes)
        }
        _ => false,
    })
}
