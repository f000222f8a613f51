//! The gateway at this edge: at the platform's own names and addresses by path, and at `{cid}.ipfs.{domain}`.

use ::http::header::{LOCATION, VARY};
use ::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use af_content::gateway::{Format, Gateway, GatewayError, Parameters, Request as Asked, Target};
use hyper::body::Incoming;

use super::body::ResponseBody;
use super::service::{Context, Service, by};
use super::{RequestError, target};
use crate::router::ContentHost;
use crate::site::{Naming, SiteError};

/// The longest label of a host (RFC 1035 section 2.3.4).
const LABEL_BYTES: usize = 63;

/// Whether a path is one of the gateway's, whose namespaces these are.
fn is_content(path: &str) -> bool {
    path.starts_with("/ipfs/") || path.starts_with("/ipns/")
}

impl Service {
    /// Answers what is the gateway's, if there is one. What is not is given back.
    pub(super) async fn content(
        &self,
        context: Context<'_>,
        request: &Request<Incoming>,
    ) -> Result<Option<Response<ResponseBody>>, RequestError> {
        let Some(gateway) = &self.gateway else { return Ok(None) };
        // Without the request's body, which could not be shared with other threads.
        let (method, uri, headers) = (request.method(), request.uri(), request.headers());
        let host = context.host;
        let response = match self.router().content_host(host.name()) {
            Some(ContentHost::Root(label)) => {
                let target = Target::of_host(label, uri.path())?;
                self.rooted(context, gateway, &target, request).await?
            }
            Some(place) if is_content(uri.path()) => {
                let target = Target::of_path(uri.path())?;
                let parts = (method, uri, headers);
                if place == ContentHost::Platform
                    && context.peer.scheme() == "http"
                    && let Some(response) = moved(gateway, &target, host, parts)?
                {
                    response
                } else {
                    by_path(gateway, &target, parts).await?
                }
            }
            _ => return Ok(None),
        };
        Ok(Some(by("gateway", response)))
    }

    /// At a host of its own, a directory is a site, with what sites have: `_redirects` and pages for what is not there.
    async fn rooted(
        &self,
        context: Context<'_>,
        gateway: &Gateway,
        target: &Target,
        request: &Request<Incoming>,
    ) -> Result<Response<ResponseBody>, RequestError> {
        let (method, uri, headers) = (request.method(), request.uri(), request.headers());
        let read = matches!(*method, Method::GET | Method::HEAD);
        if read && Parameters::parse(uri.query()).choose(headers)?.format == Format::Files {
            gateway.check(headers)?;
            match self.site(context, target.root, Naming::Cid, request).await {
                Ok(mut response) => {
                    gateway.share(response.headers_mut());
                    response.headers_mut().append(VARY, HeaderValue::from_static("accept"));
                    return Ok(response);
                }
                // A file, a directory without pages, or nothing: the gateway has something to say of all.
                Err(RequestError::Site(
                    SiteError::Unknown(_) | SiteError::NotFound | SiteError::Missing(_),
                )) => {}
                Err(error) => return Err(error),
            }
        }
        by_path(gateway, target, (method, uri, headers)).await
    }
}

async fn by_path(
    gateway: &Gateway,
    target: &Target,
    (method, uri, headers): (&Method, &Uri, &HeaderMap),
) -> Result<Response<ResponseBody>, RequestError> {
    let asked = Asked { method, target, query: uri.query(), headers };
    Ok(gateway.respond(asked).await?.map(ResponseBody::gateway))
}

/// To the host where content is an origin of its own, as subdomain gateways do: pages that were published by different people
/// must not share one. Not on encrypted connections, since a certificate for the domain covers no host two levels below it. The
/// scheme is left to the browser, which knows what is in front of this edge.
fn moved(
    gateway: &Gateway,
    target: &Target,
    host: &target::Host,
    (method, uri, headers): (&Method, &Uri, &HeaderMap),
) -> Result<Option<Response<ResponseBody>>, GatewayError> {
    let read = matches!(*method, Method::GET | Method::HEAD);
    if !read || Parameters::parse(uri.query()).choose(headers)?.format != Format::Files {
        return Ok(None);
    }
    gateway.check(headers)?;
    let Some(label) = target.label().filter(|label| label.len() <= LABEL_BYTES) else { return Ok(None) };
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let location = format!("//{label}.ipfs.{}{}{query}", host.authority, target.below());
    let Ok(location) = HeaderValue::try_from(location) else { return Ok(None) };
    let mut response = Response::new(ResponseBody::default());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    gateway.share(response.headers_mut());
    response.headers_mut().insert(LOCATION, location);
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
    Ok(Some(response))
}
