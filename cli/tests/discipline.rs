//! Clients that send what two servers could read in two ways, that are too slow, or that want too much, as they look on
//! the wire.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use std::time::{Duration, Instant};

use support::{Home, Server, deploy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn connect(server: &Server) -> TcpStream {
    TcpStream::connect(("127.0.0.1", server.port)).await.unwrap()
}

/// All that comes until the server closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let all = stream.read_to_end(&mut bytes);
    // A reset after the answer is a close, too.
    let _closed = tokio::time::timeout(Duration::from_secs(20), all).await.expect("the server closes");
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn send(server: &Server, bytes: &[u8]) -> String {
    let mut stream = connect(server).await;
    stream.write_all(bytes).await.unwrap();
    rest(&mut stream).await
}

fn code(response: &str) -> &str {
    response.split("\"code\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or("none")
}

fn status(response: &str) -> &str {
    response.get(9..12).unwrap_or("nothing")
}

#[tokio::test]
async fn what_two_servers_could_read_in_two_ways_is_refused() {
    let home = Home::new();
    let server = home.up(&["--metrics-listen", "127.0.0.1:0"]);
    deploy(&home, "good", "hostile", &[]);
    let host = server.host("good");
    // What hides behind each: it must never be answered.
    let hidden = format!("GET /hidden HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let head =
        |headers: &str| format!("POST /echo HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n\r\n0\r\n\r\n{hidden}");
    let malformed = ("400", "malformed_request");
    let cases: Vec<(String, (&str, &str))> = vec![
        (head("Content-Length: 5\r\nTransfer-Encoding: chunked"), malformed),
        (head("Transfer-Encoding: chunked\r\nContent-Length: 5"), malformed),
        (head("Content-Length: 5\r\nContent-Length: 6"), malformed),
        (head("Content-Length: 5, 6"), malformed),
        (head("Content-Length: +5"), malformed),
        (head("Content-Length: 99999999999999999999"), malformed),
        (head("Transfer-Encoding: chunked, identity"), malformed),
        (head("Transfer-Encoding: xchunked"), malformed),
        (head("Transfer-Encoding: gzip, chunked"), ("501", "transfer_coding_unknown")),
        (head("Transfer-Encoding : chunked"), malformed),
        (head("X: y\r\n Transfer-Encoding: chunked"), malformed),
        (head("X: y\nTransfer-Encoding: chunked"), malformed),
        (head("X: \0"), malformed),
        (head("X: a\rb"), malformed),
        (head("X\u{1}: a"), malformed),
        (format!("GET / HTTP/1.1\nHost: {host}\n\n{hidden}"), malformed),
        (format!("GET  / HTTP/1.1\r\nHost: {host}\r\n\r\n{hidden}"), malformed),
        (format!("GET / HTTP/1.1 \r\nHost: {host}\r\n\r\n{hidden}"), malformed),
        (format!("POST / HTTP/1.0\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n"), malformed),
        (format!("GET / HTTP/3.0\r\nHost: {host}\r\n\r\n"), ("505", "http_version_not_supported")),
        (format!("GET /{} HTTP/1.1\r\nHost: {host}\r\n\r\n", "x".repeat(17 << 10)), ("414", "url_too_long")),
        (format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(150 << 10)), ("431", "header_too_large")),
        (format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(200)), ("431", "header_too_large")),
    ];
    for (bytes, expected) in &cases {
        let shown = &bytes[..bytes.len().min(150)];
        let answer = send(&server, bytes.as_bytes()).await;
        assert_eq!((status(&answer), code(&answer)), *expected, "{shown:?}: {answer}");
        assert_eq!(answer.matches("x-request-id: ").count(), 1, "{shown:?}: {answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
    let counted = server.metrics().await;
    assert!(counted.contains("af_requests_total{code=\"malformed_request\"}"), "{counted}");
}

#[tokio::test]
async fn a_malformed_chunk_is_the_clients_fault_and_ends_the_connection() {
    let home = Home::new();
    let server = home.up(&["--metrics-listen", "127.0.0.1:0"]);
    deploy(&home, "good", "hostile", &[]);
    let host = server.host("good");
    let head =
        format!("POST /swallow HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
    let hidden = format!("GET /hidden HTTP/1.1\r\nHost: {host}\r\n\r\n");
    for chunk in ["5\r\nabcdefg\r\n0\r\n\r\n", "5;a\nb\r\nabcde\r\n", "-1\r\n\r\n", "5\nabcde\r\n0\r\n\r\n"] {
        let at_once = send(&server, format!("{head}{chunk}{hidden}").as_bytes()).await;
        let mut stream = connect(&server).await;
        stream.write_all(head.as_bytes()).await.unwrap();
        // The function has the request when its instance runs.
        while server.metric("af_instances_running").await < 1.0 {}
        stream.write_all(format!("{chunk}{hidden}").as_bytes()).await.unwrap();
        for answer in [at_once, rest(&mut stream).await] {
            assert_eq!((status(&answer), code(&answer)), ("400", "malformed_request"), "{chunk:?}: {answer}");
            assert_eq!(answer.matches("x-request-id: ").count(), 1, "{chunk:?}: {answer}");
        }
    }
}

#[tokio::test]
async fn requests_that_name_two_hosts_or_are_for_a_proxy_are_refused() {
    let home = Home::new();
    let server = home.up(&[]);
    deploy(&home, "good", "hello-rust", &[]);
    let host = server.host("good");
    let close = "Connection: close\r\n\r\n";
    for (bytes, expected) in [
        (format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n{close}"), ("200", "none")),
        (format!("GET http://{host}/ HTTP/1.1\r\nHost: other.localhost\r\n{close}"), ("400", "invalid_host")),
        (format!("GET / HTTP/1.1\r\nHost: {host}\r\nHost: {host}\r\n{close}"), ("400", "invalid_host")),
        (format!("GET http://{host}/ HTTP/1.1\r\n{close}"), ("400", "invalid_host")),
        (format!("GET / HTTP/1.1\r\n{close}"), ("400", "invalid_host")),
        (format!("GET http://a@{host}/ HTTP/1.1\r\nHost: a@{host}\r\n{close}"), ("400", "invalid_host")),
        (format!("TRACE / HTTP/1.1\r\nHost: {host}\r\n{close}"), ("501", "method_not_implemented")),
        (format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n{close}"), ("501", "method_not_implemented")),
        (format!("\r\nGET / HTTP/1.1\r\nHost: {host}\r\n{close}"), ("200", "none")),
    ] {
        let answer = send(&server, bytes.as_bytes()).await;
        assert_eq!((status(&answer), code(&answer)), expected, "{bytes:?}: {answer}");
    }
}

#[tokio::test]
async fn a_client_that_is_slow_with_its_header_gets_408() {
    let home = Home::new();
    let server = home.up(&["--header-timeout-ms", "300"]);
    let mut stream = connect(&server).await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: good.localhost\r\nX: y").await.unwrap();
    let answer = rest(&mut stream).await;
    assert_eq!((status(&answer), code(&answer)), ("408", "header_timeout"), "{answer}");
    let mut silent = connect(&server).await;
    assert_eq!(rest(&mut silent).await, "", "there was no request to answer");
}

#[tokio::test]
async fn a_second_header_has_its_own_time() {
    let home = Home::new();
    let server = home.up(&["--header-timeout-ms", "500"]);
    deploy(&home, "good", "hello-rust", &[]);
    let mut stream = connect(&server).await;
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", server.host("good"));
    let (start, end) = request.split_at(10);
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1200) {
        stream.write_all(start.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        tokio::time::timeout(Duration::from_millis(100), stream.readable()).await.unwrap_err();
        stream.write_all(end.as_bytes()).await.unwrap();
        // To its end, which may come later than its beginning.
        let mut answer = Vec::new();
        let is_whole = |answer: &[u8]| {
            let chunked = String::from_utf8_lossy(answer).contains("chunked");
            answer.ends_with(if chunked { b"\r\n0\r\n\r\n".as_slice() } else { b"WASI 0.2!\n" })
        };
        while !is_whole(&answer) {
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "after {:?}", began.elapsed());
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"), "after {:?}", began.elapsed());
    }
    stream.write_all(start.as_bytes()).await.unwrap();
    assert_eq!(status(&rest(&mut stream).await), "408");
}

#[tokio::test]
async fn a_client_that_is_slow_with_its_body_gets_408() {
    let home = Home::new();
    let server = home.up(&["--body-timeout-ms", "300"]);
    deploy(&home, "good", "hostile", &[]);
    let mut stream = connect(&server).await;
    let host = server.host("good");
    let head = format!("POST /swallow HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100\r\n\r\nsome");
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = rest(&mut stream).await;
    assert_eq!((status(&answer), code(&answer)), ("408", "request_body_timeout"), "{answer}");
}

#[tokio::test]
async fn connections_that_nobody_uses_or_reads_are_closed() {
    let home = Home::new();
    let server = home.up(&[
        "--idle-timeout-ms",
        "200",
        "--write-timeout-ms",
        "300",
        "--metrics-listen",
        "127.0.0.1:0",
    ]);
    deploy(&home, "good", "hostile", &["--compress"]);
    let mut idle = connect(&server).await;
    idle.write_all(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", server.host("good")).as_bytes())
        .await
        .unwrap();
    let answer = rest(&mut idle).await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    // Longer than a connection may be idle, but it is not: its response is on its way.
    let mut busy = connect(&server).await;
    busy.write_all(format!("GET /slow HTTP/1.1\r\nHost: {}\r\n\r\n", server.host("good")).as_bytes())
        .await
        .unwrap();
    assert!(rest(&mut busy).await.contains("slow but sure"));
    let mut deaf = connect(&server).await;
    deaf.write_all(format!("GET /flood HTTP/1.1\r\nHost: {}\r\n\r\n", server.host("good")).as_bytes())
        .await
        .unwrap();
    deaf.readable().await.unwrap();
    // Its guest's wall time is thirty seconds; the connection is cut before.
    tokio::time::timeout(Duration::from_secs(10), server.settled()).await.expect("it is cut");
}

#[tokio::test]
async fn one_client_cannot_have_all_connections() {
    let home = Home::new();
    let server = home.up(&["--max-connections-per-client", "2", "--metrics-listen", "127.0.0.1:0"]);
    deploy(&home, "good", "hello-rust", &[]);
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", server.host("good"));
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = connect(&server).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
        open.push(stream);
    }
    let mut third = connect(&server).await;
    assert_eq!(rest(&mut third).await, "");
    assert!(server.metric("af_connections_refused_total").await >= 1.0);
    drop(open);
    // A place is free when the server has seen that its connection is closed.
    let served = async {
        while send(&server, request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").as_bytes())
            .await
            .is_empty()
        {}
    };
    tokio::time::timeout(Duration::from_secs(10), served).await.expect("a place is free");
}

#[tokio::test]
async fn operators_see_when_to_send_requests() {
    let home = Home::new();
    let server = home.up(&["--metrics-listen", "127.0.0.1:0"]);
    deploy(&home, "good", "hostile", &[]);
    assert_eq!(server.operators("/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(server.operators("/readyz").await, (200, "ready\n".to_owned()));
    assert_eq!(server.operators("/other").await.0, 404);
    let mut busy = connect(&server).await;
    busy.write_all(format!("GET /slow HTTP/1.1\r\nHost: {}\r\n\r\n", server.host("good")).as_bytes())
        .await
        .unwrap();
    busy.readable().await.unwrap();
    server.terminate();
    let stopping = async { while server.operators("/readyz").await != (503, "stopping\n".to_owned()) {} };
    tokio::time::timeout(Duration::from_secs(5), stopping).await.expect("it says that it stops");
    assert_eq!(server.operators("/healthz").await.0, 200);
    assert!(rest(&mut busy).await.contains("slow but sure"));
}
