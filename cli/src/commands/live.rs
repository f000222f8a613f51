//! Waits until edges answer with what was deployed.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::client::{Api, text};

/// How long a new deployment may take to answer: compiling a JavaScript engine takes 15 s on 2 cores.
const READY: Duration = Duration::from_secs(120);

/// Between two questions whether it answers.
const PAUSE: Duration = Duration::from_millis(50);

/// What an edge says of itself when a deployment is live.
pub struct Live<'a> {
    /// Where it says so.
    place: &'static str,
    /// The field.
    key: &'static str,
    /// What it is then.
    cid: &'a str,
}

/// What an edge says now.
enum Said {
    Live,
    /// It cannot use the deployment, and why.
    Failed(String),
    /// It has not come to it yet.
    Another(String),
    /// Nothing: why not.
    Unreachable(String),
}

impl<'a> Live<'a> {
    /// Of a function's deployment.
    pub fn manifest(deployment: &'a Value) -> Self {
        Self { place: "live", key: "manifest", cid: text(deployment, "manifestCid") }
    }

    /// Of a deployment that some clients get.
    pub fn candidate(deployment: &'a Value) -> Self {
        Self { place: "candidate", ..Self::manifest(deployment) }
    }

    /// Of a site's.
    pub fn root(cid: &'a str) -> Self {
        Self { place: "live", key: "root", cid }
    }

    fn is(&self, state: &Value, key: &str) -> bool {
        state.get(key).is_some_and(|value| text(value, self.key) == self.cid)
    }

    async fn ask(&self, http: &reqwest::Client, url: &str) -> Said {
        match http.get(url).send().await {
            Ok(response) => {
                let state: Value = response.json().await.unwrap_or_default();
                if self.is(&state, self.place) {
                    return Said::Live;
                }
                match state.get("failed").filter(|_| self.is(&state, "failed")) {
                    Some(failed) => {
                        Said::Failed(format!("{} [{}]", text(failed, "detail"), text(failed, "code")))
                    }
                    None => Said::Another(format!("{url} still answers with another deployment")),
                }
            }
            Err(error) => Said::Unreachable(format!("{url} cannot be reached: {}", error.without_url())),
        }
    }
}

/// Asks the edge until this deployment answers at `url`, or says that it cannot.
pub async fn wait_until_live(url: &str, wanted: &Live<'_>) -> anyhow::Result<()> {
    let url = format!("{url}/.well-known/af-deployment");
    let http = edge_client(&url)?;
    let deadline = Instant::now() + READY;
    let mut last = String::from("it did not answer in time");
    while Instant::now() < deadline {
        match wanted.ask(&http, &url).await {
            Said::Live => return Ok(()),
            Said::Failed(reason) => bail!(reason),
            Said::Another(said) | Said::Unreachable(said) => last = said,
        }
        tokio::time::sleep(PAUSE).await;
    }
    bail!(last)
}

/// As [`wait_until_live`], of a function's deployment, which the edges report on, too: where none can be reached from here, that
/// counts. Returns the deployment as it is then.
pub async fn wait_until_active(
    api: &Api,
    url: &str,
    wanted: &Live<'_>,
    deployment: &Value,
) -> anyhow::Result<Value> {
    let url = format!("{url}/.well-known/af-deployment");
    let path = format!("/v1/deployments/{}", text(deployment, "id"));
    let http = edge_client(&url)?;
    let deadline = Instant::now() + READY;
    let mut last = String::from("it did not answer in time");
    // An edge that answers has mostly reported already, and does within a moment.
    let mut patience = 40;
    while Instant::now() < deadline {
        let said = wanted.ask(&http, &url).await;
        match &said {
            Said::Failed(reason) => bail!(reason.clone()),
            Said::Another(text) | Said::Unreachable(text) => last.clone_from(text),
            Said::Live => {}
        }
        if !matches!(said, Said::Another(_)) {
            let now = api.get(&path).await?;
            match text(&now, "status") {
                "DEPLOYING" if matches!(said, Said::Live) && patience > 0 => patience -= 1,
                "FAILED" if matches!(said, Said::Unreachable(_)) => {
                    bail!(text(&now, "statusReason").to_owned())
                }
                "ACTIVE" => return Ok(now),
                _ if matches!(said, Said::Live) => return Ok(now),
                _ => {}
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    bail!(last)
}

/// the system's resolver thinks of such names.
fn edge_client(url: &str) -> anyhow::Result<reqwest::Client> {
    let url = url::Url::parse(url).context("the control API told a URL that is none")?;
    let mut client = reqwest::Client::builder().timeout(READY);
    if let Some(host) = url.host_str().filter(|host| host.ends_with(".localhost")) {
        let port = url.port_or_known_default().unwrap_or(80);
        client = client.resolve(host, SocketAddr::from((Ipv4Addr::LOCALHOST, port))).no_proxy();
    }
    Ok(client.build()?)
}
