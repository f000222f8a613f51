//! The reverse proxy: passes a request on to a route's backends and their answer back, streaming both ways. What goes
//! on of the headers is in `headers` and `forwarded`, connections are in `connection` and `pool`.

mod connection;
mod error;
mod exchange;
mod forwarded;
mod headers;
mod health;
mod places;
mod pool;
mod request_body;
mod response_body;
#[cfg(test)]
mod tests;
mod tls;
mod tunnel;
mod upgrade;
mod upstreams;

use std::sync::Arc;

use af_contract::limits;
use http::header::CONTENT_LENGTH;
use http::uri::PathAndQuery;
use http::{HeaderName, Method, Request, Response, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

pub use self::error::{ProxyError, Unreachable};
use self::places::Places;
use self::request_body::RequestBody;
pub use self::response_body::UpstreamBody;
use self::tunnel::Tunnels;
pub use self::upstreams::{UpstreamError, UpstreamScheme, UpstreamTarget, Upstreams};
use crate::host::Trust;
use crate::host::egress::Egress;
use crate::http::ResponseBody;
use crate::listen::{Peer, TrustedProxies};
use crate::metrics::Metrics;
use crate::request_id::RequestId;
use crate::usage::Counters;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What all routes of an edge share. Their connections they do not.
pub struct Proxy {
    egress: Egress,
    trust: Trust,
    trusted: TrustedProxies,
    places: Places,
    tunnels: Tunnels,
    metrics: Arc<Metrics>,
}

/// A request that is ready to be passed on, but for what depends on the backend.
struct Outgoing {
    id: RequestId,
    request: Request<RequestBody>,
    /// For each backend.
    paths: Vec<PathAndQuery>,
    /// The client's connection, if it is to speak another protocol.
    upgrade: Option<OnUpgrade>,
    /// Where what it sends then is counted.
    usage: Option<Arc<Counters>>,
}

impl Proxy {
    /// Reaches backends through the egress policy, judges their certificates by `trust`, and believes what `trusted`
    /// proxies say of clients.
    #[must_use]
    pub fn new(egress: Egress, trust: Trust, trusted: TrustedProxies, metrics: Arc<Metrics>) -> Self {
        let (places, tunnels) = (Places::new(metrics.clone()), Tunnels::new(metrics.clone()));
        Self { egress, trust, trusted, places, tunnels, metrics }
    }

    /// Passes a request on to one of the backends, as the path that `paths` has for it, in their order. `host` is what the
    /// client asked for, and `peer` the connection that it came over, whoever sent it over that.
    ///
    /// # Errors
    /// When there is no response that could be passed back.
    pub async fn forward(
        &self,
        peer: &Peer,
        request: Request<Incoming>,
        host: &str,
        upstreams: &Upstreams,
        paths: Vec<PathAndQuery>,
        id: RequestId,
    ) -> Result<Response<ResponseBody>, ProxyError> {
        let result = match self.prepare(peer, request, host, paths, id) {
            Ok(outgoing) => self.exchange(upstreams, outgoing).await,
            Err(error) => Err(error),
        };
        match &result {
            Ok(_) => self.metrics.upstream_answered(),
            Err(error) => self.metrics.upstream_refused(error.code()),
        }
        result
    }

    /// Waits for upgraded connections for a moment, then cuts them.
    pub async fn drain(&self) {
        self.tunnels.drain().await;
    }

    fn prepare(
        &self,
        peer: &Peer,
        mut request: Request<Incoming>,
        host: &str,
        paths: Vec<PathAndQuery>,
        id: RequestId,
    ) -> Result<Outgoing, ProxyError> {
        if request.method() == Method::CONNECT {
            return Err(ProxyError::Connect);
        }
        check_length(&request)?;
        // One with a body is passed on as any other: nobody upgrades then.
        let protocol = if request.body().is_end_stream() { tunnel::asked(&request) } else { None };
        let upgrade = protocol.as_ref().map(|_| hyper::upgrade::on(&mut request));
        let (mut parts, body) = request.into_parts();
        let headers = &mut parts.headers;
        headers::pass_request(headers, parts.version, &body.size_hint());
        forwarded::tell(headers, peer, &self.trusted, host, parts.version)?;
        headers.insert(REQUEST_ID, id.header());
        if let Some(protocol) = protocol {
            tunnel::tell(headers, protocol);
        }
        parts.version = Version::HTTP_11;
        // What this connection has noted is not for the next one.
        let usage = parts.extensions.remove();
        parts.extensions.clear();
        let request = Request::from_parts(parts, RequestBody::new(body));
        Ok(Outgoing { id, request, paths, upgrade, usage })
    }
}

fn check_length(request: &Request<Incoming>) -> Result<(), ProxyError> {
    // hyper has refused lengths that are malformed or contradict each other.
    let length = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if length > Some(limits::PROXIED_BODY_BYTES) {
        return Err(ProxyError::BodyTooLarge(limits::PROXIED_BODY_BYTES));
    }
    Ok(())
}
