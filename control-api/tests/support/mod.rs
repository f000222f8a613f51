//! A control API on a free port with two users, and a DNS server that says what a test wants.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

pub mod content;
pub mod dns;
pub mod edges;
pub mod events;
pub mod function;
pub mod postgres;
pub mod redis;
pub mod settings;
pub mod socket;
pub mod statements;
pub mod stored;
pub mod upload;
pub mod usage;

use std::cell::Cell;
use std::future::Future;
use std::path::Path;

use af_content::DiskStore;
use af_contract::{ContentKey, Limits, limits};
use af_control_api::{
    ApiConfig, Clock, ControlApi, ControlConfig, DomainConfig, GraphqlConfig, MasterKey, StorageConfig,
};
use reqwest::{Client, Method, Response};
use serde_json::Value;
use tokio::net::TcpListener;

pub use self::stored::Stored;

pub const OWNER: &str = "af_live_owner_of_the_first_project";
pub const STRANGER: &str = "af_live_member_of_another_project";

/// Which database a story is told with.
#[derive(Clone, Copy, Debug)]
pub enum Engine {
    Sqlite,
    Postgres,
}

tokio::task_local! {
    static ENGINE: Cell<Engine>;
}

/// Tells a story with an engine.
pub async fn on(engine: Engine, story: impl Future<Output = ()>) {
    ENGINE.scope(Cell::new(engine), Box::pin(story)).await;
}

/// Makes two tests of each story.
#[macro_export]
macro_rules! on_both {
    ($($story:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $story() {
                $crate::support::on($crate::support::Engine::Sqlite, super::$story()).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $story() {
                $crate::support::on($crate::support::Engine::Postgres, super::$story()).await;
            })+
        }
    };
}

/// A control API on a free port.
pub struct Served {
    pub control: ControlApi,
    pub stored: Stored,
    url: String,
    dir: tempfile::TempDir,
}

impl Served {
    pub async fn start() -> Self {
        Self::with(DomainConfig::default()).await
    }

    pub async fn with(domains: DomainConfig) -> Self {
        Self::configured(domains, StorageConfig::default(), ApiConfig::default()).await
    }

    pub async fn storing(storage: StorageConfig) -> Self {
        Self::configured(DomainConfig::default(), storage, ApiConfig::default()).await
    }

    pub async fn asked_through(api: ApiConfig) -> Self {
        Self::configured(DomainConfig::default(), StorageConfig::default(), api).await
    }

    async fn configured(domains: DomainConfig, storage: StorageConfig, api: ApiConfig) -> Self {
        Self::changed(|config| {
            config.domains = domains;
            config.storage = storage;
            config.api = api;
        })
        .await
    }

