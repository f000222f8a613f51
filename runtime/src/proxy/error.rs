//! Why a request that was passed on got no good response. `http/rescue.rs` makes statuses of it.

use std::error::Error as StdError;
use std::io;

use crate::host::egress::EgressError;

/// What went wrong between the edge and a backend.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// No backend could be connected to. The backends' fault.
    #[error("no backend of this route can be reached")]
    Unreachable(#[source] Unreachable),
    /// A backend's address is not public. The tenant's fault.
    #[error("the route's backend has an address that may not be reached")]
    AddressRefused,
    /// No response within the time. The backend's fault.
    #[error("the backend did not answer in time")]
    Timeout,
    /// It broke off, or sent what is no HTTP. The backend's fault.
    #[error("the backend's response is broken")]
    Failed(#[source] Box<dyn StdError + Send + Sync>),
    /// It switched protocols without being asked. The backend's fault.
    #[error("the backend switched protocols without being asked")]
    Unasked,
    /// A response body in which nothing came for too long. The backend's fault.
    #[error("the backend stopped in the middle of its response")]
    Stalled,
    /// The client's fault.
    #[error("the request body is larger than the {0} bytes that are passed on")]
    BodyTooLarge(u64),
    /// The client stopped in the middle of its body.
    #[error("the request body did not come in time")]
    BodyTimeout,
    /// The client broke off, or its body is no HTTP.
    #[error("the request body is broken")]
    BodyBroken,
    /// It came through too many of these already: a route that leads to itself. The tenant's fault.
    #[error("the request came through this route too often")]
    Loop,
    /// CONNECT, or a protocol over HTTP/2. The client's fault.
    #[error("CONNECT is not passed on; WebSocket works over HTTP/1.1")]
    Connect,
    /// All that this edge may have open.
    #[error("too many connections to backends are open")]
    Full,
}

/// Why there is no connection to a backend.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    /// The route names none.
    #[error("there is no backend")]
    None,
    /// No address, or nobody there.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// This edge has no usable roots.
    #[error("certificates cannot be judged: {0}")]
    Trust(String),
    /// A bad certificate, or no TLS.
    #[error("no TLS")]
    Tls(#[source] io::Error),
    /// TLS took too long.
    #[error("the TLS handshake took too long")]
    TlsTimeout,
    /// No HTTP/2 where it was agreed on.
    #[error("no HTTP/2")]
    Http2(#[source] hyper::Error),
}

impl ProxyError {
    /// Stable, for problem documents and metrics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "upstream_unreachable",
            Self::AddressRefused => "upstream_address_refused",
            Self::Timeout => "upstream_timeout",
            Self::Failed(_) | Self::Unasked | Self::Stalled => "upstream_failed",
            Self::BodyTooLarge(_) => "request_body_too_large",
            Self::BodyTimeout => "request_body_timeout",
            Self::BodyBroken => "request_body_broken",
            Self::Loop => "upstream_loop",
            Self::Connect => "connect_not_supported",
            Self::Full => "overloaded",
        }
    }
}

impl From<Unreachable> for ProxyError {
    fn from(error: Unreachable) -> Self {
        match error {
            Unreachable::Egress(EgressError::Prohibited) => Self::AddressRefused,
            error => Self::Unreachable(error),
        }
    }
}
