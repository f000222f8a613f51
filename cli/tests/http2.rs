//! HTTP/2 on the port of HTTP/1.1, and what one client of it may do.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::client::conn::http2::SendRequest;
use hyper::{Request, Version};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use support::{Home, Server, deploy};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

type Body = http_body_util::Either<Empty<Bytes>, Full<Bytes>>;

async fn open(server: &Server) -> (SendRequest<Body>, JoinHandle<hyper::Result<()>>) {
    let stream = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    (sender, tokio::spawn(connection))
}

fn get(server: &Server, path: &str) -> Request<Body> {
    let uri = format!("http://{}{path}", server.host("good"));
    Request::get(uri).version(Version::HTTP_2).body(Body::Left(Empty::new())).unwrap()
}

#[tokio::test]
async fn requests_share_a_connection() {
    let home = Home::new();
    let server = home.up(&[]);
    deploy(&home, "good", "hostile", &[]);
    let (sender, _connection) = open(&server).await;
    let slow = tokio::spawn(sender.clone().send_request(get(&server, "/slow")));
    let mut bodies = Vec::new();
    for number in 0..50 {
        let text = Bytes::from(format!("{number}").repeat(20_000));
        let mut request = get(&server, "/echo").map(|_| Body::Right(Full::new(text.clone())));
        *request.method_mut() = hyper::Method::POST;
        bodies.push((text, tokio::spawn(sender.clone().send_request(request))));
    }
    for (sent, answer) in bodies {
        let answer = answer.await.unwrap().unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (200, Version::HTTP_2));
        assert!(answer.headers().contains_key("af-deployment"));
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), sent);
    }
    let slow = slow.await.unwrap().unwrap().into_body().collect().await.unwrap().to_bytes();
    assert_eq!(slow, "slow but sure\n");
}

#[tokio::test]
async fn two_hosts_in_one_request_are_refused() {
    let home = Home::new();
    let server = home.up(&[]);
    deploy(&home, "good", "hello-rust", &[]);
    let (mut sender, _connection) = open(&server).await;
    let mut request = get(&server, "/");
    request.headers_mut().insert("host", "other.localhost".parse().unwrap());
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 400);
    let many = (0..200).fold(get(&server, "/"), |mut request, number| {
        let name: hyper::header::HeaderName = format!("x-{number}").parse().unwrap();
        request.headers_mut().insert(name, "y".parse().unwrap());
        request
    });
    assert_eq!(sender.send_request(many).await.unwrap().status(), 431);
}

#[tokio::test]
async fn a_stop_lets_requests_finish_and_an_idle_client_go() {
    let home = Home::new();
    let server = home.up(&["--idle-timeout-ms", "100"]);
    deploy(&home, "good", "hostile", &[]);
    let (mut idle, ended) = open(&server).await;
    assert_eq!(idle.send_request(get(&server, "/")).await.unwrap().status(), 200);
    tokio::time::timeout(Duration::from_secs(10), ended).await.expect("it is told to go").unwrap().unwrap();
    let (mut busy, ended) = open(&server).await;
    let answer = busy.send_request(get(&server, "/slow")).await.unwrap();
    server.terminate();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "slow but sure\n");
    tokio::time::timeout(Duration::from_secs(10), ended).await.expect("it is told to go").unwrap().unwrap();
    assert!(server.stop().success());
}

#[tokio::test]
async fn a_client_that_answers_pings_and_takes_nothing_of_its_answers_is_ended() {
    let home = Home::new();
    let server = home.up(&["--write-timeout-ms", "200"]);
    deploy(&home, "good", "hostile", &[]);
    let stream = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    let mut client = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    client.timer(TokioTimer::new()).keep_alive_interval(Duration::from_millis(20));
    client.initial_stream_window_size(0);
    let (sender, connection) = client.handshake::<_, Body>(TokioIo::new(stream)).await.unwrap();
    let ended = tokio::spawn(connection);
    let (whole, streamed) = (get(&server, "/"), get(&server, "/slow"));
    let whole = sender.clone().send_request(whole).await.unwrap();
    let streamed = sender.clone().send_request(streamed).await.unwrap();
    assert!(whole.into_body().collect().await.is_err(), "it was reset");
    assert!(streamed.into_body().collect().await.is_err(), "it was reset");
    let _over =
        tokio::time::timeout(Duration::from_secs(10), ended).await.expect("nothing else is left").unwrap();
    let (mut other, _connection) = open(&server).await;
    assert_eq!(other.send_request(get(&server, "/")).await.unwrap().status(), 200);
}
