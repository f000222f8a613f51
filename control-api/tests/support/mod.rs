//! A control API on a free port with two users, and a DNS server that says what a test wants.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

pub mod dns;

use std::path::Path;

use af_content::DiskStore;
use af_contract::{ContentKey, Limits, limits};
use af_control_api::{Clock, ControlApi, ControlConfig, DomainConfig, StorageConfig};
use reqwest::{Client, Method};
use serde_json::Value;
use tokio::net::TcpListener;

pub const OWNER: &str = "af_live_owner_of_the_first_project";
pub const STRANGER: &str = "af_live_member_of_another_project";

/// A control API on a free port.
pub struct Served {
    pub control: ControlApi,
    url: String,
    dir: tempfile::TempDir,
}

impl Served {
    pub async fn start() -> Self {
        Self::with(DomainConfig::default()).await
    }

    pub async fn with(domains: DomainConfig) -> Self {
        Self::configured(domains, StorageConfig::default()).await
    }

    pub async fn storing(storage: StorageConfig) -> Self {
        Self::configured(DomainConfig::default(), storage).await
    }

    async fn configured(domains: DomainConfig, storage: StorageConfig) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = ControlConfig {
            database: dir.path().join("af.sqlite"),
            master_key: dir.path().join("master.key"),
            invoke_url: "http://{slug}.localhost:8080".into(),
            rate_limit: limits::REQUESTS_PER_SECOND,
            limits: Limits::default(),
            clock: Clock::System,
            storage,
            gateway: None,
            domains,
        };
        let blocks = DiskStore::open(dir.path().join("blocks")).unwrap();
        let control = ControlApi::build(config, blocks).await.unwrap();
        control.bootstrap(Some(OWNER)).await.unwrap();
        add_stranger(&dir.path().join("af.sqlite")).await;
        Self::serve(control, dir).await
    }

    pub async fn serve(control: ControlApi, dir: tempfile::TempDir) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = control.clone();
        tokio::spawn(async move { serving.serve(listener, std::future::pending()).await });
        Self { control, url, dir }
    }

    /// What it has stored.
    pub async fn database(&self) -> sqlx::SqlitePool {
        let file = self.dir.path().join("af.sqlite");
        sqlx::SqlitePool::connect_with(sqlx::sqlite::SqliteConnectOptions::new().filename(file))
            .await
            .unwrap()
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

    /// With a content type.
    pub async fn upload_as(&self, path: &str, token: &str, kind: &str, body: Vec<u8>) -> (u16, Value) {
        let request = client().post(format!("{}{path}", self.url)).bearer_auth(token).body(body);
        let answer = request.header("content-type", kind).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    /// The bytes; none where the answer broke off.
    pub async fn download(&self, path: &str, token: &str) -> (u16, Option<Vec<u8>>) {
        let answer = client().get(format!("{}{path}", self.url)).bearer_auth(token).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.bytes().await.ok().map(Vec::from))
    }

    pub async fn call(&self, method: &str, path: &str, token: Option<&str>, body: Value) -> (u16, Value) {
        let client = client();
        let method: Method = method.to_uppercase().parse().unwrap();
        let mut request = client.request(method, format!("{}{path}", self.url)).json(&body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }
}

fn client() -> Client {
    let _installed = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy().build().unwrap()
}

/// A second user with a project of their own. There is no sign-up yet, so the test writes the rows.
async fn add_stranger(database: &Path) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(database);
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    let hash = ring::digest::digest(&ring::digest::SHA256, STRANGER.as_bytes());
    sqlx::query("insert into users values ('usr_2', 'stranger', 0)").execute(&pool).await.unwrap();
    sqlx::query("insert into projects values ('prj_2', 'other', 0, 0)").execute(&pool).await.unwrap();
    sqlx::query("insert into project_members values ('prj_2', 'usr_2')").execute(&pool).await.unwrap();
    sqlx::query("insert into tokens values ('tok_2', 'usr_2', 'their own', $1, 'af…', null, null, 0)")
        .bind(hash.as_ref().to_vec())
        .execute(&pool)
        .await
        .unwrap();
    pool.close().await;
}
