//! The server as an IPFS peer.

use std::path::Path;
use std::sync::Arc;

use af_content::DiskStore;
use af_content::bitswap::{Bitswap, Config, Identity};
use af_content::sink::Connect;
use af_runtime::host::egress::{Egress, IpNet};
use anyhow::Context;

use crate::args::bitswap as options;

/// The node's key, in the data directory. Whoever loses it becomes another peer.
const KEY: &str = "bitswap.key";

/// Starts a node that has the server's content, if the options say where it listens or whom it knows.
pub async fn start(
    options: &options::Bitswap,
    data: &Path,
    blocks: DiskStore,
) -> anyhow::Result<Option<Bitswap>> {
    if options.bitswap_listen.is_empty() && options.bitswap_peer.is_empty() {
        return Ok(None);
    }
    let identity = Identity::load_or_create(&data.join(KEY))?;
    let mut config = Config::new(identity);
    config.listen.clone_from(&options.bitswap_listen);
    config.peers.clone_from(&options.bitswap_peer);
    config.serve = options.bitswap_serve.into();
    let node = Bitswap::start(config, blocks).await;
    node.context("choose other addresses with --bitswap-listen").map(Some)
}

/// Where those find the node who get blocks from it: its addresses, if anyone is served, but those that mean any of this
/// machine's, which say nothing to others.
pub fn origins(node: &Bitswap, options: &options::Bitswap) -> Vec<String> {
    let is_open = matches!(options.bitswap_serve, options::Served::Anyone);
    let addresses = node.addresses().filter(|_| is_open).map(|address| address.to_string());
    addresses
        .filter(|address| !["/ip4/0.0.0.0/", "/ip6/::/"].iter().any(|any| address.starts_with(any)))
        .collect()
}

/// Has the node connect with peers that pinning services name, where functions may send requests, too; unless it would not
/// serve them.
pub fn connect(node: &Bitswap, options: &options::Bitswap, egress: &[IpNet]) -> Option<Connect> {
    if !matches!(options.bitswap_serve, options::Served::Anyone) {
        return None;
    }
    let egress = Egress::new(egress);
    let delegates = node.delegates(Arc::new(move |address| egress.permits(address)));
    Some(Arc::new(move |addresses| {
        let delegates = delegates.clone();
        Box::pin(async move { delegates.connect(addresses).await })
    }))
}

/// Who the node is and where, as others have to be told: its addresses, or its id when it listens nowhere.
pub fn described(node: &Bitswap) -> Vec<String> {
    let addresses: Vec<_> = node.addresses().map(|address| address.to_string()).collect();
    if addresses.is_empty() { vec![format!("/p2p/{}", node.peer_id())] } else { addresses }
}
