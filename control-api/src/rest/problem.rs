//! The only place of the control API that turns an error into a status and a problem document.

use af_content::gateway::GatewayError;
use af_contract::strict::{Plain, Strictly};
use af_contract::{Problem, problem};
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use tracing::{debug, error};
use utoipa::ToSchema;

use super::call::request_id;
use super::{JSON_BYTES, plain};
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

/// A body that is a JSON object; what cannot be read is a problem document too.
pub struct Json<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        if !kind.is_some_and(is_json) {
            let detail = "send a JSON object, with content-type: application/json".to_owned();
            return Err(Failure::Request(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_request", detail));
        }
        let bytes = Bytes::from_request(request, state).await?;
        Ok(Self(object(&bytes)?))
    }
}

/// Reads a JSON object.
pub(super) fn object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    // An array would be read as an object's values, in the order in which they happen to be declared.
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') {
        let detail = "the body is an array; send a JSON object".to_owned();
        return Err(Failure::Request(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request", detail));
    }
    let axum::Json(Plain) = axum::Json::from_bytes(bytes)?;
    let axum::Json(Strictly(value)) = axum::Json::from_bytes(bytes)?;
    Ok(value)
}

/// `application/json`, or a type of which it says that it is JSON.
fn is_json(kind: &str) -> bool {
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind.strip_prefix("application/").is_some_and(|sort| sort == "json" || sort.ends_with("+json"))
}

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

impl From<BytesRejection> for Failure {
    fn from(rejection: BytesRejection) -> Self {
        let detail = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => format!("the body has more than {JSON_BYTES} bytes"),
            _ => "the body did not come whole; send it again".to_owned(),
        };
        Self::Request(rejection.status(), "invalid_request", detail)
    }
}

impl From<JsonRejection> for Failure {
    fn from(rejection: JsonRejection) -> Self {
        let detail = format!("the body cannot be used: {}", plain::words(&rejection));
        Self::Request(rejection.status(), "invalid_request", detail)
    }
}

impl From<QueryRejection> for Failure {
    fn from(rejection: QueryRejection) -> Self {
        let detail = format!("the query cannot be used: {}", plain::words(&rejection));
        Self::Request(rejection.status(), "invalid_request", detail)
    }
}

impl From<PathRejection> for Failure {
    fn from(rejection: PathRejection) -> Self {
        Self::Request(rejection.status(), "invalid_request", rejection.body_text())
    }
}

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
