//! `/auth/cli/…`: terminals that ask to be signed in, as clients of the platform do it. The page that people approve them at
//! is in `login_page.rs`.

use std::sync::Arc;

use axum::extract::State as Shared;
use axum::http::header::HOST;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problem::{Failure, Json, ProblemDocument};
use crate::app::State;
use crate::domain::logins::{self, Approval, Which};
use crate::domain::{Actor, Call, Error};

/// A terminal that asks.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LoginInput {
    /// What its token is to be called: 1 to 100 letters, digits, spaces, dashes, underscores and dots.
    name: Option<String>,
}

/// A sign-in that has begun.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Login {
    success: bool,
    /// Its name, which is no secret.
    verification_session_id: String,
    /// What the terminal comes back with. It is for nobody else.
    poll_secret: String,
    /// The page to approve it at.
    verification_url: String,
    /// What the terminal and that page show.
    user_code: String,
    /// Seconds until it must be approved and polled.
    expires_in: i64,
    /// Seconds between two polls.
    interval: u64,
}

/// A terminal that comes back.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct PollInput {
    verification_session_id: String,
    poll_secret: String,
}

/// Nobody has approved it yet.
#[derive(Serialize, ToSchema)]
pub(super) struct Pending {
    /// `pending`
    status: &'static str,
}

/// Somebody has approved it. This is told once.
#[derive(Serialize, ToSchema)]
pub(super) struct SignedIn {
    success: bool,
    /// A personal access token.
    token: String,
}

/// Which terminal is approved: by one of both.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ApprovalInput {
    /// The last part of the page's address.
    verification_session_id: Option<String>,
    /// What the terminal shows.
    user_code: Option<String>,
    /// What its token is called; as the terminal says when left out.
    name: Option<String>,
    /// Milliseconds since 1970 UTC, within 10 years; 30 days from now when left out.
    expires_at: Option<i64>,
}

/// What is approved.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Approved {
    success: bool,
    /// What the terminal shows, if it shows one.
    user_code: String,
    /// What its token is called, as long as you have no other one of that name.
    name: String,
    /// Where it asks from.
    address: Option<String>,
    /// Milliseconds since 1970 UTC.
    expires_at: Option<i64>,
}

/// Begins to sign a terminal in.
#[utoipa::path(post, path = "/auth/cli/start", operation_id = "login_start",
    tag = "tokens", security(()), request_body = LoginInput, responses(
    (status = 200, body = Login), (status = 400, body = ProblemDocument)))]
pub(super) async fn start(
    Shared(state): Shared<Arc<State>>,
    call: Call,
    uri: Uri,
    headers: HeaderMap,
    Json(input): Json<LoginInput>,
) -> Result<axum::Json<Login>, Failure> {
    let started = logins::start(&state, &call, input.name.as_deref()).await?;
    Ok(axum::Json(Login {
        success: true,
        verification_url: format!("{}/login/{}", origin(&uri, &headers), started.session),
        verification_session_id: started.session,
        poll_secret: started.secret,
        user_code: started.code,
        expires_in: logins::LIFE / 1000,
        interval: logins::INTERVAL,
    }))
}

/// Gets the token of a terminal that somebody has approved, once.
#[utoipa::path(post, path = "/auth/cli/poll", operation_id = "login_poll",
    tag = "tokens", security(()), request_body = PollInput, responses(
    (status = 200, body = SignedIn), (status = 202, body = Pending), (status = 400, body = ProblemDocument)))]
pub(super) async fn poll(
    Shared(state): Shared<Arc<State>>,
    call: Call,
    Json(input): Json<PollInput>,
) -> Result<Response, Failure> {
    let token = logins::poll(&state, &call, &input.verification_session_id, &input.poll_secret).await?;
    Ok(match token {
        Some(token) => axum::Json(SignedIn { success: true, token }).into_response(),
        None => (StatusCode::ACCEPTED, axum::Json(Pending { status: "pending" })).into_response(),
    })
}

/// Makes a terminal yours: it gets a token that may all that you may.
#[utoipa::path(post, path = "/auth/cli/approve", operation_id = "login_approve",
    tag = "tokens", request_body = ApprovalInput, responses(
    (status = 200, body = Approved), (status = 400, body = ProblemDocument), (status = 401, body = ProblemDocument),
    (status = 403, body = ProblemDocument)))]
pub(super) async fn approve(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Json(input): Json<ApprovalInput>,
) -> Result<axum::Json<Approved>, Failure> {
    let which = match (&input.verification_session_id, &input.user_code) {
        (Some(session), None) => Which::Session(session),
        (None, Some(code)) => Which::Code(code),
        _ => {
            let detail = "say which terminal: by verificationSessionId or by userCode";
            return Err(Error::invalid("invalid_request", detail).into());
        }
    };
    let approval = Approval { name: input.name.clone(), expires_at: input.expires_at };
    let row = logins::approve(&state, &actor, which, &approval).await?;
    Ok(axum::Json(Approved {
        success: true,
        user_code: logins::shown(&row.code),
        name: row.name,
        address: row.address,
        expires_at: row.token_expires_at,
    }))
}

/// Where the client says that it asks: only itself is told, so that it deceives nobody else.
fn origin(uri: &Uri, headers: &HeaderMap) -> String {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let host = uri.authority().map(ToString::to_string).or_else(|| header(HOST.as_str()).map(str::to_owned));
    let scheme = match header("x-forwarded-proto") {
        Some("https") => "https",
        _ => uri.scheme_str().filter(|scheme| *scheme == "https").unwrap_or("http"),
    };
    let parsed = host.and_then(|host| url::Url::parse(&format!("{scheme}://{host}")).ok());
    parsed.map(|url| url.origin().ascii_serialization()).unwrap_or_default()
}
