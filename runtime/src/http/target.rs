//! What a request asks for: its host, and the absolute URI that guests see.

use ::http::header::HOST;
use ::http::{Request, Uri};
use af_contract::limits;

/// Why a request cannot be for any function. Always the client's fault.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// No host, two, or one that is none.
    #[error("the request needs exactly one valid Host header")]
    Host,
    /// Longer than [`limits::URL_BYTES`].
    #[error("the URL has {0} bytes; at most {limit} are allowed", limit = limits::URL_BYTES)]
    UrlTooLong(usize),
}

/// The host that a request asks for, lower case.
#[derive(Clone, Debug)]
pub struct Host {
    /// With the port, if there is one.
    pub authority: String,
    name: usize,
}

impl Host {
    /// Without the port.
    #[must_use]
    pub fn name(&self) -> &str {
        self.authority.get(..self.name).unwrap_or_default()
    }
}

/// The host that was asked for. An absolute request target takes precedence
/// over the Host header (RFC 9112 section 3.2.2); two Host headers are an attack (section 3.2).
///
/// # Errors
/// When there is not exactly one, or the URL is too long.
pub fn host<B>(request: &Request<B>) -> Result<Host, TargetError> {
    let length = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    if length > limits::URL_BYTES {
        return Err(TargetError::UrlTooLong(length));
    }
    let mut headers = request.headers().get_all(HOST).iter();
    let header = match (headers.next(), headers.next()) {
        (Some(host), None) => Some(host.to_str().map_err(|_| TargetError::Host)?),
        (None, _) => None,
        (Some(_), Some(_)) => return Err(TargetError::Host),
    };
    let host = request.uri().authority().map(|authority| authority.as_str()).or(header);
    let authority =
        host.filter(|host| !host.is_empty()).map(str::to_ascii_lowercase).ok_or(TargetError::Host)?;
    // An IPv6 address has colons of its own, in brackets.
    let port =
        authority.rfind(':').filter(|colon| authority.rfind(']').is_none_or(|bracket| bracket < *colon));
    let end = port.unwrap_or(authority.len());
    // A fully qualified name is the same host.
    let name = authority.get(..end).map_or(end, |name| name.strip_suffix('.').unwrap_or(name).len());
    Ok(Host { authority, name })
}

/// Guests learn the scheme and authority from the URI (wasi:http has no other place for them).
///
/// # Errors
/// When the host is no authority.
pub fn make_absolute<B>(request: &mut Request<B>, scheme: &str, host: &Host) -> Result<(), TargetError> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let uri = Uri::builder().scheme(scheme).authority(host.authority.as_str()).path_and_query(path).build();
    *request.uri_mut() = uri.map_err(|_| TargetError::Host)?;
    Ok(())
}
