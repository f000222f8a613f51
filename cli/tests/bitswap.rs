//! A server as an IPFS peer: what is deployed is fetched from it by CID, by those who may.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

#[path = "support/holders.rs"]
mod holders;
mod support;

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use af_content::DiskStore;
use af_content::bitswap::{Bitswap, Config, Identity, Multiaddr, Serve};
use af_content::source::SourceError;
use af_content::unixfs::Export;
use af_contract::ContentId;
use holders::{Holders, Kind};
use serde_json::Value;
use support::{Home, Server, car_of, deploy, guest, ok, refused};

const LISTEN: [&str; 2] = ["--bitswap-listen", "/ip4/127.0.0.1/tcp/0"];

/// A node with nothing of its own, which knows these peers.
async fn node(dir: &tempfile::TempDir, peers: &[String]) -> Bitswap {
    let mut config = Config::new(Identity::ephemeral());
    config.listen.push("/ip4/127.0.0.1/tcp/0".parse().unwrap());
    config.peers = peers.iter().map(|peer| peer.parse().unwrap()).collect();
    config.patience.connect = Duration::from_secs(2);
    Bitswap::start(config, DiskStore::open(dir.path()).unwrap()).await.unwrap()
}

async fn fetch(node: &Bitswap, root: ContentId) -> Result<Vec<u8>, SourceError> {
    let (source, mut file) = (node.source(), Vec::new());
    let mut export = Export::new(root, 1 << 30);
    while let Some(id) = export.wanted() {
        let block = source.block(id).await?.expect(&id)?;
        file.extend_from_slice(&export.feed(&block).unwrap());
    }
    Ok(file)
}

