//! TLS to one backend: what the edge trusts, and what the backend's sessions left, which are the route's own.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::Uri;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::error::Unreachable;
use crate::host::Trust;
use crate::host::egress::EgressError;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Sessions that are remembered of a backend. Each is used once, and a burst of connections needs a few.
const SESSIONS: usize = 8;

const HTTP_2: &[u8] = b"h2";
const HTTP_1: &[u8] = b"http/1.1";

/// Which protocols may be agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// HTTP/2 or 1.1.
    Any,
    /// HTTP/1.1, whose connections can be upgraded.
    Http1,
}

/// Made when the first connection needs it.
#[derive(Debug, Default)]
pub(super) struct Tls {
    config: OnceLock<Result<Arc<ClientConfig>, String>>,
}

impl Tls {
    /// Shakes hands. Returns whether HTTP/2 was agreed on, too.
    pub async fn connect(
        &self,
        trust: &Trust,
        stream: TcpStream,
        uri: &Uri,
        offer: Offer,
    ) -> Result<(TlsStream<TcpStream>, bool), Unreachable> {
        let config = self.config.get_or_init(|| trust.config().map(own)).clone();
        let mut config = config.map_err(Unreachable::Trust)?;
        if offer == Offer::Http1 {
            Arc::make_mut(&mut config).alpn_protocols = vec![HTTP_1.into()];
        }
        let name = server_name(uri).ok_or(EgressError::Host)?;
        let shaking = TlsConnector::from(config).connect(name, stream);
        let shaken = tokio::time::timeout(HANDSHAKE, shaking).await;
        let stream = shaken.map_err(|_| Unreachable::TlsTimeout)?.map_err(Unreachable::Tls)?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(HTTP_2);
        Ok((stream, http2))
    }
}

fn own(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![HTTP_2.into(), HTTP_1.into()];
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    Arc::new(config)
}

fn server_name(uri: &Uri) -> Option<ServerName<'static>> {
    let host = uri.host()?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(host.trim_end_matches('.').to_owned()).ok()
}
