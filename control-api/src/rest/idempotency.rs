//! `Idempotency-Key`, for every request that changes something.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State as Shared};
use axum::http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use ring::digest::{Context, SHA256};
use tracing::error;

use super::problem::Failure;
use super::{JSON_BYTES, auth, call};
use crate::app::State;
use crate::domain::access::{Grant, Role};
use crate::domain::idempotency::{self, Answer, Begun, Working};
use crate::domain::idempotency_key::Key;
use crate::domain::{Actor, Call, Error, tokens};

/// Of requests.
pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Of answers that were given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Of `Accept`: an answer that goes on and on.
const EVENTS: &[u8] = b"text/event-stream";

/// The longest answer that is remembered, bytes. Those of changes have a few kilobytes.
const ANSWER_BYTES: usize = 4 << 20;

/// What came of a request whose status does not say it, as GraphQL's do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing was done, also where the status is a good one.
    Nothing,
    /// Something was done or may be, also where the status is a bad one.
    Something,
}

impl Effect {
    /// Says so of an answer, to whoever remembers it.
    pub(crate) fn mark(self, mut response: Response) -> Response {
        response.extensions_mut().insert(self);
        response
    }
}

/// Does what is asked once for each key. Whoever asks without a key, or without a good token, is passed on.
pub(super) async fn once(Shared(state): Shared<Arc<State>>, request: Request, next: Next) -> Response {
    let Some(key) = request.headers().get(IDEMPOTENCY_KEY).cloned() else { return next.run(request).await };
    if request.method().is_safe() {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let actor = match auth::token(&parts.headers) {
        Ok(token) => tokens::authenticate(&state, token).await.ok(),
        Err(_) => None,
    };
    let Some(actor) = actor else { return next.run(Request::from_parts(parts, body)).await };
    keyed(state, actor, &key, parts, body, next).await.unwrap_or_else(IntoResponse::into_response)
}

async fn keyed(
    state: Arc<State>,
    actor: Actor,
    key: &HeaderValue,
    mut parts: Parts,
    body: Body,
    next: Next,
) -> Result<Response, Failure> {
    let key = Key::parse(key.to_str().unwrap_or_default())
        .map_err(|bad| Error::invalid("invalid_idempotency_key", bad))?;
    if parts.headers.get_all(ACCEPT).iter().any(|kind| kind.as_bytes().starts_with(EVENTS)) {
        let detail =
            "an answer in events cannot be given again; ask for JSON, or leave the Idempotency-Key out";
        return Err(Error::invalid("invalid_idempotency_key", detail).into());
    }
    // Before anything is written for it.
    let mut call = parts.extensions.get::<Call>().cloned().unwrap_or_default();
    let actor = Actor { call: call.clone(), ..actor };
    state.rates.count(&actor).await?;
    call.is_counted = true;
    parts.extensions.insert(call);
    let (fingerprint, body) = fingerprint(&actor, &parts, body).await?;
    let working = match idempotency::begin(&state, &actor, key, &fingerprint).await? {
        Begun::First(working) => working,
        Begun::Done(answer) => return Ok(replay(answer)),
    };
    let request = Request::from_parts(parts, body);
    // A task of its own: a client that goes away must not take the answer with it, which it comes back for.
    let task = call::within(async move {
        let response = next.run(request).await;
        remember(&state, working, response).await
    });
    tokio::spawn(task).await.map_err(|error| Error::Internal(Box::new(error)).into())
}

/// Of all that decides what is done and who may: what a token has done is not told to a narrower one of it. The body of an
/// upload is not read for it: its address says which content it has to be, or its length is compared.
async fn fingerprint(actor: &Actor, parts: &Parts, body: Body) -> Result<(Vec<u8>, Body), Failure> {
    let mut hash = Context::new(&SHA256);
    let mut add = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    add(parts.method.as_str().as_bytes());
    add(parts.uri.to_string().as_bytes());
    let Grant { project, function, scopes, role } = &actor.grant;
    let scopes = scopes.as_ref().map(ToString::to_string);
    let role = role.map(Role::as_str);
    for part in [project.as_deref(), function.as_deref(), scopes.as_deref(), role, actor.about.as_deref()] {
        add(part.unwrap_or_default().as_bytes());
    }
    let ours = |name: &HeaderName| {
        let name = name.as_str();
        name.starts_with("af-")
            || [CONTENT_TYPE.as_str(), "x-project-id", "x-organization-id"].contains(&name)
    };
    for (name, value) in parts.headers.iter().filter(|(name, _)| ours(name)) {
        add(name.as_str().as_bytes());
        add(value.as_bytes());
    }
    let kind = parts.headers.get(CONTENT_TYPE).map_or(&b"application/json"[..], HeaderValue::as_bytes);
    let body = if kind.starts_with(b"application/json") {
        let bytes = to_bytes(body, JSON_BYTES).await.map_err(|_| {
            let detail = format!("a JSON body has at most {JSON_BYTES} bytes, and must come whole");
            Failure::Request(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request", detail)
        })?;
        add(&bytes);
        Body::from(bytes)
    } else {
        add(parts.headers.get(CONTENT_LENGTH).map_or(&[], HeaderValue::as_bytes));
        body
    };
    Ok((hash.finish().as_ref().to_vec(), body))
}

async fn remember(state: &State, working: Working, response: Response) -> Response {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).map(str::to_owned);
    // Not what goes on and on.
    let whole = kind.as_deref().is_none_or(|kind| kind.starts_with("application/"));
    let undone = match response.extensions().get::<Effect>() {
        Some(effect) => *effect == Effect::Nothing,
        None => !response.status().is_success(),
    };
    if undone || !whole {
        tell(idempotency::finish(state, working, None).await);
        return response;
    }
    let (parts, body) = response.into_parts();
    let Ok(body) = to_bytes(body, ANSWER_BYTES).await else {
        tell(idempotency::finish(state, working, None).await);
        let error = std::io::Error::other("an answer is longer than any that is remembered");
        return Failure::from(Error::Internal(Box::new(error))).into_response();
    };
    let answer = Answer { status: parts.status.as_u16(), content_type: kind, body: body.to_vec() };
    tell(idempotency::finish(state, working, Some(&answer)).await);
    Response::from_parts(parts, Body::from(body))
}

/// What was asked is done; that it cannot be told again does not undo it.
fn tell(finished: Result<(), Error>) {
    if let Err(error) = finished {
        let source = std::error::Error::source(&error);
        error!(%error, ?source, "the answer to a request with an Idempotency-Key is not remembered");
    }
}

fn replay(answer: Answer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, answer.body).into_response();
    let headers = response.headers_mut();
    headers.remove(CONTENT_TYPE);
    if let Some(kind) = answer.content_type.and_then(|kind| HeaderValue::try_from(kind).ok()) {
        headers.insert(CONTENT_TYPE, kind);
    }
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    response
}