    /// With a configuration that differs from the tests' own.
    pub async fn changed(change: impl FnOnce(&mut ControlConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let stored = Stored::new(dir.path()).await;
        let mut config = Box::new(config(dir.path(), &stored));
        change(&mut config);
        Box::pin(Self::first(config, stored, dir)).await
    }

    async fn first(config: Box<ControlConfig>, stored: Stored, dir: tempfile::TempDir) -> Self {
        let control = Box::pin(build(*config, dir.path())).await;
        control.bootstrap(Some(OWNER)).await.unwrap();
        stored.add_stranger().await;
        Self::serve(control, stored, dir).await
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where everything is.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Another program on the same data. What the one before had in memory is gone.
    pub async fn restart(self) -> Self {
        let key = self.dir.path().join("master.key").into();
        self.restart_with(key).await
    }

    /// As [`Self::restart`], with another master key.
    pub async fn restart_with(self, master_key: MasterKey) -> Self {
        let config = ControlConfig { master_key, ..config(self.dir.path(), &self.stored) };
        let control = Box::pin(build(config, self.dir.path())).await;
        Self::serve(control, self.stored, self.dir).await
    }

    pub async fn serve(control: ControlApi, stored: Stored, dir: tempfile::TempDir) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = control.clone();
        tokio::spawn(async move { serving.serve(listener, std::future::pending()).await });
        Self { control, stored, url, dir }
    }

    /// Another server of the same database and master key, with content of its own.
    pub async fn beside(&self) -> Self {
        self.beside_as(|_| {}).await
    }

    /// As [`Self::beside`], with a configuration that differs from the tests' own.
    pub async fn beside_as(&self, change: impl FnOnce(&mut ControlConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let stored = self.stored.shared();
        let master_key = self.dir.path().join("master.key").into();
        let mut config = ControlConfig { master_key, ..config(dir.path(), &stored) };
        change(&mut config);
        let control = Box::pin(build(config, dir.path())).await;
        Self::serve(control, stored, dir).await
    }

    /// On a database that has everything.
    pub async fn restored(stored: Stored, dir: tempfile::TempDir) -> Self {
        let control = Box::pin(build(config(dir.path(), &stored), dir.path())).await;
        Self::serve(control, stored, dir).await
    }

    /// Another server for the same data, which remembers nothing.
    pub async fn again(self, api: ApiConfig) -> Self {
        let config = ControlConfig { api, ..config(self.dir.path(), &self.stored) };
        let control = Box::pin(build(config, self.dir.path())).await;
        Self::serve(control, self.stored, self.dir).await
    }

    pub async fn upload(&self, path: &str, token: &str, body: Vec<u8>) -> (u16, Value) {
        self.upload_private(path, token, None, body).await
    }

    /// With the key that the body's content is encrypted with.
    pub async fn upload_private(
        &self,
        path: &str,
        token: &str,
        key: Option<&ContentKey>,
        body: Vec<u8>,
    ) -> (u16, Value) {
        let mut request = client().post(format!("{}{path}", self.url)).bearer_auth(token).body(body);
        if let Some(key) = key {
            request = request.header("af-content-key", key.to_hex());
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    /// A WebSocket to a path, in the protocol of GraphQL.
    pub async fn socket(&self, path: &str) -> socket::Socket {
        socket::Socket::open(self.url.strip_prefix("http://").unwrap(), path).await
    }

    /// A POST of a CAR, of which the first half is sent.
    pub async fn begin_upload(&self, path: &str, token: &str, body: &[u8]) -> upload::Upload {
        upload::Upload::begin(self.url.strip_prefix("http://").unwrap(), path, token, body).await
    }

    /// JSON, with the key of the content that it is about.
    pub async fn upload_json(
        &self,
        path: &str,
        token: &str,
        key: Option<&ContentKey>,
        body: Vec<u8>,
    ) -> (u16, Value) {
        let request = client().post(format!("{}{path}", self.url)).bearer_auth(token).body(body);
        let mut request = request.header("content-type", "application/json");
        if let Some(key) = key {
            request = request.header("af-content-key", key.to_hex());
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    /// With changes of a function's settings.
    pub async fn upload_with(
        &self,
        path: &str,
        token: &str,
        settings: &Value,
        body: Vec<u8>,
    ) -> (u16, Value) {
        use base64::Engine;
        let settings = base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(settings.to_string());
        let request = client().post(format!("{}{path}", self.url)).bearer_auth(token).body(body);
        let answer = request.header("af-settings", settings).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    /// With a content type.
    pub async fn upload_as(&self, path: &str, token: &str, kind: &str, body: Vec<u8>) -> (u16, Value) {
        let request = client().post(format!("{}{path}", self.url)).bearer_auth(token).body(body);
        let answer = request.header("content-type", kind).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    /// A POST of bytes with headers; the whole answer.
    pub async fn post(&self, path: &str, token: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Response {
        let mut request = client().post(format!("{}{path}", self.url)).bearer_auth(token).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }

    /// A POST of a text with headers, without a token; the whole answer.
    pub async fn post_form(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
        let mut request = client().post(format!("{}{path}", self.url)).body(body.to_owned());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }

    /// The bytes; none where the answer broke off.
    pub async fn download(&self, path: &str, token: &str) -> (u16, Option<Vec<u8>>) {
        let answer = client().get(format!("{}{path}", self.url)).bearer_auth(token).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.bytes().await.ok().map(Vec::from))
    }

    /// A POST with headers.
    pub async fn call_with(
        &self,
        path: &str,
        token: &str,
        headers: &[(&str, &str)],
        body: Value,
    ) -> (u16, Value) {
        let mut request = client().post(format!("{}{path}", self.url)).bearer_auth(token).json(&body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    pub async fn call(&self, method: &str, path: &str, token: Option<&str>, body: Value) -> (u16, Value) {
        let answer = self.answer(method, path, token, &[], body).await;
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    /// With a body as it is, of which it is said that it is JSON.
    pub async fn send(&self, method: &str, path: &str, token: &str, body: String) -> (u16, Value) {
        let method: Method = method.to_uppercase().parse().unwrap();
        let request = client().request(method, format!("{}{path}", self.url)).bearer_auth(token);
        let answer = request.header("content-type", "application/json").body(body).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    /// With headers; the whole answer.
    pub async fn answer(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        headers: &[(&str, &str)],
        body: Value,
    ) -> Response {
        let method: Method = method.to_uppercase().parse().unwrap();
        let mut request = client().request(method, format!("{}{path}", self.url)).json(&body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }
}

/// All defaults.
pub fn config(dir: &Path, stored: &Stored) -> ControlConfig {
    ControlConfig {
        database: stored.database.clone(),
        master_key: dir.join("master.key").into(),
        invoke_url: "http://{slug}.localhost:8080".into(),
        rate_limit: limits::REQUESTS_PER_SECOND,
        limits: Limits::default(),
        clock: Clock::System,
        storage: StorageConfig::default(),
        gateway: None,
        graphql: GraphqlConfig::default(),
        javascript: None,
        api: ApiConfig::default(),
        domains: DomainConfig::default(),
    }
}

async fn build(config: ControlConfig, dir: &Path) -> ControlApi {
    let blocks = DiskStore::open(dir.join("blocks")).unwrap();
    Box::pin(ControlApi::build(config, blocks)).await.unwrap()
}

pub fn client() -> Client {
    let _installed = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy().build().unwrap()
}
