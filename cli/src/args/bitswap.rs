//! The options for bitswap.

use af_content::bitswap::{Multiaddr, PeerAddress, Serve};
use clap::{Args as Options, ValueEnum};

#[derive(Debug, Options)]
#[command(next_help_heading = "IPFS peers (bitswap)")]
pub struct Bitswap {
    /// Where IPFS peers connect, such as /ip4/0.0.0.0/tcp/4001; may be given several times [default: nowhere]
    #[arg(long, value_name = "MULTIADDR")]
    pub bitswap_listen: Vec<Multiaddr>,
    /// An IPFS peer to stay connected with, such as /dns4/kubo.internal/tcp/4001/p2p/12D3Koo…; may be given several
    /// times
    #[arg(long, value_name = "MULTIADDR")]
    pub bitswap_peer: Vec<PeerAddress>,
    /// Who gets blocks: the peers that are named here, or anyone who can connect and knows a CID. That is all
    /// content of all projects
    #[arg(long, value_name = "WHO", value_enum, default_value = "peers")]
    pub bitswap_serve: Served,
}

/// Whom a command asks that is no server.
#[derive(Debug, Options)]
pub struct Peers {
    /// An IPFS peer to ask by bitswap, such as /ip4/127.0.0.1/tcp/4001/p2p/12D3Koo…, after all sources; may be given
    /// several times
    #[arg(long, value_name = "MULTIADDR")]
    pub bitswap_peer: Vec<PeerAddress>,
}

/// Who gets blocks.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Served {
    Nobody,
    Peers,
    Anyone,
}

impl From<Served> for Serve {
    fn from(served: Served) -> Self {
        match served {
            Served::Nobody => Self::Nobody,
            Served::Peers => Self::Peers,
            Served::Anyone => Self::Anyone,
        }
    }
}
