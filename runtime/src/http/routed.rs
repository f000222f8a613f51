//! A request that a route of its function matches.

use ::http::header::{LOCATION, UPGRADE};
use ::http::{HeaderName, HeaderValue, Request, Response, StatusCode, Uri};
use af_contract::routes::{Backend, BackendUrl, FixedResponse, Redirect, Target};
use hyper::body::Incoming;

use super::RequestError;
use super::body::ResponseBody;
use super::service::{Context, Service, by};
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
    #[error("the route's backends have no usable host")]
    NoBackend,
    /// The table's fault.
    #[error("the route's response cannot be sent")]
    Response(#[from] ::http::Error),
}

/// The route that a request found.
pub struct Routed<'a> {
    /// Whose route it is.
    pub function: &'a Entry,
    /// In its normal form.
    pub path: &'a str,
    pub found: Match<'a>,
}

impl Service {
    /// Answers as the rule says.
    pub(super) async fn routed(
        &self,
        context: Context<'_>,
        routed: Routed<'_>,
        mut request: Request<Incoming>,
    ) -> Result<Response<ResponseBody>, RequestError> {
        let target = &routed.found.rule.rule.target;
        if !matches!(target, Target::Function(_)) {
            let usage = self.usage().of(routed.function.id());
            if request.headers().contains_key(UPGRADE) {
                // What becomes of the connection then is no response any more.
                request.extensions_mut().insert(usage.clone());
            }
            context.exchange.ask(usage);
        }
        match target {
            Target::Backend(backend) => self.forward(context, &routed, backend, request).await,
            Target::Function(name) => {
                let function = self.router().function_of(routed.function.project(), name);
                let function = function.ok_or_else(|| RoutedError::NoFunction(name.clone()))?;
                self.function(context, &function, request).await
            }
            Target::Site(root) => {
                *request.uri_mut() = within(&routed)?;
                self.site(context, *root, Naming::Name, &request).await
            }
            Target::Redirect(redirect) => Ok(elsewhere(redirect, &routed, request.uri().query())?),
            Target::Response(response) => Ok(fixed(response)?),
        }
    }
}

impl Service {
    async fn forward(
        &self,
        context: Context<'_>,
        routed: &Routed<'_>,
        backend: &Backend,
        request: Request<Incoming>,
    ) -> Result<Response<ResponseBody>, RequestError> {
        let Context { id, peer, host, exchange } = context;
        let upstreams = routed.found.rule.upstreams.as_ref().ok_or(RoutedError::NoBackend)?;
        let (rest, captures) = (routed.found.rest(routed.path), routed.found.captures(routed.path));
        let path = |url: &BackendUrl| {
            let path = url.path_and_query(rest, &captures, request.uri().query())?;
            path.parse().map_err(|error| RoutedError::Response(::http::Error::from(error)))
        };
        let paths = backend.urls.iter().map(path).collect::<Result<_, RoutedError>>()?;
        exchange.step("route");
        let response = self.proxy().forward(peer, request, &host.authority, upstreams, paths, id).await;
        exchange.step("backend");
        Ok(by("backend", response?))
    }
}

/// The path of a file in a directory: what `*` stood for, as backends are asked for it, or the whole path.
fn within(routed: &Routed<'_>) -> Result<Uri, RoutedError> {
    let rest = match routed.found.pattern.before_wildcard() {
        Some(_) => routed.found.rest(routed.path),
        None => routed.path,
    };
    let slash = if rest.starts_with('/') { "" } else { "/" };
    format!("{slash}{rest}").parse().map_err(|error| RoutedError::Response(::http::Error::from(error)))
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
