//! What a node is told at its start.

use std::time::Duration;

use libp2p_core::Multiaddr;

use super::identity::Identity;
use super::peers::PeerAddress;
use super::wants::Patience;

/// How a node takes part.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who it is.
    pub identity: Identity,
    /// Where it listens, such as `/ip4/0.0.0.0/tcp/4001`; nowhere is possible.
    pub listen: Vec<Multiaddr>,
    /// Peers to stay connected with.
    pub peers: Vec<PeerAddress>,
    /// Who gets blocks.
    pub serve: Serve,
    /// How long to wait for peers before the next one is asked, or nobody.
    pub patience: Patience,
}

impl Config {
    /// A node that listens nowhere, knows nobody and serves its configured peers.
    #[must_use]
    pub const fn new(identity: Identity) -> Self {
        Self {
            identity,
            listen: Vec::new(),
            peers: Vec::new(),
            serve: Serve::Peers,
            patience: Patience {
                // A block of 2 MiB at two megabits per second; other blocks before it count as progress.
                block: Duration::from_secs(10),
                // Some attempts, the first at once.
                connect: Duration::from_secs(5),
            },
        }
    }
}

/// Who gets blocks. Whoever is not served may still be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serve {
    /// Nobody: the node only asks.
    Nobody,
    /// The configured peers; others cannot connect.
    Peers,
    /// Whoever connects and knows a block's id.
    Anyone,
}
