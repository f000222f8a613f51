//! Other places that hold content, and what they cost everybody else.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use af_content::sink::{Held, Pin, Sink, SinkError, State};
use af_content::unixfs;
use af_control_api::StorageConfig;
use futures::future::{BoxFuture, join_all, ready};
use serde_json::{Value, json};
use support::content::car_of;
use support::{Engine, OWNER, Served, Stored, on};

/// A place that holds whatever it is asked for, at once.
#[derive(Debug, Default)]
struct Fast {
    pins: Mutex<BTreeSet<String>>,
    /// How often it was asked to hold something.
    puts: AtomicUsize,
    /// Nothing can be removed, ever.
    keeps: bool,
    /// Nothing can be removed now.
    refuses: bool,
}

impl Sink for Fast {
    fn name(&self) -> &'static str {
        "fast"
    }

    fn put<'a>(&'a self, pin: &'a Pin) -> BoxFuture<'a, Result<Held, SinkError>> {
        self.puts.fetch_add(1, Ordering::Relaxed);
        self.pins.lock().unwrap().insert(pin.root.to_string());
        self.status(pin)
    }

    fn status<'a>(&'a self, _: &'a Pin) -> BoxFuture<'a, Result<Held, SinkError>> {
        let held = Held {
            detail: Some("under a name".to_owned()).filter(|_| self.keeps),
            permanent: self.keeps,
            ..Held::new(State::Pinned, None)
        };
        Box::pin(ready(Ok(held)))
    }

    fn remove<'a>(&'a self, pin: &'a Pin) -> BoxFuture<'a, Result<(), SinkError>> {
        if self.refuses {
            return Box::pin(ready(Err(SinkError::Unexpected("not now".to_owned()))));
        }
        self.pins.lock().unwrap().remove(&pin.root.to_string());
        Box::pin(ready(Ok(())))
    }
}

/// With a place.
async fn served(place: &Arc<Fast>) -> Served {
    let sinks = vec![Arc::clone(place) as Arc<dyn Sink>];
    Served::storing(StorageConfig { sinks, ..StorageConfig::default() }).await
}

fn look_after(served: &Served) {
    let control = served.control.clone();
    tokio::spawn(async move { control.watch_storage(std::future::pending()).await });
}

async fn storage(served: &Served) -> String {
    let (_, page) = served.call("get", "/v1/projects", Some(OWNER), Value::Null).await;
    format!("/v1/projects/{}/storage", page["data"][0]["id"].as_str().unwrap())
}

/// Stores a text.
async fn store(served: &Served, path: &str, text: &str) -> (u16, String) {
    let mut blocks = Vec::new();
    let put = |block| {
        blocks.push(block);
        Ok(())
    };
    let cid = unixfs::import(text.as_bytes(), put).unwrap().root.to_string();
    let (status, sent) = served.upload(&format!("{path}/blocks"), OWNER, car_of(&[], &blocks)).await;
    assert_eq!(status, 200, "{sent}");
    let (status, _) = served.call("post", &format!("{path}/pins"), Some(OWNER), json!({ "cid": cid })).await;
    (status, cid)
}

async fn until_held(place: &Fast, cids: &BTreeSet<String>) {
    let held = async {
        while !place.pins.lock().unwrap().is_superset(cids) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), held).await.unwrap();
}

async fn a_place_that_is_looked_after_takes_the_database_from_nobody() {
    let place = Arc::new(Fast::default());
    let served = served(&place).await;
    look_after(&served);
    let path = storage(&served).await;
    let mut cids = BTreeSet::new();
    for round in 0..10 {
        let texts: Vec<String> = (0..6).map(|number| format!("{round} {number}")).collect();
        for (status, cid) in join_all(texts.iter().map(|text| store(&served, &path, text))).await {
            assert_eq!(status, 201, "in round {round}");
            cids.insert(cid);
        }
    }
    until_held(&place, &cids).await;
}

/// Each CID that is known at the place, with how far it is.
async fn known_at_the_place(served: &Served) -> BTreeMap<String, String> {
    let rows =
        served.stored.rows("select cid || ' ' || state, ''::bytea from placements where place = 'fast'");
    let rows = if served.stored.is_postgres() {
        rows.await
    } else {
        served.stored.rows("select cid || ' ' || state, x'' from placements where place = 'fast'").await
    };
    let pair =
        |row: String| row.split_once(' ').map(|(cid, state)| (cid.to_owned(), state.to_owned())).unwrap();
    rows.into_iter().map(|(row, _)| pair(row)).collect()
}

