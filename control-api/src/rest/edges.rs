//! `/v1/edges`: edges, for the operator; and `/v1/edge/…`: what edges themselves ask. The latter is no part of the OpenAPI document:
//! it is the protocol of `af_contract::edge`.

use std::sync::Arc;

use af_content::gateway::Gateway;
use af_contract::ContentId;
use af_contract::edge::{FeedRequest, JoinAnswer, JoinRequest, LOGS_BYTES, USAGE_BYTES, UsageTaken};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, FromRequest, Request, State as Shared};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri};
use axum::routing::{any, get, post};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problem::{Failure, Json, Path, ProblemDocument, Query};
use super::{Cursor, List, auth, gateway};
use crate::app::State;
use crate::domain::edges::{Asked, Known};
use crate::domain::logs::shipped;
use crate::domain::{Actor, Call, Error, calls, edges, reports, usage};
use crate::store::EdgeRow;

const FEED: &str = "/v1/edge/feed";
const LOGS: &str = "/v1/edge/logs";
const REPORT: &str = "/v1/edge/report";
const USAGE: &str = "/v1/edge/usage";
const WORK: &str = "/v1/edge/work";

/// A batch of lines, and what is around them.
const LOGS_BODY: usize = LOGS_BYTES + (4 << 10);

/// A server that answers requests, and takes what it serves from here.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Edge {
    /// `edge_…`
    id: String,
    name: String,
    /// Ed25519, base64url; null: nobody has joined with its token yet.
    public_key: Option<String>,
    /// Milliseconds since 1970 UTC.
    created_at: i64,
    /// Milliseconds since 1970 UTC.
    joined_at: Option<i64>,
    /// When it asked last, to within ten seconds, milliseconds since 1970 UTC.
    seen_at: Option<i64>,
    /// It knew everything up to this revision then.
    revision: i64,
    /// Of the program that it runs, as it says itself; null: it has not asked yet.
    version: Option<String>,
}

/// A new edge.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EdgeInput {
    /// 1 to 64 letters, digits, dots, dashes and underscores.
    name: String,
}

/// An edge and the token that it joins with.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct NewEdge {
    #[serde(flatten)]
    edge: Edge,
    /// For `af edge --join`, once and within an hour. It is shown this once.
    join_token: String,
}

impl From<EdgeRow> for Edge {
    fn from(row: EdgeRow) -> Self {
        let key = row.public_key.and_then(|key| af_contract::edge::PublicKey::new(&key).ok());
        Self {
            id: row.id,
            name: row.name,
            public_key: key.map(|key| key.to_string()),
            created_at: row.created_at,
            joined_at: row.joined_at,
            seen_at: row.seen_at,
            revision: row.revision,
            version: row.version,
        }
    }
}

/// All edges, by name. For the operator: the user that the first start made.
#[utoipa::path(get, path = "/v1/edges", operation_id = "edge_list",
    tag = "edges", params(Cursor), responses((status = 200, body = List<Edge>),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn list(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Query(cursor): Query<Cursor>,
) -> Result<axum::Json<List<Edge>>, Failure> {
    let page = edges::list(&state, &actor, cursor.start()).await?;
    Ok(List::of(page, Edge::from))
}

/// Makes an edge and the token that it joins with. For the operator.
#[utoipa::path(post, path = "/v1/edges", operation_id = "edge_create",
    tag = "edges", request_body = EdgeInput, responses(
    (status = 201, body = NewEdge), (status = 400, body = ProblemDocument), (status = 401, body = ProblemDocument),
    (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument), (status = 409, body = ProblemDocument)))]
pub(super) async fn create(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Json(input): Json<EdgeInput>,
) -> Result<(StatusCode, axum::Json<NewEdge>), Failure> {
    let made = edges::create(&state, &actor, &input.name).await?;
    let join_token = made.token.to_string();
    Ok((StatusCode::CREATED, axum::Json(NewEdge { edge: made.row.into(), join_token })))
}

/// Removes an edge, which is told nothing more. For the operator.
#[utoipa::path(delete, path = "/v1/edges/{edge}", operation_id = "edge_delete",
    tag = "edges", params(("edge" = String, Path)), responses(
    (status = 204), (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument),
    (status = 404, body = ProblemDocument)))]
