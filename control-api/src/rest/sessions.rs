//! `/v1/tokens/session`: short-lived tokens; and what others who are shown a token may ask about it.

use std::sync::Arc;

use axum::extract::State as Shared;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problem::{Failure, Json, ProblemDocument};
use super::{auth, plain};
use crate::app::State;
use crate::domain::sessions::{self, Algorithm, Wanted};
use crate::domain::{Actor, Call, Error, signing_keys, tokens};

/// For so long others may keep the public keys, seconds: half the time that a new one is published before it signs.
const KEYS_KEPT: &str = "public, max-age=300";

/// What a short-lived token is to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct SessionInput {
    /// Nothing of other projects.
    project_id: Option<String>,
    /// Nothing of other functions.
    function_id: Option<String>,
    /// Nothing else: NOUN:VERB, separated by spaces, with the verbs read, write and *.
    scopes: Option<String>,
    /// `EdDSA`, which others check by `/.well-known/jwks.json`, when left out; or `HS256`, by the shared secret.
    #[schema(value_type = Option<String>)]
    algorithm: Option<Algorithm>,
    /// 60 to 900; 900 when left out.
    expires_in: Option<i64>,
}

/// A short-lived token.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Session {
    /// A JWT.
    token: String,
    /// `Bearer`
    token_type: &'static str,
    /// Milliseconds since 1970 UTC.
    expires_at: i64,
}

/// A token that somebody was shown.
#[derive(Deserialize, ToSchema)]
pub(super) struct Shown {
    /// The token.
    token: String,
}

/// What a token is good for (as RFC 7662 has it). Of one that is good for nothing, nothing more is said.
#[derive(Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Validity {
    /// Whether it works.
    valid: bool,
    /// As `valid`.
    active: bool,
    /// `usr_…`
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
    /// As `userId`.
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<String>,
    /// `tok_…`
    #[serde(skip_serializing_if = "Option::is_none")]
    token_id: Option<String>,
    /// Nothing of other projects.
    #[serde(skip_serializing_if = "Option::is_none")]
    project_id: Option<String>,
    /// Nothing of other functions.
    #[serde(skip_serializing_if = "Option::is_none")]
    function_id: Option<String>,
    /// Nothing else.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    /// Of a project's key: as what member it acts.
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    /// Milliseconds since 1970 UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
    /// Seconds since 1970 UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<i64>,
}

/// Public keys (RFC 7517).
#[derive(Serialize, ToSchema)]
pub(super) struct KeySet {
    /// Ed25519 keys (RFC 8037).
    keys: Vec<serde_json::Value>,
}

impl Validity {
    fn of(actor: Actor, expires_at: Option<i64>) -> Self {
        Self {
            valid: true,
            active: true,
            sub: Some(actor.user.clone()),
            user_id: Some(actor.user),
            token_id: Some(actor.token),
            project_id: actor.grant.project,
            function_id: actor.grant.function,
            scope: actor.grant.scopes.map(|scopes| scopes.to_string()),
            role: actor.grant.role.map(|role| role.as_str()),
            expires_at,
            exp: expires_at.map(|at| at / 1000),
        }
    }
}

/// Exchanges your token for one that works for minutes, and may no more.
#[utoipa::path(post, path = "/v1/tokens/session", operation_id = "session_create",
    tag = "tokens", request_body = SessionInput, responses(
    (status = 201, body = Session), (status = 400, body = ProblemDocument), (status = 401, body = ProblemDocument),
    (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn exchange(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Json(input): Json<SessionInput>,
) -> Result<(StatusCode, axum::Json<Session>), Failure> {
    let SessionInput { project_id: project, function_id: function, scopes, algorithm, expires_in } = input;
    let algorithm = algorithm.unwrap_or_default();
    let wanted = Wanted { about: None, project, function, scopes, algorithm, seconds: expires_in };
    let (token, expires_at) = sessions::issue_as(&state, &actor, &wanted).await?;
    Ok((StatusCode::CREATED, axum::Json(Session { token, token_type: "Bearer", expires_at })))
}

/// Whether a token works, and for what: for other services. Whoever has the token may ask.
#[utoipa::path(post, path = "/tokens/validate", operation_id = "token_validate", tag = "tokens", security(()),
    request_body(content((Shown = "application/json"), (Shown = "application/x-www-form-urlencoded"))),
    responses((status = 200, body = Validity), (status = 400, body = ProblemDocument)))]
pub(super) async fn validate(
    Shared(state): Shared<Arc<State>>,
    call: Call,
    headers: HeaderMap,
    body: Bytes,
) -> Result<axum::Json<Validity>, Failure> {
    answer(&state, call, &headers, &body).await
}

/// As `/tokens/validate`.
#[utoipa::path(post, path = "/api/validate", operation_id = "token_validate_at_api", tag = "tokens", security(()),
    request_body(content((Shown = "application/json"), (Shown = "application/x-www-form-urlencoded"))),
    responses((status = 200, body = Validity), (status = 400, body = ProblemDocument)))]
pub(super) async fn validate_at_api(
    Shared(state): Shared<Arc<State>>,
    call: Call,
    headers: HeaderMap,
    body: Bytes,
) -> Result<axum::Json<Validity>, Failure> {
    answer(&state, call, &headers, &body).await
}

/// The public keys that short-lived tokens of this platform are signed with.
#[utoipa::path(get, path = "/.well-known/jwks.json", operation_id = "signing_key_list",
    tag = "tokens", security(()), responses(
    (status = 200, body = KeySet)))]
pub(super) async fn jwks(Shared(state): Shared<Arc<State>>) -> Result<Response, Failure> {
    let keys = signing_keys::published(&state).await?;
    Ok(([(CACHE_CONTROL, KEYS_KEPT)], axum::Json(keys)).into_response())
}

async fn answer(
    state: &State,
    call: Call,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<axum::Json<Validity>, Failure> {
    let token = shown(headers, body).ok_or_else(|| {
        Error::invalid("invalid_request", "send the token as {\"token\": \"…\"}, or as token=… in a form")
    })?;
    match tokens::inspect(state, &token).await {
        Ok((actor, expires_at)) => Ok(axum::Json(Validity::of(actor, expires_at))),
        Err(Error::Unauthenticated) => {
            unknown(state, call, headers).await?;
            Ok(axum::Json(Validity::default()))
        }
        Err(error) => Err(error.into()),
    }
}

/// It was shown to whoever asks, by somebody else. A service that says who it is may ask as often as it may ask for anything.
async fn unknown(state: &State, call: Call, headers: &HeaderMap) -> Result<(), Error> {
    let address = call.address;
    let asks = auth::authenticate(state, headers, call).await?;
    match (asks, address) {
        (None, Some(address)) => state.rates.inspected(address).await,
        _ => Ok(()),
    }
}

fn shown(headers: &HeaderMap, body: &[u8]) -> Option<String> {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.starts_with("application/x-www-form-urlencoded") {
        let mut fields = url::form_urlencoded::parse(body);
        return fields.find(|(name, _)| name == "token").map(|(_, token)| token.into_owned());
    }
    plain::document::<Shown>(body).ok().map(|shown| shown.token)
}
