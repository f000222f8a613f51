//! `/v1/tokens`

use std::sync::Arc;

use axum::extract::State as Shared;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problem::{Failure, Json, Path, ProblemDocument, Query};
use super::{Cursor, List};
use crate::app::State;
use crate::domain::{Actor, tokens};
use crate::store::TokenRow;

/// A personal access token, without its secret.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Token {
    /// `tok_…`
    id: String,
    name: String,
    /// The secret's first characters.
    masked_token: String,
    /// Milliseconds since 1970 UTC; null: never.
    expires_at: Option<i64>,
    /// Milliseconds since 1970 UTC, to the minute; null: never.
    last_used_at: Option<i64>,
    /// Milliseconds since 1970 UTC.
    created_at: i64,
}

/// A new token. Its secret is shown here and never again.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct NewToken {
    #[serde(flatten)]
    token_data: Token,
    /// The secret.
    token: String,
}

/// What a new token is made of.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct TokenInput {
    /// 1 to 100 letters, digits, spaces, dashes, underscores and dots; unique for you.
    name: String,
    /// Milliseconds since 1970 UTC, within 10 years; left out: never.
    expires_at: Option<i64>,
}

impl From<TokenRow> for Token {
    fn from(row: TokenRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            masked_token: row.masked,
            expires_at: row.expires_at,
            last_used_at: row.last_used_at,
            created_at: row.created_at,
        }
    }
}

/// Your tokens, oldest first.
#[utoipa::path(get, path = "/v1/tokens", tag = "tokens", params(Cursor), responses(
    (status = 200, body = List<Token>), (status = 401, body = ProblemDocument)))]
pub(super) async fn list(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Query(cursor): Query<Cursor>,
) -> Result<axum::Json<List<Token>>, Failure> {
    let page = tokens::list(&state, &actor, &cursor.after.unwrap_or_default()).await?;
    Ok(List::of(page, Token::from))
}

/// Makes a token.
#[utoipa::path(post, path = "/v1/tokens", tag = "tokens", request_body = TokenInput, responses(
    (status = 201, body = NewToken), (status = 400, body = ProblemDocument),
    (status = 401, body = ProblemDocument), (status = 409, body = ProblemDocument)))]
pub(super) async fn create(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Json(input): Json<TokenInput>,
) -> Result<(StatusCode, axum::Json<NewToken>), Failure> {
    let (row, token) = tokens::create(&state, &actor, &input.name, input.expires_at).await?;
    Ok((StatusCode::CREATED, axum::Json(NewToken { token_data: row.into(), token })))
}

/// Deletes a token; it is refused from now on.
#[utoipa::path(delete, path = "/v1/tokens/{token}", tag = "tokens", params(("token" = String, Path)),
    responses((status = 204), (status = 401, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn delete(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<StatusCode, Failure> {
    tokens::delete(&state, &actor, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
