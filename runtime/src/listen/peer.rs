//! Who is at the other end of a connection.

use std::net::SocketAddr;

/// What a connection tells about all of its requests.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The client's address: the connection's own, or what a trusted balancer said in a PROXY header.
    pub address: SocketAddr,
    /// Set where the connection is encrypted.
    pub tls: Option<TlsPeer>,
}

/// What a TLS handshake tells.
#[derive(Clone, Debug, Default)]
pub struct TlsPeer {
    /// The name that the client asked for (SNI), lower case.
    pub server_name: Option<String>,
}

impl Peer {
    /// Over an unencrypted connection.
    #[must_use]
    pub fn plain(address: SocketAddr) -> Self {
        Self { address, tls: None }
    }

    /// The name that it was encrypted for, if it was, and the client told one.
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        self.tls.as_ref()?.server_name.as_deref()
    }

    /// `https` or `http`: what the client used to get here.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}
