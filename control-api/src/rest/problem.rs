//! The only place of the control API that turns an error into a status and a problem document.

use af_content::gateway::GatewayError;
use af_contract::{Problem, problem};
use axum::extract::rejection::{BytesRejection, JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use tracing::{debug, error};
use utoipa::ToSchema;

use super::call::request_id;
use crate::domain::{Error, Fault};

/// The document that every error has (RFC 9457), for the OpenAPI document.
#[derive(ToSchema)]
#[schema(as = Problem)]
#[expect(dead_code, reason = "describes af_contract::Problem, which knows nothing of OpenAPI")]
pub struct ProblemDocument {
    /// `urn:af:problem:` and the code.
    r#type: String,
    /// The status in words.
    title: String,
    /// HTTP status.
    status: u16,
    /// A sentence that says what to do.
    detail: String,
    /// Stable, for programs.
    code: String,
    /// The id under which the server logged this request.
    request_id: String,
}

/// A JSON body; what cannot be read is a problem document too.
#[derive(FromRequest)]
#[from_request(via(axum::Json), rejection(Failure))]
pub struct Json<T>(pub T);

/// A query; likewise.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Failure))]
pub struct Query<T>(pub T);

/// Path parameters; likewise.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(Failure))]
pub struct Path<T>(pub T);

/// What a handler returns instead of an answer.
pub enum Failure {
    /// The domain's word.
    Domain(Error),
    /// The gateway's word, whose statuses are those of its specifications.
    Gateway(GatewayError),
    /// The request could not be read.
    Request(StatusCode, &'static str, String),
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Domain(error.into())
    }
}

macro_rules! unreadable {
    ($rejection:ty) => {
        impl From<$rejection> for Failure {
            fn from(rejection: $rejection) -> Self {
                Self::Request(rejection.status(), "invalid_request", rejection.body_text())
            }
        }
    };
}

unreadable!(BytesRejection);
unreadable!(JsonRejection);
unreadable!(QueryRejection);
unreadable!(PathRejection);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let id = request_id();
        let (status, code, detail) = match &self {
            Self::Domain(error) => (status(error.fault()), error.code(), error.to_string()),
            Self::Gateway(error) => {
                let (status, code) = error.status();
                (status, code, error.to_string())
            }
            Self::Request(status, code, detail) => (*status, *code, detail.clone()),
        };
        let cause: Option<&dyn std::error::Error> = match &self {
            Self::Domain(cause) => Some(cause),
            Self::Gateway(cause) => Some(cause),
            Self::Request(..) => None,
        };
        match cause {
            Some(cause) if status.is_server_error() => {
                error!(request_id = %id, code, error = %cause, source = ?cause.source(), "a request failed");
            }
            _ => debug!(request_id = %id, code, detail, "a request was refused"),
        }
        let title = status.canonical_reason().unwrap_or("Error");
        let problem = Problem::new(status.as_u16(), title, code, detail, &id);
        let mut response = (status, axum::Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(problem::CONTENT_TYPE));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Self::Gateway(error) = &self {
            error.explain(headers);
        }
        if let Self::Domain(error) = &self
            && let Some(seconds) = error.retry_after()
        {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

fn status(fault: Fault) -> StatusCode {
    match fault {
        Fault::Unauthenticated => StatusCode::UNAUTHORIZED,
        Fault::Forbidden => StatusCode::FORBIDDEN,
        Fault::NotFound => StatusCode::NOT_FOUND,
        Fault::Invalid => StatusCode::BAD_REQUEST,
        Fault::Conflict => StatusCode::CONFLICT,
        Fault::Outdated => StatusCode::PRECONDITION_FAILED,
        Fault::Refused => StatusCode::UNPROCESSABLE_ENTITY,
        Fault::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Fault::Busy => StatusCode::SERVICE_UNAVAILABLE,
        Fault::TooOften => StatusCode::TOO_MANY_REQUESTS,
        Fault::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

pub async fn unknown_path() -> Failure {
    let detail = "there is nothing at this path; /openapi.json lists what there is".to_owned();
    Failure::Request(StatusCode::NOT_FOUND, "unknown_path", detail)
}

pub async fn wrong_method() -> Failure {
    let detail = "this path has no such method; /openapi.json lists what there is".to_owned();
    Failure::Request(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
}
