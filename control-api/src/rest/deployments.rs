//! `/v1/functions/{function}/deployments` and `/v1/deployments`

use std::sync::Arc;

use af_contract::{
    CapabilityError, ContentId, ContentKey, Cors, HostPattern, StoreName, Trigger, limits, trigger,
};
use axum::body::{Body, Bytes};
use axum::extract::State as Shared;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures::future::try_join_all;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use zeroize::Zeroizing;

use super::problem::{self, Failure, Json, Path, ProblemDocument, Query};
use super::storage::HeldContent;
use super::triggers::TriggerDocument;
use super::{Cursor, List, plain, rollouts, secrets, upload};
use crate::app::State;
use crate::domain::builds::{self, Shown};
use crate::domain::deployments::Wanted;
use crate::domain::rollouts::Share;
use crate::domain::settings::Changes;
use crate::domain::upload::{Claim, Origin};
use crate::domain::{Actor, Error, approvals, deployments, triggers};
use crate::store::{BuildRow, DeploymentRow};

/// One immutable version of a function.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Deployment {
    /// `dep_…`
    id: String,
    function_id: String,
    /// Counts up from 1 within the function; null: source code that is being built, or could not be.
    number: Option<i64>,
    /// CID of the manifest: the deployment's identity; null, as the next ones: there is none yet.
    manifest_cid: Option<String>,
    /// CID of the component; of a private one, of its encrypted bytes, as all that follows. Of source code that is no deployment yet: its own.
    cid: String,
    /// BLAKE3 of the component.
    blake3_hash: Option<String>,
    /// Of the component, bytes.
    size: Option<i64>,
    /// The HTTP world that the component exports.
    world: Option<String>,
    /// CID of the directory of files that it may read.
    assets_cid: Option<String>,
    /// Whether the component and its files are encrypted.
    private: bool,
    /// Where it answers whatever the function runs, while it is among the newest 10; null where the slug is too long.
    preview_url: Option<String>,
    /// When the function is called without a request, and where.
    triggers: Vec<TriggerDocument>,
    /// Where its code, files and manifest are held besides here.
    held: Vec<HeldContent>,
    /// Why it was made.
    message: Option<String>,
    /// What the component was built from, as whoever deployed it says: a commit, or a digest.
    source_hash: Option<String>,
    /// The interfaces that the component needs; null: from before this was written down.
    imports: Option<Vec<String>>,
    /// What it may reach; null: from before this was written down.
    capabilities: Option<Capabilities>,
    /// What it may do that the active one could not when it was made, such as `egress to api.example.com`.
    widens: Vec<String>,
    /// Null: it widens nothing. `AWAITING_APPROVAL`: it does not run, also at its preview host, until it is allowed. `APPROVED`: it is.
    approval: Option<&'static str>,
    /// `DEPLOYING`: it is to answer, and no edge has reported on it yet. `ACTIVE`: an edge answers by it, all clients or, while it is
    /// rolled out, some. `FAILED`: no edge can use it; those that had another one go on with that. `INACTIVE`: it is not to answer.
    status: String,
    /// Why an edge cannot use it, also while others can.
    status_reason: Option<String>,
    /// `usr_…`: who allowed it.
    approver_id: Option<String>,
    /// `usr_…`
    author_id: String,
    /// Who that is.
    author: String,
    /// Milliseconds since 1970 UTC.
    created_at: i64,
}

/// What a deployment may reach.
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(as = DeploymentCapabilities)]
pub(super) struct Capabilities {
    /// Hosts that it may send requests to; null: any of the public internet.
    egress: Option<Vec<String>>,
    /// Key-value stores of the project that it may open besides the default one.
    stores: Vec<String>,
}

