//! Who asks, from the `Authorization` header.

use std::sync::Arc;

use axum::extract::{FromRequestParts, OptionalFromRequestParts, State as Shared};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use serde::Serialize;
use utoipa::ToSchema;

use super::operations;
use super::problem::{Failure, ProblemDocument};
use crate::app::State;
use crate::domain::sessions::Session;
use crate::domain::{Actor, Call, Error, tokens};

/// Whoever shows a token or a session: `Bearer <token>`, or the bare token as older clients send it. Nobody, where there is no
/// header; a bad token is refused also where none is needed.
///
/// # Errors
/// When it is none of ours, expired, or used too often.
pub(crate) async fn authenticate(
    state: &State,
    headers: &HeaderMap,
    call: Call,
) -> Result<Option<Session>, Error> {
    if !headers.contains_key(AUTHORIZATION) {
        return Ok(None);
    }
    let actor = counted(state, &call, tokens::authenticate(state, token(headers)?).await).await?;
    // Each operation of a connection that goes on is one more.
    let (is_counted, call) = (call.is_counted, Call { counted: Default::default(), ..call });
    let actor = Actor { call, ..actor };
    if !is_counted {
        state.rates.count(&actor).await?;
    }
    Ok(Some(actor.into()))
}

/// Counts what is no token against the address that it came from.
///
/// # Errors
/// As before, or when there were too many.
pub(super) async fn counted<T>(state: &State, call: &Call, known: Result<T, Error>) -> Result<T, Error> {
    if let (Err(Error::Unauthenticated), Some(address)) = (&known, call.address) {
        state.rates.failed(address).await?;
    }
    known
}

/// `Bearer <token>`, or the bare token as older clients send it.
pub(super) fn token(headers: &HeaderMap) -> Result<&str, Error> {
    let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let header = header.ok_or(Error::Unauthenticated)?.trim();
    match header.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim()),
        Some(_) => Err(Error::Unauthenticated),
        None => Ok(header),
    }
}

fn call(parts: &Parts) -> Call {
    parts.extensions.get::<Call>().cloned().unwrap_or_default()
}

impl FromRequestParts<Arc<State>> for Session {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self, Failure> {
        let session = authenticate(state, &parts.headers, call(parts)).await?;
        let session = session.ok_or(Error::Unauthenticated)?;
        operations::known(&parts.extensions)?;
        Ok(session)
    }
}

impl FromRequestParts<Arc<State>> for Actor {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self, Failure> {
        Ok(<Session as FromRequestParts<Arc<State>>>::from_request_parts(parts, state).await?.actor)
    }
}

impl OptionalFromRequestParts<Arc<State>> for Actor {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Option<Self>, Failure> {
        Ok(authenticate(state, &parts.headers, call(parts)).await?.map(|session| session.actor))
    }
}

/// Who the token speaks for.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Me {
    /// `usr_…`
    id: String,
    name: String,
    /// The token that was shown (`tok_…`).
    token_id: String,
}

/// Who the token speaks for.
#[utoipa::path(get, path = "/v1/me", operation_id = "user_get", tag = "tokens", responses(
    (status = 200, body = Me), (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument)))]
pub(super) async fn me(Shared(state): Shared<Arc<State>>, actor: Actor) -> Result<axum::Json<Me>, Failure> {
    let user = tokens::owner(&state, &actor).await?;
    Ok(axum::Json(Me { id: user.id, name: user.name, token_id: actor.token }))
}
