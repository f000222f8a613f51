//! Other places that hold what is stored: a Kubo node and a pinning service.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

#[path = "support/holders.rs"]
mod holders;
#[path = "support/stored.rs"]
mod stored;
mod support;

use std::fs;
use std::time::Duration;

use holders::{Holders, Kind};
use serde_json::{Value, json};
use stored::{bytes, path, said, storage};
use support::{Home, deploy, ok, refused};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pin_that_waits_says_so_when_nobody_can_reach_this_server() {
    let (home, dir) = (Home::new(), tempfile::tempdir().unwrap());
    let service = Holders::start(Kind::Pinning).await;
    let mut af = home.af();
    af.env("AF_PIN_TOKEN", holders::TOKEN);
    let to = format!("pinning={}", service.url());
    let _server = home.up_as(af, &["--pin-to", &to, "--api-rate-limit", "100000"]);
    let file = dir.path().join("file");
    fs::write(&file, bytes(12, 1000)).unwrap();
    let cid = said(&mut storage(&home, &["add", path(&file)]))["pins"][0]["cid"].as_str().unwrap().to_owned();
    let place = held(&home, &cid, "PINNING");
    assert!(place["detail"].as_str().unwrap().contains("--pin-origin"), "{place}");
    assert!(home.logged().contains("no address is known at which a pinning service gets blocks"));
    let (code, error) = refused(home.af().args(["up", "--pin-origin", "foo"]));
    assert_eq!((code, error.contains("/ip4/192.0.2.1/tcp/4001")), (2, true), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_place_gets_what_was_stored_before_and_not_what_stays_here() {
    let (home, dir) = (Home::new(), tempfile::tempdir().unwrap());
    let server = home.up(&["--api-rate-limit", "100000"]);
    let file = dir.path().join("file");
    fs::write(&file, bytes(13, 1000)).unwrap();
    said(&mut storage(&home, &["add", path(&file), "--only-here"]));
    fs::write(&file, bytes(14, 1000)).unwrap();
    let cid = said(&mut storage(&home, &["add", path(&file)]))["pins"][0]["cid"].as_str().unwrap().to_owned();
    server.kill();
    let kubo = Holders::start(Kind::Kubo).await;
    let to = format!("kubo={}", kubo.url());
    let _server = home.up(&["--pin-to", &to, "--api-rate-limit", "100000"]);
    held(&home, &cid, "PINNED");
    assert_eq!(kubo.pins(), [cid]);
}

/// Returns what the pin's only other place says, once it says `state`.
fn held(home: &Home, cid: &str, state: &str) -> Value {
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        let pins = said(&mut storage(home, &["ls"]));
        let pin = pins.as_array().unwrap().iter().find(|pin| pin["cid"] == cid).unwrap().clone();
        if pin["places"][0]["state"] == state {
            return pin["places"][0].clone();
        }
        assert!(std::time::Instant::now() < deadline, "{pin}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_is_held_at_a_kubo_node() {
    let (home, dir) = (Home::new(), tempfile::tempdir().unwrap());
    let kubo = Holders::start(Kind::Kubo).await;
    kubo.refuse(2);
    let to = format!("kubo={}", kubo.url());
    let _server = home.up(&["--pin-to", &to, "--api-rate-limit", "100000"]);
    let file = dir.path().join("file");
    fs::write(&file, bytes(8, 2_500_000)).unwrap();
    let cid = said(&mut storage(&home, &["add", path(&file)]))["pins"][0]["cid"].as_str().unwrap().to_owned();
    let place = held(&home, &cid, "PINNED");
    assert_eq!(
        (&place["place"], &place["error"]),
        (&json!(kubo.name()), &Value::Null),
        "after it had failed twice"
    );
    assert_eq!(kubo.pins(), std::slice::from_ref(&cid));
    assert_eq!(kubo.blocks(), 4, "it has all blocks");
    let shown = ok(home.af().args(["storage", "ls"]));
    assert!(shown.contains(&format!("here, {}", kubo.name())), "{shown}");
    said(&mut storage(&home, &["unpin", &cid]));
    kubo.until(|pins| pins.is_empty()).await;

    deploy(&home, "hello", "hello-rust", &[]);
    kubo.until(|pins| pins.len() == 2).await;
    let shown = ok(home.af().args(["functions", "get", "-n", "hello"]));
    assert!(shown.contains("code held") && shown.contains("manifest held"), "{shown}");
    for cid in kubo.pins() {
        assert!(shown.contains(&cid), "{shown}");
    }
    ok(home.af().args(["functions", "delete", "-n", "hello"]));
    kubo.until(|pins| pins.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_is_held_by_a_pinning_service_across_restarts() {
    let (home, dir) = (Home::new(), tempfile::tempdir().unwrap());
    let service = Holders::start(Kind::Pinning).await;
    let token = dir.path().join("token");
    fs::write(&token, format!("{}\n", holders::TOKEN)).unwrap();
    let to = format!("pinning={},token={}", service.url(), path(&token));
    let origin = "/ip4/127.0.0.1/tcp/4001/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
    let options = ["--pin-to", &to, "--pin-origin", origin, "--api-rate-limit", "100000"];
    let server = home.up(&options);
    let file = dir.path().join("file");
    fs::write(&file, bytes(9, 1000)).unwrap();
    let cid = said(&mut storage(&home, &["add", path(&file)]))["pins"][0]["cid"].as_str().unwrap().to_owned();
    let place = held(&home, &cid, "PINNING");
    assert_eq!((service.origins(), &place["detail"]), (vec![origin.to_owned()], &Value::Null));
    server.kill();
    service.decide("pinned");
    let server = home.up(&options);
    held(&home, &cid, "PINNED");
    assert_eq!(service.requests(), 1, "a restart asks for nothing again");

    // One that gives up is asked to begin again, in the place of the request that failed.
    service.decide("failed");
    fs::write(&file, bytes(10, 1000)).unwrap();
    let other =
        said(&mut storage(&home, &["add", path(&file)]))["pins"][0]["cid"].as_str().unwrap().to_owned();
    let place = held(&home, &other, "FAILED");
    assert_eq!(place["error"], "out of space");
    service.decide("pinned");
    held(&home, &other, "PINNED");
    assert_eq!(service.pins().len(), 2);
    said(&mut storage(&home, &["unpin", &cid]));
    service.until(|pins| *pins == [other.clone()]).await;

    let here = said(&mut storage(&home, &["add", path(&token), "--only-here"]));
    assert_eq!(here["pins"][0]["places"], json!([]));
    assert!(!home.logged().contains(holders::TOKEN), "the token is in no log");
    drop(server);
    let mut wrong = home.af();
    wrong.args(["up", "--data-dir"]).arg(home.data()).args([
        "--listen",
        "127.0.0.1:0",
        "--api-listen",
        "127.0.0.1:0",
    ]);
    let (_, error) = refused(wrong.args(["--pin-to", "pinning=http://me:secret@127.0.0.1"]));
    assert!(error.contains("127.0.0.1") && !error.contains("secret"), "{error}");
}
