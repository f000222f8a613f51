//! `/v1/tokens`, and `/v1/projects/{project}/keys`: a project's own tokens

use std::sync::Arc;

use axum::extract::State as Shared;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problem::{Failure, Json, Path, ProblemDocument, Query};
use super::{Cursor, List};
use crate::app::State;
use crate::domain::Actor;
use crate::domain::tokens::{self, Wanted};
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
    /// Nothing of other projects (`prj_…`); null: all of yours.
    project_id: Option<String>,
    /// Nothing of other functions (`fn_…`); null: all.
    function_id: Option<String>,
    /// Nothing else: `functions:read deployments:write`; null: all that you may.
    scopes: Option<String>,
    /// Of a project's own key: as what member it acts. Null: it is a user's.
    role: Option<String>,
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
    /// Nothing of other projects.
    project_id: Option<String>,
    /// Nothing of other functions.
    function_id: Option<String>,
    /// Nothing else: NOUN:VERB, separated by spaces, with the verbs read, write and *.
    scopes: Option<String>,
}

/// What a new key of a project is made of.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct KeyInput {
    /// 1 to 100 letters, digits, spaces, dashes, underscores and dots; unique for you.
    name: String,
    /// As what member it acts: `admin`, `developer`, `billing` or `viewer`; `developer` when left out.
    role: Option<String>,
    /// Milliseconds since 1970 UTC, within 10 years; left out: never.
    expires_at: Option<i64>,
    /// Nothing of other functions.
    function_id: Option<String>,
    /// Nothing else: NOUN:VERB, separated by spaces, with the verbs read, write and *.
    scopes: Option<String>,
}

/// How a token is rotated.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RotationInput {
    /// For so long the old secret works, too; 0 when left out, at most a week.
    overlap_seconds: Option<i64>,
}

impl From<TokenRow> for Token {
    fn from(row: TokenRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            masked_token: row.masked,
            project_id: row.project_id,
            function_id: row.function_id,
            scopes: row.scopes,
            role: row.role,
            expires_at: row.expires_at,
            last_used_at: row.last_used_at,
            created_at: row.created_at,
        }
    }
}

/// Your tokens, oldest first.
#[utoipa::path(get, path = "/v1/tokens", operation_id = "token_list", tag = "tokens", params(Cursor), responses(
    (status = 200, body = List<Token>), (status = 401, body = ProblemDocument),
    (status = 403, body = ProblemDocument)))]
pub(super) async fn list(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Query(cursor): Query<Cursor>,
) -> Result<axum::Json<List<Token>>, Failure> {
    let page = tokens::list(&state, &actor, cursor.start()).await?;
    Ok(List::of(page, Token::from))
}

/// Makes a token.
#[utoipa::path(post, path = "/v1/tokens", operation_id = "token_create",
    tag = "tokens", request_body = TokenInput, responses(
    (status = 201, body = NewToken), (status = 400, body = ProblemDocument),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument),
    (status = 404, body = ProblemDocument), (status = 409, body = ProblemDocument),
    (status = 429, body = ProblemDocument)))]
pub(super) async fn create(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Json(input): Json<TokenInput>,
) -> Result<(StatusCode, axum::Json<NewToken>), Failure> {
    let TokenInput { name, expires_at, project_id: project, function_id: function, scopes } = input;
    let wanted = Wanted { name, expires_at, project, function, scopes };
    let (row, token) = tokens::create(&state, &actor, &wanted).await?;
    Ok((StatusCode::CREATED, axum::Json(NewToken { token_data: row.into(), token })))
}

/// Deletes a token or a project's key; it is refused from now on.
#[utoipa::path(delete, path = "/v1/tokens/{token}", operation_id = "token_delete",
    tag = "tokens", params(("token" = String, Path)),
    responses((status = 204), (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument),
    (status = 404, body = ProblemDocument)))]
pub(super) async fn delete(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<StatusCode, Failure> {
    tokens::delete(&state, &actor, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Gives a token or a project's key another secret.
#[utoipa::path(post, path = "/v1/tokens/{token}/rotate", operation_id = "token_rotate",
    tag = "tokens", params(("token" = String, Path)),
    request_body = RotationInput, responses((status = 200, body = NewToken), (status = 400, body = ProblemDocument),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument),
    (status = 404, body = ProblemDocument)))]
pub(super) async fn rotate(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(id): Path<String>,
    Json(input): Json<RotationInput>,
) -> Result<axum::Json<NewToken>, Failure> {
    let overlap = input.overlap_seconds.unwrap_or_default().saturating_mul(1000);
    let (row, token) = tokens::rotate(&state, &actor, &id, overlap).await?;
    Ok(axum::Json(NewToken { token_data: row.into(), token }))
}

/// A project's own keys, oldest first.
#[utoipa::path(get, path = "/v1/projects/{project}/keys", operation_id = "key_list",
    tag = "tokens", params(("project" = String, Path), Cursor),
    responses((status = 200, body = List<Token>), (status = 401, body = ProblemDocument),
    (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn keys(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(project): Path<String>,
    Query(cursor): Query<Cursor>,
) -> Result<axum::Json<List<Token>>, Failure> {
    let page = tokens::keys(&state, &actor, &project, cursor.start()).await?;
    Ok(List::of(page, Token::from))
}

/// Makes a key of the project, which works whoever is its member.
#[utoipa::path(post, path = "/v1/projects/{project}/keys", operation_id = "key_create",
    tag = "tokens", params(("project" = String, Path)),
    request_body = KeyInput, responses((status = 201, body = NewToken), (status = 400, body = ProblemDocument),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument),
    (status = 404, body = ProblemDocument), (status = 409, body = ProblemDocument),
    (status = 429, body = ProblemDocument)))]
pub(super) async fn create_key(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(project): Path<String>,
    Json(input): Json<KeyInput>,
) -> Result<(StatusCode, axum::Json<NewToken>), Failure> {
    let KeyInput { name, role, expires_at, function_id: function, scopes } = input;
    let role = role.as_deref().unwrap_or("developer");
    let wanted = Wanted { name, expires_at, project: None, function, scopes };
    let (row, token) = tokens::create_key(&state, &actor, &project, role, &wanted).await?;
    Ok((StatusCode::CREATED, axum::Json(NewToken { token_data: row.into(), token })))
}
