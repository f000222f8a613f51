//! The options of `af up` for serving content by CID.

use std::path::PathBuf;

use clap::{Args as Options, ValueEnum};

#[derive(Debug, Options)]
pub struct Gateway {
    /// Serve what this node has by its CID, as gateways of IPFS do: /ipfs/<CID> at the control API, at addresses and at
    /// <DOMAIN>, and <CID>.ipfs.<DOMAIN>. Public: to anybody who knows a CID, also of functions' code. Private: to whoever sends
    /// the token. Nothing is fetched for clients
    #[arg(long, value_name = "WHO", value_enum, default_value_t = GatewayAccess::Off)]
    pub gateway: GatewayAccess,
    /// The file with the token of a private gateway (16 or more characters) [default: AF_GATEWAY_TOKEN in the environment]
    #[arg(long, value_name = "FILE")]
    pub gateway_token_file: Option<PathBuf>,
}

/// Whom content is served to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GatewayAccess {
    Off,
    Private,
    Public,
}
