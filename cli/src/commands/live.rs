//! Waits until edges answer with what was deployed.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::Value;

use crate::client::{Api, Finding, text};

/// How long a new deployment may take to answer: compiling a JavaScript engine takes 15 s on 2 cores.
const READY: Duration = Duration::from_secs(120);

/// What is reachable at all takes a connection within this.
const CONNECT: Duration = Duration::from_secs(3);

/// For so long something else may answer at the edge's address before the control API is asked what edges report: while an edge
/// starts, a proxy before it answers with errors of its own.
const STRANGE: Duration = Duration::from_secs(2);

/// For so long the control API may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// The code of a deployment that is not live in time.
const NOT_READY: &str = "deployment_not_ready";

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
    Failed(Finding),
    /// It has not come to it yet, or goes on trying what fails: what it says.
    Another(String),
    /// Who answers is no edge.
    Stranger(String),
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
            Ok(response) => self.judge(url, &response.json().await.unwrap_or_default()),
            Err(error) => Said::Unreachable(format!("{url} cannot be reached: {}", error.without_url())),
        }
    }

    /// What an answer means.
    fn judge(&self, url: &str, state: &Value) -> Said {
        if self.is(state, self.place) {
            return Said::Live;
        }
        if let Some(failed) = state.get("failed").filter(|_| self.is(state, "failed")) {
            let said = format!("{} [{}]", text(failed, "detail"), text(failed, "code"));
            let may_pass = failed.get("mayPass").and_then(Value::as_bool);
            return if may_pass == Some(true) {
                Said::Another(said)
            } else {
                Said::Failed(Finding::new(text(failed, "code"), said))
            };
        }
        // Its own answer, or its problem document where it does not know the host yet.
        if ["live", "request_id"].iter().any(|field| state.get(field).is_some()) {
            return Said::Another(format!("{url} still answers with another deployment"));
        }
        Said::Stranger(format!("what answers at {url} is no edge"))
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
            Said::Failed(reason) => return Err(reason.into()),
            Said::Another(said) | Said::Stranger(said) | Said::Unreachable(said) => last = said,
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(Finding::new(NOT_READY, last).into())
}

/// As [`wait_until_live`], of a function's deployment, which the edges report on, too: where none can be reached from here, that
/// counts. Returns the deployment as it is then; an error names it.
pub async fn wait_until_active(
    api: &Api,
    url: &str,
    wanted: &Live<'_>,
    deployment: &Value,
) -> anyhow::Result<Value> {
    let id = text(deployment, "id");
    let unready = |error: anyhow::Error| {
        let code = error.downcast_ref::<Finding>().map_or(NOT_READY, Finding::code).to_owned();
        let detail = format!("deployment {id} is stored, but does not answer");
        error.context(Finding::new(&code, detail).with("deploymentId", id))
    };
    active(api, url, wanted, deployment).await.map_err(unready)
}

