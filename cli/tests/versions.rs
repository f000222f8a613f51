//! An edge of this version under a control plane of a later one.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use af_contract::edge::{
    FeedRequest, JoinAnswer, JoinRequest, JoinToken, KeyPair, Proof, PublicKey, Shown, seal,
};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use support::{Home, Server, eventually};
use tokio::sync::watch;
use zeroize::Zeroizing;

/// A control plane that tells what a test wants.
struct Later {
    pair: KeyPair,
    edge: Mutex<Option<PublicKey>>,
    /// All changes, and up to which revision.
    told: watch::Sender<(Vec<Value>, u64)>,
    asked: Mutex<Vec<(FeedRequest, Shown)>>,
}

impl Later {
    async fn start() -> (Arc<Self>, String) {
        let pair = KeyPair::from_pkcs8(&KeyPair::generate().unwrap()).unwrap();
        let told = watch::Sender::new((Vec::new(), 0));
        let later = Arc::new(Self { pair, edge: Mutex::default(), told, asked: Mutex::default() });
        let router = Router::new()
            .route("/v1/edge/join", post(join))
            .route("/v1/edge/feed", get(feed))
            .route("/v1/edge/work", post(std::future::pending::<StatusCode>))
            .route("/v1/edge/report", post(StatusCode::NO_CONTENT))
            .with_state(later.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (later, url)
    }

    fn tell(&self, until: u64, change: impl FnOnce(&mut Vec<Value>)) {
        self.told.send_modify(|(changes, newest)| {
            change(changes);
            *newest = until;
        });
    }

    fn asked(&self) -> (FeedRequest, Shown) {
        self.asked.lock().unwrap().last().unwrap().clone()
    }
}

async fn join(State(later): State<Arc<Later>>, Json(request): Json<JoinRequest>) -> Json<JoinAnswer> {
    *later.edge.lock().unwrap() = Some(request.public_key);
    Json(JoinAnswer { feed_key: later.pair.public() })
}

async fn feed(
    State(later): State<Arc<Later>>,
    Query(wanted): Query<FeedRequest>,
    (uri, headers): (Uri, HeaderMap),
) -> Vec<u8> {
    let proof = headers["authorization"].to_str().unwrap().strip_prefix("Bearer ").unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let edge = later.edge.lock().unwrap().unwrap();
    let shown = Proof::read(proof).unwrap();
    let shown = shown.verify(&edge, &later.pair.public(), i64::try_from(now).unwrap()).unwrap();
    shown.bound.check_request("GET", uri.path_and_query().unwrap().as_str()).unwrap();
    let after = if wanted.epoch.as_deref() == Some("later") { wanted.after } else { 0 };
    later.asked.lock().unwrap().push((wanted, shown.clone()));
    let mut told = later.told.subscribe();
    let (changes, until) = told.wait_for(|(_, until)| *until > after).await.unwrap().clone();
    let news = |change: &Value| change["revision"].as_u64().unwrap() > after;
    let updates: Vec<_> = changes.into_iter().filter(news).collect();
    let page = json!({ "epoch": "later", "after": after, "until": until, "more": false, "updates": updates, "spoken": 2 });
    let text = Zeroizing::new(serde_json::to_vec(&page).unwrap());
    seal(&later.pair, proof, shown.bound.share().unwrap(), &text).unwrap()
}

/// A function that answers nothing yet, and is known.
fn function(revision: u64, slug: &str) -> Value {
    json!({ "revision": revision, "kind": "function", "id": format!("fn_{slug}"), "weight": 3,
        "state": { "slug": slug, "project": "prj_1", "status": "ACTIVE", "deployment": null, "mood": "good" } })
}

fn tunnel(revision: u64, optional: bool) -> Value {
    json!({ "revision": revision, "kind": "tunnel", "id": "tun_1", "optional": optional, "state": {} })
}

async fn code(edge: &Server, slug: &str) -> String {
    let problem: Value = edge.get(slug, "/").await.json().await.unwrap();
    problem["code"].as_str().unwrap().to_owned()
}

async fn reaches(edge: &Server, revision: f64) {
    eventually(async || (edge.metric("af_feed_revision").await >= revision).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_skips_what_a_later_control_plane_says_it_may_and_stops_at_what_it_must_know() {
    let home = Home::new();
    let (later, url) = Later::start().await;
    later.tell(2, |changes| changes.extend([function(1, "first"), tunnel(2, true)]));
    let token = JoinToken::new("edge_1", &later.pair.public()).unwrap();
    let start = |token: Option<&str>| {
        let mut af = home.af();
        if let Some(token) = token {
            af.env("AF_JOIN_TOKEN", token);
        }
        home.role(af, "edge", &["--control", &url, "--metrics-listen", "127.0.0.1:0"])
    };
    let edge = start(Some(&token.reveal()));
    reaches(&edge, 2.0).await;
    let unknown = code(&edge, "nobody").await;
    let known = code(&edge, "first").await;
    assert_ne!(known, unknown);
    assert_eq!(later.asked().1.version.as_deref(), Some(env!("CARGO_PKG_VERSION")));
    later.tell(4, |changes| {
        changes.remove(1);
        changes.extend([function(3, "second"), tunnel(4, true)]);
    });
    reaches(&edge, 4.0).await;
    assert_eq!(code(&edge, "second").await, known);
    assert!((edge.metric("af_feed_changes_skipped_total").await - 2.0).abs() < 0.5);
    assert_eq!(home.logged().matches("skips changes of a kind").count(), 1, "{}", home.logged());

    // What it must know: it goes on with what it has, and says what to do.
    later.tell(6, |changes| changes.extend([function(5, "third"), tunnel(6, false)]));
    eventually(async || home.logged().contains("upgrade this edge").then_some(())).await;
    assert_eq!((code(&edge, "second").await, code(&edge, "third").await), (known.clone(), unknown.clone()));
    assert!(edge.metric("af_feed_revision").await < 5.0);

    // From its disk it goes on as before, what it skipped among it, and asks for what follows.
    later.tell(7, |changes| changes[4] = tunnel(7, true));
    assert!(edge.stop().success());
    let edge = start(None);
    reaches(&edge, 7.0).await;
    for slug in ["first", "second", "third"] {
        assert_eq!(code(&edge, slug).await, known, "{slug}");
    }
    assert!(
        (edge.metric("af_feed_changes_skipped_total").await - 3.0).abs() < 0.5,
        "two of them of the disk"
    );
    let asked = later.asked.lock().unwrap().iter().map(|(wanted, _)| wanted.after).collect::<Vec<_>>();
    assert!(asked.contains(&4) && !asked[1..].contains(&0), "{asked:?}");
}
