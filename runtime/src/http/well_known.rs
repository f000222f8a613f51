//! `/.well-known/af-deployment` at every function and site: what answers here, told by the edge without
//! running any of it. Asking also makes the edge prepare the code, so an answer of 200 means that
//! the function is ready.

use ::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use ::http::{HeaderValue, Response, StatusCode};
use af_contract::{ContentId, RolloutState};
use serde_json::{Value, json};

use super::RequestError;
use super::body::ResponseBody;
use crate::reports::Reports;
use crate::router::Entry;

/// The path, reserved at every host.
pub const DEPLOYMENT_PATH: &str = "/.well-known/af-deployment";

/// `{"live": {…} | null, "candidate": {"manifest", "deployment", "percent"} | null, "pending": manifest | null, "failed": {"manifest", "code", "detail", "mayPass"} | null}`
pub async fn deployment(route: &Entry, reports: &Reports) -> Response<ResponseBody> {
    let mut failed = route.failure();
    let live = match route.deployment().await {
        Ok(deployment) => match deployment.artifact().await {
            Ok(_) => {
                if deployment.is_first_use() {
                    reports.ready(deployment.id());
                }
                Some(deployment)
            }
            Err(error) => {
                failed = Some((*deployment.manifest_id(), error));
                None
            }
        },
        Err(RequestError::Artifact(error)) => {
            failed = route.manifest().map(|manifest| (manifest, error));
            None
        }
        // Switched off, or nothing deployed.
        Err(_) => None,
    };
    let mut candidate = None;
    if let Some(rollout) = route.rollout() {
        let was_ready = rollout.is_ready();
        match rollout.prepare().await {
            Ok(()) => {
                if !was_ready && rollout.is_ready() {
                    reports.ready(&rollout.state().candidate.id);
                }
                candidate = Some(told_of(rollout.state()));
            }
            Err(error) => failed = Some((rollout.manifest(), error)),
        }
    }
    let live = live.map(|deployment| {
        json!({
            "manifest": deployment.manifest_id(),
            "deployment": deployment.id(),
            "code": deployment.manifest().code,
            "assets": deployment.manifest().assets,
            "private": deployment.manifest().private.is_some(),
        })
    });
    let failed = failed.map(|(manifest, error)| {
        json!({ "manifest": manifest, "code": error.code(), "detail": error.to_string(), "mayPass": error.may_pass() })
    });
    let status = if live.is_some() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    told(
        status,
        &json!({ "live": live, "candidate": candidate, "pending": route.pending(), "failed": failed }),
    )
}

/// A candidate that is ready.
fn told_of(rollout: &RolloutState) -> Value {
    json!({ "manifest": rollout.candidate.manifest, "deployment": rollout.candidate.id, "percent": rollout.percent })
}

/// `{"live": {"root": CID}}`, of a site.
pub fn site(root: ContentId) -> Response<ResponseBody> {
    told(StatusCode::OK, &json!({ "live": { "root": root } }))
}

fn told(status: StatusCode, body: &Value) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::full(body.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
