//! What an operation takes, by its description in the OpenAPI document: what it does not know is refused rather than ignored.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State as Shared};
use axum::http::header::{CONTENT_TYPE, IF_MATCH};
use axum::http::{Extensions, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use url::form_urlencoded;
use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::{OpenApi, RefOr};

use super::problem::Failure;
use crate::domain::{Call, Error};

/// An archive of blocks,
const CAR: &str = "application/vnd.ipld.car";

/// and bytes of which nothing is said.
const BYTES: &str = "application/octet-stream";

/// Characters of an unknown name that are repeated.
const NAME: usize = 100;

/// What each operation takes, by its method and path.
pub(super) struct Operations(HashMap<(Method, String), Takes>);

struct Takes {
    /// NOUN.VERB.
    action: Arc<str>,
    /// Types of its body, where one of them is a CAR. JSON is looked at by who reads it.
    kinds: Vec<String>,
    /// Parameters of its query.
    query: Vec<String>,
    /// It compares what it changes with what the client has seen.
    if_match: bool,
}

impl Operations {
    /// Of a document that is complete.
    pub(super) fn of(document: &OpenApi) -> Self {
        let mut all = HashMap::new();
        for (path, item) in &document.paths.paths {
            let operations = [
                (Method::GET, &item.get),
                (Method::PUT, &item.put),
                (Method::POST, &item.post),
                (Method::PATCH, &item.patch),
                (Method::DELETE, &item.delete),
            ];
            for (method, operation) in operations {
                if let Some(operation) = operation {
                    all.insert((method, path.clone()), Takes::of(operation));
                }
            }
        }
        Self(all)
    }

    fn check(&self, request: &mut Request) -> Result<(), Failure> {
        let sent = [Some(request.uri().path()), request.uri().query()];
        if sent.into_iter().flatten().any(|text| text.contains("%00")) {
            // PostgreSQL has no place for it, and nothing here has it in its name.
            let detail = "the path or the query has a NUL character; leave %00 out";
            return Err(Error::invalid("invalid_request", detail).into());
        }
        let Some(path) = request.extensions().get::<MatchedPath>() else { return Ok(()) };
        let method = match request.method() {
            &Method::HEAD => Method::GET,
            method => method.clone(),
        };
        let is_change = method != Method::GET;
        let path = path.as_str().to_owned();
        // What is not in the document answers for itself.
        let Some(takes) = self.0.get(&(method, path)) else { return Ok(()) };
        if is_change && !takes.if_match && request.headers().contains_key(IF_MATCH) {
            let detail = "this operation compares nothing with an ETag; leave If-Match out";
            return Err(Error::invalid("if_match_not_supported", detail).into());
        }
        // What is older than /v1 has published clients, who send more than is read.
        if request.uri().path().starts_with("/v1/") {
            takes.check_query(request.uri().query().unwrap_or_default())?;
            if let Some(kind) = takes.other_kind(request) {
                request.extensions_mut().insert(kind);
            }
        }
        if let Some(call) = request.extensions_mut().get_mut::<Call>() {
            call.action = Some(takes.action.clone());
        }
        Ok(())
    }
}

impl Takes {
    fn of(operation: &Operation) -> Self {
        let parameters = operation.parameters.iter().flatten().filter_map(|parameter| match parameter {
            RefOr::T(parameter) => Some(parameter),
            RefOr::Ref(_) => None,
        });
        let named = |place: ParameterIn| {
            let parameters = parameters.clone().filter(move |parameter| parameter.parameter_in == place);
            parameters.map(|parameter| parameter.name.clone())
        };
        let action = operation.operation_id.as_deref().unwrap_or_default().replacen('_', ".", 1);
        let kinds: Vec<String> = match &operation.request_body {
            Some(RefOr::T(body)) => body.content.keys().cloned().collect(),
            _ => Vec::new(),
        };
        let kinds = if kinds.iter().any(|kind| kind == CAR) { kinds } else { Vec::new() };
        Self {
            action: action.into(),
            kinds,
            query: named(ParameterIn::Query).collect(),
            if_match: named(ParameterIn::Header).any(|name| name.eq_ignore_ascii_case(IF_MATCH.as_str())),
        }
    }

    fn check_query(&self, query: &str) -> Result<(), Error> {
        let mut names = form_urlencoded::parse(query.as_bytes()).map(|(name, _)| name);
        let Some(unknown) = names.find(|name| !self.query.iter().any(|known| known == name)) else {
            return Ok(());
        };
        let unknown: String = unknown.chars().take(NAME).collect();
        let detail = if self.query.is_empty() {
            format!("this operation has no query parameters, and so no {unknown:?}")
        } else {
            format!("there is no query parameter {unknown:?} here; there are: {}", self.query.join(", "))
        };
        Err(Error::invalid("unknown_parameter", detail))
    }
}

impl Takes {
    /// A body of which its client says that it is something else. That is told to whoever is known only: see [`known`].
    fn other_kind(&self, request: &Request) -> Option<OtherKind> {
        let said = request.headers().get(CONTENT_TYPE)?;
        let mut query = form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes());
        if self.kinds.is_empty() || query.any(|(name, value)| name == "fetch" && value == "true") {
            return None;
        }
        let said = said.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
        let mut known = self.kinds.iter().map(String::as_str).chain([BYTES]);
        let is_known = known.any(|known| known.eq_ignore_ascii_case(said));
        (!is_known).then(|| OtherKind(self.kinds.join(" or ")))
    }
}

/// Of a request: its body has another type than these.
#[derive(Clone)]
struct OtherKind(String);

/// Refuses a body of another type, once it is known who sends it.
pub(super) fn known(extensions: &Extensions) -> Result<(), Failure> {
    let Some(OtherKind(kinds)) = extensions.get::<OtherKind>() else { return Ok(()) };
    let detail = format!("send the body with content-type: {kinds}");
    Err(Failure::Request(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_request", detail))
}

/// Refuses what an operation would ignore.
pub(super) async fn check(
    Shared(operations): Shared<Arc<Operations>>,
    mut request: Request,
    next: Next,
) -> Response {
    match operations.check(&mut request) {
        Ok(()) => next.run(request).await,
        Err(failure) => failure.into_response(),
    }
}
