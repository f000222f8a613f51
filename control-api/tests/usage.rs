//! What edges counted: each batch counts once, and adds up for whom it is of. The test is the edges.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use af_contract::edge::{Bound, USAGE_BYTES, USAGE_RECORDS, UsageBatch};
use af_contract::usage::{HOUR, Usage, UsageRecord, hour_of};
use serde_json::{Value, json};
use support::edges::TestEdge;
use support::events::function;
use support::usage::{DAY, Scene, batch, now, record, requests, said, site, stored};
use support::{OWNER, Served};

const USAGE: &str = "/v1/edge/usage";
/// Sends bytes as a batch. Status, and what is said.
async fn send(served: &Served, edge: &TestEdge, body: &[u8]) -> (u16, Value) {
    let proof = edge.prove(Bound::to("POST", USAGE).with_body(body));
    let answer = served.post(USAGE, &proof, &[("content-type", "application/json")], body.to_vec()).await;
    (answer.status().as_u16(), answer.json().await.unwrap_or_default())
}

async fn take(served: &Served, edge: &TestEdge, batch: &UsageBatch) {
    let (status, said) = send(served, edge, &serde_json::to_vec(batch).unwrap()).await;
    assert_eq!((status, said), (200, json!({ "pauseMs": 10_000 })));
}

async fn refused(served: &Served, edge: &TestEdge, batch: &UsageBatch) -> (u16, String) {
    let (status, said) = send(served, edge, &serde_json::to_vec(batch).unwrap()).await;
    (status, said["code"].as_str().unwrap_or_default().to_owned())
}

async fn a_batch_counts_once_however_it_comes() {
    let served = Served::start().await;
    let one = function(&served, "one").await;
    let (east, west) = (TestEdge::join(&served, "east").await, TestEdge::join(&served, "west").await);
    let this = hour_of(now());
    let first = batch("a", 1, &[record(&one, this, 2), record(&one, this - HOUR, 4)]);
    take(&served, &east, &first).await;
    // Its answer was lost.
    take(&served, &east, &first).await;
    assert_eq!(requests(&served, &one).await, "6");
    // One that overtook another: what is not higher has been taken, as an edge sends them one after another.
    take(&served, &east, &batch("a", 3, &[record(&one, this, 8)])).await;
    take(&served, &east, &batch("a", 2, &[record(&one, this, 16)])).await;
    assert_eq!(requests(&served, &one).await, "14");
    // Of another start of the same edge, and of another edge, whose sources may be called the same.
    take(&served, &east, &batch("b", 1, &[record(&one, this, 32)])).await;
    take(&served, &west, &batch("a", 1, &[record(&one, this, 64)])).await;
    take(&served, &east, &batch("b", 1, &[])).await;
    assert_eq!(requests(&served, &one).await, "110");
    // At once.
    let again = batch("b", 2, &[record(&one, this, 128)]);
    let sent = (0..8).map(|_| take(&served, &east, &again));
    futures::future::join_all(sent).await;
    assert_eq!(requests(&served, &one).await, "238");
    // In the process itself.
    let here = batch("here", 1, &[record(&one, this, 256)]);
    for _ in 0..2 {
        assert_eq!(served.control.usage(&here).await.unwrap().pause_ms, 10_000);
    }
    assert_eq!(requests(&served, &one).await, "494");
    // After a restart, which remembers nothing, and of an edge that is gone.
    let served = served.restart().await;
    assert_eq!(served.control.usage(&here).await.unwrap().pause_ms, 10_000);
    assert_eq!(requests(&served, &one).await, "494");
    let sources = async || {
        let empty = if served.stored.is_postgres() { "''::bytea" } else { "x''" };
        let query = format!("select edge || ' ' || source || ' ' || number, {empty} from usage_sources");
        let mut rows: Vec<String> =
            served.stored.rows(&query).await.into_iter().map(|(row, _)| row).collect();
        rows.sort();
        rows
    };
    let of = |edge: &TestEdge, source: &str| format!("{} {source}", edge.id);
    let mut expected = vec![of(&east, "a 3"), of(&east, "b 2"), of(&west, "a 1"), "here here 1".to_owned()];
    expected.sort();
    assert_eq!(sources().await, expected);
    let (status, _) =
        served.call("delete", &format!("/v1/edges/{}", east.id), Some(OWNER), Value::Null).await;
    assert_eq!(status, 204);
    assert_eq!(sources().await, [of(&west, "a 1"), "here here 1".to_owned()]);
}

