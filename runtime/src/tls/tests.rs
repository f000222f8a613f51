//! Handshakes with a real client, over a pipe.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion, version};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::certificate::tests::self_signed;
use super::*;
use crate::listen::TlsPeer;

fn build(files: CertificateFiles) -> Result<Arc<Tls>, TlsError> {
    let config = TlsConfig { files, acme: None, store_dir: PathBuf::new(), domains: Vec::new() };
    Tls::build(&config, Arc::new(|_| false), Arc::default())
}

/// A server with one uploaded certificate, and a client that trusts it.
fn pair(names: &[&str], versions: &[&'static SupportedProtocolVersion]) -> (Arc<Tls>, Arc<ClientConfig>) {
    let tls = build(CertificateFiles::default()).unwrap();
    let (chain, key) = self_signed(names);
    tls.install(names, chain.as_bytes(), key.as_bytes()).unwrap();
    (tls, client(&chain, versions))
}

fn client(root: &str, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(root.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

type Met = (Result<TlsPeer, HandshakeError>, std::io::Result<TlsStream<DuplexStream>>);

/// Connects, sends a byte from the server, and returns what both sides have.
async fn meet(tls: &Tls, config: &Arc<ClientConfig>, name: &'static str) -> Met {
    let (near, far) = duplex(1 << 16);
    let server = async {
        match tls.accept(far).await? {
            Accepted::Stream(mut stream, told) => {
                stream.write_all(b"x").await?;
                stream.shutdown().await?;
                Ok(told)
            }
            Accepted::Challenge => panic!("nobody asked for one"),
        }
    };
    let client = async {
        let connector = TlsConnector::from(config.clone());
        let mut stream = connector.connect(ServerName::try_from(name).unwrap(), near).await?;
        // Tickets come with what the server sends first.
        stream.read_to_end(&mut Vec::new()).await?;
        Ok(stream)
    };
    tokio::join!(server, client)
}

#[tokio::test]
async fn both_versions_are_spoken_and_sessions_are_resumed() {
    for version in [&version::TLS12, &version::TLS13] {
        let (tls, config) = pair(&["a.test"], &[version]);
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let (server, client) = meet(&tls, &config, "a.test").await;
            assert_eq!(server.unwrap().server_name.as_deref(), Some("a.test"));
            let client = client.unwrap();
            let connection = client.get_ref().1;
            assert_eq!(connection.protocol_version(), Some(version.version));
            kinds.push(connection.handshake_kind());
        }
        assert_eq!(kinds, [Some(HandshakeKind::Full), Some(HandshakeKind::Resumed)], "{:?}", version.version);
    }
}

#[tokio::test]
async fn http_is_agreed_on_and_anything_else_is_refused() {
    let (tls, config) = pair(&["a.test"], &[&version::TLS13]);
    let offer = async |protocols: &[&[u8]]| {
        let mut config = ClientConfig::clone(&config);
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let (_, client) = meet(&tls, &Arc::new(config), "a.test").await;
        client.map(|stream| stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec)).ok()
    };
    assert_eq!(offer(&[]).await, Some(None));
    assert_eq!(offer(&[b"spdy/1", b"http/1.1"]).await, Some(Some(b"http/1.1".to_vec())));
    assert_eq!(offer(&[b"spdy/1"]).await, None);
    assert_eq!(offer(&[b"acme-tls/1"]).await, None, "no order waits for an answer");
}

#[tokio::test]
async fn a_name_without_a_certificate_is_refused_with_an_alert() {
    let (tls, config) = pair(&["a.test"], &[&version::TLS13]);
    let (server, client) = meet(&tls, &config, "b.test").await;
    assert!(matches!(server, Err(HandshakeError::NoCertificate(Some(name))) if name == "b.test"));
    assert!(client.unwrap_err().to_string().contains("AccessDenied"));
    let (server, _) = meet(&tls, &config, "127.0.0.1").await;
    assert!(matches!(server, Err(HandshakeError::NoCertificate(None))), "an address is no name");
    tls.remove("A.test");
    tls.remove("not a name");
    assert!(meet(&tls, &config, "a.test").await.0.is_err());
}

#[tokio::test]
async fn uploaded_certificates_are_only_for_names_of_theirs() {
    let (tls, _) = pair(&["a.test"], &[&version::TLS13]);
    let (chain, key) = self_signed(&["*.b.test", "c.test"]);
    let install = |names: &[&str]| tls.install(names, chain.as_bytes(), key.as_bytes());
    assert!(install(&["x.b.test", "*.b.test", "C.test"]).is_ok());
    assert!(matches!(install(&["a.test"]), Err(InstallError::NotFor(name)) if name.to_string() == "a.test"));
    assert!(matches!(install(&["x.b.test", "b.test"]), Err(InstallError::NotFor(_))));
    assert!(matches!(install(&["*"]), Err(InstallError::Name(_))));
    assert!(matches!(tls.install(&["c.test"], chain.as_bytes(), b""), Err(InstallError::Certificate(_))));
    let config = client(&chain, &[&version::TLS13]);
    assert_eq!(meet(&tls, &config, "x.b.test").await.0.unwrap().server_name.as_deref(), Some("x.b.test"));
    assert!(meet(&tls, &config, "y.x.b.test").await.0.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_silent_or_slow_is_given_up() {
    let (tls, config) = pair(&["a.test"], &[&version::TLS13]);
    let (_near, far) = duplex(1024);
    let begun = tokio::time::Instant::now();
    assert!(matches!(tls.accept(far).await, Err(HandshakeError::TimedOut)));
    assert_eq!(begun.elapsed().as_secs(), 10);
    // It says hello, and nothing after it.
    let (mut near, far) = duplex(1 << 16);
    let name = ServerName::try_from("a.test").unwrap();
    let mut connection = rustls::ClientConnection::new(config, name).unwrap();
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).unwrap();
    near.write_all(&hello).await.unwrap();
    assert!(matches!(tls.accept(far).await, Err(HandshakeError::TimedOut)));
    assert!(begun.elapsed() < Duration::from_secs(31));
}

#[tokio::test]
async fn malformed_bytes_end_the_handshake() {
    let (tls, _) = pair(&["a.test"], &[&version::TLS13]);
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x16, 3, 1, 0xff, 0xff], &[0; 64], b""] {
        let (mut near, far) = duplex(1024);
        near.write_all(bytes).await.unwrap();
        near.shutdown().await.unwrap();
        assert!(matches!(tls.accept(far).await, Err(HandshakeError::Io(_))), "{bytes:?}");
    }
}
