//! The server as an IPFS peer.

use std::path::Path;

use af_content::DiskStore;
use af_content::bitswap::{Bitswap, Config, Identity};
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

/// Who the node is and where, as others have to be told: its addresses, or its id when it listens nowhere.
pub fn described(node: &Bitswap) -> Vec<String> {
    let addresses: Vec<_> = node.addresses().map(|address| address.to_string()).collect();
    if addresses.is_empty() { vec![format!("/p2p/{}", node.peer_id())] } else { addresses }
}
