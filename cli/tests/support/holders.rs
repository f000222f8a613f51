//! Fakes of those who hold content: a Kubo node's RPC, and a pinning service. They do what the real ones do, and as a
//! test says.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use af_content::car::CarDecoder;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// What a service takes.
pub const TOKEN: &str = "the-token-of-the-service";

/// Who is played.
#[derive(Clone, Copy)]
pub enum Kind {
    Kubo,
    Pinning,
    /// One that stores on Filecoin, with the manners of filecoin-pin: it finds nothing by several statuses at once, tells of
    /// pieces and data sets, and tries nothing again.
    Filecoin,
}

/// One of them, on a free port.
pub struct Holders {
    state: Shared,
    address: String,
    kind: Kind,
}

type Shared = Arc<Mutex<Held>>;

#[derive(Default)]
struct Held {
    /// CID by request; a node's requests are its CIDs.
    pins: BTreeMap<String, String>,
    blocks: usize,
    /// Requests that are still to fail.
    refusals: usize,
    requests: usize,
    status: &'static str,
    origins: Vec<String>,
    /// Its own peers, as it says.
    delegates: Vec<String>,
}

impl Holders {
    pub async fn start(kind: Kind) -> Self {
        let state = Shared::new(Mutex::new(Held { status: "queued", ..Held::default() }));
        let router = match kind {
            Kind::Kubo => Router::new()
                .route("/api/v0/dag/import", post(import))
                .route("/api/v0/pin/add", post(add))
                .route("/api/v0/pin/ls", post(list))
                .route("/api/v0/pin/rm", post(remove)),
            Kind::Pinning => Router::new()
                .route("/psa/pins", get(find).post(request))
                .route("/psa/pins/{id}", get(look).post(replace).delete(forget)),
            Kind::Filecoin => Router::new()
                .route("/psa/pins", get(find_one_status).post(request))
                .route("/psa/pins/{id}", get(look).post(change).delete(forget)),
        };
        let router = router.layer(axum::extract::DefaultBodyLimit::disable()).with_state(state.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { state, address, kind }
    }

    pub fn url(&self) -> String {
        let path = if matches!(self.kind, Kind::Kubo) { "" } else { "/psa" };
        format!("http://{}{path}", self.address)
    }

    /// As the platform calls it.
    pub fn name(&self) -> String {
        let kind = if matches!(self.kind, Kind::Kubo) { "kubo" } else { "pinning" };
        format!("{kind}:{}", self.address)
    }

    /// The CIDs that it holds.
    pub fn pins(&self) -> Vec<String> {
        self.held().pins.values().cloned().collect()
    }

    /// Blocks that it was sent.
    pub fn blocks(&self) -> usize {
        self.held().blocks
    }

    /// How often it was asked to hold something.
    pub fn requests(&self) -> usize {
        self.held().requests
    }

    pub fn origins(&self) -> Vec<String> {
        self.held().origins.clone()
    }

    /// It says that this peer gets blocks for it.
    pub fn delegate(&self, address: String) {
        self.held().delegates.push(address);
    }

    /// It fails so many times.
    pub fn refuse(&self, times: usize) {
        self.held().refusals = times;
    }

    /// What it says of all its pins from now on.
    pub fn decide(&self, status: &'static str) {
        self.held().status = status;
    }

    /// Returns when its pins are like this.
    pub async fn until(&self, like: impl Fn(&Vec<String>) -> bool) {
        let wait = async {
            while !like(&self.pins()) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), wait)
            .await
            .unwrap_or_else(|_| panic!("{:?}", self.pins()));
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.state.lock().unwrap()
    }
}

#[derive(serde::Deserialize)]
struct Argument {
    arg: String,
}

fn failed(message: &str) -> Response {
    let body = json!({ "Message": message, "Code": 0, "Type": "error" });
    (StatusCode::INTERNAL_SERVER_ERROR, Json(body)).into_response()
}

async fn import(State(state): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    let kind = headers.get("content-type").unwrap().to_str().unwrap();
    let boundary = format!("--{}", kind.rsplit_once("boundary=").unwrap().1);
    let head = body.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
    let tail = body.len() - format!("\r\n{boundary}--\r\n").len();
    let mut held = state.lock().unwrap();
    if held.refusals > 0 {
        held.refusals -= 1;
        return failed("try again");
    }
    let mut decoder = CarDecoder::default();
    decoder.push(body.get(head..tail).unwrap());
    while decoder.next_block().unwrap().is_some() {
        held.blocks += 1;
    }
    decoder.finish().unwrap();
    StatusCode::OK.into_response()
}