async fn active(api: &Api, url: &str, wanted: &Live<'_>, deployment: &Value) -> anyhow::Result<Value> {
    let url = format!("{url}/.well-known/af-deployment");
    let path = format!("/v1/deployments/{}", text(deployment, "id"));
    let http = edge_client(&url)?;
    let deadline = Instant::now() + READY;
    let mut last = String::from("it did not answer in time");
    // An edge that answers has mostly reported already, and does within a moment.
    let mut patience = 40;
    let mut strange = None::<Instant>;
    while Instant::now() < deadline {
        let said = wanted.ask(&http, &url).await;
        let (is_live, is_behind) = (matches!(said, Said::Live), matches!(said, Said::Another(_)));
        strange = matches!(said, Said::Stranger(_)).then(|| strange.unwrap_or_else(Instant::now));
        match said {
            Said::Failed(reason) => return Err(reason.into()),
            Said::Another(text) | Said::Stranger(text) | Said::Unreachable(text) => last = text,
            Said::Live => {}
        }
        let is_too_early = strange.is_some_and(|since| since.elapsed() < STRANGE);
        if !is_behind && !is_too_early {
            let now = match tokio::time::timeout(ANSWER, api.get(&path)).await {
                Ok(Ok(now)) => Some(now),
                Ok(Err(error)) if !error.may_pass() => return Err(error.into()),
                // It is live in any case, or this is asked again.
                Ok(Err(_)) | Err(_) => None,
            };
            match now.as_ref().map(|now| text(now, "status")) {
                Some("DEPLOYING") | None if is_live && patience > 0 => patience -= 1,
                // Only what does not pass: an edge that goes on trying leaves it at DEPLOYING.
                Some("FAILED") if !is_live => {
                    let reason = now.as_ref().map(|now| text(now, "statusReason")).unwrap_or_default();
                    return Err(Finding::new("deployment_failed", reason).into());
                }
                Some("ACTIVE") => return Ok(now.unwrap_or_default()),
                _ if is_live => return Ok(now.unwrap_or_else(|| deployment.clone())),
                _ => {}
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(Finding::new(NOT_READY, last).into())
}

/// A client that finds `*.localhost` on this machine, as browsers do (RFC 6761 section 6.3), whatever
/// the system's resolver thinks of such names.
fn edge_client(url: &str) -> anyhow::Result<reqwest::Client> {
    let url = url::Url::parse(url).context("the control API told a URL that is none")?;
    let mut client = reqwest::Client::builder().connect_timeout(CONNECT).timeout(READY);
    if let Some(host) = url.host_str().filter(|host| host.ends_with(".localhost")) {
        let port = url.port_or_known_default().unwrap_or(80);
        client = client.resolve(host, SocketAddr::from((Ipv4Addr::LOCALHOST, port))).no_proxy();
    }
    Ok(client.build()?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failure here is the test's failure")]

    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::Json;
    use axum::http::StatusCode;
    use axum::routing::get;
    use serde_json::json;

    use super::*;
    use crate::client::described;
    use crate::config::{Server, Session};

    /// A server that is a control API and, badly, an edge. `edge`: what that says.
    async fn wait(
        edge: (StatusCode, Value),
        statuses: Vec<(StatusCode, &'static str)>,
    ) -> anyhow::Result<Value> {
        let asked = Arc::new(AtomicUsize::new(0));
        let api = get(async move || {
            let number = asked.fetch_add(1, Ordering::Relaxed).min(statuses.len() - 1);
            let (status, said) = statuses.get(number).copied().unwrap();
            (status, Json(json!({ "status": said, "statusReason": "edge-1: no" })))
        });
        let router = axum::Router::new().route("/v1/deployments/dep_1", api);
        let router = router.route("/.well-known/af-deployment", get(async move || (edge.0, Json(edge.1))));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await });
        let server = Server { token: "t".into(), project_id: None };
        let api = Api::with(Session { api_url: url.clone(), server: Some(server) }).unwrap();
        let deployment = json!({ "id": "dep_1", "manifestCid": "bafy" });
        let ended = wait_until_active(&api, &url, &Live::manifest(&deployment), &deployment).await;
        serving.abort();
        ended
    }

    #[tokio::test]
    async fn what_edges_report_counts_where_something_else_answers_and_the_api_may_be_away_for_a_moment() {
        let strange = (StatusCode::BAD_GATEWAY, Value::Null);
        let statuses =
            vec![(StatusCode::BAD_GATEWAY, ""), (StatusCode::OK, "DEPLOYING"), (StatusCode::OK, "ACTIVE")];
        assert_eq!(text(&wait(strange.clone(), statuses).await.unwrap(), "status"), "ACTIVE");
        let failed = wait(strange, vec![(StatusCode::OK, "FAILED")]).await;
        let told = described(&failed.unwrap_err());
        assert_eq!(told["error"]["detail"], "deployment dep_1 is stored, but does not answer: edge-1: no");
        assert_eq!(
            (&told["error"]["code"], &told["error"]["deploymentId"]),
            (&json!("deployment_failed"), &json!("dep_1"))
        );
    }

    #[tokio::test]
    async fn only_what_does_not_pass_ends_the_wait() {
        let failed = |may_pass| json!({ "failed": { "manifest": "bafy", "code": "c", "detail": "d", "mayPass": may_pass } });
        let lasting = wait((StatusCode::OK, failed(false)), vec![(StatusCode::OK, "DEPLOYING")]).await;
        let told = described(&lasting.unwrap_err());
        assert_eq!((&told["error"]["code"], &told["error"]["deploymentId"]), (&json!("c"), &json!("dep_1")));
        let wanted = Live { place: "live", key: "manifest", cid: "bafy" };
        assert!(matches!(wanted.judge("u", &failed(true)), Said::Another(said) if said == "d [c]"));
    }
}
