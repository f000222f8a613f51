//! Options of what has to do with content: whom it is fetched from, and looking at it.

use std::path::PathBuf;
use std::str::FromStr;

use af_content::unixfs::Profile;
use af_contract::{Blake3Hash, ContentId};
use clap::Args as Options;
use url::Url;

use super::values::{cid, whole};

/// Whom to ask for content that is not here.
#[derive(Debug, Options)]
pub struct Sources {
    /// Who is asked for content that is not here: gateway=URL (a trustless gateway of IPFS), kubo=URL (the RPC of an IPFS node,
    /// such as http://127.0.0.1:5001), arweave=URL (a gateway of Arweave, with ",owner=ADDRESS" after it where only that wallet's
    /// archives count), routing=URL (delegated routing, which finds providers), peer=URL (a gateway of this
    /// platform; the environment's AF_GATEWAY_TOKEN is sent to it). May be given several times, the first one is asked first.
    /// None is trusted: each block has to be what its CID says
    #[arg(long = "source", value_name = "KIND=URL")]
    pub sources: Vec<SourceUrl>,
}

/// A source as the command line has it.
#[derive(Clone, Debug)]
pub struct SourceUrl {
    pub kind: SourceKind,
    pub url: Url,
    /// Whose archives count.
    pub owner: Option<String>,
}

/// How a source is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    Gateway,
    Peer,
    Kubo,
    Arweave,
    Routing,
}

const KINDS: [(&str, SourceKind); 5] = [
    ("gateway", SourceKind::Gateway),
    ("peer", SourceKind::Peer),
    ("kubo", SourceKind::Kubo),
    ("arweave", SourceKind::Arweave),
    ("routing", SourceKind::Routing),
];

impl SourceKind {
    fn name(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

impl FromStr for SourceUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let example = "write it as gateway=https://trustless-gateway.link";
        let (kind, url) = text.split_once('=').ok_or_else(|| format!("it has no kind; {example}"))?;
        let known = || KINDS.map(|(name, _)| name).join(", ");
        let kind = KINDS.iter().find(|(name, _)| *name == kind);
        let (_, kind) = kind.ok_or_else(|| format!("the kinds are {}; {example}", known()))?;
        let (url, owner) = match url.split_once(",owner=") {
            Some((url, owner)) if *kind == SourceKind::Arweave && !owner.is_empty() => {
                (url, Some(owner.to_owned()))
            }
            Some(_) => {
                return Err(
                    "only arweave=URL takes an owner, the 43 characters of a wallet's address".to_owned()
                );
            }
            None => (url, None),
        };
        // Options that other kinds of places have are none of a source's: they would be a part of the host's name, or path.
        if let Some((_, option)) = url.rsplit_once(',').filter(|(_, option)| option.contains('=')) {
            let name = option.split('=').next().unwrap_or_default();
            return Err(format!("{kind}=URL takes no option {name:?}; {example}", kind = kind.name()));
        }
        let url = Url::parse(url).map_err(|error| format!("{error}; {example}"))?;
        if !matches!(url.scheme(), "http" | "https") || url.query().is_some() || url.fragment().is_some() {
            return Err(format!("the URL begins with http:// or https:// and has no query; {example}"));
        }
        Ok(Self { kind: *kind, url, owner })
    }
}

#[derive(Debug, Options)]
pub struct Fetch {
    /// What to fetch: a file or directory of IPFS, or any other DAG
    #[arg(value_parser = cid)]
    pub cid: ContentId,
    #[command(flatten)]
    pub sources: Sources,
    #[cfg(feature = "bitswap")]
    #[command(flatten)]
    pub peers: super::bitswap::Peers,
    /// Where the file or folder goes; - for standard output [default: nowhere, it is only verified]
    #[arg(short, long, value_name = "PATH")]
    pub output: Option<PathBuf>,
    /// Write all blocks as a CAR instead of a file's bytes or a folder's files
    #[arg(long, requires = "output")]
    pub car: bool,
    /// Keep blocks in this directory: an interrupted fetch goes on from there [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    pub blocks: Option<PathBuf>,
    /// The most that is fetched
    #[arg(long, value_name = "MIB", default_value_t = 4096, value_parser = whole::<u64>(1..=1 << 20))]
    pub max_mb: u64,
}

#[derive(Debug, Options)]
pub struct Verify {
    /// A file or folder here, a CAR (.car), or a CID that --source is asked for
    #[arg(value_name = "PATH|CID")]
    pub what: String,
    /// The CID that it should have
    #[arg(long, value_parser = cid)]
    pub cid: Option<ContentId>,
    /// The BLAKE3 that it should have, 64 hex digits: of a CAR, the CAR's own or that of the file in it
    #[arg(long, value_name = "HEX")]
    pub blake3: Option<Blake3Hash>,
    /// How a file or folder here becomes blocks: unixfs-v1-2025, unixfs-v0-2015 or unixfs-v1-2025-blake3 [default: whatever
    /// gives the CID that it should have, of these and of what other tools do, else the first]
    #[arg(long, value_name = "PROFILE")]
    pub profile: Option<Profile>,
    #[command(flatten)]
    pub sources: Sources,
    #[cfg(feature = "bitswap")]
    #[command(flatten)]
    pub peers: super::bitswap::Peers,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failure here is the test's failure")]

    use super::*;

    #[test]
    fn a_source_has_a_kind_and_a_url() {
        let source: SourceUrl = "kubo=http://127.0.0.1:5001".parse().unwrap();
        assert_eq!((source.kind, source.url.as_str()), (SourceKind::Kubo, "http://127.0.0.1:5001/"));
        let source: SourceUrl = "arweave=https://arweave.net,owner=me".parse().unwrap();
        assert_eq!((source.kind, source.owner.as_deref()), (SourceKind::Arweave, Some("me")));
        assert!("kubo=http://127.0.0.1:5001,owner=me".parse::<SourceUrl>().is_err());
        for wrong in
            ["https://ipfs.io", "ipfs=https://ipfs.io", "gateway=ipfs.io", "gateway=file:///etc/passwd"]
        {
            let error = wrong.parse::<SourceUrl>().unwrap_err();
            assert!(error.contains("gateway=https://"), "{wrong}: {error}");
        }
    }
}
