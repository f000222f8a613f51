//! Content is held by real software: a Kubo-style node (js-ipfs) and a pinning service.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

#[path = "support/ipfs.rs"]
mod ipfs;
mod support;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use ipfs::{JsIpfs, PinningService, Stop, software};
use serde_json::{Value, json};
use support::{Home, http, ok};

/// Longer than any of them takes.
const LONG: Duration = Duration::from_secs(60);

fn said(home: &Home, args: &[&str]) -> Value {
    serde_json::from_str(&ok(home.af().args(["--json", "storage"]).args(args))).unwrap()
}

/// Stores a file that no other test has, and gives its CID.
fn store(home: &Home, dir: &Path, name: &str, content: &[u8]) -> String {
    let file = dir.join(name);
    fs::write(&file, content).unwrap();
    let stored = said(home, &["add", file.to_str().unwrap()]);
    stored["pins"][0]["cid"].as_str().unwrap().to_owned()
}

/// Returns what the pin's only other place says, once it says `state`.
fn held(home: &Home, cid: &str, state: &str) -> Value {
    let deadline = Instant::now() + LONG;
    loop {
        let pins = said(home, &["ls"]);
        let pin = pins.as_array().unwrap().iter().find(|pin| pin["cid"] == cid).unwrap().clone();
        if pin["places"][0]["state"] == state {
            return pin["places"][0].clone();
        }
        assert!(Instant::now() < deadline, "{pin}");
    }
}

/// What the node's RPC answers.
async fn rpc(node: &JsIpfs, path: &str) -> (u16, Vec<u8>) {
    let answer = http().post(format!("{}/api/v0/{path}", node.rpc)).send().await.unwrap();
    (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_gets_all_blocks_and_keeps_them_while_they_are_pinned() {
    let Some(software) = software() else { return };
    let (home, dir) = (Home::new(), tempfile::tempdir().unwrap());
    let mut node = JsIpfs::start(&software, &[]);
    let to = format!("kubo={}", node.rpc);
    let server = home.up(&["--pin-to", &to, "--api-rate-limit", "100000"]);
    let content: Vec<u8> = (0..3_500_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let cid = store(&home, dir.path(), "file", &content);
    held(&home, &cid, "PINNED");
    let (status, read) = rpc(&node, &format!("cat?arg={cid}")).await;
    assert_eq!((status, read == content), (200, true), "it has the file");

    // What is stored while the node is away is held when it is back.
    node.stop(Stop::InOrder);
    let other = store(&home, dir.path(), "other", b"while it was away");
    let place = held(&home, &other, "FAILED");
    assert!(place["error"].as_str().unwrap().contains("cannot be reached"), "{place}");
    server.kill();
    node.start_again();
    let _server = home.up(&["--pin-to", &to, "--api-rate-limit", "100000"]);
    held(&home, &other, "PINNED");
    assert_eq!(rpc(&node, &format!("cat?arg={other}")).await, (200, b"while it was away".to_vec()));

    said(&home, &["unpin", &cid]);
    let deadline = Instant::now() + LONG;
    while rpc(&node, &format!("pin/ls?arg={cid}&type=recursive")).await.0 == 200 {
        assert!(Instant::now() < deadline, "it is still pinned");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pinning_service_is_asked_until_it_says_pinned() {
    let Some(software) = software() else { return };
    let (home, dir) = (Home::new(), tempfile::tempdir().unwrap());
    let service = PinningService::start(&software);
    let to = format!("pinning={}", service.url);
    let mut af = home.af();
    af.env("AF_PIN_TOKEN", service.token);
    let _server = home.up_as(af, &["--pin-to", &to, "--api-rate-limit", "100000"]);
    let pins = async || {
        let answer =
            http().get(format!("{}/pins", service.url)).bearer_auth(service.token).send().await.unwrap();
        answer.json::<Value>().await.unwrap()
    };
    let pinned = store(&home, dir.path(), "pinned-one", b"pinned");
    held(&home, &pinned, "PINNED");
    let listed = pins().await;
    assert_eq!((&listed["count"], &listed["results"][0]["pin"]["cid"]), (&json!(1), &json!(pinned)));
    let failed = store(&home, dir.path(), "failed-one", b"failed");
    assert!(held(&home, &failed, "FAILED")["attempts"].as_i64().unwrap() > 0);
    let pinning = store(&home, dir.path(), "pinning-one", b"pinning");
    held(&home, &pinning, "PINNING");
    said(&home, &["unpin", &pinned]);
    let deadline = Instant::now() + LONG;
    while pins().await["results"].as_array().unwrap().iter().any(|pin| pin["pin"]["cid"] == pinned) {
        assert!(Instant::now() < deadline, "it is still there");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_refuses_the_token_is_told_of() {
    let Some(software) = software() else { return };
    let (home, dir) = (Home::new(), tempfile::tempdir().unwrap());
    let service = PinningService::start(&software);
    let to = format!("pinning={}", service.url);
    let mut af = home.af();
    af.env("AF_PIN_TOKEN", "a-token-that-is-wrong");
    let _server = home.up_as(af, &["--pin-to", &to, "--api-rate-limit", "100000"]);
    let cid = store(&home, dir.path(), "pinned-one", b"pinned");
    let place = held(&home, &cid, "FAILED");
    assert!(place["error"].as_str().unwrap().contains("refused with status 4"), "{place}");
    assert!(!home.logged().contains("a-token-that-is-wrong"));
}