async fn what_is_no_batch_adds_nothing() {
    let served = Served::start().await;
    let one = function(&served, "one").await;
    let edge = TestEdge::join(&served, "east").await;
    let this = hour_of(now());
    let good = record(&one, this, 1);
    let invalid = (400, "invalid_usage".to_owned());
    let half = UsageRecord { hour: this + 1, ..good.clone() };
    let strange = UsageRecord { subject: "fn_1' or".into(), ..good.clone() };
    let most = Usage { sent_bytes: (1 << 46) + 1, ..good.usage };
    let most = UsageRecord { usage: most, ..good.clone() };
    for wrong in [half, strange, most] {
        assert_eq!(refused(&served, &edge, &batch("a", 1, &[good.clone(), wrong])).await, invalid);
    }
    for source in ["", "a b", "ä", &"a".repeat(65)] {
        assert_eq!(
            refused(&served, &edge, &batch(source, 1, std::slice::from_ref(&good))).await,
            invalid,
            "{source}"
        );
    }
    assert_eq!(refused(&served, &edge, &batch("a", 1 << 63, std::slice::from_ref(&good))).await, invalid);
    let many = batch("a", 1, &vec![good.clone(); USAGE_RECORDS + 1]);
    assert_eq!(refused(&served, &edge, &many).await, invalid);
    let text = serde_json::to_vec(&batch("a", 1, std::slice::from_ref(&good))).unwrap();
    let (status, said) = send(&served, &edge, &[&text[..], &b" ".repeat(USAGE_BYTES)].concat()).await;
    assert_eq!(status, 413, "{said}");
    let (status, said) = send(&served, &edge, br#"{"source":"a","number":1,"records":[],"more":1}"#).await;
    assert_eq!((status, said["code"].as_str()), (400, Some("invalid_json")));
    // Somebody else, another body than was proven, and the same proof again.
    let proof = edge.prove(Bound::to("POST", USAGE).with_body(&text));
    let post = async |proof: &str, body: &[u8]| {
        served.post(USAGE, proof, &[], body.to_vec()).await.status().as_u16()
    };
    assert_eq!(post(OWNER, &text).await, 401);
    assert_eq!(post(&proof, b"{}").await, 400);
    assert_eq!(requests(&served, &one).await, "0");
    assert_eq!(post(&proof, &text).await, 200);
    assert_eq!(post(&proof, &text).await, 401);
    assert_eq!(requests(&served, &one).await, "1");
    let error = served.control.usage(&batch("a b", 1, &[])).await.unwrap_err();
    assert!(error.is_final(), "{error}");
}

async fn a_full_batch_is_taken_and_counts_are_whole_numbers_that_json_has() {
    let served = Served::start().await;
    let one = function(&served, "one").await;
    let edge = TestEdge::join(&served, "east").await;
    let this = hour_of(now());
    // Most of a function are of what nobody knows; of a site are as many as there are hours.
    let pages = site(&served, "pages").await;
    let records: Vec<UsageRecord> = (0..1_000_i64)
        .map(|number| record(if number % 2 == 0 { &pages } else { "fn_unknown" }, this - number * HOUR, 1))
        .collect();
    take(&served, &edge, &batch("a", 1, &records)).await;
    assert_eq!(requests(&served, &pages).await, "500");
    assert_eq!(requests(&served, "prj_").await, "500");
    assert_eq!(requests(&served, "fn_unknown").await, "0");
    // As an edge would that has gone mad.
    let usage = Usage { requests: 1 << 46, sent_bytes: 1 << 46, ..Usage::default() };
    let mad = UsageRecord { subject: one.clone(), hour: this, usage };
    for number in 2..140 {
        take(&served, &edge, &batch("a", number, std::slice::from_ref(&mad))).await;
    }
    for subject in [&one, "prj_", "org_"] {
        let most = stored(&served, "usage_days", "max(requests)", subject).await;
        assert_eq!(most, "9007199254740992", "{subject}");
    }
}

async fn what_was_deleted_counts_for_whose_it_was() {
    let served = Served::start().await;
    let edge = TestEdge::join(&served, "east").await;
    let this = hour_of(now());
    let (used, unused, pages) =
        (function(&served, "used").await, function(&served, "unused").await, site(&served, "pages").await);
    take(&served, &edge, &batch("a", 1, &[record(&used, this, 1)])).await;
    for path in [format!("functions/{used}"), format!("functions/{unused}"), format!("sites/{pages}")] {
        let (status, said) = served.call("delete", &format!("/v1/{path}"), Some(OWNER), Value::Null).await;
        assert_eq!(status, 200, "{said}");
    }
    let late = [record(&used, this, 2), record(&unused, this, 4), record(&pages, this - DAY, 8)];
    take(&served, &edge, &batch("a", 2, &late)).await;
    for whole in ["prj_", "org_"] {
        assert_eq!(requests(&served, whole).await, "15", "{whole}");
    }
}

/// An edge that has a thousand starts behind it is known by the newest.
async fn of_an_edge_the_sources_that_were_used_last_are_known() {
    let scene = Scene::new().await;
    scene
        .served
        .stored
        .script(
            "with recursive n(i) as (select 0 union all select i + 1 from n where i < 1099)
             insert into usage_sources (edge, source, number, taken_at) select 'here', 'old' || i, 1, i from n;
             insert into usage_sources (edge, source, number, taken_at) values ('edge_1', 'old', 1, 0);",
        )
        .await;
    scene.served.control.usage(&batch("new", 1, &[])).await.unwrap();
    let empty = if scene.served.stored.is_postgres() { "''::bytea" } else { "x''" };
    let query = format!("select edge || ' ' || source, {empty} from usage_sources order by edge, taken_at");
    let rows: Vec<String> = scene.served.stored.rows(&query).await.into_iter().map(|(row, _)| row).collect();
    assert_eq!((rows.len(), rows[0].as_str(), rows[1].as_str()), (1_001, "edge_1 old", "here old102"));
    assert_eq!(rows[999..], ["here a", "here new"]);
}

/// Each server has its own turn for edges, so these meet in the database.
async fn servers_of_one_database_add_at_once_and_each_batch_once() {
    let scene = Scene::new().await;
    let beside = scene.served.beside().await;
    let subjects = [&scene.functions[0], &scene.functions[1], &scene.site];
    let batches: Vec<UsageBatch> = (0..40_usize)
        .map(|number| {
            let mut records: Vec<UsageRecord> = (0..30)
                .map(|at| {
                    record(subjects[(at + number) % 3], scene.this - i64::try_from(at).unwrap() * HOUR, 1)
                })
                .collect();
            if number % 2 == 0 {
                records.reverse();
            }
            batch(&format!("s{number}"), 1, &records)
        })
        .collect();
    // Each to both.
    let adding =
        batches.iter().flat_map(|batch| [scene.served.control.usage(batch), beside.control.usage(batch)]);
    for added in futures::future::join_all(adding.map(Box::pin)).await {
        added.unwrap();
    }
    let from = scene.this - 4 * DAY;
    for path in &scene.paths()[..2] {
        let used = scene.read(&format!("{path}?from={from}")).await;
        assert_eq!(used["total"]["requests"], 62 + 40 * 30, "{path}");
    }
}

/// On PostgreSQL, where that could be: others have the turn to write, and edges still tell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edges_tell_while_others_write() {
    let story = async {
        let scene = Scene::new().await;
        let held = scene.served.stored.hold().await;
        let late = record(&scene.functions[0], scene.this, 64);
        scene.served.control.usage(&batch("a", 2, &[late])).await.unwrap();
        drop(held);
        let path = format!("{}?from={}", scene.paths()[2], scene.this - 4 * DAY);
        assert_eq!(scene.read(&path).await["total"], said(78));
    };
    Box::pin(support::on(support::Engine::Postgres, story)).await;
}

on_both! {
    a_batch_counts_once_however_it_comes,
    what_is_no_batch_adds_nothing,
    a_full_batch_is_taken_and_counts_are_whole_numbers_that_json_has,
    what_was_deleted_counts_for_whose_it_was,
    of_an_edge_the_sources_that_were_used_last_are_known,
    servers_of_one_database_add_at_once_and_each_batch_once,
}
