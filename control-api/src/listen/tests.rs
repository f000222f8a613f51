#![allow(clippy::unwrap_used, reason = "a failure here is the test's failure")]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::{Body, Bytes};
use axum::routing::{get, post};
use futures::{StreamExt, stream};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::*;

mod floods;

const LARGE: usize = 1 << 20;

const HOUR: Duration = Duration::from_secs(60 * 60);

/// As a page of the feed: it has a place until all of it is sent.
struct Answer(Vec<u8>, #[expect(dead_code, reason = "held")] OwnedSemaphorePermit);

impl AsRef<[u8]> for Answer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Answers with a large page, for which there is one place, with events that come once in an hour, and with what has no end, whose
/// bytes are counted.
fn router(places: Arc<Semaphore>, given: Arc<AtomicUsize>) -> Router {
    let large = move || {
        let places = places.clone();
        async move { Bytes::from_owner(Answer(vec![7; LARGE], places.acquire_owned().await.unwrap())) }
    };
    let events = || async {
        let events = stream::iter(["one", "two"]).then(|event| async move {
            if event == "two" {
                sleep(HOUR).await;
            }
            Ok::<_, Infallible>(event)
        });
        Body::from_stream(events)
    };
    let endless = |given: Arc<AtomicUsize>| {
        Body::from_stream(stream::repeat_with(move || {
            given.fetch_add(1 << 10, Ordering::Relaxed);
            Ok::<_, Infallible>(Bytes::from_static(&[7; 1 << 10]))
        }))
    };
    let sent = |body: Bytes| async move { format!("{} bytes", body.len()) };
    Router::new()
        .route("/large", get(large))
        .route("/events", get(events))
        .route("/endless", get(move || async move { endless(given) }))
        .route("/sent", post(sent))
}

struct Scene {
    client: DuplexStream,
    connection: JoinHandle<bool>,
    places: Arc<Semaphore>,
    given: Arc<AtomicUsize>,
    begun: Instant,
}

impl Scene {
    /// A connection on which so many bytes may be on their way.
    fn new(bytes: usize) -> Self {
        let (client, stream) = duplex(bytes);
        let places = Arc::new(Semaphore::new(1));
        let peer = Peer(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let activity = Arc::new(Activity::default());
        let given = Arc::default();
        let router = router(places.clone(), Arc::clone(&given));
        let connection = connection(stream, router, peer, &activity);
        let never = CancellationToken::new();
        let connection = tokio::spawn(async move { drive(connection, &activity, &never).await.is_ok() });
        Self { client, connection, places, given, begun: Instant::now() }
    }

    /// With a request of HTTP/1.1.
    async fn asked(path: &str) -> Self {
        let mut scene = Self::new(4 << 10);
        let request = format!("GET {path} HTTP/1.1\r\nhost: control\r\nconnection: close\r\n\r\n");
        scene.client.write_all(request.as_bytes()).await.unwrap();
        scene
    }

    /// Seconds.
    fn took(&self) -> u64 {
        self.begun.elapsed().as_secs()
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_its_answer_keeps_nothing() {
    let scene = Scene::asked("/large").await;
    let (connection, places, begun) = (scene.connection, scene.places, scene.begun);
    assert!(!connection.await.unwrap(), "it was cut");
    assert_eq!((begun.elapsed().as_secs(), places.available_permits()), (WRITE_TIMEOUT.as_secs(), 1));
    drop(scene.client);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_a_byte_now_and_then_keeps_nothing() {
    let mut scene = Scene::asked("/large").await;
    let mut few = [0; 64];
    while !scene.connection.is_finished() {
        sleep(WRITE_TIMEOUT / 2).await;
        let _read = scene.client.read(&mut few).await.unwrap();
    }
    assert_eq!(scene.places.available_permits(), 1);
    assert!(scene.took() < 3 * WRITE_TIMEOUT.as_secs(), "{}", scene.took());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_slowly_gets_all() {
    let mut scene = Scene::asked("/large").await;
    let (mut read, mut piece) = (Vec::<u8>::new(), vec![0; 4 << 10]);
    loop {
        sleep(Duration::from_secs(5)).await;
        let count = scene.client.read(&mut piece).await.unwrap();
        if count == 0 {
            break;
        }
        read.extend(piece.iter().take(count));
    }
    assert_eq!(read.iter().filter(|byte| **byte == 7).count(), LARGE);
    assert!(scene.took() > 20 * 60 && scene.connection.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_events_waits_as_long_as_it_takes() {
    let mut scene = Scene::asked("/events").await;
    let mut read = String::new();
    scene.client.read_to_string(&mut read).await.unwrap();
    assert!(read.contains("one") && read.contains("two"), "{read}");
    assert_eq!(scene.took(), HOUR.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_asks_for_nothing_keeps_no_connection() {
    for begun in ["", "P", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r", "G", "GET /large HTTP/1.1\r\n"] {
        let mut scene = Scene::new(4 << 10);
        scene.client.write_all(begun.as_bytes()).await.unwrap();
        let mut read = Vec::new();
        scene.client.read_to_end(&mut read).await.unwrap();
        assert_eq!(scene.took(), HEADER_TIMEOUT.as_secs(), "{begun:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_send_its_body_keeps_no_connection() {
    let post = "POST /sent HTTP/1.1\r\nhost: control\r\ncontent-length: 2000\r\n\r\n";
    let mut scene = Scene::new(4 << 10);
    scene.client.write_all(post.as_bytes()).await.unwrap();
    let mut read = String::new();
    scene.client.read_to_string(&mut read).await.unwrap();
    assert!(read.starts_with("HTTP/1.1 400"), "{read}");
    assert_eq!(scene.took(), READ_TIMEOUT.as_secs());
    // One that is slow is waited for.
    let mut scene = Scene::new(4 << 10);
    scene.client.write_all(post.as_bytes()).await.unwrap();
    for _ in 0..20 {
        sleep(READ_TIMEOUT / 19).await;
        scene.client.write_all(&[7; 100]).await.unwrap();
    }
    let mut read = [0; 15];
    scene.client.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"HTTP/1.1 200 OK");
}

#[tokio::test(start_paused = true)]
async fn of_http_2_an_answer_that_is_not_read_ends_and_others_go_on() {
    let scene = Scene::new(64 << 10);
    let mut client = http2::Builder::new(TokioExecutor::new());
    client.timer(TokioTimer::new()).initial_stream_window_size(32 << 10);
    let (client, driver) = client.handshake(TokioIo::new(scene.client)).await.unwrap();
    tokio::spawn(driver);
    let ask = |path: &str| {
        let request = Request::get(format!("http://control{path}")).body(Empty::<Bytes>::new());
        client.clone().send_request(request.unwrap())
    };
    let mut events = ask("/events").await.unwrap().into_body();
    assert_eq!(events.frame().await.unwrap().unwrap().into_data().unwrap(), "one");
    let large = ask("/large").await.unwrap();
    assert_eq!(large.headers().get("content-length").unwrap(), LARGE.to_string().as_str());
    let again = ask("/large");
    assert_eq!((scene.places.available_permits(), scene.begun.elapsed().as_secs()), (0, 0));
    // Its place is the next one's, which reads.
    let read = again.await.unwrap().into_body().collect().await.unwrap().to_bytes();
    assert_eq!((read.len(), scene.begun.elapsed().as_secs()), (LARGE, WRITE_TIMEOUT.as_secs()));
    assert!(large.into_body().collect().await.is_err(), "it was reset");
    assert_eq!(events.collect().await.unwrap().to_bytes(), "two");
    assert_eq!(scene.begun.elapsed().as_secs(), HOUR.as_secs());
    assert!(!scene.connection.is_finished());
}
