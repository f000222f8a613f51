//! Functions that real IPFS software has: run here by their CID, by every way that it offers, also when somebody changes bits on the
//! way.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

#[path = "support/ipfs.rs"]
mod ipfs;
mod support;
#[path = "support/tamper.rs"]
mod tamper;

use ipfs::{Helia, JsIpfs, Kubo, RoutingServer, Software, Stop, address, software};
use support::{Home, Server, guest, ok};
use tamper::Tamper;

const HELLO: &str = "Hello from Rust and WASI 0.2!\n";

fn deploy(home: &Home, cid: &str) -> String {
    ok(home.af().args(["functions", "deploy", "--create", "-n", "hello", "--cid", cid]))
}

fn refused(home: &Home, cid: &str) -> String {
    support::refused(home.af().args(["functions", "deploy", "--create", "-n", "hello", "--cid", cid])).1
}

async fn says_hello(server: &Server) {
    assert_eq!(server.get("hello", "/").await.text().await.unwrap(), HELLO);
}

fn helia(software: &Software) -> (Helia, String) {
    let helia = Helia::start(software, &[&guest("hello-rust")]);
    let cid = helia.added().remove(0);
    (helia, cid)
}

/// In 256 KiB chunks, with nodes around them, under a CIDv0: as Kubo adds files.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_with_kubos_rpc_has_is_run() {
    let Some(software) = software() else { return };
    let mut node = JsIpfs::start(&software, &[&guest("hello-rust")]);
    let cid = node.added().remove(0);
    assert!(cid.starts_with("Qm"), "{cid}");
    let home = Home::new();
    let server = home.up(&["--source", &format!("kubo={}", node.rpc)]);
    node.stop(Stop::InOrder);
    assert!(refused(&home, &cid).contains("it cannot be reached"));
    node.start_again();
    drop(server);
    let server = home.up(&["--source", &format!("kubo={}", node.rpc)]);
    deploy(&home, &cid);
    says_hello(&server).await;
    node.stop(Stop::InOrder);
    drop(server);
    std::fs::remove_dir_all(home.data().join("artifacts")).unwrap();
    says_hello(&home.up(&[])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_gateway_has_is_run_unless_it_was_changed_on_the_way() {
    let Some(software) = software() else { return };
    let (helia, cid) = helia(&software);
    let proxy = Tamper::http(address(&helia.gateway));
    let home = Home::new();
    let up = || home.up(&["--source", &format!("gateway={}", proxy.url())]);
    let server = up();
    proxy.flip(10);
    let said = refused(&home, &cid);
    assert!(said.contains("has bytes that hash to"), "{said}");
    let again = refused(&home, &cid);
    assert!(again.contains("it is not asked for another"), "it is not asked again: {again}");
    proxy.be_honest();
    drop(server);
    let server = up();
    deploy(&home, &cid);
    says_hello(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn providers_that_a_routing_server_names_are_asked_where_functions_may_be() {
    let Some(software) = software() else { return };
    let (helia, cid) = helia(&software);
    let provider = [format!("/ip4/127.0.0.1/tcp/{}/http", address(&helia.gateway).port())];
    let routing = RoutingServer::start(&software, &[(&cid, &provider)]);
    let source = format!("routing={}", routing.url);
    let home = Home::new();
    let server = home.up(&["--source", &source]);
    assert!(
        refused(&home, &cid).contains("may not be asked: http://127.0.0.1:"),
        "this machine is nobody's provider"
    );
    drop(server);
    let server = home.up(&["--source", &source, "--egress-allow", "127.0.0.0/8"]);
    deploy(&home, &cid);
    says_hello(&server).await;
}

#[cfg(feature = "bitswap")]
#[tokio::test(flavor = "multi_thread")]
async fn what_kubo_has_comes_by_bitswap() {
    let Some(software) = software() else { return };
    let kubo = Kubo::start(&software, &[&guest("hello-rust")]);
    let home = Home::new();
    let server = home.up(&["--bitswap-peer", &kubo.addresses()[0]]);
    deploy(&home, &kubo.added()[0]);
    says_hello(&server).await;
}
