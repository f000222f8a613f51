//! What the options of a server say about stored content.

use std::path::Path;
use std::sync::Arc;

use af_content::DiskStore;
use af_content::ans104::Key;
use af_content::sink::{Arweave, Connect, Kubo, Pinning, Sink, Token};
use af_control_api::StorageConfig;
use anyhow::{Context, bail};
use tracing::{info, warn};

use crate::args::storage::Stored;
use crate::config::Environment;

/// How pinning services come to the blocks of this server.
#[derive(Default)]
pub struct Reach {
    /// Multiaddresses.
    pub origins: Vec<String>,
    /// Who connects with theirs, if anybody does.
    pub connect: Option<Connect>,
}

/// Reads the tokens, too, so that a missing one is told before anything starts.
pub fn config(
    options: &Stored,
    environment: &Environment,
    blocks: &DiskStore,
    mut reach: Reach,
) -> anyhow::Result<StorageConfig> {
    reach.origins.extend(options.pin_origin.iter().cloned());
    let sinks = options.pin_to.iter().map(|place| sink(place, &reach, environment, blocks));
    let sinks = sinks.collect::<anyhow::Result<Vec<_>>>()?;
    for (at, sink) in sinks.iter().enumerate() {
        if sinks.iter().take(at).any(|other| other.name() == sink.name()) {
            bail!("--pin-to names {} twice", sink.name());
        }
    }
    let asks_back = |name: &&str| name.starts_with("pinning:") || name.starts_with("filecoin:");
    let service = sinks.iter().map(|sink| sink.name()).find(asks_back);
    if let Some(place) = service.filter(|_| reach.origins.is_empty()) {
        warn!(
            place,
            "no address is known at which a pinning service gets blocks from here, so pins may never come about; listen at one \
             that others reach with --bitswap-listen and --bitswap-serve anyone, or name one with --pin-origin"
        );
    }
    Ok(StorageConfig {
        bytes_per_project: options.storage_limit_mb << 20,
        pins_per_project: options.pin_limit,
        grace: options.gc_grace.into(),
        sweep_interval: options.gc_interval.into(),
        sinks,
    })
}

fn sink(
    place: &str,
    reach: &Reach,
    environment: &Environment,
    blocks: &DiskStore,
) -> anyhow::Result<Arc<dyn Sink>> {
    let invalid = "--pin-to takes kubo=URL, pinning=URL or filecoin=URL, with ,token=FILE after it where a token is \
                   needed, or arweave=URL,key=FILE,gateway=URL";
    let (kind, rest) = place.split_once('=').context(invalid)?;
    if kind == "arweave" {
        return arweave(rest, blocks);
    }
    let (url, token) = match rest.split_once(",token=") {
        Some((url, file)) => (url, Some(token(Path::new(file))?)),
        None => (rest, environment.pin_token.clone()),
    };
    let (origins, connect) = (|| reach.origins.clone(), || reach.connect.clone());
    match kind {
        "kubo" => Ok(Arc::new(Kubo::new(url, token, blocks.clone())?)),
        "pinning" => Ok(Arc::new(Pinning::new(url, token, origins())?.connecting(connect()))),
        "filecoin" => Ok(Arc::new(Pinning::filecoin(url, token, origins())?.connecting(connect()))),
        _ => bail!(invalid),
    }
}

fn arweave(options: &str, blocks: &DiskStore) -> anyhow::Result<Arc<dyn Sink>> {
    let invalid = "write a bundler of Arweave as --pin-to arweave=URL,key=FILE,gateway=URL, such as \
                   arweave=https://upload.ardrive.io/v1,key=wallet.json,gateway=https://arweave.net";
    let (bundler, rest) = options.split_once(",key=").context(invalid)?;
    let (file, gateway) = rest.split_once(",gateway=").context(invalid)?;
    let key = Key::load(Path::new(file)).with_context(|| format!("the key in {file} cannot be used"))?;
    info!(
        address = key.address(),
        bundler, "what is archived on Arweave is signed and paid for by this wallet"
    );
    Ok(Arc::new(Arweave::new(bundler, gateway, key, blocks.clone())?))
}

fn token(path: &Path) -> anyhow::Result<Token> {
    let text = std::fs::read_to_string(path);
    let text = text.with_context(|| format!("cannot read the token in {}", path.display()))?;
    match text.trim() {
        "" => bail!("there is no token in {}", path.display()),
        text => Ok(Token::new(text.to_owned())),
    }
}
