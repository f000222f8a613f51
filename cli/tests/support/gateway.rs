//! Gateways as others may run them: honest ones, and those that lie or are silent. A real one is Helia's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use af_contract::ContentId;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

/// What a gateway does when it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    Honest,
    /// One bit of each block is another one.
    Lies,
    /// It takes requests and never answers.
    Silent,
    /// It answers with an error.
    Fails,
    /// It sends without end.
    Endless,
}

#[derive(Clone)]
struct Shared {
    blocks: Arc<BTreeMap<ContentId, Bytes>>,
    manner: Manner,
    asked: Arc<AtomicUsize>,
}

/// A running gateway; stopped when it is dropped.
pub struct FakeGateway {
    pub url: String,
    asked: Arc<AtomicUsize>,
    serving: tokio::task::JoinHandle<()>,
}

impl FakeGateway {
    pub async fn start(manner: Manner, blocks: &BTreeMap<ContentId, Bytes>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Shared { blocks: Arc::new(blocks.clone()), manner, asked: Arc::default() };
        let asked = shared.asked.clone();
        let router = Router::new().route("/ipfs/{cid}", axum::routing::get(answer)).with_state(shared);
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, asked, serving }
    }

    /// As an option of `af`.
    pub fn source(&self) -> String {
        format!("gateway={}", self.url)
    }

    /// Requests until now.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for FakeGateway {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(
    State(shared): State<Shared>,
    Path(cid): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    shared.asked.fetch_add(1, Ordering::Relaxed);
    let Ok(id) = ContentId::parse(&cid) else { return StatusCode::BAD_REQUEST.into_response() };
    if query.get("format").map(String::as_str) != Some("raw") {
        return StatusCode::NOT_ACCEPTABLE.into_response();
    }
    let Some(block) = shared.blocks.get(&id).cloned() else { return StatusCode::NOT_FOUND.into_response() };
    match shared.manner {
        Manner::Honest => block.into_response(),
        Manner::Lies => {
            let mut bytes = block.to_vec();
            match bytes.first_mut() {
                Some(byte) => *byte ^= 1,
                None => bytes.push(0),
            }
            bytes.into_response()
        }
        Manner::Silent => std::future::pending().await,
        Manner::Fails => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Manner::Endless => {
            let more =
                futures::stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[0; 65536])));
            axum::body::Body::from_stream(more).into_response()
        }
    }
}