async fn add(State(state): State<Shared>, Query(Argument { arg }): Query<Argument>) -> Response {
    let mut held = state.lock().unwrap();
    held.requests += 1;
    held.pins.insert(arg.clone(), arg.clone());
    Json(json!({ "Pins": [arg] })).into_response()
}

async fn list(State(state): State<Shared>, Query(Argument { arg }): Query<Argument>) -> Response {
    match state.lock().unwrap().pins.contains_key(&arg) {
        true => Json(json!({ "Keys": { arg: { "Type": "recursive" } } })).into_response(),
        false => failed(&format!("path '{arg}' is not pinned")),
    }
}

async fn remove(State(state): State<Shared>, Query(Argument { arg }): Query<Argument>) -> Response {
    match state.lock().unwrap().pins.remove(&arg) {
        Some(cid) => Json(json!({ "Pins": [cid] })).into_response(),
        None => failed("not pinned or pinned indirectly"),
    }
}

/// One request as the service tells of it.
fn told(held: &Held, id: &str, cid: &str) -> Value {
    let info = match held.status {
        "failed" => json!({ "status_details": "out of space" }),
        "pinned" => json!({
            "car_file_path": "/tmp/a.car", "synapse_piece_cid": "bafkzcib-of-a-piece", "synapse_data_set_id": "7",
        }),
        _ => json!({}),
    };
    json!({
        "requestid": id, "status": held.status, "created": "2026-01-01T00:00:00Z", "pin": { "cid": cid },
        "delegates": held.delegates, "info": info,
    })
}

fn signed_in(headers: &HeaderMap) -> bool {
    headers.get("authorization").is_some_and(|value| value == &format!("Bearer {TOKEN}"))
}

fn problem(status: StatusCode, reason: &str) -> Response {
    (status, Json(json!({ "error": { "reason": reason } }))).into_response()
}

async fn find(
    State(state): State<Shared>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    if !signed_in(&headers) {
        return problem(StatusCode::UNAUTHORIZED, "UNAUTHORIZED");
    }
    let held = state.lock().unwrap();
    let found: Vec<Value> = held
        .pins
        .iter()
        .filter(|(_, cid)| Some(*cid) == query.get("cid"))
        .map(|(id, cid)| told(&held, id, cid))
        .collect();
    Json(json!({ "count": found.len(), "results": found })).into_response()
}

async fn find_one_status(
    state: State<Shared>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    if query.get("status").is_some_and(|status| status.contains(',')) {
        return Json(json!({ "count": 0, "results": [] })).into_response();
    }
    find(state, Query(query), headers).await
}

/// Nothing but its name.
async fn change(state: State<Shared>, id: Path<String>) -> Response {
    look(state, id).await
}

async fn request(State(state): State<Shared>, headers: HeaderMap, Json(pin): Json<Value>) -> Response {
    if !signed_in(&headers) {
        return problem(StatusCode::UNAUTHORIZED, "UNAUTHORIZED");
    }
    let mut held = state.lock().unwrap();
    held.requests += 1;
    let id = format!("request/{}", held.requests);
    let cid = pin.get("cid").unwrap().as_str().unwrap().to_owned();
    let origins = pin.get("origins").unwrap().as_array().unwrap();
    held.origins = origins.iter().map(|origin| origin.as_str().unwrap().to_owned()).collect();
    held.pins.insert(id.clone(), cid.clone());
    (StatusCode::ACCEPTED, Json(told(&held, &id, &cid))).into_response()
}

async fn look(State(state): State<Shared>, Path(id): Path<String>) -> Response {
    let held = state.lock().unwrap();
    match held.pins.get(&id) {
        Some(cid) => Json(told(&held, &id, cid)).into_response(),
        None => problem(StatusCode::NOT_FOUND, "NOT_FOUND"),
    }
}

async fn replace(
    state: State<Shared>,
    Path(id): Path<String>,
    headers: HeaderMap,
    pin: Json<Value>,
) -> Response {
    if state.lock().unwrap().pins.remove(&id).is_none() {
        return problem(StatusCode::NOT_FOUND, "NOT_FOUND");
    }
    request(state, headers, pin).await
}

async fn forget(State(state): State<Shared>, Path(id): Path<String>) -> Response {
    match state.lock().unwrap().pins.remove(&id) {
        Some(_) => StatusCode::ACCEPTED.into_response(),
        None => problem(StatusCode::NOT_FOUND, "NOT_FOUND"),
    }
}
