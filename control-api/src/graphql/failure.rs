//! Errors as clients of the older platforms know them: `extensions.name` says which of their classes it is, and
//! `extensions.data` what that is told. `extensions.code` is the code of the REST API.

use std::any::Any;
use std::sync::Arc;

use async_graphql::{Error as GraphqlError, ErrorExtensionValues, Value, value};
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
            // The one class that shows whatever it is given.
            code => {
                let text = [(async_graphql::Name::new(code), Value::from(error.to_string()))];
                ("ValidationError".into(), Value::Object(text.into_iter().collect()))
            }
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
