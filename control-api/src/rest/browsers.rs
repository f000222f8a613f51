//! What browsers are told. Nobody is known by a cookie here, so no page can do anything in the name of whoever looks at it
//! (CSRF); pages of other origins may ask with a token, if their origin is configured.

use std::sync::Arc;

use axum::extract::{Request, State as Shared};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, CACHE_CONTROL,
    CONTENT_SECURITY_POLICY, ETAG, ORIGIN, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::app::State;

const METHODS: &str = "GET, POST, PUT, PATCH, DELETE";
/// What the published SDKs of both platforms send is among them.
const SENT: &str = "authorization, content-type, idempotency-key, if-match, if-none-match, last-event-id, af-settings, \
                    af-content-key, x-project-id, x-organization-id, x-client-type";
const READ: &str = "etag, retry-after, ratelimit, ratelimit-policy, x-request-id, idempotency-replayed";

/// For so long a browser may remember who may ask, seconds.
const REMEMBERED: &str = "600";

/// Where the gateway answers.
const GATEWAY: [&str; 2] = ["/ipfs/", "/ipns/"];

/// Answers are data, and no pages.
const DEFAULTS: [(HeaderName, &str); 4] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
];

/// Adds headers that keep browsers from what nobody wants, and lets pages of configured origins ask.
pub(super) async fn guard(Shared(state): Shared<Arc<State>>, request: Request, next: Next) -> Response {
    // The gateway's content is everybody's, and its specifications say what browsers are told.
    if GATEWAY.iter().any(|prefix| request.uri().path().starts_with(prefix)) {
        return next.run(request).await;
    }
    let origin = request.headers().get(ORIGIN).cloned();
    let allowed = origin.filter(|origin| state.api.origins.iter().any(|allowed| allowed == origin));
    let asks =
        *request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = match &allowed {
        Some(_) if asks => StatusCode::NO_CONTENT.into_response(),
        _ => next.run(request).await,
    };
    let headers = response.headers_mut();
    for (name, value) in DEFAULTS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    let kept = if headers.contains_key(ETAG) { "private, no-cache" } else { "no-store" };
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static(kept));
    if !state.api.origins.is_empty() {
        headers.append(VARY, HeaderValue::from_static("origin"));
    }
    if let Some(origin) = allowed {
        allow(headers, origin, asks);
    }
    response
}

fn allow(headers: &mut HeaderMap, origin: HeaderValue, asks: bool) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(READ));
    if asks {
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(SENT));
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(REMEMBERED));
    }
}
