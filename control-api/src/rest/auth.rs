//! Who asks, from the `Authorization` header.

use std::sync::Arc;

use axum::extract::{FromRequestParts, OptionalFromRequestParts, State as Shared};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::{Failure, ProblemDocument};
use crate::app::State;
use crate::domain::{Actor, Call, Error, tokens};

/// Nobody, where there is no header; a bad token is refused also where none is needed.
impl OptionalFromRequestParts<Arc<State>> for Actor {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Option<Self>, Failure> {
        if !parts.headers.contains_key(AUTHORIZATION) {
            return Ok(None);
        }
        <Self as FromRequestParts<Arc<State>>>::from_request_parts(parts, state).await.map(Some)
    }
}

impl FromRequestParts<Arc<State>> for Actor {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self, Failure> {
        let call = parts.extensions.get::<Call>().cloned().unwrap_or_default();
        let actor = match tokens::authenticate(state, token(parts)?).await {
            Err(Error::Unauthenticated) => {
                call.address.map_or(Ok(()), |address| state.rates.failed(address))?;
                return Err(Error::Unauthenticated.into());
            }
            other => other?,
        };
        state.rates.count(&actor)?;
        Ok(Self { call, ..actor })
    }
}

/// `Bearer <token>`, or the bare token as older clients send it.
pub(super) fn token(parts: &Parts) -> Result<&str, Error> {
    let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let header = header.ok_or(Error::Unauthenticated)?.trim();
    match header.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim()),
        Some(_) => Err(Error::Unauthenticated),
        None => Ok(header),
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
#[utoipa::path(get, path = "/v1/me", tag = "tokens", responses(
    (status = 200, body = Me), (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument)))]
pub(super) async fn me(Shared(state): Shared<Arc<State>>, actor: Actor) -> Result<axum::Json<Me>, Failure> {
    let user = tokens::owner(&state, &actor).await?;
    Ok(axum::Json(Me { id: user.id, name: user.name, token_id: actor.token }))
}