/// Where peers reach a server; its port is a free one each time.
fn peer(server: &Server) -> Vec<String> {
    let addresses = server.said["bitswap"].as_array().unwrap();
    addresses.iter().map(|address| address.as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn what_is_deployed_is_fetched_by_any_peer_also_after_a_restart() {
    let home = Home::new();
    let server = home.up(&[&LISTEN[..], &["--bitswap-serve", "anyone"]].concat());
    deploy(&home, "good", "hello-rust", &[]);
    let file = std::fs::read(guest("hello-rust")).unwrap();
    let root = car_of(&file).0.root;
    let first = peer(&server);
    let dir = tempfile::tempdir().unwrap();
    let other = node(&dir, &first).await;
    assert!(fetch(&other, root).await.unwrap() == file);
    assert!(server.stop().success(), "it says goodbye to its peers, too");
    let mode = std::fs::metadata(home.data().join("bitswap.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // The same peer, where the one before was.
    let at: Multiaddr = first[0].parse().unwrap();
    let listen = at.to_string().split("/p2p/").next().unwrap().to_owned();
    let server = home.up(&["--bitswap-listen", &listen, "--bitswap-serve", "anyone"]);
    assert_eq!(peer(&server), first);
    let again = async {
        while fetch(&other, root).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), again).await.expect("it is found again");
    other.stop().await;
}

#[tokio::test]
async fn strangers_get_nothing_unless_that_was_said() {
    let home = Home::new();
    let server = home.up(&LISTEN);
    deploy(&home, "good", "hello-rust", &[]);
    let root = car_of(&std::fs::read(guest("hello-rust")).unwrap()).0.root;
    let dir = tempfile::tempdir().unwrap();
    let stranger = node(&dir, &peer(&server)).await;
    assert!(matches!(fetch(&stranger, root).await, Err(SourceError::Unreachable(_))));
    drop(server);
    // One that is named is served, and need not dial itself.
    let named = stranger.addresses().next().unwrap().to_string();
    let server = home.up(&["--bitswap-peer", &named]);
    assert!(peer(&server)[0].starts_with("/p2p/"), "it listens nowhere");
    assert!(matches!(fetch(&stranger, root).await, Err(SourceError::Unreachable(_))), "only who is named");
}

#[test]
fn people_fetch_and_verify_from_a_peer() {
    let home = Home::new();
    let server = home.up(&[&LISTEN[..], &["--bitswap-serve", "anyone"]].concat());
    deploy(&home, "good", "hello-rust", &[]);
    let file = std::fs::read(guest("hello-rust")).unwrap();
    let root = car_of(&file).0.root.to_string();
    let (peer, out) = (peer(&server).remove(0), home.data().with_file_name("fetched.wasm"));
    let said = ok(home.af().args(["fetch", &root, "--bitswap-peer", &peer, "-o"]).arg(&out));
    assert!(said.contains("bitswap") && std::fs::read(&out).unwrap() == file, "{said}");
    let said = ok(home.af().args(["verify", &root, "--bitswap-peer", &peer]));
    assert!(said.contains("every block is what its CID says"), "{said}");
    // Each peer has a line of its own: another one is where this one is said to be.
    let absent = peer.replace("/p2p/", "/p2p/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA#");
    let absent = absent.split('#').next().unwrap();
    let both = ["--json", "fetch", &root, "--bitswap-peer", absent, "--bitswap-peer", &peer];
    let said: Value = serde_json::from_str(&ok(home.af().args(both))).unwrap();
    let [missed, gave] = [0, 1].map(|number| &said["sources"][0]["peers"][number]);
    assert!(missed["asked"] == 0 && missed["failures"].as_u64().unwrap() > 0, "{said:#}");
    assert!(missed["said"].as_str().unwrap().contains("another peer answers"), "{said:#}");
    assert!(
        gave["blocks"].as_u64().unwrap() > 0 && gave["asked"].as_u64() >= gave["blocks"].as_u64(),
        "{said:#}"
    );
    drop(server);
    let (code, text) = refused(home.af().args(["fetch", &root, "--bitswap-peer", &peer]));
    assert!(code == 1 && text.contains("bitswap"), "{text}");
    let id = peer.split("/p2p/").nth(1).unwrap();
    let line = text.lines().find(|line| line.contains(&format!("bitswap peer {id}"))).unwrap();
    assert!(line.contains("never asked: ") && line.contains("cannot be reached"), "{text}");
}

#[test]
fn an_address_that_is_none_is_told() {
    let home = Home::new();
    for (option, value, expected) in [
        ("--bitswap-peer", "/ip4/127.0.0.1/tcp/4001", "add /p2p/ and its id"),
        ("--bitswap-peer", "127.0.0.1:4001", "is no multiaddr"),
        ("--bitswap-listen", "nowhere", "nowhere"),
    ] {
        let (code, text) = refused(home.af().args(["up", option, value]));
        assert!(code == 2 && text.contains(expected), "{text}");
    }
    let listen = ["up", "--api-listen", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--bitswap-listen"];
    let (code, text) = refused(home.af().args(listen).arg("/ip4/192.0.2.1/tcp/4001"));
    assert!(code == 1 && text.contains("--bitswap-listen"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pinning_service_is_told_where_blocks_are_and_its_peers_are_connected_with() {
    let (home, dir) = (Home::new(), tempfile::tempdir().unwrap());
    let service = Holders::start(Kind::Pinning).await;
    // The service's own node, which connects with nobody.
    let mut config = Config::new(Identity::ephemeral());
    config.listen.push("/ip4/127.0.0.1/tcp/0".parse().unwrap());
    config.serve = Serve::Anyone;
    let peer = Bitswap::start(config, DiskStore::open(dir.path().join("blocks")).unwrap()).await.unwrap();
    service.delegate("/ip4/192.0.2.1/udp/4001/quic-v1".to_owned());
    service.delegate(peer.addresses().next().unwrap().to_string());
    let mut af = home.af();
    af.env("AF_PIN_TOKEN", holders::TOKEN);
    let to = format!("pinning={}", service.url());
    let options = ["--pin-to", &to, "--egress-allow", "127.0.0.0/8", "--bitswap-serve", "anyone"];
    let _server = home.up_as(af, &[&options[..], &LISTEN[..]].concat());
    let file = dir.path().join("file");
    std::fs::write(&file, "for a pinning service").unwrap();
    let added = ok(home.af().args(["--json", "storage", "add"]).arg(&file));
    let added: Value = serde_json::from_str(&added).unwrap();
    let id = ContentId::parse(added["pins"][0]["cid"].as_str().unwrap()).unwrap();
    service.until(|pins| pins.len() == 1).await;
    let [origin] = service.origins().try_into().unwrap();
    assert!(origin.starts_with("/ip4/127.0.0.1/tcp/") && origin.contains("/p2p/12D3Koo"), "{origin}");
    // It is connected with when the service has named it.
    let got = async {
        loop {
            if let Ok(file) = fetch(&peer, id).await {
                return file;
            }
            tokio::task::yield_now().await;
        }
    };
    let file = tokio::time::timeout(Duration::from_secs(60), got).await.unwrap();
    assert_eq!(file, b"for a pinning service");
    peer.stop().await;
}