/// What the body is claimed to be; both are recomputed.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ClaimInput {
    /// CIDv1 of the component: the first root of the CAR.
    cid: String,
    /// BLAKE3 of the component, 64 hex digits. Left out: not checked, which only `fetch` allows.
    blake3: Option<String>,
    /// `true`: there is no body; the server fetches the content from its sources.
    #[serde(default)]
    fetch: bool,
    /// CIDv1 of a directory of files that the function may read: the second root of the CAR. Left out: none.
    assets: Option<String>,
    /// Requests that one instance may answer, one after another: 1 to 10,000. Left out, the world's
    /// default: 1 for WASI 0.2, 128 for WASI 0.3.
    #[param(minimum = 1, maximum = 10_000)]
    reuse: Option<u32>,
    /// Requests that one instance may work for at the same time while it waits, WASI 0.3 only: 1 to 64.
    /// Left out: 16.
    #[param(minimum = 1, maximum = 64)]
    concurrency: Option<u32>,
    /// Hosts that the function may send requests to, with commas between them, such as
    /// `api.example.com,*.example.org`. Left out: any of the public internet. Empty: none.
    egress: Option<String>,
    /// Key-value stores of the project that the function may open besides the default one, with commas
    /// between them.
    stores: Option<String>,
    /// `true`: it answers at its preview host only, and the function goes on with what it runs.
    #[serde(default)]
    preview: bool,
    /// How many of a hundred clients get it, while the others go on with what the function runs: 0 to 100. Left out: all.
    #[param(maximum = 100)]
    percent: Option<u8>,
    /// With `percent`: by what clients are known, `address`, `header:NAME` or `cookie:NAME`. Left out: `address`.
    sticky: Option<String>,
    /// With `percent`: of a hundred requests to it, so many more than to the active deployment may fail; 0 to 100. Left out: 10.
    #[serde(rename = "maxErrors")]
    #[param(maximum = 100)]
    max_errors: Option<u8>,
    /// With `percent`: requests to it before it is judged. Left out: 20.
    #[serde(rename = "minRequests")]
    min_requests: Option<u32>,
    /// `true`: whoever deploys allows what the deployment may do beyond the active one, which needs `approvals:write`. Otherwise such a
    /// deployment is stored and waits for an approval, except the first one of whoever may approve.
    allow: Option<bool>,
    /// Which web pages of other origins may call the function, as JSON: `{"origins": ["https://app.example.com"],
    /// "methods": [], "headers": [], "exposedHeaders": [], "credentials": false, "maxAge": 600}`. Only `origins` is
    /// needed. Left out: the function answers for itself.
    cors: Option<String>,
    /// Compress responses for clients that accept it. Left out: no.
    compress: Option<bool>,
    /// Requests to the function per second. Left out: as many as the server can answer.
    #[serde(rename = "requestsPerSecond")]
    requests_per_second: Option<u32>,
    /// Why it is made: 1 to 500 characters, shown in lists.
    message: Option<String>,
    /// What the component was built from, such as a commit or `sha256:` and a digest.
    #[serde(rename = "sourceHash")]
    source_hash: Option<String>,
    /// When the function is called without a request, and where: a JSON array of at most 16 objects such as
    /// `{"cron": "*/5 * * * *", "path": "/tick"}`. Left out: never.
    triggers: Option<String>,
}

/// Changes of the function's settings: a JSON object of names and values, null for one that goes, in
/// base64url without padding. A header, so that values are in no URL and no log.
const SETTINGS: &str = "af-settings";

/// What a private component and its files are encrypted with, 64 hex digits. A header for the same reason.
const CONTENT_KEY: &str = "af-content-key";

/// Where to go back to.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RollbackInput {
    /// `dep_…`; left out: the one before the current.
    deployment: Option<String>,
}

impl Deployment {
    async fn of_either(state: &State, either: Shown) -> Result<Self, Failure> {
        match either {
            Shown::Deployment(row) => Self::of(state, *row).await,
            Shown::Build(row, author) => Ok(Self::of_build(row, author)),
        }
    }

    /// Source code that is no deployment, or none yet.
    fn of_build(row: BuildRow, author: String) -> Self {
        Self {
            id: row.id,
            function_id: row.function_id,
            number: None,
            manifest_cid: None,
            cid: row.source_cid,
            blake3_hash: None,
            size: None,
            world: None,
            assets_cid: row.assets_cid,
            private: false,
            preview_url: None,
            triggers: Vec::new(),
            held: Vec::new(),
            message: None,
            source_hash: None,
            imports: None,
            capabilities: None,
            widens: Vec::new(),
            approval: None,
            status: row.status,
            status_reason: row.reason,
            approver_id: None,
            author_id: row.author_id,
            author,
            created_at: row.created_at,
        }
    }

