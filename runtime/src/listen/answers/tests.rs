use std::convert::Infallible;
use std::sync::Mutex;

use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::client::conn::http2::SendRequest;
use hyper::rt::Executor;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::duplex;
use tokio::sync::mpsc;

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);
const HOUR: Duration = Duration::from_secs(3600);
const WINDOW: u32 = 32 << 10;

/// How requests ended, in their order.
#[derive(Clone)]
struct Attended(mpsc::Sender<(Answered, u64)>, Instant);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Attended {
    fn execute(&self, request: F) {
        let Self(ended, begun) = self.clone();
        tokio::spawn(async move {
            let how = attend(request, PATIENCE).await;
            let _ = ended.send((how, begun.elapsed().as_secs())).await;
        });
    }
}

struct Scene {
    client: SendRequest<Empty<Bytes>>,
    ended: mpsc::Receiver<(Answered, u64)>,
    guest: Arc<Mutex<()>>,
}

/// A body: nothing, "one" and an hour later "two", or a megabyte. It has a part of `guest` while it is there.
fn body(path: &str, guest: Arc<Mutex<()>>) -> impl Body<Data = Bytes, Error = Infallible> + Unpin + use<> {
    let pieces = match path {
        "/events" => vec![Bytes::from("one"), Bytes::from("two")],
        _ => vec![Bytes::from(vec![7; 1 << 20])],
    };
    Box::pin(StreamBody::new(futures::stream::unfold(
        (pieces.into_iter(), guest, 0),
        async |(mut rest, guest, number)| {
            if number > 0 {
                tokio::time::sleep(HOUR).await;
            }
            let piece = rest.next()?;
            Some((Ok(Frame::data(piece)), (rest, guest, number + 1)))
        },
    )))
}

async fn scene(window: u32) -> Scene {
    let (near, far) = duplex(64 << 10);
    let (sender, ended) = mpsc::channel(8);
    let guest = Arc::new(Mutex::new(()));
    let guests = guest.clone();
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let answer = body(request.uri().path(), guests.clone());
        // In the request's own task, which knows of its pieces.
        async move { Ok::<_, Infallible>(Response::new(InPieces::new(answer))) }
    });
    let server = Builder::new(Attended(sender, Instant::now())).serve_connection(TokioIo::new(far), service);
    tokio::spawn(server);
    let mut client = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    client.timer(TokioTimer::new()).initial_stream_window_size(window);
    let (client, driver) = client.handshake(TokioIo::new(near)).await.unwrap();
    tokio::spawn(driver);
    Scene { client, ended, guest }
}

impl Scene {
    async fn ask(&self, path: &str) -> hyper::body::Incoming {
        let request = Request::get(format!("http://edge{path}")).body(Empty::new()).unwrap();
        self.client.clone().send_request(request).await.unwrap().into_body()
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_taken_ends_with_its_guest_and_others_go_on() {
    let mut scene = scene(WINDOW).await;
    let (events, large) = (scene.ask("/events").await, scene.ask("/large").await);
    let (how, when) = scene.ended.recv().await.unwrap();
    // A piece waits, which the client could take at 500 bytes a second.
    assert_eq!((how, when), (Answered::TooSlow, 30 + (16 << 10) / 500));
    assert_eq!(Arc::strong_count(&scene.guest), 3, "of the guests, the one with events is left");
    assert!(large.collect().await.is_err(), "it was reset");
    assert_eq!(events.collect().await.unwrap().to_bytes(), "onetwo");
    assert_eq!(scene.ended.recv().await.unwrap().0, Answered::Done);
}

#[tokio::test(start_paused = true)]
async fn without_any_window_an_answer_ends() {
    let mut scene = scene(0).await;
    let _body = scene.ask("/large").await;
    let (how, when) = scene.ended.recv().await.unwrap();
    // A piece may have been asked for before the server knew of the window.
    let most = PATIENCE.as_secs() + (16 << 10) / 500;
    assert!(how == Answered::TooSlow && (PATIENCE.as_secs()..=most).contains(&when), "{how:?} {when}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_slow_is_waited_for() {
    let mut scene = scene(WINDOW).await;
    let mut body = scene.ask("/large").await;
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame.unwrap().into_data().map_or(0, |data| data.len());
        tokio::time::sleep(PATIENCE / 2).await;
    }
    assert_eq!((bytes, scene.ended.recv().await.unwrap().0), (1 << 20, Answered::Done));
}
