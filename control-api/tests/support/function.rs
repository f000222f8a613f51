//! A function of the first project, which is deployed to.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

use af_content::{car, unixfs};
use af_contract::edge::Report;
use af_contract::{Change, FunctionState, RolloutFailure};
use serde_json::{Value, json};

use super::content::COMPONENT;
use super::{OWNER, Served};

/// A control API with a function.
pub struct Scene {
    pub served: Served,
    pub project: String,
    pub function: String,
}

impl Scene {
    /// The edge of this process says so.
    pub async fn stopped(&self, failure: &RolloutFailure) {
        let report = Report { rollouts: vec![failure.clone()], ..Report::default() };
        self.served.control.report(&report).await.unwrap();
    }

    pub async fn new() -> Self {
        Self::on(Served::start().await).await
    }

    pub async fn on(served: Served) -> Self {
        let (_, projects) = served.call("get", "/v1/projects", Some(OWNER), Value::Null).await;
        let project = projects["data"][0]["id"].as_str().unwrap().to_owned();
        let path = format!("/v1/projects/{project}/functions");
        let (_, function) = served.call("post", &path, Some(OWNER), json!({ "name": "hello" })).await;
        let function = function["id"].as_str().unwrap().to_owned();
        Self { served, project, function }
    }

    pub fn path(&self, what: &str) -> String {
        format!("/v1/functions/{}{what}", self.function)
    }

    pub async fn deploy_as(&self, token: &str, query: &str) -> (u16, Value) {
        self.send(token, &wat::parse_str(COMPONENT).unwrap(), query).await
    }

    /// A component with so many bytes besides, which do nothing.
    pub async fn deploy_of(&self, seed: char, size: u32, query: &str) -> (u16, Value) {
        let mut component = wat::parse_str(COMPONENT).unwrap();
        let besides = [&[1, b'x'][..], seed.to_string().repeat(size as usize).as_bytes()].concat();
        // A custom section; its length is a LEB128 of five bytes.
        let length = u32::try_from(besides.len()).unwrap();
        let digits =
            (0..5).map(|digit| ((length >> (7 * digit)) & 0x7f) as u8 | if digit < 4 { 0x80 } else { 0 });
        component.push(0);
        component.extend(digits);
        component.extend(besides);
        self.send(OWNER, &component, query).await
    }

    async fn send(&self, token: &str, component: &[u8], query: &str) -> (u16, Value) {
        let mut blocks = Vec::new();
        let file = unixfs::import(component, |block| {
            blocks.push(block);
            Ok(())
        });
        let file = file.unwrap();
        let mut body = car::encode_header(&[file.root]);
        for block in &blocks {
            body.extend(car::encode_block_prefix(&block.id, block.bytes.len()));
            body.extend_from_slice(&block.bytes);
        }
        let path = format!("/deployments?cid={}&blake3={}{query}", file.root, file.blake3);
        self.served.upload(&self.path(&path), token, body).await
    }

    pub async fn deploy(&self, query: &str) -> Value {
        let (status, deployment) = self.deploy_as(OWNER, query).await;
        assert_eq!(status, 201, "{deployment}");
        deployment
    }

    pub async fn call(&self, method: &str, what: &str, body: Value) -> (u16, Value) {
        self.served.call(method, &self.path(what), Some(OWNER), body).await
    }

    /// The status code where it is an answer, the problem's code where it is none.
    pub async fn code(&self, method: &str, what: &str, body: Value) -> String {
        let (status, said) = self.call(method, what, body).await;
        if status == 200 { "200".into() } else { said["code"].as_str().unwrap().to_owned() }
    }

    /// What edges are told of the function.
    pub async fn told(&self) -> FunctionState {
        let updates = self.served.control.changes_since(0).await.unwrap().updates;
        match updates.into_iter().next_back().unwrap().change {
            Change::Function { state: Some(state), .. } => state,
            other => panic!("{other:?}"),
        }
    }

    pub async fn actions(&self) -> Vec<String> {
        let path = format!("/v1/projects/{}/audit", self.project);
        let (_, page) = self.served.call("get", &path, Some(OWNER), Value::Null).await;
        let entries = page["data"].as_array().unwrap();
        entries.iter().map(|entry| entry["action"].as_str().unwrap().to_owned()).collect()
    }
}

/// What begins a rollout.
pub fn share(deployment: &Value, percent: u32) -> Value {
    json!({ "deployment": deployment["id"], "percent": percent })
}

/// Numbers of the deployments that there are, newest first.
pub async fn numbers(scene: &Scene) -> Vec<i64> {
    let (_, page) = scene.call("get", "/deployments", Value::Null).await;
    page["data"].as_array().unwrap().iter().map(|row| row["number"].as_i64().unwrap()).collect()
}
