//! Other places that hold content, and what they cost everybody else.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use af_content::sink::{Held, Pin, Sink, SinkError, State};
use af_content::unixfs;
use af_control_api::StorageConfig;
use futures::future::{BoxFuture, join_all, ready};
use serde_json::{Value, json};
use support::content::car_of;
use support::{OWNER, Served};

/// A place that holds whatever it is asked for, at once.
#[derive(Debug, Default)]
struct Fast {
    pins: Mutex<BTreeSet<String>>,
}

impl Sink for Fast {
    fn name(&self) -> &'static str {
        "fast"
    }

    fn put<'a>(&'a self, pin: &'a Pin) -> BoxFuture<'a, Result<Held, SinkError>> {
        self.pins.lock().unwrap().insert(pin.root.to_string());
        self.status(pin)
    }

    fn status<'a>(&'a self, _: &'a Pin) -> BoxFuture<'a, Result<Held, SinkError>> {
        Box::pin(ready(Ok(Held::new(State::Pinned, None))))
    }

    fn remove<'a>(&'a self, pin: &'a Pin) -> BoxFuture<'a, Result<(), SinkError>> {
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

crate::on_both!(a_place_that_is_looked_after_takes_the_database_from_nobody);
