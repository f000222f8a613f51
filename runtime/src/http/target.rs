//! What a request asks for: its host, and the absolute URI that guests see.

use ::http::header::HOST;
use ::http::{Method, Request, Uri, Version};
use af_contract::limits;

/// Why a request cannot be for any function. Always the client's fault.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// No host, two, or one that is none.
    #[error("the request needs exactly one valid Host header")]
    Host,
    /// A target and a Host header that name different ones.
    #[error("the request's target and its Host header name different hosts")]
    TwoHosts,
    /// The connection was encrypted for another one.
    #[error("this connection is for {server_name:?}; a request to {host:?} needs another one")]
    Misdirected {
        /// What the request is for.
        host: String,
        /// What the connection is for.
        server_name: String,
    },
    /// Not served by anything here.
    #[error("the method {0} is not served here")]
    Method(Method),
    /// More than [`limits::HEADER_COUNT`].
    #[error("the request has {0} header lines; at most {limit} are allowed", limit = limits::HEADER_COUNT)]
    TooManyHeaders(usize),
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

/// The host that was asked for. A request may name it twice, in its target and in its Host
/// header; two names that differ would let two servers see two requests in one (RFC 9112, section 3.2).
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
        (None, _) if request.version() == Version::HTTP_11 => return Err(TargetError::Host),
        (None, _) => None,
        (Some(_), Some(_)) => return Err(TargetError::Host),
    };
    let authority = request.uri().authority().map(|authority| authority.as_str());
    if let (Some(one), Some(other)) = (authority, header)
        && !one.eq_ignore_ascii_case(other)
    {
        return Err(TargetError::TwoHosts);
    }
    let host = authority.or(header).filter(|host| !host.is_empty() && host.bytes().all(is_of_host));
    let authority = host.map(str::to_ascii_lowercase).ok_or(TargetError::Host)?;
    // An IPv6 address has colons of its own, in brackets.
    let port =
        authority.rfind(':').filter(|colon| authority.rfind(']').is_none_or(|bracket| bracket < *colon));
    let end = port.unwrap_or(authority.len());
    // A fully qualified name is the same host.
    let name = authority.get(..end).map_or(end, |name| name.strip_suffix('.').unwrap_or(name).len());
    Ok(Host { authority, name })
}

/// Names, addresses and a port; what else a URL may have there (RFC 3986, section 3.2) is nobody's host here.
fn is_of_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte)
}

/// Judges what does not depend on who answers: the method, the number of headers, and that the host is the one that the
/// connection was encrypted for, since whoever holds its certificate might not be who answers for another host.
///
/// # Errors
/// When one of them is not served.
pub fn judge<B>(request: &Request<B>, host: &Host, server_name: Option<&str>) -> Result<(), TargetError> {
    if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
        return Err(TargetError::Method(request.method().clone()));
    }
    let lines = request.headers().len();
    // One may be the trace's, which the edge adds.
    if lines > limits::HEADER_COUNT + 1 {
        return Err(TargetError::TooManyHeaders(lines));
    }
    let name = host.name();
    match server_name {
        Some(asked) if !asked.eq_ignore_ascii_case(name) => {
            Err(TargetError::Misdirected { host: name.to_owned(), server_name: asked.to_owned() })
        }
        _ => Ok(()),
    }
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