/// More of them than are looked at in one step.
const PINS: usize = 1_100;

fn cid_of(text: &str) -> String {
    let ignored = |_| Ok(());
    unixfs::import(text.as_bytes(), ignored).unwrap().root.to_string()
}

async fn what_was_pinned_before_there_was_a_place_reaches_it_and_nothing_else_does() {
    let before = Served::start().await;
    let path = storage(&before).await;
    let (status, kept) = store(&before, &path, "kept").await;
    assert_eq!(status, 201);
    let (_, given_up) = store(&before, &path, "given up").await;
    let (_, only_here) = store(&before, &path, "only here").await;
    let pin = |cid: &str| format!("{path}/{cid}");
    for cid in [&given_up, &only_here] {
        assert_eq!(before.call("delete", &pin(cid), Some(OWNER), Value::Null).await.0, 204);
    }
    let here = json!({ "cid": only_here, "places": [] });
    assert_eq!(before.call("post", &format!("{path}/pins"), Some(OWNER), here).await.0, 201);
    let project = path.split('/').nth(3).unwrap().to_owned();
    let many: BTreeSet<String> = (0..PINS).map(|number| cid_of(&format!("number {number}"))).collect();
    let rows = many.iter().enumerate().map(|(number, cid)| {
        format!(
            "insert into pins values ('pin_{number:05}', '{project}', '{cid}', null, 1, 1, 'usr_2', 0);
            insert into pin_places values ('pin_{number:05}', '*');"
        )
    });
    before.stored.script(&rows.collect::<String>()).await;

    // Two servers look after the same place.
    let place = Arc::new(Fast::default());
    let sinks = || vec![Arc::clone(&place) as Arc<dyn Sink>];
    let mut servers = Vec::new();
    for _ in 0..2 {
        servers.push(before.beside_as(|config| config.storage.sinks = sinks()).await);
    }
    servers.iter().for_each(look_after);
    let expected: BTreeSet<String> = many.iter().chain([&kept]).cloned().collect();
    let queued = async {
        while known_at_the_place(&before).await.len() < expected.len() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), queued).await.unwrap();
    until_held(&place, &BTreeSet::from([kept.clone()])).await;
    let known: BTreeSet<String> = known_at_the_place(&before).await.into_keys().collect();
    assert!(known == expected, "{:?}", known.symmetric_difference(&expected).collect::<Vec<_>>());
}

/// Of a database that several servers can share.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_with_the_same_place_ask_it_once_for_each() {
    on(Engine::Postgres, async {
        let before = Served::start().await;
        let path = storage(&before).await;
        let mut cids = BTreeSet::new();
        for number in 0..100 {
            cids.insert(store(&before, &path, &format!("number {number}")).await.1);
        }
        let place = Arc::new(Fast::default());
        for _ in 0..2 {
            let sinks = vec![Arc::clone(&place) as Arc<dyn Sink>];
            look_after(&before.beside_as(|config| config.storage.sinks = sinks).await);
        }
        until_held(&place, &cids).await;
        for cid in &cids {
            until_state(&before, cid, "PINNED").await;
        }
        assert_eq!(place.puts.load(Ordering::Relaxed), cids.len());
    })
    .await;
}

/// Where nobody remembers what was given up, as after a restore, the next comparison does.
async fn what_nobody_needs_any_more_is_removed_from_a_place() {
    let place = Arc::new(Fast::default());
    let served = served(&place).await;
    let path = storage(&served).await;
    let (_, kept) = store(&served, &path, "kept").await;
    let (_, gone) = store(&served, &path, "gone").await;
    served.stored.script(&format!("delete from pins where cid = '{gone}'")).await;
    look_after(&served);
    let removed = async {
        while known_at_the_place(&served).await != BTreeMap::from([(kept.clone(), "PINNED".to_owned())]) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), removed).await.unwrap();
    assert!(!place.pins.lock().unwrap().contains(&gone));
}

