//! A request that a route of its function matches.

use ::http::header::LOCATION;
use ::http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use af_contract::routes::{FixedResponse, Redirect, Target};
use hyper::body::Incoming;

use super::RequestError;
use super::body::ResponseBody;
use super::service::Service;
use super::target::Host;
use crate::listen::Peer;
use crate::request_id::RequestId;
use crate::router::{Entry, Match};
use crate::site::Naming;

/// Why a route cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum RoutedError {
    /// What a path was made of leads elsewhere: the client's fault.
    #[error(transparent)]
    Path(#[from] af_contract::routes::TemplateError),
    /// The table's fault.
    #[error("the route leads to {0:?}, and the project has no function with this slug or id")]
    NoFunction(String),
    /// The table's fault.
    #[error("the route's response cannot be sent")]
    Response(#[from] ::http::Error),
}

/// A request on its way through a route.
pub struct Routed<'a> {
    pub id: RequestId,
    pub peer: &'a Peer,
    pub host: &'a Host,
    /// Whose route it is.
    pub function: &'a Entry,
    /// In its normal form.
    pub path: &'a str,
    pub found: &'a Match<'a>,
}

impl Service {
    /// Answers as the rule says.
    pub(super) async fn routed(
        &self,
        routed: Routed<'_>,
        request: Request<Incoming>,
    ) -> Result<Response<ResponseBody>, RequestError> {
        let Routed { id, peer, host, .. } = routed;
        match &routed.found.rule.target {
            Target::Backend(_) => Err(RequestError::Unsupported("routes to backends are not served yet")),
            Target::Function(name) => {
                let function = self.router().function_of(routed.function.project(), name);
                let function = function.ok_or_else(|| RoutedError::NoFunction(name.clone()))?;
                self.function(id, peer, request, host, &function).await
            }
            Target::Site(root) => self.site(*root, Naming::Name, &request).await,
            Target::Redirect(redirect) => Ok(elsewhere(redirect, &routed, request.uri().query())?),
            Target::Response(response) => Ok(fixed(response)?),
        }
    }
}

fn elsewhere(
    redirect: &Redirect,
    routed: &Routed<'_>,
    query: Option<&str>,
) -> Result<Response<ResponseBody>, RoutedError> {
    let path = redirect.path.fill(&routed.found.captures(routed.path))?;
    let query = match (&redirect.query, query) {
        (Some(own), _) => own.clone(),
        (None, Some(query)) => format!("?{query}"),
        (None, None) => String::new(),
    };
    // A path that begins with two slashes would be another host, which a capture must not choose.
    let path = if redirect.origin.is_empty() { format!("/{}", path.trim_start_matches('/')) } else { path };
    let response = Response::builder().status(redirect.status);
    Ok(response.header(LOCATION, format!("{}{path}{query}", redirect.origin)).body(ResponseBody::full(""))?)
}

fn fixed(fixed: &FixedResponse) -> Result<Response<ResponseBody>, RoutedError> {
    let mut response = Response::new(ResponseBody::full(fixed.body.clone()));
    *response.status_mut() = StatusCode::from_u16(fixed.status).map_err(::http::Error::from)?;
    for (name, value) in &fixed.headers {
        let name = HeaderName::try_from(name).map_err(::http::Error::from)?;
        response.headers_mut().insert(name, HeaderValue::try_from(value).map_err(::http::Error::from)?);
    }
    Ok(response)
}
