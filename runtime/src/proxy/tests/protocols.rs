//! HTTP/2 on both sides, TLS to backends, and connections that stop speaking HTTP.

use hyper::client::conn::http2;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use super::*;

/// A backend with a certificate for its address, and who trusts it.
async fn tls(protocols: &[&str]) -> (SocketAddr, Trust, Arc<AtomicUsize>) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server =
        ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let mut server = server.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key).unwrap();
    server.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let trust = Trust::of(client.with_root_certificates(roots).with_no_client_auth());
    let (address, connections) = raw(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let peer = stream.peer_addr().unwrap();
            if let Ok(stream) = acceptor.accept(stream).await {
                serve_one(stream, peer, echo).await;
            }
        }
    })
    .await;
    (address, trust, connections)
}

#[tokio::test]
async fn a_backend_chooses_its_protocol() {
    for (protocols, version) in
        [(&["h2", "http/1.1"][..], "HTTP/2.0"), (&["http/1.1"], "HTTP/1.1"), (&[], "HTTP/1.1")]
    {
        let (backend, trust, connections) = tls(protocols).await;
        let edge =
            Edge::with(vec![target(UpstreamScheme::Https, backend)], PATIENT, trust, &["127.0.0.0/8"]).await;
        for _ in 0..3 {
            let answer = edge.get("/a?b").await;
            let path =
                if version == "HTTP/2.0" { format!("https://{backend}/a?b") } else { "/a?b".to_owned() };
            assert!(body(&answer).starts_with(&format!("GET {path} {version}\n")), "{answer}");
        }
        assert_eq!(connections.load(Ordering::Relaxed), 1, "{protocols:?}");
    }
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_no_backend() {
    let (backend, _, _) = tls(&["h2"]).await;
    let edge = Edge::to(vec![target(UpstreamScheme::Https, backend)]).await;
    assert_eq!(code(&edge.get("/").await), (502, "upstream_unreachable".to_owned()));
}

#[tokio::test]
async fn one_http2_connection_has_many_requests() {
    let (backend, trust, connections) = tls(&["h2"]).await;
    let edge =
        Edge::with(vec![target(UpstreamScheme::Https, backend)], PATIENT, trust, &["127.0.0.0/8"]).await;
    edge.get("/").await;
    let request = "POST /body HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello";
    let answers = futures::future::join_all((0..50).map(|_| edge.ask(request))).await;
    assert!(answers.iter().all(|answer| answer.contains("hello")));
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn http2_without_tls_is_spoken_where_it_is_said_to_be() {
    let backend = serve(echo).await;
    let edge = Edge::to(vec![target(UpstreamScheme::H2c, backend)]).await;
    let answer = edge.get("/a").await;
    assert!(body(&answer).starts_with(&format!("GET http://{backend}/a HTTP/2.0\n")), "{answer}");
    assert!(!answer.contains("\nhost: "), "{answer}");
}

#[tokio::test]
async fn a_backend_of_http2_that_floods_is_given_up() {
    let (ended, mut told) = tokio::sync::mpsc::channel(1);
    let (backend, _) = raw(move |mut stream| {
        let ended = ended.clone();
        async move {
            let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
            stream.write_all(&settings).await.unwrap();
            // Answers to pings that nobody sent.
            let pongs = [&[0, 0, 8, 6, 1, 0, 0, 0, 0][..], &[7; 8]].concat().repeat(1_000);
            while stream.write_all(&pongs).await.is_ok() {}
            ended.send(()).await.unwrap();
        }
    })
    .await;
    let edge = Edge::to(vec![target(UpstreamScheme::H2c, backend)]).await;
    let answer = edge.get("/").await;
    assert!(answer.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{answer}");
    tokio::time::timeout(Duration::from_secs(20), told.recv()).await.expect("it is ended").unwrap();
}

/// A request over HTTP/2, and the answer's status and body.
async fn over_http2(edge: &Edge, request: Request<Full<Bytes>>) -> (u16, String) {
    let io = TokioIo::new(edge.connect().await);
    let (mut sender, driver) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(driver);
    let response = sender.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn a_client_of_http2_gets_through_to_one_of_http1() {
    let backend = serve(echo).await;
    let edge = Edge::to(http(backend)).await;
    let request = Request::get("http://shop.example/a").header("cookie", "a=1").header("cookie", "b=2");
    let (status, seen) = over_http2(&edge, request.body(Full::default()).unwrap()).await;
    assert_eq!(status, 200);
    assert!(seen.starts_with("GET /a HTTP/1.1\ncookie: a=1; b=2\n"), "{seen}");
    assert!(seen.contains("\nvia: 2.0 af\n"), "{seen}");
    let request = Request::post("http://shop.example/body").body(Full::from("x".repeat(1 << 20))).unwrap();
    let (status, seen) = over_http2(&edge, request).await;
    assert_eq!((status, seen.len()), (200, 1 << 20));
}

#[tokio::test]
async fn connect_is_refused() {
    let (backend, connections) = saying("HTTP/1.1 200 OK\r\n\r\n").await;
    let edge = Edge::to(http(backend)).await;
    let answer = edge.ask("CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\nConnection: close\r\n\r\n").await;
    assert_eq!(code(&answer), (501, "connect_not_supported".to_owned()));
    assert_eq!(connections.load(Ordering::Relaxed), 0);
}

const WEBSOCKET: &str = "GET /chat HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a\r\n\r\n";

/// A backend's side of it.
async fn switch(stream: &mut TcpStream) {
    let request = head(stream).await;
    assert!(
        request.contains("connection: upgrade\r\n") && request.contains("upgrade: websocket\r\n"),
        "{request}"
    );
    let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: b\r\n\r\n";
    stream.write_all(answer.as_bytes()).await.unwrap();
}

/// A backend that switches to sending back what it gets.
async fn switching() -> SocketAddr {
    let (backend, _) = raw(async |mut stream| {
        switch(&mut stream).await;
        let (mut reader, mut writer) = stream.split();
        tokio::io::copy(&mut reader, &mut writer).await.unwrap();
    })
    .await;
    backend
}

/// A client that has switched.
async fn switched(edge: &Edge) -> TcpStream {
    let mut stream = edge.connect().await;
    stream.write_all(WEBSOCKET.as_bytes()).await.unwrap();
    let answer = head(&mut stream).await.to_lowercase();
    assert!(answer.starts_with("http/1.1 101 switching protocols\r\n"), "{answer}");
    for line in ["connection: upgrade\r\n", "upgrade: websocket\r\n", "sec-websocket-accept: b\r\n"] {
        assert!(answer.contains(line), "{line} in {answer}");
    }
    stream
}

#[tokio::test]
async fn a_websocket_passes_through() {
    let edge = Edge::to(http(switching().await)).await;
    let mut stream = switched(&edge).await;
    for text in ["one", "two", "six"] {
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut back = [0; 3];
        stream.read_exact(&mut back).await.unwrap();
        assert_eq!(back, text.as_bytes());
    }
    assert_eq!((edge.metric("af_upstream_tunnels"), edge.metric("af_upstream_connections")), (1, 1));
    stream.shutdown().await.unwrap();
    assert_eq!(until_closed(&mut stream).await, "");
    edge.proxy.drain().await;
    assert_eq!((edge.metric("af_upstream_tunnels"), edge.metric("af_upstream_connections")), (0, 0));
}

#[tokio::test]
async fn a_tunnel_that_goes_on_is_cut_in_the_drain() {
    let edge = Edge::to(http(switching().await)).await;
    let mut stream = switched(&edge).await;
    edge.proxy.drain().await;
    assert_eq!(until_closed(&mut stream).await, "");
}

#[tokio::test]
async fn a_silent_tunnel_ends() {
    let edge = Edge::to(http(switching().await)).await;
    let mut stream = switched(&edge).await;
    stream.write_all(b"a").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'a');
    assert_eq!(until_closed(&mut stream).await, "");
    let used = edge.book.take();
    assert!(
        matches!(used.as_slice(), [(_, usage)] if usage.sent_bytes == 1),
        "what went to the client: {used:?}"
    );
}

#[tokio::test]
async fn a_tunnel_ends_whose_client_pings_and_takes_nothing() {
    let (backend, _) = raw(async |mut stream| {
        switch(&mut stream).await;
        let (mut reader, mut writer) = stream.split();
        // More than any socket has room for.
        let events = async { while writer.write_all(&[7; 64 << 10]).await.is_ok() {} };
        let mut nowhere = tokio::io::sink();
        let pings = tokio::io::copy(&mut reader, &mut nowhere);
        let _ended = tokio::join!(events, pings);
    })
    .await;
    let edge = Edge::to(http(backend)).await;
    let mut stream = switched(&edge).await;
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    let pinging = async {
        while stream.write_all(b"ping").await.is_ok() {
            pace.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), pinging).await.expect("it is ended");
}

#[tokio::test]
async fn a_backend_may_refuse_to_switch() {
    let (backend, _) =
        saying("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno").await;
    let edge = Edge::to(http(backend)).await;
    let mut stream = edge.connect().await;
    stream.write_all(WEBSOCKET.as_bytes()).await.unwrap();
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 403 Forbidden\r\n"));
}

#[tokio::test]
async fn an_upgrade_to_http2_is_not_passed_on() {
    let edge = Edge::to(http(serve(echo).await)).await;
    let request = "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n";
    let answer = edge.ask(request).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(!body(&answer).contains("upgrade") && !body(&answer).contains("http2-settings"), "{answer}");
}

#[tokio::test]
async fn a_websocket_over_tls_is_http1_whatever_the_backend_prefers() {
    let (backend, trust, _) = tls(&["h2", "http/1.1"]).await;
    let edge =
        Edge::with(vec![target(UpstreamScheme::Https, backend)], PATIENT, trust, &["127.0.0.0/8"]).await;
    let mut stream = edge.connect().await;
    stream.write_all(WEBSOCKET.as_bytes()).await.unwrap();
    head(&mut stream).await;
    let mut seen = [0; 18];
    stream.read_exact(&mut seen).await.unwrap();
    assert_eq!(&seen, b"GET /chat HTTP/1.1");
}
