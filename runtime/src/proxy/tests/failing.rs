//! Backends and clients that misbehave, and what the other side is told.

use super::*;

async fn refused(answer: &'static str) -> (u16, String) {
    let (backend, _) = saying(answer).await;
    code(&Edge::to(http(backend)).await.get("/").await)
}

fn problem(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

/// Where nobody listens.
async fn nowhere() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn a_broken_response_is_a_502() {
    for answer in [
        "",
        "HTTP/1.1 200",
        "SSH-2.0-OpenSSH_9.9\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\na b: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    ] {
        assert_eq!(refused(answer).await, problem(502, "upstream_failed"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_header_that_is_too_large_is_a_502() {
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "a".repeat(limits::HEADER_BYTES + 1));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: 1\r\n".repeat(limits::HEADER_COUNT + 1));
    for answer in [long, many] {
        let answer: &str = answer.leak();
        assert_eq!(refused(answer).await, problem(502, "upstream_failed"));
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_not_taken_for_a_whole_one() {
    for (answer, whole) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "a length that is not reached"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "no last chunk"),
    ] {
        let (backend, _) = saying(answer).await;
        let edge = Edge::to(http(backend)).await;
        let answer = edge.get("/").await;
        assert_eq!(edge.metric("af_upstream_responses_broken_total"), 1, "{whole}");
        assert!(!answer.ends_with("0\r\n\r\n") && !answer.contains("content-length: 3"), "{whole}: {answer}");
    }
}

#[tokio::test]
async fn silence_is_a_504() {
    let (backend, _) = raw(async |mut stream| while !head(&mut stream).await.is_empty() {}).await;
    let edge = Edge::hasty(http(backend)).await;
    assert_eq!(code(&edge.get("/").await), problem(504, "upstream_timeout"));
    assert_eq!(edge.metric("af_upstream_requests_total{code=\"upstream_timeout\"}"), 1);
    assert_eq!(edge.metric("af_upstream_connections"), 0, "its connection is closed");
}

#[tokio::test]
async fn a_client_that_stops_in_its_body_is_told_so() {
    let (backend, _) = raw(async |mut stream| while stream.read_u8().await.is_ok() {}).await;
    let edge = Edge::hasty(http(backend)).await;
    let answer = edge.ask("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc").await;
    assert_eq!(code(&answer), problem(408, "request_body_timeout"));
}

#[tokio::test]
async fn a_body_that_is_no_http_is_the_clients_fault() {
    let (backend, _) = raw(async |mut stream| while stream.read_u8().await.is_ok() {}).await;
    let edge = Edge::to(http(backend)).await;
    let answer = edge.ask("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n").await;
    assert_eq!(code(&answer), problem(400, "request_body_broken"));
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_before_and_after_it_is_sent() {
    let (backend, connections) = raw(async |mut stream| {
        let mut sink = vec![0; 1 << 20];
        while stream.read(&mut sink).await.is_ok_and(|read| read > 0) {}
    })
    .await;
    let edge = Edge::to(http(backend)).await;
    let most = limits::PROXIED_BODY_BYTES;
    let answer =
        edge.ask(&format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", most + 1)).await;
    assert_eq!(code(&answer), problem(413, "request_body_too_large"));
    assert_eq!(connections.load(Ordering::Relaxed), 0);

    let (mut reader, mut writer) = edge.connect().await.into_split();
    tokio::spawn(async move {
        let head = "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
        writer.write_all(head.as_bytes()).await.unwrap();
        let chunk = format!("100000\r\n{}\r\n", "a".repeat(1 << 20));
        while writer.write_all(chunk.as_bytes()).await.is_ok() {}
    });
    let mut start = [0; 12];
    reader.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 413");
}

#[tokio::test]
async fn nobody_there_is_a_502() {
    let edge = Edge::to(http(nowhere().await)).await;
    assert_eq!(code(&edge.get("/").await), problem(502, "upstream_unreachable"));
    let edge = Edge::to(Vec::new()).await;
    assert_eq!(code(&edge.get("/").await), problem(502, "upstream_unreachable"));
}

#[tokio::test]
async fn an_address_that_is_not_public_is_not_connected_to() {
    let (backend, connections) = saying("HTTP/1.1 200 OK\r\n\r\n").await;
    let edge = Edge::with(http(backend), PATIENT, Trust::default(), &[]).await;
    assert_eq!(code(&edge.get("/").await), problem(502, "upstream_address_refused"));
    assert_eq!(connections.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn the_next_backend_answers_where_one_is_not_there() {
    let (good, connections) = saying("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let targets = [nowhere().await, good].map(|address| target(UpstreamScheme::Http, address));
    let edge = Edge::to(targets.into()).await;
    for _ in 0..20 {
        let answer =
            edge.ask("POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc").await;
        assert_eq!(body(&answer), "ok");
    }
    assert_eq!(connections.load(Ordering::Relaxed), 20);
    // Each second request begins with the one that is not there, until it is left out.
    assert_eq!(edge.metric("af_upstream_retries_total"), 5);
}

/// A backend that answers once on each connection, and closes it when it is asked again.
async fn once_each() -> (SocketAddr, Arc<AtomicUsize>) {
    raw(async |mut stream| {
        head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        head(&mut stream).await;
    })
    .await
}

#[tokio::test]
async fn a_request_that_may_be_sent_twice_is_where_the_connection_was_old() {
    let (backend, connections) = once_each().await;
    let edge = Edge::to(http(backend)).await;
    assert_eq!(body(&edge.get("/").await), "ok");
    assert_eq!(body(&edge.get("/").await), "ok");
    assert_eq!((connections.load(Ordering::Relaxed), edge.metric("af_upstream_retries_total")), (2, 1));
}

#[tokio::test]
async fn a_request_that_may_not_be_sent_twice_is_not() {
    for request in [
        "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        "PUT / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc",
    ] {
        let (backend, connections) = once_each().await;
        let edge = Edge::to(http(backend)).await;
        assert_eq!(body(&edge.get("/").await), "ok");
        assert_eq!(code(&edge.ask(request).await), problem(502, "upstream_failed"), "{request}");
        assert_eq!(connections.load(Ordering::Relaxed), 1);
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_while_it_waited_is_no_failure_for_anyone() {
    let (closed, mut heard) = tokio::sync::mpsc::channel(1);
    let (backend, connections) = raw(move |mut stream| {
        let closed = closed.clone();
        async move {
            head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
            drop(stream);
            closed.send(()).await.unwrap();
        }
    })
    .await;
    let edge = Edge::to(http(backend)).await;
    for _ in 0..5 {
        let answer =
            edge.ask("POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc").await;
        assert_eq!(body(&answer), "ok");
        heard.recv().await.unwrap();
    }
    assert_eq!((connections.load(Ordering::Relaxed), edge.metric("af_upstream_retries_total")), (5, 0));
}

#[tokio::test]
async fn a_backend_that_fails_is_left_out() {
    let (bad, asked) = saying("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n").await;
    let (good, _) = saying("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let targets = [bad, good].map(|address| target(UpstreamScheme::Http, address));
    let edge = Edge::to(targets.into()).await;
    let mut statuses = Vec::new();
    for _ in 0..30 {
        statuses.push(edge.get("/").await.starts_with("HTTP/1.1 503"));
    }
    assert_eq!(statuses.iter().filter(|bad| **bad).count(), 5, "its answers are passed on until then");
    assert_eq!(asked.load(Ordering::Relaxed), 5);
}

#[tokio::test]
async fn a_response_that_stalls_is_broken_off() {
    let (backend, _) = raw(async |mut stream| {
        head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\none").await.unwrap();
        head(&mut stream).await;
    })
    .await;
    let edge = Edge::to(http(backend)).await;
    let mut stream = edge.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    head(&mut stream).await;
    let mut part = [0; 3];
    stream.read_exact(&mut part).await.unwrap();
    assert_eq!(until_closed(&mut stream).await, "");
}
