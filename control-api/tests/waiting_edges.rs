//! Many edges that wait for the same: a change is read once and reaches all of them.
//!
//! `AF_EDGES=1000 cargo test --test waiting_edges -- --nocapture --test-threads 1` tells how long that takes with so many.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use af_contract::Change;
use af_contract::edge::{FeedPage, FeedRequest};
use futures::future::join_all;
use serde_json::{Value, json};
use support::edges::TestEdge;
use support::statements::Statements;
use support::{OWNER, Served};

/// Of the whole program: one story at a time looks at them.
static STATEMENTS: LazyLock<tokio::sync::Mutex<Statements>> =
    LazyLock::new(|| tokio::sync::Mutex::new(Statements::recorded()));

#[allow(clippy::disallowed_methods, reason = "a test has no configuration")]
fn measured() -> Option<usize> {
    std::env::var("AF_EDGES").ok()?.parse().ok()
}

async fn a_change_is_read_once_for_all_edges_that_wait() {
    let statements = STATEMENTS.lock().await;
    let served = Served::start().await;
    let (_, projects) = served.call("get", "/v1/projects", Some(OWNER), Value::Null).await;
    let functions = format!("/v1/projects/{}/functions", projects["data"][0]["id"].as_str().unwrap());
    let (_, function) = served.call("post", &functions, Some(OWNER), json!({ "name": "first" })).await;
    let function = format!("/v1/functions/{}", function["id"].as_str().unwrap());
    let change = async |slug: &str| {
        let (status, changed) =
            served.call("patch", &function, Some(OWNER), json!({ "slug": format!("slug-{slug}") })).await;
        assert_eq!(status, 200, "{changed}");
    };
    change("first").await;
    let mut edges = Vec::new();
    for number in 0..measured().unwrap_or(20) {
        edges.push(TestEdge::join(&served, &format!("edge-{number}")).await);
    }
    let mut known: Vec<FeedPage> = Vec::new();
    for edge in &edges {
        known.push(edge.all().await.pop().unwrap());
    }
    for round in ["one", "two", "three"] {
        let waiting = join_all(edges.iter().zip(&known).map(async |(edge, known)| {
            let wanted = FeedRequest {
                epoch: Some(known.epoch.clone()),
                after: known.until,
                wait_ms: 50_000,
                ..FeedRequest::default()
            };
            (edge.ask(&wanted).await.unwrap(), Instant::now())
        }));
        statements.take();
        let change = async {
            if measured().is_some() {
                // All of them wait then.
                tokio::time::sleep(Duration::from_secs(3)).await;
            }
            let begun = Instant::now();
            change(round).await;
            begun
        };
        let (told, begun) = tokio::join!(waiting, change);
        let read = statements.take();
        let read = read.iter().filter(|said| said.starts_with("select e.id, e.revision, f.slug")).count();
        assert_eq!(read, 1, "{round}");
        let mut took: Vec<_> = told.iter().map(|(_, at)| at.duration_since(begun)).collect();
        took.sort_unstable();
        let within = took.iter().filter(|took| took.as_millis() < 1000).count();
        println!("of {} edges {within} know it within a second, all after {:?}", took.len(), took.last());
        known = told.into_iter().map(|(page, _)| page).collect();
        for page in &known {
            let [update] = &page.updates[..] else { panic!("{page:?}") };
            let Change::Function { state: Some(state), .. } = &update.change else { panic!("{page:?}") };
            assert_eq!(state.slug.as_str(), format!("slug-{round}"));
        }
    }
}

on_both!(a_change_is_read_once_for_all_edges_that_wait);
