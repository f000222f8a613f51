//! Many functions on one server: deployed through the control API, as a client would.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use af_content::car;
use af_content::unixfs;
use anyhow::{Context, ensure};
use bytes::Bytes;
use reqwest::header::HOST;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::load;
use crate::servers::{Server, host};

/// How long a deployment may take until it answers.
const LIVE: Duration = Duration::from_secs(60);

/// Uploads at the same time: as many as the control API takes.
const UPLOADS: usize = 4;

/// Deploys a component under `count` names: `f0`, `f1`, … With `distinct`, each is another component by
/// one custom section, so that none shares compiled code with another. Returns when the last one answers.
pub async fn deploy(server: &Server, component: &Path, count: usize, distinct: bool) -> anyhow::Result<()> {
    let api = Arc::new(Api::of(server.dir())?);
    let component = Bytes::from(std::fs::read(component)?);
    let mut deploying = JoinSet::new();
    for number in 0..count {
        if deploying.len() >= UPLOADS {
            deploying.join_next().await.context("nothing is deployed")???;
        }
        let file = if distinct { marked(&component, number) } else { component.clone() };
        let api = api.clone();
        deploying.spawn(async move { api.deploy(&format!("f{number}-bench"), &file).await });
    }
    while let Some(deployed) = deploying.join_next().await {
        deployed??;
    }
    // The edge learns of deployments a moment after the control plane has them.
    let last = load::get(&host(count.saturating_sub(1)), "/");
    while load::once(server.port, &last).await.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// The slug of a function that [`deploy`] made.
pub fn slug(number: usize) -> String {
    format!("f{number}-bench")
}

/// The component with a custom section behind it, which means nothing.
fn marked(component: &Bytes, number: usize) -> Bytes {
    let mark = format!("{number:08}");
    // Id 0, the length of what follows, the length of an empty name, and the mark.
    let section = [&[0, 9, 0][..], mark.as_bytes()].concat();
    Bytes::from([component.as_ref(), &section].concat())
}

/// The control API of a server, signed in.
pub struct Api {
    client: reqwest::Client,
    pub url: String,
    pub token: String,
    pub project: String,
}

impl Api {
    /// Signed in with the token that the server's first start has stored.
    pub fn of(config: &Path) -> anyhow::Result<Self> {
        let config: Value = serde_json::from_slice(&std::fs::read(config.join("af/config.json"))?)?;
        let servers = config.get("servers").and_then(Value::as_object).context("not signed in")?;
        let (url, server) = servers.iter().next().context("not signed in")?;
        let field = |name: &str| server.get(name).and_then(Value::as_str).map(str::to_owned);
        Ok(Self {
            client: reqwest::Client::builder().no_proxy().build()?,
            url: url.clone(),
            token: field("token").context("no token")?,
            project: field("projectId").context("no project")?,
        })
    }

    async fn deploy(&self, name: &str, file: &Bytes) -> anyhow::Result<()> {
        let id = self.create(name).await?;
        self.upload(&id, name, file).await?;
        Ok(())
    }

    /// Makes a function. Returns its id.
    pub async fn create(&self, name: &str) -> anyhow::Result<String> {
        let functions = format!("{}/v1/projects/{}/functions", self.url, self.project);
        let made = self.client.post(functions).bearer_auth(&self.token).json(&json!({ "name": name }));
        let made: Value = made.send().await?.json().await?;
        Ok(made.get("id").and_then(Value::as_str).with_context(|| made.to_string())?.to_owned())
    }

    /// Makes a component what a function runs. Returns the CID of the deployment's manifest.
    pub async fn upload(&self, id: &str, name: &str, file: &Bytes) -> anyhow::Result<String> {
        let mut blocks = Vec::new();
        let summary = unixfs::import(file.as_ref(), |block| {
            blocks.push(block);
            Ok(())
        })?;
        let mut body = car::encode_header(&[summary.root]);
        for block in blocks {
            body.extend(car::encode_block_prefix(&block.id, block.bytes.len()));
            body.extend_from_slice(&block.bytes);
        }
        let url = format!("{}/v1/functions/{id}/deployments", self.url);
        let query = [("cid", summary.root.to_string()), ("blake3", summary.blake3.to_string())];
        let deployed = self.client.post(url).query(&query).bearer_auth(&self.token).body(body).send().await?;
        ensure!(deployed.status().is_success(), "{name}: {}", deployed.text().await?);
        let deployment: Value = deployed.json().await?;
        let manifest = deployment.get("manifestCid").and_then(Value::as_str);
        Ok(manifest.with_context(|| deployment.to_string())?.to_owned())
    }

    /// Returns once it is this deployment that the server on `port` answers with.
    pub async fn live(&self, port: u16, slug: &str, manifest: &str) -> anyhow::Result<()> {
        let url = format!("http://127.0.0.1:{port}/.well-known/af-deployment");
        let started = Instant::now();
        loop {
            let asked = self.client.get(&url).header(HOST, format!("{slug}.localhost"));
            let state: Value = asked.send().await?.json().await.unwrap_or_default();
            if state.pointer("/live/manifest").and_then(Value::as_str) == Some(manifest) {
                return Ok(());
            }
            ensure!(started.elapsed() < LIVE, "{slug} does not answer with {manifest}: {state}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