pub(super) async fn delete(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(edge): Path<String>,
) -> Result<StatusCode, Failure> {
    edges::delete(&state, &actor, &edge).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What edges ask: to join, for the feed, and for content.
pub(super) fn protocol(content: Gateway) -> Router<Arc<State>> {
    let content = any(move |Shared(state): Shared<Arc<State>>, request: Request| {
        let gateway = content.clone();
        async move { Box::pin(self::content(&state, &gateway, request)).await }
    });
    Router::new()
        .route("/v1/edge/join", post(join))
        .route(FEED, get(feed))
        .route(REPORT, post(report))
        .route(WORK, post(work))
        .route(LOGS, post(logs).layer(DefaultBodyLimit::max(LOGS_BODY)))
        .route(USAGE, post(take_usage).layer(DefaultBodyLimit::max(USAGE_BYTES)))
        .route("/v1/edge/ipfs/{*path}", content)
}

async fn join(
    Shared(state): Shared<Arc<State>>,
    call: Call,
    Json(request): Json<JoinRequest>,
) -> Result<axum::Json<JoinAnswer>, Failure> {
    let joined = edges::join(&state, call.clone(), &request).await;
    Ok(axum::Json(auth::counted(&state, &call, joined).await?))
}

/// The edge that has sent this proof. One that does not count is counted, as tokens are.
async fn known(
    state: &State,
    call: &Call,
    proof: &str,
    (method, uri): (&Method, &Uri),
) -> Result<Known, Error> {
    let target = uri.path_and_query().map_or_else(|| uri.path(), PathAndQuery::as_str);
    let asked = Asked { method: method.as_str(), target };
    auth::counted(state, call, edges::authenticate(state, proof, asked).await).await
}

/// The edge that has sent a request, its proof, and the body, which is read of nobody else.
async fn sent(state: &State, call: &Call, request: Request) -> Result<(Known, String, Bytes), Failure> {
    let proof = auth::token(request.headers())?.to_owned();
    let edge = known(state, call, &proof, (request.method(), request.uri())).await?;
    Ok((edge, proof, Bytes::from_request(request, state).await?))
}

async fn feed(
    Shared(state): Shared<Arc<State>>,
    call: Call,
    (method, uri, headers): (Method, Uri, HeaderMap),
    Query(wanted): Query<FeedRequest>,
) -> Result<Response<Body>, Failure> {
    let proof = auth::token(&headers)?;
    let edge = known(&state, &call, proof, (&method, &uri)).await?;
    Ok(sealed(Box::pin(edges::page(&state, &edge, proof, &wanted)).await?))
}

async fn report(
    Shared(state): Shared<Arc<State>>,
    call: Call,
    request: Request,
) -> Result<StatusCode, Failure> {
    let (edge, _proof, body) = sent(&state, &call, request).await?;
    let report = said(&state, &call, &edge, &body).await?;
    let taken = reports::take(&state, edge.reporter(), &report).await;
    taken.map_err(|error| if error.is_final() { refused("report_refused", &error) } else { error })?;
    Ok(StatusCode::NO_CONTENT)
}

async fn take_usage(
    Shared(state): Shared<Arc<State>>,
    call: Call,
    request: Request,
) -> Result<axum::Json<UsageTaken>, Failure> {
    let (edge, _proof, body) = sent(&state, &call, request).await?;
    let batch = said(&state, &call, &edge, &body).await?;
    let taken = Box::pin(usage::take(&state, edge.reporter(), &batch)).await;
    let taken = taken.map_err(|error| match error {
        Error::Store(_) if error.is_final() => refused("usage_refused", &error),
        error => error,
    })?;
    Ok(axum::Json(taken))
}

async fn logs(
    Shared(state): Shared<Arc<State>>,
    call: Call,
    request: Request,
) -> Result<StatusCode, Failure> {
    let (edge, _proof, body) = sent(&state, &call, request).await?;
    let batch = said(&state, &call, &edge, &body).await?;
    // A batch has an id: one that is sent again because its answer was lost is taken once.
    shipped::take(&state, edge.reporter(), batch).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn work(
    Shared(state): Shared<Arc<State>>,
    call: Call,
    request: Request,
) -> Result<Response<Body>, Failure> {
    let (edge, proof, body) = sent(&state, &call, request).await?;
    let wanted = said(&state, &call, &edge, &body).await?;
    Ok(sealed(Box::pin(calls::work(&state, &edge, &proof, &wanted)).await?))
}

/// The edge would send the same again, and nothing of what it says after.
fn refused(code: &'static str, error: &Error) -> Error {
    let detail = match error {
        // Internal text never leaves.
        Error::Store(_) => {
            "the database refuses a part of what was sent; the control plane's log says which".to_owned()
        }
        error => error.to_string(),
    };
    Error::conflict(code, detail)
}

/// The body that an edge has proven to have sent, now and not before.
async fn said<T: DeserializeOwned>(
    state: &State,
    call: &Call,
    edge: &Known,
    body: &[u8],
) -> Result<T, Error> {
    edge.check_body(body)?;
    auth::counted(state, call, edges::use_up(state, edge).await).await?;
    serde_json::from_slice(body).map_err(|error| Error::invalid("invalid_json", error.to_string()))
}

fn sealed(answer: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(answer.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response
}

/// All content that is here, or that this server's sources have, such as another server of the same database: an edge may have to
/// serve any of it. No cache between may keep it for somebody who is no edge.
async fn content(state: &State, gateway: &Gateway, request: Request) -> Result<Response<Body>, Failure> {
    let call = request.extensions().get::<Call>().cloned().unwrap_or_default();
    known(state, &call, auth::token(request.headers())?, (request.method(), request.uri())).await?;
    let path = request.uri().path();
    let path = path.strip_prefix("/v1/edge").ok_or_else(|| Error::not_found("path", path))?.to_owned();
    let root = path.split('/').nth(2).and_then(|root| ContentId::parse(root).ok());
    if let Some(root) = root {
        edges::fetch(state, root).await?;
    }
    let mut response = gateway::respond(gateway, &path, request).await?;
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