/// What the project left behind, when the place has done so much that there is something.
async fn left_at(place: Fast) -> Value {
    let place = Arc::new(place);
    let served = served(&place).await;
    look_after(&served);
    let path = storage(&served).await;
    let (_, kept) = store(&served, &path, "kept").await;
    let (_, cid) = store(&served, &path, "given up").await;
    let pin = format!("{path}/pins");
    let named = json!({ "cid": cid, "name": "letters" });
    assert_eq!(served.call("post", &pin, Some(OWNER), named.clone()).await.0, 201);
    until_state(&served, &cid, "PINNED").await;
    until_state(&served, &kept, "PINNED").await;
    let left = async || {
        served.call("get", &format!("{path}/left"), Some(OWNER), Value::Null).await.1["data"].clone()
    };
    assert_eq!(left().await, json!([]));
    assert_eq!(served.call("delete", &format!("{path}/{cid}"), Some(OWNER), Value::Null).await.0, 204);
    let state = if place.keeps { "LEFT" } else { "REMOVING" };
    if place.keeps || place.refuses {
        until_state(&served, &cid, state).await;
    } else {
        while known_at_the_place(&served).await.contains_key(&cid) {
            tokio::task::yield_now().await;
        }
    }
    let found = left().await;
    let strangers = served.call("get", &format!("{path}/left"), Some(support::STRANGER), Value::Null).await;
    assert_eq!(strangers.0, 404);
    // Who pins it again has left nothing.
    assert_eq!(served.call("post", &pin, Some(OWNER), named).await.0, 201);
    assert_eq!(left().await, json!([]));
    found
}

async fn until_state(served: &Served, cid: &str, state: &str) {
    let reached = async {
        while known_at_the_place(served).await.get(cid).map(String::as_str) != Some(state) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), reached)
        .await
        .unwrap_or_else(|_| panic!("{cid} is not {state}"));
}

async fn what_was_unpinned_and_is_still_at_a_place_is_listed() {
    let left = left_at(Fast { keeps: true, ..Fast::default() }).await;
    let [content] = left.as_array().unwrap().as_slice() else { panic!("{left}") };
    assert_eq!((&content["name"], &content["cid"]), (&json!("letters"), &json!(cid_of("given up"))));
    assert!(content["unpinnedAt"].as_i64().unwrap() > 0);
    let place = &content["places"][0];
    assert_eq!((&place["state"], &place["detail"]), (&json!("LEFT"), &json!("under a name")));
    let left = left_at(Fast { refuses: true, ..Fast::default() }).await;
    assert_eq!(left[0]["places"][0]["state"], "REMOVING", "{left}");
    assert_eq!(left_at(Fast::default()).await, json!([]), "it is gone there");
}

/// At version 34, a pin from before pins said where they are wanted, and a deployment that was made `before` it or not.
async fn place_of_an_older_pin(deployed: u32, more: &str) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    let stored = Stored::new(dir.path()).await;
    stored.migrate_to(34).await;
    let rows = format!(
        "insert into users (id, name, created_at) values ('usr_1', 'owner', 1);
        insert into organizations (id, name, created_at, updated_at) values ('org_1', 'old', 1, 1);
        insert into projects (id, organization_id, name, created_at, updated_at) values ('prj_1', 'org_1', 'old', 1, 1);
        insert into sites (id, project_id, name, slug, created_at, updated_at)
            values ('site_1', 'prj_1', 'pages', 'pages', 1, 1);
        insert into site_deployments (id, site_id, number, root_cid, files, bytes, author_id, created_at)
            values ('dep_1', 'site_1', 1, 'root', 1, 1, 'usr_1', {deployed});
        insert into pins values ('pin_1', 'prj_1', 'cid', null, 1, 1, 'usr_1', 5);
        {more}"
    );
    stored.script(&rows).await;
    let served = Served::restored(stored, dir).await;
    let query = if served.stored.is_postgres() {
        "select place, ''::bytea from pin_places where pin_id = 'pin_1'"
    } else {
        "select place, x'' from pin_places where pin_id = 'pin_1'"
    };
    served.stored.rows(query).await.pop().map(|(place, _)| place)
}

async fn an_older_pin_goes_to_places_if_there_provably_was_none() {
    assert_eq!(place_of_an_older_pin(4, "").await.as_deref(), Some("*"));
    assert_eq!(
        place_of_an_older_pin(6, "").await,
        None,
        "there may have been a place, and it was kept from it"
    );
    let placed = "insert into placements (cid, place, state, next_at, updated_at) values ('root', 'fast', 'PINNED', 1, 1);";
    assert_eq!(place_of_an_older_pin(4, placed).await, None, "there was one");
}

crate::on_both!(
    a_place_that_is_looked_after_takes_the_database_from_nobody,
    what_was_pinned_before_there_was_a_place_reaches_it_and_nothing_else_does,
    what_nobody_needs_any_more_is_removed_from_a_place,
    an_older_pin_goes_to_places_if_there_provably_was_none,
    what_was_unpinned_and_is_still_at_a_place_is_listed,
);
