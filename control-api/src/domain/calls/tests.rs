#![allow(clippy::unwrap_used, reason = "a failure here is the test's failure")]

use super::*;
use crate::store::edges::{self, EdgeSeen};
use crate::store::{Database, EdgeRow};

fn tick() -> Tick {
    Tick { function: "fn_1".into(), deployment: "dep_1".into(), url: String::new(), scheduled_at: 0 }
}

fn row() -> EdgeRow {
    EdgeRow {
        id: "edge_1".into(),
        name: "one".into(),
        public_key: None,
        join_sealed: None,
        join_expires_at: 0,
        created_at: 0,
        joined_at: None,
        seen_at: None,
        revision: 0,
        version: None,
    }
}

/// Calls, and the database of a server that is alone.
struct Scene {
    calls: Arc<Calls>,
    store: Store,
    _dir: tempfile::TempDir,
}

impl Scene {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&Database::Sqlite(dir.path().join("test.db"))).await.unwrap();
        tokio::time::pause();
        Self { calls: Arc::default(), store, _dir: dir }
    }

    fn begun(&self) -> tokio::task::JoinHandle<Answered> {
        let (calls, store) = (self.calls.clone(), self.store.clone());
        tokio::spawn(async move { calls.call(&store, "run_1".into(), tick()).await })
    }

    async fn seen(&self, edge: &str, running: &[String]) -> u64 {
        self.calls.seen(&self.store, edge, running).await.unwrap()
    }

    fn given(&self, edge: &str, number: u64) -> Option<Call> {
        self.calls.take(edge, number).taken.drain(..).next()
    }

    /// The one call, once it waits.
    async fn taken(&self, edge: &str) -> Call {
        let mut waiting = self.calls.waiting.subscribe();
        loop {
            let number = self.seen(edge, &[]).await;
            if let Some(call) = self.given(edge, number) {
                return call;
            }
            waiting.changed().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_call_is_given_once_and_ended_by_who_has_it() {
    let scene = Scene::new().await;
    assert!(!scene.calls.is_asked());
    let answer = scene.begun();
    let call = scene.taken("one").await;
    let number = scene.seen("two", &[]).await;
    assert!(scene.given("two", number).is_none());
    let end = CallEnd { id: call.id, answered: Answered { status: Some(204), error: None } };
    assert!(!scene.calls.end("two", &end) && scene.calls.end("one", &end));
    assert_eq!(answer.await.unwrap(), end.answered);
    assert!(scene.calls.inner().given.is_empty() && scene.calls.inner().waiting.is_empty());
    assert!(scene.calls.is_asked());
    tokio::time::advance(ASKS).await;
    assert!(!scene.calls.is_asked(), "another server has the edge");
}

#[tokio::test]
async fn an_answer_that_reaches_nobody_takes_no_call() {
    let scene = Scene::new().await;
    let before = scene.seen("one", &[]).await;
    let number = scene.seen("one", &[]).await;
    let answer = scene.begun();
    while scene.calls.inner().waiting.is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(scene.given("one", before).is_none(), "the edge has asked again since");
    // The answer was not sent.
    drop(scene.calls.take("one", number));
    let call = scene.given("one", number).unwrap();
    assert!(scene.calls.end("one", &CallEnd { id: call.id, answered: Answered::failed("no") }));
    assert_eq!(answer.await.unwrap(), Answered::failed("no"));
}

#[tokio::test]
async fn a_call_that_nobody_has_ends_as_a_failure() {
    let scene = Scene::new().await;
    // Nobody asks.
    let answered = scene.begun().await.unwrap();
    assert!(answered.error.unwrap().contains("no edge has asked"));
    assert!(scene.calls.inner().waiting.is_empty());
    // The edge was restarted: it knows nothing of what it was given.
    let answer = scene.begun();
    let call = scene.taken("one").await;
    scene.seen("one", &[call.id]).await;
    scene.seen("one", &[]).await;
    assert!(answer.await.unwrap().error.unwrap().contains("restarted"));
    // It never asked again.
    let answer = scene.begun();
    scene.taken("one").await;
    assert!(answer.await.unwrap().error.unwrap().contains("gone away"));
    // It was removed.
    let answer = scene.begun();
    scene.taken("one").await;
    scene.calls.forget("one");
    assert!(answer.await.unwrap().error.unwrap().contains("lost"));
}

#[tokio::test]
async fn a_call_that_its_edge_never_ends_is_over_one_day() {
    let scene = Scene::new().await;
    let (answer, begun) = (scene.begun(), Instant::now());
    let call = scene.taken("one").await;
    let mut answer = Box::pin(answer);
    let answered = loop {
        tokio::select! {
            answered = &mut answer => break answered.unwrap(),
            () = tokio::time::sleep(LONGEST_WAIT) => drop(scene.seen("one", std::slice::from_ref(&call.id)).await),
        }
    };
    assert_eq!(answered.error.as_deref(), Some(NEVER));
    assert!((OVERDUE..OVERDUE + GONE).contains(&begun.elapsed()));
}

#[tokio::test]
async fn an_edge_that_asks_another_server_is_there_until_nobody_has_heard_of_it_for_long() {
    // With the clock of the database's pool.
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&Database::Sqlite(dir.path().join("test.db"))).await.unwrap();
    let heard = async |before: Duration| {
        let at = now() - i64::try_from(before.as_millis()).unwrap();
        let row = EdgeRow { seen_at: Some(at), ..row() };
        let mut db = store.begin().await.unwrap();
        edges::delete(&mut db, &row.id).await.unwrap();
        edges::insert(&mut db, &row).await.unwrap();
        let seen = EdgeSeen { at, revision: None, version: None };
        edges::seen(&mut db, &row.id, &seen).await.unwrap();
        db.commit().await.unwrap();
        is_seen(&store, &row.id).await.unwrap()
    };
    // What is guaranteed of one that is there: its longest silence, its longest pause, and the longest time until that is written down.
    assert!(heard(SILENCE + PAUSE + seen::WRITTEN).await);
    assert!(!heard(GONE + LOOK).await);
}
