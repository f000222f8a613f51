//! Somebody between an edge and its control plane, who does with the feed what they want.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;

/// What becomes of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    Honest,
    /// One bit of each is another one.
    Changes,
    /// An earlier answer comes again.
    Repeats,
    /// The end is missing.
    Cuts,
}

#[derive(Clone)]
struct Shared {
    control: String,
    client: reqwest::Client,
    state: Arc<Mutex<Held>>,
}

struct Held {
    way: Way,
    counts: BTreeMap<Way, usize>,
    earlier: Option<Bytes>,
}

pub struct Tampering {
    state: Arc<Mutex<Held>>,
    url: String,
    task: tokio::task::JoinHandle<()>,
}

impl Tampering {
    /// In front of this control plane.
    pub async fn start(control: &str) -> Self {
        let held = Held { way: Way::Honest, counts: BTreeMap::new(), earlier: None };
        let state = Arc::new(Mutex::new(held));
        let client = reqwest::Client::new();
        let shared = Shared { control: control.to_owned(), client, state: state.clone() };
        let app = Router::new().fallback(pass).with_state(shared);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { state, url, task }
    }

    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// From now on.
    pub fn go(&self, way: Way) {
        self.state.lock().unwrap().way = way;
    }

    /// How many answers were treated so.
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
    let url = format!("{}{}", shared.control, parts.uri);
    let mut headers = parts.headers;
    headers.remove("host");
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let sent = shared.client.request(parts.method, url).headers(headers).body(body).send().await;
    let Ok(answer) = sent else {
        return Response::builder().status(502).body(Body::empty()).unwrap();
    };
    let status = answer.status();
    let mut bytes = answer.bytes().await.unwrap_or_default();
    if parts.uri.path() == "/v1/edge/feed" && status == 200 {
        let mut held = shared.state.lock().unwrap();
        let way = held.way;
        *held.counts.entry(way).or_default() += 1;
        let earlier = held.earlier.get_or_insert_with(|| bytes.clone()).clone();
        bytes = match way {
            Way::Honest => bytes,
            Way::Repeats => earlier,
            Way::Cuts => bytes.slice(..bytes.len() / 2),
            Way::Changes => {
                let mut changed = bytes.to_vec();
                let middle = changed.len() / 2;
                changed[middle] ^= 1;
                changed.into()
            }
        };
    }
    Response::builder().status(status).body(Body::from(bytes)).unwrap()
}