    pub(super) async fn of(state: &State, row: DeploymentRow) -> Result<Self, Failure> {
        let triggers = triggers::parse(row.triggers.as_deref())?;
        let widens = approvals::widens(&row)?;
        let waiting = if row.is_waiting() { "AWAITING_APPROVAL" } else { "APPROVED" };
        let approval = row.widens.is_some().then_some(waiting);
        let roots = std::iter::once(row.code_cid.as_str()).chain(row.assets_cid.as_deref());
        let roots = roots.chain(std::iter::once(row.manifest_cid.as_str()));
        Ok(Self {
            held: HeldContent::of(state, roots).await?,
            preview_url: state.preview_url(&row.slug, &row.id),
            id: row.id,
            function_id: row.function_id,
            number: Some(row.number),
            manifest_cid: Some(row.manifest_cid),
            cid: row.code_cid,
            blake3_hash: Some(row.blake3),
            size: Some(row.size),
            world: Some(row.world),
            assets_cid: row.assets_cid,
            private: row.private,
            triggers: triggers.into_iter().map(TriggerDocument::from).collect(),
            message: row.message,
            source_hash: row.source_hash,
            imports: row.imports.as_deref().map(stored).transpose()?,
            capabilities: row.capabilities.as_deref().map(stored).transpose()?,
            author: row.author,
            widens,
            approval,
            status: row.status,
            status_reason: row.status_reason,
            approver_id: row.approver_id,
            author_id: row.author_id,
            created_at: row.created_at,
        })
    }
}

/// A function's deployments, newest first, with source code that is being built or could not be.
#[utoipa::path(get, path = "/v1/functions/{function}/deployments", operation_id = "deployment_list",
    tag = "deployments",
    params(("function" = String, Path), Cursor), responses((status = 200, body = List<Deployment>),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn list(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(function): Path<String>,
    Query(cursor): Query<Cursor>,
) -> Result<axum::Json<List<Deployment>>, Failure> {
    let page = builds::shown(&state, &actor, &function, cursor.start()).await?;
    let shaped = page.items.into_iter().map(|row| Deployment::of_either(&state, row));
    Ok(axum::Json(List { data: try_join_all(shaped).await?, next: page.next }))
}

/// Deploys a component, sent as a CAR (version 1) with the UnixFS blocks of it and of its assets, or fetched by the server.
#[utoipa::path(post, path = "/v1/functions/{function}/deployments", operation_id = "deployment_create",
    tag = "deployments",
    params(("function" = String, Path), ClaimInput, ("af-settings" = Option<String>, Header,
        description = "Changes of the function's settings: a JSON object of names and values, null for one that goes, in base64url"),
        ("af-content-key" = Option<String>, Header,
        description = "The key that the component and its files are encrypted with (ARCHITECTURE.md, \"Private content\"), 64 hex digits; left out: they are not")),
    request_body(content = Vec<u8>, content_type = "application/vnd.ipld.car"), responses(
    (status = 201, body = Deployment), (status = 400, body = ProblemDocument),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument),
    (status = 409, body = ProblemDocument), (status = 413, body = ProblemDocument), (status = 422, body = ProblemDocument),
    (status = 503, body = ProblemDocument)))]
pub(super) async fn create(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(function): Path<String>,
    Query(input): Query<ClaimInput>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, axum::Json<Deployment>), Failure> {
    let (claim, wanted) = match parse(&input, &headers) {
        Ok(parsed) => parsed,
        Err(error) => return Err(upload::refuse(body, error).await),
    };
    let (working, fetch) = (state.clone(), input.fetch);
    let deployment = upload::receive(body, move |chunks| async move {
        let origin = if fetch { Origin::Sources } else { Origin::Client(chunks) };
        Box::pin(deployments::create(&working, &actor, &function, claim, wanted, origin)).await
    });
    let deployment = deployment.await?;
    Ok((StatusCode::CREATED, axum::Json(Deployment::of(&state, deployment).await?)))
}

