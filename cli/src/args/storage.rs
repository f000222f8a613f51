//! The options of `af storage`, and what `af up` has to know about stored content.

use std::path::PathBuf;

use af_content::unixfs::Profile;
use af_contract::ContentId;
use clap::{Args as Options, Subcommand};

use super::values::{cid, duration, whole};

/// Of `af up`.
#[derive(Debug, Options)]
#[command(next_help_heading = "Storage")]
pub struct Stored {
    /// Who else holds what is stored and deployed: kubo=URL (the RPC of a Kubo node), pinning=URL (a pinning service),
    /// filecoin=URL (a pinning service that stores on Filecoin) or arweave=URL,key=FILE,gateway=URL (a bundler of Arweave, the
    /// key that signs and pays, and the gateway that has to show what was archived; for good, nobody can remove it). May be
    /// given several times. The bearer token of the others is read from a file, with ",token=FILE" after the URL, or else
    /// from AF_PIN_TOKEN
    #[arg(long, value_name = "KIND=URL")]
    pub pin_to: Vec<String>,
    /// A multiaddress at which pinning services get the blocks, besides those of --bitswap-listen while anyone is served; may be
    /// given several times
    #[arg(long, value_name = "MULTIADDR", value_parser = multiaddr)]
    pub pin_origin: Vec<String>,
    /// What the pins of a project and the deployments of its sites and functions may have
    #[arg(long, value_name = "MIB", default_value_t = 10_240, value_parser = whole::<u64>(1..=1 << 30))]
    pub storage_limit_mb: u64,
    /// Pins of a project
    #[arg(long, value_name = "COUNT", default_value_t = 10_000, value_parser = whole::<u64>(1..=1_000_000))]
    pub pin_limit: u64,
    /// How long blocks stay that nobody needs
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration)]
    pub gc_grace: humantime::Duration,
    /// How often they are looked for
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration)]
    pub gc_interval: humantime::Duration,
}

fn multiaddr(text: &str) -> Result<String, String> {
    let example = "write it as /ip4/192.0.2.1/tcp/4001/p2p/12D3Koo…";
    #[cfg(feature = "bitswap")]
    text.parse::<af_content::bitswap::PeerAddress>().map_err(|error| format!("{error}; {example}"))?;
    if !text.starts_with('/') {
        return Err(example.to_owned());
    }
    Ok(text.to_owned())
}

#[derive(Debug, Subcommand)]
pub enum Storage {
    /// Store a file or folder, and pin it
    Add(Add),
    /// Get a file or folder back, decrypted if it is private; each of its blocks is checked here
    Get(Get),
    /// List what the project stores, and where it is held
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Pin content whose blocks the project has sent, that it has deployed, or that the server's sources have; or have it held at more places
    Pin(Pin),
    /// Give a pin up; what nothing else needs is removed later, but not from places that remove nothing
    Unpin(Cid),
    /// Store the content of a CAR, and pin its roots
    Import(Import),
    /// Write content to a CAR, as it is stored: private content encrypted; each of its blocks is checked here
    Export(Get),
    /// Remove blocks that no deployment, site or pin needs (for the operator, who made the first start)
    Gc(Gc),
}

/// What to list.
#[derive(Debug, Options)]
pub struct Ls {
    /// Instead, what was unpinned and is still at other places: for good, or because it could not be removed yet
    #[arg(long)]
    pub left: bool,
}

/// Which content.
#[derive(Debug, Options)]
pub struct Cid {
    /// Its CID
    #[arg(value_parser = cid)]
    pub cid: ContentId,
}

/// What new pins have in common.
#[derive(Debug, Options)]
pub struct NewPin {
    /// What to call it [default: as it is called already, or else the name of the file that is sent, if one is]
    #[arg(short, long)]
    pub name: Option<String>,
    /// Where else than here it is to be held; may be given several times [default: wherever the server can]
    #[arg(long = "to", value_name = "PLACE")]
    pub places: Vec<String>,
    /// Hold it here only
    #[arg(long, conflicts_with = "places")]
    pub only_here: bool,
}

#[derive(Debug, Options)]
pub struct Add {
    /// The file or folder. Names in a folder that begin with a dot are left out, except .well-known. Symbolic links are not
    /// followed: one is refused, also here
    pub path: PathBuf,
    /// How it becomes blocks, and so which CID it has: unixfs-v1-2025, unixfs-v0-2015 (what Kubo makes by itself, with
    /// CIDs that begin with Qm) or unixfs-v1-2025-blake3 (the first one with BLAKE3, verified faster; few others have it)
    #[arg(long, value_name = "PROFILE", default_value_t)]
    pub profile: Profile,
    /// Encrypt files and names before they are sent; members of the project get them back with `af storage get`. Each time
    /// with another key, so the CID is another one, too
    #[arg(long)]
    pub private: bool,
    #[command(flatten)]
    pub pin: NewPin,
}

#[derive(Debug, Options)]
pub struct Get {
    #[command(flatten)]
    pub content: Cid,
    /// Where to write it, where there must be nothing yet; - for standard output
    #[arg(short, long, value_name = "PATH")]
    pub output: PathBuf,
}

#[derive(Debug, Options)]
pub struct Pin {
    #[command(flatten)]
    pub content: Cid,
    #[command(flatten)]
    pub pin: NewPin,
}

#[derive(Debug, Options)]
pub struct Import {
    /// The CAR (version 1)
    pub file: PathBuf,
    #[command(flatten)]
    pub pin: NewPin,
}

#[derive(Debug, Options)]
pub struct Gc {
    /// Say what would go, and remove nothing
    #[arg(long)]
    pub dry_run: bool,
}
