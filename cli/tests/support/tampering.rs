//! Somebody between an edge and its control plane, who does with what one of them says what they want.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use tokio::sync::watch;

/// What becomes of answers, and of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    Honest,
    /// One bit of each is another one.
    Changes,
    /// An earlier answer comes again.
    Repeats,
    /// The end is missing.
    Cuts,
    /// Each request asks for, or says, something else; what was asked before has no answer.
    Asks,
}

const FEED: &str = "/v1/edge/feed";

#[derive(Clone)]
struct Shared {
    control: String,
    client: reqwest::Client,
    state: Arc<Mutex<Held>>,
    way: watch::Receiver<(&'static str, Way)>,
}

#[derive(Default)]
struct Held {
    counts: BTreeMap<Way, usize>,
    earlier: Option<Bytes>,
}

pub struct Tampering {
    state: Arc<Mutex<Held>>,
    way: watch::Sender<(&'static str, Way)>,
    url: String,
    task: tokio::task::JoinHandle<()>,
}

impl Tampering {
    /// In front of this control plane.
    pub async fn start(control: &str) -> Self {
        let state = Arc::<Mutex<Held>>::default();
        let way = watch::Sender::new((FEED, Way::Honest));
        let client = reqwest::Client::new();
        let shared =
            Shared { control: control.to_owned(), client, state: state.clone(), way: way.subscribe() };
        let app = Router::new().fallback(pass).with_state(shared);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { state, way, url, task }
    }

    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// From now on, with the feed.
    pub fn go(&self, way: Way) {
        self.go_with(FEED, way);
    }

    /// From now on, with what goes to this path.
    pub fn go_with(&self, path: &'static str, way: Way) {
        self.way.send_replace((path, way));
    }

    /// How many requests or answers were treated so.
    pub fn count(&self, way: Way) -> usize {
        self.state.lock().unwrap().counts.get(&way).copied().unwrap_or_default()
    }
}

impl Drop for Tampering {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(State(shared): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let mut way = shared.way.clone();
    let asks = |(at, way): &(&str, Way)| *at == parts.uri.path() && *way == Way::Asks;
    let (mut target, mut body) = (parts.uri.to_string(), axum::body::to_bytes(body, 1 << 20).await.unwrap());
    let changes = asks(&way.borrow_and_update());
    if changes {
        shared.count(Way::Asks);
        target = target.replace("anew=false", "anew=true");
        if !body.is_empty() {
            body = Bytes::from_static(b"{}");
        }
    }
    let mut headers = parts.headers.clone();
    headers.remove("host");
    headers.remove("content-length");
    let sent = shared.client.request(parts.method.clone(), format!("{}{target}", shared.control));
    let sent = async {
        let answer = sent.headers(headers).body(body).send().await.ok()?;
        Some((answer.status(), answer.bytes().await.unwrap_or_default()))
    };
    let answered = tokio::select! {
        answered = sent => answered,
        _changed = way.wait_for(|way| asks(way) && !changes) => None,
    };
    let Some((status, mut bytes)) = answered else {
        return Response::builder().status(502).body(Body::empty()).unwrap();
    };
    let (at, way) = *shared.way.borrow();
    if parts.uri.path() == at && status == 200 && way != Way::Asks {
        bytes = shared.treated(way, bytes);
    }
    Response::builder().status(status).body(Body::from(bytes)).unwrap()
}

impl Shared {
    fn count(&self, way: Way) {
        *self.state.lock().unwrap().counts.entry(way).or_default() += 1;
    }

    fn treated(&self, way: Way, bytes: Bytes) -> Bytes {
        self.count(way);
        let mut held = self.state.lock().unwrap();
        let earlier = held.earlier.get_or_insert_with(|| bytes.clone()).clone();
        match way {
            Way::Honest | Way::Asks => bytes,
            Way::Repeats => earlier,
            Way::Cuts => bytes.slice(..bytes.len() / 2),
            Way::Changes => {
                let mut changed = bytes.to_vec();
                let middle = changed.len() / 2;
                changed[middle] ^= 1;
                changed.into()
            }
        }
    }
}
