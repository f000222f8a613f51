//! Bitswap with the real core of Kubo and with Helia: each fetches from the other, also after they were started again.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

#[path = "support/ipfs.rs"]
mod ipfs;
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use af_content::DiskStore;
use af_content::bitswap::{Bitswap, Config, Identity};
use af_content::source::SourceError;
use af_content::unixfs::Export;
use af_contract::ContentId;
use ipfs::{Helia, Kubo, Stop, software};
use serde_json::Value;
use support::{Home, Server, car_of, deploy, guest, ok, refused};

/// For a peer to be found again.
const SOON: Duration = Duration::from_secs(60);

/// What both peers can do.
trait Peer {
    fn where_it_is(&self) -> Vec<String>;
    fn what_it_has(&self) -> Vec<String>;
    fn get(&mut self, from: &str, cid: &str) -> Result<Vec<u8>, String>;
    fn restart(&mut self, how: Stop);
}

macro_rules! peer {
    ($($type:ty)*) => {$(
        impl Peer for $type {
            fn where_it_is(&self) -> Vec<String> {
                self.addresses().into_iter().filter(|address| address.contains("/tcp/")).collect()
            }

            fn what_it_has(&self) -> Vec<String> {
                self.added()
            }

            fn get(&mut self, from: &str, cid: &str) -> Result<Vec<u8>, String> {
                self.connect(from)?;
                self.fetch(cid)
            }

            fn restart(&mut self, how: Stop) {
                self.stop(how);
                self.start_again();
            }
        }
    )*};
}

peer!(Helia Kubo);

/// Files, of which the last one is larger than any message.
fn files(dir: &Path, sizes: &[usize]) -> Vec<PathBuf> {
    let write = |size: &usize| {
        let path = dir.join(size.to_string());
        let bytes: Vec<u8> =
            (0..*size).map(|n| (n.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
        fs::write(&path, bytes).unwrap();
        path
    };
    sizes.iter().map(write).collect()
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

/// Again and again until the peer is connected.
async fn fetch_soon(node: &Bitswap, root: ContentId) -> Vec<u8> {
    let fetched = async {
        loop {
            match fetch(node, root).await {
                Ok(file) => return file,
                Err(SourceError::Unreachable(_)) => tokio::task::yield_now().await,
                Err(error) => panic!("{root}: {error}"),
            }
        }
    };
    tokio::time::timeout(SOON, fetched).await.expect("it is not found")
}

async fn we_fetch_from(peer: &mut dyn Peer, files: &[PathBuf]) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::new(Identity::ephemeral());
    config.peers = peer.where_it_is().iter().map(|address| address.parse().unwrap()).collect();
    let node = Bitswap::start(config, DiskStore::open(dir.path()).unwrap()).await.unwrap();
    let cids = peer.what_it_has();
    for how in [None, Some(Stop::InOrder), Some(Stop::AtOnce)] {
        if let Some(how) = how {
            peer.restart(how);
        }
        for (cid, path) in cids.iter().zip(files) {
            let file = fetch_soon(&node, ContentId::parse(cid).unwrap()).await;
            assert!(file == fs::read(path).unwrap(), "{cid} after {how:?}");
        }
    }
    let stats = node.stats();
    assert_eq!(stats.blocks_unasked, 0, "{stats:?}");
    node.stop().await;
}

fn they_fetch_from_us(peer: &mut dyn Peer, home: &Home, server: Server) {
    let address = |server: &Server| server.said["bitswap"][0].as_str().unwrap().to_owned();
    deploy(home, "good", "hello-rust", &[]);
    let file = fs::read(guest("hello-rust")).unwrap();
    let cid = car_of(&file).0.root.to_string();
    let first = address(&server);
    assert!(peer.get(&first, &cid).unwrap() == file);
    // A large one, and we were started again.
    assert!(server.stop().success());
    let listen = first.split("/p2p/").next().unwrap();
    let server = home.up(&["--bitswap-listen", listen, "--bitswap-serve", "anyone"]);
    deploy(home, "large", "hello-js", &[]);
    let file = fs::read(guest("hello-js")).unwrap();
    assert!(file.len() > 8 << 20, "larger than any message");
    assert!(peer.get(&address(&server), &car_of(&file).0.root.to_string()).unwrap() == file);
}

fn server(home: &Home) -> Server {
    home.up(&["--bitswap-listen", "/ip4/127.0.0.1/tcp/0", "--bitswap-serve", "anyone"])
}

#[tokio::test]
async fn helia_and_we_fetch_from_each_other() {
    let Some(software) = software() else { return };
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path(), &[1000, 1 << 20, 5_000_000]);
    let paths: Vec<_> = files.iter().map(PathBuf::as_path).collect();
    let mut helia = Helia::start(&software, &paths);
    we_fetch_from(&mut helia, &files).await;
    let home = Home::new();
    they_fetch_from_us(&mut helia, &home, server(&home));
}

#[tokio::test]
async fn kubo_and_we_fetch_from_each_other() {
    let Some(software) = software() else { return };
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path(), &[1000, 3_000_000]);
    let paths: Vec<_> = files.iter().map(PathBuf::as_path).collect();
    let mut kubo = Kubo::start(&software, &paths);
    we_fetch_from(&mut kubo, &files).await;
    let home = Home::new();
    they_fetch_from_us(&mut kubo, &home, server(&home));
}

#[test]
fn what_kubo_sends_that_was_changed_is_refused_and_had_from_somebody_else() {
    let Some(software) = software() else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = files(dir.path(), &[3_000_000]).remove(0);
    let mut kubo = Kubo::start(&software, &[&file]);
    let mut helia = Helia::start(&software, &[]);
    let cid = kubo.added().remove(0);
    helia.connect(&kubo.addresses()[0]).unwrap();
    assert!(helia.fetch(&cid).unwrap() == fs::read(&file).unwrap());
    kubo.tamper();
    let (home, out) = (Home::new(), dir.path().join("fetched"));
    let fetch = |peers: &[&str], options: &[&str]| {
        let mut af = home.af();
        af.args(options).args(["fetch", &cid, "-o"]).arg(&out);
        for peer in peers {
            af.args(["--bitswap-peer", peer]);
        }
        af
    };
    let (liar, honest) = (kubo.addresses().remove(0), helia.addresses().remove(0));
    let (_, said) = refused(&mut fetch(&[&liar], &[]));
    assert!(said.contains("WRONG BYTES") && !out.exists(), "{said}");
    assert!(said.contains(&format!("wrong bytes came from bitswap peer {}", kubo.id())), "{said}");
    let said: Value = serde_json::from_str(&ok(&mut fetch(&[&liar, &honest], &["--json"]))).unwrap();
    assert!(fs::read(&out).unwrap() == fs::read(&file).unwrap());
    let [liar, honest] = [0, 1].map(|number| &said["sources"][0]["peers"][number]);
    assert!(liar["blocks"] == 0 && honest["blocks"].as_u64().unwrap() > 10, "{said:#}");
}
