//! What encryption changes for requests: answers that an authority looks for, the way from http to https, and HSTS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ::http::header::{CONTENT_TYPE, HeaderName, LOCATION, STRICT_TRANSPORT_SECURITY};
use ::http::uri::Authority;
use ::http::{HeaderValue, Request, Response, StatusCode};

use super::RequestError;
use super::body::ResponseBody;
use super::target::{self, TargetError};
use crate::listen::Peer;
use crate::tls::Tls;

/// The port that needs not be named.
const HTTPS: u16 = 443;

/// What an operator wants beside certificates.
#[derive(Clone, Copy, Debug, Default)]
pub struct SecureConfig {
    /// Plain requests are sent to the encrypted listener, which is at this port.
    pub redirect: Option<u16>,
    /// Browsers are told to come back encrypted only, for so long.
    pub hsts: Option<Duration>,
}

/// Answers what needs no function, before routing.
pub struct Secure {
    tls: Arc<Tls>,
    redirect: Option<u16>,
    hsts: Option<HeaderValue>,
}

impl Secure {
    /// For a server with encrypted connections.
    pub fn new(tls: Arc<Tls>, config: SecureConfig) -> Self {
        let hsts =
            config.hsts.and_then(|age| HeaderValue::try_from(format!("max-age={}", age.as_secs())).ok());
        Self { tls, redirect: config.redirect, hsts }
    }

    /// The answer to a plain request that goes no further.
    ///
    /// # Errors
    /// When the request is to be redirected and names no host.
    pub fn answer<B>(
        &self,
        peer: &Peer,
        request: &Request<B>,
    ) -> Result<Option<Response<ResponseBody>>, RequestError> {
        if peer.tls.is_some() {
            return Ok(None);
        }
        // Authorities look here over plain HTTP first. Other tokens are the function's own business.
        if let Some(text) = self.tls.challenge(request.uri().path()) {
            return Ok(Some(of(StatusCode::OK, CONTENT_TYPE, HeaderValue::from_static("text/plain"), text)));
        }
        let Some(port) = self.redirect else { return Ok(None) };
        let place = place(request, port)?;
        // 308: unlike 301, clients keep the method and the body.
        Ok(Some(of(StatusCode::PERMANENT_REDIRECT, LOCATION, place, String::new())))
    }

    /// Adds what every encrypted response says, unless the function says it itself.
    pub fn mark(&self, peer: &Peer, response: &mut Response<ResponseBody>) {
        if let Some(hsts) = self.hsts.as_ref().filter(|_| peer.tls.is_some()) {
            response.headers_mut().entry(STRICT_TRANSPORT_SECURITY).or_insert_with(|| hsts.clone());
        }
    }
}

/// The same place, encrypted.
fn place<B>(request: &Request<B>, port: u16) -> Result<HeaderValue, TargetError> {
    let authority: Authority = target::host(request)?.authority.parse().map_err(|_| TargetError::Host)?;
    let host = authority.host();
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let place =
        if port == HTTPS { format!("https://{host}{path}") } else { format!("https://{host}:{port}{path}") };
    HeaderValue::try_from(place).map_err(|_| TargetError::Host)
}

fn of(status: StatusCode, name: HeaderName, value: HeaderValue, text: String) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::full(text));
    *response.status_mut() = status;
    response.headers_mut().insert(name, value);
    response
}

/// `https://host`, with the port unless it is the usual one.
#[must_use]
pub fn origin(scheme: &str, host: &str, address: SocketAddr) -> String {
    match (scheme, address.port()) {
        ("https", HTTPS) | ("http", 80) => format!("{scheme}://{host}"),
        (_, port) => format!("{scheme}://{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_keeps_the_place_and_nothing_that_is_none() {
        let to = |host: &str, path: &str, port| {
            let request = Request::builder().uri(path).header("host", host).body(()).unwrap();
            place(&request, port).map(|value| value.to_str().unwrap().to_owned()).ok()
        };
        assert_eq!(to("A.test:80", "/p?q=1", 443).as_deref(), Some("https://a.test/p?q=1"));
        assert_eq!(to("a.test", "/", 8443).as_deref(), Some("https://a.test:8443/"));
        assert_eq!(to("[::1]:8080", "/", 8443).as_deref(), Some("https://[::1]:8443/"));
        for host in ["", "user@a.test", "a b", "a.test/x", "a.test?x"] {
            assert_eq!(to(host, "/", 443), None, "{host}");
        }
    }
}
