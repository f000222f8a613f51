//! One handshake: the certificate for the name that a client asks for, ordered first if it is not there yet.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{Acceptor, NoServerSessionStorage, ResolvesServerCert};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};

use super::acme::{Challenges, IssueError, PROTOCOL};
use super::{DnsName, Table, Tls};
use crate::listen::TlsPeer;

/// How long a client may take for each half of a handshake, apart from what its certificate takes.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What is spoken inside, in the order in which it is preferred.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// What became of a connection.
pub enum Accepted<S> {
    /// Encrypted, with what the handshake told.
    Stream(Box<TlsStream<S>>, TlsPeer),
    /// It was an authority that looked for an answer. There is nothing more to do.
    Challenge,
}

/// Why a connection is not served. Mostly the client's fault, so only told where the log shows everything.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// Malformed, or the client went away.
    #[error("the handshake failed")]
    Io(#[from] io::Error),
    /// Too slow.
    #[error("the handshake took too long")]
    TimedOut,
    /// It asked for no name, or for one that has no certificate here and may not get one.
    #[error("there is no certificate for {0:?}")]
    NoCertificate(Option<String>),
    /// A certificate could not be ordered.
    #[error("no certificate could be had: {0}")]
    Issue(Arc<IssueError>),
}

impl Tls {
    /// Makes the handshake on a new connection.
    ///
    /// # Errors
    /// When the client does not speak TLS, is too slow, or asks for a name that has no certificate.
    pub async fn accept<S>(&self, stream: S) -> Result<Accepted<S>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let accepted = self.shake(stream).await;
        if accepted.is_err() {
            self.metrics.handshake_failed();
        }
        accepted
    }

    async fn shake<S>(&self, stream: S) -> Result<Accepted<S>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let start = in_time(LazyConfigAcceptor::new(Acceptor::default(), stream)).await?;
        if let Some(config) = self.challenge.as_ref().filter(|_| is_challenge(&start)) {
            let mut stream = in_time(start.into_stream(config.clone())).await?;
            stream.shutdown().await?;
            return Ok(Accepted::Challenge);
        }
        let missing = match start.client_hello().server_name() {
            Some(name) if self.table.find(name).is_some() => Ok(()),
            name => Err(name.map(str::to_owned)),
        };
        if let Err(name) = missing {
            let supplied = self.supply(name).await;
            if supplied.is_err() {
                // Without a certificate it ends with an alert, which clients can tell from a broken connection.
                let _refused = in_time(start.into_stream(self.server.clone())).await;
                supplied?;
                return Err(HandshakeError::TimedOut);
            }
        }
        let stream = in_time(start.into_stream(self.server.clone())).await?;
        let server_name = stream.get_ref().1.server_name().map(str::to_ascii_lowercase);
        Ok(Accepted::Stream(Box::new(stream), TlsPeer { server_name }))
    }

    /// Gets a certificate for a name that has none in memory, if it may have one.
    async fn supply(&self, name: Option<String>) -> Result<(), HandshakeError> {
        let parsed = name.as_deref().and_then(|name| DnsName::parse(name).ok());
        let (Some(acme), Some(parsed)) = (&self.acme, parsed) else {
            return Err(HandshakeError::NoCertificate(name));
        };
        let wanted = acme.wanted(&parsed).ok_or(HandshakeError::NoCertificate(name))?;
        acme.obtain(&wanted).await.map_err(HandshakeError::Issue)
    }
}

async fn in_time<T>(half: impl Future<Output = io::Result<T>>) -> Result<T, HandshakeError> {
    Ok(tokio::time::timeout(TIMEOUT, half).await.map_err(|_| HandshakeError::TimedOut)??)
}

/// Whether it speaks the protocol of RFC 8737 and nothing else.
fn is_challenge<S: AsyncRead + AsyncWrite + Unpin>(start: &StartHandshake<S>) -> bool {
    start
        .client_hello()
        .alpn()
        .is_some_and(|mut offered| offered.next() == Some(PROTOCOL) && offered.next().is_none())
}

/// For clients: TLS 1.2 and 1.3, with session tickets.
pub fn server_config(table: Arc<Table>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = config(table)?;
    config.alpn_protocols = PROTOCOLS.iter().map(|protocol| protocol.to_vec()).collect();
    // Tickets are encrypted with keys of this process that change by themselves, and kept by clients: resuming costs
    // no memory here and no lock, unlike a table of sessions. Early data stays off: it can be replayed.
    config.ticketer = ring::Ticketer::new()?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

/// For authorities.
pub fn challenge_config(challenges: Arc<Challenges>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = config(challenges)?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(Arc::new(config))
}

fn config(resolver: Arc<dyn ResolvesServerCert>) -> Result<ServerConfig, rustls::Error> {
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    Ok(builder.with_safe_default_protocol_versions()?.with_no_client_auth().with_cert_resolver(resolver))
}
