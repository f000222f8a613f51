//! Custom domains, with the real binary and a real DNS server.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

#[path = "support/pebble.rs"]
mod pebble;
mod support;

use pebble::{DnsServer, servers};
use reqwest::StatusCode;
use serde_json::{Value, json};
use support::{Home, Server, guest, http, ok, refused};

/// A request to a host that is not the platform's.
async fn ask(server: &Server, host: &str) -> reqwest::Response {
    let url = format!("http://127.0.0.1:{}/", server.port);
    http().get(url).header("host", host).send().await.unwrap()
}

/// Asks until the status is this one: the feed is asynchronous, and so are checks.
async fn until(server: &Server, host: &str, status: StatusCode) {
    while ask(server, host).await.status() != status {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_domain_leads_to_a_function_as_long_as_its_record_is_there() {
    let home = Home::new();
    let Some(servers) = servers() else { return };
    let dns = DnsServer::start(&servers, "");
    let address = dns.address.to_string();
    let options = ["--dns-server", &address, "--domain-check-interval", "50ms"];
    let server = home.up(&options);
    let af = |args: &[&str]| ok(home.af().args(args));
    ok(home.af().args(["functions", "deploy", "--create", "-n", "shop", "-p"]).arg(guest("hello-rust")));
    assert!(af(&["domains", "list"]).contains("no domains yet"));

    let added = af(&["domains", "add", "Shop.Example.com", "--function", "shop"]);
    let shown: Value = serde_json::from_str(&af(&["--json", "domains", "get", "shop.example.com"])).unwrap();
    let value = format!("af-site-verification={}", shown["txtVerificationToken"].as_str().unwrap());
    for text in ["_af.shop.example.com", "TXT", &value, "CNAME", "shop.localhost"] {
        assert!(added.contains(text), "{text} is not in {added}");
    }
    let (code, why) = refused(home.af().args(["domains", "verify", "shop.example.com"]));
    assert!(code == 1 && why.contains("is not verified") && why.contains(&value), "{why}");
    assert_eq!(ask(&server, "shop.example.com").await.status(), 404);

    dns.set("set-txt", json!({ "host": "shop.example.com.", "value": value })).await;
    assert!(af(&["domains", "verify", "shop.example.com", "--wait"]).contains("is verified"));
    until(&server, "shop.example.com", StatusCode::OK).await;
    assert_eq!(
        ask(&server, "shop.example.com").await.text().await.unwrap(),
        "Hello from Rust and WASI 0.2!\n"
    );
    assert!(af(&["domains", "list"]).contains("VERIFIED"));

    // It is still so after a restart, without a word from the DNS.
    assert!(server.stop().success());
    let server = home.up(&options);
    assert_eq!(ask(&server, "shop.example.com").await.status(), 200);

    dns.set("clear-txt", json!({ "host": "shop.example.com." })).await;
    until(&server, "shop.example.com", StatusCode::NOT_FOUND).await;
    assert!(af(&["domains", "get", "shop.example.com"]).contains("FAILED"));
    dns.set("set-txt", json!({ "host": "shop.example.com.", "value": value })).await;
    af(&["domains", "verify", "shop.example.com"]);
    until(&server, "shop.example.com", StatusCode::OK).await;

    af(&["domains", "remove", "shop.example.com"]);
    until(&server, "shop.example.com", StatusCode::NOT_FOUND).await;
    let (_, why) = refused(home.af().args(["domains", "get", "shop.example.com"]));
    assert!(why.contains("has no domain"), "{why}");
}

#[tokio::test]
async fn an_alias_of_a_function_is_verified_and_goes_with_it() {
    let home = Home::new();
    let Some(servers) = servers() else { return };
    let dns = DnsServer::start(&servers, "");
    let address = dns.address.to_string();
    let server = home.up(&["--dns-server", &address]);
    let af = |args: &[&str]| ok(home.af().args(args));
    ok(home.af().args(["functions", "deploy", "--create", "-n", "shop", "-p"]).arg(guest("hello-rust")));
    dns.set("set-cname", json!({ "host": "www.example.com.", "target": "shop.localhost." })).await;
    af(&["domains", "add", "www.example.com", "--function", "shop", "--method", "cname"]);
    af(&["domains", "verify", "www.example.com"]);
    until(&server, "www.example.com", StatusCode::OK).await;
    assert!(af(&["functions", "delete", "-n", "shop"]).contains("www.example.com"));
    until(&server, "www.example.com", StatusCode::NOT_FOUND).await;
}

#[test]
fn what_is_missing_is_said() {
    let home = Home::new();
    let _server = home.up(&[]);
    for (args, text) in [
        (vec!["domains", "add", "example.com"], "--function"),
        (vec!["domains", "add", "example.com", "--function", "none"], "no function named"),
        (vec!["domains", "add", "example.com", "--site", "mine"], "no site named"),
        (vec!["domains", "remove", "example.com"], "has no domain"),
        (vec!["domains", "update", "example.com"], "nothing to change"),
        (vec!["domains", "certificate", "example.com", "--cert", "no", "--key", "no"], "cannot read no"),
    ] {
        let (_, why) = refused(home.af().args(&args));
        assert!(why.contains(text), "{args:?}: {why}");
    }
}