/// Makes an older deployment the current one; as quick and as atomic as a deploy.
#[utoipa::path(post, path = "/v1/functions/{function}/rollback", operation_id = "function_rollback",
    tag = "deployments",
    params(("function" = String, Path)), request_body = RollbackInput, responses(
    (status = 200, body = Deployment), (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument),
    (status = 404, body = ProblemDocument), (status = 409, body = ProblemDocument)))]
pub(super) async fn rollback(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(function): Path<String>,
    Json(input): Json<RollbackInput>,
) -> Result<axum::Json<Deployment>, Failure> {
    let deployment = deployments::rollback(&state, &actor, &function, input.deployment.as_deref()).await?;
    Ok(axum::Json(Deployment::of(&state, deployment).await?))
}

/// One deployment.
#[utoipa::path(get, path = "/v1/deployments/{deployment}", operation_id = "deployment_get", tag = "deployments",
    params(("deployment" = String, Path)), responses((status = 200, body = Deployment),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn get(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<axum::Json<Deployment>, Failure> {
    let deployment = builds::get_shown(&state, &actor, &id).await?;
    Ok(axum::Json(Deployment::of_either(&state, deployment).await?))
}

/// What is allowed.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AllowInput {
    /// What you were shown that it may do beyond the active one, such as `egress to api.example.com`; left out: `widens` of the deployment.
    /// What it may do besides by now is refused (`capabilities_changed`), and named.
    #[serde(default)]
    allows: Option<Vec<String>>,
}

/// Allows a deployment what it may do beyond the active one. It becomes active, unless it was made as a preview or a candidate,
/// or a later one is active.
#[utoipa::path(post, path = "/v1/deployments/{deployment}/approve", operation_id = "deployment_approve", tag = "deployments",
    params(("deployment" = String, Path)), request_body = AllowInput, responses((status = 200, body = Deployment),
    (status = 400, body = ProblemDocument), (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument),
    (status = 404, body = ProblemDocument), (status = 409, body = ProblemDocument)))]
