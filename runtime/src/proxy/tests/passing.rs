//! Good requests and responses, and that they come through as they are.

use super::*;

#[tokio::test]
async fn a_backend_sees_its_own_host_and_who_asked() {
    let backend = serve(echo).await;
    let edge = Edge::to(http(backend)).await;
    let answer = edge
        .ask(
            "GET /a/b%2Fc?x=1&x=2&y HTTP/1.1\r\nHost: shop.example\r\nConnection: close, x-drop\r\nX-Drop: 1\r\nX-Kept: 1\r\n\
             X-Kept: 2\r\nX-Forwarded-For: 1.1.1.1\r\nForwarded: for=1.1.1.1\r\n\r\n",
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let seen: String = body(&answer)
        .lines()
        .filter(|line| !line.starts_with("x-request-id: "))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(
        seen,
        format!(
            "GET /a/b%2Fc?x=1&x=2&y HTTP/1.1\nforwarded: for=127.0.0.1;host=shop.example;proto=http\nhost: {backend}\n\
             via: 1.1 af\nx-forwarded-for: 127.0.0.1\nx-forwarded-host: shop.example\nx-forwarded-proto: http\nx-kept: 1\nx-kept: 2\n"
        ),
    );
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let (backend, connections) = raw(async |mut stream| {
        while !head(&mut stream).await.is_empty() {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        }
    })
    .await;
    let edge = Edge::to(http(backend)).await;
    for _ in 0..5 {
        assert_eq!(body(&edge.get("/").await), "ok");
    }
    assert_eq!(connections.load(Ordering::Relaxed), 1);
    assert_eq!(edge.metric("af_upstream_requests_total{code=\"answered\"}"), 5);
    assert_eq!(edge.metric("af_upstream_connections"), 1);
}

#[tokio::test]
async fn a_chunked_responses_connection_is_used_again() {
    let (backend, connections) = raw(async |mut stream| {
        while !head(&mut stream).await.is_empty() {
            let answer =
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n3\r\n, 2\r\n0\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let edge = Edge::to(http(backend)).await;
    for _ in 0..5 {
        assert!(edge.get("/").await.ends_with("\r\n0\r\n\r\n"));
    }
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn responses_keep_their_headers_and_lose_the_connections() {
    let answer = "HTTP/1.1 203 Odd\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nSet-Cookie: a=1\r\n\
                  Set-Cookie: b=2\r\nContent-Encoding: br\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: 3\r\n\r\nabc";
    let (backend, _) = saying(answer).await;
    let answer = Edge::to(http(backend)).await.get("/").await;
    assert_eq!(
        answer.to_lowercase(),
        "http/1.1 203 odd\r\ncontent-encoding: br\r\ndate: thu, 01 jan 1970 00:00:00 gmt\r\ncontent-length: 3\r\n\
         set-cookie: a=1\r\nset-cookie: b=2\r\nconnection: close\r\n\r\nabc"
    );
}

#[tokio::test]
async fn responses_without_a_body_have_none() {
    for (method, answer, length) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n", Some("1234")),
        ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", None),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", None),
        // hyper leaves it out, as RFC 9110 section 8.6 allows.
        ("GET", "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 1234\r\n\r\n", None),
        ("GET", "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n", None),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Some("0")),
    ] {
        let (backend, _) = saying(answer).await;
        let edge = Edge::to(http(backend)).await;
        let said = edge.ask(&format!("{method} / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")).await;
        assert_eq!(body(&said), "", "{method} {answer}");
        let said = said.to_lowercase();
        let found = said.lines().find_map(|line| line.strip_prefix("content-length: "));
        assert_eq!(found, length, "{method} {answer}: {said}");
    }
}

#[tokio::test]
async fn a_response_that_ends_with_its_connection_comes_through() {
    let (backend, _) = saying("HTTP/1.0 200 OK\r\n\r\nall of it").await;
    let answer = Edge::to(http(backend)).await.get("/").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("all of it"), "{answer}");
}

#[tokio::test]
async fn trailers_come_through_both_ways() {
    let (backend, _) = raw(async |mut stream| {
        let request = head(&mut stream).await;
        assert!(request.contains("trailer: x-sum\r\n"), "{request}");
        let mut rest = String::new();
        while !rest.ends_with("0\r\nx-sum: 5\r\n\r\n") {
            rest.push(char::from(stream.read_u8().await.unwrap()));
        }
        let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let edge = Edge::to(http(backend)).await;
    let request = "POST / HTTP/1.1\r\nHost: h\r\nConnection: close, TE\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n\
                   3\r\nabc\r\n0\r\nx-sum: 5\r\n\r\n";
    let answer = edge.ask(request).await;
    assert!(answer.ends_with("2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn bodies_stream_both_ways_at_once() {
    let edge = Edge::to(http(serve(echo).await)).await;
    let (mut reader, mut writer) = edge.connect().await.into_split();
    let size = 8 << 20;
    let request =
        format!("POST /body HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n");
    let writing = tokio::spawn(async move {
        writer.write_all(request.as_bytes()).await.unwrap();
        let part: Vec<u8> = (0..=255).cycle().take(64 << 10).collect();
        for _ in 0..size / part.len() {
            writer.write_all(&part).await.unwrap();
        }
        writer
    });
    let mut answer = Vec::new();
    reader.read_to_end(&mut answer).await.unwrap();
    let start = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
    let _open = writing.await.unwrap();
    // Sent in chunks, since the length is only known when it ends; each has its size before it.
    assert!(answer.len() - start >= size);
}

#[tokio::test]
async fn the_first_part_of_a_response_does_not_wait_for_the_last() {
    let (go, mut gone) = tokio::sync::mpsc::channel::<()>(1);
    let gone = Arc::new(tokio::sync::Mutex::new(async move || gone.recv().await));
    let (backend, _) = raw(move |mut stream| {
        let gone = gone.clone();
        async move {
            head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\none").await.unwrap();
            (gone.lock().await)().await;
            stream.write_all(b"two").await.unwrap();
        }
    })
    .await;
    let edge = Edge::to(http(backend)).await;
    let mut stream = edge.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await.unwrap();
    head(&mut stream).await;
    let mut part = [0; 3];
    stream.read_exact(&mut part).await.unwrap();
    assert_eq!(&part, b"one");
    go.send(()).await.unwrap();
    assert_eq!(until_closed(&mut stream).await, "two");
}

#[tokio::test]
async fn a_client_that_expects_continue_hears_it_from_the_backend() {
    let (backend, _) = raw(async |mut stream| {
        let request = head(&mut stream).await;
        assert!(request.contains("expect: 100-continue\r\n"), "{request}");
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
        let mut body = [0; 5];
        stream.read_exact(&mut body).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
    })
    .await;
    let edge = Edge::to(http(backend)).await;
    let mut stream = edge.connect().await;
    let request =
        "PUT / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(head(&mut stream).await, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").await.unwrap();
    assert_eq!(body(&until_closed(&mut stream).await), "ok");
}

#[tokio::test]
async fn a_backend_can_refuse_a_body_before_it_is_sent() {
    let (backend, _) =
        saying("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno").await;
    let edge = Edge::to(http(backend)).await;
    let request = "PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    let answer = edge.ask(request).await;
    assert!(answer.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{answer}");
}

#[tokio::test]
async fn a_client_that_goes_away_closes_the_backends_connection() {
    let (said, mut heard) = tokio::sync::mpsc::channel(1);
    let (backend, _) = raw(move |mut stream| {
        let said = said.clone();
        async move {
            head(&mut stream).await;
            said.send(()).await.unwrap();
            assert_eq!(head(&mut stream).await, "", "closed");
            said.send(()).await.unwrap();
        }
    })
    .await;
    let edge = Edge::to(http(backend)).await;
    let mut stream = edge.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    heard.recv().await.unwrap();
    drop(stream);
    heard.recv().await.unwrap();
}
