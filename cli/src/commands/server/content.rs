//! The content of a server: what is on its disk, who else is asked, and who may read it.

use std::path::Path;
use std::sync::Arc;

use af_content::DiskStore;
#[cfg(feature = "bitswap")]
use af_content::bitswap::Bitswap;
use af_content::gateway::Gateway;
use af_content::source::{Fetcher, Source};
use af_runtime::Edge;

#[cfg(feature = "bitswap")]
use super::bitswap;
use super::storage::Reach;
use crate::args::server::Node;
use crate::commands::{gateway, sources};
use crate::config::Environment;

/// Content, and its ways in and out.
pub struct Content {
    pub blocks: Fetcher,
    pub gateway: Option<Gateway>,
    #[cfg(feature = "bitswap")]
    node: Option<Bitswap>,
}

impl Content {
    /// Opens the store. `first` are asked before the sources of the options.
    pub async fn open(
        options: &Node,
        data: &Path,
        first: &[Arc<dyn Source>],
        environment: &Environment,
    ) -> anyhow::Result<Self> {
        let blocks = DiskStore::open(data.join("blocks"))?;
        let gateway = gateway::gateway(&blocks, &options.gateway, environment)?;
        let others = sources::all(&options.content, &options.egress_allow, environment)?;
        let others = first.iter().cloned().chain(others);
        #[cfg(feature = "bitswap")]
        let node = bitswap::start(&options.bitswap, data, blocks.clone()).await?;
        #[cfg(feature = "bitswap")]
        let others = others.chain(node.as_ref().map(Bitswap::source));
        Ok(Self {
            blocks: Fetcher::new(blocks, others),
            gateway,
            #[cfg(feature = "bitswap")]
            node,
        })
    }

    /// How pinning services come to the blocks here: at which addresses, and who connects with theirs.
    pub fn reach(&self, options: &Node) -> Reach {
        #[cfg(feature = "bitswap")]
        if let Some(node) = &self.node {
            let origins = bitswap::origins(node, &options.bitswap);
            return Reach {
                origins,
                connect: bitswap::connect(node, &options.bitswap, &options.egress_allow),
            };
        }
        #[cfg(not(feature = "bitswap"))]
        let _nothing = options;
        Reach::default()
    }

    /// Has the edge tell in its metrics what this node does as an IPFS peer.
    pub fn watch(&self, edge: &Edge) {
        #[cfg(feature = "bitswap")]
        if let Some(node) = &self.node {
            edge.watch_peer(node.counters());
        }
        #[cfg(not(feature = "bitswap"))]
        let _nothing = edge;
    }

    /// Where IPFS peers connect.
    pub fn described(&self) -> Vec<String> {
        #[cfg(feature = "bitswap")]
        return self.node.as_ref().map(bitswap::described).unwrap_or_default();
        #[cfg(not(feature = "bitswap"))]
        Vec::new()
    }

    /// Says goodbye to peers.
    pub async fn stop(self) {
        #[cfg(feature = "bitswap")]
        if let Some(node) = self.node {
            node.stop().await;
        }
    }
}
