//! A bundler of Arweave with a gateway, which takes what arbundles finds valid. The rest is in `ipfs-peers/arweave`.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::ipfs::{Peer, Software};
use super::support::free_port;

/// An Ed25519 key; its seed is that of the first test vector of RFC 8032.
pub const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n\
    -----END PRIVATE KEY-----\n";

/// Both, at one address.
pub struct Arweave {
    peer: Peer,
    pub url: String,
}

impl Arweave {
    pub fn start(software: &Software) -> Self {
        let http = free_port();
        let peer = Peer::node(software, "arweave/archive.mjs", json!({ "http": http }));
        Self { peer, url: format!("http://127.0.0.1:{http}") }
    }

    /// As an option of `af up`, with this key's file.
    pub fn place(&self, key: &Path) -> String {
        format!("arweave={}/v1,key={},gateway={}", self.url, key.display(), self.url)
    }

    /// As a source.
    pub fn source(&self) -> String {
        format!("arweave={}", self.url)
    }

    /// `uploads`, `requests` and `items`.
    pub fn state(&mut self) -> Value {
        self.peer.ask(&json!({ "do": "state" })).unwrap()
    }

    /// From now on: `status` of all items, `receipt` for an item, `hidden` items, or `cut` connections after so many items.
    pub fn be(&mut self, how: Value) {
        self.peer.ask(&json!({ "do": "be", "how": how })).unwrap();
    }

    /// Somebody else's archive of this CID, with any data.
    pub fn forge(&mut self, cid: &str, data: &str) -> String {
        let tag = |name: &str, value: &str| json!({ "name": name, "value": value });
        let tags = [tag("Content-Type", "application/vnd.ipld.car"), tag("IPFS-CID", cid)];
        let item = self.peer.ask(&json!({ "do": "forge", "tags": tags, "data": data })).unwrap();
        item.as_str().unwrap().to_owned()
    }

    /// A new wallet.
    pub fn wallet(&mut self) -> String {
        self.peer.ask(&json!({ "do": "wallet" })).unwrap().as_str().unwrap().to_owned()
    }
}

/// A key's file that nobody else can read.
pub fn key_file(dir: &Path, key: &str) -> PathBuf {
    let path = dir.join("key");
    fs::write(&path, key).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    path
}