pub(super) async fn approve(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(id): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<axum::Json<Deployment>, Failure> {
    let body = body?;
    // There was no body before there was something to say.
    let input: AllowInput = if body.is_empty() { AllowInput::default() } else { problem::object(&body)? };
    let deployment = approvals::approve(&state, &actor, &id, input.allows.as_deref()).await?;
    Ok(axum::Json(Deployment::of(&state, deployment).await?))
}

fn parse(input: &ClaimInput, headers: &HeaderMap) -> Result<(Claim, Wanted), Error> {
    let blake3 = |text: &str| text.parse().map_err(|error| Error::invalid("invalid_blake3", error));
    let content_id =
        |text: &str| ContentId::parse(text).map_err(|error| Error::invalid("invalid_cid", error));
    let claim = Claim {
        cid: content_id(&input.cid)?,
        assets: input.assets.as_deref().map(content_id).transpose()?,
        blake3: input.blake3.as_deref().map(blake3).transpose()?,
        key: content_key(headers)?,
    };
    if claim.blake3.is_none() && !input.fetch {
        let detail = "say with blake3 which BLAKE3 the component has";
        return Err(Error::invalid("invalid_blake3", detail));
    }
    if let Some(reuse) = input.reuse.filter(|reuse| !(1..=limits::REUSE).contains(reuse)) {
        let detail = format!("an instance can be reused for 1 to {} requests, not {reuse}", limits::REUSE);
        return Err(Error::invalid("invalid_reuse", detail));
    }
    if let Some(many) = input.concurrency.filter(|many| !(1..=limits::CONCURRENCY).contains(many)) {
        let most = limits::CONCURRENCY;
        let detail = format!("an instance can work for 1 to {most} requests at once, not {many}");
        return Err(Error::invalid("invalid_concurrency", detail));
    }
    if let Some(rate) =
        input.requests_per_second.filter(|rate| !(1..=limits::REQUESTS_PER_SECOND.get()).contains(rate))
    {
        let most = limits::REQUESTS_PER_SECOND;
        let detail = format!("a function can be limited to 1 to {most} requests per second, not {rate}");
        return Err(Error::invalid("invalid_rate_limit", detail));
    }
    let cors = input.cors.as_deref().map(plain::document::<Cors>).transpose();
    let egress = input.egress.as_deref().map(|text| names("egress", text, HostPattern::parse));
    let stores = input.stores.as_deref().map(|text| names("stores", text, StoreName::parse));
    let wanted = Wanted {
        reuse: input.reuse,
        concurrency: input.concurrency,
        egress: egress.transpose()?,
        stores: stores.transpose()?.unwrap_or_default(),
        cors: cors.map_err(|error| Error::invalid("invalid_cors", error))?,
        compress: input.compress.unwrap_or_default(),
        requests_per_second: input.requests_per_second,
        triggers: input.triggers.as_deref().map(self::triggers).transpose()?.unwrap_or_default(),
        settings: settings(headers)?,
        preview: input.preview,
        rollout: rollout(input)?,
        allow: input.allow.unwrap_or_default(),
        id: None,
        message: input.message.clone(),
        source_hash: input.source_hash.clone(),
    };
    Ok((claim, wanted))
}

fn rollout(input: &ClaimInput) -> Result<Option<Share>, Error> {
    let Some(percent) = input.percent else {
        return match (&input.sticky, input.max_errors, input.min_requests) {
            (None, None, None) => Ok(None),
            _ => Err(Error::invalid("invalid_percent", "say with percent how many clients get it")),
        };
    };
    if input.preview {
        let detail = "a preview answers at its own host only; leave preview out, or percent";
        return Err(Error::invalid("invalid_percent", detail));
    }
    let sticky = rollouts::sticky(input.sticky.as_deref())?;
    let (max_errors, min_requests) = (input.max_errors, input.min_requests);
    Ok(Some(Share { percent, sticky, max_errors, min_requests, again: false }))
}

fn names<T>(
    what: &str,
    text: &str,
    parse: impl Fn(&str) -> Result<T, CapabilityError>,
) -> Result<Vec<T>, Error> {
    let names: Result<Vec<T>, _> = text.split(',').filter(|name| !name.is_empty()).map(parse).collect();
    let names = names.map_err(|error| Error::invalid("invalid_capability", error))?;
    if names.len() > limits::CAPABILITIES {
        let detail = format!("{what} has {} names; {} are the most", names.len(), limits::CAPABILITIES);
        return Err(Error::invalid("invalid_capability", detail));
    }
    Ok(names)
}

fn triggers(text: &str) -> Result<Vec<Trigger>, Error> {
    let invalid = |error: &dyn std::fmt::Display| Error::invalid("invalid_triggers", error.to_string());
    let triggers: Vec<Trigger> = plain::document(text).map_err(|error| invalid(&error))?;
    trigger::check(&triggers).map_err(|error| invalid(&error))?;
    Ok(triggers)
}

pub(super) fn content_key(headers: &HeaderMap) -> Result<Option<ContentKey>, Error> {
    let Some(header) = headers.get(CONTENT_KEY) else { return Ok(None) };
    let key = header.to_str().ok().and_then(|text| text.parse().ok());
    let wrong = || {
        Error::invalid("invalid_content_key", format!("the header {CONTENT_KEY} is no key of 64 hex digits"))
    };
    key.map(Some).ok_or_else(wrong)
}

fn settings(headers: &HeaderMap) -> Result<Changes, Error> {
    let Some(header) = headers.get(SETTINGS) else { return Ok(Changes::new()) };
    let decoded = BASE64_URL_SAFE_NO_PAD.decode(header.as_bytes());
    let invalid = |error: &dyn std::fmt::Display| {
        Error::invalid("invalid_settings", format!("the header {SETTINGS} is not what it should be: {error}"))
    };
    let decoded = Zeroizing::new(decoded.map_err(|error| invalid(&error))?);
    // What is no JSON is told by its place, not by its text.
    secrets::changes(plain::document(&*decoded).map_err(|error| invalid(&error))?)
}

/// What was written as JSON.
fn stored<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|error| Error::Internal(Box::new(error)))
}
