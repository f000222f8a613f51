#![allow(clippy::unwrap_used, reason = "a failure here is the test's failure")]

use super::*;
use crate::store::Database;

fn tick() -> Tick {
    Tick { function: "fn_1".into(), deployment: "dep_1".into(), url: String::new(), scheduled_at: 0 }
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
