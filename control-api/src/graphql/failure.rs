//! Errors as clients of the older platforms know them: `extensions.name` says which of their classes it is, and
//! `extensions.data` what that is told. `extensions.code` is the code of the REST API.

use std::any::Any;
use std::sync::Arc;

use async_graphql::{Error as GraphqlError, ErrorExtensionValues, Response, ServerError, Value, value};
use tracing::error;
use ulid::Ulid;

use crate::domain::{Error, Fault};

/// Not `Display`, so that nothing is turned into an error without its extensions.
#[derive(Clone)]
pub(super) struct Failure {
    error: Arc<Error>,
    prefix: &'static str,
}

pub(super) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// With the names that one of the two platforms has for functions.
    pub(super) fn named(prefix: &'static str) -> impl Fn(Error) -> Self {
        move |error| Self { error: Arc::new(error), prefix }
    }

    /// What a function that does not exist was called.
    pub(super) fn no_function(prefix: &'static str, name: &str) -> Self {
        Self::named(prefix)(Error::not_found("function", name))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error: Arc::new(error), prefix: "Fleek" }
    }
}

impl From<Arc<Error>> for Failure {
    fn from(error: Arc<Error>) -> Self {
        Self { error, prefix: "Fleek" }
    }
}

impl From<Failure> for GraphqlError {
    fn from(Failure { error, prefix }: Failure) -> Self {
        let fault = error.fault();
        let (name, data) = class(&error, prefix);
        let mut extensions = ErrorExtensionValues::default();
        extensions.set("name", name);
        extensions.set("data", data);
        extensions.set("code", error.code());
        let mut message = error.to_string();
        if fault == Fault::Internal {
            let id = Ulid::generate().to_string();
            error!(request_id = %id, %error, source = ?std::error::Error::source(&*error), "an operation failed");
            message = format!("the server failed; its log says more about {id}");
            extensions.set("requestId", id);
        }
        let source: Arc<dyn Any + Send + Sync> = error;
        Self { message, source: Some(source), extensions: Some(extensions) }
    }
}

/// Code of a request that cannot be read, is none of this schema, or is too large.
pub(super) const UNREADABLE: &str = "invalid_request";

/// What is refused before anything is executed.
pub(super) fn refusal(code: &str, detail: &str) -> Response {
    let error = ServerError { extensions: Some(invalid(code, detail)), ..ServerError::new(detail, None) };
    Response::from_errors(vec![error])
}

/// Gives errors of the library their class: of syntax, validation, depth and complexity.
pub(super) fn classed(mut response: Response) -> Response {
    for error in response.errors.iter_mut().filter(|error| error.extensions.is_none()) {
        error.extensions = Some(invalid(UNREADABLE, &error.message));
    }
    response
}

fn invalid(code: &str, detail: &str) -> ErrorExtensionValues {
    let mut extensions = ErrorExtensionValues::default();
    let (name, data) = validation(code, detail);
    extensions.set("name", name);
    extensions.set("data", data);
    extensions.set("code", code);
    extensions
}

/// The one class that shows whatever it is given.
fn validation(code: &str, detail: &str) -> (String, Value) {
    let text = [(async_graphql::Name::new(code), Value::from(detail))];
    ("ValidationError".into(), Value::Object(text.into_iter().collect()))
}

/// The class of the published SDKs' errors, and what it is made with.
fn class(error: &Error, prefix: &str) -> (String, Value) {
    match error {
        Error::NotFound { what, id } => not_found(what, id, prefix),
        Error::Unauthenticated => ("UnauthenticatedError".into(), value!({})),
        Error::Forbidden { .. } => ("UnauthorizedError".into(), value!({})),
        error if error.fault() == Fault::Internal => ("UnknownError".into(), value!({})),
        error => match error.code() {
            "function_name_taken" | "slug_taken" => {
                (format!("{prefix}FunctionAlreadyExistsError"), value!({ "function": {} }))
            }
            "invalid_status" => (format!("{prefix}FunctionStatusNotValidError"), value!({})),
            code => validation(code, &error.to_string()),
        },
    }
}

fn not_found(what: &str, id: &str, prefix: &str) -> (String, Value) {
    let by_id = || value!({ "id": id });
    match what {
        "function" if id.starts_with("fn_") => {
            (format!("{prefix}FunctionNotFoundError"), value!({ "function": { "id": id } }))
        }
        "function" => (format!("{prefix}FunctionNotFoundError"), value!({ "function": { "name": id } })),
        "deployment" if id.starts_with("sdp_") => {
            ("SiteDeploymentNotFoundError".into(), value!({ "deployment": { "id": id } }))
        }
        "deployment" => {
            (format!("{prefix}FunctionDeploymentNotFoundError"), value!({ "deployment": { "id": id } }))
        }
        "project" => ("ProjectNotFoundError".into(), value!({ "project": { "id": id } })),
        "site" => ("SiteNotFoundError".into(), value!({ "site": { "id": id } })),
        "domain" if id.starts_with("dom_") => {
            ("DomainNotFoundError".into(), value!({ "domain": { "id": id } }))
        }
        "domain" => ("DomainNotFoundError".into(), value!({ "domain": { "hostname": id } })),
        "zone" => ("DomainZoneNotFoundError".into(), value!({ "zone": { "id": id } })),
        "pin" => ("PinNotFoundError".into(), value!({ "pin": { "cid": id } })),
        "token" => {
            ("PersonalAccessTokenNotFoundError".into(), value!({ "personalAccessToken": { "id": id } }))
        }
        _ => ("ValidationError".into(), by_id()),
    }
}
