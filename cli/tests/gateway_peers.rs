//! Our gateway with a client of real IPFS software: it reads files and directories, and takes nothing from it unchecked.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

#[path = "support/ipfs.rs"]
mod ipfs;
mod support;
#[path = "support/tamper.rs"]
mod tamper;

use std::net::SocketAddr;
use std::{fs, io};

use af_content::DiskStore;
use af_content::unixfs::folder;
use ipfs::{Helia, software};
use support::{Home, Server};
use tamper::Tamper;

/// A server that has a directory, and what is in one of its files: three blocks, and a node for them.
fn serving(home: &Home) -> (Server, String, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let large: Vec<u8> = (0..2_500_000_u32).map(|n| n.to_le_bytes()[1] ^ n.to_le_bytes()[2]).collect();
    fs::create_dir(dir.path().join("docs")).unwrap();
    fs::write(dir.path().join("docs/a b.txt"), "text").unwrap();
    fs::write(dir.path().join("large.bin"), &large).unwrap();
    let store = DiskStore::open(home.data().join("blocks")).unwrap();
    let keep = &mut |block| store.keep(&block).map_err(io::Error::other);
    let root = folder::import(dir.path(), keep).unwrap().root;
    (home.up(&["--gateway", "public"]), root.to_string(), large)
}

#[test]
fn helia_reads_what_we_have_and_refuses_what_was_changed_on_the_way() {
    let Some(software) = software() else { return };
    let home = Home::new();
    let (server, root, large) = serving(&home);
    let proxy = Tamper::http(SocketAddr::from(([127, 0, 0, 1], server.port)));
    let fetch =
        |gateway: &str, path: &str| Helia::fetch_by_gateway(&software, gateway, &format!("{root}/{path}"));
    assert!(fetch(&proxy.url(), "large.bin").unwrap() == large);
    assert_eq!(fetch(&server.api, "docs/a%20b.txt").unwrap(), b"text");
    // A bit of each block, of which the directory is the first; then of those only that are large enough.
    for byte in [10, 1000] {
        proxy.flip(byte);
        let before = proxy.seen();
        let refused = fetch(&proxy.url(), "large.bin").unwrap_err();
        assert!(refused.contains("status 50"), "{refused}");
        assert!(proxy.seen() > before);
    }
}
