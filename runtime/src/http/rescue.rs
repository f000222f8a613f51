//! The only place of the edge that turns an error into a status and a problem document.

use ::http::header::{ALLOW, CONTENT_RANGE, CONTENT_TYPE, RETRY_AFTER};
use ::http::{HeaderMap, HeaderValue, Response, StatusCode};
use af_content::gateway::GatewayError;
use af_contract::{Problem, problem};
use tracing::{debug, warn};

use super::body::ResponseBody;
use super::rate::RateError;
use super::routed::RoutedError;
use super::target::TargetError;
use crate::artifact::ArtifactError;
use crate::metrics::Metrics;
use crate::proxy::ProxyError;
use crate::request_id::RequestId;
use crate::router::RouteError;
use crate::sandbox::{Exceeded, GuestError, Overloaded};
use crate::site::SiteError;
use crate::usage::End;

/// The one code that says "come again".
const OVERLOADED: &str = "overloaded";

/// Everything that can go wrong with a request before its response starts.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The client's fault.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The client's fault.
    #[error("the request body is larger than the {0} bytes that this function accepts")]
    BodyTooLarge(u64),
    /// The client's, or all clients of this function together.
    #[error(transparent)]
    Rate(#[from] RateError),
    /// No function answers here.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// The route's fault, or the client's.
    #[error(transparent)]
    Routed(#[from] RoutedError),
    /// Not here.
    #[error("{0}")]
    Unsupported(&'static str),
    /// The function's code cannot be had or used.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// All instances are busy, or all that the function may have.
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
    /// The function failed.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// A backend failed, or the request is not one to pass on.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// The site has nothing to send.
    #[error(transparent)]
    Site(#[from] SiteError),
    /// The gateway has nothing to send.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
}

/// Status, stable code; the detail is the error's text unless the error is ours.
fn classify(error: &RequestError) -> (StatusCode, &'static str) {
    match error {
        RequestError::Target(TargetError::Host) => (StatusCode::BAD_REQUEST, "invalid_host"),
        RequestError::Target(TargetError::UrlTooLong(_)) => (StatusCode::URI_TOO_LONG, "url_too_long"),
        RequestError::Target(TargetError::TwoHosts) => (StatusCode::BAD_REQUEST, "invalid_host"),
        RequestError::Target(TargetError::Misdirected { .. }) => {
            (StatusCode::MISDIRECTED_REQUEST, "misdirected_request")
        }
        RequestError::Target(TargetError::Method(_)) => {
            (StatusCode::NOT_IMPLEMENTED, "method_not_implemented")
        }
        RequestError::Target(TargetError::TooManyHeaders(_)) => {
            (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "header_too_large")
        }
        RequestError::Rate(_) => (StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded"),
        RequestError::BodyTooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "request_body_too_large"),
        RequestError::Route(error) => match error {
            RouteError::UnknownHost(_) => (StatusCode::NOT_FOUND, "unknown_host"),
            RouteError::NotYet => (StatusCode::SERVICE_UNAVAILABLE, "routes_not_known"),
            RouteError::FunctionNotFound(_) => (StatusCode::NOT_FOUND, "function_not_found"),
            RouteError::Inactive(_) => (StatusCode::NOT_FOUND, "function_inactive"),
            RouteError::NotDeployed(_) => (StatusCode::NOT_FOUND, "function_not_deployed"),
            RouteError::PreviewNotFound(_) => (StatusCode::NOT_FOUND, "deployment_not_found"),
            RouteError::SiteNotDeployed(_) => (StatusCode::NOT_FOUND, "site_not_deployed"),
        },
        RequestError::Routed(error) => match error {
            RoutedError::Path(_) => (StatusCode::BAD_REQUEST, "invalid_path"),
            RoutedError::NoFunction(_) => (StatusCode::BAD_GATEWAY, "route_target_not_found"),
            RoutedError::NoBackend => (StatusCode::BAD_GATEWAY, "upstream_unreachable"),
            RoutedError::Response(_) => (StatusCode::BAD_GATEWAY, "invalid_route_response"),
        },
        RequestError::Unsupported(_) => (StatusCode::NOT_IMPLEMENTED, "not_supported"),
        RequestError::Artifact(error) => (StatusCode::SERVICE_UNAVAILABLE, error.code()),
        RequestError::Proxy(error) => (proxied(error), error.code()),
        RequestError::Overloaded(_) => (StatusCode::SERVICE_UNAVAILABLE, OVERLOADED),
        RequestError::Guest(error) => match error {
            GuestError::Exceeded(limit) => (exceeded(*limit), limit.code()),
            GuestError::Length { .. } => (StatusCode::BAD_GATEWAY, "response_length_mismatch"),
            GuestError::PoolFull => (StatusCode::SERVICE_UNAVAILABLE, OVERLOADED),
            GuestError::Trap(_) => (StatusCode::INTERNAL_SERVER_ERROR, "function_crashed"),
            GuestError::NoResponse => (StatusCode::BAD_GATEWAY, "function_sent_no_response"),
            GuestError::Http(_) => (StatusCode::BAD_GATEWAY, "function_failed"),
            GuestError::Instantiate(_) => (StatusCode::INTERNAL_SERVER_ERROR, "function_failed_to_start"),
        },
        RequestError::Site(error) => classify_site(error),
        RequestError::Gateway(error) => error.status(),
    }
}

fn classify_site(error: &SiteError) -> (StatusCode, &'static str) {
    match error {
        SiteError::Method => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
        SiteError::Path(_) => (StatusCode::BAD_REQUEST, "invalid_path"),
        SiteError::Unknown(_) => (StatusCode::NOT_FOUND, "site_not_found"),
        SiteError::NotFound => (StatusCode::NOT_FOUND, "page_not_found"),
        SiteError::Precondition => (StatusCode::PRECONDITION_FAILED, "precondition_failed"),
        SiteError::Range { .. } => (StatusCode::RANGE_NOT_SATISFIABLE, "range_not_satisfiable"),
        // As the specification of `_redirects` demands.
        SiteError::Redirects(_) => (StatusCode::INTERNAL_SERVER_ERROR, "site_redirects_invalid"),
        SiteError::Missing(_) => (StatusCode::SERVICE_UNAVAILABLE, "content_missing"),
        SiteError::Unfetched(_) => (StatusCode::SERVICE_UNAVAILABLE, "content_unavailable"),
        SiteError::Corrupt(_) => (StatusCode::BAD_GATEWAY, "content_corrupt"),
        SiteError::Storage(_) => (StatusCode::SERVICE_UNAVAILABLE, "storage_failed"),
    }
}

/// Whether a deployment did not answer as it should: it failed, or said so itself. To have no room for it is the server's fault.
pub fn is_functions_fault(answered: &Result<Response<ResponseBody>, RequestError>) -> bool {
    match answered {
        Ok(response) => response.status().is_server_error(),
        Err(error @ (RequestError::Artifact(_) | RequestError::Guest(_))) => {
            let (status, code) = classify(error);
            status.is_server_error() && code != OVERLOADED
        }
        Err(_) => false,
    }
}

/// How a request ended that was asked of a function or a site, for whoever counts it.
pub(super) fn end(answered: &Result<Response<ResponseBody>, RequestError>) -> End {
    let status = match answered {
        Ok(response) => response.status(),
        Err(error) => match classify(error) {
            (_, OVERLOADED) => return End::Refused,
            (status, _) => status,
        },
    };
    if status.is_server_error() { End::Failed } else { End::Answered }
}

/// What a status promises to come with it.
fn explain(error: &RequestError, headers: &mut HeaderMap) {
    match error {
        RequestError::Site(SiteError::Method) => {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        RequestError::Route(RouteError::NotYet) => {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        RequestError::Gateway(error) => error.explain(headers),
        RequestError::Site(SiteError::Range { size }) => {
            let range = HeaderValue::try_from(format!("bytes */{size}"));
            headers.extend(range.map(|range| (CONTENT_RANGE, range)));
        }
        _ => {}
    }
}

fn proxied(error: &ProxyError) -> StatusCode {
    match error {
        ProxyError::Unreachable(_)
        | ProxyError::AddressRefused
        | ProxyError::Failed(_)
        | ProxyError::Unasked
        | ProxyError::Stalled => StatusCode::BAD_GATEWAY,
        ProxyError::Timeout => StatusCode::GATEWAY_TIMEOUT,
        ProxyError::BodyTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
        ProxyError::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
        ProxyError::BodyBroken => StatusCode::BAD_REQUEST,
        ProxyError::Loop => StatusCode::LOOP_DETECTED,
        ProxyError::Connect => StatusCode::NOT_IMPLEMENTED,
        ProxyError::Full => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn exceeded(limit: Exceeded) -> StatusCode {
    match limit {
        Exceeded::RequestBody => StatusCode::PAYLOAD_TOO_LARGE,
        Exceeded::RequestSlow => StatusCode::REQUEST_TIMEOUT,
        Exceeded::RequestMalformed => StatusCode::BAD_REQUEST,
        Exceeded::Wall => StatusCode::GATEWAY_TIMEOUT,
        Exceeded::ResponseBody => StatusCode::BAD_GATEWAY,
        Exceeded::Cpu
        | Exceeded::Memory
        | Exceeded::Startup
        | Exceeded::Handles
        | Exceeded::Fields
        | Exceeded::Random
        | Exceeded::Hostcall => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// The response for an error, logged and counted once, here.
pub fn response(error: &RequestError, id: RequestId, metrics: &Metrics) -> Response<ResponseBody> {
    let (status, code) = classify(error);
    metrics.refused(code);
    if code == OVERLOADED {
        metrics.limit(code);
    }
    if status.is_server_error() {
        warn!(request_id = %id, code, error = chain(error), "a request failed");
    } else {
        debug!(request_id = %id, code, error = chain(error), "a request was refused");
    }
    let title = status.canonical_reason().unwrap_or("Error");
    let mut problem = Problem::new(status.as_u16(), title, code, error.to_string(), &id.to_string());
    if let RequestError::Route(RouteError::FunctionNotFound(slug)) = error {
        // The two members that clients of the older platform read.
        problem = problem.with("error", "Function not found").with("slug", slug.as_str());
    }
    // A problem is text, numbers and maps with text keys, which always have a JSON form.
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    let mut response = Response::new(ResponseBody::full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(problem::CONTENT_TYPE));
    explain(error, response.headers_mut());
    if code == OVERLOADED {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// The error and its causes, for the log only: causes may name paths and internals.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
